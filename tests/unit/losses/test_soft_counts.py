"""The kernels that sum what Dice and cross entropy need, beside torch in double precision on the same logits."""

import pytest
import torch
from torch import Tensor

from vesalius.core.errors import VesaliusError
from vesalius.data.labels import IGNORE
from vesalius.losses import _soft_counts
from vesalius.losses._soft_counts import BLOCK, LAYOUT, calls, counted, serves, step_by_step
from vesalius.losses.dice_cross_entropy import DiceCrossEntropy

pytestmark = pytest.mark.skipif(calls(torch.bfloat16) is None, reason="the kernels in C are not built or off")
SHAPES = [(1, 2, 1, 1), (2, 3, 5, 7), (1, 2, 16, 16), (3, 4, 5, 6, 7), (2, 25, 9, 4, 11), (1, 255, 6, 7), (2, 3, 20, 30, 17)]
KINDS = {torch.bfloat16: 2**-8, torch.float32: 2**-17}  # of logits, and how far a gradient may be away


def drawn(
    shape: tuple[int, ...], *, together: bool = True, spread: float = 4.0, kind: torch.dtype = torch.bfloat16
) -> tuple[Tensor, Tensor]:
    """Logits and classes, some of them ignored and some that no logit stands for."""
    draw = torch.Generator().manual_seed(1)
    logits = (torch.randn(shape, generator=draw) * spread).to(kind)
    target = torch.randint(0, shape[1], (shape[0], 1, *shape[2:]), generator=draw, dtype=torch.uint8)
    chance = torch.rand(target.shape, generator=draw)
    target[chance < 0.2] = IGNORE
    target[chance > 0.95] = min(shape[1], IGNORE)
    return logits.contiguous(memory_format=LAYOUT[len(shape)] if together else torch.contiguous_format).requires_grad_(), target


def gradient(way, logits: Tensor, target: Tensor, push: Tensor) -> tuple[Tensor, Tensor]:
    sums = way(logits, target)
    (slope,) = torch.autograd.grad(sums, logits, push.to(sums.dtype))
    return sums.detach(), slope


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_gradients_are_those_of_double_precision(shape: tuple[int, ...], together: bool, kind: torch.dtype) -> None:
    logits, target = drawn(shape, together=together, kind=kind)
    push = torch.randn(shape[0], 4, shape[1], generator=torch.Generator().manual_seed(2))
    assert serves(logits, target)
    sums, slope = gradient(counted, logits, target, push)
    wanted, truth = gradient(step_by_step, logits.detach().double().requires_grad_(), target, push)
    torch.testing.assert_close(sums.double(), wanted, rtol=1e-6, atol=1e-6)
    assert slope.stride() == logits.stride() and slope.dtype == logits.dtype
    torch.testing.assert_close(slope.double(), truth, rtol=KINDS[kind], atol=2e-6)
    assert (sums[:, 2] == wanted[:, 2]).all()  # voxels are counted
    assert (slope.movedim(1, -1)[target[:, 0] == IGNORE] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_far_apart_and_all_alike(kind: torch.dtype) -> None:
    """Probabilities of 0 and 1, cross entropies of hundreds of nats; and 1 / K each."""
    for spread in (300.0, 0.0):
        logits, target = drawn((2, 5, 40, 30), spread=spread, kind=kind)
        push = torch.ones(2, 4, 5)
        (sums, slope), (wanted, truth) = (
            gradient(way, one, target, push) for way, one in ((counted, logits), (step_by_step, logits.detach().double().requires_grad_()))
        )
        torch.testing.assert_close(sums.double(), wanted, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(slope.double(), truth, rtol=KINDS[kind], atol=2e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_told(bad: float) -> None:
    logits, target = drawn((2, 3, 9, 20))
    target.zero_()
    with torch.no_grad():
        logits[1, 2, 3, 4] = bad
    sums, slope = gradient(counted, logits, target, torch.ones(2, 4, 3))
    assert sums[1, 1].isnan().all() and sums[0].isfinite().all()
    assert slope[1, :, 3, 4].isnan().all() and slope.isnan().sum() == 3


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    logits, target = drawn((3, 5, 3, 97, 2 * BLOCK // 97))
    made, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            made.append(gradient(counted, logits, target, torch.ones(3, 4, 5)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, first) for other in made[1:] for one, first in zip(other, made[0], strict=True))


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0]])
def test_the_loss_is_that_without_kernels(batch_dice: bool, weights: list[float] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = drawn((2, 3, 12, 10, 7))
    loss, made = DiceCrossEntropy(True, batch_dice=batch_dice, weights=weights), []
    for _with in (True, False):
        terms = loss(logits, target)
        (slope,) = torch.autograd.grad(terms["dice"] + terms["cross_entropy"], logits)
        made.append([*terms.values(), slope])
        monkeypatch.setattr(_soft_counts, "serves", lambda *_: False)
    for ours, torchs in zip(*made, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=2**-7 if ours.ndim else 1e-6, atol=1e-6)


def test_a_gradient_of_the_gradient_is_there_too() -> None:
    logits, target = drawn((2, 3, 6, 5))
    made = []
    for own in (logits, logits.detach().double().requires_grad_()):
        (first,) = torch.autograd.grad(counted(own, target).square().sum(), own, create_graph=True)
        made.append(torch.autograd.grad(first.square().sum(), own)[0].double())
    assert (made[0] - made[1]).norm() < 2**-5 * made[1].norm()


def test_the_kernels_stay_out_of_what_is_not_theirs() -> None:
    logits, target = drawn((2, 3, 6, 5))
    assert serves(logits, target)
    assert serves(logits.float(), target) and not serves(logits.double(), target) and not serves(logits.half(), target)
    assert not serves(logits[:, :, ::2], target[:, :, ::2]) and not serves(logits[:0], target[:0])
    assert not serves(logits, target.long()) and not serves(logits, target.transpose(2, 3).contiguous().transpose(2, 3))


def test_targets_of_other_shapes_are_refused() -> None:
    logits = torch.randn(2, 3, 8, 8).bfloat16()
    for shape in ((2, 1, 8, 7), (1, 1, 8, 8), (2, 8, 8), (2, 1, 4, 4)):
        with pytest.raises(VesaliusError, match="expects a target"):
            counted(logits, torch.zeros(shape, dtype=torch.uint8))
