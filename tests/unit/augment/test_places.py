"""The kernel that moves voxels against torch's `grid_sample` in double precision, against the ways through torch, and on its own edges."""

import functools

import pytest
import torch
from torch.nn.functional import grid_sample

from vesalius.augment import Augment, Composed, _places
from vesalius.augment._places import Shown, show
from vesalius.core.kernels import kernel
from vesalius.data.batch import Batch, Kind

pytestmark = pytest.mark.skipif(kernel("places", _places.KINDS) is None, reason="the kernels are not built, or VESALIUS_KERNELS=off")

TURNS = {2: [[0.0, 0.4], [-0.4, 0.0]], 3: [[0.0, 0.4, -0.2], [-0.4, 0.0, 0.3], [0.2, -0.3, 0.0]]}
SIZES = [  # source and patch: usual, equal, axes of one voxel, several runs and blocks of columns, wider than what goes along the axes
    ((15, 11, 13), (9, 8, 7)), ((9, 8, 7), (9, 8, 7)), ((1, 8, 40), (1, 8, 37)), ((6, 1, 9), (5, 1, 9)), ((3, 1, 2), (2, 1, 1)),
    ((4, 5, 600), (2, 3, 530)), ((15, 21), (9, 16)), ((1, 40), (1, 33)), ((20, 600), (9, 530)), ((2, 2100), (2, 2080)),
]  # fmt: skip
MAPS = {  # of the middle of the patch: linear part by number of axes, and a shift along every axis
    "still": (torch.eye, 0.0),
    "turned over": (lambda n: -torch.eye(n), 0.0),
    "closer": (lambda n: 0.6 * torch.eye(n), 0.3),
    "farther": (lambda n: torch.diag(torch.tensor([1.7, -1.4, 1.9][:n])), -1.2),
    "at every other": (lambda n: 2.07 * torch.eye(n), 0.0),
    "far apart": (lambda n: 60.0 * torch.eye(n), 0.0),
    "on one place": (lambda n: 1e-6 * torch.eye(n), 0.5),
    "turned": (lambda n: torch.linalg.matrix_exp(torch.tensor(TURNS[n])), 0.7),
    "turned, farther": (lambda n: 2.5 * torch.linalg.matrix_exp(torch.tensor(TURNS[n])), 0.0),
    "turned, far apart": (lambda n: 60.0 * torch.linalg.matrix_exp(torch.tensor(TURNS[n])), 0.0),
    "wholly outside": (torch.eye, 5000.0),
    "turned, wholly outside": (lambda n: torch.linalg.matrix_exp(torch.tensor(TURNS[n])), -5000.0),
}
SPACING = (1.0, 1.3, 2.0)


def matrix_of(name, axes):
    """The homogeneous matrix of a map."""
    linear, shift = MAPS[name]
    matrix = torch.eye(axes + 1, dtype=torch.float64)
    matrix[:axes, :axes], matrix[:axes, axes] = linear(axes).double(), shift
    return matrix


def field_of(patch):
    return 3 * torch.randn(len(patch), *patch, generator=torch.Generator().manual_seed(5))


def places_of(matrix, field, source, patch):
    """(n, *patch) voxels of the source, in double precision."""
    axes = len(patch)
    steps = torch.tensor(SPACING[:axes]).double().reshape(-1, *[1] * axes)
    numbers = torch.stack(torch.meshgrid(*(torch.arange(side).double() for side in patch), indexing="ij"))
    middle = ((torch.tensor(patch).double() - 1) / 2).reshape(-1, *[1] * axes)
    moved = torch.einsum("ab,b...->a...", matrix[:-1, :-1], (numbers - middle) * steps) + matrix[:-1, -1].reshape(-1, *[1] * axes)
    moved = moved if field is None else moved + field.double()
    start = torch.tensor([(have - want) // 2 for have, want in zip(source, patch, strict=True)]).reshape(-1, *[1] * axes)
    return moved / steps + middle + start


def expected(values, places, *, mode, outside):
    """What `grid_sample` finds of one sample (C, *L)."""
    grid = torch.stack([(2 * place + 1) / side - 1 for place, side in zip(places, values.shape[1:], strict=True)][::-1], -1)[None]
    return grid_sample(values[None].double(), grid, mode=mode, padding_mode=outside, align_corners=False)[0]


def shown_by(sources, patch, matrices, fields=None, *, outside="zeros"):
    """What the kernel makes of tensors (B, C, *L): whole numbers are masks."""
    looks = [Shown(t, t.new_empty(*t.shape[:2], *patch), not t.is_floating_point()) for t in sources]
    assert show(looks, matrices, fields or [None] * len(matrices), spacing=SPACING[: len(patch)], outside=outside)
    return [look.out for look in looks]


def same_labels(found, wanted, places):
    """Equal but where a voxel looks between two."""
    between = ((places % 1) - 0.5).abs().lt(1e-3).any(0)
    return torch.equal(found[:, ~between].double(), wanted[:, ~between])


@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("outside", ["zeros", "border"])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(("source", "patch"), SIZES)
def test_all_that_is_moved_is_that_of_grid_sample(source, patch, name, outside, bent):
    draw = torch.Generator().manual_seed(0)
    images, masks = torch.randn(2, 3, *source, generator=draw), torch.randint(1, 200, (2, 2, *source), generator=draw).byte()
    matrix, field = matrix_of(name, len(patch)), field_of(patch) if bent else None
    found, labels = shown_by([images, masks], patch, [matrix, matrix], [field, field], outside=outside)
    places = places_of(matrix, field, source, patch)
    away = 2e-5 + 1e-6 * max(source) + 1e-6 * float(places.abs().max())  # places are counted in single precision
    for row in range(2):
        wanted = expected(images[row], places, mode="bilinear", outside=outside)
        torch.testing.assert_close(found[row].double(), wanted, rtol=0, atol=away)
        assert same_labels(labels[row], expected(masks[row], places, mode="nearest", outside="zeros"), places)


@pytest.mark.parametrize("name", ["still", "turned over", "closer", "turned"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_masks_of_every_type(dtype, name):
    source, patch = (15, 11, 33), (9, 8, 18)
    mask = torch.randint(-100, 100, (2, 1, *source), generator=torch.Generator().manual_seed(0)).to(dtype)
    matrix = matrix_of(name, 3)
    (found,) = shown_by([mask], patch, [matrix] * 2)
    places = places_of(matrix, None, source, patch)
    assert found.dtype == dtype
    for row in range(2):
        assert same_labels(found[row], expected(mask[row], places, mode="nearest", outside="zeros"), places)


@pytest.mark.parametrize("name", ["turned over", "closer", "turned"])
def test_masks_of_floating_point_keep_their_values(name):
    mask = torch.randn(1, 1, 12, 20, generator=torch.Generator().manual_seed(0))
    bits, out = mask.view(torch.int32), torch.empty(1, 1, 9, 16)
    assert show([Shown(mask, out, nearest=True)], [matrix_of(name, 2)], [None], spacing=SPACING[:2], outside="zeros")
    (found,) = shown_by([bits], (9, 16), [matrix_of(name, 2)])
    assert torch.equal(out.view(torch.int32), found)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(("source", "patch"), [((15, 11, 13), (9, 8, 7)), ((20, 600), (9, 530))])
def test_threads_change_no_bit(monkeypatch, source, patch, name):
    images = torch.randn(2, 2, *source, generator=torch.Generator().manual_seed(0))
    masks, matrices = images.mul(9).int(), [matrix_of(name, len(patch))] * 2
    alone = shown_by([images, masks], patch, matrices)
    monkeypatch.setattr(_places, "SHARED", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(map(torch.equal, alone, shown_by([images, masks], patch, matrices)))


@pytest.mark.parametrize("name", ["still", "farther", "turned"])
def test_layout_changes_no_bit(name):
    images = torch.randn(3, 2, 12, 11, 21, generator=torch.Generator().manual_seed(0))
    masks, matrices = images.mul(9).byte(), [matrix_of(name, 3)] * 3
    look = functools.partial(shown_by, patch=(9, 8, 18), matrices=matrices)
    wanted = look([images, masks])
    last = images.contiguous(memory_format=torch.channels_last_3d)
    wider = torch.zeros(3, 4, 12, 15, 30)
    wider[:, 1:3, :, 2:13, 5:26] = images
    for other in (last, wider[:, 1:3, :, 2:13, 5:26], images.transpose(2, 4).contiguous().transpose(2, 4)):
        assert not other.is_contiguous()
        assert all(map(torch.equal, wanted, look([other, masks])))
    spread = look([images[:1].expand(3, -1, -1, -1, -1), masks[:, :1].expand(-1, 2, -1, -1, -1)])
    assert torch.equal(spread[0][2], wanted[0][0]) and torch.equal(spread[1][:, 1], wanted[1][:, 0])


@pytest.mark.parametrize(
    ("source", "patch"), [((5, 6, 33), (4, 5, 29)), ((5, 1, 33), (4, 1, 29)), ((1, 6, 33), (1, 5, 29)), ((6, 33), (5, 29))]
)
@pytest.mark.parametrize("name", MAPS)
def test_nothing_reaches_beyond_what_it_fills(source, patch, name):
    """Room around the answers stays as it was, and what lies around a sample in memory is not shown."""
    whole = torch.full((3, 1, *source), float("nan"))
    whole[1] = torch.randn(1, *source, generator=torch.Generator().manual_seed(0))
    room = torch.full((3, 1, *patch), 7.0)
    looks = [Shown(whole[1:2], room[1:2], nearest=False)]
    assert show(looks, [matrix_of(name, len(patch))], [None], spacing=SPACING[: len(patch)], outside="border")
    assert torch.isfinite(room[1]).all() and (room[0] == 7).all() and (room[2] == 7).all()


def test_maps_that_are_no_numbers_show_something_inside():
    around = torch.full((1, 1, 8, 7, 20), 7.0)  # what must not be seen: it lies in memory before and behind
    source, mask = around[:, :, 1:-1].fill_(1), around.byte()[:, :, 1:-1]
    for value in (float("nan"), float("inf"), -1e300):
        for place in ((0, 0), (2, 2), (0, 1), (1, 3)):
            matrix = torch.eye(4, dtype=torch.float64)
            matrix[place] = value
            images, masks = shown_by([source, mask], (6, 7, 18), [matrix])
            assert set(masks.unique().tolist()) <= {0, 1} and not (images > 1).any()


@pytest.mark.parametrize(
    ("source", "nearest"),
    [
        (torch.zeros(1, 1, 6, 7, dtype=torch.float64), False),  # computed in double precision
        (torch.zeros(1, 1, 6, 7, dtype=torch.float16), False),  # shown in single
        (torch.zeros(1, 1, 6, 7, dtype=torch.complex64), True),
        (torch.zeros(1, 1, 6, 1), False),  # a voxel and the next are read together
        (torch.zeros(1, 1, 6), False),
    ],
)
def test_what_the_kernel_does_not_know_is_left_alone(source, nearest):
    out = torch.ones_like(source, dtype=torch.float32 if source.dtype == torch.float16 else source.dtype)
    assert not show([Shown(source, out, nearest)], [torch.eye(3).double()], [None], spacing=(1.0, 1.0), outside="zeros")
    assert (out == 1).all()


@pytest.mark.parametrize("outside", ["zeros", "border"])
@pytest.mark.parametrize("patch", [(24, 17), (1, 30), (12, 10, 9), (12, 1, 9), (9, 8, 1)])
def test_a_composition_gives_the_same_with_and_without(monkeypatch, patch, outside):
    """Every way through torch is the judge of the kernel, on everything that moves, at once."""
    still = {f"{n}_probability": 0.0 for n in ("noise", "blur", "brightness", "contrast", "low_resolution", "gamma", "gamma_inverted")}
    settings = Augment(**still, mirror=(True,) * len(patch), rotation=(40.0,) * (1 if len(patch) == 2 else 3), outside=outside,
                       rotation_probability=0.5, scale_probability=0.5, elastic=2, elastic_probability=0.3,
                       translation=0.2, translation_probability=0.3)  # fmt: skip
    composed, draw = Composed(settings, patch, SPACING[: len(patch)]), torch.Generator().manual_seed(0)
    sides = [side + further for side, further in zip(patch, (5, 4, 0), strict=False)]
    image = torch.randn(40, 2, *sides, generator=draw)
    mask = torch.randint(0, 250, (40, 1, *sides), generator=draw, dtype=torch.uint8)
    batch = Batch({"image": image, "mask": mask}, {"image": Kind.IMAGE, "mask": Kind.MASK})
    here = composed(batch, list(range(40)))
    monkeypatch.setattr(_places, "kernel", lambda *_: None)
    there = composed(batch, list(range(40)))
    torch.testing.assert_close(here["image"], there["image"], rtol=0, atol=5e-5)
    assert (here["mask"] != there["mask"]).float().mean() < 1e-3


def test_what_is_not_of_one_batch_goes_by_torch():
    source, out, eye = torch.zeros(2, 1, 6, 7), torch.empty(2, 1, 5, 5), torch.eye(3).double()
    other, field = Shown(torch.zeros(2, 1, 5, 7), torch.empty(2, 1, 5, 5), nearest=False), torch.zeros(2, 5, 4)
    many = functools.partial(show, spacing=(1.0, 1.0), outside="zeros")
    one = Shown(source, out, nearest=False)
    assert many([one], [eye, eye], [None, None])
    assert not many([one], [eye], [None]) and not many([one], [eye, eye], [None]) and not many([one, other], [eye, eye], [None, None])
    assert not many([one], [eye, eye], [None, field])
    assert not many([Shown(source, torch.empty(2, 1, 8, 5), nearest=False)], [eye, eye], [None, None])
    assert not many([Shown(source, torch.empty(2, 3, 5, 5), nearest=False)], [eye, eye], [None, None])
    assert not many([Shown(source.clone().requires_grad_(), out, nearest=False)], [eye, eye], [None, None])


def test_a_batch_of_no_samples_stays_one():
    batch = Batch({"image": torch.zeros(0, 1, 9, 9)}, {"image": Kind.IMAGE})
    assert Composed(Augment(), (8, 8), (1.0, 1.0))(batch, [])["image"].shape == (0, 1, 8, 8)
