"""From a run to a model that answers without torch (`model.py`): every network is written down, and what both say is compared."""

from itertools import combinations
from pathlib import Path
from typing import cast

import numpy as np
import torch

from vesalius.core.errors import VesaliusError
from vesalius.core.kernels.filtering import Number
from vesalius.core.record import record
from vesalius.core.space import Array
from vesalius.engine.extras import Extras
from vesalius.engine.infer import callables
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.export.model import Model, Tiles, print_of
from vesalius.export.network import Network, able
from vesalius.export.numbers import Singles, singles
from vesalius.export.steps import Steps
from vesalius.export.written import written
from vesalius.nets._blocks import Ladder
from vesalius.plan import Plan

FAR = {"fp32": 1e-3, "bf16": 5e-2}  # how far logits may be from the run's, of their largest, before an export is taken to have failed
SEED = 3  # of the image on which both are compared


def export(run: Run | Path | str, folder: Path | str, *, overwrite: bool = False, listener: Listener | None = None) -> Model:
    """Write the model of `run` into `folder` and give it. Refused where the task is not answered voxel by voxel, where networks correct a
    baseline, and where the two do not say the same of noise; nothing is written then."""
    run, folder = run if isinstance(run, Run) else Run.open(run), Path(folder)
    if folder.exists() and not overwrite and any(folder.iterdir()):
        raise VesaliusError(f"{folder} is not empty. Choose another folder, or --overwrite.")
    plan, extras = run.plan, _extras(run)
    with (listener or Listener()).stage("writing the networks down") as tick:
        nets = run.networks()
        steps: list[Steps] = []
        weights: dict[str, Array] = {}
        for k, net in enumerate(nets):
            made, own = written(net, plan.preparation.in_channels, ndim=plan.net.ndim, pooling=cast(Ladder, net).pooling)
            steps.append(made)
            weights |= {f"{k}.{name}": one for name, one in own.items()}
            tick(k + 1, len(nets))
    model = Model(print=print_of(weights), labels=plan.labels, preparation=plan.preparation, tiles=tiles_of(plan),
                  number=plan.train.precision, networks=tuple(steps), single=tuple(extras.single), levels=dict(extras.levels),
                  compared=compared(run, nets, steps, weights=weights), record={**record(), "run": run.path.name})  # fmt: skip
    model.save(folder, weights)
    return model


def _extras(run: Run) -> Extras:
    """What stands beside the networks; an error where a model without torch cannot hold it."""
    if run.task.grain != "voxel":
        raise VesaliusError(f"{run.path} does not answer voxel by voxel (task {run.plan.task}); only such models can be exported so far. "
                            "Answer with the run itself: vesalius predict.")  # fmt: skip
    extras = Extras.of(run)
    if extras.priors:
        raise VesaliusError(f"The networks of {run.path} correct the shallow baseline, which needs scipy; that cannot be exported so far. "
                            "Train with --set net.prior=0, or answer with the run itself: vesalius predict.")  # fmt: skip
    return extras


def tiles_of(plan: Plan) -> Tiles:
    """As the run cuts scans."""
    safe = [axis for axis, flip in enumerate(plan.augment.mirror) if flip]
    flips = tuple(combo for n in range(1, len(safe) + 1) for combo in combinations(safe, n))
    how = plan.predict
    return Tiles(patch=plan.patch.size, overlap=how.overlap, batch=how.batch, skip_air=how.skip_air, mirror=flips)


def compared(run: Run, nets: list[torch.nn.Module], steps: list[Steps], *, weights: dict[str, Array]) -> dict[str, float]:
    """How far apart logits are at most, of the largest, and the share of voxels with the same label: on smooth noise, in float32 and, where
    the run computes so and this machine can, in bf16."""
    sides = tuple(max(2 * by, min(side, 64) // by * by) for side, by in zip(run.plan.patch.size, steps[0].pooling, strict=True))
    noise = np.random.default_rng(SEED).standard_normal((1, steps[0].channels, *sides), np.float32)
    shifted = np.stack([np.roll(noise, shift, axis) for shift in (-1, 0, 1) for axis in range(2, noise.ndim)])
    tile: Singles = np.asarray(shifted.mean(0), np.float32)
    found: dict[str, float] = {}
    numbers: set[Number] = {"fp32", able(run.plan.train.precision)}
    for number in sorted(numbers):
        plan = run.plan.with_settings([f"train.precision={number}"])
        for k, (net, how) in enumerate(zip(callables(nets, plan, "cpu"), steps, strict=True)):
            own = {name[len(f"{k}.") :]: one for name, one in weights.items() if name.startswith(f"{k}.")}
            theirs = net(torch.from_numpy(tile)).float().numpy()
            ours = singles(Network(how, own, number=number, threads=torch.get_num_threads())(tile))
            off = float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), 1e-6))
            if not off <= FAR[number]:
                raise VesaliusError(f"Network {k} without torch differs from the run's in {number} by {off:.2g} of its largest logit; "
                                    "nothing was written. Answer with the run itself (vesalius predict) and report this.")  # fmt: skip
            same = float((ours.argmax(1) == theirs.argmax(1)).mean())
            found[f"{number}_difference"] = max(found.get(f"{number}_difference", 0.0), off)
            found[f"{number}_same_labels"] = min(found.get(f"{number}_same_labels", 1.0), same)
    return found
