"""From a file to what a network sees and back to a file where neither scipy nor torch is installed; what comes out is what scipy makes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from tests.unit.io.dicom_maker import slices, write_series
from vesalius import io
from vesalius.core.kernels import in_use

LOW, HIGH, MEAN, STD = -50.0, 250.0, 30.0, 80.0
SPACING = (2.1, 0.7, 2.9)  # of x, y and z, which had 0.8, 1.1 and 2.4: one is blurred, one grows, one shrinks a little
AXES = [2, 0, 1]  # the file has z, x and y
AFFINE = np.array([[0, -0.8, 0, 20], [0, 0, 1.1, -30], [2.4, 0, 0, 7], [0, 0, 0, 1.0]])
CODE = f"""
import sys
sys.modules["scipy"] = sys.modules["torch"] = None
from pathlib import Path
import numpy as np
from vesalius import io
from vesalius.core.connected import boxes, numbered
from vesalius.core.space import Space
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation, prepare
from vesalius.io.image import Image
from vesalius.io.resample import resample

folder = Path(sys.argv[1])
phantom = np.load(folder / "phantom.npy")
io.save(Image(phantom, Space(phantom.shape[1:], np.array({AFFINE.tolist()}))), folder / "scan.nii.gz")
scan = io.load(folder / "scan.nii.gz")
for order in (0, 1, 3):
    rule = Normalise(kind="window", low={LOW}, high={HIGH}, mean={MEAN}, std={STD})
    made = prepare(scan, Preparation(channels={{"a": 1}}, normalise=(rule,), spacing={SPACING}, order=order))
    io.save(Image(made.image, made.space), folder / f"made_{{order}}.nii.gz")
    said = Image((made.image > 0).astype(np.uint8), made.space)
    answer = made.restore(resample(said, made.native, order=0).array)
    numbers, count = numbered(answer[0] == 1)
    assert len(boxes(numbers, count)) == count
    io.save(Image(answer, made.full), folder / f"answer_{{order}}.nii.gz")
    turned = Space((9, 9, 9), np.array([[1, 0.3, 0, 5], [-0.3, 1, 0, -20], [0, 0.1, 2, 10], [0, 0, 0, 1]]))
    resample(scan, turned, order=order)
io.save(io.load(folder / "series"), folder / "upright.nii.gz")
"""


@pytest.fixture(scope="module")
def phantom():
    """A smooth body with a bright box."""
    array = gaussian_filter(np.random.default_rng(0).normal(0, 300, (14, 34, 26)), 2)
    array[4:10, 8:26, 6:18] += 150
    return np.rint(array).astype(np.int16)


def seen_from(space, shape, affine):
    """The place in an array of `shape`, whose voxels `affine` puts in the world, of each voxel of `space`: (3, *S)."""
    index = np.stack([*np.indices(space.shape), np.ones(space.shape)])
    index = np.tensordot(np.linalg.inv(affine) @ space.affine, index, 1)[:3]
    return np.stack([places.clip(0, side - 1) for places, side in zip(index, shape, strict=True)])


def sure(index):
    """Where no place lies half way between two voxels."""
    return (np.abs(index % 1 - 0.5) > 1e-3).all(0)


def prepared(phantom, space, index, order):
    """By scipy: as the network should see it."""
    shrunk = np.array([34, 26, 14]) / space.shape
    sigma = [(factor - 1) / 2 if factor > 1.4 else 0 for factor in shrunk[AXES]]
    assert sum(map(bool, sigma)) == 1 and shrunk.min() < 1
    smooth = gaussian_filter((phantom.clip(LOW, HIGH) - MEAN) / STD, sigma, mode="nearest", truncate=3.0)
    return map_coordinates(smooth, index, order=order, mode="mirror")


def tilted():
    """A bar along the table in five slices that drift by two columns each."""
    made, _, _ = slices(5, shape=(4, 20), step=(1.5, 0, 2.5))
    for k, data in enumerate(made):
        array = np.zeros((4, 20), np.uint16)
        array[:, 12 - 2 * k] = 1000
        data.PixelData = array.tobytes()
    return made


@pytest.mark.parametrize("kernels", [*({in_use()} - {"none"}), "off"])
def test_a_scan_is_read_prepared_and_answered(kernels, phantom, tmp_path):
    np.save(tmp_path / "phantom.npy", phantom[None])
    write_series(tmp_path / "series", tilted())
    env = {**os.environ, "VESALIUS_KERNELS": kernels}
    told = subprocess.run([sys.executable, "-c", CODE, tmp_path], env=env, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    for order in (0, 1, 3):
        made, answer = (io.load(tmp_path / f"{name}_{order}.nii.gz") for name in ("made", "answer"))
        index = seen_from(made.space, phantom.shape, AFFINE)
        at = sure(index) | (order > 0)
        np.testing.assert_allclose(made.array[0][at], prepared(phantom, made.space, index, order)[at], atol=3e-5)
        index = seen_from(answer.space, made.space.shape, made.space.affine)
        at, nearest = sure(index), made.array[0][tuple(np.rint(index).astype(int))]
        assert np.allclose(answer.space.affine, AFFINE) and answer.array.shape == (1, *phantom.shape)
        assert np.array_equal(answer.array[0][at], nearest[at] > 0) and 0.1 < answer.array.mean() < 0.9 and at.mean() > 0.5
    assert (io.load(tmp_path / "upright.nii.gz").array[0].argmax(axis=0) == 12).all()
