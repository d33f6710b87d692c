"""What the nearest images say of an image: the k-nearest-neighbour probe of features, which learns nothing itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.tasks import Images

Rows = NDArray[np.floating]
K = 10
MOST_PIXELS = 1024  # of an image that is compared pixel by pixel, after blocks are meaned
BLOCK = 512


def classes(images: Images) -> NDArray[np.int64] | None:
    """(N,) the class of each image, -1 where it is not known; None where images have none, or several at once."""
    labels = images.labels
    if labels.grain != "case" or not labels.one_of or len(labels.names) < 2:
        return None
    number = {name: k for k, name in enumerate(labels.names)}
    said = [[number[name] for name, there in (case.classes or {}).items() if there and name in number] for case in images.cases]
    found = np.array([one[0] if len(one) == 1 else -1 for one in said], np.int64)
    return found if len(np.unique(found[found >= 0])) > 1 else None


def votes(known: Rows, answers: NDArray[np.int64], asked: Rows, *, k: int = K, own: bool = False) -> Rows:
    """(N, classes): shares of the `k` rows of `known` (M, F) that point most nearly the way of each row of `asked` (N, F) about their
    mean, by their `answers` (M,); with `own` both are the same rows and no row has a voice for itself."""
    middle, number = known.mean(0), int(answers.max()) + 1
    directions, wanted = _unit(known - middle), _unit(asked - middle)
    shares = np.zeros((len(asked), number))
    for start in range(0, len(asked), BLOCK):
        alike = wanted[start : start + BLOCK] @ directions.T
        if own:
            alike[np.arange(len(alike)), start + np.arange(len(alike))] = -np.inf
        most = min(k, len(known) - own)
        near = np.argpartition(-alike, most - 1, axis=1)[:, :most]
        for answer in range(number):
            shares[start : start + BLOCK, answer] = (answers[near] == answer).mean(1)
    return shares


def balanced(said: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Balanced accuracy: the mean over classes of the share of its images that are told; NaN of no image."""
    each = [float((said[truth == answer] == answer).mean()) for answer in np.unique(truth)]
    return float(np.mean(each)) if each else float("nan")


def pixels(images: Images) -> Rows:
    """(N, numbers): the pixels themselves, of large images means over blocks."""
    rows: list[Any] = []
    for batch in images.batches():
        array = batch.float().cpu().numpy()
        while array[0].size > MOST_PIXELS and max(array.shape[2:]) > 1:
            array = _halved(array)
        rows.append(array.reshape(len(array), -1))
    return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)


def _halved(array: Rows) -> Rows:
    """Means over two voxels along each axis; one left over at an odd end is dropped."""
    for axis in range(2, array.ndim):
        if (side := array.shape[axis]) > 1:
            even = array.take(np.arange(0, side - 1, 2), axis), array.take(np.arange(1, side, 2), axis)
            array = (even[0] + even[1]) / 2
    return array


def _unit(rows: Rows) -> Rows:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norm, 1e-12))
