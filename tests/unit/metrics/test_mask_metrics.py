"""Overlap, surface and lesion metrics against closed forms, exact enumeration, MONAI and DeepMind's surface-distance."""

import importlib
from math import isnan, pi, sqrt

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from vesalius.core.errors import GeometryError
from vesalius.core.space import Space
from vesalius.metrics import surface as shelf_surface
from vesalius.metrics._pair import Pair, bounding_box, pairs_of_maps
from vesalius.metrics.lesion import found_share, lesion
from vesalius.metrics.overlap import overlap
from vesalius.metrics.surface import distances, edge, surface
from vesalius.testing.check_metric import blobs

SPACES = [(1.0, 1.0), (0.6, 2.0), (1.0, 1.0, 1.0), (3.0, 1.0, 0.75), (1.5, 1.5, 10.0)]


def pair_of(spacing, seed=0, tolerance=1.0):
    a, b = blobs(len(spacing), seed=seed)
    return Pair.of(a, b, Space.of(a.shape, spacing), tolerance=tolerance)


def box(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*s) for s in sides)] = True
    return mask


def test_overlap_by_counting():
    a, b = box((10, 10), (0, 4), (0, 5)), box((10, 10), (2, 8), (0, 5))  # 20 and 30 pixels, 10 in both
    found = overlap(Pair.of(a, b, Space.of((10, 10), (2.0, 0.5))))
    assert found == {"dice": 20 / 50, "iou": 10 / 40, "sensitivity": 10 / 30, "precision": 10 / 20,
                     "volume": 20.0, "true_volume": 30.0, "volume_error": -10.0}  # fmt: skip


def test_shifted_cube_has_the_closed_form():
    """A cube of side 5 moved by 3 voxels of 2 mm: the far face is 6 mm off, and so is more than 5 % of the surface."""
    a, b = box((12, 7, 7), (1, 6), (1, 6), (1, 6)), box((12, 7, 7), (4, 9), (1, 6), (1, 6))
    found = surface(Pair.of(a, b, Space.of((12, 7, 7), (2.0, 1.0, 1.0))))
    assert found["hd"] == 6.0 and found["hd95"] == 6.0


def test_concentric_balls():
    """Two balls with radii of 8 and 13 mm on an anisotropic grid: every surface distance is 5 mm to within half a voxel's diagonal."""
    spacing = np.array([2.0, 1.0, 0.5])
    place = np.stack(np.meshgrid(*(np.arange(-15, 15.1, s) for s in spacing), indexing="ij"), -1)
    radius = np.linalg.norm(place, axis=-1)
    pair = Pair.of(radius <= 8, radius <= 13, Space.of(radius.shape, spacing), tolerance=5 + np.linalg.norm(spacing))
    found = surface(pair)
    slack = np.linalg.norm(spacing) / 2
    assert abs(found["assd"] - 5) < slack and abs(found["hd95"] - 5) < slack + 0.5 and found["nsd"] == 1
    assert overlap(pair)["true_volume"] == pytest.approx(4 / 3 * pi * 13**3, rel=0.02)


def test_half_spaces_that_touch_the_border():
    """Half spaces two voxels apart, cut by the image's border: HD is 2 and a border voxel is one surface point."""
    a, b = box((20, 8, 8), (0, 10)), box((20, 8, 8), (0, 12))
    pair = Pair.of(a, b, Space.of((20, 8, 8)))
    assert surface(pair)["hd"] == 2.0
    found = distances(pair)
    assert len(found.outward) == 10 * 64 - 8 * 36 and len(found.inward) == 12 * 64 - 10 * 36


def test_one_voxel_each_in_an_oblique_and_in_a_sheared_space():
    a, b = box((9, 9, 9), (1, 2), (1, 2), (1, 2)), box((9, 9, 9), (7, 8), (4, 5), (3, 4))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0.3, 0], [0, 2, 0], [0.2, 0, 5]])  # sheared, as under gantry tilt
    expected = np.linalg.norm(affine[:3, :3] @ [6, 3, 2])
    assert surface(Pair.of(a, b, Space((9, 9, 9), affine)))["hd"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("near", [1, 20, 400])
@pytest.mark.parametrize("spacing", SPACES)
def test_distances_equal_enumeration(monkeypatch, spacing, near):
    """Offsets near, tree far: together every pair of surface voxels, enumerated; also in sheared spaces."""
    monkeypatch.setattr(shelf_surface, "NEAR", near)
    n = len(spacing)
    for seed, shear in ((0, 0.0), (1, 0.4)):
        masks = blobs(n, seed=seed)
        affine = np.diag([*spacing, 1.0])
        affine[0, 1] = shear
        found = distances(Pair.of(*masks, Space(masks[0].shape, affine)))
        a, b = (np.argwhere(edge(mask)) @ affine[:n, :n].T for mask in masks)
        every = cdist(a, b)
        np.testing.assert_allclose(found.outward, every.min(1), atol=1e-12)
        np.testing.assert_allclose(found.inward, every.min(0), atol=1e-12)
        assert found.hausdorff(95) == pytest.approx(max(np.percentile(every.min(1), 95), np.percentile(every.min(0), 95)))
        within = (every.min(1) <= 1.000001).sum() + (every.min(0) <= 1.000001).sum()
        assert found.within(1.0) == pytest.approx(within / sum(every.shape))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("spacing", SPACES)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_monai(spacing, seed):
    monai, torch = pytest.importorskip("monai.metrics"), importlib.import_module("torch")
    a, b = blobs(len(spacing), seed=seed)
    ours = {**surface(pair_of(spacing, seed, 1.3)), **overlap(pair_of(spacing, seed))}
    p, t = (torch.as_tensor(m)[None, None].float() for m in (a, b))
    word = {"include_background": True, "spacing": list(spacing)}
    assert ours["hd95"] == pytest.approx(monai.compute_hausdorff_distance(p, t, percentile=95, **word).item(), rel=1e-5)
    assert ours["hd"] == pytest.approx(monai.compute_hausdorff_distance(p, t, **word).item(), rel=1e-5)
    assert ours["assd"] == pytest.approx(monai.compute_average_surface_distance(p, t, symmetric=True, **word).item(), rel=1e-5)
    assert ours["nsd"] == pytest.approx(monai.compute_surface_dice(p, t, class_thresholds=[1.3], **word).item(), rel=1e-5)
    assert ours["dice"] == pytest.approx(monai.compute_dice(p, t).item(), rel=1e-5)
    assert ours["iou"] == pytest.approx(monai.compute_iou(p, t).item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_close_to_the_area_weighted_definition():
    """DeepMind's package weighs surface by area and puts it between voxels: near ours, never more than a voxel off in HD."""
    deepmind = pytest.importorskip("surface_distance")
    spacing = (1.0, 1.0, 1.0)
    a, b = blobs(3)
    theirs = deepmind.compute_surface_distances(a, b, spacing)
    ours = surface(pair_of(spacing))
    assert ours["hd"] == pytest.approx(deepmind.compute_robust_hausdorff(theirs, 100), abs=sqrt(3))
    assert ours["nsd"] == pytest.approx(deepmind.compute_surface_dice_at_tolerance(theirs, 1.0), abs=0.15)


def test_lesions_by_hand():
    """Four true lesions: one found well, one touched by 1 voxel of 20, one missed, one of 1 voxel found; one false alarm."""
    truth, guess = np.zeros((30, 30), bool), np.zeros((30, 30), bool)
    truth[2:6, 2:7] = truth[10:14, 2:7] = truth[20:24, 2:7] = truth[28, 28] = True
    guess[2:5, 3:7] = guess[13:16, 6:12] = guess[28, 28] = guess[2:4, 20:22] = True
    found = lesion(Pair.of(guess, truth, Space.of((30, 30))))
    assert found["lesion_sensitivity"] == 2 / 4  # the touched one has 1 / 20 covered
    assert found["lesion_precision"] == 2 / 4  # the touching one has 1 / 18 true
    assert found["lesion_f1"] == 0.5


def test_a_tenth_is_enough_and_corners_connect():
    objects = np.zeros((12, 12), bool)
    objects[0, :5] = objects[1, 5:10] = True  # ten pixels joined at a corner
    cover = np.zeros_like(objects)
    assert found_share(objects, cover) == 0
    cover[0, 0] = True
    assert found_share(objects, cover) == 1
    assert isnan(found_share(cover & False, cover))


def test_predicting_everything_is_not_precise():
    truth = box((40, 40), (3, 6), (3, 6))
    found = lesion(Pair.of(np.ones_like(truth), truth, Space.of(truth.shape)))
    assert found["lesion_sensitivity"] == 1 and found["lesion_precision"] == 0 and found["lesion_f1"] == 0


def test_bounding_box():
    assert bounding_box(box((9, 8, 7), (2, 5), (0, 8), (6, 7))) == (slice(2, 5), slice(0, 8), slice(6, 7))
    assert bounding_box(np.zeros((3, 4), bool)) is None


def test_pairs_of_maps_are_pairs_of_masks():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 4, (2, 7, 8, 9)).astype(np.uint8)
    a[a == 3] = 0  # class 3 missed, class 4 nowhere
    space = Space.of(a.shape, (1, 2, 3))
    for k, pair in enumerate(pairs_of_maps(a, b, space, classes=4), start=1):
        expected = Pair.of(a == k, b == k, space)
        assert pair.state == expected.state and pair.volumes == expected.volumes and surface(pair) == surface(expected)
    assert [p.state for p in pairs_of_maps(a, b, space, classes=4)] == ["scored", "scored", "missed", "both_empty"]


def test_empty_maps_are_pairs_too():
    nothing = np.zeros((4, 5), np.uint8)
    assert [p.state for p in pairs_of_maps(nothing, nothing, Space.of((4, 5)), classes=2)] == ["both_empty"] * 2


def test_masks_on_two_grids_are_refused():
    with pytest.raises(GeometryError, match="convert --like"):
        Pair.of(np.zeros((3, 3)), np.zeros((3, 4)), Space.of((3, 3)))
