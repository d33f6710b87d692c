"""All rules of a run together: fitted on its validation cases in one go, kept as one JSON file, applied to every answer.

Calibration, thresholds and the promises (sets, abstention, novelty) must not be fitted on the same patients: a limit is
only a promise for scores that knew nothing of it. So the validation patients are dealt into two parts by their names;
the first calibrates, the second makes the promises.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vesalius.core.errors import DataError
from vesalius.core.settings import Settings
from vesalius.data.labels import IGNORE
from vesalius.trust._kept import Flags, Floats, Indices, Kept, require_scores, uniform_of
from vesalius.trust.abstention import Abstention, fit_abstention
from vesalius.trust.calibration import Calibration, Form, fit_calibration
from vesalius.trust.conformal import Conformal, ConformalChoice, fit_conformal
from vesalius.trust.operating import OperatingPoint, fixed_sensitivity, fixed_specificity, youden
from vesalius.trust.out_of_distribution import Novelty, energy, fit_novelty

FEWEST = 2  # patients in each part


class TrustChoice(Settings):
    """What is fitted.

    `form`    of the calibration
    `rule`    for the threshold of two classes, or of each finding: Youden's, a sensitivity or specificity of at least `least`,
              or a calibrated probability of one half
    `chosen_on`  whose cases choose the threshold: the "calibrating" patients, or "all", which is steadier where validation is small;
              whether cases are answered is then promised by patients that have had a say in the threshold, so that this promise
              (and no other) holds nearly, not strictly
    `sets`    kind of the prediction sets
    `risk`, `doubt`  error that answers may have, and the chance that this fails
    `alarms`  share of ordinary patients who may be called strange
    `calibrate`  share of the patients for calibration and thresholds; the others are for the promises
    """

    form: Form = "temperature"
    rule: Literal["youden", "sensitivity", "specificity", "half"] = "youden"
    least: float = 0.95
    chosen_on: Literal["calibrating", "all"] = "calibrating"
    sets: ConformalChoice = ConformalChoice()
    risk: float = 0.05
    doubt: float = 0.1
    alarms: float = 0.05
    calibrate: float = 0.5
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the rules say of N cases: calibrated `probabilities` (N, K), what is `said` (N,) or (N, K), which classes each may be
    (`sets`), whether it is `answered`, and whether it is `strange`, (N,) each."""

    probabilities: Floats
    said: Indices
    sets: Flags
    answered: Flags
    strange: Flags


class Trust(Kept):
    """The rules of one run. `points` hold one threshold for two classes, one per finding for findings, none for more classes."""

    version: int = 1
    choice: TrustChoice
    calibration: Calibration
    points: tuple[OperatingPoint | None, ...]
    sets: Conformal
    abstention: Abstention
    novelty: Novelty

    def judge(self, logits: ArrayLike, names: Sequence[object]) -> Judgement:
        """Of logits (N, K) of cases called `names` (N,)."""
        values = np.asarray(logits, float)
        p = self.calibration.probabilities(values)
        said = decide(p, self.points, exclusive=self.calibration.exclusive)
        sure = confidence(p, said, exclusive=self.calibration.exclusive)
        strange = energy(values, exclusive=self.calibration.exclusive)
        return Judgement(p, said, self.sets.sets(p, names), self.abstention.answers(sure), self.novelty.strange(strange))

    @property
    def remarks(self) -> list[str]:
        """Sentences of what could not be fitted."""
        told = [*self.calibration.remarks, *self.sets.remarks]
        if self.abstention.cut is None:
            told.append(f"No confidence keeps the error below {self.abstention.risk:g} for certain: every answer is for a person to check.")
        if self.novelty.cut is None:
            told.append(f"{self.novelty.patients} patients are too few to tell strange cases with {self.novelty.alarms:g} false alarms.")
        return told


def decide(probabilities: Floats, points: Sequence[OperatingPoint | None], *, exclusive: bool) -> Indices:
    """Class (N,) or 0 / 1 of each finding (N, K): from the thresholds of `points` (.5 where None), else the most probable class."""
    if exclusive and probabilities.shape[1] != 2:
        return np.asarray(probabilities.argmax(1))
    cuts = np.array([0.5 if point is None else point.threshold for point in points])
    said = (probabilities[:, 1] >= cuts[0]) if exclusive else probabilities >= cuts
    return np.asarray(said.astype(np.intp))


def confidence(probabilities: Floats, said: Indices, *, exclusive: bool) -> Floats:
    """Probability of what is said (N,); of findings that of the least sure one."""
    if exclusive:
        return np.asarray(probabilities[np.arange(len(said)), said])
    return np.asarray(np.where(said == 1, probabilities, 1 - probabilities).min(1))


def fit_trust(logits: ArrayLike, truth: ArrayLike, *, names: Sequence[object], patients: Sequence[object] | None = None,
              choice: TrustChoice | None = None) -> Trust:  # fmt: skip
    """From validation logits (N, K), truth (N,) or (N, K) with 255 unknown, and the names of cases and patients (N,)."""
    values, known = require_scores(logits, truth, "logits")
    choice, called = choice or TrustChoice(), np.asarray(names).astype(str)
    whose = called if patients is None else np.asarray(patients).astype(str)
    if not called.shape == whose.shape == (len(values),):
        raise DataError(f"Expected a name and a patient for each of {len(values)} cases; got {called.shape} and {whose.shape}.")
    told = known != IGNORE if known.ndim == 1 else (known != IGNORE).any(1)
    values, known, called, whose = values[told], known[told], called[told], whose[told]
    first, second = _parts(whose, choice)
    calibration = fit_calibration(values[first], known[first], form=choice.form, patients=whose[first])
    p, exclusive = calibration.probabilities(values), calibration.exclusive
    choosing = np.ones_like(first) if choice.chosen_on == "all" else first
    points = _points(p[choosing], known[choosing], choice)
    said = decide(p, points, exclusive=exclusive)
    right = said == known if exclusive else ((said == known) | (known == IGNORE)).all(1)
    sure = confidence(p, said, exclusive=exclusive)
    return Trust(
        choice=choice,
        calibration=calibration,
        points=points,
        sets=fit_conformal(p[second], known[second], names=called[second].tolist(), patients=whose[second], choice=choice.sets),
        abstention=fit_abstention(sure[second], right[second], risk=choice.risk, doubt=choice.doubt, patients=whose[second]),
        novelty=fit_novelty(energy(values[second], exclusive=exclusive), score="energy", alarms=choice.alarms, patients=whose[second]),
    )


def _parts(patients: NDArray[np.str_], choice: TrustChoice) -> tuple[Flags, Flags]:
    """Which cases calibrate and which make the promises; a patient's are all in one part, by the order of a hash of the name."""
    people = np.unique(patients)
    ranked = people[np.argsort(uniform_of(people.tolist(), purpose="parts", seed=choice.seed), kind="stable")]
    number = round(choice.calibrate * len(people))
    if min(number, len(people) - number) < FEWEST:
        raise DataError(f"{len(people)} validation patients cannot be parted into {FEWEST} that calibrate and {FEWEST} that make promises. "
                        "Hold more patients back for validation, or fit over all folds.")  # fmt: skip
    first = np.isin(patients, ranked[:number])
    return first, ~first


def _points(p: Floats, truth: NDArray[np.int64], choice: TrustChoice) -> tuple[OperatingPoint | None, ...]:
    """The threshold of the question, or of each finding; None where it has no positive or no negative case."""
    if truth.ndim == 1 and p.shape[1] != 2:
        return ()
    asked = [(p[:, 1], truth)] if truth.ndim == 1 else [(p[:, k], truth[:, k]) for k in range(p.shape[1])]
    return tuple(_point(score, actual, choice) for score, actual in asked)


def _point(score: Floats, truth: NDArray[np.int64], choice: TrustChoice) -> OperatingPoint | None:
    if choice.rule == "half" or not {0, 1} <= set(truth.tolist()):
        return None
    if choice.rule == "youden":
        return youden(score, truth)
    choose = fixed_sensitivity if choice.rule == "sensitivity" else fixed_specificity
    return choose(score, truth, least=choice.least)
