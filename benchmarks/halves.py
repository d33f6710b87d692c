"""Methods that learn from images alone, in bf16 beside fp32: seconds of a step, and whether they learn the same.

    python benchmarks/halves.py --data FOLDER_WITH_pneumoniamnist.npz [--methods autoencoder vae simclr models_genesis] [--steps 40]

Each method with its usual arguments takes the same steps of 128 radiographs (28 x 28) from the same weights in the one loop, in turns, on
one thread. The check: the last loss, and the AUC of a linear probe of both (logistic regression on standardised features; 1,500 training
images drawn, test images).
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import torch
from _side_by_side import OURS, in_turns, keep, rows
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vesalius.data.batch import Batch, Kind
from vesalius.engine.train import Loop
from vesalius.methods import METHODS
from vesalius.plan.methods import rates
from vesalius.plan.plan import Train

BATCH, PROBED = 128, 1500


def learned(method, image, steps, precision):
    """Gives the method with its averaged weights, and its last loss."""
    rate, decay = rates(method)

    def draw(step, number):
        pick = torch.randint(0, len(image), (number,), generator=torch.Generator().manual_seed(step))
        return Batch({"image": image[pick]}, {"image": Kind.IMAGE})

    def work():
        made = METHODS[method](tuple(image.shape[1:]), learning_rate=rate, weight_decay=decay, seed=0)
        train = Train(steps=steps, learning_rate=rate, weight_decay=decay, warm_up=0.02, ema=0.05, validations=0, precision=precision)
        with tempfile.TemporaryDirectory() as folder:
            loop = Loop(made, train, BATCH, Path(folder))
            loop.fit(draw)
            with (Path(folder) / "log.csv").open() as file:
                loss = float(list(csv.DictReader(file))[-1]["loss"])
        made.load_state_dict(loop.average)
        return made.eval(), loss

    return work


def probe(method, sets):
    """AUC of a linear probe on the features of `method`."""
    with torch.inference_mode():
        train, test = (torch.cat([method.features(part).flatten(1) for part in image.split(256)]).numpy() for image, _ in sets)
    line = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(train, sets[0][1])
    return roc_auc_score(sets[1][1], line.decision_function(test))


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, required=True)
    words.add_argument("--methods", nargs="+", default=["autoencoder", "vae", "simclr", "models_genesis"])
    words.add_argument("--steps", type=int, default=40)
    words.add_argument("--rounds", type=int, default=1)
    options = words.parse_args()
    torch.set_num_threads(1)
    archive = np.load(options.data / "pneumoniamnist.npz")
    image = {part: torch.from_numpy(archive[f"{part}_images"][:, None].astype(np.float32) / 255) for part in ("train", "test")}
    some = np.random.default_rng(0).permutation(len(image["train"]))[:PROBED]
    sets = [(image["train"][some], archive["train_labels"].ravel()[some]), (image["test"], archive["test_labels"].ravel())]
    made = []
    for method in options.methods:
        sides = {
            OURS: learned(method, image["train"], options.steps, "bf16"),
            "fp32": learned(method, image["train"], options.steps, "fp32"),
        }
        turns, given = in_turns(sides, rounds=options.rounds)
        for each in turns.values():
            for turn in each:
                turn.wall, turn.cpu = turn.wall / options.steps, turn.cpu / options.steps
        said = " and ".join(f"{given[side][1]:.4f}, {probe(given[side][0], sets):.3f}" for side in sides)
        made += rows(f"step of {method}, {BATCH} images", turns, check=f"last loss and probe {said}")
    keep("halves", made, title="Learning from images alone in bf16")


if __name__ == "__main__":
    main()
