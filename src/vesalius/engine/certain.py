"""Outlines that are nowhere certain: which of them are kept is set on validation cases, and only where labels can be absent.

A connected outline stays where its most certain voxel reaches a level (two thresholds, as of edges: Canny 1986, TPAMI 8:679, section VIII):
a network that has to outline something in every image is seldom sure of it where there is nothing. The level of each label is the one
with the best mean Dice on validation cases, smoothed by a Gaussian of one unit of log odds; of those within a standard
error of it the lowest (Breiman et al. 1984, section 3.4.3), so that no single case decides, and never within two units of the least certain
outline that is right: to miss a lesion is worse than to draw one too many. None is set where the gain is less than .01 or than a
standard error. Kept in calibration.json, applied by everything that answers later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vesalius.core.files import read_json, write_json
from vesalius.core.space import Array
from vesalius.data.cache import Stored
from vesalius.data.labels import IGNORE, Labels
from vesalius.engine.extras import outlines
from vesalius.engine.infer import callables, classes
from vesalius.engine.priming import priors_of, with_odds
from vesalius.engine.progress import Tick
from vesalius.engine.rolling import CODES_PER_UNIT, EVEN
from vesalius.engine.run import CALIBRATION, Run
from vesalius.engine.stream import Kept
from vesalius.plan.budget import device

LEVELS = np.arange(EVEN, 256)  # codes of log odds from even on; the lowest keeps everything
LEAST_GAIN, LEAST_CASES = 0.01, 4
ROOM = 2 * CODES_PER_UNIT  # between a level and the least certain outline that is right
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outline:
    """One connected outline: the code of its most certain voxel, its voxels, and how many of them are right."""

    peak: int
    size: int
    right: int


def can_be_absent(facts: Mapping[str, Any]) -> list[str]:
    """Labels that some training case lacks."""
    return [name for name, found in facts.get("classes", {}).items() if found["cases"] < facts["cases"]]


def settle(run: Run, stored: Mapping[str, Stored], *, tick: Tick) -> dict[str, Any]:
    """Set the level of each label that can be absent on the validation cases of every trained member; {label: what was found}."""
    absent = can_be_absent(read_json(run.path / "fingerprint.json"))
    folds = zip(run.members, run.splits["folds"], strict=True)
    jobs = [(member, [stored[n] for n in fold["val"] if n in stored]) for member, fold in folds if run.trained([member])]
    if not absent or sum(len(cases) for _, cases in jobs) < LEAST_CASES:
        return {}
    seen: dict[str, list[tuple[list[Outline], int]]] = {name: [] for name in absent}
    total, done = sum(len(cases) for _, cases in jobs), 0
    for member, cases in jobs:
        for found in looked(run, member, cases):
            for name in absent:
                seen[name].append(found[name])
            done += 1
            tick(done, total, "how certain outlines are")
    settled = {name: level for name, rows in seen.items() if (level := chosen(rows)) is not None}
    file = run.path / CALIBRATION
    write_json(file, {**(read_json(file) if file.exists() else {}), "version": 1, "outlines": settled})
    return settled


def looked(run: Run, member: Path, cases: Sequence[Stored]) -> list[dict[str, tuple[list[Outline], int]]]:
    """Of each case and label the outlines that the networks of `member` draw, and the voxels of the truth, on the network's grid."""
    plan, where = run.plan, device()
    networks, priors = callables(run.networks([member]), plan, where), priors_of(run, run.trained([member]))
    rows = []
    for case in cases:
        image = with_odds(np.asarray(case.image, np.float32), priors)
        sure = np.zeros((1 if plan.labels.exclusive else len(plan.labels.names), *image.shape[1:]), np.uint8)
        said = classes(networks, image, image.shape[1:], plan=plan, device=where, also=Kept(certainty=sure))
        rows.append(of_case(said, sure, case.target, labels=plan.labels))
    return rows


def of_case(said: Array, certainty: Array, truth: Array, *, labels: Labels) -> dict[str, tuple[list[Outline], int]]:
    """{label: (outlines, voxels of the truth)}; what is ignored counts nowhere."""
    valid, found = truth[0] != IGNORE, {}
    for number, name in enumerate(labels.names):
        a, b = labels.mask(said, number), labels.mask(truth, number)
        parts = outlines(a & valid, certainty[0 if labels.exclusive else number])
        rows = [Outline(peak, int(members.sum()), int((b[box] & members).sum())) for box, members, peak in parts]
        found[name] = rows, int(b.sum())
    return found


def dice_by_level(rows: Sequence[tuple[list[Outline], int]]) -> Floats:
    """(cases, LEVELS) Dice where only outlines that reach a level are kept; 1 where nothing is drawn and nothing is there."""
    out = np.ones((len(rows), len(LEVELS)))
    for i, (parts, true) in enumerate(rows):
        peaks, sizes, right = (np.array([getattr(p, name) for p in parts], float) for name in ("peak", "size", "right"))
        stays = peaks[:, None] >= LEVELS
        total = sizes @ stays + true
        out[i] = np.where(total > 0, 2 * (right @ stays) / np.maximum(total, 1), 1.0)
    return out


def chosen(rows: Sequence[tuple[list[Outline], int]]) -> dict[str, float] | None:
    """{"log_odds", "dice", "dice_without", "cases"} of the level with the best mean Dice, or None where none is clearly better."""
    table = dice_by_level(rows)
    smooth = ndimage.gaussian_filter1d(table, CODES_PER_UNIT, axis=1, mode="nearest")
    top = int(smooth.mean(0)[: 1 + max(0, least_right(rows) - ROOM - EVEN)].argmax())
    behind = smooth[:, [top]] - smooth[:, : top + 1]
    best = next(k for k in range(top + 1) if behind[:, k].mean() <= standard_error(behind[:, k]))
    gains = table[:, best] - table[:, 0]
    if len(gains) < LEAST_CASES or gains.mean() < max(LEAST_GAIN, standard_error(gains)):
        return None
    return {"log_odds": float(LEVELS[best] - EVEN) / CODES_PER_UNIT, "dice": round(float(table[:, best].mean()), 4),
            "dice_without": round(float(table[:, 0].mean()), 4), "cases": len(gains)}  # fmt: skip


def standard_error(values: Floats) -> float:
    """Of the mean of `values`."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")


def least_right(rows: Sequence[tuple[list[Outline], int]]) -> int:
    """The peak of the least certain outline among those that hold most of a case's truth; the highest code where there is none."""
    found = [max(parts, key=lambda part: part.right) for parts, true in rows if true and any(part.right for part in parts)]
    return min((part.peak for part in found), default=int(LEVELS[-1]))
