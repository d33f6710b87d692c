"""What every format must do: give back pixels and place, oblique too; agree with its header; refuse damage; write in one step."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from vesalius import io
from vesalius.core.card import Card
from vesalius.core.errors import FormatError, VesaliusError
from vesalius.core.space import Array, Space
from vesalius.io.formats import FORMATS, Format
from vesalius.io.image import Image

SHAPES: dict[int, tuple[int, ...]] = {2: (23, 17), 3: (11, 13, 7)}
TOLERANCE = 1e-4  # mm: a header may hold its numbers in 32 bits


def build(card: Card) -> Format:
    """The format of `card`."""
    kind: type[Format] = FORMATS[card.name]
    return kind()


def spaces(ndim: int) -> list[Space]:
    """Axis-aligned, oblique, and flipped grids; in 2D one of pixels without a size, too."""
    spacing, origin = (0.7, 1.3, 2.5)[:ndim], (-31.5, 12.25, 70.0)[:ndim]
    straight = Space.of(SHAPES[ndim], spacing, origin=origin)
    oblique, flipped = straight.affine.copy(), straight.affine.copy()
    oblique[:ndim, :ndim] = _rotation(ndim) @ np.diag(spacing)
    flipped[:ndim, 0] *= -1
    found = [straight, Space(SHAPES[ndim], oblique), Space(SHAPES[ndim], flipped)]
    return [*found, Space.of(SHAPES[2], physical=False)] if ndim == 2 else found


def _rotation(ndim: int) -> Array:
    """A proper rotation by 0.3 about one axis, and in 3D by 0.5 about another."""
    cos, sin = np.cos(0.3), np.sin(0.3)
    if ndim == 2:
        return np.array([[cos, -sin], [sin, cos]])
    other = np.array([[1, 0, 0], [0, np.cos(0.5), -np.sin(0.5)], [0, np.sin(0.5), np.cos(0.5)]])
    return np.asarray(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ other)


def pixels(shape: tuple[int, ...], dtype: str, *, smooth: bool) -> Array:
    """(C, *S) that differ along every axis: waves for a lossy format, else noise over the whole range; reals hold a NaN and an infinity."""
    if smooth:
        grid = np.stack(np.meshgrid(*[np.linspace(0, 1, side) for side in shape], indexing="ij"))
        weights = np.arange(1, len(shape) + 1).reshape(-1, *[1] * len(shape))
        return np.asarray((np.sin((grid * weights).sum(0) * 2) + 1) * 100).astype(dtype)
    random = np.random.default_rng(7)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return random.random(shape) < 0.5
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    values = (random.normal(size=shape) * 100).astype(kind)
    values.reshape(-1)[[3, 5]] = np.nan, np.inf
    return values


def examples(card: Card) -> Iterator[Image]:
    """Images that the format says it can hold: every place, kind and number of channels at least once."""
    made = build(card)
    channels = made.channels or (1, 3)
    for ndim in card.ndim:
        for number, space in enumerate(spaces(ndim)):
            for dtype in made.dtypes:
                count = channels[number % len(channels)]
                yield Image(pixels((count, *space.shape), dtype, smooth=not made.lossless), space)


def example(card: Card) -> Image:
    """One image that the format can hold."""
    return next(examples(card))


def where(card: Card, folder: Path) -> Path:
    """A file of this format in an empty `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"image{card.tags[0]}"


def check_card(card: Card, folder: Path) -> None:
    """The card says where it comes from, and its suffixes are those of the class."""
    made = build(card)
    assert card.title and card.summary and card.paper and card.tags
    assert tuple(card.tags) == tuple(made.suffixes), "tags on the card and suffixes of the class must be the same"
    assert all(tag.startswith(".") and tag == tag.lower() for tag in card.tags)


def check_round_trip(card: Card, folder: Path) -> None:
    """Pixels, kind, channels and place come back."""
    made, path = build(card), where(card, folder)
    for image in examples(card) if made.writable else ():
        io.save(image, path)
        found = io.load(path)
        told = f"{image.array.dtype}, {image.channels} channels, {image.space}"
        assert io.recognise(path) == card.name == found.source.format, told
        assert found.array.shape == image.array.shape and found.array.dtype == image.array.dtype, (told, found.array.shape)
        if made.lossless:
            assert np.array_equal(found.array, image.array, equal_nan=found.array.dtype.kind in "fc"), told
        else:
            assert np.abs(found.array.astype(float) - image.array.astype(float)).mean() < 3, told
        assert found.space.distance_to(image.space) < TOLERANCE and found.space.physical == image.space.physical, (told, found.space)


def check_header(card: Card, folder: Path) -> None:
    """The header says what reading gives."""
    path = where(card, folder)
    for image in examples(card) if build(card).writable else ():
        io.save(image, path)
        header, found = io.header(path), io.load(path)
        assert header.dtype == found.array.dtype.name and header.channels == found.channels
        assert header.space.shape == found.space.shape and np.array_equal(header.space.affine, found.space.affine)
        assert header.space.physical == found.space.physical


def check_other_orders_in_memory(card: Card, folder: Path) -> None:
    """Views, reversed and read-only arrays are written as they stand."""
    if not build(card).writable:
        return
    image, path = example(card), where(card, folder)
    turned = Image(image.array[:, ::-1].swapaxes(1, -1), Space.of(image.space.shape[::-1], physical=image.space.physical))
    turned.array.flags.writeable = False
    io.save(turned, path)
    found = io.load(path).array
    assert found.shape == turned.array.shape
    assert not build(card).lossless or np.array_equal(found, turned.array)


def check_truncated(card: Card, folder: Path) -> None:
    """A file cut short anywhere is refused by name, or gives the very same pixels."""
    path = where(card, folder)
    for image in [example(card)] if build(card).writable else []:
        io.save(image, path)
        whole, expected = path.read_bytes(), io.load(path).array
        for share in (0.0, 0.02, 0.1, 0.3, 0.6, 0.9, 0.99):
            path.write_bytes(whole[: int(len(whole) * share)])
            _refused_or(path, expected)


def check_damaged(card: Card, folder: Path) -> None:
    """Flipped bytes give an image or a FormatError by name, never another error and never a hunger for memory."""
    path = where(card, folder)
    random = np.random.default_rng(11)
    for image in [example(card)] if build(card).writable else []:
        io.save(image, path)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            spots = random.integers(0, min(len(whole), 600), 3)
            damaged = whole.copy()
            damaged[spots] = random.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            _refused_or(path, None)


def check_garbage(card: Card, folder: Path) -> None:
    """Noise, text, zeros and nothing under the format's suffixes are refused by name."""
    noise = np.random.default_rng(5).bytes(5000)
    for tag in card.tags:
        for body in (noise, b"patient,age\n1,2\n" * 50, bytes(5000), b""):
            path = folder / f"not_an_image{tag}"
            path.write_bytes(body)
            _refused_or(path, None, must=True)


def _refused_or(path: Path, expected: Array | None, *, must: bool = False) -> None:
    for reader in (io.load, io.header):
        try:
            found = reader(path)
        except FormatError as problem:
            assert str(path) in str(problem), f"the message does not name the file: {problem}"
        else:
            assert not must, f"{path} was read"
            if expected is not None and isinstance(found, Image):
                assert np.array_equal(found.array, expected, equal_nan=expected.dtype.kind in "fc"), f"{path} was read, but wrongly"


def check_atomic(card: Card, folder: Path) -> None:
    """A failed write leaves the old file and nothing else; a good one leaves itself alone."""
    path = where(card, folder / "alone")
    image = example(card)
    if not build(card).writable:
        _fails(image, path)
        assert not path.exists()
        return
    io.save(image, path)
    before = path.read_bytes()
    with mock.patch("vesalius.core.files.os.replace", side_effect=OSError(28, "No space left on device")):
        _fails(image, path)
    _fails(Image(np.zeros((1, *image.space.shape), "U3"), image.space), path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def _fails(image: Image, path: Path) -> None:
    try:
        io.save(image, path)
    except VesaliusError as problem:
        assert path.name in str(problem), f"the message does not name the file: {problem}"
    else:
        raise AssertionError(f"{path} was written")


CHECKS = (
    check_card, check_round_trip, check_header, check_other_orders_in_memory, check_truncated, check_damaged, check_garbage, check_atomic,
)  # fmt: skip
