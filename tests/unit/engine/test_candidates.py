"""Only candidates are interpolated, and the labels are those of all classes interpolated."""

import numpy as np
import pytest
import torch

from vesalius.engine import candidates, stream
from vesalius.engine.stream import stream_labels
from vesalius.engine.tiles import Tiling

CASES = [
    ((14, 13, 15), (21, 20, 23), ()),
    ((14, 13, 15), (29, 13, 44), ()),  # one axis as it is
    ((14, 13, 15), (14, 26, 15), ()),
    ((14, 13, 15), (9, 40, 38), ()),  # one axis coarser: cells without output
    ((5, 17, 16), (23, 30, 31), (0,)),  # slices that are picked, not mixed
    ((16, 17, 5), (20, 30, 33), ()),  # streams along the last axis
    ((1, 12, 12), (1, 25, 20), ()),
    ((21, 18), (50, 31), ()),
]


def logits_of(kind, classes, shape):
    """(K, *shape): white noise, blobs, or few values with many ties."""
    random = np.random.default_rng(0)
    if kind == "blobs":
        coarse = torch.from_numpy(random.standard_normal((1, classes, *[max(2, side // 4) for side in shape])))
        mode = {2: "bilinear", 3: "trilinear"}[len(shape)]
        return 5 * torch.nn.functional.interpolate(coarse, size=shape, mode=mode)[0].float().numpy()
    values = random.standard_normal((classes, *shape)) if kind == "noise" else random.integers(0, 3, (classes, *shape))
    return values.astype(np.float32)


def labels_of(logits, output, nearest=()):
    tiling = Tiling((8,) * len(output), nearest=nearest)
    return stream_labels(lambda x: x, logits, output, tiling=tiling, exclusive=True)[0]


@pytest.mark.parametrize("kind", ["noise", "blobs", "ties"])
@pytest.mark.parametrize("classes", [2, 25, 100])
@pytest.mark.parametrize(("shape", "output", "nearest"), CASES)
def test_labels_are_those_of_every_class(monkeypatch, shape, output, nearest, classes, kind):
    """Bit for bit those with every class as a candidate everywhere."""
    logits = logits_of(kind, classes, shape)
    some = labels_of(logits, output, nearest)
    monkeypatch.setattr(candidates, "WITHIN", 1e30)  # nothing is below the least corner of another by that much
    monkeypatch.setattr(candidates, "BLOCK", 400)
    np.testing.assert_array_equal(some, labels_of(logits, output, nearest))


@pytest.mark.parametrize("kind", ["noise", "blobs"])
@pytest.mark.parametrize(("shape", "output", "nearest"), CASES)
def test_labels_are_those_of_the_other_way(monkeypatch, shape, output, nearest, kind):
    """The way without candidates (torch's own interpolation) rounds otherwise: white noise of 25 classes may differ where two are equal."""
    logits = logits_of(kind, 25, shape)
    some = labels_of(logits, output, nearest)
    monkeypatch.setattr(stream, "pays", lambda *sizes: False)
    assert (some == labels_of(logits, output, nearest)).mean() >= 0.9999


def test_candidates_are_counted_by_hand():
    """Two cells in a row: in the first class 0 is ahead at both ends; in the second 0 and 1 change places and 2 lies below 1's least."""
    rows = torch.tensor([[5.0, 4.0, 0.0], [1.0, 2.0, 3.0], [0.0, 1.0, 1.5]])

    def block(number, out):
        out.copy_(rows[number])

    found = candidates.candidates(block, torch.tensor([False, False, True]), [1], classes=3)
    assert found.only[0] == 0 and found.cells.tolist() == [1] and found.counts.tolist() == [2]
    assert found.numbers[:, 0].tolist() == [0, 1]


def test_a_class_that_leads_at_no_corner_wins_in_the_middle():
    logits = np.full((3, 2, 2, 2), -9, np.float32)
    logits[0], logits[1], logits[2] = 0, 0, 0
    logits[0, 0], logits[1, 1], logits[2] = 10, 10, 9  # along the first axis 10 ... 0, 0 ... 10 and 9 throughout
    assert labels_of(logits, (10, 2, 2))[:, 0, 0].tolist() == [0, 0, 0, 2, 2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(("old", "new"), [(7, 7), (7, 20), (7, 3), (1, 5), (5, 1), (6, 13)])
def test_every_output_voxel_is_in_the_cell_that_holds_it(old, new):
    made = candidates.line(old, new, nearest=False)
    place = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    if made.share is None:
        np.testing.assert_array_equal(made.cell, np.floor((np.arange(new) + 0.5) * old / new).astype(int))
        return
    for slot in range(len(made.where)):
        cells = np.flatnonzero(made.open)
        voxels = made.where[slot, cells]
        np.testing.assert_allclose(cells + made.share[slot, cells], place[voxels], atol=1e-6)
    assert set(made.where[:, made.open].ravel()) == set(range(new))
