"""What every network must do: the checks of the tasks that its card names.

A network that segments gives logits on the grid of its image, in 2D and 3D and on anisotropic grids; a gradient for every weight; the same
answer after saving and loading; the published number of parameters; no network out of nonsense. `check_classifier` has the others."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.engine.state import load_weights, save_weights
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise
from vesalius.testing import check_classifier
from vesalius.testing._refused import refused

CHANNELS = (4, 6, 8)
THICK = {2: (((1, 3), (3, 3), (3, 3)), ((1, 1), (1, 2), (2, 2))),
         3: (((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2)))}  # fmt: skip
SIDES = {2: (8, 16), 3: (8, 16, 12)}
ENDS = (2, 3)  # channels in and out
BATCH = 2


def build(card: Card, ndim: int, *, thick: bool = False, **more: Any) -> nn.Module:
    """A small network of `card` with drawn weights; `thick` keeps the first axis until the others are as coarse."""
    if thick:
        kernels, strides = THICK[ndim]
        more = {"kernels": kernels, "strides": strides, **more}
    made: nn.Module = NETS[card.name](ndim, *ENDS, **{"channels": CHANNELS, **more})
    return initialise(made, torch.Generator().manual_seed(0))


def example(ndim: int, *, seed: int = 0) -> Tensor:
    """An image (2, 2, *S) of noise."""
    return torch.randn(BATCH, ENDS[0], *SIDES[ndim], generator=torch.Generator().manual_seed(seed))


def heads(net: nn.Module, image: Tensor) -> list[Tensor]:
    """Logits at every supervised scale, finest first."""
    found: list[Tensor] = net.heads(image)  # type: ignore[operator]
    return found


def check_shapes(card: Card, folder: Path) -> None:
    """Logits on the grid of the image; heads of the same channels, each no finer than the one before, the first as `forward`."""
    for ndim in card.ndim:
        for thick in (False, True):
            net, image = build(card, ndim, thick=thick).eval(), example(ndim)
            logits, scales = net(image), heads(net, image)
            assert logits.shape == (BATCH, ENDS[1], *SIDES[ndim]) and logits.dtype == torch.float32
            torch.testing.assert_close(scales[0], logits)
            for fine, coarse in pairwise(scales):
                assert coarse.shape[:2] == logits.shape[:2] and all(a >= b for a, b in zip(fine.shape[2:], coarse.shape[2:], strict=True))


def check_depths(card: Card, folder: Path) -> None:
    """From one stage to five, each answers; what has a single stage answers too."""
    for channels in ((4,), (4, 6), (4, 6, 6, 8, 8)):
        image = torch.randn(1, ENDS[0], 32, 32)
        assert build(card, 2, channels=channels)(image).shape == (1, ENDS[1], 32, 32)


def check_gradient(card: Card, folder: Path) -> None:
    """Every weight is reached from the heads and has a gradient that is not zero; autograd agrees with finite differences."""
    for ndim in card.ndim:
        net, image = build(card, ndim, thick=True), example(ndim)
        weights = [torch.randn(h.shape, generator=torch.Generator().manual_seed(k)) for k, h in enumerate(heads(net, image))]
        torch.stack([(h * w).sum() for h, w in zip(heads(net, image), weights, strict=True)]).sum().backward()  # type: ignore[no-untyped-call]
        for name, weight in net.named_parameters():
            assert weight.grad is not None, f"{card.name}: {name} is not part of any head"
            assert bool(weight.grad.isfinite().all())
            assert weight.ndim == 1 or float(weight.grad.abs().max()) > 0, f"{card.name}: no gradient reaches {name}"


def check_context(card: Card, folder: Path) -> None:
    """Each sample is answered alone: its batch mates change nothing."""
    for ndim in card.ndim:
        net, image = build(card, ndim).eval(), example(ndim)
        torch.testing.assert_close(net(image)[:1], net(image[:1]), rtol=1e-4, atol=1e-5)


def check_layout(card: Card, folder: Path) -> None:
    """Channels-last memory and bf16 change nothing but rounding."""
    for ndim in card.ndim:
        net, image = build(card, ndim).eval(), example(ndim)
        plain = net(image).detach()
        layout = torch.channels_last_3d if ndim == 3 else torch.channels_last
        turned = net.to(memory_format=layout)(image.contiguous(memory_format=layout))  # type: ignore[call-overload]
        torch.testing.assert_close(turned, plain, rtol=1e-3, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            low = net(image).detach().float()
        assert float((low - plain).abs().mean()) < 0.1 * float(plain.abs().mean())


def check_saved(card: Card, folder: Path) -> None:
    """The same answer to the last bit after a round trip through safetensors, into a network drawn otherwise."""
    for ndim in card.ndim:
        net, image = build(card, ndim).eval(), example(ndim)
        save_weights(folder / f"{ndim}.safetensors", dict(net.state_dict()), {"step": 7})
        weights, words = load_weights(folder / f"{ndim}.safetensors")
        other = initialise(build(card, ndim), torch.Generator().manual_seed(1)).eval()
        assert not torch.equal(other(image), net(image))
        other.load_state_dict(weights)
        assert torch.equal(other(image), net(image)) and words == {"step": 7}


def check_seeds(card: Card, folder: Path) -> None:
    """The weights come from the generator alone: building neither draws what is kept nor disturbs what others draw later."""
    first, second = (build(card, card.ndim[-1]).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


NONSENSE: tuple[dict[str, Any], ...] = (
    {"channels": ()}, {"channels": (4, 0)}, {"channels": (4, 6), "kernels": (3, 3, 3)}, {"channels": (4, 6), "strides": (1,)},
    {"channels": (4, 6), "kernels": (3, 2)}, {"channels": (4, 6), "kernels": (3, (3, 3, 3, 3))}, {"channels": (4, 6), "strides": (2, 2)},
    {"channels": (4, 6), "strides": (1, 0)},
)  # fmt: skip


def check_nonsense(card: Card, folder: Path) -> None:
    """What no network can be made of, or no image can go through, is refused in words."""
    wrong: list[Callable[[], object]] = [partial(build, card, 2, **more) for more in NONSENSE]
    wrong += [partial(NETS[card.name], *ends) for ends in ((4, 1, 2), (2, 0, 2), (2, 1, 0))]
    wrong += [partial(build(card, 2), torch.zeros(1, ENDS[0], 10, 16))]
    refused(card.name, wrong)


Check = Callable[[Card, Path], None]
CHECKS: tuple[Check, ...] = (
    check_shapes, check_depths, check_gradient, check_context, check_layout, check_saved, check_seeds, check_nonsense,
    check_classifier.check_count,
)  # fmt: skip

BY_TASK: dict[str, tuple[Check, ...]] = {"segment": CHECKS, "classify": check_classifier.CHECKS}


def checks(name: str) -> list[Check]:
    """The checks for the entry `name` of the shelf, by the tasks that its card names."""
    found = [check for task in NETS.card(name).tasks for check in BY_TASK.get(task, ())]
    assert found, f"the card of {name} names no task that networks are checked for: {', '.join(BY_TASK)}"
    return found


def suits(name: str) -> bool:
    """Whether the entry `name` answers voxels, as these checks ask; those that answer whole cases have checks of their own."""
    return "segment" in NETS.card(name).tasks


def check_net(name: str, folder: Path) -> None:
    """Run every check on the entry `name` of the shelf; `folder` is a place to write."""
    for check in checks(name):
        check(NETS.card(name), folder)
