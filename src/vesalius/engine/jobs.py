"""Who answers which cases of a part: with several folds a validation case is answered by the network that never saw it."""

from collections.abc import Sequence

from vesalius.core.errors import VesaliusError
from vesalius.data.case import Case
from vesalius.engine.run import Run
from vesalius.tasks import Shallow

Baselines = Shallow | Sequence[Shallow] | None  # one for all, or one for each fold


def jobs_of(run: Run, part: str) -> list[tuple[list[Case], list[int]]]:
    """(cases, members that answer them) pairs of one part; a fold that has not learned yet neither answers nor is asked."""
    splits, dataset = run.splits, run.dataset
    ready = [k for k, member in enumerate(run.members) if (member / "weights.safetensors").exists()]
    if not ready:
        raise VesaliusError(f"{run.path} has no weights yet. Resume it: vesalius train {dataset.root} -o {run.path}")
    if part == "test":
        return [([dataset.case(name) for name in splits["test"]], ready)]
    return [([dataset.case(name) for name in splits["folds"][k]["val"]], [k]) for k in ready]


def baseline_of(baselines: Baselines, members: Sequence[int]) -> Shallow | None:
    """Who stands beside the `members` that answer: the baseline of the same fold, of test cases that of the first."""
    if baselines is None or not isinstance(baselines, Sequence):
        return baselines
    return baselines[members[0]] if baselines else None
