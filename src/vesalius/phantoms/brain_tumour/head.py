"""One person's head: the numbers and random fields that make it unlike others, and the frame that it is described in.

The frame is RAS+ millimetres of a standard head: origin near the anterior commissure, x to the right, y to the front, z up
(about MNI coordinates). `Head.frame` takes the scanner's millimetres there: pose, size, and a slow warp of a few millimetres.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vesalius.core.space import Array
from vesalius.phantoms._noise import Field, folded_field, sheet_distance, smooth_field
from vesalius.phantoms._shapes import Points

CENTRE = (0.0, -6.0, 6.0)  # middle of the field of view in the standard frame
EXTENT = (164.0, 214.0, 176.0)  # millimetres that a standard head with its margin takes


@dataclass(frozen=True)
class Head:
    """`size` is a factor per axis; lengths are millimetres; `atrophy` 0 (young) to 1 (old) widens the fluid spaces."""

    size: tuple[float, float, float]
    waves: Array
    atrophy: float
    ventricle: tuple[float, float]
    gap: float
    skull: float
    fat: float
    phases: tuple[float, ...]
    gliosis: float
    primary: Field
    secondary: Field
    depth: Field
    tissue: Field
    fine: Field

    def frame(self, world: Array, pose: "Pose") -> Points:
        """Scanner millimetres (3, n) -> standard millimetres."""
        turn = np.asarray(pose.matrix.T / np.asarray(self.size)[:, None], np.float32)
        shift = np.asarray(CENTRE, np.float32) - turn @ np.asarray(pose.shift, np.float32)
        x, y, z = (turn @ world) + shift[:, None]
        a = self.waves
        return (
            x + a[0, 0] * np.sin(y * 0.026 + a[0, 1]) + a[0, 2] * np.sin(z * 0.034 + a[0, 3]),
            y + a[1, 0] * np.sin(x * 0.031 + a[1, 1]) + a[1, 2] * np.sin(z * 0.029 + a[1, 3]),
            z + a[2, 0] * np.sin(x * 0.028 + a[2, 1]) + a[2, 2] * np.sin(y * 0.030 + a[2, 3]),
        )


@dataclass(frozen=True)
class Pose:
    """How the head lies in the scanner: a rotation and a shift in millimetres."""

    matrix: Array
    shift: tuple[float, float, float]


def draw_pose(generator: np.random.Generator, *, degrees: float = 5.0) -> Pose:
    """A few degrees about each axis (standard deviation `degrees` / 2, cut at `degrees`) and a few millimetres."""
    angles = np.clip(generator.normal(0, degrees / 2, 3), -degrees, degrees)
    shift = np.clip(generator.normal(0, 2, 3), -4, 4)
    return Pose(Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), (float(shift[0]), float(shift[1]), float(shift[2])))


def draw_head(generator: np.random.Generator) -> Head:
    """A new person."""
    uniform = generator.uniform
    atrophy = float(uniform(0.1, 1.0))
    overall = uniform(0.95, 1.02)
    size = tuple(float(overall * uniform(0.975, 1.02)) for _ in range(3))
    waves = np.stack([[uniform(0.5, 2.2), uniform(0, 6.28), uniform(0.5, 2.0), uniform(0, 6.28)] for _ in range(3)])
    common = uniform(0.75, 1.15) + 0.45 * atrophy
    return Head(
        size=(size[0], size[1], size[2]),
        waves=waves.astype(np.float32),
        atrophy=atrophy,
        ventricle=(float(common * uniform(0.9, 1.1)), float(common * uniform(0.9, 1.1))),
        gap=float(0.9 + 1.7 * atrophy),
        skull=float(uniform(5.5, 8.0)),
        fat=float(uniform(3.5, 7.5)),
        phases=tuple(float(v) for v in uniform(0, 6.28, 12)),
        gliosis=float(np.clip(uniform(-0.4, 1.0) * atrophy, 0, 1)),
        primary=sheet_distance(folded_field(generator, 27.0)),
        secondary=sheet_distance(folded_field(generator, 16.0)),
        depth=smooth_field(generator, 36.0),
        tissue=smooth_field(generator, 30.0),
        fine=smooth_field(generator, 7.0),
    )
