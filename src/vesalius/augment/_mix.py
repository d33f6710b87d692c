"""Two whole cases in one: mixup blends their images, cutmix pastes a box of one into the other; the loss is shared out by the same part.

Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization, ICLR; Yun et al. 2019, CutMix, ICCV. As in both papers a batch has one part
and one permutation; ours draws them as a pure function of (seed, step) over the joint batch of all processes. In three dimensions the
sides of the box are the cube root of its part. The two losses are added, which for cross entropy is the loss of the mixed label and
works for every loss, also those of grades, findings and margins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, full_like

from vesalius.augment import Augment
from vesalius.core.errors import VesaliusError
from vesalius.data.batch import Batch, Kind

STREAM = 7  # apart from the streams of order and of augmentation


@dataclass(frozen=True)
class Mix:
    """What one step mixes: sample k of the joint batch keeps `share` of itself and takes the rest from sample `order[k]`; within `box`
    (one slice per axis) all of it, or everywhere a part where there is none."""

    order: NDArray[np.intp]
    share: float
    box: tuple[slice, ...] = ()


def mix_of(settings: Augment, key: tuple[int, int], *, size: int, shape: tuple[int, ...]) -> Mix | None:
    """The mix of the batch `key` = (seed, step) of `size` samples with sides `shape`; None where nothing is mixed. With both ways on,
    each batch takes one of them."""
    ways = [way for way in ("mixup", "cutmix") if getattr(settings, way)]
    if not ways:
        return None
    draw = np.random.default_rng((key[0], STREAM, key[1]))
    if draw.random() >= settings.mixing_probability:
        return None
    way = ways[int(draw.integers(len(ways)))]
    share, order = float(draw.beta(*(getattr(settings, way),) * 2)), draw.permutation(size)
    if way == "mixup":
        return Mix(order, share)
    box = box_of(1 - share, shape, draw)
    return Mix(order, 1 - float(np.prod([(s.stop - s.start) / side for s, side in zip(box, shape, strict=True)])), box)


def box_of(part: float, shape: tuple[int, ...], draw: np.random.Generator) -> tuple[slice, ...]:
    """A box of `part` of the volume, shaped like it, about a uniformly drawn voxel, cut off at the borders."""
    found = []
    for side in shape:
        length, middle = int(side * part ** (1 / len(shape))), int(draw.integers(side))
        found.append(slice(max(0, middle - length // 2), min(side, middle + length - length // 2)))
    return tuple(found)


def mixed(batch: Batch, mates: Batch, mix: Mix) -> Batch:
    """`batch` with a part of each image from the same row of `mates`; "mate" holds their targets, "share" (B,) what is left of the own."""
    if len(mates) != len(batch):
        raise VesaliusError(f"Expected a mate for each of {len(batch)} samples; got {len(mates)}.")
    made = batch.mapped(lambda name, tensor: _mixed(tensor, mates[name], mix) if batch.kinds[name] == Kind.IMAGE else tensor)
    target = batch["target"]
    share = full_like(target[:, 0], mix.share, dtype=batch[batch.of(Kind.IMAGE)[0]].dtype)
    return Batch({**made.tensors, "mate": mates["target"], "share": share}, {**made.kinds, "mate": Kind.LABEL, "share": Kind.LABEL})


def _mixed(image: Tensor, mate: Tensor, mix: Mix) -> Tensor:
    if not mix.box:
        return mix.share * image + (1 - mix.share) * mate
    out, inside = image.clone(), (slice(None), slice(None), *mix.box)
    out[inside] = mate[inside]
    return out
