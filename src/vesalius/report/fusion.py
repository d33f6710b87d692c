"""Writes `fusion.html`: the fusions side by side, each score with its interval drawn, in one file that asks nothing of the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from vesalius.core.files import read_json, write_text
from vesalius.report.numbers import DASH, duration, number

TEMPLATES = Path(__file__).parent / "templates"
TITLES = {"auc": "AUC", "balanced_accuracy": "Balanced accuracy"}
WIDE, HIGH = 200, 18  # pixels of a drawn interval


def write(folder: Path | str) -> Path:
    """Write `fusion.html` beside the `fusion.json` in `folder`, and give its path."""
    path = Path(folder) / "fusion.html"
    write_text(path, str(page(read_json(Path(folder) / "fusion.json"))))
    return path


def page(found: Mapping[str, Any]) -> Markup:
    """The page of what fusion.json holds."""
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    columns = ("fusion", "network", *TITLES.values(), "weights", "steps", "time")
    heads = Markup("").join(Markup("<th>{}</th>").format(word) for word in columns)
    body = Markup("\n").join(map(line, found["rows"]))
    said = Markup("").join(Markup("<p>{}</p>").format(text) for text in found["words"] if text)
    each = f", each within {duration(found['budget_seconds'])}" if found["budget_seconds"] else ""
    cases = found["rows"][0]["cases"] if found["rows"] else 0
    lead = f"Trained on the same cases{each}; scored on {cases} {found['part']} cases, with 95 % intervals by patient."
    return Markup(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<title>Fusion</title><style>{}</style></head><body><main><h1>Ways to put the channels together</h1><p class=\"lead\">{}</p>"
        '<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>{}</main></body></html>\n'
    ).format(style, lead, heads, body, said)


def line(row: Mapping[str, Any]) -> Markup:
    """One row of the table; the name leads to the report of its run."""
    scores = Markup("").join(Markup("<td>{}</td>").format(score(row[measure])) for measure in TITLES)
    what = ", ".join(f"{name} {value}" for name, value in row["arguments"].items())
    time = duration(row["seconds"]) if row["seconds"] is not None else DASH
    return Markup('<tr><th scope="row"><a href="{}/report.html">{}</a></th><td>{}<br><small>{}</small></td>{}<td class="n">{}</td>'
                  '<td class="n">{}</td><td class="n">{}</td></tr>').format(
        row["run"], row["fusion"], row["net"], what, scores, f"{row['parameters'] / 1e6:.2f} M", row["steps"], time)  # fmt: skip


def score(cell: Mapping[str, Any]) -> Markup:
    """A mean with its interval, in numbers and drawn from 0 to 1."""
    if cell["mean"] is None:
        return escape(DASH)
    mean = cell["mean"]
    low, high = (cell[end] if cell[end] is not None else mean for end in ("low", "high"))
    drawn = Markup('<svg width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" aria-label="{m}, {a} to {b}">'
                   '<line x1="0" x2="{w}" y1="{y}" y2="{y}" stroke="var(--rule)"/>'
                   '<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y}" y2="{y}" stroke="var(--model)" stroke-width="4"/>'
                   '<circle cx="{x:.1f}" cy="{y}" r="5" fill="var(--model)"/></svg>')  # fmt: skip
    said = {"m": number(mean), "a": number(low), "b": number(high)}
    svg = drawn.format(w=WIDE, h=HIGH, y=HIGH // 2, x=mean * WIDE, x1=low * WIDE, x2=high * WIDE, **said)
    return Markup("<b>{}</b> <small>{} to {}</small><br>{}").format(number(mean), number(low), number(high), svg)
