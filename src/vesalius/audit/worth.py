"""Was learning without labels worth it? What can be read off the features of a run, beside principal components, k-means and raw pixels.

Five questions: does a straight line through the features tell classes apart (linear probe), do neighbours show the same (votes of
neighbours, retrieval), do groups that are found without labels agree with the classes, are unseen images reconstructed, and how probable
are they. Everything is learned on the training patients, chosen on validation patients and told of test patients; all differences are
paired. The question that counts was set beforehand: the linear probe against raw pixels, the leanest of all features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vesalius.audit import rivals
from vesalius.audit.likelihoods import likelihoods, stated
from vesalius.audit.probes import Parts, Told
from vesalius.audit.readings import readings
from vesalius.audit.rivals import Rows
from vesalius.audit.verdicts import worth_verdict
from vesalius.core.errors import DataError, VesaliusError
from vesalius.data.labels import IGNORE, Labels
from vesalius.methods._unlabelled import Unlabelled
from vesalius.metrics._bootstrap import bootstrap

BATCH = 256
Tick = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Part:
    """`images` (N, C, *S) as the method takes them, whose they are (N,), what they are called, and their `targets` (N, 1 | K) if known."""

    images: NDArray[np.floating]
    patients: NDArray[np.str_]
    names: tuple[str, ...]
    targets: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Cohort:
    """The images of a run by part, and what its labels mean (None: there are none of whole cases)."""

    train: Part
    val: Part
    test: Part
    labels: Labels | None = None

    def parts(self) -> dict[str, Part]:
        return {"train": self.train, "val": self.val, "test": self.test}


@dataclass(frozen=True, eq=False)
class Worth:
    """What was found, as plain JSON, and the features of the run by part, from which pictures are made."""

    found: dict[str, Any]
    features: Mapping[str, Rows] = field(default_factory=dict)


def worth(method: Unlabelled, cohort: Cohort, *, drawn: Unlabelled | None = None, seed: int = 0, draws: int = 1000,
          tick: Tick = lambda _: None) -> Worth:  # fmt: skip
    """{"cases", "names", "measures", "differences", "reconstruction", "likelihood", "verdict", "remarks"} of a method that has learned.

    `drawn` is the same method before it learned: the features of random weights are often not bad, and learning must beat them. Without
    labels only reconstruction and likelihood are told. Where no test part is there, validation is looked at, which is said.
    """
    if not len(cohort.train) or not (len(cohort.test) or len(cohort.val)):
        raise DataError("Whether learning was worth it is told on images that were not learned from; there are none. Keep a test part.")
    remarks = [] if len(cohort.test) else ["There is no test part: all numbers are of validation images."]
    cohort = cohort if len(cohort.test) else Cohort(cohort.train, cohort.val, cohort.val, cohort.labels)
    tick("describing the images")
    features = {name: described(method, part.images) for name, part in cohort.parts().items()}
    before = None if drawn is None else {name: described(drawn, part.images) for name, part in cohort.parts().items()}
    views, names = _views(cohort, features, before, seed=seed)
    found: dict[str, Any] = {"cases": {name: len(part) for name, part in cohort.parts().items()}, "names": names,
                             "measures": {}, "differences": {}}  # fmt: skip
    why = _unlabelled(cohort)
    if why or cohort.labels is None:
        remarks.append(why)
    else:
        tick("probing")
        found |= readings(tables(cohort, views), cohort.labels, seed=seed, draws=draws)
        remarks += found["remarks"]
    tick("reconstructing")
    found["reconstruction"] = reconstruction(method, cohort, components=features["train"].shape[1], seed=seed, draws=draws)
    tick("asking how probable images are")
    found["likelihood"], words = _likelihood(method, cohort, components=features["train"].shape[1], seed=seed)
    return Worth({**found, "verdict": worth_verdict(found), "remarks": [*remarks, *words]}, features)


def described(method: Unlabelled, images: NDArray[np.floating]) -> Rows:
    """(N, F) features of `images` (N, C, *S), a batch at a time, in evaluation mode."""
    parts = [part.reshape(len(part), -1) for part in _batches(method, images, method.features)]
    rows = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
    if not np.isfinite(rows).all():
        raise VesaliusError("Some features are not finite numbers: learning has gone astray. Train anew with a smaller learning rate.")
    return np.asarray(rows, np.float32)


def _batches(method: Unlabelled, images: NDArray[np.floating], ask: Callable[[torch.Tensor], torch.Tensor]) -> list[Rows]:
    was, where = method.training, method.step.device
    method.eval()
    with torch.no_grad():
        parts = [ask(torch.from_numpy(np.ascontiguousarray(images[k : k + BATCH], np.float32)).to(where)).float().cpu().numpy()
                 for k in range(0, len(images), BATCH)]  # fmt: skip
    method.train(was)
    return parts


def _views(cohort: Cohort, features: Mapping[str, Rows], before: Mapping[str, Rows] | None, *,
           seed: int) -> tuple[dict[str, dict[str, Rows]], dict[str, str]]:  # fmt: skip
    """{who: {part: (N, F)}} of the run and its rivals, and what each is called."""
    words = rivals.pixels(cohort.train.images[:1])[1]
    flat = {name: rivals.pixels(part.images)[0] if len(part) else np.zeros((0, 1), np.float32) for name, part in cohort.parts().items()}
    count = features["train"].shape[1]
    most = max(2, min(count, len(flat["train"]) // rivals.SHARE))
    pca, near = rivals.principal(flat["train"], most, seed=seed), rivals.distances_to_centres(flat["train"], count, seed=seed)
    own = {"run": dict(features)} | ({} if before is None else {"drawn": dict(before)})
    made = {**own, "pca": _through(pca, flat), "kmeans": _through(near, flat), "pixels": flat}
    first = {"run": f"the run ({count} numbers)"} | ({} if before is None else {"drawn": "the same network before it learned"})
    return made, {**first, "pca": f"principal components ({len(pca.axes)})",
                  "kmeans": f"distances to {len(near.centre)} centres of k-means",
                  "pixels": f"{words} ({flat['train'].shape[1]})"}  # fmt: skip


def _through(describe: rivals.Describe, flat: Mapping[str, Rows]) -> dict[str, Rows]:
    return {name: describe(rows) if len(rows) else rows for name, rows in flat.items()}


def _unlabelled(cohort: Cohort) -> str:
    """Why nothing that needs labels can be told; "" where it can."""
    if cohort.labels is None or cohort.train.targets is None or cohort.test.targets is None:
        return "No classes of whole images are known, so that only what needs none is told. Whether features are of use is not known."
    for name, targets in (("training", cohort.train.targets), ("test", cohort.test.targets)):
        if max((len(np.unique(column[column != IGNORE])) for column in targets.T), default=0) < 2:
            return f"The {name} part does not show two classes, so that only what needs no labels is told."
    return ""


def tables(cohort: Cohort, views: Mapping[str, Mapping[str, Rows]]) -> dict[str, Parts]:
    """For each set of features the images of which something is known."""
    width = 1 if cohort.labels is None or cohort.labels.one_of else len(cohort.labels.names)
    found = {}
    for who, view in views.items():
        told = {}
        for name, part in cohort.parts().items():
            targets = np.full((len(part), width), IGNORE, np.uint8) if part.targets is None else part.targets
            rows = np.flatnonzero((targets != IGNORE).any(1))
            features = view[name] if len(part) else np.zeros((0, view["train"].shape[1]), np.float32)
            told[name] = Told(features[rows], targets[rows], part.patients[rows])
        found[who] = Parts(told["train"], told["val"], told["test"])
    return found


def reconstruction(method: Unlabelled, cohort: Cohort, *, components: int, seed: int = 0, draws: int = 1000) -> dict[str, Any] | None:
    """Mean squared error per pixel of test images, {who: {"value", "low", "high"}} of the run, of as many principal components and of the
    mean image, and how much less the run's is than theirs; None where the method makes no image of an image."""
    with torch.no_grad():
        one = method.infer(torch.zeros(1, *method.shape, device=method.step.device))
    if one.shape[1:] != (1, *method.shape)[1:]:
        return None
    test = rivals.pixels(cohort.test.images)[0]
    pca = rivals.principal(rivals.pixels(cohort.train.images)[0], components, seed=seed)
    back = rivals.pixels(np.concatenate(_batches(method, cohort.test.images, method.infer)))[0]
    errors = np.stack([((made - test) ** 2).mean(1) for made in (back, pca.back(pca(test)), pca.mean[None])], 1).astype(np.float64)

    def means(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        value = errors[rows].mean(0)
        return np.concatenate([value, value[0] - value[1:]])

    drawn = bootstrap(means, cohort.test.patients, draws=draws, seed=seed)
    each = np.stack([drawn.value, drawn.low, drawn.high], 1).tolist()
    cells = [dict(zip(("value", "low", "high"), cell, strict=True)) for cell in each]
    return {"run": cells[0], "pca": cells[1], "mean": cells[2], "differences": {"pca": cells[3], "mean": cells[4]}}


def _likelihood(method: Unlabelled, cohort: Cohort, *, components: int, seed: int) -> tuple[list[dict[str, Any]] | None, list[str]]:
    """Rows of likelihoods, or None; and what is to be said of it."""
    if not stated(method):
        return None, []
    if method.size > rivals.MOST_PIXELS:
        return None, [f"Likelihoods are told of images of up to {rivals.MOST_PIXELS} numbers; these have {method.size}."]
    flat = [rivals.pixels(part.images)[0] for part in (cohort.train, cohort.test)]
    return likelihoods(method, *flat, patients=cohort.test.patients, components=components, seed=seed), []
