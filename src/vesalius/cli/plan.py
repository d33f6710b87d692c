"""`vesalius plan`: every decision with its reason, before anything is learned."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json, Settings
from vesalius.cli._screen import Progress, answer, answer_json
from vesalius.core.memory import lasting


def plan(
    data: o.Data,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the plan here (plan.json).")] = None,
    budget: o.Budget = "20m",
    memory: o.Memory = None,
    folds: o.Folds = None,
    members: o.Members = 1,
    deterministic: Annotated[bool, typer.Option(help="Plan for a fixed number of steps.")] = False,
    task: o.Task = None,
    method: o.Method = None,
    normal: o.Normal = None,
    settings: Settings = None,
    layout: o.Layout = None,
    image: o.Images = None,
    channel: o.Channels = None,
    mask: o.Mask = None,
    patient: o.Patient = None,
    label: o.Label = None,
    json: Json = False,
) -> None:
    """Decide everything, say why, and say what will be reached in the budget.

    The file can be edited and given to vesalius train --plan.

    Example:
      vesalius plan scans/ -o plan.json --budget 1h --memory 8G
    """
    with lasting():
        from vesalius.data.fingerprint import fingerprint
        from vesalius.plan import plan as decide
        from vesalius.tasks import aimed

    dataset = o.opened(data, layout=layout, image=image, mask=mask, patient=patient, label=label, channel=channel, unlabelled=bool(task))
    dataset = aimed(dataset, task or "", method=method or "", normal=normal or ())
    cases = [case for case in dataset.learnable if case.split != "test"]
    with Progress("looking at the scans") as tick:
        facts = fingerprint(dataset, cases, progress=tick)
    made = decide(dataset, facts=facts, budget=None if budget == "none" else budget, memory=memory, folds=folds, members=members,
                  deterministic=deterministic, settings=[*(settings or []), *([f"train.method={method}"] if method else [])])  # fmt: skip
    if output:
        made.save(output)
    if json:
        answer_json(made.model_dump(mode="json"))
        return
    for name, (value, why) in made.leaves().items():
        answer(f"{name} = {value}\n    {why}")
    answer(made.promise)
