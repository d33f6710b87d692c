"""Who answers which cases of a part: with several folds a validation case is answered by the network that never saw it."""

from vesalius.core.errors import VesaliusError
from vesalius.data.case import Case
from vesalius.engine.run import Run


def jobs_of(run: Run, part: str) -> list[tuple[list[Case], list[int]]]:
    """(cases, members that answer them) pairs of one part; a fold that has not learned yet neither answers nor is asked."""
    splits, dataset = run.splits, run.dataset
    ready = [k for k, member in enumerate(run.members) if run.trained([member])]
    if not ready:
        raise VesaliusError(f"{run.path} has no weights yet. Resume it: vesalius train {dataset.root} -o {run.path}")
    if part == "test":
        return [([dataset.case(name) for name in splits["test"]], ready)]
    return [([dataset.case(name) for name in splits["folds"][k]["val"]], [k]) for k in ready]
