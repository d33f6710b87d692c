"""Checks of cases with each other: copies, patients, and what lies on both sides of a split."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from vesalius.data import split as splitting
from vesalius.data.dataset import Dataset
from vesalius.data.doctor._finding import Finding, Severity, some
from vesalius.data.doctor._look import Look
from vesalius.data.doctor._rows import Gathered
from vesalius.data.doctor.duplicates import Pair, exact_pairs, near_pairs
from vesalius.data.split import Split

Named = tuple[str, str, Pair]  # two cases and how they are alike
Sides = dict[str, str]
FEW = 10  # patients
MANY = 10  # leaks that are told one by one
TOO_MANY = 0.05  # of the cases of a side that have a near copy on another


def pairs(dataset: Dataset, seen: Sequence[Look]) -> list[Named]:
    """Pairs of cases of which some channel is an exact copy, or the first channel a near copy (unless of one patient)."""
    named = [(one.case, channel, p) for one in seen for channel, p in one.images.items() if not p.constant]
    found: dict[tuple[str, str], Named] = {}
    for pair in exact_pairs([p.digest for _, _, p in named]):
        one, other = named[pair.first][0], named[pair.second][0]
        found.setdefault((one.name, other.name), (one.name, other.name, pair))
    first = [(case, p) for case, channel, p in named if channel == next(iter(dataset.channels))]
    for _, group in groupby(sorted(first, key=lambda item: item[1].thumbs.views), key=lambda item: item[1].thumbs.views):
        members = list(group)
        for pair in near_pairs(Gathered([p.thumbs for _, p in members])):
            one, other = members[pair.first][0], members[pair.second][0]
            if one.patient != other.patient and not {(one.name, other.name), (other.name, one.name)} & set(found):
                found[one.name, other.name] = (one.name, other.name, pair)
    return list(found.values())


def copies(found: Sequence[Named]) -> Iterator[Finding]:
    """The same image twice, and nearly the same image of two patients."""
    inside = tuple(one for one, other, pair in found if pair.exact and one == other)
    if inside:
        yield Finding("copies", "warning", f"Two channels are the same image in {some(inside)}.", inside,
                      "Is one copied in place of another?")  # fmt: skip
    for exact in (True, False):
        some_pairs = [(one, other, pair) for one, other, pair in found if pair.exact == exact and one != other]
        if not some_pairs:
            continue
        names = tuple(dict.fromkeys(name for one, other, _ in some_pairs for name in (one, other)))
        what = "are exact copies" if exact else "look like copies (turned, brightened, recompressed, or neighbouring slices of one scan)"
        turned = sum(pair.turned for _, _, pair in some_pairs)
        yield Finding("copies", "warning", f"{len(some_pairs)} pair(s) of cases {what}: {some(f'{a} = {b}' for a, b, _ in some_pairs)}."
                      + (f" {turned} are mirrored or turned." if turned else ""), names,
                      "Keep one of each, or give both the same patient (--patient REGEX, or a column patient).",
                      {"pairs": [[a, b, round(pair.alike, 3)] for a, b, pair in some_pairs], "exact": exact})  # fmt: skip


def contradictions(dataset: Dataset, found: Sequence[Named]) -> Iterator[Finding]:
    """Equal images that are said to show different things."""
    classes = {case.name: case.classes for case in dataset.cases}
    torn = [(one, other) for one, other, pair in found if pair.exact and one != other and classes[one] != classes[other]]
    if torn:
        names = tuple(dict.fromkeys(name for pair in torn for name in pair))
        words = f"{len(torn)} pair(s) of equal images have different classes: {some(f'{a} = {b}' for a, b in torn)}."
        yield Finding("classes", "warning", words, names, "One of each is wrong; ask whoever labelled them.",
                      {"pairs": [[a, b, 1.0] for a, b in torn]})  # fmt: skip


def patients(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Too few patients to learn from and test on; what the headers say of patients."""
    patient_of = {case.name: case.patient for case in dataset.cases}
    count = len(set(patient_of.values()))
    if count < 3:
        remedy = "" if count == len(dataset.cases) else " Or, if every image is of another person, say so with --patient '.*'."
        yield Finding("groups", "error", f"{len(dataset.cases)} cases of {count} patient(s) cannot be parted into training, validation "
                      "and test.", (), "Add patients." + remedy)  # fmt: skip
    elif count < FEW:
        yield Finding("groups", "warning", f"{count} patients are few: the intervals of the scores will be wide.", (), "Add patients.")
    merged = [names for names in stated_patients(seen).values() if len({patient_of[name] for name in names}) > 1]
    if merged:
        names = tuple(name for group in merged for name in group)
        yield Finding("patients", "warning", f"The headers give one patient to cases that count as different ones: {some(names)}.", names,
                      "Group them by --patient REGEX, or a leak goes unseen.")  # fmt: skip


def stated_patients(seen: Sequence[Look]) -> dict[str, list[str]]:
    """Cases by the patient that their headers state (DICOM)."""
    stated: dict[str, list[str]] = defaultdict(list)
    for one in seen:
        if one.picture and one.picture.words.get("patient"):
            stated[str(one.picture.words["patient"])].append(one.case.name)
    return dict(stated)


def header_leaks(seen: Sequence[Look], folds: list[Sides]) -> Iterator[Finding]:
    """A patient of the headers on two sides; one name in all headers is that of nobody (anonymised)."""
    stated = stated_patients(seen)
    for patient, names in stated.items() if len(stated) > 1 else ():
        if any(len({sides[name] for name in names if sides.get(name)}) > 1 for sides in folds):
            yield Finding("leak", "error", f"The headers of {some(names)} name one patient ({patient}), and they lie on two sides of the "
                          "split.", tuple(names), "Group them by --patient REGEX; if the headers are wrong, mend them.")  # fmt: skip


def sides_of(dataset: Dataset, split: Split | None) -> list[Sides]:
    """Case -> side, once per fold; the given split where none is made yet."""
    if split is None:
        return [{case.name: case.split for case in dataset.cases if case.split}]
    test = dict.fromkeys(split.test, "test")
    return [{**dict.fromkeys(fold.train, "train"), **dict.fromkeys(fold.val, "val"), **test} for fold in split.folds]


def leaks(dataset: Dataset, found: Sequence[Named], folds: list[Sides]) -> list[Finding]:
    """One patient, one file or one image on two sides: errors. Near copies on two sides: a warning."""
    told: dict[tuple[str, str], Finding] = {}
    for leak in (leak for sides in folds for leak in splitting.leaks(dataset.cases, sides)):
        names = tuple(name for side in leak.by.values() for name in side)
        remedy = ("Put each patient (and each image) on one side, leave the splits out (then they are made by patient), or let --fix-split "
                  "move the copies.")  # fmt: skip
        same = [[a, b, 1.0] for a, b in pairwise(side[0] for side in leak.by.values())] if leak.what.startswith("The same") else []
        told.setdefault((leak.what, min(names)), Finding("leak", "error", f"{leak}.", names, remedy, {"by": leak.by, "pairs": same}))
    crossing = _crossing(found, folds)
    for one, other, pair in crossing:
        if pair.exact and not any({one, other} <= set(f.cases) for f in told.values()):
            told["leak", f"{one}={other}"] = Finding(
                "leak", "error", f"{one} and {other} are the same image, on two sides of the split.", (one, other),
                "Keep one of them, give both the same patient, or let --fix-split put them on one side.",
                {"pairs": [[one, other, 1.0]]})  # fmt: skip
    return [*_few_or_one(list(told.values())), *_near(dataset, crossing, folds), *_small(dataset, folds)]


def _near(dataset: Dataset, crossing: Sequence[Named], folds: list[Sides]) -> Iterator[Finding]:
    """What looks like copies on two sides."""
    near = [(one, other, pair) for one, other, pair in crossing if not pair.exact]
    if near:
        names = tuple(dict.fromkeys(name for one, other, _ in near for name in (one, other)))
        words = f"{len(near)} pair(s) that look like copies lie on two sides of the split: {some(f'{a} = {b}' for a, b, _ in near)}."
        yield Finding("leak", near_severity(dataset, near, folds), f"{words} A test on them is too good.", names,
                      "Look at the pictures (vesalius inspect DATA -o FOLDER); give copies the same patient, or let --fix-split put them "
                      "on one side.", {"pairs": [[a, b, round(p.alike, 3)] for a, b, p in near]})  # fmt: skip


def near_severity(dataset: Dataset, near: Sequence[Named], folds: list[Sides]) -> Severity:
    """A copy of a whole case carries its class with it, so that the test asks what was learned by heart: an error where that is so of
    one in twenty cases of a side. Outlines have to be found anew, and neighbouring slices look alike too: a warning."""
    copied = {name for one, other, _ in near for name in (one, other)}
    shares = [sum(name in copied for name in names) / len(names) for sides in folds for side in ("val", "test")
              if (names := [name for name, where in sides.items() if where == side])]  # fmt: skip
    return "error" if dataset.labels.grain == "case" and max(shares, default=0.0) > TOO_MANY else "warning"


def _few_or_one(hard: list[Finding]) -> list[Finding]:
    """Many leaks as one finding that counts them, with the pairs of equal images."""
    if len(hard) <= MANY:
        return hard
    names = tuple(dict.fromkeys(name for finding in hard for name in finding.cases))
    tied = [pair for finding in hard for pair in _tied(finding)]
    words = f"{len(hard)} patients or images lie on two sides of the split, {len(names)} cases in all. For instance: "
    return [Finding("leak", "error", f"{words}{hard[0].message} {hard[1].message}", names, hard[0].remedy, {"pairs": tied})]


def _tied(finding: Finding) -> list[list[Any]]:
    """Pairs that tie together all cases of a leak."""
    first, *others = finding.cases
    return [[first, other, 1.0] for other in others]


def _crossing(found: Sequence[Named], folds: list[Sides]) -> list[Named]:
    return [(a, b, pair) for a, b, pair in found if any(s.get(a) and s.get(b) and s[a] != s[b] for s in folds)]


def _small(dataset: Dataset, folds: list[Sides]) -> Iterator[Finding]:
    """Sides with very few patients."""
    patient = {case.name: case.patient for case in dataset.cases}
    counts = Counter(side for _, side in {(patient[name], side) for name, side in folds[0].items() if name in patient})
    for side, count in counts.items():
        if side != "train" and count < 3:
            of = len(set(patient.values()))
            yield Finding("groups", "warning", f"The {side} part has {count} patient(s) of {of}: its mean says little.", (),
                          "Use --folds 5, or give it more patients.")  # fmt: skip

