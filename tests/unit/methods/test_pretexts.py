"""Pretexts of one image: rotations and orders are those that are told, what is hidden stays hidden, damage keeps to its rules."""

import itertools
import math

import numpy as np
import pytest
import torch

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.methods import METHODS
from vesalius.methods._chance import Chance
from vesalius.methods._masks import boxes, cells, covers
from vesalius.methods._trunk import mapped
from vesalius.methods.jigsaw import affine
from vesalius.methods.mae import hidden_error, joined, patches
from vesalius.methods.models_genesis import Damage, curved, painted, shuffled
from vesalius.methods.rotation import cube, rotated, rotations

SMALL = {"name": "unet", "channels": (4, 8)}


def drawn(*size, seed=0):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def batch(*shape, seed=0):
    return Batch({"image": drawn(*shape, seed=seed)}, {"image": Kind.IMAGE})


# -- rotation --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ndim", "number"), [(2, 4), (3, 10)])
def test_rotations_are_all_different_and_keep_every_pixel(ndim, number):
    image = drawn(1, *(3,) * ndim)
    turned = [rotated(image, turn) for turn in rotations(ndim)]
    assert len(turned) == number and len({tuple(t.flatten().tolist()) for t in turned}) == number
    assert torch.equal(turned[0], image)
    assert all(torch.equal(t.flatten().sort().values, image.flatten().sort().values) for t in turned)


def test_rotations_in_3d_keep_one_axis_and_are_no_mirror_images():
    """A point (a, b, c) around the middle goes where a rotation matrix of determinant 1 with a fixed axis takes it."""
    grid = np.stack(np.meshgrid(*(np.arange(3) - 1,) * 3, indexing="ij"))
    for turn in rotations(3):
        moved = np.stack([rotated(torch.from_numpy(axis[None].copy()), turn)[0].numpy() for axis in grid])
        matrix = moved.reshape(3, -1) @ grid.reshape(3, -1).T / 18  # 27 points, each coordinate has the square sum 18
        assert np.allclose(matrix @ matrix.T, np.eye(3)) and np.linalg.det(matrix) == pytest.approx(1)
        assert np.isclose(np.abs(np.diag(matrix)), 1).any()


def test_oblong_images_are_cut_to_a_cube_in_the_middle():
    image = drawn(2, 1, 6, 9)
    assert torch.equal(cube(image), image[..., 1:7])
    method = METHODS["rotation"]((1, 6, 10), trunk={"name": "compact", "channels": (4,)})
    assert float(next(method.steps(batch(2, 1, 6, 10)))[1]["turned"]) > 0


def test_each_image_is_shown_in_four_different_rotations():
    method, asked = METHODS["rotation"]((1, 8, 8, 8), trunk=SMALL), []
    method.missed = lambda image, which: asked.append(which) or torch.zeros(1, requires_grad=True)
    next(method.steps(batch(5, 1, 8, 8, 8)))
    rows = [tuple(row) for row in asked[0].tolist()]
    assert [len(set(row)) for row in rows] == [4] * 5 and len(set(rows)) > 1


# -- jigsaw ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tiles", "number"), [(9, 72), (8, 56)])
def test_two_orders_agree_in_at_most_one_place(tiles, number):
    """Sharply two-transitive: n (n - 1) orders at a Hamming distance of at least n - 1, and no larger set has that (n!/(n-2)!)."""
    orders = affine(tiles)
    assert len(orders) == number == math.factorial(tiles) // math.factorial(tiles - 2)
    assert orders[0] == list(range(tiles)) and all(sorted(order) == list(range(tiles)) for order in orders)
    distances = [sum(a != b for a, b in zip(x, y, strict=True)) for x, y in itertools.combinations(orders, 2)]
    assert min(distances) == tiles - 1


@pytest.mark.parametrize("shape", [(1, 24, 27), (2, 12, 12, 14)])
def test_tiles_lie_in_their_cells_and_are_standardised(shape):
    method = METHODS["jigsaw"](shape, trunk={"name": "compact", "channels": (4,)}, hidden=8)
    n, cuts = len(shape) - 1, method.cuts
    place = torch.zeros(1, cuts**n, n)
    place[:, -1] = 0.999
    image = drawn(1, *shape)
    method.seen = method.tile
    tiles = method.cut(image, place)
    assert tiles.shape == (1, cuts**n, shape[0], *method.tile)
    for number, cell in enumerate(itertools.product(range(cuts), repeat=n)):
        last = number == cuts**n - 1
        starts = [c * size + (size - side if last else 0) for c, size, side in zip(cell, method.cells, method.tile, strict=True)]
        want = image[(0, slice(None), *(slice(a, a + side) for a, side in zip(starts, method.tile, strict=True)))]
        torch.testing.assert_close(tiles[0, number], (want - want.mean()) / want.std(), rtol=1e-4, atol=1e-4)


def test_the_order_is_told_of_the_shuffled_tiles():
    """Whoever knows which tile is which tells the order: a trunk that names the tile, a head that looks the order up."""
    method = METHODS["jigsaw"]((1, 9, 9), trunk={"name": "compact", "channels": (4,)}, hidden=4)
    orders, seen = method.orders, []
    method.cut = lambda image, place: torch.arange(9.0).reshape(1, 9, 1, 1, 1).expand(len(image), 9, 1, 1, 1)

    class Names(torch.nn.Module):
        def forward(self, tiles):
            seen.append(tiles.flatten().reshape(-1, 9))
            return tiles.flatten(1)

    class Lookup(torch.nn.Module):
        def forward(self, names):
            return 100.0 * (names[:, None] == orders).all(2)

    method.net = Names()
    method.net.pretext = Lookup()
    told = torch.tensor([0, 5, 71])
    assert float(method.missed(torch.zeros(3, 1, 9, 9), told, torch.zeros(3, 9, 2)).max()) < 1e-4
    assert torch.equal(seen[0].long(), orders[told])


# -- what is hidden --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sides", "cell"), [((12, 10), (3, 4)), ((6, 6, 5), (2, 3, 2))])
def test_cells_hide_their_share_and_covers_hide_all_once(sides, cell):
    hidden = cells(sides, cell, 0.5, rows=6, chance=Chance(0, 0))
    grid = [math.ceil(s / c) for s, c in zip(sides, cell, strict=True)]
    corners = hidden[(slice(None), 0, *(slice(0, None, c) for c in cell))]
    assert (corners.flatten(1).sum(1) == round(0.5 * math.prod(grid))).all() and not torch.equal(hidden[0], hidden[1])
    first = hidden[(slice(None), 0, *(slice(0, c) for c in cell))].flatten(1)
    assert (first.all(1) | ~first.any(1)).all()  # a cell is hidden as a whole
    parts = covers(sides, cell, 4)
    assert torch.equal(parts.sum(0), torch.ones(1, *sides, dtype=torch.int64)) and parts.flatten(1).any(1).all()


def test_boxes_have_their_sides():
    hidden = boxes((20, 10), 1, (0.2, 0.4), rows=200, chance=Chance(0, 0))
    for row in hidden[:, 0]:
        height, width = int(row.any(1).sum()), int(row.any(0).sum())
        assert 4 <= height <= 8 and 2 <= width <= 4 and int(row.sum()) == height * width
    assert hidden.float().mean(0).min() > 0  # they come everywhere


def test_patches_are_cut_and_joined():
    image = drawn(2, 3, 4, 6)
    cut = patches(image, (2, 3))
    assert torch.equal(cut[1, 3], image[1, :, 2:4, 3:6].flatten()) and torch.equal(joined(cut, (2, 3), (3, 4, 6)), image)
    volume = drawn(2, 2, 4, 2, 6)
    assert torch.equal(patches(volume, (2, 1, 3))[0, 7], volume[0, :, 2:4, 1:2, 3:6].flatten())
    assert torch.equal(joined(patches(volume, (2, 1, 3)), (2, 1, 3), (2, 4, 2, 6)), volume)


def mae(**more):
    words = {"size": "Ti", "scale": 0.0625, "patch": 4}
    return METHODS["mae"]((1, 16, 16), trunk={"name": "vit", **words}, decoder={"width": 8, "blocks": 1, "heads": 2}, **more)


def test_only_visible_patches_enter_the_encoder_and_only_hidden_ones_are_judged():
    method, lengths = mae(mask=0.75), []
    method.net.transformer.blocks[0].register_forward_hook(lambda block, given, made: lengths.append(given[0].shape[1]))
    image = drawn(3, 1, 16, 16)
    order = method.chance().uniform((3, 16)).argsort(1)
    loss = next(method.steps(Batch({"image": image}, {"image": Kind.IMAGE})))[1]["hidden"]
    assert lengths == [1 + 4]
    own, told = patches(image, (4, 4)), method.told(image, order)
    want = torch.stack([(told[b, k] - own[b, k]).square().mean() for b in range(3) for k in order[b, 4:]]).mean()
    torch.testing.assert_close(loss, want)
    other = image.clone()  # what is hidden cannot be seen
    for b in range(3):
        spoilt = patches(other[b : b + 1], (4, 4))
        spoilt[0, order[b, 4:]] = 7.0
        other[b] = joined(spoilt, (4, 4), (1, 16, 16))[0]
    torch.testing.assert_close(method.told(other, order), told)
    assert float(hidden_error(own + 2, own, order[:, 4:])) == pytest.approx(4)


def test_the_decoder_puts_patches_back_in_their_places():
    """With nothing learned but places, a patch is told by where it is, in whatever order patches come."""
    method = mae(mask=0.5).eval()
    image = drawn(1, 1, 16, 16)
    order = torch.arange(16).flip(0)[None]
    swapped = torch.cat([order[:, :8].flip(1), order[:, 8:].flip(1)], 1)  # the same patches hidden, all in another order
    torch.testing.assert_close(method.told(image, order), method.told(image, swapped), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [
    lambda: mae(), lambda: METHODS["simmim"]((1, 16, 16), trunk={"name": "unet", "channels": (4, 8), "strides": ((1, 1), (2, 2))}),
])  # fmt: skip
def test_features_say_in_which_half_something_is(method):
    """Means over quarters of the last maps; one mean over a map that is normalised by itself would be nearly the same for every image."""
    method, image = method().eval(), drawn(3, 1, 16, 16)
    with torch.no_grad():
        maps = mapped(method.net, image)
    side = maps.shape[2] // 2
    quarters = [maps[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side].mean((2, 3)) for i in range(2) for j in range(2)]
    torch.testing.assert_close(method.features(image), torch.stack(quarters, 2).flatten(1))


def test_simmim_does_not_see_what_is_hidden_and_is_judged_there():
    method = METHODS["simmim"]((1, 12, 12), trunk={"name": "compact", "channels": (4, 8)}).eval()
    image = drawn(2, 1, 12, 12)
    hidden = cells((12, 12), method.cell, 0.6, rows=2, chance=method.chance())
    told = method.told(image, hidden)
    assert torch.equal(method.told(torch.where(hidden, 9.0, image), hidden), told)
    loss = next(method.steps(Batch({"image": image}, {"image": Kind.IMAGE})))[1]["hidden"]
    each = [(told[b] - image[b]).abs()[hidden[b]].mean() for b in range(2)]
    torch.testing.assert_close(loss, torch.stack(each).mean())


def test_inpainting_fills_with_the_mean_and_is_judged_in_the_boxes():
    method = METHODS["inpainting"]((2, 12, 12), trunk=SMALL).eval()
    image, shown = drawn(2, 2, 12, 12), []
    hidden = boxes((12, 12), 4, method.size_of_boxes, rows=2, chance=method.chance())
    method.net.down[0].register_forward_pre_hook(lambda layer, given: shown.append(given[0]))
    loss = next(method.steps(Batch({"image": image}, {"image": Kind.IMAGE})))[1]["filling"]
    for b, c in itertools.product(range(2), range(2)):
        inside = hidden[b, 0]
        torch.testing.assert_close(shown[0][b, c][inside], image[b, c][~inside].mean().expand(int(inside.sum())))
        assert torch.equal(shown[0][b, c][~inside], image[b, c][~inside])
    found = method.restored(shown[0])
    each = [(found[b] - image[b]).square()[:, hidden[b, 0]].mean() for b in range(2)]
    torch.testing.assert_close(loss, torch.stack(each).mean())


# -- Models Genesis --------------------------------------------------------------------------------------------------------


def test_tones_follow_a_monotone_curve_through_the_corners():
    values = torch.linspace(0, 1, 50).expand(40, 1, 50)
    made = curved(values, Chance(0, 0))[:, 0]
    rises = made[:, -1] > made[:, 0]
    assert 5 < int(rises.sum()) < 35
    for row, up in zip(made, rises, strict=True):
        steps = row.diff() if up else -row.diff()
        assert steps.min() > -1e-5 and sorted((float(row[0]), float(row[-1]))) == pytest.approx([0, 1], abs=1e-4)


def test_the_curve_is_that_of_bezier():
    """At each parameter t the curve has x = 3 t (1 - t)^2 x1 + 3 t^2 (1 - t) x2 + t^3, y alike."""
    lot = Chance(0, 0).uniform((6, 5)).double().numpy()
    t = np.linspace(0, 1, 2001)
    values = drawn(6, 1, 30)
    made = curved(values, Chance(0, 0))
    for b, (x1, x2, y1, y2, down) in enumerate(lot):
        x, y = (3 * t * (1 - t) ** 2 * p + 3 * t**2 * (1 - t) * q + t**3 for p, q in ((x1, x2), (y1, y2)))
        want = np.interp(values[b, 0].numpy(), x, 1 - y if down < 0.5 else y)
        np.testing.assert_allclose(made[b, 0].numpy(), want, atol=0.01)


@pytest.mark.parametrize("sides", [(40, 30), (20, 20, 30)])
def test_pixels_stay_within_their_windows(sides):
    rows, n = 3, len(sides)
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(side)) for side in sides), indexing="ij"))
    moved = shuffled(grid.expand(rows, *grid.shape), Chance(0, 0))
    far = (moved - grid).abs().flatten(2).amax(2)
    assert far.max() >= 1
    for row in range(rows):
        for axis, side in enumerate(sides):
            assert far[row, axis] <= max(2, side // 10) - 1
        places = moved[row].flatten(1).T
        assert len({tuple(place) for place in places.tolist()}) == math.prod(sides)  # every pixel is there, once, channels together
    assert n == grid.shape[0]


def test_painting_is_inside_small_boxes_or_outside_large_ones():
    image = torch.full((200, 1, 24, 24), 5.0)
    inner = (torch.arange(200) % 2 == 0).reshape(-1, 1, 1, 1)
    painted_part = (painted(image, inner, Chance(0, 0)) != 5.0).float().flatten(1).mean(1)
    assert painted_part[::2].max() <= 5 / 9 and painted_part[1::2].max() <= 1 - (3 / 7) ** 2 + 0.02
    assert painted_part[::2].mean() < painted_part[1::2].mean()


def test_damage_happens_as_often_as_asked_and_within_the_range():
    image = 3 * drawn(400, 1, 12, 12) - 7
    same = Damage(tones=0, texture=0, painting=0)(image, Chance(0, 0))
    torch.testing.assert_close(same, image)
    made = Damage(tones=0.25, texture=0, painting=0)(image, Chance(0, 0))
    changed = float(((made - image).abs().flatten(1).amax(1) > 1e-3).float().mean())
    assert changed == pytest.approx(0.25, abs=3 * math.sqrt(0.25 * 0.75 / 400))
    made = Damage()(image, Chance(0, 0))
    low, high = image.flatten(1).amin(1), image.flatten(1).amax(1)
    assert (made.flatten(1).amin(1) >= low - 1e-4).all() and (made.flatten(1).amax(1) <= high + 1e-4).all()


# -- what is refused -------------------------------------------------------------------------------------------------------


def test_nonsense_is_refused():
    with pytest.raises(UsageError, match="there is simmim"):
        METHODS["mae"]((1, 16, 16), trunk={"name": "compact"})
    with pytest.raises(UsageError, match="hides 16 of 16"):
        mae(mask=0.99)
    with pytest.raises(UsageError, match="cells are hidden"):
        METHODS["simmim"]((1, 12, 12), trunk=SMALL, mask=1.0)
    with pytest.raises(UsageError, match="gives no image"):
        METHODS["models_genesis"]((1, 12, 12), trunk={"name": "compact"})
    with pytest.raises(UsageError, match="at least 2 pixels"):
        METHODS["jigsaw"]((1, 4, 12), trunk=SMALL)
    with pytest.raises(UsageError, match="At least one box"):
        METHODS["inpainting"]((1, 12, 12), trunk=SMALL, number=0)
    with pytest.raises(VesaliusError, match="gives no images back"):
        METHODS["rotation"]((1, 12, 12), trunk=SMALL).anomaly_map(drawn(1, 1, 12, 12))
