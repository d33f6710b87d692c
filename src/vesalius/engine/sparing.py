"""How far the tiles of a scan overlap: half, as nnU-Net has it (Isensee et al. 2021), unless validation cases bear less.

Tiles that overlap by half see most voxels several times over; spread evenly, as few as cover a scan see them hardly more than once. What
that costs depends on the network and the scans, so validation cases are asked: the fewest tiles are taken whose mean Dice is at most
.001 below that of half-overlapping tiles, and with two standard errors of the paired loss at most .005, so that chance does not decide.
Kept in the plan of the run, with its reason; what a user has set is left alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vesalius.data.cache import Stored
from vesalius.data.primed import with_odds
from vesalius.engine.certain import asked_of, standard_error
from vesalius.engine.infer import callables, classes, tiling
from vesalius.engine.priming import priors_of
from vesalius.engine.progress import Tick
from vesalius.engine.run import Run
from vesalius.engine.tiles import Cut
from vesalius.plan import Plan
from vesalius.plan.budget import device

HALF, LESS = 0.5, (0.125, 0.25)  # what is compared with, and what is asked about, the fewest tiles first
LOSS, CERTAINLY = 0.001, 0.005  # Dice that fewer tiles may cost in the mean of validation cases, and with two standard errors
LEAST_CASES, MOST_CASES = 3, 12
SET_BY_HAND = ("set by the user", "edited by hand")
FEWER, AS_PLANNED = "validation cases bear fewer tiles", "tiles half over each other: validation cases bear no fewer"
Floats = NDArray[np.float64]


def with_overlap(plan: Plan, overlap: float) -> Plan:
    """`plan` with tiles that overlap by `overlap`."""
    return plan.model_copy(update={"predict": plan.predict.model_copy(update={"overlap": overlap})})


def free(plan: Plan) -> bool:
    """Whether nobody has set how far tiles overlap: it is as it was planned, or as it was set here before."""
    why = plan.reasons.get("predict.overlap", "")
    return why.startswith(FEWER) or (plan.predict.overlap == HALF and why not in SET_BY_HAND)


def tiles_of(plan: Plan, shapes: Sequence[tuple[int, ...]]) -> int:
    """Tiles of all scans of `shapes` on the network's grid."""
    return sum(Cut(shape, replace(tiling(plan), skip=None)).count for shape in shapes)


def settle_overlap(run: Run, stored: Mapping[str, Stored], *, tick: Tick) -> str:
    """Set, on validation cases, how far tiles overlap; what was set, in a sentence, or "" where nothing was asked."""
    if not free(run.plan):
        return ""
    asked = [(k, case) for k, cases in asked_of(run, stored).items() for case in cases]
    asked = asked[:: -(-len(asked) // MOST_CASES)] if asked else []
    shapes = [tuple(case.target.shape[1:]) for _, case in asked]
    counts = {overlap: tiles_of(with_overlap(run.plan, overlap), shapes) for overlap in (HALF, *LESS)}
    fewer = [overlap for k, overlap in enumerate(LESS) if counts[overlap] < counts[LESS[k + 1] if k + 1 < len(LESS) else HALF]]
    if len(asked) < LEAST_CASES or not fewer:
        return ""
    truth, found = scores(run, asked, HALF, tick=tick), dict[float, Floats]()
    for overlap in fewer:
        found[overlap] = scores(run, asked, overlap, tick=tick)
        if borne(found[overlap], truth):
            break
    best = next((overlap for overlap, some in found.items() if borne(some, truth)), HALF)
    why = reason(best, found, truth, counts=counts)
    run.replan(with_overlap(run.plan, best).because(predict__overlap=why))
    return why


def scores(run: Run, asked: Sequence[tuple[int, Stored]], overlap: float, *, tick: Tick) -> Floats:
    """Quick score of each of the cases `asked`, by the networks of its fold, with tiles that overlap by `overlap`."""
    plan, where, out = with_overlap(run.plan, overlap), device(), []
    for done, (k, case) in enumerate(asked, start=1):
        member = run.members[k]
        networks, priors = callables(run.networks([member]), plan, where), priors_of(run, run.trained([member]))
        image = with_odds(np.asarray(case.image, np.float32), priors)
        said = classes(networks, image, image.shape[1:], plan=plan, device=where)
        out.append(run.task.quick_score(said, case.target, plan.labels))
        tick(done, len(asked), f"tiles that overlap by {overlap:g}")
    return np.array(out)


def borne(scored: Floats, truth: Floats) -> bool:
    """Whether fewer tiles cost next to nothing: `scored` beside the `truth` of half-overlapping ones, case by case."""
    loss = truth - scored
    return bool(loss.mean() <= LOSS and loss.mean() + 2 * standard_error(loss) <= CERTAINLY)


def reason(best: float, found: Mapping[float, Floats], truth: Floats, *, counts: Mapping[float, int]) -> str:
    """Why tiles overlap by `best`, with the figures."""
    told = [f"{overlap:g}: Dice {some.mean():.4f}, a case at worst {(some - truth).min():+.4f}, {counts[overlap] / counts[HALF]:.2f} of "
            "the tiles" for overlap, some in found.items()]  # fmt: skip
    return f"{FEWER if best < HALF else AS_PLANNED} ({len(truth)} cases; {HALF:g}: Dice {truth.mean():.4f}; {'; '.join(told)})"
