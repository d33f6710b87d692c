"""Parameters, operations and processor milliseconds of every classifying network with its published settings, as a table in Markdown.

    OMP_NUM_THREADS=1 python benchmarks/networks.py [--only resnet] [--batch 1] [--wall]

Pictures have 224 x 224 pixels and three channels (1000 classes, as published); volumes have 24 slices of 224 x 224 pixels (2 classes) and,
for TransMed, two channels, otherwise one. Operations are those of convolutions, matrix products and attention for one image, a
multiplication and an addition counted as two. The time is that of the processor for one image out of a batch (of volumes: one by one) in
float32, channels last: the median of the passes of half a second after a first one. It is the clock of the process, so waiting for other
work on the machine does not count; what other work does to caches and clock rates does. With --wall it is the clock on the wall, as it
must be for several threads: nothing else may run then.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from vesalius.nets import NETS

SIDE, SLICES, CLASSES = 224, 24, {2: 1000, 3: 2}
LEAST_SECONDS = 0.5  # spent on passes, after a first one
VARIANTS = {
    "vgg": [{"depth": d, "norm": "none"} for d in (11, 13, 16, 19)],
    "alexnet": [{"norm": "none"}],
    "resnet": [{"depth": d} for d in (18, 34, 50, 101, 152)],
    "se_resnet": [{"depth": d} for d in (18, 34, 50, 101, 152)],
    "densenet": [{"depth": d} for d in (121, 169, 201, 161)],
    "efficientnet": [{"size": f"B{k}"} for k in range(8)],
    "convnext": [{"size": s} for s in "TSBL"],
    "vit": [{"size": s} for s in ("Ti", "S", "B", "L")],
    "transmed": [{"size": s, "slices": SLICES} for s in "TSBL"],
    "feature_fusion": [{"depth": d} for d in (18, 50)],
    "decision_fusion": [{"depth": d} for d in (18, 50)],
    "attention_mil": [{"encoder": e, "gated": True} for e in ("lenet", "resnet18")],
    "slice_attention": [{"depth": d} for d in (18, 50)],
    "slice_lstm": [{"depth": d} for d in (18, 50)],
}


def shape(name):
    """(channels, sides) of what the network is shown."""
    if name == "transmed" or 2 not in NETS.card(name).ndim:
        return (2 if name == "transmed" else 1), (SLICES, SIDE, SIDE)
    return 3, (SIDE, SIDE)


def rows(name):
    channels, sides = shape(name)
    for arguments in VARIANTS.get(name, [{}]):
        yield arguments, lambda more=arguments: NETS[name](len(sides), channels, CLASSES[len(sides)], **more), (channels, *sides)


def operations(make, image):
    """FLOPs for one image, counted on tensors without numbers."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        make().eval()(torch.empty(1, *image))
    return counter.get_total_flops()


@torch.no_grad()
def milliseconds(make, image, batch, clock):
    """By `clock`, for one image out of `batch`."""
    layout = torch.channels_last_3d if len(image) == 4 else torch.channels_last
    with torch.device("meta"):
        net = make().eval()
    net = net.to_empty(device="cpu").to(memory_format=layout)
    for weight in net.state_dict().values():  # what they are does not change the time; drawing hundreds of millions takes some
        weight.zero_()
    x = torch.randn(batch, *image, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    net(x)
    taken = []
    while sum(taken) < LEAST_SECONDS:
        begun = clock()
        net(x)
        taken.append(clock() - begun)
    return 1000 * statistics.median(taken) / batch


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="*", help="entries of the shelf")
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--wall", action="store_true", help="the clock on the wall instead of the processor's")
    chosen = options.parse_args()
    clock = time.perf_counter if chosen.wall else time.process_time
    names = chosen.only or [name for name in NETS if "classify" in NETS.card(name).tasks]
    print(f"{processor()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, batch {chosen.batch}\n", flush=True)
    print("| network | image | parameters (M) | GFLOPs | ms |\n|---|---|---|---|---|")
    for name in names:
        for arguments, make, image in rows(name):
            with torch.device("meta"):
                parameters = sum(p.numel() for p in make().parameters())
            batch = chosen.batch if len(image) == 3 else 1
            words = " ".join(str(v) for k, v in arguments.items() if k not in ("norm", "slices", "gated"))
            words = f"{NETS.card(name).title} {words}".strip()
            picture = " × ".join(map(str, image))
            cost = milliseconds(make, image, batch, clock)
            print(f"| {words} | {picture} | {parameters / 1e6:.2f} | {operations(make, image) / 1e9:.2f} | {cost:.0f} |", flush=True)


if __name__ == "__main__":
    main()
