"""What a network of whole cases is given so that it takes the images of a data set: one named rule for each argument that needs one.

A rule belongs to an argument, not to a network: whichever has `sides`, `patch`, `slices`, `stem` or `scale` is served. What the user
gives stands. Arguments that a card states under "volumes" are planned for images of three axes.
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vesalius.core.errors import UsageError, suggest
from vesalius.core.settings import Settings
from vesalius.core.values import parse_value
from vesalius.nets import NETS
from vesalius.tasks import Task

HEARD = ("net.name", "net.arguments", "patch.size")  # settings that planning itself goes by
SMALL = {2: 64, 3: 31}  # voxels along the longest side up to which the first layers keep the size
PUBLISHED = 32  # voxels along a side, from which on the published first layers leave one
THICK = 1.3  # times the smallest spacing the largest is, from which on slices are known to lie along it
PATCHES = ((128, 16), (64, 8), (0, 4))  # (longest side from which on, side of a patch)
LEAST_SCALE = 0.25  # of every width
RATE, RATE_OF_ATTENTION = 2e-3, 5e-4


class Own(Settings):
    """What the user has said of the network: its name, some of its arguments, the grid; `begun` where it begins from learned weights,
    which fit the published form alone."""

    name: str = ""
    arguments: dict[str, Any] = {}
    size: tuple[int, ...] = ()
    begun: bool = False

    @classmethod
    def of(cls, settings: Sequence[str]) -> "Own":
        """Out of the words of `--set`."""
        said = {text.partition("=")[0].strip(): parse_value(text.partition("=")[2].strip()) for text in settings}
        words = {"name": "net.name", "arguments": "net.arguments", "size": "patch.size", "begun": "train.init"}
        tree = {ours: said[theirs] for ours, theirs in words.items() if theirs in said}
        return cls.checked({**tree, "begun": bool(tree.get("begun"))}, where="--set net.name, net.arguments, patch.size")


def chosen_name(own: Own, task: Task, ndim: int) -> str:
    """The network that is asked for, or the best of the task; an error where it is none for these images."""
    name = own.name or task.nets[0]
    if name not in task.nets:
        raise UsageError(suggest(name, task.nets, "network for this task"))
    card = NETS.card(name)
    if ndim not in card.ndim:
        others = [other for other in task.nets if ndim in NETS.card(other).ndim]
        raise UsageError(f"{card.title} takes images of {' or '.join(map(str, card.ndim))} axes; these have {ndim}. "
                         f"Choose one of {', '.join(others)}: --set net.name={others[0]}")  # fmt: skip
    return name


def accepted(name: str, size: tuple[int, ...], own: Own) -> tuple[int, ...]:
    """The grid nearest to `size`, no smaller, that the network takes: whole patches where it cuts the image into some."""
    return tuple(p * math.ceil(side / p) for side, p in zip(size, patch(name, size, own), strict=True))


def patch(name: str, size: tuple[int, ...], own: Own) -> tuple[int, ...]:
    """Voxels of a patch per axis, shorter across a thin axis; 1 where the network does not cut the image into patches."""
    found = takes(name)
    if "patch" not in found:
        return (1,) * len(size)
    given = own.arguments.get("patch", found["patch"].default if own.begun else None)
    if given is None:
        side = next(p for longest, p in PATCHES if max(size) >= longest)
        return tuple(min(side, s) for s in size)
    if isinstance(given, int):
        return (given,) * len(size)
    return tuple(given) if len(given) == len(size) else (1,) * len(size)  # the network says what is wrong with it


def arguments(name: str, size: tuple[int, ...], own: Own, *, scale: float = 1.0, quick: bool = False) -> dict[str, Any]:
    """Everything that the network is built with for the grid `size`, every width times `scale`; with `quick` the published first layers,
    which shrink the image at once, where it is large enough for them."""
    found, card = takes(name), NETS.card(name)
    made: dict[str, Any] = dict((card.facts or {}).get("volumes", {})) if len(size) == 3 else {}
    if "sides" in found:
        made["sides"] = list(size)
    if "patch" in found:
        made["patch"] = list(patch(name, size, own))
    if "slices" in found and len(size) == 3:
        made["slices"] = size[0]
    if "grid" in found and pieces(name, size, own) != found["grid"].default:
        made["grid"] = pieces(name, size, own)
    if "stem" in found and not own.begun and is_small(name, size, own) and not (quick and can_hurry(name, size, own)):
        made["stem"] = "small"
    if "scale" in found and scale != 1:
        made["scale"] = scale
    return {**made, **own.arguments}


def is_small(name: str, size: tuple[int, ...], own: Own) -> bool:
    """Whether what goes through the first layers is so small that they should keep its size."""
    seen = seen_at_once(name, size, own)
    return bool(max(seen) <= SMALL[len(seen)])


def can_hurry(name: str, size: tuple[int, ...], own: Own) -> bool:
    """Whether planning may give the published first layers to what is small: they are several times as fast."""
    return "stem" in takes(name) and "stem" not in own.arguments and not own.begun and min(seen_at_once(name, size, own)) >= PUBLISHED


def seen_at_once(name: str, size: tuple[int, ...], own: Own) -> tuple[float, ...]:
    """Sides of what goes through the first layers: the image, one slice of it, or one of the pieces into which that is cut."""
    seen = size[1:] if by_slices(name) and len(size) == 3 else size
    return tuple(side / max(1, pieces(name, size, own)) for side in seen)


def pieces(name: str, size: tuple[int, ...], own: Own) -> int:
    """Into how many pieces a network with a `grid` cuts each side of a picture: its own number, fewer where pieces would be smaller than
    what published first layers take; 1 for other networks."""
    found = takes(name)
    if "grid" not in found:
        return 1
    most = int(found["grid"].default)
    return int(own.arguments.get("grid", most if own.begun else max(1, min(most, min(size[-2:]) // PUBLISHED))))


def by_slices(name: str) -> bool:
    """Whether the network takes a volume slice by slice, along its first axis."""
    return NETS.card(name).ndim == (3,) or "slices" in takes(name)


def lead(name: str, spacings: Sequence[Sequence[float]]) -> tuple[int, str]:
    """The axis of the scans that comes first, and why."""
    middle = np.median(np.array(spacings, float), 0)
    if len(middle) < 3 or not by_slices(name):
        return 0, "axes stay in their order"
    if middle.max() < THICK * middle.min():
        return 0, "the network looks at slices; voxels are as long along every axis, so they are taken along the first"
    axis = int(middle.argmax())
    return axis, f"the network looks at slices, and these are {middle[axis]:.3g} apart along axis {axis}, voxels in them {middle.min():.3g}"


def is_scalable(name: str, own: Own) -> bool:
    """Whether planning may make the network narrower."""
    return "scale" in takes(name) and "scale" not in own.arguments and not own.begun


def is_large(name: str) -> bool:
    """Whether a network may be far slower than the grid lets one expect: the published ones are, as their widths are for large pictures."""
    return "scale" in takes(name)


def rate(name: str) -> tuple[float, str]:
    """The peak of the learning rate, and why."""
    if "attention" in NETS.card(name).tags:
        return RATE_OF_ATTENTION, "networks of attention learn at smaller rates (DeiT: Touvron et al. 2021)"
    return RATE, "one-cycle peak for AdamW, chosen on validation data"


def reasons(name: str, own: Own, best: str) -> dict[str, str]:
    """Why this network and these arguments."""
    mine = f"set by the user ({', '.join(own.arguments)}); the rest fits the images" if own.arguments else ""
    found = {"net__arguments": mine or "as the images and the time allow: sides, patches, the first layers, widths"}
    if own.name:
        found["net__name"] = "set by the user"
    if name != best:
        found["net__channels"] = "the network's own"
    if not own.arguments and name == best:
        found["net__arguments"] = "none beyond these"
    return found | ({"patch__size": "set by the user"} if own.size else {})


def takes(name: str) -> dict[str, inspect.Parameter]:
    """The arguments of a network by name."""
    return dict(inspect.signature(NETS[name]).parameters)
