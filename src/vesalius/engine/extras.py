"""What stands beside the networks of a run when they answer scans: priors that they correct, levels that their outlines
must reach, and labels of which the largest outline stands alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vesalius.core.connected import around, boxes, numbered
from vesalius.core.files import read_json, write_json
from vesalius.core.space import Array
from vesalius.data.labels import Labels
from vesalius.engine.priming import priors_of
from vesalius.engine.rolling import CODES_PER_UNIT, EVEN
from vesalius.engine.run import CALIBRATION, Run
from vesalius.tasks import Prior


@dataclass(frozen=True)
class Extras:
    """`priors`: one for each network that corrects one; `levels`: how certain an outline of a label must be, in codes of log odds;
    `single`: labels of which only the largest outline is kept."""

    priors: Sequence[Prior] = ()
    levels: Mapping[str, int] = field(default_factory=dict)
    single: Sequence[str] = ()

    @classmethod
    def of(cls, run: Run, members: Sequence[Path] | None = None, *, apart: int | None = None) -> Self:
        """Those of the networks of `members` of `run`, or of all; with `apart` by the rules that were set without that fold."""
        return cls(priors_of(run, run.trained(members)), levels_of(run, apart), single_of(run, apart))


def levels_of(run: Run, apart: int | None = None) -> dict[str, int]:
    """The level (a code of log odds) of each label that has one; of fold `apart` those that were set on the other folds."""
    kept = _kept(run, "outlines", apart)
    return {name: round(found["log_odds"] * CODES_PER_UNIT) + EVEN for name, found in kept.items() if name in run.plan.labels.names}


def single_of(run: Run, apart: int | None = None) -> list[str]:
    """Labels of which only the largest outline is kept; of fold `apart` by what the other folds say."""
    kept = _kept(run, "single", apart)
    return [name for name in run.plan.labels.names if name in kept]


def _kept(run: Run, what: str, apart: int | None) -> dict[str, Any]:
    file = run.path / CALIBRATION
    found = read_json(file) if file.exists() else {}
    found = found if apart is None else found.get("apart", {}).get(str(apart), {})
    return dict(found.get(what, {}))


def keep(run: Run, what: str, rules: Mapping[str, Any], *, apart: Mapping[int, Mapping[str, Any]]) -> None:
    """Put `rules` beside what calibration.json holds, and those that judge the validation cases of a fold, set on the other folds."""
    file = run.path / CALIBRATION
    found = read_json(file) if file.exists() else {}
    others = dict(found.get("apart", {}))
    for fold, some in apart.items():
        others[str(fold)] = {**others.get(str(fold), {}), what: some}
    if rules or what in found or any(apart.values()):
        write_json(file, {**found, "version": 1, what: rules, **({"apart": others} if others else {})})


def largest(said: Array, names: Sequence[str], *, labels: Labels) -> Array:
    """`said` with only the largest connected outline of each label in `names`."""
    out = said.copy()
    for number, name in enumerate(labels.names):
        if name not in names:
            continue
        plane = 0 if labels.exclusive else number
        found = pieces(labels.mask(said, number))
        for box, members in sorted(found, key=lambda piece: -int(piece[1].sum()))[1:]:
            out[plane][box][members] = 0
    return out


def kept(said: Array, certainty: Array, levels: Mapping[str, int], *, labels: Labels) -> Array:
    """`said` without the outlines whose most certain voxel stays below the level of their label."""
    out = said.copy()
    for number, name in enumerate(labels.names):
        if name not in levels:
            continue
        plane = 0 if labels.exclusive else number
        inside = said[plane] == (number + 1 if labels.exclusive else 1)
        for part, members, peak in outlines(inside, certainty[plane]):
            if peak < levels[name]:
                out[plane][part][members] = 0
    return out


def outlines(inside: NDArray[np.bool_], certainty: Array) -> list[tuple[tuple[slice, ...], NDArray[np.bool_], int]]:
    """Each connected part of `inside`: its box, its voxels there, and the code of its most certain voxel."""
    found = []
    for box, members in pieces(inside):
        found.append((box, members, int(certainty[box][members].max())))
    return found


def pieces(inside: NDArray[np.bool_]) -> list[tuple[tuple[slice, ...], NDArray[np.bool_]]]:
    """Each connected part of `inside`: its box, and its voxels there. Nothing is looked at beyond the box of all."""
    box = around(inside)
    if box is None:
        return []
    numbers, count = numbered(inside[box])
    return [
        (tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, part, strict=True)), numbers[part] == k)
        for k, part in enumerate(boxes(numbers, count), start=1)
    ]
