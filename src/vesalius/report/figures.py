"""The drawings of the report: learning curves, and scores of every case as dots with box, mean and interval."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from vesalius.report.facts import Curve
from vesalius.report.numbers import interval, number
from vesalius.report.svg import Scale, drawing, element, nice_range, path, x_axis, y_axis

WIDTH = 420.0
DOTS = 240  # more dots than this per strip only hide each other


@dataclass(frozen=True)
class Strip:
    """Scores of one method on one label: `kind` is its colour (model, baseline, rater), `names` say whose each value is."""

    kind: str
    name: str
    values: Sequence[float]
    names: Sequence[str]
    mean: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A line through (x, y); `faint` lies in the back, `dots` marks each point."""

    x: Sequence[float]
    y: Sequence[float]
    kind: str = "model"
    faint: bool = False
    dots: bool = False
    name: str = ""


@dataclass(frozen=True)
class Frame:
    """Where a line chart is drawn."""

    title: str
    x_title: str = "step"
    x_range: tuple[float, float] | None = None
    width: float = 330.0
    height: float = 210.0
    left: float = 50.0
    y_most: int = 4
    marks: Sequence[tuple[float, str]] = field(default_factory=tuple)


def chart(lines: Sequence[Line], frame: Frame) -> Markup:
    """Lines over one x axis; '' where no line has a point."""
    drawn = [line for line in lines if len(line.x)]
    if not drawn:
        return Markup("")
    low, high = nice_range([float(v) for line in drawn for v in line.y], most=frame.y_most)
    x_low, x_high = frame.x_range or (min(float(line.x[0]) for line in drawn), max(float(line.x[-1]) for line in drawn))
    bottom = frame.height - 40
    x, y = Scale(x_low, x_high, frame.left, frame.width - 14), Scale(low, high, bottom, 12)
    parts = [y_axis(y, left=frame.left, right=frame.width - 14, most=frame.y_most)]
    parts += [x_axis(x, top=bottom, bottom=bottom, title=frame.x_title)]
    parts += [_mark(x(at), bottom, text) for at, text in frame.marks]
    parts += [_line(line, x, y) for line in sorted(drawn, key=lambda line: not line.faint)]
    return drawing(frame.width, frame.height, *parts, label=frame.title)


def _line(line: Line, x: Scale, y: Scale) -> Markup:
    points = [(x(float(a)), y(float(b))) for a, b in zip(line.x, line.y, strict=True)]
    shape = "line faint" if line.faint else "line"
    drawn = element("path", element("title", line.name) if line.name else "", d=path(points), class_=f"{shape} {line.kind}")
    if not line.dots and len(points) > 1:
        return drawn
    titles = [f"{line.name} {number(float(value))}".strip() for value in line.y]
    return drawn + Markup("").join(_dot(*point, title=title, kind=line.kind) for point, title in zip(points, titles, strict=True))


def _dot(x: float, y: float, *, title: str, kind: str) -> Markup:
    return element("circle", element("title", title), cx=x, cy=y, r=2.5, class_=f"dot {kind}")


def _mark(x: float, bottom: float, text: str) -> Markup:
    return element("line", x1=x, x2=x, y1=12, y2=bottom, class_="mark") + element("text", text, x=x - 5, y=22, class_="tick end")


def thinned(curve: Curve, column: str, most: int = 400) -> tuple[list[float], list[float]]:
    """Steps and values of a column where it is stated, averaged over neighbours so that at most `most` points remain."""
    pairs = [(s, v) for s, v in zip(curve.step, getattr(curve, column), strict=True) if v is not None]
    if len(pairs) <= most:
        return [p[0] for p in pairs], [p[1] for p in pairs]
    parts = np.array_split(np.asarray(pairs), most)
    return [float(p[:, 0].mean()) for p in parts], [float(p[:, 1].mean()) for p in parts]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Running mean over `window` neighbours; at the ends over as many as there are."""
    if window < 2 or len(values) < 3:
        return list(values)
    ones, kernel = np.ones(len(values)), np.ones(min(window | 1, 2 * len(values) - 1))
    half = len(kernel) // 2
    total = np.convolve(np.asarray(values, float), kernel)[half : half + len(values)]
    return [float(v) for v in total / np.convolve(ones, kernel)[half : half + len(values)]]


def learning_curves(curves: Sequence[Curve]) -> list[tuple[str, Markup]]:
    """(title, drawing) of loss, validation and learning rate, all folds in one chart; those that were not logged are left out."""
    reach = [c.step[-1] / c.done for c in curves if c.step and c.done > 0]
    drawn = []
    for column, title in (("loss", "Training loss"), ("validation", "Quick validation"), ("learning_rate", "Learning rate")):
        lines = [line for k, curve in enumerate(curves) for line in _column(curve, column, k)]
        figure = chart(lines, Frame(title, x_range=(0, max(reach)) if reach else None))
        if figure:
            drawn.append((title, figure))
    return drawn


def _column(curve: Curve, column: str, k: int) -> list[Line]:
    x, y = thinned(curve, column)
    kind = f"fold{k % 6}"
    if column != "loss":
        return [Line(x, y, kind, dots=column == "validation" and len(x) <= 60, name=curve.name)]
    return [Line(x, y, kind, faint=True), Line(x, smooth(y, max(1, len(y) // 25)), kind, name=curve.name)]


def strips(groups: Sequence[tuple[str, Sequence[Strip]]], *, title: str, digits: int = 3,
           domain: tuple[float, float] | None = None) -> Markup:  # fmt: skip
    """Each group (a label) holds one strip per method: a dot per case, a box from the first to the third quartile with the median,
    and below it the mean as a diamond with its interval. What lies beyond the axis is drawn hollow at its end."""
    everything = [v for _, group in groups for strip in group for v in strip.values]
    if not everything:
        return Markup("")
    low, high = domain or nice_range([0.0, reach(everything)])
    left, row, gap = 92.0, 42.0, 30.0
    height = sum(gap + row * len(group) for _, group in groups) + 46
    scale = Scale(low, high, left, WIDTH - 14)
    parts, y = [x_axis(scale, top=14, bottom=height - 40, title=title)], 0.0
    for name, group in groups:
        parts.append(element("text", name, x=4, y=y + 24, class_="label"))
        y += gap
        for strip in group:
            parts.append(_strip(strip, scale, y + row / 2 - 4, digits=digits))
            y += row
    return drawing(WIDTH, height, *parts, label=title)


def reach(values: Sequence[float]) -> float:
    """How far an axis has to go: to the largest value, or, where far ones (missed objects) would press all others together, to three
    times what three quarters of them stay below."""
    most, far = float(np.percentile(values, 75)), float(max(values))
    return 3 * most if far > 8 * most > 0 else far


def _strip(strip: Strip, scale: Scale, y: float, *, digits: int) -> Markup:
    values = np.asarray(strip.values, float)
    parts = [element("text", strip.name, x=4, y=y + 4, class_="tick")]
    if not len(values):
        return parts[0] + element("text", "not defined for any case", x=scale.start + 4, y=y + 4, class_="tick")
    shown = np.argsort(values, kind="stable")
    if len(shown) > DOTS:
        shown = shown[np.unique(np.linspace(0, len(shown) - 1, DOTS).round().astype(int))]
    x = [scale.within(float(values[k])) for k in shown]
    parts.append(_box(values, scale, y, kind=strip.kind))
    for k, at, offset in zip(shown, x, swarm(x), strict=True):
        kind = strip.kind if values[k] <= scale.high else f"beyond {strip.kind}"
        parts.append(_dot(at, y + offset, title=f"{strip.names[k]}: {number(float(values[k]), digits)}", kind=kind))
    return Markup("").join([*parts, _mean(strip, scale, y + 15, digits=digits)])


def _box(values: np.ndarray, scale: Scale, y: float, *, kind: str) -> Markup:
    first, middle, third = (scale.within(float(q)) for q in np.percentile(values, [25, 50, 75]))
    box = element("rect", x=first, y=y - 9, width=max(1.0, third - first), height=18, rx=2, class_=f"box {kind}")
    return box + element("line", x1=middle, x2=middle, y1=y - 9, y2=y + 9, class_=f"median {kind}")


def _mean(strip: Strip, scale: Scale, y: float, *, digits: int) -> Markup:
    if strip.mean is None:
        return Markup("")
    x, words = scale.within(strip.mean), f"mean {number(strip.mean, digits)}"
    parts = [element("path", d=f"M{x - 4:.1f} {y}L{x:.1f} {y - 4}L{x + 4:.1f} {y}L{x:.1f} {y + 4}Z", class_=f"solid {strip.kind}")]
    if strip.low is not None and strip.high is not None:
        ends = scale.within(strip.low), scale.within(strip.high)
        parts.insert(0, element("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_=f"interval {strip.kind}"))
        words += f", 95 % interval {interval(strip.low, strip.high, digits)}"
    return element("g", element("title", f"{strip.name}: {words}"), *parts)


def swarm(positions: Sequence[float], *, width: float = 4.0, most: float = 8.0) -> list[float]:
    """Offsets across the strip that keep dots apart: neighbours within `width` take turns above and below the middle, closer together
    where more than fit within `most`."""
    bins = np.floor(np.asarray(positions) / width).astype(int)
    offsets = np.zeros(len(positions))
    for one in np.unique(bins):
        here = np.flatnonzero(bins == one)
        rank = np.arange(len(here))
        place = np.ceil(rank / 2) * np.where(rank % 2, 1, -1)
        offsets[here] = place * min(width, most / max(1.0, float(np.abs(place).max())))
    return [float(v) for v in offsets]
