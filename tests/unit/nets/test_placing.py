"""The kernels that put the results of a joined way up in their places, beside the same in torch."""

import copy
from math import prod
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vesalius.nets import _climb
from vesalius.nets._climb import Placed, place
from vesalius.nets._placing import BACKWARD, FORWARD, kernel, put, taken
from vesalius.nets._together import LAYOUT

pytestmark = pytest.mark.skipif(kernel(*FORWARD) is None or kernel(*BACKWARD) is None, reason="the kernels in C are not built or off")
CASES = [  # sides, steps, coarse voxels that are seen, sides of the kernel
    ((8, 12, 10), (2, 2, 2), (2, 2, 2), (3, 3, 3)), ((4, 6, 10), (1, 2, 2), (3, 2, 2), (3, 3, 3)),
    ((4, 6, 10), (1, 2, 2), (1, 2, 2), (1, 3, 3)), ((4, 6, 5), (2, 2, 1), (2, 2, 3), (3, 3, 3)),
    ((8, 12), (2, 2), (2, 2), (3, 3)), ((8, 12), (2, 2), (2, 1), (3, 1)), ((2, 2, 2), (2, 2, 2), (2, 2, 2), (3, 3, 3)),
]  # fmt: skip


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()
    return made.contiguous(memory_format=LAYOUT[len(shape)])


def given(case: tuple[tuple[int, ...], ...], channels: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """A fine map, its edge and the blocks."""
    sides, steps, across, kernel_sides = case
    coarse = [side // step + (n == 2) for side, step, n in zip(sides, steps, across, strict=True)]
    blocks = [drawn((2, steps[-1] * channels, *coarse), seed) for seed in range(prod(steps[:-1]))]
    edge = torch.randn(*kernel_sides, channels, generator=torch.Generator().manual_seed(90))
    edge[tuple(side // 2 for side in kernel_sides)] = 0  # inside there is none
    return drawn((2, channels, *sides), 91), edge, blocks


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels", [1, 5, 16, 40])
@pytest.mark.parametrize("threads", [1, 3])
def test_everything_is_put_where_torch_puts_it(case, channels: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out, edge, blocks = given(case, channels)
    before, made = torch.get_num_threads(), out.clone()
    try:
        torch.set_num_threads(threads)
        assert put(made, edge, steps=case[1], blocks=blocks)
    finally:
        torch.set_num_threads(before)
    wanted = place(out.double(), edge.double(), steps=case[1], blocks=[block.double() for block in blocks])  # not for the kernels
    assert torch.equal(made, wanted.float().bfloat16())  # rounded once
    monkeypatch.setattr(_climb, "put", lambda *_, **how: False)
    plain = place(out.clone(), edge, steps=case[1], blocks=blocks)
    assert (made.double() - wanted).norm() <= (plain.double() - wanted).norm()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels", [5, 16])
def test_the_way_back_is_that_of_torch(case, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grad, edge, blocks = given(case, channels)
    ctx = SimpleNamespace(edge=edge.shape, steps=case[1], block=blocks[0].shape)
    with torch.no_grad():
        ours = Placed.backward(ctx, grad)
        monkeypatch.setattr(_climb, "taken", lambda *_, **how: None)
        torchs = Placed.backward(ctx, grad.clone())
    torch.testing.assert_close(ours[2], torchs[2], rtol=1e-5, atol=1e-5)
    assert ours[1] is grad and all(torch.equal(one, other) for one, other in zip(ours[3:], torchs[3:], strict=True))


def test_what_is_not_for_the_kernels_is_left_alone() -> None:
    out, edge, blocks = given(CASES[0], 16)
    before = copy.deepcopy(out)
    assert not put(out.float(), edge, steps=(2, 2, 2), blocks=blocks) and not put(out.contiguous(), edge, steps=(2, 2, 2), blocks=blocks)
    assert not put(out, edge, steps=(2, 2, 2), blocks=[block.float() for block in blocks])
    assert torch.equal(out, before)
    assert taken(out, edge.shape, steps=(2, 2, 2), block=blocks[0].shape) is None  # a gradient of the gradient may be wanted
