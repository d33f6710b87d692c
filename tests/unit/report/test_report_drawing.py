import re

import numpy as np
import pytest
from markupsafe import Markup

from vesalius.report.facts import Curve
from vesalius.report.figures import DOTS, Frame, Line, Strip, chart, learning_curves, reach, smooth, strips, swarm, thinned
from vesalius.report.svg import Scale, element, nice_range, path, short, tick_text, ticks

EVIL = '"><script>alert(1)</script>'


def test_text_and_attributes_are_escaped():
    made = element("text", EVIL, title=EVIL, class_="a", stroke_width=1.50)
    assert isinstance(made, Markup) and "<script" not in made and made.count("&lt;script&gt;") == 2
    assert 'class="a"' in made and 'stroke-width="1.5"' in made
    assert element("g", element("b", "x")) == "<g><b>x</b></g>"


def test_a_scale_is_linear_and_may_be_flipped():
    assert [Scale(0, 10, 100, 0)(v) for v in (0, 5, 10)] == [100, 50, 0]
    assert [Scale(0, 10, 0, 100).within(v) for v in (-3, 5, 99)] == [0, 50, 100]
    assert Scale(2, 2, 0, 10)(2) == 0


def test_ticks_are_round_and_inside():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.9, 1.3, 4) == [-0.5, 0, 0.5, 1.0]
    assert ticks(3, 3) == [3]
    assert nice_range([0.13, 0.94]) == pytest.approx((0.0, 1.0))
    assert nice_range([5, 5]) == pytest.approx((2, 8))
    assert [tick_text(v, 0.2) for v in (0, 0.2, -0.4)] == ["0.0", "0.2", "−0.4"]
    assert [tick_text(1500, 500), tick_text(2e-5, 1e-5), tick_text(250000, 50000)] == ["1500", "2e−5", "2.5e5"]
    assert [short(1.0), short(0.126), short(-0.001)] == ["1", "0.13", "-0"]


def test_a_chart_puts_points_where_they_belong():
    frame = Frame("t", x_range=(0, 10), width=100, height=100, left=20)
    made = chart([Line([0, 10], [0, 1], name=EVIL)], frame)
    assert 'd="M20 60L86 12"' in made and "<script" not in made
    assert chart([], frame) == "" and chart([Line([], [])], frame) == ""
    assert path([]) == "" and path([(0, 0), (1.25, 2)], closed=True) == "M0 0L1.2 2Z"


def test_curves_leave_out_what_was_not_logged_and_reach_to_the_end_of_the_schedule():
    curve = Curve("", [1, 2, 3], [1, 2, 3], [0.1, 0.2, 0.3], [3, 2, 1], [None] * 3, [None, 0.5, None])
    found = learning_curves([curve])
    assert [name for name, _ in found] == ["Training loss", "Quick validation"]
    assert ">10<" in found[0][1]
    assert learning_curves([Curve("")]) == []


def test_smoothing_and_thinning_keep_means():
    assert smooth([1, 2, 3, 4], 1) == [1, 2, 3, 4]
    assert smooth([3.0] * 9, 5) == pytest.approx([3.0] * 9)
    assert smooth([1, 2, 6, 2, 1], 3) == pytest.approx([1.5, 3, 10 / 3, 3, 1.5])
    n = 4000
    curve = Curve("", list(range(n)), [0.0] * n, [0.0] * n, [float(k % 2) for k in range(n)], [None] * n, [None] * n)
    x, y = thinned(curve, "loss")
    assert len(x) == 400 and y == pytest.approx([0.5] * 400)


def test_a_strip_shows_every_case_by_name_up_to_a_limit():
    few = Strip("model", "model", [0.5, 0.9, 0.7], ["a", "b", EVIL], 0.7, 0.6, 0.8)
    made = strips([("label", [few])], title="Dice", domain=(0, 1))
    assert len(re.findall("<circle", made)) == 3 and "<script" not in made and "mean 0.700, 95 % interval 0.600 to 0.800" in made
    many = Strip("model", "m", np.linspace(0, 1, 5000).tolist(), [f"case{k}" for k in range(5000)])
    made = strips([("label", [many])], title="Dice")
    assert len(re.findall("<circle", made)) == DOTS and "case0:" in made and "case4999:" in made
    assert "not defined for any case" in strips([("x", [few, Strip("model", "none", [], [])])], title="Dice")
    assert strips([("x", [Strip("model", "m", [], [])])], title="Dice") == ""


def test_far_values_do_not_press_the_others_together():
    assert reach([1.0, 2.0, 3.0]) == 3.0
    far = [1.0] * 95 + [500.0] * 5
    assert reach(far) == 3.0 and reach([1.0] * 95 + [7.0] * 5) == 7.0
    made = strips([("x", [Strip("model", "m", far, ["c"] * 100, 26.0)])], title="HD95")
    assert len(re.findall("dot beyond model", made)) == 5 and "c: 500.000" in made


def test_dots_are_kept_apart():
    assert swarm([0, 100]) == [0, 0]
    offsets = swarm([50, 50, 50])
    assert sorted(offsets) == [-4, 0, 4]
    assert max(map(abs, swarm([50.0] * 101))) <= 8
