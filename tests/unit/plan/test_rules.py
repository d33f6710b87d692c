"""The rules of planning against the plans that nnU-Net publishes and against their formulas."""

import numpy as np
import pytest

from vesalius.plan import rules


def facts(shapes, spacings, *, physical=True, cropped=None):
    return {"shapes": shapes, "cropped_shapes": cropped or shapes, "spacings": spacings, "physical": physical}


# -- spacing -----------------------------------------------------------------------------------------------------------------


def test_one_spacing_is_kept():
    assert rules.spacing(facts([[40, 50, 40]] * 3, [[1.0, 1.0, 1.2]] * 3))[0] == (1.0, 1.0, 1.2)


def test_the_median_of_each_axis():
    spacings = [[1.0, 1.0, 1.0], [1.2, 0.9, 1.5], [0.8, 1.1, 2.0]]
    found, why = rules.spacing(facts([[100, 100, 60]] * 3, spacings))
    assert found == (1.0, 1.0, 1.5) and "median" in why


def test_a_thick_axis_takes_its_tenth_percentile():
    """nnU-Net, ACDC: slices of 5 to 10 mm, 5 in less than a tenth of the cases would not count, in more they do."""
    thick = [5.0] * 4 + [10.0] * 7
    found, why = rules.spacing(facts([[220, 250, 12]] * 11, [[1.5, 1.5, z] for z in thick]))
    assert found == (1.5, 1.5, pytest.approx(np.percentile(thick, 10))) and found[2] == 5.0 and "10th" in why


def test_the_thick_axis_is_never_finer_than_the_others():
    found, _ = rules.spacing(facts([[220, 250, 12]] * 9, [[1.5, 1.5, z] for z in [1.0] * 2 + [10.0] * 7]))
    assert found[2] == pytest.approx(1.5, abs=1e-4) and found[2] > 1.5


@pytest.mark.parametrize(("shape", "thick"), [((60, 60, 21), 5.0), ((200, 200, 20), 4.4)])
def test_thick_and_short_are_both_asked_for(shape, thick):
    """spacing > 3 x the others and sides x 3 < the others: one alone is not enough."""
    found, _ = rules.spacing(facts([shape] * 5, [[1.5, 1.5, thick * f] for f in (0.6, 0.8, 1.0, 1.1, 1.2)]))
    assert found[2] == thick


def test_pixels_without_a_size_keep_their_grid():
    assert rules.spacing(facts([[512, 512]] * 2, [[1.0, 1.0]] * 2, physical=False))[0] == ()


def test_the_median_shape_lies_on_the_target_grid():
    made = facts([[40, 60, 20], [50, 60, 10], [60, 60, 30]], [[2.0, 1.0, 3.0]] * 3, cropped=[[20, 30, 10]] * 3)
    assert rules.median_shape(made, (1.0, 1.0, 1.5), crop=False) == (100, 60, 40)
    assert rules.median_shape(made, (1.0, 1.0, 1.5), crop=True) == (40, 30, 20)
    assert rules.median_shape(made, (), crop=False) == (50, 60, 20)


# -- topology ----------------------------------------------------------------------------------------------------------------


def stages(pools, ndim=3):
    """Strides with the first stage in front."""
    return ((1,) * ndim, *pools)


PUBLISHED = {  # data set: patch, spacing, strides and kernels (nnU-Net, 3d_fullres; the thick axis is the first)
    "hippocampus": ((40, 56, 40), (1.0, 1.0, 1.0), [(2, 2, 2)] * 3, [(3, 3, 3)] * 4),
    "brats": ((128, 128, 128), (1.0, 1.0, 1.0), [(2, 2, 2)] * 5, [(3, 3, 3)] * 6),
    "acdc": ((20, 256, 224), (5.0, 1.5625, 1.5625), [(1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)],
             [(1, 3, 3)] + [(3, 3, 3)] * 5),
    "prostate": ((20, 320, 256), (3.6, 0.62, 0.62), [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)],
                 [(1, 3, 3)] * 2 + [(3, 3, 3)] * 5),
    "heart": ((80, 192, 160), (1.37, 1.25, 1.25), [(2, 2, 2)] * 4 + [(1, 2, 2)], [(3, 3, 3)] * 6),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_topology_is_the_published_one(name):
    size, spacing, pools, expected = PUBLISHED[name]
    padded, kernels, strides, _ = rules.topology(size, spacing)
    assert (padded, strides, list(kernels)) == (size, stages(pools), expected)


def test_the_thick_axis_waits_until_the_others_are_as_coarse():
    """1.5 x 1.5 x 10 mm: 10 / 1.5 > 2 and 10 / 3 > 2, but 10 / 6 < 2: it is pooled from the third time on."""
    _, kernels, strides, why = rules.topology((192, 224, 16), (1.5, 1.5, 10.0))
    assert strides[1:5] == ((2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)) and strides[5] == (2, 2, 1)
    assert kernels[:3] == ((3, 3, 1), (3, 3, 1), (3, 3, 3)) and "wait" in why


def test_an_axis_that_is_used_up_does_not_hold_back_the_others():
    _, kernels, strides, _ = rules.topology((8, 128, 128), (1.0, 1.0, 1.0))
    assert np.prod(strides, 0).tolist() == [2, 32, 32] and set(kernels) == {(3, 3, 3)}


def test_a_kernel_that_has_grown_stays():
    size, spacing = (10, 320, 320), (2.0, 1.0, 1.0)
    kernels = np.array(rules.topology(size, spacing)[1])
    assert (np.diff(kernels, axis=0) >= 0).all() and (kernels[-1] == 3).all()


@pytest.mark.parametrize("seed", range(30))
def test_any_patch_can_be_pooled(seed):
    draw = np.random.default_rng(seed)
    ndim = int(draw.integers(2, 4))
    size, spacing = tuple(int(v) for v in draw.integers(1, 300, ndim)), tuple(draw.uniform(0.3, 6, ndim))
    padded, kernels, strides, _ = rules.topology(size, spacing)
    total = np.prod(strides, 0)
    assert len(kernels) == len(strides) <= 7 and strides[0] == (1,) * ndim
    assert all(p % t == 0 and p >= s and p - s < t for p, s, t in zip(padded, size, total, strict=True))
    assert all(p // t >= rules.SMALLEST or t == 1 for p, t in zip(padded, total, strict=True))


def test_pixels_without_a_size_are_square():
    assert rules.topology((64, 64), ())[2] == ((1, 1), *[(2, 2)] * 4)


# -- patch -------------------------------------------------------------------------------------------------------------------


def test_a_small_scan_is_taken_whole():
    assert rules.patch((35, 50, 36), (1.0, 1.0, 1.0), 96**3) == ((35, 50, 36), "a whole scan fits")


def test_a_patch_is_shaped_like_the_scan_in_millimetres():
    size, _ = rules.patch((400, 400, 400), (1.0, 1.0, 4.0), 96**3)
    assert np.prod(size) == pytest.approx(96**3, rel=0.03)
    assert size[0] == size[1] == pytest.approx(4 * size[2], rel=0.03)


def test_an_axis_that_is_clipped_hands_its_share_to_the_others():
    size, _ = rules.patch((400, 400, 10), (1.0, 1.0, 1.0), 96**3)
    assert size[2] == 10 and size[0] == size[1] and np.prod(size) == pytest.approx(96**3, rel=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_a_patch_is_never_larger_than_the_scan_or_its_share(seed):
    draw = np.random.default_rng(seed)
    shape, spacing = tuple(int(v) for v in draw.integers(5, 500, 3)), tuple(draw.uniform(0.3, 6, 3))
    size, _ = rules.patch(shape, spacing, 64**3)
    assert all(1 <= p <= s for p, s in zip(size, shape, strict=True)) and np.prod(size) < 1.1 * 64**3


def test_channels_double_up_to_a_ceiling():
    assert rules.channels(7, 32, 3) == (32, 64, 128, 256, 256, 256, 256)
    assert all(c % 16 == 0 for base in (16, 32) for c in rules.channels(6, base, 2))


# -- augmentation ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["left lung", "Kidney_L", "hippocampus-right", "RV", "LungLeft", "kidneyR", "Right_Ventricle", "l"])
def test_a_label_that_knows_its_side_stops_the_mirror(name):
    for ndim, axis in ((3, 0), (2, 1)):
        flips, why = rules.mirror(["tumour", name], ndim)
        assert [a for a, flip in enumerate(flips) if not flip] == [axis] and name in why


@pytest.mark.parametrize("names", [["tumour", "oedema"], ["bright_core", "cleft"], ["anterior", "posterior"], ["L1", "L5"], ["vessel"]])
def test_other_labels_do_not(names):
    flips, why = rules.mirror(names, 3)
    assert all(flips) and "every axis" in why


@pytest.mark.parametrize(("size", "spacing", "expected"), [
    ((40, 56, 40), (1.0, 1.0, 1.0), (30.0, 30.0, 30.0)),
    ((192, 224, 16), (1.5, 1.5, 10.0), (0.0, 0.0, 180.0)),
    ((16, 192, 224), (10.0, 1.5, 1.5), (180.0, 0.0, 0.0)),
    ((256, 256), (), (180.0,)),
    ((128, 320), (), (15.0,)),
])  # fmt: skip
def test_rotation_knows_thick_slices_and_long_patches(size, spacing, expected):
    assert rules.rotation(size, spacing)[0] == expected


def test_an_axis_along_which_patients_always_lie_the_same_way_is_not_mirrored():
    flips, why = rules.mirror(["tumour"], 3, poses={"same": 0.5, "mirrored": [0.45, 0.1, -0.3]})
    assert flips == (True, False, False) and "0.50" in why and "axis 1: 0.10" in why
    flips, why = rules.mirror(["left lung"], 2, poses={"same": 0.5, "mirrored": [-0.2, 0.5]})
    assert flips == (False, False) and "left lung" in why and "axis 0" in why


@pytest.mark.parametrize("poses", [None, {}, {"same": 0.05, "mirrored": [-0.05, 0.0, 0.0]}, {"same": 0.0, "mirrored": []}])
def test_cases_that_do_not_resemble_each_other_say_nothing_of_a_pose(poses):
    assert all(rules.mirror(["tumour"], 3, poses=poses)[0])


@pytest.mark.parametrize(("size", "spacing", "flips", "expected"), [
    ((256, 256), (), (False, True), (30.0,)),
    ((256, 256), (), (True, True), (180.0,)),
    ((192, 224, 16), (1.5, 1.5, 10.0), (False, True, True), (0.0, 0.0, 30.0)),
    ((192, 224, 16), (1.5, 1.5, 10.0), (True, True, False), (0.0, 0.0, 180.0)),
])  # fmt: skip
def test_a_pose_limits_the_rotation_in_its_plane(size, spacing, flips, expected):
    assert rules.rotation(size, spacing, flips)[0] == expected


def test_where_a_network_starts():
    assert rules.start([0.25, 0.25], exclusive=True)[0] == pytest.approx(np.log([0.5, 0.25, 0.25]), abs=1e-4)
    assert rules.start([0.5, 0.2], exclusive=False)[0] == pytest.approx([0, np.log(0.25)], abs=1e-4)
    assert min(rules.start([0.0], exclusive=True)[0]) == pytest.approx(np.log(rules.RAREST), abs=1e-4)


def test_no_coarser_than_needed_and_than_masks_bear():
    detail = {"factors": [1.5, 2.0, 4.0, 8.0], "dice": [0.99, 0.98, 0.975, 0.9]}
    assert rules.coarser((100, 100), (), 20_000, detail=detail)[0] == 1
    factor, why = rules.coarser((200, 200), (), 16_000, detail=detail)
    assert 200 * 200 / factor**2 <= 16_000 and factor == pytest.approx((2.5) ** 0.5, abs=0.05) and "0.980" in why
    assert rules.coarser((2000, 2000), (), 16_000, detail=detail)[0] == 4
    assert rules.coarser((2000, 2000), (), 16_000, detail={"factors": [1.5], "dice": [0.5]})[0] == 1


@pytest.mark.parametrize(("shape", "count"), [((36, 50, 35), 1), ((80, 56, 40), 3), ((81, 56, 40), 4)])
def test_tiles_by_hand(shape, count):
    assert rules.tiles(shape, (40, 56, 40), 0.5) == count


@pytest.mark.parametrize(("scan", "flips", "budget", "on"), [(0.04, 8, 1200.0, True), (0.04, 1, 1200.0, False), (1.0, 8, None, False),
                                                             (0.2, 4, 1200.0, False), (0.2, 4, None, True)])  # fmt: skip
def test_mirrored_answers_where_they_are_cheap(scan, flips, budget, on):
    assert rules.mirrored(scan, flips, budget)[0] is on
