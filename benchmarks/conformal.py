"""Coverage of conformal sets over 200 resamplings beside the exact bounds, and calibration error before and after temperature.

    python benchmarks/conformal.py [--picture FILE.png] [--answers FILE.npz] [--times 200] [--json]

FILE.npz holds `logits` (N, K), `truth` (N,) and, if patients have several images, `patients` (N,): the validation answers of
a run. Without it 600 made patients with one to four images are taken, whose logits are three times too sure. Patients
are dealt into halves; temperature and sets are fitted on one and tested on the other.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from vesalius.audit.coverage import Coverage, resampled_coverage
from vesalius.metrics._answers import Answers
from vesalius.metrics.calibration import calibration, consistent_errors, events, reliability
from vesalius.trust.calibration import fit_calibration, probabilities_of
from vesalius.trust.conformal import ConformalChoice

CHOICES = {
    "LAC": ConformalChoice(method="lac"),
    "APS": ConformalChoice(method="aps"),
    "RAPS": ConformalChoice(method="raps", penalty=0.1, free=2),
    "APS, not randomised": ConformalChoice(method="aps", randomised=False),
}


@dataclass
class Made:
    logits: np.ndarray
    truth: np.ndarray
    patients: np.ndarray


def made(people: int = 600, classes: int = 5, *, temperature: float = 3.0, seed: int = 0) -> Made:
    """Patients of one class each; their images agree in most of what the network sees."""
    random = np.random.default_rng(seed)
    images = random.integers(1, 5, people)
    whose = np.repeat(np.arange(people), images)
    honest = random.normal(size=(people, classes)) * 1.5
    truth = (softmax(honest, axis=1).cumsum(1) < random.random((people, 1))).sum(1)
    return Made(temperature * (honest[whose] + 0.2 * random.normal(size=(len(whose), classes))), truth[whose], whose)


def load(path: Path) -> Made:
    with np.load(path, allow_pickle=False) as file:
        truth = file["truth"].astype(int)
        return Made(file["logits"], truth, file["patients"] if "patients" in file else np.arange(len(truth)))


def temperatures(data: Made, times: int) -> tuple[np.ndarray, list[Answers]]:
    """(times, 3): calibration error of the untouched half before and after, and whether the latter is within what chance makes
    of calibrated answers; and both answers of the last."""
    random, people = np.random.default_rng(1), np.unique(data.patients)
    errors, last = [], []
    for _ in range(times):
        half = np.isin(data.patients, random.permutation(people)[: len(people) // 2])
        fitted = fit_calibration(data.logits[half], data.truth[half], patients=data.patients[half])
        rest = data.logits[~half]
        pair = probabilities_of(rest, exclusive=True), fitted.probabilities(rest)
        last = [Answers.of(p, data.truth[~half], patients=data.patients[~half]) for p in pair]
        before, after = (calibration(answers)["ece"] for answers in last)
        chance = consistent_errors(events(last[1])[0][0], patients=last[1].patients, draws=100)
        errors.append([before, after, after <= np.quantile(chance, 0.95)])
    return np.array(errors), last


def draw(path: Path, found: dict[str, Coverage], errors: np.ndarray, last: list[Answers]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    random = np.random.default_rng(0)
    band, middle, mean = "95 % of resamplings (beta-binomial)", "mean by theory", "mean found"
    for place, coverage in enumerate(found.values()):
        low, high = coverage.bounds()
        ends = [place - 0.4, place + 0.4]
        left.fill_between(ends, low, high, color="0.88", label=None if place else band)
        left.plot(ends, [coverage.expected] * 2, color="0.3", label=None if place else middle)
        left.plot(place + random.uniform(-0.3, 0.3, len(coverage.covered)), coverage.covered, ".", ms=3, color="tab:blue")
        left.plot(place, coverage.covered.mean(), "D", ms=6, color="tab:red", label=None if place else mean)
    left.axhline(1 - next(iter(found.values())).miss, color="0.3", lw=0.8, ls=":", label="promised")
    left.set_xticks(range(len(found)), [f"{name}\nsize {coverage.size.mean():.2f}" for name, coverage in found.items()])
    left.set_ylabel("share of test patients covered")
    left.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    for answers, name, error in zip(last, ("before", "after temperature"), errors.mean(0)[:2], strict=True):
        bins = reliability(*events(answers)[0])
        right.plot(bins.probability, bins.frequency, "o-", ms=4, label=f"{name}: ECE {error:.3f}")
    right.plot([0, 1], [0, 1], color="0.3", lw=0.8, ls=":")
    right.set(xlabel="probability of what is said", ylabel="how often it is right", xlim=(0, 1), ylim=(0, 1))
    right.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--picture", type=Path, help="where the figure goes")
    words.add_argument("--answers", type=Path)
    words.add_argument("--times", type=int, default=200)
    words.add_argument("--json", action="store_true")
    chosen = words.parse_args()
    data = load(chosen.answers) if chosen.answers else made()
    p = probabilities_of(data.logits, exclusive=True)
    found = {name: resampled_coverage(p, data.truth, patients=data.patients, choice=choice, times=chosen.times)
             for name, choice in CHOICES.items()}  # fmt: skip
    errors, last = temperatures(data, chosen.times)
    if chosen.picture:
        draw(chosen.picture, found, errors, last)
    told = {name: {k: v for k, v in coverage.to_json().items() if k != "covered"} for name, coverage in found.items()}
    if chosen.json:
        ece = dict(zip(("before", "after", "within_chance"), errors.mean(0).tolist(), strict=True))
        json.dump({"coverage": told, "ece": ece}, sys.stdout, indent=1)
        return
    print(f"{'sets':20} {'mean':>7} {'theory':>7} {'bounds of 95 %':>16} {'inside':>7} {'size':>6}")
    for name, row in told.items():
        bounds = f"{row['low']:.3f} - {row['high']:.3f}"
        print(f"{name:20} {row['mean']:7.4f} {row['expected']:7.4f} {bounds:>16} {row['inside']:7.3f} {row['size']:6.2f}")
    print(f"calibration error {errors[:, 0].mean():.3f} before, {errors[:, 1].mean():.3f} after temperature; within what chance makes "
          f"of calibrated answers (95 %) in {errors[:, 2].mean():.3f} of resamplings")  # fmt: skip


if __name__ == "__main__":
    main()
