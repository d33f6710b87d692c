"""One image explained because somebody asked: a picture on disk, and what it shows in words."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vesalius.core.errors import UsageError, suggest
from vesalius.core.files import write_beside
from vesalius.core.space import Array
from vesalius.data.case import Case
from vesalius.data.whole import read_whole
from vesalius.engine.run import Run
from vesalius.explain import EXPLAIN, Ensemble, overlay, randomisation_test
from vesalius.report.explained import answering, cut, first_of, is_flat, made, meaned, method_for, tested_on

PATIENCE = 600.0  # seconds that an explanation may take which nobody chose by name
SIDE = 384  # pixels of a panel's height, at least


def explained(run: Run, case: Case, output: Path, *, method: str, target: str, test: bool) -> dict[str, Any]:
    """{"case", "class", "method", "picture", "sentence"}: the channels of `case` and the heat over each, written as PNG to `output`."""
    names, plan = list(run.plan.labels.names), run.plan
    if run.plan.labels.grain != "case":
        raise UsageError(f"{run.path} answers voxel by voxel: its outlines show where it looked. Explanations are for whole cases.")
    if target and target not in names:
        raise UsageError(suggest(target, names, "class"))
    if output.suffix.lower() != ".png":
        raise UsageError(f"The picture is a PNG; got {output.name}.")
    net = answering(run)
    pixels = np.ascontiguousarray(read_whole(case, plan.preparation, plan.patch.size), np.float32)
    image = torch.from_numpy(pixels)[None]
    name, how = (method, made(method, image)) if method else method_for(net, image, patience=PATIENCE)
    with torch.no_grad():
        chosen = torch.tensor([names.index(target)]) if target else net(image).argmax(1)
    heat = meaned(how, net)(net, image, chosen)[0].numpy()
    write_beside(output, lambda beside: _save(panels(pixels, heat, channels=len(plan.preparation.channels)), beside))
    sentence = ""
    if test:
        several = len(net.networks) if isinstance(net, Ensemble) else 1
        sentence = randomisation_test(first_of(net), how, image, target=chosen).sentence() + tested_on(several)
    if is_flat(torch.from_numpy(heat)):
        sentence = "The heat is the same everywhere: it says nothing about where. Try --method occlusion."
    return {"case": case.name, "class": names[int(chosen[0])], "method": EXPLAIN.card(name).title, "picture": str(output),
            "sentence": sentence}  # fmt: skip


def panels(pixels: Array, heat: Array, *, channels: int) -> Array:
    """Channels (C, *S) in grey above, the heat over each below: uint8 (rows, columns, 3)."""
    planes = pixels.mean(0, keepdims=True) if channels == 1 else pixels
    flat, hot, _ = cut(planes, heat)
    above = np.concatenate([overlay(plane, np.zeros_like(hot)) for plane in flat], 1)
    below = np.concatenate([overlay(plane, hot) for plane in flat], 1)
    return np.concatenate([above, below], 0)


def _save(picture: Array, path: Path) -> None:
    from PIL import Image

    times = max(1, -(-SIDE // picture.shape[0]))
    Image.fromarray(picture).resize((picture.shape[1] * times, picture.shape[0] * times), Image.Resampling.NEAREST).save(path, "PNG")
