"""From a folder of scans to a run that can answer without torch: the way of `engine/workflow.py`, and what `within.py` reads behind it."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, cast

from vesalius.core.environment import process_rank
from vesalius.engine import workflow
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.export.exporting import keep

P = ParamSpec("P")


def kept(train: Callable[P, Run]) -> Callable[P, Run]:
    """`train`, whose run also holds what answering without torch takes."""

    @wraps(train)
    def with_it(*given: P.args, **words: P.kwargs) -> Run:
        run = train(*given, **words)
        if not process_rank()[0]:
            keep(run, cast(Listener, words.get("listener") or Listener()))
        return run

    return with_it


train = kept(workflow.train)
