"""One call for each of many things, by threads, answers in order, and never more of them at hand than are about to be used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
AHEAD = 4  # calls for each thread that are under way or answered and not yet taken


def answers(call: Callable[[Item], Answer], items: Iterable[Item], *, threads: int) -> Iterator[Answer]:
    """`call` of each of `items` in their order. `Executor.map` puts all of them on its list at once and keeps every answer that
    is not taken yet, so that its memory grows with their number; here it does not."""
    left, waiting = iter(items), deque[Future[Answer]]()
    with ThreadPoolExecutor(threads) as pool:
        try:
            waiting.extend(pool.submit(call, item) for item in islice(left, AHEAD * threads))
            while waiting:
                found = waiting.popleft().result()
                waiting.extend(pool.submit(call, item) for item in islice(left, 1))
                yield found
        finally:
            for one in waiting:
                one.cancel()
