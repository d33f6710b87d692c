"""Tiny images and masks for the examples of layouts."""

from pathlib import Path

import numpy as np

from vesalius.core.space import Space
from vesalius.io.image import Image


def write_case(image: Path | None, mask: Path | None, *, seed: int, value: int = 1, side: int = 24) -> None:
    """A bright disc in noise at `image`, and the disc as `value` at `mask`; None writes nothing. 2D, or 3D for NIfTI."""
    from vesalius.io import save

    generator = np.random.default_rng(seed)
    for path, is_mask in ((image, False), (mask, True)):
        if path is None:
            continue
        shape = (side, side, 8) if ".nii" in path.name else (side, side + 4)
        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij"))
        centre = np.random.default_rng(seed).uniform(-0.3, 0.3, len(shape)).reshape(-1, *[1] * len(shape))
        disc = ((grid - centre) ** 2).sum(0) < 0.25
        noisy = generator.normal(80, 20, shape) + 90 * disc
        pixels = (disc * value).astype(np.uint8) if is_mask else noisy.clip(0, 255).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image(pixels[None], Space.of(shape, physical=len(shape) == 3)), path)
