"""The kernels that normalise and cut off in one, beside torch in double precision on the same numbers."""

import warnings
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.nets import _blocks, _normalise
from vesalius.nets._blocks import NORM, normalised
from vesalius.nets._normalise import back, calls, normalised_at_once, room, there
from vesalius.nets._together import LAYOUT

pytestmark = pytest.mark.skipif(calls(torch.bfloat16) is None, reason="the kernels in C are not built or off")
SHAPES = [(1, 16, 4, 6, 2), (3, 17, 5, 3), (2, 5, 5, 5), (1, 3, 1, 2), (2, 320, 3, 5, 3), (2, 64, 33, 35), (2, 1, 30, 31),
          (1, 130, 3, 3, 3), (3, 48, 9, 11, 13), (2, 16, 24, 29, 13)]  # fmt: skip
SLOPE = 0.01


class Found(NamedTuple):
    """What a way gives: the result, and the gradients at the input, the weight and the bias."""

    out: Tensor
    x: Tensor
    weight: Tensor | None
    bias: Tensor | None


def noise(
    shape: tuple[int, ...], *, seed: int, mean: float = 0.0, deviation: float = 1.0, kind: torch.dtype = torch.bfloat16
) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * deviation + mean
    return made.to(kind).contiguous(memory_format=LAYOUT[len(shape)])


def layer_of(x: Tensor, *, affine: bool = True) -> nn.Module:
    made = NORM[x.ndim - 2](x.shape[1], affine=affine)
    if affine:
        made.weight.data.copy_(torch.linspace(0.5, 1.5, x.shape[1])), made.bias.data.copy_(torch.linspace(-1, 1, x.shape[1]))
    return made


def found(way, x: Tensor, layer: nn.Module, push: Tensor, slope: float = SLOPE) -> Found:
    own = x.detach().clone().requires_grad_()
    layer.zero_grad()
    out = way(own, layer, slope=slope)
    out.backward(push)
    weights = [None if one is None else one.grad for one in (layer.weight, layer.bias)]
    return Found(out.detach(), own.grad, *weights)


def exactly(x: Tensor, layer: nn.Module, push: Tensor, slope: float = SLOPE) -> Found:
    """In double precision, channels apart."""
    wide = [None if one is None else one.detach().double().requires_grad_() for one in (layer.weight, layer.bias)]

    def way(own: Tensor, _: nn.Module, *, slope: float) -> Tensor:
        return F.leaky_relu(F.instance_norm(own, weight=wide[0], bias=wide[1], eps=layer.eps), slope)

    found_x = found(way, x.double().contiguous(), nn.InstanceNorm2d(1, affine=False), push.double().contiguous(), slope)
    return Found(found_x.out, found_x.x, *[None if one is None else one.grad for one in wide])


def away(one: Tensor, truth: Tensor) -> float:
    """As a part of the length of `truth`."""
    return float((one.double() - truth).norm() / truth.norm())


def in_torch(x: Tensor, layer: nn.Module, *, slope: float) -> Tensor:
    """As without kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_blocks, "normalised_at_once", lambda *_, **how: None)
        made = normalised(x, layer, slope=slope)
    assert made is not None
    return made


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("affine", "mean"), [(True, 0.0), (True, 30.0), (False, 0.0)])
def test_result_and_gradients_are_those_of_double_precision(shape: tuple[int, ...], affine: bool, mean: float) -> None:
    """Rounded once to bf16; sums a thousand times closer; and nowhere farther away than torch's own way."""
    x, push = noise(shape, seed=1, mean=mean), noise(shape, seed=2)
    layer = layer_of(x, affine=affine)
    ours, torchs, truth = found(normalised_at_once, x, layer, push), found(in_torch, x, layer, push), exactly(x, layer, push)
    assert ours.out.is_contiguous(memory_format=LAYOUT[x.ndim]) and ours.out.dtype == ours.x.dtype == torch.bfloat16
    torch.testing.assert_close(ours.out.double(), truth.out, rtol=2**-8, atol=2**-20)
    scale = float(truth.x.abs().max())
    torch.testing.assert_close(ours.x.double(), truth.x, rtol=2**-8, atol=scale * 2**-18)
    for part, (one, other, exact) in zip(Found._fields, zip(ours, torchs, truth, strict=True), strict=True):
        if exact is None:
            assert one is None and not affine
        else:
            assert away(one, exact) <= 1.02 * away(other, exact), part
    if affine:
        assert max(away(ours.weight, truth.weight), away(ours.bias, truth.bias)) < 2**-20


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("affine", "mean"), [(True, 0.0), (True, 30.0), (False, 0.0)])
def test_single_precision_is_as_near_to_double_as_torch(shape: tuple[int, ...], affine: bool, mean: float) -> None:
    """Torch's own layers, channels apart, are the measure; a thousand times closer than bf16 in any case."""
    x, push = (noise(shape, seed=seed, mean=of, kind=torch.float32) for seed, of in ((1, mean), (2, 0.0)))
    layer = layer_of(x, affine=affine)

    def torchs(own: Tensor, layer: nn.Module, *, slope: float) -> Tensor:
        return F.leaky_relu(F.instance_norm(own.contiguous(), weight=layer.weight, bias=layer.bias, eps=layer.eps), slope)

    ours, theirs, truth = found(normalised_at_once, x, layer, push), found(torchs, x, layer, push), exactly(x, layer, push)
    assert ours.out.is_contiguous(memory_format=LAYOUT[x.ndim]) and ours.out.dtype == ours.x.dtype == torch.float32
    for part, (one, other, exact) in zip(Found._fields, zip(ours, theirs, truth, strict=True), strict=True):
        if exact is not None:
            assert away(one, exact) <= max(1.1 * away(other, exact), 2**-21 * (1 + mean)), part


@pytest.mark.parametrize("slope", [1.0, 0.2, 0.0])
def test_every_slope_below_zero(slope: float) -> None:
    x, push = noise((2, 16, 6, 10), seed=1), noise((2, 16, 6, 10), seed=2)
    layer = layer_of(x)
    ours, truth = found(normalised_at_once, x, layer, push, slope), exactly(x, layer, push, slope)
    torch.testing.assert_close(ours.out.double(), truth.out, rtol=2**-8, atol=2**-20)
    assert away(ours.x, truth.x) < 2**-8


def test_numbers_far_from_zero_keep_what_sets_them_apart() -> None:
    """Mean 1000, deviation 5 (bf16 has steps of 4 there): the variance is that of the numbers as they are."""
    x, push = noise((2, 16, 40, 41, 3), seed=1, mean=1000, deviation=5), noise((2, 16, 40, 41, 3), seed=2)
    layer = layer_of(x)
    ours, truth = found(normalised_at_once, x, layer, push, 1.0), exactly(x, layer, push, 1.0)
    torch.testing.assert_close(ours.out.double(), truth.out, rtol=2**-8, atol=2**-16)
    assert max(away(ours.x, truth.x), away(ours.out, truth.out)) < 2**-8 and away(ours.weight, truth.weight) < 2**-16


def test_one_voxel_far_away_and_rare_steps_do_not_spoil_a_sum() -> None:
    """The first voxel 2^20 times as large as the others; and a channel in which one voxel in 40,000 is one step of bf16 away."""
    x = noise((1, 16, 200, 200), seed=1)
    x[0, 0, 0, 0], x[0, 1], x[0, 1, 100, 100] = 2.0**20, 1000.0, 1004.0
    layer = layer_of(x, affine=False)
    with torch.no_grad():
        out = normalised_at_once(x, layer)
        wanted = F.instance_norm(x.double().contiguous(), eps=layer.eps)
    torch.testing.assert_close(out.double(), wanted, rtol=2**-8, atol=2**-16)


def test_a_channel_that_is_everywhere_the_same_becomes_its_bias() -> None:
    for value in (0.0, 1000.0, -(2.0**60)):
        x = torch.full((2, 5, 7, 9), value, dtype=torch.bfloat16).contiguous(memory_format=LAYOUT[4])
        layer = layer_of(x)
        ours = found(normalised_at_once, x, layer, noise((2, 5, 7, 9), seed=2))
        wanted = F.leaky_relu(layer.bias.detach(), SLOPE).bfloat16()
        assert (ours.out.movedim(1, -1) == wanted).all() and ours.x.isfinite().all() and (ours.weight == 0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_stays_in_its_channel_and_sample(bad: float) -> None:
    x, push = noise((2, 16, 9, 7), seed=1), noise((2, 16, 9, 7), seed=2)
    layer = layer_of(x)
    x[1, 3, 4, 4] = bad
    ours = found(normalised_at_once, x, layer, push)
    for map_ in (ours.out, ours.x):
        wrong = map_.isnan()
        assert wrong[1, 3].all() and wrong.sum() == wrong[1, 3].numel()
    assert ours.weight.isnan().nonzero().tolist() == [[3]]
    push[0, 2, 0, 0] = bad
    behind = found(normalised_at_once, noise((2, 16, 9, 7), seed=1), layer, push)
    assert not behind.x[0, 2].isfinite().any() and behind.x[1].isfinite().all() and not behind.bias[2].isfinite()


def test_rounding_is_to_the_nearest_and_to_even() -> None:
    """A weight and a bias that put the results of -1 and 1 halfway between two numbers of bf16, and just beside."""
    x = torch.tensor([-1.0, 1.0]).bfloat16().reshape(1, 1, 1, 2).expand(1, 64, 1, 2).contiguous(memory_format=LAYOUT[4])
    layer = layer_of(x)
    layer.eps = 0.0
    layer.weight.data.zero_()
    halves = 1 + torch.arange(64) * 2.0**-8
    layer.bias.data.copy_(halves)
    with torch.no_grad():
        assert (normalised_at_once(x, layer)[0, :, 0, 0] == halves.bfloat16()).all()


@pytest.mark.parametrize("shape", [(1, 24, 70, 50, 9), (2, 16, 40, 56, 40), (5, 7, 90, 90)])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_bits_do_not_depend_on_the_number_of_threads(shape: tuple[int, ...], kind: torch.dtype) -> None:
    x, push = noise(shape, seed=1, mean=3, kind=kind), noise(shape, seed=2, kind=kind)
    layer = layer_of(x)
    made, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            made.append(found(normalised_at_once, x, layer, push))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, first) for other in made[1:] for one, first in zip(other, made[0], strict=True))


def test_a_sample_does_not_depend_on_its_batch() -> None:
    x = noise((3, 24, 9, 20), seed=1)
    layer = layer_of(x)
    with torch.no_grad():
        together, alone = normalised_at_once(x, layer), [normalised_at_once(x[k : k + 1].clone(), layer) for k in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_without_a_gradient_the_result_takes_the_place_of_what_is_not_needed() -> None:
    x = noise((2, 17, 9, 20), seed=1)
    layer = layer_of(x)
    with torch.no_grad():
        before = x.clone()
        apart = normalised_at_once(x, layer, slope=SLOPE)
        assert torch.equal(x, before)
        inside = normalised_at_once(x, layer, slope=SLOPE, own=True)
    assert inside.data_ptr() == x.data_ptr() and torch.equal(inside, apart)
    learning = normalised_at_once(before, layer, slope=SLOPE, own=True)  # a weight wants a gradient: what it is of stays
    assert learning.data_ptr() != before.data_ptr() and torch.equal(learning, apart)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_nothing_is_written_beside_the_room(shape: tuple[int, ...], kind: torch.dtype) -> None:
    """A mark behind all that the kernels write stays what it was."""
    x, grad, out = (F.pad(noise(shape, seed=k, kind=kind).flatten(), (0, 64), value=7.0) for k in range(3))
    many, spaces = x.numel() - 64, []

    def marked(of: Tensor) -> Tensor:
        spaces.append(torch.full((room(of).numel() + 64,), 7.0))
        return spaces[-1]

    view = [one[:many].view(shape[0], *shape[2:], shape[1]).movedim(-1, 1) for one in (x, grad, out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_normalise, "room", marked)
        moments = there(view[0], view[2], layer=(None, None), numbers=(1e-5, SLOPE))
        _, slopes = back(view[0], view[1], layer=(None, None), kept=(moments, SLOPE))
    assert (out[many:] == 7).all() and all((space[-64:] == 7).all() for space in spaces) and slopes.isfinite().all()


def test_the_kernels_stay_out_of_what_is_not_theirs() -> None:
    x = noise((2, 16, 4, 4), seed=1)
    layer = layer_of(x)
    assert normalised_at_once(x, layer) is not None
    assert all(normalised_at_once(one, layer) is None for one in (x.double(), x.half(), x.contiguous()))
    assert normalised_at_once(x[:0], layer) is None and normalised_at_once(x, layer_of(x).double()) is None
    assert normalised_at_once(nn.Parameter(x), layer) is None
    with pytest.raises(ValueError, match="more than 1"):
        layer(noise((1, 16, 1, 1), seed=1).requires_grad_())
    with torch.no_grad():
        wanted = layer.bias.bfloat16()[None, :, None, None]
        assert torch.equal(layer(noise((1, 16, 1, 1), seed=1)), wanted)


@pytest.mark.parametrize("affine", [True, False])
def test_a_gradient_of_the_gradient_is_there_too(affine: bool) -> None:
    x, push = noise((2, 8, 6, 5), seed=1), noise((2, 8, 6, 5), seed=2)
    made = []
    for way, own in ((normalised_at_once, x.clone()), (None, x.double().contiguous())):
        layer = layer_of(x, affine=affine).to(torch.float32 if way else torch.float64)
        own.requires_grad_()
        exact = F.leaky_relu(F.instance_norm(own, weight=layer.weight, bias=layer.bias), SLOPE) if way is None else None
        out = way(own, layer, slope=SLOPE) if exact is None else exact
        (first,) = torch.autograd.grad(out, own, push.to(out.dtype), create_graph=True)
        wanted = [own, layer.weight] if affine else [own]
        made.append([first, *torch.autograd.grad(first.pow(2).sum(), wanted)])
    for one, truth in zip(*made, strict=True):
        assert away(one.detach(), truth.detach()) < 2**-5


def test_traced_networks_have_torchs_own_layers() -> None:
    x = noise((2, 16, 4, 4), seed=1)
    layer = layer_of(x)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, x)
        exported = torch.export.export(layer, (x,))
        other = noise((2, 16, 4, 4), seed=3)
        wanted = layer(other)
        for made in (traced(other), exported.module()(other)):
            torch.testing.assert_close(made, wanted, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("channels", [16, 64])
def test_a_layer_of_other_channels_is_refused_as_by_torch(channels: int) -> None:
    with torch.no_grad(), pytest.raises((RuntimeError, ValueError)):
        NORM[3](channels, affine=True)(noise((1, 32, 4, 4, 4), seed=1))


def test_a_sample_that_is_alone_is_left_to_torch() -> None:
    x = noise((16, 4, 5, 6), seed=2)  # of a volume: 16 channels of 4 planes
    with torch.no_grad():
        assert normalised_at_once(x, NORM[3](16, affine=True)) is None
        assert torch.equal(NORM[2](16, affine=True)(x[:, 0]), nn.InstanceNorm2d(16, affine=True)(x[:, 0]))
