"""The table of a transfer audit: each rival's value and its difference to learning from scratch, and sentences that say who is better."""

from collections.abc import Iterable, Mapping
from typing import Any

from vesalius.audit.rounds import Outcome, compared
from vesalius.audit.transfer_plan import SCRATCH, Job
from vesalius.audit.transfer_runs import PIXELS
from vesalius.audit.verdicts import listed, standing
from vesalius.data.labels import Labels

WAYS = {"fine_tuned": "fine-tuned", "linear_probe": "linear probe on features as they begin",
        "neighbour_probe": "votes of neighbours on features as they begin"}  # fmt: skip
Found = Iterable[tuple[Job, dict[str, Outcome], dict[str, float]]]


def tabled(found: Found, labels: Labels, *, draws: int) -> dict[str, Any]:
    """{"measure", "tables": {way: {labels: {rival: ...}}}, "verdict", "remarks", "seconds": {rival: mean of a run}}."""
    outcomes: dict[str, dict[int, dict[str, dict[int, Outcome]]]] = {}
    seconds: dict[str, list[float]] = {}
    for job, hows, spent in found:
        seconds.setdefault(job.rival, []).append(spent["fine_tuned"])
        for how, one in hows.items():
            way, rival = (how.removesuffix(f"_{PIXELS}"), PIXELS) if how.endswith(f"_{PIXELS}") else (how, job.rival)
            outcomes.setdefault(way, {}).setdefault(job.labels, {}).setdefault(rival, {})[job.seed] = one
    tables = {way: {str(number): compared(outcomes[way][number], labels, against=SCRATCH, draws=draws) for number in sorted(outcomes[way])}
              for way in WAYS if way in outcomes}  # fmt: skip
    return {
        "measure": "auc" if labels.grain == "case" else "dice", "tables": tables, "verdict": verdict(tables.get("fine_tuned", {})),
        "remarks": remarks(tables), "seconds": {rival: sum(spent) / len(spent) for rival, spent in seconds.items()},
    }  # fmt: skip


def verdict(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """{"tone", "headline", "sentences"}: from which numbers of labels who is better than scratch, or worse, or not told apart."""
    states: dict[str, dict[str, list[str]]] = {}
    for number, row in table.items():
        for rival, cell in row.items():
            if cell["gap"] is not None:
                states.setdefault(rival, {}).setdefault(standing(cell["gap"]), []).append(number)
    if not states:
        return {"tone": "unsure", "headline": "Nothing is there yet to be compared with learning from scratch.", "sentences": []}
    better = [f"{rival} (at {listed(found['better'])} labels)" for rival, found in states.items() if "better" in found]
    worse = [f"{rival} (at {listed(found['worse'])} labels)" for rival, found in states.items() if "worse" in found]
    alike = [f"{rival} (at {listed(found['not told apart'])} labels)" for rival, found in states.items() if "not told apart" in found]
    headline = f"Better than from scratch: {'; '.join(better)}." if better else "Nothing is better than learning from scratch on this data."
    sentences = [f"Worse than from scratch: {'; '.join(worse)}."] if worse else []
    sentences += [f"Not told apart from it: {'; '.join(alike)}."] if alike else []
    return {"tone": "good" if better else "bad" if worse else "unsure", "headline": headline, "sentences": sentences}


def remarks(tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """How far the intervals can be trusted."""
    table = tables.get("fine_tuned", {})
    seeds = {len(cell["seeds"]) for row in table.values() for cell in row.values()}
    gaps = sum(cell["gap"] is not None for row in table.values() for cell in row.values())
    told = []
    if seeds and min(seeds) < 2:
        told.append("Some numbers are of one seed: their intervals are over test patients alone, and another draw of labels may "
                    "turn them round.")  # fmt: skip
    elif seeds and min(seeds) < 5:
        told.append(f"Intervals are over test patients and {min(seeds)} seeds; with so few seeds they are rough, rather too narrow.")
    if gaps > 1:
        told.append(f"There are {gaps} comparisons with scratch: of so many one in twenty leaves out zero by chance alone.")
    return told
