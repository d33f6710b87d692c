"""Filling in a missing channel: planted pairs of channels whose answer is known, and both rivals by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vesalius.audit.filling import brought_back, errors, filling, fills, straight
from vesalius.audit.worth import Cohort, Part
from vesalius.methods._unlabelled import Unlabelled
from vesalius.methods.dbm import Dbm
from vesalius.methods.rbm import Rbm

SIDE = 3


def part(number: int, seed: int) -> Part:
    """The second channel is half of the first, upside down; the third says nothing of either."""
    random = np.random.default_rng(seed)
    first, other = random.random((2, number, 1, SIDE, SIDE))
    images = np.concatenate([first, 0.5 * first[:, :, ::-1], other], 1).astype(np.float32)
    return Part(images, np.array([f"{seed}_{k}" for k in range(number)]), tuple(f"{seed}_{k}" for k in range(number)))


class Halved(Unlabelled):
    """Knows how the channels go together, from what it is shown alone."""

    def __init__(self) -> None:
        super().__init__((3, SIDE, SIDE), learning_rate=0.1, weight_decay=0.0, seed=0)

    def fill(self, image: Tensor, missing: list[int], *, sweeps: int, seed: int) -> Tensor:
        assert not image[:, missing].any()
        made = image.clone()
        made[:, 1:2] = 0.5 * image[:, :1].flip(2) if missing == [1] else made[:, 1:2]
        return made

    optimisers = steps = infer = features = score = None  # type: ignore[assignment]


Halved.__abstractmethods__ = frozenset()


def test_a_method_that_knows_has_no_error_and_a_straight_line_finds_out_too():
    cohort = Cohort(part(90, 0), part(5, 1), part(30, 2))
    rows, pictures = filling(Halved(), cohort, {"a": 1, "b": 1, "c": 1}, draws=50)
    assert [row["channel"] for row in rows] == ["a", "b", "c"]
    second, third = rows[1], rows[2]
    assert second["run"]["value"] == 0 and second["linear"]["value"] < 1e-8  # 18 of 18 components: nothing is lost
    assert second["mean"]["value"] == pytest.approx(((cohort.test.images[:, 1] - cohort.train.images[:, 1].mean(0)) ** 2).mean(), rel=1e-5)
    assert second["differences"]["mean"]["high"] < 0
    assert third["run"]["value"] == pytest.approx((cohort.test.images[:, 2] ** 2).mean(), rel=1e-5)  # it leaves nothing there
    assert third["differences"]["mean"]["low"] > 0
    np.testing.assert_array_equal(pictures["lost_1"], cohort.test.images[:6, 1:2])
    np.testing.assert_array_equal(pictures["filled_1"], cohort.test.images[:6, 1:2])


def test_a_straight_line_is_that_of_least_squares():
    train, test = part(60, 3).images, part(8, 4).images
    found = straight(train[:, :1], train[:, 2].reshape(60, -1), test[:, :1])
    rows = np.hstack([train[:, 0].reshape(60, -1), np.ones((60, 1))])
    want = np.hstack([test[:, 0].reshape(8, -1), np.ones((8, 1))]) @ np.linalg.lstsq(rows, train[:, 2].reshape(60, -1), rcond=None)[0]
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_only_machines_of_several_channels_fill_in():
    deep = Dbm((2, 2, 2), hidden=(4, 2), by_channel=True)
    assert fills(deep) and not fills(Dbm((1, 2, 2), hidden=(4, 2))) and not fills(Rbm((2, 2, 2), hidden=3))
    images = torch.rand(5, 2, 2, 2).numpy()
    seen = brought_back(deep, images, [1])
    images[:, 1] = 1 - images[:, 1]
    np.testing.assert_array_equal(seen, brought_back(deep, images, [1]))  # what is missing is not looked at
    one = Part(images, np.array(["p"] * 5), tuple("abcde"))
    assert errors(seen, one, one, away=[1], draws=10)["run"]["low"] is None  # one patient has no interval
