"""Few labels out of many: subsets that hold one another (10 in 20 in 50), alike in their classes, and never a patient on two sides."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vesalius.core.errors import UsageError
from vesalius.data.case import Case

EVERY = 5  # one of five patients of a kind validates: of the largest kind the second, of the next the third, so that a few are enough


@dataclass(frozen=True)
class Nested:
    """Cases in the order in which labels are given to them; the patients of `validates` are validated on."""

    cases: tuple[Case, ...]
    validates: frozenset[str]

    def first(self, number: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        """The cases to learn from and to validate on where `number` have labels."""
        if number > len(self.cases):
            raise UsageError(f"{number} labels were asked for; {len(self.cases)} cases beside the test part have one.")
        some = self.cases[:number]
        sides = tuple(tuple(case for case in some if (case.patient in self.validates) == side) for side in (False, True))
        if not all(sides):
            raise UsageError(f"{number} labels are too few: {len(sides[0])} to learn from and {len(sides[1])} to validate on. Take more.")
        return sides[0], sides[1]


def nested(cases: Sequence[Case], *, seed: int) -> Nested:
    """`cases` patient by patient in an order drawn with `seed`: each kind of patient first comes once, then in proportion to its cases."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.patient].append(case)
    kind = kinds(groups)
    draw = np.random.default_rng((seed, 20))
    order = [sorted(groups)[k] for k in draw.permutation(len(groups))]
    queues: dict[str, list[str]] = defaultdict(list)
    for patient in order:
        queues[kind[patient]].append(patient)
    largest = sorted(queues, key=lambda name: (-len(queues[name]), name))
    validates = frozenset(patient for rank, name in enumerate(largest) for patient in queues[name][1 + rank % (EVERY - 1) :: EVERY])
    taken = _dealt(queues, {patient: len(found) for patient, found in groups.items()})
    return Nested(tuple(case for patient in taken for case in sorted(groups[patient], key=lambda c: c.name)), validates)


def _dealt(queues: dict[str, list[str]], size: dict[str, int]) -> list[str]:
    """Patients one after the other, each from the kind that lags most behind its share of all cases."""
    total = {kind: sum(size[p] for p in queue) for kind, queue in queues.items()}
    every, done, place = sum(total.values()), dict.fromkeys(queues, 0), dict.fromkeys(queues, 0)
    taken: list[str] = []
    while len(taken) < len(size):
        left = [kind for kind in queues if place[kind] < len(queues[kind])]
        so_far = sum(done.values()) + 1
        now = max(left, key=lambda kind: (place[kind] == 0, total[kind] / every * so_far - done[kind], total[kind], kind))
        patient = queues[now][place[now]]
        taken.append(patient)
        place[now] += 1
        done[now] += size[patient]
    return taken


def kinds(groups: dict[str, list[Case]]) -> dict[str, str]:
    """What each patient shows: the rarest class or finding of its cases, "none" without any; "" where no case is labelled as a whole."""
    shown = {patient: {name for case in found for name, there in (case.classes or {}).items() if there}
             for patient, found in groups.items()}  # fmt: skip
    number = Counter(name for names in shown.values() for name in names)
    whole = any(case.classes is not None for found in groups.values() for case in found)
    return {patient: min(names, key=lambda name: (number[name], name)) if names else "none" if whole else ""
            for patient, names in shown.items()}  # fmt: skip
