"""Instance normalisation and the way up, which are computed otherwise than torch does it, beside torch's."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vesalius.nets._blocks import CONV, EXACT, NORM, ConvBlock, Up, normalised
from vesalius.nets._normalise import calls
from vesalius.nets._together import eased, few, learning, widened

LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}
SIDES = {2: (6, 10), 3: (4, 6, 2)}
PLAIN = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def together(ndim: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Noise about 2 with channels last, that wants a gradient."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 2
    return made.to(dtype).contiguous(memory_format=LAYOUT[ndim]).requires_grad_()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("batch", [1, 3])
def test_instance_norm_in_bf16_is_that_of_double_precision(ndim: int, batch: int) -> None:
    shape, layer = (batch, 16, *SIDES[ndim]), NORM[ndim](16, affine=True)
    exact = PLAIN[ndim](16, affine=True).double()  # given channels apart, for which torch is right
    for norm in (layer, exact):
        norm.weight.data.copy_(torch.linspace(0.5, 1.5, 16)), norm.bias.data.copy_(torch.linspace(-1, 1, 16))
    x = together(ndim, shape, torch.bfloat16)
    truth = x.detach().double().contiguous().requires_grad_()
    out, wanted = layer(x), exact(truth)
    assert out.is_contiguous(memory_format=LAYOUT[ndim])  # the next convolution has nothing to sort
    push = torch.randn(shape, generator=torch.Generator().manual_seed(2)).bfloat16().contiguous(memory_format=LAYOUT[ndim])
    out.backward(push), wanted.backward(push.double().contiguous())
    torch.testing.assert_close(out.double(), wanted, rtol=2**-7, atol=2**-7)
    torch.testing.assert_close(x.grad.double(), truth.grad, rtol=2**-6, atol=2**-7 * float(truth.grad.abs().max()))
    torch.testing.assert_close(layer.weight.grad.double(), exact.weight.grad, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(layer.bias.grad.double(), exact.bias.grad, rtol=1e-4, atol=1e-4)


def test_norm_and_activation_of_a_block_are_those_of_double_precision() -> None:
    """Normalised where its samples lie, leaky in place: output and gradients, the weights of the norm frozen or not."""
    for learns in (True, False):
        block = ConvBlock(3, (16, 16), (1, 1, 1))
        block[1].requires_grad_(learns).weight.data.copy_(torch.linspace(0.5, 1.5, 16))
        exact = copy.deepcopy(block).double()
        x = together(3, (2, 16, 4, 6, 2), torch.bfloat16)
        truth = x.detach().double().contiguous().requires_grad_()
        out = block.after(x)
        wanted = exact[2](nn.functional.instance_norm(truth, weight=exact[1].weight, bias=exact[1].bias))
        push = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).bfloat16()
        out.backward(push), wanted.backward(push.double())
        torch.testing.assert_close(out.double(), wanted, rtol=2**-7, atol=2**-7)
        assert float((x.grad.double() - truth.grad).norm() / truth.grad.norm()) < 2**-6
        assert (block[1].weight.grad is not None) == learns
        if learns:
            torch.testing.assert_close(block[1].weight.grad.double(), exact[1].weight.grad, rtol=1e-2, atol=1e-1)


def test_instance_norm_is_torchs_own_where_that_is_as_fast_or_more_exact() -> None:
    layer = NORM[3](16, affine=True)
    assert normalised(together(3, (2, 16, 2, 4, 4), torch.bfloat16), layer) is not None
    assert (normalised(together(3, (2, 16, 2, 4, 4), torch.float32), layer) is None) == (calls(torch.float32) is None)  # without kernels
    assert normalised(torch.zeros(2, 16, 2, 4, 4, dtype=torch.bfloat16), layer) is None  # channels apart
    large = torch.zeros((), dtype=torch.bfloat16).expand(2, EXACT + 1, 1, 1, 16).movedim(-1, 1)  # takes no room
    assert normalised(large, layer) is None


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("together_in", [True, False])
@pytest.mark.parametrize("together_out", [True, False])
def test_the_gradient_of_one_sample_does_not_depend_on_the_layout(ndim: int, together_in: bool, together_out: bool) -> None:
    """Torch's own is wrong where the gradient that comes in has its channels together, the sample alone in its batch."""
    x, push = (torch.randn(1, 8, *SIDES[ndim], generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (1, 2))
    x.requires_grad_()
    (wanted,) = torch.autograd.grad(PLAIN[ndim](8)(x), x, push)
    layouts = {True: LAYOUT[ndim], False: torch.contiguous_format}
    out = NORM[ndim](8)(x.contiguous(memory_format=layouts[together_in]))
    (found,) = torch.autograd.grad(out, x, push.contiguous(memory_format=layouts[together_out]))
    torch.testing.assert_close(found, wanted)


def test_instance_norm_stays_exact_in_the_largest_volume() -> None:
    draw = torch.Generator().manual_seed(3)
    x = (torch.randn(1, 2, 8, 512, 512, generator=draw) + 3).bfloat16().contiguous(memory_format=LAYOUT[3])
    assert x[0, 0].numel() == EXACT
    with torch.no_grad():
        out, wanted = NORM[3](2)(x), PLAIN[3](2)(x.double())
    away = (out.double() - wanted).mean(), (out.double().std() / wanted.std() - 1)
    assert all(abs(float(value)) < 2**-8 for value in away)  # less than one rounding of bf16


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("channels", [5, 16, 64])
@pytest.mark.parametrize("affine", [True, False])
def test_without_a_gradient_some_voxels_are_normalised_as_one(ndim: int, channels: int, affine: bool) -> None:
    """Sides of 5 and 6 voxels: of some maps four or eight neighbours make one, of some none do."""
    layer, exact = NORM[ndim](channels, affine=affine), PLAIN[ndim](channels, affine=affine).double()
    for norm in (layer, exact):
        if affine:
            norm.weight.data.copy_(torch.linspace(0.5, 1.5, channels)), norm.bias.data.copy_(torch.linspace(-1, 1, channels))
    for side in (5, 6):
        x = together(ndim, (2, channels, *[side] * ndim), torch.bfloat16)
        assert widened(x[:1]).shape[1] == channels * (1 if side == 5 else 4 if ndim == 2 or channels == 64 else 8)
        with torch.no_grad():
            out, wanted = layer(x), exact(x.double().contiguous())
            leaky = normalised(x.clone(), layer, slope=0.1, own=True)
        torch.testing.assert_close(leaky.double(), nn.functional.leaky_relu(wanted, 0.1), rtol=2**-7, atol=2**-7)
        assert out.is_contiguous(memory_format=LAYOUT[ndim]) and out.dtype == torch.bfloat16
        torch.testing.assert_close(out.double(), wanted, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("stride", [(2, 2, 2), (2, 2, 1), (2, 2)])
def test_a_transposed_convolution_is_a_matrix_product(stride: tuple[int, ...]) -> None:
    """Output and gradients of an `Up` in bf16 beside torch's own layer and concatenation, in double precision."""
    ndim, draw = len(stride), torch.Generator().manual_seed(4)
    up = Up(ndim, (6, 4), stride)
    sides = (3, 4, 5)[:ndim]
    x = torch.randn(2, 6, *sides, generator=draw).bfloat16().contiguous(memory_format=LAYOUT[ndim]).requires_grad_()
    skip = torch.randn(2, 3, *[a * b for a, b in zip(sides, stride, strict=True)], generator=draw).bfloat16()
    skip = skip.contiguous(memory_format=LAYOUT[ndim]).requires_grad_()
    exact = copy.deepcopy(up).double()
    x64, skip64 = (t.detach().double().requires_grad_() for t in (x, skip))
    wanted = torch.cat((exact.up(x64), skip64), 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert learning(x)
        out = up(x, skip)
    assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=LAYOUT[ndim])
    push = torch.randn(out.shape, generator=draw).bfloat16()
    out.backward(push), wanted.backward(push.double())
    torch.testing.assert_close(out.double(), wanted, rtol=2**-6, atol=2**-6)
    pairs = ((x, x64), (skip, skip64), (up.up.weight, exact.up.weight), (up.up.bias, exact.up.bias))
    for found, truth in pairs:
        assert float((found.grad.double() - truth.grad).norm() / truth.grad.norm()) < 2**-7


def test_maps_are_worked_on_here_only_where_that_pays() -> None:
    x = together(3, (1, 8, 2, 4, 4), torch.bfloat16)
    assert learning(x) and not learning(x.detach()) and not learning(x.float()) and not learning(x.contiguous())
    with torch.no_grad():
        assert not learning(x)


class Counted(nn.Module):
    """A weight that counts how often it is looked at, as spectral normalisation moves on with every look."""

    looks = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.looks += 1
        return weight


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_weight_that_is_parametrised_is_looked_at_once(ndim: int, bf16: bool) -> None:
    layer, seen = CONV[ndim](16, 16, 3, padding=1), Counted()
    parametrize.register_parametrization(layer, "weight", seen)
    x = torch.randn(2, 16, *[12] * ndim).contiguous(memory_format=LAYOUT[ndim])
    before = seen.looks
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        layer(x.bfloat16() if bf16 else x)
    assert seen.looks == before + 1


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("side", "stride", "groups"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (5, 1, 2)])
@pytest.mark.parametrize("batch", [1, 2])
def test_convolutions_in_fp32_keep_channels_together(ndim: int, side: int, stride: int, groups: int, batch: int) -> None:
    """A single small sample and single voxels too, of which torch puts them apart; result and gradients are those of double precision."""
    x = together(ndim, (batch, 4, *SIDES[ndim]), torch.float32)
    layer = CONV[ndim](4, 6, side, stride, side // 2, groups=groups).to(memory_format=LAYOUT[ndim])
    exact, other = copy.deepcopy(layer).double(), x.detach().double().requires_grad_()
    out, truth = layer(x), exact(other)
    push = torch.randn(truth.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    out.backward(push.float()), truth.backward(push)
    assert out.is_contiguous(memory_format=LAYOUT[ndim])
    pairs = ((out, truth), (x.grad, other.grad), (layer.weight.grad, exact.weight.grad), (layer.bias.grad, exact.bias.grad))
    for one, of in pairs:
        torch.testing.assert_close(one.double(), of, rtol=1e-5, atol=1e-5)


def test_a_way_up_of_a_single_small_sample_keeps_channels_together() -> None:
    up, x = Up(3, (16, 8), (2, 2, 2)), together(3, (1, 16, 4, 6, 2), torch.float32)
    assert few(x) and not few(torch.zeros(1, 16, 36, 36, 2)) and not few(torch.zeros(2, 1, 1, 1, 1))
    with torch.no_grad():
        out = up.risen(x)
        torch.testing.assert_close(out, up.up(x), rtol=1e-5, atol=1e-5)
    assert out.is_contiguous(memory_format=LAYOUT[3])


def test_what_is_not_eased() -> None:
    x, one = together(3, (1, 4, 4, 4, 4), torch.float32), CONV[3](4, 6, 1)
    assert eased(x, one) is not None
    for layer in (CONV[3](4, 6, 3, padding="same"), CONV[3](4, 6, 3, padding=1, padding_mode="circular"), CONV[3](5, 6, 1),
                  CONV[3](4, 6, 1).double(), parametrize_as_itself(CONV[3](4, 6, 1)), CONV[2](4, 6, 1)):  # fmt: skip
        assert eased(x, layer) is None
    assert eased(x.contiguous(), one) is None and eased(x.double(), one) is None and eased(nn.Parameter(x.detach()), one) is None
    assert eased(torch.cat([x, x]), CONV[3](4, 6, 3, padding=1)) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert eased(x, one) is None
    with pytest.raises(RuntimeError, match="channels"):
        CONV[3](5, 6, 1)(x)


def parametrize_as_itself(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", nn.Identity())
    return layer
