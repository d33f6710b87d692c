"""Epochs of a restricted Boltzmann machine beside scikit-learn's BernoulliRBM, and the products of matrices alone.

    python benchmarks/rbm_speed.py [--hidden 256 512] [--rounds 5] [--epochs 5] [--threads 1] [--data FOLDER_WITH_pneumoniamnist.npz]

Both do persistent contrastive divergence with one sweep on the same 5000 rows of 784 pixels (0 / 1), in batches of 100 in the order of
the rows, with as many chains. Ours runs in the one loop: clipping, averaged weights, the log and the state on disk are in its seconds.
scikit-learn's is given float32, and float64, which is what numpy makes by default. "Products alone" are the five products of a step in
float32, as numpy does them, and in bfloat16, as torch does: no implementation that multiplies so can be faster. The check is
scikit-learn's own `score_samples` (pseudo-likelihood, nats per image) of both machines after the same number of epochs of both.
"""

import argparse
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from _side_by_side import OURS, alone, in_turns, keep, rows
from sklearn.neural_network import BernoulliRBM

from vesalius.data.batch import Batch, Kind
from vesalius.engine.train import Loop
from vesalius.methods import METHODS
from vesalius.methods._dream import Dream
from vesalius.plan.plan import Train

ROWS, VISIBLE, BATCH, RATE = 5000, 784, 100, 0.05


def pixels(folder):
    """(5000, 784) 0 / 1: radiographs at half of the range where there is a folder, otherwise bars in random places with noise."""
    if folder:
        images = np.load(folder / "pneumoniamnist.npz")["train_images"]
        return np.resize(images.reshape(len(images), -1) > 127, (ROWS, VISIBLE)).astype(np.float32)
    random = np.random.default_rng(0)
    image = random.random((ROWS, 28, 28)) < 0.05
    for one, (row, column) in zip(image, random.integers(0, 24, (ROWS, 2)), strict=True):
        one[row : row + 4] = one[:, column : column + 4] = True
    return image.reshape(ROWS, VISIBLE).astype(np.float32)


def ours(data, hidden, *, epochs, precision):
    image = torch.from_numpy(data).reshape(ROWS, 1, 28, 28)

    def draw(step, number):
        first = step * number % ROWS
        return Batch({"image": image[first : first + number]}, {"image": Kind.IMAGE})

    def learn():
        method = METHODS["rbm"]((1, 28, 28), hidden=hidden, dream=Dream(kind="pcd", chains=BATCH), learning_rate=RATE)
        train = Train(steps=epochs * ROWS // BATCH, learning_rate=RATE, weight_decay=1e-4, validations=0, precision=precision)
        with tempfile.TemporaryDirectory() as folder:
            Loop(method, train, BATCH, Path(folder)).fit(draw)
        return method

    return learn


def theirs(data, hidden, *, epochs, kind):
    typed = data.astype(kind)
    return lambda: BernoulliRBM(hidden, batch_size=BATCH, n_iter=epochs, learning_rate=RATE, random_state=0).fit(typed)


def products(data, hidden, *, epochs, half):
    """Down once, up twice and the gradient of both halves: what any step by products of matrices does."""
    v, h = torch.from_numpy(data[:BATCH]), torch.full((BATCH, hidden), 0.5)
    w = torch.full((VISIBLE, hidden), 0.01)
    if half:
        v, h, w = (x.bfloat16() for x in (v, h, w))

    def work():
        for _ in range(epochs * ROWS // BATCH):
            h @ w.T, v @ w, v @ w, v.T @ h, v.T @ h

    return work


def pseudo_likelihood(machine, data, hidden):
    """Of `machine` (ours or theirs) by scikit-learn, mean over the rows."""
    judge = machine
    if not isinstance(machine, BernoulliRBM):
        plain = machine.machine()
        judge = BernoulliRBM(hidden, random_state=0)
        judge.components_ = plain.weights[0].T.numpy()
        judge.intercept_visible_, judge.intercept_hidden_ = (b.numpy() for b in plain.biases)
    judge.random_state_ = np.random.RandomState(0)
    return float(np.mean([judge.score_samples(data).mean() for _ in range(5)]))


def compare(data, hidden, options):
    epochs = options.epochs
    sides = {
        OURS: ours(data, hidden, epochs=epochs, precision="bf16"),
        "scikit-learn, float32": theirs(data, hidden, epochs=epochs, kind="f4"),
        "scikit-learn, float64": theirs(data, hidden, epochs=epochs, kind="f8"),
        "vesalius in float32": ours(data, hidden, epochs=epochs, precision="fp32"),
        "products alone, float32": products(data, hidden, epochs=epochs, half=False),
        "products alone, bfloat16": products(data, hidden, epochs=epochs, half=True),
    }
    turns, given = in_turns(sides, rounds=options.rounds)
    for each in turns.values():
        for turn in each:
            turn.wall, turn.cpu = turn.wall / epochs, turn.cpu / epochs
    reached = {name: pseudo_likelihood(given[name], data, hidden) for name in list(sides)[:4]}
    told = {name: f"pseudo-likelihood after {epochs} epochs {reached[OURS]:.1f} and {reached[name]:.1f}" for name in list(sides)[1:4]}
    work = f"RBM epoch, {VISIBLE}-{hidden}, {options.threads} thread{'s' * (options.threads > 1)}"
    judged = {name: turns[name] for name in [OURS, *told]}
    made = rows(work, judged, check=told)
    for row in made:
        row["goal"] = 5 if row["opponent"].startswith("scikit") else None
    return [*made, *(alone(f"{work}: {name}", turns[name], check="five products a step") for name in list(sides)[4:])]


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--hidden", type=int, nargs="+", default=[256, 512])
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--epochs", type=int, default=5)
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--data", type=Path)
    options = words.parse_args()
    if options.threads != int(os.environ.get("OMP_NUM_THREADS", "1")):
        raise SystemExit(f"Start with OMP_NUM_THREADS={options.threads} in the environment, so that numpy's products use as many.")
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    data = pixels(options.data)
    made = [row for hidden in options.hidden for row in compare(data, hidden, options)]
    keep("rbm_speed", made, title="Restricted Boltzmann machine")


if __name__ == "__main__":
    main()
