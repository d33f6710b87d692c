"""The short table that stands at the end of a command: the model beside the shallow baseline, with intervals."""

from collections.abc import Mapping
from typing import Any

from vesalius.cli._console import table

Metrics = Mapping[str, Any]


def show_scores(metrics: Metrics, *, part: str = "test") -> None:
    """Dice with its interval, the baseline's Dice, HD95 and missed objects of each label; `metrics` is metrics.json."""
    part = part if part in metrics["parts"] else next(iter(metrics["parts"]))
    scores = metrics["parts"][part]
    unit = metrics["unit"]
    rows = [row_of(label, of_label, baseline_of(scores, label)) for label, of_label in scores["model"]["summary"].items()]
    cases = len({row["case"] for row in scores["model"]["rows"]})
    table(("label", "Dice", "95 % interval", "baseline", f"HD95 ({unit})", "missed"), rows, title=f"{cases} cases of the {part} part")


def row_of(label: str, model: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[Any]:
    """One line of the table; what is not defined is None."""
    dice, distance = model.get("dice", {}), model.get("hd95", {}).get("mean")
    known = dice.get("low") is not None and dice.get("high") is not None
    interval = f"{dice['low']:.3f} to {dice['high']:.3f}" if known else None
    far = None if distance is None else f"{distance:5.1f}"
    return [label, dice.get("mean"), interval, baseline.get("dice", {}).get("mean"), far, model.get("counts", {}).get("missed")]


def baseline_of(scores: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """The baseline's summary of `label`; empty where there is no baseline."""
    found: Mapping[str, Any] = ((scores.get("baseline") or {}).get("summary") or {}).get(label, {})
    return found
