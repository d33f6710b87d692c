"""The state of a run on disk: weights, averages and moments in one safetensors file, written beside and renamed.

A process killed at any instant leaves the last whole state. No pickle: tensors by name, everything else as JSON.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from vesalius.core.errors import VesaliusError
from vesalius.core.files import write_beside

Weights = dict[str, Tensor]


def save_weights(path: Path, weights: Weights, words: dict[str, Any] | None = None) -> None:
    """`weights` by name, with `words` as JSON in the header."""
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}

    def write(beside: Path) -> None:
        try:
            save_file(plain, beside, metadata={"vesalius": json.dumps(words or {})})
        except SafetensorError as problem:  # its own error even where the disk is full
            raise OSError(str(problem)) from problem

    write_beside(path, write)


def load_weights(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Tensors by name and the words of the header."""
    try:
        with safe_open(path, framework="pt") as file:
            words = json.loads((file.metadata() or {}).get("vesalius", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, words
    except FileNotFoundError:
        raise VesaliusError(f"{path} does not exist: the run has no weights yet. Train first: vesalius train DATA -o RUN") from None
    except (SafetensorError, json.JSONDecodeError) as problem:
        raise VesaliusError(f"{path} is not a whole safetensors file ({problem}). Restore it from a copy, or train again.") from None


def pack(method: nn.Module, average: Weights, optimisers: dict[str, Optimizer]) -> Weights:
    """Everything that learning continues from, under names."""
    packed = {f"model.{name}": value for name, value in method.state_dict().items()}
    packed |= {f"average.{name}": value for name, value in average.items()}
    for name, optimiser in optimisers.items():
        for index, moments in optimiser.state_dict()["state"].items():
            packed |= {f"optimiser.{name}.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
    return packed


def unpack(packed: Weights, method: nn.Module, average: Weights, *, optimisers: dict[str, Optimizer]) -> None:
    """The inverse of `pack`, in place."""
    fill(method, _under("model.", packed))
    for name, value in _under("average.", packed).items():
        average[name].copy_(value)
    for name, optimiser in optimisers.items():
        order = [weight for group in optimiser.param_groups for weight in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(f"optimiser.{name}.", packed).items():
            index, _, what = key.partition(".")
            moments.setdefault(int(index), {})[what] = _laid_out(value, order[int(index)])
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def fill(module: nn.Module, weights: Weights) -> None:
    """`weights` into `module`; an error in words where they belong to another network."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as problem:
        first = str(problem).splitlines()[1:2] or [str(problem)]
        raise VesaliusError(f"The weights on disk are those of another network ({first[0].strip()[:200]}). Was plan.json changed after "
                            "learning began? Put it back, or train anew with --overwrite.") from None  # fmt: skip


def _laid_out(value: Tensor, weight: Tensor) -> Tensor:
    """`value` in the memory layout of its weight: a fused optimiser walks both as flat memory, without a look at strides."""
    return torch.empty_like(weight, dtype=value.dtype).copy_(value) if value.shape == weight.shape else value


def _under(prefix: str, packed: Weights) -> Weights:
    return {name[len(prefix) :]: value for name, value in packed.items() if name.startswith(prefix)}
