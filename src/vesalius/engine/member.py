"""One member of a run learning: its network, its method, its samples and its looks at validation cases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vesalius.augment import Composed
from vesalius.augment._mix import mix_of, mixed
from vesalius.core.environment import process_rank
from vesalius.core.errors import VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.data.cache import Stored
from vesalius.data.patches import Patches
from vesalius.data.wholes import Wholes
from vesalius.engine import images
from vesalius.engine.ahead import Draw
from vesalius.engine.begin import begin
from vesalius.engine.compiled import compiled
from vesalius.engine.events import Events
from vesalius.engine.infer import callables, classes
from vesalius.engine.progress import Listener, Tick
from vesalius.engine.train import STATE, Loop, Validate
from vesalius.engine.whole import look
from vesalius.methods import METHODS, Method
from vesalius.methods._unlabelled import Unlabelled
from vesalius.plan import Plan, build
from vesalius.plan.budget import device
from vesalius.plan.methods import built
from vesalius.tasks import Task

Look = Callable[..., Validate]
LOOK = 1 / 200  # part of the budget that one look at the validation cases may take


@dataclass(frozen=True)
class Sides:
    """Prepared cases to learn from and to look at."""

    learned: Sequence[Stored]
    checked: Sequence[Stored]


def learn(task: Task, plan: Plan, folder: Path, *, sides: Sides, listener: Listener, tick: Tick) -> bool:
    """Learn one member in `folder` until its plan ends; True if it ran to its end, False if the user stopped it."""
    where, (rank, _) = device(), process_rank()
    folder.mkdir(parents=True, exist_ok=True)
    events = Events(folder / "events") if rank == 0 else None

    def heard(row: dict[str, Any]) -> None:
        nonlocal events
        tick(row["progress"], 1.0, f"step {row['step']}, loss {row['loss']:.3f}")
        listener.row(row)
        if events:
            try:
                events.scalars(row["step"], {k: row[k] for k in ("loss", "learning_rate", "validation") if row[k] is not None})
            except VesaliusError as problem:
                listener.say(f"No more events: {problem} Learning goes on.")
                events = None

    method = METHOD_OF[task.grain](task, plan, where, learned=sides.learned)
    if plan.train.init and not (folder / STATE).exists():
        listener.say(begin(method.get_submodule("net"), Path(plan.train.init)))
    if plan.train.compile:
        compiled(method.get_submodule("net"), listener.say)
    finish = images.gatherer(sides.learned, where) if isinstance(method, Unlabelled) else None
    loop = Loop(method, plan.train, plan.patch.batch, folder, where, listener.say, heard, listener.stop, finish)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(plan.train.deterministic)
    try:
        watch = LOOKS[task.grain](task, plan, sides.checked, where=where) if sides.checked else None
        return loop.fit(SAMPLES[task.grain](plan, sides.learned, where), watch)
    finally:
        torch.use_deterministic_algorithms(before)


def method_of(task: Task, plan: Plan, where: str, *, learned: Sequence[Stored] = ()) -> Method:
    """The method that the plan names, around a fresh network; a loss may weigh classes by the cases that are `learned` from."""
    net = build(plan.net, plan.preparation.in_channels, task.out_channels(plan.labels), seed=plan.train.seed)
    ready = net.to(where).to(memory_format=_layout(plan))
    rates: dict[str, Any] = {"learning_rate": plan.train.learning_rate, "weight_decay": plan.train.weight_decay}
    if plan.train.layer_decay != 1 or plan.train.freeze:
        rates |= {"layer_decay": plan.train.layer_decay, "freeze": plan.train.freeze}
    if plan.net.prior:
        rates["prior"] = plan.net.prior
    loss = task.loss(plan.labels, plan.train.loss, counts=cases_of_classes(plan, learned))
    made: Method = METHODS[plan.train.method](ready, loss.to(where), **rates)
    return made


def unlabelled(task: Task, plan: Plan, where: str, *, learned: Sequence[Stored] = ()) -> Method:
    """The method that the plan names, with its own networks, for images alone."""
    shape = (plan.preparation.in_channels, *plan.patch.size)
    rates = {"learning_rate": plan.train.learning_rate, "weight_decay": plan.train.weight_decay, "seed": plan.train.seed}
    made: Method = built(plan.train.method, shape, plan.train.arguments, **rates)
    return made.to(where)


def cases_of_classes(plan: Plan, learned: Sequence[Stored]) -> list[int] | None:
    """How many cases have each class; None where voxels are answered, or no case is given."""
    if plan.labels.grain != "case" or not learned:
        return None
    targets = np.stack([case.target for case in learned])
    if plan.labels.one_of:
        return [int(number) for number in np.bincount(targets[:, 0], minlength=len(plan.labels.names))]
    return [int(number) for number in (targets == 1).sum(0)]


def samples(plan: Plan, learned: Sequence[Stored], where: str) -> Draw:
    """Augmented batches by step number, this process's share of each."""
    change = Composed(plan.augment, plan.patch.size, plan.preparation.spacing or (1.0,) * plan.net.ndim, constant=plan.net.prior)
    return _drawn(plan, Patches(learned, plan.patch.size, change.margin(), plan.patch.foreground, plan.train.seed, where), change)


def whole_samples(plan: Plan, learned: Sequence[Stored], where: str) -> Draw:
    """The same of whole cases."""
    change = Composed(plan.augment, plan.patch.size, plan.preparation.spacing or (1.0,) * plan.net.ndim)
    source = Wholes(learned, plan.patch.balance, plan.train.seed, where)

    def mixing(made: Batch, step: int, size: int) -> Batch:
        """Two cases in one, where the plan says so; mates of other processes are made here again."""
        mix = mix_of(plan.augment, (plan.train.seed, step), size=size, shape=plan.patch.size)
        if mix is None:
            return made
        rank, world = process_rank()
        wanted = [int(k) for k in mix.order[rank::world]]
        alone = world == 1
        mates = made.mapped(lambda _, t: t[wanted]) if alone else change(*source.of([step * size + k for k in wanted]))
        return mixed(made, mates, mix)

    return _drawn(plan, source, change, then=mixing)


def _drawn(plan: Plan, source: Patches | Wholes, change: Composed, *, then: Callable[[Batch, int, int], Batch] | None = None) -> Draw:
    rank, world = process_rank()
    layout = _layout(plan)

    def draw(step: int, size: int) -> Batch:
        batch, seeds = source.batch(step, size, rank=rank, world=world)
        made = change(batch, seeds)
        made = then(made, step, size) if then else made
        return made.mapped(lambda name, t: t.contiguous(memory_format=layout) if made.kinds[name] == Kind.IMAGE else t)

    return draw


def looks(task: Task, plan: Plan, checked: Sequence[Stored], *, where: str) -> Validate:
    """Mean quick score over as many whole validation cases as the budget of one look allows."""
    plan = plan.model_copy(update={"predict": plan.predict.model_copy(update={"mirror": False})})
    budget = plan.train.seconds or plan.train.steps * plan.expected.step_seconds
    some = checked[: max(1, min(len(checked), int(budget * LOOK / (4 * plan.expected.tile_seconds))))]

    def validate(trained: nn.Module) -> float:
        networks = callables([trained.net], plan, where)  # type: ignore[list-item]
        answers = ((classes(networks, c.image.astype("float32"), c.target.shape[1:], plan=plan, device=where), c) for c in some)
        scores = [task.quick_score(said, case.target, plan.labels) for said, case in answers]
        return sum(scores) / len(scores)

    return validate


METHOD_OF = {"voxel": method_of, "case": method_of, "image": unlabelled}
SAMPLES = {"voxel": samples, "case": whole_samples, "image": images.samples}
LOOKS: dict[str, Look] = {"voxel": looks, "case": look, "image": images.look}


def _layout(plan: Plan) -> torch.memory_format:
    return torch.channels_last_3d if plan.net.ndim == 3 else torch.channels_last
