"""How probable a method says unseen images are, beside models so plain that their likelihood is a formula.

Pixels independent of each other, 0 / 1 or normal; and principal components with as many numbers as the method has (Tipping & Bishop 1999,
Journal of the Royal Statistical Society B 61, equations 6 to 8). A method whose bound lies below theirs has learned little of how pixels
go together.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vesalius.audit.rivals import Rows, principal
from vesalius.core.errors import VesaliusError
from vesalius.methods._unlabelled import Unlabelled
from vesalius.metrics._bootstrap import bootstrap

Floats = NDArray[np.float64]
TEMPERATURES, CHAINS = 300, 50
MOST_IMAGES = 300
LEAST_CHANCE = 1e-3  # of a pixel to be 0 or 1
LEAST_VARIANCE = 1e-3  # of a pixel, as a share of the mean variance
WORDS = {
    "exact": "exact",
    "optimistic": "annealed importance sampling, too good on average",
    "conservative": "reverse annealing from the images (RAISE), too bad on average",
    "bound": "a lower bound",
}


def stated(method: Unlabelled) -> bool:
    """Whether the method says how probable images are."""
    return callable(getattr(method, "likelihood", None)) or callable(getattr(method, "bound", None))


def likelihoods(method: Unlabelled, train: Rows, test: Rows, *, patients: NDArray[np.str_], components: int,
                seed: int = 0) -> list[dict[str, Any]]:  # fmt: skip
    """Mean log p per test image in nats: rows {"who", "how", "value", "low", "high"}; `train` and `test` (N, D) are all pixels.

    Where the method's pixels are 0 / 1 units, intensities are the chances by which pixels are drawn, once.
    """
    some = np.sort(np.random.default_rng(seed).permutation(len(test))[:MOST_IMAGES])
    asked, whose, binary = test[some], patients[some], is_binary(method)
    if binary:
        asked = (np.random.default_rng((seed, 1)).random(asked.shape) < asked).astype(np.float32)
    found = [{"who": "run", **one} for one in _of_method(method, asked, whose, seed=seed)]
    rivals = {"independent pixels": of_coins(train, asked)} if binary else {
        "independent pixels": of_normals(train, asked),
        "principal components": of_components(train, asked, components, seed=seed),
    }  # fmt: skip
    return found + [{"who": name, "how": "a formula", **_mean(values, whose)} for name, values in rivals.items()]


def is_binary(method: Unlabelled) -> bool:
    """Whether its pixels are 0 / 1 units, which refuse other intensities."""
    if not callable(visible := getattr(method, "visible", None)):
        return False
    try:
        visible(torch.full((1, *method.shape), 2.0, device=method.step.device))
    except VesaliusError:
        return True
    return False


def _of_method(method: Unlabelled, asked: Rows, patients: NDArray[np.str_], *, seed: int) -> list[dict[str, Any]]:
    image = torch.from_numpy(asked).reshape(-1, *method.shape).to(method.step.device)
    if callable(likelihood := getattr(method, "likelihood", None)):
        with torch.no_grad():
            found = likelihood(image, temperatures=TEMPERATURES, chains=CHAINS, seed=seed)
        return [{"how": WORDS.get(how, how), "value": e.value, "low": e.low, "high": e.high} for how, e in found.items()]
    bound: Any = method.bound
    with torch.no_grad():
        values: Tensor = torch.cat([bound(part, seed=seed) for part in torch.split(image, 128)])
    return [{"how": WORDS["bound"], **_mean(values.double().cpu().numpy(), patients)}]


def _mean(values: Floats, patients: NDArray[np.str_]) -> dict[str, float]:
    found = bootstrap(lambda rows: [values[rows].mean()], patients, draws=500)
    return {"value": float(found.value[0]), "low": float(found.low[0]), "high": float(found.high[0])}


def of_coins(train: Rows, test: Rows) -> Floats:
    """(N,) log p of 0 / 1 pixels drawn independently, each with its mean in training."""
    p = np.clip(train.mean(0, dtype=np.float64), LEAST_CHANCE, 1 - LEAST_CHANCE)
    return np.asarray(test @ np.log(p) + (1 - test) @ np.log1p(-p), np.float64)


def of_normals(train: Rows, test: Rows) -> Floats:
    """(N,) log density of independent normal pixels with their means and variances in training."""
    variance = train.var(0, dtype=np.float64)
    variance = np.maximum(variance, LEAST_VARIANCE * max(float(variance.mean()), 1e-12))
    away = (test - train.mean(0, dtype=np.float64)) ** 2 / variance
    return np.asarray(-0.5 * (away + np.log(2 * np.pi * variance)).sum(1))


def of_components(train: Rows, test: Rows, components: int, *, seed: int = 0) -> Floats:
    """(N,) log density of a normal distribution with `components` principal directions (half of what could be had, at most) and one
    variance for the rest."""
    size = train.shape[1]
    made = principal(train, max(1, min(components, size // 2, len(train) // 2)), seed=seed)
    total = float(train.var(0, dtype=np.float64).sum()) * len(train) / (len(train) - 1)
    own = made.variance.astype(np.float64)
    rest = max((total - own.sum()) / (size - len(own)), LEAST_VARIANCE * total / size, 1e-12)
    own = np.maximum(own, rest)
    away = (test - made.mean).astype(np.float64)
    code = away @ made.axes.T.astype(np.float64)
    inside, beside = (code**2 / own).sum(1), ((away**2).sum(1) - (code**2).sum(1)) / rest
    spread = size * math.log(2 * math.pi) + np.log(own).sum() + (size - len(own)) * math.log(rest)
    return np.asarray(-0.5 * (inside + beside + spread))
