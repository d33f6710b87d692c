"""Whole cases on one grid: where pixels land, what a missing channel is, and which cases are drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from vesalius.core.errors import DataError
from vesalius.core.space import Space
from vesalius.data.batch import Kind
from vesalius.data.cache import Cache, Stored
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation
from vesalius.data.whole import along, block_means, fitted, read_whole
from vesalius.data.wholes import Wholes, order, strata
from vesalius.io import save
from vesalius.io.image import Image

TWO = Labels(names=("a", "b"), values=((0,), (1,)), kind="classes")
PLAIN = Normalise(kind="window", low=-1e9, high=1e9, mean=0, std=1)


def how(fit="pad", channels=("image",), spacing=()):
    return Preparation(channels=dict.fromkeys(channels, 1), normalise=(PLAIN,) * len(channels), spacing=spacing, fit=fit, order=1)


def test_an_image_of_the_size_of_the_grid_is_left_as_it_is():
    pixels = np.random.default_rng(0).normal(size=(2, 7, 9)).astype(np.float32)
    assert np.array_equal(fitted(pixels, (1, 1), how("stretch"), size=(7, 9)), pixels)


@pytest.mark.parametrize("lead", [0, 1, 2])
def test_the_axis_of_the_slices_comes_first(tmp_path, lead):
    """Slice k of a scan is picture k of the network, upright as before; millimetres go with their axes."""
    pixels = np.random.default_rng(4).normal(size=(1, 6, 8, 4)).astype(np.float32)
    save(Image(pixels, Space.of((6, 8, 4), (1, 2, 5))), tmp_path / "scan.nii.gz")
    sides, steps = ([axes[lead], *np.delete(axes, lead)] for axes in ((6, 8, 4), (1.0, 2.0, 5.0)))
    made = read_whole(Case("a", "p", {"image": tmp_path / "scan.nii.gz"}),
                      replace(how(spacing=tuple(map(float, steps))), lead=lead), tuple(map(int, sides)))  # fmt: skip
    assert made.shape == (1, *sides)
    assert all(np.allclose(made[:, k], np.take(pixels, k, 1 + lead), atol=1e-5) for k in range(sides[0]))


@pytest.mark.parametrize(("ratio", "side"), [(0.5, 20), (0.73, 14), (1.31, 8)])
def test_resampling_is_linear_about_the_same_centre(ratio, side):
    line = np.random.default_rng(1).normal(size=(1, 11)).astype(np.float32)
    made = along(line, 1, ratio=ratio, side=side)[0]
    place = (np.arange(side) + 0.5 - side / 2) * ratio + 5.5 - 0.5
    inside = (place > -0.5) & (place < 10.5)
    expected = np.interp(place.clip(0, 10), np.arange(11), line[0]) * inside
    assert np.allclose(made, expected, atol=1e-6)
    plain = affine_transform(line[0].astype(float), [ratio], [place[0]], output_shape=(side,), order=1, mode="nearest")
    assert np.allclose(made[inside], plain[inside], atol=1e-5)


def test_a_shrinking_image_is_meaned_and_none_of_it_is_skipped():
    pixels = np.random.default_rng(2).normal(size=(1, 12, 8)).astype(np.float32)
    made = fitted(pixels, (1, 1), how("stretch"), size=(3, 2))
    assert np.allclose(made, pixels.reshape(1, 3, 4, 2, 4).mean((2, 4)), atol=1e-6)
    assert np.allclose(block_means(np.arange(5, dtype=np.float32)[None], 1, 2), [[0.5, 2.5, 4]])


def test_proportions_are_kept_and_the_rest_is_zero():
    made = fitted(np.ones((1, 4, 8), np.float32), (1, 1), how(), size=(8, 8))
    assert np.array_equal(made[0], np.repeat(np.array([0, 0, 1, 1, 1, 1, 0, 0], np.float32), 8).reshape(8, 8))


def test_millimetres_are_kept_until_a_volume_would_not_fit():
    small = fitted(np.ones((1, 4, 4, 4), np.float32), (2, 2, 2), how(spacing=(1, 1, 1)), size=(16, 16, 16))
    assert small.sum() == 8**3  # 8 mm are 8 voxels
    large = fitted(np.ones((1, 32, 32, 32), np.float32), (1, 1, 1), how(spacing=(1, 1, 1)), size=(16, 16, 16))
    assert large.sum() == 16**3


def picture(path, value, *, shape=(6, 6)):
    save(Image(np.full((1, *shape), value, np.uint8), Space.of(shape, physical=False)), path)
    return path


def test_channels_keep_grids_of_their_own_and_a_missing_one_is_zero(tmp_path):
    case = Case("c", "c", {"front": picture(tmp_path / "f.png", 50), "side": picture(tmp_path / "s.png", 80, shape=(12, 12))})
    made = read_whole(case, how("stretch", ("front", "back", "side")), (6, 6))
    assert made.shape == (3, 6, 6) and [float(c.mean()) for c in made] == [50, 0, 80]
    with pytest.raises(DataError, match="has none of the channels"):
        read_whole(case, how("stretch", ("other",)), (6, 6))
    with pytest.raises(DataError, match="2 dimensions; 3 were expected"):
        read_whole(case, how("stretch", ("front",)), (6, 6, 6))


def test_the_cache_keeps_cases_together_and_sees_a_changed_file(tmp_path):
    cases = [Case(f"c{k}", f"c{k}", {"image": picture(tmp_path / f"{k}.png", 10 * k)}, classes={"ab"[k % 2]: 1}) for k in range(4)]
    cache = Cache(tmp_path / "cache", how("stretch"), TWO, size=(6, 6))
    found = cache.store(cases)
    assert [float(s.image.mean()) for s in found] == [0, 10, 20, 30] and [s.target.tolist() for s in found] == [[0], [1], [0], [1]]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    picture(tmp_path / "3.png", 99, shape=(7, 7))
    assert float(cache.store(cases)[3].image.mean()) == 99
    assert [float(s.image.mean()) for s in Cache(tmp_path / "cache", how("stretch"), TWO, size=(3, 3)).store(cases[:2])] == [0, 10]


def stored(classes):
    nowhere = np.zeros((0, 3), np.int32)
    return [Stored(f"c{k}", np.full((1, 4, 4), k, np.float16), np.array([c], np.uint8), nowhere) for k, c in enumerate(classes)]


def test_every_case_is_drawn_once_in_an_epoch_and_any_process_draws_the_same():
    source = Wholes(stored([0, 0, 1, 1, 1, 0]), 0.0, seed=3)
    batch, seeds = source.batch(0, 6)
    assert sorted(batch["image"][:, 0, 0, 0].tolist()) == [0, 1, 2, 3, 4, 5]
    assert batch.kinds == {"image": Kind.IMAGE, "target": Kind.LABEL} and batch["target"].shape == (6, 1)
    assert [int(v) for v in batch["target"][:, 0]] == [[0, 0, 1, 1, 1, 0][int(i)] for i in batch["image"][:, 0, 0, 0]]
    parts = [Wholes(source.cases, 0.0, seed=3).batch(0, 6, rank=r, world=2) for r in (0, 1)]
    assert torch.equal(torch.cat([p["image"] for p, _ in parts]).sort(0).values, batch["image"].sort(0).values)
    assert sorted(parts[0][1] + parts[1][1]) == sorted(seeds)


@pytest.mark.parametrize(("balance", "expected"), [(0.0, [90, 10]), (0.5, [75, 25]), (1.0, [50, 50])])
def test_balance_draws_rare_classes_more_often(balance, expected):
    of = np.repeat([0, 1], [90, 10])
    drawn = order(of, balance, np.random.default_rng(0))
    assert np.bincount(of[drawn]).tolist() == expected
    counts = np.bincount(drawn, minlength=100)
    for k in (0, 1):
        assert np.ptp(counts[of == k]) <= 1, "cases of a class are drawn about equally often"


def test_of_several_findings_the_rarest_counts():
    targets = [np.array(t, np.uint8) for t in ([1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 255], [0, 0, 1])]
    assert strata(targets).tolist() == [1, 0, 3, 0, 2]
