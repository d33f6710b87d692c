"""Means of voxels and sums with a leaky ReLU behind them beside torch's, by every library that this processor can run."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.unit.core.libraries import LIBRARIES, guarded, kernel, untouched

KINDS = {"_full": torch.float32, "": torch.bfloat16}  # what kernels of such names are for
POOLS: list[tuple[int, int, Sequence[int], Sequence[int]]] = [  # batch, channels, sides, steps
    (1, 1, (4, 4, 4), (2, 2, 2)),
    (2, 3, (5, 7, 9), (2, 2, 2)),
    (1, 16, (1, 9, 8), (1, 2, 2)),
    (2, 20, (4, 1, 6), (1, 1, 2)),
    (1, 33, (6, 7, 10), (3, 2, 3)),
    (1, 70, (2, 2, 2), (2, 2, 2)),
]
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="no kernels on this machine")


def pooled(library: str, name: str, x: Tensor, step: Sequence[int], *, threads: int) -> Tensor:
    """The means of `x` (B, *S, C)."""
    batch, *sides, channels = x.shape
    coarse = [side // one for side, one in zip(sides, step, strict=True)]
    of = torch.tensor([batch, *sides, *coarse, *step, *step, 0, 0, 0])
    to, room = guarded([batch, *coarse, channels], x.dtype)
    kernel(library, f"mean_pool{name}", "pppii")(x.data_ptr(), to.data_ptr(), of.data_ptr(), channels, threads)
    assert untouched(room)
    return to


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_means_are_those_of_double_precision(library: str, name: str, case: tuple[int, int, Sequence[int], Sequence[int]]) -> None:
    batch, channels, sides, step = case
    x = torch.randn(batch, *sides, channels, generator=torch.Generator().manual_seed(1)).to(KINDS[name])
    truth = F.avg_pool3d(x.double().movedim(-1, 1), tuple(step)).movedim(1, -1)
    made = [pooled(library, name, x, step, threads=threads) for threads in (1, 2)]
    size = F.avg_pool3d(x.double().abs().movedim(-1, 1), tuple(step)).movedim(1, -1)  # sums in single precision are as near as that
    assert ((made[0].double() - truth).abs() <= torch.finfo(KINDS[name]).eps / 2 * truth.abs() + 2e-6 * size).all()
    assert torch.equal(made[0], made[1])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("channels", [1, 16, 19])
def test_a_mean_between_two_halves_goes_to_the_even_one(library: str, channels: int) -> None:
    low = torch.tensor([128.0, 129.0, 130.0, 131.0, -128.0, -129.0])  # bfloat16 has whole numbers alone here
    x = torch.stack((low, low + low.sign()), 1).flatten()[None, None, None, :, None].repeat(1, 1, 1, 1, channels).bfloat16()
    expected = torch.tensor([128.0, 130.0, 130.0, 132.0, -128.0, -130.0])
    made = pooled(library, "", x, (1, 1, 2), threads=1)
    assert torch.equal(made.float(), expected[None, None, None, :, None].expand(made.shape))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("count", [1, 15, 16, 1000, 50_001])
@pytest.mark.parametrize("slope", [1.0, 0.01, 0.0])
def test_sums_are_rounded_once_behind_the_leaky_relu(library: str, name: str, count: int, slope: float) -> None:
    random, kind = torch.Generator().manual_seed(count), KINDS[name]
    a, b = (torch.randn(count, generator=random).to(kind) for _ in range(2))
    expected = F.leaky_relu(a.float() + b.float(), slope).to(kind)
    add = kernel(library, f"add_leaky{name}", "pppifi")
    for threads in (1, 2):
        to, room = guarded([count], kind)
        add(a.data_ptr(), b.data_ptr(), to.data_ptr(), count, slope, threads)
        assert torch.equal(to, expected) and untouched(room)
    to.copy_(a)
    add(to.data_ptr(), b.data_ptr(), to.data_ptr(), count, slope, 2)
    assert torch.equal(to, expected) and untouched(room)
