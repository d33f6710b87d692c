"""Log odds of voxels by numpy and the kernels: the same as by scipy and in plain products, whole or refused."""

import numpy as np
import pytest
from scipy import ndimage

from vesalius.core.errors import DataError
from vesalius.data import voxel_odds
from vesalius.data.voxel_odds import LEARNED, VoxelOdds, local_features, reduction
from vesalius.io import separable
from vesalius.tasks.segment.baseline import Baseline, products


def smoothed(channel, sigma):
    return ndimage.gaussian_filter(channel, sigma, mode="nearest", truncate=3)


def steepness(smooth):
    return np.sqrt(sum(np.gradient(smooth, axis=a) ** 2 for a in range(smooth.ndim) if smooth.shape[a] > 1) + np.zeros_like(smooth))


def features(image):
    """By scipy, channel by channel."""
    shape = image.shape[1:]
    share, rows = np.minimum(1, 4 * np.array(shape) / max(shape)), []
    for channel in image:
        smooth = {s: smoothed(channel, s * share) for s in (1, 2, 4, 8)}
        fine, wide = (np.sqrt(np.maximum(smoothed(channel**2, s * share) - smooth[s] ** 2, 0)) for s in (2, 8))
        outstanding = (smooth[1] - smooth[8]) / (wide + 0.05 * channel.std() + 1e-6)
        rows += [channel, *smooth.values(), steepness(smooth[1]), steepness(smooth[2]), fine, outstanding]
    rows += np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    return np.stack([row.ravel() for row in rows])


def place(learned, shape):
    """Log odds of the atlas: cells of an axis are points in its middle, between which there are straight lines."""
    chance = learned.atlas.reshape(len(learned.atlas), -1).mean(1).reshape(-1, *[1] * len(shape))
    p = np.clip((learned.atlas * learned.cases + chance) / (learned.cases + 1), 1e-4, 1 - 1e-4)
    where = np.meshgrid(*((np.arange(n) + 0.5) * 16 / n - 0.5 for n in shape), indexing="ij")
    fine = np.stack([ndimage.map_coordinates(one, where, order=1, mode="nearest") for one in p])
    return np.log(fine / (1 - fine)).reshape(len(p), -1)


def odds(learned, image):
    """In double precision, with all products of features."""
    step = reduction(image.shape[1:])
    sides = [(-(-n // s), s) for n, s in zip(image.shape[1:], step, strict=True)]
    more = [(0, n * s - old) for (n, s), old in zip(sides, image.shape[1:], strict=True)]
    blocks = np.pad(image, [(0, 0), *more], mode="edge").reshape(len(image), *(side for pair in sides for side in pair))
    small = blocks.mean(tuple(range(2, blocks.ndim, 2))).astype(np.float32)
    raw = np.concatenate([features(small), place(learned, small.shape[1:])]).T
    logits = products(np.clip((raw - learned.centre) / learned.spread, -4, 4)) @ learned.coefficients.astype(float)
    said = (logits[:, 1:] - logits[:, :1] if learned.exclusive else logits).T.reshape(-1, *small.shape[1:])
    for axis, s in enumerate(step, start=1):
        said = said.repeat(s, axis)
    return said[(slice(None), *map(slice, image.shape[1:]))]


def noise(*shape, seed=0):
    """Smooth, of about 1; some of it flat."""
    rough = np.random.default_rng(seed).standard_normal(shape)
    image = (2 * ndimage.gaussian_filter(rough, [0, *(1,) * (len(shape) - 1)])).astype(np.float32)
    image[..., : shape[-1] // 4] = 0.3
    return image


def learned_of(*, channels=1, ndim=3, classes=2, exclusive=True, seed=0):
    """Any numbers of which the logits are about 1."""
    random = np.random.default_rng(seed)
    count = 9 * channels + ndim + classes
    makes = random.normal(0, 1 / np.sqrt(count), (1 + count + count * (count + 1) // 2, classes + exclusive))
    made = {"atlas": random.random((classes, *(16,) * ndim)) ** 4, "centre": random.normal(0, 0.1, count),
            "spread": random.uniform(0.5, 1, count), "coefficients": makes}  # fmt: skip
    return VoxelOdds(exclusive, 7, **{name: one.astype(np.float32) for name, one in made.items()})


SHAPES = [(1, 20, 24, 28), (2, 17, 31), (1, 5, 40, 36), (3, 1, 20, 22)]


@pytest.fixture(params=["kernel", "numpy"])
def ways(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(separable, "kernel", lambda name, kinds: None)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("shape", SHAPES)
def test_features_are_those_of_scipy(shape):
    image = noise(*shape)
    np.testing.assert_allclose(local_features(image), features(image), rtol=0, atol=2e-5)


def test_where_nothing_is_there_is_next_to_no_texture():
    """The difference of two equal numbers that were rounded on different ways, under a root: it may be 7e-4, and 1 where something is."""
    image = noise(1, 20, 24, 90)
    image[..., :60] = -1.7
    texture = local_features(image)[5:9].reshape(4, *image.shape[1:])
    assert np.abs(texture[..., :30]).max() < 2e-3 and texture[..., 70:].max() > 1


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("largest", [2**21, 900])
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_odds_are_those_of_scipy_in_double_precision(shape, exclusive, largest, monkeypatch):
    monkeypatch.setattr(voxel_odds, "LARGEST", largest)
    monkeypatch.setattr(voxel_odds, "CHUNK", 1000)
    image, learned = noise(*shape), learned_of(channels=shape[0], ndim=len(shape) - 1, classes=3, exclusive=exclusive)
    found, wanted = learned.odds(image), odds(learned, image)
    assert found.shape == (3, *shape[1:]) and found.dtype == np.float32 and wanted.std() > 0.5
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4)


def test_a_baseline_answers_by_it_and_both_read_what_the_other_wrote():
    image = noise(1, 20, 18)
    made = Baseline().fit([(image, (image > 0.5).astype(np.uint8)), (-image, (image < -0.5).astype(np.uint8))])
    alone = VoxelOdds.from_json(made.to_json())
    np.testing.assert_array_equal(alone.odds(image), made.odds(image))
    again = Baseline.from_json({"version": 1, "seed": 3, **alone.to_json()})
    np.testing.assert_array_equal(again.predict(image), made.predict(image))
    assert alone.suits(channels=1, ndim=2) and alone.classes == 1


def test_what_was_learned_suits_its_own_images_alone():
    learned = learned_of(channels=2, ndim=2, classes=3)
    assert learned.suits(channels=2, ndim=2)
    assert not learned.suits(channels=1, ndim=2) and not learned.suits(channels=2, ndim=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("centre", [0.0]), ("centre", float("nan")), ("atlas", None), ("spread", "many"), ("coefficients", [[1.0], [1.0, 2.0]]),
     ("cases", "seven"), ("atlas", 5.0), ("atlas", []), ("spread", 0.0), ("coefficients", float("inf"))],
)  # fmt: skip
def test_what_is_not_whole_is_refused(name, value):
    tree = learned_of().to_json()
    if isinstance(value, float) and name != "atlas":
        broken = np.array(tree[name])
        broken.flat[1] = value
        value = broken.tolist()
    try:
        made = VoxelOdds.from_json({**tree, name: value})
    except DataError:
        return
    assert not made.suits(channels=1, ndim=3)


@pytest.mark.parametrize("name", [*LEARNED, "cases", "exclusive"])
def test_what_is_missing_is_named(name):
    tree = learned_of().to_json()
    del tree[name]
    with pytest.raises(DataError, match=name):
        VoxelOdds.from_json(tree)
