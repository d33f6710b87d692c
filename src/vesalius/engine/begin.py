"""Learned weights to begin from: those of a vesalius run or file by name and shape, those of torchvision or timm by translation, and those
of layers that were learned one upon the other (a deep belief network, a stacked autoencoder) as the way up that they make."""

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from vesalius.core.errors import VesaliusError
from vesalius.engine.run import Run
from vesalius.engine.state import load_weights
from vesalius.methods._kept import Keeper
from vesalius.nets._names import borrow
from vesalius.nets.perceptron import Perceptron
from vesalius.plan import Plan
from vesalius.plan.begin import stacks

FILE = "weights.safetensors"
NAMED = 4  # weights that a sentence names
PRETEXT = ("pretext.", "predictor.", "usual.")  # beside a trunk that learned without labels; no network has layers of that name


def begin(net: nn.Module, source: Path) -> str:
    """The weights of `source`, a run folder or a .safetensors file, into `net`, in place; and what was taken, in a sentence.

    Of our own, weights of another shape or name stay as they were drawn; kernels for another number of channels are averaged over
    them. An error where less than half of the network would be taken, and less than half of what there is: a trunk that learned without
    labels may be all of an encoder, and that the smaller half of a U-Net."""
    path = weights_of(source)
    weights = way_up(source) if isinstance(net, Perceptron) else {}
    weights = weights or load_weights(path)[0]
    ours = net.state_dict()
    if isinstance(net, Keeper) and not weights.keys() & ours.keys():
        weights = {f"coder.{name}": value for name, value in weights.items() if not name.startswith(PRETEXT)}
    if is_own(path) or 2 * len(weights.keys() & ours.keys()) > len(weights):  # a head is called so by others, too
        taken, mended = fitting(weights, ours)
        refuse_strangers(net, source, taken, weights=weights)
        net.load_state_dict({**ours, **taken})
        left = [name for name, value in ours.items() if name not in taken and value.is_floating_point()]
    else:
        left, mended = borrow(net, weights), []
    return said(net, source, left, mended=mended)


def way_up(source: Path) -> dict[str, Tensor]:
    """Dense layers from the image up, under the names of a perceptron, of a run whose method stacks them; {} of any other source."""
    if not (source.is_dir() and (source / "plan.json").exists()) or not stacks(Plan.load(source / "plan.json")):
        return {}
    encoder: Callable[[], nn.Module] = Run(source).method().encoder  # type: ignore[assignment]
    up = [layer for layer in encoder().modules() if isinstance(layer, nn.Linear)]
    return {f"layers.{k}.{name}": value.cpu() for k, layer in enumerate(up) for name, value in layer.state_dict().items()}


def weights_of(source: Path) -> Path:
    """The file of weights: the one given, or that of a run (of several members the first that has one)."""
    if not source.is_dir():
        return source
    found = [path for path in (source / FILE, *sorted(source.glob(f"fold_*/{FILE}"))) if path.exists()]
    if not found:
        raise VesaliusError(f"{source} has no weights to begin from. Name a run that has learned, or a .safetensors file.")
    return found[0]


def is_own(path: Path) -> bool:
    """Whether the file was written by vesalius."""
    with safe_open(path, framework="pt") as file:
        return "vesalius" in (file.metadata() or {})


def fitting(weights: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Those of `weights` that `ours` has in the same shape, and the names of those that were averaged over other channels."""
    taken: dict[str, Tensor] = {}
    mended = []
    for name in (name for name in ours if name in weights):
        weight, like = weights[name], ours[name]
        if weight.shape == like.shape:
            taken[name] = weight
        elif weight.ndim == like.ndim >= 4 and (weight.shape[0], *weight.shape[2:]) == (like.shape[0], *like.shape[2:]):
            taken[name] = weight.sum(1, keepdim=True).expand(like.shape) / like.shape[1]
            mended.append(name)
    return taken, mended


def refuse_strangers(net: nn.Module, source: Path, taken: Mapping[str, Tensor], *, weights: Mapping[str, Tensor]) -> None:
    """An error where `taken` is less than half of `net`, and of the `weights` at `source` that are not of a pretext."""
    total = sum(weight.numel() for weight in net.parameters())
    kept = sum(weight.numel() for name, weight in net.named_parameters() if name in taken)
    have = sum(weight.numel() for name, weight in weights.items() if not name.startswith(PRETEXT) and weight.is_floating_point())
    used = sum(weight.numel() for weight in taken.values() if weight.is_floating_point())
    if 2 * kept < total and 2 * used < have:
        raise VesaliusError(f"{source} has {kept / total:.0%} of the weights of this {type(net).__name__}; at least half was expected. "
                            "Begin from a run of the same network (its name, depth and widths), or leave --init out.")  # fmt: skip


def said(net: nn.Module, source: Path, left: list[str], *, mended: list[str]) -> str:
    """What was taken and what not; a layer is what has weights of its own."""
    drawn, weights = set(left), dict(net.named_parameters())
    total = sum(weight.numel() for weight in weights.values())
    share = sum(weight.numel() for name, weight in weights.items() if name not in drawn) / total
    layers, lacking = ({name.rpartition(".")[0] for name in names} for names in (weights, drawn & weights.keys()))
    sentence = f"Begins from {source}: {len(layers - lacking)} of {len(layers)} layers, {share:.1%} of the weights are taken."
    if left:
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        sentence += f" Drawn anew, for want of a weight of the same name and shape: {', '.join(left[:NAMED])}{more}."
    return sentence + (f" Averaged over other channels: {', '.join(mended)}." if mended else "")
