"""Labels of which a body has one: whether everything but the largest outline is left out is set on validation cases.

As nnU-Net's postprocessing (Isensee et al. 2021, Nature Methods 18:203). Ours asks it only of labels that are in one piece in the truth
of every validation case, and takes it where the paired gain in Dice is above its standard error (Breiman et al. 1984, section
3.4.3): specks far away cost little Dice and much in surface distances. Kept in calibration.json, applied by everything that answers later.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.files import read_json, write_json
from vesalius.core.space import Array
from vesalius.data.cache import Stored
from vesalius.data.labels import Labels
from vesalius.engine.certain import LEAST_CASES, Outline, looked, standard_error
from vesalius.engine.extras import levels_of, pieces
from vesalius.engine.progress import Tick
from vesalius.engine.run import CALIBRATION, Run

Row = tuple[list[Outline], int]
WHOLE = 0.99  # of a label's voxels lie in its largest part where it is in one piece


def in_one_piece(targets: Sequence[Array], labels: Labels) -> list[str]:
    """Labels that some case shows, and every case that does in one piece."""
    shown, torn = set[str](), set[str]()
    for target in targets:
        for number, name in enumerate(labels.names):
            sizes = [] if name in torn else [int(members.sum()) for _, members in pieces(labels.mask(target, number))]
            shown |= {name} if sizes else set()
            torn |= {name} if sizes and max(sizes) < WHOLE * sum(sizes) else set()
    return [name for name in labels.names if name in shown - torn]


def settle_single(run: Run, stored: Mapping[str, Stored], *, tick: Tick) -> dict[str, Any]:
    """Set, on the validation cases of every trained member, of which labels the largest outline alone is kept; {label: what was found}."""
    folds = zip(run.members, run.splits["folds"], strict=True)
    jobs = [(member, [stored[n] for n in fold["val"] if n in stored]) for member, fold in folds if run.trained([member])]
    cases = [case for _, some in jobs for case in some]
    names = in_one_piece([np.asarray(case.target) for case in cases], run.plan.labels) if len(cases) >= LEAST_CASES else []
    settled = _judged(run, jobs, names, tick=tick) if names else {}
    file = run.path / CALIBRATION
    before = read_json(file) if file.exists() else {}
    if settled or "single" in before:
        write_json(file, {**before, "version": 1, "single": settled})
    return settled


def _judged(run: Run, jobs: Sequence[tuple[Path, Sequence[Stored]]], names: Sequence[str], *, tick: Tick) -> dict[str, Any]:
    levels, rows = levels_of(run), {name: list[Row]() for name in names}
    total, done = sum(len(cases) for _, cases in jobs), 0
    for member, cases in jobs:
        for found in looked(run, member, cases):
            for name in names:
                parts, true = found[name]
                rows[name].append(([part for part in parts if part.peak >= levels.get(name, 0)], true))
            done += 1
            tick(done, total, "which outlines stand alone")
    return {name: level for name in names if (level := gained(rows[name])) is not None}


def gained(rows: Sequence[Row]) -> dict[str, float] | None:
    """{"dice", "dice_without", "cases"} where the largest outline alone is clearly better than all of them, else None."""
    every = np.array([dice(parts, true) for parts, true in rows])
    alone = np.array([dice(sorted(parts, key=lambda part: -part.size)[:1], true) for parts, true in rows])
    gains = alone - every
    if len(gains) < LEAST_CASES or gains.mean() <= 0 or gains.mean() < standard_error(gains):
        return None
    return {"dice": round(float(alone.mean()), 4), "dice_without": round(float(every.mean()), 4), "cases": len(gains)}


def dice(parts: Sequence[Outline], true: int) -> float:
    """Of the outlines `parts` together with a truth of `true` voxels; 1 where neither is there."""
    total = sum(part.size for part in parts) + true
    return 2 * sum(part.right for part in parts) / total if total else 1.0
