"""What the report shows of images that a model makes: how near they come to real ones, whether any is a copy, and how they look."""

from typing import Any

from markupsafe import Markup

from vesalius.report import tables
from vesalius.report.facts import Facts
from vesalius.report.numbers import interval, number
from vesalius.report.pictures import embedded

LARGEST = 900  # columns of a sheet on the page
ENLARGED = 4  # times, at most, that a small sheet grows
WHO = {"model": "made by the model", "baseline": "made by the shallow opponent",
       "possible": "training images, as if made: what is possible"}  # fmt: skip


def results(facts: Facts) -> dict[str, Any]:
    """Values of the sections that need scores."""
    summary = facts.scores("model")["summary"]
    columns = list(dict.fromkeys(name for row in summary.values() for name in row if name != "counts"))
    part = facts.parts[facts.part]
    return {
        "template": "_generate.html.j2", "columns": columns, "metric": tables.leading(facts),
        "parts": [(name, tables.results(part, columns)) for name, part in facts.parts.items()],
        "groups": tables.groups(facts.scores("model"), columns), "sets": sets(part.get("made") or {}), "number": part.get("number"),
        "features": part.get("features"), "copies": copies(part.get("copies") or {}), "sheets": sheets(facts, part.get("pictures") or []),
    }  # fmt: skip


def sets(made: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """(who, KID with its interval, precision, recall, density, coverage, FID) for each set beside the real images."""
    return [(WHO.get(who, who), cells(found)) for who, found in made.items()]


def cells(found: dict[str, Any]) -> list[str]:
    """One line of the table of sets."""
    spread = interval(found.get("kid_low"), found.get("kid_high"), 3, sign=True)
    kid = number(found["kid"], 3) if found.get("kid") is not None else ""
    fid = found.get("fid")
    rest = [number(found[name], 2) if found.get(name) is not None else "" for name in ("precision", "recall", "density", "coverage")]
    return [f"{kid} ({spread})" if spread else kid, *rest, number(fid, 2) if isinstance(fid, float) else str(fid or "")]


def copies(found: dict[str, Any]) -> dict[str, Any]:
    """What the check for copies says, as lines and words."""
    if "near_copies" not in found:
        return {"verdict": found.get("verdict", ""), "lines": []}
    lines = [("near copies (0.01 without copying)", f"{number(found['near_copies'], 3)}, {found.get('flagged', 0)} images"),
             ("closer to training than held-out images are (0.5)", number(found["closer"], 2)),
             ("chance of so many close ones without copying", number(found["p_copied"], 3)),
             ("authentic, made and held-out", f"{number(found['authentic'], 2)}, {number(found['authentic_held_out'], 2)}")]  # fmt: skip
    return {"verdict": found["verdict"], "copied": found.get("copied", False), "lines": lines}


def sheets(facts: Facts, pictures: list[dict[str, str]]) -> list[tuple[Markup, str]]:
    """(picture, words) of every sheet that is in the run folder."""
    found = []
    for one in pictures:
        path = facts.folder / "predictions" / facts.part / one["file"]
        if path.is_file():
            found.append((picture(path), one["words"]))
    return found


def picture(path: Any) -> Markup:
    """The sheet at `path` as an element of the page, small ones enlarged without smoothing being mistaken for detail."""
    from vesalius.io import load

    grey = load(path).array[0]
    rows, columns = grey.shape
    scale = min(ENLARGED, LARGEST / columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return Markup('<img alt="" style="max-width:100%;height:auto" width="{}" height="{}" src="{}">').format(*size, embedded(grey, size))
