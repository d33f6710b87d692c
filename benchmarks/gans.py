"""Images made by adversarial methods on small chest X-rays: looked at, measured, and tried in training.

    python benchmarks/gans.py --data FOLDER [--out FOLDER] [--methods conditional_gan ac_gan] [--steps 600] [--batch 32] [--gamma 1]
    python benchmarks/gans.py --phantom [--cases 400] [--side 28] [--methods conditional_gan] [--steps 400]

With --phantom the images are drawn (phantoms/chest_xray: normal and pneumonia, two thirds, a sixth and a sixth for training, validation and
test); of the training films one in five is normal, so that there is something to balance. Otherwise FOLDER holds
pneumoniamnist.npz (train, val, test images and labels: normal, pneumonia). Each method learns from the training images, drawn with as
many of either class, in the one loop; its averaged weights make as many images of each class as validation has. Measures are of
random projections of the pixels, against validation images; the same measures of training images stand beside, as what is possible.
Balance: as many made normal images are added to the training set as it lacks; the classifier is a logistic regression of 14 x 14 pixels,
and its rival the same with class weights, which cost nothing.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from vesalius.core.errors import VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.engine.state import load_weights
from vesalius.engine.train import Loop
from vesalius.methods import METHODS
from vesalius.methods._adversaries import Design
from vesalius.methods._views import Views
from vesalius.metrics._features import described, nearest, random_projection
from vesalius.metrics.frechet import frechet
from vesalius.metrics.kernel_distance import kernel_distance
from vesalius.metrics.memorised import memorised
from vesalius.metrics.neighbours import neighbours
from vesalius.metrics.utility import Labelled, Trial, utility
from vesalius.phantoms import PHANTOMS
from vesalius.phantoms.chest_xray import generate
from vesalius.plan.plan import Train

WITH_CLASSES = ("conditional_gan", "ac_gan")


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path)
    words.add_argument("--phantom", action="store_true", help="synthetic chest films in place of --data")
    words.add_argument("--cases", type=int, default=400, help="films that are drawn")
    words.add_argument("--side", type=int, default=28, help="pixels of a drawn film")
    words.add_argument("--out", type=Path, default=Path("gans"))
    words.add_argument("--methods", nargs="+", default=list(WITH_CLASSES))
    words.add_argument("--steps", type=int, default=600)
    words.add_argument("--batch", type=int, default=32)
    words.add_argument("--widths", type=int, nargs="+", default=[32, 64])
    words.add_argument("--gamma", type=float, default=1.0, help="weight of R1 (conditional_gan, r1_gan)")
    words.add_argument("--views", action="store_true", help="adaptive augmentation of what the critic sees")
    words.add_argument("--seed", type=int, default=0)
    options = words.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if (options.data is None) != options.phantom:
        words.error("name a folder with --data, or --phantom")
    parts = ("train", "val", "test")
    sets = phantoms(options) if options.phantom else {part: read(options.data, part) for part in parts}
    train, val = sets["train"], sets["val"]
    project = random_projection(train[0][0].size, size=128)
    features = {part: described(images, project) for part, (images, _) in sets.items()}
    few = np.random.default_rng(0).choice(len(train[0]), len(val[0]), replace=False)
    rows = {"training images": against(features["train"][few], features)}
    for name in options.methods:
        begun, cpu = time.perf_counter(), time.process_time()
        method = learned(name, train, options)
        spent = {"seconds": time.perf_counter() - begun, "processor_seconds": time.process_time() - cpu}
        images = made_like(method, val[1], seed=1)
        picture(options.out / f"{name}.png", (images, val[1]), val, train, project)
        found = described(images, project)
        rows[name] = {**spent, **against(found, features), **memorised(found, features["train"], features["val"])}
        rows[name] |= {"probability": float(method.probability), "balance": balance(method, sets), "alone": alone(method, sets)}
        rows[name]["fid"] = refusal(features["val"], found)
    (options.out / "gans.json").write_text(json.dumps(rows, indent=1))
    print(json.dumps(rows, indent=1))


def read(folder, part):
    """(images (N, 28, 28) in -1 to 1, labels (N,))."""
    with np.load(folder / "pneumoniamnist.npz", allow_pickle=False) as file:
        return file[f"{part}_images"].astype(np.float32) / 127.5 - 1, file[f"{part}_labels"].ravel().astype(int)


def phantoms(options):
    """Drawn films in the same form: every patient once."""
    drawn, kinds = PHANTOMS["chest_xray"](), ("normal", "pneumonia")
    shape, ends = (options.side,) * 2, {"train": 0, "val": 4, "test": 5}
    sets = {part: ([], []) for part in ends}
    for seed in range(options.cases):
        part = next(part for part in reversed(ends) if seed % 6 >= ends[part])
        label = seed // 6 % 2 if part != "train" else int(seed // 6 % 5 > 0)
        film = generate(shape, seed=seed, kind=kinds[label], site=drawn.sites[seed // 12 % 2])
        sets[part][0].append(film["images"][0] / 127.5 - 1)
        sets[part][1].append(label)
    return {part: (np.stack(images).astype(np.float32), np.array(labels)) for part, (images, labels) in sets.items()}


def learned(name, train, options):
    """The method with its averaged weights after `options.steps`."""
    images, labels = train
    design = Design(widths=tuple(options.widths), latent=64, views=Views(horizon=20_000) if options.views else None)
    more = {"classes": 2} if name in WITH_CLASSES else {}
    more |= {"gamma": options.gamma} if name in ("conditional_gan", "r1_gan") else {}
    method = METHODS[name]((1, *images.shape[1:]), design=design, weight_decay=0.0, seed=options.seed, **more)
    places = [np.flatnonzero(labels == one) for one in (0, 1)]

    def draw(step, size):
        random = np.random.default_rng((options.seed, step))
        picked = np.concatenate([random.choice(place, size // 2) for place in places])
        tensors = {"image": torch.from_numpy(images[picked][:, None]), "label": torch.from_numpy(labels[picked])}
        return Batch(tensors, {"image": Kind.IMAGE, "label": Kind.LABEL})

    settings = Train(steps=options.steps, learning_rate=method.learning_rate, weight_decay=0.0, warm_up=0.02, ema=0.05, validations=0)
    with tempfile.TemporaryDirectory() as folder:
        Loop(method, settings, options.batch, Path(folder)).fit(draw)
        method.net.load_state_dict(load_weights(Path(folder) / "weights.safetensors")[0])
    return method.eval()


def made(method, number, label, *, seed):
    """`number` images (N, rows, columns) of class `label`, or of any class where the method knows none."""
    known = hasattr(method, "classes")
    return method.samples(number, seed=seed, label=label if known else None)[:, 0].numpy()


def made_like(method, labels, *, seed):
    """Images with the classes `labels`."""
    images = np.empty((len(labels), *method.shape[1:]), np.float32)
    for one in (0, 1):
        images[labels == one] = made(method, int((labels == one).sum()), one, seed=seed + one)
    return images


def against(found, features):
    """KID and neighbours against validation."""
    return {**kernel_distance(features["val"], found), **neighbours(features["val"], found)}


def refusal(real, found):
    """What FID says."""
    try:
        return frechet(real, found)["fid"]
    except VesaliusError as problem:
        return str(problem)


def small(images):
    """Means of 2 x 2 pixels as rows."""
    half = images.shape[1] // 2
    return images.reshape(-1, half, 2, half, 2).mean((2, 4)).reshape(len(images), -1)


def trial(**more):
    def fit(x, y, seed):
        return LogisticRegression(max_iter=300, C=0.1, **more).fit(small(x), y)

    return Trial(fit, lambda model, x: model.predict(small(x)), repeats=1)


def balance(method, sets):
    """The training set alone, and with made normal images until classes are even."""
    images, labels = sets["train"]
    lack = int((labels == 1).sum() - (labels == 0).sum())
    extra = Labelled(made(method, lack, 0, seed=7), np.zeros(lack, int))
    return utility(Labelled(images, labels), extra, Labelled(*sets["test"]), trial=trial(), rival=trial(class_weight="balanced"))


def alone(method, sets):
    """Trained on as many made images of the same classes."""
    images, labels = sets["train"]
    return utility(Labelled(images, labels), Labelled(made_like(method, labels, seed=11), labels), Labelled(*sets["test"]), trial=trial())


def picture(path, found, val, train, project):
    """Rows by class: validation images, made images, and the training image nearest to each made one."""
    (images, labels), strips = found, []
    seen = described(train[0], project)
    for one in (0, 1):
        some = images[labels == one][:12]
        _, which = nearest(described(some, project), seen)
        strips += [np.concatenate(list(row), 1) for row in (val[0][val[1] == one][:12], some, train[0][which])]
    grid = np.clip((np.concatenate(strips) + 1) * 127.5, 0, 255).astype(np.uint8)
    Image.fromarray(grid).resize((grid.shape[1] * 3, grid.shape[0] * 3), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
