"""The data doctor: looks at every case once, before anything is learned from it, and says what is wrong and what to do."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vesalius.core.threads import answers
from vesalius.data.dataset import Dataset
from vesalius.data.doctor import _classes, _content, _files, _together
from vesalius.data.doctor._controls import controls as _controls
from vesalius.data.doctor._draw import draw_findings
from vesalius.data.doctor._finding import ORDER, Finding, Severity
from vesalius.data.doctor._look import Look, look, sheets
from vesalius.data.doctor._mend import mended
from vesalius.data.doctor._questions import questions
from vesalius.data.doctor._sources import sources
from vesalius.data.doctor.duplicates import Pair, clusters, duplicates
from vesalius.data.split import Split

__all__ = ["Finding", "Pair", "Severity", "clusters", "draw", "duplicates", "examine", "mended", "told"]

CHECKS = (
    _files.unreadable, _files.dimensions, _files.missing, _files.components, _files.geometry, _files.channel_grids, _files.spacings,
    _content.not_finite, _content.constant, _content.modality, _content.uptake, _content.mask_values, _content.eight_bit_masks,
    _content.empty_masks, _content.rare_labels, _content.flipped, _classes.enough_of_each, _classes.uneven, _classes.kinds_of_views,
    _together.patients,
)  # fmt: skip
SHORTCUTS = ("margin", "site", "shuffle", "shortcut")  # checks of what gives a class away without showing it
OF_ANSWERS = (
    _files.geometry, _content.mask_values, _content.eight_bit_masks, _content.empty_masks, _content.rare_labels, _content.flipped,
    _classes.enough_of_each, _classes.uneven,
)  # fmt: skip


def examine(dataset: Dataset, *, split: Split | None = None, progress: Callable[[int, int], None] | None = None,
            controls: bool = True) -> tuple[Finding, ...]:  # fmt: skip
    """All findings, errors first. Without `split` the split that the data set gives is checked for leaks.

    Every file is read once, by up to eight threads; `progress` is told cases done and in all. `controls`: whether the margin, the
    centre, shuffled labels or the site tell the classes of whole cases is looked at too.
    """
    seen = looks(dataset, progress)
    checks = [check for check in CHECKS if not (dataset.alone and check in OF_ANSWERS)]
    found = [finding for check in checks for finding in check(dataset, seen)]
    alike = _together.pairs(dataset, seen)
    folds = _together.sides_of(dataset, split)
    found += [*_together.copies(alike), *_together.contradictions(dataset, alike)]
    found += [*_together.leaks(dataset, alike, folds), *_together.header_leaks(seen, folds)]
    asked = questions(dataset, seen, alike)
    found += [*sources(dataset, asked), *(_controls(dataset, asked) if controls else ())]
    return tuple(sorted(found, key=lambda finding: ORDER.index(finding.severity)))


def told(findings: Sequence[Finding]) -> list[str]:
    """What is said of warnings before anything is learned: in full what may be learned in place of the class, of the rest how many there
    are and where they stand."""
    warnings = [finding for finding in findings if finding.severity == "warning"]
    rest = [finding.check for finding in warnings if finding.check not in SHORTCUTS]
    words = [f"Warning: {finding.message}" for finding in warnings if finding.check in SHORTCUTS]
    count = f"{len(rest)} {'warning' if len(rest) == 1 else 'warnings'}"
    return words + ([f"The doctor has {count} ({', '.join(dict.fromkeys(rest))}): see doctor.json, the report or vesalius inspect."]
                    if rest else [])  # fmt: skip


def looks(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> list[Look]:
    """One look at each case, in order."""
    seen, sheet = [], sheets()
    for one in answers(lambda case: look(case, dataset.channels, dataset.labels, sheet=sheet), dataset.cases,
                       threads=min(8, os.cpu_count() or 1)):  # fmt: skip
        seen.append(one)
        if progress:
            progress(len(seen), len(dataset.cases))
    return seen


def draw(dataset: Dataset, findings: tuple[Finding, ...], folder: Path) -> list[Path]:
    """Pictures as PNG in `folder`: a sheet of cases with the outlines of their masks (those with findings first), and the
    pairs that look like copies side by side; margins where they tell the class. Gives the paths that were written."""
    return draw_findings(dataset, findings, folder)
