"""Tables (CSV) that lie beside the images: patient, sex, age, diagnosis ... joined to the cases by name or by patient."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vesalius.data.case import Case
from vesalius.data.layouts._files import number_or_word, read_table, stem_of

Rows = list[dict[str, str]]


def joined(cases: list[Case], root: Path) -> tuple[list[Case], list[str]]:
    """`cases` with the columns of each CSV in `root` as metadata; a column named patient gives the patient."""
    notes = []
    for path in sorted(root.glob("*.csv")):
        rows = read_table(path)
        if not rows:
            continue
        for what, of in (("case", lambda case: [case.name]), ("patient", _possible_patients)):
            if column := _key_column(rows, cases, of):
                table = {_plain(row[column]): row for row in rows}
                cases = [_told(case, table, column, keys=of(case)) for case in cases]
                notes.append(f"{path.name}: {', '.join(c for c in rows[0] if c != column)} joined by {what} (column {column!r}).")
                break
    return cases, notes


def _possible_patients(case: Case) -> list[str]:
    """The patient, or what stands before the last _ or - of the name (p001 of p001_ED)."""
    return [case.patient, case.name.rpartition("_")[0], case.name.rpartition("-")[0]]


def _plain(cell: str) -> str:
    return stem_of(Path(cell).name)


def _key_column(rows: Rows, cases: list[Case], of: Callable[[Case], list[str]]) -> str:
    """The column whose cells name nine in ten of the cases; '' where none does."""
    for column in rows[0]:
        cells = {_plain(row[column]) for row in rows}
        if sum(any(key in cells for key in of(case)) for case in cases) >= 0.9 * len(cases):
            return column
    return ""


def _told(case: Case, table: dict[str, dict[str, str]], column: str, *, keys: list[str]) -> Case:
    """`case` with the row of the first of its `keys` that the table has."""
    key = next((key for key in keys if key in table), None)
    if key is None:
        return case
    row = {k: v for k, v in table[key].items() if k != column}
    patient = row.get("patient") or (key if column.lower() in ("patient", "subject") else case.patient)
    split = case.split or {"training": "train", "validation": "val"}.get(row.get("split", ""), row.get("split", ""))
    kept = {k: number_or_word(v) for k, v in row.items() if v != "" and k not in ("patient", "split")}
    return replace(case, patient=patient, split=split if split in ("train", "val", "test") else "", metadata={**case.metadata, **kept})
