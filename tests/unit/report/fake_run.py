"""A made-up run folder with numbers like those of a hippocampus training: for the tests of the report, and to look at it."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.files import write_json
from vesalius.core.space import Space
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.io import save
from vesalius.io.image import Image

LABELS = ("anterior", "posterior")
METRICS = ("dice", "iou", "nsd", "hd95", "assd", "sensitivity", "precision", "volume", "true_volume", "volume_error")
SHAPE = {3: (35, 50, 36), 2: (180, 220)}


def make(folder: Path, *, tests: int = 42, drawn: int = 42, ndim: int = 3, labels: tuple[str, ...] = LABELS, rater: str = "",
         folds: int = 1, name: str = "case") -> Path:  # fmt: skip
    """A complete run; scans exist for the first `drawn` test cases, the last one, and six training cases alone."""
    names = [f"{name}_{k:03d}" for k in range(tests)]
    rng = np.random.default_rng(0)
    rows = {who: scores(names, labels, rng, mean) for who, mean in (("model", 0.875), ("baseline", 0.72), ("rater", 0.86))}
    files(folder, dataset(folder, names, ndim=ndim, labels=labels, drawn=drawn, rng=rng), names, folds)
    test = {"model": rows["model"], "baseline": rows["baseline"], "raters": {rater: rows["rater"]} if rater else {}}
    write_json(folder / "metrics.json", {"version": 1, "unit": "mm", "definitions": {
        "dice": "2 |A and B| / (|A| + |B|); 0 where missed or hallucinated, undefined where both are empty.",
        "hd95": "the larger of the two directed 95th percentiles of surface distances, in mm."}, "parts": {"test": test}})  # fmt: skip
    return folder


def files(folder: Path, data: Dataset, tests: list[str], folds: int = 1) -> None:
    """Everything but the scores."""
    train, held = [c.name for c in data.cases if c.split == "train"], [c.name for c in data.cases if c.split == "val"]
    write_json(folder / "dataset.json", data.to_json())
    parts = [{"train": train, "val": held}] * folds
    write_json(folder / "splits.json", {"folds": parts, "test": tests, "reason": "The split that came with the data."})
    write_json(folder / "plan.json", PLAN)
    write_json(folder / "record.json", RECORD)
    write_json(folder / "doctor.json", DOCTOR)
    write_json(folder / "fingerprint.json", {
        "cases": 136, "channels": {"MR T1": 1}, "physical": True, "shapes": [[34, 47, 33], [35, 50, 36], [40, 59, 44]],
        "spacings": [[1.0, 1.0, 1.0]] * 3, "classes": {n: {"cases": 136, "share": 0.021} for n in data.labels.names}})  # fmt: skip
    for k in range(folds):
        place = folder / f"fold_{k}" if folds > 1 else folder
        place.mkdir(parents=True, exist_ok=True)
        log(place / "log.csv", seed=k)
        (place / "weights.safetensors").write_bytes(b"")


def log(path: Path, *, steps: int = 1400, reach: float = 1.0, seed: int = 0) -> None:
    """A training of twenty minutes, as far as `reach`."""
    rng, count = np.random.default_rng(seed), int(steps * reach)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["step", "seconds", "progress", "loss", "learning_rate", "validation"])
        for step in range(1, count + 1):
            share = step / steps
            loss = -0.85 + 2.2 * np.exp(-9 * share) + rng.normal(0, 0.05)
            rate = 4e-3 * (share / 0.2 if share < 0.2 else 0.5 * (1 + np.cos(np.pi * (share - 0.2) / 0.8)))
            check = round(0.885 - 0.75 * np.exp(-8 * share) + rng.normal(0, 0.006), 4) if step % 100 == 0 else ""
            table.writerow([step, round(1200 * share, 2), round(share, 5), round(float(loss), 4), round(float(rate), 7), check])


def scores(names: list[str], labels: tuple[str, ...], rng: np.random.Generator, mean: float) -> dict[str, Any]:
    """Rows and summaries around a mean Dice; two cases belong to one patient; the last case is a bad one."""
    rows = []
    for k, name in enumerate(names):
        case = rng.normal(0, 0.02)
        for j, label in enumerate(labels):
            dice = float(np.clip(mean - 0.02 * j + case + rng.normal(0, 0.015) - (0.35 if k == len(names) - 1 else 0), 0, 1))
            true = float(rng.normal(1600, 250))
            found = [dice, dice / (2 - dice), dice + 0.08, 0.4 + 7 * (1 - dice), 0.1 + 2 * (1 - dice), dice + 0.01, dice - 0.005,
                     true * (1.02 - 0.2 * (1 - dice)), true, true * (0.02 - 0.2 * (1 - dice))]  # fmt: skip
            state = "missed" if dice == 0 else "scored"
            values = dict(zip(METRICS, found, strict=True))
            rows.append({"case": name, "patient": f"subject {k // 2}", "label": label, "state": state, **values})
    return {"rows": rows, "summary": {label: summary(rows, label) for label in [*labels, "all"]}, "groups": {}}


def summary(rows: list[dict[str, Any]], label: str) -> dict[str, Any]:
    """Mean, a rough interval, median and counts of the rows of `label`."""
    some = [row for row in rows if label in ("all", row["label"])]
    found: dict[str, Any] = {"counts": {"scored": len(some), "both_empty": 0, "missed": 0, "hallucinated": 0}}
    for metric in METRICS:
        values = np.array([row[metric] for row in some if row[metric] is not None])
        spread = 1.96 * values.std() / np.sqrt(max(1, len(values)))
        found[metric] = {"mean": values.mean(), "low": values.mean() - spread, "high": values.mean() + spread,
                         "median": np.median(values), "n": len(values)}  # fmt: skip
    return found


def dataset(folder: Path, tests: list[str], *, ndim: int, labels: tuple[str, ...], drawn: int, rng: np.random.Generator) -> Dataset:
    """A cohort with scans for a few cases; predictions are the truth, shifted a little."""
    suffix = {3: ".nii.gz", 2: ".png"}[ndim]
    rest = [(f"train_{k:03d}", "train") for k in range(136)] + [(f"val_{k:03d}", "val") for k in range(29)]
    cases = []
    for k, (name, split) in enumerate([*((t, "test") for t in tests), *rest]):
        image, mask = (folder.parent / "scans" / f"{name}{end}{suffix}" for end in ("", "_mask"))
        known = {"sex": "FM"[k % 2], "age": int(rng.integers(20, 80))}
        cases.append(Case(name, f"subject {k // 2}", {"MR T1": image}, {"first": mask}, split, known))
        wanted = k < drawn or k == len(tests) - 1 or len(tests) <= k < len(tests) + 6
        if wanted:
            scan(image, mask, folder / "predictions" / split / f"{name}{suffix}", labels=len(labels), rng=rng)
    return Dataset("hippocampus <b>&</b> friends", folder.parent / "scans", "segment", tuple(cases), ("MR T1",),
                   Labels(names=labels, values=tuple((k + 1,) for k in range(len(labels)))), "msd", "MR",
                   ("Recognised as a Medical Decathlon folder.", "Patient: subject=(id+1)//2."))  # fmt: skip


def scan(image: Path, mask: Path, prediction: Path, *, labels: int, rng: np.random.Generator) -> None:
    """A soft banana in noise, cut into `labels` parts from front to back."""
    ndim = 3 if image.name.endswith(".nii.gz") else 2
    shape, space = SHAPE[ndim], Space.of(SHAPE[ndim], physical=ndim == 3)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij"))
    bend = grid[1] * 1.35
    inside = ((grid[0] - 0.25 * bend**2) / 0.35) ** 2 + (bend / 1.05) ** 2 + sum((g / 0.42) ** 2 for g in grid[2:]) < 1
    part = np.clip(((grid[1] + 0.8) / 1.6 * labels).astype(int), 0, labels - 1) + 1
    truth = np.where(inside, labels + 1 - part, 0)
    pixels = 90 + 60 * np.roll(inside, 1, 0) + 18 * np.sin(5 * grid[0] + 3 * grid[1]) + rng.normal(0, 9, shape)
    answer = np.roll(truth, (1, 0), (0, 1)) if ndim == 3 else np.roll(truth, (3, -2), (0, 1))
    for path, array in ((image, np.clip(pixels, 0, 255)), (mask, truth), (prediction, answer)):
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image(array[None].astype(np.uint8), space), path)


def leaf(value: Any, reason: str) -> dict[str, Any]:
    return {"value": value, "reason": reason}


PLAN = {
    "version": leaf(1, ""),
    "folds": leaf(1, "One training within the budget."),
    "preparation": {
        "spacing": leaf([1.0, 1.0, 1.0], "Median of the training cases on each axis."),
        "normalise": leaf([{"kind": "zscore"}], "MR T1: arbitrary units: z-score per image"),
        "order": leaf(3, "Cubic splines keep edges; nothing is anisotropic here."),
    },
    "net": {
        "name": leaf("unet", "The baseline that is hard to beat."),
        "channels": leaf([16, 32, 64, 128], "Multiples of 16 run fastest."),
        "encoder": {"depth": leaf(4, "Until the smallest side would fall below 4.")},
    },
    "train": {
        "seconds": leaf(1174.2, "20 min, less what examining and testing take."),
        "learning_rate": leaf(0.004, "One-cycle; highest that was stable."),
        "deterministic": leaf(False, ""),
    },
    "augment": {"mirror": leaf([False, True, True], "Never left-right: the labels are told apart by side.")},
    "expected": {"memory_bytes": leaf(3328599654, "Measured."), "parameters": leaf(1403210, "")},
}
RECORD = {
    "date": "2026-03-01T10:11:12+00:00", "command": ["/usr/bin/vesalius", "train", "hippo campus/", "-o", "run", "--budget", "20m"],
    "machine": {"system": "Linux", "processor": "A processor", "cores": 2, "memory_bytes": 24 * 2**30},
    "versions": {"python": "3.11.7", "vesalius": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6", "pydicom": None}, "seed": 0,
}  # fmt: skip
DOCTOR = [
    {"check": "geometry", "severity": "repaired", "message": "2 masks lay up to 0.02 mm off their image and were put on its grid.",
     "cases": ["train_004", "train_017"], "remedy": "", "details": {}},
    {"check": "duplicates", "severity": "warning", "message": "2 training scans are nearly the same.", "cases": ["train_020", "train_021"],
     "remedy": "Leave one out if they are copies.", "details": {"distance": 3}},
    {"check": "constant", "severity": "note", "message": "No constant images.", "cases": [], "remedy": "", "details": {}},
]  # fmt: skip

if __name__ == "__main__":
    from vesalius.report import write

    sys.stdout.write(f"{write(make(Path(sys.argv[1]), rater='observer 2'))}\n")
