"""What every classifying network must do: logits per sample, in 2D and 3D; maps and a decision on them, or attentions, that explain the
answer; a gradient for every weight; noise of training from its own stream; the same answer after saving and loading; the published
number of parameters; no network out of nonsense. The arguments `facts["small"]` of the card make a network small enough to test."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.engine.state import load_weights, save_weights
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise
from vesalius.nets._chance import Chance
from vesalius.testing._refused import refused

SIDES = {2: (32, 32), 3: (16, 16, 24)}
ENDS = (2, 3)  # channels in and out
BATCH = 2
VARIANTS = ("depth", "size", "stem", "norm", "encoder", "average")  # arguments that name one of several published networks


def build(card: Card, ndim: int, *, seed: int = 0, **more: Any) -> nn.Module:
    """A small network of `card` with weights drawn from `seed`."""
    made: nn.Module = NETS[card.name](ndim, *ENDS, **{**(card.facts or {}).get("small", {}), **more})
    return initialise(made, torch.Generator().manual_seed(seed))


def example(ndim: int, *, seed: int = 0) -> Tensor:
    """An image (2, 2, *S) of noise."""
    return torch.randn(BATCH, ENDS[0], *SIDES[ndim], generator=torch.Generator().manual_seed(seed))


def heads(net: nn.Module, image: Tensor) -> list[Tensor]:
    """The logits, then the auxiliary ones."""
    found: list[Tensor] = net.heads(image)  # type: ignore[operator]
    return found


@torch.no_grad()
def check_shapes(card: Card, folder: Path) -> None:
    """Logits (B, out_channels) as the first head; auxiliary ones of the same shape; a single sample is answered too."""
    for ndim in card.ndim:
        net, image = build(card, ndim).eval(), example(ndim)
        logits, all_heads = net(image), heads(net, image)
        assert logits.dtype == torch.float32 and bool(logits.isfinite().all())
        assert all(head.shape == (BATCH, ENDS[1]) for head in [logits, *all_heads])
        torch.testing.assert_close(all_heads[0], logits)
        assert not torch.allclose(logits[0], logits[1], rtol=1e-6, atol=0), f"{card.name} gives every image the same answer"


@torch.no_grad()
def check_explained(card: Card, folder: Path) -> None:
    """The answer is a decision on maps (`classify(trunk(image))`), or there are attentions: rows of weights between the tokens."""
    for ndim in card.ndim:
        net, image = build(card, ndim).eval(), example(ndim)
        if trunk := getattr(net, "trunk", None):
            maps = trunk(image)
            assert maps.ndim == ndim + 2 and len(maps) == BATCH
            torch.testing.assert_close(net.classify(maps), net(image))  # type: ignore[operator]
        if attentions := getattr(net, "attentions", None):
            grid, extra = net.grid(SIDES[ndim])  # type: ignore[operator]
            for weights in attentions(image):
                assert weights.shape[0] == BATCH and weights.shape[2:] == (prod(grid) + extra,) * 2
                torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert trunk or attentions, f"{card.name} has neither trunk and classify nor attentions"


def check_gradient(card: Card, folder: Path) -> None:
    """Every weight is reached from the heads and has a gradient that is not zero, where nothing is dropped."""
    for ndim in card.ndim:
        net, image = build(card, ndim), example(ndim)
        for chance in (layer for layer in net.modules() if isinstance(layer, Chance)):
            chance.rate = 0.0
        found = heads(net, image)
        weights = [torch.randn(h.shape, generator=torch.Generator().manual_seed(k)) for k, h in enumerate(found)]
        torch.stack([(h * w).sum() for h, w in zip(found, weights, strict=True)]).sum().backward()  # type: ignore[no-untyped-call]
        for name, weight in net.named_parameters():
            assert weight.grad is not None, f"{card.name}: {name} is not part of any head"
            assert bool(weight.grad.isfinite().all())
            assert weight.ndim == 1 or float(weight.grad.abs().max()) > 0, f"{card.name}: no gradient reaches {name}"


@torch.no_grad()
def check_context(card: Card, folder: Path) -> None:
    """After learning each sample is answered alone: its batch mates change nothing."""
    for ndim in card.ndim:
        net, image = build(card, ndim).eval(), example(ndim)
        torch.testing.assert_close(net(image)[:1], net(image[:1]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def check_layout(card: Card, folder: Path) -> None:
    """Channels-last memory and bf16 change nothing but rounding."""
    for ndim in card.ndim:
        net, image = build(card, ndim).eval(), example(ndim)
        plain = net(image)
        layout = torch.channels_last_3d if ndim == 3 else torch.channels_last
        turned = net.to(memory_format=layout)(image.contiguous(memory_format=layout))  # type: ignore[call-overload]
        torch.testing.assert_close(turned, plain, rtol=1e-3, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            low = net(image).float()
        assert float((low - plain).abs().mean()) < 0.1 * float(plain.abs().mean())


@torch.no_grad()
def check_saved(card: Card, folder: Path) -> None:
    """The same answer to the last bit after a round trip through safetensors, into a network drawn otherwise."""
    for ndim in card.ndim:
        net, image = build(card, ndim), example(ndim)
        net(image)  # learning, so that running means and streams have moved
        save_weights(folder / f"{ndim}.safetensors", dict(net.state_dict()), {"step": 7})
        weights, words = load_weights(folder / f"{ndim}.safetensors")
        other = build(card, ndim, seed=1)
        assert not torch.equal(other.eval()(image), net.eval()(image))
        other.load_state_dict(weights)
        assert torch.equal(other(image), net(image)) and words == {"step": 7}
        assert torch.equal(other.train()(image), net.train()(image)), f"{card.name} goes on with other masks than it would have drawn"


def check_seeds(card: Card, folder: Path) -> None:
    """Weights and the noise of training come from the generator alone; the global one is left where it is."""
    first, second = (build(card, card.ndim[-1]) for _ in range(2))
    one, two = first.state_dict(), second.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one), f"{card.name}: some weights are not drawn from the generator"
    state, image = torch.get_rng_state(), example(card.ndim[-1])
    assert torch.equal(first(image), second(image))
    assert torch.equal(state, torch.get_rng_state()), f"{card.name} draws from the global generator"


def check_nonsense(card: Card, folder: Path) -> None:
    """What no network can be made of, or no image can go through, is refused in words."""
    ndim = card.ndim[0]
    net, variants = build(card, ndim), [v for v in VARIANTS if v in signature(NETS[card.name]).parameters]
    wrong: list[Callable[[], object]] = [partial(NETS[card.name], *ends) for ends in ((4, 1, 2), (ndim, 0, 2), (ndim, 1, 0))]
    words: list[dict[str, Any]] = [{variant: "nonsense"} for variant in variants]
    wrong += [partial(build, card, ndim, **more) for more in words]
    shapes = (1, ENDS[0], *(1,) * ndim), (1, ENDS[0] + 1, *SIDES[ndim]), (1, ENDS[0], *SIDES[ndim], 16)
    wrong += [partial(net, torch.zeros(shape)) for shape in shapes]
    refused(card.name, wrong)


def check_count(card: Card, folder: Path) -> None:
    """The published number of parameters, to the last one."""
    facts = card.facts or {}
    assert "parameters" in facts, f"{card.name}: the card states no published number of parameters"
    with torch.device("meta"):
        net = NETS[card.name](**facts["arguments"])
    assert sum(p.numel() for p in net.parameters()) == facts["parameters"]


CHECKS: tuple[Callable[[Card, Path], None], ...] = (
    check_shapes, check_explained, check_gradient, check_context, check_layout, check_saved, check_seeds, check_nonsense, check_count,
)  # fmt: skip
