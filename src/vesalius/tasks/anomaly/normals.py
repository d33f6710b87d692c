"""Which images are normal: by the name of their class, by an empty mask, or all where nothing is known of any."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vesalius.core.errors import DataError, UsageError
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import IGNORE, Labels
from vesalius.data.layouts._classes import ABSENT
from vesalius.data.read import load_mask
from vesalius.data.split import Fold, Split

LEAST = 2  # normal images to learn from
NOBODY = "Nothing says which images are normal: all training images are taken to be. Name a class with --normal, or give masks."


def normal_names(labels: Labels, about: Mapping[str, Any]) -> tuple[str, ...]:
    """Classes that are normal: those that the user named, or those called normal, healthy, no finding and the like. Of findings there
    need be none: a case without any is normal."""
    named = tuple(about.get("normal") or ())
    if named or labels.grain != "case":
        return named
    found = tuple(name for name in labels.names if ABSENT.match(name))
    if not found and labels.one_of:
        raise UsageError(f"Which class is normal? None of {', '.join(labels.names)} is called so: say --normal NAME.")
    return found


def is_strange(case: Case, labels: Labels, about: Mapping[str, Any]) -> bool | None:
    """Whether a case is known to be abnormal, or normal; None where it is not known. Reads the mask, where masks are what is known."""
    if labels.grain == "case":
        return None if case.classes is None else _by_class(case.classes, labels, normal_names(labels, about))
    if not labels.names or case.mask is None:
        return None
    coded = labels.encode(load_mask(case.mask, labels).array)
    return bool(((coded > 0) & (coded != IGNORE)).any())


def _by_class(classes: Mapping[str, int], labels: Labels, normal: Sequence[str]) -> bool | None:
    """Any class beyond the normal ones makes a case abnormal; with findings that nobody looked for it is not known to be normal."""
    if any(there == 1 and name not in normal for name, there in classes.items()):
        return True
    known = labels.one_of or all(name in classes for name in labels.names if name not in normal) or any(classes.get(n) == 1 for n in normal)
    return False if known else None


def parted(dataset: Dataset, split: Split) -> tuple[Split, str]:
    """Training on normal images alone, and words about it. Where no split was given, patients of training who have no normal image go
    to the test part, where they are worth more; others that are not normal, or not known to be, are left out."""
    if not dataset.labels.names:
        return split, NOBODY
    names = dict.fromkeys(name for fold in split.folds for name in fold.train)
    cases = [dataset.case(name) for name in names]
    strange = {case.name: is_strange(case, dataset.labels, dataset.metadata) for case in cases}
    normal = tuple(name for name in names if strange[name] is False)
    if len(normal) < LEAST:
        raise DataError(f"{dataset.root} has {len(normal)} normal images to train on; at least {LEAST} are needed. "
                        f"Normal is: {_how(dataset)}. Add such images; of classes, --normal NAME says which are normal.")  # fmt: skip
    moved = _movable(cases, strange)
    folds = tuple(Fold(tuple(name for name in fold.train if strange[name] is False), fold.val) for fold in split.folds)
    made = replace(split, folds=folds, test=(*split.test, *moved))
    left = len(names) - len(normal) - len(moved)
    words = f"Learned from are {len(normal)} normal images ({_how(dataset)})."
    words += f" {len(moved)} abnormal ones of the training part are tested on instead." if moved else ""
    return made, words + (f" {left} others, abnormal or of unknown kind, are left out." if left else "")


def _how(dataset: Dataset) -> str:
    """How normal images are told."""
    if dataset.labels.grain == "case":
        names = normal_names(dataset.labels, dataset.metadata)
        return f"of the class {' or '.join(map(repr, names))}" if names else "without a finding"
    return "with an empty mask, since without any mask an image is not known to be normal"


def _movable(cases: Sequence[Case], strange: Mapping[str, bool | None]) -> tuple[str, ...]:
    """Abnormal cases in no given part, of patients all of whose cases are so."""
    of: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        of[case.patient].append(case)
    return tuple(case.name for group in of.values() if all(strange[c.name] and not c.split for c in group) for case in group)


def truth_of(cases: Sequence[Case], labels: Labels, about: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N,) 1 abnormal, 0 normal, NaN where it is not known."""
    if not labels.names:
        return np.full(len(cases), np.nan)
    found = [is_strange(case, labels, about) for case in cases]
    return np.array([np.nan if one is None else float(one) for one in found])
