"""Answering cases as a whole: many at a time, read by threads while others are answered; scored as a set.

Temperature, thresholds and promises are set on validation cases, kept in calibration.json, and used by everything that answers later.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json, write_json
from vesalius.data.cache import Stored
from vesalius.data.case import Case, Listed
from vesalius.data.labels import IGNORE, Labels
from vesalius.data.whole import read_whole
from vesalius.engine.infer import callables
from vesalius.engine.jobs import Baselines, baseline_of
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.sets import FEWER, summaries
from vesalius.engine.table import write_table
from vesalius.metrics._answers import Cut
from vesalius.plan.budget import device
from vesalius.plan.plan import Plan
from vesalius.tasks import CaseTask, Rivals, Shallow, Task
from vesalius.tasks._rules import Index, Rules, sliced

AT_ONCE = 256 << 20  # bytes of prepared cases that are in memory at a time, twice
MOST_AT_ONCE = 512
LIMIT = 1e-6  # probabilities nearer to 0 or 1 are not told apart
Networks = Sequence[Callable[[Tensor], Tensor]]
Floats = NDArray[np.float64]
Jobs = list[tuple[list[Case], list[int]]]
MAIN, USUAL = ("model", "baseline"), "majority"  # who is compared in pairs, and who says the same of all


@dataclass
class Heard(Listed):
    """What was answered: cases with their logits (N, K) by who answered, by which fold each was held back (`folds`, where that is known),
    (case, problem) of those that could not be read, and which method `stands` as the baseline (in several folds, which ones)."""

    cases: list[Case] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)
    logits: dict[str, list[Floats]] = field(default_factory=dict)
    problems: list[tuple[Case, str]] = field(default_factory=list)
    stands: set[str] = field(default_factory=set)

    @property
    def judged(self) -> list[str]:
        """Who is judged by rules set on validation: all but the majority."""
        return [who for who in self.logits if who != USUAL]

    def of(self, who: str) -> Floats:
        """(N, K)."""
        return np.concatenate(self.logits[who])


def in_parts(cases: Sequence[Case], plan: Plan) -> Iterator[list[tuple[Case, "Future[NDArray[np.float32]]"]]]:
    """Cases with their pixels (C, *S), as many at a time as fit; the next ones are read while these are worked on."""
    each = 4 * plan.preparation.in_channels * int(np.prod(plan.patch.size))
    number = max(1, min(MOST_AT_ONCE, AT_ONCE // each))
    parts = [cases[start : start + number] for start in range(0, len(cases), number)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:

        def begin(part: Sequence[Case]) -> list[tuple[Case, "Future[NDArray[np.float32]]"]]:
            return [(case, pool.submit(read_whole, case, plan.preparation, plan.patch.size)) for case in part]

        coming = [begin(part) for part in parts[:1]]
        for index in range(len(parts)):
            now = coming.pop()
            coming += [begin(part) for part in parts[index + 1 : index + 2]]
            yield now


def logits(networks: Networks, images: NDArray[np.floating], plan: Plan) -> Floats:
    """(N, K) of `images` (N, C, *S): the mean over networks, and over mirrored views where the plan asks for them."""
    safe = [axis for axis, flip in enumerate(plan.augment.mirror) if flip] if plan.predict.mirror else []
    views = [combo for n in range(len(safe) + 1) for combo in combinations(safe, n)]
    out = []
    for start in range(0, len(images), plan.predict.batch):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + plan.predict.batch], np.float32))
        said = [net(batch.flip([axis + 2 for axis in view]) if view else batch).double().cpu() for net in networks for view in views]
        out.append(torch.stack(said).mean(0).numpy())
    return np.asarray(np.concatenate(out))


def answer(networks: Networks, part: Sequence[tuple[Case, "Future[NDArray[np.float32]]"]], plan: Plan, *, heard: Heard,
           baseline: Shallow | None = None, skip_bad: bool = False) -> None:  # fmt: skip
    """Answers to one part of the cases, added to `heard`; a case that cannot be read is an error, or listed with `skip_bad`."""
    read: list[tuple[Case, NDArray[np.float32]]] = []
    for case, pixels in part:
        try:
            read.append((case, pixels.result()))
        except VesaliusError as problem:
            if not skip_bad:
                raise
            heard.problems.append((case, str(problem)))
    if not read:
        return
    heard.cases += [case for case, _ in read]
    heard.logits.setdefault("model", []).append(logits(networks, np.stack([pixels for _, pixels in read]), plan))
    if baseline is not None:
        for who, said in shallow(baseline, [pixels for _, pixels in read]).items():
            heard.logits.setdefault(who, []).append(as_logits(said, plan.labels))
        heard.stands |= {baseline.stands} if isinstance(baseline, Rivals) else set()


def shallow(baseline: Shallow, images: Sequence[NDArray[np.float32]]) -> dict[str, Floats]:
    """(N, K) probabilities of the baseline, and by name of each of those that it was chosen from."""
    if not isinstance(baseline, Rivals):
        return {"baseline": np.stack([baseline.predict(image) for image in images])}
    each = [baseline.answers(image) for image in images]
    told = {who: np.stack([one[who] for one in each]) for who in each[0]}
    return {"baseline": told[baseline.stands], **told}


def as_logits(probabilities: NDArray[np.floating], labels: Labels) -> Floats:
    """Logits whose probabilities these are."""
    p = np.clip(np.asarray(probabilities, np.float64), LIMIT, 1 - LIMIT)
    return np.asarray(np.log(p) if labels.one_of else np.log(p / (1 - p)))


def truths(cases: Sequence[Case], labels: Labels) -> NDArray[np.uint8]:
    """(N, 1 | K) targets."""
    return np.stack([labels.coded(case.classes or {}) for case in cases])


def calibration_of(run: Run) -> dict[str, Any]:
    """What was set on validation; without any, what the task uses then."""
    file = run.path / "calibration.json"
    if file.exists():
        return dict(read_json(file))
    none = np.zeros((0, run.task.out_channels(run.plan.labels)))
    return cast(CaseTask, run.task).calibrate(none, np.zeros((0, 1), np.uint8), run.plan.labels)


def heard_of(run: Run, part: str, jobs: Jobs, *, baseline: Baselines, listener: Listener) -> Heard:
    """Every labelled case of a part, answered by the members that may."""
    heard, total = Heard(), sum(len(cases) for cases, _ in jobs)
    with listener.stage(f"testing on {part}") as tick:
        for cases, members in jobs:
            labelled = [case for case in cases if case.classes is not None]
            networks = callables(run.networks([run.members[k] for k in members]), run.plan, device()) if labelled else []
            for some in in_parts(labelled, run.plan):
                answer(networks, some, run.plan, heard=heard, baseline=baseline_of(baseline, members))
                heard.folds += [members[0]] * (len(heard.cases) - len(heard.folds))
                tick(len(heard.cases), total, some[-1][0].name)
    return heard


def score_cases(run: Run, jobs: dict[str, Jobs], *, baseline: Baselines, by: Sequence[str], listener: Listener) -> dict[str, Any]:
    """Scores of each part; where validation is among them, calibration.json is made from it first."""
    task, labels = cast(CaseTask, run.task), run.plan.labels
    heard = {part: heard_of(run, part, found, baseline=baseline, listener=listener) for part, found in jobs.items()}
    heard = {part: found for part, found in heard.items() if found.cases}
    for found in heard.values():
        found.logits[USUAL] = [np.tile(as_logits(usual(run), labels), (len(found.cases), 1))]
    none = task.calibrate(np.zeros((0, labels.out_channels)), np.zeros((0, 1), np.uint8), labels)
    kept: dict[str, Mapping[str, Any]] = {who: none for found in heard.values() for who in found.judged if who != "model"}
    seen = heard.get("val")
    if seen:
        kept |= {who: fitted(run, seen, np.arange(len(seen.cases)), who=who) for who in seen.judged}
        write_json(run.path / "calibration.json", kept["model"])
    kept.setdefault("model", calibration_of(run))
    made = {}
    with listener.stage("drawing patients for the intervals"):
        for part, found in heard.items():
            rules = {who: Rules.one(how, len(found.cases)) for who, how in {**kept, USUAL: none}.items()}
            if part == "val":
                rules |= {who: left_out(run, found, rules[who], who=who) for who in found.judged}
            made[part] = scored(task, labels, found, rules=rules, by=by)
    for part in made:
        write_table(run.path / "predictions" / part, made[part]["model"]["rows"], labels)
    return made


def fitted(run: Run, heard: Heard, rows: Index, *, who: str) -> dict[str, Any]:
    """What is set on the cases `rows` of `heard`."""
    cases = [heard.cases[int(k)] for k in rows]
    return cast(CaseTask, run.task).calibrate(
        heard.of(who)[rows], truths(cases, run.plan.labels), run.plan.labels, names=[case.name for case in cases],
        patients=[case.patient for case in cases], targets=run.plan.predict.targets)  # fmt: skip


def left_out(run: Run, heard: Heard, rules: Rules, *, who: str) -> Rules:
    """Rules for the cases that all `rules` were fitted on: of several folds each is judged by what is set on the others, so that no
    case has a say in what is said of it. Of one fold there are no others, and `rules` stand."""
    folds, patients = np.asarray(heard.folds), np.asarray(heard.patients)
    numbers = np.unique(folds)
    if len(numbers) < 2:
        return rules
    others = [np.flatnonzero((folds != k) & ~np.isin(patients, patients[folds == k])) for k in numbers]
    return Rules([fitted(run, heard, rows, who=who) for rows in others], np.searchsorted(numbers, folds))


def usual(run: Run) -> Floats:
    """(K,) shares of the classes in the training cases."""
    names = dict.fromkeys(name for fold in run.splits["folds"] for name in fold["train"])
    table = truths([case for case in map(run.dataset.case, names) if case.classes is not None], run.plan.labels)
    if run.plan.labels.one_of:
        return np.bincount(table[:, 0], minlength=len(run.plan.labels.names)) / len(table)
    known = table != IGNORE
    return np.asarray(((table == 1) & known).sum(0) / np.maximum(1, known.sum(0)))


@dataclass(frozen=True)
class Judged:
    """Answers beside the truth: `said` holds probabilities (N, K) by who answered, `thresholds` from where on each says yes."""

    task: CaseTask
    labels: Labels
    patients: Sequence[str]
    truth: NDArray[np.uint8]
    said: Mapping[str, Floats]
    thresholds: Mapping[str, Mapping[str, Cut]]

    def measure(self, who: str, index: NDArray[np.intp]) -> dict[str, dict[str, float]]:
        """The measures of the cases `index`."""
        limits = sliced(self.thresholds[who], index)
        return self.task.measures(self.said[who][index], self.truth[index], self.labels, thresholds=limits)


def scored(task: CaseTask, labels: Labels, heard: Heard, *, rules: Mapping[str, Rules],
           by: Sequence[str] = ()) -> dict[str, Any]:  # fmt: skip
    """{"model", "baseline", "majority": {"rows", "summary", "groups", "trust"}, "difference": model less baseline, "rivals": by name those
    that the baseline was chosen from, "by_patient", "raters": {}} of one part. The baseline names its "method", if there are several."""
    told = {who: heard.of(who) for who in heard.logits}
    said = {who: probabilities(task, values, labels, rules=rules[who]) for who, values in told.items()}
    limits = {who: rules[who].thresholds for who in told}
    judged = Judged(task, labels, heard.patients, truths(heard.cases, labels), said, limits)
    made = standing(judged, stands=heard.stands)
    if USUAL in said:
        made[USUAL] = {"rows": [], "summary": summaries([USUAL], judged.patients, judged.measure, draws=1)[0][USUAL], "groups": {}}
    for who in set(MAIN) & set(said):
        rows = rows_of(judged, told[who], rules=rules[who], names=heard.names)
        made[who]["rows"] = [{"case": case.name, "patient": case.patient, "label": row["truth"], **row}
                             for case, row in zip(heard.cases, rows, strict=True)]  # fmt: skip
        made[who]["trust"] = task.examined(told[who], judged.truth, labels, rules=rules[who], names=heard.names,
                                           patients=heard.patients)  # fmt: skip
    made["model"]["groups"] = {key: _by_value(heard.cases, key, judged.measure) for key in by}
    return {**made, "by_patient": by_patient(judged, stands=heard.stands)}


def standing(judged: Judged, *, stands: set[str]) -> dict[str, Any]:
    """The tables of the model and the baseline with their difference, and of the rivals that the baseline was chosen from."""
    main = [who for who in MAIN if who in judged.said]
    summary, difference = summaries(main, judged.patients, judged.measure)
    made: dict[str, Any] = {"baseline": None, "raters": {}, "difference": difference or None, "rivals": {}}
    made |= {who: {"rows": [], "summary": table, "groups": {}} for who, table in summary.items()}
    for who in [who for who in judged.said if who not in (*MAIN, USUAL)]:
        same = stands == {who}
        table = summary["baseline"] if same else summaries([who], judged.patients, judged.measure, draws=FEWER)[0][who]
        made["rivals"][who] = {"rows": [], "summary": table, "groups": {}}
    if stands:
        made["baseline"]["method"] = " or ".join(sorted(stands))
    return made


def probabilities(task: CaseTask, logits: Floats, labels: Labels, *, rules: Rules) -> Floats:
    """(N, K) by the rules of each case."""
    return rules.told(lambda k, rows: task.probabilities(logits[rows], labels, rules.each[k]))


def rows_of(judged: Judged, logits: Floats, *, rules: Rules, names: Sequence[str]) -> list[dict[str, Any]]:
    """What is said of each case, called `names`, by its rules."""
    made: dict[int, dict[str, Any]] = {}
    for k, cases in rules.parts:
        called = [names[int(n)] for n in cases]
        rows = judged.task.rows(logits[cases], judged.labels, rules.each[k], names=called, truth=judged.truth[cases])
        made |= dict(zip(cases.tolist(), rows, strict=True))
    return [made[n] for n in range(len(names))]


def by_patient(judged: Judged, *, stands: set[str]) -> dict[str, Any] | None:
    """The scores where the probabilities of a patient's cases are meaned; patients whose cases show different things are left out.
    None where every patient has one case."""
    names, owner = np.unique(np.asarray(judged.patients, str), return_inverse=True)
    if len(names) == len(owner):
        return None
    groups = [np.flatnonzero(owner == k) for k in range(len(names))]
    kept = [group for group in groups if (judged.truth[group] == judged.truth[group[0]]).all()]
    if not kept:
        return None
    mean = {who: np.stack([values[group].mean(0) for group in kept]) for who, values in judged.said.items() if who != USUAL}
    first = [int(group[0]) for group in kept]
    limits = {who: sliced(cuts, np.asarray(first)) for who, cuts in judged.thresholds.items()}
    whole = replace(judged, patients=[judged.patients[k] for k in first], truth=judged.truth[first], said=mean, thresholds=limits)
    return {**standing(whole, stands=stands), "patients": len(kept), "left_out": len(groups) - len(kept)}


def _by_value(cases: Sequence[Case], key: str, measure: Callable[[str, NDArray[np.intp]], dict[str, dict[str, float]]]) -> dict[str, Any]:
    """The model's summary for each value of a metadata key."""
    values = np.array([str(case.metadata.get(key, "")) for case in cases])
    found = {}
    for value in sorted({str(v) for v in values} - {""}):
        mine = np.flatnonzero(values == value)

        def of_these(who: str, index: NDArray[np.intp], mine: NDArray[np.intp] = mine) -> dict[str, dict[str, float]]:
            return measure(who, mine[index])

        found[value] = summaries(["model"], [cases[int(k)].patient for k in mine], of_these)[0]["model"]
    return found


def look(task: Task, plan: Plan, checked: Sequence[Stored], *, where: str) -> Callable[[nn.Module], float]:
    """The quick score over prepared validation cases, at most as many as two hundredths of the time allow."""
    plan = plan.model_copy(update={"predict": plan.predict.model_copy(update={"mirror": False})})
    budget = plan.train.seconds or plan.train.steps * plan.expected.step_seconds
    most = max(32, int(budget / 200 / max(plan.expected.tile_seconds, 1e-9)))
    some = checked[:: max(1, -(-len(checked) // most))]
    truth = np.stack([case.target for case in some])

    def validate(trained: nn.Module) -> float:
        networks = callables([trained.net], plan, where)  # type: ignore[list-item]
        found = np.concatenate([logits(networks, np.stack([c.image for c in some[k : k + MOST_AT_ONCE]]), plan)
                                for k in range(0, len(some), MOST_AT_ONCE)])  # fmt: skip
        none = cast(CaseTask, task).calibrate(found[:0], truth[:0], plan.labels)
        return task.quick_score(cast(CaseTask, task).probabilities(found, plan.labels, none), truth, plan.labels)

    return validate
