"""What can be wrong: a nodule, pneumonia of one lobe, an effusion at one base; each says where how much water lies in place of lung."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vesalius.core.space import Array
from vesalius.phantoms._noise import smooth_field
from vesalius.phantoms._shapes import Points, step
from vesalius.phantoms.chest_xray.patient import Patient
from vesalius.phantoms.chest_xray.solids import Replaced, lung
from vesalius.physics.xray import ATTENUATION, Solids

CLASSES = ("normal", "nodule", "pneumonia", "effusion")
SEEN = {"pneumonia": 12.0, "effusion": 12.0}  # millimetres of water along a ray from which the truth counts it as diseased
RIM = 8.0  # millimetres of depth over which the meniscus falls to a third
LOBES = {  # centre of the consolidation: x outwards, y, z as a part of the way from the diaphragm to the top
    "right upper": (1, 62.0, 5.0, 0.72), "right middle": (1, 52.0, 48.0, 0.30), "right lower": (1, 72.0, -42.0, 0.22),
    "left upper": (-1, 66.0, 22.0, 0.66), "left lower": (-1, 76.0, -45.0, 0.25),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """`kind` is one of CLASSES; `size` in mm (diameter of a nodule, radius of a consolidation, height of the fluid); `place` in mm;
    `side` 1 right, -1 left; `lobe` a word."""

    kind: str
    size: float = 0.0
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    side: int = 0
    lobe: str = ""
    seed: int = 0

    def words(self) -> dict[str, Any]:
        """For facts.json."""
        side = {1: "right", -1: "left", 0: ""}[self.side]
        return {"kind": self.kind, "size_mm": self.size, "place_mm": list(self.place), "side": side, "lobe": self.lobe}


def draw_finding(kind: str, patient: Patient, *, visit: int) -> Finding:
    """A finding of `kind`; at a later visit it has grown or shrunk, in the same place."""
    generator = np.random.default_rng([patient.seed, 2])
    change = np.random.default_rng([patient.seed, 3, visit]).uniform(0.72, 1.28) if visit else 1.0
    if kind == "nodule":
        place = _free_place(patient, generator)
        size = float(generator.uniform(12, 30) * np.clip(change, 0.8, 1.2))
        return Finding(kind, size, place, 1 if place[0] > 0 else -1, seed=patient.seed)
    if kind == "pneumonia":
        lobe = sorted(LOBES)[int(generator.integers(len(LOBES)))]
        side, x, y, height = LOBES[lobe]
        low = patient.domes[0 if side == 1 else 1]
        shift = generator.normal(0, 6, 3)
        z = low + height * (patient.cage[3] - low)
        place = (side * x * patient.cage[0] / 134 + shift[0], y + shift[1], z + shift[2])
        return Finding(kind, float(generator.uniform(34, 52) * change), tuple(map(float, place)), side, lobe, patient.seed)  # type: ignore[arg-type]
    if kind == "effusion":
        side = 1 if generator.uniform() < 0.55 else -1
        return Finding(kind, float(np.clip(generator.uniform(30, 100) * change, 25, 115)), side=side, seed=patient.seed)
    return Finding("normal")


def _free_place(patient: Patient, generator: np.random.Generator) -> tuple[float, float, float]:
    """Well within a lung, in front of or behind anything but not hidden by heart or diaphragm."""
    low = max(patient.domes)
    while True:
        n = generator.uniform([-1, -0.7, 0], [1, 0.7, 1])
        place = n * [patient.cage[0], patient.cage[1], 1]
        place[2] = low + 18 + n[2] * (patient.cage[3] - 32 - low)
        flat = [np.full(9, v) for v in place]
        flat[1] = np.linspace(-40, 60, 9)  # along the ray
        along = lung(patient, (flat[0], flat[1], flat[2]))[0]
        own = lung(patient, tuple(np.array([v]) for v in place))[0][0]  # type: ignore[arg-type]
        if own < -13 and (along < 0).mean() > 0.75:
            return float(place[0]), float(place[1]), float(place[2])


def nodule(finding: Finding) -> Solids:
    """A lobulated ball: one large ellipsoid and bumps on it that share its density."""
    generator = np.random.default_rng([finding.seed, 4])
    radius = finding.size / 2
    bumps = generator.normal(0, 1, (5, 3))
    bumps *= 0.5 * radius / np.linalg.norm(bumps, axis=1, keepdims=True)
    centres = np.concatenate([np.zeros((1, 3)), bumps]) + finding.place
    semi = np.concatenate([radius * generator.uniform(0.85, 1.0, (1, 3)), radius * generator.uniform(0.45, 0.62, (5, 3))])
    gain = (ATTENUATION["soft"] - ATTENUATION["lung"]) * np.array([1.0, *[0.3] * 5])
    return Solids(centres, np.stack([np.diag(s) for s in semi]), gain)


def water(finding: Finding, patient: Patient) -> Replaced | None:
    """How much of the lung is water at a point; None where none is."""
    return {"pneumonia": _consolidation, "effusion": _fluid}.get(finding.kind, lambda *_: None)(finding, patient)


def _consolidation(finding: Finding, patient: Patient) -> Replaced:
    """Air spaces filled around a centre, fluffy at the rim, up to the fissures of the lobe and no further."""
    generator = np.random.default_rng([finding.seed, 5])
    coarse, fine = smooth_field(generator, 42.0), smooth_field(generator, 17.0)
    low = patient.domes[0]
    fissure = low + 0.50 * (patient.cage[3] - low)

    def filled(p: Points, depth: Array) -> Array:
        x, y, z = (axis - middle for axis, middle in zip(p, finding.place, strict=True))
        near = np.sqrt((x / 1.15) ** 2 + (y / 1.2) ** 2 + z * z)
        rim = near - finding.size + 9 * coarse.at(p) + 6 * fine.at(p)
        return np.asarray(0.85 * step(rim, 13, -13) * (p[0] * finding.side > 0) * _lobe(finding.lobe, p, fissure))

    return filled


def _lobe(lobe: str, p: Points, fissure: float) -> Array:
    """1 within the lobe: the horizontal fissure is seen edge on, the oblique one is not."""
    oblique = (p[2] - fissure - 22) * 0.72 + (p[1] + 45) * 0.69  # above and in front of it: upper and middle lobe
    front = step(oblique, -1, 1)
    if lobe.endswith("lower"):
        return np.asarray(1 - front)
    if lobe == "left upper":
        return front
    above = step(p[2] - fissure - 0.03 * np.abs(p[1]), -0.7, 0.7)
    return np.asarray(front * (above if lobe == "right upper" else 1 - above))


def _fluid(finding: Finding, patient: Patient) -> Replaced:
    """Fluid up to a level that climbs along the ribs (the meniscus): seen highest at the side, where the ray runs along the wall."""
    level = patient.domes[0 if finding.side == 1 else 1] - 48 + finding.size
    rise = 18 + 0.45 * finding.size

    def filled(p: Points, depth: Array) -> Array:
        meniscus = level + rise * np.exp(-np.maximum(depth, 0) / RIM)
        return np.asarray(step(p[2] - meniscus, 2.5, -2.5) * (p[0] * finding.side > 0))

    return filled
