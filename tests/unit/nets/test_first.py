"""The first convolution of a network beside torch's in double precision: the same to the last bit where nothing need be rounded."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.unit.nets.made import whole_numbers
from vesalius.core.errors import VesaliusError
from vesalius.nets import _first
from vesalius.nets._blocks import CONV, convolution
from vesalius.nets._first import Begun, begins, extent_of, first, kept, learned
from vesalius.nets._together import LAYOUT

pytestmark = pytest.mark.skipif(
    _first.kernels() is None, reason="no kernels for bf16 here: not built, VESALIUS_KERNELS=off, or another processor"
)
CONVOLVE: dict[int, Any] = {4: F.conv2d, 5: F.conv3d}
SHAPES = [(1, 1, 1), (2, 3, 4), (5, 7, 5), (3, 4, 57), (9, 1, 6), (2, 3, 15), (17, 13), (1, 2), (3, 27), (4, 64)]


def layer_of(ndim: int, channels: tuple[int, int], *, taps: int = 3) -> Any:
    """A convolution of whole numbers."""
    layer = convolution(ndim, channels, (taps, 3, 3)[3 - ndim :])
    for k, weight in enumerate(layer.parameters()):
        weight.data.copy_(whole_numbers(tuple(weight.shape), k))
    return layer


def exact(layer: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Its result by torch in double precision, and weight and bias as leaves."""
    weight, bias = (one.detach().double().requires_grad_() for one in (layer.weight, layer.bias))
    return CONVOLVE[x.ndim](x.double(), weight, bias, padding=layer.padding), weight, bias


@pytest.mark.parametrize("sides", SHAPES)
@pytest.mark.parametrize(("batch", "channels", "made", "taps"), [(1, 1, 16, 3), (2, 2, 48, 3), (3, 1, 32, 1), (1, 2, 16, 1)])
def test_whole_numbers_are_exact(sides: tuple[int, ...], batch: int, channels: int, made: int, taps: int) -> None:
    layer, x = layer_of(len(sides), (channels, made), taps=taps), whole_numbers((batch, channels, *sides), 3)
    if batch == 1:
        layer, x = layer.to(memory_format=LAYOUT[x.ndim]), x.contiguous(memory_format=LAYOUT[x.ndim])
    with torch.autocast("cpu", torch.bfloat16):
        assert begins(x, layer)
        out = first(x, layer)
        with torch.no_grad():
            assert torch.equal(first(x, layer), out)
    truth, weight, bias = exact(layer, x)
    grad = whole_numbers(tuple(out.shape), 4)
    out.backward(grad.bfloat16())
    truth.backward(grad.double())
    assert out.dtype == torch.bfloat16 and torch.equal(out, truth.bfloat16())
    assert weight.grad is not None and torch.equal(layer.weight.grad, weight.grad.float())
    assert bias.grad is not None and torch.equal(layer.bias.grad, bias.grad.float())


def test_rounding_is_that_of_torch() -> None:
    """Of noise that bf16 must round, as weights too."""
    random = torch.Generator().manual_seed(0)
    layer, x = layer_of(3, (2, 16)), torch.randn(2, 2, 6, 12, 15, generator=random)
    layer.weight.data.copy_(torch.randn(layer.weight.shape, generator=random))
    truth, weight, bias = exact(layer, x)
    grad = torch.randn(truth.shape, generator=random).bfloat16()
    truth.backward(grad.double())
    found = []
    for way in (first, lambda x, layer: nn.Conv3d.forward(layer, x)):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = way(x, layer)
        out.backward(grad)
        found.append([out.detach(), layer.weight.grad, layer.bias.grad])
    for ours, theirs, of in zip(*found, (truth.detach(), weight.grad, bias.grad), strict=True):
        assert of is not None
        assert (ours.double() - of).norm() <= 1.02 * (theirs.double() - of).norm() < 2**-6 * of.norm()


def test_threads_change_nothing() -> None:
    random = torch.Generator().manual_seed(1)
    layer, x = layer_of(3, (1, 32)), torch.randn(3, 1, 7, 9, 31, generator=random)
    grad = torch.randn(3, 32, 7, 9, 31, generator=random).bfloat16().contiguous(memory_format=LAYOUT[5])
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        image = kept(x, extent_of(x, layer.weight))
        found.append([_first.convolved(image, layer.weight, layer.bias, x=x), *learned(image, grad, layer.weight, x=x)])
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_what_is_not_a_number_is_handed_on() -> None:
    """To the same voxels as by torch, and to every weight that sees it."""
    layer, x = layer_of(3, (1, 16)), whole_numbers((1, 1, 5, 6, 22), 3)
    x[0, 0, 2, 3, 21], x[0, 0, 0, 0, 7] = float("nan"), float("inf")
    out, weight, _ = exact(layer, x)
    grad = torch.ones_like(out)
    out.backward(grad)
    image = kept(x, extent_of(x, layer.weight))
    assert torch.equal(_first.convolved(image, layer.weight, layer.bias, x=x).isfinite(), out.isfinite())
    low = grad.bfloat16().contiguous(memory_format=LAYOUT[5])
    assert weight.grad is not None and torch.equal(learned(image, low, layer.weight, x=x)[0].isfinite(), weight.grad.isfinite())


def test_a_gradient_has_a_gradient() -> None:
    layer, x = layer_of(2, (1, 16)), whole_numbers((1, 1, 6, 7), 3)

    def penalty(out: Tensor, weight: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(out.double().square().sum() / 1024, weight, create_graph=True)
        (found,) = torch.autograd.grad(slope.double().square().mean(), weight)
        return found.double()

    found, (truth, weight, _) = penalty(Begun.apply(x, layer.weight, layer.bias), layer.weight), exact(layer, x)
    of = penalty(truth, weight)
    assert float((found - of).norm() / of.norm()) < 2**-6


def test_what_is_left_to_torch() -> None:
    x, how = torch.zeros(1, 1, 8, 8, 8), {"kernel_size": 3, "padding": 1}
    assert not begins(x, CONV[3](1, 16, **how))  # outside autocast
    with torch.autocast("cpu", torch.bfloat16):
        assert begins(x, CONV[3](1, 16, **how))
        for other in ({"stride": 2}, {"dilation": 2, "padding": 2}, {"padding": 0}, {"padding_mode": "circular"},
                      {"kernel_size": 5, "padding": 2}):  # fmt: skip
            assert not begins(x, CONV[3](1, 16, **{**how, **other}))
        assert not begins(x, CONV[3](1, 8, **how)) and not begins(x.bfloat16(), CONV[3](1, 16, **how))
        assert not begins(x.clone().requires_grad_(), CONV[3](1, 16, **how)) and not begins(x[0], CONV[3](1, 16, **how))
        assert not begins(torch.zeros(1, 3, 8, 8, 8), CONV[3](3, 16, **how)) and not begins(x, CONV[3](1, 16, **how).bfloat16())


def test_images_of_other_channels_are_refused() -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(VesaliusError, match="Expected 1 channels for a convolution; got 2"):
        CONV[3](1, 16, 3, padding=1)(torch.zeros(1, 2, 4, 4, 4))


def test_where_there_is_no_memory_that_is_told() -> None:
    made, many = _first.kernels(), torch.tensor([1, 1, 1, 1, 2**44, 3, 16])
    assert made is not None
    with pytest.raises(MemoryError, match="no memory"):
        _first.run(made[2], None, None, None, None, many.data_ptr(), 1)
