"""What every metric of two masks must do: keep the values on its card for empty masks, know millimetres, and not mind the axes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from vesalius.core.card import Card
from vesalius.core.space import Space
from vesalius.metrics import METRICS
from vesalius.metrics._pair import Mask, Pair

FACTS = {"definition", "unit", "better", "both_empty", "missed", "hallucinated"}
POWER = {"1": 0, "length": 1, "volume": None}  # volume: as many powers of the spacing as there are axes
SPACINGS = ((1.5, 0.7), (2.5, 1.0, 0.8))
Score = Callable[[Pair], dict[str, float]]


def serves_masks(card: Card) -> bool:
    """Whether the entry compares two masks."""
    return "segment" in card.tasks


def blobs(ndim: int, *, seed: int = 0) -> tuple[Mask, Mask]:
    """Two masks that overlap, each a random union of balls that may touch the border."""
    random = np.random.default_rng(seed)
    shape = (21, 18, 15)[:ndim]
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    centres, radii = random.uniform(0, 1, (4, ndim)) * shape, random.uniform(2.5, 4, 4)
    masks = [
        np.any([np.linalg.norm(grid - c - random.normal(0, 0.7, ndim), axis=-1) < r for c, r in zip(centres, radii, strict=True)], axis=0)
        for _ in range(2)
    ]
    return masks[0], masks[1]


def close(a: dict[str, float], b: dict[str, float]) -> bool:
    """Equal to rounding, NaN equal to NaN."""
    return a.keys() == b.keys() and all(np.isclose(a[k], b[k], rtol=1e-9, atol=1e-9, equal_nan=True) for k in a)


def check_card(score: Score, facts: dict[str, dict[str, Any]]) -> None:
    """The card defines each number that is returned, and its value for empty masks."""
    space = Space.of((21, 18, 15), SPACINGS[1])
    found = score(Pair.of(*blobs(3), space))
    assert found.keys() == facts.keys()
    for fact in facts.values():
        assert set(fact) == FACTS and fact["unit"] in POWER and fact["better"] in ("high", "low", "zero", "none")


def check_empty(score: Score, facts: dict[str, dict[str, Any]]) -> None:
    """Both empty, missed and hallucinated objects give the numbers on the card, in 2D and 3D."""
    for spacing in SPACINGS:
        mask, _ = blobs(len(spacing))
        space = Space.of(mask.shape, spacing)
        nothing, volume = np.zeros_like(mask), float(mask.sum() * np.prod(spacing))
        words = {"diagonal": float(np.linalg.norm(np.array(mask.shape) * spacing)), "volume": volume, "true_volume": volume,
                 "-true_volume": -volume, None: math.nan}  # fmt: skip
        for state, masks in (("both_empty", (nothing, nothing)), ("missed", (nothing, mask)), ("hallucinated", (mask, nothing))):
            pair = Pair.of(*masks, space)
            expected = {name: words.get(fact[state], fact[state]) for name, fact in facts.items()}
            assert pair.state == state and close(score(pair), expected), (state, score(pair), expected)


def check_perfect(score: Score, facts: dict[str, dict[str, Any]]) -> None:
    """A mask compared with itself is perfect: 1 where high is better, 0 where low or zero is."""
    for spacing in SPACINGS:
        mask, _ = blobs(len(spacing))
        found = score(Pair.of(mask, mask, Space.of(mask.shape, spacing)))
        best = {"high": 1.0, "low": 0.0, "zero": 0.0}
        assert all(found[name] == best[fact["better"]] for name, fact in facts.items() if fact["better"] in best)


def check_millimetres(score: Score, facts: dict[str, dict[str, Any]]) -> None:
    """Twice the spacing (and tolerance) gives twice the lengths, 2^n times the volumes and the same shares."""
    for spacing in SPACINGS:
        masks, n = blobs(len(spacing)), len(spacing)
        small = score(Pair.of(*masks, Space.of(masks[0].shape, spacing), tolerance=1.2))
        large = score(Pair.of(*masks, Space.of(masks[0].shape, [2 * s for s in spacing]), tolerance=2.4))
        powers = {name: n if POWER[fact["unit"]] is None else POWER[fact["unit"]] for name, fact in facts.items()}
        assert close(large, {name: value * 2 ** (powers[name] or 0) for name, value in small.items()})


def check_axes(score: Score, facts: dict[str, dict[str, Any]]) -> None:
    """Flipped or exchanged axes, an oblique grid and a wider field of view change nothing but the image's diagonal."""
    for spacing in SPACINGS:
        a, b = blobs(len(spacing), seed=1)
        expected = score(Pair.of(a, b, Space.of(a.shape, spacing)))
        turned = Pair.of(a.T[::-1], b.T[::-1], Space.of(a.T.shape, spacing[::-1]))
        assert close(score(turned), expected)
        affine = Space.of(a.shape, spacing).affine
        angle = np.eye(len(affine))
        angle[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
        assert close(score(Pair.of(a, b, Space(a.shape, angle @ affine))), expected)


def check_integer_masks(score: Score, facts: dict[str, dict[str, Any]]) -> None:
    """Masks of whole numbers, in any memory order, are masks."""
    a, b = blobs(3)
    space = Space.of(a.shape, SPACINGS[1])
    assert close(score(Pair.of(np.asfortranarray(a.astype(np.uint8)), b.astype(np.int64), space)), score(Pair.of(a, b, space)))


CHECKS: tuple[Callable[[Score, dict[str, dict[str, Any]]], None], ...] = (
    check_card, check_empty, check_perfect, check_millimetres, check_axes, check_integer_masks,
)  # fmt: skip


def check_metric(name: str) -> None:
    """Run every check on the entry `name` of the shelf."""
    for check in CHECKS:
        check(METRICS[name], METRICS.card(name).facts or {})
