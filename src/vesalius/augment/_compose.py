"""All transforms of a batch at once: every change of place is composed into one resampling, then values change.

One generator per sample draws everything of that sample, on the CPU, so a sample does not depend on its batch mates:
a joint batch split over processes gives the same samples. On the CPU samples are computed one by one and are identical to
the last bit; on an accelerator those that share a transform are computed together, with noise drawn on the device from a
seed that the sample's generator drew.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from vesalius.augment import AUGMENT, Augment, Frame, Intensity, Parameters, Spatial, Transform, stacked
from vesalius.augment._grey import changeable
from vesalius.augment._homogeneous import diagonal, product
from vesalius.augment._lines import Line, mix, take
from vesalius.augment._places import Shown, show
from vesalius.augment._sampling import Look, Places, sample
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.batch import Batch, Kind

UNMOVED = (Kind.LABEL,)
LARGEST_MARGIN = 0.5  # of the patch
COVERED = 0.95  # of samples look nowhere outside the margin
TRIALS = 400


@dataclass(frozen=True)
class Draw:
    """What was drawn for one sample: places as one homogeneous `matrix` (millimetre-like, output to input) and the
    parameters of fields; values as parameters of each image by name. Transforms are named by their place in the list."""

    matrix: Tensor
    fields: dict[int, Parameters]
    values: dict[str, dict[int, Parameters]]


class Composed:
    """`settings` for patches of the shape `patch` with `spacing` in millimetres (only its ratios matter); the last `constant` channels of
    an image are moved with it, but their values stay."""

    def __init__(self, settings: Augment, patch: tuple[int, ...], spacing: tuple[float, ...], *, constant: int = 0) -> None:
        if len(patch) != len(spacing) or min(spacing) <= 0:
            raise UsageError(f"Expected one spacing above 0 for each side of the patch {patch}; got {spacing}.")
        for name in settings.further:
            AUGMENT.card(name)  # a wrong name is an error
        self.one_by_one: bool | None = None  # None: on the CPU
        finest = min(spacing)
        self.settings, self.constant = settings, constant
        self.frame = Frame(channels=1, shape=tuple(patch), spacing=tuple(step / finest for step in spacing))
        planned = [AUGMENT[name].from_settings(settings, self.frame) for name in AUGMENT]
        known: list[Transform] = sorted((t for t in planned if t is not None), key=lambda t: t.order)
        self.spatial = [t for t in known if isinstance(t, Spatial)]
        self.intensity = [t for t in known if isinstance(t, Intensity)]

    def margin(self) -> tuple[int, ...]:
        """Voxels by which a source should be larger than the patch, even along each axis, so that 95 % of samples look
        nowhere outside (their corners included); at most half of the patch."""
        shape, steps = torch.tensor(self.frame.shape).double(), torch.tensor(self.frame.spacing).double()
        generator = torch.Generator().manual_seed(0)
        matrices = self._matrices([self._drawn(self.spatial, generator, self.frame) for _ in range(TRIALS)])
        reach = sum(t.reach(self.frame) for t in self.spatial)
        linear = (matrices[:, :-1, :-1] * steps / steps[:, None]).abs()
        need = 2 * (linear @ (shape / 2) + matrices[:, :-1, -1].abs() / steps + reach / steps) - shape
        need = torch.quantile(need, COVERED, dim=0)
        allowed = [min(n, LARGEST_MARGIN * p) for n, p in zip(need.tolist(), self.frame.shape, strict=True)]
        return tuple(max(0, 2 * math.ceil(n / 2 - 1e-6)) for n in allowed)

    def draw(self, seed: int, channels: dict[str, int]) -> Draw:
        """Everything that is random about one sample with images of so many `channels` by name."""
        return self.draws([seed], channels)[0]

    def draws(self, seeds: Sequence[int], channels: dict[str, int]) -> list[Draw]:
        """The same of several samples, each from its own generator."""
        frames = {name: Frame(number, self.frame.shape, self.frame.spacing) for name, number in channels.items()}
        bent = {place for place, transform in enumerate(self.spatial) if transform.reach(self.frame)}
        generator, places, values = torch.Generator(), [], []
        for seed in seeds:
            generator.manual_seed(seed)  # a generator of its own, for it forgets what was drawn before
            places.append(self._drawn(self.spatial, generator, self.frame))
            values.append({name: self._drawn(self.intensity, generator, frame) for name, frame in frames.items()})
        fields = [{place: parameters for place, parameters in drawn.items() if place in bent} for drawn in places]
        return [Draw(*each) for each in zip(self._matrices(places), fields, values, strict=True)]

    @staticmethod
    def _drawn(transforms: Sequence[Transform], generator: torch.Generator, frame: Frame) -> dict[int, Parameters]:
        """Parameters of those that act, by their place; all chances are tossed at once."""
        tossed = torch.rand(len(transforms), generator=generator).tolist()
        acting = [place for place, (toss, one) in enumerate(zip(tossed, transforms, strict=True)) if toss < one.probability]
        return {place: transforms[place].parameters(generator, frame) for place in acting}

    def _matrices(self, places: list[dict[int, Parameters]]) -> Tensor:
        """The composed changes of place of several samples (B, n + 1, n + 1)."""
        found = []
        for drawn in places:
            changes = [self.spatial[place].rows(parameters, self.frame) for place, parameters in drawn.items()]
            found.append(reduce(product, changes) if changes else diagonal((1.0,) * self.frame.ndim))
        return torch.from_numpy(np.array(found, np.float64))

    def __call__(self, batch: Batch, seeds: list[int]) -> Batch:
        """IMAGE (B, C, *L) and MASK (B, K, *L), L at least the patch, as they look after all changes, at the patch's shape."""
        self._check(batch)
        if len(seeds) != len(batch):
            raise VesaliusError(f"Expected one seed for each of {len(batch)} samples; got {len(seeds)}.")
        channels = {name: batch[name].shape[1] - self.constant for name in batch.of(Kind.IMAGE)}
        draws = self.draws(seeds, channels)
        moved = self._moved(batch, draws)
        for name, number in channels.items():
            self._change_values(moved[name][:, :number], [draw.values[name] for draw in draws])
        return batch.mapped(lambda name, tensor: moved[name].to(tensor.dtype) if name in moved else tensor)

    def identity(self, batch: Batch) -> Batch:
        """The centre of each sample at the patch's shape, nothing changed; for validation."""
        self._check(batch)
        return batch.mapped(lambda name, tensor: tensor if batch.kinds[name] in UNMOVED else self._centre(tensor).contiguous())

    def _check(self, batch: Batch) -> None:
        shapes = set()
        for name, tensor in batch.tensors.items():
            kind = batch.kinds[name]
            if kind not in (Kind.IMAGE, Kind.MASK, *UNMOVED):
                raise VesaliusError(f"Augmentation moves images and masks; {name!r} is of kind {kind}. Leave it out of the batch.")
            if kind not in UNMOVED:
                shapes.add(tuple(tensor.shape[2:]))
        patch = self.frame.shape
        if len(shapes) != 1 or any(len(s) != len(patch) or any(a < b for a, b in zip(s, patch, strict=True)) for s in shapes):
            raise VesaliusError(
                f"Expected images and masks of one shape, at least the patch {patch}; got {sorted(shapes)}. Pad them first."
            )

    def _centre(self, tensor: Tensor) -> Tensor:
        for axis, side in enumerate(self.frame.shape, start=tensor.ndim - self.frame.ndim):
            tensor = tensor.narrow(axis, (tensor.shape[axis] - side) // 2, side)
        return tensor

    def _moved(self, batch: Batch, draws: list[Draw]) -> dict[str, Tensor]:
        names = batch.of(Kind.IMAGE) + batch.of(Kind.MASK)
        moved, where = {name: _empty(batch[name], self.frame.shape) for name in names}, batch[names[0]].device
        alone = self._alone(where)
        if alone and self._shown(batch, moved, draws):
            return moved
        in_runs, turned = alone and in_space(batch[names[0]]), []
        for row, draw in enumerate(draws):
            looks = [Look(batch[name][row], moved[name][row], batch.kinds[name] == Kind.MASK) for name in names]
            axes = None if draw.fields else mirrored(draw.matrix)
            if axes is not None:
                self._turn_over(looks, axes)
            elif alone and not draw.fields and along_axes(draw.matrix):
                self._sample_along(looks, draw)
            elif in_runs:
                sample(looks, self._places_in_space(draw, looks[0].sample.shape[1:]), outside=self.settings.outside)
            else:
                turned.append(row)
        for rows in self._together(turned, where):
            grid = self._grid([draws[row] for row in rows], batch[names[0]].shape[2:], where)
            for name in names:
                _put(moved[name], rows, self._sampled(_take(batch[name], rows), grid, batch.kinds[name]))
        return moved

    def _shown(self, batch: Batch, moved: dict[str, Tensor], draws: list[Draw]) -> bool:
        """Whether a kernel has filled what is moved."""
        shown = [Shown(batch[name], out, batch.kinds[name] == Kind.MASK) for name, out in moved.items()]
        displaced = (self._displacement([draw], torch.device("cpu")) if draw.fields else None for draw in draws)
        fields = [None if field is None else field[0] for field in displaced]
        matrices = [draw.matrix for draw in draws]
        return show(shown, matrices, fields, spacing=self.frame.spacing, outside=self.settings.outside)

    def _turn_over(self, looks: list[Look], axes: list[int]) -> None:
        """Mirror the centre of one sample."""
        for look in looks:
            centre = self._centre(look.sample)
            look.out.copy_(centre.flip([axis + 1 for axis in axes]) if axes else centre)

    def _sample_along(self, looks: list[Look], draw: Draw) -> None:
        """Sample one sample along one axis after another."""
        source, fading = looks[0].sample.shape[1:], self.settings.outside == "zeros"
        places = self._places_along(draw.matrix, source)
        lines = [Line.of(place, side, fading=fading) for place, side in zip(places, source, strict=True)]
        for look in looks:
            if look.nearest:
                look.out.copy_(nearest_along(look.sample, places))
            else:
                mix(look.sample.to(look.out.dtype), lines, look.out)

    def _sampled(self, tensor: Tensor, grid: Tensor, kind: Kind) -> Tensor:
        values = tensor if tensor.dtype == torch.float64 else tensor.float()
        if kind == Kind.MASK:
            return grid_sample(values, grid.to(values), mode="nearest", padding_mode="zeros", align_corners=False)
        return grid_sample(values, grid.to(values), mode="bilinear", padding_mode=self.settings.outside, align_corners=False)

    def _places_in_space(self, draw: Draw, source: Sequence[int]) -> Places:
        """In which voxel of the source each voxel of the patch looks."""
        patch, steps, matrix = np.array(self.frame.shape), np.array(self.frame.spacing), draw.matrix.numpy()
        linear = matrix[:-1, :-1] * steps / steps[:, None]
        start = (np.array(source) - patch) // 2
        offset = matrix[:-1, -1] / steps + start + (patch - 1) / 2 - linear @ ((patch - 1) / 2)
        field = self._displacement([draw], torch.device("cpu"))
        if field is not None:
            field = field[0] / torch.tensor(self.frame.spacing).reshape(-1, *(1,) * len(steps))
        return Places(torch.from_numpy(linear), torch.from_numpy(offset), self.frame.shape, field)

    def _grid(self, draws: list[Draw], source: Sequence[int], device: torch.device) -> Tensor:
        """(B, *patch, n): where each voxel looks, as `grid_sample` counts (-1 ... 1 from edge to edge, last axis first)."""
        patch, steps = torch.tensor(self.frame.shape).double(), torch.tensor(self.frame.spacing).double()
        sides = torch.tensor(source).double()
        start = torch.tensor([(have - want) // 2 for have, want in zip(source, self.frame.shape, strict=True)])
        matrix = torch.stack([draw.matrix for draw in draws])
        linear = (matrix[:, :-1, :-1] * (steps * patch) / (steps * sides)[:, None]).flip(1)
        offset = matrix[:, :-1, -1] * 2 / (steps * sides) + (2 * start + patch) / sides - 1
        parts = [offset.flip(-1).reshape(len(draws), *(1,) * self.frame.ndim, -1).float().to(device)]
        for axis, side in enumerate(self.frame.shape):
            places = (2 * torch.arange(side).double() + 1) / side - 1
            part = (places[:, None] * linear[:, None, :, axis]).float().to(device)  # (B, side, n)
            parts.append(part.reshape(len(draws), *(side if i == axis else 1 for i in range(self.frame.ndim)), -1))
        grid = _total(parts)
        fields = self._displacement(draws, device)
        if fields is not None:
            grid += (fields.movedim(1, -1) * (2 / (steps * sides)).float().to(device)).flip(-1)
        return grid

    def _places_along(self, matrix: Tensor, source: Sequence[int]) -> list[Tensor]:
        """Per axis (side,): in which voxel of the source, counted from 0 and with fractions, each voxel of the patch looks."""
        found = []
        for axis, (have, want, step) in enumerate(zip(source, self.frame.shape, self.frame.spacing, strict=True)):
            slope, shift = float(matrix[axis, axis]), float(matrix[axis, -1])
            middle = np.arange(want) - (want - 1) / 2
            found.append(torch.from_numpy(middle * slope + (shift / step + (have - want) // 2 + (want - 1) / 2)))
        return found

    def _displacement(self, draws: list[Draw], device: torch.device) -> Tensor | None:
        total = None
        for place, transform in enumerate(self.spatial):
            rows = [row for row, draw in enumerate(draws) if place in draw.fields]
            if not rows:
                continue
            field = transform.displacement(stacked([draws[row].fields[place] for row in rows], device), self.frame)
            if field is not None:
                total = torch.zeros(len(draws), self.frame.ndim, *self.frame.shape, device=device) if total is None else total
                total[rows] += field
        return total

    def _change_values(self, image: Tensor, values: list[dict[int, Parameters]]) -> None:
        if self._alone(image.device):  # one sample after the other, copied back once
            for one, drawn in zip(image, values, strict=True):
                changed = self._changed(one, drawn)
                if changed is not one:
                    one.copy_(changed)
            return
        for place, transform in enumerate(self.intensity):
            rows = [row for row, drawn in enumerate(values) if place in drawn]
            if rows:
                parameters = stacked([values[row][place] for row in rows], image.device)
                _put(image, rows, transform.apply(_take(image, rows), parameters))

    def _changed(self, sample: Tensor, drawn: dict[int, Parameters]) -> Tensor:
        """What becomes of one sample (C, *S): itself, where all that was drawn for it is done where it lies."""
        for place, parameters in drawn.items():
            transform = self.intensity[place]
            if not (changeable(sample) and transform.change(sample, parameters)):
                sample = transform.apply(sample[None], stacked([parameters], sample.device))[0]
        return sample

    def _together(self, rows: list[int], device: torch.device) -> list[list[int]]:
        """Rows that are computed in one go: each alone on the CPU, so that it cannot depend on the others; all elsewhere."""
        return [[row] for row in rows] if self._alone(device) else [rows] * bool(rows)

    def _alone(self, device: torch.device) -> bool:
        return device.type == "cpu" if self.one_by_one is None else self.one_by_one


def mirrored(matrix: Tensor) -> list[int] | None:
    """Axes that `matrix` mirrors where it does nothing else; None where it does more."""
    rows = matrix.tolist()
    if any(abs(value) != (column == number) for number, row in enumerate(rows) for column, value in enumerate(row)):
        return None
    return [axis for axis, row in enumerate(rows) if row[axis] < 0]


def along_axes(matrix: Tensor) -> bool:
    """Whether `matrix` scales, shifts and mirrors a volume along its axes alone: three samplings along lines then take less time than one
    in space (benchmarks/levers.py). In a plane two take longer than one."""
    rows = matrix[:-1, :-1].tolist()
    return len(rows) == 3 and not any(value for number, row in enumerate(rows) for column, value in enumerate(row) if column != number)


def in_space(tensor: Tensor) -> bool:
    """Whether `sample` takes less time than `grid_sample`: in a volume it does, in a plane `grid_sample` works on whole registers."""
    return tensor.ndim == 5 and tensor.dtype != torch.float64


def nearest_along(sample: Tensor, places: list[Tensor]) -> Tensor:
    """The voxels of `sample` (C, *L) nearest to where each axis looks at its `places`; 0 outside."""
    for axis, (place, side) in enumerate(zip(places, sample.shape[1:], strict=True), start=1):
        voxels = np.rint(place.numpy()).astype(np.int64)
        held = voxels.clip(0, side - 1)
        sample = take(sample, axis, torch.from_numpy(held))
        if (held != voxels).any():
            sample.index_fill_(axis, torch.from_numpy(np.flatnonzero(held != voxels)), 0)
    return sample


def _total(parts: list[Tensor]) -> Tensor:
    """The sum of parts (..., n) that are spread over each other; pairs are added as complex numbers, which torch does six times as fast."""
    if parts[0].shape[-1] == 2:
        return torch.view_as_real(reduce(torch.add, map(torch.view_as_complex, parts)))
    return reduce(torch.add, parts)


def _empty(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Room for `tensor` at the patch's shape; half precision is computed in single."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return torch.empty(*tensor.shape[:2], *shape, dtype=torch.float32 if half else tensor.dtype, device=tensor.device)


def _take(tensor: Tensor, rows: list[int]) -> Tensor:
    """Those samples; a view where it is only one."""
    return tensor[rows[0] : rows[0] + 1] if len(rows) == 1 else tensor[rows]


def _put(tensor: Tensor, rows: list[int], values: Tensor) -> None:
    if len(rows) == 1:
        tensor[rows[0] : rows[0] + 1] = values
    else:
        tensor[rows] = values.to(tensor.dtype)
