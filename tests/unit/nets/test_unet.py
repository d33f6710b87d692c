"""The U-Nets against a count by hand, a second implementation out of plain functions, and one phantom learned by heart."""

import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vesalius.data.batch import Batch, Kind
from vesalius.losses import LOSSES
from vesalius.methods.supervised import Supervised
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise
from vesalius.nets.residual_unet import ResidualUNet
from vesalius.nets.unet import UNet


def count(net):
    return sum(p.numel() for p in net.parameters())


def original_unet(channels, *, inputs, outputs):
    """Table of Ronneberger et al. 2015, figure 1: two 3 x 3 convolutions per level, 2 x 2 up-convolutions, a 1 x 1 at the end."""
    conv = lambda a, b, k: a * b * k * k + b  # noqa: E731
    down = sum(conv(a, b, 3) + conv(b, b, 3) for a, b in zip((inputs, *channels), channels, strict=False))
    up = sum(conv(b, a, 2) + conv(2 * a, a, 3) + conv(a, a, 3) for a, b in pairwise(channels))
    return down + up + conv(channels[0], outputs, 1)


def nnunet(channels, *, inputs, outputs):
    """nnU-Net's plain 3D network: convolutions with bias and affine instance norm, a head per decoder scale but the coarsest."""
    conv = lambda a, b: 27 * a * b + b + 2 * b  # noqa: E731
    down = sum(conv(a, b) + conv(b, b) for a, b in zip((inputs, *channels), channels, strict=False))
    up = sum(8 * a * b + a + conv(2 * a, a) + conv(a, a) for a, b in pairwise(channels))
    return down + up + sum(c * outputs + outputs for c in channels[: len(channels) - 2])


def test_the_original_has_its_31_million_parameters():
    channels = (64, 128, 256, 512, 1024)
    with torch.device("meta"):
        net = UNet(2, 1, 1, channels=channels, norm="none", pool=True)
    assert count(net) == original_unet(channels, inputs=1, outputs=1) == 31_030_593


@pytest.mark.parametrize("channels", [(8, 16), (16, 32, 64), (32, 64, 128, 256, 320, 320)])
def test_the_plain_network_has_nnunets_layers(channels):
    with torch.device("meta"):
        net = UNet(3, 2, 3, channels=channels)
    expected = nnunet(channels, inputs=2, outputs=3) + (3 * channels[0] + 3 if len(channels) == 2 else 0)
    assert count(net) == expected


def test_nnunets_preset_less_its_idle_head():
    """dynamic-network-architectures 0.4.1: PlainConvUNet 31,196,399, ResidualEncoderUNet 102,350,575; the coarsest head is 320 x 3 + 3."""
    channels = (32, 64, 128, 256, 320, 320)
    with torch.device("meta"):
        assert count(UNet(3, 1, 3, channels=channels)) == 31_196_399 - 963
        assert count(ResidualUNet(3, 1, 3, channels=channels)) == 102_350_575 - 963


def block(x, weights, stride=(1, 1, 1)):
    """Convolution, instance norm, leaky ReLU from the next four tensors of `weights`."""
    w, b, gain, shift = (next(weights) for _ in range(4))
    x = F.conv3d(x, w, b, stride, [k // 2 for k in w.shape[2:]])
    return F.leaky_relu(F.instance_norm(x, weight=gain, bias=shift, eps=1e-5), 0.01)


def test_the_forward_pass_is_that_of_plain_functions():
    kernels, strides = ((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    net = initialise(UNet(3, 2, 3, channels=(4, 6, 8), kernels=kernels, strides=strides), torch.Generator().manual_seed(0))
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    x = torch.randn(2, 2, 6, 8, 12, generator=torch.Generator().manual_seed(1))
    parts = {part: iter(list(getattr(net, part).parameters())) for part in ("down", "ups", "blocks", "outs")}
    skips, y = [], x
    for stride in strides:
        y = block(block(y, parts["down"], stride), parts["down"])
        skips.append(y)
    for skip, stride in zip(skips[1::-1], strides[:0:-1], strict=True):
        y = F.conv_transpose3d(y, next(parts["ups"]), next(parts["ups"]), stride)
        y = block(block(torch.cat((y, skip), 1), parts["blocks"]), parts["blocks"])
    expected = F.conv3d(y, next(parts["outs"]), next(parts["outs"]))
    torch.testing.assert_close(net(x), expected)


def test_a_residual_block_is_its_equation():
    from vesalius.nets._blocks import ResidualBlock

    made = initialise(ResidualBlock(2, (3, 5), (3, 3), stride=(2, 1)), torch.Generator().manual_seed(0))
    x = torch.randn(1, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    w1, b1, g1, s1, w2, b2, g2, s2, w3, g3, s3 = made.parameters()
    norm = lambda v, g, s: F.instance_norm(v, weight=g, bias=s, eps=1e-5)  # noqa: E731
    first = F.leaky_relu(norm(F.conv2d(x, w1, b1, (2, 1), 1), g1, s1), 0.01)
    short = norm(F.conv2d(F.avg_pool2d(x, (2, 1)), w3), g3, s3)
    torch.testing.assert_close(made(x), F.leaky_relu(norm(F.conv2d(first, w2, b2, padding=1), g2, s2) + short, 0.01))


def test_initial_weights_have_the_variance_of_he():
    net = initialise(UNet(3, 1, 2, channels=(32, 64)), torch.Generator().manual_seed(0))
    weight = net.down[1][1][0].weight  # 64 x 32 x 3 x 3 x 3
    assert float(weight.detach().var()) == pytest.approx(2 / ((1 + 0.01**2) * 32 * 27), rel=0.02)
    assert float(net.down[1][1][0].bias.detach().abs().max()) == 0


def ball(ndim):
    """A bright ball in noise: image (1, 1, *S) and target (1, 1, *S)."""
    side = {2: 32, 3: 16}[ndim]
    grid = np.stack(np.meshgrid(*[np.arange(side)] * ndim, indexing="ij"), -1)
    mask = np.linalg.norm(grid - side / 2 + 1, axis=-1) < side / 4
    image = np.random.default_rng(0).normal(0, 1, mask.shape) + 2 * mask
    return torch.tensor(image[None, None], dtype=torch.float32), torch.tensor(mask[None, None].astype(np.uint8))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", [name for name in NETS if "segment" in NETS.card(name).tasks])
def test_one_phantom_is_learned_by_heart(name, ndim):
    begun = time.process_time()
    image, target = ball(ndim)
    more = {"blocks": (1, 1, 1)} if name == "residual_unet" else {}
    net = initialise(NETS[name](ndim, 1, 2, channels=(8, 16, 32), **more), torch.Generator().manual_seed(0))
    method = Supervised(net, LOSSES["deep_supervision"](LOSSES["dice_cross_entropy"](True)), learning_rate=1e-2, weight_decay=0.0)
    batch = Batch({"image": image, "target": target}, {"image": Kind.IMAGE, "target": Kind.MASK})
    (optimiser,) = method.optimisers().values()
    for _ in range(40):
        for _, losses in method.steps(batch):
            optimiser.zero_grad()
            sum(losses.values()).backward()
            optimiser.step()
    said, truth = method.eval().infer(image).argmax(1), target[:, 0]
    dice = 2 * float((said & truth).sum()) / float(said.sum() + truth.sum())
    assert dice > 0.95
    assert time.process_time() - begun < 20
