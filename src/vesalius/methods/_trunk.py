"""The network that learns without labels: one of the shelf without its answer, under names that a later run finds again.

`trunk` is {"name": "resnet", "depth": 18, ...}: an entry of the shelf and its arguments. What its maps or features do not depend on (the
layer for classes, the decoder of a U-Net where only the encoder learns) is left out, so that weights on disk are learned ones. Heads that
the pretext needs are put into the trunk as `pretext`, a name that no network has: `--init` passes them by.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.errors import UsageError
from vesalius.methods._coder import with_meta
from vesalius.methods._maps import POOL
from vesalius.nets import NETS
from vesalius.nets._blocks import CONV, initialise, whole
from vesalius.nets._chance import Chance as Drop

HALVES = 2  # of each side, in which the maps of a U-Net are meaned
ANSWERS = 997  # logits of a network whose answer is taken off: a number that no width has
SMALL: Mapping[str, Any] = {"name": "compact"}
WIDTHS = (16, 32, 64, 128)  # of a U-Net that is not described further
TOKENS = {2: 6, 3: 4}  # per axis, at least, of a transformer that is not described further
Trunk = Mapping[str, Any]
Read = Callable[[nn.Module, Tensor], Tensor]


def headless(shape: Sequence[int], trunk: Trunk | None, generator: torch.Generator, *, read: Read) -> tuple[nn.Module, int]:
    """A network of the shelf for images (C, *S) without what `read(net, image)` does not need, and how many features that gives."""
    net = drawn(shape, trunk or SMALL, ANSWERS, generator=generator)
    if decodes(net):
        net.ups, net.blocks, net.outs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
    else:
        answers = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear) and layer.out_features == ANSWERS]
        if len(answers) != 1:
            raise UsageError(f"A {type(net).__name__} has {len(answers)} answers, a trunk has one. Choose another, for instance resnet.")
        _replace(net, answers[0], nn.Identity())
    return net, lean(net, read, shape)


def dense(shape: Sequence[int], trunk: Trunk | None, generator: torch.Generator) -> nn.Module:
    """A whole U-Net, whose last layer gives an image and lies at `pretext`."""
    net: Any = drawn(shape, trunk or {"name": "unet"}, shape[0], generator=generator)
    if not decodes(net):
        raise UsageError(f"A {type(net).__name__} gives no image. Choose unet or residual_unet as the trunk.")
    net.pretext, net.outs = net.outs[0], nn.ModuleList()
    whole_net: nn.Module = net
    return whole_net


def drawn(shape: Sequence[int], trunk: Trunk, out_channels: int, *, generator: torch.Generator) -> nn.Module:
    """The whole network, its weights from `generator`; dropout and stochastic depth are set to 0: views are noise enough."""
    words = {**fitting(trunk.get("name", ""), shape), **trunk}
    name = words.pop("name", "")
    made: nn.Module = initialise(NETS[name](len(shape) - 1, shape[0], out_channels, **words), generator)
    for layer in made.modules():
        if isinstance(layer, Drop):
            layer.rate = 0.0
    return made


def fitting(name: str, shape: Sequence[int]) -> dict[str, Any]:
    """Arguments that follow from the shape of an image where the user gives none."""
    sides = tuple(shape[1:])
    if name == "vit":
        most = max(1, min(sides) // TOKENS[len(sides)])
        return {"size": "Ti", "sides": sides, "patch": max(p for p in range(1, most + 1) if not any(side % p for side in sides))}
    if name in ("unet", "residual_unet"):
        halved = [k for k in range(len(WIDTHS)) if all(side % 2**k == 0 and side >> k >= 2 for side in sides)]
        return {"channels": WIDTHS[: halved[-1] + 1]} if halved else {}
    return {"stem": "small"} if name in ("resnet", "se_resnet", "convnext", "densenet") and max(sides) < 64 else {}


def decodes(net: nn.Module) -> bool:
    """Whether it is an encoder with a decoder behind it."""
    return all(isinstance(getattr(net, name, None), nn.ModuleList) for name in ("down", "ups", "blocks", "outs"))


def lean(net: nn.Module, read: Read, shape: Sequence[int]) -> int:
    """Takes out layers on which `read` does not depend, in place; the number of features that it gives."""
    twin = deepcopy(net).eval()
    found = read(twin, torch.zeros(1, *shape))
    found.sum().backward()  # type: ignore[no-untyped-call]
    idle = {name for name, weight in twin.named_parameters() if weight.grad is None}
    owners = sorted({name.rpartition(".")[0] for name in idle}, key=lambda name: -name.count("."))
    for owner in owners:  # the innermost first
        inside = {f"{owner}.{name}" for name, _ in net.get_submodule(owner).named_parameters()}
        if owner and inside <= idle:
            _replace(net, owner, nn.Identity())
        else:
            for name in (name for name in idle if name.rpartition(".")[0] == owner):
                net.get_submodule(owner).register_parameter(name.rpartition(".")[2], None)
    return found.shape[1]


def described(net: nn.Module, image: Tensor) -> Tensor:
    """(B, F): what is before the answer of a classifier; the encoder's last maps of a U-Net in blocks."""
    if decodes(net):
        return blocks(encoded(net, image))
    features: Tensor = net(image)
    return features


def mapped(net: nn.Module, image: Tensor) -> Tensor:
    """(B, F, *s): the last maps, or the tokens in their places."""
    if decodes(net):
        return encoded(net, image)
    if hasattr(net, "transformer") and hasattr(net, "patch"):
        tokens = looked(net, net.tokens(image))[:, 1:]  # type: ignore[operator]
        return tokens.transpose(1, 2).reshape(*tokens.shape[::2], *net.grid(image.shape[2:])[0])  # type: ignore[operator]
    if not callable(trunk := getattr(net, "trunk", None)):
        raise UsageError(f"A {type(net).__name__} has no maps. Choose another trunk, for instance resnet.")
    maps: Tensor = trunk(image)
    return maps


def blocks(maps: Tensor) -> Tensor:
    """(B, K) means of maps (B, F, *s) over the halves of each side; over a whole map normalised by itself there is little."""
    means: Tensor = POOL[maps.ndim - 2](maps, [min(HALVES, side) for side in maps.shape[2:]])
    return means.flatten(1)


def encoded(net: nn.Module, image: Tensor) -> Tensor:
    """The last maps of the encoder of a U-Net."""
    x = whole(image, net.pooling)  # type: ignore[arg-type]
    x = net.stem(x) if hasattr(net, "stem") else x  # type: ignore[operator]
    for stage in net.down:  # type: ignore[union-attr]
        x = stage(x)
    return x


def looked(net: nn.Module, tokens: Tensor) -> Tensor:
    """(B, 1 + N, width): the class token and `tokens` (B, N, width) after every block."""
    transformer: Any = net.transformer
    x, _ = transformer.begin(tokens, None)
    for block in transformer.blocks:
        x = block(x)
    out: Tensor = transformer.norm(x)
    return out


def fitted(net: nn.Module, sides: Sequence[float]) -> tuple[int, ...]:
    """The least sides, not below `sides`, of an image that the trunk takes."""
    step: Any = getattr(net, "pooling", None) or getattr(net, "patch", None) or (1,) * len(sides)
    least = [2 * s for s in step] if decodes(net) else [int(getattr(net, "least", 2))] * len(sides)
    return tuple(ceil(max(side, low) / s) * s for side, s, low in zip(sides, step, least, strict=True))


def to_pixels(net: nn.Module, shape: Sequence[int], features: int) -> nn.Module:
    """A 1-convolution from the last maps to the pixels that each of their places stands for (Xie et al. 2022)."""
    with torch.no_grad():
        coarse = mapped(deepcopy(net).eval(), torch.zeros(1, *shape)).shape[2:]
    return with_meta(CONV[len(coarse)], features, shape[0] * prod(_ratio(shape[1:], coarse)), 1)


def spread(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, C, *S) of maps (B, C x pixels, *s): each place holds a block of pixels; what goes beyond the image is cut off."""
    ratio, n = _ratio(shape[1:], maps.shape[2:]), len(shape) - 1
    cut = maps.reshape(len(maps), shape[0], *ratio, *maps.shape[2:])
    order = [0, 1, *(axis for k in range(n) for axis in (2 + n + k, 2 + k))]
    image = cut.permute(order).reshape(len(maps), shape[0], *(s * r for s, r in zip(maps.shape[2:], ratio, strict=True)))
    for axis, side in enumerate(shape[1:], start=2):
        image = image.narrow(axis, 0, side)
    return image


def _ratio(sides: Sequence[int], coarse: Sequence[int]) -> tuple[int, ...]:
    return tuple(ceil(side / few) for side, few in zip(sides, coarse, strict=True))


def _replace(net: nn.Module, name: str, layer: nn.Module) -> None:
    above, _, last = name.rpartition(".")
    setattr(net.get_submodule(above), last, layer)
