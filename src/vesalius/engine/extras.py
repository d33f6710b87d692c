"""What stands beside the networks of a run when they answer scans: priors that they correct, levels that their outlines
must reach, and labels of which the largest outline stands alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from vesalius.core.files import read_json, write_json
from vesalius.engine.outlines import kept, largest, outlines, pieces
from vesalius.engine.priming import priors_of
from vesalius.engine.run import CALIBRATION, Run
from vesalius.engine.sums import CODES_PER_UNIT, EVEN
from vesalius.tasks import Prior

__all__ = ["Extras", "keep", "kept", "largest", "levels_of", "outlines", "pieces", "single_of"]


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
