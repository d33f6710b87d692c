"""Where voxels are: the shape of a grid and the affine that takes its indices to millimetres, apart from the pixels.

The world is RAS+ millimetres, as in NIfTI: x grows to the patient's right, y to the front, z to the head.
A 2D image has two axes and a 3 x 3 affine; it is not a volume of one slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import GeometryError

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Space:
    """A grid of `shape` (n sides) whose index i lies at `affine @ (i, 1)` in RAS+ millimetres; voxel centres.

    `physical` is False where the file states no size (a PNG): lengths are then in pixels.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    physical: bool = True

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, np.float64)
        object.__setattr__(self, "shape", tuple(int(side) for side in self.shape))
        object.__setattr__(self, "affine", affine)
        n = len(self.shape)
        if n not in (2, 3):
            raise GeometryError(f"A space has 2 or 3 axes; got shape {self.shape}.")
        if affine.shape != (n + 1, n + 1):
            raise GeometryError(f"A space of {n} axes needs an affine of {n + 1} x {n + 1}; got {affine.shape}.")
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:n, :n])) < 1e-12:
            raise GeometryError(f"The affine is singular or not finite: {affine.tolist()}. The header is broken.")
        if min(self.shape) < 1:
            raise GeometryError(f"Every side must be at least 1; got shape {self.shape}.")

    @classmethod
    def of(cls, shape: Sequence[int], spacing: Sequence[float] | None = None, *, origin: Sequence[float] | None = None,
           physical: bool = True) -> "Space":
        """An axis-aligned space: `spacing` millimetres per side (1 by default), first voxel centre at `origin`."""
        n = len(shape)
        affine = np.eye(n + 1)
        affine[:n, :n] = np.diag(np.ones(n) if spacing is None else np.asarray(spacing, float))
        affine[:n, n] = 0 if origin is None else origin
        return cls(tuple(shape), affine, physical)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres between neighbours along each axis."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @cached_property
    def direction(self) -> NDArray[np.float64]:
        """Unit vectors of the axes, one per column."""
        return np.asarray(self.affine[:-1, :-1] / np.asarray(self.spacing))

    @property
    def origin(self) -> tuple[float, ...]:
        """World position of the first voxel's centre."""
        return tuple(float(v) for v in self.affine[:-1, -1])

    @property
    def voxel_volume(self) -> float:
        """Cubic millimetres (square millimetres in 2D) of one voxel."""
        return float(abs(np.linalg.det(self.affine[:-1, :-1])))

    @property
    def unit(self) -> str:
        return "mm" if self.physical else "px"

    @property
    def axis_codes(self) -> str:
        """Where each axis points, as letters: 'RAS', 'LPS', 'PIR' ...; '' in 2D."""
        if self.ndim == 2:
            return ""
        turn = self.canonical_turn()
        letters = [""] * 3
        for world, axis in enumerate(turn.order):
            letters[axis] = "LPI"[world] if turn.flips[world] else "RAS"[world]
        return "".join(letters)

    @property
    def shear(self) -> float:
        """Largest |cosine| between two axes: 0 for a rectangular grid, more under gantry tilt."""
        cosines = self.direction.T @ self.direction - np.eye(self.ndim)
        return float(np.abs(cosines).max())

    def world(self, index: Array) -> NDArray[np.float64]:
        """Millimetres of `index` (..., n)."""
        return np.asarray(index @ self.affine[:-1, :-1].T + self.affine[:-1, -1])

    def index(self, world: Array) -> NDArray[np.float64]:
        """Fractional index of `world` (..., n) millimetres."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(world @ inverse[:-1, :-1].T + inverse[:-1, -1])

    def distance_to(self, other: "Space") -> float:
        """Largest distance in millimetres between the corners of two grids; infinite where shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        corners = np.stack(np.meshgrid(*[(0, side - 1) for side in self.shape], indexing="ij"), -1).reshape(-1, self.ndim)
        return float(np.linalg.norm(self.world(corners) - other.world(corners), axis=-1).max())

    def same_as(self, other: "Space", *, tolerance: float = 1e-3) -> bool:
        """Whether no corner is further than `tolerance` voxels from where `other` has it."""
        return self.distance_to(other) <= tolerance * min(self.spacing)

    def canonical_turn(self) -> "Turn":
        """The permutation and flips of axes that bring the grid closest to RAS+; the identity in 2D."""
        if self.ndim == 2:
            return Turn((0, 1), (False, False))
        direction = self.direction
        order = max(permutations(range(3)), key=lambda p: sum(abs(direction[w, a]) for w, a in enumerate(p)))
        return Turn(order, tuple(bool(direction[w, a] < 0) for w, a in enumerate(order)))

    def turned(self, turn: "Turn") -> "Space":
        """The same places after `turn` has been applied to the array."""
        n = self.ndim
        step = np.zeros((n + 1, n + 1))  # old index = step @ (new index, 1)
        step[n, n] = 1
        for new, (old, flip) in enumerate(zip(turn.order, turn.flips, strict=True)):
            step[old, new] = -1 if flip else 1
            step[old, n] = self.shape[old] - 1 if flip else 0
        return Space(tuple(self.shape[a] for a in turn.order), self.affine @ step, self.physical)

    def scaled(self, shape: Sequence[int]) -> "Space":
        """The same field of view, edge to edge, cut into `shape` voxels: index = (new + 1/2) * old / new - 1/2."""
        n = self.ndim
        ratio = np.asarray(self.shape, float) / np.asarray(shape, float)
        step = np.eye(n + 1)
        step[:n, :n] = np.diag(ratio)
        step[:n, n] = ratio / 2 - 0.5
        return Space(tuple(int(s) for s in shape), self.affine @ step, self.physical)

    def with_spacing(self, spacing: Sequence[float]) -> "Space":
        """The same field of view with about `spacing` millimetres per side (the sides are whole voxels)."""
        sides = np.maximum(1, np.round(np.asarray(self.shape) * np.asarray(self.spacing) / np.asarray(spacing)))
        return self.scaled([int(s) for s in sides])

    def to_json(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "affine": self.affine.tolist(), "physical": self.physical}

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> "Space":
        return cls(tuple(text["shape"]), np.asarray(text["affine"], float), bool(text["physical"]))


@dataclass(frozen=True)
class Turn:
    """A lossless re-ordering of the axes of an array: new axis w is old axis `order[w]`, reversed where `flips[w]`."""

    order: tuple[int, ...]
    flips: tuple[bool, ...]

    def apply(self, array: Array) -> Array:
        """`array` is (..., *S); leading axes stay. A view, never a copy."""
        lead = array.ndim - len(self.order)
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.order))
        return turned[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]

    def undo(self, array: Array) -> Array:
        """The inverse of `apply`; a view."""
        lead = array.ndim - len(self.order)
        flipped = array[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]
        back = np.argsort(self.order)
        return flipped.transpose(*range(lead), *(lead + int(axis) for axis in back))
