"""Layouts: the ways in which people lay out a data set, one per file. Each recognises its own and reads it into a Dataset.

What every layout shares (patients by a regular expression, labels named by the user, a look at some masks) is done here once.
"""

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from vesalius.core.errors import DataError, UsageError, suggest
from vesalius.core.shelf import Shelf
from vesalius.data.case import Case, files_of
from vesalius.data.dataset import Dataset

LAYOUTS = Shelf("data.layouts")
SURE = 0.05  # two layouts whose scores differ by less than this are not told apart


class Layout(ABC):
    """One way of laying out cases. `needs` says in a sentence what it looks for, for the error when nothing is recognised."""

    needs: str = ""
    answers: bool = True  # whether its cases come with something to be learned; if not, it is tried only where images alone will do

    @abstractmethod
    def recognises(self, root: Path) -> float:
        """How surely `root` is laid out this way: 0 (not) to 1 (it says so itself). Reads names and small text files only."""

    @abstractmethod
    def read(self, root: Path) -> Dataset:
        """The data set, lazily; a layout may add keyword options. Labels without names mean that none are declared."""

    @abstractmethod
    def example(self, folder: Path) -> None:
        """Write a tiny data set of this layout (for the contract suite and to look at)."""


def recognise(path: Path, layout: str | None = None, *, labels: Iterable[str] | Mapping[str, Any] | None = None,
              regions: Iterable[str] | Mapping[str, Any] | None = None, ignore: int | None = None, patient: str | None = None,
              unlabelled: bool = False, **options: Any) -> Dataset:  # fmt: skip
    """The data set at `path`, which may be a folder, a manifest or a dataset.json.

    `layout` overrides what would be recognised; `options` are those of the layout's `read` (a wrong one is an error).
    `labels` ("liver=1", "tumour=2+3") and `regions` ("whole tumour=1+2+3+4", learned each for itself even where they do
    not overlap) name mask values; `ignore` (or the label "ignore=255") is a value that is neither learned nor scored;
    `patient` is a regular expression whose first group is the patient of a case. `unlabelled`: images without any answer will do.
    """
    root = _root(Path(os.path.abspath(path)))
    options = {name: value for name, value in options.items() if value not in (None, (), [])}
    name, why, root = (layout, f"as asked, layout '{layout}'", root) if layout else _best(root, options, unlabelled=unlabelled)
    chosen = _instance(name)
    _check_options(name, options)
    dataset = chosen.read(root, **options)
    said = f"Read {why}: {len(dataset.cases)} cases, channels {', '.join(dataset.channels)}."
    dataset = replace(dataset, layout=name, notes=(said, *dataset.notes))
    return _finished(dataset, labels=labels, regions=regions, ignore=ignore, patient=patient)


def _root(path: Path) -> Path:
    if not path.exists():
        near = get_close_matches(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [], n=2)
        raise DataError(f"{path} does not exist. " + (f"Did you mean {' or '.join(near)}?" if near else "Give the path of your data."))
    return path.parent if path.name == "dataset.json" else path


def _instance(name: str) -> Layout:
    return cast(Layout, LAYOUTS[name]())


def _best(root: Path, options: dict[str, Any], *, unlabelled: bool) -> tuple[str, str, Path]:
    """(name, words, root) of the layout that is surest; one folder within a folder is stepped into."""
    able = [name for name in LAYOUTS if set(options) <= _options(name) and (unlabelled or LAYOUTS[name].answers)]
    if not able:
        wrong = next(o for o in options if not any(o in _options(name) for name in LAYOUTS))
        raise UsageError(suggest(wrong, {o for name in LAYOUTS for o in _options(name)}, "option of a layout"))
    if options and len(able) == 1:
        return able[0], f"as '{able[0]}', the layout that has the options {', '.join(options)}", root
    scores = sorted(((float(_instance(name).recognises(root)), name) for name in able), reverse=True)
    if scores[0][0] <= 0 or not LAYOUTS[scores[0][1]].answers:
        inside = [p for p in root.iterdir() if not p.name.startswith(".")] if root.is_dir() else []
        folders = [p for p in inside if p.is_dir()]
        if len(folders) == 1 and (scores[0][0] <= 0 or len(inside) == 1):
            return _best(folders[0], options, unlabelled=unlabelled)
    if scores[0][0] <= 0:
        raise DataError(f"{root} is laid out in no way that is known. " + _all_needs(able))
    near = [name for score, name in scores if score > scores[0][0] - SURE]
    if len(near) > 1:
        raise DataError(f"{root} could be read as {' or '.join(near)}: say which with --layout. " + _all_needs(near))
    return scores[0][1], f"as '{scores[0][1]}' ({LAYOUTS.card(scores[0][1]).title}), recognised by itself", root


def _all_needs(names: list[str]) -> str:
    return "Layouts: " + " ".join(f"{name}: {_instance(name).needs}" for name in names)


def _options(name: str) -> set[str]:
    parameters = inspect.signature(LAYOUTS[name].read).parameters
    return {word for word, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _check_options(name: str, options: dict[str, Any]) -> None:
    for option in options:
        if option not in _options(name):
            raise UsageError(suggest(option, _options(name), f"option of the layout '{name}'"))


def _finished(dataset: Dataset, *, labels: Iterable[str] | Mapping[str, Any] | None, regions: Iterable[str] | Mapping[str, Any] | None,
              ignore: int | None, patient: str | None) -> Dataset:  # fmt: skip
    from vesalius.data.layouts import _classes, _groups

    if not dataset.cases:
        needs = _all_needs([dataset.layout])
        raise DataError(f"{dataset.root} holds no case with an image and a mask or class, read as '{dataset.layout}'. {needs}")
    if labels is not None and regions is not None:
        raise UsageError("Give labels or regions, not both.")
    notes = list(dataset.notes)
    cases = list(dataset.cases)
    if patient:
        cases, words = _groups.by_regex(cases, patient)
        notes += words
    notes += [*_groups.suspected(cases), *_raters(cases)]
    if not _instance(dataset.layout).answers:
        if labels or regions or ignore is not None:
            raise UsageError(f"{dataset.root} was read as images without masks or classes: there is nothing that could be named.")
        return replace(dataset, cases=tuple(cases), notes=tuple(notes))
    if dataset.labels.grain == "case":
        if regions is not None or ignore is not None:
            raise UsageError(f"{dataset.root} has classes of whole cases; regions and values to ignore are said of masks.")
        found, cases = _classes.renamed(dataset.labels, cases, labels or ())
        return replace(dataset, cases=tuple(cases), labels=found, notes=(*notes, _classes.told(found, cases)))
    return _with_values(replace(dataset, cases=tuple(cases), notes=tuple(notes)), labels=labels, regions=regions, ignore=ignore)


def _raters(cases: list[Case]) -> list[str]:
    """Who drew the masks, where several did; labels whose files look like further raters' are asked about."""
    drawn = list(dict.fromkeys(rater for case in cases for rater in case.masks))
    if len(drawn) < 2:
        return []
    return [f"Masks of {len(drawn)} raters: {', '.join(drawn)}. The first that a case has is learned from and scored with, the others are "
            "compared with it. If they are labels and not raters, say so: --mask LABEL=GLOB."]  # fmt: skip


def _with_values(dataset: Dataset, *, labels: Iterable[str] | Mapping[str, Any] | None, regions: Iterable[str] | Mapping[str, Any] | None,
                 ignore: int | None) -> Dataset:  # fmt: skip
    """`dataset` with the values of its masks named."""
    from vesalius.data.layouts import _labels, _parts

    dataset = replace(dataset, cases=tuple(_parts.layered(dataset.cases)))
    if _parts.declared(dataset.cases):
        named, words = _parts.settle(dataset.cases, named=labels is not None or regions is not None or ignore is not None,
                                      told=dataset.labels.names)
        return replace(dataset, labels=named, notes=(*dataset.notes, *words))
    words_given = labels if labels is not None else regions
    given = _labels.asked(words_given or (), regions=regions is not None, ignore=ignore)
    named = given if given.names else dataset.labels if given.ignore is None else replace(dataset.labels, ignore=given.ignore)
    named, words = _labels.settle(named, [path for case in dataset.cases for path in files_of(case.mask)])
    said = f"Labels ({named.kind}): {named.describe()}" + (f"; {named.ignore} is ignored." if named.ignore is not None else ".")
    return replace(dataset, labels=named, notes=(*dataset.notes, *words, said))
