"""Supervised learning: which weights are decayed, and one step of AdamW worked out by its formula."""

import pytest
import torch
from torch import nn

from vesalius.data.batch import Batch
from vesalius.methods.supervised import Supervised


class Scales(nn.Module):
    """Two heads: w x + b, and twice that."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor([[2.0]])), nn.Parameter(torch.tensor([1.0]))

    def heads(self, image):
        return [image * self.weight + self.bias, 2 * (image * self.weight + self.bias)]

    def forward(self, image):
        return self.heads(image)[0]


class Terms(nn.Module):
    """Named terms that remember what they were called with."""

    def forward(self, heads, target):
        self.seen = len(heads), target
        return {"first": heads[0].mean(), "second": 3 * heads[1].mean()}


def made(**more):
    return Supervised(Scales(), Terms(), **{"learning_rate": 0.1, "weight_decay": 0.01, **more})


BATCH = Batch({"image": torch.tensor([[1.0], [3.0]]), "target": torch.tensor([[0], [1]])}, {})


def test_one_turn_with_the_terms_of_the_loss_at_every_scale():
    method = made()
    ((name, losses),) = method.steps(BATCH)
    assert name == "net" and {word: float(term.detach()) for word, term in losses.items()} == {"first": 5.0, "second": 30.0}
    assert method.loss.seen[0] == 2 and method.loss.seen[1] is BATCH["target"]


def test_answers_are_the_finest_head():
    assert made().infer(torch.tensor([[4.0]])).tolist() == [[9.0]]


def test_only_weights_of_more_than_one_axis_are_decayed():
    method = made()
    groups = method.optimisers()["net"].param_groups
    assert [(group["weight_decay"], group["params"]) for group in groups] == [(0.01, [method.net.weight]), (0.0, [method.net.bias])]
    assert all(group["lr"] == 0.1 and group["betas"] == (0.9, 0.99) for group in groups)


def test_a_step_is_that_of_the_paper():
    """Loshchilov & Hutter 2019, algorithm 2: w <- w - lr (m' / (sqrt(v') + eps) + decay w); at the first step m' / sqrt(v') is a sign."""
    method = made()
    optimiser = method.optimisers()["net"]
    for _, losses in method.steps(BATCH):
        sum(losses.values()).backward()
    optimiser.step()
    assert float(method.net.weight.detach()) == pytest.approx(2 - 0.1 * (1 + 0.01 * 2), abs=1e-6)
    assert float(method.net.bias.detach()) == pytest.approx(1 - 0.1, abs=1e-6)


def test_the_second_step_too():
    method = made(weight_decay=0.0)
    optimiser = method.optimisers()["net"]
    for gradient in (1.0, -3.0):
        method.net.bias.grad = torch.tensor([gradient])
        method.net.weight.grad = torch.zeros(1, 1)
        optimiser.step()
    m, v = (0.9 * 0.1 * 1 + 0.1 * -3) / (1 - 0.9**2), (0.99 * 0.01 * 1 + 0.01 * 9) / (1 - 0.99**2)
    assert float(method.net.bias.detach()) == pytest.approx(1 - 0.1 - 0.1 * m / v**0.5, abs=1e-6)
