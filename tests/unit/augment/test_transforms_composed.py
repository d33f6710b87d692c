"""The composition refuses nonsense, is right on real half and whole batches, and stays a small part of a training step."""

import time

import pytest
import torch

from vesalius.augment import Augment, Composed
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.testing.check_transform import example, quiet, same


def usual(patch, **changes):
    angles = (30.0,) * 3 if len(patch) == 3 else (180.0,)
    settings = Augment(
        mirror=(True,) * len(patch),
        rotation=angles,
        elastic=3,
        elastic_probability=0.3,
        bias_field=0.3,
        bias_field_probability=0.3,
        **{"channel_dropout_probability": 0.2, **changes},
    )
    return Composed(settings, patch, (1.0,) * len(patch))


@pytest.mark.parametrize("patch", [(24, 17), (12, 10, 9)])
def test_everything_at_once_does_not_depend_on_batch_mates(patch):
    composed, batch = usual(patch), example(len(patch))
    for start in range(0, 80, 4):
        seeds = list(range(start, start + 4))
        joint = composed(batch, seeds)
        assert all(same(composed(batch.part(rank, 2), seeds[rank::2]), joint.part(rank, 2)) for rank in range(2))
        assert all(same(composed(batch.part(row, 4), seeds[row : row + 1]), joint.part(row, 4)) for row in range(4))


@pytest.mark.parametrize("patch", [(24, 17), (12, 10, 9)])
def test_in_one_go_equals_one_by_one(patch):
    composed, batch = usual(patch), example(len(patch))
    for start in range(0, 40, 4):
        seeds = list(range(start, start + 4))
        composed.one_by_one = True
        alone = composed(batch, seeds)
        composed.one_by_one = False
        together = composed(batch, seeds)
        torch.testing.assert_close(together["image"], alone["image"], rtol=1e-3, atol=1e-3)


def test_the_answer_does_not_share_memory_with_the_source():
    composed, batch = Composed(quiet(), (24, 17), (1.0, 1.0)), example(2)
    batch = Batch({"image": batch["image"][..., :24, :17].contiguous()}, {"image": Kind.IMAGE})
    out = composed(batch, [1, 2, 3, 4])
    assert torch.equal(out["image"], batch["image"]) and out["image"].data_ptr() != batch["image"].data_ptr()


def test_centre_of_odd_and_even_margins():
    composed = Composed(quiet(), (3, 4), (1.0, 1.0))
    batch = Batch({"image": torch.arange(48.0).reshape(1, 1, 6, 8)}, {"image": Kind.IMAGE})
    assert torch.equal(composed.identity(batch)["image"], batch["image"][..., 1:4, 2:6])


def test_lazy_export():
    import vesalius.augment as room

    assert room.Composed is Composed
    with pytest.raises(AttributeError, match="Compose"):
        room.Compose  # noqa: B018


@pytest.mark.parametrize(
    "nonsense",
    [{"noise_probability": 1.5}, {"scale": (1.4, 0.7)}, {"scale": (0.0, 1.0)}, {"elastic": -1}, {"outside": "wrap"}, {"mirrow": []}],
)
def test_settings_refuse(nonsense):
    with pytest.raises(UsageError):
        Augment.checked(nonsense)


@pytest.mark.parametrize(
    ("settings", "spacing", "words"),
    [
        ({"mirror": (True,)}, (1.0, 1.0), "augment.mirror"),
        ({"rotation": (10.0, 10.0)}, (1.0, 1.0), "augment.rotation"),
        ({}, (1.0,), "spacing"),
        ({}, (1.0, 0.0), "spacing"),
        ({"further": {"mirorr": {}}}, (1.0, 1.0), "Did you mean mirror"),
    ],
)
def test_composition_refuses(settings, spacing, words):
    with pytest.raises(UsageError, match=words):
        Composed(Augment(**settings), (16, 16), spacing)


def test_batches_that_do_not_fit_are_refused():
    composed = Composed(quiet(), (16, 16), (1.0, 1.0))
    image = torch.zeros(2, 1, 16, 16)
    with pytest.raises(VesaliusError, match="one seed for each"):
        composed(Batch({"i": image}, {"i": Kind.IMAGE}), [1])
    with pytest.raises(VesaliusError, match="at least the patch"):
        composed(Batch({"i": image[..., :15]}, {"i": Kind.IMAGE}), [1, 2])
    with pytest.raises(VesaliusError, match="of one shape"):
        composed(Batch({"i": image, "m": torch.zeros(2, 1, 17, 16).byte()}, {"i": Kind.IMAGE, "m": Kind.MASK}), [1, 2])
    with pytest.raises(VesaliusError, match="'b' is of kind boxes"):
        composed(Batch({"i": image, "b": torch.zeros(2, 3, 4)}, {"i": Kind.IMAGE, "b": Kind.BOXES}), [1, 2])


def test_settings_survive_json():
    settings = usual((12, 10, 9)).settings
    assert Augment.checked(settings.model_dump(mode="json")) == settings


def test_a_batch_costs_a_small_part_of_a_step():
    patch = (40, 56, 40)
    composed = Composed(Augment(mirror=(True,) * 3, rotation=(30.0,) * 3), patch, (1.0,) * 3)
    source = [a + b for a, b in zip(patch, composed.margin(), strict=True)]
    batch = Batch({"i": torch.randn(4, 1, *source), "m": torch.zeros(4, 1, *source).byte()}, {"i": Kind.IMAGE, "m": Kind.MASK})
    start = time.process_time()
    for first in range(0, 40, 4):
        composed(batch, list(range(first, first + 4)))
    assert (time.process_time() - start) / 10 < 0.08  # a tenth of a step of 0.8 s; 0.012 s when alone
