"""Every method without labels, a few steps of the loop: `torchrun --nproc-per-node 2 tests/journey/unlabelled.py OUT`."""

import gc
import sys
from pathlib import Path

import torch
from torch import distributed as dist

from vesalius.core.environment import process_rank
from vesalius.engine.state import save_weights
from vesalius.engine.train import Loop
from vesalius.methods import METHODS
from vesalius.plan.plan import Train
from vesalius.testing import check_method as suite

SIZE, STEPS = 5, 4  # samples of the joint batch, which two processes cannot share evenly
NAMES = [name for name in METHODS if suite.unlabelled(METHODS.card(name)) or suite.synthesises(METHODS.card(name))]


def learn(name: str, folder: Path) -> None:
    """The weights at the end, by process, into `folder`."""
    card, (rank, world) = METHODS.card(name), process_rank()
    method = suite.build(card)
    if hasattr(method, "greedy"):
        method.greedy = 1  # so that layers learn alone and then together within the steps
    train = Train(steps=STEPS, learning_rate=suite.RATE, weight_decay=0.0, validations=0)

    def draw(step: int, size: int):
        return suite.example(card, seed=step).mapped(lambda _, t: t[:size]).part(rank, world)

    assert Loop(method, train, SIZE, folder / f"run-{name}").fit(draw)
    save_weights(folder / f"{name}-{rank}.safetensors", dict(method.state_dict()))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    if process_rank()[1] > 1:
        dist.init_process_group("gloo")
    for name in NAMES:
        learn(name, folder)
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
