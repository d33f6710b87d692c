"""A transposed convolution and the one behind it as one, beside torch's own layers one after the other."""

import copy

import pytest
import torch
from torch import Tensor, nn

from vesalius.nets import _blocks
from vesalius.nets._blocks import ConvBlock, Up
from vesalius.nets._climb import SEEN, Kept, Near, Rising, climbed, edges, joined, pays, seen
from vesalius.nets._together import channels_together
from vesalius.nets.unet import UNet

LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}
WAYS = [((2, 2, 2), (3, 3, 3)), ((2, 2, 1), (3, 3, 1)), ((1, 2, 2), (3, 3, 3)), ((2, 2, 2), (1, 3, 3)), ((2, 1, 2), (3, 3, 1)),
        ((2, 2), (3, 3))]  # fmt: skip


def noise(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return made.contiguous(memory_format=LAYOUT[len(shape) - 2]).requires_grad_()


def way(stride: tuple[int, ...], kernel: tuple[int, ...], dtype: torch.dtype) -> tuple[Up, ConvBlock, Tensor, Tensor]:
    """A way up from 6 channels to 4, a block from these and 3 to 5, and two samples of a coarse map and its skip."""
    ndim, sides = len(stride), (4, 5, 6)[: len(stride)]
    up, block = Up(ndim, (6, 4), stride).to(dtype), ConvBlock(ndim, (7, 5), kernel).to(dtype)
    return up, block, noise((2, 6, *sides), 1, dtype), noise((2, 3, *(a * b for a, b in zip(sides, stride, strict=True))), 2, dtype)


def weights(up: Up, block: ConvBlock) -> list[Tensor]:
    return [up.up.weight, up.up.bias, block[0].weight, block[0].bias]


@pytest.mark.parametrize(("stride", "kernel"), WAYS)
def test_two_convolutions_as_one_are_the_two_in_double_precision(stride: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    """Output, and the gradient of both maps and every weight; the bias of the first is all over the border of the second."""
    up, block, x, skip = way(stride, kernel, torch.float64)
    wanted = block[0](torch.cat((up.up(x), skip), 1))
    push, of = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64), [x, skip, *weights(up, block)]
    truth = torch.autograd.grad(wanted, of, push)
    found = climbed(x, skip, up=up.up, conv=block[0], kept=up.kept)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)  # what the bias gives is computed in single precision
    for one, two in zip(torch.autograd.grad(found, of, push), truth, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=2e-5)
    with torch.no_grad():
        torch.testing.assert_close(climbed(x, skip, up=up.up, conv=block[0], kept=up.kept), wanted, rtol=0, atol=1e-5)


def test_joined_kernels_are_the_answer_to_single_voxels() -> None:
    """A coarse map that is 1 at one voxel of one channel, through both layers: what each fine voxel gets is one number of the kernels."""
    up, conv = nn.ConvTranspose2d(2, 3, 2, 2, bias=False).double(), nn.Conv2d(3, 4, 3, padding=1, bias=False).double()
    kernels = joined(up.weight, conv.weight, (2, 2))
    x = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    x[0, 1, 1, 1] = 1
    answer = conv(up(x))[0]
    for row in (0, 1):
        for column in (0, 1):
            for coarse in ((0, 0), (0, 1), (1, 0), (1, 1)):  # which of the voxels that a block sees is the one
                fine = [2 * (2 - seen_from) - 1 + inside for seen_from, inside in zip(coarse, (row, column), strict=True)]
                number = kernels[row][column * 4 : column * 4 + 4, 1, *coarse]
                torch.testing.assert_close(number, answer[:, fine[0], fine[1]])


def test_what_a_bias_gives_is_less_at_a_border() -> None:
    """Ones behind a kernel of ones: as many as there are voxels within reach."""
    found = edges(torch.ones(1), torch.ones(1, 1, 3, 3))
    assert found[..., 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def together_in_bf16() -> bool:
    """Whether torch's own convolutions in bf16 leave channels together, as they do on processors with AVX-512."""
    x = torch.zeros(1, 16, 4, 4, 4, dtype=torch.bfloat16).to(memory_format=torch.channels_last_3d)
    return channels_together(torch.conv3d(x, torch.zeros(16, 16, 3, 3, 3, dtype=torch.bfloat16), padding=1))


@pytest.mark.parametrize("learning", [True, False])
def test_a_network_in_bf16_goes_up_as_it_did(learning: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss, logits and gradient, no farther from single precision than those of one layer after the other."""
    if not together_in_bf16():
        pytest.skip("torch's convolutions in bf16 put channels apart on this processor, for which plans keep to fp32")
    net, image = UNet(3, 1, 2, channels=(16, 32)), noise((2, 1, 24, 24, 16), 4, torch.float32).detach()
    net = net.to(memory_format=torch.channels_last_3d)
    met: list[bool] = []

    def watched(x: Tensor, skip: Tensor, *, up: Rising, conv: Near, kept: Kept) -> Tensor:
        met.append(True)
        return climbed(x, skip, up=up, conv=conv, kept=kept)

    monkeypatch.setattr(_blocks, "climbed", watched)
    monkeypatch.setattr(_blocks, "suits", lambda *of: False)  # as where torch convolves

    def run(low: bool) -> Tensor:
        one = copy.deepcopy(net)
        with torch.autocast("cpu", torch.bfloat16, enabled=low), torch.set_grad_enabled(learning):
            out = one(image)
        if not learning:
            return out.float()
        out.float().square().mean().backward()
        return torch.cat([weight.grad.flatten() for weight in one.parameters() if weight.grad is not None])

    exact, here = run(False), run(True)
    assert met == [True]  # in bf16 alone
    monkeypatch.setattr(_blocks, "joins", lambda *maps: False)
    there = run(True)
    away = [float((one - exact).norm() / exact.norm()) for one in (here, there)]
    assert len(met) == 1 and away[0] < max(1.2 * away[1], 2**-7)


def test_kernels_are_joined_anew_when_weights_change() -> None:
    kept, made = Kept(), []
    layer = nn.Linear(2, 2)

    def make() -> int:
        made.append(1)
        return len(made)

    assert [kept.get([layer], make) for _ in range(2)] == [1, 1]
    with torch.no_grad():
        layer.weight.add_(1)
    assert [kept.get([layer], make) for _ in range(2)] == [2, 2]
    assert kept.get([copy.deepcopy(layer)], make) == 3
    layer.bias.data = torch.zeros(2)
    assert [kept.get([layer], make) for _ in range(2)] == [4, 4]
    with torch.inference_mode():
        loose = nn.Linear(2, 2)
        assert [kept.get([loose], make) for _ in range(2)] == [5, 6]  # torch does not count changes of these
    assert copy.deepcopy(kept).of == ()


def test_only_what_saves_work_is_joined() -> None:
    up, conv = nn.ConvTranspose3d(32, 16, 2, 2), nn.Conv3d(32, 16, 3, padding=1)
    assert seen(up, conv) == (2, 2, 2)
    x = torch.zeros(1, 1, 1, 1, 1).expand(1, 32, 16, 16, 16)  # takes no room
    assert pays(x, up, conv, learning=False) and pays(x, up, conv, learning=True)
    small = x[:, :, :8, :8, :8]
    assert pays(small, up, conv, learning=False) and not pays(small, up, conv, learning=True)  # kernels are joined at every step
    assert not pays(x[:, :, :3], up, conv, learning=False)
    assert not seen(up, nn.Conv3d(32, 16, 3)) and not seen(up, nn.Conv3d(32, 16, 5, padding=2))
    assert not seen(up, nn.Conv3d(32, 16, 3, 2, 1)) and not seen(up, nn.Conv3d(32, 16, 3, padding=1, bias=False))
    thick = nn.ConvTranspose3d(32, 16, (1, 1, 2), (1, 1, 2))  # three coarse voxels along two axes: more products than before
    assert seen(thick, conv) == (3, 3, 2) and not pays(x, thick, conv, learning=False)
    assert set(SEEN) == {(1, 1), (3, 1), (1, 2), (3, 2)}
