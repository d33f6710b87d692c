"""Time and memory as words, and what is measured."""

import os
import subprocess
import sys

import pytest
import torch

from vesalius.core.errors import UsageError
from vesalius.nets.unet import UNet
from vesalius.plan import budget


@pytest.mark.parametrize(("text", "expected"), [
    ("20m", 1200), ("1h30m", 5400), ("90s", 90), ("90", 90), (45, 45), (1.5, 1.5), ("1.5h", 5400), ("1d", 86400), ("2h15s", 7215),
])  # fmt: skip
def test_seconds(text, expected):
    assert budget.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "20 minutes", "-5m", "m", "30m1h", "0", "0s", 0])
def test_no_time_is_refused(text):
    with pytest.raises(UsageError, match="20m"):
        budget.seconds(text)


@pytest.mark.parametrize(("text", "expected"), [
    ("8G", 8 << 30), ("512M", 512 << 20), ("1.5g", 3 << 29), ("2 GiB", 2 << 30), ("100", 100), (4096, 4096), ("1TB", 1 << 40),
])  # fmt: skip
def test_size_in_bytes(text, expected):
    assert budget.size_in_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "8X", "-1G", "0G"])
def test_no_size_is_refused(text):
    with pytest.raises(UsageError, match="8G"):
        budget.size_in_bytes(text)


def test_what_is_measured_grows_with_the_batch():
    net = UNet(3, 1, 2, channels=(8, 16))
    one, four = (budget.measure(net, (batch, 1, 16, 16, 16), where="cpu", kind="fp32") for batch in (1, 4))
    weights = sum(p.numel() for p in net.parameters())
    assert one.parameters == weights and one.step > 0 and one.tile > 0
    images = 4 * 16**3
    kept = [m.memory - 20 * weights - images * n for m, n in ((one, 1), (four, 4))]
    assert kept[1] == pytest.approx(4 * kept[0], rel=0.25)


def test_the_memory_is_what_autograd_keeps():
    """A lower bound by hand: each convolution keeps its input, each norm its own, in float32."""
    net = UNet(2, 1, 2, channels=(16, 16))
    found = budget.measure(net, (2, 1, 64, 64), where="cpu", kind="fp32")
    fine, coarse = 2 * 64**2 * 4, 2 * 32**2 * 4
    inputs = fine * (1 + 16 + 32 + 16 + 16) + coarse * (16 + 16)
    assert inputs < found.memory < 6 * inputs


def test_half_precision_keeps_less():
    net = UNet(3, 1, 2, channels=(16, 32))
    full, half = (budget.measure(net, (2, 1, 16, 16, 16), where="cpu", kind=kind).memory for kind in ("fp32", "bf16"))
    assert half < full


def test_measuring_leaves_nothing_behind():
    net = UNet(2, 1, 2, channels=(4, 8))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    budget.measure(net, (1, 1, 16, 16), where="cpu", kind="fp32")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_precision_is_probed_with_a_reason():
    kind, why = budget.precision("cpu")
    assert kind in ("bf16", "fp32") and "times as fast" in why
    assert budget.precision("cuda") == ("bf16", "the GPU computes bf16 natively")


STEPS = """
import torch
from pathlib import Path
from vesalius.data.batch import Batch
from vesalius.nets.unet import UNet
from vesalius.testing.check_method import step
from vesalius.methods.supervised import Supervised
from vesalius.losses import LOSSES
net = UNet(3, 1, 2, channels=(16, 32, 64)).to(memory_format=torch.channels_last_3d)
method = Supervised(net, LOSSES["deep_supervision"](LOSSES["dice_cross_entropy"](True)), learning_rate=1e-3, weight_decay=0.0)
optimisers = method.optimisers()
def batch(side):
    image = torch.randn(2, 1, side, side, side).contiguous(memory_format=torch.channels_last_3d)
    return Batch({"image": image, "target": torch.zeros(2, 1, side, side, side, dtype=torch.uint8)}, {})
step(method, optimisers, batch(8))  # whatever is loaded at the first step
def peak():  # of this program; ru_maxrss would count the process that it was forked from
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
step(method, optimisers, batch(40))
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc to read the peak of a process")
def test_the_promise_of_memory_is_kept():
    """The peak of a process over real steps, loss and optimiser included, in fp32."""
    promised = budget.measure(UNet(3, 1, 2, channels=(16, 32, 64)), (2, 1, 40, 40, 40), where="cpu", kind="fp32").memory
    made = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert made.returncode == 0, made.stderr
    assert 0.6 * promised < int(made.stdout) < 1.1 * promised  # allocators round
