"""`vesalius train`: the one command from a folder of scans to a tested model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json, Settings
from vesalius.cli._screen import answer, answer_json
from vesalius.core.memory import lasting

if TYPE_CHECKING:
    from vesalius.engine.run import Run


def train(
    data: o.Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="The run folder: everything lands there.")],
    budget: o.Budget = "20m",
    memory: o.Memory = None,
    folds: o.Folds = None,
    members: o.Members = 1,
    seed: Annotated[int, typer.Option(help="Seed of the split, the weights, the samples and the augmentation.")] = 0,
    deterministic: Annotated[bool, typer.Option(help="A fixed number of steps and bit-identical weights, resumed or not.")] = False,
    task: o.Task = None,
    method: o.Method = None,
    normal: o.Normal = None,
    settings: Settings = None,
    fusion: Annotated[str | None, typer.Option(help="Put channels together: input, feature, decision, attention, or all.")] = None,
    init: Annotated[Path | None, typer.Option(metavar="RUN_OR_FILE", help="Begin from these weights (a .safetensors file).")] = None,
    plan: Annotated[Path | None, typer.Option(help="Train by this plan.json (edited by hand, perhaps).")] = None,
    overwrite: Annotated[bool, typer.Option(help="Start again in a folder that holds a run.")] = False,
    skip_bad: Annotated[bool, typer.Option(help="Leave out cases that cannot be used, and list them.")] = False,
    fix_split: Annotated[bool, typer.Option(help="Put copies that the given split tears apart on one side, and list them.")] = False,
    allow_leaks: Annotated[bool, typer.Option(help="Train and test on a split that leaks, to see by how much; marked.")] = False,
    by: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Summarise by this word of the metadata too (sex, site ...).")] = None,
    layout: o.Layout = None,
    image: o.Images = None,
    channel: o.Channels = None,
    mask: o.Mask = None,
    patient: o.Patient = None,
    label: o.Label = None,
    controls: o.Controls = True,
    json: Json = False,
) -> None:
    """Train, test and report on a folder of scans with masks or classes, within a time that you choose.

    Masks are learned voxel by voxel; classes (a folder for each, a table, or an .npz) are learned case by case.
    With --task images alone are learned from: what is strange (anomaly), what a domain looks like (pretrain), how to
    make images like it (generate); --method says how. A run that was stopped or killed is continued by the same command.

    Example:
      vesalius train scans/ -o run --budget 20m
      vesalius train xrays.csv -o run --budget 5m --fix-split
      vesalius train heads.csv -o run --budget 40m --fusion all
      vesalius train xrays.csv -o run --budget 5m --task anomaly --normal healthy --method vae
    """
    with lasting():
        from vesalius.cli._listener import Console
        from vesalius.core.environment import process_rank
        from vesalius.export.training import train as work
        from vesalius.plan import Request
        from vesalius.report import write
        from vesalius.tasks import aimed

    o.not_both({"--fix-split": fix_split, "--allow-leaks": allow_leaks})
    wish = Request.checked({"budget": None if budget == "none" else budget, "memory": memory, "folds": folds, "members": members,
                            "seed": seed, "deterministic": deterministic, "fix_split": fix_split, "allow_leaks": allow_leaks,
                            "controls": controls, "settings": [*(settings or []), *o.as_settings(init, method)]},
                           where="the options")  # fmt: skip
    listener = Console(output)
    found = o.opened(data, layout=layout, image=image, mask=mask, patient=patient, label=label, channel=channel, unlabelled=bool(task))
    dataset = aimed(found, task or "", method=method or "", normal=normal or ())
    if fusion:
        from vesalius.cli._fusion import checked, train_all

        checked(plan, init)
        if fusion == "all":
            train_all(dataset, output, wish, overwrite=overwrite, skip_bad=skip_bad, by=by or (), json=json)
            return
        from vesalius.engine.fusion import fused

        wish = fused(dataset, wish, fusion)
    run = work(dataset, output, wish=wish, plan_file=plan, overwrite=overwrite, skip_bad=skip_bad, by=by or (), listener=listener)
    if not process_rank()[0]:
        _told(run, write(run.path), json=json)


def _told(run: "Run", page: Path, *, json: bool) -> None:
    """The scores of `run`, as a table or as JSON."""
    metrics = run.metrics or {"parts": {}}
    if json:
        answer_json({"run": run.path, "report": page, **{name: part["model"]["summary"] for name, part in metrics["parts"].items()}})
        return
    o.scores_table(metrics)
    answer(f"Report: {page}")
