"""The shallow opponent of a generator: images drawn from a normal distribution over the principal components of training images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
COMPONENTS = 64


@dataclass(frozen=True)
class Components:
    """`mean` (C, *S), `axes` (K, numbers of an image), and the `spread` (K,) of the images along them."""

    mean: Floats
    axes: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, images: Floats, *, components: int = COMPONENTS, seed: int = 0) -> "Components":
        """The leading components of `images` (N, C, *S), by subspace iteration (Halko et al. 2011), so that large images are no matter."""
        mean = images.mean(0, dtype=np.float64).astype(np.float32)
        flat = (images - mean).reshape(len(images), -1)
        count = min(components, *flat.shape)
        basis = np.random.default_rng(seed).standard_normal((len(flat), min(count + 8, len(flat)))).astype(np.float32)
        for _ in range(3):
            rows = np.linalg.qr(flat.T @ basis)[0]
            basis = flat @ rows
        _, values, turn = np.linalg.svd(basis.astype(np.float64), full_matrices=False)
        return cls(mean, (turn @ rows.T)[:count], values[:count] / np.sqrt(max(1, len(flat) - 1)))

    def samples(self, number: int, *, seed: int = 0) -> Floats:
        """`number` images (number, C, *S), clipped to 0..1."""
        code = np.random.default_rng((seed, 1)).standard_normal((number, len(self.spread))) * self.spread
        return np.clip((code @ self.axes).reshape(number, *self.mean.shape) + self.mean, 0, 1).astype(np.float32)
