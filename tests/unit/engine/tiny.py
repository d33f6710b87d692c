"""A run so small that it learns in a second: its data set, facts, plan and prepared cases."""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import nn

from vesalius.augment import Augment
from vesalius.core.files import write_json
from vesalius.data.cache import Stored, foreground_places
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation
from vesalius.engine.run import Run
from vesalius.engine.state import save_weights
from vesalius.plan.plan import Expected, Net, Patch, Plan, Predict, Train

LABELS = Labels(names=("ball",), values=((1,),))


def tiny_dataset(*, cases=6):
    """Names without files."""
    made = tuple(Case(f"c{k}", f"p{k}", {"image": Path(f"c{k}.nii.gz")}, {"": Path(f"m{k}.nii.gz")}) for k in range(cases))
    return Dataset("tiny", Path("."), "segment", made, ("image",), LABELS)


def facts(*, side=24, cases=6):
    """A fingerprint of cubes of `side` millimetres."""
    stats = {"mean": 100.0, "std": 20.0, "p0.5": 60.0, "p99.5": 200.0, "low": 60.0, "high": 200.0, "median": 100.0, "minimum": 50.0,
             "whole": 0.1, "near_water": 0.0, "below_air": 0.0}  # fmt: skip
    return {"cases": cases, "channels": {"image": 1}, "shapes": [[side] * 3] * cases, "cropped_shapes": [[side] * 3] * cases,
            "spacings": [[1.0] * 3] * cases, "physical": True, "cropped": 1.0, "intensities": {"image": stats}, "missing": {"image": 0},
            "classes": {"ball": {"cases": cases, "share": 0.1}}}  # fmt: skip


def plan_of(*, budget="2m", folds=1, settings=()):
    """What planning makes of the tiny data set."""
    from vesalius.plan import plan

    return plan(tiny_dataset(), facts=facts(), budget=budget, folds=folds, settings=settings)


def tiny_plan(settings=(), *, ndim=3, steps=8, labels=LABELS):
    """A plan made by hand: two stages, patches of 8, steps instead of a deadline."""
    net = Net(name="unet", ndim=ndim, channels=(4, 8), kernels=((3,) * ndim,) * 2, strides=((1,) * ndim, (2,) * ndim))
    preparation = Preparation(channels={"image": 1}, normalise=(Normalise(),), spacing=(1.0,) * 3 if ndim == 3 else ())
    expected = Expected(device="cpu", budget_seconds=None, step_seconds=0.01, tile_seconds=0.005, steps=steps, epochs=1.0,
                        memory_bytes=1, parameters=1)  # fmt: skip
    made = Plan(task="segment", labels=labels, preparation=preparation, patch=Patch(size=(8,) * ndim, batch=4, foreground=0.5), net=net,
                augment=Augment(mirror=(True,) * ndim, rotation=(10.0,) * (3 if ndim == 3 else 1)), expected=expected,
                train=Train(steps=steps, learning_rate=1e-2, weight_decay=1e-4, deterministic=True, validations=2),
                predict=Predict(batch=4))  # fmt: skip
    return made.with_settings(list(settings))


def ball(seed, *, side=14, ndim=3):
    """A bright ball in noise: pixels and mask (*S)."""
    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * ndim, indexing="ij"), -1)
    mask = np.linalg.norm(grid - side / 2 - draw.uniform(-1, 1, ndim), axis=-1) < side / 4
    return draw.normal(0, 1, mask.shape) + 2 * mask, mask


def stored(number=3, *, side=14, ndim=3):
    """Prepared cases in memory."""
    cases = []
    for k in range(number):
        pixels, mask = ball(k, side=side, ndim=ndim)
        places = foreground_places(mask[None], np.random.default_rng(k))
        cases.append(Stored(f"c{k}", pixels[None].astype(np.float16), mask[None].astype(np.uint8), places))
    return cases


def write_scans(folder, number=4, *, side=14, affine=None, seed=0):
    """`images/<case>.nii.gz` and `masks/<case>.nii.gz`; returns their data set."""
    for k in range(number):
        pixels, mask = ball(seed + k, side=side)
        for kind, values in (("images", 100 + 20 * pixels.astype(np.float32)), ("masks", mask.astype(np.uint8))):
            (Path(folder) / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), Path(folder) / kind / f"case{k}.nii.gz")
    return Dataset.open(folder)


class Threshold(nn.Module):
    """A network whose answer is known: class 1 (every region) where the first channel is above its mean."""

    def __init__(self, classes=2, *, exclusive=True, level=0.0):
        super().__init__()
        self.classes, self.exclusive, self.level = classes, exclusive, level

    def forward(self, x):
        first = 10 * (x[:, :1] - self.level)
        if not self.exclusive:
            return first.expand(-1, self.classes, *x.shape[2:])
        return torch.cat([-first, first, *[torch.full_like(first, -99)] * (self.classes - 2)], 1)


def write_run(folder, dataset, plan, *, folds=None, test=()):
    """A run folder without weights; `folds` are (train, val) names, by default everything on both sides."""
    names = [case.name for case in dataset.cases]
    plan.save(Path(folder) / "plan.json")
    write_json(Path(folder) / "dataset.json", dataset.to_json())
    made = [{"train": list(train), "val": list(val)} for train, val in folds or [(names, names)]]
    write_json(Path(folder) / "splits.json", {"folds": made, "test": list(test), "reason": "made up"})
    return Run(Path(folder))


def answering(run, monkeypatch, nets):
    """Every member of `run` has weights in name and answers by one of `nets`."""
    for member, net in zip(run.members, nets, strict=True):
        save_weights(member / "weights.safetensors", {"w": torch.zeros(1)}, {"final": True})
        assert net is not None
    by_member = dict(zip(run.members, nets, strict=True))
    monkeypatch.setattr(Run, "network", lambda self, member: by_member[member])
    return run
