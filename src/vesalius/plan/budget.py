"""Seconds and bytes, measured on the machine at hand instead of guessed from a proxy.

A candidate network makes two real training steps on noise; the fastest step and the bytes that autograd keeps are what
planning counts with. bf16 is used where a probe shows that it pays.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError

AT_WORK = 4  # tensors of the largest size beside what is kept: gradients coming and going, each also in another layout
SLOW = 2.0  # seconds: a step that takes longer is timed once
BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def seconds(text: str | float) -> float:
    """"20m", "1h30m", "90s" or a number of seconds."""
    found = re.fullmatch(r"\s*(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?\s*", str(text))
    parts = found.groups() if found else ()
    total = sum(float(part or 0) * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=bool(parts)))
    if total <= 0:
        raise UsageError(f"Expected a time such as 20m, 1h30m or 90s; got {text!r}.")
    return total


def size_in_bytes(text: str | int) -> int:
    """"8G", "512M" or a number of bytes."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", str(text), re.IGNORECASE)
    if not found or float(found[1]) == 0:
        raise UsageError(f"Expected a size such as 8G or 512M; got {text!r}.")
    return int(float(found[1]) * BYTES.get(found[2].upper(), 1))


def device() -> str:
    """"cuda" where torch sees a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def precision(where: str) -> tuple[str, str]:
    """"bf16" or "fp32" and why: a small convolution is timed in both."""
    if where != "cpu":
        return "bf16", "the GPU computes bf16 natively"
    layer, x = nn.Conv3d(16, 16, 3, padding=1), torch.randn(1, 16, 32, 32, 32)
    times = {kind: min(_timed(lambda k=kind: _forward(layer, x, where="cpu", kind=k)) for _ in range(4)) for kind in ("fp32", "bf16")}  # type: ignore[misc]
    ratio = times["fp32"] / times["bf16"]
    if ratio > 1.15:
        return "bf16", f"a probe convolution ran {ratio:.1f} times as fast in bf16 on this processor"
    return "fp32", f"a probe convolution ran {ratio:.1f} times as fast in bf16 on this processor: it does not pay"


def _forward(layer: nn.Module, x: Tensor, *, where: str, kind: str) -> Tensor:
    with torch.no_grad(), torch.autocast(where, torch.bfloat16, enabled=kind == "bf16"):
        out: Tensor = layer(x)
    return out


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Measured:
    """`step` seconds per training step, `tile` seconds per patch at prediction, `memory` bytes that a step needs: what autograd
    keeps, the tensors at work at the start of backward, weights with gradient, average and two moments, and the image."""

    step: float
    tile: float
    memory: int
    parameters: int


def measure(net: nn.Module, shape: tuple[int, ...], *, where: str, kind: str) -> Measured:
    """Time real steps of `net` on noise of `shape` (B, C, *S); the loss is a stand-in of the same cost order."""
    layout = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    net = net.to(where).to(memory_format=layout)  # type: ignore[call-overload]
    x = torch.randn(shape, device=where)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def step() -> None:
        with torch.autocast(where, torch.bfloat16, enabled=kind == "bf16"):
            heads = net.heads(x.contiguous(memory_format=layout))  # type: ignore[operator]
            total = sum(F.log_softmax(head.float(), 1).mean() for head in heads)
        total.backward()  # type: ignore[union-attr]
        net.zero_grad(set_to_none=True)
        _wait(where)

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    fastest = _timed(step)
    fastest = min([fastest, *(_timed(step) for _ in range(2 if fastest < SLOW else 0))])

    net.eval()

    def answer() -> None:
        _forward(net, x[:1], where=where, kind=kind)
        _wait(where)

    tile = min(_timed(answer) for _ in range(2))
    weights = sum(p.numel() for p in net.parameters())
    return Measured(fastest, tile, sum(kept.values()) + AT_WORK * max(kept.values()) + 20 * weights + 4 * x.numel(), weights)


def _wait(where: str) -> None:
    if where != "cpu":
        torch.cuda.synchronize()
