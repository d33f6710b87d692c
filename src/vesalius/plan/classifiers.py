"""What a network of whole cases is given so that it takes the images of a data set: one named rule for each argument that needs one.

A rule belongs to an argument, not to a network: whichever has `sides`, `patch`, `slices`, `stem` or `scale` is served. What the user
gives stands. Arguments that a card states under "volumes" are planned for images of three axes.
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

from vesalius.core.errors import UsageError, suggest
from vesalius.core.settings import Settings, parse_value
from vesalius.nets import NETS
from vesalius.tasks import Task

HEARD = ("net.name", "net.arguments", "patch.size")  # settings that planning itself goes by
SMALL = {2: 64, 3: 31}  # voxels along the longest side up to which the first layers keep the size
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


def arguments(name: str, size: tuple[int, ...], own: Own, *, scale: float = 1.0) -> dict[str, Any]:
    """Everything that the network is built with for the grid `size`, every width times `scale`."""
    found, card = takes(name), NETS.card(name)
    made: dict[str, Any] = dict((card.facts or {}).get("volumes", {})) if len(size) == 3 else {}
    if "sides" in found:
        made["sides"] = list(size)
    if "patch" in found:
        made["patch"] = list(patch(name, size, own))
    if "slices" in found and len(size) == 3:
        made["slices"] = size[0]
    if "stem" in found and not own.begun and is_small(name, size, own):
        made["stem"] = "small"
    if "scale" in found and scale != 1:
        made["scale"] = scale
    return {**made, **own.arguments}


def is_small(name: str, size: tuple[int, ...], own: Own) -> bool:
    """Whether what goes through the first layers is so small that they should keep its size."""
    found = takes(name)
    by_slice = len(size) == 3 and (NETS.card(name).ndim == (3,) or "slices" in found)
    seen = size[1:] if by_slice else size
    cut = own.arguments.get("grid", found["grid"].default if "grid" in found else 1)
    return bool(max(seen) / max(1, cut) <= SMALL[len(seen)])


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
