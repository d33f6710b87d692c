"""Pictures of what a method without labels has learned, as arrays that a report draws: neighbours, images given back, samples, filters, and
a map of the features on their first two principal components."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vesalius.audit import rivals
from vesalius.audit.probes import directions
from vesalius.audit.worth import Cohort, Part
from vesalius.core.errors import VesaliusError
from vesalius.data.labels import IGNORE, Labels
from vesalius.methods._unlabelled import Unlabelled
from vesalius.metrics._search import ranked

QUERIES, NEAREST, BACK, SAMPLES, FILTERS, POINTS = 4, 5, 6, 8, 24, 600
SWEEPS = 200  # of a machine's chains, for samples
Arrays = dict[str, NDArray[np.float32]]


def shown(method: Unlabelled, cohort: Cohort, features: Mapping[str, NDArray[np.float32]]) -> tuple[Arrays, dict[str, Any]]:
    """Flat pictures (..., rows, columns) by name, and the words beside them. `cohort.test` holds what is looked at."""
    arrays, words = neighbours(cohort, features)
    image = torch.from_numpy(np.ascontiguousarray(cohort.test.images[spaced(len(cohort.test), BACK)], np.float32)).to(method.step.device)
    with torch.no_grad():
        back = method.infer(image)
        if back.shape == image.shape:
            arrays |= {"given": flat(image.cpu().numpy()), "back": flat(back.float().cpu().numpy())}
        if (made := samples(method)) is not None:
            arrays["samples"] = flat(made.float().cpu().numpy())
        if callable(filters := getattr(method, "filters", None)) and (weights := filters()).shape[1:] == method.shape:
            arrays["filters"] = flat(strongest(weights.float().cpu().numpy()))
    return arrays, {**words, "map": mapped(cohort, features)}


def flat(images: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, rows, columns): the first channel of (N, C, *S); of volumes the middle slice of the last axis, the patient's right at left."""
    first = np.asarray(images[:, 0], np.float32)
    return first if first.ndim == 3 else np.asarray(first[..., first.shape[-1] // 2][..., ::-1, ::-1].swapaxes(-1, -2))


def spaced(number: int, most: int) -> NDArray[np.intp]:
    """At most `most` places out of `number`, evenly."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(np.intp))


def neighbours(cohort: Cohort, features: Mapping[str, NDArray[np.float32]]) -> tuple[Arrays, dict[str, Any]]:
    """Some test images, of every class in turn, and the training images of other patients nearest to them."""
    test, train = cohort.test, cohort.train
    some = of_each(words_of(test, cohort.labels), QUERIES)
    centre = features["train"].mean(0)
    k = min(NEAREST, len(train))
    near, which = ranked(directions(features["test"][some], centre), directions(features["train"], centre), k,
                         apart=(test.patients[some], train.patients))  # fmt: skip
    found = flat(train.images[which.clip(0).ravel()]).reshape(len(some), k, *flat(train.images[:1]).shape[1:])
    asked, there = words_of(test, cohort.labels), words_of(train, cohort.labels)
    rows = []
    for row, q in enumerate(some):
        nearest = [{"case": train.names[w], "shows": there[w], "distance": float(d) ** 2 / 2}
                   for d, w in zip(near[row], which[row], strict=True) if w >= 0]  # fmt: skip
        rows.append({"case": test.names[q], "shows": asked[q], "nearest": nearest})
    return {"asked": flat(test.images[some]), "found": found}, {"neighbours": rows}


def words_of(part: Part, labels: Labels | None) -> list[str]:
    """What each image shows; "" where that is not known."""
    if part.targets is None or labels is None:
        return [""] * len(part)
    if labels.one_of:
        return ["" if row[0] == IGNORE else labels.names[int(row[0])] for row in part.targets]
    return ["; ".join(name for name, there in zip(labels.names, row, strict=True) if there == 1) for row in part.targets]


def of_each(words: Sequence[str], most: int) -> list[int]:
    """Places of the first of each word, then the second of each, up to `most`."""
    seen: dict[str, int] = {}
    turn = []
    for place, word in enumerate(words):
        seen[word] = seen.get(word, 0) + 1
        turn.append((seen[word], place))
    return [place for _, place in sorted(turn)[:most]]


def samples(method: Unlabelled) -> torch.Tensor | None:
    """Some images that the method makes; None where it makes none, or only with more said."""
    if not callable(make := getattr(method, "samples", None)):
        return None
    known = inspect.signature(make).parameters
    if any(p.default is p.empty and name != "number" for name, p in known.items()):
        return None
    try:
        made: torch.Tensor = make(SAMPLES, **({"sweeps": SWEEPS} if "sweeps" in known else {}))
    except VesaliusError:  # it says why: nothing that a picture would need
        return None
    return made if made.shape[1:] == method.shape else None


def strongest(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The filters (K, C, *S) of largest norm, each in the channel where it has most: (K, 1, *S)."""
    size = np.linalg.norm(weights.reshape(*weights.shape[:2], -1), axis=2)
    order = np.argsort(-np.linalg.norm(size, axis=1), kind="stable")[:FILTERS]
    return np.asarray(weights[order, size[order].argmax(1)][:, None])


def mapped(cohort: Cohort, features: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """{"x", "y", "shows", "share"}: test images on the first two principal components of the training features, and how much of their
    variance these hold."""
    pca = rivals.principal(features["train"], 2)
    total = float(features["train"].var(0, ddof=1).sum())
    some = spaced(len(cohort.test), POINTS)
    code = np.pad(pca(features["test"][some]), ((0, 0), (0, 2)))[:, :2]
    words = words_of(cohort.test, cohort.labels)
    return {"x": code[:, 0].tolist(), "y": code[:, 1].tolist(), "shows": [words[k] for k in some],
            "share": float(pca.variance.sum()) / total if total else 0.0}  # fmt: skip
