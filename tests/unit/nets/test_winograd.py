"""Convolutions by minimal filtering beside torch's in double precision: the same to the last bit where nothing need be rounded."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tests.unit.nets.made import together, whole_numbers
from vesalius.core.errors import VesaliusError
from vesalius.nets import _blocks, _winograd
from vesalius.nets._blocks import CONV, convolution
from vesalius.nets._together import LAYOUT
from vesalius.nets._winograd import Convolved, pays, suits
from vesalius.nets.unet import UNet

pytestmark = pytest.mark.skipif(
    _winograd.kernels(torch.bfloat16) is None, reason="no kernels for bf16 here: not built, VESALIUS_KERNELS=off, or another processor"
)
SHAPES = [
    (1, (16,), 16, (1, 1, 1)),
    (3, (16,), 32, (1, 2, 3)),
    (2, (32,), 16, (3, 5, 7)),
    (1, (48,), 16, (2, 8, 9)),
    (1, (16, 32), 16, (4, 3, 33)),
    (2, (16, 16), 48, (5, 1, 6)),
    (1, (64,), 64, (2, 4, 5)),
    (2, (16,), 16, (17, 12, 13)),
    (1, (16,), 32, (9, 70)),
    (3, (32, 16), 16, (6, 1)),
]


def answers(maps: list[Tensor], weight: Tensor, bias: Tensor | None, grad: Tensor) -> list[Tensor | None]:
    """The convolution by the kernels, and the gradients of weights, bias and maps."""
    leaves = [weight.clone().requires_grad_(), None if bias is None else bias.clone().requires_grad_()]
    inputs = [one.clone(memory_format=torch.preserve_format).requires_grad_() for one in maps]
    out = Convolved.apply(*leaves, *inputs)
    out.backward(grad)
    return [out.detach(), *(None if leaf is None else leaf.grad for leaf in (*leaves, *inputs))]


def exact(maps: list[Tensor], weight: Tensor, bias: Tensor | None, grad: Tensor) -> list[Tensor | None]:
    """The same by torch, one map after the other, in double precision."""
    leaves = [None if one is None else one.double().requires_grad_() for one in (weight, bias, *maps)]
    near = {4: F.conv2d, 5: F.conv3d}[weight.ndim]
    out = near(torch.cat(leaves[2:], 1), leaves[0], leaves[1], padding=[side // 2 for side in weight.shape[2:]])
    out.backward(grad.double())
    return [out.detach(), *(None if leaf is None else leaf.grad for leaf in leaves)]


Example = tuple[list[Tensor], Tensor, Tensor, Tensor]


def example(batch: int, widths: tuple[int, ...], made: int, sides: tuple[int, ...], *, taps: int) -> Example:
    """Whole numbers whose sums bf16 can hold: maps, a kernel, a bias, and the gradient of the result."""
    maps = [together(whole_numbers((batch, width, *sides), 1 + n)) for n, width in enumerate(widths)]
    kernel = (taps, 3, 3)[3 - len(sides) :]
    weight = 4 * whole_numbers((made, sum(widths), *kernel), 5)
    return maps, weight, whole_numbers((made,), 6, low=-9, high=9), together(whole_numbers((batch, made, *sides), 7))


@pytest.mark.parametrize(("batch", "widths", "made", "sides"), SHAPES)
@pytest.mark.parametrize(("taps", "biased"), [(3, True), (1, False)])
def test_whole_numbers_are_exact(batch: int, widths: tuple[int, ...], made: int, sides: tuple[int, ...], taps: int, biased: bool) -> None:
    maps, weight, bias, grad = example(batch, widths, made, sides, taps=taps)
    if taps == 3:
        weight = weight.contiguous(memory_format=LAYOUT[weight.ndim])  # as the loop keeps them
    found, truth = (way(maps, weight, bias if biased else None, grad) for way in (answers, exact))
    for one, other in zip(found, truth, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert torch.equal(one, other.to(one.dtype))


def test_rounding_is_about_twice_that_of_torch() -> None:
    """Of noise, with weights that bf16 must round; what torch gives in bf16 is the measure."""
    random = torch.Generator().manual_seed(0)
    maps, grad = ([together(torch.randn(2, 32, 6, 12, 14, generator=random))] for _ in range(2))
    weight, bias = torch.randn(32, 32, 3, 3, 3, generator=random) / 30, torch.randn(32, generator=random)
    found, truth = (way(maps, weight, bias, grad[0]) for way in (answers, exact))
    low = [one.clone().requires_grad_() for one in (weight.bfloat16(), bias.bfloat16(), maps[0])]
    out = F.conv3d(low[2], low[0], low[1], padding=1)
    out.backward(grad[0])
    theirs = [out.detach(), *(leaf.grad for leaf in low)]
    for ours, other, of in zip(found, theirs, truth, strict=True):
        assert ours is not None and other is not None and of is not None
        assert (ours.double() - of).norm() < 2.6 * (other.double() - of).norm() < 2**-6 * of.norm()


def test_threads_change_nothing() -> None:
    """Neither the result nor a gradient, to the last bit."""
    random = torch.Generator().manual_seed(1)
    for width in (16, 32):
        x, grad = (together(torch.randn(2, channels, 5, 21, 19, generator=random)) for channels in (width, 32))
        weight, bias = torch.randn(32, width, 3, 3, 3, generator=random), torch.randn(32, generator=random)
        sides = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            sides.append(answers([x], weight, bias, grad))
        for other in sides[1:]:
            assert all(torch.equal(one, two) for one, two in zip(sides[0], other, strict=True))


def test_a_gradient_has_a_gradient() -> None:
    """As a penalty on the length of a gradient needs it."""
    maps, weight, bias, _ = example(1, (16, 16), 16, (3, 4, 5), taps=3)

    def penalty(way: type | None) -> Tensor:
        kind = torch.bfloat16 if way else torch.float64
        x, kernel = [one.to(kind).requires_grad_() for one in maps], (weight if way else weight.double()).clone().requires_grad_()
        out = Convolved.apply(kernel, bias, *x) if way else F.conv3d(torch.cat(x, 1), kernel, bias.double(), padding=1)
        back = torch.autograd.grad(out.double().square().sum() / 1024, x, create_graph=True)
        length = sum(one.double().square().mean() for one in back)
        assert isinstance(length, Tensor)
        (found,) = torch.autograd.grad(length, kernel)
        return found.double()

    found, truth = penalty(Convolved), penalty(None)
    assert float((found - truth).norm() / truth.norm()) < 2**-6


def layer_of(channels: int = 16, **how: object) -> nn.Conv3d:
    return CONV[3](channels, 16, **{"kernel_size": 3, "padding": 1, **how})


def test_what_is_left_to_torch() -> None:
    x = together(torch.zeros(1, 16, 8, 8, 8))
    assert not suits([x], layer_of())  # outside autocast
    with torch.autocast("cpu", torch.bfloat16):
        assert suits([x], layer_of()) and suits([x, x], layer_of(32)) and suits([x], convolution(3, (16, 32), (1, 3, 3)))
        for how in ({"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"padding": 0}, {"padding_mode": "circular"},
                    {"kernel_size": 1, "padding": 0}, {"kernel_size": 5, "padding": 2}):  # fmt: skip
            assert not suits([x], layer_of(**how))
        assert not suits([x[:, :8]], layer_of(8)) and not suits([x.float()], layer_of()) and not suits([x.contiguous()], layer_of())
        assert not suits([x], layer_of().bfloat16()) and not suits([x, x, x], layer_of(48))
        assert not suits([x[:, :, :1, :2, :2].contiguous(memory_format=LAYOUT[5])], layer_of())


def test_small_and_narrow_maps_are_left_to_torch() -> None:
    low = torch.bfloat16
    assert pays((1, 16, 4, 4, 8), 16, low) and not pays((1, 16, 4, 4, 8), 32, low)  # 32 tiles
    assert not pays((1, 16, 64, 1, 64), 16, low) and pays((1, 16, 64, 3, 64), 16, low)
    assert pays((1, 64, 16, 32), 64, low) and not pays((1, 64, 16, 30), 64, low)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_network_learns_as_with_torch(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and gradient of a U-Net in bf16 by either way, beside single precision."""
    sides = (16, 24, 32)[3 - ndim :]
    net = UNet(ndim, 1, 2, channels=(16, 32)).to(memory_format=LAYOUT[ndim + 2])
    image = torch.randn(2, 1, *sides, generator=torch.Generator().manual_seed(3)).contiguous(memory_format=LAYOUT[ndim + 2])
    met: list[int] = []
    own = _blocks.winograd

    def watched(maps: list[Tensor], layer: nn.Conv3d) -> Tensor:
        met.append(len(maps))
        return own(maps, layer)

    monkeypatch.setattr(_blocks, "winograd", watched)

    def run(low: bool) -> tuple[Tensor, Tensor]:
        one = copy.deepcopy(net)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            out = one(image)
        out.float().square().mean().backward()
        return out.detach().float(), torch.cat([weight.grad.flatten() for weight in one.parameters() if weight.grad is not None])

    with monkeypatch.context() as plainly:
        plainly.setattr(_blocks, "suits", lambda *of: False)
        truth = run(False)
    here = run(True)
    assert met == [1, 1, 2, 1]  # all but the first, which has one channel, and that with a stride
    monkeypatch.setattr(_blocks, "suits", lambda *of: False)
    there = run(True)
    for one, two, of in zip(here, there, truth, strict=True):
        away = [float((side - of).norm() / of.norm()) for side in (one, two)]
        assert away[0] < max(2.5 * away[1], 2**-7)


@pytest.mark.parametrize("channels", [16, 64])
def test_maps_of_other_channels_are_refused(channels: int) -> None:
    x = together(torch.randn(1, 32, 8, 8, 8))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(VesaliusError, match=f"Expected {channels} channels for a convolution; got 32"):
            CONV[3](channels, 16, 3, padding=1)(x)


def test_maps_of_other_sizes_axes_or_types_go_by_torch() -> None:
    x, layer = together(torch.randn(2, 16, 8, 8, 8)), CONV[3](32, 16, 3, padding=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert suits([x, x], layer)
        assert not suits([x, x[:1]], layer) and not suits([x, x[..., :6].contiguous(memory_format=torch.channels_last_3d)], layer)
        assert not suits([together(torch.randn(16, 16, 8, 8))], layer) and not suits([nn.Parameter(x), x], layer)
        assert CONV[2](16, 16, 3, padding=1)(torch.randn(16, 32, 32).bfloat16()).shape == (16, 32, 32)


def test_where_there_is_no_memory_that_is_told() -> None:
    made, many = _winograd.kernels(torch.bfloat16), 2**44
    strides, bias, grad = torch.zeros(5, dtype=torch.int64), torch.zeros(16), torch.zeros(16)
    assert made is not None
    with pytest.raises(MemoryError, match="no memory"):
        _winograd.run(made[1], None, None, None, None, None, None, many, 0, 16, 0, 1, 1, 2, 2, 1, 1)
    with pytest.raises(MemoryError, match="no memory"):
        _winograd.run(made[2], None, None, grad.data_ptr(), None, strides.data_ptr(), bias.data_ptr(), many, 0, 16, 1, 1, 2, 2, 1, 1)


@pytest.mark.parametrize("way", ["written down", "counted", "differentiated"])
def test_where_torch_watches_it_sees_its_own_layers(way: str) -> None:
    net, x = UNet(2, 1, 2, channels=(16, 32)).to(memory_format=torch.channels_last), together(torch.randn(1, 1, 32, 32)).float()

    def answer(image: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            made: Tensor = net(image)
        return made.float().square().mean()

    if way == "written down":
        with torch.no_grad():
            written = make_fx(answer)(x)
            assert str(written.graph).count("aten.convolution") >= 4
            assert written(2 * x) == pytest.approx(answer(2 * x).item(), rel=0.05)
    elif way == "counted":
        with FlopCounterMode(display=False) as seen, torch.no_grad():
            answer(x)
        assert seen.get_total_flops() > 2 * 32 * 32 * 9 * (16 + 16 * 16)  # of the first two convolutions alone
    else:
        assert torch.isfinite(torch.func.grad(answer)(x)).all()
