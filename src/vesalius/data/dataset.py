"""A data set: cases, the task, channel and label names, and how it was recognised."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vesalius.core.errors import DataError, UsageError, suggest
from vesalius.data.case import Case
from vesalius.data.labels import Labels


@dataclass(frozen=True)
class Dataset:
    """`channels` name the files of a case in the order in which a network sees them; a case may lack some.
    `notes` say in words what was recognised or assumed; they are shown to the user. `alone`: it is learned from images alone;
    whatever is labelled serves to judge what was learned."""

    name: str
    root: Path
    task: str
    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    labels: Labels
    layout: str = ""
    modality: str = ""
    notes: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    alone: bool = False

    @classmethod
    def open(cls, path: Path | str, **options: Any) -> "Dataset":
        """The folder at `path`, its layout recognised or given (`layout="msd"`); options are those of the layout."""
        from vesalius.data.layouts import recognise

        return recognise(Path(path), **options)

    @property
    def grain(self) -> Literal["voxel", "case", "image"]:
        """What there is to learn from: masks, classes of whole cases, or images alone."""
        return "image" if self.alone else self.labels.grain

    @property
    def learnable(self) -> tuple[Case, ...]:
        """Cases with something to learn from: those that are labelled, or all where images alone are learned from."""
        return tuple(case for case in self.cases if self.alone or case.labelled)

    def part(self, split: str) -> tuple[Case, ...]:
        """Cases whose given split is `split`."""
        return tuple(case for case in self.cases if case.split == split)

    def case(self, name: str) -> Case:
        if name not in self._named:
            raise DataError(f"The data set {self.name} has no case {name!r}.")
        return self._named[name]

    @cached_property
    def _named(self) -> dict[str, Case]:
        return {case.name: case for case in reversed(self.cases)}

    def check_words(self, words: Sequence[str]) -> None:
        """Raise a UsageError where one of `words` stands in no case's metadata: nothing could be summarised by it."""
        known = {key for case in self.cases for key in case.metadata}
        for word in words:
            if word not in known:
                raise UsageError(suggest(word, known, "word of the metadata"))

    def with_cases(self, cases: tuple[Case, ...]) -> "Dataset":
        return replace(self, cases=cases)

    def with_channels(self, names: Sequence[str]) -> "Dataset":
        """These channels alone, in this order; cases that have none of them are left out, and a note says how many."""
        for name in names:
            if name not in self.channels:
                raise UsageError(suggest(name, self.channels, "channel of this data set"))
        if not names or len(set(names)) < len(names):
            raise UsageError(f"Name each channel once, of {', '.join(self.channels)}; got {', '.join(names) or 'none'}.")
        taken = [replace(case, images={name: case.images[name] for name in names if name in case.images}) for case in self.cases]
        kept = tuple(case for case in taken if case.images)
        lost = len(taken) - len(kept)
        note = f"Channels taken: {', '.join(names)}." + (f" {lost} cases have none of them and were left out." if lost else "")
        return replace(self, cases=kept, channels=tuple(names), notes=(*self.notes, note))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; `alone` is named where it is so."""
        found = {
            "name": self.name, "root": str(self.root), "task": self.task, "layout": self.layout, "modality": self.modality,
            "channels": list(self.channels), "labels": self.labels.dumped(), "notes": list(self.notes),
            "metadata": self.metadata, "cases": [case.to_json() for case in self.cases],
        }  # fmt: skip
        return {**found, "alone": True} if self.alone else found

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> "Dataset":
        return cls(**{
            **text, "root": Path(text["root"]), "channels": tuple(text["channels"]), "notes": tuple(text["notes"]),
            "labels": Labels.checked(text["labels"]), "cases": tuple(Case.from_json(c) for c in text["cases"]),
        })  # fmt: skip
