"""Differentiable augmentation of what a critic sees, real or made, so that few images suffice and the generator does not learn it.

Karras et al. 2020 (NeurIPS, ADA): each change is made with a probability below one, so that the distribution of images can be told from
that of augmented ones ("non-leaking"); the probability grows while the critic is too sure of the training images and falls otherwise.
Ours has mirroring, rotation, scaling, shifts, brightness and contrast in 2D and 3D, and resamples once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.errors import UsageError
from vesalius.methods._chance import Chance

MOST = 0.8  # of the probability: above that the paper's augmentations leak
SCALE, SHIFT = 0.2, 0.125  # standard deviations: of log2 of the scale, of the shift in sides
BRIGHTNESS, CONTRAST = 0.2, 0.5  # of the brightness in half ranges, of log2 of the contrast


@dataclass(frozen=True)
class Views:
    """`probability` of each change at the start. It follows the mean sign of the critic on training images towards `target` and takes
    `horizon` images from 0 to 1 at the fastest (the paper: 0.6 and 500,000); with target None it stays."""

    probability: float = 0.0
    target: float | None = 0.6
    horizon: int = 100_000
    geometry: bool = True
    intensity: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= MOST or self.horizon < 1:
            raise UsageError(f"The probability of an augmentation is 0 to {MOST} (above, it leaks into what is made) and its horizon "
                             f"at least one image; got {self.probability} and {self.horizon}.")  # fmt: skip

    def next(self, probability: Tensor, sign: Tensor, images: int) -> Tensor:
        """The probability after a step with `images`, on which the sign of the critic was `sign` in the mean."""
        if self.target is None:
            return probability
        return (probability + torch.sign(sign - self.target) * images / self.horizon).clamp(0, MOST)

    def shown(self, image: Tensor, probability: Tensor, chance: Chance, *, bounds: tuple[float, float]) -> Tensor:
        """`image` (B, C, *S) as the critic sees it; a sample that no change fell on stays as it is to the last bit."""
        image = moved(image, probability, chance) if self.geometry else image
        return toned(image, probability, chance, bounds=bounds) if self.intensity else image


def moved(image: Tensor, probability: Tensor, chance: Chance) -> Tensor:
    """Mirrored, turned, scaled and shifted; what comes in from outside is reflected."""
    rows, n = len(image), image.ndim - 2
    planes = list(combinations(range(n), 2))
    on = chance.uniform((rows, 2 * n + len(planes) + 1)) < probability
    lot, normal = chance.uniform((rows, n + len(planes))), chance.normal((rows, n + 1))
    flip = torch.where(on[:, :n] & (lot[:, :n] < 0.5), -1.0, 1.0)
    angle = torch.where(on[:, n : n + len(planes)], (2 * lot[:, n:] - 1) * math.pi, 0.0)
    scale = torch.where(on[:, -1 - n], 2 ** (SCALE * normal[:, 0]), 1.0)
    shift = torch.where(on[:, -n:], SHIFT * normal[:, 1:], 0.0)
    matrix = torch.diag_embed(flip / scale[:, None])
    for k, plane in enumerate(planes):
        matrix = matrix @ turned(angle[:, k], plane, n)
    found = resampled(image.float(), matrix, shift)
    any_move = (flip < 0).any(1) | (angle != 0).any(1) | (scale != 1) | (shift != 0).any(1)
    return torch.where(any_move.reshape(-1, *(1,) * (n + 1)), found, image)


def turned(angle: Tensor, plane: tuple[int, int], n: int) -> Tensor:
    """Rotation matrices (B, n, n) by `angle` (B,) in the plane of two axes."""
    matrix = torch.eye(n, device=angle.device).repeat(len(angle), 1, 1)
    a, b = plane
    matrix[:, a, a] = matrix[:, b, b] = angle.cos()
    matrix[:, a, b], matrix[:, b, a] = -angle.sin(), angle.sin()
    return matrix


def resampled(image: Tensor, matrix: Tensor, shift: Tensor, *, onto: Sequence[int] = ()) -> Tensor:
    """`image` at matrix @ place + shift (in sides) of each voxel's place from the middle; torch counts axes from the last.

    The answer has as many voxels as the image, or `onto` that many along each axis, over the same extent."""
    sides = torch.tensor(image.shape[2:], dtype=torch.float32, device=image.device)
    unit = matrix * sides / sides[:, None]
    theta = torch.cat([unit.flip(1, 2), 2 * shift.flip(1)[:, :, None]], 2)
    grid = F.affine_grid(theta, [*image.shape[:2], *(onto or image.shape[2:])], align_corners=False)
    return F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)


def toned(image: Tensor, probability: Tensor, chance: Chance, *, bounds: tuple[float, float]) -> Tensor:
    """Brighter or darker, and with more or less contrast around the middle of `bounds`."""
    on, normal = chance.uniform((len(image), 2)) < probability, chance.normal((len(image), 2))
    middle, half = sum(bounds) / 2, (bounds[1] - bounds[0]) / 2
    over = (-1, *(1,) * (image.ndim - 1))
    contrast = torch.where(on[:, 0], 2 ** (CONTRAST * normal[:, 0]), 1.0).reshape(over)
    brightness = torch.where(on[:, 1], BRIGHTNESS * half * normal[:, 1], 0.0).reshape(over)
    found = (image - middle) * contrast + middle + brightness
    return torch.where(on.any(1).reshape(over), found, image)
