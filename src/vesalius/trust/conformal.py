"""Prediction sets that hold the truth with a promised share: split conformal prediction, over patients.

Vovk, Gammerman, Shafer 2005; Sadinle, Lei, Wasserman 2019 (LAC: the smallest sets on average); Romano, Sesia, Candes 2020
(APS: sets that are larger where it is harder); Angelopoulos et al. 2021 (RAPS: APS without long tails); Vovk 2012 (by class).
Ours draws one score per patient, because patients are exchangeable and images of one patient are not; and the random
number of a case comes from its name, so that the same case always has the same set.

The promise is on average over calibration patients and new ones like them: with n patients, the share of new patients
covered is distributed as Beta(k, n + 1 - k), k = ceil((n + 1)(1 - miss)). Of other scanners or sites it says nothing.
"""

from collections.abc import Sequence
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vesalius.core.errors import DataError
from vesalius.core.settings import Settings
from vesalius.data.labels import IGNORE
from vesalius.trust._kept import Flags, Floats, Indices, Kept, owners, require_scores, uniform_of


class ConformalChoice(Settings):
    """What kind of sets.

    `miss`        share of patients that may be missed
    `by_class`    promise the share for each true class by itself (needs 1 / miss - 1 patients of each)
    `randomised`  APS and RAPS cut the last class by chance, which keeps the promise with smaller sets
    `penalty`, `free`  RAPS: what each class beyond the first `free` ones costs
    `per_patient` "every": all images of a patient are covered together; "one": one image drawn from each patient
    """

    method: Literal["lac", "aps", "raps"] = "lac"
    miss: float = 0.1
    by_class: bool = False
    randomised: bool = True
    penalty: float = 0.01
    free: int = 5
    per_patient: Literal["every", "one"] = "every"
    seed: int = 0


class Conformal(Kept):
    """`quantiles[q][k]`: the largest score in a set, of question q (one; or one per finding) and class k (one; or each class).

    None is no limit: too few patients to promise anything but the set of all classes. `patients` has the same form.
    `empty` is the share of the sets of the cases it was fitted on that hold no class.
    """

    choice: ConformalChoice
    exclusive: bool
    quantiles: tuple[tuple[float | None, ...], ...]
    patients: tuple[tuple[int, ...], ...]
    empty: float = 0.0

    def sets(self, probabilities: ArrayLike, names: Sequence[object]) -> Flags:
        """Which classes each case may be: (N, K), or (N, K, 2) of absent and present for findings. `names` (N,) are the cases'."""
        p = np.asarray(probabilities, float)
        questions = [p] if self.exclusive else [np.stack([1 - column, column], 1) for column in p.T]
        if len(questions) != len(self.quantiles) or len(self.quantiles[0]) not in (1, questions[0].shape[1]):
            raise DataError(f"These prediction sets are of {self._asked}; got probabilities {p.shape}.")
        made = [
            scores(question, self.choice, _random(names, self.choice, q)) <= np.array([np.inf if cut is None else cut for cut in cuts])
            for q, (question, cuts) in enumerate(zip(questions, self.quantiles, strict=True))
        ]
        return np.asarray(made[0] if self.exclusive else np.stack(made, 1))

    @property
    def _asked(self) -> str:
        return f"{len(self.quantiles[0])} classes" if self.exclusive else f"{len(self.quantiles)} findings"

    @property
    def remarks(self) -> list[str]:
        """A sentence for every limit that could not be set."""
        need = ceil(1 / self.choice.miss - 1 - 1e-9)
        empty = [(q, k, self.patients[q][k]) for q, cuts in enumerate(self.quantiles) for k, cut in enumerate(cuts) if cut is None]
        where = "class" if self.choice.by_class else "limit"
        told = [f"Question {q}, {where} {k}: {n} patients, {need} at least are needed; every set holds it." for q, k, n in empty]
        if self.empty > 0.01:
            told.append(f"{self.empty:.0%} of the sets are empty: answers are right more often than the {1 - self.choice.miss:.0%} "
                        "promised. Ask for a smaller share to be missed.")  # fmt: skip
        return told


def scores(probabilities: Floats, choice: ConformalChoice, random: Floats) -> Floats:
    """How strange each class would be for each case, (N, K), the larger the stranger; `random` (N,) in 0..1."""
    if choice.method == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, 1)
    part = random[:, None] if choice.randomised else 1.0
    strange = np.cumsum(ranked, 1) - ranked + part * ranked
    if choice.method == "raps":
        strange = strange + choice.penalty * np.maximum(np.arange(1, ranked.shape[1] + 1) - choice.free, 0)
    back = np.empty_like(strange)
    np.put_along_axis(back, order, strange, 1)
    return back


def _random(names: Sequence[object], choice: ConformalChoice, question: int) -> Floats:
    return uniform_of(names, purpose=f"sets of question {question}", seed=choice.seed)


def rank_of(patients: int, miss: float) -> int:
    """Which of the sorted scores is the limit: ceil((n + 1)(1 - miss)); n + 1 is none of them."""
    return min(ceil((patients + 1) * (1 - miss) - 1e-9), patients + 1)


def limit(strange: Floats, miss: float) -> float | None:
    """The limit from one score per patient; None where there are too few."""
    rank = rank_of(len(strange), miss)
    return float(np.sort(strange)[rank - 1]) if rank <= len(strange) else None


def fit_conformal(
    probabilities: ArrayLike,
    truth: ArrayLike,
    *,
    names: Sequence[object],
    patients: Sequence[object] | NDArray[np.generic] | None = None,
    choice: ConformalChoice | None = None,
) -> Conformal:
    """From probabilities (N, K) and truth (N,) or (N, K), 255 unknown, of validation cases that nothing else was fitted on."""
    p, known = require_scores(probabilities, truth, "probabilities")
    choice = choice or ConformalChoice()
    if not 0 < choice.miss < 1:
        raise DataError(f"The share that may be missed lies between 0 and 1; got {choice.miss}.")
    owner, exclusive = owners(patients, len(p)), known.ndim == 1
    questions = [(p, known)] if exclusive else [(np.stack([1 - p[:, k], p[:, k]], 1), known[:, k]) for k in range(p.shape[1])]
    found = [
        _limits(question, answer, owner, choice=choice, random=_random(names, choice, q))
        for q, (question, answer) in enumerate(questions)
    ]
    rule = Conformal(choice=choice, exclusive=exclusive, quantiles=tuple(tuple(f[0] for f in part) for part in found),
                     patients=tuple(tuple(f[1] for f in part) for part in found))  # fmt: skip
    return rule.model_copy(update={"empty": float((~rule.sets(p, names).any(-1)).mean())})


def _limits(p: Floats, truth: NDArray[np.int64], owner: Indices, *, choice: ConformalChoice,
            random: Floats) -> list[tuple[float | None, int]]:  # fmt: skip
    """(limit, patients) over all classes, or for each class."""
    known = truth != IGNORE
    strange = scores(p, choice, random)[np.flatnonzero(known), truth[known]]
    groups = [np.ones(len(strange), bool)]
    if choice.by_class:
        groups = [truth[known] == k for k in range(p.shape[1])]
    made = [one_per_patient(strange[group], owner[known][group], choice) for group in groups]
    return [(limit(part, choice.miss), len(part)) for part in made]


def one_per_patient(strange: Floats, owner: Indices, choice: ConformalChoice) -> Floats:
    """The strangest of each patient's cases, or one drawn at random; (patients,)."""
    if not len(strange):
        return strange
    if choice.per_patient == "one":
        shuffled = np.random.default_rng(choice.seed).permutation(len(strange))
        first = np.unique(owner[shuffled], return_index=True)[1]
        return np.asarray(strange[shuffled[first]])
    _, index = np.unique(owner, return_inverse=True)
    most = np.full(index.max() + 1, -np.inf)
    np.maximum.at(most, index, strange)
    return most
