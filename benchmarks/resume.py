"""`kill -9` at random moments: `vesalius train DATA --deterministic` is killed once per trial, started again and compared with a run
that nobody disturbed.

    python benchmarks/resume.py [--kills 20] [--steps 150] [--seed 0] [--json]

The cohort (8 scans of 24 x 24 x 24 voxels with a random shape each, oblique NIfTI) is written here. The moments are drawn evenly over
the life of the undisturbed run, start-up and testing included, so that every stage is hit. A trial counts where the second start
ends well, and as identical where every tensor of the weights and of the state, every loss and rate of log.csv and every score of
metrics.json is the same to the last bit. Exit code 1 unless all are.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _side_by_side import Turn, alone, keep

SMALL = ("net.channels=[8,16]", "net.kernels=[[3,3,3],[3,3,3]]", "net.strides=[[1,1,1],[2,2,2]]", "patch.size=[16,16,16]", "patch.batch=2")


def write_cohort(folder, cases=8, side=24):
    """`images/` and `masks/`: an ellipsoid at a random angle in noise, on a grid at a random angle."""
    import nibabel as nib
    import numpy as np
    from scipy.spatial.transform import Rotation

    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1) - side / 2
    for number in range(cases):
        draw = np.random.default_rng(number)
        turn = Rotation.random(random_state=number).as_matrix()
        mask = np.linalg.norm((grid - draw.uniform(-3, 3, 3)) @ turn / draw.uniform(4, 8, 3), axis=-1) < 1
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler("xyz", draw.uniform(-20, 20, 3), degrees=True).as_matrix()
        for kind, values in (("images", draw.normal(100, 15, mask.shape) + 60 * mask), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            array = values.astype(np.uint8 if kind == "masks" else np.float32)
            nib.save(nib.Nifti1Image(array, affine), folder / kind / f"case{number}.nii.gz")


def command(*words, home):
    """`vesalius ...` in a process group of its own."""
    environment = {**os.environ, "VESALIUS_HOME": str(home), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "vesalius", *map(str, words)]
    return subprocess.Popen(call, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def train(work, run, home):
    return command("train", work / "scans", "-o", run, "--plan", work / "plan.json", "--deterministic", home=home)


def ended(process):
    """What it told on stderr; None where it did not end well."""
    _, told = process.communicate()
    return told if process.returncode == 0 else None


def killed(process, after):
    """`kill -9` to the whole group `after` seconds; the stage that it was in, and whether it was still alive."""
    try:
        process.wait(after)
        alive = False
    except subprocess.TimeoutExpired:
        alive = True
        os.killpg(process.pid, signal.SIGKILL)
    _, told = process.communicate()
    stages = [line.removesuffix(" ...") for line in told.splitlines() if line.endswith(" ...")]
    return (stages[-1] if stages else "starting"), alive


def step_of(run):
    """The step of the state on disk, None before there is one."""
    from vesalius.engine.state import load_weights

    state = run / "checkpoint" / "state.safetensors"
    return load_weights(state)[1]["step"] if state.exists() else None


def differences(whole, run):
    """Names of what is not the same to the last bit."""
    import torch

    from vesalius.engine.state import load_weights

    found = []
    for name in ("weights.safetensors", "checkpoint/state.safetensors"):
        first, second = (load_weights(folder / name)[0] for folder in (whole, run))
        found += [f"{name}: {key}" for key in first.keys() | second.keys()
                  if key not in first or key not in second or not torch.equal(first[key], second[key])]  # fmt: skip
    logs = [[(r["step"], r["loss"], r["learning_rate"]) for r in csv.DictReader((f / "log.csv").open())] for f in (whole, run)]
    scores = [json.loads((f / "metrics.json").read_text())["parts"] for f in (whole, run)]
    return found + ["log.csv"] * (logs[0] != logs[1]) + ["metrics.json"] * (scores[0] != scores[1])


def trial(work, number, after):
    """One life that is ended and one that goes on."""
    run, home = work / f"run{number}", work / f"home{number}"
    stage, alive = killed(train(work, run, home), after)
    step = step_of(run)
    begun = time.monotonic()
    told = ended(train(work, run, home))
    seconds = time.monotonic() - begun
    unlike = differences(work / "whole", run) if told is not None else ["did not resume"]
    return {"trial": number, "killed_after": round(after, 2), "alive": alive, "stage": stage, "step_on_disk": step,
            "resumed": told is not None, "seconds": round(seconds, 1), "identical": not unlike, "unlike": unlike[:3]}  # fmt: skip


def row(found):
    kept = "-" if found["step_on_disk"] is None else found["step_on_disk"]
    words = "identical" if found["identical"] else "; ".join(found["unlike"])
    stage = found["stage"] + ("" if found["alive"] else " (had ended)")
    return f"{found['trial']:5d}  {found['killed_after']:7.2f} s  {stage:34s}  {kept!s:>12}  {found['seconds']:7.1f} s  {words}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_cohort(work / "scans")
        settings = [word for text in (*SMALL, f"train.steps={options.steps}") for word in ("--set", text)]
        planned = ended(
            command("plan", work / "scans", "-o", work / "plan.json", "--deterministic", "--budget", "60s", *settings, home=work)
        )
        assert planned is not None, "planning failed"
        begun = time.monotonic()
        assert ended(train(work, work / "whole", work / "home")) is not None, "the undisturbed run failed"
        whole = time.monotonic() - begun
        print(f"undisturbed: {whole:.1f} s, {options.steps} steps", file=sys.stderr)
        print("trial  killed at  stage                               step on disk     resumed  weights", file=sys.stderr)
        draw, rows = random.Random(options.seed), []
        for number in range(1, options.kills + 1):
            rows.append(trial(work, number, draw.uniform(0, whole)))
            print(row(rows[-1]), file=sys.stderr)
    resumed, same = sum(found["resumed"] for found in rows), sum(found["identical"] for found in rows)
    told = f"{resumed} of {len(rows)} resumed, {same} of {len(rows)} bit-identical"
    keep("resume", [alone(f"{options.steps} steps, undisturbed, and killed {len(rows)} times", [Turn(whole)], check=told)],
         title="kill -9 at random moments")  # fmt: skip
    print(f"{resumed} of {len(rows)} resumed, {same} of {len(rows)} bit-identical to the undisturbed run", file=sys.stderr)
    if options.json:
        print(json.dumps({"undisturbed_seconds": whole, "steps": options.steps, "trials": rows}))
    return 0 if resumed == same == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
