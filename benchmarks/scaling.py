"""Seconds and memory as cohorts and volumes grow: what each stage takes for 10, 100 and 1,000 cases, and for 64, 128 and 256 voxels a side.

    python benchmarks/scaling.py [--cases 10 100 1000] [--sides 64 128 256]

Cohorts are small scans (24 x 24 x 16, .nii.gz with masks), so that what is seen is the cost of a case and not of its voxels. Volumes
with the mask of a ball are inspected, and read for the fingerprint; then the scan is read, prepared (resampled to a 1.25 times coarser
grid, normalised) and streamed through one small convolution in tiles of 64 (all of a prediction but the network), the labels are
written, and two balls are scored (overlap and distances of surfaces). One fresh process for each number and size, one thread. Linear
means that the seconds of a case (a voxel) stay the same as their number grows; peak memory is the most that the process holds during
that stage, all that stays from the stages before included.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from _side_by_side import Turn, alone, child, forget_peak, keep, peak_bytes, process, timed

SMALL = (24, 24, 16)


def write_cohort(folder, cases):
    """`images/` and `masks/`: a ball in noise."""
    import nibabel

    grid = np.stack(np.meshgrid(*map(np.arange, SMALL), indexing="ij"), -1)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(cases):
        draw = np.random.default_rng(number)
        mask = np.linalg.norm(grid - np.array(SMALL) / 2 - draw.uniform(-2, 2, 3), axis=-1) < draw.uniform(3, 6)
        pixels = (draw.normal(100, 15, SMALL) + 60 * mask).astype(np.int16)
        for kind, values in (("images", pixels), ("masks", mask.astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 1.5, 1.0])), folder / kind / f"p{number:05d}.nii.gz")


def cohort(folder, cases):
    """Seconds of every stage before learning, for the cohort in `folder`, and bytes of cache a case."""
    from vesalius.data.cache import Cache
    from vesalius.data.dataset import Dataset
    from vesalius.data.doctor import examine
    from vesalius.data.fingerprint import case_facts, fingerprint
    from vesalius.data.normalise import Normalise
    from vesalius.data.prepare import Preparation
    from vesalius.data.split import split

    stages = {}

    def stage(name, call):
        forget_peak()
        turn, found = timed(call)
        stages[name] = {"wall": turn.wall, "cpu": turn.cpu, "peak": peak_bytes()}
        return found

    dataset = Dataset.open(folder)  # what is imported on first use is not the cost of a case
    case_facts(dataset.cases[0], dataset, {dataset.channels[0]: 1}, detailed=True)
    dataset = stage("recognise", lambda: Dataset.open(folder))
    stage("inspect", lambda: examine(dataset))
    stage("split", lambda: split(dataset))
    stage("fingerprint", lambda: fingerprint(dataset, dataset.cases))
    how = Preparation(channels={dataset.channels[0]: 1}, normalise=(Normalise(),), spacing=(1.25, 1.25, 1.5))
    cache = Path(folder).parent / "cache"
    stage("prepare", lambda: Cache(cache, how, dataset.labels).store(dataset.cases))
    size = sum(path.stat().st_size for path in cache.iterdir())
    return {"stages": stages, "cases": cases, "cache_bytes": size / cases}


def scan(folder, side):
    """Seconds of every stage for a volume of `side` voxels a side."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    stages = {}

    def stage(name, call):
        forget_peak()
        turn, found = timed(call)
        stages[name] = {"wall": turn.wall, "cpu": turn.cpu, "peak": peak_bytes()}
        return found

    examined(folder, stage)
    answered(folder, stage)
    scored(side, stage)
    return {"stages": stages, "side": side}


def examined(folder, stage):
    """What is looked at before learning."""
    from vesalius.data.case import Case
    from vesalius.data.dataset import Dataset
    from vesalius.data.doctor._look import look, sheets
    from vesalius.data.fingerprint import case_facts
    from vesalius.data.labels import Labels

    labels = Labels(names=("ball",), values=((1,),))
    for name in ("warm", "scan"):  # what is imported on first use is not the cost of a voxel
        case = Case(name, name, {"image": folder / f"{name}.nii.gz"}, {"reference": folder / f"{name}_mask.nii.gz"})
        dataset = Dataset("made", folder, "segment", (case,), ("image",), labels)
        stage("inspect", lambda case=case: look(case, ("image",), labels, sheet=sheets()))
        stage("fingerprint", lambda case=case, dataset=dataset: case_facts(case, dataset, {"image": 1}))


def answered(folder, stage):
    """A scan and its labels, all but the network."""
    import torch

    from vesalius import io
    from vesalius.core.space import Space
    from vesalius.data.normalise import Normalise
    from vesalius.data.prepare import Preparation, prepare
    from vesalius.engine.stream import stream_labels
    from vesalius.engine.tiles import Tiling

    net = torch.nn.Conv3d(1, 4, 3, padding=1).eval()
    how = Preparation(channels={"image": 1}, normalise=(Normalise(),), spacing=(1.25,) * 3)
    prepare(io.Image(np.zeros((1, 8, 8, 8), np.float32), Space.of((8,) * 3, (1.0,) * 3)), how)
    image = stage("read", lambda: io.load(folder / "scan.nii.gz"))
    prepared = stage("prepare", lambda: prepare(image, how))
    labels = stage("stream", lambda: stream_labels(net, prepared.image, image.space.shape, tiling=Tiling((64,) * 3), exclusive=True))
    out = io.Image(labels, image.space, image.source)
    stage("write", lambda: io.save(out, folder / "labels.nii.gz"))


def scored(side, stage):
    """Overlap and distances of two balls."""
    from vesalius.core.space import Space
    from vesalius.metrics._pair import Pair
    from vesalius.metrics.overlap import overlap
    from vesalius.metrics.surface import surface

    for long in (16, side):
        balls, space = [ball(long, away) for away in (0, 2)], Space.of((long,) * 3, (1.0,) * 3)
        stage("score", lambda balls=balls, space=space: (overlap(pair := Pair.of(*balls, space)), surface(pair)))


def ball(side, away):
    """A mask (S, S, S) of a ball of half that diameter, `away` voxels from the middle along each axis."""
    x = np.arange(side, dtype=np.float32) - side / 2 - away
    mask = np.empty((side,) * 3, bool)
    for k in range(side):
        mask[k] = x[k] ** 2 + x[:, None] ** 2 + x**2 < (side / 4) ** 2
    return mask


def write_scan(folder, side):
    """`scan.nii.gz` with its mask, and a small one of each before it."""
    from vesalius import io
    from vesalius.core.space import Space

    for name, long in (("warm", 16), ("scan", side)):
        random, space = np.random.default_rng(0), Space.of((long,) * 3, (1.0,) * 3)
        wave = np.sin(np.arange(long) * 9 / long)
        pixels = np.empty((1, long, long, long), np.int16)
        for k in range(long):
            pixels[0, k] = 500 * wave[k] * wave[:, None] * wave + random.normal(0, 20, (long, long))
        io.save(io.Image(pixels, space), folder / f"{name}.nii.gz")
        io.save(io.Image(ball(long, 0)[None].astype(np.uint8), space), folder / f"{name}_mask.nii.gz")


def measured(kind, number):
    """What a fresh process finds in a folder that is written for it here."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folder.mkdir()
        (write_cohort if kind == "cohort" else write_scan)(folder, number)
        return process(kind, child(__file__, "--work", kind, "--number", number, "--folder", folder)).more


def table(found, kind, unit, of):
    """A row per stage and size; the check says what one case (a million voxels) costs, and how that is to the smallest size."""
    made = []
    for name in found[0]["stages"]:
        first = found[0]["stages"][name]["cpu"] / of(found[0])
        for one in found:
            stage = one["stages"][name]
            each = stage["cpu"] / of(one)
            check = f"{1000 * each:.2f} ms a {unit}, {each / max(first, 1e-9):.2f} times that of the smallest"
            made.append(alone(f"{name}, {label(one)}", [Turn(stage["wall"], stage["cpu"], stage["peak"])], check=check))
    return made


def label(one):
    return f"{one['cases']:,} cases" if "cases" in one else " x ".join([str(one["side"])] * 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--work", choices=["cohort", "scan"], help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        os.environ.setdefault("VESALIUS_HOME", str(options.folder.parent / "home"))
        print(json.dumps({"cohort": cohort, "scan": scan}[options.work](options.folder, options.number)))
        return
    cohorts = [measured("cohort", number) for number in options.cases]
    volumes = [measured("scan", side) for side in options.sides]
    found = table(cohorts, "cohort", "case", lambda one: one["cases"])
    found += table(volumes, "scan", "million voxels", lambda one: one["side"] ** 3 / 1e6)
    sys.stderr.write(f"cache: {cohorts[-1]['cache_bytes']:.0f} bytes a case of {np.prod(SMALL)} voxels\n")
    keep("scaling", found, title="As cohorts and volumes grow")


if __name__ == "__main__":
    main()
