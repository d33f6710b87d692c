"""Convolutions in single precision, product by product, beside torch's in double precision, by every library for this processor."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.unit.core.libraries import LIBRARIES, guarded, kernel, untouched

NEAR = 2e-6  # of the length of what is right
BLOCK = 16
Case = tuple[int, int, int, Sequence[int], Sequence[int], Sequence[int], Sequence[int]]
Rising = tuple[int, int, int, Sequence[int], Sequence[int]]
DOWN: list[Case] = [  # batch, channels, channels made, sides, and the kernel's sides, steps and zeros before the map
    (1, 1, 32, (5, 6, 7), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    (2, 2, 3, (4, 9, 31), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    (2, 3, 16, (33, 20), (3, 3), (2, 2), (1, 1)),
    (1, 4, 20, (7, 5, 9), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    (2, 16, 33, (2, 1, 2), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    (1, 20, 48, (1, 1, 1), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    (1, 4, 4, (2, 2, 2), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    (2, 33, 4, (6, 7, 8), (1, 1, 1), (1, 1, 1), (0, 0, 0)),
    (1, 16, 33, (5, 6, 7), (1, 1, 1), (2, 2, 2), (0, 0, 0)),
    (1, 5, 17, (9, 8, 9), (5, 5, 5), (2, 2, 2), (2, 2, 2)),
    (1, 2, 16, (12, 11, 13), (7, 7, 7), (2, 2, 2), (3, 3, 3)),
    (1, 16, 9, (6, 8, 5), (2, 2, 2), (2, 2, 2), (0, 0, 0)),
    (2, 3, 8, (10, 11, 9), (3, 3, 3), (3, 3, 3), (0, 0, 0)),
    (1, 3, 5, (7, 8, 9), (1, 3, 3), (1, 1, 3), (0, 1, 1)),
    (1, 16, 32, (4, 5, 6), (3, 3, 3), (1, 1, 1), (2, 2, 2)),
    (1, 4, 16, (2, 3, 2), (5, 5, 5), (1, 1, 1), (4, 4, 4)),
    (1, 320, 70, (4, 4, 5), (3, 3, 3), (1, 1, 1), (1, 1, 1)),  # weights in chunks
    (1, 48, 40, (3, 70, 30), (3, 3, 3), (1, 1, 1), (1, 1, 1)),  # planes in several parts,
    (1, 512, 16, (3, 3, 64), (3, 3, 3), (1, 1, 1), (1, 1, 1)),  # rows, too
    (1, 1, 2, (3, 1100), (3, 3), (1, 2), (1, 1)),
    (2, 4, 16, (60, 5, 6), (3, 3, 3), (1, 1, 1), (1, 1, 1)),  # many planes
    (1, 3, 17, (150, 5, 6), (5, 3, 3), (3, 1, 1), (2, 1, 1)),
]
UP: list[Rising] = [  # batch, channels, channels made, sides, steps
    (1, 1, 1, (1, 1, 1), (2, 2, 2)),
    (2, 33, 16, (3, 5, 7), (2, 2, 2)),
    (1, 16, 33, (2, 1, 2), (1, 2, 2)),
    (2, 4, 20, (5, 30), (2, 2)),
    (1, 20, 3, (4, 3, 5), (3, 2, 1)),
    (1, 3, 70, (2, 3, 300), (2, 2, 3)),
    (1, 64, 32, (9, 12, 11), (2, 2, 2)),
]
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="no kernels on this machine")


def between(x: Tensor) -> Tensor:
    """`x` (B, C, *S) with its channels together, and beside it numbers that are none."""
    inside, _ = guarded([len(x), *x.shape[2:], x.shape[1]])
    return inside.copy_(x.movedim(1, -1))


def extent(batch: int, *rows: Sequence[int]) -> Tensor:
    """Fine and coarse sides, those of the kernel, steps and zeros before the map, along three axes."""
    return torch.tensor([batch, *(n for row, none in zip(rows, (1, 1, 1, 1, 0), strict=True) for n in (*(none,) * (3 - len(row)), *row))])


def packed(library: str, weight: Tensor, of: Tensor) -> Tensor:
    """The kernel `weight` (K, C, *sides) in the order of the products."""
    strides = torch.tensor([*weight.stride()[:2], *(0,) * (5 - weight.ndim), *weight.stride()[2:]])
    out = torch.full((-(-len(weight) // BLOCK) * BLOCK * weight[0].numel(),), float("nan"))
    addresses = [weight.data_ptr(), strides.data_ptr(), out.data_ptr()]
    kernel(library, "direct_full_weights", "pppiip")(*addresses, *weight.shape[:2], of.data_ptr())
    return out


@dataclass(frozen=True)
class Problem:
    """A map (B, C, *S), a kernel (K, C, *sides) and a bias for K channels, or none; how the maps see each other; and what is right."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    of: Tensor
    truth: Tensor


def compare(library: str, name: str, given: Problem) -> None:
    """Near what is right, by whatever number of threads the same, and nothing else was read or written."""
    order, x, truth, answers = packed(library, given.weight, given.of), between(given.x), given.truth.movedim(1, -1), []
    for threads in (1, 2, 5):
        (to, room), done = guarded(truth.shape), ctypes.c_int64(-1)
        bias = None if given.bias is None else given.bias.data_ptr()
        addresses = [x.data_ptr(), order.data_ptr(), bias, to.data_ptr(), given.of.data_ptr()]
        kernel(library, name, "pppppiiip")(*addresses, x.shape[-1], to.shape[-1], threads, ctypes.addressof(done))
        assert done.value == 1 and untouched(room)
        answers.append(to)
    assert float((answers[0] - truth).norm()) < NEAR * float(truth.norm())
    assert all(torch.equal(answers[0], one) for one in answers)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", DOWN, ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_a_convolution_is_that_of_double_precision(library: str, case: Case, biased: bool) -> None:
    batch, channels, made, sides, side, step, pad = case
    x, weight, bias = noise(batch, channels, *sides), noise(made, channels, *side), noise(made) if biased else None
    convolve = {2: F.conv2d, 3: F.conv3d}[len(sides)]
    truth = convolve(x.double(), weight.double(), None if bias is None else bias.double(), tuple(step), tuple(pad))
    of = extent(batch, sides, truth.shape[2:], side, step, pad)
    compare(library, "direct_full_down", Problem(x, weight, bias, of, truth))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", UP, ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_a_transposed_convolution_is_that_of_double_precision(library: str, case: Rising, biased: bool) -> None:
    batch, channels, made, sides, step = case
    x, weight, bias = noise(batch, channels, *sides), noise(channels, made, *step), noise(made) if biased else None
    convolve = {2: F.conv_transpose2d, 3: F.conv_transpose3d}[len(sides)]
    truth = convolve(x.double(), weight.double(), None if bias is None else bias.double(), tuple(step))
    of = extent(batch, truth.shape[2:], sides, step, step, [0] * len(step))
    compare(library, "direct_full_up", Problem(x, weight.transpose(0, 1), bias, of, truth))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("made", "channels"), [(3, 1), (16, 5), (33, 4)])
def test_weights_lie_in_blocks_of_sixteen_channels_with_zeros_behind_them(library: str, made: int, channels: int) -> None:
    of, side = extent(1, (9, 9, 9), (9, 9, 9), (1, 3, 5), (1, 1, 1), (0, 1, 2)), (1, 3, 5)
    blocks, turned = -(-made // BLOCK), noise(channels, made, *side).transpose(0, 1)
    for weight in (noise(made, channels, *side), turned, noise(*side, made, channels).permute(3, 4, 0, 1, 2)):
        whole = F.pad(weight.flatten(2), (0, 0, 0, 0, 0, blocks * BLOCK - made))  # (made, C, places)
        expected = whole.unflatten(0, (blocks, BLOCK)).permute(0, 3, 2, 1)
        assert torch.equal(packed(library, weight, of), expected.flatten())


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", ["direct_full_down", "direct_full_up"])
@pytest.mark.parametrize("threads", [1, 2])
def test_where_there_is_no_memory_the_caller_is_told(library: str, name: str, threads: int) -> None:
    of, done, some = extent(1, (4, 4, 4), (4, 4, 4), (1, 1, 1), (1, 1, 1), (0, 0, 0)), ctypes.c_int64(-1), torch.zeros(4**3)
    kernel(library, name, "pppppiiip")(*(some.data_ptr(),) * 4, of.data_ptr(), 1, 1 << 58, threads, ctypes.addressof(done))
    assert done.value == 0 and not some.any()
