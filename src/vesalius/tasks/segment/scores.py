"""What counts as good: every metric of masks on the shelf, one row per label, and what each number means."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vesalius.core.errors import DataError
from vesalius.core.space import Array, Space
from vesalius.data.labels import IGNORE, Labels
from vesalius.metrics import METRICS
from vesalius.metrics._pair import Pair, pairs_of_maps

Row = dict[str, Any]


def metric_facts() -> dict[str, dict[str, Any]]:
    """For each number in a row: its definition, unit ("1", "length", "volume"), which way is better, values for empty masks."""
    cards = [METRICS.card(name) for name in METRICS]
    return {metric: fact for card in cards if "segment" in card.tasks for metric, fact in (card.facts or {}).items()}


def definitions(*, tolerance: float, unit: str) -> dict[str, str]:
    """One sentence for each number in a row, for the reader of a report. `unit` is "mm" or "px"."""
    units = {"1": "", "length": f", in {unit}", "volume": f", in {unit} to the power of the number of axes"}
    told = {name: fact["definition"] + units[fact["unit"]] + _empty(fact) for name, fact in metric_facts().items()}
    told["nsd"] += f"; tolerance {tolerance:g} {unit}"
    return told


def _empty(fact: Mapping[str, Any]) -> str:
    """What a missed and a hallucinated object score, in words, where it is not the ordinary formula."""
    if fact["missed"] != "diagonal":
        return ""
    return "; where one mask is empty, the diagonal of the image; 0 where both are"


def score_case(prediction: Array, truth: Array, space: Space, *, names: Sequence[str], case: str, patient: str,
               tolerance: float = 1.0) -> list[Row]:  # fmt: skip
    """One row per class from masks (K, *S) on the grid `space`; `tolerance` of the surface Dice in the unit of `space`."""
    if not len(prediction) == len(truth) == len(names):
        raise DataError(f"Case {case}: {len(prediction)} predicted and {len(truth)} true masks for {len(names)} names.")
    pairs = (Pair.of(p, t, space, tolerance=tolerance) for p, t in zip(prediction, truth, strict=True))
    return [{"case": case, "patient": patient, "label": name, **score(pair)} for name, pair in zip(names, pairs, strict=True)]


def score_coded(prediction: Array, truth: Array, space: Space, *, labels: Labels, case: str, patient: str,
                tolerance: float = 1.0) -> list[Row]:  # fmt: skip
    """Like `score_case`, from what `Labels.encode` gives: (1, *S) indices or (K, *S) of 0 / 1; no stack of masks is made.

    Where the truth is 255 the prediction counts for nothing, neither as right nor as wrong.
    """
    ignored = truth[0] == IGNORE
    if labels.exclusive:
        guess, actual = (np.where(ignored, 0, coded[0]) for coded in (prediction, truth))
        pairs = pairs_of_maps(guess, actual, space, classes=len(labels.names), tolerance=tolerance)
    else:
        layers = zip(prediction, truth, strict=True)
        pairs = (Pair.of((guess == 1) & ~ignored, actual == 1, space, tolerance=tolerance) for guess, actual in layers)
    return [{"case": case, "patient": patient, "label": name, **score(pair)} for name, pair in zip(labels.names, pairs, strict=True)]


def score(pair: Pair) -> dict[str, Any]:
    """Every number of every metric on the shelf for one pair of masks, None where undefined, and the state of the pair."""
    found: dict[str, Any] = {}
    for name in METRICS:
        if "segment" in METRICS.card(name).tasks:
            found |= {metric: value if value == value else None for metric, value in METRICS[name](pair).items()}
    return {**found, "state": pair.state}
