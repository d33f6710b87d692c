"""Segmentation: scores by hand, logits per kind of label, answers in the values of the masks."""

import numpy as np
import pytest
import torch

from vesalius.core.errors import UsageError
from vesalius.core.space import Space
from vesalius.data.labels import IGNORE, Labels
from vesalius.io.image import Image
from vesalius.losses import LOSSES
from vesalius.tasks import TASKS

TASK = TASKS["segment"]()
TWO = Labels(names=("a", "b"), values=((3,), (5, 6)))
NESTED = Labels(names=("whole", "core"), values=((1, 2, 4), (2, 4)), kind="regions")


def test_softmax_needs_a_logit_for_the_background():
    assert TASK.out_channels(TWO) == 3 and TASK.out_channels(NESTED) == 2


def test_the_quick_score_is_the_mean_dice():
    truth = np.array([[[1, 1, 0, 0], [2, 2, 0, 0]]], np.uint8)
    said = np.array([[[1, 0, 0, 0], [2, 2, 2, 2]]], np.uint8)
    assert TASK.quick_score(said, truth, TWO) == pytest.approx((2 * 1 / 3 + 2 * 2 / 6) / 2)


def test_a_label_that_is_nowhere_counts_as_right_and_a_phantom_as_wrong():
    truth = np.array([[[1, 1, 0, 0]]], np.uint8)
    assert TASK.quick_score(truth, truth, TWO) == 1
    assert TASK.quick_score(np.array([[[1, 1, 2, 0]]], np.uint8), truth, TWO) == 0.5


def test_ignored_voxels_have_no_say():
    truth = np.array([[[1, 1, IGNORE, 0]]], np.uint8)
    for value in (0, 1, 2):
        assert TASK.quick_score(np.array([[[1, 1, value, 0]]], np.uint8), truth, TWO) == 1


def test_overlapping_labels_are_scored_each():
    truth, said = np.zeros((2, 1, 6), np.uint8), np.zeros((2, 1, 6), np.uint8)
    truth[0, 0, :4], truth[1, 0, :2] = 1, 1
    said[0, 0, :4], said[1, 0, 1:3] = 1, 1
    assert TASK.quick_score(said, truth, NESTED) == pytest.approx((1 + 0.5) / 2)


def test_the_loss_knows_the_kind_of_label():
    """Logits of 0: -log(1/3) per voxel for three classes that exclude each other, -log(1/2) for labels that do not."""
    target = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    assert float(TASK.loss(TWO)([torch.zeros(1, 3, 4, 4)], target)["cross_entropy"]) == pytest.approx(np.log(3), rel=1e-5)
    assert float(TASK.loss(NESTED)([torch.zeros(1, 2, 4, 4)], target.expand(1, 2, 4, 4))["cross_entropy"]) == pytest.approx(
        np.log(2), rel=1e-5
    )


def test_coarse_heads_count_half_as_much():
    """The finest is right, the coarser wrong: the loss is a third of the wrong one's."""
    target = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    sure = torch.tensor([30.0, -30.0, -30.0]).reshape(1, 3, 1, 1)
    fine, coarse = sure.expand(1, 3, 4, 4), -sure.expand(1, 3, 2, 2)
    alone = TASK.loss(TWO)([coarse], target[..., :2, :2])["cross_entropy"]
    assert float(TASK.loss(TWO)([fine, coarse], target)["cross_entropy"]) == pytest.approx(float(alone) / 3, rel=1e-5)


def written(coded, labels):
    scan = Image(np.zeros((1, *coded.shape[1:]), np.float32), Space.of(coded.shape[1:]))
    return TASK.written(coded, scan, labels).array[0].tolist()


def test_answers_are_written_in_the_values_of_the_masks():
    assert written(np.array([[[0, 1, 2]]], np.uint8), TWO) == [[0, 3, 5]]
    bits = Labels(names=("a", "b"), values=((1,), (4,)), kind="bits")
    assert written(np.array([[[0, 1, 1, 0]], [[0, 0, 1, 1]]], np.uint8), bits) == [[0, 1, 5, 4]]


def test_regions_are_written_as_the_value_that_has_them():
    """Outside, whole alone, whole with core; a core outside the whole, which no mask holds, becomes a core inside it."""
    assert written(np.array([[[0, 1, 1, 0]], [[0, 0, 1, 1]]], np.uint8), NESTED) == [[0, 1, 2, 2]]


def test_many_labels_need_wider_numbers():
    many = Labels(names=("a", "b"), values=((1,), (300,)))
    assert written(np.array([[[0, 1, 2]]], np.uint8), many) == [[0, 1, 300]]
    regions = Labels(names=("a", "b"), values=((1, 300), (300,)), kind="regions")
    assert written(np.array([[[0, 1, 1]], [[0, 0, 1]]], np.uint8), regions) == [[0, 1, 300]]


@pytest.mark.parametrize(("words", "alone"), [
    ({}, LOSSES["dice_cross_entropy"](True)),
    ({"name": "tversky", "false_negative": 0.9}, LOSSES["tversky"](True, false_negative=0.9)),
    ({"name": "cross_entropy", "weights": [1, 2, 3]}, LOSSES["cross_entropy"](True, weights=[1, 2, 3])),
    ({"name": "top_k", "part": 0.5}, LOSSES["top_k"](True, part=0.5)),
])  # fmt: skip
def test_the_plan_names_the_loss_at_every_scale(words, alone):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=random)
    target = torch.randint(0, 3, (2, 1, 8, 8), generator=random, dtype=torch.uint8)
    assert {k: float(v) for k, v in TASK.loss(TWO, words)([logits], target).items()} == {
        k: pytest.approx(float(v)) for k, v in alone(logits, target).items()
    }


@pytest.mark.parametrize(("words", "says"), [
    ({"name": "tverski"}, "Unknown loss 'tverski'. Did you mean tversky"), ({"name": "deep_supervision"}, "Unknown loss"),
    ({"name": "ldam"}, "Unknown loss"), ({"name": "focal", "gama": 1}, "Unknown word of the loss focal 'gama'. Did you mean gamma"),
    ({"name": "focal", "weights": [1, 2]}, r"weights are 3 numbers, background and a, b; got \[1, 2\]"),
    ({"name": "cross_entropy", "smoothing": 2}, "cannot be made of"),
])  # fmt: skip
def test_a_loss_that_cannot_be_is_refused(words, says):
    with pytest.raises(UsageError, match=says):
        TASK.loss(TWO, words)
