"""The classes of whole cases as questions of yes and no, and who counts as one patient where shortcuts are looked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vesalius.data.dataset import Dataset
from vesalius.data.doctor._look import Look
from vesalius.data.doctor.duplicates import Pair, clusters

FEWEST = 5  # patients with and without a class, below which nothing is asked about it


@dataclass(frozen=True)
class Questions:
    """Cases that could be read and are labelled: `names` of the questions, `targets` (N, K) of 0 / 1, NaN unknown, and the patient of
    each case (people whose images are copies of each other count as one)."""

    seen: tuple[Look, ...]
    names: tuple[str, ...]
    targets: NDArray[np.float64]
    patients: tuple[str, ...]

    def part(self, rows: NDArray[np.intp]) -> "Questions":
        """Some of the cases."""
        return Questions(tuple(self.seen[k] for k in rows), self.names, self.targets[rows], tuple(self.patients[k] for k in rows))


def questions(dataset: Dataset, seen: Sequence[Look], alike: Sequence[tuple[str, str, Pair]] = ()) -> Questions:
    """Of two classes that exclude each other the last is asked for alone; classes of few patients are not."""
    told = [one for one in seen if one.picture and one.case.classes is not None] if dataset.labels.grain == "case" else []
    asked = dataset.labels.names[1:] if dataset.labels.one_of and len(dataset.labels.names) == 2 else dataset.labels.names
    missing = 0.0 if dataset.labels.one_of else np.nan
    rows = [[(one.case.classes or {}).get(name, missing) for name in asked] for one in told]
    targets = np.array(rows, float).reshape(len(told), len(asked))
    patients = np.array(together(told, alike), str)
    kept = [k for k in range(len(asked)) if min(_people(targets[:, k], patients)) >= FEWEST]
    return Questions(tuple(told), tuple(asked[k] for k in kept), targets[:, kept], tuple(patients.tolist()))


def together(seen: Sequence[Look], alike: Sequence[tuple[str, str, Pair]]) -> list[str]:
    """The patient of each case, one for all whose images are copies."""
    people = list(dict.fromkeys(one.case.patient for one in seen))
    place = {patient: k for k, patient in enumerate(people)}
    of = {one.case.name: place[one.case.patient] for one in seen}
    tied = clusters([Pair(of[a], of[b], True) for a, b, _ in alike if a in of and b in of], len(people))
    return [people[tied[of[one.case.name]]] for one in seen]


def sampled(patients: Sequence[str], most: int) -> NDArray[np.intp]:
    """Rows of all cases of so many patients, drawn once and for all, that there are at most `most`."""
    names, owner = np.unique(np.asarray(patients, str), return_inverse=True)
    order = np.random.default_rng(0).permutation(len(names))
    kept = order[np.cumsum(np.bincount(owner, minlength=len(names))[order]) <= most]
    return np.flatnonzero(np.isin(owner, kept))


def _people(target: NDArray[np.float64], patients: NDArray[np.str_]) -> tuple[int, int]:
    """Patients with any case of yes, and with any of no."""
    return len(set(patients[target == 1])), len(set(patients[target == 0]))
