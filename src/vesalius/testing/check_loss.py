"""What every loss must do: a finite number and gradient, ignored voxels without a say, halves that mean to the whole, and descent.

Losses of the task "segment" are given logits (B, 3, *S), those of "classify" logits (B, 3); who serves both passes with both.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.data.labels import IGNORE
from vesalius.losses import LOSSES

Shape = tuple[int, ...]
SHAPES: dict[str, Shape] = {"segment": (4, 5, 6), "classify": ()}
COUNTS = (120, 40, 8)


def shapes_of(card: Card) -> list[Shape]:
    """Spatial shapes of the logits that the entry must take."""
    return [SHAPES[task] for task in card.tasks if task in SHAPES]


def takes(card: Card, exclusive: bool) -> bool:
    """Whether the entry takes such classes; one of the tag "exclusive" does not take classes that overlap."""
    return exclusive or "exclusive" not in card.tags


def build(card: Card, exclusive: bool) -> nn.Module:
    """The loss of `card`: a wrapper around a plain loss takes single-level logits, one of the tag "counts" is given them."""
    entry = LOSSES[card.name]
    if "wrapper" in card.tags:
        made = _OneLevel(entry(LOSSES["cross_entropy"](exclusive)))
    else:
        made = entry(exclusive, counts=COUNTS) if "counts" in card.tags else entry(exclusive)
    assert isinstance(made, nn.Module)
    return made


class _OneLevel(nn.Module):
    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        answer: dict[str, Tensor] = self.loss([logits], target)
        return answer


def example(exclusive: bool, shape: Sequence[int] = (4, 5, 6), *, seed: int = 0, batch: int = 4) -> tuple[Tensor, Tensor]:
    """Logits (B, 3, *S) and a uint8 target with a tenth of the voxels ignored; of whole images the first of every ten."""
    random = torch.Generator().manual_seed(seed)
    batch = batch if shape else 10 * batch
    layers = (batch, 1 if exclusive else 3, *shape)
    target = torch.randint(3 if exclusive else 2, layers, generator=random).to(torch.uint8)
    target[torch.rand(layers, generator=random) < 0.1] = IGNORE
    if not shape:
        target[::10] = IGNORE
    return torch.randn(batch, 3, *shape, generator=random), target


def total(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """The sum of the terms."""
    return torch.stack(list(loss(logits, target).values())).sum()


def with_gradient(loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the terms and its gradient with respect to `logits`."""
    logits = logits.detach().requires_grad_()
    value = total(loss, logits, target)
    return value.detach(), torch.autograd.grad(value, logits)[0]


def check_finite(loss: nn.Module, exclusive: bool, shape: Shape) -> None:
    """In 2D and 3D, for any float type: float32 scalars, and a finite gradient that is not zero."""
    for part in {shape, shape[:2]}:
        for kind in (torch.float32, torch.bfloat16, torch.float16):
            logits, target = example(exclusive, part)
            logits = logits.to(kind)
            value, slope = with_gradient(loss, logits, target)
            assert value.dtype == torch.float32 and value.ndim == 0 and value.isfinite()
            assert slope.dtype == kind and slope.isfinite().all() and slope.abs().sum() > 0


def check_extreme(loss: nn.Module, exclusive: bool, shape: Shape) -> None:
    """Logits of +-1000 and a target that is ignored altogether still give finite numbers and gradients."""
    logits, target = example(exclusive, shape)
    for scale, changed in ((1000.0, target), (1.0, torch.full_like(target, IGNORE))):
        value, slope = with_gradient(loss, logits * scale, changed)
        assert value.isfinite() and slope.isfinite().all()


def check_ignored(loss: nn.Module, exclusive: bool, shape: Shape) -> None:
    """What lies under ignored voxels changes neither the value nor gets a gradient."""
    logits, target = example(exclusive, shape)
    ignored = (target == IGNORE).expand_as(logits)
    changed = torch.where(ignored, torch.full_like(logits, 7.0), logits)
    value, slope = with_gradient(loss, changed, target)
    assert torch.allclose(value, total(loss, logits, target), atol=1e-6)
    assert slope[ignored].abs().max() == 0


def check_halves(loss: nn.Module, exclusive: bool, shape: Shape) -> None:
    """The loss of a joint batch is the mean of its halves, also where one half ignores much more: two processes equal one."""
    logits, target = example(exclusive, shape)
    target[(0, slice(None), slice(3)) if shape else 0] = IGNORE
    parts = torch.stack([total(loss, logits[i::2], target[i::2]) for i in (0, 1)])
    assert torch.allclose(total(loss, logits, target), parts.mean(), atol=1e-6)


def check_gradient(loss: nn.Module, exclusive: bool, shape: Shape) -> None:
    """The gradient equals finite differences in double precision."""
    logits, target = example(exclusive, (3, 2) if shape else (), batch=2)
    assert torch.autograd.gradcheck(lambda x: total(loss, x, target), logits.double().requires_grad_())


def check_order(loss: nn.Module, exclusive: bool, shape: Shape) -> None:
    """The truth scores better than chance, chance better than the opposite, and the truth close to nothing."""
    _, target = example(exclusive, shape)
    classes = torch.arange(3).reshape(3, *(1 for _ in shape))
    truth = 20.0 * (((target == classes) if exclusive else (target == 1)).float() - 0.5)
    good, blank, bad = (total(loss, x, target) for x in (truth, torch.zeros_like(truth), -truth))
    assert 0 <= good + 1e-6 < 1e-2 and good < blank < bad


def check_layout(loss: nn.Module, exclusive: bool, shape: Shape) -> None:
    """Channels-last memory changes nothing (of whole images: channels first)."""
    logits, target = example(exclusive, shape)
    turned = logits.to(memory_format=torch.channels_last_3d) if shape else logits.T.contiguous().T
    assert torch.allclose(total(loss, turned, target), total(loss, logits, target), atol=1e-6)


CHECKS: tuple[Callable[[nn.Module, bool, Shape], None], ...] = (
    check_finite, check_extreme, check_ignored, check_halves, check_gradient, check_order, check_layout,
)  # fmt: skip


def check_loss(name: str) -> None:
    """Run every check on the entry `name` of the shelf, for classes that exclude each other and classes that overlap."""
    card = LOSSES.card(name)
    for exclusive in (True, False) if takes(card, False) else (True,):
        for shape in shapes_of(card):
            for check in CHECKS:
                check(build(card, exclusive), exclusive, shape)
