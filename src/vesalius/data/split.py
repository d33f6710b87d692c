"""Train, validation and test by patient: given splits are honoured, others are made; a leak fails the run."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import DataError
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset

PART = 5  # one patient in five goes to test, and one in five of the rest to validation
STRATA = ("class", "label", "diagnosis", "finding", "group", "grade", "site", "scanner")  # metadata by which sides are kept alike
BLOCK, END = 1 << 16, 64  # bytes


@dataclass(frozen=True)
class Fold:
    """Names of the cases to train and to validate on."""

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """`test` is kept apart from all folds; `reason` says in words how it came about, `leaks` what lies on two sides, where that was
    allowed."""

    folds: tuple[Fold, ...]
    test: tuple[str, ...]
    reason: str
    leaks: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"folds": [{"train": list(f.train), "val": list(f.val)} for f in self.folds], "test": list(self.test), "reason": self.reason,
                "leaks": self.leaks}  # fmt: skip

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> "Split":
        folds = tuple(Fold(tuple(f["train"]), tuple(f["val"])) for f in text["folds"])
        return cls(folds, tuple(text["test"]), str(text["reason"]), str(text.get("leaks", "")))


@dataclass(frozen=True)
class Leak:
    """Something that lies on two sides: the `what` in words and the cases `by` part."""

    what: str
    by: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        return self.what + ": " + "; ".join(f"{part}: {', '.join(names[:3])}" for part, names in self.by.items())


def split(dataset: Dataset, *, folds: int = 1, seed: int = 0, together: Iterable[Sequence[str]] = (), leaks: str = "") -> Split:
    """Patients parted into test and `folds` folds, the same for the same `seed`.

    Folds that the data set states are kept where they are `folds`, and a given test part is; without any given split every fifth
    patient is test. One fold uses the given val part, or
    every fifth remaining patient; more folds share out train and val together. Sides are kept alike in one metadata column
    (class, diagnosis, site ...). Files with the same content stay on one side, and so do the cases named `together` (copies
    that the doctor found). Raises DataError for a leak and for too few patients. `leaks` are the words for leaks of the given sides that
    are known and allowed: those sides stay as they are, and what was drawn beyond them is kept together within each.
    """
    given = {case.name: case.split for case in dataset.cases}
    if folds > 1 and len(dataset.metadata.get("folds", ())) == folds:
        return _stated(dataset, dataset.metadata["folds"], leaks=leaks)
    if leaks:
        groups = {f"{name} {side}".strip(): cases for side in dict.fromkeys(given.values())
                  for name, cases in grouped(dataset.part(side), _within(given, together, side)).items()}  # fmt: skip
    else:
        groups = grouped(dataset.cases, together)
        refuse_leaks(dataset.cases, given)
    placed, reasons = _placed(dataset.cases, groups)
    strata, how = _strata(dataset.cases, groups)
    generator = np.random.default_rng(seed)
    if not any(given.values()):
        _enough(groups, 3 if folds == 1 else folds + 1, "a test part and " + (f"{folds} folds" if folds > 1 else "validation"))
        tested = _dealt(list(groups), groups, strata, parts=PART, generator=generator)[0]
        placed = dict.fromkeys(groups, "train") | dict.fromkeys(tested, "test")
        reasons.append(f"test: one patient in {PART}, drawn with seed {seed}{how}")
    pool = [group for group in groups if placed[group] != "test"]
    if folds == 1 and "val" in placed.values():
        sides = [[group for group in pool if placed[group] == "val"]]
        reasons.append("validation as given")
    else:
        _enough(pool, max(2, folds), f"{folds} folds" if folds > 1 else "training and validation")
        parts = _dealt(pool, groups, strata, parts=folds if folds > 1 else PART, generator=generator)
        sides = parts if folds > 1 else parts[:1]
        reasons.append(f"{folds} folds over train and val{how}" if folds > 1 else f"validation: one patient in {PART} of the rest{how}")
    made = tuple(Fold(_names(groups, [g for g in pool if g not in side]), _names(groups, side)) for side in map(set, sides))
    if not all(fold.train and fold.val for fold in made):
        raise DataError(f"{dataset.name}: a side of the split is empty. Add cases to train and val, or leave the splits out.")
    test = _names(groups, [group for group in groups if placed[group] == "test"])
    people = len({case.patient for case in dataset.cases}) if leaks else len(groups)
    return Split(made, test, f"{people} patients in {len(dataset.cases)} cases; " + "; ".join(reasons) + ".", leaks)


def _stated(dataset: Dataset, folds: Sequence[dict[str, list[str]]], *, leaks: str) -> Split:
    """The folds that the data set itself states (cases that were left out are left out); each case is validated once at most."""
    there, test = {case.name for case in dataset.cases}, tuple(sorted(case.name for case in dataset.part("test")))
    made = tuple(Fold(*(tuple(sorted(there & set(fold[part]) - set(test))) for part in ("train", "val"))) for fold in folds)
    twice = [name for name, count in Counter(name for fold in made for name in fold.val).items() if count > 1]
    if twice or not all(fold.train and fold.val for fold in made):
        wrong = f"validate {', '.join(sorted(twice)[:5])} more than once" if twice else "leave a side empty"
        raise DataError(f"{dataset.name}: the stated folds {wrong}. Mend the file that states them, or ask for another number of folds.")
    result = Split(made, test, f"{len(there)} cases in {len(made)} folds as the data set states them.", leaks)
    if not leaks:
        check(dataset, result)
    return result


def _within(given: dict[str, str], together: Iterable[Sequence[str]], side: str) -> list[Sequence[str]]:
    """What of `together` lies on one side."""
    found = ([name for name in names if given[name] == side] for names in together)
    return [names for names in found if len(names) > 1]


def grouped(cases: Sequence[Case], together: Iterable[Sequence[str]] = ()) -> dict[str, list[Case]]:
    """Cases that must stay together: of one patient, patients who share an image file, or who are named `together`."""
    root: dict[str, str] = {case.patient: case.patient for case in cases}

    def find(patient: str) -> str:
        while root[patient] != patient:
            patient = root[patient]
        return patient

    named = {case.name: case for case in cases}
    for same in [*same_files(cases), *([named[name] for name in names] for names in together)]:
        first, *others = sorted({find(case.patient) for case in same})
        for other in others:
            root[other] = first
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[find(case.patient)].append(case)
    return dict(groups)


def same_files(cases: Iterable[Case]) -> list[list[Case]]:
    """Groups of cases that have an image file with the same content, byte for byte. Only files of one size are opened, and only those
    of one end (of a gzipped file its checksum) are read."""
    by_size: dict[int, list[tuple[Path, Case]]] = defaultdict(list)
    for case in cases:
        for path in case.images.values():
            if path.is_file():
                by_size[path.stat().st_size].append((path, case))
    same: dict[tuple[int, str], list[Case]] = defaultdict(list)
    for size, files in by_size.items():
        by_end: dict[bytes, list[tuple[Path, Case]]] = defaultdict(list)
        for path, case in files if len(files) > 1 else ():
            by_end[_end(path, size)].append((path, case))
        for alike in by_end.values():
            for path, case in alike if len(alike) > 1 else ():
                same[size, _glance(path, size)].append(case)
    return [found for found in same.values() if len({case.name for case in found}) > 1]


def _end(path: Path, size: int) -> bytes:
    """The last bytes."""
    with open(path, "rb", buffering=0) as file:
        file.seek(max(0, size - END))
        return file.read(END)


def _glance(path: Path, size: int) -> str:
    """Digest of the start, the middle and the end: files of one size that agree there are taken to be the same."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for place in (0, size // 4, size // 2, 3 * size // 4, max(0, size - BLOCK)):
            file.seek(place)
            total.update(file.read(BLOCK))
    return total.hexdigest()


def leaks(cases: Sequence[Case], sides: dict[str, str]) -> list[Leak]:
    """Patients, and files of the same content, that lie on two sides; `sides` maps a case's name to its side ('' = none)."""
    if len({side for side in sides.values() if side}) < 2:
        return []
    sets: list[tuple[str, list[Case]]] = [(f"Patient {p!r} is on two sides", found) for p, found in _by_patient(cases).items()]
    sets += [("The same image file is on two sides", found) for found in same_files(cases)]
    found = []
    for what, together in sets:
        by: dict[str, list[str]] = defaultdict(list)
        for case in together:
            if sides.get(case.name):
                by[sides[case.name]].append(case.name)
        if len(by) > 1:
            found.append(Leak(what, {part: tuple(dict.fromkeys(names)) for part, names in by.items()}))
    return found


def refuse_leaks(cases: Sequence[Case], sides: dict[str, str]) -> None:
    """Raise a DataError with the evidence where anything lies on two sides."""
    found = leaks(cases, sides)
    if found:
        shown = " ".join(f"{leak}." for leak in found[:5]) + (f" And {len(found) - 5} more." if len(found) > 5 else "")
        raise DataError(f"The split leaks: {shown} A test on it would be too good. Put each patient on one side, or leave the splits "
                        "out so that they are made by patient.")  # fmt: skip


def check(dataset: Dataset, made: Split) -> None:
    """Raise a DataError where a fold of `made` leaks or names a case twice or one that is not there."""
    for fold in made.folds:
        sides = {**dict.fromkeys(fold.train, "train"), **dict.fromkeys(fold.val, "val"), **dict.fromkeys(made.test, "test")}
        if len(sides) < len(fold.train) + len(fold.val) + len(made.test):
            raise DataError("A case stands on two sides of the split. Make splits.json anew or mend it.")
        unknown = sorted(set(sides) - {case.name for case in dataset.cases})
        if unknown:
            raise DataError(f"The split names cases that {dataset.name} lacks: {', '.join(unknown[:5])}.")
        refuse_leaks(dataset.cases, sides)


def _by_patient(cases: Iterable[Case]) -> dict[str, list[Case]]:
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.patient].append(case)
    return groups


def _placed(cases: Sequence[Case], groups: dict[str, list[Case]]) -> tuple[dict[str, str], list[str]]:
    """The given part of each group; a group in none goes to train, or where a case of it is."""
    given = {name: {case.split for case in found if case.split} for name, found in groups.items()}
    torn = next((name for name, parts in given.items() if len(parts) > 1), None)
    if torn is not None:
        raise DataError(f"The given split tears copies apart: {', '.join(f'{c.name} ({c.split})' for c in groups[torn][:6])}. "
                        "Put them on one side, or leave the splits out.")  # fmt: skip
    placed = {name: next(iter(parts), "train") for name, parts in given.items()}
    loose = [case for case in cases if not case.split]
    tested = sum(case.split == "test" for case in cases)
    reasons = [] if len(loose) == len(cases) else [f"test as given ({tested} cases)" if tested else "no test part is given"]
    if loose and len(loose) < len(cases):
        reasons.append(f"{len(loose)} cases in no given part went to train, or to where their patient is")
    return placed, reasons


def _enough(groups: Sequence[str] | dict[str, list[Case]], least: int, what: str) -> None:
    if len(groups) < least:
        raise DataError(f"{len(groups)} patient(s) are too few for {what}: at least {least} are needed. Use fewer folds, add patients, "
                        "or, if every image is of another person, say so with --patient '.*'.")  # fmt: skip


def _strata(cases: Sequence[Case], groups: dict[str, list[Case]]) -> tuple[dict[str, str], str]:
    """The class of each group, or the value of the first usable metadata column; usable are 2 to 10 values, each in 2 patients."""
    stated = {key for case in cases for key in case.metadata}
    for column in ("", *(column for column in STRATA if column in stated)):
        values = {name: Counter(w for c in found if (w := _stratum(c, column))) for name, found in groups.items()}
        value = {name: counts.most_common(1)[0][0] for name, counts in values.items() if counts}
        sizes = Counter(value.values())
        if len(value) == len(groups) and 2 <= len(sizes) <= 10 and min(sizes.values()) >= 2:
            return value, f", alike in {column!r}" if column else ", alike in the class"
    return dict.fromkeys(groups, ""), ""


def _stratum(case: Case, column: str) -> str:
    """The classes that a case shows ('' for `column`), or its word in a metadata column."""
    if column:
        return str(case.metadata[column]) if column in case.metadata else ""
    shown = " + ".join(name for name, there in (case.classes or {}).items() if there)
    return shown or ("none" if case.classes is not None else "")


def _dealt(names: Sequence[str], groups: dict[str, list[Case]], strata: dict[str, str], *, parts: int,
           generator: np.random.Generator) -> list[list[str]]:  # fmt: skip
    """`names` dealt into `parts` sides of about as many cases, stratum by stratum, large groups first."""
    parts = min(parts, len(names))
    listed = sorted(names)
    order = [listed[i] for i in generator.permutation(len(names))]
    order.sort(key=lambda name: (strata[name], -len(groups[name])))
    sides: list[list[str]] = [[] for _ in range(parts)]
    cases, kinds = [0] * parts, [Counter[str]() for _ in range(parts)]
    for name in order:
        least = min(range(parts), key=lambda k: (kinds[k][strata[name]], cases[k], k))
        sides[least].append(name)
        cases[least] += len(groups[name])
        kinds[least][strata[name]] += len(groups[name])
    return sides


def _names(groups: dict[str, list[Case]], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(case.name for name in names for case in groups[name]))
