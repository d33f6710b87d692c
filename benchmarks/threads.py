"""Waiting threads that sleep against threads that spin: one U-Net step, on a machine that is idle and on one that is busy.

    python benchmarks/threads.py [--rounds 5]

Each step runs in a process of its own, A B A B, with OMP_WAIT_POLICY=PASSIVE (what the command line sets) and without;
"busy" means that as many other processes as there are cores compute beside it. The ratio is spinning / sleeping: above 1
sleeping is faster.
"""

import argparse
import os
import statistics
import subprocess
import sys

from _side_by_side import OURS, Turn, keep, rows

STEP = """
import time, torch
from vesalius.nets.unet import UNet
net, x = UNet(3, 1, 3).to(memory_format=torch.channels_last_3d), torch.randn(2, 1, 40, 56, 40)
def step():
    with torch.autocast("cpu", torch.bfloat16):
        total = sum(head.float().square().mean() for head in net.heads(x))
    total.backward()
step()
begin = time.perf_counter()
for _ in range(3):
    step()
print((time.perf_counter() - begin) / 3)
"""
BUSY = "x = 1\nwhile True:\n    x = (x * 31 + 7) % 1000003"


def main() -> None:
    """Print one row for the idle and one for the busy machine, as Markdown."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=5)
    rounds = words.parse_args().rounds
    found = []
    print("| machine | sleeping s | spinning s | ratio (range) |\n|---|---|---|---|")
    for name, others in (("idle", 0), ("busy", len(os.sched_getaffinity(0)))):
        beside = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(others)]
        try:
            pairs = [(seconds("PASSIVE"), seconds(None)) for _ in range(rounds)]
        finally:
            for process in beside:
                process.kill()
        sides = {OURS: [Turn(sleep) for sleep, _ in pairs], "spinning threads": [Turn(spin) for _, spin in pairs]}
        found += rows(f"U-Net step, all cores, {name} machine", sides, check="the same step")
        ratios = sorted(spin / sleep for sleep, spin in pairs)
        sleeping, spinning = (statistics.median(column) for column in zip(*pairs, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(f"| {name} | {sleeping:.2f} | {spinning:.2f} | {spread} |", flush=True)
    keep("threads", found, title="Waiting threads that sleep, beside threads that spin")


def seconds(policy: str | None) -> float:
    """Seconds of one step in a fresh process."""
    words = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    made = subprocess.run([sys.executable, "-c", STEP], env=words | ({"OMP_WAIT_POLICY": policy} if policy else {}),
                          check=True, capture_output=True, text=True)  # fmt: skip
    return float(made.stdout)


if __name__ == "__main__":
    main()
