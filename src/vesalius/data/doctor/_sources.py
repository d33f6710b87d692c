"""Does where a picture comes from tell what it shows? Format, size, depth, spacing, header, metadata, folder and name against the class.

A value tells a class if cases of other patients with the same value say so (leave one patient out), balanced over yes and no; numbers
(how many pixels, how well compressed) by the area under their curve. Zech et al. 2018, PLoS Medicine 15; Maguolo & Nanni 2021.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.data.dataset import Dataset
from vesalius.data.doctor._finding import Finding
from vesalius.data.doctor._look import Look, Picture
from vesalius.data.doctor._probe import influence
from vesalius.data.doctor._questions import Questions, sampled

TELLS = 0.95  # balanced accuracy, or area, from which a property gives the class away
HEADER = ("manufacturer", "scanner", "site", "protocol", "kernel", "view", "description", "study_description", "field_strength",
          "tube_voltage", "contrast", "slice_thickness", "body_part", "burned_in", "photometric")  # fmt: skip
CLASSES = ("class", "classes", "label", "labels", "diagnosis", "finding", "findings", "group", "grade", "target")  # another word for it
UNSEEN = ("folder", "beginning of the name")  # what no network sees: good to know, and no shortcut by itself
OF_FILE = ("size", "kind of numbers", "colour", "file format")
MOST = 10_000  # cases
MOST_VALUES = 40
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Told:
    """How well one property answers one question: `share` balanced accuracy or area; the `value` that goes with it, its shares among yes
    and no ("" for numbers)."""

    question: str
    share: float
    value: str = ""
    among_yes: float = 0.0
    among_no: float = 0.0


def sources(dataset: Dataset, asked: Questions) -> Iterator[Finding]:
    """One finding for each property that nearly gives a class away; numbers of the file where no word of it does."""
    asked, of_file = asked.part(sampled(asked.patients, MOST)), False
    for name, values in properties(dataset, asked).items():
        found = [told for k, question in enumerate(asked.names)
                 if (told := telling(values, asked.targets[:, k], asked.patients, question=question)).share >= TELLS]  # fmt: skip
        if found:
            of_file |= name in OF_FILE
            yield _finding(name, found, "note" if name in UNSEEN else "warning")
    for name, numbers in () if of_file else measures(asked.seen).items():
        areas = [_ranked(numbers, asked.targets[:, k], question=question) for k, question in enumerate(asked.names)]
        found = [one for one in areas if one.share >= TELLS]
        if found:
            yield _finding(name, found, "warning")


def _finding(name: str, found: Sequence[Told], severity: Any) -> Finding:
    message = f"The {name} tells the class: " + "; ".join(sentence(one) for one in found[:3]) + "."
    remedy = "A network sees it, in the pixels or through them. Use images that were made alike, or a test part from elsewhere."
    seen = "No network sees it, but it says that classes were gathered apart: look for other marks of where they come from."
    return Finding("shortcut", severity, message, (), seen if severity == "note" else remedy,
                   {"property": name, "told": [vars(one) for one in found]})  # fmt: skip


def sentence(one: Told) -> str:
    """'every 'ill' image is 512 x 512, no other is'."""
    if not one.value:
        return f"it ranks '{one.question}' apart from the rest with an area of {one.share:.2f}"
    yes = "every" if one.among_yes == 1 else f"{one.among_yes:.0%} of"
    no = "no other is" if one.among_no == 0 else f"{one.among_no:.0%} of the others are"
    if one.among_yes == 0:
        return f"no '{one.question}' image is {one.value}, {'every other is' if one.among_no == 1 else no}"
    return f"{yes} '{one.question}' image{'' if yes == 'every' else 's'} {'is' if yes == 'every' else 'are'} {one.value}, {no}"


def telling(values: Sequence[str], target: NDArray[np.float64], patients: Sequence[str], *, question: str = "") -> Told:
    """How well other patients' cases with the same value say yes or no (a value of nobody else says nothing), and the value that goes
    with the answer most."""
    known: list[int] = np.flatnonzero(~np.isnan(target)).tolist()
    yes = target == 1
    total = np.array([[np.sum(~yes[known]), np.sum(yes[known])]])
    by_value: dict[str, Counter[bool]] = defaultdict(Counter)
    own: dict[tuple[str, str], Counter[bool]] = defaultdict(Counter)
    for k in known:
        by_value[values[k]][bool(yes[k])] += 1
        own[values[k], patients[k]][bool(yes[k])] += 1
    right = np.zeros(len(target))
    for k in known:
        rest, mine = by_value[values[k]], own[values[k], patients[k]]
        no_share, yes_share = (np.array([rest[a] - mine[a] for a in (False, True)]) / total[0]).tolist()
        right[k] = 0.5 if no_share == yes_share else float((yes_share > no_share) == yes[k])
    balanced = float(np.mean([right[known][yes[known] == answer].mean() for answer in (False, True)]))
    shares = {v: (count[True] / total[0, 1], count[False] / total[0, 0]) for v, count in by_value.items()}
    best = max(shares, key=lambda v: (abs(shares[v][0] - shares[v][1]), shares[v][0]))
    return Told(question, balanced, best, *map(float, shares[best]))


def _ranked(numbers: NDArray[np.float64], target: NDArray[np.float64], *, question: str) -> Told:
    """The area of a number, whichever way round."""
    known = ~np.isnan(target) & ~np.isnan(numbers)
    if known.sum() < len(target) / 2:
        return Told(question, 0.0)
    value = influence(numbers[known], target[known] == 1, np.arange(known.sum()), count=int(known.sum()))[0]
    return Told(question, 0.0 if np.isnan(value) else max(value, 1 - value))


def properties(dataset: Dataset, asked: Questions) -> dict[str, list[str]]:
    """Property -> its value for each case, of those that have some values and not too many."""
    rows = [{**_of_file(one, dataset), **_of_names(one, dataset)} for one in asked.seen]
    names = dict.fromkeys(name for row in rows for name in row)
    table = {name: [row.get(name, "not stated") for row in rows] for name in names}
    return {name: values for name, values in table.items() if 1 < len(set(values)) <= max(MOST_VALUES, len(rows) // 5)}


def _of_file(one: Look, dataset: Dataset) -> dict[str, str]:
    p = one.picture
    assert p is not None
    kind = "grey stored as colour" if p.grey else {1: "grey", 3: "colour"}.get(p.components, f"of {p.components} components")
    found = {"size": times(p.space.shape), "kind of numbers": p.depth, "colour": kind, "file format": ending(p.path)}
    if p.space.physical:
        found["spacing"] = times(f"{step:.3g}" for step in p.space.spacing) + " mm"
    if len(dataset.channels) > 1:
        found["list of images that are there"] = ", ".join(channel for channel in dataset.channels if channel in one.images)
    return found | stated(one, p)


def ending(path: Path) -> str:
    """'.png', '.nii.gz', without what chooses an image within a file."""
    name = str(path).partition("#")[0].lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stated(one: Look, p: Picture) -> dict[str, str]:
    """Words of the header and of the metadata, but for other names of the class and paths."""
    header = {f"header ({key})": str(p.words[key]) for key in HEADER if str(p.words.get(key, ""))}
    told = {f"metadata ({key})": str(value) for key, value in one.case.metadata.items()
            if key.lower() not in CLASSES and str(value) and "/" not in str(value)}  # fmt: skip
    return header | told


def _of_names(one: Look, dataset: Dataset) -> dict[str, str]:
    """Folder and beginning of the file's name, where they are not the name of the class itself."""
    path = Path(str(next(iter(one.case.images.values()))).partition("#")[0])
    folders = path.parent.relative_to(dataset.root).parts if path.is_relative_to(dataset.root) else path.parent.parts
    words = {_plain(name) for name in dataset.labels.names}
    kept = [part for part in folders if _plain(part) not in words and part not in ("train", "val", "test")]
    start = re.match(r"[^0-9]*", path.name.partition(".")[0])
    begins = start[0].rstrip(" _-(") if start else ""
    found = {"folder": "/".join(kept) or "."}
    return found if any(word in _plain(begins) for word in words) else found | {"beginning of the name": begins or "a number"}


def measures(seen: Sequence[Look]) -> Mapping[str, NDArray[np.float64]]:
    """Numbers of the files: pixels, proportions, millimetres of a pixel, bytes for each pixel (a file that is listed once)."""
    pictures = [one.picture for one in seen if one.picture]
    shared = Counter(str(p.path) for p in pictures)
    found = {
        "number of pixels": [float(np.prod(p.space.shape)) for p in pictures],
        "ratio of the sides": [p.space.shape[0] / p.space.shape[1] for p in pictures],
        "size of a pixel": [float(np.prod(p.space.spacing)) if p.space.physical else np.nan for p in pictures],
        "number of bytes per pixel": [p.path.stat().st_size / np.prod(p.space.shape) if shared[str(p.path)] == 1 and p.path.is_file()
                                      else np.nan for p in pictures],
    }  # fmt: skip
    return {name: np.array(values, float) for name, values in found.items()}


def times(sides: Any) -> str:
    """'512 x 512'."""
    return " x ".join(map(str, sides))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
