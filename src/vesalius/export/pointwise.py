"""Sums and means of maps by the kernels in C (core/kernels/pointwise.c); None where there are none."""

import numpy as np

from vesalius.core.kernels import kernel
from vesalius.core.kernels.lattice import Lattice
from vesalius.core.space import Array
from vesalius.export.numbers import room, whole
from vesalius.export.quick import extent


def added(a: Array, b: Array, *, slope: float, own: bool, threads: int) -> Array | None:
    """The sum of two maps, what is below 0 of it times `slope`; in the memory of the first where that is its `own`."""
    call = kernel("add_leaky" if a.dtype == np.uint16 else "add_leaky_full", "pppifi")
    if call is None:
        return None
    a, b = whole(a), whole(b)
    out = a if own else room(a.shape, a.dtype)
    call(a.ctypes.data, b.ctypes.data, out.ctypes.data, a.size, slope, threads)
    return out


def meaned(x: Array, *, step: tuple[int, ...], threads: int) -> Array | None:
    """The mean of every block of `step` voxels."""
    call = kernel("mean_pool" if x.dtype == np.uint16 else "mean_pool_full", "pppii")
    if call is None:
        return None
    x, lattice = whole(x), Lattice(step, step, (0,) * len(step))
    of, sides = extent(lattice, batch=len(x), sides=x.shape[1:-1]), lattice.made(x.shape[1:-1])
    out = room((len(x), *sides, x.shape[-1]), x.dtype)
    call(x.ctypes.data, out.ctypes.data, of.ctypes.data, x.shape[-1], threads)
    return out
