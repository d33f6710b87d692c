"""Convolutional RBM: it is the dense RBM whose weights the filters spell out."""

import pytest
import torch

from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch, Kind
from vesalius.methods._dream import Dream
from vesalius.methods._layers import Layers
from vesalius.methods._partition import log_partition
from vesalius.methods.convolutional_rbm import ConvolutionalRbm


def made(shape, **more):
    """A small machine with weights far from zero, in float64, and the dense one with the same weights."""
    method = ConvolutionalRbm(shape, **{"maps": 2, "kernel": 3, **more}).double()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in method.net.parameters():
            p.copy_(torch.randn(p.shape, generator=random))
    maps = method.net.maps()
    every = torch.eye(method.size).double().reshape(-1, *shape)
    weight = (maps.drive(every) - maps.hidden_bias).flatten(1)
    biases = maps.visible_bias.expand(shape).flatten(), maps.hidden_bias.expand(-1, *shape[1:]).flatten()
    base = maps.base.expand(shape).flatten()
    return maps, Layers(biases, (weight,), torch.ones_like(base) if more.get("gaussian") else None, base)


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 2), (1, 2, 3, 2)])
def test_it_is_a_dense_machine(shape, gaussian, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # so that nothing is rounded on the way
    maps, dense = made(shape, gaussian=gaussian)
    visible = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0)).double()
    rows = visible.flatten(1)
    for beta in (1.0, 0.3, 0.0):
        torch.testing.assert_close(maps.free_energy(visible, None, beta), dense.free_energy(rows, None, beta))
    hidden = (maps.drive(visible) > 0).double()
    torch.testing.assert_close(maps.drive(visible).flatten(1), dense.drive(rows))
    torch.testing.assert_close(maps.mean(hidden).flatten(1), dense.mean(0, dense.pull(0, {1: hidden.flatten(1)})))
    assert maps.log_start(shape[1:]).item() == pytest.approx(dense.log_start().item())


def test_learning_raises_the_exact_likelihood():
    """Stripes of a 3 x 4 image: mean log p by enumeration, before and after."""
    image = torch.zeros(4, 1, 3, 4)
    for row in range(3):
        image[row, 0, row] = 1
    image[3, 0, 0] = image[3, 0, 2] = 1
    method = ConvolutionalRbm((1, 3, 4), maps=1, kernel=3, dream=Dream(chains=300), learning_rate=0.1, weight_decay=0.0)

    def likelihood():
        maps = method.net.maps()
        weight = (maps.drive(torch.eye(12).reshape(-1, 1, 3, 4)) - maps.hidden_bias).flatten(1)
        dense = Layers((maps.visible_bias.expand(1, 3, 4).flatten(), maps.hidden_bias.expand(1, 3, 4).flatten()), (weight,))
        return float(-dense.free_energy(image.flatten(1)).mean()) - log_partition(dense)

    def step():
        for _, losses in method.steps(Batch({"image": image}, {"image": Kind.IMAGE})):
            teacher.zero_grad()
            sum(losses.values()).backward()
            teacher.step()

    teacher = method.optimisers()["net"]
    step()  # the first sets the biases to the means
    before = likelihood()
    for number in range(300):
        for group in teacher.param_groups:
            group["lr"] = 0.1 * (1 - number / 300)
        step()
    assert likelihood() > before + 0.7


@pytest.mark.parametrize("more", [{"kernel": 4}, {"maps": 0}])
def test_nonsense_is_refused(more):
    with pytest.raises(UsageError):
        ConvolutionalRbm((1, 8, 8), **more)


def test_dreams_are_images():
    assert ConvolutionalRbm((1, 6, 5), maps=2, kernel=3).samples(2, sweeps=3).shape == (2, 1, 6, 5)
