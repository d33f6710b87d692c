"""What stands beside every method that finds anomalies: distances in raw pixels; and masks of what is abnormal on the network's grid."""

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
Floats = NDArray[np.float64]


class Pixels:
    """Learned by heart: the mean of the training images, and (evenly chosen) training images themselves."""

    def __init__(self, trained: Images) -> None:
        total = sum(batch.double().sum(0) for batch in trained.batches())
        self.mean = (total / len(trained)).flatten().cpu().numpy() if len(trained) else np.zeros(1)  # type: ignore[union-attr]
        step = max(1, -(-len(trained) // MOST))
        self.kept = np.stack([np.asarray(one, np.float32).ravel() for one in trained.pixels[::step]])

    def to_mean(self, images: Images) -> Floats:
        """(N,) mean squared differences to the mean training image."""
        parts = [((batch.flatten(1).double().cpu().numpy() - self.mean) ** 2).mean(1) for batch in images.batches()]
        return np.concatenate(parts)

    def to_nearest(self, images: Images) -> Floats:
        """(N,) mean squared differences to the nearest training image."""
        own = (self.kept.astype(np.float64) ** 2).sum(1)
        parts = []
        for batch in images.batches():
            pixels = batch.flatten(1).cpu().numpy()
            squares = (pixels.astype(np.float64) ** 2).sum(1)[:, None] + own - 2 * (pixels @ self.kept.T)
            parts.append(squares.min(1).clip(0) / pixels.shape[1])
        return np.concatenate(parts)


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
