"""Writes a network of torch down as steps (`steps.py`): it runs once on a small image, and every function of torch that it calls is noted.

Any network whose functions all have a step is written; of another the first function that has none is named.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vesalius.core.errors import VesaliusError
from vesalius.core.space import Array
from vesalius.export.steps import IMAGE, Step, Steps

Words = dict[str, Any]


class Plain(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Does nothing; while it is there networks call torch alone (nets/_together.py, `tracing`)."""

    def __torch_dispatch__(self, func: Any, types: Any, *given: Any) -> Any:
        args, words = _given(given)
        return func(*args, **words)


class Noted(TorchFunctionMode):
    """Notes what is done to the `image` with tensors that have a name in `weights`."""

    def __init__(self, image: Tensor, weights: Mapping[int, str]) -> None:
        super().__init__()
        self.names, self.weights, self.steps = {id(image): IMAGE}, weights, list[Step]()
        self.held: list[Any] = [image]  # so that no later tensor has the number of an earlier one

    def __torch_function__(self, func: Any, types: Any, *given: Any) -> Any:
        args, words = _given(given)
        made = func(*args, **words)
        named = [one for one in _tensors([*args, *words.values()]) if id(one) in self.names]
        if named and isinstance(made, Tensor) and not _looks(func):
            self._note(func, made, (args, words))
        return made

    def _note(self, func: Any, made: Tensor, given: tuple[Any, Words]) -> None:
        name = func.__name__.strip("_")
        if name not in READERS:
            raise VesaliusError(f"The network calls {func.__name__}, which a model without torch has no step for "
                                f"(it has {', '.join(sorted(READERS))}). Answer with the run itself: vesalius predict.")  # fmt: skip
        kind, takes, numbers = READERS[name](*given)
        weights = {key: self.weights[id(one)] for key, one in numbers.items() if isinstance(one, Tensor)}
        rest = {key: one for key, one in numbers.items() if one is not None and not isinstance(one, Tensor)}
        of = {"kind": kind, "takes": [self.names[id(one)] for one in takes], "makes": f"map_{len(self.steps)}"}
        step = Step.checked({**of, **weights, **rest})
        self.names[id(made)] = step.makes
        self.held.append(made)
        self.steps.append(step)


def _given(given: tuple[Any, ...]) -> tuple[Any, Words]:
    """What a function is called with: arguments in their places, and by words."""
    args, words = (*given, (), None)[:2]
    return args, words or {}


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Those among `values`, and in lists of them."""
    flat = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
    return [one for one in flat if isinstance(one, Tensor)]


def _looks(func: Any) -> bool:
    """Whether a property is read, not a function called."""
    return getattr(func, "__name__", "") == "__get__"


def _sides(value: Any, ndim: int) -> tuple[int, ...]:
    return (value,) * ndim if isinstance(value, int) else tuple(value)


def _asked(args: Any, words: Words, *names: str) -> list[Any]:
    """The arguments of these names after the first, by place or by word."""
    return [args[place] if place < len(args) else words.get(name) for place, name in enumerate(names, start=1)]


def _convolution(args: Any, words: Words) -> tuple[str, list[Tensor], Words]:
    weight, bias, step, pad, dilation, groups = _asked(args, words, "weight", "bias", "stride", "padding", "dilation", "groups")
    ndim = weight.ndim - 2
    _need(groups in (None, 1) and set(_sides(dilation or 1, ndim)) == {1} and not isinstance(pad, str), "grouped or dilated convolutions")
    numbers = {"weight": weight, "bias": bias, "step": _sides(1 if step is None else step, ndim), "pad": _sides(pad or 0, ndim)}
    return "convolution", [args[0]], numbers


def _transposed(args: Any, words: Words) -> tuple[str, list[Tensor], Words]:
    weight, bias, step, pad, more, groups, dilation = _asked(
        args, words, "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")  # fmt: skip
    ndim = weight.ndim - 2
    plain = groups in (None, 1) and not any((*_sides(pad or 0, ndim), *_sides(more or 0, ndim))) and set(_sides(dilation or 1, ndim)) == {1}
    _need(plain and tuple(weight.shape[2:]) == _sides(step, ndim), "transposed convolutions whose kernel is not their step")
    return "transposed", [args[0]], {"weight": weight, "bias": bias, "step": _sides(step, ndim)}


def _normalisation(args: Any, words: Words) -> tuple[str, list[Tensor], Words]:
    _, _, weight, bias, own, _, added = _asked(
        args, words, "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")  # fmt: skip
    _need(own is not False, "normalisation by running statistics")
    return "normalisation", [args[0]], {"weight": weight, "bias": bias, "added": 1e-5 if added is None else added}


def _leaky(args: Any, words: Words) -> tuple[str, list[Tensor], Words]:
    (slope,) = _asked(args, words, "negative_slope")
    return "leaky", [args[0]], {"slope": 0.01 if slope is None else slope}


def _relu(args: Any, words: Words) -> tuple[str, list[Tensor], Words]:
    return "leaky", [args[0]], {"slope": 0.0}


def _joined(args: Any, words: Words) -> tuple[str, list[Tensor], Words]:
    (axis,) = _asked(args, words, "dim")
    _need(axis == 1, "tensors joined along other axes than channels")
    return "joined", list(args[0]), {}


def _sum(args: Any, words: Words) -> tuple[str, list[Tensor], Words]:
    _need(len(_tensors(args)) == 2 and args[0].shape == args[1].shape and not words, "sums of unlike maps")
    return "sum", list(args), {}


def _pool(kind: str) -> Callable[[Any, Words], tuple[str, list[Tensor], Words]]:
    def read(args: Any, words: Words) -> tuple[str, list[Tensor], Words]:
        kernel, step, pad = _asked(args, words, "kernel_size", "stride", "padding")
        ndim = args[0].ndim - 2
        size = _sides(kernel, ndim)
        _need(_sides(step or kernel, ndim) == size and not any(_sides(pad or 0, ndim)), "pools whose blocks overlap")
        return kind, [args[0]], {"step": size}

    return read


def _need(true: bool, what: str) -> None:
    if not true:
        raise VesaliusError(f"A model without torch has no step for {what}. Answer with the run itself: vesalius predict.")


READERS: dict[str, Callable[[Any, Words], tuple[str, list[Tensor], Words]]] = {
    "conv2d": _convolution, "conv3d": _convolution, "conv_transpose2d": _transposed, "conv_transpose3d": _transposed,
    "instance_norm": _normalisation, "leaky_relu": _leaky, "relu": _relu, "cat": _joined, "add": _sum, "iadd": _sum,
    "avg_pool2d": _pool("mean_pool"), "avg_pool3d": _pool("mean_pool"), "max_pool2d": _pool("max_pool"), "max_pool3d": _pool("max_pool"),
}  # fmt: skip


def written(net: nn.Module, channels: int, *, ndim: int, pooling: tuple[int, ...]) -> tuple[Steps, dict[str, Array]]:
    """The steps of `net` (in evaluation mode, on the CPU) for images (B, `channels`, *S), and its weights by name, float32 as torch
    lays them out. `pooling` is what sides must be multiples of."""
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    image = torch.zeros(2, channels, *(2 * side for side in pooling))  # of a single sample networks normalise in their own ways
    plain = Plain()  # type: ignore[no-untyped-call]
    with torch.inference_mode(), plain, Noted(image, {id(one): name for name, one in state.items()}) as noted:
        made = net(image)
    if not noted.steps or noted.names.get(id(made)) != noted.steps[-1].makes:
        raise VesaliusError("The network ends in something that a model without torch has no step for. Answer with the run itself: "
                            "vesalius predict.")  # fmt: skip
    used = {name for step in noted.steps for name in (step.weight, step.bias) if name}
    weights = {name: np.ascontiguousarray(state[name].detach().float().numpy()) for name in sorted(used)}
    return Steps.checked({"ndim": ndim, "channels": channels, "pooling": pooling, "steps": noted.steps}), weights
