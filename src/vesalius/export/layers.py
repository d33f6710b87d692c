"""The steps of a network with their weights, each done in the quickest way that there is here: by a kernel, or by numpy.

What a way needs of the weights is made once, when it is first gone. A network computes in bf16 or in float32; of the image, which comes in
float32, the first convolution makes a map in that kind of number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vesalius.core.kernels.filtering import LANES, Number
from vesalius.core.kernels.lattice import Lattice
from vesalius.core.space import Array
from vesalius.export import arithmetic, pointwise, quick
from vesalius.export.numbers import Singles, alike, halves, room, singles, whole
from vesalius.export.steps import Step

Maps = Sequence[Array]


def joined(maps: Maps) -> Array:
    """Maps beside each other as one."""
    if len(maps) == 1:
        return maps[0]
    out = room((*maps[0].shape[:-1], sum(one.shape[-1] for one in maps)), maps[0].dtype)
    return np.concatenate(maps, -1, out=out)


def widened(x: Array, width: int) -> Array:
    """`x` with zeros behind its channels."""
    if x.shape[-1] == width:
        return whole(x)
    out = room((*x.shape[:-1], width), x.dtype)
    out[..., : x.shape[-1]], out[..., x.shape[-1] :] = x, 0
    return out


@dataclass(eq=False)
class Layer:
    """A `step` with its weights, in `number`s of one kind; `threads` may work on it."""

    step: Step
    weight: Singles | None
    bias: Singles | None
    number: Number
    threads: int
    made: dict[str, Array] = field(default_factory=dict)  # of the weights, for one way or another

    def __call__(self, maps: Maps, *, own: bool) -> Array:
        """The map that it makes of `maps`; `own`: nobody else takes the first of them. Of an image alone a convolution makes the other
        kind of number as it goes; any other step takes its maps in one kind."""
        if self.number == "bf16" and (len(maps) > 1 or self.step.kind != "convolution"):
            maps = [halves(one) if one.dtype == np.float32 else one for one in maps]
        return DOES[self.step.kind](self, maps, own)

    def once(self, name: str, make: Callable[[], Array]) -> Array:
        """What is made of the weights for a way."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]


def _convolution(layer: Layer, maps: Maps, own: bool) -> Array:
    weight, step, pad = layer.weight, layer.step.step, layer.step.pad
    assert weight is not None
    image = maps[0].dtype == np.float32 and layer.number == "bf16"
    if image and quick.begins(maps[0], weight, step=step, pad=pad):
        return quick.begun(maps[0], weight, layer.bias, threads=layer.threads)
    maps = [halves(one) for one in maps] if image else maps
    maps = [whole(one) for one in maps]
    if quick.filters(maps, weight, step=step, pad=pad):
        given = layer.once("points", lambda: quick.points(weight, layer.number))
        return quick.filtered(maps, given, layer.bias, shape=weight.shape, threads=layer.threads)
    if len(maps) == 1 and quick.ends(maps[0], weight, step=step, pad=pad):
        given = layer.once("halves", lambda: halves(weight.reshape(weight.shape[:2])))
        return quick.ended(maps[0], given, layer.bias, threads=layer.threads)
    if quick.directly(weight, step=step, number=layer.number):
        return _moved(layer, joined(maps), weight, rising=False)
    return alike(arithmetic.convolution(singles(joined(maps)), weight, layer.bias, step=step, pad=pad), maps[0])


def _transposed(layer: Layer, maps: Maps, own: bool) -> Array:
    assert layer.weight is not None
    turned = layer.weight.swapaxes(0, 1)
    if quick.directly(turned, step=layer.step.step, number=layer.number, rising=True):
        return _moved(layer, maps[0], turned, rising=True)
    return alike(arithmetic.transposed(singles(maps[0]), layer.weight, layer.bias, step=layer.step.step), maps[0])


def _moved(layer: Layer, x: Array, weight: Singles, *, rising: bool) -> Array:
    """By a direct kernel, with zeros for channels that it takes and there are not."""
    step, pad, made = layer.step.step, layer.step.pad or (0,) * len(layer.step.step), len(weight)
    wide = quick.padded(weight, layer.number)
    given = layer.once("packed", lambda: quick.packed(wide, layer.number, step=step))
    bias = layer.bias
    if bias is not None:
        start = bias
        bias = layer.once("bias", lambda: np.pad(start, (0, -made % LANES)))
    lattice = Lattice(weight.shape[2:], step, pad, rising)
    out = quick.moved(widened(x, wide.shape[1]), given, bias, lattice=lattice, made=len(wide), threads=layer.threads)
    return out[..., :made]


def _normalisation(layer: Layer, maps: Maps, own: bool) -> Array:
    step, x = layer.step, whole(maps[0])
    how = {"added": step.added, "slope": step.slope}
    found = quick.normalised(x, layer.weight, layer.bias, own=own, threads=layer.threads, **how)
    return alike(arithmetic.normalisation(singles(x), layer.weight, layer.bias, **how), x) if found is None else found


def _leaky(layer: Layer, maps: Maps, own: bool) -> Array:
    if layer.step.slope == 1:
        return maps[0] if own else maps[0].copy()  # another step may write where its own map lies
    return alike(arithmetic.leaky(singles(maps[0]), layer.step.slope), maps[0])


def _joined(layer: Layer, maps: Maps, own: bool) -> Array:
    return joined(maps) if own or len(maps) > 1 else maps[0].copy()


def _sum(layer: Layer, maps: Maps, own: bool) -> Array:
    found = pointwise.added(*maps, slope=layer.step.slope, own=own, threads=layer.threads)
    return alike(arithmetic.leaky(singles(maps[0]) + singles(maps[1]), layer.step.slope), maps[0]) if found is None else found


def _mean_pool(layer: Layer, maps: Maps, own: bool) -> Array:
    found = pointwise.meaned(maps[0], step=layer.step.step, threads=layer.threads)
    return alike(arithmetic.mean_pool(singles(maps[0]), step=layer.step.step), maps[0]) if found is None else found


def _max_pool(layer: Layer, maps: Maps, own: bool) -> Array:
    return alike(arithmetic.max_pool(singles(maps[0]), step=layer.step.step), maps[0])


DOES: dict[str, Callable[[Layer, Maps, bool], Array]] = {
    "convolution": _convolution, "transposed": _transposed, "normalisation": _normalisation, "leaky": _leaky, "joined": _joined,
    "sum": _sum, "mean_pool": _mean_pool, "max_pool": _max_pool,
}  # fmt: skip
