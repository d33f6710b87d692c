"""Scoring answers to whole cases that a table holds, or that a run gives to another data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from vesalius.core.errors import DataError
from vesalius.data.dataset import Dataset
from vesalius.engine.infer import callables
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.table import read_table
from vesalius.engine.whole import Heard, answer, as_logits, calibration_of, in_parts, scored
from vesalius.plan.budget import device
from vesalius.tasks import CaseTask
from vesalius.tasks._rules import Rules


def score_table(run: Run, predictions: Path | None, truth: Dataset, *, by: Sequence[str], listener: Listener) -> dict[str, Any]:
    """Scores of the probabilities in the table `predictions` (or in the folder that holds predictions.csv), taken as they are; or of what
    the run answers to the cases of `truth`."""
    labels = run.plan.labels
    unknown = sorted(set(truth.labels.names) - set(labels.names))
    if unknown or truth.labels.kind != labels.kind:
        words = f"{truth.root} has the {truth.labels.kind} {', '.join(truth.labels.names)}; the run knows {', '.join(labels.names)}."
        raise DataError(f"{words} Name them alike: --label NAME=CLASS.")
    cases = [case for case in truth.cases if case.classes is not None]
    heard, how = Heard(), calibration_of(run)
    if predictions:
        heard, how = _from_table(predictions, Heard(cases), run), {**how, "temperature": 1.0, "trust": None}
    else:
        networks = callables(run.networks(), run.plan, device())
        with listener.stage("scoring") as tick:
            for some in in_parts(cases, run.plan):
                answer(networks, some, run.plan, heard=heard)
                tick(len(heard.cases), len(cases), some[-1][0].name)
    return scored(cast(CaseTask, run.task), labels, heard, rules={"model": Rules.one(how, len(heard.cases))}, by=by)


def _from_table(path: Path, heard: Heard, run: Run) -> Heard:
    """`heard` with the answers that a table holds."""
    found = read_table(path / "predictions.csv" if path.is_dir() else path, run.plan.labels)
    lost = [case.name for case in heard.cases if case.name not in found]
    if lost:
        raise DataError(f"{path} has no answer to {len(lost)} cases, for instance {lost[0]}. Every case to be scored needs one.")
    heard.logits["model"] = [as_logits(np.array([found[case.name] for case in heard.cases]), run.plan.labels)]
    return heard
