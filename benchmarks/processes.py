"""Several processes beside one, on one machine, one thread each: data-parallel training with the same joint batch, and with a batch of its
own for each process; and answering scans in parts.

    python benchmarks/processes.py [--processes 2] [--batch 4] [--seconds 20] [--rounds 3] [--json]
    python benchmarks/processes.py --run RUN --scans FOLDER [--processes 2] [--rounds 3]

A U-Net of 1.4 million parameters (16 to 128 features) on patches of 40 x 56 x 40, bf16 where it pays, real augmentation and the real
loop under torchrun (gloo); scans are noise. Rounds alternate (1, n, 1, n ...), so that a busy machine slows both; the table
states medians and the range of the ratio. The ratio means something only on a machine with as many idle cores as processes; the
processor seconds of all processes together per step, also stated, do not mind. Beside it the largest difference of the gradients
of the first step, in fp32, between one process with the joint batch and the mean of the shares. Where every process has a batch of its
own the joint batch grows with their number, and seconds are those of one batch. With `--run` the same scans are answered by
`vesalius predict` in one process, and in as many parts at once (`--num-parts`); seconds are those until the last is done, starts included.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _side_by_side import OURS, Turn, keep, rows

PATCH, CHANNELS = (40, 56, 40), (16, 32, 64, 128)
CASES = 8
ONE, TITLE = "one process", "Several processes beside one"


def made_plan(batch, kind, seconds):
    """A plan as the planner would make it for whole hippocampus scans."""
    from vesalius.augment import Augment
    from vesalius.data.labels import Labels
    from vesalius.data.normalise import Normalise
    from vesalius.data.prepare import Preparation
    from vesalius.plan.plan import Expected, Net, Patch, Plan, Predict, Train

    stages = len(CHANNELS)
    net = Net(name="unet", ndim=3, channels=CHANNELS, kernels=((3, 3, 3),) * stages, strides=((1, 1, 1), *((2, 2, 2),) * (stages - 1)))
    how = Preparation(channels={"image": 1}, normalise=(Normalise(),), spacing=(1.0,) * 3)
    expected = Expected(device="cpu", budget_seconds=None, step_seconds=1, tile_seconds=1, steps=1, epochs=1, memory_bytes=1, parameters=1)
    return Plan(task="segment", labels=Labels(names=("a", "b"), values=((1,), (2,))), preparation=how, net=net,
                patch=Patch(size=PATCH, batch=batch, foreground=0.5), augment=Augment(mirror=(True,) * 3, rotation=(30.0,) * 3),
                train=Train(seconds=seconds, steps=1, learning_rate=1e-3, weight_decay=3e-5, precision=kind, validations=0),
                predict=Predict(), expected=expected)  # fmt: skip


def scans():
    """Prepared cases of noise with two bright blocks."""
    import numpy as np

    from vesalius.data.cache import Stored, foreground_places

    cases = []
    for number in range(CASES):
        draw = np.random.default_rng(number)
        target = np.zeros((1, *PATCH), np.uint8)
        target[0, 10:20, 10:30, 10:20], target[0, 20:30, 30:45, 20:30] = 1, 2
        image = (draw.normal(size=PATCH) + 2 * target[0])[None].astype(np.float16)
        places = foreground_places(np.stack([target[0] == 1, target[0] == 2]), draw)
        cases.append(Stored(f"c{number}", image, target, places))
    return cases


def work(options):
    """One process of a measurement: learns, and the first of them says how fast it was; or writes its first gradients."""
    import torch
    from torch import distributed as dist

    from vesalius.core.environment import process_rank
    from vesalius.engine.member import method_of, samples
    from vesalius.engine.state import save_weights
    from vesalius.engine.train import Loop
    from vesalius.tasks import TASKS

    torch.set_num_threads(1)
    rank, world = process_rank()
    if world > 1:
        dist.init_process_group("gloo")
    plan = made_plan(options.batch, options.kind, options.seconds if not options.gradients else None)
    rows, grads = [], {}
    with tempfile.TemporaryDirectory() as folder:
        told = lambda row: rows.append((row["step"], time.monotonic(), time.process_time()))  # noqa: E731
        loop = Loop(method_of(TASKS["segment"](), plan, "cpu"), plan.train, options.batch, Path(folder), tick=told)
        loop.optimisers["net"].register_step_pre_hook(
            lambda *_: grads.update({name: p.grad.clone() for name, p in loop.method.net.named_parameters()})
        )
        loop.fit(samples(plan, scans(), "cpu"))
    if options.gradients and rank == 0:
        save_weights(Path(options.gradients), grads)
    elif not options.gradients:  # the first steps warm up
        if len(rows) < 4:
            raise SystemExit(f"{len(rows)} steps in {options.seconds:g} s are too few to tell: give more --seconds.")
        (first, since, spent), (last, until, gone) = rows[2], rows[-1]
        cost = torch.tensor((gone - spent) / (last - first))
        if world > 1:
            dist.all_reduce(cost)
        if rank == 0:
            print(json.dumps([(last - first) / (until - since), float(cost)]))
    if world > 1:
        del loop
        gc.collect()  # before the group of processes goes
        dist.destroy_process_group()


def started(processes, options, *, kind, gradients=None, batch=None):
    """What the first of `processes` answers."""
    words = [__file__, "--work", "--batch", batch or options.batch, "--seconds", options.seconds, "--kind", kind]
    words += ["--gradients", gradients] if gradients else []
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, [sys.executable, *launch, *words])), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout


def gradients_differ(options):
    """Largest absolute difference of the gradients of the first step, and the largest gradient."""
    from vesalius.engine.state import load_weights

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{n}.safetensors" for n in (1, options.processes)]
        for number, file in zip((1, options.processes), files, strict=True):
            started(number, options, kind="fp32", gradients=file)
        one, several = (load_weights(file)[0] for file in files)
    return max(float((one[k] - several[k]).abs().max()) for k in one), max(float(v.abs().max()) for v in one.values())


def summary(pairs):
    """Medians over rounds of ((steps/s, processor seconds a step) of one process, the same of several)."""
    one, several = (statistics.median(pair[k][0] for pair in pairs) for k in (0, 1))
    ratios = [pair[1][0] / pair[0][0] for pair in pairs]
    more = statistics.median(pair[1][1] / pair[0][1] for pair in pairs)
    return {"one": one, "several": several, "ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)], "work": more}


def own_batches(options, kind):
    """The row of a batch for each process, beside one process with one."""
    sides = {OURS: [], ONE: []}
    for _ in range(options.rounds):
        for name, number in ((OURS, options.processes), (ONE, 1)):
            rate, cost = json.loads(started(number, options, kind=kind, batch=number * options.batch))
            sides[name].append(Turn(1 / (rate * number), cost / number))
    check = f"the joint batch is {options.processes * options.batch} samples"
    return rows(f"a batch of {options.batch} for each of {options.processes} processes, seconds a batch", sides, check=check)


def answered(parts, options, folder):
    """Seconds until `parts` processes have answered all scans between them, and their processor seconds."""
    words = [sys.executable, "-m", "vesalius", "predict", options.run, options.scans, "-o", folder, "--num-parts", parts, "--part-id"]
    since, before = time.monotonic(), os.times()
    started = [subprocess.Popen([*map(str, words), str(part)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                env={**os.environ, "OMP_NUM_THREADS": "1"}) for part in range(parts)]  # fmt: skip
    for one in started:
        _, said = one.communicate()
        if one.returncode:
            raise SystemExit(said.decode()[-3000:])
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Turn(time.monotonic() - since, used)


def in_parts(options):
    """The row of scans that are answered in parts."""
    sides = {OURS: [], ONE: []}
    for _ in range(options.rounds):
        for name, parts in ((OURS, options.processes), (ONE, 1)):
            with tempfile.TemporaryDirectory() as folder:
                sides[name].append(answered(parts, options, folder))
                number = len([path for path in Path(folder).iterdir() if path.suffix != ".json"])
    return rows(f"{number} scans answered by {options.processes} processes", sides, check="every scan once")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4, help="joint batch")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", type=Path, help="answer scans by this run instead of training")
    parser.add_argument("--scans", type=Path, help="a folder of them")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--kind", default="fp32", help=argparse.SUPPRESS)
    parser.add_argument("--gradients", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options)
        return
    if options.run:
        keep("processes", in_parts(options), title=TITLE)
        return
    from vesalius.plan.budget import precision

    kind, _ = precision("cpu")
    difference, largest = gradients_differ(options)
    print(
        f"gradients of 1 and {options.processes} processes differ by {difference:.1e} at most (largest gradient {largest:.1e})",
        file=sys.stderr,
    )
    pairs = []
    for _ in range(options.rounds):
        pairs.append([json.loads(started(n, options, kind=kind)) for n in (1, options.processes)])
        (one, cost), (several, costs) = pairs[-1]
        print(f"1 process {one:6.2f} steps/s ({cost:.2f} processor seconds a step), {options.processes} processes {several:6.2f} steps/s "
              f"({costs:.2f}), ratio {several / one:.2f}; load of the machine {os.getloadavg()[0]:.1f}", file=sys.stderr)  # fmt: skip
    found = summary(pairs) | {"kind": kind, "batch": options.batch, "processes": options.processes, "gradient_difference": difference}
    sides = {OURS: [Turn(1 / many[0], many[1]) for _, many in pairs], ONE: [Turn(1 / one[0], one[1]) for one, _ in pairs]}
    check = f"gradients differ by {difference:.1e} at most"
    shared = rows(f"step, batch {options.batch} shared by {options.processes} processes", sides, check=check)
    keep("processes", [*shared, *own_batches(options, kind)], title=TITLE)
    low, high = found["ratio_range"]
    print(f"median: {found['one']:.2f} and {found['several']:.2f} steps/s ({kind}, batch {options.batch}), ratio {found['ratio']:.2f} "
          f"({low:.2f} ... {high:.2f}); {found['work']:.2f} times the processor time in all", file=sys.stderr)  # fmt: skip
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
