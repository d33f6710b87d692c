"""Which rules decide on which case: the same for all, or for the cases of each fold those that were fitted without them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.metrics._answers import Cut

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Rules:
    """Calibrations (`each`), and `of` (N,) the number of the one that decides on each of N cases."""

    each: Sequence[Mapping[str, Any]]
    of: Index

    @classmethod
    def one(cls, calibration: Mapping[str, Any], cases: int) -> "Rules":
        """The same `calibration` for all."""
        return cls((calibration,), np.zeros(cases, np.intp))

    @property
    def parts(self) -> list[tuple[int, Index]]:
        """The number of each calibration that decides on anything, with the cases; the first one where there is no case."""
        numbers = np.unique(self.of).tolist() or [0]
        return [(number, np.flatnonzero(self.of == number)) for number in numbers]

    def told(self, function: Callable[[int, Index], NDArray[Any]]) -> NDArray[Any]:
        """(N, ...) what `function` says of some cases by the calibration of that number, in the order of the cases."""
        found = [(rows, function(number, rows)) for number, rows in self.parts]
        order = np.argsort(np.concatenate([rows for rows, _ in found]))
        return np.asarray(np.concatenate([said for _, said in found])[order])

    @property
    def thresholds(self) -> dict[str, Cut]:
        """By name, as numbers where all cases have the same, else (N,); one half where a calibration has none."""
        limits = [calibration.get("thresholds") or {} for calibration in self.each]
        if len(limits) == 1:
            return {name: float(cut) for name, cut in limits[0].items()}
        names = dict.fromkeys(name for one in limits for name in one)
        return {name: np.array([one.get(name, 0.5) for one in limits], float)[self.of] for name in names}


def sliced(thresholds: Mapping[str, Cut], rows: Index) -> dict[str, Cut]:
    """The thresholds of the cases `rows`."""
    return {name: cut if isinstance(cut, float) else cut[rows] for name, cut in thresholds.items()}
