"""Prepared cases on disk: what they were made from and how is their key, and nothing is ever half written."""

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vesalius.core.errors import DataError
from vesalius.data import cache as room
from vesalius.data.cache import Cache, foreground_places, forget, mapped, some_of
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation

LABELS = Labels(names=("ball",), values=((1,),))
HOW = Preparation(channels={"image": 1}, normalise=(Normalise(),))


def write(folder, name="a", *, value=1):
    """A case of 6 x 6 x 6 voxels whose mask is a block of `value`."""
    pixels = np.random.default_rng(len(name)).normal(100, 20, (6, 6, 6)).astype(np.float32)
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[1:3, 1:4, 2:5] = value
    for kind, array in (("image", pixels), ("mask", mask)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}_{kind}.nii.gz")
    return Case(name, name, {"image": folder / f"{name}_image.nii.gz"}, {"": folder / f"{name}_mask.nii.gz"})


def test_what_is_stored_is_what_was_prepared(tmp_path):
    case = write(tmp_path)
    (found,) = Cache(tmp_path / "kept", HOW, LABELS).store([case])
    pixels = nib.load(case.images["image"]).get_fdata()
    np.testing.assert_allclose(found.image[0], (pixels - pixels.mean()) / pixels.std(), atol=2e-3)
    assert found.name == "a" and found.image.dtype == np.float16 and found.target.dtype == np.uint8
    assert np.array_equal(found.target[0], nib.load(case.mask).get_fdata())
    assert not found.image.flags.writeable


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_cases_are_mapped_and_keep_no_file_open(tmp_path):
    """A process may often open no more than 1,024 files, and a cohort has more cases."""
    before = len(os.listdir("/proc/self/fd"))
    kept = Cache(tmp_path / "kept", HOW, LABELS).store([write(tmp_path, name) for name in "abcdef"])
    assert len(os.listdir("/proc/self/fd")) <= before
    assert Path("/proc/self/maps").read_text().count(f"{tmp_path / 'kept'}/") >= 3 * len(kept)


ARRAYS = {
    "plain": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "empty": np.zeros((0, 4), np.int32),
    "fortran": np.asfortranarray(np.random.default_rng(0).normal(size=(3, 5))),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_a_mapped_array_is_what_numpy_reads(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    found, expected = mapped(tmp_path / "a.npy"), np.load(tmp_path / "a.npy")
    assert found.dtype == expected.dtype and found.shape == expected.shape and np.array_equal(found, expected)


def test_the_places_are_the_voxels_of_each_class(tmp_path):
    (found,) = Cache(tmp_path / "kept", HOW, LABELS).store([write(tmp_path)])
    assert np.array_equal(np.unique(found.places, axis=0)[:, 1:], np.argwhere(found.target[0] == 1))
    assert (found.places[:, 0] == 0).all()


def test_many_voxels_are_sampled_evenly():
    masks = np.zeros((2, 60, 60, 60), bool)
    masks[0], masks[1, 0, 0, :7] = True, True
    places = foreground_places(masks, np.random.default_rng(0))
    first, second = places[places[:, 0] == 0, 1:], places[places[:, 0] == 1, 1:]
    assert len(first) == 10_000 and len(np.unique(first, axis=0)) == 10_000 and len(second) == 7
    np.testing.assert_allclose(first.mean(0), 29.5, atol=1)


def test_a_second_look_reads_no_source(tmp_path, monkeypatch):
    case, told = write(tmp_path), []
    cache = Cache(tmp_path / "kept", HOW, LABELS)
    cache.store([case])
    monkeypatch.setattr(room, "read_stored", None)
    again = cache.store([case] * 3, progress=lambda done, total: told.append((done, total)))
    assert len(again) == 3 and told == [(1, 3), (2, 3), (3, 3)]


def touched(case, path):
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    return case


@pytest.mark.parametrize("change", ["scan", "mask", "size", "preparation", "labels", "name"])
def test_every_change_changes_the_key(tmp_path, change):
    case, how, labels = write(tmp_path), HOW, LABELS
    before = Cache(tmp_path, how, labels).key(case)
    assert before == Cache(tmp_path / "elsewhere", how, labels).key(case)
    if change == "scan":
        case = touched(case, case.images["image"])
    elif change == "mask":
        case = touched(case, case.mask)
    elif change == "size":
        stat = case.mask.stat()
        case.mask.write_bytes(case.mask.read_bytes() + b"\0")
        os.utime(case.mask, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "preparation":
        how = replace(how, spacing=(2.0, 2.0, 2.0))
    elif change == "labels":
        labels = Labels(names=("ball",), values=((1, 2),))
    else:
        case = Case("b", case.patient, case.images, case.masks)
    assert Cache(tmp_path, how, labels).key(case) != before


def test_a_changed_slice_of_a_series_changes_the_key(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    for k in range(3):
        (series / f"{k}.dcm").write_bytes(bytes(k + 1))
    case = Case("a", "a", {"image": series})
    before = Cache(tmp_path, HOW, LABELS).key(case)
    touched(case, series / "1.dcm")
    assert Cache(tmp_path, HOW, LABELS).key(case) != before


def test_a_changed_mask_is_learned_from_anew(tmp_path):
    cache = Cache(tmp_path / "kept", HOW, Labels(names=("a", "b"), values=((1,), (2,))))
    (first,) = cache.store([write(tmp_path, value=1)])
    (second,) = cache.store([write(tmp_path, value=2)])
    assert first.target.max() == 1 and second.target.max() == 2


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_write_that_is_broken_off_leaves_whole_files_only(tmp_path, monkeypatch, number):
    case, cache, real, calls = write(tmp_path), Cache(tmp_path / "kept", HOW, LABELS), np.save, []

    def broken(file, array, **more):
        calls.append(1)
        if len(calls) == number:
            file.write(b"half")
            raise KeyboardInterrupt
        real(file, array, **more)

    monkeypatch.setattr(room.np, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        cache.store([case])
    kept = list((tmp_path / "kept").iterdir())
    assert len(kept) == number - 1 and all(np.load(path).size for path in kept)
    monkeypatch.setattr(room.np, "save", real)
    (found,) = cache.store([case])
    assert np.array_equal(found.target[0], nib.load(case.mask).get_fdata())


def test_the_half_of_a_killed_process_is_never_read(tmp_path):
    case, cache = write(tmp_path), Cache(tmp_path / "kept", HOW, LABELS)
    (tmp_path / "kept").mkdir()
    for part in ("image", "target", "places"):
        (tmp_path / "kept" / f".999.{cache.key(case)}.{part}.npy").write_bytes(b"half")
    os.utime(tmp_path / "kept" / f".999.{cache.key(case)}.image.npy", (0, 0))
    (found,) = cache.store([case])
    assert found.image.shape == (1, 6, 6, 6)
    assert len(list((tmp_path / "kept").glob(".999.*"))) == 2, "what may still be written is left, what is old is removed"


def test_a_case_without_a_mask_is_all_background(tmp_path):
    case = write(tmp_path)
    (found,) = Cache(tmp_path / "kept", HOW, LABELS).store([Case("a", "a", case.images)])
    assert not found.target.any() and found.places.shape == (0, 4)


def test_what_is_not_used_is_forgotten(tmp_path):
    old, recent = tmp_path / "a.image.npy", tmp_path / "b.image.npy"
    for file in (old, recent):
        file.write_bytes(b"x")
    os.utime(old, (0, 0))
    forget(tmp_path, days=30)
    assert not old.exists() and recent.exists()


def test_more_cases_than_the_system_can_map_are_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "limit").write_text("2008\n")
    monkeypatch.setattr(room, "MAPS", tmp_path / "limit")
    room._room_for(2)
    with pytest.raises(DataError, match=r"3 prepared cases take 2009 memory maps.*max_map_count"):
        room._room_for(3)
    monkeypatch.setattr(room, "MAPS", tmp_path / "nowhere")
    room._room_for(10**9)


@pytest.mark.parametrize("shape", [(9, 8, 7), (1, 30, 4), (40, 1)])
def test_some_places_are_rows_of_all(shape):
    mask = np.random.default_rng(0).random(shape) < 0.4
    mask[0] = False if len(mask) > 1 else mask[0]
    ranks = np.random.default_rng(1).permutation(int(mask.sum()))[:11]
    assert np.array_equal(some_of(mask, ranks), np.argwhere(mask)[ranks])
