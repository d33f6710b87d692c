"""Calibration of logits after training: one temperature, one per class, or Platt's scale and shift per class.

Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks, ICML (temperature and vector scaling); Platt 1999
for findings. Fitted by the negative log likelihood of validation cases, each patient counting once. Ours holds the forms
of many parameters near "no change", as if one case had said so, because validation parts are small.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_softmax, softmax

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE
from vesalius.trust._kept import Floats, Kept, owners, require_scores

Form = Literal["temperature", "class", "vector"]
COLDEST, HOTTEST = 0.05, 20.0  # temperatures outside say that the validation part cannot tell
PULL = 1.0  # in cases


class Calibration(Kept):
    """Logits are divided by `temperature` (1 or K numbers), then `shift` (none, or K) is added.

    `before` and `after` are nats per case on the validation cases that it was fitted on; `patients` is how many there were.
    """

    form: Form
    exclusive: bool
    temperature: tuple[float, ...]
    shift: tuple[float, ...] = ()
    before: float
    after: float
    patients: int

    def logits(self, logits: ArrayLike) -> Floats:
        """Calibrated logits (N, K)."""
        scaled = np.asarray(logits, float) / np.array(self.temperature)
        return np.asarray(scaled + np.array(self.shift) if self.shift else scaled)

    def probabilities(self, logits: ArrayLike) -> Floats:
        """Calibrated probabilities (N, K)."""
        return probabilities_of(self.logits(logits), exclusive=self.exclusive)

    @property
    def remarks(self) -> list[str]:
        """A sentence where the fit says more of the validation part than of the network."""
        at_end = [t for t in self.temperature if not COLDEST * 1.001 < t < HOTTEST / 1.001]
        return [f"A temperature of {t:.3g} is the end of what is allowed: {self.patients} validation patients cannot tell." for t in at_end]


def probabilities_of(logits: ArrayLike, *, exclusive: bool) -> Floats:
    """Softmax over the classes of (N, K), or the sigmoid of each finding."""
    values = np.asarray(logits, float)
    return np.asarray(softmax(values, axis=1) if exclusive else expit(values))


def logits_of(probabilities: ArrayLike, *, exclusive: bool, floor: float = 1e-9) -> Floats:
    """Logits (N, K) whose softmax (or sigmoid) is `probabilities`, kept `floor` off 0 and 1: for the mean of an ensemble."""
    p = np.asarray(probabilities, float).clip(floor, 1 if exclusive else 1 - floor)
    return np.asarray(np.log(p) if exclusive else np.log(p) - np.log1p(-p))


def fit_calibration(logits: ArrayLike, truth: ArrayLike, *, form: Form = "temperature",
                    patients: Sequence[object] | NDArray[np.generic] | None = None) -> Calibration:  # fmt: skip
    """From validation logits (N, K) and truth (N,) of indices or (N, K) of 0 / 1, 255 unknown."""
    from scipy.optimize import minimize

    values, known = require_scores(logits, truth, "logits")
    owner, exclusive, k = owners(patients, len(values)), known.ndim == 1, values.shape[1]
    told = known != IGNORE if exclusive else (known != IGNORE).any(1)
    values, known, owner = values[told], known[told], owner[told]
    if not len(values):
        raise DataError("No validation case has a known truth, so that nothing can be calibrated.")
    weight = 1 / np.bincount(owner)[owner]
    nats = _exclusive_nats(values, known, weight) if exclusive else _finding_nats(values, known, weight)
    scales, shifts = (1 if form == "temperature" else k), (k if form == "vector" else 0)
    people = len(np.unique(owner))
    start, pull = np.append(np.ones(scales), np.zeros(shifts)), 0.0 if form == "temperature" else PULL / people

    def cost(parameters: Floats) -> tuple[float, Floats]:
        value, slope, shift = nats(parameters[:scales], parameters[scales:] if shifts else np.zeros(k))
        off = parameters - start
        steep = np.append(slope if scales > 1 else slope.sum(), shift[:shifts])
        return value + pull / 2 * float(off @ off), steep + pull * off

    bounds = [(1 / HOTTEST, 1 / COLDEST)] * scales + [(None, None)] * shifts
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9}).x
    before, after = (nats(p[:scales], p[scales:] if shifts else np.zeros(k))[0] for p in (start, found))
    return Calibration(form=form, exclusive=exclusive, temperature=tuple((1 / found[:scales]).tolist()),
                       shift=tuple(found[scales:].tolist()), before=before, after=after, patients=people)  # fmt: skip


Nats = Callable[[Floats, Floats], tuple[float, Floats, Floats]]


def _exclusive_nats(logits: Floats, truth: NDArray[np.int64], weight: Floats) -> Nats:
    """Nats per case with its slopes by scale (K,) and shift (K,)."""
    share, rows = weight / weight.sum(), np.arange(len(truth))

    def nats(scale: Floats, shift: Floats) -> tuple[float, Floats, Floats]:
        log_p = log_softmax(logits * scale + shift, axis=1)
        off = np.exp(log_p)
        off[rows, truth] -= 1
        off *= share[:, None]
        return float(-share @ log_p[rows, truth]), (off * logits).sum(0), off.sum(0)

    return nats


def _finding_nats(logits: Floats, truth: NDArray[np.int64], weight: Floats) -> Nats:
    """Nats per known finding with its slopes by scale (K,) and shift (K,)."""
    known = (truth != IGNORE) * weight[:, None]
    share, yes = known / known.sum(), (truth == 1).astype(float)

    def nats(scale: Floats, shift: Floats) -> tuple[float, Floats, Floats]:
        scaled = logits * scale + shift
        off = share * (expit(scaled) - yes)
        return float((share * np.logaddexp(0, scaled * (1 - 2 * yes))).sum()), (off * logits).sum(0), off.sum(0)

    return nats
