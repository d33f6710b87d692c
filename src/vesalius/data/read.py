"""From paths to arrays: the channels of a case on one grid, and its mask as classes on the same grid."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError
from vesalius.core.space import Array, Space
from vesalius.data.case import Case, Masked, Parts, files_of
from vesalius.data.labels import Labels
from vesalius.io import load
from vesalius.io.image import Image, Source
from vesalius.io.resample import resample

SMALL = ("uint8", "int8", "uint16", "int16")  # kinds of whole numbers
LOSSY = (".jpg", ".jpeg")
GRID_TOLERANCE = 0.1  # voxels by which a mask may be off its image and still be taken to lie on it


def read_images(case: Case, channels: Mapping[str, int]) -> Image:
    """All channels of `case`, in order, on the grid of the first that is there: float32 (C, *S), native orientation; see `read_stored`."""
    image = read_stored(case, channels)
    return image.with_array(np.asarray(image.array, np.float32))


def read_stored(case: Case, channels: Mapping[str, int]) -> Image:
    """What `read_images` gives; small whole numbers (SMALL), of which float32 holds every one, stay in their kind where all channels share
    it, which takes half the memory.

    `channels` maps a channel to the number of its components (3 for a colour photograph). A channel that the case lacks
    is filled with NaN, which normalisation later turns into 0. A channel on another grid is resampled linearly.
    """
    parts: dict[str, Image] = {}
    for name in channels:
        if name in case.images:
            parts[name] = _components(load(case.images[name]), channels[name], case.images[name])
    if not parts:
        raise DataError(f"Case {case.name} has none of the channels {', '.join(channels)}.")
    first = next(iter(parts.values()))
    stack = [_on_grid(parts[n], first.space, case) if n in parts else np.full((c, *first.space.shape), np.nan, np.float32)
             for n, c in channels.items()]  # fmt: skip
    kind = stack[0].dtype if len({part.dtype for part in stack}) == 1 else np.float32
    return Image(stack[0] if len(stack) == 1 else np.concatenate(stack, dtype=kind), first.space, first.source)


def components(image: Image, wanted: int, path: Path) -> Image:
    """`image` with `wanted` components: grey and colour become each other, transparency is dropped. float32."""
    found = _components(image, wanted, path)
    return found.with_array(np.asarray(found.array, np.float32))


def _components(image: Image, wanted: int, path: Path) -> Image:
    """The same, small whole numbers as they are where nothing is to be computed."""
    if image.channels == wanted:
        return image.with_array(_light(image.array))
    if image.channels in (2, 4):  # an alpha channel says nothing about the patient
        image = image.with_array(image.array[: image.channels - 1])
    if wanted == 1 and image.channels == 3:
        return image.with_array(np.asarray(image.array, np.float32).mean(0, keepdims=True))
    if wanted == 3 and image.channels == 1:
        return image.with_array(np.repeat(_light(image.array), 3, 0))
    if image.channels != wanted:
        raise DataError(f"{path} has {image.channels} components; {wanted} were expected (as in the other cases). "
                        "Convert it, or leave it out.")  # fmt: skip
    return image.with_array(_light(image.array))


def _light(array: Array) -> Array:
    """`array` as float32, or as it is where that would take more memory."""
    return array if array.dtype.name in SMALL else np.asarray(array, np.float32)


def _on_grid(image: Image, space: Space, case: Case) -> Array:
    if image.space.ndim != space.ndim:
        raise DataError(f"Case {case.name}: channels of {image.space.ndim} and {space.ndim} dimensions cannot be put on one grid.")
    if image.space.shape == space.shape and image.space.distance_to(space) <= GRID_TOLERANCE * min(space.spacing):
        return image.array
    return np.asarray(resample(image.with_array(np.asarray(image.array, np.float32)), space, order=1).array)


def load_mask(place: Masked, labels: Labels, space: Space | None = None) -> Image:
    """The raw values of the mask at `place`: of one file as they are; of one file or layer per label the value that `labels` give to
    each, added up where labels may overlap (kind "bits"). Segments of DICOM, which may cover a part of a scan alone, are put on `space`."""
    if not isinstance(place, Parts):
        return load(place)
    values = {name: parts[0] for name, parts in zip(labels.names, labels.values, strict=True)}
    images = {path: _placed(load(path), space) for path in files_of(place)}
    first, whole = next(iter(images.items()))
    raw = np.zeros(whole.space.shape, np.int64)
    for name, path in ((name, path) for name, paths in place.files.items() for path in paths):
        part = images[path]
        if part.space.shape != whole.space.shape or part.space.distance_to(whole.space) > GRID_TOLERANCE * min(whole.space.spacing):
            raise DataError(f"{path} does not lie on the grid of {first}, the mask of another label of the case. "
                            f"Resample it: vesalius convert {path} OUT --like {first} --order 0")  # fmt: skip
        here = marked(part, path, place.layers.get(name))
        here &= (raw & values[name]) == 0 if labels.kind == "bits" else raw != values[name]  # files of one label may overlap
        if labels.kind != "bits" and (raw[here] != 0).any():
            raise DataError(f"{path} marks voxels that the mask of another label of the case marks too, as in no case that was "
                            "looked at first. Mend the masks, or leave the case out.")  # fmt: skip
        raw[here] += values[name]
    return whole.with_array(raw[None])


def _placed(part: Image, space: Space | None) -> Image:
    """Segments on `space`; anything else as it is."""
    if space is None or "segments" not in part.source.words or part.space.shape == space.shape or part.space.ndim != space.ndim:
        return part
    return resample(part, space, order=0)


def marked(part: Image, path: Path, layer: int | None = None) -> NDArray[np.bool_]:
    """(*S) where the mask of one label marks: all that is not 0; of a lossy JPEG and of fractions the upper half."""
    values = part.array[layer : layer + 1] if layer is not None else part.array[: 3 if part.channels > 2 else 1]
    least = 128 if path.suffix.lower() in LOSSY else 0.5 if layer is not None and values.dtype.kind == "f" else None
    return np.asarray((values != 0 if least is None else values >= least).any(0))


def read_mask(place: Masked, labels: Labels, space: Space) -> NDArray[np.uint8]:
    """The mask at `place` as classes (1 | K, *S) on `space` (see Labels.encode); a mask off the grid is refused."""
    mask, path = load_mask(place, labels, space), files_of(place)[0]
    if mask.space.ndim == 3 and space.ndim == 2 and mask.space.shape[2] == 1:
        mask = Image(mask.array[..., 0], Space(mask.space.shape[:2], np.delete(np.delete(mask.space.affine, 2, 0), 2, 1)), Source())
    if mask.space.shape != space.shape:
        raise DataError(f"{path}: the mask has shape {mask.space.shape}, its image {space.shape}. "
                        f"Resample it first: vesalius convert {path} OUT --like IMAGE --order 0")  # fmt: skip
    both = mask.space.physical and space.physical
    if both and mask.space.distance_to(space) > GRID_TOLERANCE * min(space.spacing):
        off = mask.space.distance_to(space)
        raise DataError(f"{path}: the mask lies up to {off:.2f} mm away from its image though the shapes agree. "
                        f"If its pixels are right, copy the geometry: vesalius convert {path} OUT --geometry-of IMAGE; "
                        "if not, resample it: vesalius convert --like IMAGE --order 0")  # fmt: skip
    array = mask.array[:3] if mask.channels == 4 else mask.array[:1] if mask.channels == 2 else mask.array
    return labels.encode(array)


