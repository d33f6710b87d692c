"""What the values of masks mean: as declared in a file or by the user, checked against what some masks hold."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import DataError, UsageError
from vesalius.core.space import Array
from vesalius.data.labels import Labels
from vesalius.data.layouts._files import some, suffix_of

UNDECLARED = Labels(names=(), values=())
LOOK_AT = 16  # masks that are looked at where the labels are declared; all of them where they are not
MOST_VALUES = 256  # more different values than this are no mask


@dataclass(frozen=True)
class Found:
    """Values (of grey masks) and colours that occur in `count` masks."""

    values: frozenset[int]
    colours: frozenset[tuple[int, int, int]]
    count: int


def declared(words: Mapping[str, Any] | list[str], where: Path | str = "dataset.json") -> Labels:
    """Labels from {"1": "liver"}, {"liver": 1}, {"whole tumour": [1, 2, 3]}, {"bit0": "lung"} or a list of names.

    Background (0) is not listed; "ignore" is the value that is neither learned nor scored. Lists that share values are
    regions; lists that do not are merged classes."""
    if isinstance(words, list):
        words = {str(k + (words[0] != "background")): name for k, name in enumerate(words)}
    if words and all(str(key).startswith("bit") for key in words):
        bits = sorted((int(str(key)[3:]), str(name)) for key, name in words.items())
        return Labels(names=tuple(name for _, name in bits), values=tuple((1 << bit,) for bit, _ in bits), kind="bits")
    pairs = [_pair(key, value, where) for key, value in words.items()]
    ignore = next((values[0] for name, values in pairs if name.lower() == "ignore"), None)
    kept = [(name, values) for name, values in pairs if values != (0,) and name.lower() not in ("background", "ignore")]
    if not all(isinstance(value, list) for value in words.values()):
        kept.sort(key=lambda pair: pair[1][0] if len(pair[1]) == 1 else -1)
    return _labels(kept, ignore, regions=any(isinstance(value, list | tuple) for value in words.values()))


def _pair(key: str, value: Any, where: Path | str) -> tuple[str, tuple[int, ...]]:
    key = str(key).strip()
    try:
        if isinstance(value, str):
            return value.strip(), (int(key),)
        return key, tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),)
    except (ValueError, TypeError):
        raise DataError(f'{where}: the label {key!r}: {value!r} is not understood. Expected {{"1": "liver"}}, {{"liver": 1}}, '
                        '{"whole": [1, 2]} or {"bit0": "lung"}; instance masks are not read as labels.') from None  # fmt: skip


def _labels(pairs: list[tuple[str, tuple[int, ...]]], ignore: int | None, *, regions: bool) -> Labels:
    names, values = tuple(name for name, _ in pairs), tuple(v for _, v in pairs)
    overlap = len({v for parts in values for v in parts}) < sum(map(len, values))
    if len(set(names)) < len(names):
        raise DataError(f"Two labels have one name: {', '.join(names)}.")
    return Labels(names=names, values=values, kind="regions" if regions or overlap else "exclusive", ignore=ignore)


def asked(texts: Iterable[str] | Mapping[str, Any], *, regions: bool, ignore: int | None) -> Labels:
    """Labels from the user's 'liver=1', 'whole tumour=1+2+3+4' and 'ignore=255' (or a mapping); overlapping ones are regions."""
    words: dict[str, Any] = dict(texts) if isinstance(texts, Mapping) else {}
    for text in () if isinstance(texts, Mapping) else texts:
        name, equals, values = text.rpartition("=")
        try:
            words[name.strip()] = [int(v) for v in values.split("+")]
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise UsageError(f"Expected NAME=VALUE or NAME=VALUE+VALUE, for instance 'whole tumour=1+2+4'; got {text!r}.")
    tupled = [(name, tuple(v) if isinstance(v, list | tuple) else (int(v),)) for name, v in words.items()]
    ignore = next((v[0] for n, v in tupled if n.lower() == "ignore"), ignore)
    kept = [(n, v) for n, v in tupled if v != (0,) and n.lower() not in ("background", "ignore")]
    return _labels(kept, ignore, regions=regions)


def look(paths: list[Path], most: int | None = None) -> Found:
    """What values and colours masks hold; `most` limits the number looked at (spread evenly)."""
    if most is not None and len(paths) > most:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, most).round().astype(int)]
    with ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(_look_at, paths))
    values = frozenset(v for values, _ in seen for v in values)
    return Found(values, frozenset(c for _, colours in seen for c in colours), len(paths))


def _look_at(path: Path) -> tuple[list[int], list[tuple[int, int, int]]]:
    from vesalius.io import load

    pixels = load(path).array
    if pixels.shape[0] in (3, 4) and not is_grey(pixels):
        return [], colours_of(pixels, path)
    values = distinct(pixels[0])
    if len(values) > MOST_VALUES or not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise DataError(f"{path} does not look like a mask: {len(values)} different values from {values[0]:g} to {values[-1]:g}. "
                        "Is it an image, or a mask of instances? Say which files are masks with --mask GLOB.")  # fmt: skip
    return [int(v) for v in values], []


def is_grey(pixels: Array) -> bool:
    """Whether the three colours of (3 or 4, *S) are the same everywhere."""
    return bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())


def distinct(values: Array) -> Array:
    """Sorted distinct values; counting for small whole numbers is some ten times faster than sorting."""
    if values.dtype == np.bool_ or values.dtype == np.uint8:
        return np.flatnonzero(np.bincount(np.asarray(values, np.uint8).ravel(), minlength=256))
    return np.unique(values)


def colours_of(pixels: Array, path: Path) -> list[tuple[int, int, int]]:
    """Distinct colours of (3 or 4, *S) 8-bit pixels; too many are an error."""
    flat = np.asarray(pixels[:3], np.int64).reshape(3, prod(pixels.shape[1:]))
    codes = np.unique(flat[0] << 16 | flat[1] << 8 | flat[2])
    if len(codes) > MOST_VALUES:
        raise DataError(f"{path} holds {len(codes)} colours: a photograph, or a mask saved as JPEG. Colour-coded masks must be lossless "
                        "(PNG).")  # fmt: skip
    return [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in codes]


def settle(labels: Labels, paths: list[Path]) -> tuple[Labels, list[str]]:
    """`labels` as declared (no names: not declared) brought together with what the masks at `paths` hold, and words about it."""
    found = look(paths, LOOK_AT if labels.names else None)
    if found.colours:
        return _coloured(labels, found)
    values = sorted(found.values - {0})
    if any(suffix_of(path.name) in (".jpg", ".jpeg") for path in paths) and len(values) > max(1, len(labels.names)):
        return _smeared(labels, values)
    if not labels.names:
        return _named(values, found, labels.ignore)
    if labels.kind == "exclusive" and len(labels.names) == 1 and 255 in found.values and labels.ignore != 255:
        value = labels.values[0]
        if set(values) <= {255, *value} and value != (255,):
            remapped = replace(labels, values=((*value, 255),))
            return remapped, [f"Masks hold 255 where {labels.names[0]!r} is declared as {value[0]}: 255 is read as {value[0]}."]
    return labels, []


def _smeared(labels: Labels, values: list[int]) -> tuple[Labels, list[str]]:
    """One class in JPEG masks: compression smears 0 and 255 into their neighbours, so the half decides."""
    if len(labels.names) > 1 or max(values) < 128:
        raise DataError(f"The masks are JPEG files with {len(values) + 1} values: compression has smeared the labels into each other. "
                        "Export them losslessly (PNG).")  # fmt: skip
    names = labels.names or ("foreground",)
    made = Labels(names=names, values=((255, *range(128, 255)),), background=tuple(range(128)), ignore=labels.ignore)
    return made, [f"The masks are JPEG, which smears values: 128 and more is read as {names[0]!r}, less as background. PNG is better."]


def _named(values: list[int], found: Found, ignore: int | None) -> tuple[Labels, list[str]]:
    values = [v for v in values if v != ignore]
    if not values:
        raise DataError(f"None of the {found.count} masks marks anything: there is nothing to learn. Are these the right files?")
    if values in ([1], [255], [1, 255]):
        raw = (1, 255) if 255 in values else (1,)
        word = "255 is read as 1." if 255 in values else ""
        note = f"The masks hold one label; no name is declared, so it is called 'foreground'. {word}".strip()
        return Labels(names=("foreground",), values=(raw,), ignore=ignore), [note]
    names = tuple(f"label {v}" for v in values)
    note = (f"No label names are declared: the values {some(map(str, values), 12)} were found in {found.count} masks. "
            "Name them: --label NAME=VALUE.")  # fmt: skip
    return Labels(names=names, values=tuple((v,) for v in values), ignore=ignore), [note]


def _coloured(labels: Labels, found: Found) -> tuple[Labels, list[str]]:
    if labels.colours:
        return labels, []
    colours = sorted(found.colours - {(0, 0, 0)}, key=lambda c: (-sum(c), c))
    if len(colours) > 64:
        raise DataError(f"The masks hold {len(colours)} colours: too many for a colour code. Were they saved as JPEG? Use PNG.")
    table = {0: (0, 0, 0), **{k + 1: colour for k, colour in enumerate(colours)}}
    names = labels.names if len(labels.names) == len(colours) else tuple(f"colour #{r:02x}{g:02x}{b:02x}" for r, g, b in colours)
    code = [f"#{r:02x}{g:02x}{b:02x} = {name}" for (r, g, b), name in zip(colours, names, strict=True)]
    values = tuple((k + 1,) for k in range(len(colours)))
    return Labels(names=names, values=values, ignore=labels.ignore, colours=table), [f"The masks are colour-coded: {', '.join(code)}."]
