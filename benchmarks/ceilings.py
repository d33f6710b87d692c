"""How far a training step and a pass are from what the machine can do: floating point operations and bytes counted, against ceilings that
are measured in the same run. On a processor, or on a GPU.

    python benchmarks/ceilings.py [--device cpu] [--patch 128 128 128] [--batch 2] [--channels 1] [--rounds 3]
    python benchmarks/ceilings.py --device cuda --compile

Ceilings: a product of large matrices in float32 and in bfloat16; a 3 x 3 x 3 convolution between 32 channels in both, which is what our
networks mostly are; and a copy in memory. Work: operations of convolutions and products (two for each multiplication with its addition),
backward included, and the bytes of every tensor that an operation reads or writes, each operation for itself, as if there were no cache;
what the kernels in C move (core/kernels) is not seen by torch and left out.
The least time is that of the slower of both, operations at the ceiling of products in the precision of the step. "Busy" is the part of
the wall clock in which the GPU worked, from the profiler's trace.

The step is that of the loop (bf16, channels last, AdamW, clipping, averaging; compiled with --compile) and stands beside plain torch with
the same weights: float32 on a processor, autocast to float16 with a scaler on a GPU, which is how nnU-Net and MONAI train.
"""

import argparse
import copy
import functools

import torch
from _side_by_side import OURS, alone, in_turns, keep, rows, swapped, timed
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from training import batch_of, ours

SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices
GRID = {"cpu": 48, "cuda": 128}  # voxels a side of the map that is convolved
COPIED = {"cpu": 2**27, "cuda": 2**31}  # bytes


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, each for itself; views move none."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(x.numel() * x.element_size() for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor))
        return out


def waiting(call, device):
    """`call`, and until the device is done."""

    def work():
        found = call()
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return work


def ceilings(device, rounds):
    """Rows, operations per second by kind, and bytes per second."""
    side, grid, made, speed = SIDE[device], GRID[device], [], {}
    works = {}
    for kind in (torch.float32, torch.bfloat16):
        name = str(kind).removeprefix("torch.")
        a = torch.randn(side, side, device=device).to(kind)
        x = torch.randn(1, 32, grid, grid, grid, device=device).to(kind, memory_format=torch.channels_last_3d)
        w = torch.randn(32, 32, 3, 3, 3, device=device).to(kind)
        works[f"products, {name}"] = (functools.partial(torch.mm, a, a), 2 * side**3)
        works[f"convolution of 32 channels, {name}"] = (functools.partial(torch.conv3d, x, w, padding=1), 2 * 27 * 32 * 32 * grid**3)
    source, goal = (torch.zeros(COPIED[device] // 8, device=device) for _ in range(2))
    works["copy"] = (functools.partial(goal.copy_, source), 2 * source.numel() * 4)
    for name, (call, amount) in works.items():
        work = waiting(call, device)
        turns = [timed(work)[0] for _ in range(5 * rounds)][2:]
        speed[name] = amount / min(turn.wall for turn in turns)
        unit = "GB/s" if name == "copy" else "GFLOP/s"
        made.append(alone(f"{where(device)}: ceiling of {name}", turns, check=f"{speed[name] / 1e9:,.0f} {unit} at best"))
    return made, speed


def where(device):
    """The words of a row for the device."""
    return "GPU" if device == "cuda" else f"processor, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def counted(call):
    """Operations and bytes of one call as torch computes it, which the kernels in C do with fewer."""
    from vesalius.nets import _winograd

    with swapped(_winograd, "kernels", lambda kind: None), Traffic() as traffic, FlopCounterMode(display=False) as operations:
        call()
    return operations.get_total_flops(), traffic.bytes


def plain(net, image, mask, device):
    """A step as the others take it, for a loss of the same size."""
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    scaler = torch.amp.GradScaler(device, enabled=device == "cuda")

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.float16, enabled=device == "cuda"):
            heads = net.heads(image)
            total = sum(torch.nn.functional.cross_entropy(head, scaled(mask, head)) for head in heads)
        scaler.scale(total).backward()
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        scaler.step(optimiser)
        scaler.update()
        return float(total.detach())

    return step


def scaled(mask, head):
    """The nearest labels at the size of `head`: (B, *S)."""
    return torch.nn.functional.interpolate(mask.float(), head.shape[2:], mode="nearest")[:, 0].long()


def busy(call):
    """Part of the wall clock in which the GPU worked, over five calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        turn, _ = timed(call, calls=5)
    kernels = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
    return kernels / (5 * turn.wall)


def told(call, turns, *, kind, speed, device):
    """What a row says of its distance from the ceilings."""
    operations, moved = counted(call)
    wall = min(turn.wall for turn in turns)
    by_work, by_memory = operations / speed[f"products, {kind}"], moved / speed["copy"]
    least = max(by_work, by_memory)
    said = (
        f"{operations / 1e9:,.1f} GFLOP ({operations / wall / 1e9:,.0f} a second), {moved / 2**30:.2f} GiB moved; least "
        f"{by_work * 1e3:,.1f} ms by operations and {by_memory * 1e3:,.1f} ms by bytes: {100 * least / wall:.0f} % of the ceiling"
    )
    return f"{said}; GPU busy {100 * busy(call):.0f} %" if device == "cuda" else said


def steps(options, speed):
    """Rows of a step and of a pass."""
    from vesalius.nets.unet import UNet

    device = options.device
    torch.manual_seed(0)
    net = UNet(3, options.channels, 3).to(device)
    image, mask = (x.to(device) for x in batch_of(options))
    image = image.expand(-1, options.channels, *image.shape[2:]).contiguous()
    mine = copy.deepcopy(net)
    if options.compile:
        mine.heads = torch.compile(mine.heads)
    still = copy.deepcopy(net).to(memory_format=torch.channels_last_3d).eval()
    flat = image.contiguous(memory_format=torch.channels_last_3d)

    def answer(model, x, kind):
        with torch.inference_mode(), torch.autocast(device, kind, enabled=kind != torch.float32):
            return model(x)

    other = torch.float16 if device == "cuda" else torch.float32
    name = f"plain torch, {'float16' if device == 'cuda' else 'float32'}"
    size = " x ".join(map(str, options.patch))
    pairs = {
        f"step, {options.batch} patches of {size}": {OURS: ours(mine, image, mask, device=device), name: plain(net, image, mask, device)},
        f"pass, {options.batch} tiles of {size}": {
            OURS: functools.partial(answer, still, flat, torch.bfloat16),
            name: functools.partial(answer, net, image, other),
        },
    }
    made = []
    for work, sides in pairs.items():
        sides = {side: waiting(call, device) for side, call in sides.items()}
        turns, _ = in_turns(sides, rounds=options.rounds)
        kinds = {OURS: "bfloat16", name: "bfloat16" if device == "cuda" else "float32"}
        checks = {side: told(call, turns[side], kind=kinds[side], speed=speed, device=device) for side, call in sides.items()}
        made += rows(f"{where(device)}: {work}", turns, check=f"ours: {checks[OURS]}. Beside: {checks[name]}")
    return made


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--device", choices=list(SIDE), default="cpu")
    words.add_argument("--patch", type=int, nargs=3, default=[128, 128, 128])
    words.add_argument("--batch", type=int, default=2)
    words.add_argument("--channels", type=int, default=1)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--compile", action="store_true")
    options = words.parse_args()
    torch.set_num_threads(options.threads)
    made, speed = ceilings(options.device, options.rounds)
    keep("ceilings", made + steps(options, speed), title="Distance to what the machine can do")


if __name__ == "__main__":
    main()
