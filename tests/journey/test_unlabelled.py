"""Methods without labels in the one loop: two processes learn what one would with the joint batch, chance included."""

import pytest
import torch

from tests.journey import unlabelled
from tests.journey.test_processes import ROOT, torchrun
from vesalius.engine.state import load_weights
from vesalius.methods import METHODS
from vesalius.testing import check_method as suite


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Weights of one process and of two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    unlabelled.main(one)
    torchrun(ROOT / "tests" / "journey" / "unlabelled.py", two, home=two)
    return one, two


def answer(name, weights=None):
    """What the method says of an image, before learning or with `weights`. (Weights themselves differ where they do not matter: a bias
    before a norm has no gradient but rounding, which AdamW makes steps of.)"""
    card = METHODS.card(name)
    method = suite.build(card)
    if weights is not None:
        method.load_state_dict(weights)
    image = suite.example(card, seed=99)["image"]
    return torch.cat([method.infer(image).flatten(1), method.features(image)], 1).detach()


@pytest.mark.slow
@pytest.mark.parametrize("name", unlabelled.NAMES)
def test_two_processes_learn_as_one(found, name):
    alone = load_weights(found[0] / f"{name}-0.safetensors")[0]
    first, second = (load_weights(found[1] / f"{name}-{rank}.safetensors")[0] for rank in (0, 1))
    assert [word for word in first if not torch.equal(first[word], second[word])] == []
    start, one, two = answer(name), answer(name, alone), answer(name, first)
    assert float((one - two).norm()) < 1e-3 * float((one - start).norm())
