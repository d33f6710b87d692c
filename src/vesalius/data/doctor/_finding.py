"""What the doctor says: one finding each."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "repaired", "note"]
ORDER: tuple[Severity, ...] = ("error", "warning", "repaired", "note")


@dataclass(frozen=True)
class Finding:
    """`check` is the question that was asked ("geometry"), `cases` whom it concerns, `remedy` what to do.

    "error" stops a training, "warning" is for a person to judge, "repaired" was put right while reading, "note" is good to know.
    `details` are plain JSON.
    """

    check: str
    severity: Severity
    message: str
    cases: tuple[str, ...] = ()
    remedy: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def some(names: Iterable[str], most: int = 4) -> str:
    """'a, b and 4 more'."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def cases_word(count: int, of: int) -> str:
    """'3 of 20 cases', 'all 20 cases'."""
    return f"all {of} cases" if count == of and of > 1 else f"{count} of {of} cases"
