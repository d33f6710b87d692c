"""Networks written down as steps, and run without torch: the same answers."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from vesalius.core.errors import VesaliusError
from vesalius.core.kernels import in_use
from vesalius.export.network import Network, able
from vesalius.export.numbers import singles
from vesalius.export.steps import Step, Steps, fused
from vesalius.export.written import written
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise

KINDS = {
    "3D": ("unet", 3, {"channels": (16, 32, 48)}),
    "2D": ("unet", 2, {"channels": (16, 32, 32)}),
    "thick": ("unet", 3, {"channels": (16, 32, 32), "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)), "strides": (1, (1, 2, 2), 2)}),
    "odd channels": ("unet", 3, {"channels": (5, 12, 20)}),
    "original": ("unet", 2, {"channels": (8, 16, 32), "norm": "none", "pool": True}),
    "residual": ("residual_unet", 3, {"channels": (16, 32, 32), "blocks": (1, 2, 2)}),
    "residual 2D": ("residual_unet", 2, {"channels": (16, 32, 48), "blocks": (1, 2, 2)}),
}


def made(kind, *, channels=1, classes=3):
    name, ndim, words = KINDS[kind]
    net = NETS[name](ndim, channels, classes, **words)
    generator = torch.Generator().manual_seed(0)
    initialise(net, generator)
    with torch.no_grad():
        for weight in net.parameters():  # no bias is 0, no scale 1
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return net.eval(), ndim


def tile(ndim, channels, *, side=24, batch=1):
    return np.random.default_rng(1).standard_normal((batch, channels, *(side,) * ndim), np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_in_float32_a_written_network_answers_as_torch_does(kind, channels):
    net, ndim = made(kind, channels=channels)
    steps, weights = written(net, channels, ndim=ndim, pooling=net.pooling)
    x = tile(ndim, channels, batch=2)
    with torch.inference_mode():
        wanted = net.double()(torch.from_numpy(x).double()).numpy()
    found = Network(steps, weights)(x)
    assert found.shape == wanted.shape and found.dtype == np.float32
    assert np.abs(found - wanted).max() < 2e-5 * np.abs(wanted).max()


@pytest.mark.skipif(in_use() != "avx512bf16", reason="no kernels for bf16 here: not built, VESALIUS_KERNELS, or another processor")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_in_bf16_it_is_as_near_to_double_precision_as_torch_in_bf16_is(kind, channels):
    net, ndim = made(kind, channels=channels)
    steps, weights = written(net, channels, ndim=ndim, pooling=net.pooling)
    x = tile(ndim, channels)
    layout = torch.channels_last if ndim == 2 else torch.channels_last_3d
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torchs = net.to(memory_format=layout)(torch.from_numpy(x).contiguous(memory_format=layout)).float().numpy()
    with torch.inference_mode():
        wanted = net.double()(torch.from_numpy(x).double()).numpy()
    found = singles(Network(steps, weights, number="bf16")(x))
    off, theirs = (np.square(one - wanted).mean() ** 0.5 for one in (found, torchs))
    assert off < 1.5 * theirs + 1e-3 * np.abs(wanted).max()


@pytest.mark.parametrize("number", ["fp32", "bf16"])
def test_threads_make_no_difference(number):
    if able(number) != number:
        pytest.skip("no kernels for bf16 here")
    net, ndim = made("3D")
    steps, weights = written(net, 1, ndim=ndim, pooling=net.pooling)
    one, two = (Network(steps, weights, number=number, threads=threads)(tile(3, 1)) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_a_network_answers_the_same_twice_and_leaves_the_tile_alone():
    net, ndim = made("residual")
    steps, weights = written(net, 1, ndim=ndim, pooling=net.pooling)
    network, x = Network(steps, weights), tile(3, 1)
    before = x.copy()
    np.testing.assert_array_equal(network(x), network(x))
    np.testing.assert_array_equal(x, before)


def test_steps_come_back_from_json():
    net, ndim = made("residual")
    steps, _ = written(net, 1, ndim=ndim, pooling=net.pooling)
    assert Steps.checked(json.loads(json.dumps(steps.dumped(short=True)))) == steps


def test_every_leaky_and_joined_goes_into_its_neighbour():
    net, ndim = made("3D")
    steps, _ = written(net, 1, ndim=ndim, pooling=net.pooling)
    assert {"leaky", "joined"} <= {step.kind for step in steps.steps}
    assert {step.kind for step in fused(steps.steps)} == {"convolution", "normalisation", "transposed"}


def test_what_others_take_is_not_fused():
    of = {"step": (1, 1), "pad": (0, 0)}
    steps = (
        Step(kind="normalisation", takes=("image",), makes="a"), Step(kind="leaky", takes=("a",), makes="b", slope=0.1),
        Step(kind="joined", takes=("a", "b"), makes="c"), Step(kind="convolution", takes=("c",), makes="d", weight="w", **of),
        Step(kind="sum", takes=("c", "c"), makes="e"),
    )  # fmt: skip
    assert fused(steps) == steps


class Strange(nn.Module):
    pooling = (1, 1)

    def __init__(self, body):
        super().__init__()
        self.body, self.layer = body, nn.Conv2d(1, 2, 1)

    def forward(self, x):
        return self.body(self.layer(x))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (torch.sigmoid, "calls sigmoid"),
        (lambda x: x + 1, "sums of unlike maps"),
        (lambda x: torch.cat([x, x], 2), "other axes"),
        (nn.Conv2d(2, 2, 3, dilation=2), "grouped or dilated"),
        (nn.Conv2d(2, 2, 3, groups=2), "grouped or dilated"),
        (nn.ConvTranspose2d(2, 2, 3, 2), "kernel is not their step"),
        (nn.MaxPool2d(3, 2), "blocks overlap"),
        (nn.InstanceNorm2d(2, track_running_stats=True), "running statistics"),
    ],
)
def test_what_has_no_step_is_named(body, says):
    with pytest.raises(VesaliusError, match=says):
        written(Strange(body).eval(), 1, ndim=2, pooling=(4, 4))


@pytest.mark.parametrize("idle", [{"kind": "joined"}, {"kind": "leaky", "slope": 1.0}])
def test_a_step_that_changes_nothing_does_not_hand_its_map_to_be_written_over(idle):
    steps = Steps.checked({"ndim": 2, "channels": 1, "pooling": [1, 1], "steps": [
        {"kind": "convolution", "takes": ["image"], "makes": "a", "weight": "w", "step": [1, 1], "pad": [0, 0]},
        {"takes": ["a"], "makes": "b", **idle}, {"kind": "normalisation", "takes": ["b"], "makes": "c", "added": 1e-5},
        {"kind": "sum", "takes": ["a", "c"], "makes": "d"}]})  # fmt: skip
    weights, x = {"w": np.full((16, 1, 1, 1), 2, np.float32)}, tile(2, 1)
    map_ = 2 * x.astype(np.float64)
    wanted = map_ + (map_ - map_.mean()) / np.sqrt(map_.var() + 1e-5)
    np.testing.assert_allclose(Network(steps, weights)(x), np.repeat(wanted, 16, 1), atol=1e-4)


def test_weights_that_are_missing_are_named():
    net, ndim = made("2D")
    steps, weights = written(net, 1, ndim=ndim, pooling=net.pooling)
    name, _ = weights.popitem()
    with pytest.raises(VesaliusError, match=name):
        Network(steps, weights)


@pytest.mark.parametrize("shape", [(1, 1, 24, 23), (1, 2, 24, 24), (1, 1, 24, 24, 24)])
def test_a_tile_of_another_shape_is_refused(shape):
    net, ndim = made("2D")
    steps, weights = written(net, 1, ndim=ndim, pooling=net.pooling)
    with pytest.raises(VesaliusError, match="Expected tiles"):
        Network(steps, weights)(np.zeros(shape, np.float32))


CONVOLUTION = {"kind": "convolution", "takes": ["image"], "makes": "a", "weight": "w", "step": [1, 1], "pad": [0, 0]}


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [CONVOLUTION | {"takes": ["b"]}],
        [CONVOLUTION | {"takes": []}],
        [CONVOLUTION, CONVOLUTION],
        [CONVOLUTION | {"makes": "image"}],
        [CONVOLUTION | {"step": [1]}],
        [CONVOLUTION | {"step": [0, 1]}],
        [CONVOLUTION | {"pad": [-1, 0]}],
        [CONVOLUTION | {"kind": "transposed", "takes": ["image", "image"]}],
        [CONVOLUTION | {"kind": "sum"}],
        [CONVOLUTION | {"kind": "system"}],
    ],
)
def test_steps_that_do_not_follow_are_refused(steps):
    with pytest.raises(ValueError):
        Steps(ndim=2, channels=1, pooling=(1, 1), steps=steps)
