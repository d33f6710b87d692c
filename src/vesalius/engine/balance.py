"""Made images for classes that are rare in a data set, and the trial that says whether they are of use.

Each class gets as many made images as the training part lacks beside its commonest class. The trial trains one classifier, the shallow
baseline of classification, in three ways: on the real training images, on these and the made ones, and on the real ones with every class
drawn equally often, which costs nothing and does what class weights do. Unless the made images beat both, the verdict is "do not use".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError, UsageError
from vesalius.core.files import write_json
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.split import Split, split
from vesalius.engine.images import images_of
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.synthesise import TABLE, Wanted, lots, maker, write_table, written
from vesalius.metrics.utility import Labelled, Trial, utility
from vesalius.tasks import Images, Learned
from vesalius.tasks.classify.baseline import features, regression
from vesalius.tasks.generate.making import as_array, classes_of, knows_classes

BALANCED = "balanced.csv"
PENALTY = 0.03  # on squared coefficients of standardised features, the middle of those that the shallow baseline chooses from
Array = NDArray[Any]


@dataclass(frozen=True)
class Parts:
    """Cases to learn from, and to try on, by name; `word` says which the others are."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    word: str
    split: dict[str, str]


def balance(run: Run | Path | str, data: Dataset | Path | str, folder: Path, *, seed: int = 0,
            listener: Listener | None = None) -> dict[str, Any]:  # fmt: skip
    """Make what the rare classes of `data` lack, into `folder`, beside balanced.csv, which names real and made images for vesalius train;
    and try whether it helps. What was found is in balance.json, and given back."""
    run, listener = run if isinstance(run, Run) else Run.open(run), listener or Listener()
    dataset, method = data if isinstance(data, Dataset) else Dataset.open(data), maker(run)
    refuse_others(run, dataset, method)
    parts = parted(run, dataset)
    train = images_of(run, [dataset.case(name) for name in parts.train])
    counts = np.bincount(classes_of(train), minlength=len(dataset.labels.names))
    wanted = lacking(counts)
    if not wanted:
        raise UsageError(f"Every class has {int(counts[0])} training images already: nothing is to be balanced.")
    rows = written(run, method, folder, wanted=wanted, seed=seed, listener=listener)
    write_table(folder / BALANCED, [*(real_row(dataset, case, parts.split) for case in dataset.cases if case.name in parts.split), *rows])
    with listener.stage("trying whether it helps"):
        tried = trial(method, train, images_of(run, [dataset.case(name) for name in parts.test]), wanted=wanted, seed=seed)
    names = dataset.labels.names
    found = {"classes": {name: int(count) for name, count in zip(names, counts, strict=True)},
             "added": {names[one.label]: one.number for one in wanted}, "tried_on": parts.word, "test_images": len(parts.test),
             "classifier": "shallow baseline of classification on the model's grid, balanced accuracy", **tried,
             "table": str(folder / BALANCED), "images": str(folder / TABLE)}  # fmt: skip
    write_json(folder / "balance.json", found)
    return found


def refuse_others(run: Run, dataset: Dataset, method: Learned) -> None:
    """An error where the model does not make images of the classes that the data set has."""
    if not dataset.labels.one_of or dataset.labels.grain != "case":
        raise UsageError(f"{dataset.root} has no classes, one for each image, that could be balanced.")
    if not knows_classes(method):
        raise UsageError(f"{run.path} makes images of no particular class ({run.plan.train.method}). Train one that knows classes: "
                         "vesalius train DATA -o RUN --task generate --method conditional_gan")  # fmt: skip
    if dataset.labels.names != run.plan.labels.names:
        raise UsageError(f"The model knows the classes {', '.join(run.plan.labels.names)}; {dataset.root} has "
                         f"{', '.join(dataset.labels.names)}.")  # fmt: skip


def parted(run: Run, dataset: Dataset) -> Parts:
    """The run's own parts for its own data; else those given with the data, or made by patient. A patient of the model's training part
    among those to be tried on is an error: the made images may show that patient."""
    if {case.name for case in dataset.cases} == {case.name for case in run.dataset.cases} and dataset.root == run.dataset.root:
        how = Split.from_json(run.splits)
    else:
        how = split(dataset, seed=run.plan.train.seed)
    fold = how.folds[0]
    word, test = ("the test part", how.test) if how.test else ("the validation part (there is no test part)", fold.val)
    learned = {run.dataset.case(name).patient for name in run.splits["folds"][0]["train"]}
    if both := learned & {dataset.case(name).patient for name in (*fold.val, *how.test)}:
        raise DataError(f"The model has learned from patients who are to be tried on: {', '.join(sorted(both)[:3])}. What it makes may "
                        "show them. Train it on the training part of these data alone: --task generate.")  # fmt: skip
    sides = {**dict.fromkeys(fold.train, "train"), **dict.fromkeys(fold.val, "val"), **dict.fromkeys(how.test, "test")}
    return Parts(fold.train, test, word, sides)


def lacking(counts: Array) -> list[Wanted]:
    """As many images of each class as it lacks beside the commonest."""
    return [Wanted(int(counts.max() - count), label) for label, count in enumerate(counts) if count < counts.max()]


def real_row(dataset: Dataset, case: Case, sides: dict[str, str]) -> dict[str, Any]:
    """A real case in the table of both."""
    alone = len(dataset.channels) == 1
    files = {"image" if alone else f"image_{channel}": str(path.resolve()) for channel, path in case.images.items()}
    named = next((name for name, there in (case.classes or {}).items() if there == 1), "")
    return {"case": case.name, "patient": case.patient, "class": named, "split": sides[case.name], "synthetic": "no", **files}


def trial(method: Learned, train: Images, test: Images, *, wanted: Sequence[Wanted], seed: int) -> dict[str, Any]:
    """Scores of the three ways on real test images, the gain with its interval, and the verdict."""
    extra = [described(lot) for one in wanted for lot in lots(method, one, seed)]
    labels = np.concatenate([np.full(one.number, one.label) for one in wanted])
    real, tried = (Labelled(described(as_array(part)), classes_of(part)) for part in (train, test))
    ways = (Trial(fit, predicted, repeats=1), Trial(fit_evenly, predicted, repeats=1))
    return dict(utility(real, Labelled(np.concatenate(extra), labels), tried, trial=ways[0], rival=ways[1]))


def described(images: Array) -> Array:
    """Features of the shallow baseline, (N, F)."""
    return np.stack([features(image) for image in images])


def fit(x: Array, labels: Array, seed: int) -> tuple[Array, Array, Array]:
    """Mean and spread of the features, and coefficients."""
    centre, spread = x.mean(0), x.std(0) + 1e-6
    return centre, spread, regression(standard(x, centre, spread), labels[:, None].astype(np.uint8), PENALTY, classes=int(labels.max()) + 1)


def fit_evenly(x: Array, labels: Array, seed: int) -> tuple[Array, Array, Array]:
    """The same with every class drawn as often as the commonest."""
    most, draw = np.bincount(labels).max(), np.random.default_rng(seed)
    places = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    picks = [np.concatenate([mine, draw.choice(mine, most - len(mine))]) for mine in places]
    index = np.concatenate(picks)
    return fit(x[index], labels[index], seed)


def predicted(model: tuple[Array, Array, Array], x: Array) -> Array:
    """The most probable class."""
    centre, spread, coefficients = model
    return np.asarray((standard(x, centre, spread) @ coefficients).argmax(1))


def standard(x: Array, centre: Array, spread: Array) -> NDArray[np.float32]:
    """Features in standard deviations, clipped to four, and a 1."""
    return np.hstack([np.clip((x - centre) / spread, -4, 4), np.ones((len(x), 1))]).astype(np.float32)
