"""Checks of the classes of whole cases: enough of each, none that is nearly alone, views of one kind."""

from collections.abc import Iterator, Sequence

from vesalius.data.dataset import Dataset
from vesalius.data.doctor._finding import Finding, some
from vesalius.data.doctor._look import Look

RARE = 10  # cases of a class, below which little can be said about it
UNEVEN = 10  # times as many cases of the most common class as of the rarest


def enough_of_each(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """A class of one patient cannot be both learned and tested."""
    for name, patients in holders(dataset, seen).items():
        found = tuple(one.case.name for one in seen if (one.case.classes or {}).get(name) == 1)
        if len(patients) < 2:
            where = f"only in {some(found)}" if found else "in no case"
            yield Finding("classes", "error", f"The class {name!r} occurs {where}: it cannot be learned and tested too.", found,
                          "Add cases, merge it with another class, or leave it out.")  # fmt: skip
        elif len(patients) < RARE:
            yield Finding("classes", "warning", f"The class {name!r} occurs in {len(patients)} patients: its scores say little.", found,
                          "Add cases, or merge it with another class.")  # fmt: skip


def uneven(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Classes of very unlike size."""
    counts = {name: sum((one.case.classes or {}).get(name) == 1 for one in seen) for name in dataset.labels.names}
    if dataset.labels.grain == "case" and counts and max(counts.values()) > UNEVEN * max(1, min(counts.values())):
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        yield Finding("classes", "note", f"{most} has {counts[most]} cases, {least} {counts[least]}: rare classes are drawn more often "
                      "while learning, and accuracy alone says little.", details={"counts": counts})  # fmt: skip


def kinds_of_views(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Pictures and volumes among the channels of one case."""
    axes = {one.case.name: {p.space.ndim for p in one.images.values()} for one in seen}
    mixed = tuple(name for name, found in axes.items() if len(found) > 1)
    if dataset.labels.grain == "case" and mixed:
        yield Finding("dimensions", "error", f"Pictures and volumes are mixed among the channels of {some(mixed)}.", mixed,
                      "Use channels of one kind, or make pictures of the volumes.")  # fmt: skip


def holders(dataset: Dataset, seen: Sequence[Look]) -> dict[str, set[str]]:
    """The patients of each class, where whole cases are labelled."""
    if dataset.labels.grain == "voxel":
        return {}
    return {name: {one.case.patient for one in seen if (one.case.classes or {}).get(name) == 1} for name in dataset.labels.names}
