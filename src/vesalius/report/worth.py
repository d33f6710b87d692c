"""The section that says whether learning without labels was worth it: a table beside plain rivals, and pictures of what was learned."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vesalius.audit.readings import TITLES
from vesalius.audit.worth_run import load_arrays, worth_of
from vesalius.core.errors import VesaliusError
from vesalius.engine.run import Run
from vesalius.report.facts import Facts
from vesalius.report.numbers import interval, number
from vesalius.report.pictures import as_bytes, embedded
from vesalius.report.svg import Scale, drawing, element, nice_range
from vesalius.report.tables import Cell

HEADS = {"run": "the run", "drawn": "before it learned", "pca": "principal components", "kmeans": "k-means", "pixels": "raw pixels"}
SIDE, GAP, MARGIN = 84, 6, 4  # pixels of a small picture, between two, and around
MAP = 420.0


def results(facts: Facts) -> dict[str, Any] | None:
    """Values of the section; None for a run that learned from labels, or has not learned yet. A problem becomes a sentence in its place."""
    if facts.grain != "image" or facts.live or not facts.trained or not facts.metrics:
        return None
    try:
        found = worth_of(Run.open(facts.folder))
    except (VesaliusError, OSError) as problem:
        return {"problem": str(problem)}
    return section(found, load_arrays(facts.folder))


def section(found: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Words, tables and drawings of what `audit.worth_run` found."""
    columns, gone = [who for who in HEADS if who in found["names"]], found.get("filling") or []
    return {
        "problem": "", "verdict": found["verdict"], "remarks": found["remarks"], "names": [found["names"][who] for who in columns],
        "heads": [HEADS[who] for who in columns], "rows": measures(found), "chance": found.get("by_chance", {}).get("precision_at_10"),
        "reconstruction": reconstruction(found["reconstruction"]), "likelihood": likelihood(found["likelihood"]), "filling": filling(gone),
        "neighbours": neighbours(found, arrays), "strips": [*strips(arrays), *lost(gone, arrays)],
        "map": scatter(found["pictures"]["map"]),
        "labels": labels_of(found), "share": found["pictures"]["map"]["share"],
    }  # fmt: skip


def measures(found: dict[str, Any]) -> list[tuple[str, list[Cell]]]:
    """(measure, a cell for each set of features): value, interval, and whether the run is clearly better or worse than that rival."""
    lines = []
    for name, row in found["measures"].items():
        cells = [_cell(row["run"])]
        for who in (name for name in HEADS if name != "run" and name in row):
            gap = found["differences"][name][who]
            tone = "" if gap["low"] is None else "worse" if gap["low"] > 0 else "better" if gap["high"] < 0 else ""
            cells.append(_cell(row[who], tone=tone))
        lines.append((TITLES[name], cells))
    return lines


def _cell(value: dict[str, float | None], *, digits: int = 3, tone: str = "") -> Cell:
    return Cell(number(value["value"], digits), low=interval(value["low"], value["high"], digits), tone=tone)


def reconstruction(made: dict[str, Any] | None) -> list[tuple[str, Cell]]:
    """(who, mean squared error per pixel); [] where no image is given back."""
    names = {"run": "the run", "pca": "as many principal components", "mean": "the mean image"}
    return [(words, _cell(made[who], digits=5)) for who, words in names.items()] if made else []


def filling(rows: list[dict[str, Any]]) -> list[tuple[str, list[Cell]]]:
    """(channel, mean squared error per pixel of the run, of a straight line from the other channels, of the mean image)."""
    return [(row["channel"], [_cell(row["run"], digits=4), *(_cell(row[who], digits=4, tone=_less(row["differences"][who])) for who in
                                                             ("linear", "mean"))]) for row in rows]  # fmt: skip


def _less(gap: dict[str, float | None]) -> str:
    """How a rival stands of whose error this is less than the run's."""
    low, high = gap["low"], gap["high"]
    return "" if low is None or high is None else "worse" if high < 0 else "better" if low > 0 else ""


def lost(rows: list[dict[str, Any]], arrays: dict[str, NDArray[np.float32]]) -> list[tuple[str, Markup]]:
    """(title, pictures) of each channel as it is, and as it is filled in from the others."""
    made = []
    for k, row in enumerate(rows):
        pairs = [strip(list(arrays[f"{name}_{k}"]), [], label=f"{row['channel']}, {name}") for name in ("lost", "filled")]
        made.append((f"{row['channel']}, and as the other channels let it be filled in", Markup("").join(pairs)))
    return made


def likelihood(rows: list[dict[str, Any]] | None) -> list[tuple[str, str, Cell]]:
    """(who, how it was found, nats per image)."""
    return [("the run" if row["who"] == "run" else row["who"], row["how"], _cell(row, digits=1)) for row in rows or []]


def neighbours(found: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> list[tuple[str, Markup]]:
    """(words, a row of pictures): a test image, then the training images nearest to it."""
    lines = []
    for row, words in enumerate(found["pictures"]["neighbours"]):
        near = words["nearest"]
        titles = [words["shows"], *(f"{one['shows']} {number(one['distance'], 2)}".strip() for one in near)]
        pictures = [arrays["asked"][row], *arrays["found"][row][: len(near)]]
        shows = f" ({words['shows']})" if words["shows"] else ""
        lines.append((f"{words['case']}{shows}, and what is nearest", strip(pictures, titles, label=f"Neighbours of {words['case']}")))
    return lines


def strips(arrays: dict[str, NDArray[np.float32]]) -> list[tuple[str, Markup]]:
    """(title, pictures) of images given back, samples and filters, where they are there."""
    made = []
    if "back" in arrays:
        pairs = [strip(list(arrays[name]), [], label=name) for name in ("given", "back")]
        made.append(("Test images, and what it gives back", Markup("").join(pairs)))
    for name, title in (("samples", "Images that it makes"), ("filters", "Filters of its first layer, the strongest first")):
        if name in arrays:
            rows = [arrays[name][k : k + 8] for k in range(0, len(arrays[name]), 8)]
            made.append((title, Markup("").join(strip(list(row), [], label=title) for row in rows)))
    return made


def strip(pictures: Sequence[NDArray[np.float32]], titles: Sequence[str], *, label: str) -> Markup:
    """Small pictures (rows, columns) in a row, each stretched to its own range, with titles below."""
    parts, left = [], 0.0
    for k, picture in enumerate(pictures):
        rows, columns = picture.shape
        unit = SIDE / max(rows, columns)
        size = (max(1, round(columns * unit)), max(1, round(rows * unit)))
        parts.append(element("image", href=embedded(as_bytes(picture), size), x=left, y=0, width=size[0], height=size[1]))
        if k < len(titles) and titles[k]:
            parts.append(element("text", titles[k][:14], x=left + size[0] / 2, y=SIDE + 14, class_="tick middle"))
        left += SIDE + GAP
    return drawing(left, SIDE + (20 if any(titles) else MARGIN), *parts, label=label)


def labels_of(found: dict[str, Any]) -> list[str]:
    """What images of the map show, the most frequent six first."""
    shows = [word for word in found["pictures"]["map"]["shows"] if word]
    return sorted(set(shows), key=lambda word: (-shows.count(word), word))[:6]


def scatter(points: dict[str, Any]) -> Markup:
    """Test images as dots on two principal components, coloured by what they show."""
    if not points["x"]:
        return Markup("")
    shows = [word for word in points["shows"] if word]
    colours = {word: f"fold{k}" for k, word in enumerate(sorted(set(shows), key=lambda word: (-shows.count(word), word))[:6])}
    x, y = Scale(*nice_range(points["x"]), 8, MAP - 8), Scale(*nice_range(points["y"]), 0.7 * MAP - 8, 8)
    dots = [element("circle", element("title", word or "not known"), cx=x(a), cy=y(b), r=2.6, class_=f"dot {colours.get(word, 'rater')}")
            for a, b, word in zip(points["x"], points["y"], points["shows"], strict=True)]  # fmt: skip
    return drawing(MAP, 0.7 * MAP, *dots, label="Test images by the first two principal components of their features")

