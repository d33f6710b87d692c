"""What each lever is worth: the same work with it and without it, in turns (A B A B) in one process on one thread.

    python benchmarks/levers.py [--rounds 5] [--patch 40 56 40]

A row says how many times as long the work takes without the lever, everything else as it is. The check is what the two give: loss and
gradient of one step on the same weights and batch for a training step, voxels for augmentation. A lever that stops paying is taken out.
"""

import argparse
import copy
from contextlib import contextmanager

from _side_by_side import OURS, in_turns, keep, rows


@contextmanager
def swapped(place, name, other):
    """`place.name` is `other` inside."""
    own = getattr(place, name)
    setattr(place, name, other)
    try:
        yield
    finally:
        setattr(place, name, own)


def step_levers():
    """Name -> (where, attribute, what stands there without the lever)."""
    from vesalius.nets import _blocks

    return {
        "instance norm keeps channels together": (_blocks, "normalised", lambda x, layer: None),
    }


def steps(options):
    """A training step of the U-Net with and without each lever."""
    import torch
    import training

    from vesalius.nets.unet import UNet

    torch.manual_seed(0)
    net, (image, mask), made = UNet(3, 1, 3), training.batch_of(options), []
    for lever, swap in step_levers().items():
        takes = {name: training.ours(copy.deepcopy(net), image, mask) for name in (OURS, "without")}

        def without(take=takes["without"], swap=swap):
            with swapped(*swap):
                return take()

        turns, _ = in_turns({OURS: takes[OURS], "without": without}, rounds=options.rounds)
        size = " x ".join(map(str, options.patch))
        made += rows(f"{lever}: step, {options.batch} patches of {size}", turns, check=difference(net, image, mask, swap))
    return made


def difference(net, image, mask, swap):
    """How far loss and gradient of the first step are from each other, with and without; and of each from double precision."""
    import torch

    from vesalius.data.labels import Labels
    from vesalius.tasks import TASKS

    loss = TASKS["segment"]().loss(Labels(names=("a", "b"), values=((1,), (2,))))

    def gradient(low):
        one = copy.deepcopy(net).to(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            total = sum(loss(one.heads(image.contiguous(memory_format=torch.channels_last_3d)), mask).values())
        total.backward()
        return float(total.detach()), torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None])

    here, exact = gradient(True), gradient(False)
    with swapped(*swap):
        there = gradient(True)
    away = [float((one[1] - exact[1]).norm() / exact[1].norm()) for one in (here, there)]
    return f"loss {here[0]:.4f} and {there[0]:.4f}; gradient {away[0]:.4f} and {away[1]:.4f} of its length away from fp32"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40])
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    keep("levers", steps(options), title="Levers: the same work without each of them")


if __name__ == "__main__":
    main()
