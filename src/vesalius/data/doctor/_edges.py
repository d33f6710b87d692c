"""How well the outline of a mask lies on edges of its image, as it is and flipped."""

import numpy as np

from vesalius.core.space import Array


def edges_under(image: Array, marked: Array) -> tuple[float, ...]:
    """Mean edge strength along the outline of `marked` as it is and under each flip, over that of the whole picture.

    `image` and `marked` are (H, W), or (X, Y, Z), of which the slice with the most marked voxels is taken. Empty: ().
    """
    from scipy.ndimage import binary_erosion, gaussian_filter

    if image.ndim == 3:
        place = int(marked.sum((0, 1)).argmax())
        image, marked = image[..., place], marked[..., place]
    if not marked.any() or min(image.shape) < 8:
        return ()
    edge = np.hypot(*np.gradient(gaussian_filter(np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0), 1.0)))
    outline = marked & ~binary_erosion(marked, border_value=1)
    mean = float(edge.mean())
    if not outline.any() or mean <= 0:
        return ()
    return tuple(float(edge[side].mean()) / mean for side in (outline, outline[::-1], outline[:, ::-1], outline[::-1, ::-1]))
