"""The gradients of the last convolution of a network beside torch's in double precision: the same to the last bit where nothing need be
rounded."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.unit.nets.made import together, whole_numbers
from vesalius.nets import _last
from vesalius.nets._blocks import CONV, convolution
from vesalius.nets._last import ends, gradients
from vesalius.nets._together import LAYOUT

pytestmark = pytest.mark.skipif(_last.gradient() is None, reason="no kernels here: not built, or VESALIUS_KERNELS=off")
CONVOLVE: dict[int, Any] = {4: F.conv2d, 5: F.conv3d}


def layer_of(ndim: int, channels: tuple[int, int]) -> Any:
    """A convolution of whole numbers."""
    layer = convolution(ndim, channels, (1,) * ndim)
    for k, weight in enumerate(layer.parameters()):
        weight.data.copy_(whole_numbers(tuple(weight.shape), k))
    return layer


def exact(layer: Any, x: Tensor, grad: Tensor) -> list[Tensor]:
    """The result of `layer`, and the gradients of map, weight and bias, by torch in double precision."""
    leaves = [one.detach().double().requires_grad_() for one in (x, layer.weight, layer.bias)]
    out = CONVOLVE[x.ndim](*leaves)
    out.backward(grad.double())
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def answers(layer: Any, x: Tensor, grad: Tensor) -> list[Tensor]:
    """The same in bf16 by `layer` as it is."""
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(leaf)
    out.backward(grad)
    assert leaf.grad is not None
    return [out.detach(), leaf.grad, layer.weight.grad, layer.bias.grad]


@pytest.mark.parametrize("sides", [(1, 1, 1), (3, 5, 7), (6, 8, 57), (17, 33), (1, 2)])
@pytest.mark.parametrize(("batch", "channels", "classes"), [(1, 16, 1), (2, 32, 3), (3, 16, 8), (1, 48, 2), (2, 16, 5)])
def test_whole_numbers_are_exact(sides: tuple[int, ...], batch: int, channels: int, classes: int) -> None:
    layer, x = layer_of(len(sides), (channels, classes)), together(whole_numbers((batch, channels, *sides), 3))
    if batch == 2:
        layer = layer.to(memory_format=LAYOUT[x.ndim])
    grad = together(whole_numbers((batch, classes, *sides), 4))
    with torch.autocast("cpu", torch.bfloat16):
        assert ends(x, layer)
    for found, truth in zip(answers(layer, x, grad), exact(layer, x, grad), strict=True):
        assert torch.equal(found, truth.to(found.dtype))


def test_rounding_is_that_of_torch() -> None:
    random = torch.Generator().manual_seed(0)
    layer, x = layer_of(3, (32, 3)), together(torch.randn(2, 32, 6, 12, 15, generator=random))
    layer.weight.data.copy_(torch.randn(layer.weight.shape, generator=random))
    grad = together(torch.randn(2, 3, 6, 12, 15, generator=random))
    plain = nn.Conv3d(32, 3, 1)
    plain.load_state_dict(layer.state_dict())
    for ours, theirs, of in zip(answers(layer, x, grad), answers(plain, x, grad), exact(layer, x, grad), strict=True):
        assert (ours.double() - of).norm() <= 1.02 * (theirs.double() - of).norm() < 2**-6 * of.norm()


def test_threads_change_nothing() -> None:
    random, found = torch.Generator().manual_seed(1), []
    layer, x = layer_of(3, (16, 3)), together(torch.randn(2, 16, 9, 21, 19, generator=random))
    grad = together(torch.randn(2, 3, 9, 21, 19, generator=random))
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(answers(layer, x, grad))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_what_is_not_a_number_is_handed_on() -> None:
    layer, x, grad = layer_of(2, (16, 3)), together(whole_numbers((1, 16, 6, 7), 3)), together(whole_numbers((1, 3, 6, 7), 4))
    x[0, 3, 2, 4], grad[0, 1, 5, 6] = float("nan"), float("inf")
    for found, truth in zip(answers(layer, x, grad), exact(layer, x, grad), strict=True):
        assert torch.equal(found.isfinite(), truth.isfinite())


def test_a_gradient_has_a_gradient() -> None:
    layer, x = layer_of(2, (16, 3)), together(whole_numbers((1, 16, 4, 6), 3))

    def penalty(own: bool) -> Tensor:
        leaf, weight = (one if own else one.detach().double().requires_grad_() for one in (x.clone().requires_grad_(), layer.weight))
        with torch.autocast("cpu", torch.bfloat16, enabled=own):
            out = layer(leaf) if own else F.conv2d(leaf, weight, layer.bias.double())
        (back,) = torch.autograd.grad(out.double().square().sum() / 1024, leaf, create_graph=True)
        (found,) = torch.autograd.grad(back.double().square().mean(), weight)
        return found.double()

    x = x.contiguous(memory_format=torch.channels_last)
    found, truth = penalty(True), penalty(False)
    assert float((found - truth).norm() / truth.norm()) < 2**-6


def test_what_is_left_to_torch() -> None:
    x = together(torch.zeros(1, 16, 4, 4, 4))
    assert not ends(x, CONV[3](16, 3, 1))  # outside autocast
    with torch.autocast("cpu", torch.bfloat16):
        assert ends(x, CONV[3](16, 3, 1))
        for how in ({"stride": 2}, {"padding": 1}, {"kernel_size": 3}):
            assert not ends(x, CONV[3](16, 3, **{"kernel_size": 1, **how}))
        assert not ends(x, CONV[3](16, 9, 1)) and not ends(x.float(), CONV[3](16, 3, 1)) and not ends(x.contiguous(), CONV[3](16, 3, 1))
        assert not ends(x[:, :8], CONV[3](8, 3, 1)) and not ends(x, CONV[3](32, 3, 1)) and not ends(x, CONV[3](16, 3, 1).bfloat16())
        with torch.no_grad():
            assert not ends(x, CONV[3](16, 3, 1))


def test_the_map_need_not_learn() -> None:
    layer, x, grad = layer_of(2, (16, 3)), together(whole_numbers((1, 16, 6, 7), 3)), together(whole_numbers((1, 3, 6, 7), 4))
    weight, bias, back = gradients(grad, layer.weight, x, back=False)
    assert back is None and torch.equal(weight, exact(layer, x, grad)[2].float()) and torch.equal(bias, exact(layer, x, grad)[3].float())
