"""Homogeneous matrices of one sample in plain numbers, rows of columns: of so few, Python takes less time than numpy or torch."""

from collections.abc import Sequence
from operator import mul

import torch
from torch import Tensor

from vesalius.augment import Frame, Parameters, Spatial

Rows = list[list[float]]


def diagonal(factors: Sequence[float]) -> Rows:
    """What stretches each axis by its factor."""
    along = [*factors, 1.0]
    return [[factor if row == column else 0.0 for column in range(len(along))] for row, factor in enumerate(along)]


def product(first: Rows, second: Rows) -> Rows:
    """Their matrix product."""
    columns = list(zip(*second, strict=True))
    return [[sum(map(mul, row, column)) for column in columns] for row in first]


def together(transform: Spatial, parameters: Parameters, frame: Frame) -> Tensor:
    """The matrices (B, n + 1, n + 1) of several samples, float64, from what `transform.rows` gives for each."""
    count = len(next(iter(parameters.values())))
    each = [{name: value[row] for name, value in parameters.items()} for row in range(count)]
    return torch.tensor([transform.rows(one, frame) for one in each], dtype=torch.float64)
