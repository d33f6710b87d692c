"""Cases of a data set for classification that a dataset.json describes: stacks in an .npz, or a table with an image and a class column."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vesalius.core.errors import DataError
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.data.layouts import _stacks
from vesalius.data.layouts._classes import declared, of_words, one
from vesalius.data.layouts._files import number_or_word, read_table, some, stem_of

CLASS = ("class", "label", "grade", "diagnosis", "group")


def classified(root: Path, words: dict[str, Any]) -> tuple[list[Case], Labels]:
    """The cases and classes of the data set at `root`, whose dataset.json holds `words`."""
    where = root / "dataset.json"
    found = _stacks.stacks(root)
    if len(found) == 1:
        rows = _stacks.answers(found[0])
        kind = "findings" if next(iter(rows.values())).shape[1] > 1 else "classes"
        labels = declared(words.get("labels") or _stacks.plain_names(rows), where, kind=kind)
        return _stacks.cases(found[0], labels, rows), labels
    for table in sorted(root.glob("*.csv")):
        rows_of_table = read_table(table)
        column = next((c for c in CLASS if rows_of_table and c in rows_of_table[0]), "")
        if column and "image" in rows_of_table[0]:
            kind = "grades" if column == "grade" else "classes"
            told = words.get("labels")
            labels = declared(told, where, kind=kind) if told else of_words((r[column] for r in rows_of_table), table, kind=kind)
            return [_of_row(row, table, labels, column=column) for row in rows_of_table], labels
    raise DataError(f"{root}: expected an .npz with train_images and train_labels, or a CSV with the columns image and class, beside "
                    f"{where.name}.")  # fmt: skip


def _of_row(row: dict[str, str], table: Path, labels: Labels, *, column: str) -> Case:
    name = stem_of(Path(row["image"]).name)
    more = {k: number_or_word(v) for k, v in row.items() if k not in ("image", column, "patient", "split") and v != ""}
    split = row.get("split", "")
    return Case(name, row.get("patient") or name, {"image": table.parent / row["image"]}, split=split if split in _stacks.PARTS else "",
                metadata=more, classes=one(row[column], labels, f"{table}, image {row['image']}"))  # fmt: skip


def parted(cases: list[Case], splits: dict[str, Any], root: Path) -> list[Case]:
    """Each case in the part that lists it (with or without the suffix of its file); lists that hold a number are counts, no names."""
    listed = {stem_of(Path(str(entry)).name): part for part, entries in splits.items() for entry in entries if isinstance(entry, str)}
    lost = sorted(set(listed) - {case.name for case in cases})
    if lost:
        raise DataError(f"{root / 'dataset.json'}: the splits name {len(lost)} cases that are not there: {some(lost)}.")
    return [replace(case, split=listed.get(case.name, case.split)) for case in cases]
