"""Writes `report.html`: gathers the facts, asks each part of the page for its values, and fills the template.

The page is one file that asks nothing of the network: a content security policy forbids it, and lets only the one script run whose hash is
written beside it, so that a name in the data can never become code.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vesalius.core.files import write_text
from vesalius.report import cases, classes, figures, images, limits, numbers, repeat, tables, worth
from vesalius.report.facts import Facts, gather
from vesalius.report.glossary import WORDS, measure
from vesalius.report.shortcuts import shortcuts
from vesalius.report.verdict import verdict

TEMPLATES = Path(__file__).parent / "templates"
SEVERITIES = ("error", "warning", "repaired", "note")
REFRESH = 10  # seconds between two looks while training
DRAWN = ("dice", "nsd", "hd95")


def write(run_folder: Path | str, *, live: bool = False) -> Path:
    """Write `report.html` in `run_folder` from whatever is there so far, and give its path.

    `live` is for a training that goes on: the page refreshes itself and no scan is drawn, so that writing it costs little.
    """
    facts = gather(Path(run_folder), live=live)
    path = facts.folder / "report.html"
    write_text(path, render(facts))
    return path


def render(facts: Facts) -> str:
    """The page as text."""
    return str(environment().get_template("report.html.j2").render(context(facts)))


@cache
def environment() -> Any:
    """Templates of this room, with the filters that they use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": numbers.number, "measure": measure, "duration": numbers.duration}
    return environment


def context(facts: Facts) -> dict[str, Any]:
    """Everything that the template names."""
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return {
        "facts": facts, "title": facts.dataset.name if facts.dataset else facts.name, "verdict": verdict(facts),
        "date": str(facts.record.get("date") or "")[:10],
        "refresh": REFRESH if facts.live else None, "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script), "script_hash": b64encode(sha256(script.encode()).digest()).decode(),
        "results": RESULTS[facts.grain](facts) if facts.rows else None, "curves": figures.learning_curves(facts.curves),
        "worth": worth.results(facts),
        "data": _data(facts),
        "findings": _findings(facts), "shortcuts": shortcuts(facts), "plan": tables.plan_groups(facts.plan), "limits": limits.limits(facts),
        "commands": repeat.commands(facts), "environment": repeat.environment(facts.record),
        "versions": [(k, v) for k, v in (facts.record.get("versions") or {}).items() if v], "glossary": _glossary(facts),
    }  # fmt: skip


def _results(facts: Facts) -> dict[str, Any]:
    """Values of the sections that need scores of outlines."""
    columns, metric = tables.metrics(facts.rows), tables.leading(facts)
    lines, left_out = tables.case_table(facts.rows, columns, metric)
    return {
        "template": "_results.html.j2", "columns": columns, "metric": metric, "labels": numbers.labels(facts.rows), "lines": lines,
        "left_out": left_out,
        "parts": [(name, tables.results(part, columns)) for name, part in facts.parts.items()],
        "counts": tables.counts(facts.scores("model")), "groups": tables.groups(facts.scores("model"), columns),
        "strips": [(measure(m).title, strip_chart(facts, m)) for m in DRAWN if m in columns],
        "pictures": [] if facts.live else cases.pictures(facts, metric),
    }  # fmt: skip


RESULTS = {"voxel": _results, "case": classes.results, "image": images.results}
EXAMPLES = {"voxel": cases.examples, "case": classes.examples, "image": images.examples}
HEADS = {"voxel": ("label", "value in the mask", "cases with it", "share of the scan"),
         "case": ("class", "number", "training cases", "share of the cases"),
         "image": ("class", "number", "training cases", "share of the cases")}  # fmt: skip


def strip_chart(facts: Facts, metric: str) -> Markup:
    """`metric` of every case: one group per label, in it the model, the baseline and further raters."""
    people = {"model": facts.scores("model"), "baseline": facts.scores("baseline"), **facts.raters}
    how = measure(metric)
    known = {name: scores for name, scores in people.items() if scores}
    groups = [(label, [_strip(name, scores, label=label, metric=metric) for name, scores in known.items()])
              for label in numbers.labels(facts.rows)]  # fmt: skip
    worst = min((v for _, group in groups for strip in group for v in strip.values), default=0.0)
    domain = (0.0 if worst < 0.3 else 0.3 if worst < 0.5 else 0.5, 1.0) if how.share else None
    unit = how.unit(facts.unit, facts.ndim)
    title = f"{how.title} ({unit})" if unit else how.title
    return figures.strips(groups, title=title, digits=how.digits, domain=domain)


def _strip(name: str, scores: dict[str, Any], *, label: str, metric: str) -> figures.Strip:
    rows = [r for r in scores.get("rows") or [] if r["label"] == label and r.get(metric) is not None]
    entry = ((scores.get("summary") or {}).get(label) or {}).get(metric) or {}
    kind = name if name in ("model", "baseline") else "rater"
    return figures.Strip(kind, name, [r[metric] for r in rows], [str(r["case"]) for r in rows],
                         entry.get("mean"), entry.get("low"), entry.get("high"))  # fmt: skip


def _data(facts: Facts) -> dict[str, Any] | None:
    """Values of the section on the data; None where the run has no dataset.json."""
    dataset = facts.dataset
    if dataset is None:
        return None
    about = [("task", dataset.task), ("modality", dataset.modality), ("channels", numbers.listed(dataset.channels)),
             ("layout", dataset.layout), *tables.grid(facts.fingerprint)]  # fmt: skip
    return {
        "about": [(name, value) for name, value in about if value],
        "cases": len(dataset.cases), "patients": tables.patients_of(dataset.cases), "splits": tables.splits(facts),
        "why": facts.splits.get("reason") or "", "labels": tables.label_table(facts), "notes": dataset.notes,
        "metadata": tables.metadata(dataset), "examples": [] if facts.live else EXAMPLES[facts.grain](facts), "heads": HEADS[facts.grain],
    }  # fmt: skip


def _findings(facts: Facts) -> list[tuple[str, list[dict[str, Any]]]]:
    """(severity, findings), the gravest first."""
    findings = [{"severity": "note", "message": "", "remedy": "", "cases": [], **finding} for finding in facts.doctor or []]
    order = dict.fromkeys([*SEVERITIES, *(str(f["severity"]) for f in findings)])
    found = [(severity, [f for f in findings if str(f["severity"]) == severity]) for severity in order]
    return [(severity, group) for severity, group in found if group]


def _glossary(facts: Facts) -> list[tuple[str, str, str]]:
    """(word, plain words, the definition that was used), for what this report shows."""
    definitions = facts.metrics.get("definitions") or {}
    shown = dict.fromkeys([*tables.metrics(facts.rows), *definitions])
    measures = [(measure(m).title, measure(m).text, str(definitions.get(m) or "")) for m in shown]
    return [*measures, *((word, text, "") for word, text in WORDS.items())]
