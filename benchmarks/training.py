"""One training step of the same network on the same batch: ours as the loop takes it (bf16, channels last, AdamW) beside plain PyTorch in
fp32, as nnU-Net and MONAI train on a processor.

    python benchmarks/training.py [--patch 40 56 40] [--batch 2] [--rounds 5] [--calls 2] [--threads 1] [--laptop]

The network is our U-Net (16 to 128 features, 1.4 million parameters) with the same weights on both sides; the loss is ours on one side,
and on the others nnU-Net's own (Dice and cross-entropy under deep supervision) and MONAI's DiceCELoss at the same scales. nnU-Net steps
with SGD and clips, as its trainer does; MONAI with AdamW. Both run in contiguous fp32: their autocast is for GPUs. Augmentation is not in
it. In turns in one process on `--threads`; freed memory is kept in our turns, as the commands have it, and goes back to the system in the
others' (core/memory.py); threads of torch that wait sleep in all turns, as the commands have it (core/environment.py), or else they would
take processors from our kernels. The check: the loss on the same weights, computed by our loss as in the step, and by torch in fp32.

With `--laptop` torch, oneDNN, MKL and our kernels use on all sides what a processor with AVX2 alone has; ours is in fp32 then, as planned.
"""

import argparse
import copy

from _side_by_side import OURS, as_a_laptop, in_turns, keep, rows, swapped

KEPT, GIVEN_BACK = 2**30, 2**25  # bytes that are held on to: core/memory.py, and where glibc leaves off by itself


def batch_of(options):
    """Noise with two bright blocks, and the mask of the blocks: (B, 1, *patch) each."""
    import torch

    random = torch.Generator().manual_seed(0)
    mask = torch.zeros(options.batch, 1, *options.patch, dtype=torch.uint8)
    first, second = ([slice(int(side * low), int(side * high)) for side in options.patch] for low, high in ((0.2, 0.5), (0.5, 0.8)))
    mask[(slice(None), 0, *first)], mask[(slice(None), 0, *second)] = 1, 2
    return torch.randn(mask.shape, generator=random) + 2 * mask, mask


def ours(net, image, mask, device="cpu", kind=None):
    """The loop of the product, taking a step each time it is called, in the precision of a plan or in `kind`."""
    import tempfile
    from pathlib import Path

    import torch

    from vesalius.data.batch import Batch, Kind
    from vesalius.data.labels import Labels
    from vesalius.engine.train import Loop
    from vesalius.methods import METHODS
    from vesalius.plan.budget import precision
    from vesalius.plan.plan import Train
    from vesalius.tasks import TASKS

    kind = kind or precision(device)[0]
    labels = Labels(names=("a", "b"), values=((1,), (2,)))
    ready = net.to(memory_format=torch.channels_last_3d)
    method = METHODS["supervised"](ready, TASKS["segment"]().loss(labels), learning_rate=1e-3, weight_decay=3e-5)
    how = Train(seconds=None, steps=10**6, learning_rate=1e-3, weight_decay=3e-5, precision=kind, validations=0)
    loop = Loop(method, how, len(image), Path(tempfile.mkdtemp()), device)
    kinds = {"image": Kind.IMAGE, "target": Kind.MASK}
    batch = Batch({"image": image.contiguous(memory_format=torch.channels_last_3d), "target": mask}, kinds)
    return lambda: loop._turns(batch, 0.5)


def plain(net, loss, optimiser, image, mask):
    """Zero, forward, backward, clip, step."""
    import torch

    def step():
        optimiser.zero_grad(set_to_none=True)
        total = loss(net.heads(image), mask)
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        optimiser.step()
        return float(total.detach())

    return step


def nnunet(net, image, mask):
    import torch
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    words = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    single = DC_and_CE_loss(words, {}, weight_ce=1, weight_dice=1, ignore_label=None, dice_class=MemoryEfficientSoftDiceLoss)
    scales = [head.shape[2:] for head in net.heads(image)]
    weights = [2.0**-k for k in range(len(scales))]
    wrapped = DeepSupervisionWrapper(single, [w / sum(weights) for w in weights])
    target = [torch.nn.functional.interpolate(mask.float(), scale, mode="nearest") for scale in scales]
    optimiser = torch.optim.SGD(net.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    return plain(net, lambda heads, _: wrapped(heads, target), optimiser, image, mask)


def monai(net, image, mask):
    import torch
    from monai.losses import DeepSupervisionLoss, DiceCELoss

    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, include_background=False))
    return plain(net, lambda heads, of: loss(heads, of.float()), torch.optim.AdamW(net.parameters(), 1e-3), image, mask)


def remembering(step, kept):
    """`step` in a process that holds on to `kept` bytes that are freed."""
    from vesalius.core.memory import keep_freed_memory

    def taken():
        keep_freed_memory(kept)
        return step()

    return taken


def losses(net, image, mask):
    """Our loss on the same weights as in the step, and in fp32 where torch convolves."""
    import torch

    from vesalius.data.labels import Labels
    from vesalius.nets import _blocks
    from vesalius.plan.budget import precision
    from vesalius.tasks import TASKS

    loss = TASKS["segment"]().loss(Labels(names=("a", "b"), values=((1,), (2,))))
    ready, last = copy.deepcopy(net).to(memory_format=torch.channels_last_3d), image.contiguous(memory_format=torch.channels_last_3d)

    def found(low):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            return sum(float(term) for term in loss(ready.heads(last), mask).values())

    kind, _ = precision("cpu")
    with swapped(_blocks, "suits", lambda *of: False):
        plainly = found(False)
    return f"loss {plainly:.4f} in fp32 by torch, {found(kind == 'bf16'):.4f} in {kind} by ours"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2, help="steps in a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--laptop", action="store_true", help="all sides as on a processor with AVX2 alone")
    options = parser.parse_args()
    where = as_a_laptop(options.laptop)
    from vesalius.core.environment import share_processors

    share_processors()
    import torch

    from vesalius.nets.unet import UNet

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    net = UNet(3, 1, 3)
    image, mask = batch_of(options)
    check = losses(net, image, mask)
    makers = {OURS: ours, "nnU-Net (SGD, fp32)": nnunet, "MONAI (AdamW, fp32)": monai}
    steps = {name: make(copy.deepcopy(net), image, mask) for name, make in makers.items()}
    sides = {name: remembering(step, KEPT if name == OURS else GIVEN_BACK) for name, step in steps.items()}
    turns, _ = in_turns(sides, rounds=options.rounds, calls=options.calls)
    size = " x ".join(map(str, options.patch))
    work = f"{where}step, {options.batch} patches of {size}" + f", {options.threads} threads" * (options.threads > 1)
    keep("training", rows(work, turns, check=check, goal=None if where else 3), title="One training step, equal network")


if __name__ == "__main__":
    main()
