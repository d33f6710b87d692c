"""Answers to whole cases as a table: predictions.csv for people and programs, and the same rows as JSON."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vesalius.core.errors import DataError
from vesalius.core.files import write_text
from vesalius.data.labels import Labels

Rows = Sequence[dict[str, Any]]


def write_table(folder: Path, rows: Rows, labels: Labels, *, name: str = "predictions") -> Path:
    """`rows` with case, said and probabilities as `<name>.csv` in `folder`: case, said, p(class) ..., threshold(class) of what is said
    by one, possible, answered and strange where validation gave rules for them, and truth where it is known."""
    folder.mkdir(parents=True, exist_ok=True)
    more = [key for key in ("possible", "answered", "strange", "patient", "truth", "state") if any(key in row for row in rows)]
    limits = [label for label in labels.names if any(label in row.get("thresholds", {}) for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "said", *(f"p({label})" for label in labels.names), *(f"threshold({label})" for label in limits), *more])
    for row in rows:
        numbers = [row["probabilities"][label] for label in labels.names]
        numbers += [row.get("thresholds", {}).get(label, "") for label in limits]
        writer.writerow([row["case"], row["said"], *numbers, *(cell(row.get(key, "")) for key in more)])
    write_text(folder / f"{name}.csv", text.getvalue())
    return folder / f"{name}.csv"


def cell(value: Any) -> str:
    """A value as it stands in a table: yes and no, several words with semicolons between them, 'none' for none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "; ".join(value) or "none" if isinstance(value, list | tuple) else str(value)


def read_table(path: Path, labels: Labels) -> dict[str, list[float]]:
    """Probabilities by case from what `write_table` wrote, or a table like it."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = ["case", *(f"p({label})" for label in labels.names)]
    lost = [column for column in wanted if not rows or column not in rows[0]]
    if lost:
        raise DataError(
            f"{path} lacks the columns {', '.join(lost)}. Expected a table with {', '.join(wanted)}, as vesalius predict writes."
        )
    try:
        return {row["case"]: [float(row[column]) for column in wanted[1:]] for row in rows}
    except ValueError as problem:
        raise DataError(f"{path}: a probability is no number ({problem}).") from None
