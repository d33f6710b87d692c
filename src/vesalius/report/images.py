"""What the report shows of learning from images alone: each task's own section, and examples of what was learned from."""

from collections.abc import Callable
from typing import Any

from vesalius.report import anomaly, generate, pretrain
from vesalius.report.cases import Picture
from vesalius.report.classes import drawn
from vesalius.report.facts import Facts

SECTIONS: dict[str, Callable[[Facts], dict[str, Any]]] = {
    "anomaly": anomaly.results, "pretrain": pretrain.results, "generate": generate.results,
}  # fmt: skip


def results(facts: Facts) -> dict[str, Any]:
    """Values of the sections that need scores, by the task of the run."""
    task = facts.dataset.task if facts.dataset else ""
    return SECTIONS.get(task, pretrain.results)(facts)


def examples(facts: Facts, most: int = 6) -> list[Picture]:
    """Some training images, so that a reader sees what the data look like."""
    if facts.dataset is None:
        return []
    names = [name for fold in facts.splits.get("folds") or [] for name in fold.get("train") or []]
    return [Picture("", name, None, [], "", *drawn(facts, name)) for name in names[:: max(1, len(names) // most)][:most]]
