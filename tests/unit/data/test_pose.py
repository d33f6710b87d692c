"""Which way scans lie, on pictures of which that is known."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate as adaptive

from vesalius.data.pose import SIDES, block_means, poses, thumbnail


def upright(seed, *, shape=(40, 48)):
    """Bright above, dark below, the same left and right but for noise."""
    draw = np.random.default_rng(seed)
    ramp = np.linspace(1, -1, shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    return (ramp + draw.normal(0, 0.3, shape))[None].astype(np.float32)


def test_the_axis_along_which_cases_differ_from_their_mirror_is_found():
    found = poses([thumbnail(upright(seed)) for seed in range(8)])
    assert found["cases"] == 8 and found["same"] > 0.9
    assert found["mirrored"][0] < -0.9 and found["mirrored"][1] == pytest.approx(found["same"], abs=0.02)


def test_cases_without_a_pose_do_not_resemble_each_other():
    noise = [thumbnail(np.random.default_rng(k).normal(size=(1, 20, 20, 20))) for k in range(12)]
    assert abs(poses(noise)["same"]) < 0.05 and len(poses(noise)["mirrored"]) == 3


def test_the_correlation_is_that_of_numpy():
    some = [thumbnail(upright(seed, shape=(33, 35))) for seed in range(3)]
    table = np.corrcoef(np.stack(some).reshape(3, -1))
    assert poses(some)["same"] == pytest.approx(table[~np.eye(3, dtype=bool)].mean(), abs=1e-5)
    flipped = [np.corrcoef(a.ravel(), np.flip(b, 0).ravel())[0, 1] for i, a in enumerate(some) for j, b in enumerate(some) if i != j]
    assert poses(some)["mirrored"][0] == pytest.approx(np.mean(flipped), abs=1e-5)


def test_scale_offset_and_holes_do_not_matter():
    image = upright(1)
    holed = 1000 * image + 5
    holed[0, 0, 0] = np.nan
    assert thumbnail(image).shape == (SIDES[2],) * 2
    assert np.corrcoef(thumbnail(image).ravel(), thumbnail(np.nan_to_num(holed, nan=1000.0)).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("number", [0, 1])
def test_one_case_says_nothing(number):
    assert poses([thumbnail(upright(0))] * number) == {"cases": number, "same": 0.0, "mirrored": []}


def test_many_cases_are_sampled():
    assert poses([thumbnail(upright(seed)) for seed in range(150)])["cases"] == 50


@pytest.mark.parametrize("kind", ["int16", "float32"])
@pytest.mark.parametrize("shape", [(1, 5, 50, 33), (2, 16, 1, 40), (1, 40, 31), (3, 7, 70)])
def test_means_of_blocks_are_those_of_torch(shape, kind):
    image = (1000 * np.random.default_rng(0).normal(size=shape)).astype(kind)
    for turned in (image, np.flip(image.transpose(0, *range(len(shape) - 1, 0, -1)), 1)):
        expected = adaptive(torch.from_numpy(np.array(turned, np.float64))[None], (16,) * (len(shape) - 1), mode="area")[0].numpy()
        np.testing.assert_allclose(block_means(turned, 16), expected, rtol=1e-9, atol=1e-6)


def test_a_hole_counts_as_0_in_its_block():
    image = np.ones((1, 32, 32), np.float32)
    image[0, 3, 5] = np.nan
    expected = np.ones((1, 16, 16))
    expected[0, 1, 2] = 0.75
    assert np.array_equal(block_means(image, 16), expected)
