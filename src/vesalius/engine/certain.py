"""Outlines that are nowhere certain: which of them are kept is set on validation cases, and only where labels can be absent.

A connected outline stays where its most certain voxel reaches a level (two thresholds, as of edges: Canny 1986, TPAMI 8:679, section VIII):
a network that has to outline something in every image is seldom sure of it where there is nothing. The level of each label is the one
with the best mean Dice on validation cases, smoothed by a Gaussian of one unit of log odds; of those within a standard
error of it the lowest (Breiman et al. 1984, section 3.4.3), so that no single case decides, and never within two units of the least certain
outline that is right: to miss a lesion is worse than to draw one too many. None is set where the gain is less than .01 or than a
standard error. Kept in calibration.json, applied by everything that answers later. The validation cases of a fold are judged by levels
that were set on the other folds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vesalius.core.files import read_json
from vesalius.core.space import Array
from vesalius.data.cache import Stored
from vesalius.data.labels import IGNORE, Labels
from vesalius.data.primed import with_odds
from vesalius.engine.extras import keep
from vesalius.engine.infer import callables, classes
from vesalius.engine.outlines import outlines
from vesalius.engine.priming import priors_of
from vesalius.engine.progress import Tick
from vesalius.engine.run import Run
from vesalius.engine.stream import Kept
from vesalius.engine.sums import CODES_PER_UNIT, EVEN
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


Row = tuple[list[Outline], int]  # the outlines of a label in a case, and the voxels of its truth


def can_be_absent(facts: Mapping[str, Any]) -> list[str]:
    """Labels that some training case lacks."""
    return [name for name, found in facts.get("classes", {}).items() if found["cases"] < facts["cases"]]


def settle(run: Run, stored: Mapping[str, Stored], *, tick: Tick) -> dict[str, Any]:
    """Set the level of each label that can be absent on the validation cases of every trained member; {label: what was found}."""
    absent = can_be_absent(read_json(run.path / "fingerprint.json"))
    asked = asked_of(run, stored)
    if not absent or sum(map(len, asked.values())) < LEAST_CASES:
        return {}
    seen = seen_of(run, asked, absent, tick=tick, told="how certain outlines are")
    settled = levels(seen, absent, folds=list(seen))
    keep(run, "outlines", settled, apart=without_each(list(seen), lambda others, _: levels(seen, absent, folds=others)))
    return settled


def asked_of(run: Run, stored: Mapping[str, Stored]) -> dict[int, list[Stored]]:
    """The validation cases of each fold that has learned."""
    folds = enumerate(zip(run.members, run.splits["folds"], strict=True))
    return {k: [stored[n] for n in fold["val"] if n in stored] for k, (member, fold) in folds if run.trained([member])}


def seen_of(run: Run, asked: Mapping[int, Sequence[Stored]], names: Sequence[str], *, tick: Tick,
            told: str) -> dict[int, dict[str, list[Row]]]:  # fmt: skip
    """Of each fold and label the outlines that the fold's networks draw on its validation cases, and the voxels of the truth."""
    seen: dict[int, dict[str, list[Row]]] = {k: {name: [] for name in names} for k in asked}
    total, done = sum(map(len, asked.values())), 0
    for k, cases in asked.items():
        for found in looked(run, run.members[k], cases):
            for name in names:
                seen[k][name].append(found[name])
            done += 1
            tick(done, total, told)
    return seen


def levels(seen: Mapping[int, Mapping[str, list[Row]]], names: Sequence[str], *, folds: Sequence[int]) -> dict[str, Any]:
    """The level of each label for which the cases of `folds` say that one is better than none."""
    rows = {name: [row for k in folds for row in seen[k][name]] for name in names}
    return {name: level for name in names if (level := chosen(rows[name])) is not None}


def without_each(folds: Sequence[int], found: Callable[[list[int], int], dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What is `found` (of the folds that are left, and the one that is not) without each fold, so that no validation case is judged by
    rules that it helped to set. Nothing of a single fold."""
    return {k: found([other for other in folds if other != k], k) for k in folds} if len(folds) > 1 else {}


def looked(run: Run, member: Path, cases: Sequence[Stored]) -> list[dict[str, Row]]:
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


def of_case(said: Array, certainty: Array, truth: Array, *, labels: Labels) -> dict[str, Row]:
    """{label: (outlines, voxels of the truth)}; what is ignored counts nowhere."""
    valid, found = truth[0] != IGNORE, {}
    for number, name in enumerate(labels.names):
        a, b = labels.mask(said, number), labels.mask(truth, number)
        parts = outlines(a & valid, certainty[0 if labels.exclusive else number])
        rows = [Outline(peak, int(members.sum()), int((b[box] & members).sum())) for box, members, peak in parts]
        found[name] = rows, int(b.sum())
    return found


def dice_by_level(rows: Sequence[Row]) -> Floats:
    """(cases, LEVELS) Dice where only outlines that reach a level are kept; 1 where nothing is drawn and nothing is there."""
    out = np.ones((len(rows), len(LEVELS)))
    for i, (parts, true) in enumerate(rows):
        peaks, sizes, right = (np.array([getattr(p, name) for p in parts], float) for name in ("peak", "size", "right"))
        stays = peaks[:, None] >= LEVELS
        total = sizes @ stays + true
        out[i] = np.where(total > 0, 2 * (right @ stays) / np.maximum(total, 1), 1.0)
    return out


def chosen(rows: Sequence[Row]) -> dict[str, float] | None:
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


def least_right(rows: Sequence[Row]) -> int:
    """The peak of the least certain outline among those that hold most of a case's truth; the highest code where there is none."""
    found = [max(parts, key=lambda part: part.right) for parts, true in rows if true and any(part.right for part in parts)]
    return min((part.peak for part in found), default=int(LEVELS[-1]))
