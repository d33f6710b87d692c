"""What several suites ask: nonsense is refused in words."""

from collections.abc import Callable, Sequence

from vesalius.core.errors import VesaliusError


def refused(name: str, wrong: Sequence[Callable[[], object]]) -> None:
    """Each of `wrong` raises an error that says something."""
    for number, make in enumerate(wrong):
        try:
            make()
        except VesaliusError as problem:
            assert len(str(problem)) > 20
        else:
            raise AssertionError(f"{name} accepted nonsense number {number}")
