"""One job of a transfer audit: weights to begin from (learned here without labels, if that is the rival), the run itself, and what its
test answers are worth; beside it what can be read off features that stay as they begin."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vesalius.audit import rivals
from vesalius.audit.features import Describe, of_classifier
from vesalius.audit.probes import Parts, Told
from vesalius.audit.readings import PROBES
from vesalius.audit.rounds import Outcome
from vesalius.audit.runs import rows_of, target
from vesalius.audit.transfer_plan import SCRATCH, Job, sides_of, trunk
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.engine.begin import begin
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.scores import over_labels
from vesalius.engine.whole import in_parts, truths
from vesalius.engine.workflow import train
from vesalius.plan import Plan, Request, build
from vesalius.plan.begin import RATES, named, tuned
from vesalius.plan.budget import device
from vesalius.tasks import aimed

if TYPE_CHECKING:
    from vesalius.audit.transfer import Audit

PIXELS = "pixels"  # raw pixels, beside the probes alone
Rows = NDArray[np.float32]


def begun_from(audit: "Audit", job: Job, listener: Listener) -> Path | str | None:
    """The weights that the rival begins from, "" where they are drawn; None where the user stopped while they were being learned."""
    if job.rival == SCRATCH:
        return ""
    if job.rival in audit.asked.inits:
        return Path(audit.asked.inits[job.rival]).resolve()
    folder = audit.folder / "pretrained" / job.rival / f"seed_{job.seed}"
    if not ((folder / "record.json").exists() and Run.open(folder).finished):
        _pretrain(audit, job, folder, listener=listener)
    return folder.resolve() if Run.open(folder).finished else None


def _pretrain(audit: "Audit", job: Job, folder: Path, *, listener: Listener) -> None:
    """The rival's method on every image that is not for testing, with the network, the grid and the intensities of the shared plan."""
    validates = audit.subset(job.seed).validates
    sides = [[case for case in audit.pool if (case.patient in validates) == side] for side in (False, True)]
    data = replace(sides_of(audit.dataset, *sides), alone=False)
    rules = [rule.dumped() for rule in audit.plan.preparation.normalise]
    settings = (f"train.method={job.rival}", f"train.arguments={json.dumps({'trunk': trunk(audit.plan)})}",
                f"patch.size={json.dumps(audit.plan.patch.size)}", f"preparation.normalise={json.dumps(rules)}")  # fmt: skip
    budget, steps = _time(audit)
    words = () if (folder / "plan.json").exists() else (*settings, *steps)  # one that was begun keeps its plan
    wish = Request.checked({"budget": budget, "seed": job.seed, "settings": words}, where="the audit")
    train(aimed(data, "pretrain", method=job.rival), folder, wish=wish, listener=listener)


def _time(audit: "Audit") -> tuple[str | float | None, tuple[str, ...]]:
    """Budget and settings of learning without labels: its own time or number of steps where one was given, else that of a run with labels
    (whose number of steps holds here too where it was set by hand)."""
    own = audit.asked.unlabelled
    if own.isdigit():
        return None, (f"train.steps={own}",)
    if own:
        return own, ()
    budget = audit.asked.budget
    return budget, tuple(text for text in audit.asked.settings if text.startswith("train.steps=")) if budget is None else ()


def done(audit: "Audit", job: Job, *, init: Path | str, listener: Listener) -> dict[str, Any] | None:
    """{"outcomes": {how: what was said of test cases}, "seconds": {"fine_tuned"}}; None where the user stopped."""
    since = time.monotonic()
    learned, checked = audit.subset(job.seed).first(job.labels)
    folder = audit.folder / "runs" / job.rival / f"labels_{job.labels}" / f"seed_{job.seed}"
    plan = plan_of(audit.plan, seed=job.seed, init=init, asked=audit.asked.settings)
    file = audit.folder / "plans" / f"{job.rival}_{job.seed}.json"
    plan.save(file)
    data = sides_of(audit.dataset, learned, checked, test=audit.test)
    run = train(data, folder, wish=Request(budget=None, seed=job.seed), plan_file=file, listener=listener)
    if not run.finished:
        return None
    made = {"fine_tuned": outcome(run)}
    if run.task.grain == "case":
        made |= frozen(audit, job, (learned, checked), init=init, plan=plan)
    return {"outcomes": {how: one.to_json() for how, one in made.items()}, "seconds": {"fine_tuned": round(time.monotonic() - since, 2)}}


def plan_of(shared: Plan, *, seed: int, init: Path | str, asked: Sequence[str] = ()) -> Plan:
    """The shared plan with this seed; where it begins from learned weights, with the smaller rates that they get anywhere, unless the user
    `asked` for rates."""
    settings = [f"train.seed={seed}", *([f"train.init={init}"] if init else [])]
    return tuned(shared.with_settings(settings), settings).with_settings([text for text in asked if named(text) in RATES])


def outcome(run: Run) -> Outcome:
    """What a finished run said of its test cases, in the order of their names."""
    rows = rows_of(run, "test") if run.task.grain == "case" else {}
    if not rows:
        return _of_outlines(run)
    names, labels = sorted(rows), run.plan.labels
    p = np.array([[rows[name]["probabilities"][label] for label in labels.names] for name in names])
    truth = np.stack([target(str(rows[name]["truth"]), labels, unknown=rows[name].get("unknown") or []) for name in names])
    return Outcome(tuple(names), tuple(str(rows[name]["patient"]) for name in names), probabilities=p, truth=truth)


def _of_outlines(run: Run) -> Outcome:
    """Per case the leading measure (Dice), mean over its labels."""
    metric = run.task.leading[0]
    rows = sorted(over_labels(run.metrics["parts"]["test"]["model"]["rows"]), key=lambda row: str(row["case"]))  # type: ignore[index]
    scores = np.array([np.nan if row.get(metric) is None else row[metric] for row in rows], float)
    return Outcome(tuple(str(row["case"]) for row in rows), tuple(str(row["patient"]) for row in rows), scores=scores)


def frozen(audit: "Audit", job: Job, sides: tuple[Sequence[Case], Sequence[Case]], *, init: Path | str, plan: Plan) -> dict[str, Outcome]:
    """Probes on features of the network as it begins; for scratch beside them those on raw pixels."""
    labels, test = audit.dataset.labels, sorted(audit.test, key=lambda case: case.name)
    found: dict[str, Outcome] = {}
    described = {"": _described(audit, job.rival, job.seed, plan=plan, init=str(init))}
    if job.rival == SCRATCH:
        described[f"_{PIXELS}"] = _described(audit, PIXELS, job.seed, plan=plan, init="")
    for suffix, rows in described.items():
        parts = Parts(*(_told(side, rows, labels) for side in (*sides, test)))
        for how, probe in PROBES.items():
            said = probe(parts, labels).answers
            truth = said.truth[:, None] if labels.one_of else said.truth
            found[how + suffix] = Outcome(tuple(case.name for case in test), tuple(case.patient for case in test),
                                          probabilities=said.probabilities, truth=truth.astype(np.uint8))  # fmt: skip
    return found


def _told(cases: Sequence[Case], rows: Mapping[str, Rows], labels: Labels) -> Told:
    return Told(np.stack([rows[case.name] for case in cases]), truths(cases, labels), np.array([case.patient for case in cases], str))


def _described(audit: "Audit", rival: str, seed: int, *, plan: Plan, init: str) -> dict[str, Rows]:
    """Features by name of every case that jobs of this seed use: of the network as it begins, or pixels; kept for the sitting."""
    if (rival, seed) not in audit.described:
        cases = (*audit.subset(seed).cases[: max(audit.asked.labels)], *audit.test)
        describe = _beginning(plan, init) if rival != PIXELS else lambda images: rivals.pixels(images)[0]
        found: dict[str, Rows] = {}
        for some in in_parts(cases, plan):
            rows = describe(np.stack([pixels.result() for _, pixels in some]))
            found.update(zip([case.name for case, _ in some], rows, strict=True))
        audit.described[rival, seed] = found
    return audit.described[rival, seed]


def _beginning(plan: Plan, init: str) -> Describe:
    """The network before its first step, as a function of images."""
    net = build(plan.net, plan.preparation.in_channels, plan.labels.out_channels, seed=plan.train.seed)
    if init:
        begin(net, Path(init))
    return of_classifier(net, plan.labels.out_channels, where=device())
