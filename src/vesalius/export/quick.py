"""The steps of a network by the kernels in C (core/kernels), for maps (B, *S, C) of numpy in float32, or bf16 as uint16 (`numbers.py`).

Every one gives None where there is no kernel for it here, or none for such sizes. They are the kernels that networks of torch go through
(nets/_winograd.py, _direct.py, _first.py, _normalise.py), so that both answer alike.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import gcd, prod

import numpy as np
from numpy.typing import NDArray

from vesalius.core.kernels import Kernel, kernel
from vesalius.core.kernels.filtering import LANES, MOST, SIDES, WAYS, Number, pays
from vesalius.core.kernels.lattice import Lattice, Sides
from vesalius.core.space import Array
from vesalius.export.numbers import Singles, room

Words = NDArray[np.int64]
KINDS: dict[Number, type] = {"bf16": np.uint16, "fp32": np.float32}
FILTER = {"bf16": ("winograd_weights", "winograd"), "fp32": ("winograd_full_weights", "winograd_full")}
NORMALISE = {"bf16": "normalise_forward", "fp32": "normalise_single_forward"}
TILE, BLOCK, MORE = 64, 128, 11  # of normalise.c: numbers in a tile, tiles in a block, and lanes of room beside the blocks
FEW = 15  # channels of an image, up to which first.c takes it
DEEPEST = 512  # channels of a map that last.c takes
BORDER, BEHIND = 4, 64  # of first.c: zeros in a row of the image that is kept, and behind it


def number_of(array: Array) -> Number:
    """In which kind of numbers a map is."""
    return "bf16" if array.dtype == np.uint16 else "fp32"


def address(array: Array | None) -> int | None:
    """Where it is."""
    return None if array is None else array.ctypes.data


def strides_of(weight: Singles) -> Words:
    """How many numbers the elements of a kernel (K, C, *sides) are apart, with or without depth."""
    near, places = weight.strides[:2], weight.strides[2:]
    return np.array([*near, *(0,) * (3 - len(places)), *places], np.int64) // weight.itemsize


def run(call: Kernel, *words: int | None) -> None:
    """A kernel that needs memory of its own."""
    done = np.zeros(1, np.int64)
    call(*words, done.ctypes.data)
    if not done[0]:
        raise MemoryError("There is no memory left for a convolution. Answer with smaller tiles: --set patch.size=[64,64,64]")


def three(sides: Sequence[int], lacking: int = 1) -> Sides:
    """Along three axes."""
    return (*(lacking,) * (3 - len(sides)), *sides)


def filters(maps: Sequence[Array], weight: Singles, *, step: Sides, pad: Sides) -> bool:
    """Whether a convolution of `maps` beside each other is for minimal filtering."""
    sides, number, batch = weight.shape[2:], number_of(maps[0]), len(maps[0])
    same = sides in SIDES and set(step) == {1} and pad == tuple(side // 2 for side in sides)
    wide = len(maps) <= MOST and all(width % LANES == 0 for width in (len(weight), *(one.shape[-1] for one in maps)))
    there = all(kernel(name, kinds) for name, kinds in zip(FILTER[number], ("pppiii", "ppppppiiiiiiiiiip"), strict=True))
    return there and same and wide and pays(batch, maps[0].shape[1:-1], max(weight.shape[:2]), number=number)


def points(weight: Singles, number: Number) -> Array:
    """What a kernel (K, C, *sides) gives for the points of minimal filtering."""
    call, taps = kernel(FILTER[number][0], "pppiii"), weight.shape[2] if weight.ndim == 5 else 1
    assert call is not None
    out = room((prod(weight.shape[:2]) * taps * WAYS[number].points,), KINDS[number])
    call(weight.ctypes.data, strides_of(weight).ctypes.data, out.ctypes.data, *weight.shape[:2], taps)
    return out


def filtered(maps: Sequence[Array], given: Array, bias: Singles | None, *, shape: Sides, threads: int) -> Array:
    """A convolution by minimal filtering with a kernel of `shape` (K, C, *sides), of which `points` has `given` its own."""
    x = maps[0]
    call = kernel(FILTER[number_of(x)][1], "ppppppiiiiiiiiiip")
    assert call is not None
    out, taps = room((*x.shape[:-1], shape[0]), x.dtype), shape[2] if len(shape) == 5 else 1
    both = [*map(address, maps), None][:MOST]
    widths = [*(one.shape[-1] for one in maps), 0][:MOST]
    run(call, *both, given.ctypes.data, address(bias), out.ctypes.data, None, *widths, shape[0], 0,
        len(x), *three(x.shape[1:-1]), taps, threads)  # fmt: skip
    return out


@lru_cache
def extent(lattice: Lattice, *, batch: int, sides: Sides) -> Words:
    """For direct.c: a map of these `sides`, what is made of it, and how their voxels see each other."""
    own, there = sides, lattice.made(sides)
    fine, coarse = (there, own) if lattice.rising else (own, there)
    return np.array([batch, *three(fine), *three(coarse), *three(lattice.side), *three(lattice.step), *three(lattice.pad, 0)], np.int64)


def begins(image: Singles, weight: Singles, *, step: Sides, pad: Sides) -> bool:
    """Whether a convolution of an image in float32 to a map in bf16 is for first.c, which fills up no channels."""
    sides = weight.shape[2:]
    same = sides in SIDES and set(step) == {1} and pad == tuple(side // 2 for side in sides)
    there = all((kernel("first_keep", "ppppi"), kernel("first_weights", "pppp"), kernel("first_forward", "pppppip")))
    return there and same and image.shape[-1] <= FEW and len(weight) % LANES == 0


def begun(image: Singles, weight: Singles, bias: Singles | None, *, threads: int) -> Array:
    """The first convolution of an `image` (B, *S, C), in bf16."""
    keep, sort, call = kernel("first_keep", "ppppi"), kernel("first_weights", "pppp"), kernel("first_forward", "pppppip")
    assert keep is not None and sort is not None and call is not None
    taps, made = weight.shape[2] if weight.ndim == 5 else 1, len(weight)
    batch, (depth, height, width), channels = len(image), three(image.shape[1:-1]), image.shape[-1]
    of = np.array([batch, channels, depth, height, width, taps, made], np.int64)
    apart = np.array(image.strides, np.int64) // image.itemsize
    strides = np.array([apart[0], apart[-1], *three(apart[1:-1].tolist(), 0)], np.int64)
    kept = room((batch * channels * (depth + taps - 1) * (height + 2) * (width + BORDER) + BEHIND,), np.uint16)
    keep(image.ctypes.data, strides.ctypes.data, kept.ctypes.data, of.ctypes.data, threads)
    order = room((made * (weight[0].size // 3 + 1) // 2 * 2 * 3,), np.uint16)
    sort(weight.ctypes.data, strides_of(weight).ctypes.data, order.ctypes.data, of.ctypes.data)
    out = room((*image.shape[:-1], made), np.uint16)
    run(call, kept.ctypes.data, order.ctypes.data, address(bias), out.ctypes.data, of.ctypes.data, threads)
    return out


def ends(x: Array, weight: Singles, *, step: Sides, pad: Sides) -> bool:
    """Whether a convolution of a map in bf16 is for last.c: of every voxel by itself, to classes that fill no block of channels."""
    alone = {*weight.shape[2:], *step} == {1} and not any(pad) and len(weight) % LANES != 0
    deep = x.shape[-1] % LANES == 0 and x.shape[-1] <= DEEPEST
    return x.dtype == np.uint16 and alone and deep and kernel("last_forward", "ppppiiiii") is not None


def ended(x: Array, weight: Array, bias: Singles | None, *, threads: int) -> Array:
    """The last convolution, of a map (B, *S, C) by a `weight` (K, C) in bf16: a map whose channels lie apart, as they are taken next."""
    call, few = kernel("last_forward", "ppppiiiii"), len(weight)
    assert call is not None
    out = room((len(x), few, *x.shape[1:-1]), np.uint16)
    call(x.ctypes.data, weight.ctypes.data, address(bias), out.ctypes.data, len(x), prod(x.shape[1:-1]), x.shape[-1], few, threads)
    return np.moveaxis(out, 1, -1)


def normalised(x: Array, weight: Singles | None, bias: Singles | None, *, added: float, slope: float, own: bool,
               threads: int) -> Array | None:  # fmt: skip
    """Normalised per sample and channel, then leaky; in the memory of `x` where that is its `own`."""
    call = kernel(NORMALISE[number_of(x)], "ppppppiiiidf")
    if call is None:
        return None
    batch, channels, voxels = len(x), x.shape[-1], prod(x.shape[1:-1])
    period = min(channels // gcd(channels, TILE), -(-voxels * channels // TILE))
    blocks = voxels * channels // TILE // (BLOCK * period) + 1
    space, moments = room((batch * (2 * blocks + MORE) * period * TILE,), np.float32), np.empty((batch, 2, channels))
    out = x if own else room(x.shape, x.dtype)
    call(x.ctypes.data, out.ctypes.data, address(weight), address(bias), moments.ctypes.data, space.ctypes.data,
         batch, voxels, channels, threads, added, slope)  # fmt: skip
    return out


def directly(weight: Singles, *, step: Sides, number: Number, rising: bool = False) -> bool:
    """Whether a convolution in steps, or a `rising` (transposed) one, is for direct.c (bf16) or direct_full.c (float32)."""
    if number == "fp32":
        ready = kernel("direct_full_weights", "pppiip") is not None and kernel("direct_full_down", "pppppiiip") is not None
        return ready and max(weight.shape[2:]) <= 7 and max(step) <= 3
    ready = all((kernel("direct_weights", "pppiip"), kernel("direct_down", "pppppiiip"), kernel("direct_up", "pppppiiip")))
    return ready and max(weight.shape[2:]) <= 3 and max(step) <= 2


def padded(weight: Singles, number: Number) -> Singles:
    """A kernel (K, C, *sides) with as many channels as the kernels in C work on together: in bf16 16 of both, in float32 any."""
    if number == "fp32":
        return weight
    more = [(0, -width % LANES) for width in weight.shape[:2]]
    return np.pad(weight, [*more, *((0, 0),) * (weight.ndim - 2)]) if any(n for _, n in more) else weight


def packed(weight: Singles, number: Number, *, step: Sides) -> Array:
    """A kernel (K, C, *sides), padded, in the order of the products."""
    call = kernel("direct_weights" if number == "bf16" else "direct_full_weights", "pppiip")
    assert call is not None
    made, given = weight.shape[:2]
    of = extent(Lattice(weight.shape[2:], step, (0,) * len(step)), batch=1, sides=weight.shape[2:])
    out = room((-(-made // LANES) * LANES * given * prod(weight.shape[2:]),), KINDS[number])
    call(weight.ctypes.data, strides_of(weight).ctypes.data, out.ctypes.data, made, given, of.ctypes.data)
    return out


def moved(x: Array, given: Array, bias: Singles | None, *, lattice: Lattice, made: int, threads: int) -> Array:
    """What `lattice` makes of `x` by `packed` weights (`given`): a map of `made` channels."""
    name = f"direct{'' if x.dtype == np.uint16 else '_full'}_{'up' if lattice.rising else 'down'}"
    call = kernel(name, "pppppiiip")
    assert call is not None
    of = extent(lattice, batch=len(x), sides=x.shape[1:-1])
    out = room((len(x), *lattice.made(x.shape[1:-1]), made), x.dtype)
    run(call, x.ctypes.data, given.ctypes.data, address(bias), out.ctypes.data, of.ctypes.data, x.shape[-1], made, threads)
    return out
