"""Draw chest_xray.png: synthetic chest films of four classes from two sites, the truth outlined. `python docs/images/chest_xray.py`."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from vesalius.phantoms.chest_xray import generate

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FILMS = (("normal", 11), ("nodule", 22), ("pneumonia", 4), ("effusion", 27))  # class and patient
SITES = ("digital", "film")
COLOUR = "#ffb000"
SIDE = 372


def main() -> None:
    """A row per site; the outlines in the second row."""
    figure, axes = plt.subplots(2, 4, figsize=(4 * 2.9, 2 * 2.9 + 0.25), facecolor="black")
    figure.subplots_adjust(0, 0, 1, 1 - 0.25 / figure.get_figheight(), wspace=0.01, hspace=0.01)
    for row, site in zip(axes, SITES, strict=True):
        for place, (kind, seed) in zip(row, FILMS, strict=True):
            film = generate((SIDE, SIDE), seed=seed, kind=kind, site=site)
            place.imshow(film["images"][0], cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
            place.set_axis_off()
            if site == SITES[0]:
                place.set_title(kind, color="white", fontsize=11, pad=4)
            elif film["labels"].any():
                place.contour(film["labels"] > 0, [0.5], colors=COLOUR, linewidths=1.0)
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=100, facecolor="black")
    Image.open(path).convert("RGB").quantize(palette=palette(), dither=Image.Dither.NONE).save(path, optimize=True)


def palette() -> Image.Image:
    """Greys, and the outline's colour on dark and on bright ground."""
    bright = np.array(matplotlib.colors.to_rgb(COLOUR)) * 255
    mixed = [part * bright + (1 - part) * ground for part in (0.35, 0.7, 1.0) for ground in (0, 120, 220)]
    colours = np.concatenate([np.linspace(0, 255, 60)[:, None] * np.ones(3), mixed]).astype(np.uint8)
    picture = Image.new("P", (1, 1))
    picture.putpalette(colours.tobytes() + bytes(768 - colours.size))
    return picture


if __name__ == "__main__":
    main()
