"""From the grid on which a network sees whole images back to that of each image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array
from vesalius.data.prepare import Preparation
from vesalius.data.whole import along, flat, network_steps
from vesalius.io.image import Image


def restored(heat: Array, image: Image, how: Preparation, *, size: Sequence[int]) -> NDArray[np.float32]:
    """A map (1, *size) on the grid of `image`, linear between its voxels; 0 where the network's grid does not reach."""
    seen = flat(image, len(size))
    turn = seen.space.canonical_turn()
    space = seen.space.turned(turn)
    extent = np.array(space.shape) * np.array(space.spacing)
    steps = network_steps(extent, how, np.array(size))
    out = np.asarray(heat, np.float32)
    for axis, (step, own, side) in enumerate(zip(steps, space.spacing, space.shape, strict=True), start=1):
        out = along(out, axis, ratio=float(own / step), side=side)
    out = np.ascontiguousarray(turn.undo(out))
    return out.reshape(1, *image.space.shape)
