"""Batches drawn ahead of the loop that learns from them."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from vesalius.data.batch import Batch

Draw = Callable[[int, int], Batch]  # (step, joint batch size) -> this process's share
HANDED = 1e-4  # seconds that it costs to be handed a batch by another thread, measured on one core


class Ahead:
    """The next batch is drawn while this one is learned from; one that was drawn for another step or size is drawn anew.

    Where a draw takes less time than it takes to hand it over between threads, it is done when it is asked for."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.pool = ThreadPoolExecutor(1)
        self.coming: dict[tuple[int, int], Future[tuple[Batch, float]]] = {}
        self.seconds = math.inf  # that the last draw took

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def take(self, step: int, size: int) -> Batch:
        """Batch number `step` of `size` samples in all."""
        now = self.coming.get((step, size))
        if now is None and self.seconds < HANDED:
            batch, self.seconds = self._drawn(step, size)
            return batch
        now, self.coming = now or self.pool.submit(self._drawn, step, size), {}
        if self.seconds >= HANDED:
            self.coming[step + 1, size] = self.pool.submit(self._drawn, step + 1, size)
        batch, self.seconds = now.result()
        return batch

    def _drawn(self, step: int, size: int) -> tuple[Batch, float]:
        begun = time.perf_counter()
        return self.draw(step, size), time.perf_counter() - begun
