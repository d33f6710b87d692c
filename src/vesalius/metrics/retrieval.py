"""Does a search by features find images that show the same? Precision among the nearest images of other patients.

Manning, Raghavan & Schuetze 2008, Introduction to Information Retrieval, 8.4: the share of the first k answers that are relevant,
meaned over queries. Relevant is an image of the same class; of findings, one that shares a finding, or has none either. Images of the
query's own patient are never answers: they are found by the anatomy of one person.
"""

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.metrics._search import Described, alike, known, ranked

CARD = Card(
    entry="retrieval", title="Retrieval precision", tasks=("pretrain",),
    summary="Share of the images found nearest, of other patients, that show the same as the query.",
    paper="Manning, Raghavan & Schuetze 2008, Introduction to Information Retrieval",
    facts={
        "precision_at_1": {"definition": "share of queries whose nearest image of another patient shows the same", "better": "high"},
        "precision_at_5": {"definition": "share of the 5 nearest that show the same, mean over queries", "better": "high"},
        "precision_at_10": {"definition": "share of the 10 nearest that show the same, mean over queries", "better": "high"},
        "by_chance": {"definition": "share of all images of other patients that show the same, mean over queries", "better": "none"},
    },
)  # fmt: skip

AT = (1, 5, 10)


def retrieval(queries: Described, gallery: Described | None = None) -> dict[str, float]:
    """precision_at_1, _5, _10 and by_chance of `queries` searched for in `gallery`, by default among themselves; NaN where undefined."""
    found = {f"precision_at_{k}": precisions(queries, gallery, k=k) for k in AT} | {"by_chance": by_chance(queries, gallery)}
    return {name: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan") for name, values in found.items()}


def precisions(queries: Described, gallery: Described | None = None, *, k: int) -> NDArray[np.float64]:
    """(Q,) share of the `k` nearest images of other patients that show the same; of all there are, where they are fewer. NaN for a query
    of which nothing is known, or that has no other patient beside it."""
    places = _labelled(gallery or queries)
    _, which = ranked(queries.features, places.features, k, apart=(queries.patients, places.patients))
    there = which >= 0
    same = alike(queries.labels[:, None], places.labels[which], findings=queries.labels.ndim == 2) & there
    with np.errstate(invalid="ignore"):
        share = same.sum(1) / there.sum(1)
    return np.where(known(queries.labels), share, np.nan)


def by_chance(queries: Described, gallery: Described | None = None) -> NDArray[np.float64]:
    """(Q,) the precision of an order drawn at random."""
    places = _labelled(gallery or queries)
    found = np.full(len(queries.labels), np.nan)
    for number in np.flatnonzero(known(queries.labels)):
        others = places.patients != queries.patients[number]
        if others.any():
            found[number] = alike(queries.labels[number], places.labels[others], findings=queries.labels.ndim == 2).mean()
    return found


def _labelled(places: Described) -> Described:
    """The images of which something is known."""
    kept = known(places.labels)
    return Described(places.features[kept], places.labels[kept], places.patients[kept])

