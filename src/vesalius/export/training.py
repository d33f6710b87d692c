"""From a folder of scans to a run that can answer without torch: the way of `engine/workflow.py`, and what `within.py` reads behind it."""

from collections.abc import Sequence
from pathlib import Path

from vesalius.core.environment import process_rank
from vesalius.data.dataset import Dataset
from vesalius.engine import workflow
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.export.exporting import keep
from vesalius.plan import Request


def train(
    data: Dataset | Path | str,
    output: Path | str,
    *,
    wish: Request | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    by: Sequence[str] = (),
    plan_file: Path | None = None,
    listener: Listener | None = None,
) -> Run:
    """Train and test: everything lands in the folder `output`. A run that is there already is continued.

    `wish` is what is asked of the plan: `Request(budget="20m", memory="8G", settings=("train.seed=1",))`; `plan_file` is a
    plan to train by instead. `by` names metadata by which the scores are summarised too; `wish.fix_split` puts copies that a given
    split tears apart on one side; `wish.allow_leaks` leaves them there, and marks the run.
    Raises DataError where the doctor finds an error: a leak, an unreadable file, a mask off its image.
    """
    run = workflow.train(data, output, wish=wish, overwrite=overwrite, skip_bad=skip_bad, by=by, plan_file=plan_file, listener=listener)
    if not process_rank()[0]:
        keep(run, listener or Listener())
    return run
