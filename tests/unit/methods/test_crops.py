"""Views: nothing changes where nothing is asked for, parts lie within the image, sides are mirrored only where they may be."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from vesalius.core.errors import UsageError
from vesalius.methods._chance import Chance
from vesalius.methods._crops import Crops, blurred, cropped, powered, toned

STILL = Crops(area=(1, 1), stretch=1, rotation=0, brightness=0, contrast=0, gamma=0, blur=0, noise=0)


def drawn(*size, seed=0):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(6, 2, 9, 7), (4, 1, 6, 5, 7)])
def test_nothing_changes_where_nothing_is_asked_for(shape):
    image = drawn(*shape)
    torch.testing.assert_close(STILL(image, Chance(0, 0)), image, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [2, 3])
def test_a_view_shows_its_share_from_inside(n):
    """Images of their own coordinates: where a view looks can be read off it."""
    sides, views = (40, 30, 20)[:n], STILL.model_copy(update={"area": (0.25, 0.25)})
    grid = torch.stack(torch.meshgrid(*(torch.arange(side) + 0.5 for side in sides), indexing="ij"))
    shown = cropped(grid.expand(50, *grid.shape), views, Chance(0, 0))
    low, high = shown.flatten(2).amin(2), shown.flatten(2).amax(2)
    size = torch.tensor(sides)
    share = ((high - low) / (size * (1 - 1 / size))).prod(1)  # from the middle of the first pixel seen to that of the last
    assert (share < 0.26).all() and (share > 0.2).all()
    assert (low >= 0.49).all() and (high <= size - 0.49).all()
    assert ((low.amin(0) < 0.1 * size) & (high.amax(0) > 0.9 * size)).all()  # views come from everywhere


def test_only_axes_that_may_be_mirrored_are():
    ramp = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")).expand(60, 2, 8, 8)
    shown = cropped(ramp, STILL.model_copy(update={"mirror": (False, True)}), Chance(0, 0))
    down, across = shown[:, 0, -1, 0] - shown[:, 0, 0, 0], shown[:, 1, 0, -1] - shown[:, 1, 0, 0]
    assert (down > 0).all() and 15 < int((across < 0).sum()) < 45


def test_small_views_have_the_sides_asked_for_and_see_the_same():
    image = drawn(3, 1, 16, 12)
    halves = cropped(image, STILL, Chance(0, 0), onto=(8, 6))
    torch.testing.assert_close(halves, torch.nn.functional.avg_pool2d(image, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 2, 20, 17), (2, 1, 9, 12, 8)])
def test_a_blur_is_that_of_scipy(shape):
    image, deviations = drawn(*shape), torch.linspace(0.05, 1.5, shape[0])
    made = blurred(image, deviations, most=1.5)
    assert torch.equal(made[0], image[0])
    for b in range(1, shape[0]):
        for c in range(shape[1]):
            radius = math.ceil(3 * 1.5)
            want = gaussian_filter(image[b, c].numpy(), float(deviations[b]), mode="nearest", truncate=radius / float(deviations[b]))
            torch.testing.assert_close(made[b, c], torch.from_numpy(want), rtol=1e-4, atol=1e-5)


def test_a_power_keeps_the_range():
    image = 4 * drawn(3, 1, 6, 6) - 9
    made = powered(image, torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(made[1], image[1])
    for edge in ("amin", "amax"):
        torch.testing.assert_close(getattr(made.flatten(1), edge)(1), getattr(image.flatten(1), edge)(1))
    unit = (image[2] - image[2].min()) / (image[2].max() - image[2].min())
    torch.testing.assert_close(made[2], unit**2 * (image[2].max() - image[2].min()) + image[2].min())


def test_a_sample_does_not_depend_on_its_batch_mates():
    image, views = drawn(6, 1, 12, 12), Crops(mirror=(True, True))
    torch.testing.assert_close(views(image, Chance(3, 1))[:2], views(image[:2], Chance(3, 1)))
    assert not torch.equal(toned(image, views, Chance(3, 1)), toned(image, views, Chance(3, 2)))


def test_wrong_words_are_told():
    with pytest.raises(UsageError, match="areas"):
        Crops.of({"areas": (0.1, 1)})
    assert Crops.of({"rotation": 0}).rotation == 0 and Crops.of(None) == Crops()
