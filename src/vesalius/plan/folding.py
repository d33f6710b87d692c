"""How many folds a run has where nobody says: one, or four where there are so few patients that none can be spared for validation alone.

The networks of four folds learn from every patient of the training and validation parts between them and answer together (the ensemble of
nnU-Net, Isensee et al. 2021), and the scores of validation count every patient, each answered by the network that never saw him.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from vesalius.core.errors import UsageError
from vesalius.data.dataset import Dataset
from vesalius.plan.budget import seconds
from vesalius.plan.plan import Plan
from vesalius.tasks import TASKS

if TYPE_CHECKING:
    from vesalius.plan import Request

FEWEST, FEW, FOLDS = 6, 18, 4  # from so many patients to so many, so many folds ...
LONG = 600.0  # ... in budgets of so many seconds, so that the network of each still has time to learn
APART = 5  # one patient in so many is for testing where no split is given


def decided(wish: "Request", dataset: Dataset, *, plan_file: Path | None = None) -> "Request":
    """`wish` with a number of folds, and why: as asked for, as in the plan that is given, or by the number of patients. An error where
    folds are asked for that make no sense."""
    plan = Plan.load(plan_file) if plan_file is not None else None  # what is wrong with it is told before anything is looked at
    if (wish.folds or 1) > 1 and (why := TASKS[dataset.task]().unfolded):
        raise UsageError(why)
    if wish.folds is not None:
        return wish
    if plan is not None:
        return wish.model_copy(update={"folds": plan.folds})
    number, why = by_patients(wish, dataset)
    return wish.model_copy(update={"folds": number, "why_folds": why})


def by_patients(wish: "Request", dataset: Dataset) -> tuple[int, str]:
    """Folds and the reason, for a data set whose masks are learned; one fold for everything else."""
    if TASKS[dataset.task]().grain != "voxel":
        return 1, "one training and one validation part; --folds makes more"
    if wish.members > 1:
        return 1, f"one training and one validation part: {wish.members} networks were asked for, which differ by their seeds"
    patients = learnable(dataset)
    if patients > FEW:
        return 1, f"{patients} patients are enough for one training and one validation part; --folds makes more"
    if patients < FEWEST:
        return 1, f"{patients} patients are too few for folds"
    if wish.budget is None or seconds(wish.budget) < LONG:
        return 1, f"one training and one validation part: from {LONG / 60:.0f} minutes on, {patients} patients would be {FOLDS} folds"
    if (stated := len(dataset.metadata.get("folds", ()))) > 1:
        return stated, f"only {patients} patients beside the test part: the folds that the data set states, whose networks answer together"
    return FOLDS, f"only {patients} patients beside the test part: each teaches {FOLDS - 1} of {FOLDS} networks, which answer together"


def learnable(dataset: Dataset) -> int:
    """Patients that are not for testing; where no split is given, those that would be left."""
    given = any(case.split for case in dataset.cases)
    found = len({case.patient for case in dataset.learnable if case.split != "test"})
    return found if given else found - found // APART
