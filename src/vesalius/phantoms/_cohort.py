"""A cohort on disk, in the layout of nnU-Net: patients, some seen twice, several sites, and a split by patient.

    folder/imagesTr/<case>_0000.nii.gz ...   labelsTr/<case>.nii.gz   dataset.json   cases.csv   facts.json

`dataset.json` has nnU-Net's words and beside them "splits" {"train": [case ...], "val": ..., "test": ...}, "patients"
{case: patient}, "regions" {name: [values]} and "metadata" {case: {site, visit, ...}}; `facts.json` has all that was drawn, and
volumes in millilitres.
"""

import csv
import io
import os
import shutil
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

SECOND_VISITS = 6  # of so many patients, one comes twice
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
        (partial / "imagesTr").mkdir(parents=True)
        (partial / "labelsTr").mkdir()
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
        twice = patient % SECOND_VISITS == SECOND_VISITS - 2
        visits += [(patient, visit) for visit in range(1 + twice)]
        patient += 1
    splits = _splits(patient, seed)
    return [
        Visit(f"case_{p + 1:03d}_{v + 1}", f"patient_{p + 1:03d}", seed * APART + p, phantom.sites[p % len(phantom.sites)], v, splits[p])
        for p, v in visits[:cases]
    ]


def _splits(patients: int, seed: int) -> list[str]:
    """Every part has a patient as soon as there are three."""
    splits = ["train"] * patients
    order = np.random.default_rng([seed, 7]).permutation(patients)
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
    for number, channel in enumerate(sample["images"]):
        save(Image(channel[None].astype(np.int16), sample["space"]), folder / "imagesTr" / f"{visit.case}_{number:04d}.nii.gz")
    save(Image(sample["labels"][None], sample["space"]), folder / "labelsTr" / f"{visit.case}.nii.gz")
    return sample["facts"]


def _write_words(phantom: Phantom, folder: Path, visits: list[Visit], *, facts: dict[str, dict[str, Any]]) -> None:
    """dataset.json, facts.json and cases.csv."""
    rows = [{"case": v.case, "patient": v.patient, "visit": v.visit, "site": v.site, "split": v.split} for v in visits]
    volumes = [{f"{name}_ml": round(ml, 3) for name, ml in facts[v.case]["volumes_ml"].items()} for v in visits]
    write_json(folder / "dataset.json", {
        "name": phantom.title, "description": phantom.__doc__ or "", "reference": "vesalius, synthetic",
        "channel_names": {str(k): name for k, name in enumerate(phantom.channels)},
        "labels": {"background": 0, **phantom.labels}, "numTraining": len(visits), "file_ending": ".nii.gz",
        "splits": {part: [v.case for v in visits if v.split == part] for part in ("train", "val", "test")},
        "patients": {v.case: v.patient for v in visits},
        "regions": {name: list(values) for name, values in phantom.regions.items()},
        "metadata": {v.case: {"site": v.site, "visit": v.visit, **facts[v.case]["metadata"]} for v in visits},
    })  # fmt: skip
    write_json(folder / "facts.json", {v.case: facts[v.case] for v in visits})
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0], *volumes[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **volume} for row, volume in zip(rows, volumes, strict=True))
    write_text(folder / "cases.csv", text.getvalue())
