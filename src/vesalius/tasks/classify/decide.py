"""From logits to what is said: a temperature, thresholds and promises, all set on validation cases and on no others.

The rules are those of `vesalius.trust`; here they are kept by the names of the classes, so that people can read and change them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.settings import Settings
from vesalius.core.space import Array
from vesalius.data.labels import IGNORE, Labels
from vesalius.tasks.classify.operate import Operating, Targets, chosen
from vesalius.trust.calibration import probabilities_of
from vesalius.trust.out_of_distribution import energy
from vesalius.trust.rules import Trust, TrustChoice, confidence, fit_trust

FEW = 20  # patients, below which nothing is fitted: ten for the temperature, ten for the promises
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Calibration(Settings):
    """`temperature` divides the logits; a class is said from its probability in `thresholds` on (of one of three and more classes
    the most probable one is said, without thresholds). `nats` are the mean cross entropy before and after on the cases that the
    temperature was fitted on, of `cases` that were there.

    `operating` are thresholds for a wished sensitivity or specificity: told, not used for what is said. `trust` holds the rules as
    they were fitted: prediction sets, abstention and novelty are taken from there. Runs of version 1
    have none, nor have those with too few patients for validation.
    """

    version: int = 2
    temperature: float = 1.0
    thresholds: dict[str, float] = {}
    cases: int = 0
    nats: tuple[float, float] | None = None
    trust: Trust | None = None
    operating: tuple[Operating, ...] = ()


class Judged(Settings):
    """What the rules say of one case: which classes it may be (`possible`), whether it is `answered`, and whether it is `strange`."""

    possible: tuple[str, ...]
    answered: bool
    strange: bool


def fit(logits: Array, truth: Array, labels: Labels, *, names: Sequence[str] | None = None,
        patients: Sequence[str] | None = None, targets: Targets | None = None) -> Calibration:  # fmt: skip
    """Everything from validation logits (N, K) with truth (N, 1 | K) of cases called `names`; of few patients nothing. `targets` are
    sensitivities and specificities for which operating points are kept."""
    called = [str(k) for k in range(len(logits))] if names is None else list(names)
    whose = called if patients is None else list(patients)
    known = (np.asarray(truth) != IGNORE).any(1).tolist()
    if len({patient for patient, told in zip(whose, known, strict=True) if told}) < FEW:
        return Calibration(cases=len(logits))
    target = truth[:, 0] if labels.one_of else truth
    rules = fit_trust(np.asarray(logits, np.float64), target, names=called, patients=whose, choice=TrustChoice(chosen_on="all"))
    judged = judged_alone(labels)
    points = dict(zip([labels.names[k] for k in judged], rules.points, strict=True))
    temperature = rules.calibration.temperature[0]
    p = calibrated(logits, labels, Calibration(temperature=temperature))
    return Calibration(temperature=temperature, cases=len(logits), trust=rules,
                       thresholds={name: 0.5 if point is None else point.threshold for name, point in points.items()},
                       nats=(rules.calibration.before, rules.calibration.after),
                       operating=chosen(p, truth, labels, targets=targets or {}))  # fmt: skip


def judged_alone(labels: Labels) -> list[int]:
    """The classes that are said by a threshold: each finding, and the last of two classes."""
    if labels.one_of:
        return [1] if len(labels.names) == 2 else []
    return list(range(len(labels.names)))


def calibrated(logits: Array, labels: Labels, calibration: Calibration) -> Floats:
    """(N, K) probabilities."""
    return probabilities_of(np.asarray(logits, np.float64) / calibration.temperature, exclusive=labels.one_of)


def possible(probabilities: Floats, names: Sequence[str], trust: Trust) -> Flags:
    """Which classes cases (N,) called `names` may be, or which findings they may have, (N, K)."""
    sets = trust.sets.sets(probabilities, names)
    return sets if sets.ndim == 2 else np.asarray(sets[..., 1])


def judge(logits: Array, said: Array, labels: Labels, *, calibration: Calibration, names: Sequence[str]) -> list[Judged | None]:
    """What the rules say of cases (N,) with these logits, of whom `said` (N, 1 | K) is said; None without rules."""
    trust = calibration.trust
    if trust is None:
        return [None] * len(logits)
    p = calibrated(logits, labels, calibration)
    told = np.asarray(said, np.intp)
    answered = trust.abstention.answers(confidence(p, told[:, 0] if labels.one_of else told, exclusive=labels.one_of))
    strange = trust.novelty.strange(energy(logits, exclusive=labels.one_of))
    rows: Any = zip(possible(p, names, trust), answered, strange, strict=True)
    return [Judged(possible=tuple(name for name, may in zip(labels.names, row, strict=True) if may), answered=bool(sure),
                   strange=bool(odd)) for row, sure, odd in rows]  # fmt: skip
