"""From prepared pixels to classes: the networks of a run over tiles, as the plan says."""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vesalius.core.space import Array
from vesalius.data.prepare import Prepared
from vesalius.data.primed import with_odds
from vesalius.engine.extras import Extras
from vesalius.engine.outlines import kept, largest
from vesalius.engine.probabilities import on_scan
from vesalius.engine.stream import NOTHING, Kept, stream_labels
from vesalius.engine.tiles import Tiling, constant
from vesalius.nets._prior import corrected, seen
from vesalius.plan.plan import Plan

ALONE = Extras()


def callables(nets: Sequence[nn.Module], plan: Plan, device: str) -> list[Callable[[Tensor], Tensor]]:
    """Each network as a function of a batch of tiles, in evaluation mode and in the precision of the plan.

    Tiles carry the image, then the log odds for each of `nets` that corrects some, in their order."""
    layout = torch.channels_last_3d if plan.net.ndim == 3 else torch.channels_last
    low, channels = plan.train.precision == "bf16", plan.preparation.in_channels

    def wrap(net: nn.Module, start: int, prior: int) -> Callable[[Tensor], Tensor]:
        ready = net.to(device, memory_format=layout).eval()  # type: ignore[call-overload]

        def logits(tiles: Tensor) -> Tensor:
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=low):
                here = _own(tiles.to(device), channels, odds=slice(start, start + prior))
                out: Tensor = ready(seen(here, prior).contiguous(memory_format=layout))
                return corrected([out], here, prior)[0]

        return logits

    priors = [int(getattr(net, "prior", 0)) for net in nets]
    return [wrap(net, channels + sum(priors[:k]), priors[k]) for k, net in enumerate(nets)]


def _own(tiles: Tensor, channels: int, *, odds: slice) -> Tensor:
    """The image's `channels` of `tiles` and the `odds` of one network."""
    if odds.start == channels:
        return tiles if odds.stop == tiles.shape[1] else tiles[:, : odds.stop]
    return torch.cat([tiles[:, :channels], tiles[:, odds]], 1)


def tiling(plan: Plan) -> Tiling:
    """Tiles as the plan says; `predict.mirror` averages over every combination of the axes that are safe to
    mirror. A tile of one value (air below a CT window, masked background) is background without being asked about."""
    safe = [axis for axis, flip in enumerate(plan.augment.mirror) if flip]
    flips = tuple(combo for n in range(1, len(safe) + 1) for combo in combinations(safe, n)) if plan.predict.mirror else ()
    return Tiling(patch=plan.patch.size, overlap=plan.predict.overlap, batch=plan.predict.batch, mirror=flips,
                  skip=constant if plan.predict.skip_air else None)  # fmt: skip


def classes(
    networks: Sequence[Callable[[Tensor], Tensor]],
    pixels: Array,
    shape: tuple[int, ...],
    *,
    plan: Plan,
    device: str,
    also: Kept = NOTHING,
) -> NDArray[np.uint8]:
    """`pixels` (C, *S) as classes on a grid of `shape` over the same field of view: (1, *shape) indices or (K, *shape) 0/1;
    `also` is what is made beside them."""
    network = networks[0] if len(networks) == 1 else list(networks)
    return stream_labels(network, pixels, shape, tiling=tiling(plan), exclusive=plan.labels.exclusive,
                         kept=also, device=device)  # fmt: skip


def answer(
    networks: Sequence[Callable[[Tensor], Tensor]], prepared: Prepared, *, plan: Plan, device: str, extras: Extras = ALONE,
    probabilities: Path | None = None
) -> Array:
    """Classes of a prepared scan on the scan's own grid; `probabilities` names a .npy file for (K, *S) there."""
    image, shape = with_odds(prepared.image, extras.priors), prepared.native.shape
    sure = np.zeros((1 if plan.labels.exclusive else len(plan.labels.names), *shape), np.uint8) if extras.levels else None
    with on_scan(probabilities, prepared, exclusive=plan.labels.exclusive) as file:
        said = classes(networks, image, shape, plan=plan, device=device, also=Kept(file, sure))
    if sure is not None:
        said = kept(said, sure, extras.levels, labels=plan.labels)
    if extras.single:
        said = largest(said, extras.single, labels=plan.labels)
    return prepared.restore(said)
