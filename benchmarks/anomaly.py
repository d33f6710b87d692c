"""Every method that finds anomalies, learned from normal images alone and tested on both kinds, with distances in raw pixels beside.

    python benchmarks/anomaly.py --data FOLDER [--sets pneumonia nodule tumour] [--methods vae rbm ...] [--steps 400 | --seconds 45]
                                 [--turns 50] [--phantoms 1] [--out anomaly.json]

FOLDER holds pneumoniamnist.npz (28 x 28: normal, pneumonia; test images that are in the training part byte for byte are left out). The
other sets are phantoms, made here: chest films of 64 x 64 pixels without and with a nodule, and heads (T2, 28 x 36 x 32 voxels) without
and with a tumour, both with exact masks. Each method has so many steps in the one loop (or, where machines are compared, seconds), on one
thread; threshold and measures are those of the task. Areas are given with the interval of DeLong, the difference to the nearest training
image in raw pixels with one from drawing patients. Methods that --out holds already are not tried again.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vesalius.core.errors import VesaliusError
from vesalius.data.cache import Stored
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.data.prepare import Preparation
from vesalius.engine.images import gatherer, samples, told
from vesalius.engine.train import Loop
from vesalius.metrics import METRICS
from vesalius.metrics._heat import Heat
from vesalius.phantoms import brain_tumour, chest_xray
from vesalius.plan.images import still
from vesalius.plan.methods import built, rates, takes
from vesalius.plan.plan import Expected, Net, Patch, Plan, Predict, Train
from vesalius.tasks import TASKS, Images
from vesalius.tasks.anomaly import PIXEL_METRICS

LABELS = Labels(names=("normal", "abnormal"), values=((0,), (1,)), kind="classes")
BATCH = {2: 32, 3: 8}
BESIDE = ("baseline", "mean image", "principal components")
WIDTHS = (32, 64)  # of generators and critics
FEW = {"train": 160, "val": 40, "test": 80}  # phantoms of each part; half of val and test are abnormal


@dataclass(frozen=True)
class Part:
    """Images (N, 1, *S) from 0 to 1, whether each is abnormal (N,), and masks (N, *S) where they are known."""

    images: np.ndarray
    truth: np.ndarray
    masks: np.ndarray | None = None


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path)
    words.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    words.add_argument("--methods", nargs="+", default=list(TASKS["anomaly"]().methods))
    words.add_argument("--steps", type=int, default=400, help="of learning, per method and set")
    words.add_argument("--seconds", type=float, help="of learning in place of steps")
    words.add_argument("--turns", type=int, default=50, help="of the search for each image (anogan; the paper has 500)")
    words.add_argument("--phantoms", type=float, default=1.0, help="times as many phantoms as usual")
    words.add_argument("--out", type=Path, default=Path("anomaly.json"))
    words.add_argument("--seed", type=int, default=0)
    options = words.parse_args()
    torch.set_num_threads(1)
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.sets:
        parts = SETS[name](options)
        here = found.setdefault(name, {"images": {part: len(one.truth) for part, one in parts.items()}, "methods": {}})
        for method in options.methods:
            if method not in here["methods"]:
                here["methods"][method] = tried(method, parts, options)
            print(line(name, method, here["methods"][method]), flush=True)
            options.out.write_text(json.dumps(found, indent=1))
        for who in BESIDE:
            print(line(name, who, next((r[who] for r in here["methods"].values() if who in r), {})), flush=True)


def tried(name, parts, options):
    """What came of one method: measures, the pixels beside, seconds; or why it could not be tried."""
    begun, cpu = time.perf_counter(), time.process_time()
    try:
        method, steps = learned(name, parts["train"], options)
    except VesaliusError as problem:
        return {"problem": str(problem)}
    spent = {"seconds": round(time.perf_counter() - begun, 1), "processor_seconds": round(time.process_time() - cpu, 1), "steps": steps}
    task, sets = TASKS["anomaly"](), {part: as_images(one, part) for part, one in parts.items()}
    since = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        how = task.calibrate(method, sets["val"], trained=sets["train"], rules={})
        judged = task.judge(method, sets["test"], trained=sets["train"], calibration=how, folder=Path(folder))
    spent["judging_seconds"] = round(time.perf_counter() - since, 1)
    made = told(judged, by={})
    row = {**spent, **summary(made, "model"), **located(task, method, parts["test"], sets["test"])}
    row["difference"] = {key: made["difference"]["all"]["auc"][key] for key in ("mean", "low", "high")}
    return {**row, **{who: summary(made, who) for who in BESIDE}}


def summary(made, who):
    """Area with the interval of DeLong, and what the threshold does."""
    measures = {name: made[who]["summary"]["all"][name]["mean"] for name in ("average_precision", "sensitivity", "specificity")}
    return {**made["areas"][who], **measures}


def located(task, method, part, images):
    """How well the map finds the masks; nothing where there is no map or no mask."""
    maps = task.heat(method, images) if part.masks is not None else None
    if maps is None:
        return {}
    heat = Heat.of(list(maps[:, 0]), list(part.masks))
    return {name: float(value) for metric in PIXEL_METRICS for name, value in METRICS[metric](heat).items()}


def learned(name, part, options):
    """The method with its averaged weights, and the steps that it took."""
    shape = part.images.shape[1:]
    ndim = len(shape) - 1
    rate, decay = rates(name)
    known = takes(name)
    arguments = {"design": {"bounds": [0.0, 1.0], "widths": list(WIDTHS), "latent": 64}} if "design" in known else {}
    arguments |= {"turns": options.turns} if "turns" in known else {}
    method = built(name, shape, arguments, learning_rate=rate, weight_decay=decay, seed=options.seed)
    steps = {"steps": options.steps} if options.seconds is None else {"seconds": options.seconds, "steps": 1}
    train = Train(method=name, **steps, learning_rate=rate, weight_decay=decay, warm_up=0.02, ema=0.05,
                  validations=0, seed=options.seed)  # fmt: skip
    nowhere = np.zeros((0, 1 + ndim), np.int32)
    stored = [Stored(str(k), image.astype(np.float16), np.zeros(1, np.uint8), nowhere) for k, image in enumerate(part.images)]
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(method, train, min(BATCH[ndim], len(stored)), Path(folder), finish=gatherer(stored, "cpu"))
        loop.fit(samples(plan_of(train, shape), stored, "cpu"))
        return method.eval(), loop.step


def plan_of(train, shape):
    """As much of a plan as the drawing of samples asks for."""
    expected = Expected(device="cpu", budget_seconds=None, step_seconds=1, tile_seconds=1, steps=1, epochs=1, memory_bytes=1, parameters=1)
    return Plan(task="anomaly", labels=LABELS, preparation=Preparation(channels={"image": 1}, normalise=()), train=train, expected=expected,
                patch=Patch(size=shape[1:], batch=1, foreground=0), net=Net(name="own", ndim=len(shape) - 1), augment=still(len(shape) - 1),
                predict=Predict())  # fmt: skip


def as_images(part, name):
    """`part` as tasks take it; every image is of a patient of its own."""
    cases = [Case(f"{name}_{k}", f"{name}_{k}", {}, classes={LABELS.names[int(there)]: 1}) for k, there in enumerate(part.truth)]
    return Images(cases, list(part.images), LABELS)


def line(name, method, row):
    """One line of the table."""
    if "area" not in row:
        return f"{name:10s} {method:24s} {row.get('problem', '')}"
    text = f"{name:10s} {method:24s} AUC {row['area']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    if "difference" in row:
        gain = row["difference"]
        text += f"  over pixels {gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    text += f"  sensitivity {row['sensitivity']:.2f}, specificity {row['specificity']:.2f}"
    text += f"  AUPRO {row['aupro']:.3f}, best Dice {row['best_dice']:.3f}" if "aupro" in row else ""
    return text + (f"  {row['steps']} steps in {row['processor_seconds']:.0f} s" if "steps" in row else "")


def pneumonia(options):
    """Chest X-rays of children, normal and with pneumonia."""
    with np.load(options.data / "pneumoniamnist.npz", allow_pickle=False) as file:
        stacks = {part: (file[f"{part}_images"], file[f"{part}_labels"].ravel()) for part in FEW}
    seen = {image.tobytes() for part in ("train", "val") for image in stacks[part][0]}
    kept = {"train": stacks["train"][1] == 0, "val": slice(None),
            "test": np.array([image.tobytes() not in seen for image in stacks["test"][0]])}  # fmt: skip
    chosen = {part: (images[kept[part]], labels[kept[part]]) for part, (images, labels) in stacks.items()}
    return {part: Part(images[:, None].astype(np.float32) / 255, labels) for part, (images, labels) in chosen.items()}


def films(options):
    """Chest films without and with a nodule."""

    def one(seed, ill):
        sample = chest_xray.generate((64, 64), seed=seed, kind="nodule" if ill else "normal")
        return sample["images"] / 255, sample["labels"] > 0

    return phantoms(one, options)


def heads(options):
    """Heads without and with a tumour, T2."""
    none = brain_tumour.Lesion(kind="solid", volume=0, invasion=2, rim=2, mass_effect=0, place=(0, 0, 0))

    def one(seed, ill):
        sample = brain_tumour.generate((28, 36, 32), seed=seed, sequences=("T2",), lesion=None if ill else none)
        low, high = np.percentile(sample["images"], (0.5, 99.5))
        return ((sample["images"] - low) / (high - low)).clip(0, 1), sample["labels"] > 0

    return phantoms(one, options)


def phantoms(make, options):
    """Every part of a cohort of phantoms, each of another person; half of validation and test are abnormal."""
    made, seed = {}, 1000 * options.seed
    for part, few in FEW.items():
        number = max(4, round(few * options.phantoms))
        truth = np.arange(number) % 2 if part != "train" else np.zeros(number, int)
        pairs = [make(seed + k, bool(there)) for k, there in enumerate(truth)]
        images, masks = (np.stack(some) for some in zip(*pairs, strict=True))
        made[part], seed = Part(images.astype(np.float32), truth, masks), seed + number
    return made


SETS = {"pneumonia": pneumonia, "nodule": films, "tumour": heads}

if __name__ == "__main__":
    main()
