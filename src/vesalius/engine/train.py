"""The one loop: every method learns here, from a U-Net's one optimiser to a GAN's two.

The loop owns what methods should not think of: the clock, precision, averaging, clipping, several processes, the state
on disk, and what goes wrong (not-a-number, out of memory, a full disk, Ctrl-C). Every batch is a pure function of (seed,
step), so a run that was killed continues as if it had not been.
"""

import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim import Optimizer

from vesalius.core.environment import process_rank
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.files import remove_halves, write_text
from vesalius.data.batch import Batch
from vesalius.engine.ahead import Ahead, Draw
from vesalius.engine.average import State, averaged, follow
from vesalius.engine.state import Weights, load_weights, pack, save_weights, unpack
from vesalius.methods import Method
from vesalius.plan.plan import Train

STATE_SHARE = 0.02  # of the time goes into states on disk ...
STATE_SECONDS = 0.5, 60.0  # ... with at least and at most so long between two of them
STATE, BEST = Path("checkpoint") / "state.safetensors", Path("checkpoint") / "best.safetensors"
LOG_SECONDS = 10.0  # between two versions of log.csv on disk
PATIENCE = 5  # steps in a row whose loss or gradient is not a number before the last state is taken again
CLIP_EPS = 1e-6  # that torch adds to the norm
COLUMNS = ("step", "seconds", "progress", "loss", "learning_rate", "validation")
Validate = Callable[[nn.Module], float | None]


@dataclass
class Clock:
    """How far the run is: by time where there is a deadline, by steps otherwise. `spent` are seconds of earlier sittings."""

    train: Train
    spent: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds spent learning, earlier sittings included."""
        return self.spent + time.monotonic() - self.started

    def progress(self, step: int) -> float:
        """0 at the start, 1 at the end."""
        if self.train.seconds is None:
            return step / self.train.steps
        return self.seconds / self.train.seconds


@dataclass
class Loop:
    """One member learning: its method, its folder, its clock, and where it stands."""

    method: Method
    train: Train
    batch: int
    folder: Path
    device: str = "cpu"
    say: Callable[[str], None] = lambda text: None
    tick: Callable[[dict[str, Any]], None] = lambda row: None
    stop: Callable[[], bool] = lambda: False
    finish: Callable[[nn.Module], None] | None = None  # what a method does once with the averaged weights, before they are kept

    def __post_init__(self) -> None:
        self.rank, self.world = process_rank()
        if self.batch < self.world:
            raise UsageError(f"A batch of {self.batch} cannot be shared by {self.world} processes. "
                             f"Start fewer, or plan with --set patch.batch={self.world}")  # fmt: skip
        self.optimisers = self.method.train().optimisers()
        self.rates = {name: [group["lr"] for group in o.param_groups] for name, o in self.optimisers.items()}
        self.average: Weights = {name: value.detach().clone() for name, value in self.method.state_dict().items()}
        self.clock = Clock(self.train)
        self.step, self.bad, self.slower, self.unsaved = 0, 0, 1.0, False
        self.cast = torch.autocast(self.device, torch.bfloat16, enabled=self.train.precision == "bf16")
        self.state = State(self.method)
        self.stepper: nn.Module = Turns(self.method)
        if self.world > 1:
            self.stepper = nn.parallel.DistributedDataParallel(self.stepper, find_unused_parameters=len(self.optimisers) > 1)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def fit(self, draw: Draw, validate: Validate | None = None) -> bool:
        """Learn until the clock says 1 or the user stops; True if it ran to its end. The averaged weights are on disk."""
        self.resume()
        log = Log(self.folder / "log.csv", self.step, active=self.rank == 0)
        progress, stopped = self._now()
        looked = int(progress * self.train.validations)
        due = self.save(log)
        with Ahead(draw) as ahead:
            while progress < 1 and not stopped:
                loss = self._guarded(ahead, progress)
                if loss is None:  # out of memory: the same step again with half the batch
                    continue
                self.step += 1
                progress, stopped = self._now()
                turn = int(progress * self.train.validations)
                score = self._look(validate) if validate and looked < turn < self.train.validations else None
                looked = max(looked, turn)
                self._tell(log, progress, loss, score=score)
                if time.monotonic() > due and not self.bad and self._sound():
                    due = self.save(log)
        if not self._sound():
            self._bring_back()
        self.save(log)
        if validate and progress >= 1:
            self._best(validate)
        self._finish()
        self._keep(final=progress >= 1)
        return progress >= 1

    def _finish(self) -> None:
        """What the method gathers with its averaged weights is kept with them. Learning is over: a later sitting begins from the state."""
        if self.finish is not None and self.step:
            self.method.load_state_dict(self.average)
            self.finish(self.method.eval())
            self.average = {name: value.detach().clone() for name, value in self.method.state_dict().items()}

    def _now(self) -> tuple[float, bool]:
        """Progress and whether to stop, the same in every process (the first one decides)."""
        now = [self.clock.progress(self.step), float(self.stop())]
        if self.world > 1:
            told = torch.tensor(now, dtype=torch.float64)
            dist.broadcast(told, 0)
            now = told.tolist()
        return min(now[0], 1.0), bool(now[1])

    def _guarded(self, ahead: Ahead, progress: float) -> float | None:
        try:
            return self._turns(ahead.take(self.step, self.batch), progress)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as problem:
            if not _is_memory(problem):
                raise
            if self.world > 1:  # the other processes wait in the middle of this step and cannot be told
                raise VesaliusError(f"Out of memory in one of {self.world} processes at step {self.step}; the last state is kept. "
                                    "Plan with less: --memory 4G, or --set patch.size=[...]") from problem  # fmt: skip
            if self.batch == 1:
                raise VesaliusError(
                    "Out of memory with a single sample. Plan with less: --memory 4G, or --set patch.size=[...]"
                ) from problem
            self.batch //= 2
            self.say(f"Out of memory at step {self.step}: the batch is halved to {self.batch}.")
            for optimiser in self.optimisers.values():
                optimiser.zero_grad(set_to_none=True)
            return None

    def _turns(self, batch: Batch, progress: float) -> float:
        """One step: each turn of the method is summed, sent back and stepped before the next is asked for.

        Processes mean their gradients; a share that is not the same everywhere counts by its size."""
        self._rate(progress)
        self.method.progress(progress)
        if not self.method.training:
            self.method.train()
        total = 0.0
        share = len(batch) * self.world / self.batch if self.world > 1 else 1.0
        turns = self.method.steps(batch)
        while True:
            with self.cast:
                try:
                    name, losses = self.stepper(turns)
                except StopIteration:
                    break
            loss = _summed([term.float() for term in losses.values()])
            value = self._descend(self.optimisers[name], loss if share == 1 else loss * share)
            if math.isnan(value):
                self._left_out()
                return math.nan
            total += value / share
        self.bad = 0
        self._blend(progress)
        return total

    def _descend(self, optimiser: Optimizer, loss: Tensor) -> float:
        """Backward, clip and step; the loss. No step and not-a-number where the loss or the gradient of any process is none."""
        weights = [p for group in optimiser.param_groups for p in group["params"]]
        for weight in weights:
            weight.grad = None
        if self.world > 1:  # what is no number in one process then is none in the gradients of any, as they are meaned
            loss = loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)
        loss.backward()  # type: ignore[no-untyped-call]
        slopes = [p.grad for p in weights if p.grad is not None]
        value, norm = float(loss.detach()), nn.utils.get_total_norm(slopes)
        if not math.isfinite(value + float(norm)):
            optimiser.zero_grad(set_to_none=True)
            return math.nan
        if float(norm) + CLIP_EPS > self.train.clip:  # below that clipping would multiply by 1
            nn.utils.clip_grads_with_norm_(weights, self.train.clip, norm)
        optimiser.step()
        return value

    def _left_out(self) -> None:
        """A few steps without a number are left out; many bring the last state back, at a smaller rate."""
        self.bad += 1
        if self.bad < PATIENCE:
            return
        self.bad, self.slower = 0, self.slower / 2
        if self.slower < 0.1:
            raise VesaliusError(f"The loss is not a number, again and again (step {self.step}). Look at the data with "
                                "vesalius inspect, or try --set train.precision=fp32 --set train.learning_rate=0.0003")  # fmt: skip
        self.say(f"The loss is not a number at step {self.step}: back to the last state with half the learning rate.")
        self._bring_back()

    def _bring_back(self) -> None:
        """The weights of the last state; the clock and the steps go on."""
        if self.state_file.exists():
            unpack(load_weights(self.state_file)[0], self.method, self.average, optimisers=self.optimisers)

    def _sound(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(value.isfinite().all()) for value in self.method.state_dict().values() if value.is_floating_point())

    def _rate(self, progress: float) -> None:
        factor = one_cycle(progress, self.train.warm_up) * self.slower
        for name, optimiser in self.optimisers.items():
            for group, peak in zip(optimiser.param_groups, self.rates[name], strict=True):
                group["lr"] = peak * factor

    def _blend(self, progress: float) -> None:
        """The averaged weights follow the weights over the last `ema` part of the run."""
        horizon = max(10.0, self.train.ema * (self.step + 1) / max(progress, 1e-6))
        keep = min(1 - 1 / horizon, (1 + self.step) / (10 + self.step))
        follow(self.average, self.state, keep)

    # -- looking and telling ---------------------------------------------------------------------------------------------

    def _look(self, validate: Validate) -> float | None:
        if self.rank:
            return None
        with averaged(self.method, self.average) as method:
            score = validate(method)
        if self.train.best and score is not None and score > self._best_score():
            words = {"score": score, "step": self.step}
            self._write(lambda: save_weights(self.folder / BEST, self.average, words))
        return score

    def _best_score(self) -> float:
        file = self.folder / BEST
        return float(load_weights(file)[1]["score"]) if file.exists() else -math.inf

    def _best(self, validate: Validate) -> None:
        """The averaged weights of an earlier look take the place of the last ones where they were better by more than `train.best`."""
        file = self.folder / BEST
        if not (self.train.best and file.exists() and self.rank == 0):
            return
        kept, words = load_weights(file)
        last = self._look(validate) or 0.0
        if words["score"] > last + self.train.best:
            self.average = {name: kept[name].to(value.device) for name, value in self.average.items()}
            self.say(f"Longer learning was no better: the weights of step {words['step']:,} are kept, which scored {words['score']:.4f} "
                     f"on validation cases, {last:.4f} at the end.")  # fmt: skip

    def _tell(self, log: "Log", progress: float, loss: float, *, score: float | None) -> None:
        rate = next(iter(self.optimisers.values())).param_groups[0]["lr"]
        row = {"step": self.step, "seconds": round(self.clock.seconds, 3), "progress": round(progress, 6), "loss": loss,
               "learning_rate": rate, "validation": score}  # fmt: skip
        log.add(row)
        if time.monotonic() - log.flushed > LOG_SECONDS:
            self._write(log.flush)
        self.tick(row)

    # -- the state on disk -------------------------------------------------------------------------------------------------

    @property
    def state_file(self) -> Path:
        return self.folder / STATE

    def resume(self) -> None:
        """Continue from the state on disk, if there is one."""
        if self.rank == 0:
            for folder in (self.folder, self.state_file.parent):
                remove_halves(folder)
        if not self.state_file.exists():
            return
        packed, words = load_weights(self.state_file)
        unpack(packed, self.method, self.average, optimisers=self.optimisers)
        self.step, self.slower = words["step"], words["slower"]
        self.batch = min(self.batch, words["batch"])  # it may have been halved for want of memory
        self.clock = Clock(self.train, spent=words["seconds"])

    def save(self, log: "Log") -> float:
        """The log, the state and the weights on disk. Returns when it is due again."""
        begun = time.monotonic()
        if self.rank == 0:
            self._write(lambda: self._save(log))
        now = time.monotonic()
        return now + min(max((now - begun) / STATE_SHARE, STATE_SECONDS[0]), STATE_SECONDS[1])

    def _save(self, log: "Log") -> None:
        log.flush()
        words = {"step": self.step, "batch": self.batch, "seconds": self.clock.seconds, "slower": self.slower}
        save_weights(self.state_file, pack(self.method, self.average, self.optimisers), words)
        if self.step:
            self._keep(final=False)

    def _write(self, work: Callable[[], None]) -> None:
        """What learning can do without for a while: a disk that is full is told once and tried again later."""
        try:
            work()
            self.unsaved = False
        except VesaliusError as problem:
            if not self.unsaved:
                self.say(f"The state was not saved: {problem} Learning goes on.")
            self.unsaved = True

    def _keep(self, *, final: bool) -> None:
        if self.rank == 0:
            prefix = "net."
            net = {name[len(prefix) :]: value for name, value in self.average.items() if name.startswith(prefix)}
            save_weights(self.folder / "weights.safetensors", net, {"step": self.step, "final": final})


class Turns(nn.Module):
    """`forward(turns)` is `next(turns)`, so that DistributedDataParallel sees every turn of a method."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, turns: Iterator[tuple[str, dict[str, Tensor]]]) -> tuple[str, dict[str, Tensor]]:
        return next(turns)


class Log:
    """log.csv: rows are kept until `flush`, which rewrites the file whole; rows after a resumed step are dropped."""

    def __init__(self, path: Path, step: int, *, active: bool) -> None:
        self.path, self.active, self.flushed = path, active, time.monotonic()
        self.rows: list[dict[str, Any]] = []
        if active and path.exists():
            with open(path, encoding="utf-8", newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]

    def add(self, row: dict[str, Any]) -> None:
        if self.active:
            self.rows.append(row)

    def flush(self) -> None:
        self.flushed = time.monotonic()
        if self.active:
            lines = [",".join("" if row[c] is None else str(row[c]) for c in COLUMNS) for row in self.rows]
            write_text(self.path, "\n".join([",".join(COLUMNS), *lines]) + "\n")


def one_cycle(progress: float, warm_up: float) -> float:
    """Learning rate as a part of its peak: linear from 1/25 over `warm_up`, then half a cosine to 0 (Smith 2018)."""
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1 - warm_up))))


def _summed(terms: Sequence[Tensor]) -> Tensor:
    total, *others = terms
    for term in others:
        total = total + term
    return total


def _is_memory(problem: BaseException) -> bool:
    words = ("out of memory", "not enough memory", "can't allocate", "cannot allocate", "could not create a primitive",
             "could not create a memory")  # fmt: skip
    return isinstance(problem, torch.OutOfMemoryError | MemoryError) or any(w in str(problem).lower() for w in words)
