"""The class is in neither sequence and in both: shown by enumerating every state, whatever score a model might compute."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vesalius.core.errors import UsageError
from vesalius.phantoms._cohort import schedule
from vesalius.phantoms.interaction import CLASSES, STATES, Interaction, class_of_state, generate

SHAPE = (16, 24, 24)
SEEDS = range(5)


@pytest.fixture(scope="module")
def heads():
    return {(seed, state): generate(SHAPE, seed=seed, state=state) for seed in SEEDS for state in STATES}


def scores(images):
    """Very different things that a model of one sequence could look at."""
    wave = np.sin(np.arange(images.size)).reshape(images.shape)
    return [images.max(), images.std(), images[:8].mean(), images[8:].min(), (images * wave).sum()]


def test_a_sequence_does_not_depend_on_the_other_mark_so_that_it_cannot_know_the_class(heads):
    for seed in SEEDS:
        for own in "01":
            first = [heads[seed, own + other]["images"][0] for other in "01"]
            second = [heads[seed, other + own]["images"][1] for other in "01"]
            assert (first[0] == first[1]).all() and (second[0] == second[1]).all()
            assert {class_of_state(own + other) for other in "01"} == set(CLASSES) == {class_of_state(other + own) for other in "01"}


def test_over_all_states_any_score_of_one_sequence_has_an_auc_of_one_half_exactly(heads):
    truth = [class_of_state(state) == CLASSES[1] for _, state in heads]
    for channel in range(2):
        for values in np.array([scores(made["images"][channel]) for made in heads.values()]).T:
            assert roc_auc_score(truth, values) == pytest.approx(0.5, abs=1e-12)


def test_both_together_tell_without_a_mistake(heads):
    truth, fused = [], []
    for (_, state), made in heads.items():
        around = [np.median(image[6:10, 8:16, 8:16]) for image in made["images"]]
        signs = [np.sign(made["images"][k][made["labels"] == k + 1].mean() - around[k]) for k in range(2)]
        truth.append(class_of_state(state) == CLASSES[1])
        fused.append(-signs[0] * signs[1])
    assert roc_auc_score(truth, fused) == 1.0


def test_in_every_four_seeds_each_mark_is_balanced_within_each_class():
    drawn = [generate((8, 8, 8), seed=seed)["facts"] for seed in range(16)]
    for start in range(0, 16, 4):
        states = [known["state"] for known in drawn[start : start + 4]]
        assert sorted(states) == list(STATES)
    assert all(known["class"] == class_of_state(known["state"]) == Interaction().class_of(known["seed"]) for known in drawn)
    assert len({tuple(known["state"] for known in drawn[k : k + 4]) for k in range(0, 16, 4)}) > 1, "the order is drawn"


def test_a_cohort_ties_no_site_to_a_class():
    visits = schedule(Interaction(), 400, seed=3)
    for site in Interaction.sites:
        share = np.mean([Interaction().class_of(v.seed) == "alike" for v in visits if v.site == site])
        assert abs(share - 0.5) < 0.12


def test_the_marks_lie_in_distant_slices(heads):
    for made in heads.values():
        slices = [np.flatnonzero((made["labels"] == k).any((1, 2))) for k in (1, 2)]
        gap = (slices[0].min() - slices[1].max()) * made["space"].spacing[0]
        assert gap >= 18
        right, left = (mark["centre_mm"][0] for mark in made["facts"]["marks"])
        assert right - left >= 72


def test_nonsense_is_refused():
    for words, said in (({"state": "12"}, "12"), ({"site": "moon"}, "moon"), ({"spacing": (1, 1)}, "spacings")):
        with pytest.raises(UsageError, match=said):
            generate(SHAPE, seed=0, **words)
