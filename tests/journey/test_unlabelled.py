"""Methods without labels in the one loop: two processes learn what one would with the joint batch, chance included."""

import pytest
import torch

from tests.journey import unlabelled
from tests.journey.test_processes import ROOT, torchrun
from vesalius.engine.state import load_weights


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Weights of one process and of two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    unlabelled.main(one)
    torchrun(ROOT / "tests" / "journey" / "unlabelled.py", two, home=two)
    return one, two


@pytest.mark.slow
@pytest.mark.parametrize("name", unlabelled.NAMES)
def test_two_processes_learn_as_one(found, name):
    alone = load_weights(found[0] / f"{name}-0.safetensors")[0]
    first, second = (load_weights(found[1] / f"{name}-{rank}.safetensors")[0] for rank in (0, 1))
    assert [word for word in first if not torch.equal(first[word], second[word])] == []
    whole = [torch.cat([part[word].flatten().float() for word in alone]) for part in (alone, first)]
    start = torch.cat([value.flatten().float() for value in unlabelled.suite.build(unlabelled.METHODS.card(name)).state_dict().values()])
    assert float((whole[0] - whole[1]).norm()) < 1e-3 * float((whole[0] - start).norm()), "the steps differ"
