"""Which training images are most like this one, to the run: exact nearest neighbours by the direction of features.

Distances are 1 - cosine of features from the training mean on: 0 for the same direction, 1 for none in common, 2 for the opposite one.
The index lies in the run folder and is made anew when the weights or the images change.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vesalius.audit.features import Rows, Tick, features_of
from vesalius.audit.probes import directions
from vesalius.core.errors import DataError, UsageError
from vesalius.core.files import write_beside
from vesalius.core.record import digest
from vesalius.core.settings import text_of
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.engine.inputs import cases_of
from vesalius.engine.run import Run
from vesalius.metrics._search import ranked

ASKED = 500  # images of which is known how far their own nearest one is
FAR = 0.95
FOLDER = "similar"


@dataclass(frozen=True, eq=False)
class Index:
    """`directions` (N, F) of unit length from `centre` (F,), names and patients (N,), and `usual`: how far images' nearest ones are."""

    key: str
    names: NDArray[np.str_]
    patients: NDArray[np.str_]
    centre: Rows
    directions: Rows
    usual: NDArray[np.float64]

    @classmethod
    def load(cls, path: Path) -> Self:
        with np.load(path, allow_pickle=False) as kept:
            return cls(str(kept["key"]), *(kept[name] for name in ("names", "patients", "centre", "directions", "usual")))

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        parts = {name: getattr(self, name) for name in ("key", "names", "patients", "centre", "directions", "usual")}

        def write(beside: Path) -> None:
            with open(beside, "wb") as file:
                np.savez(file, **parts)

        write_beside(path, write)

    def search(self, features: Rows, k: int, *, apart: str | None = None) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Distances and places of the `k` nearest to features (1, F), without images of the patient `apart`."""
        owners = None if apart is None else (np.array([apart]), self.patients)
        near, which = ranked(directions(features, self.centre), self.directions, min(k, len(self.names)), apart=owners)
        kept = which[0] >= 0
        return near[0][kept] ** 2 / 2, which[0][kept]


def indexed(run: Run, cases: Sequence[Case], *, tick: Tick = lambda done, total: None) -> Index:
    """The index of `cases` in the folder of the run, made if it is not there or older than what it is made of."""
    key = _key(run, cases)
    path = run.path / FOLDER / f"{digest(*sorted(case.name for case in cases))}.npz"
    if path.exists():
        try:
            found = Index.load(path)
        except (OSError, ValueError, KeyError):  # of another version, or damaged: it is only a cache
            found = None
        if found is not None and found.key == key:
            return found
    made = index_of(features_of(run, cases, tick=tick), cases, key=key)
    made.save(path)
    return made


def index_of(features: Rows, cases: Sequence[Case], *, key: str = "") -> Index:
    """The index of features (N, F) of `cases`."""
    centre = np.asarray(features.mean(0), np.float32)
    unit = directions(features, centre)
    names, patients = (np.array([getattr(case, word) for case in cases], str) for word in ("name", "patient"))
    some = np.sort(np.random.default_rng(0).permutation(len(cases))[:ASKED])
    near, _ = ranked(unit[some], unit, 1, apart=(patients[some], patients))
    return Index(key, names, patients, centre, unit, np.sort(near[np.isfinite(near)] ** 2 / 2))


def _key(run: Run, cases: Sequence[Case]) -> str:
    """Content key: weights, preparation, and paths, sizes and times of the images."""
    weights = [f"{path.stat().st_size}|{path.stat().st_mtime_ns}" for member in run.members
               if (path := member / "weights.safetensors").exists()]  # fmt: skip
    files = {str(path).partition("#")[0] for case in cases for path in case.images.values()}
    stats = [f"{name}|{Path(name).stat().st_size}|{Path(name).stat().st_mtime_ns}" for name in sorted(files) if Path(name).exists()]
    places = [f"{case.name}|{case.patient}|{path}" for case in cases for path in case.images.values()]
    return digest(text_of(run.plan.preparation), str(run.plan.patch.size), *weights, *stats, *places)


def searched(run: Run, data: Path | None) -> tuple[Dataset, list[Case]]:
    """What is searched: the training cases of the run, or every case of another data set, their channel named as the run knows it."""
    if data is None:
        learned = dict.fromkeys(name for fold in run.splits["folds"] for name in fold["train"])
        return run.dataset, [run.dataset.case(name) for name in learned]
    found = Dataset.open(data)
    known = list(run.plan.preparation.channels)
    if len(known) == len(found.channels) == 1:
        return found, [replace(case, images={known[0]: path}) for case in found.cases for path in case.images.values()]
    missing = [name for name in known if name not in found.channels]
    if missing:
        raise DataError(f"{data} has the channels {', '.join(found.channels)}; the run wants {', '.join(known)}.")
    return found, list(found.cases)


def similar(run: Run, image: Path, *, data: Path | None = None, k: int = 8, tick: Tick = lambda done, total: None) -> dict[str, Any]:
    """{"run", "image", "searched", "neighbours": [{"case", "patient", "label", "distance"}], "labels", "remarks"}: the `k` images
    nearest to the first one behind `image`. Where that is one of them, images of its own patient do not count."""
    if k < 1:
        raise UsageError(f"At least one neighbour is looked for; got {k}.")
    asked = cases_of(image, tuple(run.plan.preparation.channels))[:1]
    if not asked:
        raise DataError(f"{image} holds no image.")
    dataset, cases = searched(run, data)
    index = indexed(run, cases, tick=tick)
    own = _same_files(asked[0], cases)
    distances, places = index.search(features_of(run, asked), k, apart=own.patient if own else None)
    named = {case.name: case for case in cases}
    rows = [{"case": str(index.names[place]), "patient": str(index.patients[place]), "label": shown(named[str(index.names[place])]),
             "distance": float(distance)} for distance, place in zip(distances, places, strict=True)]  # fmt: skip
    return {
        "run": str(run.path), "image": str(image), "case": asked[0].name, "data": str(dataset.root), "searched": len(cases),
        "features": int(index.directions.shape[1]), "neighbours": rows,
        "labels": dict(Counter(row["label"] for row in rows if row["label"])), "remarks": _remarks(index, distances, own),
    }  # fmt: skip


def _same_files(asked: Case, cases: Sequence[Case]) -> Case | None:
    """The case of which the image that is asked about is one."""
    mine = {str(path.resolve()) for path in asked.images.values()}
    return next((case for case in cases if mine & {str(path.resolve()) for path in case.images.values()}), None)


def _remarks(index: Index, distances: NDArray[np.float64], own: Case | None) -> list[str]:
    told = []
    if own is not None:
        told.append(f"This is the image of {own.name}: images of its patient, {own.patient}, are left out.")
    elif len(distances) and distances[0] < 1e-6:
        told.append("The nearest image is the same one to the run: it may be a copy.")
    if len(distances) and len(index.usual) and distances[0] > np.quantile(index.usual, FAR):
        told.append(f"The nearest image is farther away ({distances[0]:.3f}) than the nearest of {FAR:.0%} of those that are searched "
                    f"({np.quantile(index.usual, FAR):.3f}): it may be unlike all of them.")  # fmt: skip
    return told


def shown(case: Case) -> str:
    """What a case shows as a whole, in words; "" where that is not known."""
    if case.classes is None:
        return ""
    return "; ".join(name for name, there in case.classes.items() if there == 1) or "none"
