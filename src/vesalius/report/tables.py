"""The tables of the report as plain values, ready for the template."""

from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Any

from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.report.facts import Facts
from vesalius.report.glossary import MEASURES, measure
from vesalius.report.numbers import DASH, Interval, differences, duration, interval, labels, listed, number, patients, plural

SHOWN = ("dice", "nsd", "hd95", "assd", "volume_error", "sensitivity", "precision", "iou",
         "lesion_f1", "lesion_sensitivity", "lesion_precision")  # fmt: skip
NOT_MEASURES = ("case", "patient", "label", "state")
MOST_ROWS = 1500


@dataclass(frozen=True)
class Cell:
    """What a cell shows; `low` is the small line under it, `order` what it is sorted by (None sorts last), `fill` 0 to 1 a bar."""

    text: str
    low: str = ""
    order: float | str | None = None
    fill: float | None = None
    tone: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table; `kind` is its colour (model, baseline, rater, difference)."""

    name: str
    kind: str
    cells: list[Cell]
    head: str = ""


def metrics(rows: list[dict[str, Any]]) -> list[str]:
    """Measures with at least one defined number, the well-known first."""
    found = dict.fromkeys(key for row in rows for key, value in row.items() if key not in NOT_MEASURES and _is_number(value))
    return [*(m for m in SHOWN if m in found), *(m for m in found if m not in MEASURES)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def leading(facts: Facts) -> str:
    """The measure that ranks cases and heads the report: of those that the task names the first that could be asked for (without classes
    nobody can count right neighbours), else Dice, or the first that there is."""
    if named := facts.metrics.get("leading"):
        asked = (facts.scores("model").get("summary") or {}).get("all") or {}
        return str(next((name for name in named if name in asked), named[0]))
    found = metrics(facts.rows)
    return "dice" if "dice" in found or not found else found[0]


def results(part: dict[str, Any], columns: list[str]) -> list[Line]:
    """For each label, and for all: the model, the baseline, the difference between them, what else stands beside them, further raters."""
    model, baseline, raters = part["model"], part.get("baseline") or {}, part.get("raters") or {}
    rows = model.get("rows") or []
    of_a_set = not rows or "said" in rows[0]
    names = [name for name in model["summary"] if name != "all"] if of_a_set else labels(rows)
    lines = []
    for label in [*names, "all"] if len(names) != 1 else names:
        lines.append(_summary_line("model", model, label, columns=columns))
        if baseline:
            lines.append(_summary_line("baseline", baseline, label, columns=columns, name=called(baseline)))
            lines.append(_difference_of_sets(part["difference"][label], model, columns) if part.get("difference")
                         else _difference_line(model, baseline, label, columns=columns))  # fmt: skip
        more = {**beside(part), **raters}
        lines += [_summary_line("rater", scores, label, columns=columns, name=name) for name, scores in more.items() if scores]
    return lines


def called(baseline: dict[str, Any]) -> str:
    """The baseline with its method, where that was chosen from several."""
    return f"baseline: {baseline['method']}" if baseline.get("method") else "baseline"


def beside(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Who stands beside the model and the baseline, by name: the others that the baseline was chosen from, and the majority."""
    chosen = (part.get("baseline") or {}).get("method")
    found = {name: scores for name, scores in (part.get("rivals") or {}).items() if name != chosen}
    return {**found, "majority class": part["majority"]} if part.get("majority") else found


def _summary_line(kind: str, scores: dict[str, Any], label: str, *, columns: list[str], name: str = "") -> Line:
    summary = (scores.get("summary") or {}).get(label) or {}
    cells = [summary_cell(summary.get(metric), metric) for metric in columns]
    return Line(name or kind, kind, cells, ("all labels" if label == "all" else label) if kind == "model" else "")


def summary_cell(entry: dict[str, Any] | None, metric: str) -> Cell:
    """Mean over interval of one entry of a summary."""
    if not entry or entry.get("mean") is None:
        return Cell(DASH)
    digits = measure(metric).digits
    return Cell(number(entry["mean"], digits), interval(entry.get("low"), entry.get("high"), digits), entry["mean"])


def _difference_line(model: dict[str, Any], baseline: dict[str, Any], label: str, *, columns: list[str]) -> Line:
    one = None if label == "all" else label
    found = differences(model.get("rows") or [], baseline.get("rows") or [], columns, label=one)
    return Line("difference", "difference", [_difference_cell(found.get(metric), metric) for metric in columns])


def of_sets(entry: dict[str, Any] | None, cases: int, patients: int) -> Interval | None:
    """A difference that evaluation found by drawing patients for both together."""
    if not entry or entry.get("mean") is None:
        return None
    return Interval(entry["mean"], entry.get("low"), entry.get("high"), cases, patients)


def _difference_of_sets(entries: dict[str, Any], model: dict[str, Any], columns: list[str]) -> Line:
    rows = model.get("rows") or []
    found = {metric: of_sets(entries.get(metric), len(rows), patients(rows)) for metric in columns}
    return Line("difference", "difference", [_difference_cell(found[metric], metric) for metric in columns])


def _difference_cell(found: Interval | None, metric: str) -> Cell:
    how = measure(metric)
    if found is None or not how.better:
        return Cell(DASH)
    tone = "" if not found.clear else "better" if found.mean * how.better > 0 else "worse"
    return Cell(number(found.mean, how.digits, sign=True), interval(found.low, found.high, how.digits), found.mean, tone=tone)


def counts(scores: dict[str, Any]) -> list[tuple[str, dict[str, int]]]:
    """(label, how many were scored, both empty, missed, hallucinated), counted from the rows."""
    rows = scores.get("rows") or []
    return [(label, Counter(str(row.get("state") or "scored") for row in rows if row["label"] == label)) for label in labels(rows)]


def case_table(rows: list[dict[str, Any]], columns: list[str], metric: str) -> tuple[list[list[Cell]], int]:
    """One line of cells for each row of the scores (case, patient, label, measures, state), and how many lines were left out: beyond
    `MOST_ROWS` the best ones are, because the worst deserve a look."""
    kept = rows
    if len(rows) > MOST_ROWS:
        kept = sorted(rows, key=lambda row: (row.get(metric) is None, row.get(metric) or 0.0))[:MOST_ROWS]
    return [_case_line(row, columns) for row in kept], len(rows) - len(kept)


def _case_line(row: dict[str, Any], columns: list[str]) -> list[Cell]:
    words = [Cell(str(row.get(key) or DASH), order=str(row.get(key) or "")) for key in ("case", "patient", "label")]
    state = str(row.get("state") or "scored")
    return [*words, *(_score_cell(row.get(metric), metric) for metric in columns), Cell(state.replace("_", " "), order=state, tone=state)]


def _score_cell(value: float | None, metric: str) -> Cell:
    how = measure(metric)
    fill = value if value is not None and how.share and 0 <= value <= 1 else None
    return Cell(number(value, how.digits), order=value, fill=fill)


def groups(scores: dict[str, Any], columns: list[str]) -> list[tuple[str, list[Line]]]:
    """(key, one line per value) for each grouping, over all labels."""
    found = []
    for key, by_value in (scores.get("groups") or {}).items():
        lines = []
        for value, summary in by_value.items():
            overall: dict[str, Any] = summary.get("all") or next(iter(summary.values()), {})
            n = max((e.get("n") or 0 for m, e in overall.items() if m != "counts" and isinstance(e, dict)), default=0)
            lines.append(Line(str(value), "group", [summary_cell(overall.get(metric), metric) for metric in columns], plural(n, "case")))
        found.append((str(key), lines))
    return found


def plan_groups(plan: dict[str, Any]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """(group, [(setting, value, reason)]); deeper nesting gives dotted names, loose values stand under 'general', last."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for key, value in plan.items():
        if key == "version":
            continue
        deeper = isinstance(value, dict) and not _is_leaf(value)
        found.setdefault(key if deeper else "general", []).extend(_leaves(value, "" if deeper else key))
    order = sorted(found, key=lambda key: key == "general")
    return [(key.replace("_", " "), found[key]) for key in order if found[key]]


def _is_leaf(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"value", "reason"}


def _leaves(value: Any, name: str) -> list[tuple[str, str, str]]:
    if _is_leaf(value):
        return [(name, with_unit(name, value["value"]), str(value["reason"] or ""))]
    if isinstance(value, dict) and value:
        return [line for key, inner in value.items() for line in _leaves(inner, f"{name}.{key}" if name else str(key))]
    return [(name, with_unit(name, value), "")]


def with_unit(name: str, value: Any) -> str:
    """A setting as people read it: seconds as a duration, bytes as GiB, numbers of five digits and more in groups of three."""
    if not _is_number(value):
        return in_words(value)
    if name.endswith("_bytes"):
        return f"{value / 2**30:.2f} GiB"
    if name.endswith("seconds"):
        return f"{in_words(float(value))} s" if value < 10 else duration(value)
    return number(value, 0) if isinstance(value, int) and abs(value) >= 10000 else in_words(value)


def in_words(value: Any) -> str:
    """A JSON value as people write it: yes and no, short numbers, lists with commas."""
    if value is None or value == [] or value == {} or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    if isinstance(value, list):
        inner = [f"({in_words(v)})" if isinstance(v, list) else in_words(v) for v in value]
        return ", ".join(inner)
    if isinstance(value, dict):
        return "; ".join(f"{k}: {in_words(v)}" for k, v in value.items())
    return str(value)


def splits(facts: Facts) -> list[tuple[str, int, int]]:
    """(part, cases, patients) as trained; of several folds the first is counted and named so."""
    if facts.dataset is None or not facts.splits:
        return []
    patient = {case.name: case.patient for case in facts.dataset.cases}
    folds = facts.splits.get("folds") or []
    first = folds[0] if folds else {}
    note = f" (fold 1 of {len(folds)})" if len(folds) > 1 else ""
    parts = [(f"train{note}", first.get("train") or []), (f"validation{note}", first.get("val") or [])]
    parts.append(("test", facts.splits.get("test") or []))
    return [(name, len(cases), len({patient.get(c, c) for c in cases})) for name, cases in parts]


def metadata(dataset: Dataset) -> list[tuple[str, str]]:
    """What is known about the patients: median and range of numbers, counts of words; keys with too many words are left out."""
    keys = dict.fromkeys(key for case in dataset.cases for key in case.metadata)
    found = []
    for key in keys:
        known = [case.metadata[key] for case in dataset.cases if case.metadata.get(key) not in (None, "")]
        words = _described(known)
        if words:
            unknown = len(dataset.cases) - len(known)
            found.append((key.replace("_", " "), words + (f"; unknown in {unknown}" if unknown else "")))
    return found


def _described(known: list[Any]) -> str:
    numbers = [v for v in known if _is_number(v)]
    if numbers and len(numbers) == len(known) and len(set(numbers)) > 6:
        return f"median {in_words(float(median(numbers)))}, {in_words(float(min(numbers)))} to {in_words(float(max(numbers)))}"
    tally = Counter(str(v) for v in known if not isinstance(v, dict | list))
    return listed([f"{word} ({n})" for word, n in tally.most_common()]) if 0 < len(tally) <= 8 else ""


def grid(fingerprint: dict[str, Any]) -> list[tuple[str, str]]:
    """Shapes and spacings of the training cases: median, and the range where they differ."""
    unit = "mm" if fingerprint.get("physical", True) else "px"
    lines = []
    for key, name, digits, tail in (("shapes", "Size", 0, "voxels"), ("spacings", "Spacing", 2, unit)):
        rows = fingerprint.get(key) or []
        if rows and len({len(row) for row in rows}) == 1:
            lines.append((name, _ranges(rows, digits, "pixels" if tail == "voxels" and len(rows[0]) == 2 else tail)))
    return lines


def _ranges(rows: list[list[float]], digits: int, unit: str) -> str:
    axes = list(zip(*rows, strict=True))
    middle = " × ".join(number(float(median(axis)), digits) for axis in axes)
    if all(min(axis) == max(axis) for axis in axes):
        return f"{middle} {unit}, the same in every case"
    spread = [f"{number(min(axis), digits)}{DASH}{number(max(axis), digits)}" for axis in axes]
    return f"median {middle} {unit}; {' × '.join(spread)}"


def label_table(facts: Facts) -> list[tuple[str, str, str, str]]:
    """(label, raw values, how many of the cases learned from have it, its share of the scan)."""
    if facts.dataset is None:
        return []
    seen, total = facts.fingerprint.get("classes") or {}, facts.fingerprint.get("cases")
    lines = []
    for name, raw in zip(facts.dataset.labels.names, facts.dataset.labels.values, strict=True):
        one = seen.get(name) or {}
        cases = f"{one['cases']} of {total}" if "cases" in one and total else DASH
        share = f"{100 * one['share']:.3g} %" if one.get("share") is not None else DASH
        lines.append((name, " + ".join(map(str, raw)), cases, share))
    return lines


def patients_of(cases: tuple[Case, ...]) -> int:
    """How many different patients the cases are of."""
    return len({case.patient for case in cases})
