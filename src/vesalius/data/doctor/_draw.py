"""What the doctor shows: a sheet of cases with the outlines of their masks, and pairs that look like copies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import VesaliusError
from vesalius.core.files import write_beside
from vesalius.core.space import Array
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.doctor._finding import Finding
from vesalius.data.read import load_mask
from vesalius.io import load
from vesalius.io.image import Image

SHOWN = 24  # cases on the sheet
PAIRS = 8
SIDE, TEXT, GAP = 220, 34, 8  # pixels: a picture, the words above it, the space around
PAPER, INK, ALARM = (252, 252, 252), (40, 40, 40), (176, 0, 32)
COLOURS = ((230, 85, 13), (49, 163, 84), (33, 150, 243), (231, 41, 138), (253, 216, 53), (23, 190, 207), (148, 103, 189), (140, 86, 75))

Rgb = tuple[int, int, int]
Captioned = tuple[Case, str]


def draw_findings(dataset: Dataset, findings: Sequence[Finding], folder: Path) -> list[Path]:
    """cases.png, copies.png where some look alike, and shortcuts.png where the margin tells the class."""
    shown = chosen(dataset, findings)
    words: dict[str, str] = {}
    for finding in findings:
        for name in finding.cases if finding.severity in ("error", "warning") and 2 * len(finding.cases) <= len(dataset.cases) else ():
            words.setdefault(name, finding.check)
    written = [_sheet(folder / "cases.png", [(case, words.get(case.name, "")) for case in shown], dataset, columns=6)]
    pairs = {(one, other): alike for f in findings for one, other, alike in f.details.get("pairs", ())}
    if pairs:
        twins = [(case, f"alike {alike:.2f} {about(case)}".rstrip()) for both, alike in list(pairs.items())[:PAIRS]
                 for case in map(dataset.case, both)]  # fmt: skip
        written.append(_sheet(folder / "copies.png", twins, dataset, columns=4))
    framed = [(dataset.case(name), label) for f in findings for label, names in f.details.get("margins", {}).items() for name in names]
    if framed:
        written.append(_sheet(folder / "shortcuts.png", framed, dataset, columns=4, veiled=True))
    return written


def chosen(dataset: Dataset, findings: Sequence[Finding]) -> list[Case]:
    """Up to half of the sheet for cases with errors and warnings, the rest spread evenly over the data set."""
    bad = {name for f in findings if f.severity in ("error", "warning") for name in f.cases}
    first = [case for case in dataset.cases if case.name in bad][: SHOWN // 2]
    names = {case.name for case in first}
    rest = [case for case in dataset.cases if case.name not in names]
    count = min(len(rest), SHOWN - len(first))
    return first + [rest[i] for i in np.linspace(0, len(rest) - 1, count).round().astype(int)]


def _sheet(path: Path, cases: list[Captioned], dataset: Dataset, *, columns: int, veiled: bool = False) -> Path:
    from PIL import Image as Pictures
    from PIL import ImageDraw, ImageFont

    columns = min(columns, len(cases))
    rows = -(-len(cases) // columns)
    sheet = Pictures.new("RGB", (columns * (SIDE + GAP) + GAP, rows * (SIDE + TEXT + GAP) + 2 * GAP + 16), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for k, (case, word) in enumerate(cases):
        left, top = GAP + k % columns * (SIDE + GAP), GAP + k // columns * (SIDE + TEXT + GAP)
        pen.text((left, top), short(case.name), fill=INK, font=font)
        pen.text((left, top + 15), word or about(case), fill=ALARM if word else (130, 130, 130), font=font)
        panel = _panel(case, dataset)
        if isinstance(panel, str):
            pen.multiline_text((left, top + TEXT), wrapped(panel), fill=ALARM, font=font)
        else:
            panel = veil(panel) if veiled else panel
            sheet.paste(Pictures.fromarray(panel), (left + (SIDE - panel.shape[1]) // 2, top + TEXT + (SIDE - panel.shape[0]) // 2))
    if dataset.labels.grain == "voxel":
        _legend(pen, font, dataset.labels.names, top=sheet.height - 22)
    write_beside(path, lambda beside: sheet.save(beside, format="PNG"))
    return path


def about(case: Case) -> str:
    """Its part, and what it shows where it is labelled as a whole."""
    return " ".join([case.split, *(name for name, there in (case.classes or {}).items() if there)]).strip()


def _legend(pen: Any, font: Any, names: Sequence[str], *, top: int) -> None:
    left = float(GAP)
    for name, colour in zip(names, COLOURS, strict=False):
        pen.rectangle((left, top + 4, left + 9, top + 13), fill=colour)
        pen.text((left + 14, top + 2), name, fill=INK, font=font)
        left += 26 + font.getlength(name)


def short(name: str, most: int = 30) -> str:
    """The beginning and the end of a long name."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[1 - most // 2 :]}"


def wrapped(text: str, width: int = 32, lines: int = 9) -> str:
    """`text` in lines."""
    return "\n".join([text[k : k + width] for k in range(0, len(text), width)][:lines])


def _panel(case: Case, dataset: Dataset) -> NDArray[np.uint8] | str:
    """The picture of a case (H, W, 3) with outlines, or why there is none."""
    try:
        picture, masks, tall = section(case, dataset)
    except VesaliusError as problem:
        return str(problem)
    return outlined(picture, masks, tall=tall)


def section(case: Case, dataset: Dataset) -> tuple[Array, NDArray[np.bool_], float]:
    """A picture (H, W) or (H, W, 3) in 0..1, the masks (K, H, W) on it, and the height of a pixel over its width.

    A volume shows the slice with the most marked voxels across its coarsest axis: radiological convention, patient's right
    to the left of the picture, front or head up.
    """
    channel = next(c for c in dataset.channels if c in case.images)
    image = load(case.images[channel])
    labels = np.zeros((len(dataset.labels.names), *image.space.shape), bool)
    if case.mask:
        mask = load_mask(case.mask, dataset.labels, image.space)
        if mask.space.shape == image.space.shape:
            labels = dataset.labels.masks(dataset.labels.encode(mask.array[:3] if mask.channels > 3 else mask.array))
    if image.space.ndim == 2:
        picture = image.array[:3].transpose(1, 2, 0) if image.channels >= 3 else image.array[0]
        return stretched(picture), labels, image.space.spacing[0] / image.space.spacing[1]
    return _slice(image, labels)


def _slice(image: Image, labels: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_], float]:
    turn = image.space.canonical_turn()
    space, volume, marked = image.space.turned(turn), turn.apply(image.array[0]), turn.apply(labels)
    axis = int(np.argmax(space.spacing)) if max(space.spacing) > 1.3 * min(space.spacing) else 2
    across, down = (k for k in range(3) if k != axis)
    amount = marked.any(0).sum((across, down))
    place = int(amount.argmax()) if amount.any() else space.shape[axis] // 2
    where = (..., *(place if k == axis else slice(None) for k in range(3)))
    cut = [a[where].swapaxes(-1, -2)[..., ::-1, ::-1] for a in (volume, marked)]
    return stretched(cut[0]), np.asarray(cut[1], bool), space.spacing[down] / space.spacing[across]


def veil(panel: NDArray[np.uint8], part: float = 1 / 9) -> NDArray[np.uint8]:
    """`panel` (H, W, 3) with everything but its margin covered: what a look at the margin alone sees."""
    height, width = panel.shape[0], panel.shape[1]
    top, left = round(part * height), round(part * width)
    out = panel.copy()
    out[top : height - top, left : width - left] = 225
    return out


def stretched(picture: Array) -> NDArray[np.float32]:
    """0..1 between the 1st and 99.5th percentile."""
    values = np.nan_to_num(np.asarray(picture, np.float32), posinf=0, neginf=0)
    low, high = np.percentile(values, [1, 99.5])
    return np.asarray((values - low) / max(float(high - low), 1e-9), np.float32).clip(0, 1)


def outlined(picture: Array, masks: NDArray[np.bool_], *, tall: float = 1.0) -> NDArray[np.uint8]:
    """`picture` scaled to fit a square of SIDE pixels, with the outline of each mask in its colour; pixels are `tall`
    times as high as wide."""
    from PIL import Image as Pictures
    from scipy.ndimage import binary_erosion

    height, width = picture.shape[0] * tall, picture.shape[1]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Pictures.Resampling.BOX if scale < 1 else Pictures.Resampling.NEAREST
    grey = Pictures.fromarray((picture * 255).astype(np.uint8)).convert("RGB").resize(size, how)
    canvas = np.array(grey)
    for mask, colour in zip(masks, COLOURS, strict=False):
        fine = np.asarray(Pictures.fromarray(mask.astype(np.uint8) * 255).resize(size, how)) > 90
        canvas[fine & ~binary_erosion(fine)] = colour
    return canvas
