"""Which cases are shown, and how they are read: the best, the median and the worst, or a few to see what the data look like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import DataError, VesaliusError
from vesalius.data.dataset import Dataset
from vesalius.report.facts import Facts
from vesalius.report.numbers import case_means
from vesalius.report.pictures import Drawing, Scene, clearest_channel, draw, views

SUFFIXES = (".nii.gz", ".nii", ".png", ".nrrd", ".mha", ".mhd", ".tif", ".tiff", ".npz", ".npy")


@dataclass(frozen=True)
class Picture:
    """A case as drawn: `role` says why it is shown; `problem` stands in place of the drawings where a file is gone or broken."""

    role: str
    case: str
    score: float | None
    scores: list[tuple[str, float | None]]
    channel: str = ""
    drawings: tuple[Drawing, ...] = ()
    problem: str = ""


def chosen(rows: list[dict[str, Any]], metric: str) -> list[tuple[str, str, float]]:
    """(role, case, mean over labels) of the worst, the median and the best case, fewer where there are fewer; ties by name."""
    means = sorted(case_means(rows, metric).items(), key=lambda pair: (pair[1], pair[0]))
    if not means:
        return []
    places = {len(means) - 1: "best", (len(means) - 1) // 2: "median", 0: "worst"}
    if len(means) == 2:
        places = {1: "best", 0: "worst"}
    return [(role if len(means) > 1 else "only", *means[place]) for place, role in places.items()]


def pictures(facts: Facts, metric: str) -> list[Picture]:
    """Best, median and worst case of the reported part, drawn."""
    found = []
    for role, case, mean in chosen(facts.rows, metric):
        scores = [(str(row["label"]), row.get(metric)) for row in facts.rows if str(row["case"]) == case]
        found.append(picture(facts, case, role=role, score=mean, scores=scores))
    return found


def examples(facts: Facts, count: int = 3) -> list[Picture]:
    """The first `count` training cases of different patients with their truth, so that a reader sees what the data look like."""
    if facts.dataset is None:
        return []
    train = {name for fold in facts.splits.get("folds") or [] for name in fold.get("train") or []}
    first = {case.patient: case.name for case in reversed(facts.dataset.cases) if case.mask and (not train or case.name in train)}
    names = [case.name for case in facts.dataset.cases if first.get(case.patient) == case.name]
    return [picture(facts, name, role="example", predicted=False) for name in names[:count]]


def picture(facts: Facts, case: str, *, role: str, score: float | None = None, scores: Sequence[tuple[str, float | None]] = (),
            predicted: bool = True) -> Picture:  # fmt: skip
    """One case drawn; a problem with its files becomes a sentence in its place."""
    try:
        if facts.dataset is None:
            raise DataError("dataset.json is not in the run folder, so that the scans cannot be found.")
        prediction = prediction_path(facts.folder / "predictions" / facts.part, case) if predicted else None
        scene, channel = load_scene(facts.dataset, case, prediction=prediction, channels=facts.fingerprint.get("channels"))
        flat = views(scene) if predicted else views(scene)[:1] if scene.ndim == 3 else views(scene)[-1:]
        drawings = tuple(draw(view, scene.labels.names, by_label=not predicted) for view in flat)
    except (VesaliusError, OSError) as problem:
        return Picture(role, case, score, list(scores), problem=str(problem))
    return Picture(role, case, score, list(scores), channel, drawings)


def prediction_path(folder: Path, case: str) -> Path:
    """The file of `case` in `folder`, whatever its format."""
    for suffix in SUFFIXES:
        path = folder / f"{case}{suffix}"
        if path.is_file():
            return path
    raise DataError(f"No prediction of this case in {folder.parent.name}/{folder.name}.")


def load_scene(dataset: Dataset, name: str, *, prediction: Path | None, channels: dict[str, int] | None) -> tuple[Scene, str]:
    """What is drawn of a case, in canonical orientation, and the name of the channel that shows it best."""
    from vesalius.data.fingerprint import components
    from vesalius.data.read import read_images, read_mask
    from vesalius.io import load

    case = dataset.case(name)
    image = read_images(case, channels or components(dataset, [case]))
    turn = image.space.canonical_turn()
    truth = read_mask(case.mask, dataset.labels, image.space) if case.mask else None
    answer = None
    if prediction is not None:
        answer = dataset.labels.encode(load(prediction).array)
        if answer.shape[1:] != image.space.shape:
            raise DataError(f"The prediction {prediction.name} has shape {answer.shape[1:]}, its scan {image.space.shape}.")
    truth, answer = (None if m is None else np.asarray(turn.apply(m)) for m in (truth, answer))
    space = image.space.turned(turn)
    scene = Scene(np.asarray(turn.apply(image.array)), truth, answer, space.spacing, dataset.labels)
    return with_one_channel(scene, channels or {}, dataset)


def with_one_channel(scene: Scene, channels: dict[str, int], dataset: Dataset) -> tuple[Scene, str]:
    """`scene` with the channel alone that shows the truth best, and its name; a colour photograph keeps its three components."""
    names = [name for name in channels or dict.fromkeys(dataset.channels, 1) for _ in range(channels.get(name, 1))]
    if len(scene.image) == 3 and len(set(names)) == 1 and scene.ndim == 2:
        return scene, ""
    pixels = np.nan_to_num(scene.image)
    best = clearest_channel(pixels, scene.focus())
    one = Scene(pixels[best : best + 1], scene.truth, scene.prediction, scene.spacing, scene.labels)
    return one, names[best] if len(scene.image) > 1 and best < len(names) else ""
