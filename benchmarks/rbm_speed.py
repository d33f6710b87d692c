"""Epochs of a restricted Boltzmann machine beside scikit-learn's BernoulliRBM, and the products of matrices alone.

    python benchmarks/rbm_speed.py --data FOLDER_WITH_pneumoniamnist.npz [--hidden 256 512] [--batch 256 500 1000] [--rounds 3] [--epochs 5]
    python benchmarks/rbm_speed.py --tried [--data FOLDER]

Both do persistent contrastive divergence with one sweep on the same 5000 rows of 784 pixels (0 / 1) in the order of the rows. A batch of
scikit-learn has as many chains as rows; ours has as many as it is told, so that larger batches save products. Ours takes the batch that
is planned for such images (256, with 100 chains) and faster ones (500 and 1000, with 50), at which epochs teach less: the check says how
much. scikit-learn takes batches of 100, at which its epochs are three times as fast as with its default of 10, and that default, each at
the rate that suits it best on the radiographs; `--tried` prints seconds and pseudo-likelihoods of batches and rates of both sides. It is
given float64, which is what numpy makes by default, and float32.

Ours runs in the one loop: clipping, averaged weights, the log and the state on disk are in its seconds. "Products alone" are those of our
step in float32 and bfloat16: no implementation that multiplies so can be faster. The check is scikit-learn's own `score_samples`
(pseudo-likelihood, nats per image) of both machines after the same number of epochs.
"""

import argparse
import itertools
import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from _side_by_side import OURS, alone, in_turns, keep, rows, timed
from sklearn.neural_network import BernoulliRBM

from vesalius.data.batch import Batch, Kind
from vesalius.engine.train import Loop
from vesalius.methods import METHODS
from vesalius.methods._dream import Dream
from vesalius.plan.plan import Train

ROWS, VISIBLE = 5000, 784
RATE, CHAINS = {256: 0.2, 500: 0.5, 1000: 0.5}, {256: 100, 500: 50, 1000: 50}  # of ours by batch; by `--tried`
THEIRS = {100: 0.05, 10: 0.01}  # rate by batch, chosen likewise


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


def ours(data, hidden, *, epochs, precision, batch, rate, chains):
    image = torch.from_numpy(data).reshape(ROWS, 1, 28, 28)

    def draw(step, number):
        first = step * number % (ROWS - ROWS % number)
        return Batch({"image": image[first : first + number]}, {"image": Kind.IMAGE})

    def learn():
        method = METHODS["rbm"]((1, 28, 28), hidden=hidden, dream=Dream(kind="pcd", chains=chains), learning_rate=rate)
        train = Train(steps=epochs * ROWS // batch, learning_rate=rate, weight_decay=1e-4, validations=0, precision=precision)
        with tempfile.TemporaryDirectory() as folder:
            Loop(method, train, batch, Path(folder)).fit(draw)
        return method

    return learn


def theirs(data, hidden, *, epochs, kind, batch, rate):
    typed = data.astype(kind)
    return lambda: BernoulliRBM(hidden, batch_size=batch, n_iter=epochs, learning_rate=rate, random_state=0).fit(typed)


def products(data, hidden, *, epochs, half, batch, chains):
    """Chains down, chains and data up, and the gradient of both: what our step multiplies."""
    v, h, w = torch.from_numpy(data[: batch + chains]), torch.full((batch + chains, hidden), 0.5), torch.full((VISIBLE, hidden), 0.01)
    if half:
        v, h, w = (x.bfloat16() for x in (v, h, w))
    first = h[:chains].clone()

    def work():
        for _ in range(epochs * ROWS // batch):
            first @ w.T, v @ w, v.T @ h

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


def compare(data, hidden, batch, options):
    epochs, mine = options.epochs, {"batch": batch, "chains": CHAINS[batch]}
    sides = {OURS: ours(data, hidden, epochs=epochs, precision="bf16", rate=RATE[batch], **mine)}
    for other, rate in THEIRS.items():
        for kind in ("f8", "f4"):
            name = f"scikit-learn, float{8 * int(kind[1])}, batches of {other}"
            sides[name] = theirs(data, hidden, epochs=epochs, kind=kind, batch=other, rate=rate)
    sides["vesalius in float32"] = ours(data, hidden, epochs=epochs, precision="fp32", rate=RATE[batch], **mine)
    judged = list(sides)
    for kind in ("float32", "bfloat16"):
        sides[f"products alone, {kind}"] = products(data, hidden, epochs=epochs, half=kind == "bfloat16", **mine)
    turns, given = in_turns(sides, rounds=options.rounds)
    for each in turns.values():
        for turn in each:
            turn.wall, turn.cpu = turn.wall / epochs, turn.cpu / epochs
    reached = {name: pseudo_likelihood(given[name], data, hidden) for name in judged}
    told = {name: f"pseudo-likelihood after {epochs} epochs {reached[OURS]:.1f} and {reached[name]:.1f}" for name in judged[1:]}
    work = f"RBM epoch, {VISIBLE}-{hidden}, batches of {batch}, {options.threads} thread{'s' * (options.threads > 1)}"
    made = rows(work, {name: turns[name] for name in judged}, check=told)
    for row in made:
        row["goal"] = 5 if row["opponent"].startswith("scikit") else None
    return [*made, *(alone(f"{work}: {name}", turns[name], check="three products a step") for name in sides if name not in judged)]


def tried(data, hidden, epochs):
    """Print processor seconds of an epoch and the pseudo-likelihood for batches and rates of both sides."""

    def told(name, batch, rate, learn):
        turn, machine = timed(learn)
        sys.stdout.write(f"{name}, {hidden} hidden units, batches of {batch}, rate {rate}: {turn.cpu / epochs:.3f} s an epoch, "
                         f"{pseudo_likelihood(machine, data, hidden):.1f} nats\n")  # fmt: skip

    for batch, chains, rate in itertools.product((100, 256, 500, 1000), (50, 100), (0.05, 0.1, 0.2, 0.5)):
        learn = ours(data, hidden, epochs=epochs, precision="bf16", batch=batch, rate=rate, chains=chains)
        told(f"vesalius, {chains} chains", batch, rate, learn)
    for batch, rate in itertools.product((10, 100, 500), (0.01, 0.05, 0.1, 0.2)):
        told("scikit-learn, float32", batch, rate, theirs(data, hidden, epochs=epochs, kind="f4", batch=batch, rate=rate))


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--hidden", type=int, nargs="+", default=[256, 512])
    words.add_argument("--batch", type=int, nargs="+", choices=list(RATE), default=list(RATE))
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--epochs", type=int, default=5)
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--data", type=Path)
    words.add_argument("--tried", action="store_true")
    options = words.parse_args()
    if options.threads != int(os.environ.get("OMP_NUM_THREADS", "1")):
        raise SystemExit(f"Start with OMP_NUM_THREADS={options.threads} in the environment, so that numpy's products use as many.")
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    data = pixels(options.data)
    if options.tried:
        tried(data, options.hidden[0], options.epochs)
        return
    made = [row for hidden in options.hidden for batch in options.batch for row in compare(data, hidden, batch, options)]
    keep("rbm_speed", made, title="Restricted Boltzmann machine")


if __name__ == "__main__":
    main()
