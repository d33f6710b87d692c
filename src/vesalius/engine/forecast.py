"""How long testing and the report will take: measured on this machine, as busy as it is now, in the run's own units.

Of whole cases, what is timed is what testing does: reading a case, the shallow baseline's answer, and the measures of one draw of
patients, of which intervals take a thousand. The network's answer was timed by planning. The report is known in processor seconds; how
many seconds of the clock one of those takes here (`busy`) the run itself has shown. Where images alone are learned from, the report asks
whether it was worth it, which takes longer than the rest of it: that is counted image by image.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vesalius.core.files import read_json
from vesalius.data.case import Case
from vesalius.engine.certain import LEAST_CASES, can_be_absent
from vesalius.engine.images import testing_images
from vesalius.engine.run import Run
from vesalius.engine.sets import DRAWS, FEWER, LARGE
from vesalius.engine.sparing import LEAST_CASES as LEAST_ASKED
from vesalius.engine.sparing import LESS
from vesalius.engine.sparing import MOST_CASES as MOST_ASKED_TILES
from vesalius.engine.whole import Judged, in_parts, truths
from vesalius.methods import METHODS
from vesalius.metrics._bootstrap import GROUPS
from vesalius.plan import Plan
from vesalius.tasks import CaseTask, Shallow

REPORT_SECONDS = 8.0
VOXEL_SECONDS = 1.5e-6  # reading, resampling, scoring and writing one voxel
REPORT_CPU = 6.0  # processor seconds of the report with its pictures and explanations, and of loading what draws them
READ = 8  # cases that are read on trial
PEOPLE = 2.4  # the model, the baseline, and with a fifth of the draws each of the two that it was chosen from
SPARE = 1.25  # a machine may become busier; what is spared is a few seconds less to learn in
MOST_ASKED = 6000  # images of a part of which it is asked whether learning was worth it
WORTH_CPU = 3.0  # processor seconds of that whatever the number of images, ...
COMPARED, PROBED = 1e-3, 5e-3  # ... for each image without labels and with them, ...
LIKELY = 5e-5  # ... and for each weight of a machine whose likelihood is estimated
EXPLAINED = 18  # answers that the heats of a report take of each network, forth and back; of the first they are part of the report
EXAMINED = 30  # times the measures of one draw: curves, promises and tables


def testing_cases(run: Run, baseline: Shallow | None, *, busy: float) -> float:
    """Seconds from the end of learning to the end of the report."""
    splits = run.splits
    parts = [dict.fromkeys(name for fold in splits["folds"] for name in fold["val"]), dict.fromkeys(splits["test"])]
    found = [[case for case in map(run.dataset.case, names) if case.classes is not None] for names in parts]
    answers = len(found[0]) + len(found[1]) * len(splits["folds"])
    each = _of_a_case(run, [case for part in found for case in part], baseline)
    each += run.plan.members * 1.2 * run.plan.expected.tile_seconds * (2 ** sum(run.plan.augment.mirror) if run.plan.predict.mirror else 1)
    more = (run.plan.members * len(splits["folds"]) - 1) * EXPLAINED * run.plan.expected.tile_seconds
    return SPARE * (REPORT_CPU * busy + more + answers * each + sum(_of_intervals(run, part) for part in found if part))


def _of_a_case(run: Run, cases: Sequence[Case], baseline: Shallow | None) -> float:
    """Seconds to read one case, several at a time as testing does, and for the baseline's answer."""
    some = cases[:: max(1, len(cases) // READ)][:READ]
    if not some:
        return 0.0
    begun = time.perf_counter()
    images = [pixels.result() for part in in_parts(some, run.plan) for _, pixels in part if pixels.exception() is None]
    read = (time.perf_counter() - begun) / len(some)
    if baseline is None or not images:
        return read
    return read + _timed(lambda: baseline.predict(images[0]))


def _of_intervals(run: Run, cases: Sequence[Case]) -> float:
    """Seconds of all draws of patients over `cases`, by case and, where patients have several, by patient."""
    task, labels, draw = cast(CaseTask, run.task), run.plan.labels, np.random.default_rng(0)
    truth, patients = truths(cases, labels), [case.patient for case in cases]
    said = draw.dirichlet(np.ones(len(labels.names)), len(cases)) if labels.one_of else draw.random((len(cases), len(labels.names)))
    none = task.calibrate(np.zeros((0, labels.out_channels)), np.zeros((0, 1), np.uint8), labels)
    judged = Judged(task, labels, patients, truth, {"model": said}, {"model": none.get("thresholds", {})})
    rows: NDArray[np.intp] = draw.integers(len(cases), size=len(cases))
    people = len(set(patients))
    draws = (DRAWS if len(cases) <= LARGE else FEWER) + min(GROUPS, people) + EXAMINED
    again = people / len(cases) if people < len(cases) else 0.0  # the fewer patients are drawn from, too
    return PEOPLE * draws * (_timed(lambda: judged.measure("model", rows)) * (1 + again))


def _timed(work: Callable[[], Any], times: int = 4) -> float:
    """Mean seconds, after one that does not count (it loads what is needed)."""
    work()
    begun = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begun) / times


def testing_voxels(run: Run, baseline: Shallow | None, *, busy: float) -> float:
    """The same where voxels are answered, from the measured time per tile."""
    plan, splits = run.plan, run.splits
    facts = read_json(run.path / "fingerprint.json")
    looked = sum(len(fold["val"]) for fold in splits["folds"])
    settled = bool(can_be_absent(facts)) + (looked >= LEAST_CASES) + plan.net.networks - 1  # times that validation cases are answered
    cases = len(splits["test"]) * len(splits["folds"]) + looked * (1 + settled)
    spacing = plan.preparation.spacing
    shapes, own = np.array(facts["shapes"], float), np.array(facts["spacings"])
    sides = shapes * own / np.array(spacing) if spacing else shapes
    tiles = _tiles(sides, plan, plan.predict.overlap)
    if looked >= LEAST_ASKED and _tiles(sides, plan, LESS[0]) < tiles:
        cases += min(looked, MOST_ASKED_TILES) * (1 + len(LESS))
    tiles *= (2 ** sum(plan.augment.mirror) if plan.predict.mirror else 1) * plan.net.networks * plan.members
    return float(REPORT_SECONDS * busy + cases * (1.2 * tiles * plan.expected.tile_seconds + VOXEL_SECONDS * shapes.prod(1).mean() + 0.1))


def _tiles(sides: NDArray[np.float64], plan: Plan, overlap: float) -> float:
    """Mean tiles of scans with `sides` (cases, axes) on the network's grid."""
    stride = np.array(plan.patch.size) * (1 - overlap)
    return float((np.maximum(0, np.ceil((sides - plan.patch.size) / stride)) + 1).prod(1).mean())


def testing_of_images(run: Run, baseline: Shallow | None, *, busy: float) -> float:
    """The same where images alone are learned from, with the question whether that was worth it."""
    return testing_images(run) + SPARE * asking_worth(run, busy=busy)


def asking_worth(run: Run, *, busy: float) -> float:
    """Seconds that the report takes to set what was learned beside plain rivals: every image is described by the method as it is and as it
    was before it learned, and those of one part are brought back; probes and groups follow, and for some methods how likely images are."""
    fold, plan, labels = run.splits["folds"][0], run.plan, run.dataset.labels
    train, val, test = (min(len(names), MOST_ASKED) for names in (fold["train"], fold["val"], run.splits["test"]))
    cases = train + val + test
    judged = labels.grain == "case" and any(case.classes is not None for case in run.dataset.cases)
    processor = WORTH_CPU + cases * (PROBED if judged else COMPARED)
    if callable(getattr(METHODS[plan.train.method], "likelihood", None)):
        processor += LIKELY * plan.expected.parameters
    return (2 * cases + (test or val)) * plan.expected.tile_seconds + processor * busy


TESTING = {"voxel": testing_voxels, "case": testing_cases, "image": testing_of_images}
