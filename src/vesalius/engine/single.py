"""Labels of which a body has one: whether everything but the largest outline is left out is set on validation cases.

As nnU-Net's postprocessing (Isensee et al. 2021, Nature Methods 18:203). Ours asks it only of labels that are in one piece in the truth
of every validation case, and takes it where the paired gain in Dice is above its standard error (Breiman et al. 1984, section
3.4.3): specks far away cost little Dice and much in surface distances. Kept in calibration.json, applied by everything that answers later.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vesalius.core.space import Array
from vesalius.data.cache import Stored
from vesalius.data.labels import Labels
from vesalius.engine.certain import LEAST_CASES, Outline, Row, asked_of, seen_of, standard_error, without_each
from vesalius.engine.extras import keep, levels_of
from vesalius.engine.outlines import pieces
from vesalius.engine.progress import Tick
from vesalius.engine.run import Run

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
    asked = asked_of(run, stored)
    cases = [case for some in asked.values() for case in some]
    names = in_one_piece([np.asarray(case.target) for case in cases], run.plan.labels) if len(cases) >= LEAST_CASES else []
    seen = seen_of(run, asked, names, tick=tick, told="which outlines stand alone") if names else {}

    def judged(folds: list[int], apart: int | None = None) -> dict[str, Any]:
        levels = levels_of(run, apart)
        rows = {name: [certain(row, levels.get(name, 0)) for k in folds for row in seen[k][name]] for name in names}
        return {name: found for name in names if (found := gained(rows[name])) is not None}

    settled = judged(list(seen))
    keep(run, "single", settled, apart=without_each(list(seen), judged))
    return settled


def certain(row: Row, level: int) -> Row:
    """`row` without the outlines that stay below `level`."""
    return [part for part in row[0] if part.peak >= level], row[1]


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
