"""What every measure of made images must do: keep to its card, not mind order, be best for equal sets, worsen as made images are
spoiled more and more, and refuse what is no set of features.

A measure compares features (N, F) and its card names the task "synthesise". One whose function takes more than `real` and `fake` is
asked as `ASKED` says; an entry that is unknown there is a measure of two sets.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.core.errors import VesaliusError
from vesalius.metrics import METRICS
from vesalius.metrics.utility import Labelled, Trial

FACTS = {"definition", "better"}
Floats = NDArray[np.float64]
Facts = dict[str, dict[str, Any]]
Found = dict[str, Any]
Measure = Callable[[Floats, Floats, Floats], Found]  # (real, fake, held out) -> numbers by name
NUMBERS, WIDTH = 300, 3
DECLINES = {"frechet": 2000}  # what needs more images than that
FOOLED = ("recall", "authentic", "p_copied")  # by noise: it lies far from everything, so its balls hold everything and nothing is copied
SPOILT = (0.0, 0.5, 1.0, 2.0, 4.0)


def serves_made(card: Card) -> bool:
    """Whether the entry judges made images."""
    return "synthesise" in card.tasks


def two_sets(name: str) -> Measure:
    """A measure of real and made images."""
    return lambda real, fake, held: METRICS[name](real, fake)


def three_sets(name: str) -> Measure:
    """A measure that looks at the images that were learned from, and at others."""
    return lambda real, fake, held: METRICS[name](fake, real, held)


def trial(name: str) -> Measure:
    """A measure by a classifier (the nearest mean): the class is the sign of the first feature."""

    def fit(images: Floats, labels: Floats, seed: int) -> Floats:
        return np.stack([images[labels == one].mean(0) for one in (0, 1)])

    def predict(model: Floats, images: Floats) -> Floats:
        return np.asarray(((images[:, None] - model) ** 2).sum(2).argmin(1))

    def asked(real: Floats, fake: Floats, held: Floats) -> Found:
        sets = [Labelled(part, (part[:, 0] > 0).astype(int)) for part in (real, fake, held)]
        return dict(METRICS[name](*sets, trial=Trial(fit, predict, repeats=1, draws=50)))

    return asked


ASKED: dict[str, Callable[[str], Measure]] = {"memorised": three_sets, "utility": trial}


def measure_of(name: str) -> Measure:
    """How the entry `name` is asked."""
    return ASKED.get(name, two_sets)(name)


def sets(name: str, *, seed: int = 0, spoilt: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Real, made and held-out images of one distribution, enough for the entry `name`; made ones `spoilt` by noise of that spread and a
    shift by half of it."""
    draw, numbers = np.random.default_rng(seed), DECLINES.get(name, NUMBERS)
    real, fake, held, noise = (draw.standard_normal((numbers, WIDTH)) for _ in range(4))
    return real, fake + spoilt * noise + spoilt / 2, held


def numbers_of(found: Found) -> dict[str, float]:
    """What in an answer is a number."""
    return {name: float(value) for name, value in found.items() if not isinstance(value, str)}


def check_card(name: str) -> None:
    """The card defines each leading number and which way is better; every one of them is there and finite for ordinary sets, and what is
    there besides are ends of an interval, or words."""
    facts = METRICS.card(name).facts or {}
    assert facts and all(set(fact) == FACTS and fact["better"] in ("high", "low", "none") for fact in facts.values())
    found = measure_of(name)(*sets(name))
    values = numbers_of(found)
    absent = {"rival"}  # a number of another way to train, where one is given
    assert set(facts) - absent <= set(values) and all(np.isfinite(value) for value in values.values())
    rest = set(values) - set(facts)
    assert all(one.endswith(("_low", "_high")) and one.rpartition("_")[0] in facts for one in rest), rest
    for one in rest:
        if one.endswith("_low"):
            base = one.removesuffix("_low")
            assert values[one] <= values[base] <= values[base + "_high"]


def check_order(name: str) -> None:
    """The order of the images does not matter, in any set."""
    measure, draw = measure_of(name), np.random.default_rng(1)
    parts = sets(name, spoilt=0.3)
    shuffled = [part[draw.permutation(len(part))] for part in parts]
    once, again = numbers_of(measure(*parts)), numbers_of(measure(*shuffled))
    points = {one for one in once if not one.endswith(("_low", "_high"))}
    assert all(np.isclose(once[one], again[one], rtol=1e-6, atol=1e-9) for one in points), (once, again)


def check_types(name: str) -> None:
    """Features in single precision or as lists of rows give the same numbers, nearly; nothing that was given is changed."""
    measure, parts = measure_of(name), sets(name, spoilt=0.3)
    kept = [part.copy() for part in parts]
    once = numbers_of(measure(*parts))
    single = numbers_of(measure(*(part.astype(np.float32) for part in parts)))  # type: ignore[arg-type]
    assert all(np.isclose(once[one], single[one], rtol=2e-2, atol=5e-3) for one in once), (once, single)
    assert all(np.array_equal(part, before) for part, before in zip(parts, kept, strict=True))


def check_equal(name: str) -> None:
    """Made images of the very distribution are as good as can be told: better, or not worse, than any that are spoilt."""
    facts, measure = METRICS.card(name).facts or {}, measure_of(name)
    good, bad = numbers_of(measure(*sets(name, seed=3))), numbers_of(measure(*sets(name, seed=3, spoilt=3.0)))
    for one, fact in facts.items():
        if one in good and fact["better"] != "none" and one not in FOOLED:
            sign = 1 if fact["better"] == "high" else -1
            assert sign * (good[one] - bad[one]) >= -0.03, (one, good[one], bad[one])


def check_copies(name: str) -> None:
    """Made images that are the real ones: no distance and full overlap, or, where that is looked for, found out."""
    measure, (real, _, held) = measure_of(name), sets(name, seed=2)
    found = numbers_of(measure(real, real.copy(), held))
    exact = {"fid": 0.0, "precision": 1.0, "recall": 1.0, "coverage": 1.0, "near_copies": 1.0, "closer": 1.0, "authentic": 0.0, "gain": 0.0}
    for one in set(exact) & set(found):
        assert np.isclose(found[one], exact[one], atol=1e-6), (one, found[one])
    assert found.get("kid", 0.0) < 0.01  # an image and its copy are one pair of many
    assert found.get("p_copied", 0.0) < 1e-6


def check_spoilt(name: str) -> None:
    """A distance grows, and overlap falls, as made images are spoiled more and more."""
    measure = measure_of(name)
    steps = [numbers_of(measure(*sets(name, seed=4, spoilt=one))) for one in SPOILT]
    for one, sign in (("kid", 1), ("fid", 1), ("precision", -1), ("density", -1), ("coverage", -1)):
        if one in steps[0]:
            course = [sign * step[one] for step in steps]
            assert all(a < b for a, b in pairwise(course)), (one, course)


def check_nonsense(name: str) -> None:
    """Sets that are no rows, of other features, empty, or with a value that is no number are errors that say what was expected."""
    measure, (real, fake, held) = measure_of(name), sets(name)
    wrong = [(real, fake[:, :2], held), (real, fake[:0], held), (real, np.where(fake > 2, np.nan, fake), held), (real, fake[:, 0], held)]
    for parts in wrong if ASKED.get(name) is not trial else wrong[1:2]:  # a classifier's images may be anything, but not nothing
        try:
            measure(*parts)
        except VesaliusError as problem:
            assert len(str(problem)) > 20
        else:
            raise AssertionError(f"{name} takes features of shapes {[part.shape for part in parts]}")


CHECKS: tuple[Callable[[str], None], ...] = (
    check_card, check_order, check_types, check_equal, check_copies, check_spoilt, check_nonsense,
)  # fmt: skip


def check_made_metric(name: str) -> None:
    """Run every check on the entry `name` of the shelf."""
    for check in CHECKS:
        check(name)
