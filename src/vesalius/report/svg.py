"""Inline SVG from small pure functions: elements, scales, ticks and axes. Colours are CSS classes, so that they follow the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup, escape

MINUS = "−"


def element(tag: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """`<tag a="b">children</tag>`; text and attribute values are escaped, `class_` gives class, `stroke_width` stroke-width."""
    words = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), short(value) if isinstance(value, float | int) else value)
        for key, value in attributes.items()
        if value is not None
    ]
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), Markup("").join(words), Markup("").join(escape(c) for c in children))


def short(value: float) -> str:
    """At most two decimals, none that say nothing."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


@dataclass(frozen=True)
class Scale:
    """Takes the range `low` .. `high` of the data to pixels `start` .. `end` (end before start flips it)."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    def within(self, value: float) -> float:
        """Like calling it, but what lies outside the range is put at its end."""
        return self(min(max(value, self.low), self.high))


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within `low` .. `high`, about `most` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** floor(log10(rough))
    step = power * next((s for s, least in ((10, 50**0.5), (5, 10**0.5), (2, 2**0.5)) if rough / power >= least), 1)
    first = ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, floor(high / step + 1e-9) + 1)]


def nice_range(values: Sequence[float], *, most: int = 5) -> tuple[float, float]:
    """The range of `values` widened to round numbers."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    marks = ticks(low, high, most)
    step = marks[1] - marks[0] if len(marks) > 1 else high - low
    return floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step


def tick_text(value: float, step: float) -> str:
    """A tick's number with the decimals that its step needs; very small and very large ones as powers of ten."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, power = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}".replace("-", MINUS)
    digits = max(0, -floor(log10(step) + 1e-9)) if step > 0 else 2
    return f"{value:.{min(digits, 4)}f}".replace("-", MINUS)


def x_axis(scale: Scale, *, top: float, bottom: float, title: str = "", most: int = 5) -> Markup:
    """Vertical grid lines from `top` to `bottom`, numbers below them, and the title under the numbers."""
    marks = ticks(scale.low, scale.high, most)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    parts = [element("line", x1=scale(m), x2=scale(m), y1=top, y2=bottom, class_="grid") for m in marks]
    parts += [element("text", tick_text(m, step), x=scale(m), y=bottom + 15, class_="tick middle") for m in marks]
    if title:
        parts.append(element("text", title, x=(scale.start + scale.end) / 2, y=bottom + 32, class_="axis middle"))
    return Markup("").join(parts)


def y_axis(scale: Scale, *, left: float, right: float, most: int = 5) -> Markup:
    """Horizontal grid lines from `left` to `right` and numbers before them."""
    marks = ticks(scale.low, scale.high, most)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    parts = [element("line", x1=left, x2=right, y1=scale(m), y2=scale(m), class_="grid") for m in marks]
    parts += [element("text", tick_text(m, step), x=left - 6, y=scale(m) + 4, class_="tick end") for m in marks]
    return Markup("").join(parts)


def path(points: Sequence[tuple[float, float]], *, closed: bool = False) -> str:
    """The `d` of a path through `points`."""
    if not points:
        return ""
    body = "L".join(f"{short(round(x, 1))} {short(round(y, 1))}" for x, y in points)
    return f"M{body}{'Z' if closed else ''}"


def drawing(width: float, height: float, *parts: Markup, label: str) -> Markup:
    """An `<svg>` that shrinks with the page; `label` is what a screen reader says."""
    return element("svg", *parts, viewBox=f"0 0 {short(width)} {short(height)}", width=width, height=height, role="img", aria_label=label)
