"""What the report shows of answers to whole cases: tables, curves, confusions, and cases that were named rightly and most wrongly."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vesalius.core.errors import DataError, VesaliusError
from vesalius.report import explained, tables
from vesalius.report.cases import Picture
from vesalius.report.curves import confusion, curves, decisions
from vesalius.report.facts import Facts
from vesalius.report.numbers import DASH, number
from vesalius.report.pictures import Drawing, View, draw
from vesalius.report.promises import left_out, promises
from vesalius.report.tables import Cell

SHOWN = ("auc", "average_precision", "balanced_accuracy", "accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "kappa",
         "kappa_quadratic", "mcc", "brier", "ece")  # fmt: skip
IN_TURN = (" That is what new cases are judged by. Those shown here were judged in turn: each fold by a temperature, thresholds and "
           "promises that were set on the other folds.")  # fmt: skip
EACH = 4  # cases of a kind in the gallery


def results(facts: Facts) -> dict[str, Any]:
    """Values of the sections that need scores."""
    summary = facts.scores("model")["summary"]
    found = dict.fromkeys(name for row in summary.values() for name in row if name != "counts")
    columns = [m for m in SHOWN if m in found]
    names = [label for label in summary if label != "all"]
    baseline = facts.scores("baseline").get("rows") or []
    lines, left_out = case_lines(facts.rows)
    shown = [] if facts.live else gallery(facts)
    return {
        "trust": promises(facts),
        "template": "_classes.html.j2", "columns": columns, "metric": tables.leading(facts), "labels": names, "lines": lines,
        "left_out": left_out, "parts": [(name, tables.results(part, columns)) for name, part in facts.parts.items()],
        "by_patient": by_patient(facts, columns), "groups": tables.groups(facts.scores("model"), columns),
        "curves": [*curves(facts.rows, baseline, names), *decisions(facts.rows, baseline, names)],
        "shown": names[-1:] if len(names) == 2 else names[:6],
        "confusion": confusion(facts.rows, names), "confusion_baseline": confusion(baseline, names),
        "calibration": calibration_words(facts), "pictures": shown,
        "explained": explained.results(facts, shown),
    }  # fmt: skip


def by_patient(facts: Facts, columns: list[str]) -> tuple[str, list[tables.Line]] | None:
    """The table over patients, and what it is of; None where each patient has one case."""
    part = (facts.parts.get(facts.part) or {}).get("by_patient")
    if not part:
        return None
    lost = f"; {part['left_out']} whose cases show different things are left out" if part["left_out"] else ""
    return f"{part['patients']} patients, the mean over the cases of each{lost}", tables.results(part, columns)


def calibration_words(facts: Facts) -> str:
    """How the answers are made from probabilities, in a sentence or two."""
    how = facts.calibration
    if not how.get("nats"):
        labels = facts.dataset.labels if facts.dataset else None
        most = labels is not None and labels.one_of and len(labels.names) > 2
        said = "said is the most probable class" if most else "a class is said at a probability of one half"
        return f"There were too few validation cases to set a temperature or thresholds: {said}."
    before, after = how["nats"]
    limits = ", ".join(f"{name} from {number(value, 2)} on" for name, value in how.get("thresholds", {}).items())
    said = f" Said is: {limits}, chosen there for the largest balanced accuracy." if limits else " Said is the most probable class."
    half = " (one half of their patients for this, the other for the promises below)" if how.get("trust") else ""
    where = f"On {how['cases']} validation cases, and on no others{half},"
    nats = f"cross entropy {number(before)} before, {number(after)} after"
    return f"{where} the temperature {number(how['temperature'], 2)} was set ({nats}).{said}{IN_TURN if left_out(facts) else ''}"


def doubt(row: dict[str, Any]) -> float:
    """The probability that was given to the truth: 0 is most wrong. Of findings the least of all."""
    truth = str(row["truth"]).split("; ")
    p = row["probabilities"]
    if len(truth) == 1 and abs(sum(p.values()) - 1) < 1e-3 and truth[0] in p:
        return float(p[truth[0]])
    return min(float(v if name in truth else 1 - v) for name, v in p.items())


def case_lines(rows: list[dict[str, Any]]) -> tuple[list[list[Cell]], int]:
    """One line of cells per case, the most wrong first, and how many were left out."""
    ranked = sorted(rows, key=lambda row: (row["state"] == "right", doubt(row)))
    kept = ranked[: tables.MOST_ROWS]
    return [_line(row) for row in kept], len(rows) - len(kept)


def _line(row: dict[str, Any]) -> list[Cell]:
    words = [Cell(str(row.get(key) or DASH), order=str(row.get(key) or "")) for key in ("case", "patient", "truth", "said")]
    p = doubt(row)
    return [
        *words,
        Cell(number(p), order=p, fill=p),
        Cell(row["state"], order=row["state"], tone="missed" if row["state"] == "wrong" else "scored"),
    ]


def gallery(facts: Facts) -> list[Picture]:
    """The most wrong cases, the ones that were nearest to the edge, and the surest that are right, of different classes."""
    ranked = sorted(facts.rows, key=doubt)
    wrong = [row for row in ranked if row["state"] == "wrong"]
    right = [row for row in reversed(ranked) if row["state"] == "right"]
    unsure = sorted((row for row in facts.rows if row["state"] == "right"), key=doubt)
    chosen = [("most wrong", row) for row in wrong[:EACH]] + [("right, but unsure", row) for row in unsure[:EACH]]
    return [picture(facts, row, role) for role, row in chosen + [("right and sure", row) for row in _of_each_class(right)[:EACH]]]


def _of_each_class(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of each class, then the second of each, and so on."""
    seen: dict[str, int] = {}
    turn = []
    for row in rows:
        seen[row["truth"]] = seen.get(row["truth"], 0) + 1
        turn.append((seen[row["truth"]], row))
    return [row for _, row in sorted(turn, key=lambda pair: pair[0])]


def picture(facts: Facts, row: dict[str, Any], role: str) -> Picture:
    """One case drawn, with what it is and what was said of it."""
    return Picture(
        role, str(row["case"]), doubt(row), [(f"is {row['truth']}, said {row['said']}", doubt(row))], "", *drawn(facts, str(row["case"]))
    )


def drawn(facts: Facts, case: str) -> tuple[tuple[Drawing, ...], str]:
    """The channels of a case (of volumes the middle slice), or the problem in words."""
    from vesalius.io import load

    try:
        if facts.dataset is None:
            raise DataError("dataset.json is not in the run folder, so that the images cannot be found.")
        found = facts.dataset.case(case)
        flat = [view(load(path).canonical(), channel if len(found.images) > 1 else "") for channel, path in found.images.items()]
    except (VesaliusError, OSError) as problem:
        return (), str(problem)
    return tuple(draw(one, ()) for one in flat[:4]), ""


def view(image: Any, title: str) -> View:
    """A picture as it is; of a volume the middle slice across its coarsest axis, the patient's right on the left."""
    pixels, spacing = np.nan_to_num(image.array[:3] if image.channels >= 3 else image.array[:1]), image.space.spacing
    if image.space.ndim == 3:
        axis = int(np.argmax(spacing)) if max(spacing) > 1.3 * min(spacing) else 2
        pixels = np.take(pixels, pixels.shape[1 + axis] // 2, 1 + axis)[..., ::-1, ::-1].swapaxes(-1, -2)
        across, down = (s for k, s in enumerate(spacing) if k != axis)
        spacing = (down, across)
    shown = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
    return View(title, shown, None, None, (float(spacing[0]), float(spacing[1])))


def examples(facts: Facts, each: int = 2) -> list[Picture]:
    """The first training cases of every class, so that a reader sees what the data look like."""
    if facts.dataset is None:
        return []
    train = {name for fold in facts.splits.get("folds") or [] for name in fold.get("train") or []}
    found: dict[str, list[str]] = {}
    for case in facts.dataset.cases:
        if case.classes and (not train or case.name in train):
            word = "; ".join(name for name, there in case.classes.items() if there) or "none"
            found.setdefault(word, []).append(case.name)
    names = [(word, name) for word, cases in list(found.items())[:6] for name in cases[:each]]
    return [Picture(word, f"{name}: {word}", None, [], "", *drawn(facts, name)) for word, name in names]
