"""What every transform must do: nothing at probability 0, the same for the same seed whoever else is in the batch, and no new labels."""

import math
from typing import Any

import torch

from vesalius.augment import AUGMENT, Augment, Composed, Frame, Intensity, Spatial, Transform, stacked
from vesalius.core.card import Card
from vesalius.data.batch import Batch, Kind

PATCHES: dict[int, tuple[int, ...]] = {2: (24, 17), 3: (12, 10, 9)}
SEEDS = [3, 14, 15, 92]
LABELS = (0, 1, 4, 255)


def quiet(**changes: Any) -> Augment:
    """Settings under which nothing happens, but for `changes`."""
    silent = {name: 0.0 for name in Augment.model_fields if name.endswith("_probability")}
    return Augment.checked({**silent, **changes})


def build(card: Card, ndim: int, spacing: tuple[float, ...] = ()) -> Composed:
    """A composition in which the transform of `card` acts on every sample and no other does."""
    settings = quiet(**AUGMENT[card.name].example(ndim))
    return Composed(settings, PATCHES[ndim], spacing or (1.0,) * ndim)


def alone(composed: Composed) -> Transform:
    """The only transform of `composed`."""
    known: list[Transform] = [*composed.spatial, *composed.intensity]
    assert len(known) == 1
    return known[0]


def example(ndim: int, *, batch: int = 4, channels: int = 2, dtype: torch.dtype = torch.float32) -> Batch:
    """Random images (B, channels, *L), masks (B, 1, *L) of `LABELS`, and class labels (B,)."""
    random = torch.Generator().manual_seed(1)
    sides = tuple(side + 5 for side in PATCHES[ndim])
    masks = torch.tensor(LABELS, dtype=torch.uint8)[torch.randint(len(LABELS), (batch, 1, *sides), generator=random)]
    image = torch.randn(batch, channels, *sides, generator=random).to(dtype)
    kinds = {"image": Kind.IMAGE, "mask": Kind.MASK, "label": Kind.LABEL}
    return Batch({"image": image, "mask": masks, "label": torch.arange(batch)}, kinds)


def same(a: Batch, b: Batch) -> bool:
    """Equal to the last bit."""
    return all(torch.equal(a[name], b[name]) for name in a.tensors)


def check_identity_at_probability_zero(card: Card, ndim: int) -> None:
    """`from_settings` plans nothing where nothing is asked, and a transform of probability 0 never draws."""
    transform, frame = alone(build(card, ndim)), Frame(2, PATCHES[ndim], (1.0,) * ndim)
    assert type(transform).from_settings(quiet(), frame) is None
    transform.probability = 0.0
    generator = torch.Generator().manual_seed(0)
    assert all(transform.draw(generator, frame) is None for _ in range(50))
    composed, batch = build(card, ndim), example(ndim)
    alone(composed).probability = 0.0
    assert same(composed(batch, SEEDS), composed.identity(batch))


def check_frequency(card: Card, ndim: int) -> None:
    """It acts as often as its probability says (within 4.5 standard deviations of 1000 tosses)."""
    transform, frame = alone(build(card, ndim)), Frame(2, PATCHES[ndim], (1.0,) * ndim)
    transform.probability = 0.3
    acted = sum(transform.draw(torch.Generator().manual_seed(s), frame) is not None for s in range(1000))
    assert abs(acted - 300) < 4.5 * math.sqrt(1000 * 0.3 * 0.7), f"{card.name} acted {acted} times of 1000, expected 300"


def check_parameters(card: Card, ndim: int) -> None:
    """Finite, on the CPU, of the same names and shapes at each draw, so that they stack."""
    transform, frame = alone(build(card, ndim)), Frame(3, PATCHES[ndim], (1.0,) * ndim)
    drawn = [transform.parameters(torch.Generator().manual_seed(s), frame) for s in range(5)]
    for name, value in stacked(drawn).items():
        assert value.device.type == "cpu" and bool(value.isfinite().all()), f"{card.name} drew {name} = {value}"


def check_shapes_and_types(card: Card, ndim: int) -> None:
    """The patch's shape, the type that came in, finite values; labels pass, and the batch that came in is left alone."""
    composed = build(card, ndim)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        batch, untouched = example(ndim, dtype=dtype), example(ndim, dtype=dtype)
        out = composed(batch, SEEDS)
        assert same(batch, untouched), f"{card.name} wrote into the batch that it was given"
        assert out["image"].shape == (4, 2, *PATCHES[ndim]) and out["mask"].shape == (4, 1, *PATCHES[ndim])
        assert out["image"].dtype == dtype and out["mask"].dtype == torch.uint8
        assert bool(out["image"].isfinite().all()) and torch.equal(out["label"], batch["label"])


def check_seeds(card: Card, ndim: int) -> None:
    """One seed, one result, whatever the global generator does; other seeds, other results."""
    composed, batch = build(card, ndim), example(ndim)
    state = torch.get_rng_state()
    first = composed(batch, SEEDS)
    assert torch.equal(state, torch.get_rng_state()), f"{card.name} drew from the global generator"
    assert same(first, composed(batch, SEEDS))
    assert not same(first, composed(batch, [seed + 100 for seed in SEEDS]))


def check_batch_mates(card: Card, ndim: int) -> None:
    """A sample is the same to the last bit alone, in a joint batch, and in one process's share of it."""
    composed, batch = build(card, ndim), example(ndim)
    joint = composed(batch, SEEDS)
    for rank in range(2):
        assert same(composed(batch.part(rank, 2), SEEDS[rank::2]), joint.part(rank, 2))
    for row in range(4):
        assert same(composed(batch.part(row, 4), SEEDS[row::4]), joint.part(row, 4))


def check_together(card: Card, ndim: int) -> None:
    """Samples computed in one go, as on an accelerator, are the samples computed one by one, up to rounding."""
    composed, batch = build(card, ndim), example(ndim)
    one_by_one = composed(batch, SEEDS)
    composed.one_by_one = False
    together = composed(batch, SEEDS)
    torch.testing.assert_close(together["image"], one_by_one["image"], rtol=1e-4, atol=1e-4)
    assert float((together["mask"] != one_by_one["mask"]).float().mean()) < 1e-3


def check_where_it_lies(card: Card, ndim: int) -> None:
    """What changes a sample where it lies makes of it what `apply` does; what does not leaves it as it is."""
    transform, frame = alone(build(card, ndim)), Frame(2, PATCHES[ndim], (1.0,) * ndim)
    if not isinstance(transform, Intensity):
        return
    for seed in SEEDS:
        sample = torch.randn(2, *frame.shape, generator=torch.Generator().manual_seed(seed))
        parameters, before = transform.parameters(torch.Generator().manual_seed(seed), frame), sample.clone()
        changed = transform.change(sample, parameters)
        expected = transform.apply(before[None], stacked([parameters]))[0] if changed else before
        torch.testing.assert_close(sample, expected, rtol=1e-5, atol=2e-5)


def check_masks(card: Card, ndim: int) -> None:
    """A mask takes no value that it did not have (or 0, from outside); a change of values leaves it alone."""
    composed, batch = build(card, ndim), example(ndim)
    out = composed(batch, SEEDS)
    assert set(out["mask"].flatten().tolist()) <= {0, *LABELS}
    if isinstance(alone(composed), Intensity):
        assert torch.equal(out["mask"], composed.identity(batch)["mask"])


def check_images_and_masks_move_together(card: Card, ndim: int) -> None:
    """Where the image is the mask as numbers and smooth enough to round, both still agree after a change of place."""
    composed = build(card, ndim)
    if not isinstance(alone(composed), Spatial):
        return
    sides = tuple(side + 5 for side in PATCHES[ndim])
    half = torch.zeros(4, 1, *sides, dtype=torch.uint8)
    half[:, :, : sides[0] // 2] = 1
    out = composed(Batch({"i": half.float(), "m": half}, {"i": Kind.IMAGE, "m": Kind.MASK}), SEEDS)
    clear = (out["i"] - 0.5).abs() > 0.45  # away from edges, where nearest and linear differ by right
    assert float(clear.float().mean()) > 0.6
    assert torch.equal(out["i"][clear].round().to(torch.uint8), out["m"][clear])


def check_spatial(card: Card, ndim: int) -> None:
    """Matrices are homogeneous, invertible and float64; displacements stay within their reach."""
    transform, frame = alone(build(card, ndim)), Frame(2, PATCHES[ndim], (1.0,) * ndim)
    if not isinstance(transform, Spatial):
        return
    drawn = stacked([transform.parameters(torch.Generator().manual_seed(s), frame) for s in range(20)])
    matrix = transform.matrix(drawn, frame)
    assert matrix.shape == (20, ndim + 1, ndim + 1) and matrix.dtype == torch.float64
    assert torch.equal(matrix[:, -1], torch.eye(ndim + 1, dtype=torch.float64)[-1].expand(20, -1))
    assert bool((matrix.det().abs() > 1e-3).all())
    for row, whole in enumerate(matrix):
        one = torch.tensor(transform.rows({name: value[row] for name, value in drawn.items()}, frame), dtype=torch.float64)
        torch.testing.assert_close(one, whole, rtol=0, atol=1e-12)
    field = transform.displacement(drawn, frame)
    assert (field is None) == (transform.reach(frame) == 0)
    if field is not None:
        assert field.shape == (20, ndim, *frame.shape) and float(field.abs().max()) <= transform.reach(frame) + 1e-6


def check_coarse_axis(card: Card, ndim: int) -> None:
    """On a patch with slices five times thicker than pixels, what no angle asks for stays within its slice."""
    transform = alone(build(card, ndim, (5.0, 1.0, 1.0)[:ndim]))
    if ndim == 2 or not isinstance(transform, Spatial) or card.name in ("rotation", "mirror"):
        return
    frame = Frame(1, PATCHES[ndim], (5.0, 1.0, 1.0))
    drawn = stacked([transform.parameters(torch.Generator().manual_seed(s), frame) for s in range(5)])
    axis = torch.eye(ndim + 1, dtype=torch.float64)[0].expand(5, -1)
    assert torch.equal(transform.matrix(drawn, frame)[:, 0], axis)
    field = transform.displacement(drawn, frame)
    assert field is None or not bool(field[:, 0].any())


def check_constant_image(card: Card, ndim: int) -> None:
    """An image of one value has neither deviation nor range; it comes out finite."""
    composed = build(card, ndim)
    sides = tuple(side + 5 for side in PATCHES[ndim])
    for value in (0.0, 3.0):
        batch = Batch({"image": torch.full((4, 2, *sides), value)}, {"image": Kind.IMAGE})
        assert bool(composed(batch, SEEDS)["image"].isfinite().all())


CHECKS = [
    check_identity_at_probability_zero,
    check_frequency,
    check_parameters,
    check_shapes_and_types,
    check_seeds,
    check_batch_mates,
    check_together,
    check_where_it_lies,
    check_masks,
    check_images_and_masks_move_together,
    check_spatial,
    check_coarse_axis,
    check_constant_image,
]
