"""Draw phantom.png: four sequences of one synthetic head in three planes, the truth outlined. `python docs/images/phantom.py`."""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from vesalius.phantoms.brain_tumour import SEQUENCES, generate

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {2: "#35d07f", 1: "#ff5c5c", 3: "#ffd23f"}
NAMES = {2: "oedema", 3: "enhancing", 1: "necrotic"}


def palette() -> Image.Image:
    """72 greys and the outlines' colours on darker and lighter ground, so that the file is small and they stay bright."""
    greys = np.linspace(0, 255, 72)[:, None] * np.ones(3)
    bright = np.array([matplotlib.colors.to_rgb(c) for c in COLOURS.values()]) * 255
    mixed = [part * bright + (1 - part) * ground for part in (0.35, 0.7, 1.0) for ground in (0, 90, 180)]
    colours = np.concatenate([greys, *mixed]).astype(np.uint8)
    picture = Image.new("P", (1, 1))
    picture.putpalette(colours.tobytes() + bytes(768 - colours.size))
    return picture


def main(seed: int = 47) -> None:
    """Draw the patient `seed`."""
    sample = generate((166, 214, 176), (1.0, 1.0, 1.0), seed=seed, site="north")
    images, labels = sample["images"], sample["labels"]
    middle = [int(np.bincount(np.nonzero(np.isin(labels, (1, 3)))[a]).argmax()) for a in range(3)]
    planes = [(2, (slice(3, 163), slice(4, 204))), (1, (slice(3, 163), slice(22, 176))), (0, (slice(4, 214), slice(22, 176)))]
    heights = [200 / 160, 154 / 160, 154 / 210]
    figure, axes = plt.subplots(3, 4, figsize=(9.6, 9.6 / 4 * sum(heights) + 0.25), facecolor="black", height_ratios=heights)
    figure.subplots_adjust(0, 0, 1, 1 - 0.25 / figure.get_figheight(), wspace=0.01, hspace=0.01)
    for row, (axis, window) in zip(axes, planes, strict=True):
        truth = np.take(labels, middle[axis], axis)[window].T
        for place, image, name in zip(row, images, SEQUENCES, strict=True):
            brain = image[40:126, 50:170, 70:140]
            place.imshow(np.take(image, middle[axis], axis)[window].T, cmap="gray", vmin=0, vmax=1.15 * np.percentile(brain, 99.3),
                         origin="lower", interpolation="bicubic")  # fmt: skip
            place.set_axis_off()
            if axis == 2:
                place.set_title(name, color="white", fontsize=11, pad=4)
            if name == "FLAIR":
                for label, colour in COLOURS.items():
                    if (truth == label).any():
                        place.contour(truth == label, [0.5], colors=colour, linewidths=1.2)
    for k, (label, colour) in enumerate(COLOURS.items()):
        axes[0, 3].text(0.02, 0.98 - 0.055 * k, NAMES[label], color=colour, fontsize=8, va="top", transform=axes[0, 3].transAxes)
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=100, facecolor="black")
    Image.open(path).convert("RGB").quantize(palette=palette(), dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
