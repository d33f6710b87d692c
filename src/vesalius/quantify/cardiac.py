"""What a heart measures at two moments of the beat: volumes, ejection fractions, mass and wall thickness, out of masks.

Volumes are summed slice by slice, and muscle weighs 1.05 g/ml (Schulz-Menger et al. 2020, J Cardiovasc Magn Reson 22:19). The thickness at
a place in the wall is its distance to the cavity and its distance to the outside together, in the plane of the slice: between
concentric circles that is the difference of their radii. Nothing is divided by body surface, which masks do not tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from vesalius.core.errors import DataError
from vesalius.core.space import Array, Space

DENSITY = 1.05  # grams in a millilitre of muscle
EDGES = 0.75  # voxels from both edges to the centres beyond them: 1 along an axis, less at an angle; .65 to .85 for circles
THICK = 95.0  # percentile that stands for the thickest wall: a single voxel does not
DEFINITIONS = {
    "left_diastolic_ml": "volume of the left cavity at end diastole",
    "left_systolic_ml": "volume of the left cavity at end systole",
    "left_ejection_percent": "100 (diastolic - systolic) / diastolic volume of the left cavity",
    "right_diastolic_ml": "volume of the right cavity at end diastole",
    "right_systolic_ml": "volume of the right cavity at end systole",
    "right_ejection_percent": "100 (diastolic - systolic) / diastolic volume of the right cavity",
    "right_to_left_diastolic": "right over left cavity volume at end diastole",
    "right_to_left_systolic": "right over left cavity volume at end systole",
    "mass_g": "volume of the myocardium at end diastole, times 1.05 g/ml",
    "mass_to_volume_g_per_ml": "mass over the diastolic volume of the left cavity",
    "thickness_diastolic_mm": "mean thickness of the wall at end diastole, over the slices that show the cavity",
    "thickness_systolic_mm": "mean thickness of the wall at end systole, likewise",
    "thickest_diastolic_mm": "95th percentile of the thickness at end diastole",
    "thickest_systolic_mm": "95th percentile of the thickness at end systole",
    "thickening_percent": "100 (systolic - diastolic) / diastolic mean thickness",
}


@dataclass(frozen=True)
class Chambers:
    """The value of each part in a mask."""

    right: int = 1
    myocardium: int = 2
    left: int = 3


def cardiac(diastole: Array, systole: Array, space: Space, *, chambers: Chambers | None = None) -> dict[str, float]:
    """Every number of DEFINITIONS from the masks (*S) of end diastole and end systole, both on the grid `space` (three axes).

    NaN where a part that is divided by, or a wall around a cavity, is not there.
    """
    parts = chambers or Chambers()
    require_fitting(diastole, systole, space)
    begun, ended = (volumes(mask, space, chambers=parts) for mask in (diastole, systole))
    walls = [wall(mask, space, chambers=parts) for mask in (diastole, systole)]
    mean, thick = zip(*((_mean(found), _thickest(found)) for found in walls), strict=True)
    mass = begun["myocardium"] * DENSITY
    return {
        **_beat("left", begun["left"], ended["left"]), **_beat("right", begun["right"], ended["right"]),
        "right_to_left_diastolic": _over(begun["right"], begun["left"]), "right_to_left_systolic": _over(ended["right"], ended["left"]),
        "mass_g": mass, "mass_to_volume_g_per_ml": _over(mass, begun["left"]),
        "thickness_diastolic_mm": mean[0], "thickness_systolic_mm": mean[1],
        "thickest_diastolic_mm": thick[0], "thickest_systolic_mm": thick[1],
        "thickening_percent": 100 * _over(mean[1] - mean[0], mean[0]),
    }  # fmt: skip


def require_fitting(diastole: Array, systole: Array, space: Space) -> None:
    """Raise a DataError unless both masks are volumes on the grid."""
    if space.ndim != 3 or not diastole.shape == systole.shape == space.shape:
        raise DataError(f"Expected two masks on one grid of three axes, {space.shape}; got {diastole.shape} and {systole.shape}. "
                        "Bring them onto one grid first: vesalius convert --like SCAN")  # fmt: skip


def volumes(mask: Array, space: Space, *, chambers: Chambers) -> dict[str, float]:
    """Millilitres of each part of one mask."""
    return {name: float((mask == value).sum() * space.voxel_volume / 1e3) for name, value in vars(chambers).items()}


def ejection_fraction(diastolic: float, systolic: float) -> float:
    """Per cent of the diastolic volume that is ejected; NaN where there is none."""
    return 100 * _over(diastolic - systolic, diastolic)


def wall(mask: Array, space: Space, *, chambers: Chambers) -> NDArray[np.float64]:
    """Thickness in millimetres at every voxel of the myocardium, (N,), over the slices that show the left cavity too.

    Slices lie along the axis of the largest spacing. Distances run to the nearest centres of voxels that lie beyond the two edges of the
    wall, which is EDGES voxels too far.
    """
    axis = int(np.argmax(space.spacing))
    sides = [step for k, step in enumerate(space.spacing) if k != axis]
    slices = (np.take(mask, k, axis) for k in range(mask.shape[axis]))
    shown = [one for one in slices if (one == chambers.left).any() and (one == chambers.myocardium).any()]
    return np.concatenate([_thickness(one, sides, chambers) for one in shown] or [np.zeros(0)])


def _thickness(mask: Array, spacing: Sequence[float], chambers: Chambers) -> NDArray[np.float64]:
    muscle, cavity = mask == chambers.myocardium, mask == chambers.left
    inner = distance_transform_edt(~cavity, sampling=spacing)
    ring = np.pad(muscle | cavity, 1)
    outer = distance_transform_edt(ring, sampling=spacing)[1:-1, 1:-1]
    return np.asarray((inner + outer)[muscle] - EDGES * float(np.mean(spacing)))


def _beat(side: str, diastolic: float, systolic: float) -> dict[str, float]:
    return {f"{side}_diastolic_ml": diastolic, f"{side}_systolic_ml": systolic,
            f"{side}_ejection_percent": ejection_fraction(diastolic, systolic)}  # fmt: skip


def _over(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _mean(found: NDArray[np.float64]) -> float:
    return float(found.mean()) if len(found) else float("nan")


def _thickest(found: NDArray[np.float64]) -> float:
    return float(np.percentile(found, THICK)) if len(found) else float("nan")
