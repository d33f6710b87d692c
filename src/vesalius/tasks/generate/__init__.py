"""Making images of the user's own domain: a model that draws new ones, judged beside real ones that it has not seen.

Three sets stand beside each other, each with as many images: what the model makes, what a normal distribution of principal components
makes (the shallow opponent), and training images taken as if they had been made, which is what is possible.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.tasks import Images, ImageTask, Index, Judged, Learned, Table
from vesalius.tasks.generate.making import as_array, like
from vesalius.tasks.generate.measures import LEAST, Beside, Real, closeness, copies
from vesalius.tasks.generate.shallow import Components
from vesalius.tasks.generate.sheets import draw

CARD = Card(entry="Generate", title="Image generation", summary="Learn to make images like those of a data set.", tasks=("generate",))
MOST = 2000  # images that are made to be judged
GLANCE = 128  # images of a look while learning
SWEEPS = 100  # of a Boltzmann machine that dreams for such a look


class Generate(ImageTask):
    """Rows are real images of the part: how far the nearest made one is, and whether it is covered."""

    leading = ("coverage", "recall", "kid")
    serves = ("synthesise", "generate")
    method = "dcgan"

    def definitions(self, unit: str) -> dict[str, str]:
        return {
            "kid": "Kernel distance of made from real images (Binkowski et al. 2018) on random projections of the pixels: 0 where they "
                   "cannot be told apart, in the mean; below 0 by chance. Figures of other data sets or features cannot be compared.",
            "coverage": "Share of real images with a made one nearer than their 5th real neighbour (Naeem et al. 2020); hardly above 0.97.",
            "recall": "Share of real images within reach of made ones, by the made ones' own distances (Kynkaanniemi et al. 2019). Noisy "
                      "images reach far, so that it can be too kind.",
            "distance": "Mean squared difference between a real image, scaled to 0..1, and the nearest made one.",
        }  # fmt: skip

    def look(self, method: Learned, images: Images) -> float | None:
        """1 / (1 + KID) of some made images against these."""
        if len(images) < LEAST:
            return None
        real = Real.of(as_array(images))
        return closeness(Beside.of(like(method, images, number=min(GLANCE, max(LEAST, len(images))), seed=1, sweeps=SWEEPS), real).kid())

    def seconds(self, cases: int, each: float) -> float:
        """Making, comparing, and drawing of intervals."""
        return 15.0 + 4 * min(cases, MOST) * each + 2e-6 * min(cases, MOST) ** 2 * 30

    def judge(self, method: Learned, seen: Images, *, trained: Images, calibration: Mapping[str, Any], folder: Path) -> Judged:
        number = min(MOST, max(LEAST, len(seen)))
        made, learned = like(method, seen, number=number, seed=0), as_array(few(trained, MOST))
        real = Real.of(as_array(seen))
        sets = {"model": made, "baseline": Components.of(learned).samples(number, seed=0), "possible": learned[spread(learned, number)]}
        found = {who: Beside.of(images, real) for who, images in sets.items()}
        rows = {who: [{"case": case.name, "patient": case.patient, "label": "all", **one.row(k)} for k, case in enumerate(seen.cases)]
                for who, one in found.items()}  # fmt: skip

        def measure(who: str, index: Index) -> Table:
            return {"all": found[who].measures(index)}

        more: dict[str, Any] = {"made": {who: one.more() for who, one in found.items()}, "number": number, "features": real.words}
        more["copies"] = copies(found["model"], real.described(learned), real)
        more["pictures"] = draw(method, made, learned, seen=seen, folder=folder)
        return Judged(rows, measure, more)


def few(images: Images, most: int) -> Images:
    """At most so many, evenly from the first to the last."""
    return images.chosen(spread(images.pixels, most)) if len(images) > most else images


def spread(items: Any, number: int) -> NDArray[np.intp]:
    """Numbers of `number` items, evenly from the first to the last; some twice where there are fewer."""
    return np.linspace(0, len(items) - 1, number).round().astype(np.intp)
