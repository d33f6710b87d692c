"""Weights that the user brings, under the names of torchvision or timm, into our networks: ResNet, DenseNet, ViT and ConvNeXt.

Shapes are brought together where that has a meaning: kernels of three colours are averaged over the channels of the image (the response to
a grey picture stays), kernels of two axes are repeated along the third (Carreira & Zisserman 2017, arXiv:1705.07750), learned places
are interpolated. A head of another number of classes stays as it was drawn.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import VesaliusError

Weights = Mapping[str, Tensor]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]  # a whole name of theirs, and what ours is called

RESNET: tuple[Rule, ...] = (
    (r"conv1\.(.+)", r"stages.0.0.0.\1"),
    (r"bn1\.(.+)", r"stages.0.0.1.\1"),
    (r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(.+)", lambda m: f"stages.{m[1]}.{m[2]}.residual.{int(m[4]) - 1}.{int(m[3] == 'bn')}.{m[5]}"),
    (r"layer(\d)\.(\d+)\.downsample\.(.+)", r"stages.\1.\2.shortcut.\3"),
    (r"fc\.(.+)", r"head.2.\1"),
)
DENSENET: tuple[Rule, ...] = (
    (r"features\.conv0\.(.+)", r"features.0.0.0.\1"),
    (r"features\.norm0\.(.+)", r"features.0.0.1.\1"),
    (r"features\.denseblock(\d)\.denselayer(\d+)\.(norm|conv)\.?(\d)\.(.+)",
     lambda m: f"features.{2 * int(m[1]) - 1}.{int(m[2]) - 1}.{int(m[4]) - 1}.{2 * int(m[3] == 'conv')}.{m[5]}"),
    (r"features\.transition(\d)\.(norm|conv)\.(.+)", lambda m: f"features.{2 * int(m[1])}.{2 * int(m[2] == 'conv')}.{m[3]}"),
    (r"features\.norm5\.(.+)", r"features.8.0.\1"),
    (r"classifier\.(.+)", r"head.2.\1"),
)  # fmt: skip
PARTS = {"norm1": "first", "ln_1": "first", "attn.qkv": "attention.query_key_value", "attn.proj": "attention.project",
         "self_attention.out_proj": "attention.project", "norm2": "second", "ln_2": "second", "mlp.fc1": "perceptron.0",
         "mlp.fc2": "perceptron.2", "mlp.0": "perceptron.0", "mlp.3": "perceptron.2",
         "mlp.linear_1": "perceptron.0", "mlp.linear_2": "perceptron.2"}  # fmt: skip
BLOCK = r"(?:blocks\.|encoder\.layers\.encoder_layer_)(\d+)\."
VIT: tuple[Rule, ...] = (
    (r"cls_token|class_token", "transformer.token"),
    (r"(?:patch_embed\.proj|conv_proj)\.(.+)", r"embed.\1"),
    (BLOCK + r"self_attention\.in_proj_(.+)", r"transformer.blocks.\1.attention.query_key_value.\2"),
    (BLOCK + f"({'|'.join(map(re.escape, PARTS))})" + r"\.(weight|bias)", lambda m: f"transformer.blocks.{m[1]}.{PARTS[m[2]]}.{m[3]}"),
    (r"(?:norm|encoder\.ln)\.(.+)", r"transformer.norm.\1"),
    (r"(?:head|heads\.head)\.(.+)", r"head.\1"),
)
BRANCH = {"layer_scale": "scale", "block.0": "depthwise", "block.2": "pointwise.0", "block.3": "pointwise.1", "block.5": "pointwise.3",
          "gamma": "scale", "conv_dw": "depthwise", "norm": "pointwise.0", "mlp.fc1": "pointwise.1", "mlp.fc2": "pointwise.3"}  # fmt: skip
WITHIN = f"({'|'.join(map(re.escape, BRANCH))})" + r"(|\.weight|\.bias)"
CONVNEXT: tuple[Rule, ...] = (
    (r"(?:stem|features\.0)\.(\d)\.(.+)", r"stages.0.\1.\2"),
    (r"features\.([246])\.(\d)\.(.+)", r"stages.\1.\2.\3"),
    (r"features\.([1357])\.(\d+)\." + WITHIN, lambda m: f"stages.{m[1]}.{m[2]}.{BRANCH[m[3]]}{m[4]}"),
    (r"stages\.(\d)\.downsample\.(\d)\.(.+)", lambda m: f"stages.{2 * int(m[1])}.{m[2]}.{m[3]}"),
    (r"stages\.(\d)\.blocks\.(\d+)\." + WITHIN, lambda m: f"stages.{2 * int(m[1]) + 1}.{m[2]}.{BRANCH[m[3]]}{m[4]}"),
    (r"(?:head\.norm|classifier\.0)\.(.+)", r"head.1.\1"),
    (r"(?:head\.fc|classifier\.2)\.(.+)", r"head.2.\1"),
)
PLACES = ("pos_embed", "encoder.pos_embedding")  # (1, 1 + N, width), the class token first
RULES = {"ResNet": RESNET, "DenseNet": DENSENET, "ViT": VIT, "ConvNeXt": CONVNEXT, "ResidualTrunk": RESNET}


def translate(weights: Weights, kind: str) -> dict[str, Tensor]:
    """`weights` of torchvision or timm under the names of our `kind` of network, shapes as they came.

    Learned places become `transformer.place` and `positions.places` (N, width), which is a square of tokens.
    """
    found: dict[str, Tensor] = {}
    strange: list[str] = []
    for name, weight in weights.items():
        if kind == "ViT" and name in PLACES:
            found |= {"transformer.place": weight[:, :1], "positions.places": weight[0, 1:]}
        elif (ours := _renamed(name, kind)) is None:
            strange.append(name)
        else:
            found[ours] = weight
    if strange:
        raise VesaliusError(f"These are not the weights of a {kind} as torchvision or timm names them: {', '.join(strange[:5])} "
                            f"({len(strange)} names). Give the file of the same network.")  # fmt: skip
    return {name: weight for name, weight in found.items() if name}


def borrow(net: nn.Module, weights: Weights) -> list[str]:
    """`weights` of torchvision or timm into `net`, in place; the names of ours that stay as they were drawn (the head of other classes)."""
    kind = type(net).__name__
    if kind not in RULES:
        raise VesaliusError(f"Weights from elsewhere can be put into {', '.join(RULES)}; got a {kind}.")
    theirs, ours = translate(weights, kind), net.state_dict()
    lost = sorted(theirs.keys() - ours.keys())
    if lost:
        raise VesaliusError(f"The weights belong to a larger {kind}: this one has no {', '.join(lost[:3])}. Choose its depth or size.")
    fitting = {name: _fitted(name, weight, ours[name]) for name, weight in theirs.items()}
    taken = {name: weight for name, weight in fitting.items() if weight is not None}
    missing = [name for name in ours if name not in taken and not name.startswith("head.") and not _counts(name)]
    if missing:
        raise VesaliusError(f"The weights belong to a smaller {kind}: they have no {', '.join(missing[:3])}. Choose its depth or size.")
    net.load_state_dict({**ours, **taken})
    return [name for name in ours if name not in taken and not _counts(name)]


def _counts(name: str) -> bool:
    """Counters, which are no weights."""
    return name.endswith(("stream", "num_batches_tracked"))


def _renamed(name: str, kind: str) -> str | None:
    """Our name, "" for what a trunk without a head does not need, or None where there is no such thing."""
    for pattern, ours in RULES[kind]:
        if match := re.fullmatch(pattern, name):
            said = match.expand(ours) if isinstance(ours, str) else ours(match)
            if kind != "ResidualTrunk":
                return said
            return said.removeprefix("stages.") if said.startswith("stages.") else ""
    return None


def _fitted(name: str, weight: Tensor, like: Tensor) -> Tensor | None:
    """`weight` in the shape of `like`, or None where it is that of a head for other classes."""
    if name == "positions.places":
        weight = _places(weight, like)
    if name.endswith(".scale"):
        weight = weight.flatten()
    if weight.ndim == 4 and like.ndim == 5:
        weight = weight[:, :, None].expand(-1, -1, like.shape[2], -1, -1) / like.shape[2]
    if weight.ndim >= 4 and weight.shape[1] == 3 != like.shape[1]:
        weight = weight.sum(1, keepdim=True).expand(-1, like.shape[1], *weight.shape[2:]) / like.shape[1]
    if weight.shape == like.shape:
        return weight.contiguous()
    if name.startswith("head."):
        return None
    raise VesaliusError(f"{name} has shape {tuple(weight.shape)}, this network needs {tuple(like.shape)}. Choose the depth or size "
                        "that the weights were learned with, the published stem, and the same patch: "
                        """--set 'net.arguments={"depth": 18, "stem": "published"}', for instance.""")  # fmt: skip


def _places(weight: Tensor, like: Tensor) -> Tensor:
    """Places (N, width) of a square of tokens on the grid of `like` (*grid, width); repeated along the first of three axes."""
    side = round(len(weight) ** 0.5)
    square = weight.reshape(side, side, -1)
    plane, first = like.shape[-3:-1], like.shape[:-3]
    if tuple(plane) != (side, side):
        square = F.interpolate(square.movedim(-1, 0)[None], plane, mode="bilinear")[0].movedim(0, -1)
    return torch.broadcast_to(square, (*first, *square.shape))
