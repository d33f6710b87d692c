"""What stands beside every method that finds anomalies: distances in raw pixels; and masks of what is abnormal on the network's grid."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array
from vesalius.data.case import Case
from vesalius.data.labels import IGNORE, Labels
from vesalius.data.prepare import Preparation
from vesalius.data.read import load_mask
from vesalius.data.whole import fitted, flat
from vesalius.io.image import Image
from vesalius.tasks import Images

MOST = 2000  # training images that are searched for the nearest
SHARE, MOST_SPANNED = 0.95, 1500  # of the variance that components hold, found in so many training images
LEAST_DEVIATION = 0.1  # of the root mean variance of all pixels, added to each variance: there are pixels that never change
Floats = NDArray[np.float64]


class Pixels:
    """Learned by heart: mean and variance of each pixel over the training images, (evenly chosen) training images themselves, and the
    principal components that hold 95 % of the variance of these."""

    def __init__(self, trained: Images) -> None:
        self.kept = _rows(trained.pixels, MOST)
        self.mean, self.variance = _moments(trained) if len(trained) else (np.zeros(1), np.ones(1))
        some = _rows(trained.pixels, MOST_SPANNED).astype(np.float64)
        self.middle = some.mean(0)
        self.components = components(some - self.middle, SHARE)

    def to_mean(self, images: Images) -> Floats:
        """(N,) squared differences to the mean training image over the variance of each pixel, meaned over pixels."""
        spread = self.variance + LEAST_DEVIATION**2 * self.variance.mean() + np.finfo(np.float32).tiny
        return np.concatenate([((rows - self.mean) ** 2 / spread).mean(1) for rows in _flat(images)])

    def left_over(self, images: Images) -> Floats:
        """(N,) mean squared differences between images and their projections onto the components."""
        away = [rows - self.middle for rows in _flat(images)]
        return np.concatenate([((rows - rows @ self.components.T @ self.components) ** 2).mean(1) for rows in away])

    def to_nearest(self, images: Images) -> Floats:
        """(N,) mean squared differences to the nearest training image."""
        own = (self.kept.astype(np.float64) ** 2).sum(1)
        parts = []
        for batch in images.batches():
            pixels = batch.flatten(1).cpu().numpy()
            squares = (pixels.astype(np.float64) ** 2).sum(1)[:, None] + own - 2 * (pixels @ self.kept.T)
            parts.append(squares.min(1).clip(0) / pixels.shape[1])
        return np.concatenate(parts)


def _rows(pixels: Sequence[NDArray[np.floating]], most: int) -> NDArray[np.float32]:
    """(N, numbers) of at most `most` images, evenly chosen."""
    return np.stack([np.asarray(one, np.float32).ravel() for one in pixels[:: max(1, -(-len(pixels) // most))]])


def _flat(images: Images) -> Iterator[Floats]:
    """(B, numbers) of every image, batch by batch."""
    for batch in images.batches():
        yield batch.flatten(1).double().cpu().numpy()


def _moments(images: Images) -> tuple[Floats, Floats]:
    """Mean and variance of each pixel."""
    mean = np.asarray(sum(rows.sum(0) for rows in _flat(images)) / len(images))
    return mean, np.asarray(sum(((rows - mean) ** 2).sum(0) for rows in _flat(images)) / len(images))


def components(away: Floats, share: float) -> Floats:
    """(K, numbers) the fewest principal components, of unit length, that hold `share` of the variance of rows `away` (N, numbers) about
    their mean; by the smaller of their two products."""
    wide = away.shape[1] > len(away)
    values, vectors = np.linalg.eigh(away @ away.T if wide else away.T @ away)
    values = values[::-1].clip(0)
    if not values.sum():
        return np.zeros((0, away.shape[1]))
    number = int(np.searchsorted(np.cumsum(values) / values.sum(), share)) + 1
    found = vectors[:, ::-1][:, :number].T
    return found @ away / np.sqrt(values[:number, None]) if wide else found


def abnormal(case: Case, labels: Labels, how: Preparation, *, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """(*size) what the mask of `case` marks, on the network's grid; None where it has no mask."""
    if case.mask is None or labels.grain != "voxel" or not labels.names:
        return None
    mask = load_mask(case.mask, labels)
    coded = labels.encode(mask.array)
    marked = ((coded > 0) & (coded != IGNORE)).any(0, keepdims=True)
    image = flat(Image(marked.astype(np.float32), mask.space), len(size)).canonical()
    return np.asarray(fitted(image.array, image.space.spacing, how, size=size)[0] > 0.5)


def cut(image: Array, heat: Array, mask: Array | None = None) -> NDArray[np.float32]:
    """Image (C, *S), heat (*S) and mask (*S) as flat pictures, (2 or 3, rows, columns): grey, heat, mask. Of a volume the slice that holds
    most of the mask, else most heat, across its shortest axis; rows down, columns right."""
    parts = [np.asarray(image, np.float32).mean(0), heat, *([] if mask is None else [mask])]
    volume = np.stack([np.asarray(part, np.float32) for part in parts])
    if heat.ndim == 2:
        return volume
    axis = int(np.argmin(heat.shape)) if min(heat.shape) < 0.75 * max(heat.shape) else 2
    where = mask if mask is not None and mask.any() else heat
    index = int(where.sum(tuple(a for a in range(3) if a != axis)).argmax())
    return np.ascontiguousarray(np.take(volume, index, 1 + axis)[:, ::-1, ::-1].swapaxes(1, 2))
