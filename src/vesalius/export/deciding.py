"""From logits to labels, to how certain they are, and to probabilities: by numpy, in float32, as `engine/rolling.py` does it with torch."""

from collections.abc import Iterable
from itertools import count

import numpy as np

from vesalius.core.space import Array
from vesalius.engine.sums import CODES_PER_UNIT, EVEN
from vesalius.export.numbers import Singles


def largest(values: Iterable[Singles], labels: Array, sure: Array | None) -> None:
    """Number of the largest of the classes, which come one after the other, into `labels` (1, *S); the first of equals. How certain it is,
    against all others together, into `sure`, where that is wanted."""
    items = iter(values)
    best = next(items).copy()
    number, others = np.zeros(best.shape, np.uint8), np.full(best.shape, -np.inf, np.float32) if sure is not None else None
    for k, value in zip(count(1), items, strict=False):
        if others is not None:
            others = np.logaddexp(others, np.minimum(best, value))
        np.copyto(number, k, where=value > best)
        np.maximum(best, value, out=best)
    labels[0] = number
    if sure is not None and others is not None:
        sure[0] = coded(best - others)


def above(values: Iterable[Singles], labels: Array, sure: Array | None) -> None:
    """0 and 1 for each class that may overlap others, and how certain, likewise."""
    for region, value in enumerate(values):
        labels[region] = value > 0
        if sure is not None:
            sure[region] = coded(value)


def coded(odds: Singles) -> Array:
    """Log odds as uint8: 128 is even odds, an eighth of a unit a step, cut at about +-16."""
    return np.clip(np.rint(odds * CODES_PER_UNIT + EVEN), 0, 255).astype(np.uint8)


def softmax(values: Singles) -> Singles:
    """Probabilities (K, *S) of exclusive classes, in the place of their logits; no power is above 1."""
    values -= values.max(0)
    np.exp(values, out=values)
    values /= values.sum(0)
    return values


def sigmoid(values: Singles) -> Singles:
    """The same of classes that may overlap."""
    for value in values:
        powers = np.exp(-np.abs(value))
        value[...] = np.where(value >= 0, np.float32(1), powers) / (1 + powers)
    return values
