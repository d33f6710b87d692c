"""Probabilities in their file: on the scan's own grid, whole or not there at all."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.space import Space
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation, prepare
from vesalius.engine import probabilities
from vesalius.engine.probabilities import Probabilities, filled, halved, on_scan
from vesalius.io.image import Image

SHAPE, INSIDE = (9, 11, 7), (slice(2, 8), slice(1, 11), slice(0, 4))


def prepared(crop=True):
    """A scan in a frame of zeros whose axes are exchanged and mirrored."""
    space = Space(SHAPE, np.array([[0, -1.5, 0, 4], [0, 0, 2.0, 1], [-1, 0, 0, 3], [0, 0, 0, 1.0]]))
    pixels = np.zeros((1, *SHAPE), np.float32)
    pixels[(0, *INSIDE)] = np.random.default_rng(0).uniform(1, 2, [part.stop - part.start for part in INSIDE])
    return prepare(Image(pixels, space), Preparation(channels={"image": 1}, normalise=(Normalise(),), crop=crop))


def numbers(shape, classes=3):
    """Shares of exclusive classes, each voxel of other ones."""
    raw = np.random.default_rng(1).dirichlet(np.ones(classes), shape)
    return np.moveaxis(raw, -1, 0).astype(np.float16)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("crop", [True, False])
def test_they_come_to_the_grid_of_the_scan(tmp_path, crop, exclusive):
    """By hand: axes of the scan are z from above, x from the left, y; the answer is x, y, z."""
    made, path = prepared(crop), tmp_path / "new" / "a_probabilities.npy"
    given = numbers(made.native.shape)
    with on_scan(path, made, exclusive=exclusive) as native:
        native.parent.mkdir()
        np.save(native, given)
        assert not path.exists()
    kept = np.load(path)
    turned = given.transpose(0, 3, 1, 2)[:, ::-1, ::-1]
    expected = np.zeros((3, *SHAPE), np.float16)
    expected[0] = exclusive
    expected[(slice(None), *(INSIDE if crop else (slice(None),) * 3))] = turned
    np.testing.assert_array_equal(kept, expected)
    assert kept.dtype == np.float16 and [file.name for file in path.parent.iterdir()] == [path.name]


def test_nothing_is_written_where_none_are_wanted():
    with on_scan(None, prepared(), exclusive=True) as native:
        assert native is None
    assert filled(None, lambda beside: (beside, 3)) == (None, 3)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    made, path = prepared(), tmp_path / "a_probabilities.npy"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="in the middle"), on_scan(path, made, exclusive=True) as native:
        np.save(native, numbers(made.native.shape))
        raise ValueError("in the middle")
    assert path.read_bytes() == b"old" and [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="reserves room where the system can")
def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    made, path = prepared(), tmp_path / "a_probabilities.npy"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "posix_fallocate", full)
    says = r"Cannot write .*/a_probabilities\.npy: No space left"
    with pytest.raises(VesaliusError, match=says), on_scan(path, made, exclusive=True) as to:
        np.save(to, numbers(made.native.shape))
    assert path.read_bytes() == b"old" and [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["p.nii", "p", "p.npz"])
def test_another_kind_of_file_is_refused_before_the_work(tmp_path, name):
    says = rf"written as \.npy; got {tmp_path / name}\."
    with pytest.raises(UsageError, match=says), on_scan(tmp_path / name, prepared(), exclusive=True):
        pytest.fail("worked")
    with pytest.raises(UsageError, match=r"written as \.npy"):
        filled(tmp_path / name, lambda _: pytest.fail("worked"))


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tests.unit.engine.test_probabilities import numbers, prepared
from vesalius.engine.probabilities import on_scan

made, where = prepared(), sys.argv[2]
if where == "last":
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
with on_scan(Path(sys.argv[1]), made, exclusive=True) as native:
    np.save(native, numbers(made.native.shape))
    if where == "first":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_process_that_is_killed_leaves_none_at_their_name(tmp_path, where):
    """What it leaves bears a hidden name, of the kind that is swept up elsewhere."""
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a_probabilities.npy", where], env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert all(file.name.startswith(".") and file.name[1].isdigit() for file in tmp_path.iterdir()) and list(tmp_path.iterdir())


@pytest.mark.parametrize(("axis", "rows"), [(0, 2), (1, 1), (2, 1)])
def test_rows_may_come_in_any_order(tmp_path, axis, rows, monkeypatch):
    """Of 3 classes two rows of 4 x 5 fit, one of 8 x 5 and of 8 x 4."""
    monkeypatch.setattr(probabilities, "TOGETHER", 3 * 4 * 5 * 2)
    given = numbers((8, 4, 5))
    file = Probabilities(tmp_path / "a.npy", given.shape)
    assert file.rows(axis) == rows
    for k in reversed(range(given.shape[1 + axis])):
        place = (*(slice(None),) * (1 + axis), slice(k, k + 1))
        file.write(given[place].astype(np.float32), place)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), given)


def test_half_precision_is_that_of_numpy():
    """Of every float16 from 0 to 1, what lies halfway to the next and the nearest on both sides of that, and of what is smaller still."""
    every = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (every[1:] + every[:-1]) / 2  # exact
    tiny = np.float32([1e-9, 1e-20, 1e-38, 1e-45])
    values = np.concatenate([every, between, np.nextafter(between, np.float32(0)), np.nextafter(between, np.float32(1)), tiny])
    found = halved(values[None])
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found[0].view(np.uint16), values.astype(np.float16).view(np.uint16))
