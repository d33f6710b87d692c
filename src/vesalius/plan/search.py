"""How large a network, a patch and a batch the budget and the memory allow: candidates are measured, the first that does is taken."""

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vesalius.core.environment import process_rank
from vesalius.core.errors import DataError, UsageError, suggest
from vesalius.data.detail import fine_axes
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise, lean
from vesalius.nets._prior import silent
from vesalius.plan import rules
from vesalius.plan.budget import Measured, device, measure, precision
from vesalius.plan.plan import Net

BASE_MEMORY = 600 << 20  # bytes: interpreter, torch and the mapped cache of a small data set
WIDE, NARROW = 32, 16  # features of the first stage
MANY_STEPS = 1800  # a wide network pays only where it can take so many steps
ENOUGH_STEPS, LEAST_STEPS = 1000, 700  # with a batch of 4; with a batch of 2, below which the patch is shrunk
VOXELS = {"cpu": {2: 512**2, 3: 96**3}, "cuda": {2: 1024**2, 3: 128**3}}
HALVED = "halved, for more steps in the time or less memory"
DOUBT = 2.5  # how far an untimed candidate may lie beyond the time and still be timed: small patches compute less evenly
UNKNOWN = Measured(math.inf, math.inf, 0, 0)
LEAST_VOXELS = {2: 128**2, 3: 48**3}
LEAST_COARSE = {2: 128**2, 3: 36**3}  # a whole scan on a coarser grid may be smaller than a patch of it
PASSES = 100  # over every voxel of every case: where time allows so many, nothing is gained by a coarser grid


@dataclass(frozen=True)
class Scan:
    """The median scan on the network's grid: sides, spacing (empty where unknown), how many cases there are to learn from,
    what masks lose on coarser grids (data/detail.py), and how many log odds of the baseline come with it."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    cases: int = 1
    detail: dict[str, Any] | None = None
    prior: int = 0

    def reduced(self, voxels: int) -> tuple["Scan", str]:
        """This scan on a grid so coarse that `voxels` hold it whole, as far as its masks allow, and why."""
        factor, why = rules.coarser(self.shape, self.spacing, voxels, detail=self.detail)
        if factor == 1:
            return self, ""
        step = self.spacing or (1.0,) * len(self.shape)
        factors = [factor if fine else 1.0 for fine in fine_axes(step)]
        sides = tuple(max(1, round(side / f)) for side, f in zip(self.shape, factors, strict=True))
        return replace(self, shape=sides, spacing=tuple(s * f for s, f in zip(step, factors, strict=True))), why


@dataclass(frozen=True)
class Limits:
    """Seconds for learning and bytes for everything; None where there is no limit."""

    seconds: float | None
    memory: int | None


@dataclass(frozen=True)
class Shape:
    """A candidate: grid, patch, topology, batch and what it costs on this machine (`cost` is that of its batch)."""

    spacing: tuple[float, ...]
    why_spacing: str
    size: tuple[int, ...]
    why_size: str
    net: Net
    why_net: str
    batch: int
    why_batch: str
    cost: Measured

    def steps(self, limits: Limits) -> float:
        """Steps that the time allows."""
        return math.inf if limits.seconds is None else limits.seconds / self.cost.step

    def fits(self, limits: Limits) -> bool:
        """Whether the memory is enough."""
        return limits.memory is None or self.cost.memory + BASE_MEMORY <= limits.memory

    def halved(self) -> "Shape":
        """Half the batch; time and memory go with it (weights and their moments are the smaller part)."""
        cost = replace(self.cost, step=self.cost.step / 2, memory=self.cost.memory // 2 + 10 * self.cost.parameters)
        return replace(self, batch=self.batch // 2, cost=cost, why_batch=HALVED)


def search(scan: Scan, limits: Limits, *, ends: tuple[int, int], net: str) -> Shape:
    """The first candidate that leaves enough steps and fits the memory, else the one with the most steps that fits
    (a batch of 1 only where memory asks for it).

    `ends` are the numbers of input and output channels.
    """
    fitting: list[Shape] = []
    _, world = process_rank()
    for candidate, wanted in ladder(scan, limits, ends=ends, net=net):
        if not candidate.fits(limits) or candidate.batch < world:  # every process needs a sample
            continue
        fitting.append(candidate)
        if candidate.steps(limits) >= wanted:
            return candidate
    if not fitting:
        raise DataError(f"Not even the smallest plan fits into {(limits.memory or 0) / 2**30:.1f} GiB. Allow more with --memory.")
    return max(fitting, key=lambda candidate: (candidate.batch > 1, candidate.steps(limits)))


def ladder(scan: Scan, limits: Limits, *, ends: tuple[int, int], net: str) -> Iterator[tuple[Shape, int]]:
    """Candidates from the most to the least costly, each with the steps that it needs to be worth it.

    The least costly is timed first: what would take far longer than there is time, by its number of multiplications, is
    not timed at all. Where time does not allow many passes over every voxel, candidates see whole scans on coarser grids.
    """
    ndim, voxels = len(scan.shape), VOXELS[device()][len(scan.shape)]
    least = timed(sketch(scan, (NARROW, LEAST_VOXELS[ndim]), net=net), ends)
    pace, coarse = least.cost.step / work(least, ends), is_short(scan, limits, least)
    smallest = LEAST_COARSE[ndim] if coarse else LEAST_VOXELS[ndim]
    end = timed(sketch(scan, (NARROW, smallest), net=net, coarse=True), ends) if coarse else least

    def hopeful(candidate: Shape, steps: float) -> bool:
        return limits.seconds is None or pace * work(candidate, ends) * steps <= DOUBT * limits.seconds

    wide = cut_to(limits, sketch(scan, (WIDE, voxels), net=net, coarse=coarse), least)
    if wide and wide.why_batch != HALVED and hopeful(wide, MANY_STEPS):
        yield timed(wide, ends), MANY_STEPS
    seen: set[tuple[int, ...]] = set()
    while voxels >= smallest:
        candidate = cut_to(limits, sketch(scan, (NARROW, voxels), net=net, coarse=coarse), least)
        voxels //= 2
        if not candidate or candidate.size in seen or candidate.size == end.size or not hopeful(candidate, LEAST_STEPS / 2):
            continue
        seen.add(candidate.size)
        yield from _batches(timed(candidate, ends))
    yield from _batches(end)


def is_short(scan: Scan, limits: Limits, least: Shape) -> bool:
    """Whether the time allows fewer than PASSES over every voxel of every case, at the pace of `least`."""
    if limits.seconds is None:
        return False
    per_voxel = least.cost.step / (least.batch * math.prod(least.size))
    return limits.seconds < PASSES * scan.cases * math.prod(scan.shape) * per_voxel


def cut_to(limits: Limits, candidate: Shape, least: Shape) -> Shape | None:
    """`candidate` with its batch halved until it should fit, by its features beside those of `least`; None where none does.

    So planning itself keeps to the memory: what does not fit is not tried."""
    if limits.memory is None:
        return candidate
    each, room = least.cost.memory / features(least), limits.memory - BASE_MEMORY
    while candidate.batch > 1 and each * features(candidate) > room:
        candidate = replace(candidate, batch=candidate.batch // 2, why_batch=HALVED)
    return candidate if each * features(candidate) <= room else None


def features(candidate: Shape) -> float:
    """Numbers that the stages give, for a whole batch."""
    voxels = candidate.batch * math.prod(candidate.size) / np.cumprod(np.prod(candidate.net.strides, axis=1))
    return float(voxels @ np.array(candidate.net.channels))


def _batches(candidate: Shape) -> Iterator[tuple[Shape, int]]:
    """`candidate` with its batch and ever half of it; a single sample only where memory asks for it."""
    wanted = {1: 10**9, 2: LEAST_STEPS, 3: LEAST_STEPS}
    yield candidate, wanted.get(candidate.batch, ENOUGH_STEPS)
    while candidate.batch > 1:
        candidate = candidate.halved()
        yield candidate, wanted.get(candidate.batch, ENOUGH_STEPS)


def sketch(scan: Scan, of: tuple[int, int], *, net: str, coarse: bool = False) -> Shape:
    """The candidate with `of` = (first width, voxels per patch), not timed yet; `coarse` lets it lie on a coarser grid."""
    base, voxels = of
    grid, why_grid = scan.reduced(voxels) if coarse else (scan, "")
    size, why = rules.patch(grid.shape, grid.spacing, voxels)
    size, kernels, strides, words = rules.topology(size, grid.spacing)
    made = Net(name=net, ndim=len(size), channels=rules.channels(len(strides), base, len(size)), kernels=kernels, strides=strides,
               prior=scan.prior)  # fmt: skip
    batch = max(4, process_rank()[1])
    few = "small batches: more steps in the same time"
    return Shape(grid.spacing, why_grid, size, why, made, f"{words}; width {base}", batch, few, UNKNOWN)


def timed(candidate: Shape, ends: tuple[int, int]) -> Shape:
    """`candidate` with what it costs on this machine."""
    where = device()
    shape = (candidate.batch, ends[0] + candidate.net.prior, *candidate.size)
    return replace(candidate, cost=measure(build(candidate.net, *ends), shape, where=where, kind=precision(where)[0]))


def work(candidate: Shape, ends: tuple[int, int]) -> float:
    """Multiplications of one step's convolutions, about: two per stage going down, two (the first twice as wide) going up."""
    net, total, voxels = candidate.net, 0.0, float(math.prod(candidate.size)) * candidate.batch
    before = ends[0] + net.prior
    for width, kernel, stride in zip(net.channels, net.kernels, net.strides, strict=True):
        voxels /= math.prod(stride)
        total += voxels * math.prod(kernel) * width * (before + width + 3 * width)
        before = width
    return total


def build(net: Net, in_channels: int, out_channels: int, *, seed: int = 0) -> Any:
    """The network that `net` names, its weights drawn from `seed`; of the planned features, kernels and strides it is given those
    that it takes, and all of `net.arguments`; its outputs start from `net.bias`, or from 0 where it corrects a prior."""
    kind = NETS[net.name]
    takes = inspect.signature(kind).parameters
    unknown = [name for name in net.arguments if name not in takes]
    if unknown:
        raise UsageError(
            suggest(unknown[0], [n for n, p in takes.items() if p.kind is p.KEYWORD_ONLY], f"argument of the network {net.name}")
        )
    planned = {"channels": net.channels, "kernels": net.kernels, "strides": net.strides}
    given = {name: value for name, value in planned.items() if value and name in takes}
    made = kind(net.ndim, in_channels + net.prior, out_channels, **{**given, **net.arguments})
    drawn = initialise(made, torch.Generator().manual_seed(seed))
    ready = silent(drawn) if net.prior else lean(drawn, net.bias)
    ready.prior = net.prior  # type: ignore[assignment]
    return ready
