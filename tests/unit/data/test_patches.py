"""Regions are a pure function of (seed, step): the same in any order, any process and any life of the run."""

import numpy as np
import pytest
import torch

from tests.unit.engine.tiny import stored
from vesalius.data.batch import Kind
from vesalius.data.cache import Stored, foreground_places
from vesalius.data.patches import Patches, cut


def patches(cases=None, *, patch=(6, 6, 6), margin=(2, 2, 2), foreground=0.5, seed=3):
    return Patches(cases if cases is not None else stored(5), patch, margin, foreground, seed)


def same(a, b):
    return all(torch.equal(a[0][name], b[0][name]) for name in a[0].tensors) and a[1] == b[1]


def numbered(side, *, name="n", dots=()):
    """A case in which each voxel holds its own number, so that a region tells where it was cut."""
    shape = (side,) * 3
    image = np.arange(side**3, dtype=np.float16).reshape(1, *shape)
    target = np.zeros((1, *shape), np.uint8)
    for dot in dots:
        target[(0, *dot)] = 1
    return Stored(name, image, target, foreground_places(target == 1, np.random.default_rng(0)))


def test_a_batch_holds_images_and_targets_of_the_region():
    batch, seeds = patches().batch(0, 4)
    assert batch["image"].shape == (4, 1, 8, 8, 8) and batch["image"].dtype == torch.float32
    assert batch["target"].shape == (4, 1, 8, 8, 8) and batch["target"].dtype == torch.uint8
    assert batch.kinds == {"image": Kind.IMAGE, "target": Kind.MASK} and len(set(seeds)) == 4


def test_any_step_can_be_drawn_at_any_time():
    first, second = patches(), patches()
    forward = [first.batch(step, 4) for step in range(6)]
    backward = [second.batch(step, 4) for step in reversed(range(6))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert not same(forward[0], forward[1]) and not same(forward[0], patches(seed=4).batch(0, 4))


@pytest.mark.parametrize(("size", "world"), [(4, 2), (6, 3), (5, 2), (4, 4)])
def test_the_shares_of_the_processes_make_the_joint_batch(size, world):
    for step in range(3):
        joint, seeds = patches().batch(step, size)
        for rank in range(world):
            share = patches().batch(step, size, rank=rank, world=world)
            assert same(share, (joint.part(rank, world), seeds[rank::world]))


def test_every_case_is_seen_once_an_epoch_in_a_fresh_order():
    cases = [numbered(8, name=f"c{k}") for k in range(7)]
    for k, case in enumerate(cases):
        case.image[:] = k
    drawn = patches(cases, patch=(4, 4, 4), margin=(0, 0, 0), foreground=0)
    order = [int(drawn.sample(number, forced=False)[0][0, 0, 0, 0]) for number in range(21)]
    epochs = [order[:7], order[7:14], order[14:]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize(("foreground", "forced"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_the_asked_part_of_a_batch_holds_foreground(foreground, forced):
    dots = [(0, 0, 0), (15, 15, 15), (15, 0, 7), (8, 8, 8)]
    drawn = patches([numbered(16, dots=dots)], patch=(3, 3, 3), margin=(0, 0, 0), foreground=foreground)
    holding = np.array([drawn.batch(step, 4)[0]["target"].flatten(1).any(1).numpy() for step in range(40)])
    assert holding[:, 4 - forced :].all() and holding[:, : 4 - forced].mean() < 0.2 if forced < 4 else holding.all()


def test_classes_are_centred_on_alike_however_rare():
    case = numbered(16)
    target = np.zeros((1, 16, 16, 16), np.uint8)
    target[0, :8], target[0, 12, 12, 12] = 1, 2
    masks = np.stack([target[0] == 1, target[0] == 2])
    case = Stored("n", case.image, target, foreground_places(masks, np.random.default_rng(0)))
    drawn = patches([case], patch=(3, 3, 3), margin=(0, 0, 0), foreground=1.0)
    rare = np.mean([bool((drawn.sample(n, forced=True)[1] == 2).any()) for n in range(300)])
    assert abs(rare - 0.5) < 4.5 * np.sqrt(0.25 / 300)


def test_places_are_even_over_the_scan():
    drawn = patches([numbered(10)], patch=(4, 4, 4), margin=(0, 0, 0))
    starts = np.array([np.unravel_index(int(drawn.sample(n, forced=False)[0][0, 0, 0, 0]), (10, 10, 10)) for n in range(700)])
    counts = np.array([np.bincount(axis, minlength=7) for axis in starts.T])
    assert counts.shape == (3, 7) and (abs(counts - 100) < 4.5 * np.sqrt(700 * 6 / 49)).all()


def test_the_patch_lies_in_the_scan_and_the_margin_may_not():
    drawn = patches([numbered(8)], patch=(6, 6, 6), margin=(4, 4, 4))
    for number in range(30):
        image, _ = drawn.sample(number, forced=False)
        assert image.shape == (1, 10, 10, 10)
        inside = image[0, 2:8, 2:8, 2:8]
        first = int(inside[0, 0, 0])
        expected = (first + np.arange(6)[:, None, None] * 64 + np.arange(6)[:, None] * 8 + np.arange(6)).astype(np.float32)
        assert np.array_equal(inside.numpy(), expected)


def test_a_scan_smaller_than_the_patch_stands_in_its_middle():
    case = numbered(4, dots=[(0, 0, 0)])
    for forced in (False, True):
        image, target = patches([case], patch=(8, 8, 8), margin=(2, 2, 2)).sample(1, forced=forced)
        assert np.array_equal(image[0, 3:7, 3:7, 3:7].numpy(), np.arange(64).reshape(4, 4, 4))
        assert float(image.sum()) == 63 * 64 / 2 and int(target.sum()) == 1


def test_a_scan_without_foreground_is_cut_anywhere():
    assert patches([numbered(8)], foreground=1.0).batch(0, 3)[0]["target"].sum() == 0


def test_what_is_cut_outside_is_0():
    array = torch.arange(24).reshape(1, 4, 6)
    assert torch.equal(cut(array, (1, 2), (2, 3)), array[:, 1:3, 2:5])
    assert torch.equal(cut(array, (-1, 4), (3, 4))[0], torch.tensor([[0, 0, 0, 0], [4, 5, 0, 0], [10, 11, 0, 0]]))
    assert not cut(array, (10, 0), (2, 2)).any()


def test_pixels_are_the_map_itself_on_a_processor():
    case = stored(1)[0]
    image, target = patches([case]).pixels[0]
    assert image.data_ptr() == case.image.ctypes.data and target.data_ptr() == case.target.ctypes.data
