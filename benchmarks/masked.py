"""What features of masked autoencoders and SimMIM are worth after so many steps, beside raw pixels, principal components and drawn weights.

    python benchmarks/masked.py --data FOLDER [--methods mae simmim] [--steps 100 400 1600] [--batch 128]
                                [--labelled 1200] [--out masked.json]

FOLDER is pneumoniamnist as a data set (pneumoniamnist.npz, dataset.json); test images that are in the training part byte for byte are left
out. Networks are those that `vesalius train --task pretrain --method NAME` plans for images of 28 x 28 pixels, images are standardised one
by one as there, and every number of steps is a run of its own. Probes are those of `vesalius worth`, learned on so many training images
with labels, chosen on validation, told of all test images.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vesalius.audit import rivals
from vesalius.audit.probes import linear_probe, neighbour_probe
from vesalius.audit.worth import Cohort, Part, described, tables
from vesalius.data.batch import Batch, Kind
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.engine.train import Loop
from vesalius.metrics._delong import interval, macro_area
from vesalius.plan import trunks
from vesalius.plan.methods import built, rates
from vesalius.plan.plan import Train

LABELS = Labels(names=("normal", "pneumonia"), values=((0,), (1,)), kind="classes")
PROBES = {"linear_probe": linear_probe, "neighbour_probe": neighbour_probe}


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, required=True)
    words.add_argument("--methods", nargs="+", default=["mae", "simmim"])
    words.add_argument("--steps", nargs="+", type=int, default=[100, 400, 1600])
    words.add_argument("--batch", type=int, default=128)
    words.add_argument("--labelled", type=int, default=1200)
    words.add_argument("--out", type=Path, default=Path("masked.json"))
    words.add_argument("--seed", type=int, default=0)
    options = words.parse_args()
    torch.set_num_threads(1)
    every, cohort = read(options.data, options)
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.methods:
        arguments = trunks.arguments(name, {}, dataset=Dataset.open(options.data), facts={}, size=every.shape[2:])
        for steps in (0, *options.steps):
            key = f"{name} {steps}"
            if key not in found:
                begun = time.process_time()
                method = learned(name, arguments, every, steps=steps, options=options)
                spent = time.process_time() - begun
                told = {part: described(method, one.images) for part, one in cohort.parts().items()}
                found[key] = {"processor_seconds": round(spent, 1), **probed(cohort, {key: told})[key]}
                options.out.write_text(json.dumps(found, indent=1))
            print(line(key, found[key]), flush=True)
    for who, row in beside(cohort, found).items():
        print(line(who, row), flush=True)


def read(folder, options):
    """All training images (N, 1, 28, 28), each by its own mean and deviation; and the parts to probe on."""
    with np.load(folder / "pneumoniamnist.npz", allow_pickle=False) as file:
        stacks = {part: (file[f"{part}_images"], file[f"{part}_labels"].ravel()) for part in ("train", "val", "test")}
    seen = {image.tobytes() for part in ("train", "val") for image in stacks[part][0]}
    fresh = np.array([image.tobytes() not in seen for image in stacks["test"][0]])
    stacks["test"] = tuple(one[fresh] for one in stacks["test"])
    scaled = {part: np.stack([Normalise().apply(image)[None] for image in images]) for part, (images, _) in stacks.items()}
    some = np.sort(np.random.default_rng(options.seed).permutation(len(scaled["train"]))[: options.labelled])
    kept = {"train": some, "val": slice(None), "test": slice(None)}
    return scaled["train"], Cohort(*(part_of(name, scaled[name][kept[name]], stacks[name][1][kept[name]]) for name in kept), LABELS)


def part_of(name, images, labels):
    names = tuple(f"{name}_{k}" for k in range(len(images)))
    return Part(images, np.array(names), names, labels[:, None].astype(np.uint8))


def learned(name, arguments, images, *, steps, options):
    """The method after `steps` steps of the one loop, with its averaged weights; as it was drawn after none."""
    rate, decay = rates(name)
    method = built(name, images.shape[1:], arguments, learning_rate=rate, weight_decay=decay, seed=options.seed)
    if not steps:
        return method.eval()

    def draw(step, size):
        rows = np.random.default_rng((options.seed, step)).integers(0, len(images), size)
        return Batch({"image": torch.from_numpy(images[rows])}, {"image": Kind.IMAGE})

    train = Train(method=name, steps=steps, learning_rate=rate, weight_decay=decay, warm_up=0.02, ema=0.05, validations=0,
                  seed=options.seed)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        Loop(method, train, options.batch, Path(folder)).fit(draw)
    return method.eval()


def probed(cohort, views):
    """{who: {"numbers", probe: [area, low, high]}} with intervals of DeLong."""
    made = {}
    for who, parts in tables(cohort, views).items():
        areas = {name: macro_area(probe(parts, LABELS).answers) for name, probe in PROBES.items()}
        made[who] = {"numbers": parts.train.features.shape[1]}
        made[who] |= {name: [float(area.area[0]), *map(float, interval(area))] for name, area in areas.items()}
    return made


def beside(cohort, found):
    """Raw pixels, and as many principal components as the widest of the features have numbers, or as the images allow."""
    flat = {name: rivals.pixels(part.images)[0] for name, part in cohort.parts().items()}
    count = min(max(row["numbers"] for row in found.values()), len(flat["train"]) // rivals.SHARE)
    pca = rivals.principal(flat["train"], count)
    return probed(cohort, {"raw pixels": flat, "principal components": {name: pca(rows) for name, rows in flat.items()}})


def line(who, row):
    areas = "  ".join(f"{name} {row[name][0]:.3f} [{row[name][1]:.3f}, {row[name][2]:.3f}]" for name in PROBES)
    return f"{who:24s} {row['numbers']:4d} numbers  {areas}" + (f"  {row['processor_seconds']:.0f} s" if "processor_seconds" in row else "")


if __name__ == "__main__":
    main()
