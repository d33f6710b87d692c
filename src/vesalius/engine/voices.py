"""Which of the networks of a run answer: both that learned, or one alone where validation cases say that it does clearly better.

In a short time a network that starts from nothing may not have learned enough to be asked; the mean counts unless one of the two is ahead
of it by more than a standard error of the paired difference (Breiman et al. 1984, section 3.4.3).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesalius.core.files import read_json, write_json
from vesalius.data.cache import Stored
from vesalius.data.primed import with_odds
from vesalius.engine.infer import callables, classes
from vesalius.engine.priming import priors_of
from vesalius.engine.progress import Tick
from vesalius.engine.run import CALIBRATION, CORRECTED, FIRST, Run
from vesalius.plan.budget import device

Floats = NDArray[np.float64]
ALONE = {FIRST: 0, CORRECTED: 1}


def settle_voices(run: Run, stored: Mapping[str, Stored], *, tick: Tick) -> dict[str, float]:
    """Mean quick score of the first network, of the correcting one and of both on validation cases; what answers is written down."""
    if run.plan.net.networks < 2:
        return {}
    (run.path / CALIBRATION).unlink(missing_ok=True)
    jobs = [(member, [stored[n] for n in fold["val"] if n in stored]) for member, fold in zip(run.members, run.splits["folds"], strict=True)
            if run.trained([member]) == run.voices(member)]  # fmt: skip
    total, rows = sum(len(cases) for _, cases in jobs), list[list[float]]()
    for member, cases in jobs:
        for case in cases:
            rows.append(scores(run, member, case))
            tick(len(rows), total, "comparing the networks")
    if not rows:
        return {}
    table = np.array(rows)
    write_json(run.path / CALIBRATION, {"version": 1, "networks": chosen(table)})
    return dict(zip((FIRST, CORRECTED, "both"), table.mean(0).tolist(), strict=True))


def scores(run: Run, member: Path, case: Stored) -> list[float]:
    """The quick score of the first networks of `member`, of those that correct, and of all."""
    plan, where, folders = run.plan, device(), run.trained([member])
    networks = callables(run.networks([member]), plan, where)
    image = with_odds(np.asarray(case.image, np.float32), priors_of(run, folders))
    corrects = [run.corrects(folder) for folder in folders]
    asked = [[n for n, c in zip(networks, corrects, strict=True) if c is which] for which in (False, True)] + [networks]
    answers = [classes(some, image, image.shape[1:], plan=plan, device=where) for some in asked]
    return [run.task.quick_score(said, case.target, plan.labels) for said in answers]


def chosen(table: Floats) -> list[str]:
    """Who answers, from scores (cases, 3) of the first, the correcting one and both."""
    for name in sorted(ALONE, key=lambda name: -table[:, ALONE[name]].mean()):
        gain = table[:, ALONE[name]] - table[:, 2]
        if len(gain) > 1 and gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            return [name]
    return [FIRST, CORRECTED]


def said_of(run: Run, scored: Mapping[str, float]) -> str:
    """What was settled, in a sentence."""
    who = read_json(run.path / CALIBRATION)["networks"]
    words = {FIRST: "the network alone", CORRECTED: "the one that corrects the baseline", "both": "both together"}
    told = ", ".join(f"{words[name]} {value:.3f}" for name, value in scored.items())
    return f"Dice on validation cases: {told}. " + ("Both answer." if len(who) == 2 else f"Only {words[who[0]]} answers.")
