"""One named rule per function: facts in, a value and its reason out.

The rules of nnU-Net (Isensee et al. 2021, Nature Methods 18, supplementary notes 1-2) decide quality; what they leave to a
memory proxy is measured in seconds and bytes on the machine at hand (budget.py).
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vesalius.data.detail import fine_axes

Sides = tuple[int, ...]
Spacing = tuple[float, ...]
SMALLEST = 4  # voxels per axis at the coarsest stage
WIDEST = {2: 256, 3: 256}
MIRRORED_SECONDS = 3.0
ALIKE = 0.1  # mean correlation of two cases from which on a data set has a pose
POSED = 0.75  # an axis along which mirroring leaves less than this of it is not mirrored
BEST = 0.005  # by so much an earlier look must be better than the end to be kept
FEW_CASES, FEW_LABELS = 18, 8  # up to so many, a network corrects the shallow baseline ...
LEAST_OF_BOTH = 700  # ... alone, where two would take fewer steps each: a network that starts from nothing is not worth half of the time
LEAST_OF_FOLDS = 200  # the same where several folds answer together
RAREST = 1e-4  # a class that is rarer starts as if it were not
KEPT = 0.97  # Dice of the masks with themselves that a coarser grid must keep
LATERAL = re.compile(r"(^|[\s_\-.])((left|right)|(l|r|lt|rt|lv|rv|la|ra)($|[\s_\-.]))", re.IGNORECASE)
CAMEL = re.compile(r"[a-z](Left|Right|LV|RV|LA|RA|L|R)(?![a-z])")  # lungLeft, kidneyR


def spacing(facts: dict[str, Any]) -> tuple[Spacing, str]:
    """Median per axis; a thick axis takes its 10th percentile (nnU-Net rule 3). Pixels without a size keep their grid."""
    spacings, shapes = np.array(facts["spacings"]), np.array(facts["shapes"])
    if not facts["physical"]:
        return (), "the files state no pixel size: every image keeps its own grid"
    if np.ptp(spacings, axis=0).max() < 1e-3 * spacings.min():
        return tuple(float(v) for v in spacings[0]), "all scans share this spacing: nothing is resampled"
    target, sides = np.median(spacings, 0), np.median(shapes, 0)
    worst = int(np.argmax(target))
    others = [a for a in range(len(target)) if a != worst]
    if target[worst] > 3 * target[others].max() and sides[worst] * 3 < sides[others].min():
        target[worst] = max(np.percentile(spacings[:, worst], 10), target[others].max() + 1e-5)
        return tuple(float(v) for v in target), "median per axis; the thick axis takes its 10th percentile (anisotropic scans)"
    return tuple(float(v) for v in target), "median of the training scans, per axis"


def median_shape(facts: dict[str, Any], target: Spacing, *, crop: bool) -> Sides:
    """Median sides of the training scans on the network's grid, without their empty borders where those are cut away."""
    shapes = np.array(facts["cropped_shapes" if crop else "shapes"], float)
    if target:
        shapes = shapes * np.array(facts["spacings"]) / np.array(target)
    return tuple(int(s) for s in np.maximum(1, np.round(np.median(shapes, 0))))


def topology(size: Sides, target: Spacing) -> tuple[Sides, tuple[Sides, ...], tuple[Sides, ...], str]:
    """Pooling until an axis is 2 x 4 voxels short or twice as coarse as the finest that can be pooled (nnU-Net rule 7); kernels
    grow from 1 to 3 on an axis once its spacing is within a factor of 2 of the finest, on every axis at the coarsest stage.
    Returns patch padded to whole poolings, kernels, strides."""
    now, left = np.array(target or (1.0,) * len(size)), np.array(size, float)
    strides: list[Sides] = [(1,) * len(size)]
    kernels: list[Sides] = [_kernel(now, left, (1,) * len(size))]
    while len(strides) < 7:
        large = [a for a in range(len(size)) if left[a] >= 2 * SMALLEST]
        can = [a for a in large if now[a] / now[large].min() < 2]
        if not can or (len(can) == 1 and left[can[0]] < 3 * SMALLEST):
            break
        stride = tuple(2 if a in can else 1 for a in range(len(size)))
        now, left = now * stride, np.ceil(left / stride)
        strides.append(stride)
        kernels.append(_kernel(now, left, kernels[-1]))
    kernels[-1] = tuple(3 if side > 1 else 1 for side in left)
    total = np.prod(strides, axis=0)
    padded = tuple(int(np.ceil(s / t) * t) for s, t in zip(size, total, strict=True))
    words = f"{len(strides)} stages: pooled by {'x'.join(map(str, total))} until {SMALLEST}-voxel maps; thick axes wait"
    return padded, tuple(kernels), tuple(strides), words


def _kernel(now: np.ndarray[Any, Any], left: np.ndarray[Any, Any], before: Sides) -> Sides:
    """3 on an axis within a factor of 2 of the finest spacing, and from then on; 1 where there is only one voxel."""
    return tuple(3 if (before[a] == 3 or now[a] / now.min() < 2) and left[a] > 1 else 1 for a in range(len(now)))


def patch(shape: Sides, target: Spacing, voxels: int) -> tuple[Sides, str]:
    """Inversely proportional to spacing with about `voxels` in all, clipped to the median scan (nnU-Net rule 6)."""
    step = np.array(target or (1.0,) * len(shape))
    free, size = np.ones(len(shape), bool), np.array(shape, float)
    while free.any():  # an axis that is clipped to the scan hands its share to the others
        share = voxels / np.prod(size[~free])
        ideal = (share * np.prod(step[free])) ** (1 / free.sum()) / step
        clipped = free & (ideal >= shape)
        if not clipped.any():
            size[free] = ideal[free]
            break
        free &= ~clipped
    size = np.minimum(np.maximum(np.round(size), 1), shape).astype(int)
    whole = bool((size >= np.array(shape)).all())
    return tuple(int(s) for s in size), "a whole scan fits" if whole else f"about {voxels:,} voxels, shaped like the scan in millimetres"


def channels(stages: int, base: int, ndim: int) -> Sides:
    """`base` features doubled per stage up to a ceiling; multiples of 16 keep bf16 kernels busy."""
    return tuple(min(base * 2**s, max(base, WIDEST[ndim])) for s in range(stages))


def mirror(names: Sequence[str], ndim: int, *, poses: dict[str, Any] | None = None) -> tuple[tuple[bool, ...], str]:
    """Flips are safe unless a label knows left from right (then the left-right axis stays), or along an axis along which
    patients always lie the same way: there the cases resemble each other, and mirrored they do not (see data/pose.py)."""
    lateral = [name for name in names if LATERAL.search(name) or CAMEL.search(name)]
    side = 0 if ndim == 3 else 1  # RAS+: x; pictures: columns
    same, mirrored = (poses or {}).get("same", 0.0), (poses or {}).get("mirrored") or [1.0] * ndim
    fixed = [a for a in range(ndim) if same >= ALIKE and mirrored[a] < POSED * same]
    words = []
    if lateral:
        words.append(f"left and right differ in the labels ({', '.join(lateral[:4])}): the left-right axis is not mirrored")
    if fixed:
        told = ", ".join(f"axis {a}: {mirrored[a]:.2f}" for a in fixed)
        words.append(f"scans lie the same way: two of them correlate by {same:.2f} as they are and less when one is mirrored ({told})")
    flips = tuple(a not in fixed and not (lateral and a == side) for a in range(ndim))
    return flips, "; ".join(words) or "no label knows left from right, and mirrored scans look alike: every axis may be mirrored"


def prior(cases: int, labels: int) -> tuple[int, str]:
    """How many log odds of the shallow baseline a network may be shown to correct: one per label where there are few cases to learn from;
    none otherwise."""
    if cases > FEW_CASES:
        return 0, f"{cases} cases are enough to learn from without the shallow baseline"
    if labels > FEW_LABELS:
        return 0, f"{labels} labels are too many for the shallow baseline to help"
    return labels, f"only {cases} cases to learn from: a network starts from the shallow baseline's answer and corrects it"


def best(folds: int) -> tuple[float, str]:
    """By how much an earlier look must be better than the end to be kept; never in cross-validation, where the cases that are looked at are
    those that count as unseen."""
    if folds > 1:
        return 0.0, "never: in cross-validation the validation cases of a fold count as unseen"
    return BEST, "the last weights count, unless those of an earlier look were clearly better on validation cases"


def networks(steps: float, prior: int, *, folds: int = 1) -> tuple[bool, str]:
    """Whether a network that starts from nothing learns, and why; `steps` are those that each of two could take. Of folds several answer
    together, so that each may have learned less."""
    if not prior:
        return True, "the only network"
    if steps < (LEAST_OF_BOTH if folds == 1 else LEAST_OF_FOLDS):
        return False, f"{steps:.0f} steps for each of two networks are too few for one that starts from nothing: it is left out"
    return True, "the mean of two networks that err on different cases is better than either"


def start(shares: Sequence[float], *, exclusive: bool) -> tuple[tuple[float, ...], str]:
    """Logits that say how rare each class is before anything is learned: log shares, the background's first, where classes
    exclude each other (softmax), else log odds (sigmoid)."""
    inside = np.clip(np.array(shares, float), RAREST, 0.9)
    if exclusive:
        logits = np.log(np.array([max(1 - inside.sum(), RAREST), *inside]))
    else:
        logits = np.log(inside / (1 - inside))
    why = "how rare each class is in the training masks, so that the first steps need not learn it"
    return tuple(round(float(v), 4) for v in logits), why


def tiles(shape: Sides, size: Sides, overlap: float) -> int:
    """Tiles of `size` that overlap by `overlap` and cover a scan of `shape`."""
    steps = (np.array(shape) - size) / (np.array(size) * (1 - overlap))
    return int(np.prod(np.maximum(0, np.ceil(steps)) + 1))


def mirrored(scan_seconds: float, flips: int, budget: float | None) -> tuple[bool, str]:
    """Averaging over mirrored scans is worth a little Dice: done where a scan is still answered within 3 s and a hundred
    scans within a twentieth of the budget."""
    long = scan_seconds * flips
    words = f"{long:.1f} s a scan instead of {scan_seconds:.1f} s, measured here"
    if flips == 1:
        return False, "no axis is safe to mirror"
    if long <= MIRRORED_SECONDS and (budget is None or 100 * long <= budget / 20):
        return True, f"the mean over {flips} mirrored answers costs {words}"
    return False, f"off: {words}, is too long; vesalius predict --mirror turns it on"


def rotation(size: Sides, target: Spacing, flips: Sequence[bool] | None = None) -> tuple[tuple[float, ...], str]:
    """30 degrees in 3D, in-plane only for thick slices; 180 in 2D for square patches, 15 for elongated ones (nnU-Net).
    A plane is turned all the way only where both of its axes may be mirrored (`flips`): elsewhere the pose is known."""
    free = tuple(flips or (True,) * len(size))
    if len(size) == 2:
        if max(size) / min(size) > 1.5:
            return (15.0,), "elongated patches: 15 degrees"
        return ((180.0,), "square patches may be turned all the way") if all(free) else ((30.0,), "pictures have an upright: 30 degrees")
    step = np.array(target or (1.0,) * 3)
    worst = int(np.argmax(step))
    if step[worst] / step.min() > 3 or size[worst] < 3:
        whole = all(free[a] for a in range(3) if a != worst)
        angle, why = (180.0, "all the way") if whole else (30.0, "by 30 degrees, as scans lie the same way")
        return tuple(angle if a == worst else 0.0 for a in range(3)), f"thick slices: turned in their plane only, {why}"
    return (30.0,) * 3, "30 degrees about each axis"


def coarser(shape: Sides, target: Spacing, voxels: int, *, detail: dict[str, Any] | None) -> tuple[float, str]:
    """By how much to reduce the fine axes so that a whole scan fits into `voxels`, as far as the masks survive it
    (`detail`: data/detail.py); 1 where there is no need or nothing is known."""
    step = np.array(target or (1.0,) * len(shape))
    fine = int(np.sum(fine_axes(step.tolist())))
    need = (np.prod(np.array(shape, float)) / voxels) ** (1 / fine)
    known = list(zip((detail or {}).get("factors", ()), (detail or {}).get("dice", ()), strict=False))
    allowed = max((factor for factor, dice in known if dice >= KEPT), default=1.0)
    factor = float(min(np.ceil(need * 20) / 20, allowed))
    if factor <= 1:
        return 1.0, ""
    nearest = min(known, key=lambda pair: (pair[0] < factor, abs(pair[0] - factor)))
    return factor, f"a grid {factor:g} times as coarse shows more of a scan at once; masks keep {nearest[1]:.3f} Dice at {nearest[0]:g}"
