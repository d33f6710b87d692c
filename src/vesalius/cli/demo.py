"""`vesalius demo`: the whole way on a built-in cohort, so that a newcomer sees it before having data."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from vesalius.cli._console import Json
from vesalius.cli._options import scores_table
from vesalius.cli._screen import Progress, answer, answer_json, duration, say
from vesalius.core.errors import VesaliusError


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the cohort (data/) and the run (run/).")] = Path("demo"),
    budget: Annotated[str, typer.Option(help="Time for examining, learning and testing, for instance 3m.")] = "3m",
    cases: Annotated[int, typer.Option(min=8, help="Synthetic heads to make.")] = 24,
    seed: Annotated[int, typer.Option(help="Another seed makes other heads.")] = 0,
    json: Json = False,
) -> None:
    """Make a synthetic cohort, train on it, test it and write a report.

    The heads have four MRI sequences and tumours with exact truth. Three minutes are little for a model; the
    report says how good it became. Repeating the command continues or shows what is there.

    Example:
      vesalius demo                          cohort, model and report in demo/
      vesalius demo -o big --budget 30m      the same with more time to learn
    """
    started = time.monotonic()
    data, run = output / "data", output / "run"
    make_cohort(data, cases=cases, seed=seed)
    metrics, report = learn(data, run, budget=budget)
    seconds = time.monotonic() - started
    if json:
        answer_json({"data": data, "run": run, "report": report, "seconds": round(seconds, 1), "metrics": metrics})
        return
    scores_table({**metrics, "parts": {part: scores for part, scores in metrics["parts"].items() if part == "test"}})
    answer(f"Report: {report.resolve()}  (open it in a browser)")
    say(f"All of it took {duration(seconds)}. Your own scans: vesalius train FOLDER -o run --budget 20m")


def make_cohort(folder: Path, *, cases: int, seed: int) -> None:
    """The cohort in `folder`, unless one of the same size and seed is there."""
    from vesalius.core.files import read_json, write_json
    from vesalius.phantoms.brain_tumour import write_cohort

    made, wanted = folder.with_suffix(".json"), {"cases": cases, "seed": seed}
    if made.exists() and read_json(made) == wanted:
        return
    with Progress(f"making {cases} synthetic heads") as tick:
        write_cohort(folder, cases=cases, seed=seed, progress=tick)
    write_json(made, wanted)


def learn(data: Path, run: Path, *, budget: str) -> tuple[dict[str, Any], Path]:
    """Train, test and report; what metrics.json holds and where the report is."""
    from vesalius.cli._listener import Console
    from vesalius.export.training import train
    from vesalius.plan import Request
    from vesalius.report import write

    made = train(data, run, wish=Request(budget=budget), listener=Console())
    if made.metrics is None:
        raise VesaliusError(f"{run} was stopped before it was tested. The same command goes on.")
    return made.metrics, write(run)
