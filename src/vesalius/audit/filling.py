"""What a method that learned several channels together knows of one that is missing: test images are filled in from their other channels.

Srivastava & Salakhutdinov 2012 (NeurIPS) for the question. Beside the method stand the mean training image of the channel, and a straight
line from the principal components of the other channels: what does not beat these knows nothing of how channels go together.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vesalius.audit import rivals
from vesalius.audit.worth import Cohort, Part
from vesalius.methods._unlabelled import Unlabelled
from vesalius.metrics._bootstrap import bootstrap

MOST, SWEEPS, SHOWN = 64, 50, 6  # test images that are asked about, turns of a chain, and images in a picture
WHO = ("run", "linear", "mean")
Rows = NDArray[np.float32]


def fills(method: Unlabelled) -> bool:
    """Whether the method brings back what is missing of several channels."""
    return callable(getattr(method, "fill", None)) and method.shape[0] > 1


def filling(method: Unlabelled, cohort: Cohort, channels: Mapping[str, int], *, seed: int = 0,
            draws: int = 1000) -> tuple[list[dict[str, Any]], dict[str, Rows]]:  # fmt: skip
    """A row for each channel, {"channel", "run", "linear", "mean", "differences"} with mean squared errors per pixel; and images (N, C, *S)
    of that channel by name, as they are ("lost_0" ...) and as they are filled in ("filled_0" ...)."""
    if not fills(method) or len(channels) < 2:
        return [], {}
    chosen = np.unique(np.linspace(0, len(cohort.test) - 1, min(MOST, len(cohort.test))).round().astype(int))
    part = Part(cohort.test.images[chosen], cohort.test.patients[chosen], tuple(cohort.test.names[k] for k in chosen))
    rows, done = [], 0
    pictures: dict[str, Rows] = {}
    for k, (name, count) in enumerate(channels.items()):
        away, done = list(range(done, done + count)), done + count
        made = brought_back(method, part.images, away, seed=seed)
        rows.append({"channel": name, **errors(made, cohort.train, part, away=away, draws=draws)})
        pictures |= {f"lost_{k}": part.images[:SHOWN, away[:1]].astype(np.float32), f"filled_{k}": made[:SHOWN, :1]}
    return rows, pictures


def brought_back(method: Any, images: NDArray[np.floating], away: list[int], *, seed: int = 0) -> Rows:
    """The channels `away` of `images` (N, C, *S), which the method does not see, as it would have them: (N, len(away), *S)."""
    blind = np.array(images, np.float32)
    blind[:, away] = 0
    with torch.no_grad():
        made = method.fill(torch.from_numpy(blind).to(method.step.device), away, sweeps=SWEEPS, seed=seed)
    return np.asarray(made[:, away].float().cpu().numpy())


def errors(made: Rows, train: Part, asked: Part, *, away: list[int], draws: int) -> dict[str, Any]:
    """Errors of what the method made and of both rivals, with intervals over patients; differences are the method's less a rival's."""
    kept = [c for c in range(asked.images.shape[1]) if c not in away]
    truth, known = (part.images[:, away].reshape(len(part), -1) for part in (asked, train))
    line = straight(train.images[:, kept], known, asked.images[:, kept])
    told = (made.reshape(len(made), -1), line, np.asarray(known, np.float32).mean(0)[None])
    each = np.stack([((np.asarray(one, np.float64) - truth) ** 2).mean(1) for one in told], 1)

    def means(picked: NDArray[np.intp]) -> NDArray[np.float64]:
        value = each[picked].mean(0)
        return np.concatenate([value, value[0] - value[1:]])

    drawn = bootstrap(means, asked.patients, draws=draws)
    numbers = np.stack([drawn.value, drawn.low, drawn.high], 1).tolist()
    cells = [{"value": value, "low": low if np.isfinite(low) else None, "high": high if np.isfinite(high) else None}
             for value, low, high in numbers]  # fmt: skip
    return {**dict(zip(WHO, cells, strict=False)), "differences": {"linear": cells[3], "mean": cells[4]}}


def straight(seen: NDArray[np.floating], told: NDArray[np.floating], asked: NDArray[np.floating]) -> Rows:
    """(N, D) of `asked` by least squares from the principal components of `seen` to `told` (M, D), of both (., C, *S) the same channels;
    one component for every three images."""
    from_, to = rivals.pixels(seen)[0], rivals.pixels(asked)[0]
    pca = rivals.principal(from_, max(1, len(from_) // rivals.SHARE))
    mean, code = told.mean(0, dtype=np.float64), pca(from_).astype(np.float64)
    slope = np.linalg.lstsq(code, told - mean, rcond=None)[0]
    return np.asarray(pca(to) @ slope + mean, np.float32)
