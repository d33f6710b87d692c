"""The page of a transfer audit: who is better than from scratch at which number of labels, as curves and as tables."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from vesalius.audit.transfer_table import WAYS
from vesalius.audit.verdicts import signed, standing
from vesalius.report.numbers import DASH, number
from vesalius.report.page import write_page
from vesalius.report.svg import Scale, drawing, element, nice_range, path, y_axis
from vesalius.report.tables import Cell

WIDTH, HEIGHT, LEFT = 460.0, 280.0, 52.0
MEASURES = {"auc": "AUC on test cases", "dice": "Dice on test cases"}
TONES = {"better": "better", "worse": "worse"}


def write_transfer(found: dict[str, Any], page: Path) -> Path:
    """The page of what `audit.transfer` found."""
    return write_page(
        page, "transfer.html.j2", kind="transfer audit", title=found["name"], found=found, under=under(found),
        charts=[(WAYS[way], curves(table, list(kinds(found)), title=MEASURES[found["measure"]])) for way, table in found["tables"].items()],
        key=list(kinds(found).items()), tables=[(WAYS[way], *lines(table, list(kinds(found)))) for way, table in found["tables"].items()],
        measure=MEASURES[found["measure"]], colour=colour, rivals=list(kinds(found)),
    )  # fmt: skip


def under(found: dict[str, Any]) -> str:
    """What was compared, in a line."""
    test, pool = found["test"], found["pool"]
    return (f"{found['network']}, {found['steps']:,} steps each; {found['seeds']} seeds; labels out of {pool['cases']} cases of "
            f"{pool['patients']} patients; {test['cases']} test cases of {test['patients']} patients")  # fmt: skip


def kinds(found: dict[str, Any]) -> dict[str, str]:
    """Every rival that stands in a table, and what it begins from; scratch first."""
    there = dict.fromkeys(rival for table in found["tables"].values() for row in table.values() for rival in row)
    words = {**found["rivals"], "pixels": "no network: the pixels themselves"}
    return {rival: words[rival] for rival in words if rival in there}


def colour(rivals: list[str], rival: str) -> str:
    """Its class of colour: scratch is the baseline, pixels are grey, the others in their order, of which no two are alike."""
    others = ("fold0", "fold2", "fold3", "fold4", "fold5")
    return "baseline" if rival == "scratch" else "pixels" if rival == "pixels" else others[(rivals.index(rival) - 1) % len(others)]


def curves(table: dict[str, dict[str, Any]], rivals: list[str], *, title: str) -> Markup:
    """Learning curves: value against number of labels (on even steps), every seed as a dot, intervals as bars."""
    numbers = list(table)
    shown = [cell for row in table.values() for cell in row.values()]
    values = [v for cell in shown for v in (cell["low"], cell["high"], *cell["seeds"].values()) if v is not None and v == v]
    if not values:
        return Markup("")
    x, y = Scale(0, max(1, len(numbers) - 1), LEFT + 24, WIDTH - 34), Scale(*nice_range(values, most=5), HEIGHT - 42, 12)
    parts = [y_axis(y, left=LEFT, right=WIDTH - 10, most=5)]
    parts += [element("text", text, x=x(k), y=HEIGHT - 26, class_="tick middle") for k, text in enumerate(numbers)]
    parts.append(element("text", "labelled cases", x=(LEFT + WIDTH) / 2, y=HEIGHT - 8, class_="axis middle"))
    for place, rival in enumerate(rivals):
        aside = 5.0 * (place - (len(rivals) - 1) / 2)
        points = [(x(k) + aside, table[n][rival]) for k, n in enumerate(numbers) if rival in table[n]]
        parts.append(_curve(points, y, kind=colour(rivals, rival), name=rival))
    return drawing(WIDTH, HEIGHT, *parts, label=title)


def _curve(points: list[tuple[float, dict[str, Any]]], y: Scale, *, kind: str, name: str) -> Markup:
    made = [element("path", element("title", name), d=path([(at, y(cell["value"])) for at, cell in points]), class_=f"line {kind}")]
    for at, cell in points:
        if cell["low"] is not None:
            made.append(element("line", x1=at, x2=at, y1=y(cell["low"]), y2=y(cell["high"]), class_=f"interval {kind}"))
        for seed, value in cell["seeds"].items():
            if value == value:
                title = element("title", f"{name}, seed {seed}: {number(value)}")
                made.append(element("circle", title, cx=at, cy=y(value), r=2.2, class_=f"dot {kind}"))
    return Markup("").join(made)


def lines(table: dict[str, dict[str, Any]], rivals: list[str]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """(numbers of labels, [(rival, a cell for each)]): the value with its interval, and how it stands to scratch."""
    there = [rival for rival in rivals if any(rival in row for row in table.values())]
    return list(table), [(rival, [_cell(row.get(rival)) for row in table.values()]) for rival in there]


def _cell(cell: dict[str, Any] | None) -> Cell:
    if cell is None:
        return Cell(DASH)
    ends = f"{number(cell['low'])}{DASH}{number(cell['high'])}" if cell["low"] is not None else ""
    if cell["gap"] is None:
        return Cell(number(cell["value"]), low=ends)
    state = standing(cell["gap"])
    words = {"better": "better", "worse": "worse"}.get(state, "not told apart")
    return Cell(number(cell["value"]), low=f"{signed(cell['gap'])}: {words}", tone=TONES.get(state, ""))
