"""Only candidates are interpolated, and the labels are those of all classes interpolated: by numpy (kernels: test_cells.py)."""

import numpy as np
import pytest
import torch

from vesalius.engine import borders, candidates, cells, stream
from vesalius.engine.lines import line
from vesalius.engine.stream import stream_labels
from vesalius.engine.sums import AIR
from vesalius.engine.tiles import Cut, Tiling

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


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch):
    monkeypatch.setattr(cells, "suit", lambda *sums: False)


def logits_of(kind, classes, shape):
    """(K, *shape): white noise, blobs, or few values with many ties."""
    random = np.random.default_rng(0)
    if kind == "blobs":
        coarse = torch.from_numpy(random.standard_normal((1, classes, *[max(2, side // 4) for side in shape])))
        mode = {2: "bilinear", 3: "trilinear"}[len(shape)]
        return 5 * torch.nn.functional.interpolate(coarse, size=shape, mode=mode)[0].float().numpy()
    values = random.standard_normal((classes, *shape)) if kind == "noise" else random.integers(0, 3, (classes, *shape))
    return values.astype(np.float32)


def labels_of(logits, output, nearest=(), **how):
    tiling = Tiling((8,) * len(output), nearest=nearest, **how)
    return stream_labels(lambda x: x, logits, output, tiling=tiling, exclusive=True)[0]


def everywhere(depths, opened, steps, *, classes):
    """Every class as a candidate of every cell."""
    can = np.repeat(opened[None], classes, 0)
    return candidates.Found(np.zeros(len(opened), np.uint8), can, can.sum(0, dtype=np.uint16))


@pytest.mark.parametrize("kind", ["noise", "blobs", "ties"])
@pytest.mark.parametrize("classes", [2, 25, 100])
@pytest.mark.parametrize(("shape", "output", "nearest"), CASES)
def test_labels_are_those_of_every_class(monkeypatch, shape, output, nearest, classes, kind):
    """Bit for bit those with every class as a candidate everywhere."""
    logits = logits_of(kind, classes, shape)
    some = labels_of(logits, output, nearest)
    monkeypatch.setattr(candidates, "candidates", everywhere)
    np.testing.assert_array_equal(some, labels_of(logits, output, nearest))


@pytest.mark.parametrize("kind", ["noise", "blobs", "ties"])
@pytest.mark.parametrize(("shape", "output", "nearest"), CASES)
def test_how_cells_are_put_together_does_not_matter(monkeypatch, shape, output, nearest, kind):
    """Small blocks, little room for hits (blocks then come in parts), and cells of every kind on their own or all together."""
    logits = logits_of(kind, 25, shape)
    labels = labels_of(logits, output, nearest)
    for module, name, value in ((candidates, "BLOCK", 400), (candidates, "HITS", 600), (borders, "HITS", 600), (borders, "FEW", 1)):
        monkeypatch.setattr(module, name, value)
    np.testing.assert_array_equal(labels, labels_of(logits, output, nearest))
    monkeypatch.setattr(borders, "MANY", 0)
    np.testing.assert_array_equal(labels, labels_of(logits, output, nearest))


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(("shape", "output", "nearest"), CASES)
def test_labels_are_those_of_the_plain_way_beside_air(shape, output, nearest, precision):
    """Every logit kept, all of them interpolated, then decided; background is above 0 where tiles are skipped. White noise may differ where
    two are equal up to the precision of the sums."""
    logits = logits_of("noise", 6, shape)
    mask = np.zeros(shape, bool)
    mask[tuple(slice(0, side // 2) for side in shape)] = True
    how = {"overlap": 0, "precision": precision, "skip": mask}
    cut, sums = Cut(shape, Tiling((8,) * len(shape), nearest=nearest, **how)), np.zeros((6, *shape))
    for number, index in enumerate(cut.tiles((0, len(cut.starts[cut.axis])))):
        box = tuple(slice(*cut.rows(axis, tile)) for axis, tile in enumerate(index))
        weight = np.ones([1] * len(shape))
        for axis, tile in enumerate(index):
            share = cut.shares[axis][tile][box[axis].start - cut.starts[axis][tile] :][: box[axis].stop - box[axis].start]
            weight = weight * share.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        if mask[box].any() or number == 0:
            part = logits[(slice(None), *box)].astype(float)
            sums[(slice(None), *box)] += (part - part.max(0)) * weight
        else:
            sums[(0, *box)] += AIR * weight
    values = plainly(sums, output, nearest)
    labels = labels_of(logits, output, nearest, **how)
    chosen = np.take_along_axis(values, labels[None].astype(int), 0)[0]
    assert (values.max(0) - chosen).max() <= 16 * {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-20}[precision]
    assert (labels == values.argmax(0)).mean() >= (0.97 if precision == "bfloat16" else 0.998)


def plainly(values, output, nearest):
    """(K, *output) from (K, *S) in float64, axis by axis by the formula: index = (output index + 1/2) * old / new - 1/2."""
    for axis, new in enumerate(output):
        old = values.shape[1 + axis]
        place = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
        if axis in nearest:
            values = values.take(np.floor(place + 0.5).astype(int), 1 + axis)
            continue
        low = np.floor(place).astype(int)
        share = (place - low).reshape([-1 if a == 1 + axis else 1 for a in range(values.ndim)])
        values = values.take(low, 1 + axis) * (1 - share) + values.take(np.minimum(low + 1, old - 1), 1 + axis) * share
    return values


@pytest.mark.parametrize("kind", ["noise", "blobs"])
@pytest.mark.parametrize(("shape", "output", "nearest"), CASES)
def test_labels_are_those_of_the_other_way(monkeypatch, shape, output, nearest, kind):
    """The way without candidates (torch's own interpolation) rounds otherwise: white noise of 25 classes may differ where two are equal."""
    logits = logits_of(kind, 25, shape)
    some = labels_of(logits, output, nearest)
    monkeypatch.setattr(stream, "pays", lambda *sizes: False)
    assert (some == labels_of(logits, output, nearest)).mean() >= 0.9999


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_candidates_are_counted_by_hand(kind):
    """Two cells in a row: in the first class 0 leads at both ends; in the second 0 and 1 change places and 2 lies below 1's least."""
    rows = np.array([[-0.0, -0.0, -3.0], [-4.0, -2.0, -0.0], [-5.0, -4.0, -2.5]], kind)
    bits = rows.view({2: np.uint16, 4: np.uint32}[rows.itemsize])
    found = candidates.candidates(bits.__getitem__, np.array([True, True, False]), [1], classes=3)
    assert found.leading.tolist() == [0, 0, 1] and found.counts.tolist() == [0, 2, 0]
    assert found.can[:, 1].tolist() == [True, True, False]


def test_cells_and_hits_are_put_in_order():
    """Three cells of kind 0 with 2, 3 and 2 candidates and one of kind 1 with 2."""
    counts, kind = np.array([2, 3, 2, 2], np.uint16), np.array([0, 0, 1, 0], np.uint16)
    cell, rank = np.array([0, 1, 3, 0, 2, 1, 2, 3, 1], np.int32), np.array([0, 0, 0, 1, 0, 1, 1, 1, 2], np.uint8)
    order, back, runs = borders.arranged(kind, counts, borders.Hits(cell, rank, rank, rank))
    assert order.tolist() == [1, 0, 3, 2] and runs.tolist() == [[3, 3, 1], [1, 1, 0]]
    assert cell[back].tolist() == [1, 0, 3, 1, 0, 3, 1, 2, 2] and rank[back].tolist() == [0, 0, 0, 1, 1, 1, 2, 0, 1]


def test_a_class_that_leads_at_no_corner_wins_in_the_middle():
    logits = np.full((3, 2, 2, 2), -9, np.float32)
    logits[0], logits[1], logits[2] = 0, 0, 0
    logits[0, 0], logits[1, 1], logits[2] = 10, 10, 9  # along the first axis 10 ... 0, 0 ... 10 and 9 throughout
    assert labels_of(logits, (10, 2, 2))[:, 0, 0].tolist() == [0, 0, 0, 2, 2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(("old", "new"), [(7, 7), (7, 20), (7, 3), (1, 5), (5, 1), (6, 13)])
def test_every_output_voxel_is_in_the_cell_that_holds_it(old, new):
    made = line(old, new, nearest=False)
    place = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    if made.share is None:
        np.testing.assert_array_equal(made.cell, np.floor((np.arange(new) + 0.5) * old / new).astype(int))
        return
    for slot in range(len(made.where)):
        cells = np.flatnonzero(made.count)
        voxels = made.where[slot, cells]
        np.testing.assert_allclose(cells + made.share[slot, cells], place[voxels], atol=1e-6)
    assert set(made.where[:, made.count > 0].ravel()) == set(range(new))
