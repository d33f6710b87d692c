"""Networks that correct the shallow baseline: its log odds beside every scan, from a baseline that never saw that scan.

Training cases get theirs from baselines that were fitted without their patient (`GROUPS` at most), so that a network is not shown
answers of a kind that it will never meet again; all other cases from one that was fitted on every training case, kept in the network's
folder as prior.json.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from vesalius.core.errors import VesaliusError
from vesalius.data.cache import Stored, mapped, save_array
from vesalius.data.primed import stored_odds, with_odds
from vesalius.engine.progress import Tick
from vesalius.engine.run import Run
from vesalius.tasks import Prior, VoxelTask

GROUPS = 5
FILE, SHOWN = "prior.json", "primed"


def priors_of(run: Run, voices: Sequence[Path]) -> list[Prior]:
    """The prior of each network that corrects one, in the order of the folders `voices`."""
    found = [voice for voice in voices if run.corrects(voice)]
    return [cast(VoxelTask, run.task).prior(run.plan.labels, voice / FILE) for voice in found]


def groups(patients: Sequence[str]) -> list[list[int]]:
    """Indices of cases in at most `GROUPS` groups of like size; a patient's cases are in one of them."""
    known = {who: k % GROUPS for k, who in enumerate(dict.fromkeys(patients))}
    found = [[i for i, who in enumerate(patients) if known[who] == group] for group in range(GROUPS)]
    return [part for part in found if part]


def fit_priors(run: Run, voice: Path, learned: Sequence[Stored], *, patients: Mapping[str, str], tick: Tick) -> None:
    """Fit what is not there yet: prior.json, and the odds of each of the `learned` cases in files of their own."""
    (voice / SHOWN).mkdir(parents=True, exist_ok=True)
    if not (voice / FILE).exists():
        _fitted(run, learned).save(voice / FILE)
    parts = groups([patients[case.name] for case in learned])
    for done, part in enumerate(parts, 1):
        missing = [learned[i] for i in part if not _file(voice, learned[i]).exists()]
        if missing:
            others = [case for i, case in enumerate(learned) if i not in part]
            prior = _fitted(run, others or learned)
            for case in missing:
                save_array(_file(voice, case), np.concatenate([case.image, stored_odds(prior, case.image).astype(np.float16)]))
        tick(done, len(parts), "fitting the baseline that is to be corrected")


def primed(run: Run, voice: Path, learned: Sequence[Stored], *, checked: Sequence[Stored]) -> tuple[list[Stored], list[Stored]]:
    """Both sides with the odds after their channels: those of training cases from the files that `fit_priors` wrote."""
    prior = priors_of(run, [voice])[0]
    shown = [replace(case, image=mapped(_file(voice, case))) for case in learned]
    return shown, [replace(case, image=with_odds(case.image.astype(np.float32), [prior]).astype(np.float16)) for case in checked]


def forget_odds(voice: Path) -> None:
    """Remove what only learning needed."""
    shutil.rmtree(voice / SHOWN, ignore_errors=True)


def _fitted(run: Run, cases: Sequence[Stored]) -> Prior:
    prior = cast(VoxelTask, run.task).prior(run.plan.labels, None)
    prior.fit((case.image.astype(np.float32), case.target) for case in cases)
    odds = len(prior.odds(cases[0].image.astype(np.float32)))
    if odds != run.plan.net.prior:
        raise VesaliusError(f"The training masks of {named(cases)} hold {odds} of the {run.plan.net.prior} labels, too few for a "
                            "network that corrects the baseline. Plan with --set net.prior=0")  # fmt: skip
    return prior


def named(cases: Sequence[Stored]) -> str:
    """The first cases by name."""
    return ", ".join(case.name for case in cases[:3]) + (" ..." if len(cases) > 3 else "")


def _file(voice: Path, case: Stored) -> Path:
    return voice / SHOWN / f"{case.name}.npy"
