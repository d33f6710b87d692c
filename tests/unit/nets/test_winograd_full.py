"""Convolutions by minimal filtering in single precision beside torch's in double: about as near as torch's own in single precision."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.nets import _blocks, _winograd
from vesalius.nets._blocks import CONV, convolution
from vesalius.nets._together import LAYOUT
from vesalius.nets._winograd import Convolved, convolved, kernels, pays, suits
from vesalius.nets.resnet import ResNet
from vesalius.nets.unet import UNet

pytestmark = pytest.mark.skipif(
    kernels(torch.float32) is None, reason="no kernels for fp32 here: not built, VESALIUS_KERNELS=off or plain, or another processor"
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
    (1, (16,), 32, (3, 61, 62)),
    (1, (16,), 32, (9, 70)),
    (3, (32, 16), 16, (6, 1)),
]
NEAR = 2**-19  # 1.9e-6 of the length of what is right


def together(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=LAYOUT[x.ndim])


Example = tuple[list[Tensor], Tensor, Tensor, Tensor]


def example(batch: int, widths: tuple[int, ...], made: int, sides: tuple[int, ...], *, taps: int) -> Example:
    """Maps, a kernel, a bias, and the gradient of the result."""
    random = torch.Generator().manual_seed(1)
    maps = [together(torch.randn(batch, width, *sides, generator=random)) for width in widths]
    weight = torch.randn(made, sum(widths), *(taps, 3, 3)[3 - len(sides) :], generator=random) / 30
    return maps, weight, torch.randn(made, generator=random), together(torch.randn(batch, made, *sides, generator=random))


def answers(maps: list[Tensor], weight: Tensor, bias: Tensor | None, grad: Tensor) -> list[Tensor | None]:
    """The convolution by the kernels, and the gradients of weights, bias and maps."""
    leaves = [weight.clone().requires_grad_(), None if bias is None else bias.clone().requires_grad_()]
    inputs = [one.clone(memory_format=torch.preserve_format).requires_grad_() for one in maps]
    out = Convolved.apply(*leaves, *inputs)
    out.backward(grad)
    return [out.detach(), *(None if leaf is None else leaf.grad for leaf in (*leaves, *inputs))]


def by_torch(kind: torch.dtype, maps: list[Tensor], weight: Tensor, bias: Tensor | None, grad: Tensor) -> list[Tensor | None]:
    """The same by torch, in numbers of that `kind`, channels apart."""
    leaves = [None if one is None else one.to(kind, memory_format=torch.contiguous_format, copy=True).requires_grad_()
              for one in (weight, bias, *maps)]  # fmt: skip
    near = {4: F.conv2d, 5: F.conv3d}[weight.ndim]
    out = near(torch.cat(leaves[2:], 1), leaves[0], leaves[1], padding=[side // 2 for side in weight.shape[2:]])
    out.backward(grad.to(kind))
    return [out.detach(), *(None if leaf is None else leaf.grad for leaf in leaves)]


def away(one: Tensor, truth: Tensor) -> float:
    """As a part of the length of `truth`."""
    return float((one.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize(("batch", "widths", "made", "sides"), SHAPES)
@pytest.mark.parametrize(("taps", "biased"), [(3, True), (1, False)])
def test_noise_comes_out_as_in_double_precision(
    batch: int, widths: tuple[int, ...], made: int, sides: tuple[int, ...], taps: int, biased: bool
) -> None:
    maps, weight, bias, grad = example(batch, widths, made, sides, taps=taps)
    if taps == 3:
        weight = together(weight)  # as the loop keeps them
    bias = bias if biased else None
    found, truth = answers(maps, weight, bias, grad), by_torch(torch.float64, maps, weight, bias, grad)
    for one, other in zip(found, truth, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert away(one, other) < NEAR
            assert float((one.double() - other).abs().max()) < 4 * NEAR * float(other.abs().max())
    assert found[0].is_contiguous(memory_format=LAYOUT[weight.ndim])


def test_rounding_is_two_to_five_times_that_of_torch() -> None:
    maps, weight, bias, grad = example(2, (32,), 32, (6, 12, 14), taps=3)
    truth, theirs = (by_torch(kind, maps, weight, bias, grad) for kind in (torch.float64, torch.float32))
    for ours, other, of in zip(answers(maps, weight, bias, grad), theirs, truth, strict=True):
        assert ours is not None and other is not None and of is not None
        assert away(ours, of) < max(5 * away(other, of), 2**-23) and away(ours, of) < NEAR


@pytest.mark.parametrize("place", [(0, 0, 0), (3, 8, 9), (1, 3, 4), (2, 4, 7)])
def test_a_single_voxel_gives_the_kernel_turned_around(place: tuple[int, ...]) -> None:
    """Where there was one voxel there is the kernel; everywhere else what is left of sums that cancel."""
    x, weight = torch.zeros(1, 16, 4, 9, 10), torch.randn(16, 16, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    x[(0, 5, *place)] = 1
    wanted = F.conv3d(x.double(), weight.double(), padding=1)
    assert float((convolved([together(x)], weight, None) - wanted).abs().max()) < 2**-18


def test_threads_change_nothing() -> None:
    """Neither the result nor a gradient, to the last bit."""
    for widths, sides in (((16,), (5, 21, 19)), ((32,), (5, 21, 19)), ((16, 16), (37, 43))):
        given = example(2, widths, 32, sides, taps=3)
        made = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            made.append(answers(*given))
        for other in made[1:]:
            assert all(torch.equal(one, two) for one, two in zip(made[0], other, strict=True))


def test_a_sample_does_not_depend_on_its_batch() -> None:
    maps, weight, bias, _ = example(3, (16,), 32, (4, 9, 11), taps=3)
    alone = [convolved([together(one)], weight, bias) for one in maps[0].split(1)]
    assert torch.equal(convolved(maps, weight, bias), torch.cat(alone))


def test_numbers_far_from_one_stay_finite() -> None:
    """Sums between maps and products are at most some hundred times as large as what goes in."""
    maps, weight, bias, grad = example(1, (16,), 16, (3, 9, 9), taps=3)
    for scale in (1e-30, 1e30):
        found = answers([maps[0] * scale], weight, bias, grad)
        assert all(one.isfinite().all() for one in found)
        truth = by_torch(torch.float64, [maps[0] * scale], weight, bias, grad)
        assert away(found[0], truth[0]) < NEAR and away(found[1], truth[1]) < NEAR


def test_a_number_that_is_none_spoils_its_tiles_and_no_more() -> None:
    maps, weight, bias, _ = example(2, (16,), 16, (5, 12, 12), taps=3)
    maps[0][0, 3, 2, 5, 5] = float("nan")
    wrong = convolved(maps, weight, bias).isnan().any(1)
    assert wrong[0, 1:4, 4:8, 4:8].all() and not wrong[1].any() and not wrong[0, 0].any() and not wrong[0, 4].any()
    assert not wrong[0, :, 8:].any() and not wrong[0, ..., 8:].any()


def test_a_gradient_has_a_gradient() -> None:
    maps, weight, bias, _ = example(1, (16, 16), 16, (3, 4, 5), taps=3)

    def penalty(kind: torch.dtype) -> Tensor:
        x, kernel = [one.to(kind).requires_grad_() for one in maps], weight.to(kind, copy=True).requires_grad_()
        ours = kind == torch.float32
        out = Convolved.apply(kernel, bias, *x) if ours else F.conv3d(torch.cat(x, 1), kernel, bias.double(), padding=1)
        back = torch.autograd.grad(out.double().square().sum() / 1024, x, create_graph=True)
        (found,) = torch.autograd.grad(sum(one.double().square().mean() for one in back), kernel)
        return found

    assert away(penalty(torch.float32), penalty(torch.float64)) < 2**-18


def layer_of(channels: int = 16, **how: object) -> nn.Conv3d:
    return CONV[3](channels, 16, **{"kernel_size": 3, "padding": 1, **how})


def test_what_is_left_to_torch() -> None:
    x = together(torch.zeros(1, 16, 8, 8, 8))
    assert suits([x], layer_of()) and suits([x, x], layer_of(32)) and suits([x], convolution(3, (16, 32), (1, 3, 3)))
    with torch.autocast("cpu", torch.bfloat16):
        assert not suits([x], layer_of())
    with torch.autocast("cpu", torch.float16):
        assert not suits([x], layer_of())
    for how in ({"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"padding": 0}, {"padding_mode": "circular"},
                {"kernel_size": 1, "padding": 0}, {"kernel_size": 5, "padding": 2}):  # fmt: skip
        assert not suits([x], layer_of(**how))
    assert not suits([x[:, :8]], layer_of(8)) and not suits([x.double()], layer_of().double()) and not suits([x.contiguous()], layer_of())
    assert not suits([x], layer_of().bfloat16()) and not suits([x.bfloat16()], layer_of()) and not suits([x, x, x], layer_of(48))
    assert not suits([nn.Parameter(x)], layer_of()) and not suits([x, x.bfloat16()], layer_of(32))
    assert not suits([x], nn.utils.parametrizations.weight_norm(layer_of()))


def test_small_maps_are_left_to_torch() -> None:
    full = torch.float32
    assert pays((1, 16, 1, 5, 7), 16, full) and not pays((1, 16, 9, 4, 9), 16, full)  # four tiles in a plane, three
    assert pays((1, 128, 4, 8, 8), 128, full) and not pays((1, 144, 4, 8, 8), 144, full)  # 16 tiles
    assert not pays((2, 16, 8, 5, 5), 16, full) and pays((2, 16, 8, 6, 6), 16, full)  # 25 and 36 of 64 voxels


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_network_learns_as_with_torch(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and gradient of a U-Net in fp32 by the kernels and without, beside double precision."""
    sides = (16, 24, 32)[3 - ndim :]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(ndim, 1, 2, channels=(16, 32)).to(memory_format=LAYOUT[ndim + 2])
    image = together(torch.randn(2, 1, *sides, generator=torch.Generator().manual_seed(3)))
    met: list[int] = []
    own = _blocks.winograd

    def watched(maps: list[Tensor], layer: nn.Conv3d) -> Tensor:
        met.append(len(maps))
        return own(maps, layer)

    monkeypatch.setattr(_blocks, "winograd", watched)

    def run(kind: torch.dtype) -> tuple[Tensor, Tensor]:
        one = copy.deepcopy(net).to(kind)
        out = one(image.to(kind))
        out.square().mean().backward()
        return out.detach(), torch.cat([weight.grad.flatten() for weight in one.parameters() if weight.grad is not None])

    here = run(torch.float32)
    assert met == [1, 1, 2, 1]  # all but the first, which has one channel, and that with a stride
    truth = run(torch.float64)
    monkeypatch.setattr(_blocks, "suits", lambda *of: False)
    monkeypatch.setattr(_blocks, "normalised_at_once", lambda *of, **how: None)
    there = run(torch.float32)
    assert len(met) == 4
    assert away(here[0], truth[0]) < max(4 * away(there[0], truth[0]), 2**-20)
    assert away(here[1], truth[1]) < 2**-10  # an activation beside 0 may fall on either side


def test_a_classifier_answers_as_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norms stand between its convolutions."""
    net = ResNet(2, 1, 3, stem="small", scale=0.25).to(memory_format=LAYOUT[4])
    image = together(torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(3)))
    made, met = [], []

    def watched(*of: object) -> bool:
        met.append(suits(*of))
        return met[-1]

    for way in (watched, lambda *of: False):
        monkeypatch.setattr(_blocks, "suits", way)
        one = copy.deepcopy(net)
        out = one(image)
        out.square().mean().backward()
        made.append([out.detach(), *(weight.grad for weight in one.parameters())])
    whole = [torch.cat([part.flatten() for part in side]) for side in made]
    assert sum(met) > 4 and away(whole[0], whole[1].double()) < 2**-10


def test_where_there_is_no_memory_that_is_told() -> None:
    made, strides, bias, grad, many = kernels(torch.float32), torch.zeros(5, dtype=torch.int64), torch.zeros(16), torch.zeros(16), 2**44
    assert made is not None
    with pytest.raises(MemoryError, match="no memory"):
        _winograd.run(made[1], None, None, None, None, None, None, many, 0, 16, 0, 1, 1, 2, 2, 1, 1)
    with pytest.raises(MemoryError, match="no memory"):
        _winograd.run(made[2], None, None, grad.data_ptr(), None, strides.data_ptr(), bias.data_ptr(), many, 0, 16, 1, 1, 2, 2, 1, 1)
