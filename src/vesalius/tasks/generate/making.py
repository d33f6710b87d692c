"""Images out of a method, whatever it needs to be told to make them: a class, a number of sweeps."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vesalius.core.errors import UsageError, suggest
from vesalius.data.labels import Labels
from vesalius.tasks import Images, Learned

Floats = NDArray[np.float32]
AT_ONCE = 256
SEEDS = 1009  # between the seeds of two classes and of two lots: a prime, so that lots of neighbouring seeds do not meet soon


def made(method: Learned, number: int, *, seed: int = 0, label: int | None = None, sweeps: int | None = None) -> Floats:
    """`number` images (number, C, *S) from 0 to 1, of class `label` where the method knows classes; `sweeps` of a machine that dreams."""
    samples: Any = getattr(method, "samples", None)
    if samples is None:
        raise UsageError("This method does not make images. Learn one that does: vesalius train DATA -o RUN --task generate.")
    if label is not None and not knows_classes(method):
        raise UsageError("This method makes images of no particular class. Learn one that knows classes: --method conditional_gan.")
    known = inspect.signature(samples).parameters
    more = {"label": label} if label is not None else {}
    more |= {"sweeps": sweeps} if sweeps is not None and "sweeps" in known else {}
    parts = []
    with torch.no_grad():
        for start in range(0, number, AT_ONCE):
            part = samples(min(AT_ONCE, number - start), seed=seed + SEEDS * (start // AT_ONCE), **more)
            parts.append(part.float().clamp(0, 1).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, *method.shape), np.float32)


def knows_classes(method: Learned) -> bool:
    """Whether images of a class can be asked for."""
    told = hasattr(method, "classes") and getattr(method, "told_classes", True)  # one may read classes and make images of none
    return told and "label" in inspect.signature(getattr(method, "samples", made)).parameters


def like(method: Learned, images: Images, *, number: int, seed: int = 0, sweeps: int | None = None) -> Floats:
    """`number` made images, of the classes as often as `images` have them where both know classes."""
    share = shares(images)
    if share is None or not knows_classes(method):
        return made(method, number, seed=seed, sweeps=sweeps)
    ends = np.rint(np.cumsum(share) * number).astype(int)
    parts = [made(method, int(count), seed=seed + SEEDS * 7 * label, label=label, sweeps=sweeps)
             for label, count in enumerate(np.diff(ends, prepend=0)) if count]  # fmt: skip
    return np.concatenate(parts)


def shares(images: Images) -> NDArray[np.float64] | None:
    """Share of each class among those whose class is known; None where there are no classes."""
    labels = classes_of(images)
    known = labels[labels >= 0]
    return np.bincount(known, minlength=len(images.labels.names)) / len(known) if len(known) else None


def classes_of(images: Images) -> NDArray[np.int64]:
    """The class of each image, -1 where it is unknown or not one of several."""
    names = images.labels.names if images.labels.one_of else ()
    found = [next((k for k, name in enumerate(names) if (case.classes or {}).get(name) == 1), -1) for case in images.cases]
    return np.array(found, np.int64)


def numbered(name: str, labels: Labels) -> int:
    """The number of the class called `name`."""
    if name not in labels.names or not labels.one_of:
        raise UsageError(suggest(name, labels.names if labels.one_of else (), "class"))
    return labels.names.index(name)


def as_array(images: Images) -> Floats:
    """(N, C, *S)."""
    return np.concatenate([batch.cpu().numpy() for batch in images.batches()]) if len(images) else np.zeros((0, 1, 1, 1), np.float32)


def in_grey(image: Floats) -> NDArray[np.uint8]:
    """(rows, columns) of (C, *S) from 0 to 1: the first channel; of a volume the middle slice across its last axis, front up."""
    flat = np.asarray(image, np.float32)[0]
    if flat.ndim == 3:
        flat = np.take(flat, flat.shape[2] // 2, 2)[::-1, ::-1].T
    return np.asarray(np.rint(255 * np.clip(flat, 0, 1)), np.uint8)


def sheet(rows: Sequence[Iterable[Floats]], *, gap: int = 1) -> NDArray[np.uint8]:
    """Rows of images (C, *S) side by side with thin dark lines between them."""
    strips = [np.concatenate([np.pad(in_grey(one), gap) for one in row], 1) for row in rows]
    return np.concatenate(strips)
