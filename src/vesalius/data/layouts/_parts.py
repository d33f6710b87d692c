"""Masks that lie in one file, or one layer of a file, per label: found by their names or content, and what labels they make.

`s1/segmentations/liver.nii.gz` beside `s1/ct.nii.gz` (as TotalSegmentator's), `a_liver_mask.png`, `masks/a_liver.png` or
`masks/liver/a.png` beside `a.png`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError, FormatError, UsageError
from vesalius.data.case import Case, Masked, Parts, files_of
from vesalius.data.labels import Labels
from vesalius.data.layouts._files import natural, some
from vesalius.data.read import LOSSY, marked
from vesalius.io import header, load
from vesalius.io.image import Image

PICTURES = ("png", "jpeg", "tiff")  # formats whose channels are colours
LOOK_AT, AT_ONCE = 64, 4  # cases that are looked at, and at a time
MOST = 62  # labels that may overlap: each is a bit of a whole number
BETWEEN = " _-."


def parted(images: Iterable[str], masks: dict[str, dict[str, Path]]) -> dict[str, Masked]:
    """Case -> the parts of its mask, of `masks` (key -> rater -> path) whose keys are no image's: the key of an image and, before or
    after it, the word of a label. A word that stands in one case alone is no label, unless there is but one case; where all
    have the same word it is no label either, and the file is the mask."""
    keys = frozenset(images)
    lonely = [(key, path) for key in masks if key not in keys for path in masks[key].values()]
    named = [(case, word, path) for key, path in lonely for case, word in [_told_apart(key, keys)] if word]
    common = Counter(word for _, word in {(case, word) for case, word, _ in named})
    cases = {case for case, _, _ in named if not masks.get(case)}
    found: dict[str, dict[str, tuple[Path, ...]]] = defaultdict(dict)
    for case, word, path in sorted(named, key=lambda one: natural(one[1])):
        if case in cases and (common[word] > 1 or len(cases) == 1):
            if word in found[case]:
                raise DataError(f"{found[case][word][0]} and {path} both look like the mask of {word!r} of case {case!r}. "
                                "Say which is which with --image GLOB and --mask LABEL=GLOB.")  # fmt: skip
            found[case][word] = (path,)
    alone = len({word for files in found.values() for word in files}) == 1
    return {case: next(iter(files.values()))[0] if alone else Parts(files) for case, files in found.items()}


def _told_apart(key: str, cases: Container[str]) -> tuple[str, str]:
    """(case, label) of the key of a mask: one before the other, the longest case that there is; ("", "") where no case is in it."""
    found = [("", "")]
    for place in (k for k, letter in enumerate(key) if letter in BETWEEN):
        first, second = key[:place].strip(BETWEEN), key[place + 1 :].strip(BETWEEN)
        found += [(case, word) for case, word in ((first, second), (second, first)) if case in cases and re.match(r"[^\W\d]", word)]
    return max(found, key=lambda pair: len(pair[0]))


def layered(cases: Sequence[Case]) -> list[Case]:
    """`cases`, their masks in parts where a file holds a layer per label: segments of DICOM, and volumes whose channels hold two values
    each. The first mask decides; what layers of others mean is read from their headers."""
    first = next((case.mask for case in cases if isinstance(case.mask, Path)), None)
    try:
        if first is None or not _is_layered(load(first)):
            return list(cases)
        return [replace(case, masks={rater: _layers(mask) for rater, mask in case.masks.items()}) for case in cases]
    except FormatError:  # a file that cannot be read is the doctor's to tell
        return list(cases)


def _is_layered(image: Image) -> bool:
    if "segments" in image.source.words:
        return True
    if image.source.format in PICTURES or image.channels < 2 or image.array.dtype.kind == "f":
        return False
    if image.channels in (3, 4) and image.array.max() > 1:  # a colour code
        return False
    return all(len(np.unique(layer)) <= 2 for layer in image.array)


def _layers(mask: Masked) -> Masked:
    """The layers of a file by the names of its segments, or by their number."""
    if isinstance(mask, Parts):
        return mask
    told = header(mask)
    names = list((told.words.get("segments") or {}).values()) or [f"layer {k + 1}" for k in range(told.channels)]
    names = [f"{name} ({k + 1})" if names.count(name) > 1 else name for k, name in enumerate(names)]
    return Parts(dict.fromkeys(names, (mask,)), {name: k for k, name in enumerate(names)})


def declared(cases: Sequence[Case]) -> bool:
    """Whether the masks lie in one file per label; some so and some not is an error."""
    kinds = {isinstance(case.mask, Parts) for case in cases if case.mask}
    if len(kinds) > 1:
        one, other = (next(case for case in cases if case.mask and isinstance(case.mask, Parts) is kind) for kind in (True, False))
        raise DataError(f"Some cases have one mask for all labels ({other.name}), some one for each ({one.name}). Use one form.")
    return kinds == {True}


def settle(cases: Sequence[Case], *, named: bool, told: Sequence[str] = ()) -> tuple[Labels, list[str]]:
    """The labels that the files name, and words about them. Where no two labels share a voxel (in up to 64 cases, spread evenly)
    they exclude each other and are numbered; otherwise each is a bit. `named`: the user gave names for values, which there are none of;
    `told`: names that a description of the data set gives, in order."""
    if named:
        raise UsageError("The masks lie in one file (or layer) per label, which name themselves: leave --label out, or say which files "
                         "they are: --mask LABEL=GLOB.")  # fmt: skip
    parts = [case.mask for case in cases if isinstance(case.mask, Parts)]
    where = "layer" if parts[0].layers else "file"
    names = sorted({name for one in parts for name in one.files}, key=natural)
    if told and set(told) != set(names):
        raise DataError(f"The data set is said to have the labels {some(told, 12)}, but its files of masks name {some(names, 12)}. Mend "
                        "the description, or the names.")  # fmt: skip
    names = list(told) or names
    apart = _apart([parts[k] for k in sorted({round(k) for k in np.linspace(0, len(parts) - 1, LOOK_AT)})])
    if not apart and len(names) > MOST:
        raise DataError(f"{len(names)} labels overlap; at most {MOST} can. Leave some out: name those to learn with --mask LABEL=GLOB.")
    values = tuple((k + 1 if apart else 1 << k,) for k in range(len(names)))
    labels = Labels(names=tuple(names), values=values, kind="exclusive" if apart else "bits")
    how = "No two share a voxel: one label per voxel" if apart else "Some share voxels: each label is learned for itself"
    notes = [f"The masks lie in one {where} per label: {some(names, 12)}. {how}."]
    lack = {name: sum(name not in one.files for one in parts) for name in names}
    said = [f"{name} ({count})" for name, count in lack.items() if count]
    return labels, notes + ([f"Labels without a {where} in some cases are absent there: {some(said, 12)}."] if said else [])


def _apart(parts: Sequence[Parts]) -> bool:
    """Whether no two labels share a voxel in any of `parts`; the first that do end the search."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return all(all(pool.map(disjoint, parts[k : k + AT_ONCE])) for k in range(0, len(parts), AT_ONCE))


def disjoint(parts: Parts) -> bool:
    """Whether no voxel is marked by two of the labels; files that are no mask of one label are refused. What else is wrong with them is
    the doctor's to say."""
    images, total = {path: load(path) for path in files_of(parts)}, np.zeros(())
    for name, paths in parts.files.items():
        layer = parts.layers.get(name)
        marks = [_marks(images[path], path, layer) for path in paths]
        if len({total.shape or marks[0].shape, *(one.shape for one in marks)}) > 1:
            continue
        own = np.any(marks, axis=0)
        if (total != 0).any() and (own & (total != 0)).any():
            return False
        total = own | (total != 0)
    return True


def _marks(image: Image, path: Path, layer: int | None) -> NDArray[np.bool_]:
    """Where the mask of one label marks; a file with more values than two is refused."""
    values = np.unique(image.array[layer or 0])
    graded = path.suffix.lower() in LOSSY or (layer is not None and values.dtype.kind == "f")  # what marks there is read by halves
    if not graded and len(values[values != 0]) > 1:
        raise DataError(f"{path} is the mask of one label but holds {len(values)} values ({some(map(str, values.tolist()), 5)}). "
                        "Is it a map of several labels? Say which files are masks with --mask GLOB.")  # fmt: skip
    return marked(image, path, layer)
