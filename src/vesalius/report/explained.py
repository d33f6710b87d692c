"""Where a network looked: for a few cases that it named wrongly and rightly, a heat over the image, and whether it can be believed.

Where several networks answer a case together, the heat is the mean of theirs.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vesalius.core.errors import VesaliusError
from vesalius.core.space import Array
from vesalius.data.whole import read_whole
from vesalius.engine.run import Run
from vesalius.explain import EXPLAIN, Ensemble, Explanation, MeanHeat, overlay, randomisation_test
from vesalius.plan import Plan
from vesalius.report.cases import Picture
from vesalius.report.facts import Facts
from vesalius.report.pictures import View, draw

PREFERRED = ("grad_cam", "attention_rollout", "occlusion")  # the first that the network can be explained by
ROLES = {"most wrong": 3, "right, but unsure": 1, "right and sure": 2}  # cases of each
PLACES = 300  # answers that occlusion asks for, about
AT_ONCE = 1 << 21  # numbers in the images that occlusion asks about at once
SHOWING = 30.0  # seconds that the explanations of a report may take
PATIENCE = 10.0  # seconds that the test with random weights may take
THIN = 0.75  # of the longest side: volumes are cut across an axis that is shorter than that
MOST_CHANNELS = 3


def results(facts: Facts, chosen: Sequence[Picture]) -> dict[str, Any] | None:
    """{"pictures", "sentence", "method"} for some of the `chosen` cases; None where there is none."""
    some = [one for role, most in ROLES.items() for one in [c for c in chosen if c.role == role][:most]]
    if not some or facts.dataset is None:
        return None
    try:
        run = Run.open(facts.folder)
        nets = {member: answering(run, member) for member in {member_of(run, one.case) for one in some}}
        name, method = method_for(nets[member_of(run, some[0].case)], image_of(run, some[0].case), patience=SHOWING / len(some))
    except (VesaliusError, OSError) as problem:
        return {"pictures": [], "sentence": f"Where the network looked cannot be shown. {problem}", "method": ""}
    rows = {str(row["case"]): row for row in facts.rows}
    found = [picture(run, nets[member_of(run, one.case)], method, of=(one, rows[one.case])) for one in some]
    sentence = believed(run, nets[member_of(run, some[0].case)], method, case=some[0].case)
    return {"pictures": found, "sentence": sentence, "method": EXPLAIN.card(name).title}


def member_of(run: Run, case: str) -> Path | None:
    """The folder of the fold that validated on `case`, whose networks alone may answer it; None where all may."""
    folds = run.splits["folds"]
    return next((member for member, fold in zip(run.members, folds, strict=True) if case in fold["val"]), None)


def answering(run: Run, member: Path | None = None) -> nn.Module:
    """The network that answers in one fold, or in all; where there are several, all of them as one."""
    found = run.networks([member] if member else None)
    return Ensemble(found) if len(found) > 1 else found[0]


def first_of(net: nn.Module) -> nn.Module:
    """A network by itself: of several the first."""
    first: nn.Module = net.networks[0] if isinstance(net, Ensemble) else net
    return first


def meaned(method: Explanation, net: nn.Module) -> Explanation:
    """`method` for `net`: where that is several networks, the mean of their heats."""
    return MeanHeat(method) if isinstance(net, Ensemble) else method


def method_for(net: nn.Module, image: Tensor, *, patience: float) -> tuple[str, Explanation]:
    """The first preferred explanation that `net` can be explained by, whose heat tells places apart, within `patience` seconds."""
    for one in PREFERRED:
        method = made(one, image)
        if method.refusal(first_of(net)) or (one == PREFERRED[-1] and _seconds(net, image) * PLACES > patience):
            continue
        if not is_flat(meaned(method, net)(net, image)):
            return one, method
    raise VesaliusError(f"No way of explaining a {type(first_of(net)).__name__} tells places apart within {patience:.0f} s here. "
                        "Try one with vesalius explain RUN IMAGE -o looked.png --method occlusion")  # fmt: skip


def made(name: str, image: Tensor) -> Explanation:
    """The explanation `name`; occlusion with so few copies of `image` at once that they fit."""
    few = {"at_once": max(1, min(32, AT_ONCE // image.numel()))} if name == "occlusion" else {}
    found: Explanation = EXPLAIN[name](**few)
    return found


def is_flat(heat: Tensor) -> bool:
    """Whether a heat says nothing about where: it is the same everywhere, as that of a last map of a single voxel."""
    spread = float(heat.max() - heat.min())
    return spread <= 1e-4 * float(heat.abs().max())


@torch.no_grad()
def _seconds(net: nn.Module, image: Tensor) -> float:
    """Of one answer."""
    net.eval()
    since = time.monotonic()
    net(image)
    return time.monotonic() - since


def image_of(run: Run, case: str) -> Tensor:
    """(1, C, *S) as the network sees it."""
    pixels = read_whole(run.dataset.case(case), run.plan.preparation, run.plan.patch.size)
    return torch.from_numpy(np.ascontiguousarray(pixels, np.float32))[None]


def picture(run: Run, net: nn.Module, method: Explanation, *, of: tuple[Picture, dict[str, Any]]) -> Picture:
    """One case: each channel as the network sees it, and under the heat for what was said."""
    one, row = of
    said = str(row["said"])
    names = list(run.plan.labels.names)
    try:
        image = image_of(run, one.case)
        target = torch.tensor([names.index(said)]) if said in names else None
        heat = meaned(method, net)(net, image, target)
    except (VesaliusError, OSError) as problem:
        return Picture(one.role, one.case, one.score, one.scores, problem=str(problem))
    drawings = tuple(draw(view, ()) for view in views(image[0].numpy(), heat[0].numpy(), run.plan))
    none = "" if float(heat.max()) > 0 else "no place spoke for the answer"
    return Picture(one.role, one.case, one.score, one.scores, none, drawings)


def views(image: Array, heat: Array, plan: Plan) -> list[View]:
    """Image (C, *S) and heat (*S) as flat pictures: of volumes the slice with most heat, the patient's right on the left; a colour
    photograph is one channel."""
    names = list(plan.preparation.channels)
    planes = image.mean(0, keepdims=True) if len(names) == 1 else image
    flat, hot, words = cut(planes, heat)
    spacing = _in_plane(plan, heat.shape)
    found = []
    for number, plane in enumerate(flat[:MOST_CHANNELS]):
        title = names[number] if len(names) > 1 and len(names) == len(flat) else ""
        found.append(View(f"{title}{words}".strip(", "), plane, None, None, spacing))
        found.append(View("where it looked", overlay(plane, hot), None, None, spacing))
    return found


def cut(planes: Array, heat: Array) -> tuple[Array, Array, str]:
    """(C, rows, columns), (rows, columns) and where that is."""
    if heat.ndim == 2:
        return planes, heat, ""
    axis = _axis(heat.shape)
    hot = np.clip(heat, 0, None).sum(tuple(a for a in range(3) if a != axis))
    most = np.flatnonzero(hot >= hot.max() * (1 - 1e-6))
    index = int(most[len(most) // 2])

    def turned(volume: Array) -> Array:
        return np.asarray(np.take(volume, index, axis + volume.ndim - 3)[..., ::-1, ::-1].swapaxes(-1, -2))

    return turned(planes), turned(heat), f", slice {index + 1} of {heat.shape[axis]}"


def _axis(shape: Sequence[int]) -> int:
    """Across which axis a volume is cut: a thin one, else the last."""
    return int(np.argmin(shape)) if min(shape) < THIN * max(shape) else 2


def _in_plane(plan: Plan, shape: Sequence[int]) -> tuple[float, float]:
    """Millimetres, or 1, per row and column."""
    steps = [float(step) for step in plan.preparation.spacing or (1.0,) * len(shape)]
    if len(shape) == 2:
        return steps[0], steps[1]
    across, down = (step for axis, step in enumerate(steps) if axis != _axis(shape))
    return down, across


def believed(run: Run, net: nn.Module, method: Explanation, *, case: str) -> str:
    """What the test with random weights says of this network (of several, of the first), on one case; or why it was not made."""
    try:
        net, several = first_of(net), len(net.networks) if isinstance(net, Ensemble) else 1
        image = image_of(run, case)
        since = time.monotonic()
        if is_flat(method(net, image)):
            return "The heat is the same everywhere: it says nothing about where."
        whole = (time.monotonic() - since) * sum(1 for part in net.modules() if any(True for _ in part.parameters(recurse=False)))
        if whole > PATIENCE:
            return (f"Whether the heat changes with random weights was not tested: it would take about {whole:.0f} s. "
                    "Ask for it with vesalius explain --test.")  # fmt: skip
        return randomisation_test(net, method, image).sentence() + tested_on(several)
    except (VesaliusError, OSError) as problem:
        return f"Whether the heat changes with random weights could not be tested. {problem}"


def tested_on(several: int) -> str:
    """Which of `several` networks was tested; "" where there is one."""
    return f" That was tested on the first of the {several} networks; the heat is the mean of theirs." if several > 1 else ""
