"""Scans with the contours of truth and prediction: three planes of a volume, or the picture itself in 2D.

Planes are shown as radiologists read them: the patient's right on the left of the picture, front or head up. The scan is a small embedded
PNG (JPEG in colour); the contours are vector paths over it, so they stay sharp and can be switched off.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vesalius.data.labels import IGNORE, Labels
from vesalius.report.svg import element, path

Mask = NDArray[np.bool_]
PLANES = {2: ("axial", "R", "A"), 1: ("coronal", "R", "S"), 0: ("sagittal", "A", "S")}
HEIGHT, WIDEST = 300, 640  # pixels of a picture; planes stand beside each other at one height


@dataclass(frozen=True)
class Scene:
    """What is drawn of a case: `image` (C, *S) in canonical order, `truth` and `prediction` coded as `labels` codes them (one volume for
    any number of classes) or None, and mm per voxel."""

    image: NDArray[np.generic]
    truth: NDArray[np.uint8] | None
    prediction: NDArray[np.uint8] | None
    spacing: tuple[float, ...]
    labels: Labels

    @property
    def ndim(self) -> int:
        return len(self.spacing)

    def focus(self) -> Mask:
        """Where to look (*S): the truth, else the prediction, else nothing."""
        for coded in (self.truth, self.prediction):
            if coded is not None and (marked := ((coded > 0) & (coded != IGNORE)).any(axis=0)).any():
                return np.asarray(marked)
        return np.zeros(self.image.shape[1:], bool)

    def masks(self, coded: NDArray[np.generic] | None) -> Mask | None:
        """(K, rows, cols) of a flat part (1 or K, rows, cols) of the truth or prediction."""
        return None if coded is None else self.labels.masks(coded)


@dataclass(frozen=True)
class View:
    """One flat picture, rows down and columns right: `image` (rows, cols) or (rows, cols, 3), masks (K, rows, cols), mm per (row, col)."""

    title: str
    image: NDArray[np.generic]
    truth: Mask | None
    prediction: Mask | None
    spacing: tuple[float, float]
    left: str = ""
    top: str = ""


def slice_with_most(mask: Mask, axis: int) -> int:
    """Index along `axis` of the slice with most of `mask` (*S); the middle where there is none."""
    counts = mask.sum(axis=tuple(a for a in range(mask.ndim) if a != axis))
    return int(counts.argmax()) if counts.any() else mask.shape[axis] // 2


def clearest_channel(image: NDArray[np.generic], inside: Mask) -> int:
    """The channel whose mean inside differs most from the mean just around, in units of its spread there (0 where nothing is inside)."""
    if len(image) == 1 or not inside.any():
        return 0
    around = _dilated(inside, max(2, round(0.05 * max(inside.shape)))) & ~inside
    if not around.any():
        return 0
    channels = [channel.astype(np.float32) for channel in image]
    contrast = [abs(c[inside].mean() - c[around].mean()) / (c[inside | around].std() + 1e-9) for c in channels]
    return int(np.argmax(contrast))


def _dilated(mask: Mask, steps: int) -> Mask:
    from scipy.ndimage import maximum_filter

    return np.asarray(maximum_filter(mask, size=2 * steps + 1))


def views(scene: Scene) -> list[View]:
    """Axial, coronal and sagittal slices with most of the truth, cropped to its surroundings; in 2D the picture as it is (in colour where
    it has colour) and again in grey under the contours."""
    if scene.ndim == 2:
        spacing, plain = (scene.spacing[0], scene.spacing[1]), np.moveaxis(scene.image, 0, -1)
        plain = plain if plain.shape[-1] == 3 else plain[..., 0]
        return [View("the image", plain, None, None, spacing),
                View("with contours", luminance(plain), scene.masks(scene.truth), scene.masks(scene.prediction), spacing)]  # fmt: skip
    focus = scene.focus()
    return [cropped(_plane(scene, axis, slice_with_most(focus, axis))) for axis in PLANES]


def _plane(scene: Scene, axis: int, index: int) -> View:
    title, left, top = PLANES[axis]
    across, up = [a for a in range(3) if a != axis]

    def flat(volume: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.asarray(np.take(volume, index, axis=axis + volume.ndim - 3)[..., ::-1, ::-1].swapaxes(-1, -2))

    truth, prediction = (scene.masks(None if coded is None else flat(coded)) for coded in (scene.truth, scene.prediction))
    return View(f"{title}, slice {index + 1} of {scene.image.shape[axis + 1]}", flat(scene.image[0]), truth, prediction,
                (scene.spacing[up], scene.spacing[across]), left, top)  # fmt: skip


def cropped(view: View, *, margin: float = 1.0) -> View:
    """`view` with `margin` times the longer side of the outlined region left around it (at least a third of the whole picture)."""
    marked = [m.any(axis=0) for m in (view.truth, view.prediction) if m is not None and m.any()]
    if not marked:
        return view
    region = np.logical_or.reduce(marked)
    extent = [np.flatnonzero(region.any(axis=1 - a))[[0, -1]] * s for a, s in enumerate(view.spacing)]
    side = max(high - low for low, high in extent) * (1 + margin)
    windows = [_window(low, high, side, total=n, step=s) for (low, high), n, s in zip(extent, region.shape, view.spacing, strict=True)]
    cut = tuple(windows)
    masks = (None if m is None else m[(slice(None), *cut)] for m in (view.truth, view.prediction))
    truth, prediction = masks
    return View(view.title, view.image[cut], truth, prediction, view.spacing, view.left, view.top)


def _window(low: float, high: float, side: float, *, total: int, step: float) -> slice:
    """Voxels of a window of `side` mm (at least a third of the whole) around the middle of low .. high, moved to lie inside."""
    voxels = min(total, max(round(side / step), total // 3, 8))
    start = round((low + high) / 2 / step - voxels / 2)
    start = min(max(0, start), total - voxels)
    return slice(start, start + voxels)


def luminance(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """(rows, cols, 3) in grey (ITU-R BT.601 weights); (rows, cols) stays."""
    return image if image.ndim == 2 else np.asarray(image @ np.array([0.299, 0.587, 0.114], np.float32))


def as_bytes(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(rows, cols) or (rows, cols, 3) as bytes: stretched between the 0.5 and 99.5 percentiles; 8-bit colours stay as they are."""
    if image.ndim == 3 and image.min() >= 0 and 1 < image.max() <= 255:
        return np.asarray(np.rint(image)).astype(np.uint8)
    values = np.nan_to_num(image.astype(np.float32))
    low, high = np.percentile(values, [0.5, 99.5])
    if high <= low:
        low, high = float(values.min()), float(values.max()) + 1e-6
    return np.asarray(np.clip((values - low) / (high - low) * 255, 0, 255)).astype(np.uint8)


def embedded(image: NDArray[np.uint8], size: tuple[int, int]) -> str:
    """A data URI of `image`, resampled to `size` (columns, rows): PNG in grey, JPEG in colour."""
    from PIL import Image

    larger = size[0] > image.shape[1]
    picture = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC if larger else Image.Resampling.BOX)
    file, form = BytesIO(), "PNG" if image.ndim == 2 else "JPEG"
    picture.save(file, form, quality=85)
    return f"data:image/{form.lower()};base64,{b64encode(file.getvalue()).decode()}"


def contours(mask: Mask, scale: tuple[float, float]) -> str:
    """The `d` of a path around `mask` (rows, cols) by marching squares; `scale` is picture units per (row, col)."""
    from contourpy import contour_generator

    found = contour_generator(z=np.pad(mask.astype(np.float32), 1)).lines(0.5)
    lines = [_straight(np.asarray(line, np.float64)) for line in found]
    return "".join(path([((x - 0.5) * scale[1], (y - 0.5) * scale[0]) for x, y in line.tolist()], closed=True) for line in lines)


def _straight(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """A closed line (n, 2) without its last point (the first again) and without points in the middle of a straight run."""
    points = line[:-1] if len(line) > 3 and np.allclose(line[0], line[-1]) else line
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    return points[turns] if turns.sum() > 2 else points


@dataclass(frozen=True)
class Drawing:
    """A picture ready for the page; `aspect` is width over height."""

    title: str
    markup: Markup
    aspect: float


def draw(view: View, labels: Sequence[str], *, by_label: bool = False) -> Drawing:
    """The picture with its contours; sides to scale in mm. `by_label` gives each label a colour instead of truth and prediction."""
    rows, cols = view.image.shape[:2]
    height, width = rows * view.spacing[0], cols * view.spacing[1]
    unit = min(HEIGHT / height, WIDEST / width)
    size = (max(1, round(width * unit)), max(1, round(height * unit)))
    scale = (size[1] / rows, size[0] / cols)
    uri = embedded(as_bytes(view.image), size)
    parts = [element("image", href=uri, x=0, y=0, width=size[0], height=size[1], preserveAspectRatio="none")]
    parts += _outlines(view, scale, labels, by_label=by_label)
    parts.append(element("text", view.left, x=7, y=size[1] / 2 + 5, class_="side"))
    parts.append(element("text", view.top, x=size[0] / 2, y=17, class_="side middle"))
    name = f"{view.title}, with contours"
    markup = element("svg", *parts, viewBox=f"0 0 {size[0]} {size[1]}", role="img", aria_label=name, class_="scan")
    return Drawing(view.title, markup, size[0] / size[1])


def is_thin(mask: Mask, scale: tuple[float, float], *, least: float = 9.0) -> bool:
    """Whether the structure (rows, cols) is on average narrower than `least` picture units, so that a wide line would hide it: twice the
    area over the length of its border."""
    across, down = np.diff(np.pad(mask, 1).astype(np.int8), axis=1), np.diff(np.pad(mask, 1).astype(np.int8), axis=0)
    border = float(np.abs(across).sum()) * scale[0] + float(np.abs(down).sum()) * scale[1]
    return 2 * float(mask.sum()) * scale[0] * scale[1] < least * border


def _outlines(view: View, scale: tuple[float, float], labels: Sequence[str], *, by_label: bool) -> list[Markup]:
    """One path per label that shows in the picture; truth is drawn wider, so that it frames a prediction lying upon it."""
    found = []
    for kind, masks in (("truth", view.truth), ("prediction", view.prediction)):
        for k, (mask, label) in enumerate(zip(masks if masks is not None else (), labels, strict=False)):
            if mask.any():
                look = f"outline{' thin' if is_thin(mask, scale) else ''} {f'hue{k % 6}' if by_label else kind}"
                found.append(element("path", element("title", f"{label}, {kind}"), d=contours(mask, scale), class_=look))
    return found
