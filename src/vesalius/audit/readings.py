"""What labels tell of several sets of features of the same images: probes, retrieval, agreement of groups; each with its interval, and
the differences of the first set to every other, paired by patient.

Areas and their differences by DeLong (1988), cases of a patient taken together; everything else by a bootstrap over test patients.
"""

from collections.abc import Mapping
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.audit import rivals
from vesalius.audit.compare import delong_test
from vesalius.audit.probes import Parts, directions, linear_probe, neighbour_probe
from vesalius.data.labels import Labels
from vesalius.metrics._bootstrap import bootstrap
from vesalius.metrics._delong import interval, macro_area
from vesalius.metrics._search import Described
from vesalius.metrics.clusters import clusters
from vesalius.metrics.retrieval import AT, by_chance, precisions

MOST_QUERIES = 2000
PROBES = {"linear_probe": linear_probe, "neighbour_probe": neighbour_probe}
TITLES = {
    "linear_probe": "linear probe, AUC", "neighbour_probe": "votes of neighbours, AUC",
    **{f"precision_at_{k}": "class of the nearest image" if k == 1 else f"precision among the {k} nearest" for k in AT},
    "nmi": "groups against classes (NMI)", "ari": "groups against classes (ARI)",
}  # fmt: skip
Cell = dict[str, float | None]
Floats = NDArray[np.float64]


def readings(tables: Mapping[str, Parts], labels: Labels, *, seed: int = 0, draws: int = 1000) -> dict[str, Any]:
    """{"measures": {measure: {who: {"value", "low", "high"}}}, "differences": {measure: {rival: {"difference", "low", "high"}}}, "chosen",
    "by_chance", "remarks"}; the first of `tables` is compared with the others. All hold the same cases in the same order."""
    own, *others = tables
    found: dict[str, Any] = {"measures": {}, "differences": {}, "chosen": {}, "by_chance": {}, "remarks": []}
    for name, probe in PROBES.items():
        probed = {who: probe(parts, labels) for who, parts in tables.items()}
        areas = {who: macro_area(one.answers) for who, one in probed.items()}
        found["measures"][name] = {who: _cell(float(area.area[0]), *interval(area)) for who, area in areas.items()}
        gaps = {who: delong_test(probed[own].answers, probed[who].answers) for who in others}
        found["differences"][name] = {who: _gap(gap.difference, gap.low, gap.high) for who, gap in gaps.items()}
        found["chosen"][name] = {who: one.chosen for who, one in probed.items()}
    more = _drawn(tables, labels, seed=seed, draws=draws)
    for part in ("measures", "differences", "by_chance"):
        found[part] |= more[part]
    if not labels.one_of:
        found["remarks"].append("Findings may come together, so that groups are not compared with classes.")
    return found


def _cell(value: float, low: float, high: float) -> Cell:
    return {name: None if isnan(x) else x for name, x in (("value", value), ("low", low), ("high", high))}


def _gap(value: float, low: float, high: float) -> Cell:
    return {"difference": _cell(value, low, high)["value"], **{name: x for name, x in _cell(value, low, high).items() if name != "value"}}


def _drawn(tables: Mapping[str, Parts], labels: Labels, *, seed: int, draws: int) -> dict[str, Any]:
    """Retrieval and groups: everything that is a mean or a count over test cases."""
    own, *others = tables
    test = tables[own].test
    some = np.sort(np.random.default_rng(seed).permutation(len(test.targets))[:MOST_QUERIES])
    precise = {who: _precisions(parts, some, labels) for who, parts in tables.items()}
    grouped = {who: _groups(parts, labels, seed)[some] for who, parts in tables.items()} if labels.one_of else {}
    truth = test.targets[some, 0]
    names = [*(f"precision_at_{k}" for k in AT), *(("nmi", "ari") if grouped else ())]

    def values(who: str, rows: NDArray[np.intp]) -> Floats:
        means = _means(precise[who][rows])
        return np.array([*means, *(clusters(truth[rows], grouped[who][rows]).values() if grouped else ())])

    def everything(rows: NDArray[np.intp]) -> Floats:
        each = {who: values(who, rows) for who in tables}
        return np.concatenate([*each.values(), *(each[own] - each[who] for who in others)])

    drawn = bootstrap(everything, test.patients[some], draws=draws, seed=seed)
    cells = np.stack([drawn.value, drawn.low, drawn.high], 1).reshape(-1, len(names), 3)
    chance = float(np.nanmean(by_chance(*_described(tables[own], some, labels, directed=False)))) if len(some) else float("nan")
    return {
        "measures": {name: {who: _cell(*cells[t, m]) for t, who in enumerate(tables)} for m, name in enumerate(names)},
        "differences": {name: {who: _gap(*cells[len(tables) + t, m]) for t, who in enumerate(others)} for m, name in enumerate(names)},
        "by_chance": {f"precision_at_{k}": chance for k in AT},
    }  # fmt: skip


def _means(table: Floats) -> list[float]:
    """Of each column what is defined, NaN where nothing is."""
    return [float(column[~np.isnan(column)].mean()) if (~np.isnan(column)).any() else float("nan") for column in table.T]


def _described(parts: Parts, some: NDArray[np.intp], labels: Labels, *, directed: bool = True) -> tuple[Described, Described]:
    """Test cases as queries and training cases as what is searched, by the directions of their features from the training mean."""
    centre = parts.train.features.mean(0)
    made = []
    for told in (parts.test.take(some), parts.train):
        rows = directions(told.features, centre) if directed else told.features
        made.append(Described(rows, told.targets[:, 0] if labels.one_of else told.targets, told.patients))
    return made[0], made[1]


def _precisions(parts: Parts, some: NDArray[np.intp], labels: Labels) -> Floats:
    """(queries, one per k)."""
    queries, gallery = _described(parts, some, labels)
    return np.stack([precisions(queries, gallery, k=k) for k in AT], 1)


def _groups(parts: Parts, labels: Labels, seed: int) -> NDArray[np.intp]:
    """(N,) groups of the test cases, as many as classes, found in the training cases without their labels."""
    centre = parts.train.features.mean(0)
    found = rivals.centres(directions(parts.train.features, centre), len(labels.names), seed=seed)
    return rivals.groups(directions(parts.test.features, centre), found)
