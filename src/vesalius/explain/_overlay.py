"""A heat over a grey image with a colour bar, as an array of colours."""

import numpy as np

from vesalius.core.colours import viridis
from vesalius.core.errors import UsageError
from vesalius.core.space import Array

BAR, GAP = 0.05, 0.03  # widths of the colour bar and of the black strip before it, parts of the picture's width
TOP = 99.5  # percentile of the heat that the brightest colour stands for


def overlay(image: Array, heat: Array, *, opacity: float = 0.65, top: float | None = None, bar: bool = True) -> Array:
    """`heat` (rows, columns) in colour over `image` (rows, columns) in grey: uint8 (rows, columns + bar, 3).

    Cold places stay grey and hot ones take the colour, up to `opacity`. The bar runs from 0 (below) to `top`, the heat that the
    brightest colour stands for (None: see `top_of`); what speaks against the class (below 0) is not coloured.
    """
    if image.shape != heat.shape or image.ndim != 2:
        raise UsageError(f"An overlay needs an image and a heat of the same rows and columns; got {image.shape} and {heat.shape}. "
                         "Take a slice of a volume first: strongest(image, heat).")  # fmt: skip
    if not 0 <= opacity <= 1:
        raise UsageError(f"The opacity is a part, 0 to 1; got {opacity}.")
    part = np.clip(np.nan_to_num(np.asarray(heat, float)) / (top or top_of(heat)), 0, 1)
    cover = opacity * np.sqrt(part)[..., None]
    picture = (1 - cover) * _grey(image)[..., None] + cover * viridis(part)
    if bar:
        picture = np.concatenate([picture, *_bar(*image.shape)], 1)
    return np.asarray(np.rint(picture).clip(0, 255), np.uint8)


def top_of(heat: Array) -> float:
    """The heat of the brightest colour: the 99.5th percentile of what is positive; 1 where nothing is."""
    hot = np.asarray(heat)[np.asarray(heat) > 0]
    return float(np.percentile(hot, TOP)) if hot.size else 1.0


def _grey(image: Array) -> Array:
    """0 to 255 between the 1st and 99th percentile."""
    low, high = np.percentile(image, (1, 99))
    return np.asarray(255 * np.clip((image - low) / max(float(high - low), 1e-12), 0, 1))


def _bar(rows: int, columns: int) -> tuple[Array, Array]:
    wide, gap = max(2, round(BAR * columns)), max(1, round(GAP * columns))
    ramp = viridis(np.linspace(1, 0, rows))[:, None].repeat(wide, 1)
    return np.zeros((rows, gap, 3)), ramp


def strongest(image: Array, heat: Array, *, axis: int = -1) -> tuple[Array, Array, int]:
    """The slice of a volume along `axis` that holds most positive heat: image, heat and index; both are (*S), three axes."""
    if image.shape != heat.shape or image.ndim != 3:
        raise UsageError(f"Expected a volume and its heat of one shape; got {image.shape} and {heat.shape}.")
    others = tuple(a for a in range(3) if a != axis % 3)
    index = int(np.clip(heat, 0, None).sum(others).argmax())
    return np.take(image, index, axis), np.take(heat, index, axis), index
