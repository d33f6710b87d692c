"""From a network and a volume to labels on the output grid, row by row: nothing of size classes x volume is ever kept.

Tiles (`engine/tiles.py`) are computed layer by layer along one axis. Their logits are summed in a rolling buffer one patch
thick; rows that no later tile touches are interpolated linearly to the output rows that they support, decided (largest
logit, or a threshold per region) and dropped. Interpolation before the decision, as in nnU-Net (Isensee et al. 2021), and
edge to edge: model index = (output index + 1/2) * model side / output side - 1/2.

Shapes: (b, C, *patch) into the network, (b, K, *patch) out of it, (K, *S) with T rows along the streaming axis in the
buffer, (R, *plane) for R rows of one class.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.space import Array
from vesalius.engine import cells
from vesalius.engine.candidates import Winners, pays
from vesalius.engine.lines import line
from vesalius.engine.parts import Parts
from vesalius.engine.probabilities import Probabilities, filled
from vesalius.engine.rolling import Grid, Rolling, argmax_with_odds, coded, laid_out, running_argmax
from vesalius.engine.tiles import ArraySource, Cut, Index, Piece, Tiling, VolumeSource, ahead, buffer_bytes, pieces

Network = Callable[[Tensor], Tensor]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Kept:
    """What is made beside labels: `probabilities`, a .npy file for float16 (K, *output_shape), written as the rows come; `certainty`, an
    array of the form of the labels that is filled with how certain each of them is (see `coded`)."""

    probabilities: Path | None = None
    certainty: Array | None = None


NOTHING = Kept()


def stream_labels(
    network: Network | Sequence[Network],
    volume: VolumeSource | Array,
    output_shape: tuple[int, ...],
    *,
    tiling: Tiling,
    exclusive: bool,
    progress: Progress | None = None,
    kept: Kept = NOTHING,
    device: str | torch.device = "cpu",
) -> Array:
    """Labels of `volume` (a source, or an array (C, *S)) on a grid of `output_shape` with the same field of view, uint8:
    (1, *output_shape) class numbers where `exclusive` (softmax classes, 0 = background), else (K, *output_shape) 0 / 1.

    `network` takes float32 (b, C, *patch) on `device` and gives logits (b, K, *patch); of several networks, and of mirrored
    passes, the mean of the logits counts. `progress(done, all)` is told after each batch of tiles.
    `kept` is what else is made.
    """
    source = ArraySource(volume) if isinstance(volume, np.ndarray) else volume
    cut = Cut(source.shape, tiling)
    if len(output_shape) != len(cut.shape) or min(output_shape) < 1:
        raise UsageError(f"The output grid {output_shape} does not suit a volume {cut.shape}: they need the same number of sides.")
    networks = [network] if callable(network) else list(network)
    predictor = _Predictor(networks, tiling.mirror, torch.device(device))
    target = _Target(cut, output_shape, exclusive, certainty=kept.certainty)
    return filled(kept.probabilities, lambda beside: _run(predictor, source, replace(target, beside=beside), progress=progress))


@dataclass(frozen=True)
class _Target:
    """What is to be made of a volume: labels on a grid of `shape`, probabilities in the file `beside` and `certainty` if wanted."""

    cut: Cut
    shape: tuple[int, ...]
    exclusive: bool
    beside: Path | None = None
    certainty: Array | None = None


def _run(predictor: "_Predictor", source: VolumeSource, target: _Target, *, progress: Progress | None) -> Array:
    """The labels of `target`."""
    export: _Export | _Swift | None = None
    done = 0
    with torch.inference_mode():
        for piece in ahead(pieces(source, target.cut)):
            if piece.images is not None:
                logits = predictor(piece.images)
                export = export or _export(target, logits.shape[1], predictor.device)
                export.add(piece.tiles, logits)
                del logits  # the next call of the network needs its room
            assert export is not None  # the first tile is never air
            export.add_air(piece.air)
            export.flush(piece)
            done += len(piece.tiles) + len(piece.air)
            if progress is not None:
                progress(done, target.cut.count)
            del piece  # and what is read next need not lie beside it
    assert export is not None
    return export.labels


@dataclass(frozen=True)
class _Predictor:
    """Mean of the logits (b, K, *patch) over networks and mirrored passes."""

    networks: list[Network]
    mirror: tuple[tuple[int, ...], ...]
    device: torch.device

    def __call__(self, images: Array) -> Tensor:
        batch = torch.from_numpy(images)
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(self.device, non_blocking=True)
        passes = [(network, [2 + a for a in axes]) for network in self.networks for axes in ((), *self.mirror)]
        if len(passes) == 1:
            return self._logits(passes[0][0], batch)
        total: Tensor | None = None
        for network, axes in passes:
            logits = self._logits(network, batch.flip(axes)).flip(axes).float()
            total = logits.clone() if total is None else total.add_(logits)
        assert total is not None
        return total.div_(len(passes))

    @staticmethod
    def _logits(network: Network, batch: Tensor) -> Tensor:
        logits = network(batch)
        if logits.dim() != batch.dim() or (logits.shape[0], *logits.shape[2:]) != (batch.shape[0], *batch.shape[2:]):
            expected = f"({len(batch)}, K, {', '.join(map(str, batch.shape[2:]))})"
            raise VesaliusError(f"Expected logits of shape {expected} from the network; got {tuple(logits.shape)}.")
        return logits


def _export(target: _Target, classes: int, device: torch.device) -> "_Export | _Swift":
    """By the kernels where labels of exclusive classes are all that is wanted."""
    alone = target.exclusive and target.beside is None and target.certainty is None
    if alone and cells.suit(target.cut.tiling.precision, device.type, len(target.shape)):
        return _Swift(target, classes)
    return _Export(target, classes, device)


class _Swift:
    """The output side of one volume where the kernels make the labels (`engine/parts.py`)."""

    def __init__(self, target: _Target, classes: int) -> None:
        _thresholds((), classes, exclusive=True)
        self.labels: Array = np.empty((1, *target.shape), np.uint8)
        self.parts = Parts(target.cut, classes, self.labels[0], threads=torch.get_num_threads())

    def add(self, tiles: list[Index], logits: Tensor) -> None:
        """`logits` (b, K, *patch) of `tiles`."""
        for index, tile in zip(tiles, logits, strict=True):
            self.parts.add(index, laid_out(tile))

    def add_air(self, tiles: list[Index]) -> None:
        """Background where `tiles` are."""
        for index in tiles:
            self.parts.add_air(index)

    def flush(self, piece: Piece) -> None:
        """Decide what is final after `piece`."""
        self.parts.after(piece)


class _Export:
    """The output side of one volume: rolling sums in, decided rows out."""

    def __init__(self, target: _Target, classes: int, device: torch.device) -> None:
        self.cut, self.exclusive, self.classes = target.cut, target.exclusive, classes
        self.thresholds = _thresholds(self.cut.tiling.thresholds, classes, target.exclusive)
        home = _place(device, buffer_bytes(self.cut.shape, classes, self.cut.tiling))
        self.rolling = Rolling(self.cut, classes, exclusive=target.exclusive, device=home)
        self.grid = Grid(self.cut, target.shape, home)
        self.labels: Array = np.empty((1 if self.exclusive else classes, *target.shape), np.uint8)
        self.file = Probabilities(target.beside, (classes, *target.shape)) if target.beside is not None else None
        self.certainty = target.certainty
        self.done = 0  # output rows that are decided
        self.chunk = self.grid.chunk()
        self.winners = self._winners(home) if target.exclusive else None
        if self.file is not None:  # every class at once
            self.chunk = min(self.chunk, self.file.rows(self.cut.axis))

    def _winners(self, home: torch.device) -> Winners | None:
        """Where labels alone are wanted, and on a finer grid: a GPU interpolates every class as fast as it picks some."""
        old, new = self.cut.shape, self.labels.shape[1:]
        if self.file is not None or self.certainty is not None or home.type != "cpu" or not pays(old, new):
            return None
        nearest = self.cut.tiling.nearest
        lines = [line(a, b, nearest=axis in nearest) for axis, (a, b) in enumerate(zip(old, new, strict=True))]
        return Winners(self.rolling, lines, self.labels)

    def add(self, tiles: list[Index], logits: Tensor) -> None:
        """`logits` (b, K, *patch) of `tiles`."""
        for index, tile in zip(tiles, logits, strict=True):
            self.rolling.add(index, tile)

    def add_air(self, tiles: list[Index]) -> None:
        """Background where `tiles` are."""
        for index in tiles:
            self.rolling.add_air(index)

    def flush(self, piece: Piece) -> None:
        """Decide every output row that the model rows below the final one support, and drop what no later one needs."""
        final = piece.final
        grid, stop = self.grid, self.grid.ready(final)
        if self.winners is not None and stop > self.done:
            self.winners.decide(slice(self.done, stop))
            self.done = stop
        for first in range(self.done, stop, self.chunk):
            span = slice(first, min(first + self.chunk, stop))
            values: Iterable[Tensor] = (grid.resample(self.rolling, number, span) for number in range(self.classes))
            if self.file is not None:
                values = torch.stack(list(values))
                share = values.softmax(0) if self.exclusive else values.sigmoid()
                place = (slice(None), *[slice(None)] * self.cut.axis, span)
                self.file.write(share.movedim(1, 1 + self.cut.axis).half().cpu().numpy(), place)
            self._decide(values, span)
        self.done = max(self.done, stop)
        if final < self.cut.shape[self.cut.axis]:
            self.rolling.release(min(final, grid.needed(self.done)))

    def _decide(self, values: Iterable[Tensor], span: slice) -> None:
        """Labels of the output rows `span` from `values`, (R, *plane) for each class in turn."""
        axis = self.cut.axis
        target = torch.from_numpy(self.labels).narrow(1 + axis, span.start, span.stop - span.start)
        sure = None if self.certainty is None else torch.from_numpy(self.certainty).narrow(1 + axis, span.start, span.stop - span.start)
        if self.exclusive:
            if sure is None:
                target[0].copy_(running_argmax(values).movedim(0, axis))
                return
            number, odds = argmax_with_odds(values)
            target[0].copy_(number.movedim(0, axis))
            sure[0].copy_(coded(odds).movedim(0, axis))
            return
        for region, (value, threshold) in enumerate(zip(values, self.thresholds, strict=True)):
            target[region].copy_((value > threshold).movedim(0, axis))
            if sure is not None:
                sure[region].copy_(coded(value).movedim(0, axis))


def _thresholds(probabilities: tuple[float, ...], classes: int, exclusive: bool) -> list[float]:
    """As logits, one per region."""
    if exclusive:
        if not 2 <= classes <= 256:
            raise VesaliusError(f"Exclusive labels in 8 bits need 2 to 256 classes; the network gives {classes}.")
        return []
    probabilities = probabilities or (0.5,) * classes
    if len(probabilities) != classes:
        raise UsageError(f"Tiling.thresholds holds {len(probabilities)} numbers for {classes} regions. Give one for each.")
    return [math.log(p / (1 - p)) for p in probabilities]


def _place(device: torch.device, size: int) -> torch.device:
    """Where `size` bytes of sums live: on the device, unless that would fill more than half of what a GPU has free."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if size < free / 2 else torch.device("cpu")
