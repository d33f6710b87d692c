"""Convolutional RBM: it is the dense RBM whose weights the filters spell out."""

import pytest
import torch

from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch, Kind
from vesalius.methods._chance import Chance
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
    return maps, Layers(biases, (weight,), torch.ones_like(base) if more.get("visible") == "gaussian" else None, base)


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("shape", [(2, 3, 2), (1, 2, 3, 2)])
def test_it_is_a_dense_machine(shape, visible, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # so that nothing is rounded on the way
    maps, dense = made(shape, visible=visible)
    image = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0)).double()
    rows = image.flatten(1)
    for beta in (1.0, 0.3, 0.0):
        torch.testing.assert_close(maps.free_energy(image, None, beta), dense.free_energy(rows, None, beta))
    hidden = (maps.drive(image) > 0).double()
    torch.testing.assert_close(maps.drive(image).flatten(1), dense.drive(rows))
    torch.testing.assert_close(maps.mean(hidden).flatten(1), dense.mean(0, dense.pull(0, {1: hidden.flatten(1)})))
    assert maps.log_start(shape[1:]).item() == pytest.approx(dense.log_start().item())


@pytest.mark.parametrize("shape", [(2, 9, 4), (3, 4, 6, 7)])
@pytest.mark.parametrize("kernel", [1, 5, 7])
def test_what_maps_add_is_the_transposed_convolution(shape, kernel):
    """Filters longer than the image along some axis too; its value and its gradient are those of torch."""
    pair = ConvolutionalRbm(shape, maps=3, kernel=kernel, seed=2).net.maps()
    hidden = torch.rand(4, 3, *shape[1:], generator=torch.Generator().manual_seed(3)).requires_grad_()
    transposed = {2: torch.nn.functional.conv_transpose2d, 3: torch.nn.functional.conv_transpose3d}[len(shape) - 1]
    mine, theirs = pair.pull(hidden), transposed(hidden, pair.filters, padding=kernel // 2)
    torch.testing.assert_close(mine, theirs)
    weight = torch.rand(mine.shape, generator=torch.Generator().manual_seed(4))
    for one, other in zip(*(torch.autograd.grad((x * weight).sum(), (hidden, pair.filters)) for x in (mine, theirs)), strict=True):
        torch.testing.assert_close(one, other)


def test_hiddens_are_on_as_often_as_they_should_be_and_leave_what_drives_them():
    """Within four standard errors of the sigmoid, at a temperature too."""
    pair = ConvolutionalRbm((1, 4, 4), maps=3, kernel=3).machine()
    drive = torch.linspace(-3, 3, 48).reshape(1, 3, 4, 4).expand(5000, -1, -1, -1).contiguous()
    before = drive.clone()
    for number, beta in enumerate((1.0, 0.5)):
        drawn = pair.hiddens(drive, Chance(0, number), beta=beta)
        expected = torch.sigmoid(before[0] * beta)
        assert torch.equal(drawn, Chance(0, number).bits(torch.sigmoid(before * beta)))
        assert set(drawn.unique().tolist()) == {0.0, 1.0} and torch.equal(drive, before)
        assert ((drawn.mean(0) - expected).abs() <= 4 * (expected * (1 - expected) / len(drawn)).sqrt()).all()


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


@pytest.mark.parametrize("more", [{"kernel": 4}, {"maps": 0}, {"visible": "poisson"}])
def test_nonsense_is_refused(more):
    with pytest.raises(UsageError):
        ConvolutionalRbm((1, 8, 8), **more)


def test_dreams_are_images():
    assert ConvolutionalRbm((1, 6, 5), maps=2, kernel=3).samples(2, sweeps=3).shape == (2, 1, 6, 5)
