"""The colours of a heat are those of the published table."""

import numpy as np
import pytest

from vesalius.core.colours import COLOURS, viridis


def test_every_colour_is_that_of_the_whole_table():
    colormaps = pytest.importorskip("matplotlib").colormaps
    part = np.linspace(0, 1, 256)
    wanted = colormaps["viridis"](np.arange(256))[:, :3] * 255
    assert np.abs(viridis(part) - wanted).max() < 2


def test_ends_are_met_and_nothing_lies_outside():
    assert viridis(np.array([-1.0, np.nan, 0.0])).tolist() == [COLOURS[0].tolist()] * 3
    assert viridis(np.array([[1.0, 7.0]])).tolist() == [[COLOURS[-1].tolist()] * 2]
    light = viridis(np.linspace(0, 1, 100)) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) > 0).all(), "lighter is always more"
