"""One person's chest: the numbers that make it unlike others. Millimetres, RAS+: x to the patient's right, y to the front, z up;
the origin lies in the middle of the chest about the height of the seventh thoracic vertebra."""

from dataclasses import dataclass

import numpy as np

from vesalius.core.space import Array

EXTENT = (372.0, 372.0)  # millimetres of film, rows and columns


@dataclass(frozen=True)
class Patient:
    """`cage` are half width, half depth and the heights of its widest place and of its top; `domes` the heights of the right and left
    diaphragm; `heart` a factor; `hilum` and `aorta` sizes; `fat` under the skin; `breast` 0 for none; lean of the spine in mm;
    `slope` of the ribs and `clavicle` their lift, factors; `scapula` how far the shoulder blades are rolled out, mm."""

    female: bool
    age: float
    cage: tuple[float, float, float, float]
    domes: tuple[float, float]
    heart: float
    aorta: float
    fat: float
    breast: float
    lean: tuple[float, float]
    slope: float
    clavicle: float
    scapula: float
    vessels: float
    density: float
    gas: float
    seed: int


def draw_patient(seed: int) -> Patient:
    """A new grown-up."""
    generator = np.random.default_rng([seed, 0])
    uniform, normal = generator.uniform, generator.normal
    female = bool(uniform() < 0.45)
    size = (0.93 if female else 1.0) * np.clip(normal(1, 0.035), 0.92, 1.08)
    age, fat = uniform(22, 88), float(np.clip(normal(14, 6), 5, 30))
    right = float(np.clip(normal(-92, 7), -106, -76))
    return Patient(
        female=female, age=float(age),
        cage=(float(134 * size * uniform(0.96, 1.04)), float(96 * size * uniform(0.92, 1.1)), float(-62 * size), float(147 * size)),
        domes=(right, right - float(np.clip(normal(13, 4), 4, 24))),
        heart=float(size * np.clip(normal(0.94 + 0.0015 * (age - 50), 0.055), 0.8, 1.1)),
        aorta=float(np.clip(normal(17 + 0.08 * (age - 50), 1.5), 14, 23)),
        fat=fat, breast=float(uniform(0.5, 1.2) * (0.75 + fat / 60)) if female else 0.0,
        lean=(float(normal(0, 3.5)), float(uniform(0, 6.28))),
        slope=float(uniform(0.85, 1.2)), clavicle=float(normal(0, 6)), scapula=float(uniform(-4, 26)),
        vessels=float(uniform(0.9, 1.15)), density=float(uniform(0.85, 1.15)), gas=float(uniform(0, 1)), seed=seed,
    )  # fmt: skip


def spine_at(patient: Patient, z: Array) -> Array:
    """x of the middle of the spine at heights `z`: a slight scoliosis."""
    bend, phase = patient.lean
    return np.asarray(bend * np.sin(z * 0.022 + phase))
