"""Which network a file of weights under the names of torchvision or timm is of: its names tell the kind, its shapes the size."""

from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vesalius.core.errors import VesaliusError
from vesalius.nets import NETS
from vesalius.nets._names import translate

SIZES = {"resnet": "depth", "densenet": "depth", "vit": "size", "convnext": "size"}  # networks, and the argument that is their size


def network_of(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of the network whose weights are in the file `path`, which is not read for it; None where none is known that has
    all these names, each in the same width."""
    shapes = shapes_of(path)
    for name, word in SIZES.items():
        theirs = _translated(shapes, NETS.card(name).entry)
        for size in get_args(get_type_hints(NETS[name].__init__)[word]) if theirs else ():
            if theirs and alike(theirs, empty(name, {word: size})):
                patch = {"patch": theirs["embed.weight"].shape[-1]} if "embed.weight" in theirs else {}
                return name, {word: size, **patch}
    return None


def shapes_of(path: Path) -> dict[str, Tensor]:
    """Tensors without numbers, by name."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}
    except (SafetensorError, OSError) as problem:
        raise VesaliusError(f"{path} is not a .safetensors file ({problem}). Name one, or a run folder: --init") from None


def empty(name: str, arguments: dict[str, Any]) -> nn.Module:
    """The network `name` without numbers."""
    with torch.device("meta"):
        made: nn.Module = NETS[name](2, 3, 2, **arguments)
    return made


def alike(theirs: dict[str, Tensor], net: nn.Module) -> bool:
    """Whether `net` has the weights `theirs` and no others beside its head, equally wide; they may be for other channels and patches."""
    ours, elsewhere = net.state_dict(), ("head.", "positions.")
    wide = {name: tuple(weight.shape[:1]) for name, weight in theirs.items()}
    needed = {name: tuple(weight.shape[:1]) for name, weight in net.named_parameters() if not name.startswith(elsewhere)}
    return needed.items() <= wide.items() and all(name in ours or name.startswith(elsewhere) for name in theirs)


def _translated(shapes: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Under our names; {} where some are not of this kind."""
    try:
        return translate(shapes, kind)
    except VesaliusError:
        return {}
