"""Three steps of one member under torchrun, with the gradients of each: `torchrun --nproc-per-node 2 tests/journey/gradients.py OUT`."""

import gc
import sys
from pathlib import Path

import torch
from torch import distributed as dist

from tests.unit.engine.tiny import stored, tiny_plan
from vesalius.core.environment import process_rank
from vesalius.engine.member import method_of, samples
from vesalius.engine.state import save_weights
from vesalius.engine.train import Loop
from vesalius.tasks import TASKS

SIZES = (4, 5)  # samples of the joint batch: shared evenly, and not
ODD = 6  # of a batch in whose second step the last process has a loss that is no number, with a slope that is one


def learn(folder: Path, size: int) -> None:
    """Gradients before each step and the weights at the end, by process, into `folder`."""
    rank, world = process_rank()
    plan = tiny_plan((f"patch.batch={size}", "train.steps=3", "train.validations=0"))
    loop = Loop(method_of(TASKS["segment"](), plan, "cpu"), plan.train, plan.patch.batch, folder / f"run{size}")
    kept, steps = {}, loop.method.steps

    def odd(batch):
        for name, losses in steps(batch):
            yield name, {**losses, "odd": torch.tensor(torch.inf)} if loop.step == 1 and rank == world - 1 else losses

    if size == ODD:
        loop.method.steps = odd

    def keep(optimiser, *_):
        named = {f"{loop.step}.{name}": p.grad.clone() for name, p in loop.method.net.named_parameters()}
        kept.update(named)

    loop.optimisers["net"].register_step_pre_hook(keep)
    assert loop.fit(samples(plan, stored(), "cpu"))
    save_weights(folder / f"{size}-{rank}.safetensors", {**kept, **{f"end.{n}": v for n, v in loop.method.net.state_dict().items()}})


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    if process_rank()[1] > 1:
        dist.init_process_group("gloo")
    for size in (*SIZES, ODD):
        learn(folder, size)
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
