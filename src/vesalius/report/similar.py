"""The page of a search: the image that was asked about, and those nearest to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vesalius.core.errors import VesaliusError
from vesalius.data.case import Case
from vesalius.io import load
from vesalius.report.cases import Picture
from vesalius.report.classes import view
from vesalius.report.page import write_page
from vesalius.report.pictures import Drawing, draw

CHANNELS = 4  # of a case that are drawn


def write_similar(found: dict[str, Any], asked: Case, cases: Mapping[str, Case], *, path: Path) -> Path:
    """The page of what `audit.similar` found; `cases` holds those that were searched by name."""
    scores = [(f"{row['label']}, patient {row['patient']}, distance".removeprefix(", "), row["distance"]) for row in found["neighbours"]]
    pictures = [Picture(f"{rank}.", row["case"], None, [words], "", *drawn(cases[row["case"]]))
                for rank, (row, words) in enumerate(zip(found["neighbours"], scores, strict=True), start=1)]  # fmt: skip
    return write_page(path, "similar.html.j2", kind="search by features", title=asked.name, headline=headline(found), found=found,
                      under=f"{found['searched']} images of {found['data']}, described by {found['run']}",
                      asked=Picture("", asked.name, None, [], "", *drawn(asked)), pictures=pictures)  # fmt: skip


def headline(found: Mapping[str, Any]) -> str:
    """What the nearest images show, in a sentence."""
    number = len(found["neighbours"])
    if not number:
        return "No image of another patient is there to be found."
    if not found["labels"]:
        return f"The {number} nearest images; what they show as a whole is not known."
    return f"Of the {number} nearest images " + ", ".join(f"{n} show {label}" for label, n in found["labels"].items()) + "."


def drawn(case: Case) -> tuple[tuple[Drawing, ...], str]:
    """The channels of a case (of volumes the middle slice), or the problem in words."""
    try:
        flat = [view(load(path).canonical(), channel if len(case.images) > 1 else "") for channel, path in case.images.items()]
    except (VesaliusError, OSError) as problem:
        return (), str(problem)
    return tuple(draw(one, ()) for one in flat[:CHANNELS]), ""
