"""The steps of a network in numpy, in float32: what they mean, and how they are done where there is no kernel for them.

Maps are (B, *S, C). Weights lie as torch has them: (K, C, *sides), of transposed convolutions (C, K, *sides).
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from vesalius.export.numbers import Singles

Sides = Sequence[int]


def convolution(x: Singles, weight: Singles, bias: Singles | None, *, step: Sides, pad: Sides) -> Singles:
    """The map through every place of the kernel: one matrix product each."""
    sides = weight.shape[2:]
    padded = np.pad(x, [(0, 0), *((n, n) for n in pad), (0, 0)]) if any(pad) else x
    made = [(n - side) // s + 1 for n, side, s in zip(padded.shape[1:-1], sides, step, strict=True)]
    out = np.zeros((len(x), *made, len(weight)), np.float32)
    if bias is not None:
        out += bias
    for place in product(*map(range, sides)):
        seen = padded[(slice(None), *(slice(p, p + s * (n - 1) + 1, s) for p, s, n in zip(place, step, made, strict=True)))]
        out += _through(seen, weight.reshape(*weight.shape[:2], -1)[..., np.ravel_multi_index(place, sides)].T)
    return out


def transposed(x: Singles, weight: Singles, bias: Singles | None, *, step: Sides) -> Singles:
    """Every voxel becomes a block of `step` voxels."""
    out = np.empty((len(x), *(n * s for n, s in zip(x.shape[1:-1], step, strict=True)), weight.shape[1]), np.float32)
    for place in product(*map(range, step)):
        at = (slice(None), *(slice(p, None, s) for p, s in zip(place, step, strict=True)))
        out[at] = _through(x, weight.reshape(*weight.shape[:2], -1)[..., np.ravel_multi_index(place, step)])
    if bias is not None:
        out += bias
    return out


def _through(x: Singles, matrix: Singles) -> Singles:
    """(..., C) by (C, K)."""
    flat = np.ascontiguousarray(x).reshape(-1, x.shape[-1]) @ matrix
    return np.asarray(flat.reshape(*x.shape[:-1], -1), np.float32)


def normalisation(x: Singles, weight: Singles | None, bias: Singles | None, *, added: float, slope: float) -> Singles:
    """(Ulyanov et al. 2016, arXiv:1607.08022, eq. 5), then leaky; moments in double precision."""
    axes = tuple(range(1, x.ndim - 1))
    mean = x.mean(axes, dtype=np.float64, keepdims=True)
    deviation = np.sqrt(np.square(x - mean.astype(np.float32)).mean(axes, dtype=np.float64, keepdims=True) + added)
    scale = (1 if weight is None else weight) / deviation
    shift = (0 if bias is None else bias) - mean * scale
    return leaky(x * scale.astype(np.float32) + shift.astype(np.float32), slope)


def leaky(x: Singles, slope: float) -> Singles:
    """What is below 0 times `slope`."""
    return x if slope == 1 else np.where(x > 0, x, x * np.float32(slope))


def blocks(x: Singles, step: Sides) -> Iterator[Singles]:
    """The voxels at one place after the other of whole blocks."""
    whole = [n // s * s for n, s in zip(x.shape[1:-1], step, strict=True)]
    for place in product(*map(range, step)):
        yield x[(slice(None), *(slice(p, end, s) for p, end, s in zip(place, whole, step, strict=True)))]


def mean_pool(x: Singles, *, step: Sides) -> Singles:
    """The mean of every block."""
    parts = list(blocks(x, step))
    return np.asarray(sum(parts[1:], parts[0].copy()) / np.float32(len(parts)), np.float32)


def max_pool(x: Singles, *, step: Sides) -> Singles:
    """The largest of every block."""
    first, *others = blocks(x, step)
    out = first.copy()
    for other in others:
        np.maximum(out, other, out=out)
    return out
