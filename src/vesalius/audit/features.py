"""What a run makes of an image before it answers: features of a method without labels, or what a classifier last sees."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.case import Case
from vesalius.engine.run import Run
from vesalius.engine.whole import in_parts
from vesalius.plan.budget import device

Rows = NDArray[np.float32]
Describe = Callable[[NDArray[np.floating]], Rows]
Tick = Callable[[int, int], None]
BATCH = 64


def describer(run: Run) -> Describe:
    """Images (N, C, *S) as the run prepares them to features (N, F): of a method without labels, or of the first member that classifies."""
    if run.task.grain == "voxel":
        raise UsageError(f"{run.path} answers voxel by voxel and does not describe images as wholes. "
                         "Take a run that classifies, or one that learned from images alone.")  # fmt: skip
    if run.task.grain == "case":
        return of_classifier(run.network(run.members[0]), run.task.out_channels(run.plan.labels), where=device())
    method, where = run.method(), device()
    return lambda images: _in_batches(images, method.features, where=where)


def of_classifier(net: nn.Module, classes: int, *, where: str = "cpu") -> Describe:
    """What goes into the layer that gives the logits of `classes` (each of them, where several decide); without one the means of the last
    maps."""
    ready = net.to(where).eval()
    answers = [layer for layer in ready.modules() if isinstance(layer, nn.Linear) and layer.out_features == classes]

    def ask(image: Tensor) -> Tensor:
        with _heard(answers) as seen:
            ready(image)
        if seen:
            return torch.cat([x.flatten(1, -2).mean(1) if x.ndim > 2 else x for x in seen if len(x) == len(image)], 1)
        if not callable(trunk := getattr(ready, "trunk", None)):
            raise VesaliusError(f"A {type(ready).__name__} has neither a last layer of {classes} classes nor maps to describe an image by. "
                                "Take another network, for instance resnet.")  # fmt: skip
        maps: Tensor = trunk(image)
        return maps.flatten(2).mean(2)

    return lambda images: _in_batches(images, ask, where=where)


@contextmanager
def _heard(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What goes into `layers` while the network is asked, in their order."""
    seen: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, words: seen.append(words[0])) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _in_batches(images: NDArray[np.floating], ask: Callable[[Tensor], Tensor], *, where: str) -> Rows:
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH], np.float32)).to(where)
            parts.append(ask(batch).float().cpu().numpy())
    rows = np.concatenate(parts) if parts else np.zeros((0, 1))
    if not np.isfinite(rows).all():
        raise VesaliusError("Some features are not finite numbers: learning has gone astray. Train anew with a smaller learning rate.")
    return np.asarray(rows.reshape(len(images), -1), np.float32)


def features_of(run: Run, cases: Sequence[Case], *, tick: Tick = lambda done, total: None) -> Rows:
    """(N, F) of `cases`, read by threads while others are described."""
    describe, parts, done = describer(run), [], 0
    for some in in_parts(cases, run.plan):
        parts.append(describe(np.stack([pixels.result() for _, pixels in some])))
        done += len(some)
        tick(done, len(cases))
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
