"""Losses against formulas worked by hand, against torch's own, and against each other."""

import math

import pytest
import torch
import torch.nn.functional as F

from vesalius.core.errors import VesaliusError
from vesalius.data.labels import IGNORE
from vesalius.losses import LOSSES
from vesalius.losses.deep_supervision import DeepSupervision, coarsen, level_weights
from vesalius.losses.dice_cross_entropy import DiceCrossEntropy
from vesalius.testing.check_loss import example


def two_voxels():
    """One sample, two classes, two voxels with p(class 1) = 0.8 and 0.4; the first is class 1, the second class 0."""
    p = torch.tensor([[0.2, 0.6], [0.8, 0.4]], dtype=torch.float64)
    return p.log()[None, :, :, None], torch.tensor([1, 0], dtype=torch.uint8).reshape(1, 1, 2, 1)


def test_soft_dice_by_hand():
    logits, target = two_voxels()
    score = 2 * 0.8 / (0.8 + 0.4 + 1)
    assert LOSSES["dice"](True, smooth=0)(logits, target)["dice"].item() == pytest.approx(1 - score, abs=1e-12)
    background = 2 * 0.6 / (0.2 + 0.6 + 1)
    both = LOSSES["dice"](True, smooth=0, background=True)(logits, target)["dice"].item()
    assert both == pytest.approx(1 - (score + background) / 2, abs=1e-12)


def test_tversky_by_hand_and_as_dice():
    logits, target = two_voxels()
    ours = LOSSES["tversky"](True)(logits, target)["tversky"].item()
    assert ours == pytest.approx(1 - 0.8 / (0.8 + 0.3 * 0.4 + 0.7 * 0.2), abs=1e-5)
    logits, target = example(True)
    even = LOSSES["tversky"](True, false_positive=0.5, false_negative=0.5)(logits, target)["tversky"]
    assert torch.allclose(even, LOSSES["dice"](True)(logits, target)["dice"], atol=1e-6)


def test_focal_by_hand():
    logits, target = two_voxels()
    expected = -(0.2**2 * math.log(0.8) + 0.4**2 * math.log(0.6)) / 2
    assert LOSSES["focal"](True)(logits, target)["focal"].item() == pytest.approx(expected, abs=1e-12)
    assert LOSSES["focal"](True, gamma=0.0)(logits, target)["focal"].item() == pytest.approx(-math.log(0.8 * 0.6) / 2, abs=1e-12)


def test_top_k_takes_the_hardest():
    logits, target = two_voxels()
    assert LOSSES["top_k"](True, part=0.5)(logits, target)["top_k"].item() == pytest.approx(-math.log(0.6), abs=1e-12)
    assert LOSSES["top_k"](True, part=1.0)(logits, target)["top_k"].item() == pytest.approx(-math.log(0.8 * 0.6) / 2, abs=1e-12)


def test_softmax_cross_entropy_is_torch_s():
    logits, target = example(True, batch=1)
    expected = F.cross_entropy(logits, target[:, 0].long(), ignore_index=IGNORE)
    for name in ("cross_entropy", "dice_cross_entropy"):
        assert torch.allclose(LOSSES[name](True)(logits, target)["cross_entropy"], expected, atol=1e-6)


def test_weighted_cross_entropy_is_torch_s():
    logits, target = example(True, batch=1)
    weights = [0.2, 1.0, 3.0]
    expected = F.cross_entropy(logits, target[:, 0].long(), torch.tensor(weights), ignore_index=IGNORE)
    assert torch.allclose(DiceCrossEntropy(True, weights=weights)(logits, target)["cross_entropy"], expected, atol=1e-6)


def test_sigmoid_cross_entropy_is_torch_s():
    logits, target = example(False, batch=1)
    counts = target != IGNORE
    expected = F.binary_cross_entropy_with_logits(logits[counts], target[counts].float())
    for name in ("cross_entropy", "dice_cross_entropy"):
        assert torch.allclose(LOSSES[name](False)(logits, target)["cross_entropy"], expected, atol=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("batch_dice", [True, False])
def test_the_joint_loss_is_its_parts(exclusive, batch_dice):
    logits, target = example(exclusive)
    joint = DiceCrossEntropy(exclusive, batch_dice=batch_dice)(logits, target)
    assert torch.allclose(joint["dice"], LOSSES["dice"](exclusive, batch_dice=batch_dice)(logits, target)["dice"], atol=1e-6)
    assert torch.allclose(joint["cross_entropy"], LOSSES["cross_entropy"](exclusive)(logits, target)["cross_entropy"], atol=1e-6)


def test_batch_dice_is_the_dice_of_the_batch_as_one_image():
    logits, target = example(True, (4, 6))
    joined = torch.cat(list(logits), 1)[None], torch.cat(list(target), 1)[None]
    ours = LOSSES["dice"](True, batch_dice=True)(logits, target)["dice"]
    assert torch.allclose(ours, LOSSES["dice"](True)(*joined)["dice"], atol=1e-6)


def test_an_absent_class_that_is_not_predicted_is_perfect():
    target = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    logits = torch.stack([torch.full((1, 4, 4), 60.0), torch.full((1, 4, 4), -60.0)], 1)
    assert LOSSES["dice"](True)(logits, target)["dice"].item() == pytest.approx(0, abs=1e-6)


def test_autocast_does_not_round_the_loss():
    logits, target = example(True)
    plain = DiceCrossEntropy(True)(logits, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = DiceCrossEntropy(True)(logits, target)
    assert all(torch.equal(plain[name], cast[name]) for name in plain)


def test_a_target_of_another_shape_is_refused():
    logits, target = example(True)
    with pytest.raises(VesaliusError, match="class indices"):
        DiceCrossEntropy(True)(logits, target[:, :, 1:])


def test_level_weights_halve_and_sum_to_one():
    assert level_weights(3) == [4 / 7, 2 / 7, 1 / 7]


def test_deep_supervision_is_the_weighted_mean_of_levels():
    logits, target = example(True, (8, 8))
    coarse = logits[..., 1::2, 1::2]
    wrapped = DeepSupervision(LOSSES["cross_entropy"](True))([logits, coarse], target)["cross_entropy"]
    fine, rough = (LOSSES["cross_entropy"](True)(x, t)["cross_entropy"] for x, t in ((logits, target), (coarse, target[..., 1::2, 1::2])))
    assert torch.allclose(wrapped, (2 * fine + rough) / 3, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (7, 9), (2, 8)])
def test_coarsen_is_nearest_exact(shape):
    _, target = example(True, (8, 10))
    assert torch.equal(coarsen(target, shape), F.interpolate(target, size=shape, mode="nearest-exact"))


def test_weights_move_with_the_module_but_are_not_saved():
    loss = DiceCrossEntropy(True, weights=[1.0, 2.0])
    assert loss.to(torch.float64).weights.dtype == torch.float64 and not loss.state_dict()
