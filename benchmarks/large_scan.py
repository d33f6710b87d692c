"""The whole command on a large scan: `vesalius predict` from NIfTI file to NIfTI file, its seconds and its peak resident memory.

    python benchmarks/large_scan.py [--shape 512 512 400] [--classes 25] [--overlap 0.1] [--threads 1] [--torch] [--json]

A CT-like scan (int16, .nii.gz) and a run with a U-Net of random weights (1.4 M parameters, bf16 where the processor has it) are
written here; the command then runs in a process of its own. Beside it stands what the engine alone takes (benchmarks/export.py
compares that with MONAI). The run holds what answering without torch takes, as `vesalius train` leaves it, unless `--torch` says
otherwise. Exit code 1 where the peak is not below --limit GiB.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _side_by_side import Turn, alone, keep

GIB = 2**30
TITLE = "A large scan from file to file"
SPACING = (0.8, 0.8, 1.0)
KEEP = """import sys
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.export.exporting import keep
assert keep(Run.open(sys.argv[1]), Listener())"""


def write_scan(path, shape):
    """Air around a body of soft tissue and bone, with noise; slice by slice, so that the making needs little memory."""
    import nibabel as nib
    import numpy as np

    draw = np.random.default_rng(0)
    x, y = np.meshgrid(*[np.linspace(-1, 1, side) for side in shape[:2]], indexing="ij")
    array = np.empty(shape, np.int16, order="F")
    for z in range(shape[2]):
        body = np.hypot(x / 0.8, y / 0.6) < 1
        bone = np.hypot(x, y - 0.3) < 0.1 + 0.02 * np.sin(z / 9)
        array[..., z] = -1000 + 1040 * body + 600 * bone + draw.normal(0, 20, x.shape)
    image = nib.Nifti1Image(array, np.diag([*SPACING, 1.0]))
    nib.openers.Opener.default_compresslevel = 1
    nib.save(image, path)


def write_run(folder, options):
    """A run that looks trained: a plan for this scan and random weights."""
    from vesalius.augment import Augment
    from vesalius.core.files import write_json
    from vesalius.data.dataset import Dataset
    from vesalius.data.labels import Labels
    from vesalius.data.normalise import Normalise
    from vesalius.data.prepare import Preparation
    from vesalius.engine.state import save_weights
    from vesalius.plan import build
    from vesalius.plan.budget import precision
    from vesalius.plan.plan import Expected, Net, Patch, Plan, Predict, Train

    organs = range(1, options.classes)
    labels = Labels(names=tuple(f"organ {k}" for k in organs), values=tuple((k,) for k in organs))
    strides = ((1, 1, 1), *[(2, 2, 2)] * 3)
    window = Normalise(kind="window", low=-1000, high=1000, std=400)
    plan = Plan(
        task="segment", labels=labels, patch=Patch(size=tuple(options.patch), batch=1, foreground=0.5),
        preparation=Preparation(channels={"ct": 1}, normalise=(window,), spacing=SPACING), augment=Augment(mirror=(False,) * 3),
        net=Net(name="unet", ndim=3, channels=(16, 32, 64, 128), kernels=((3, 3, 3),) * 4, strides=strides),
        train=Train(steps=1, learning_rate=1e-3, weight_decay=0, precision=precision("cpu")[0]), predict=Predict(overlap=options.overlap),
        expected=Expected(device="cpu", budget_seconds=None, step_seconds=1, tile_seconds=1, steps=1, epochs=1, memory_bytes=1,
                          parameters=1),
    )  # fmt: skip
    folder.mkdir()
    plan.save(folder / "plan.json")
    write_json(folder / "dataset.json", Dataset("large", folder, "segment", (), ("ct",), labels).to_json())
    write_json(folder / "splits.json", {"folds": [{"train": [], "val": []}], "test": [], "reason": "none"})
    save_weights(folder / "weights.safetensors", dict(build(plan.net, 1, options.classes).state_dict()), {"step": 1, "final": True})


def measure(work, options):
    """Seconds, processor seconds and peak bytes of the command; the answer must lie on the scan's grid."""
    import nibabel as nib

    words = [sys.executable, "-m", "vesalius", "predict", str(work / "run"), str(work / "scan.nii.gz"), "-o", str(work / "out")]
    since = time.perf_counter()
    process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": str(options.threads)}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - since
    if status:
        raise SystemExit(f"vesalius predict ended with {status}")
    scan, answer = nib.load(work / "scan.nii.gz"), nib.load(work / "out" / "scan.nii.gz")
    assert answer.shape == scan.shape and abs(answer.affine - scan.affine).max() < 1e-4
    how = {word: getattr(options, word) for word in ("shape", "classes", "overlap", "threads", "torch")}
    turn = Turn(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
    keep("large_scan", [alone(work_of(options), [turn], check="on the scan's grid")], title=TITLE)
    return {**how, "seconds": round(turn.wall, 1), "processor_seconds": round(turn.cpu, 1), "peak_gib": round(turn.peak / GIB, 2)}


def work_of(options):
    """The name of its row."""
    sides = " x ".join(map(str, options.shape))
    return f"vesalius predict, {sides}, {options.classes} classes, tiles overlapping by {options.overlap:g}" + ", by torch" * options.torch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 400])
    parser.add_argument("--classes", type=int, default=25)
    parser.add_argument("--patch", type=int, nargs=3, default=[128, 128, 128])
    parser.add_argument("--overlap", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3.0, help="GiB")
    parser.add_argument("--torch", action="store_true", help="by torch, as where there is a GPU")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_scan(work / "scan.nii.gz", tuple(options.shape))
        write_run(work / "run", options)
        if not options.torch:
            subprocess.run([sys.executable, "-c", KEEP, str(work / "run")], check=True)
        found = measure(work, options)
    print(json.dumps(found) if options.json else ", ".join(f"{word} {value}" for word, value in found.items()))
    if found["peak_gib"] >= options.limit:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
