"""Masks that lie in one file per label: found by their names, and what labels they make.

`s1/segmentations/liver.nii.gz` beside `s1/ct.nii.gz` (as TotalSegmentator's), `a_liver_mask.png`, `masks/a_liver.png` or
`masks/liver/a.png` beside `a.png`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vesalius.core.errors import DataError, UsageError
from vesalius.data.case import Case, Masked, Parts
from vesalius.data.labels import Labels
from vesalius.data.layouts._files import natural, some
from vesalius.data.read import marked
from vesalius.io import load

MOST = 62  # labels that may overlap: each is a bit of a whole number
BETWEEN = " _-."


def parted(images: Iterable[str], masks: dict[str, dict[str, Path]]) -> dict[str, Masked]:
    """Case -> the parts of its mask, of `masks` (key -> rater -> path) whose keys are no image's: the key of an image and, before or
    after it, the word of a label. A word that stands in one case alone is no label, unless there is but one case; where all
    have the same word it is no label either, and the file is the mask."""
    keys = sorted(images, key=len, reverse=True)
    lonely = [(key, path) for key in masks if key not in keys for path in masks[key].values()]
    named = [(case, word, path) for key, path in lonely for case, word in [_told_apart(key, keys)] if word]
    common = Counter(word for _, word in {(case, word) for case, word, _ in named})
    cases = {case for case, _, _ in named if not masks.get(case)}
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for case, word, path in sorted(named, key=lambda one: natural(one[1])):
        if case in cases and (common[word] > 1 or len(cases) == 1):
            if word in found[case]:
                raise DataError(f"{found[case][word]} and {path} both look like the mask of {word!r} of case {case!r}. "
                                "Say which is which with --image GLOB and --mask LABEL=GLOB.")  # fmt: skip
            found[case][word] = path
    alone = len({word for files in found.values() for word in files}) == 1
    return {case: next(iter(files.values())) if alone else Parts(files) for case, files in found.items()}


def _told_apart(key: str, cases: Sequence[str]) -> tuple[str, str]:
    """(case, label) of the key of a mask: one begins with the other or ends with it; ("", "") where no case does."""
    for case in cases:
        before, after = key.removesuffix(case), key.removeprefix(case)
        for rest, end in ((after, after[:1]), (before, before[-1:])):
            word = rest.strip(BETWEEN)
            if rest != key and end in BETWEEN and re.match(r"[^\W\d]", word):
                return case, word
    return "", ""


def declared(cases: Sequence[Case]) -> bool:
    """Whether the masks lie in one file per label; some so and some not is an error."""
    kinds = {isinstance(case.mask, Parts) for case in cases if case.mask}
    if len(kinds) > 1:
        one, other = (next(case for case in cases if case.mask and isinstance(case.mask, Parts) is kind) for kind in (True, False))
        raise DataError(f"Some cases have one mask for all labels ({other.name}), some one for each ({one.name}). Use one form.")
    return kinds == {True}


def settle(cases: Sequence[Case], *, named: bool) -> tuple[Labels, list[str]]:
    """The labels that the files name, and words about them. Where no two labels share a voxel in any case they exclude each other
    and are numbered; otherwise each is a bit. `named`: the user gave names for values, which there are none of."""
    if named:
        raise UsageError("The masks lie in one file per label, which name themselves. Say which files they are: --mask LABEL=GLOB.")
    parts = [case.mask for case in cases if isinstance(case.mask, Parts)]
    names = sorted({name for one in parts for name in one.files}, key=natural)
    with ThreadPoolExecutor(2) as pool:
        apart = all(pool.map(disjoint, parts))
    if not apart and len(names) > MOST:
        raise DataError(f"{len(names)} labels overlap; at most {MOST} can. Leave some out: name those to learn with --mask LABEL=GLOB.")
    values = tuple((k + 1 if apart else 1 << k,) for k in range(len(names)))
    labels = Labels(names=tuple(names), values=values, kind="exclusive" if apart else "bits")
    how = "No two share a voxel: one label per voxel" if apart else "Some share voxels: each label is learned for itself"
    notes = [f"The masks lie in one file per label: {some(names, 12)}. {how}."]
    lack = {name: sum(name not in one.files for one in parts) for name in names}
    said = [f"{name} ({count})" for name, count in lack.items() if count]
    return labels, notes + ([f"Labels without a file in some cases are absent there: {some(said, 12)}."] if said else [])


def disjoint(parts: Parts) -> bool:
    """Whether no voxel is marked by two of the files; files that are no mask of one label are refused. What else is wrong with them is
    the doctor's to say."""
    total: np.ndarray | None = None
    for path in parts.files.values():
        image = load(path)
        values = np.unique(image.array[:1])
        if path.suffix.lower() not in (".jpg", ".jpeg") and len(values[values != 0]) > 1:
            raise DataError(f"{path} is the mask of one label but holds {len(values)} values ({some(map(str, values.tolist()), 5)}). "
                            "Is it a map of several labels? Say which files are masks with --mask GLOB.")  # fmt: skip
        here = marked(image, path)
        if total is None:
            total = here
        elif total.shape == here.shape:
            if (total & here).any():
                return False
            total |= here
    return True
