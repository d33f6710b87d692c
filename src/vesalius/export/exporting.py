"""From a run to a model that answers without torch (`model.py`): every network is written down, and what both say is compared."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import cast

import numpy as np
import torch

from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json
from vesalius.core.kernels.filtering import Number
from vesalius.core.record import record
from vesalius.core.space import Array
from vesalius.data.voxel_odds import VoxelOdds
from vesalius.engine.extras import levels_of, single_of
from vesalius.engine.infer import callables
from vesalius.engine.priming import FILE as PRIOR
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.export import within
from vesalius.export.model import Model, Tiles, print_of
from vesalius.export.network import able
from vesalius.export.numbers import Singles, singles
from vesalius.export.steps import Steps
from vesalius.export.written import written
from vesalius.nets._blocks import Ladder
from vesalius.plan import Plan

FAR = {"fp32": 1e-3, "bf16": 5e-2}  # how far logits may be from the run's, of their largest, before an export is taken to have failed
SEED = 3  # of the image on which both are compared


def export(run: Run | Path | str, folder: Path | str, *, overwrite: bool = False, listener: Listener | None = None) -> Model:
    """Write the model of `run` into `folder` and give it. Refused where the task is not answered voxel by voxel, and where the two do not
    say the same of noise; nothing is written then."""
    run, folder = run if isinstance(run, Run) else Run.open(run), Path(folder)
    if folder.exists() and not overwrite and any(folder.iterdir()):
        raise VesaliusError(f"{folder} is not empty. Choose another folder, or --overwrite.")
    if run.task.grain != "voxel":
        raise VesaliusError(f"{run.path} does not answer voxel by voxel (task {run.plan.task}); only such models can be exported so far. "
                            "Answer with the run itself: vesalius predict.")  # fmt: skip
    made, weights = made_of(run, listener or Listener())
    made.save(folder, weights)
    return made


def keep(run: Run, listener: Listener) -> bool:
    """Leave in `run` what lets `vesalius predict` answer without torch (`within.py`), where its networks can be written down; whether they
    could. Where not, that is said, and torch answers: a run that is trained does not fail for want of it."""
    if run.task.grain != "voxel" or not run.trained():
        return False
    if within.found(run.path):
        return True
    try:
        made, _ = made_of(run, listener)
        within.save(made, run.path, [voice.relative_to(run.path) for voice in run.trained()],
                    mirror=run.plan.predict.mirror)  # fmt: skip
    except Exception as problem:  # a function that has no step, a network that knows no pooling, a full disk, too little memory
        listener.say(f"Scans will be answered by torch, as this run's networks were not written down: {problem}")
        return False
    return True


def made_of(run: Run, listener: Listener) -> tuple[Model, dict[str, Array]]:
    """The model of `run` and its weights, compared with the run."""
    plan, priors = run.plan, priors_of(run)
    with listener.stage("writing the networks down") as tick:
        nets = run.networks()
        steps: list[Steps] = []
        weights: dict[str, Array] = {}
        for k, (net, prior) in enumerate(zip(nets, priors, strict=True)):
            channels = plan.preparation.in_channels + (prior.classes if prior else 0)
            made, own = written(net, channels, ndim=plan.net.ndim, pooling=cast(Ladder, net).pooling)
            steps.append(made)
            weights |= {f"{k}.{name}": one for name, one in own.items()}
            tick(k + 1, len(nets))
    model = Model(print=print_of(weights), labels=plan.labels, preparation=plan.preparation, tiles=tiles_of(plan),
                  number=plan.train.precision, networks=tuple(steps), single=tuple(single_of(run)), levels=levels_of(run),
                  priors=tuple(prior.to_json() if prior else None for prior in priors) if any(priors) else (),
                  record={**record(), "run": run.path.name})  # fmt: skip
    return replace(model, compared=compared(run, nets, model, weights=weights)), weights


def priors_of(run: Run) -> list[VoxelOdds | None]:
    """What each network corrects, or none, in the order of the networks."""
    return [VoxelOdds.from_json(read_json(voice / PRIOR)) if run.corrects(voice) else None for voice in run.trained()]


def tiles_of(plan: Plan) -> Tiles:
    """As the run cuts scans."""
    safe = [axis for axis, flip in enumerate(plan.augment.mirror) if flip]
    flips = tuple(combo for n in range(1, len(safe) + 1) for combo in combinations(safe, n))
    how = plan.predict
    return Tiles(patch=plan.patch.size, overlap=how.overlap, batch=how.batch, skip_air=how.skip_air, mirror=flips)


def compared(run: Run, nets: list[torch.nn.Module], model: Model, *, weights: dict[str, Array]) -> dict[str, float]:
    """How far apart logits are at most, of the largest, and the share of voxels with the same label: on smooth noise, in float32 and, where
    the run computes so and this machine can, in bf16."""
    tile = model.shown(noise_for(model))[None]
    found: dict[str, float] = {}
    numbers: set[Number] = {"fp32", able(model.number)}
    for number in sorted(numbers):
        plan = run.plan.with_settings([f"train.precision={number}"])
        others = model.ready(weights, number=number, threads=torch.get_num_threads())
        for k, (net, other) in enumerate(zip(callables(nets, plan, "cpu"), others, strict=True)):
            theirs = net(torch.from_numpy(tile)).float().numpy()
            ours = singles(other(tile))
            off = float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), 1e-6))
            if not off <= FAR[number]:
                raise VesaliusError(f"Network {k} without torch differs from the run's in {number} by {off:.2g} of its largest logit; "
                                    "nothing was written. Answer with the run itself (vesalius predict) and report this.")  # fmt: skip
            same = float((ours.argmax(1) == theirs.argmax(1)).mean())
            found[f"{number}_difference"] = max(found.get(f"{number}_difference", 0.0), off)
            found[f"{number}_same_labels"] = min(found.get(f"{number}_same_labels", 1.0), same)
    return found


def noise_for(model: Model) -> Singles:
    """Smooth noise (C, *S) in a tile no larger than it needs to be."""
    sides = tuple(max(2 * by, min(side, 64) // by * by) for side, by in zip(model.tiles.patch, model.networks[0].pooling, strict=True))
    noise = np.random.default_rng(SEED).standard_normal((model.preparation.in_channels, *sides), np.float32)
    shifted = np.stack([np.roll(noise, shift, axis) for shift in (-1, 0, 1) for axis in range(1, noise.ndim)])
    return np.asarray(shifted.mean(0), np.float32)
