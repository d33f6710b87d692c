"""What every metric of localised anomalies must do: keep the values on its card where nothing or everything is anomalous, and mind
the order of strangeness alone."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.metrics import METRICS
from vesalius.metrics._heat import Heat
from vesalius.testing.check_metric import blobs, close

FACTS = {"definition", "unit", "better", "perfect", "no_positives", "no_negatives"}
Score = Callable[[Heat], dict[str, float]]
Facts = dict[str, dict[str, Any]]
Arrays = list[NDArray[Any]]


def serves_maps(card: Card) -> bool:
    """Whether the entry compares maps of strangeness with masks."""
    return "anomaly" in card.tasks


def example(ndim: int, *, images: int = 4, seed: int = 0) -> tuple[Arrays, Arrays]:
    """Maps that know something of the masks; the last image is normal."""
    random = np.random.default_rng(seed)
    truths: Arrays = [blobs(ndim, seed=seed + k)[0] & (k < images - 1) for k in range(images)]
    return [random.normal(size=truth.shape) + truth for truth in truths], truths


def examples() -> Sequence[tuple[Arrays, Arrays]]:
    """In 2D and 3D."""
    return example(2), example(3)


def check_card(score: Score, facts: Facts) -> None:
    """The card defines each number that is returned; each lies in 0..1 where some pixels are anomalous."""
    for maps, truths in examples():
        found = score(Heat.of(maps, truths))
        assert found.keys() == facts.keys() and all(0 <= value <= 1 for value in found.values())
    assert all(set(fact) == FACTS and fact["better"] == "high" for fact in facts.values())


def check_absent(score: Score, facts: Facts) -> None:
    """Without anomalous pixels, without others and without any the numbers are those on the card, or undefined."""
    for maps, truths in examples():
        for state, value in (("no_positives", 0), ("no_negatives", 1)):
            found = score(Heat.of(maps, [np.full_like(truth, value) for truth in truths]))
            assert all(np.isnan(found[k]) if fact[state] is None else found[k] == fact[state] for k, fact in facts.items()), (state, found)
    assert all(np.isnan(value) for value in score(Heat.of([], [])).values())


def check_perfect(score: Score, facts: Facts) -> None:
    """A map that is the mask is worth what the card says, more than the example, and that more than a map of noise."""
    for maps, truths in examples():
        found, some = score(Heat.of(truths, truths)), score(Heat.of(maps, truths))
        noise = score(Heat.of([np.random.default_rng(9).normal(size=heat.shape) for heat in maps], truths))
        assert all(np.isclose(found[k], fact["perfect"]) and found[k] > some[k] > noise[k] for k, fact in facts.items())


def check_order(score: Score, facts: Facts) -> None:
    """The order of images, flipped and exchanged axes, and any rising function of strangeness change nothing."""
    for maps, truths in examples():
        expected = score(Heat.of(maps, truths))
        assert close(score(Heat.of(maps, truths).take([2, 0, 3, 1])), expected)
        assert close(score(Heat.of([a.T[::-1] for a in maps], [a.T[::-1] for a in truths])), expected)
        assert close(score(Heat.of([np.exp(a / 3) - 7 for a in maps], truths)), expected)


def check_inside(score: Score, facts: Facts) -> None:
    """What lies outside of what counts does not count: as if it had been cut off."""
    for maps, truths in examples():
        inside = [np.arange(len(a)).reshape(-1, *(1,) * (a.ndim - 1)) + np.zeros(a.shape) < 11 for a in maps]
        assert close(score(Heat.of(maps, truths, inside=inside)), score(Heat.of([a[:11] for a in maps], [a[:11] for a in truths])))


def check_twice(score: Score, facts: Facts) -> None:
    """Every image twice is every image once."""
    for maps, truths in examples():
        assert close(score(Heat.of(maps, truths).take([0, 1, 2, 3] * 2)), score(Heat.of(maps, truths)))


CHECKS: tuple[Callable[[Score, Facts], None], ...] = (
    check_card, check_absent, check_perfect, check_order, check_inside, check_twice,
)  # fmt: skip


def check_map_metric(name: str) -> None:
    """Run every check on the entry `name` of the shelf."""
    for check in CHECKS:
        check(METRICS[name], METRICS.card(name).facts or {})
