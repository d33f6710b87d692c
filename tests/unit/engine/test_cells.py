"""Kernels for logits on their way to labels: beside the way through torch, which is the judge, and trilinear interpolation in numpy."""

import ctypes

import numpy as np
import pytest
import torch

from vesalius.core.errors import VesaliusError
from vesalius.engine import cells, parts
from vesalius.engine.rolling import Rolling, laid_out
from vesalius.engine.stream import stream_labels
from vesalius.engine.sums import AIR, LIMIT
from vesalius.engine.tiles import Cut, Tiling

pytestmark = pytest.mark.skipif(
    not cells.suit("float16", "cpu", 3), reason="the kernels are not built: python -m vesalius.core.kernels.build"
)
CASES = [  # volume, patch, output, axes that are picked
    ((14, 13, 15), (8, 8, 8), (21, 20, 23), ()),
    ((14, 13, 15), (8, 8, 8), (29, 13, 44), ()),  # one axis as it is
    ((14, 13, 15), (8, 8, 8), (14, 13, 15), ()),  # all of them
    ((14, 13, 15), (8, 8, 8), (9, 40, 38), ()),  # one axis coarser: cells without output
    ((40, 30, 90), (16, 30, 90), (13, 11, 17), ()),  # all of them: registers that are not full
    ((9, 9, 70), (8, 8, 16), (9, 20, 200), ()),  # several segments; streams along the last axis
    ((5, 17, 16), (8, 8, 8), (23, 30, 31), (0,)),  # slices that are picked, not mixed
    ((16, 17, 5), (8, 8, 5), (20, 30, 33), ()),
    ((7, 40, 33), (7, 12, 33), (30, 61, 50), (0,)),  # streams along the second axis
    ((1, 12, 12), (1, 8, 8), (1, 25, 20), ()),
    ((6, 1, 12), (4, 1, 8), (15, 3, 20), ()),
    ((12, 9, 1), (8, 8, 1), (25, 20, 1), ()),
    ((2, 2, 2), (2, 2, 2), (9, 7, 41), ()),
    ((21, 18), (8, 8), (50, 31), ()),
    ((18, 40), (8, 8), (18, 40), ()),
    ((30,), (8,), (77,), ()),
]


def blobs(classes, shape, seed=0):
    """(K, *shape) float32: logits that change from voxel to voxel as those of a network do."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.standard_normal((1, classes, *[max(2, side // 4) for side in shape])))
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
    return 5 * torch.nn.functional.interpolate(coarse, size=shape, mode=mode)[0].float().numpy()


def labels_of(logits, output, patch, **how):
    return stream_labels(lambda x: x, logits, output, tiling=Tiling(patch, **how), exclusive=True)[0]


def in_torch(monkeypatch, *words, **how):
    with monkeypatch.context() as patched:
        patched.setattr(cells, "suit", lambda *sums: False)
        return labels_of(*words, **how)


def interpolated(values, output, nearest=()):
    """(K, *output) from (K, *S) in float64 by the formula: index = (output index + 1/2) * old / new - 1/2, cut to the volume."""
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


@pytest.mark.parametrize("overlap", [0, 0.3, 0.5])
@pytest.mark.parametrize("classes", [2, 7, 100, 256])
@pytest.mark.parametrize(("shape", "patch", "output", "nearest"), CASES)
def test_labels_are_those_of_torch_and_of_numpy(monkeypatch, shape, patch, output, nearest, classes, overlap):
    logits = blobs(classes, shape)
    how = {"overlap": overlap, "nearest": nearest}
    labels = labels_of(logits, output, patch, **how)
    values = interpolated(logits.astype(float), output, nearest)
    chosen = np.take_along_axis(values, labels[None].astype(int), 0)[0]
    assert (values.max(0) - chosen).max() < 0.05  # half precision of logits of up to 20
    other = in_torch(monkeypatch, logits, output, patch, **how)
    tied = np.partition(values, -2, 0)[-2:]
    clear = tied[1] - tied[0] > 0.01
    np.testing.assert_array_equal(labels[clear], other[clear])
    assert (labels != other).sum() <= max(1, labels.size // 10_000)


@pytest.mark.parametrize("classes", [3, 25])
@pytest.mark.parametrize("output", [(60, 50, 70), (40, 33, 50), (25, 40, 31)])
def test_one_label_in_ten_thousand_differs_at_most(monkeypatch, output, classes):
    """White noise, where borders are everywhere."""
    logits = np.random.default_rng(1).standard_normal((classes, 40, 33, 50)).astype(np.float32)
    labels, other = labels_of(logits, output, (16, 16, 16)), in_torch(monkeypatch, logits, output, (16, 16, 16))
    assert (labels == other).mean() >= 0.9999


def test_the_first_of_equals_is_taken():
    """Of whole numbers that lie on the grid, many are equal; all of class 3 are those of class 1, which comes first."""
    logits = np.random.default_rng(0).integers(-2, 1, (4, 12, 11, 35)).astype(np.float32)
    logits[3] = logits[1]
    np.testing.assert_array_equal(labels_of(logits, (12, 11, 35), (8, 8, 8), overlap=0), logits.argmax(0))
    assert not (labels_of(logits, (30, 22, 71), (8, 8, 8), overlap=0) == 3).any()


def test_any_number_of_threads_gives_the_same():
    logits, before = blobs(12, (40, 44, 42)), torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            found.append(labels_of(logits, (70, 61, 83), (24, 24, 24)))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize(("shape", "patch", "output", "nearest"), CASES)
def test_background_where_tiles_are_skipped(monkeypatch, shape, patch, output, nearest):
    logits, mask = blobs(6, shape), np.zeros(shape, bool)
    mask[tuple(slice(0, side // 2) for side in shape)] = True
    for overlap in (0, 0.5):
        how = {"overlap": overlap, "nearest": nearest, "skip": mask, "batch": 3}
        labels, other = labels_of(logits, output, patch, **how), in_torch(monkeypatch, logits, output, patch, **how)
        assert (labels != other).sum() <= max(1, labels.size // 10_000)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("layout", ["classes first", "classes last", "turned"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("box", [(5, 7, 40), (3, 5, 16), (2, 3, 1), (1, 1, 5), (4, 90, 33), (31, 47), (50,)])
def test_sums_are_bit_for_bit_those_of_torch(box, kind, layout, exclusive):
    """Tiles that lie in the sums, alone and over others; every layout; fewer axes."""
    random, classes = torch.Generator().manual_seed(0), 5
    logits = (4 * torch.randn(classes, *box, generator=random)).to(kind)
    if layout == "classes last":
        logits = logits.movedim(0, -1).contiguous().movedim(-1, 0)
    elif layout == "turned" and len(box) > 1:
        logits = logits.transpose(1, -1).contiguous().transpose(1, -1)
    lines = [torch.rand(side, generator=random) for side in box]
    cut = Cut(box, Tiling(box))
    judge = Rolling(cut, classes, exclusive=exclusive, device=torch.device("cpu"))
    whole = torch.randn(classes, *[side + 3 for side in box], generator=random).half()
    place = (slice(None), *[slice(1, 1 + side) for side in box])
    for weights in ([], lines):
        expected, sums = whole.clone(), whole.clone()
        weight = lines[0]
        for line in lines[1:]:
            weight = weight.unsqueeze(-1) * line
        added = judge._weighted(logits, weight if weights else None)
        expected[place] = added + expected[place] if weights else added
        arrays = [line.numpy() for line in weights]
        assert cells.add(sums[place].numpy(), laid_out(logits), arrays, exclusive=exclusive, limit=LIMIT)
        assert torch.equal(sums.view(torch.int16), expected.view(torch.int16)) or torch.equal(sums, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e5])
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 8, 8, 8), (2, 3, 7, 4)])
def test_logits_that_are_not_finite_are_told(bad, exclusive, place):
    logits = np.zeros((3, 9, 9, 9), np.float32)
    logits[place] = bad
    with pytest.raises(VesaliusError, match="not finite"):
        stream_labels(lambda x: x, logits, (15, 15, 15), tiling=Tiling((9, 9, 9)), exclusive=exclusive)


@pytest.mark.parametrize("classes", [1, 257, 300])
def test_labels_must_fit_8_bits(classes):
    with pytest.raises(VesaliusError, match="2 to 256 classes"):
        labels_of(np.zeros((classes, 4, 4, 4), np.float32), (6, 6, 6), (4, 4, 4))


@pytest.mark.parametrize("patch", [(8, 8, 20), (20, 8, 8)])
@pytest.mark.parametrize("output", [(30, 29, 31), (10, 9, 9), (20, 20, 20)])
def test_regions_and_certainty_come_from_the_same_sums(monkeypatch, output, patch):
    """What the kernels do not decide they add up."""
    logits = blobs(4, (20, 20, 20))
    tiling = Tiling(patch, thresholds=(0.3, 0.5, 0.6, 0.9))
    labels = stream_labels(lambda x: x, logits, output, tiling=tiling, exclusive=False)
    monkeypatch.setattr(cells, "suit", lambda *sums: False)
    np.testing.assert_array_equal(labels, stream_labels(lambda x: x, logits, output, tiling=tiling, exclusive=False))


@pytest.mark.parametrize(("overlap", "share"), [(0, 0.3), (0.5, 0.75)])
def test_columns_that_are_decided_are_let_go(monkeypatch, overlap, share):
    """Four columns of tiles: when the second layer is computed, at most `share` of a layer's sums hold anything else than zeros."""
    shape, most = (24, 64, 8), []
    add = parts.Parts.add

    def watched(self, index, logits):
        add(self, index, logits)
        most.append(sum(int((part.sums != 0).any(0).sum()) for part in self.parts))

    monkeypatch.setattr(parts.Parts, "add", watched)
    labels_of(blobs(3, shape), (48, 128, 16), (12, 16, 8), overlap=overlap)
    assert max(most) <= share * 12 * 64 * 8 * 1.4


def test_cells_between_skipped_and_computed_tiles():
    """Background of `AIR` beside a class that leads by 2: by the formula the border is where the line between them crosses."""
    logits = np.zeros((2, 8, 4, 4), np.float32)
    logits[1] = 2
    mask = np.zeros((8, 4, 4), bool)
    mask[:4] = True
    labels = labels_of(logits, (80, 4, 4), (4, 4, 4), overlap=0, skip=mask)
    place = ((np.arange(80) + 0.5) / 10 - 0.5).clip(0, 7)
    lead = np.interp(place, [3, 4], [-2, AIR])  # of the background
    np.testing.assert_array_equal(labels[:, 0, 0], lead <= 0)


@pytest.mark.parametrize("box", [(0, 4, 5), (4, 0, 5), (4, 5, 0), (0,)])
@pytest.mark.parametrize("classes", [0, 3])
def test_nothing_is_added_of_an_empty_box(box, classes):
    sums, logits = np.zeros((classes, *box), np.float16), np.zeros((classes, *box), np.float32)
    assert cells.add(sums, cells.laid(logits), [], exclusive=True, limit=LIMIT)


def test_where_there_is_no_memory_that_is_told(monkeypatch):
    def huge(tile, *words):
        ctypes.cast(tile, ctypes.POINTER(ctypes.c_int64))[5] = 2**44  # classes
        real(tile, *words)

    real = cells.adds()
    monkeypatch.setattr(cells, "adds", lambda: huge)
    with pytest.raises(MemoryError, match="no memory"):
        cells.add(np.zeros((3, 4, 5, 6), np.float16), cells.laid(np.zeros((3, 4, 5, 6), np.float32)), [], exclusive=True, limit=LIMIT)


def test_logits_of_another_device_or_number_of_classes_are_not_read():
    with pytest.raises(NotImplementedError):  # they are brought here, and there are none
        laid_out(torch.zeros(3, 4, 5, 6, device="meta"))
    with pytest.raises(VesaliusError, match="as many classes as of the first"):
        cells.add(np.zeros((3, 4, 5, 6), np.float16), laid_out(torch.zeros(1, 4, 5, 6)), [], exclusive=True, limit=LIMIT)


BOXES = [(), (slice(1, 2),), (None, slice(0, 2)), (slice(None), None, slice(1, 9), slice(2, 5)), (slice(None), slice(2, -1), slice(4, 4))]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.uint16])
def test_a_box_of_logits_is_that_of_numpy(box, turned, kind):
    whole = np.random.default_rng(0).integers(0, 99, (3, 4, 5, 6)).astype(kind)
    array = whole.transpose(2, 0, 3, 1) if turned else whole
    found, expected = cells.laid(array)[box], array[box]
    assert found.shape == expected.shape
    numbers = (np.ctypeslib.as_array((ctypes.c_uint8 * whole.nbytes).from_address(whole.ctypes.data))).view(kind)
    first = (found.address - whole.ctypes.data) // whole.itemsize
    places = first + sum(np.ix_(*(np.arange(side) * step for side, step in zip(found.shape, found.strides, strict=True))))
    np.testing.assert_array_equal(numbers[places], expected)


@pytest.mark.parametrize("weighed", [False, True])
def test_arrays_of_bfloat16_are_read_as_tensors_are(weighed):
    """And from a view whose numbers do not lie in steps of their own size."""
    random = np.random.default_rng(0)
    logits = random.standard_normal((3, 4, 5, 6)).astype(np.float32)
    weights = [random.random(side).astype(np.float32) for side in logits.shape[1:]] if weighed else []
    short = torch.from_numpy(logits).bfloat16()
    packed = np.zeros(logits.size, [("numbers", np.float32), ("odd", np.uint8)])
    packed["numbers"] = logits.ravel()
    pairs = [(cells.laid(short.view(torch.int16).numpy().view(np.uint16)), laid_out(short)),
             (cells.laid(packed["numbers"].reshape(logits.shape)), laid_out(torch.from_numpy(logits)))]  # fmt: skip
    for one, other in pairs:
        made = [np.ones(logits.shape, np.float16) for _ in range(2)]
        for sums, here in zip(made, (one, other), strict=True):
            assert cells.add(sums, here, weights, exclusive=True, limit=LIMIT)
        np.testing.assert_array_equal(*made)
