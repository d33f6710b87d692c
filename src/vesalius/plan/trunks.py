"""The network that learns without labels, and what it is shown: planned so that a run with labels can begin from it.

It is the network that would be planned for those labels: a U-Net where voxels have them (or where a method restores images), the usual
classifier otherwise, a vision transformer where a method asks for one. Views mirror and turn no further than the augmentation of whole
cases would, since sides matter in most of the body; tones with a meaning (CT) are changed less.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vesalius.data.dataset import Dataset
from vesalius.data.normalise import looks_like_hounsfield
from vesalius.nets import NETS
from vesalius.plan import classifiers, rules, whole
from vesalius.plan.methods import METHODS, takes
from vesalius.plan.plan import OWN, Net
from vesalius.tasks import TASKS

BASE, MOST_STAGES = 16, 6  # features of the first stage of a U-Net; stages
COARSEST = 4  # voxels of an axis that are not halved further
TRANSFORMER = {"size": "Ti", "scale": 0.5}  # of its width, for thousands of images rather than millions
TONES = {"brightness": 0.4, "contrast": 0.5, "gamma": 0.5}  # those of vesalius.methods._crops; of CT they are halved
SPREAD = 1.5  # times as far as an augmentation turns, two views of one image are turned apart


def arguments(method: str, given: Mapping[str, Any], *, dataset: Dataset, facts: Mapping[str, Any], size: Sequence[int]) -> dict[str, Any]:
    """The trunk and the views of `method` on the grid `size`, where it takes them; what is `given` stands, and completes the rest."""
    known, made = takes(method), dict(given)
    if "trunk" in known:
        made["trunk"] = trunk(method, dict(given.get("trunk") or {}), dataset=dataset, size=tuple(size))
    if "views" in known:
        made["views"] = {**views(dataset, facts, tuple(size)), **dict(given.get("views") or {})}
    return made


def trunk(method: str, own: dict[str, Any], *, dataset: Dataset, size: tuple[int, ...]) -> dict[str, Any]:
    """Name and arguments of the network, those of the user first."""
    name = own.pop("name", "") or usual(method, dataset)
    if "strides" in classifiers.takes(name):
        return {"name": name, **unet(size), **own}
    if name == "vit":
        return {"name": name, **TRANSFORMER, "sides": list(size), "patch": dividing(size), **own}
    made = classifiers.arguments(name, size, classifiers.Own(arguments=own))
    if "channels" in classifiers.takes(name) and "channels" not in made:
        made["channels"] = list(whole.channels(size))
    return {"name": name, **made}


def usual(method: str, dataset: Dataset) -> str:
    """The network that suits the method and what the images are labelled for."""
    tags = METHODS.card(method).tags
    if "dense" in tags or (dataset.labels.grain == "voxel" and dataset.labels.names and method != "mae"):
        return str(TASKS["segment"]().nets[0])
    return "vit" if method == "mae" else str(TASKS["classify"]().nets[0])


def unet(size: tuple[int, ...]) -> dict[str, Any]:
    """Features and strides of a U-Net that takes the whole grid: an axis is halved while it is even and long enough."""
    left, strides = list(size), [[1] * len(size)]
    while len(strides) < MOST_STAGES:
        step = [2 if side % 2 == 0 and side >= 2 * COARSEST else 1 for side in left]
        if max(step) == 1:
            break
        left = [side // s for side, s in zip(left, step, strict=True)]
        strides.append(step)
    return {"channels": list(rules.channels(len(strides), BASE, len(size))), "strides": strides}


def dividing(size: tuple[int, ...]) -> list[int]:
    """Sides of a patch: the largest that divide the grid, not above those that classifiers are planned with."""
    most = classifiers.patch("vit", size, classifiers.Own())
    return [max(p for p in range(1, top + 1) if side % p == 0) for side, top in zip(size, most, strict=True)]


def views(dataset: Dataset, facts: Mapping[str, Any], size: tuple[int, ...]) -> dict[str, Any]:
    """How far two views of one image differ."""
    augment, _ = whole.augment_rule(dataset, dict(facts), size)
    tones = 0.5 if all(looks_like_hounsfield(stats) for stats in facts["intensities"].values()) else 1.0
    made: dict[str, Any] = {"mirror": list(augment.mirror), "rotation": min(180.0, SPREAD * max(augment.rotation))}
    return made | {name: tones * value for name, value in TONES.items()}


def net(made: Mapping[str, Any], ndim: int) -> Net:
    """The trunk among the arguments of a method, as a plan names networks; a method's own where it has none."""
    if "trunk" not in made:
        return Net(name=OWN, ndim=ndim)
    words = dict(made["trunk"])
    shape = {name: words.pop(name) for name in ("channels", "kernels", "strides") if words.get(name)}
    for name in ("kernels", "strides"):
        shape |= {name: tuple((v,) * ndim if isinstance(v, int) else tuple(v) for v in shape[name])} if name in shape else {}
    return Net(name=words.pop("name"), ndim=ndim, arguments=words, **shape)


def reasons(made: Mapping[str, Any]) -> dict[str, str]:
    """Why this network and these views."""
    if "trunk" not in made:
        return {}
    name = made["trunk"]["name"]
    why = {"net__name": f"what a run with labels would be planned with: {NETS.card(name).title}; it can begin from this one",
           "net__arguments": "as the grid asks for; part of train.arguments", "train__arguments": "the trunk as the grid asks"}  # fmt: skip
    if "views" in made:
        mirrored = "every axis may be mirrored" if all(made["views"]["mirror"]) else "no axis is mirrored where sides matter"
        why["train__arguments"] += f"; views: {mirrored}, turned by up to {made['views']['rotation']:g} degrees"
    return why | {f"net__{part}": "as the grid asks for" for part in ("channels", "kernels", "strides")}
