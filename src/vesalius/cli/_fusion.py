"""What `vesalius train --fusion` says: the fusions side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vesalius.cli._screen import answer, answer_json, table
from vesalius.core.errors import UsageError
from vesalius.data.dataset import Dataset
from vesalius.plan import Request


def checked(plan: Path | None, init: Path | None) -> None:
    """What does not go with --fusion is refused."""
    for option, value in (("--plan", plan), ("--init", init)):
        if value:
            raise UsageError(f"--fusion plans networks anew; leave {option} out, or --fusion.")


def train_all(dataset: Dataset, output: Path, wish: Request, *, overwrite: bool, skip_bad: bool, by: Sequence[str], json: bool) -> None:
    """Train every fusion, write the pages, and answer with the table."""
    from vesalius.cli._listener import Console
    from vesalius.core.environment import process_rank
    from vesalius.engine import fusion
    from vesalius.report import fusion as side_by_side
    from vesalius.report import write

    found = fusion.train_all(dataset, output, wish=wish, listener=Console(), overwrite=overwrite, skip_bad=skip_bad, by=by)
    if process_rank()[0]:
        return
    for row in found["rows"]:
        write(output / row["run"])
    page = side_by_side.write(output)
    if json:
        answer_json({**found, "report": page})
        return
    titles = (f"{title} [95 %]" for title in side_by_side.TITLES.values())
    table(("fusion", "network", *titles, "parameters", "steps", "seconds"), map(_line, found["rows"]))
    answer("\n".join(["", *(text for text in found["words"] if text), f"Report: {page}"]))


def _line(row: dict[str, Any]) -> list[Any]:
    from vesalius.cli._options import interval

    return [row["fusion"], row["net"], interval(row["auc"]), interval(row["balanced_accuracy"]), row["parameters"], row["steps"],
            row["seconds"]]  # fmt: skip
