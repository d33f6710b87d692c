"""Colours of a heat over a picture."""

import numpy as np
import pytest

from vesalius.core.colours import viridis
from vesalius.core.errors import UsageError
from vesalius.explain import overlay, strongest
from vesalius.explain._overlay import top_of

IMAGE = np.tile(np.linspace(0, 100, 40), (30, 1))


def seen_without(colours, cone):
    """Colours as people without the long (0) or middle (1) cone see them: Vienot, Brettel and Mollon 1999, in linear RGB."""
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    lacking = np.eye(3)
    lacking[cone] = ([0, 2.02344, -2.52581], [0.494207, 0, 1.24827])[cone]
    return (colours / 255) ** 2.2 @ (np.linalg.inv(to_lms) @ lacking @ to_lms).T


def test_colours_rise_in_lightness_also_for_those_who_see_no_red_or_no_green():
    colours = viridis(np.linspace(0, 1, 64))
    for linear in ((colours / 255) ** 2.2, seen_without(colours, 0), seen_without(colours, 1)):
        assert (np.diff(linear @ (0.2126, 0.7152, 0.0722)) > 0).all()
    assert (np.ptp(colours, axis=1) > 60).all(), "no value looks like the grey of the image"


def test_cold_places_stay_grey_and_the_hottest_are_coloured():
    heat = np.zeros((30, 40))
    heat[10:20, 20:30] = 2.0
    heat[25:, :5] = -3.0
    made = overlay(IMAGE, heat, bar=False)
    assert made.shape == (30, 40, 3) and made.dtype == np.uint8
    cold = heat <= 0
    assert (made[cold].max(-1) == made[cold].min(-1)).all(), "grey"
    warm = made[15, 25].astype(int)
    assert warm[0] > warm[2] + 60 and warm[1] > warm[2] + 60, "yellow"
    assert (overlay(IMAGE, heat, opacity=0, bar=False)[..., 0] == overlay(IMAGE, 0 * heat, bar=False)[..., 0]).all()


def test_the_bar_runs_from_hot_above_to_cold_below():
    made = overlay(IMAGE, np.ones((30, 40)))
    assert made.shape[0] == 30 and made.shape[1] > 40
    assert np.abs(made[0, -1] - viridis(np.array(1.0))).max() <= 1 and np.abs(made[-1, -1] - viridis(np.array(0.0))).max() <= 1
    assert (made[:, 40] == 0).all()


def test_one_scale_for_several_pictures():
    heat = np.zeros((30, 40))
    heat[5, 5] = 1.0
    assert top_of(heat) == 1.0 and top_of(-heat) == 1.0 and top_of(4 * heat) == 4.0
    assert (overlay(IMAGE, heat, top=4.0)[5, 5] != overlay(IMAGE, heat)[5, 5]).any()
    assert (overlay(IMAGE, np.full((30, 40), np.nan), bar=False)[..., 0] == overlay(IMAGE, 0 * heat, bar=False)[..., 0]).all()


def test_the_strongest_slice():
    volume, heat = np.arange(2 * 3 * 4.0).reshape(2, 3, 4), np.zeros((2, 3, 4))
    heat[1, 2, 3], heat[0, 0, 1] = 5, -50
    for axis, index in ((-1, 3), (0, 1), (1, 2)):
        image, flat, found = strongest(volume, heat, axis=axis)
        assert found == index and flat.max() == 5 and (image == np.take(volume, index, axis)).all()


def test_nonsense_is_refused():
    for wrong in (lambda: overlay(IMAGE, np.ones((3, 3))), lambda: overlay(np.ones((2, 2, 2)), np.ones((2, 2, 2))),
                  lambda: overlay(IMAGE, IMAGE, opacity=2), lambda: strongest(IMAGE, IMAGE)):  # fmt: skip
        with pytest.raises(UsageError):
            wrong()
