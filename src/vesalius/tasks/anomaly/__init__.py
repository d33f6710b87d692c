"""Finding what is strange: learn from normal images alone, and say of others how unlike them they are, and where.

The threshold is a quantile of the scores of normal validation images (Baur et al. 2021, Medical Image Analysis 69, choose it so too);
distances in raw pixels stand beside, because a method that they beat has learned nothing worth having. They are those of one preparation
of the data, whatever the method's own, so that runs of several methods can be laid beside each other (decision 013).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.core.errors import UsageError, VesaliusError, suggest
from vesalius.core.files import write_beside
from vesalius.core.space import Array
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.split import Split
from vesalius.metrics import METRICS
from vesalius.metrics._answers import Binary
from vesalius.metrics._delong import area, delong, interval
from vesalius.metrics._heat import Heat
from vesalius.metrics.discrimination import average_precision
from vesalius.tasks import Images, ImageTask, Index, Judged, Learned, Table
from vesalius.tasks.anomaly.normals import normal_names, parted, truth_of
from vesalius.tasks.anomaly.pixels import Pixels, abnormal, cut

CARD = Card(entry="Anomaly", title="Anomaly detection", summary="Learn from normal images alone and find what is unlike them.",
            paper="Baur et al. 2021, Medical Image Analysis 69, 101952", tasks=("anomaly",))  # fmt: skip

QUANTILE = 0.95  # of normal validation images lie below the threshold
HOT = 99.0, 2.0  # the brightest colour is so many times that percentile of the heat over normal validation images
WORDS = {1.0: "abnormal", 0.0: "normal"}
PIXEL_METRICS = ("pixel_ranking", "aupro", "best_dice")
FEW_PIXELS = 4_000_000  # beyond, evenly chosen images are measured pixel by pixel
SHOWN = 4  # images of a kind in the gallery
Floats = NDArray[np.float64]


class Anomaly(ImageTask):
    """Rows are images with their score. Beside the model stand the distance to the nearest training image in raw pixels (the baseline),
    that to the mean image in deviations of each pixel, and what is left over beside principal components."""

    leading = ("auc", "average_precision", "sensitivity", "specificity")
    serves = ("anomaly",)
    method = "autoencoder"
    compares = True

    def definitions(self, unit: str) -> dict[str, str]:
        return {
            "auc": "Chance that an abnormal image is stranger than a normal one, ties half.",
            "average_precision": "Precision of 'abnormal' meaned over the steps of recall; by chance it is the share of abnormal images.",
            "sensitivity": "Share of abnormal images above the threshold, a quantile of the scores of normal validation images.",
            "specificity": "Share of normal images not above that threshold.",
            "strangeness": "The method's score; only differences mean something.",
        }

    def checked(self, dataset: Dataset) -> None:
        """Some class must be normal."""
        normal_names(dataset.labels, dataset.metadata)

    def parted(self, dataset: Dataset, split: Split) -> tuple[Split, str]:
        return parted(dataset, split)

    def ruled(self, rules: Mapping[str, Any]) -> None:
        """`quantile`: of normal validation images that lie below the threshold; `normal`: classes, as --normal says."""
        if unknown := [name for name in rules if name not in ("quantile", "normal")]:
            raise UsageError(suggest(unknown[0], ["quantile", "normal"], "setting in train.rules"))
        wanted = rules.get("quantile", QUANTILE)
        if not isinstance(wanted, int | float) or not 0 < wanted < 1:
            raise UsageError(f"train.rules.quantile is a part of the normal validation images, between 0 and 1; got {wanted!r}.")

    def quick_score(self, answer: Array, truth: Array, labels: Labels) -> float:
        """Area under the ROC curve of scores (N,) for truth (N,) of 1 abnormal and 0 normal; one half where one of them is absent."""
        found = area(np.asarray(answer, float), np.asarray(truth) == 1)
        return 0.5 if np.isnan(found) else found

    def look(self, method: Learned, images: Images) -> float | None:
        """The area where both kinds are known by their class; else how well images are given back."""
        truth = truth_of(images.cases, images.labels, images.about) if images.labels.grain == "case" else np.zeros(0)
        if {0.0, 1.0} <= set(truth.tolist()):
            known = np.isfinite(truth)
            try:
                return self.quick_score(images.told(method.score)[known], truth[known], images.labels)
            except VesaliusError:  # some have no score before learning is over
                return None
        return None

    def calibrate(self, method: Learned, seen: Images, *, trained: Images, rules: Mapping[str, Any]) -> dict[str, Any]:
        """The quantile, thresholds by who scores, the scores of the normal images that they come from, and the hottest colour."""
        self.ruled(rules)
        truth = truth_of(seen.cases, seen.labels, seen.about)
        chosen = np.flatnonzero(truth == 0) if (truth == 0).any() else np.flatnonzero(np.isnan(truth))
        normal, where = (seen.chosen(chosen), "validation") if len(chosen) else (trained, "training")
        quantile = float(rules.get("quantile", QUANTILE))
        scores = everyone(method, normal, Pixels(trained.as_compared))
        heat = self.heat(method, normal)
        hottest = None if heat is None else float(HOT[1] * np.percentile(heat, HOT[0]))
        return {
            "quantile": quantile, "images": len(normal), "from": where, "hottest": hottest,
            "thresholds": {who: float(np.quantile(found, quantile)) for who, found in scores.items()},
            "normal": np.sort(scores["model"]).tolist(),
        }  # fmt: skip

    def seconds(self, cases: int, each: float) -> float:
        """Scores and maps, of validation images twice, once for what is set on them."""
        return 4 * cases * each + 5.0

    def judge(self, method: Learned, seen: Images, *, trained: Images, calibration: Mapping[str, Any], folder: Path) -> Judged:
        truth = truth_of(seen.cases, seen.labels, seen.about)
        scores, limits = everyone(method, seen, Pixels(trained.as_compared)), calibration.get("thresholds", {})
        rows = {who: _rows(seen, found, truth, limit=limits.get(who)) for who, found in scores.items()}

        def measure(who: str, index: Index) -> Table:
            return {"all": measures(scores[who][index], truth[index], limits.get(who))}

        maps = self.heat(method, seen)
        more: dict[str, Any] = {"areas": areas(scores, truth, seen.patients), "pixels": pixels(maps, seen)}
        if maps is not None:
            keep_gallery(folder, seen, maps[:, 0], roles=gallery(rows["model"]))
        return Judged(rows, measure, more)

    def answers(self, method: Learned, images: Images, calibration: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Score, the share of normal validation images that are less strange, and the verdict by the threshold."""
        normal, limit = np.asarray(calibration.get("normal", ())), calibration.get("thresholds", {}).get("model")
        rows = []
        for name, score in zip(images.names, images.told(method.score).astype(float), strict=True):
            rank = float(np.searchsorted(normal, score) / len(normal)) if len(normal) else None
            row = {"case": name, "said": _said(score, limit), "score": float(score), "threshold": limit}
            rows.append({**row, "less_strange_normals": rank})
        return rows

    def heat(self, method: Learned, images: Images) -> NDArray[np.float32] | None:
        """(N, 1, *S); None where the method cannot tell places apart."""
        if not len(images):
            return None
        try:
            found = images.told(method.anomaly_map)
        except VesaliusError:
            return None
        return found if found.shape[2:] == images.pixels[0].shape[1:] else None


def everyone(method: Learned, images: Images, beside: Pixels) -> dict[str, Floats]:
    """(N,) scores by who gives them."""
    said = np.asarray(images.told(method.score), np.float64)
    plain = images.as_compared
    return {"model": said, "baseline": beside.to_nearest(plain), "mean image": beside.to_mean(plain),
            "principal components": beside.left_over(plain)}  # fmt: skip


def _said(score: float, limit: float | None) -> str:
    return "" if limit is None else WORDS[float(score > limit)]


def _rows(seen: Images, scores: Floats, truth: Floats, *, limit: float | None) -> list[dict[str, Any]]:
    """A row for each image, with what it is and what is said, where these are known."""
    made = []
    for case, score, known in zip(seen.cases, scores, truth, strict=True):
        is_, said = WORDS.get(known, "unknown"), _said(score, limit)
        state = {} if is_ == "unknown" or not said else {"state": "right" if said == is_ else "wrong"}
        what = {"case": case.name, "patient": case.patient, "label": is_, "truth": is_, "said": said}
        made.append({**what, "strangeness": float(score), **state})
    return made


def measures(scores: Floats, truth: Floats, limit: float | None) -> dict[str, float]:
    """Area, average precision, and what the threshold does; NaN where one kind is absent, or no threshold is set."""
    known = np.isfinite(truth)
    score, there = scores[known], truth[known] == 1
    said = np.full(len(score), np.nan) if limit is None else (score > limit).astype(float)
    problem = Binary(score, there, there, np.arange(len(score)))
    return {"auc": area(score, there), "average_precision": average_precision(problem),
            "sensitivity": _mean(said[there]), "specificity": _mean(1 - said[~there]), "strangeness": _mean(scores)}  # fmt: skip


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def areas(scores: Mapping[str, Floats], truth: Floats, patients: Sequence[str]) -> dict[str, Any] | None:
    """{who: {"area", "low", "high"}} with the intervals of DeLong; None where one kind is absent."""
    known = np.isfinite(truth)
    if not {0.0, 1.0} <= set(truth[known].tolist()):
        return None
    found = delong(np.stack([one[known] for one in scores.values()]), truth[known] == 1, patients=np.asarray(patients)[known])
    ends = [interval(found, model=k) for k in range(len(scores))]
    return {who: {"area": float(found.area[k]), "low": ends[k][0], "high": ends[k][1]} for k, who in enumerate(scores)}


def pixels(maps: NDArray[np.float32] | None, seen: Images) -> dict[str, Any] | None:
    """Measures pixel by pixel on the network's grid, of images with a mask; None where there is none that marks anything."""
    if maps is None or seen.how is None:
        return None
    step = max(1, -(-maps.size // FEW_PIXELS))
    size = maps.shape[2:]
    pairs = [(maps[k, 0], mask) for k in range(0, len(seen), step)
             if (mask := abnormal(seen.cases[k], seen.labels, seen.how, size=size)) is not None]  # fmt: skip
    if not any(mask.any() for _, mask in pairs):
        return None
    heat = Heat.of([one for one, _ in pairs], [mask for _, mask in pairs])
    return {name: float(value) for metric in PIXEL_METRICS for name, value in METRICS[metric](heat).items()} | {"images": len(pairs)}


def gallery(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """{case: role}: the strangest normal images, the least strange abnormal ones, and typical ones of both."""
    order = sorted(rows, key=lambda row: cast(float, row["strangeness"]))
    of = {kind: [str(row["case"]) for row in order if row["truth"] == kind] for kind in ("normal", "abnormal", "unknown")}
    middle = {kind: names[max(0, len(names) // 2 - 1) : len(names) // 2 + 1] for kind, names in of.items()}
    roles = [("most strange normal", of["normal"][::-1][:SHOWN]), ("least strange abnormal", of["abnormal"][:SHOWN]),
             ("typical abnormal", middle["abnormal"]), ("typical normal", middle["normal"]),
             ("most strange", of["unknown"][::-1][:SHOWN]), ("typical", middle["unknown"])]  # fmt: skip
    made: dict[str, str] = {}
    for role, names in roles:
        for name in names:
            made.setdefault(name, role)
    return made


def keep_gallery(folder: Path, seen: Images, maps: NDArray[np.float32], *, roles: Mapping[str, str]) -> None:
    """gallery.npz in `folder`: "role/case" -> (2 or 3, rows, columns), picture, heat, and what the mask marks, for the report."""
    number, flat = {name: k for k, name in enumerate(seen.names)}, {}
    for name, role in roles.items():
        k = number[name]
        mask = abnormal(seen.cases[k], seen.labels, seen.how, size=maps.shape[1:]) if seen.how else None
        flat[f"{role}/{name}"] = cut(seen.pixels[k], maps[k], mask)
    folder.mkdir(parents=True, exist_ok=True)

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{key: one.astype(np.float32) for key, one in flat.items()})

    write_beside(folder / "gallery.npz", write)
