"""Two runs of one task on the cases that both have answered: their answers, laid side by side and compared."""

from pathlib import Path
from typing import Any

import numpy as np

from vesalius.audit.compare import compare
from vesalius.core.errors import DataError, VesaliusError
from vesalius.core.files import read_json
from vesalius.data.labels import Labels
from vesalius.engine.run import Run
from vesalius.metrics._answers import Answers, Cut
from vesalius.tasks.classify.scores import answers_of

Rows = dict[str, dict[str, Any]]


def compare_runs(first: Run | Path | str, second: Run | Path | str, *, part: str = "test", seed: int = 0,
                 draws: int = 1000) -> dict[str, Any]:  # fmt: skip
    """What `audit.compare` says of two classification runs on the cases of `part` that both answered: {"part", "cases", "patients",
    "left_out", "differences", "discordant", "remarks"}. Each decides by its own thresholds."""
    runs = [run if isinstance(run, Run) else Run.open(run) for run in (first, second)]
    labels = common_labels(*runs)
    rows = [rows_of(run, part) for run in runs]
    shared = sorted(set(rows[0]) & set(rows[1]))
    if not shared:
        raise DataError(f"{runs[0].path} and {runs[1].path} have no case of the part {part} in common ({len(rows[0])} and {len(rows[1])} "
                        "cases). Train both on the same split, or let both answer one data set.")  # fmt: skip
    _require_one_truth(*rows, shared=shared)
    patients = [str(rows[0][name]["patient"]) for name in shared]
    answers = [answers_in([table[name] for name in shared], labels, run, patients=patients) for table, run in zip(rows, runs, strict=True)]
    found = {"part": part, "runs": [str(run.path) for run in runs], "cases": len(shared), "patients": len(set(patients)),
             "left_out": [len(table) - len(shared) for table in rows]}  # fmt: skip
    return {**found, **compare(*answers, seed=seed, draws=draws)}


def common_labels(first: Run, second: Run) -> Labels:
    """The labels of both runs; an error where they answer unlike questions."""
    for run in (first, second):
        if run.task.grain != "case":
            raise VesaliusError(f"{run.path} is a run of the task {run.plan.task}; only runs that classify cases are compared.")
    one, two = first.plan.labels, second.plan.labels
    if one.kind != two.kind or set(one.names) != set(two.names):
        raise DataError(f"{first.path} knows the {one.kind} {', '.join(one.names)}; {second.path} the {two.kind} {', '.join(two.names)}. "
                        "Runs are compared where they answer the same question.")  # fmt: skip
    if len(two.names) == 2 and one.one_of and one.names != two.names:
        raise DataError(f"{first.path} looks for {one.names[-1]}, {second.path} for {two.names[-1]}. Train both with one --label.")
    return one


def rows_of(run: Run, part: str) -> Rows:
    """The model's answers to a part, by case."""
    parts = (run.metrics or {}).get("parts") or {}
    rows = ((parts.get(part) or {}).get("model") or {}).get("rows")
    if not rows:
        known = ", ".join(name for name in parts) or "none"
        raise VesaliusError(f"{run.path} has no scores of the part {part} (there: {known}). Score it first: vesalius evaluate {run.path}")
    return {str(row["case"]): row for row in rows}


def _require_one_truth(first: Rows, second: Rows, *, shared: list[str]) -> None:
    unlike = [name for name in shared if (first[name]["truth"], first[name]["patient"]) != (second[name]["truth"], second[name]["patient"])]
    if unlike:
        raise DataError(f"{len(unlike)} of {len(shared)} cases have another truth or patient in the two runs, for instance {unlike[0]}: "
                        "they are not the same cases.")  # fmt: skip


def answers_in(rows: list[dict[str, Any]], labels: Labels, run: Run, *, patients: list[str]) -> Answers:
    """Rows of scores as the shelf of metrics takes them."""
    p = np.array([[row["probabilities"][name] for name in labels.names] for row in rows])
    truth = np.stack([target(str(row["truth"]), labels, unknown=row.get("unknown") or []) for row in rows])
    return answers_of(p, labels, thresholds=limits_of(rows, run), truth=truth, patients=patients)


def limits_of(rows: list[dict[str, Any]], run: Run) -> dict[str, Cut]:
    """From which probability on each class was said of each case, (N,); those of the whole run where rows of before do not tell."""
    file = run.path / "calibration.json"
    kept = read_json(file).get("thresholds", {}) if file.exists() else {}
    names = dict.fromkeys([*kept, *(name for row in rows for name in row.get("thresholds", {}))])
    return {name: np.array([row.get("thresholds", {}).get(name, kept.get(name, 0.5)) for row in rows], float) for name in names}


def target(words: str, labels: Labels, *, unknown: list[str]) -> np.ndarray:
    """A truth in words, as `tasks.classify.words` says it, as a target (1,) or (K,)."""
    there = {name: 1 if name == words or name in words.split("; ") else 0 for name in labels.names if name not in unknown}
    return labels.coded(there)
