"""`vesalius evaluate`: score a run again, or any folder of masks against the truth."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json
from vesalius.cli._screen import answer_json
from vesalius.core.memory import lasting


def evaluate(
    run: o.RunFolder,
    predictions: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Score these masks, or this table.")] = None,
    truth: Annotated[Path | None, typer.Option(metavar="DATA", help="A data set other than the run's own to score on.")] = None,
    by: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Summarise by this word of the metadata too (sex, site ...).")] = None,
    json: Json = False,
) -> None:
    """Score a run on its validation and test parts, with intervals; or answers from anywhere against a data set.

    Answers are a folder of masks, or a predictions.csv with a probability per class where cases as a whole are answered.

    Example:
      vesalius evaluate run --by sex
      vesalius evaluate run --truth other_hospital.csv
    """
    with lasting():
        from vesalius.cli._listener import Console
        from vesalius.data.dataset import Dataset
        from vesalius.engine.evaluate import evaluate as work
        from vesalius.engine.evaluate import evaluate_files

    if predictions or truth:
        found = evaluate_files(run, predictions, Dataset.open(truth) if truth else None, by=by or (), listener=Console())
    else:
        found = work(run, by=by or (), listener=Console())
    if json:
        answer_json(found)
    else:
        o.scores_table(found)
