"""Discriminative RBM: classes and pairs by enumeration of every joint state, and learning with and without labels."""

import numpy as np
import pytest
import torch

from tests.unit.methods import tiny
from vesalius.core.errors import VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.methods._chance import Chance
from vesalius.methods.discriminative_rbm import DiscriminativeRbm, Labelled


def machine():
    random = torch.Generator().manual_seed(5)
    bias, weight = torch.randn(3, generator=random).double(), torch.randn(3, 2, generator=random).double()
    return Labelled(tiny.machine(4, 2).layers().detached(), bias, weight)


def joint(m):
    """p(v, y) of every pair, by summing exp(b v + d y + c h + v W h + y U h) over the hidden states."""
    v, h = tiny.states(4), tiny.states(2)
    b, c = m.image.biases
    exponent = (v @ b)[:, None, None] + m.bias[None, :, None] + (h @ c)[None, None] + (v @ m.image.weights[0] @ h.T)[:, None]
    weight = torch.exp(exponent + (m.weight @ h.T)[None]).sum(2)
    return weight / weight.sum()


def pairs():
    """Every visible state with every class."""
    return torch.cat([tiny.states(4).repeat_interleave(3, 0), torch.eye(3).double().repeat(16, 1)], 1)


def test_class_probabilities_are_those_of_the_joint_distribution():
    p = joint(machine())
    torch.testing.assert_close(torch.softmax(machine().by_class(tiny.states(4)), 1), p / p.sum(1, keepdim=True))


def test_free_energies_of_pairs_are_those_of_the_joint_distribution():
    torch.testing.assert_close(torch.softmax(-machine().free_energy(pairs()), 0), joint(machine()).flatten())


def test_the_gibbs_kernel_keeps_the_joint_distribution():
    """Many chains that start from the exact distribution have it after a sweep (chi-squared below its 99.9 % point)."""
    from scipy import stats

    m, p, number = machine(), joint(machine()).flatten(), 40000
    picks = torch.from_numpy(np.random.default_rng(0).choice(48, number, p=p.numpy()))
    both = pairs()[picks]
    after = m.visibles(m.hiddens(m.drive(both), Chance(0, 0)), Chance(0, 1))
    codes = (after[:, :4] @ torch.tensor([8.0, 4, 2, 1]).double()).long() * 3 + after[:, 4:].argmax(1)
    found = torch.bincount(codes, minlength=48).numpy()
    assert stats.chisquare(found, number * p.numpy() / p.numpy().sum()).pvalue > 0.001


def learned(label, **more):
    image = torch.zeros(8, 1, 2, 4)
    image[::2, 0, 0], image[1::2, 0, 1] = 0.9, 0.9
    method = DiscriminativeRbm((1, 2, 4), classes=2, hidden=4, learning_rate=0.1, **more)
    teacher = method.optimisers()["net"]
    tensors = {"image": image} if label is None else {"image": image, "label": label}
    for _ in range(150):
        for _, losses in method.steps(Batch(tensors, {"image": Kind.IMAGE, "label": Kind.LABEL})):
            teacher.zero_grad()
            sum(losses.values()).backward()
            teacher.step()
    return method, image


def test_two_labels_among_eight_images_are_enough():
    label = torch.full((8,), -1)
    label[0], label[1] = 0, 1
    method, image = learned(label)
    assert method.classify(image).argmax(1).tolist() == [0, 1] * 4


def test_without_labels_it_learns_the_images():
    method, image = learned(None)
    assert float((method.infer(image) - image).abs().mean()) < 0.2


def test_labels_without_a_class_are_refused():
    with pytest.raises(VesaliusError, match="0 to 1"):
        learned(torch.arange(8))
    with pytest.raises(VesaliusError, match="two classes"):
        DiscriminativeRbm((1, 2, 4), classes=1)
