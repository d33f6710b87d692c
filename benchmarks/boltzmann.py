"""Boltzmann machines: an epoch against scikit-learn's BernoulliRBM, and on chest radiographs likelihood, probes and dreams.

    python benchmarks/boltzmann.py [--rounds 3] [--data FOLDER_WITH_pneumoniamnist.npz] [--steps 1500] [--images 100] [--picture dreams.png]

Speed: 784 visible and 500 hidden units, 5000 rows of random 0 / 1, batches of 100, persistent chains (as many as rows in a batch, one
sweep), one thread each, in turns A B A B. Ours runs in the one loop (clipping, averaging, state on disk included). Seconds are of the
processor, which other work on the machine hardly lengthens; the ratio is taken within each round.

Data: radiographs of 28 x 28, each pixel 1 where it is above half. Likelihoods in nats per image of the validation part: optimistic (AIS)
and conservative (RAISE) with 95 % intervals. Probes: scikit-learn's logistic regression on standardised features, AUC on the test part
with a bootstrap interval over images (the set names no patients), for all labels and, as mean and spread over five draws, for 100.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vesalius.data.batch import Batch, Kind
from vesalius.engine.train import Loop
from vesalius.methods import METHODS
from vesalius.methods._dream import Dream
from vesalius.plan.plan import Train

ROWS, VISIBLE, HIDDEN, BATCH = 5000, 784, 500, 100


def learn(method: torch.nn.Module, image: Tensor, *, steps: int, precision: str = "fp32", size: int = BATCH) -> None:
    """`steps` batches of `image` in the one loop."""

    def draw(step: int, number: int) -> Batch:
        pick = torch.randint(0, len(image), (number,), generator=torch.Generator().manual_seed(step))
        return Batch({"image": image[pick]}, {"image": Kind.IMAGE})

    train = Train(steps=steps, learning_rate=method.learning_rate, weight_decay=method.weight_decay, validations=0, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        Loop(method, train, size, Path(folder)).fit(draw)


def speed(rounds: int) -> None:
    from sklearn.neural_network import BernoulliRBM

    rows = (torch.rand(ROWS, VISIBLE, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    image = rows.reshape(ROWS, 1, 28, 28)
    dream = Dream(kind="pcd", chains=BATCH)

    def ours(precision: str) -> Callable[[], None]:
        method = METHODS["rbm"]((1, 28, 28), hidden=HIDDEN, dream=dream)
        return lambda: learn(method, image, steps=ROWS // BATCH, precision=precision)

    def theirs(kind: str) -> Callable[[], object]:
        machine, data = BernoulliRBM(HIDDEN, batch_size=BATCH, n_iter=1, learning_rate=0.05, random_state=0), rows.numpy().astype(kind)
        return lambda: machine.fit(data)

    runners = {"ours bf16": ours("bf16"), "ours fp32": ours("fp32"), "sklearn float64": theirs("f8"), "sklearn float32": theirs("f4")}
    for run in runners.values():
        run()  # first calls
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    print(f"RBM epoch, {ROWS} rows, {VISIBLE}-{HIDDEN}, batches of {BATCH}, {rounds} rounds")
    for name, times in seconds.items():
        ratios = [np.array(times) / np.array(seconds[mine]) for mine in ("ours bf16", "ours fp32")]
        told = ", ".join(f"{np.median(r):.2f} ({r.min():.2f} - {r.max():.2f})" for r in ratios)
        print(f"  {name:16} {np.median(times):6.2f} s   to ours in bf16, fp32: {told}")


def auc(features: np.ndarray, label: np.ndarray, other: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """AUC of a linear probe, and its scores."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)).fit(features, label)
    score = probe.decision_function(other)
    return float(roc_auc_score(truth, score)), score


def interval(score: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    from sklearn.metrics import roc_auc_score

    random, found = np.random.default_rng(0), []
    for _ in range(300):
        pick = random.integers(0, len(truth), len(truth))
        found.append(roc_auc_score(truth[pick], score[pick]))
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def probe(name: str, train: np.ndarray, test: np.ndarray, label: np.ndarray, truth: np.ndarray) -> None:
    whole, score = auc(train, label, test, truth)
    few = []
    for seed in range(5):
        pick = np.random.default_rng(seed).choice(len(label), 100, replace=False)
        few.append(auc(train[pick], label[pick], test, truth)[0])
    low, high = interval(score, truth)
    spread = f"{np.mean(few):.3f} +- {np.std(few, ddof=1):.3f}"
    print(f"  {name:26} all labels {whole:.3f} ({low:.3f} - {high:.3f})   100 labels {spread}", flush=True)


def told(name: str, found: dict) -> None:
    words = ", ".join(f"{k} {v.value:.1f} ({v.low:.1f} - {v.high:.1f})" for k, v in found.items())
    print(f"  {name:26} {words}", flush=True)


def picture(path: Path, rows: list[Tensor]) -> None:
    """Rows of small images, each stretched to its own range."""
    from PIL import Image

    def stretched(image: Tensor) -> np.ndarray:
        low, high = torch.quantile(image, 0.01), torch.quantile(image, 0.99)
        return (255 * ((image - low) / (high - low + 1e-9)).clamp(0, 1)).byte().numpy()

    strips = [np.concatenate([np.pad(stretched(one[0]), 1) for one in row], 1) for row in rows]
    Image.fromarray(np.concatenate(strips, 0)).resize((strips[0].shape[1] * 2, 2 * sum(len(s) for s in strips)), 0).save(path)


def radiographs(folder: Path, steps: int, *, images: int, path: Path | None) -> None:
    from sklearn.decomposition import PCA

    data = np.load(folder / "pneumoniamnist.npz")
    grey = {part: torch.from_numpy(data[f"{part}_images"]).float()[:, None] / 255 for part in ("train", "val", "test")}
    bits = {part: (image > 0.5).float() for part, image in grey.items()}
    label, truth = data["train_labels"].ravel(), data["test_labels"].ravel()
    mean = bits["train"].mean(0).clamp(0.001, 0.999)
    alone = (bits["val"] * mean.log() + (1 - bits["val"]) * (1 - mean).log()).flatten(1).sum(1).mean()
    checked = bits["val"][:images]
    print(f"pneumoniamnist, {steps} steps of {BATCH}; log p per image of {images} of the validation part (independent pixels: {alone:.1f})")
    shape, rows, methods = (1, 28, 28), [grey["train"][:16], bits["train"][:16]], {}
    greedy = {"dbn": {"greedy": steps // 3}}
    for name in ("rbm", "dbn", "dbm"):
        size = {"hidden": 256} if name == "rbm" else {"hidden": (256, 128)}
        method = METHODS[name](shape, **size, **greedy.get(name, {}))
        start = time.process_time()
        learn(method, bits["train"], steps=steps)
        taken = time.process_time() - start
        told(f"{name} {size['hidden']}, {taken:.0f} s", method.likelihood(checked, temperatures=1000, chains=30))
        methods[name] = (method, bits)
        rows.append(method.samples(16, sweeps=500))
    rows.append(methods["rbm"][0].filters()[:16].detach())
    centre, spread = grey["train"].mean(), grey["train"].std()
    scaled = {part: (image - centre) / spread for part, image in grey.items()}
    gaussian = METHODS["rbm"](shape, hidden=256, visible="gaussian", learning_rate=0.01)
    learn(gaussian, scaled["train"], steps=steps)
    methods["rbm, Gaussian pixels"] = (gaussian, scaled)
    rows.append(gaussian.samples(16, sweeps=500))
    for name in ("vae",):
        method = METHODS[name](shape)
        learn(method, grey["train"], steps=steps // 3)
        methods[name] = (method, grey)
        rows.append(method.samples(16).detach())
    if path:
        picture(path, rows)
    print("pneumonia or not, AUC of a linear probe on the test part")
    flat = {part: image.flatten(1).numpy() for part, image in grey.items()}
    flat_bits = {part: image.flatten(1).numpy() for part, image in bits.items()}
    pca = PCA(50, random_state=0).fit(flat["train"])
    probe("pixels", flat["train"], flat["test"], label, truth)
    probe("pixels, 0 / 1", flat_bits["train"], flat_bits["test"], label, truth)
    probe("PCA, 50 components", pca.transform(flat["train"]), pca.transform(flat["test"]), label, truth)
    for name, (method, image) in methods.items():
        method.eval()
        with torch.no_grad():
            probe(name, method.features(image["train"]).numpy(), method.features(image["test"]).numpy(), label, truth)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=3, help="0 leaves the speed out")
    words.add_argument("--data", type=Path)
    words.add_argument("--steps", type=int, default=1500)
    words.add_argument("--images", type=int, default=100, help="whose likelihood is taken")
    words.add_argument("--picture", type=Path)
    chosen = words.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if chosen.rounds:
        speed(chosen.rounds)
    if chosen.data:
        radiographs(chosen.data, chosen.steps, images=chosen.images, path=chosen.picture)


if __name__ == "__main__":
    main()
