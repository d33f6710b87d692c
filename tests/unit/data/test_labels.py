"""Labels: what mask values mean, there and back."""

import numpy as np
import pytest

from vesalius.core.errors import DataError
from vesalius.data import labels as room
from vesalius.data.labels import IGNORE, Labels

EXCLUSIVE = Labels(names=("liver", "tumour"), values=((1,), (2, 3)), ignore=9)
REGIONS = Labels(names=("whole", "core"), values=((1, 2, 4), (1, 4)), kind="regions", ignore=9)
BITS = Labels(names=("right", "left"), values=((1,), (4,)), kind="bits")


def test_classes_that_exclude_each_other():
    raw = np.array([[[0, 1, 2], [3, 9, 0]]])
    assert EXCLUSIVE.encode(raw).tolist() == [[[0, 1, 2], [2, IGNORE, 0]]]
    assert EXCLUSIVE.out_channels == 3


def test_regions_overlap():
    raw = np.array([[0, 1, 2, 4, 9]])
    assert REGIONS.encode(raw).tolist() == [[0, 1, 1, 1, IGNORE], [0, 1, 0, 1, IGNORE]]
    assert REGIONS.out_channels == 2


def test_bits():
    assert BITS.encode(np.array([[0, 1, 4, 5]])).tolist() == [[0, 1, 0, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize(("labels", "raw"), [(EXCLUSIVE, [0, 1, 2, 0]), (BITS, [0, 1, 4, 5])])
def test_there_and_back(labels, raw):
    assert labels.decode(labels.encode(np.array([raw]))).tolist() == raw


@pytest.mark.parametrize(("labels", "raw"), [(EXCLUSIVE, 7), (REGIONS, 3), (BITS, 2), (EXCLUSIVE, -1)])
def test_a_value_without_a_meaning_is_refused_by_name(labels, raw):
    with pytest.raises(DataError, match=rf"\[{raw}\]"):
        labels.encode(np.array([[0, raw]]))


def test_the_ignored_are_in_no_mask():
    masks = EXCLUSIVE.masks(EXCLUSIVE.encode(np.array([[1, 9, 3]])))
    assert masks.tolist() == [[True, False, False], [False, False, True]]


def test_grey_stored_as_colour_is_read_and_colour_without_a_code_refused():
    grey = np.repeat(np.array([[[0, 1]]], np.uint8), 3, 0)
    assert EXCLUSIVE.encode(grey).tolist() == [[[0, 1]]]
    grey[0, 0, 0] = 50
    with pytest.raises(DataError, match="in colour"):
        EXCLUSIVE.encode(grey)


def test_floats_of_whole_numbers_are_whole_numbers():
    assert EXCLUSIVE.encode(np.array([[0.0, 1.0, 2.9999998]], np.float32)).tolist() == [[0, 1, 2]]


def test_alpha_of_a_grey_mask_is_no_value():
    raw = np.array([[[1, 0]], [[255, 255]]], np.uint8)
    assert EXCLUSIVE.encode(raw).tolist() == [[[1, 0]]]


@pytest.mark.parametrize("kind", ["exclusive", "bits"])
@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 3)])
def test_counts_are_those_of_the_masks(kind, shape):
    labels = Labels(names=("a", "b", "c"), values=((1,), (2,), (4,)), kind=kind)
    draw = np.random.default_rng(0)
    coded = draw.choice([0, 1, 2, 255], (1, *shape)) if kind == "exclusive" else draw.choice([0, 1, 255], (3, *shape))
    coded = coded.astype(np.uint8)
    assert labels.counts(coded) == [int(mask.sum()) for mask in labels.masks(coded)]


@pytest.mark.parametrize("labels", [EXCLUSIVE, REGIONS])
def test_a_mask_in_parts_is_encoded_as_in_one(labels, monkeypatch):
    """Whatever the order of its axes in memory; what has no meaning is gathered from all parts."""
    known = sorted({0, labels.ignore, *(v for parts in labels.values for v in parts)})
    raw = np.random.default_rng(0).choice(known, (1, 5, 7, 9))
    whole = labels.encode(raw)
    monkeypatch.setattr(room, "SLAB", 20)
    assert np.array_equal(labels.encode(raw), whole)
    assert np.array_equal(labels.encode(np.asfortranarray(raw)), whole)
    raw[0, 0, 0, 0], raw[0, -1, -1, -1] = 77, 66
    with pytest.raises(DataError, match=r"\[66, 77\]"):
        labels.encode(raw)


@pytest.mark.parametrize("labels", [EXCLUSIVE, REGIONS, BITS])
@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int64", "uint64", "float32"])
@pytest.mark.parametrize("looked_up", [1, 1 << 16])
def test_values_that_are_looked_up_are_those_that_are_encoded(labels, kind, looked_up, monkeypatch):
    """Whatever the kind of number and the order in memory, and whether a table of all values is made."""
    monkeypatch.setattr(room, "LOOKED_UP", looked_up)
    known = [0, *(value for parts in labels.values for value in parts), *([9] if labels.ignore else [])]
    raw = np.random.default_rng(0).choice(known, (1, 7, 6, 5))
    expected = labels._encoded(raw[0])[0]
    for turn in ((0, 1, 2, 3), (0, 3, 2, 1)):
        found = labels.encode(np.ascontiguousarray(raw.astype(kind).transpose(turn)).transpose(turn))
        assert np.array_equal(found, expected) and found.flags.c_contiguous


@pytest.mark.parametrize("far", [-5, 3000, 70_000, 2**40])
def test_a_strange_value_is_named_however_far_it_is(far):
    raw = np.zeros((1, 300, 300), np.int64)
    raw[0, 250, 7], raw[0, 1, 1] = far, 1
    with pytest.raises(DataError, match=rf"\[{far}\]"):
        EXCLUSIVE.encode(raw)


@pytest.mark.parametrize("values", [(1, 2), (1, 255), (256, 3), (70_000, 5), (614_454_277, 1), (-1, 300), (-40_000, 7)])
def test_values_of_any_size_come_back(values):
    labels = Labels(names=("a", "b"), values=tuple((value,) for value in values))
    raw = np.array([[0, *values, 0, values[1]]])
    said = labels.decode(labels.encode(raw))
    assert said.tolist() == raw[0].tolist() and (said.dtype == np.uint8) == (0 <= min(values) and max(values) < 256)
