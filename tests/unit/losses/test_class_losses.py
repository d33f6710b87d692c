"""Losses of classification against torch's own, the formulas of their papers, and each other."""

import math

import pytest
import torch
import torch.nn.functional as F

from vesalius.core.errors import VesaliusError
from vesalius.data.labels import IGNORE
from vesalius.losses import LOSSES
from vesalius.losses._balance import effective_number_weights
from vesalius.losses.ldam import LDAM, CosineHead, margins
from vesalius.losses.ordinal import CoralHead, Ordinal, class_probabilities, cumulative_logits
from vesalius.testing.check_loss import example


def images(exclusive, cases=24):
    """Logits (B, 3) and a target of which everything is known."""
    random = torch.Generator().manual_seed(3)
    target = torch.randint(3 if exclusive else 2, (cases, 1 if exclusive else 3), generator=random).to(torch.uint8)
    return torch.randn(cases, 3, generator=random), target


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_smoothed_cross_entropy_of_images_is_torch_s(smoothing):
    logits, target = images(True)
    expected = F.cross_entropy(logits, target[:, 0].long(), label_smoothing=smoothing)
    assert torch.allclose(LOSSES["cross_entropy"](True, smoothing=smoothing)(logits, target)["cross_entropy"], expected, atol=1e-6)


def test_smoothed_cross_entropy_of_findings_has_softer_truth():
    logits, target = images(False)
    expected = F.binary_cross_entropy_with_logits(logits, target.float() * 0.8 + 0.1)
    assert torch.allclose(LOSSES["cross_entropy"](False, smoothing=0.2)(logits, target)["cross_entropy"], expected, atol=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_unknown_is_not_smoothed_either(exclusive):
    loss = LOSSES["cross_entropy"](exclusive, smoothing=0.3)
    logits, target = example(exclusive, ())
    changed = torch.where((target == IGNORE).expand_as(logits), torch.full_like(logits, 9.0), logits)
    assert torch.allclose(loss(changed, target)["cross_entropy"], loss(logits, target)["cross_entropy"], atol=1e-6)


def test_class_weights_are_torch_s():
    weights = [0.2, 1.0, 3.0]
    logits, target = images(True)
    expected = F.cross_entropy(logits, target[:, 0].long(), torch.tensor(weights), reduction="none").mean()
    assert torch.allclose(LOSSES["cross_entropy"](True, weights=weights)(logits, target)["cross_entropy"], expected, atol=1e-6)
    logits, target = images(False)
    expected = F.binary_cross_entropy_with_logits(logits, target.float(), pos_weight=torch.tensor(weights))
    assert torch.allclose(LOSSES["cross_entropy"](False, weights=weights)(logits, target)["cross_entropy"], expected, atol=1e-6)


def test_unknown_findings_are_left_out_of_each_case():
    logits, target = images(False)
    target[:, 1] = IGNORE
    expected = F.binary_cross_entropy_with_logits(logits[:, [0, 2]], target[:, [0, 2]].float())
    assert torch.allclose(LOSSES["cross_entropy"](False)(logits, target)["cross_entropy"], expected, atol=1e-6)


def test_focal_of_images_is_the_paper_s():
    logits, target = images(True)
    p = logits.softmax(1).gather(1, target.long())[:, 0]
    alpha = torch.tensor([0.5, 1.0, 2.0])[target[:, 0].long()]
    found = LOSSES["focal"](True, gamma=1.5, weights=[0.5, 1.0, 2.0])(logits, target)["focal"]
    assert torch.allclose(found, (-alpha * (1 - p) ** 1.5 * p.log()).mean(), atol=1e-6)


def test_effective_numbers():
    """E = 1 + beta + ... + beta^(n-1), written out; the ends of beta are equal weights and inverse frequencies."""
    counts, beta = (1, 3, 10), 0.9
    effective = [sum(beta**i for i in range(n)) for n in counts]
    expected = [3 / e / sum(1 / x for x in effective) for e in effective]
    assert effective_number_weights(counts, beta=beta) == pytest.approx(expected)
    assert effective_number_weights(counts, beta=0) == [1, 1, 1]
    assert effective_number_weights(counts, beta=1 - 1e-9) == pytest.approx([3 / n / (1 + 1 / 3 + 1 / 10) for n in counts], rel=1e-6)


def test_a_class_without_cases_is_named():
    with pytest.raises(VesaliusError, match="Class 1 has no training case"):
        effective_number_weights((5, 0, 2))
    with pytest.raises(VesaliusError, match="Class 2 has no training case"):
        LDAM(counts=(5, 2, 0))


def test_margins_go_as_the_fourth_root():
    found = margins((10_000, 625, 16))
    assert found == pytest.approx([0.5 * 2 / 10, 0.5 * 2 / 5, 0.5])


def test_ldam_by_hand():
    """Two classes of 16 and 1 cases: margins .25 and .5; cosines .4 and -.2 of a case of class 1, scaled by 30."""
    loss = LDAM(counts=(16, 1))
    logits, target = torch.tensor([[0.4, -0.2]], dtype=torch.float64), torch.tensor([[1]], dtype=torch.uint8)
    expected = math.log1p(math.exp(30 * (0.4 - (-0.2 - 0.5))))
    assert loss(logits, target)["ldam"].item() == pytest.approx(expected)
    loss.progress(0.79)
    assert loss(logits, target)["ldam"].item() == pytest.approx(expected)
    loss.progress(0.8)
    weight = effective_number_weights((16, 1))[1]
    assert loss(logits, target)["ldam"].item() == pytest.approx(expected * weight, rel=1e-6) and weight > 1.8


def test_ldam_without_margin_and_scale_is_cross_entropy():
    logits, target = example(True, ())
    found = LDAM(counts=(50, 20, 5), widest=0.0, scale=1.0)(logits, target)["ldam"]
    assert torch.allclose(found, LOSSES["cross_entropy"](True)(logits, target)["cross_entropy"])


def test_the_head_of_ldam_gives_cosines():
    head, features = CosineHead(6, 3), torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([F.cosine_similarity(features, d[None]) for d in head.direction], 1)
    assert torch.allclose(head(features), expected, atol=1e-6) and torch.allclose(head(features * 7), head(features), atol=1e-6)
    head(features).sum().backward()
    assert head.direction.grad.abs().sum() > 0


def test_ordinal_by_hand():
    """p = .5, .3, .2 and truth 2: beyond 0 has .5, beyond 1 has .2."""
    logits, target = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log(), torch.tensor([[2]], dtype=torch.uint8)
    assert Ordinal()(logits, target)["ordinal"].item() == pytest.approx(-math.log(0.5) - math.log(0.2))
    target[:] = 1
    assert Ordinal()(logits, target)["ordinal"].item() == pytest.approx(-math.log(0.5) - math.log(0.8))


def test_a_far_confusion_costs_more_than_a_near_one():
    sure = 8.0 * torch.eye(4)
    cost = torch.tensor([[Ordinal()(sure[said][None], torch.tensor([[true]], dtype=torch.uint8))["ordinal"] for said in range(4)]
                         for true in range(4)])  # fmt: skip
    assert (cost[0].diff() > 1).all() and (cost[3].diff() < -1).all()


def test_coral_is_the_softmax_form_of_the_same_probabilities():
    logits, target = example(True, ())
    beyond = cumulative_logits(logits[..., None])[..., 0]
    assert torch.allclose(Ordinal(coral=True)(beyond, target)["ordinal"], Ordinal()(logits, target)["ordinal"], atol=1e-5)
    assert torch.allclose(class_probabilities(beyond), logits.softmax(1), atol=1e-6)


def test_the_head_of_coral_asks_consistent_questions():
    torch_generator = torch.Generator().manual_seed(0)
    head = CoralHead(5, 4)
    features = torch.randn(50, 5, generator=torch_generator)
    assert torch.allclose(class_probabilities(head(torch.zeros(1, 5))), torch.full((1, 4), 0.25))
    p = class_probabilities(head(features))
    assert p.shape == (50, 4) and (p >= 0).all() and torch.allclose(p.sum(1), torch.ones(50))
    assert (head(features).diff(dim=1) < 0).all()
    crossing = class_probabilities(torch.tensor([[-1.0, 2.0]]))
    assert (crossing >= 0).all() and crossing.sum() == pytest.approx(1)


def test_coral_learns_the_order():
    """Gradient descent on 1-D data in four ordered groups: the head finds every group."""
    x = torch.linspace(-2, 2, 81)[:, None]
    y = torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])).to(torch.uint8)
    head, loss = CoralHead(1, 4), Ordinal(coral=True)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        value = loss(head(x), y)["ordinal"]
        value.backward()
        return value

    optimiser.step(closure)
    right = (class_probabilities(head(x)).argmax(1) == y[:, 0]).float().mean()
    assert right > 0.95


@pytest.mark.parametrize(("make", "words"), [
    (lambda: LOSSES["cross_entropy"](True, smoothing=1.0), "below 1"),
    (lambda: LOSSES["cross_entropy"](True, weights=[-1.0, 2.0]), "0 or more"),
    (lambda: LOSSES["focal"](True, weights=[1.0, 2.0])(*images(True)), "Expected 3 class weights"),
    (lambda: LDAM(counts=(5, 5))(*images(True)), "Expected 3 class weights"),
    (lambda: effective_number_weights((1, 2), beta=1.0), "below 1"),
])  # fmt: skip
def test_nonsense_is_refused(make, words):
    with pytest.raises(VesaliusError, match=words):
        make()


def test_weights_follow_the_device_and_are_not_saved():
    loss = LDAM(counts=(5, 3, 1))
    assert not loss.state_dict() and loss.to(torch.float64).margin.dtype == torch.float64
