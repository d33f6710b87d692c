"""`vesalius compare`: is one run better than another, or could it be chance?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json
from vesalius.cli._screen import answer, answer_json, table


def compare(
    run: o.RunFolder,
    other: Annotated[Path, typer.Argument(metavar="RUN", help="The run that it is held against.")],
    part: Annotated[str, typer.Option(help="Which cases: test or val.")] = "test",
    seed: Annotated[int, typer.Option(help="Seed of the draws of patients.")] = 0,
    json: Json = False,
) -> None:
    """Compare two runs that classify, case by case, on what both were tested on.

    The first less the second: the AUC by DeLong's test, every other number by drawing the same patients for both,
    decisions by McNemar's exact test where each patient has one case. There are some twenty numbers in the
    table, so that one p below 0.05 among them is no news: decide before which one counts.

    Example:
      vesalius compare run_a run_b
    """
    from vesalius.audit.runs import compare_runs

    found = compare_runs(run, other, part=part, seed=seed)
    if json:
        answer_json(found)
        return
    answer(f"{found['cases']} cases of {found['patients']} patients in the part {part}; {run} less {other}.")
    if any(found["left_out"]):
        answer(f"Left out, because the other has not answered them: {found['left_out'][0]} and {found['left_out'][1]} cases.")
    table(("measure", "first", "second", "difference [95 %]", "p", "test"), [_row(one) for one in found["differences"]])
    if found["discordant"]:
        d = found["discordant"]
        answer(f"McNemar: {d['first']} cases only the first has right, {d['second']} only the second; exact p {d['p_exact']:.3g}, "
               f"mid-p {d['p_mid']:.3g}.")  # fmt: skip
    for remark in found["remarks"]:
        answer(remark)


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    from vesalius.report.glossary import measure

    return measure(one["metric"]).title, _number(one["first"]), _number(one["second"]), _gap(one), _number(one["p"]), one["test"]


def _number(value: float | None) -> float | None:
    """None where it is not a number."""
    return value if value == value else None


def _gap(one: dict[str, Any]) -> str:
    if _number(one["difference"]) is None:
        return "–"
    ends = f" [{one['low']:+.3f}, {one['high']:+.3f}]" if _number(one["low"]) is not None else ""
    return f"{one['difference']:+.3f}{ends}"
