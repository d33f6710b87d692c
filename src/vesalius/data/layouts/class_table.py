"""A manifest of classes: a table with one row per case, columns image or image_<channel>, class (or grade, findings, finding_<name>),
patient, split, and more."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vesalius.core.card import Card
from vesalius.core.errors import DataError
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.layouts import Layout
from vesalius.data.layouts._classes import named, of_words, one
from vesalius.data.layouts._example import write_case
from vesalius.data.layouts._files import cell_path, number_or_word, read_table, some, stem_of
from vesalius.data.layouts._pairing import channel_order, make_case

CARD = Card(entry="ClassTable", title="CSV manifest of classes", tasks=("classify",),
            summary="One row per case: image or image_<channel>; class, grade, findings or finding_<name>; patient, split")  # fmt: skip
SPLITS = {
    "": "",
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
WORDS = {"class": "classes", "label": "classes", "grade": "grades", "findings": "findings", "labels": "findings"}
LOST = 0.1  # of the rows may name files that are not there
UNKNOWN = ("", "nan", "na", "-1")  # of a finding: nobody looked, or it is not certain
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
Reader = Callable[[dict[str, str], str], dict[str, int] | None]


class ClassTable(Layout):
    """A table names the files and says what each shows."""

    needs = ("a CSV file (or a folder with one) with the columns image (or image_<channel>) and class (or grade, findings as a;b, or one "
             "0/1 column finding_<name> for each), best also case, patient, split.")  # fmt: skip

    def recognises(self, root: Path) -> float:
        """0.95 for a CSV file with an image and a class column and no mask, 0.85 for a folder with exactly one such."""
        found = tables(root)
        return 0.0 if len(found) != 1 else 0.95 if root.is_file() else 0.85

    def read(self, root: Path, *, column: str = "") -> Dataset:
        """Paths are relative to the table; an empty cell is a missing channel. `column` names the column of the class where it is
        called otherwise; further columns are metadata."""
        found = tables(root, column)
        if len(found) != 1:
            raise DataError(f"{root}: expected one CSV with a column image and a column {column or 'class'}, found {len(found)}. "
                            "Give the path of the CSV itself.")  # fmt: skip
        path = found[0]
        rows = read_table(path)
        labels, read = scheme(rows, path, column)
        cases = [_case(row, (path, k + 2), read, targets=target_columns(list(row), column)) for k, row in enumerate(rows)]
        _refuse_twice([case.name for case in cases], path)
        _refuse_lost(cases, path)
        silent = [case.name for case in cases if case.classes is None]
        notes = [] if "patient" in rows[0] else ["The table has no column 'patient': every case counts as its own patient."]
        notes += [f"{len(silent)} rows have no class and were left out: {some(silent)}."] if silent else []
        kept = tuple(case for case in cases if case.classes is not None)
        return Dataset(path.stem, path.parent, "classify", kept, channel_order(cases), labels, notes=tuple(notes))

    def example(self, folder: Path) -> None:
        """Four patients with two views each; one view is missing."""
        lines = ["case,patient,image_front,image_side,class,split,sex"]
        for k in range(4):
            write_case(folder / "files" / f"{k}_a.png", None, seed=k)
            write_case(folder / "files" / f"{k}_b.png", None, seed=9 + k)
            side = f"files/{k}_b.png" if k else ""
            lines.append(f"c{k},p{k},files/{k}_a.png,{side},{('benign', 'malignant')[k % 2]},{'train' if k < 2 else 'test'},{'FM'[k % 2]}")
        (folder / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def listed(path: Path) -> Dataset | None:
    """The cases of the table at `path` whatever they show, also where it does not say: for those who want answers. None where the table
    has no column of images, or one of masks."""
    rows = read_table(path)
    columns = list(rows[0]) if rows else []
    if not image_columns(columns) or any(c == "mask" or c.startswith("mask_") for c in columns):
        return None
    cases = [_case(row, (path, k + 2), lambda row, where: None, targets=target_columns(columns)) for k, row in enumerate(rows)]
    _refuse_twice([case.name for case in cases], path)
    _refuse_lost(cases, path)
    return Dataset(path.stem, path.parent, "classify", tuple(cases), channel_order(cases), Labels(names=(), values=()), alone=True)


def tables(root: Path, column: str = "") -> list[Path]:
    """CSV files at `root` with an image column, a column of classes and no mask."""
    files = [root] if root.is_file() and root.suffix.lower() in (".csv", ".tsv") else sorted(root.glob("*.csv")) if root.is_dir() else []
    return [path for path in files if _is_table(path, column)]


def _is_table(path: Path, column: str) -> bool:
    rows = read_table(path)
    columns = list(rows[0]) if rows else []
    masked = any(c == "mask" or c.startswith("mask_") for c in columns)
    return bool(image_columns(columns)) and bool(target_columns(columns, column)) and not masked


def image_columns(columns: list[str]) -> dict[str, str]:
    """Column -> channel of `image` and `image_<channel>`."""
    return {c: c.partition("_")[2] or "image" for c in columns if c == "image" or c.startswith("image_")}


def target_columns(columns: list[str], column: str = "") -> list[str]:
    """The column of the class, or the columns `finding_<name>`; [] where there is none."""
    if column:
        return [column] if column in columns else []
    word = next((w for w in WORDS if w in columns), "")
    return [word] if word else [c for c in columns if c.startswith(("finding_", "class_"))]


def scheme(rows: list[dict[str, str]], path: Path, column: str = "") -> tuple[Labels, Reader]:
    """The labels of a table, and what gives the classes of a row (None where its cell is empty)."""
    columns = target_columns(list(rows[0]), column)
    if len(columns) > 1 or (columns[0].startswith(("finding_", "class_")) and columns[0] != column):
        names = {c: c.partition("_")[2] for c in columns}
        return named(list(names.values()), path, kind="findings"), lambda row, where: _ticked(row, names, where)
    cell = columns[0]
    words = [row[cell] for row in rows if row[cell]]
    kind = WORDS.get(cell, "classes")
    if kind == "findings" or any(";" in word for word in words):
        labels = of_words((w for word in words for w in _parted(word)), path, kind="findings")
        return labels, lambda row, where: {n: int(n in _parted(row[cell])) for n in labels.names} if row[cell] else None
    labels = of_words(words, path, kind=kind)
    return labels, lambda row, where: one(row[cell], labels, where) if row[cell] else None


def _parted(cell: str) -> list[str]:
    """'a;b' as a and b; 'none', 'normal' or 'no finding' names nothing."""
    return [w for w in (part.strip() for part in cell.split(";")) if w and w.lower() not in ("none", "no finding")]


def _ticked(row: dict[str, str], names: dict[str, str], where: str) -> dict[str, int] | None:
    """Findings from 0 and 1; an empty cell or -1 is unknown."""
    cells = {name: row[column].lower() for column, name in names.items()}
    wrong = [f"{name}={cell}" for name, cell in cells.items() if cell not in (*UNKNOWN, *YES, *NO)]
    if wrong:
        raise DataError(f"{where}: {some(wrong)} is neither 0 nor 1, nor empty (unknown).")
    return {name: int(cell in YES) for name, cell in cells.items() if cell not in UNKNOWN} or None


def _case(row: dict[str, str], place: tuple[Path, int], read: Reader, *, targets: list[str]) -> Case:
    table, line = place
    where = f"{table}, line {line}"
    views = image_columns(list(row))
    images = {channel: cell_path(table.parent, row[c]) for c, channel in views.items() if row[c]}
    if not images:
        raise DataError(f"{where}: no image is given. Paths are relative to the table.")
    if row.get("split", "").lower() not in SPLITS:
        raise DataError(f"{where}: the split {row['split']!r} is none of train, val, test.")
    name = row.get("case") or stem_of(next(iter(images.values())).name)
    used = {"case", "patient", "split", *views, *targets}
    more = {k: number_or_word(v) for k, v in row.items() if k and k not in used and v != ""}
    made = make_case(name, images, {}, split=SPLITS[row.get("split", "").lower()])
    return replace(made, patient=row.get("patient") or name, metadata=more, classes=read(row, where))


def _refuse_lost(cases: list[Case], table: Path) -> None:
    """An error where more than one row in ten names files that are not there: the table lies elsewhere, or its paths are wrong. Fewer are
    found by the examination, as other files that cannot be read."""
    lost = [(line, path) for line, case in enumerate(cases, 2) for path in case.images.values() if not _there(path)]
    if len({line for line, _ in lost}) > LOST * len(cases):
        raise DataError(f"{table}, line {lost[0][0]}: there is no {some(str(path) for _, path in lost)}. Paths are relative to the table.")


def _there(path: Path) -> bool:
    return path.exists() or Path(str(path).rpartition("#")[0]).is_file()


def _refuse_twice(names: list[str], path: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{path}: {len(twice)} case names stand in several rows: {some(twice)}. One row per case; further images of it go "
                        "to columns image_<channel>.")  # fmt: skip
