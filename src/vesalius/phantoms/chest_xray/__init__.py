"""Chest X-rays by projection through a thorax built from anatomy: normal, nodule, pneumonia, effusion; with exact truth on the film.

A cone beam crosses soft tissue, lungs, heart and diaphragm (signed distances, marched) and bones, vessels and nodules (ellipsoids, whose
chords are closed forms). Beer and Lambert's law, scatter and quantum noise make the signal; each of two hospitals has its own way to
make a picture of it. Classes exclude each other: the film of a patient shows one finding or none.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np
from scipy.spatial.transform import Rotation

from vesalius.core.card import Card
from vesalius.core.errors import UsageError, suggest
from vesalius.core.files import plain
from vesalius.core.space import Array, Space
from vesalius.phantoms import Phantom, Sample, turn_of
from vesalius.phantoms._cohort import Progress
from vesalius.phantoms._cohort import write_cohort as _write_cohort
from vesalius.phantoms.chest_xray.bones import skeleton
from vesalius.phantoms.chest_xray.film import SITES, Site, burn, collimate, develop
from vesalius.phantoms.chest_xray.findings import CLASSES, SEEN, Finding, draw_finding, nodule, water
from vesalius.phantoms.chest_xray.patient import EXTENT, Patient, draw_patient
from vesalius.phantoms.chest_xray.solids import GRID, march
from vesalius.phantoms.chest_xray.vessels import airways, tree
from vesalius.physics.xray import ATTENUATION, Beam, Floats, Solids, project

CARD = Card(entry="ChestXray", title="Chest X-ray",
            summary="Chest films with a nodule, pneumonia, an effusion or nothing, from two sites, with an optional shortcut",
            paper="Attenuation: Hubbell and Seltzer 1995, NISTIR 5632; ICRU Report 44, 1989. Branching: Murray 1926, J Gen Physiol 9:835",
            tasks=("classify",), ndim=(2,), tags=("x-ray", "chest", "lung"))  # fmt: skip
LABELS = {name: value for value, name in enumerate(CLASSES) if value}
SMALL = (96, 96)
SEEN_NODULE = 3.0  # millimetres of nodule along a ray from which the truth counts it

__all__ = ["CARD", "CLASSES", "LABELS", "SITES", "ChestXray", "Finding", "Site", "generate", "write_cohort"]


def generate(shape: Sequence[int] = (512, 512), spacing: Sequence[float] | None = None, *, seed: int, kind: str | None = None,
             site: Site | str | None = None, visit: int = 0, marker: bool = False) -> Sample:  # fmt: skip
    """One film of patient `seed`: "images" (1, rows, columns) of 0 to 255, "labels" where the finding is seen, "space", "facts".

    The same seed is the same person at every `shape` and `spacing` (mm on the detector; None: so that the chest fits). `kind` is one of
    CLASSES (None: by the seed, in equal shares). Later visits show the same finding grown or shrunk, and the patient standing otherwise.
    `marker` burns a letter in.
    """
    sides, step = _checked(shape, spacing)
    place = _site(site, seed)
    if kind is not None and kind not in CLASSES:
        raise UsageError(suggest(kind, CLASSES, "class of chest X-rays"))
    patient = draw_patient(seed)
    finding = draw_finding(kind or turn_of(CLASSES, seed), patient, visit=visit)
    scanner = np.random.default_rng([seed, 6, visit])
    beam = _positioned(sides, step, scanner)
    integral, shown = _integrals(patient, finding, beam)
    image = develop(integral, step=step, site=place, generator=scanner)
    image = collimate(image, step=step, site=place, generator=scanner)
    image = burn(image, step=step, generator=scanner) if marker else image
    labels = (shown * LABELS.get(finding.kind, 0)).astype(np.uint8)
    facts = _facts(patient, finding, labels, step=step) | {
        "seed": seed, "visit": visit, "site": place.name, "processing": place.model_dump(mode="json"), "marker": marker,
        "metadata": {"sex": "F" if patient.female else "M", "age": round(patient.age), "marker": int(marker)},
    }  # fmt: skip
    return {"images": np.rint(image)[None].clip(0, 255).astype(np.float32), "labels": labels,
            "space": Space.of(sides, (step, step)), "facts": facts}  # fmt: skip


def write_cohort(folder: Path | str, *, cases: int = 24, shape: Sequence[int] = SMALL, seed: int = 0, shortcut: float | None = None,
                 workers: int | None = None, progress: Progress | None = None) -> Path:  # fmt: skip
    """Write `cases` films of fewer patients to `folder`, split by patient: class folders and cases.csv; see vesalius.phantoms._cohort."""
    return _write_cohort(ChestXray(shortcut), Path(folder), cases=cases, shape=shape, seed=seed, workers=workers, progress=progress)


@final
class ChestXray(Phantom):
    """The entry on the shelf. `shortcut` None: no letter is burned in; 0 to 1: a letter is on (1 + shortcut) / 2 of the films with a
    finding and on (1 - shortcut) / 2 of those without, so that 0 teaches nothing and 1 gives the answer away."""

    title = "Synthetic chest X-rays"
    channels = ("xray",)
    classes = CLASSES
    labels = LABELS
    regions = {"finding": tuple(LABELS.values())}
    sites = tuple(site.name for site in SITES)
    shape = SMALL
    extent = EXTENT
    second_visits = 3

    def __init__(self, shortcut: float | None = None) -> None:
        if shortcut is not None and not 0 <= shortcut <= 1:
            raise UsageError(f"The shortcut is how strongly the letter goes with a finding, 0 to 1; got {shortcut}.")
        self.shortcut = shortcut

    def sample(self, shape: Sequence[int], *, seed: int, spacing: Sequence[float] | None = None, site: str, visit: int = 0) -> Sample:
        return generate(shape, spacing, seed=seed, site=site, visit=visit, marker=self._marked(seed, visit))

    def _marked(self, seed: int, visit: int) -> bool:
        if self.shortcut is None:
            return False
        sick = self.class_of(seed) != CLASSES[0]
        chance = (1 + self.shortcut if sick else 1 - self.shortcut) / 2
        return bool(np.random.default_rng([seed, 7, visit]).uniform() < chance)


def _checked(shape: Sequence[int], spacing: Sequence[float] | None) -> tuple[tuple[int, int], float]:
    if len(shape) != 2 or min(shape) < 4:
        raise UsageError(f"A film needs two sides of at least 4 pixels; got shape {tuple(shape)}.")
    if spacing is None:
        spacing = (max(length / side for length, side in zip(EXTENT, shape, strict=True)),) * 2
    if len(spacing) != 2 or min(spacing) <= 0 or spacing[0] != spacing[1]:
        raise UsageError(f"Expected one spacing in millimetres for both sides, above 0; got {tuple(spacing)}.")
    return (int(shape[0]), int(shape[1])), float(spacing[0])


def _site(site: Site | str | None, seed: int) -> Site:
    if isinstance(site, Site):
        return site
    known = {place.name: place for place in SITES}
    name = SITES[seed % len(SITES)].name if site is None else site
    if name not in known:
        raise UsageError(suggest(name, known, "site"))
    return known[name]


def _positioned(shape: tuple[int, int], step: float, generator: np.random.Generator) -> Beam:
    """How the patient stands before the detector: turned by a few degrees, off the middle by a few millimetres; 1.8 m from the focus."""
    angles = np.clip(generator.normal(0, (1.6, 1.0, 1.6)), -4, 4)
    shift = np.clip(generator.normal(0, (4, 1, 5)), -10, 10)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return Beam(shape, step, np.array([0.0, generator.normal(-1680, 40), 10.0]), 138.0, turn, shift, (0.0, 9.0))


def _integrals(patient: Patient, finding: Finding, beam: Beam) -> tuple[Floats, Array]:
    """Line integrals of everything, and where the finding is seen (rows, columns)."""
    paths = march(patient, beam, water(finding, patient))
    lump = project(nodule(finding), beam) if finding.kind == "nodule" else np.zeros(beam.shape)
    thin = project(Solids.join([skeleton(patient), tree(patient), airways(patient)]), beam)
    shown = lump > SEEN_NODULE * (ATTENUATION["soft"] - ATTENUATION["lung"])
    if finding.kind in SEEN:
        shown = _enlarged(paths.replaced, beam) > SEEN[finding.kind]
    return np.maximum(_enlarged(paths.integral, beam) + thin + lump, 0), shown


def _enlarged(image: Array, beam: Beam) -> Array:
    """What was marched on the coarse film, linearly on the pixels of the fine one; both have one middle."""
    from scipy.ndimage import map_coordinates

    coarse = beam.coarse(GRID)
    if coarse.shape == beam.shape:
        return image
    part = beam.step / coarse.step
    rows, columns = ((np.arange(n) - (n - 1) / 2) * part + (m - 1) / 2 for n, m in zip(beam.shape, coarse.shape, strict=True))
    return np.asarray(map_coordinates(image, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest"))


def _facts(patient: Patient, finding: Finding, labels: Array, *, step: float) -> dict[str, Any]:
    """Square centimetres on the detector, and what was drawn."""
    counts = np.bincount(labels.ravel(), minlength=len(CLASSES)) * (step**2 / 100)
    rows, columns = np.nonzero(labels)
    box = [int(v) for v in (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)] if rows.size else []
    return {
        "class": finding.kind, "finding": finding.words(), "box": box, "person": plain(asdict(patient)),
        "areas_cm2": {name: float(counts[value]) for name, value in LABELS.items()},
        "regions_cm2": {"finding": float(counts[1:].sum())},
    }  # fmt: skip
