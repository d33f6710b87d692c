"""Are made images of use? A classifier trained on real ones, on made ones, and on both, all tested on real ones.

Esteban et al. 2017 (arXiv:1706.02633) for "train on synthetic, test on real". Made images help if adding them raises the score, with an
interval over test cases and repeats of the training that leaves out 0; otherwise the verdict is "do not use".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.core.errors import DataError

CARD = Card(
    entry="utility", title="Use for training", tasks=("synthesise",),
    summary="Whether a classifier gets better when made images are added to its training set.",
    paper="Esteban et al. 2017, arXiv:1706.02633",
    facts={
        "real": {"definition": "score on real test images after training on real ones", "better": "high"},
        "made": {"definition": "score on real test images after training on made ones alone", "better": "high"},
        "both": {"definition": "score on real test images after training on both", "better": "high"},
        "rival": {"definition": "score after training on real ones in another way, as with class weights", "better": "high"},
        "gain": {"definition": "both minus the better of real and rival, with a 95 % interval", "better": "high"},
    },
)  # fmt: skip

Array = NDArray[Any]
DO_NOT_USE = "do not use: made images did not help"
USE = "use: made images helped"


@dataclass(frozen=True)
class Labelled:
    """Images (N, ...) or features (N, F), and their classes (N,)."""

    images: Array
    labels: Array

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or not len(self.labels):
            raise DataError(f"Every image needs a class; got {len(self.images)} images and {len(self.labels)} classes.")

    def with_(self, other: "Labelled") -> "Labelled":
        """Both sets as one."""
        return Labelled(np.concatenate([self.images, other.images]), np.concatenate([self.labels, other.labels]))


def balanced_accuracy(labels: Array, predicted: Array) -> float:
    """Mean over classes of the share found."""
    return float(np.mean([(predicted[labels == one] == one).mean() for one in np.unique(labels)]))


@dataclass(frozen=True)
class Trial:
    """How a classifier is trained and scored: `fit(images, labels, seed)`, `predict(model, images)`, `score(labels, predicted)`.

    By default predictions are classes. The training is repeated with seeds 0, 1, ...; `draws` of the bootstrap follow `seed`."""

    fit: Callable[[Array, Array, int], Any]
    predict: Callable[[Any, Array], Array]
    score: Callable[[Array, Array], float] = field(default=balanced_accuracy)
    repeats: int = 3
    draws: int = 1000
    seed: int = 0

    def predicted(self, train: Labelled, test: Labelled) -> list[Array]:
        """Predictions for the test images, one array per repeat."""
        models = (self.fit(train.images, train.labels, seed) for seed in range(self.repeats))
        return [np.asarray(self.predict(model, test.images)) for model in models]

    def mean(self, labels: Array, predicted: list[Array]) -> float:
        """Mean score over repeats."""
        return float(np.mean([self.score(labels, one) for one in predicted]))


def utility(real: Labelled, made: Labelled, test: Labelled, *, trial: Trial, rival: Trial | None = None) -> dict[str, float | str]:
    """real, made (not a number where they have a single class), both, gain, gain_low, gain_high and the verdict in words.

    `rival` is another way to train on the real images, such as class weights; where it is better, the gain is over that."""
    _same_classes(real, made, test)
    sets = {"real": real, "both": real.with_(made)} | ({"made": made} if len(np.unique(made.labels)) > 1 else {})
    found = {name: trial.predicted(train, test) for name, train in sets.items()}
    scores = {"made": math.nan} | {name: trial.mean(test.labels, predicted) for name, predicted in found.items()}
    if rival is not None:
        found["rival"] = rival.predicted(real, test)
        scores["rival"] = trial.mean(test.labels, found["rival"])
    before = max(("real", "rival") if rival else ("real",), key=scores.__getitem__)
    low, high = gain_interval(found[before], found["both"], test.labels, trial=trial)
    gain = {"gain": scores["both"] - scores[before], "gain_low": low, "gain_high": high}
    return {**scores, **gain, "verdict": USE if low > 0 else DO_NOT_USE}


def gain_interval(before: list[Array], after: list[Array], labels: Array, *, trial: Trial) -> tuple[float, float]:
    """95 % of the gain when test cases (within their class) and repeats are drawn again."""
    random, places = np.random.default_rng(trial.seed), [np.flatnonzero(labels == one) for one in np.unique(labels)]
    gains = []
    for _ in range(trial.draws):
        cases = np.concatenate([random.choice(place, len(place)) for place in places])
        one, other = ([found[lot][cases] for lot in random.integers(len(found), size=len(found))] for found in (before, after))
        gains.append(trial.mean(labels[cases], other) - trial.mean(labels[cases], one))
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def _same_classes(real: Labelled, made: Labelled, test: Labelled) -> None:
    known = set(np.unique(real.labels))
    for name, part in (("made", made), ("test", test)):
        if strange := set(np.unique(part.labels)) - known:
            raise DataError(f"The {name} images have classes {sorted(map(int, strange))} that no real training image has. "
                            "Train on every class.")  # fmt: skip
