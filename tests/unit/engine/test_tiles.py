"""Tiles against enumeration: they cover, overlap as told, and their shares add up to one."""

from itertools import product

import numpy as np
import pytest

from vesalius.core.errors import UsageError
from vesalius.engine.tiles import (
    AirBelow,
    ArraySource,
    Cut,
    Tiling,
    VolumeSource,
    ahead,
    buffer_bytes,
    constant,
    gaussian,
    nearest_axes,
    pieces,
    read,
    shares,
    starts,
)

OVERLAPS = (0.0, 0.25, 0.5, 0.625, 0.75, 0.9)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_tiles_cover_the_axis_and_overlap_enough(overlap):
    for size, patch in product(range(1, 60), range(1, 24)):
        first = starts(size, patch, overlap)
        covered = {place for start in first for place in range(start, start + patch)}
        assert covered >= set(range(size))
        if size <= patch:
            assert first == (-((patch - size) // 2),)
            continue
        assert first[0] == 0 and first[-1] == size - patch
        gaps = np.diff(first)
        assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1  # evenly spaced on a grid of whole voxels
        assert gaps.max() == 1 or gaps.max() <= patch * (1 - overlap) + 1e-9  # a patch of one voxel cannot overlap


def test_as_many_tiles_as_nnunet_takes():
    # compute_steps_for_sliding_window: ceil((size - patch) / (patch * step)) + 1, evenly spaced and rounded.
    for size, patch in [(512, 128), (400, 96), (133, 112), (40, 40), (50, 32)]:
        count = int(np.ceil((size - patch) / (patch * 0.5))) + 1
        expected = [round((size - patch) / max(count - 1, 1) * i) for i in range(count)]
        assert list(starts(size, patch, 0.5)) == expected


def test_gaussian_follows_its_formula():
    weights = gaussian(9, 1 / 8)
    assert weights[4] == 1 and np.array_equal(weights, weights[::-1])
    assert weights[6] == pytest.approx(np.exp(-0.5 * (2 / (9 / 8)) ** 2), rel=1e-12)
    assert gaussian(200, 1e-3).min() > 0


@pytest.mark.parametrize(("size", "patch"), [(50, 16), (37, 12), (9, 16), (16, 16), (31, 1), (17, 16)])
def test_shares_add_up_to_one_inside_and_vanish_outside(size, patch):
    for overlap, sigma in product(OVERLAPS, (1 / 8, 1 / 2, 1 / 50)):
        first = starts(size, patch, overlap)
        share = shares(size, patch, first, sigma=sigma)
        total = np.zeros(size)
        for start, row in zip(first, share, strict=True):
            for offset, value in enumerate(row):
                if 0 <= start + offset < size:
                    total[start + offset] += value
                else:
                    assert value == 0
        np.testing.assert_allclose(total, 1, atol=1e-6)
        assert share.min() >= 0


def test_shares_are_normalised_gaussians():
    first = starts(20, 8, 0.5)
    raw = np.zeros((len(first), 20))
    for i, start in enumerate(first):
        raw[i, start : start + 8] = gaussian(8, 1 / 8)
    share = shares(20, 8, first, sigma=1 / 8)
    for i, start in enumerate(first):
        np.testing.assert_allclose(share[i], (raw[i] / raw.sum(0))[start : start + 8], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "patch", "batch"),
    [((30, 21, 14), (8, 8, 8), 1), ((30, 21), (8, 16), 4), ((12, 20, 20), (1, 20, 20), 5), ((5, 6, 7), (8, 8, 8), 3)],
)
def test_every_tile_comes_once_and_rows_are_final_when_said(shape, patch, batch):
    cut = Cut(shape, Tiling(patch, batch=batch))
    seen, open_rows = [], 0
    for piece in pieces(ArraySource(np.zeros((2, *shape), np.float32)), cut):
        assert (piece.images is None) == (not piece.tiles) and len(piece.tiles) <= batch
        for index in piece.tiles:
            assert cut.rows(cut.axis, index[cut.axis])[0] >= open_rows  # nothing is added to what was final
            assert cut.rows(cut.axis, index[cut.axis])[1] - max(open_rows - 1, 0) <= cut.thickness
        seen += piece.tiles
        open_rows = max(open_rows, piece.final)
    assert sorted(seen) == list(product(*[range(len(first)) for first in cut.starts])) and len(seen) == cut.count
    assert open_rows == shape[cut.axis]


def test_the_streaming_axis_keeps_the_smallest_buffer():
    tiling = Tiling((4, 8, 8))
    assert Cut((20, 20, 20), tiling).axis == 0 and Cut((20, 20, 20), Tiling((8, 8, 4))).axis == 2
    assert Cut((20, 20, 90), Tiling((8, 8, 8))).axis == 2
    # classes x (patch + 1 row for interpolation) x plane, two bytes each.
    assert buffer_bytes((512, 512, 400), 25, Tiling((96, 96, 96))) == 25 * 97 * 512 * 400 * 2
    assert buffer_bytes((20, 20, 20), 3, Tiling((32, 32, 32), precision="float32")) == 3 * 20**3 * 4


def test_slices_are_batched_across_planes():
    cut = Cut((30, 16, 16), Tiling((1, 16, 16), batch=8))
    assert cut.axis == 0 and cut.layers() == ((0, 8), (8, 16), (16, 24), (24, 30)) and cut.thickness == 9
    sizes = [len(piece.tiles) for piece in pieces(ArraySource(np.ones((1, 30, 16, 16))), cut) if piece.tiles]
    assert sizes == [8, 8, 8, 6]


def test_a_tile_beyond_the_border_is_filled():
    volume = np.arange(1.0, 13).reshape(1, 3, 4)
    cut = Cut((3, 4), Tiling((6, 4), fill=-1))
    tile = read(ArraySource(volume, normalise=lambda box: box * 2), cut, (0, 0))
    assert tile.dtype == np.float32 and tile.shape == (1, 6, 4)
    np.testing.assert_array_equal(tile[0, 1:4], volume[0] * 2)
    assert (tile[0, [0, 4, 5]] == -1).all()


@pytest.mark.parametrize("kind", ["predicate", "mask"])
def test_air_is_skipped_but_never_the_first_tile(kind):
    volume = np.zeros((1, 32, 8), np.float32)
    volume[0, 20:] = 1
    skip = AirBelow(0.5) if kind == "predicate" else volume[0] > 0.5
    cut = Cut((32, 8), Tiling((8, 8), overlap=0, skip=skip))
    work = list(pieces(ArraySource(volume), cut))
    assert [index for piece in work for index in piece.tiles] == [(0, 0), (2, 0), (3, 0)]
    assert [index for piece in work for index in piece.air] == [(1, 0)]
    assert constant(volume[:, :8]) and not constant(volume) and AirBelow(0.5)(volume[:, :8]) and not AirBelow(0.5)(volume)


def test_reading_ahead_keeps_order_and_errors():
    assert list(ahead(iter(range(5)))) == list(range(5)) and list(ahead(iter(()))) == []

    def broken():
        yield 1
        raise ValueError("bad sector")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="bad sector"):
        next(items)


def test_separate_z_rule():
    assert nearest_axes((5.0, 1.0, 1.0)) == (0,) and nearest_axes((1.0, 1.0, 3.0)) == () and nearest_axes((0.5, 0.5)) == ()


def test_array_is_a_source():
    assert isinstance(ArraySource(np.zeros((1, 2, 3))), VolumeSource) and ArraySource(np.zeros((1, 2, 3))).shape == (2, 3)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"patch": ()}, "sides"),
        ({"patch": (0, 3)}, "sides"),
        ({"patch": (4, 4), "overlap": 1.0}, "overlap"),
        ({"patch": (4, 4), "batch": 0}, "batch"),
        ({"patch": (4, 4), "precision": "int8"}, "float16"),
        ({"patch": (4, 4), "mirror": ((2,),)}, "axes"),
        ({"patch": (4, 4), "nearest": (3,)}, "axes"),
        ({"patch": (4, 4), "thresholds": (1.5,)}, "probabilities"),
    ],
)
def test_nonsense_is_refused(words, match):
    with pytest.raises(UsageError, match=match):
        Tiling(**words)


def test_sides_must_agree():
    with pytest.raises(UsageError, match="same number of sides"):
        Cut((4, 4, 4), Tiling((2, 2)))
    with pytest.raises(UsageError, match="mask of shape"):
        Cut((4, 4), Tiling((2, 2), skip=np.ones((4, 5), bool)))
