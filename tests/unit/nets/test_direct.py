"""Convolutions in steps, of few voxels and transposed, beside torch's in double precision: the same to the last bit where nothing need be
rounded."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.unit.nets.made import together, whole_numbers
from vesalius.core.errors import VesaliusError
from vesalius.nets import _blocks, _direct
from vesalius.nets._blocks import CONV, TRANSPOSED, Up, convolution
from vesalius.nets._direct import Lattice, direct, lattice_of, learned, learns, moved, raises
from vesalius.nets._together import LAYOUT
from vesalius.nets.unet import UNet

pytestmark = pytest.mark.skipif(
    _direct.kernels() is None, reason="no kernels for bf16 here: not built, VESALIUS_KERNELS=off, or another processor"
)
SHAPES = [
    (1, 16, 16, (1, 1, 1)),
    (3, 16, 48, (2, 3, 4)),
    (2, 32, 16, (5, 7, 5)),
    (1, 16, 32, (6, 8, 57)),
    (2, 48, 16, (3, 30, 31)),
    (1, 64, 16, (9, 1, 6)),
    (1, 16, 16, (4, 4, 64)),
    (3, 32, 64, (17, 13)),
    (1, 16, 16, (1, 2)),
    (2, 16, 16, (66, 40)),
]
WAYS = [(3, 2), (3, 1), ((3, 3, 3), (1, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((3, 1, 3), (2, 1, 1)), ((1, 3, 1), (2, 2, 2))]
Layer = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d


def layer_of(ndim: int, channels: tuple[int, int], kernel: Any, step: Any) -> Layer:
    """A convolution, or a transposed one where there is no kernel, of whole numbers."""
    steps = (step,) * ndim if isinstance(step, int) else step[3 - ndim :]
    sides = steps if kernel is None else (kernel,) * ndim if isinstance(kernel, int) else kernel[3 - ndim :]
    layer: Layer = TRANSPOSED[ndim](*channels, steps, steps) if kernel is None else convolution(ndim, channels, sides, stride=steps)
    with torch.no_grad():
        layer.weight.copy_(whole_numbers(tuple(layer.weight.shape), 1))
        assert layer.bias is not None
        layer.bias.copy_(whole_numbers((channels[1],), 2))
    return layer


def exact(layer: Layer, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What `layer` gives of `x` by torch in double precision, and weight, bias and map as leaves."""
    assert layer.bias is not None
    leaves = [one.detach().double().requires_grad_() for one in (layer.weight, layer.bias, x)]
    functions: dict[tuple[int, bool], Any] = {
        (4, False): F.conv2d, (5, False): F.conv3d, (4, True): F.conv_transpose2d, (5, True): F.conv_transpose3d}  # fmt: skip
    how = lattice_of(layer)
    return functions[x.ndim, how.rising](leaves[2], leaves[0], leaves[1], stride=how.step, padding=how.pad), leaves


@pytest.mark.parametrize(("batch", "width", "made", "sides"), SHAPES)
@pytest.mark.parametrize(("kernel", "step"), WAYS)
def test_whole_numbers_are_exact(batch: int, width: int, made: int, sides: tuple[int, ...], kernel: Any, step: Any) -> None:
    layer, x = layer_of(len(sides), (width, made), kernel, step), together(whole_numbers((batch, width, *sides), 3))
    if batch == 2:
        layer = layer.to(memory_format=LAYOUT[x.ndim])  # as the loop keeps them
    truth, leaves = exact(layer, x)
    grad, how = together(whole_numbers(tuple(truth.shape), 4)), lattice_of(layer)
    truth.backward(grad.double())
    assert torch.equal(moved(x, layer.weight, layer.bias, lattice=how, sides=truth.shape[2:]), truth.to(x.dtype))
    back = moved(grad, layer.weight, None, lattice=how.turned(), sides=sides)
    for found, leaf in zip((*learned(x, grad, layer.weight, lattice=how), back), leaves, strict=True):
        assert leaf.grad is not None and torch.equal(found, leaf.grad.to(found.dtype))


@pytest.mark.parametrize(("batch", "width", "made", "sides"), SHAPES)
@pytest.mark.parametrize("step", [2, (1, 2, 2), (2, 2, 1)])
def test_transposed_ones_are_exact(batch: int, width: int, made: int, sides: tuple[int, ...], step: Any) -> None:
    layer, x = layer_of(len(sides), (width, made), None, step), together(whole_numbers((batch, width, *sides), 3)).requires_grad_()
    truth, leaves = exact(layer, x)
    grad = together(whole_numbers(tuple(truth.shape), 4))
    with torch.autocast("cpu", torch.bfloat16):
        assert raises(x, layer)
        out = direct(x, layer)
    out.backward(grad)
    truth.backward(grad.double())
    with torch.no_grad():
        assert torch.equal(direct(x, layer), truth.to(x.dtype)) and torch.equal(out, truth.to(x.dtype))
    for leaf, other in zip((layer.weight, layer.bias, x), leaves, strict=True):
        assert leaf is not None and leaf.grad is not None and other.grad is not None
        assert torch.equal(leaf.grad, other.grad.to(leaf.dtype))


@pytest.mark.parametrize("kernel", [3, None])
@pytest.mark.parametrize(("width", "made"), [(16, 32), (64, 32)])
def test_rounding_is_that_of_torch(kernel: int | None, width: int, made: int) -> None:
    """Of noise, with weights that bf16 must round; what torch gives in bf16 is the measure."""
    random = torch.Generator().manual_seed(0)
    layer, x = layer_of(3, (width, made), kernel, 2), together(torch.randn(2, width, 6, 12, 14, generator=random))
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=random) / 30)
    truth, leaves = exact(layer, x)
    grad = together(torch.randn(truth.shape, generator=random))
    truth.backward(grad.double())
    found = []
    for own in (True, False):
        one, leaf = copy.deepcopy(layer), x.clone(memory_format=torch.preserve_format).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = direct(leaf, one) if own else type(one).__bases__[-1].forward(one, leaf) if kernel else one(leaf)
        out.backward(grad)
        found.append([out.detach(), one.weight.grad, one.bias.grad, leaf.grad])  # type: ignore[union-attr]
    for ours, theirs, of in zip(*found, [truth.detach(), *(leaf.grad for leaf in leaves)], strict=True):
        assert ours is not None and theirs is not None and of is not None
        assert (ours.double() - of).norm() <= 1.02 * (theirs.double() - of).norm() < 2**-6 * of.norm()


def test_threads_change_nothing() -> None:
    """Neither a result nor a gradient, to the last bit."""
    random = torch.Generator().manual_seed(1)
    for kernel, sides, there in ((3, (5, 21, 19), (3, 11, 10)), (None, (3, 11, 10), (6, 22, 20))):
        layer, x = layer_of(3, (16, 32), kernel, 2), together(torch.randn(2, 16, *sides, generator=random))
        grad, how, found = together(torch.randn(2, 32, *there, generator=random)), lattice_of(layer), []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            back = moved(grad, layer.weight, None, lattice=how.turned(), sides=sides)
            found.append([moved(x, layer.weight, layer.bias, lattice=how, sides=there), back, *learned(x, grad, layer.weight, lattice=how)])
        for other in found[1:]:
            assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("kernel", [3, None])
def test_what_is_not_a_number_is_handed_on(kernel: int | None) -> None:
    """To the same voxels as by torch, and to every weight that sees them."""
    layer, x = layer_of(3, (16, 16), kernel, 2), together(whole_numbers((1, 16, 5, 7, 20), 3))
    x[0, 3, 2, 4, 9], x[0, 5, 4, 6, 19] = float("nan"), float("inf")
    truth, leaves = exact(layer, x)
    grad, how = together(whole_numbers(tuple(truth.shape), 4)), lattice_of(layer)
    assert torch.equal(moved(x, layer.weight, layer.bias, lattice=how, sides=truth.shape[2:]).isfinite(), truth.isfinite())
    assert bool((~learned(x, grad, layer.weight, lattice=how)[0].isfinite()).any())
    grad[0, 2, 1, 3, 4] = float("nan")
    truth.backward(grad.double())
    back, (made, bias) = (
        moved(grad, layer.weight, None, lattice=how.turned(), sides=x.shape[2:]),
        learned(x, grad, layer.weight, lattice=how),
    )
    of = [leaf.grad for leaf in leaves]
    assert of[0] is not None and of[1] is not None and of[2] is not None
    assert torch.equal(back.isfinite(), of[2].isfinite()) and torch.equal(bias.isfinite(), of[1].isfinite())
    assert not bool((made.isfinite() & ~of[0].isfinite()).any())


@pytest.mark.parametrize("kernel", [3, None])
def test_a_gradient_has_a_gradient(kernel: int | None) -> None:
    """As a penalty on the length of a gradient needs it."""
    layer, x = layer_of(3, (16, 16), kernel, 2), together(whole_numbers((1, 16, 4, 4, 6), 3))

    def penalty(own: bool) -> Tensor:
        if own:
            leaf, weight = x.clone(memory_format=torch.preserve_format).requires_grad_(), layer.weight
            with torch.autocast("cpu", torch.bfloat16):
                out = direct(leaf, layer)
        else:
            out, (weight, _, leaf) = exact(layer, x)
        (back,) = torch.autograd.grad(out.double().square().sum() / 1024, leaf, create_graph=True)
        (found,) = torch.autograd.grad(back.double().square().mean(), weight)
        return found.double()

    found, truth = penalty(True), penalty(False)
    assert float((found - truth).norm() / truth.norm()) < 2**-6


def test_what_is_left_to_torch() -> None:
    x = together(torch.zeros(1, 16, 8, 8, 8))

    def near(channels: int = 16, **how: Any) -> nn.Conv3d:
        layer: nn.Conv3d = CONV[3](channels, 16, **{"kernel_size": 3, "padding": 1, "stride": 2, **how})
        return layer

    def rising(channels: int = 16, **how: Any) -> nn.ConvTranspose3d:
        layer: nn.ConvTranspose3d = TRANSPOSED[3](channels, 16, **{"kernel_size": 2, "stride": 2, **how})
        return layer

    assert not learns(x, near()) and not raises(x, rising())  # outside autocast
    with torch.autocast("cpu", torch.bfloat16):
        assert learns(x, near()) and raises(x, rising())
        assert not learns(x, near(stride=1)) and learns(together(torch.zeros(1, 16, 3, 3, 3)), near(stride=1))  # of few voxels
        for how in ({"stride": 3}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"padding": 0}, {"padding_mode": "circular"},
                    {"kernel_size": 1, "padding": 0}, {"kernel_size": 5, "padding": 2}):  # fmt: skip
            assert not learns(x, near(**how))
        for how in ({"kernel_size": 3}, {"padding": 1}, {"output_padding": 1}, {"groups": 2}, {"kernel_size": 4, "stride": 4}):
            assert not raises(x, rising(**how))
        assert not learns(x[:, :8], near(8)) and not learns(x.float(), near()) and not learns(x.contiguous(), near())
        assert not learns(x, near().bfloat16()) and not raises(nn.Parameter(x), rising())
        assert not learns(x, parametrizations.spectral_norm(near()))
        with torch.no_grad():
            assert not learns(x, near()) and raises(x, rising())


def test_maps_of_other_channels_are_refused() -> None:
    x = together(torch.randn(1, 32, 4, 4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        for layer in (CONV[3](16, 16, 3, 2, 1), TRANSPOSED[3](16, 16, 2, 2)):
            with pytest.raises(VesaliusError, match="Expected 16 channels for a convolution; got 32"):
                direct(x, layer)


def test_where_there_is_no_memory_that_is_told() -> None:
    made, of, many = (
        _direct.kernels(),
        _direct.extent(Lattice((3,) * 3, (2,) * 3, (1,) * 3), batch=1, fine=(2,) * 3, coarse=(1,) * 3),
        2**44,
    )
    assert made is not None
    numbers = torch.zeros(16)
    with pytest.raises(MemoryError, match="no memory"):
        _direct.run(made[1], None, None, None, None, of.data_ptr(), many, 16, 1)
    with pytest.raises(MemoryError, match="no memory"):
        _direct.run(made[2], None, None, None, None, of.data_ptr(), many, 16, 1)
    with pytest.raises(MemoryError, match="no memory"):
        _direct.run(made[3], None, None, None, None, numbers.data_ptr(), of.data_ptr(), many, 16, 0, 1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_network_learns_as_with_torch(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and gradient of a U-Net in bf16 by either way, beside single precision."""
    sides = (16, 24, 32)[3 - ndim :]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(ndim, 1, 2, channels=(16, 32, 64)).to(memory_format=LAYOUT[ndim + 2])
    image = torch.randn(2, 1, *sides, generator=torch.Generator().manual_seed(3)).contiguous(memory_format=LAYOUT[ndim + 2])
    met: list[Lattice] = []
    own = _blocks.direct

    def watched(x: Tensor, layer: Any) -> Tensor:
        met.append(lattice_of(layer))
        return own(x, layer)

    monkeypatch.setattr(_blocks, "direct", watched)

    def run(low: bool) -> tuple[Tensor, Tensor]:
        one = copy.deepcopy(net)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            out = one(image)
        out.float().square().mean().backward()
        return out.detach().float(), torch.cat([weight.grad.flatten() for weight in one.parameters() if weight.grad is not None])

    truth, here = run(False), run(True)
    assert [lattice.rising for lattice in met if lattice.step == (2,) * ndim] == [False, False, True, True]
    monkeypatch.setattr(_blocks, "by_kernels", lambda *of: None)
    there = run(True)
    for one, two, of in zip(here, there, truth, strict=True):
        away = [float((side - of).norm() / of.norm()) for side in (one, two)]
        assert away[0] < max(1.3 * away[1], 2**-7)


def test_where_torch_watches_it_sees_its_own_layers() -> None:
    up, x = Up(2, (16, 16), (2, 2)), together(torch.randn(1, 16, 8, 8))

    def answer(image: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return up.risen(image).float()

    with torch.no_grad():
        written = make_fx(answer)(x)
        assert str(written.graph).count("aten.convolution") == 1
        assert torch.allclose(written(2 * x), answer(2 * x), rtol=0.05, atol=0.05)
