"""A cohort on disk: patients, some seen twice, several sites, and a split by patient. Phantoms without classes, as nnU-Net has it:

    folder/imagesTr/<case>_0000.nii.gz ...   labelsTr/<case>.nii.gz   dataset.json   cases.csv   facts.json

`dataset.json` has nnU-Net's words and beside them "splits" {"train": [case ...], "val": ..., "test": ...}, "patients"
{case: patient}, "regions" {name: [values]} and "metadata" {case: {site, visit, ...}}; `facts.json` has all that was drawn, and
volumes in millilitres. Phantoms with classes, the pictures of one channel in folders by class, all listed in a manifest:

    folder/<split>/<class>/<case>.png   truth/<case>.png   cases.csv   facts.json                         (one channel, 2D)
    folder/images/<case>_<channel>.nii.gz ...   truth/<case>.nii.gz   cases.csv   facts.json              (otherwise)

`cases.csv` says case, patient, visit, site, split, class, image (or image_<channel> ...), truth, and the metadata.
"""

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import UsageError
from vesalius.core.files import write_json, write_text
from vesalius.core.record import machine
from vesalius.io import save
from vesalius.io.image import Image
from vesalius.phantoms import Phantom

Progress = Callable[[float, float, str], None]  # done, total, what

SHARES = {"test": 0.25, "val": 0.15}  # of the patients; the rest is for training
APART = 100_000  # patients of one cohort seed; keeps cohorts of neighbouring seeds apart


@dataclass(frozen=True)
class Visit:
    """One scan that is to be made."""

    case: str
    patient: str
    seed: int
    site: str
    visit: int
    split: str


def write_cohort(phantom: Phantom, folder: Path, *, cases: int, shape: Sequence[int], seed: int, workers: int | None = None,
                 progress: Progress | None = None) -> Path:  # fmt: skip
    """Make `cases` scans in `workers` threads (None: one per core) and put the folder in its place when all are there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and not empty. Choose another folder, or remove it first.")
    visits = schedule(phantom, cases, seed=seed)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        facts = _make(phantom, partial, visits, shape=shape, workers=workers or machine()["cores"], progress=progress)
        _write_words(phantom, partial, visits, facts=facts)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def schedule(phantom: Phantom, cases: int, *, seed: int) -> list[Visit]:
    """Who is scanned when and where. Sites take turns; splits are by patient and the same for the same seed."""
    if cases < 1:
        raise UsageError(f"A cohort needs at least one case; got {cases}.")
    visits: list[tuple[int, int]] = []
    patient = 0
    while len(visits) < cases:
        twice = patient % phantom.second_visits == phantom.second_visits - 2
        visits += [(patient, visit) for visit in range(1 + twice)]
        patient += 1
    kinds = [phantom.class_of(seed * APART + p) for p in range(patient)]
    splits = _splits(kinds, seed)
    return [
        Visit(f"case_{p + 1:03d}_{v + 1}", f"patient_{p + 1:03d}", seed * APART + p, phantom.sites[p % len(phantom.sites)], v, splits[p])
        for p, v in visits[:cases]
    ]


def _splits(kinds: list[str], seed: int) -> list[str]:
    """Every part has a patient as soon as there are three, and classes in like shares: their patients are dealt in turn."""
    patients = len(kinds)
    splits = ["train"] * patients
    order = [int(p) for p in np.random.default_rng([seed, 7]).permutation(patients)]
    dealt: Counter[str] = Counter()
    rank = {}
    for p in order:
        rank[p] = dealt[kinds[p]]
        dealt[kinds[p]] += 1
    order.sort(key=rank.__getitem__)
    start = 0
    for part, share in SHARES.items():
        number = max(1, round(share * patients)) if patients > 2 else 0
        for p in order[start : start + number]:
            splits[p] = part
        start += number
    return splits


def _make(phantom: Phantom, folder: Path, visits: list[Visit], *, shape: Sequence[int], workers: int,
          progress: Progress | None) -> dict[str, dict[str, Any]]:  # fmt: skip
    facts: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(workers) as pool:
        pending = {pool.submit(_write_case, phantom, folder, visit, shape=shape): visit for visit in visits}
        try:
            for done, future in enumerate(as_completed(pending), 1):
                visit = pending[future]
                facts[visit.case] = future.result()
                if progress:
                    progress(done, len(visits), visit.case)
        finally:
            pool.shutdown(cancel_futures=True)
    return facts


def _write_case(phantom: Phantom, folder: Path, visit: Visit, *, shape: Sequence[int]) -> dict[str, Any]:
    sample = phantom.sample(shape, seed=visit.seed, site=visit.site, visit=visit.visit)
    images, truth = files_of(phantom, visit)
    kind = np.int16 if sample["space"].ndim == 3 else np.uint16 if sample["images"].max() > 255 else np.uint8
    for path, channel in zip(images, sample["images"], strict=True):
        save(Image(channel[None].astype(kind), sample["space"]), folder / path)
    save(Image(sample["labels"][None], sample["space"]), folder / truth)
    return sample["facts"]


def files_of(phantom: Phantom, visit: Visit) -> tuple[list[str], str]:
    """Where the channels and the truth of a case lie within the folder."""
    end = "nii.gz" if len(phantom.shape) == 3 else "png"
    if not phantom.classes:
        return [f"imagesTr/{visit.case}_{k:04d}.{end}" for k in range(len(phantom.channels))], f"labelsTr/{visit.case}.{end}"
    if len(phantom.channels) == 1 and end == "png":
        return [f"{visit.split}/{phantom.class_of(visit.seed)}/{visit.case}.png"], f"truth/{visit.case}.png"
    return [f"images/{visit.case}_{channel}.{end}" for channel in phantom.channels], f"truth/{visit.case}.{end}"


def _write_words(phantom: Phantom, folder: Path, visits: list[Visit], *, facts: dict[str, dict[str, Any]]) -> None:
    """facts.json and cases.csv; dataset.json where there are masks to learn."""
    write_json(folder / "facts.json", {v.case: facts[v.case] for v in visits})
    rows = [_row(phantom, v, facts[v.case]) for v in visits]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "cases.csv", text.getvalue())
    if not phantom.classes:
        write_json(folder / "dataset.json", _dataset_words(phantom, visits, facts))


def _row(phantom: Phantom, visit: Visit, known: dict[str, Any]) -> dict[str, Any]:
    """A line of cases.csv."""
    row: dict[str, Any] = {"case": visit.case, "patient": visit.patient, "visit": visit.visit, "site": visit.site, "split": visit.split}
    if phantom.classes:
        images, truth = files_of(phantom, visit)
        names = ["image"] if len(images) == 1 else [f"image_{channel}" for channel in phantom.channels]
        kind = phantom.class_of(visit.seed)
        return row | {"class": kind, **dict(zip(names, images, strict=True)), "truth": truth, **known["metadata"]}  # sizes would tell
    what, unit, _ = phantom.measure
    return row | {f"{name}_{unit}": round(size, 3) for name, size in known[f"{what}_{unit}"].items()}


def _dataset_words(phantom: Phantom, visits: list[Visit], facts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": phantom.title, "description": phantom.__doc__ or "", "reference": "vesalius, synthetic",
        "channel_names": {str(k): name for k, name in enumerate(phantom.channels)},
        "labels": {"background": 0, **phantom.labels}, "numTraining": len(visits), "file_ending": ".nii.gz",
        "splits": {part: [v.case for v in visits if v.split == part] for part in ("train", "val", "test")},
        "patients": {v.case: v.patient for v in visits},
        "regions": {name: list(values) for name, values in phantom.regions.items()},
        "metadata": {v.case: {"site": v.site, "visit": v.visit, **facts[v.case]["metadata"]} for v in visits},
    }  # fmt: skip
