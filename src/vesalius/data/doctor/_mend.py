"""A split that tears copies apart, mended: copies and the patients that they tie together lie on one side."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.doctor._finding import Finding, some
from vesalius.data.split import grouped

SIDES = ("train", "val", "test")  # of two sides that hold as many copies the first is taken


def mended(dataset: Dataset, findings: Sequence[Finding]) -> tuple[Dataset, tuple[Finding, ...]]:
    """`dataset` with every group of copies (equal or alike, as `findings` tell) as one patient, on the side where most of it was; and the
    findings with the leaks that this mends told as repaired."""
    together = list(pairs(findings))
    groups = grouped(dataset.cases, together)
    moved: list[str] = []
    made: dict[str, Case] = {}
    for name, cases in groups.items():
        side = side_of(cases)
        moved += [case.name for case in cases if case.split and case.split != side]
        made |= {case.name: replace(case, patient=name, split=side if case.split else "") for case in cases}
    if not moved:
        return dataset, tuple(findings)
    tied = sum(len(cases) > 1 for cases in groups.values())
    words = (f"Copies and patients lay on two sides of the split: {len(moved)} cases were moved, so that each of {tied} groups lies where "
             f"most of it was ({some(moved)}). Each group counts as one patient.")  # fmt: skip
    repaired = Finding("leak", "repaired", words, tuple(moved), "", {"moved": moved})
    kept = [finding for finding in findings if finding.check not in ("leak", "copies")]
    errors = [finding for finding in kept if finding.severity == "error"]
    rest = [finding for finding in kept if finding.severity != "error"]
    return dataset.with_cases(tuple(made[case.name] for case in dataset.cases)), (*errors, repaired, *rest)


def pairs(findings: Iterable[Finding]) -> Iterable[tuple[str, str]]:
    """Pairs of copies that the findings tell of."""
    for finding in findings:
        if finding.check in ("leak", "copies"):
            yield from ((one, other) for one, other, _ in finding.details.get("pairs", ()))
            named = finding.cases if "by" in finding.details else ()
            yield from ((named[0], other) for other in named[1:])


def side_of(cases: Sequence[Case]) -> str:
    """Where most of the cases lie."""
    counts = Counter(case.split for case in cases if case.split)
    return max(SIDES, key=lambda side: (counts[side], -SIDES.index(side))) if counts else ""
