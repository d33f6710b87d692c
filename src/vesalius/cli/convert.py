"""`vesalius convert`: one image into another format, or onto another grid."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vesalius.cli._console import Json
from vesalius.cli._screen import answer, answer_json, say
from vesalius.core.errors import UsageError


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image, a DICOM folder or zip; IN#NAME chooses one of several inside.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write; the suffix names the format.")],
    like: Annotated[Path | None, typer.Option(metavar="IMAGE", help="Resample onto the grid of this image.")] = None,
    spacing: Annotated[str | None, typer.Option(metavar="MM,MM,MM", help="Resample to this spacing, the same field of view.")] = None,
    order: Annotated[int | None, typer.Option(help="0 nearest (masks), 1 linear, 3 cubic; by default 0 for whole labels, else 1.")] = None,
    suv: Annotated[bool, typer.Option("--suv", help="A PET in DICOM as standardised uptake values (by body weight).")] = False,
    geometry_of: Annotated[Path | None, typer.Option(metavar="IMAGE", help="Keep the pixels, take the place of this image.")] = None,
    json: Json = False,
) -> None:
    """Write an image in another format, or put it on the grid of another.

    Pixels are in real units (Hounsfield, becquerel per millilitre) and the place in the world is kept.

    Example:
      vesalius convert scans/patient_1/ patient_1.nii.gz
      vesalius convert mask.nii.gz repaired.nii.gz --like image.nii.gz --order 0
      vesalius convert pet/ pet_suv.nii.gz --suv
    """
    from vesalius import io
    from vesalius.io.image import Image
    from vesalius.io.resample import resample

    if like is not None and spacing is not None:
        raise UsageError("--like and --spacing both name a grid. Give one of them.")
    if order is not None and like is None and spacing is None:
        raise UsageError("--order says how to resample. Give --like IMAGE or --spacing MM,MM,MM with it.")
    image = _uptake(io.load(source), source) if suv else io.load(source)
    if geometry_of is not None:
        image = Image(image.array, _place_of(geometry_of, image), image.source)
    for note in image.source.words.get("notes", ()):
        say(note)
    grid = image.space
    if like is not None:
        grid = io.header(like).space
    elif spacing is not None:
        grid = image.space.with_spacing(_numbers(spacing, image.space.ndim))
    chosen = _order(image.array) if order is None else order
    if grid is not image.space:
        image = resample(image, grid, order=chosen)
    io.save(image, target)
    told = _told(image, target, chosen if like or spacing else None)
    if json:
        answer_json(told)
    else:
        sides = " x ".join(map(str, image.space.shape))
        lengths = " x ".join(f"{side:g}" for side in image.space.spacing)
        answer(f"{target}: {told['channels']} x {sides} {told['kind']}, {lengths} {image.space.unit}")


def _uptake(image: Any, source: Path) -> Any:
    """The image in SUV, by the factor that its header gives."""
    from numpy import asarray, float32

    factor = image.source.words.get("suv_factor")
    if factor is None:
        why = image.source.words.get("no_suv", "it is no PET series in DICOM")
        raise UsageError(f"{source} cannot be given in SUV: {why}. Leave --suv out.")
    return image.with_array(asarray(image.array, float32) * float32(factor))


def _place_of(path: Path, image: Any) -> Any:
    """The space of the image at `path`, for pixels of the same shape."""
    from vesalius import io

    space = io.header(path).space
    if space.shape != image.space.shape:
        raise UsageError(f"{path} has the shape {space.shape}, the pixels {image.space.shape}. Resample instead: --like {path}")
    return space


def _numbers(text: str, count: int) -> list[float]:
    """`count` positive numbers, or one for all axes."""
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"Expected --spacing as millimetres with commas, for instance 1,1,2; got {text!r}.") from None
    found = found * count if len(found) == 1 else found
    if len(found) != count or min(found) <= 0:
        raise UsageError(f"Expected {count} positive numbers in --spacing, for instance {','.join(['1'] * count)}; got {text!r}.")
    return found


def _order(array: Any) -> int:
    """0 for what looks like a mask (few whole values near zero), else 1."""
    from numpy import unique

    small = array.dtype.kind in "biu" and array.size and array.min() >= 0 and array.max() < 256
    return 0 if small and len(unique(array)) <= 64 else 1


def _told(image: Any, target: Path, order: int | None) -> dict[str, Any]:
    return {
        "file": target, "from": image.source.format, "channels": image.channels, "shape": image.space.shape,
        "kind": image.array.dtype.name, "spacing": image.space.spacing, "unit": image.space.unit,
        "axes": image.space.axis_codes, "order": order,
    }  # fmt: skip
