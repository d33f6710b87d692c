"""Methods that learn in two parts, the second from what the first has learned."""

from math import nan

from torch import nn

from vesalius.core.errors import UsageError


class Phases(nn.Module):
    """The first part learns until `until` of the time has passed, the second from then on. The loop tells how much has; where nobody does,
    both learn in every step."""

    def __init__(self, until: float) -> None:
        super().__init__()
        if not 0 < until < 1:
            raise UsageError(f"The first part of learning ends at a share of the time between 0 and 1; got {until}.")
        self.until, self.passed = until, nan

    def progress(self, share: float) -> None:
        """As the loop tells it."""
        self.passed = share

    @property
    def first(self) -> bool:
        """Whether the first part learns."""
        return not self.passed >= self.until

    @property
    def second(self) -> bool:
        """Whether the second part learns."""
        return not self.passed < self.until
