"""What each tissue gives in the scanner: proton density, T1, T2 at 1.5 and 3 tesla, and how much contrast agent it takes up.

Grey and white matter, fat, muscle at 1.5 T: BrainWeb (Kwan, Evans, Pike, IEEE Trans Med Imaging 18:1085, 1999); at 3 T: Wansapura
et al., J Magn Reson Imaging 9:531, 1999, and Stanisz et al., Magn Reson Med 54:507, 2005 (also blood). Cerebrospinal fluid: T1 does
not depend on the field (Rooney et al., Magn Reson Med 57:308, 2007). Densities: water contents after Neeb et al., NeuroImage 31:1156,
2006. Tumour, oedema, mucosa, choroid and dura: mid-range values chosen to give the contrasts that reading-room images show.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vesalius.core.errors import UsageError
from vesalius.core.space import Array
from vesalius.physics.mri import with_contrast

RELAXIVITY = {1.5: 4.7, 3.0: 4.5}  # l/mmol/s of a gadolinium chelate in plasma, Rohrer et al., Invest Radiol 40:715, 2005


@dataclass(frozen=True)
class Tissue:
    """`density` relative to water; `at_15` and `at_30` are (T1, T2) in ms at 1.5 and 3 T; `uptake` in mmol/l after injection."""

    name: str
    density: float
    at_15: tuple[float, float]
    at_30: tuple[float, float]
    uptake: float = 0.0


TISSUES = (
    Tissue("air", 0.0, (1000, 50), (1000, 50)),
    Tissue("skin", 0.62, (900, 42), (1100, 38), 0.08),
    Tissue("fat", 0.95, (350, 105), (382, 100)),
    Tissue("muscle", 0.80, (900, 47), (1200, 42), 0.06),
    Tissue("bone", 0.06, (250, 10), (250, 10)),
    Tissue("marrow", 0.62, (450, 55), (500, 50), 0.03),
    Tissue("fluid", 1.0, (4300, 1900), (4300, 1600)),
    Tissue("grey", 0.85, (833, 83), (1331, 95), 0.02),
    Tissue("white", 0.75, (500, 70), (832, 75), 0.01),
    Tissue("nucleus", 0.83, (720, 76), (1160, 80), 0.02),
    Tissue("pallidum", 0.78, (600, 66), (960, 62), 0.02),
    Tissue("stem", 0.78, (600, 74), (980, 79), 0.01),
    Tissue("dura", 0.45, (900, 30), (1100, 28), 0.5),
    Tissue("artery", 0.03, (1441, 100), (1932, 90)),
    Tissue("vein", 0.90, (1441, 28), (1932, 24), 1.8),
    Tissue("choroid", 0.92, (1200, 130), (1500, 120), 0.9),
    Tissue("mucosa", 0.92, (1100, 120), (1400, 110), 0.7),
    Tissue("vitreous", 1.0, (3500, 900), (3500, 800)),
    Tissue("lens", 0.6, (700, 25), (900, 22)),
    Tissue("gliosis", 0.85, (900, 125), (1350, 125)),
    Tissue("oedema", 0.90, (1350, 180), (1700, 170)),
    Tissue("tumour", 0.90, (1450, 165), (1800, 155), 0.02),
    Tissue("cyst", 0.97, (2600, 420), (2900, 380), 0.03),
    Tissue("necrosis", 0.95, (2000, 220), (2300, 200), 0.03),
    Tissue("rim", 0.88, (1250, 112), (1600, 105), 0.75),
    Tissue("fringe", 0.88, (1300, 118), (1650, 110), 0.28),
)
INDEX = {tissue.name: k for k, tissue in enumerate(TISSUES)}

Equation = Callable[[Array, Array, Array], Array]  # proton density, T1, T2 -> signal


def signal_table(equations: list[tuple[Equation, bool]], field: float) -> Array:
    """Signals (tissue, sequence) at `field` tesla; each sequence is an equation and whether contrast agent was given."""
    if field not in RELAXIVITY:
        raise UsageError(f"Relaxation times are known at 1.5 and 3.0 tesla; got {field}. Choose one of these.")
    density = np.array([tissue.density for tissue in TISSUES])
    t1, t2 = np.array([tissue.at_15 if field == 1.5 else tissue.at_30 for tissue in TISSUES]).T
    uptake = np.array([tissue.uptake for tissue in TISSUES])
    columns = []
    for equation, enhanced in equations:
        agent = uptake if enhanced else np.zeros_like(uptake)
        rate = RELAXIVITY[field]
        columns.append(equation(density, with_contrast(t1, agent, rate), with_contrast(t2, agent, 1.2 * rate)))
    return np.stack(columns, -1).astype(np.float32)


class Canvas:
    """Layers of tissue over points, back to front: `values` (sequence, point) are the signals of the mixture.

    With the identity as `table` (tissue, tissue) the values are the tissue fractions themselves, which sum to 1.
    """

    def __init__(self, table: Array, number: int) -> None:
        self.table = table
        self.values = np.repeat(table[INDEX["air"]][:, None], number, 1)

    def paint(self, name: str, cover: Array, where: Array | None = None) -> None:
        """Cover the points `where` (indices; all by default) with `name`, each to the part `cover` (0 to 1)."""
        hit = np.flatnonzero(cover > 0)
        where = hit if where is None else where[hit]
        cover = cover[hit]
        for row, signal in zip(self.values, self.table[INDEX[name]], strict=True):
            part = row[where]
            row[where] = part + cover * (signal - part)
