"""PNG, JPEG and TIFF: depth, colour, palettes, orientation, stacks, against Pillow, tifffile and the rules of the standards."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from vesalius import io
from vesalius.core.errors import FormatError
from vesalius.core.space import Space
from vesalius.io.formats import _png16
from vesalius.io.image import Image

PIXELS = Space.of((9, 7), physical=False)


def noise(shape, kind):
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)


def paeth(a, b, c):
    """The predictor in the very words of the PNG specification, section 9.4."""
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    if pa <= pb and pa <= pc:
        return a
    return b if pb <= pc else c


def filtered(rows, number, step):
    """Rows of bytes filtered one byte at a time (section 9.2)."""
    height, width = rows.shape
    old = np.zeros((height + 1, width + step), int)
    old[1:, step:] = rows
    out = np.zeros_like(rows)
    for y in range(height):
        for x in range(width):
            a, b, c = old[y + 1, x], old[y, x + step], old[y, x]
            out[y, x] = (rows[y, x] - (0, a, b, (a + b) // 2, paeth(a, b, c))[number]) % 256
    return out


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("step", [6, 8])
def test_filters_of_deep_colour(number, step):
    rows = noise((5, 4 * step), "uint8").astype(int)
    lines = filtered(rows, number, step).astype(np.uint8).reshape(5, 4, step)
    assert np.array_equal(_png16.unfilter(np.full(5, number), lines).reshape(5, -1), rows)


def test_a_deep_png_with_every_filter(tmp_path):
    array = noise((5, 4, 3), "uint16")
    rows = array.astype(">u2").view(np.uint8).reshape(5, -1).astype(int)
    numbers = [4, 1, 3, 2, 0]
    lines = np.stack([np.r_[n, filtered(rows, n, 6)[y]] for y, n in enumerate(numbers)]).astype(np.uint8)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 4, 5, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines.tobytes())) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(_png16.SIGNATURE + body)
    assert np.array_equal(io.load(tmp_path / "x.png").array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize(("mode", "channels", "kind"), [("1", 1, "uint8"), ("L", 1, "uint8"), ("LA", 1, "uint8"), ("I;16", 1, "uint16"),
                                                        ("RGB", 3, "uint8"), ("RGBA", 3, "uint8"), ("P", 3, "uint8")])  # fmt: skip
def test_every_kind_of_png(tmp_path, mode, channels, kind):
    colour = Pillow.fromarray(noise((9, 7, 3), "uint8"))
    picture = Pillow.fromarray(noise((9, 7), "uint16")) if mode == "I;16" else colour.convert(mode)
    picture.save(tmp_path / "x.png")
    image, header = io.load(tmp_path / "x.png"), io.header(tmp_path / "x.png")
    expected = np.asarray(picture.convert("RGB" if channels == 3 else "L") if mode != "I;16" else picture)
    assert image.array.dtype == kind and header.dtype == kind and header.channels == image.channels == channels
    assert np.array_equal(image.array[0] if channels == 1 else np.moveaxis(image.array, 0, -1), expected)
    assert image.space.unit == "px"


def test_the_palette_is_kept_as_words(tmp_path):
    picture = Pillow.new("P", (3, 1))
    picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    picture.putdata([0, 1, 2])
    picture.save(tmp_path / "x.png")
    image = io.load(tmp_path / "x.png")
    table = image.source.words["palette"]
    assert [table.index(colour) for colour in image.array[:, 0].T.tolist()] == [0, 1, 2]


def test_a_grey_palette_is_grey(tmp_path):
    picture = Pillow.new("P", (3, 1))
    picture.putpalette([v for v in (0, 100, 255) for _ in range(3)])
    picture.putdata([0, 1, 2])
    picture.save(tmp_path / "x.png")
    assert io.load(tmp_path / "x.png").array.tolist() == [[[0, 100, 255]]]


def test_jpeg_lies_as_a_viewer_shows_it(tmp_path):
    array = np.zeros((16, 32), np.uint8)
    array[:8] = 200
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Pillow.fromarray(array).save(tmp_path / "x.jpg", exif=exif, quality=95)
    image = io.load(tmp_path / "x.jpg")
    assert image.array.shape == (1, 32, 16) == (1, *io.header(tmp_path / "x.jpg").space.shape)
    assert image.array[0, :, 12].min() > 190 and image.array[0, :, 3].max() < 10


def test_masks_are_not_written_as_jpeg(tmp_path):
    with pytest.raises(FormatError, match="lossy"):
        io.save(Image((noise((1, 9, 7), "uint8") > 100).astype(np.uint8), PIXELS), tmp_path / "x.jpg")


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_pictures_refuse_volumes_and_two_channels(tmp_path, ending):
    with pytest.raises(FormatError, match="two axes"):
        io.save(Image(np.zeros((1, 4, 5, 6), np.uint8), Space.of((4, 5, 6))), tmp_path / f"x{ending}")
    with pytest.raises(FormatError, match="1 channel"):
        io.save(Image(np.zeros((2, 9, 7), np.uint8), PIXELS), tmp_path / f"x{ending}")


def test_signed_pixels_are_written_where_they_fit(tmp_path):
    io.save(Image(np.arange(63).reshape(1, 9, 7).astype(np.int32), PIXELS), tmp_path / "x.png")
    assert io.load(tmp_path / "x.png").array.dtype == np.uint8
    with pytest.raises(FormatError, match="cannot hold pixels of int32"):
        io.save(Image(-np.arange(63).reshape(1, 9, 7).astype(np.int32), PIXELS), tmp_path / "x.png")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)},
                                     {"byteorder": ">"}, {"bigtiff": True}, {"planarconfig": "separate"}])  # fmt: skip
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_files_of_tifffile(tmp_path, options, kind):
    tifffile = pytest.importorskip("tifffile")
    if options.get("predictor") and kind == "float32":
        pytest.skip("the predictor of real numbers is another one")
    array = (np.random.default_rng(0).random((20, 30, 3)) * 250).astype(kind)
    planes = np.moveaxis(array, -1, 0) if "planarconfig" in options else array
    tifffile.imwrite(tmp_path / "x.tif", planes, photometric="rgb" if kind != "float32" else "minisblack", **options,
                     **({"planarconfig": "contig"} if "planarconfig" not in options else {}))  # fmt: skip
    image = io.load(tmp_path / "x.tif")
    assert image.array.dtype == kind and np.array_equal(image.array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize(("channels", "space"), [(1, PIXELS), (3, PIXELS), (2, Space.of((4, 5, 6), (1.0, 2.0, 3.0)))])
@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "float32", "float64"])
def test_tifffile_reads_what_we_write(tmp_path, channels, space, kind):
    tifffile = pytest.importorskip("tifffile")
    array = (np.random.default_rng(0).random((channels, *space.shape)) * 200).astype(kind)
    io.save(Image(array, space), tmp_path / "x.tif")
    found = tifffile.imread(tmp_path / "x.tif")
    expected = array.transpose(3, 2, 1, 0) if space.ndim == 3 else np.moveaxis(array, 0, -1)
    assert found.dtype == kind and np.array_equal(found, expected[..., 0] if channels == 1 else expected)


def test_compressions_that_are_left_to_pillow(tmp_path):
    array = noise((9, 7), "uint8")
    for name in ("tiff_lzw", "packbits"):
        Pillow.fromarray(array).save(tmp_path / "x.tif", compression=name)
        assert np.array_equal(io.load(tmp_path / "x.tif").array[0], array)


def test_stacks_of_imagej_know_their_channels(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    array = noise((2, 4, 3, 9, 7), "uint16")  # time, height, channel, rows, columns
    tifffile.imwrite(tmp_path / "x.tif", array, imagej=True, metadata={"axes": "TZCYX"})
    image = io.load(tmp_path / "x.tif")
    assert image.array.shape == (6, 7, 9, 4)
    assert np.array_equal(image.array, array.transpose(0, 2, 4, 3, 1).reshape(6, 7, 9, 4))


def test_stacks_of_ome_know_their_channels_and_their_size(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    array = noise((3, 4, 9, 7), "uint16")
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm", "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "x.ome.tif", array, metadata={"axes": "CZYX", **sizes})
    image = io.load(tmp_path / "x.ome.tif")
    assert np.array_equal(image.array, array.transpose(0, 3, 2, 1)) and np.allclose(image.space.spacing, (0.0005, 0.00025, 0.002))
    tifffile.imwrite(tmp_path / "flat.ome.tif", array[:, 0], metadata={"axes": "CYX", **sizes})
    assert io.load(tmp_path / "flat.ome.tif").space.spacing == (0.00025, 0.0005)
