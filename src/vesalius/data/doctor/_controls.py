"""Controls that a classification should pass before it is believed: the margin alone, the centre alone, shuffled labels, and the site.

All are shallow looks at thumbnails, cross-validated by patient (see _probe): what they tell is there for every network. Where the margin
of a chest film says as much as the film, a burned-in letter or the way the patient lies may be what is learned.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from vesalius.data.dataset import Dataset
from vesalius.data.doctor._finding import Finding
from vesalius.data.doctor._look import Look
from vesalius.data.doctor._probe import REGIONS, Area, cells, probed
from vesalius.data.doctor._questions import FEWEST, Questions, sampled
from vesalius.data.doctor.duplicates import SIDE

MOST = 1500  # cases that are looked at
PEOPLE = 20  # patients, below which nothing can be told
NEAR = 0.75  # of what the whole picture tells beyond chance, from which on the margin counts as telling it
LEAST = 0.55  # the lower end of the interval of the margin's area, of any of several classes
CLEARLY = 0.6  # an area below this is not worth a warning
SITES = ("site", "hospital", "centre", "center", "institution", "scanner", "manufacturer", "vendor", "device", "source", "archive")
SEVERAL = 10  # values of a site
BOUND, SURE = 0.2, 0.01  # Cramer's V and its p from which on the site goes with the class
WORDS = {"whole": "the whole picture", "margin": "its margin alone (the outer ninth)", "centre": "its centre alone"}


def controls(dataset: Dataset, asked: Questions) -> Iterator[Finding]:
    """The figures as a note, and a warning for each control that fails."""
    if dataset.labels.grain != "case":
        return
    people = len(set(asked.patients))
    if not asked.names or people < PEOPLE:
        yield Finding("controls", "note", f"Whether margin, centre or site give the class away was not looked at: {people} patients, of "
                      f"whom each class needs {FEWEST} with and without it.")  # fmt: skip
        return
    some = asked.part(sampled(asked.patients, MOST))
    thumbs = pictures(dataset, some.seen)
    found = {region: probed(cells(thumbs, region), some.targets, some.patients) for region in REGIONS}
    site, told = _sites(some, thumbs)
    rows = [{"what": WORDS[region], "tells": "the class", **numbers(one)} for region, one in found.items()]
    yield Finding("controls", "note", _sentence(found, len(some.seen)), (), "", {"rows": [*rows, *told], "cases": len(some.seen)})
    yield from _margin(found, some)
    yield from _shuffle(found["whole"])
    yield from site


def pictures(dataset: Dataset, seen: Sequence[Look]) -> NDArray[np.uint8]:
    """(N, V, 72, 72): thumbnails of all channels; those of a channel that a case lacks are black."""
    views = {c: max((one.images[c].thumbs.views for one in seen if c in one.images), default=0) for c in dataset.channels}
    black = {c: np.zeros((count, SIDE, SIDE), np.uint8) for c, count in views.items()}
    return np.stack([np.concatenate([one.images[c].thumbs.array if c in one.images and one.images[c].thumbs.views == views[c] else black[c]
                                     for c in dataset.channels]) for one in seen])  # fmt: skip


def numbers(one: Area) -> dict[str, Any]:
    """Plain JSON."""
    middle, low, high = one.chance
    return {"auc": one.auc, "low": one.low, "high": one.high, "shuffled": middle, "shuffled_low": low, "shuffled_high": high}


def words(one: Area) -> str:
    """'.93 (.90 to .95)'."""
    return f"{one.auc:.2f} ({one.low:.2f} to {one.high:.2f})"


def _sentence(found: dict[str, Area], cases: int) -> str:
    middle, low, high = found["whole"].chance
    told = ", ".join(f"{WORDS[region]} {words(one)}" for region, one in found.items())
    return (f"A shallow look at {cases} thumbnails tells the class with an area under the curve of: {told}; with shuffled labels "
            f"{middle:.2f} ({low:.2f} to {high:.2f}).")  # fmt: skip


def _margin(found: dict[str, Area], asked: Questions) -> Iterator[Finding]:
    """Of some class the margin tells what the whole picture tells, or nearly."""
    pairs = zip(asked.names, found["margin"].each, found["whole"].each, strict=True)
    told = {name: (margin, whole) for name, margin, whole in pairs if _nearly(margin, whole)}
    if told:
        figures = "; ".join(f"{name} with an area of {words(margin)}, the whole picture with {words(whole)}"
                            for name, (margin, whole) in told.items())  # fmt: skip
        yield Finding("margin", "warning", f"The label can be read from the margin: the outer ninth of the pictures alone tells {figures}.",
                      (), "Look at shortcuts.png (vesalius inspect DATA -o FOLDER): is there a letter, a frame, a table, or another "
                      "position of the patient? Crop or cover it, or show with a test part from elsewhere that it does not matter.",
                      {"margins": examples(asked), "classes": {name: numbers(margin) for name, (margin, _) in told.items()}})  # fmt: skip


def _nearly(margin: Area, whole: Area) -> bool:
    """Whether the margin clearly tells a class, and nearly as well as the whole picture."""
    clear = margin.low > LEAST and margin.auc > max(CLEARLY, margin.chance[2])
    return clear and margin.auc - 0.5 >= NEAR * (whole.auc - 0.5)


def _shuffle(whole: Area) -> Iterator[Finding]:
    """Shuffled labels must tell nothing. (On few patients they are told a little worse than by chance: those that are left out lack what
    those that are learned from have too much of.)"""
    middle, low, high = whole.chance
    if low > 0.5:
        yield Finding("shuffle", "warning", f"Shuffled labels are told with an area of {middle:.2f} ({low:.2f} to {high:.2f}), which "
                      "should be 0.5: cases that count as independent are not.", (),
                      "Say who the patient is (--patient REGEX), and look for copies.")  # fmt: skip


def examples(asked: Questions, each: int = 4) -> dict[str, list[str]]:
    """Names of a few cases of each question, and of none."""
    found = {name: [one.case.name for one, row in zip(asked.seen, asked.targets, strict=True) if row[k] == 1][:each]
             for k, name in enumerate(asked.names)}  # fmt: skip
    rest = [one.case.name for one, row in zip(asked.seen, asked.targets, strict=True) if not (row == 1).any()][:each]
    return found | ({"none of these": rest} if rest else {})


def _sites(asked: Questions, thumbs: NDArray[np.uint8]) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings, and a row of figures, for each word that says where a case comes from."""
    findings, rows = [], []
    for key in SITES:
        values = [str(one.case.metadata.get(key) or (one.picture.words.get(key, "") if one.picture else "")) for one in asked.seen]
        counts = Counter(value for value, _ in set(zip(values, asked.patients, strict=True)))
        if not 2 <= len(counts) <= SEVERAL or min(counts.values()) < FEWEST or "" in counts:
            continue
        hot = np.array([[float(value == one) for one in sorted(counts)] for value in values])[:, len(counts) == 2 :]
        found, bound, p = probed(cells(thumbs, "whole"), hot, asked.patients), *association(values, asked)
        rows.append({"what": WORDS["whole"], "tells": key, **numbers(found), "v": bound, "p": p})
        if found.low > 0.5 and found.auc > CLEARLY and bound >= BOUND and p < SURE:
            message = (f"The picture tells the {key} with an area of {words(found)}, and the {key} goes with the class (Cramér's V "
                       f"{bound:.2f}): what looks like the class may be the {key}.")  # fmt: skip
            remedy = f"Balance the classes within each {key}, or test on one that was not learned from; --by {key} shows each one's scores."
            findings.append(Finding("site", "warning", message, (), remedy, {"key": key, "v": bound, "p": p}))
    return findings, rows


def association(values: Sequence[str], asked: Questions) -> tuple[float, float]:
    """Cramér's V, corrected for chance (Bergsma 2013, J. Korean Stat. Soc. 42), and p of the chi-squared test, of values and classes over
    patients; of several findings that of the one that goes with the values most, p times their number."""
    one_of = bool(len(asked.names) > 1 and not np.isnan(asked.targets).any() and (asked.targets.sum(1) <= 1).all())
    first = np.unique(np.asarray(asked.patients, str), return_index=True)[1]
    labels = asked.targets[first]
    kinds = [np.where(labels.any(1), labels.argmax(1), -1)] if one_of else list(labels.T)
    told = [cramer([values[k] for k, there in zip(first, kind == kind, strict=True) if there], kind[kind == kind]) for kind in kinds]
    best = max(told)
    return best[0], min(1.0, best[1] * len(told))


def cramer(values: Sequence[str], kinds: NDArray[Any]) -> tuple[float, float]:
    """V in 0..1 and p of a table of two categories."""
    rows, columns = (np.unique(np.asarray(part), return_inverse=True)[1] for part in (values, kinds))
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    (r, c), n = table.shape, table.sum()
    if min(r, c) < 2 or n < 2:
        return 0.0, 1.0
    expected = table.sum(1, keepdims=True) * table.sum(0) / n
    statistic = float(((table - expected) ** 2 / expected).sum())
    phi = max(0.0, statistic / n - (r - 1) * (c - 1) / (n - 1))
    wide = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(phi / wide)) if wide > 0 else 0.0, float(chdtrc((r - 1) * (c - 1), statistic))
