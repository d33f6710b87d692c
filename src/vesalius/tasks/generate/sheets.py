"""Pictures of made images for the report: a sheet of them by class, the way from one to another, and the training image nearest to each."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Space
from vesalius.io import save
from vesalius.io.image import Image
from vesalius.metrics._features import described, nearest, random_projection
from vesalius.tasks import Images, Learned
from vesalius.tasks.generate.making import Floats, as_array, classes_of, knows_classes, made, sheet

ACROSS, ROWS, STEPS = 12, 3, 9
WORDS = {
    "real": "Real images that were not learned from.",
    "made": "Made images, not chosen.",
    "between": "From one made image to another in even steps of the noise: sudden changes are a sign of learning by heart.",
    "nearest": "Made images closest to a training image (above), and that image (below).",
}


def draw(method: Learned, images: Floats, learned: Floats, *, seen: Images, folder: Path) -> list[dict[str, str]]:
    """PNG files in `folder`: their names, what each shows, and the class of its rows."""
    sheets = {"real": real_rows(seen), "made": made_rows(method, images, seen), "between": between(method),
              "nearest": beside_nearest(images, learned)}  # fmt: skip
    told = []
    for name, rows in sheets.items():
        if rows:
            save(Image(sheet(rows)[None], Space.of(sheet(rows).shape, physical=False)), folder / f"{name}.png")
            told.append({"file": f"{name}.png", "name": name, "words": WORDS[name] + by_class(name, method, seen)})
    return told


def by_class(name: str, method: Learned, seen: Images) -> str:
    """Which class stands in which row, where rows are of classes."""
    known = name == "real" or (name == "made" and knows_classes(method))
    rows = present(seen) if known else []
    return f" Rows: {', '.join(seen.labels.names[k] for k in rows)}." if rows else ""


def present(seen: Images) -> list[int]:
    """The classes of which there are images, three at most."""
    labels = classes_of(seen)
    return [int(k) for k in np.unique(labels[labels >= 0])][:ROWS]


def real_rows(seen: Images) -> list[Floats]:
    """A row for each class, or rows as they come."""
    labels = classes_of(seen)
    groups = [np.flatnonzero(labels == k)[:ACROSS] for k in present(seen)] or [np.arange(min(len(seen), ACROSS))]
    return even([as_array(seen.chosen(group)) for group in groups])


def made_rows(method: Learned, images: Floats, seen: Images) -> list[Floats]:
    """A row for each class that can be asked for, or three rows as they come."""
    if knows_classes(method) and present(seen):
        return even([made(method, ACROSS, seed=3, label=k) for k in present(seen)])
    return even([images[start : start + ACROSS] for start in range(0, min(len(images), ROWS * ACROSS), ACROSS)])


def between(method: Learned) -> list[Floats]:
    """Three ways from one made image to another; none where the method has no noise to walk through."""
    walk = getattr(method, "between", None)
    return [np.clip(part.float().cpu().numpy(), 0, 1) for part in walk(ROWS, STEPS)] if callable(walk) else []


def beside_nearest(images: Floats, learned: Floats) -> list[Floats]:
    """The made images that lie closest to a training image, and those."""
    project = random_projection(int(np.prod(images.shape[1:])), size=128)
    near, which = nearest(described(images, project), described(learned, project))
    first = np.argsort(near)[:ACROSS]
    return [images[first], learned[which[first]]]


def even(rows: list[Floats]) -> list[Floats]:
    """Rows of one length: the shortest that has anything."""
    full = [row for row in rows if len(row)]
    return [row[: min(map(len, full))] for row in full]


def shown(path: Path) -> NDArray[np.uint8]:
    """(rows, columns) of a sheet on disk."""
    from vesalius.io import load

    return np.asarray(load(path).array[0], np.uint8)
