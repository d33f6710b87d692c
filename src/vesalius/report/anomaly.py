"""What the report shows of what is strange: measures beside distances in raw pixels, curves, scores by kind with the threshold, and maps
over the images that a reader should look at first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vesalius.explain import overlay
from vesalius.report import tables
from vesalius.report.cases import Picture
from vesalius.report.curves import SQUARE, roc
from vesalius.report.facts import Facts
from vesalius.report.figures import Frame, Line, chart
from vesalius.report.glossary import measure
from vesalius.report.numbers import DASH, interval, number
from vesalius.report.pictures import View, draw
from vesalius.report.tables import Cell

COLUMNS = ("auc", "average_precision", "sensitivity", "specificity")
BESIDE = {
    "model": "model", "baseline": "nearest training image, raw pixels", "mean image": "mean training image, in deviations of each pixel",
    "principal components": "left over beside principal components",
}  # fmt: skip
KINDS = {"model": "model", "baseline": "baseline", "mean image": "rater", "principal components": "pixels"}
BINS = 24
Floats = NDArray[np.float64]
Rows = Sequence[dict[str, Any]]


def results(facts: Facts) -> dict[str, Any]:
    """Values of the sections that need scores."""
    part = facts.parts[facts.part]
    lines, left_out = case_lines(facts.rows)
    return {
        "template": "_anomaly.html.j2", "columns": COLUMNS, "metric": tables.leading(facts), "lines": lines, "left_out": left_out,
        "parts": [(name, table(one)) for name, one in facts.parts.items()], "groups": tables.groups(facts.scores("model"), list(COLUMNS)),
        "areas": areas(part), "pixels": pixels(part), "threshold": threshold_words(facts), "labels": kinds_of(facts.rows),
        "curves": [one for one in (roc_chart(part), histogram(facts)) if one[1]],
        "pictures": [] if facts.live else pictures(facts),
    }  # fmt: skip


def table(part: dict[str, Any]) -> list[tables.Line]:
    """The model, the baseline, the difference, and what else pixels say."""
    lines = tables.results({**part, "raters": {}}, list(COLUMNS))
    for who in (who for who in KINDS if who not in ("model", "baseline") and part.get(who)):
        cells = [tables.summary_cell(part[who]["summary"]["all"].get(name), name) for name in COLUMNS]
        lines.append(tables.Line(who, KINDS[who], cells, ""))
    return lines


def kinds_of(rows: Rows) -> list[str]:
    """What the images are known to be."""
    return list(dict.fromkeys(str(row["truth"]) for row in rows))


def known(rows: Rows) -> tuple[NDArray[np.bool_], Floats]:
    """Whether each image of known kind is abnormal, and its score."""
    told = [row for row in rows if row["truth"] != "unknown"]
    return np.array([row["truth"] == "abnormal" for row in told], bool), np.array([row["strangeness"] for row in told], float)


def areas(part: dict[str, Any]) -> list[tuple[str, str]]:
    """(who, area with the interval of DeLong)."""
    found = part.get("areas") or {}
    return [(BESIDE.get(who, who), f"{number(one['area'])} ({interval(one['low'], one['high'])})") for who, one in found.items()]


def pixels(part: dict[str, Any]) -> list[tuple[str, str]]:
    """(measure, value) of maps against masks; nothing where no mask was there."""
    found = part.get("pixels") or {}
    return [(measure(name).title, number(value, 0 if name == "images" else 3)) for name, value in found.items()]


def threshold_words(facts: Facts) -> str:
    """Where the threshold comes from, in a sentence."""
    how = facts.calibration
    limit = (how.get("thresholds") or {}).get("model")
    if limit is None:
        return "There was no validation image to set a threshold on, so nothing is called abnormal."
    what = f"{100 * how['quantile']:g} % of {how['images']} normal {how['from']} images lie below the threshold of {number(limit, 4)}"
    worse = " Scores of images that were learned from are too low, and so is this threshold." if how["from"] == "training" else ""
    return f"An image is called abnormal above the threshold: {what}, so about {100 * (1 - how['quantile']):g} % false alarms are to be " \
           f"expected.{worse}"  # fmt: skip


def roc_chart(part: dict[str, Any]) -> tuple[str, Markup]:
    """ROC of the model and of what stands beside it; '' where one kind is absent."""
    title, lines = "ROC: sensitivity over 1 − specificity", []
    for who, kind in KINDS.items():
        there, score = known((part.get(who) or {}).get("rows") or [])
        if there.any() and not there.all():
            x, y = roc(there, score)
            lines.append(Line(x.tolist(), y.tolist(), kind, name=BESIDE[who]))
    chance = Line((0.0, 1.0), (0.0, 1.0), "rater", faint=True, name="chance")
    return title, chart([chance, *lines], Frame(title, x_title="1 − specificity", **SQUARE)) if lines else Markup("")  # type: ignore[arg-type]


def histogram(facts: Facts) -> tuple[str, Markup]:
    """Shares of images by score, each kind for itself, and the threshold."""
    title, rows = "Scores of the model by kind", facts.rows
    scores = np.array([row["strangeness"] for row in rows], float)
    if len(scores) < 2 or scores.min() == scores.max():
        return title, Markup("")
    low, high = np.percentile(scores, (0.5, 99.5))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    lines = []
    for kind, colour in (("normal", "baseline"), ("abnormal", "model"), ("unknown", "model")):
        mine = np.array([row["strangeness"] for row in rows if row["truth"] == kind], float).clip(edges[0], edges[-1])
        if len(mine):
            counts = np.histogram(mine, edges)[0] / len(mine)
            lines.append(Line(np.repeat(edges, 2)[1:-1].tolist(), np.repeat(counts, 2).tolist(), colour, name=kind))
    limit = (facts.calibration.get("thresholds") or {}).get("model")
    marks = [(float(limit), "threshold")] if limit is not None and edges[0] <= limit <= edges[-1] else []
    shape = {**SQUARE, "x_range": (float(edges[0]), float(edges[-1]))}
    return title, chart(lines, Frame(title, x_title="strangeness", marks=marks, **shape))  # type: ignore[arg-type]


def case_lines(rows: Rows) -> tuple[list[list[Cell]], int]:
    """One line of cells per image, the strangest first, and how many were left out."""
    ranked = sorted(rows, key=lambda row: -float(row["strangeness"]))
    return [_line(row) for row in ranked[: tables.MOST_ROWS]], max(0, len(rows) - tables.MOST_ROWS)


def _line(row: dict[str, Any]) -> list[Cell]:
    words = [Cell(str(row.get(key) or DASH), order=str(row.get(key) or "")) for key in ("case", "patient", "truth", "said")]
    state = str(row.get("state") or "unknown")
    tone = {"wrong": "missed", "right": "scored"}.get(state, "both_empty")
    return [*words, Cell(number(row["strangeness"], 4), order=row["strangeness"]), Cell(state, order=state, tone=tone)]


def pictures(facts: Facts) -> list[Picture]:
    """The gallery that judging has left: each image, and the map over it; one colour scale for all."""
    path = Path(facts.folder) / "predictions" / facts.part / "gallery.npz"
    if not path.is_file():
        return []
    rows = {str(row["case"]): row for row in facts.rows}
    top, made = facts.calibration.get("hottest"), []
    with np.load(path, allow_pickle=False) as box:
        for key in box.files:
            role, _, case = key.partition("/")
            if case in rows:
                made.append(picture(rows[case], role, box[key], top=top))
    return made


def picture(row: dict[str, Any], role: str, pair: NDArray[np.floating], *, top: float | None) -> Picture:
    """One image, outlined what its mask marks, and the map over it."""
    grey, heat = (np.asarray(one, np.float64) for one in pair[:2])
    truth = pair[2:] > 0.5 if len(pair) > 2 else None
    views = [View("", grey, truth, None, (1.0, 1.0)), View("how strange", overlay(grey, heat, top=top or None), None, None, (1.0, 1.0))]
    words: list[tuple[str, float | None]] = [(f"is {row['truth']}, said {row['said'] or DASH}; strangeness", float(row["strangeness"]))]
    return Picture(role, str(row["case"]), float(row["strangeness"]), words, "", tuple(draw(view, ("abnormal",)) for view in views))
