"""DICOM: places and values against the formulas of the standard, and everything that can be wrong with a series."""

import zipfile

import numpy as np
import pytest
from matplotlib.path import Path
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tests.unit.io.dicom_maker import AXIAL, enhanced, plain, save, segmentation, slices, structures, write_series
from vesalius import io
from vesalius.core.errors import FormatError
from vesalius.io.formats.dicom.stack import grown, straightened

OBLIQUE = tuple(Rotation.from_euler("xyz", [25, -10, 40], degrees=True).as_matrix()[:, :2].T.ravel())
SAGITTAL = (0, 1, 0, 0, 0, -1)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, OBLIQUE])
def test_a_series_is_sorted_by_position_and_placed_by_the_equation_of_the_standard(tmp_path, orientation):
    made, stored, _ = slices(orientation=orientation)
    image = io.load(write_series(tmp_path, made))
    assert image.array.shape == (1, 8, 6, 5) and image.array.dtype == np.int32
    assert np.array_equal(image.array[0], stored.transpose(2, 1, 0).astype(int) - 1024)
    assert np.allclose(image.space.spacing, (0.75, 0.5, 2.5))
    for k, row, column in ((0, 0, 0), (3, 5, 1), (4, 2, 7)):  # PS3.3 C.7.6.2.1.1
        lps = np.array(made[k].ImagePositionPatient) + np.array(orientation[:3]) * 0.75 * column + np.array(orientation[3:]) * 0.5 * row
        assert np.allclose(image.space.world(np.array([column, row, k])), lps * [-1, -1, 1])


def test_header_reads_no_pixels_and_agrees(tmp_path):
    header, image = io.header(write_series(tmp_path, slices()[0])), io.load(tmp_path)
    assert header.space.shape == image.space.shape and header.dtype == image.array.dtype.name and header.channels == 1
    assert header.words["modality"] == "CT" and header.words["patient"] == "p1" and header.words["files"] == 5


def test_twelve_bits_with_an_offset_fit_in_sixteen(tmp_path):
    made, _, _ = slices(BitsStored=12, HighBit=11)
    assert io.header(write_series(tmp_path, made)).dtype == "int16"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16"])
def test_transfer_syntaxes(tmp_path, syntax, kind):
    array = np.random.default_rng(0).integers(0, 200, (6, 8)).astype(kind)
    data = plain(array, syntax=syntax if syntax != RLELossless else ImplicitVRLittleEndian)
    if syntax == RLELossless:
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        data.compress(RLELossless)
    assert np.array_equal(io.load(save(data, tmp_path / "x.dcm")).array[0], array)


def test_each_slice_has_its_own_slope(tmp_path):
    made, stored, _ = slices()
    for k, data in enumerate(made):
        data.RescaleSlope, data.RescaleIntercept = str(0.5 + 0.1 * k), str(k)
    image = io.load(write_series(tmp_path, made))
    expected = np.stack([stored[k] * (0.5 + 0.1 * k) + k for k in range(5)])
    assert image.array.dtype == np.float32 and np.allclose(image.array[0], expected.transpose(2, 1, 0), rtol=1e-6)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (3, 7), (-2, 5), (1, 40000)])
@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16"])
def test_whole_slopes_stay_whole(tmp_path, kind, slope, intercept):
    array = np.random.default_rng(1).integers(0, 250, (3, 6, 8)).astype(kind)
    made = slices(3)[0]
    for data, stored in zip(made, array, strict=True):
        for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"):
            data[keyword] = plain(stored)[keyword]
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
    image = io.load(write_series(tmp_path, made))
    assert image.array.dtype.kind in "iu" and image.array.dtype == io.header(tmp_path).dtype
    assert np.array_equal(image.array[0], array.transpose(2, 1, 0).astype(np.int64) * slope + intercept)


@pytest.mark.parametrize(("kind", "bits"), [("uint16", 12), ("int16", 12), ("uint8", 8)])
def test_monochrome1_is_turned_so_that_more_is_brighter(tmp_path, kind, bits):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind[0] == "i" else (0, 2**bits - 1)
    array = np.array([[low, high, 5, 7]], dtype=kind)
    data = plain(array, PhotometricInterpretation="MONOCHROME1", BitsStored=bits, HighBit=bits - 1)
    assert io.load(save(data, tmp_path / "x.dcm")).array[0].tolist() == [[high, low, low + high - 5, low + high - 7]]


def test_bits_above_those_stored_are_cleared_and_the_sign_is_carried(tmp_path):
    array = np.array([[0x1005, 0xF003, 0x0FFF]], np.uint16)
    assert io.load(save(plain(array, BitsStored=12, HighBit=11), tmp_path / "u.dcm")).array[0].tolist() == [[5, 3, 4095]]
    signed = plain(array, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert io.load(save(signed, tmp_path / "i.dcm")).array[0].tolist() == [[5, 3, -1]]


def test_palette_becomes_rgb(tmp_path):
    data = plain(np.array([[0, 1, 2, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour, table in zip(("Red", "Green", "Blue"), ([0, 10, 20, 30], [1, 11, 21, 31], [2, 12, 22, 32]), strict=True):
        setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(data, f"{colour}PaletteColorLookupTableData", bytes(table))
    image = io.load(save(data, tmp_path / "x.dcm"))
    assert image.array.dtype == np.uint8 and image.array[:, 0].T.tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22], [10, 11, 12]]


def test_ybr_becomes_rgb(tmp_path):
    ybr = np.array([[[76, 85, 255], [150, 44, 21], [29, 255, 107], [128, 128, 128]]], np.uint8)  # red, green, blue, grey
    image = io.load(save(plain(ybr, PhotometricInterpretation="YBR_FULL"), tmp_path / "x.dcm"))
    expected = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]])
    assert np.abs(image.array[:, 0].T.astype(int) - expected).max() <= 2


def test_one_image_is_two_dimensional(tmp_path):
    made, stored, _ = slices(1)
    image = io.load(save(made[0], tmp_path / "x.dcm"))
    assert image.space.ndim == 2 and image.array.shape == (1, 6, 8) and image.space.spacing == (0.5, 0.75)
    assert np.array_equal(image.array[0], stored[0].astype(int) - 1024)
    assert image.source.words["position"] == [10, 20, 30] and image.source.words["orientation"] == list(AXIAL)


@pytest.mark.parametrize(
    ("elements", "spacing", "unit"),
    [({"PixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "mm"), ({"ImagerPixelSpacing": [0.1, 0.2]}, (0.1, 0.2), "mm"), ({}, (1, 1), "px")],
)
def test_spacing_of_a_radiograph(tmp_path, elements, spacing, unit):
    space = io.header(save(plain(np.zeros((3, 4), np.uint8), **elements), tmp_path / "x.dcm")).space
    assert space.spacing == spacing and space.unit == unit


def test_spacing_of_ultrasound_is_in_centimetres(tmp_path):
    region = Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.05, 0.04
    space = io.header(save(plain(np.zeros((3, 4), np.uint8), SequenceOfUltrasoundRegions=Sequence([region])), tmp_path / "x.dcm")).space
    assert np.allclose(space.spacing, (0.4, 0.5)) and space.physical


def test_a_cine_is_channels_over_time(tmp_path):
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    image = io.load(save(plain(array), tmp_path / "x.dcm"))
    assert np.array_equal(image.array, array) and image.source.words["frames"] == 2


def test_enhanced_frames_are_sorted_scaled_and_split_by_time(tmp_path):
    array = np.random.default_rng(0).integers(0, 100, (6, 3, 4)).astype(np.uint16)
    places = [(0, 0, z) for z in (5, 0, 10, 5, 0, 10)]
    data = enhanced(array, places, slopes=[1, 2, 3, 4, 5, 6])
    image = io.load(save(data, tmp_path / "x.dcm"))
    expected = np.stack([array[1] * 2, array[0] * 1, array[2] * 3, array[4] * 5, array[3] * 4, array[5] * 6]).reshape(2, 3, 3, 4)
    assert np.allclose(image.array, expected.transpose(0, 3, 2, 1))
    assert image.space.spacing == (0.75, 0.5, 5) and image.source.words["channel_key"] == "TemporalPositionIndex"


def test_time_points_of_a_classic_series_are_channels(tmp_path):
    made = [data for t in (2, 1) for data in slices(3, TemporalPositionIdentifier=t)[0]]
    for number, data in enumerate(made):
        data.PixelData = np.full((6, 8), number, np.uint16).tobytes()
    image = io.load(write_series(tmp_path, made))
    assert (image.array[:, 0, 0] + 1024).tolist() == [[3, 4, 5], [0, 1, 2]]  # time 1 was written last
    assert "TemporalPositionIdentifier" in image.source.words["notes"][0]


# What is wrong with a series


def test_a_missing_slice_is_named(tmp_path):
    made, _, _ = slices(6)
    with pytest.raises(FormatError, match=r"lacks about 1 slice between IM.*5\.00 mm apart, 2\.50 mm elsewhere"):
        io.load(write_series(tmp_path, made[:3] + made[4:]))


def test_uneven_slices_are_refused(tmp_path):
    made, _, _ = slices(6)
    made[3].ImagePositionPatient = [10, 20, 30 + 3 * 2.5 + 0.6]
    with pytest.raises(FormatError, match=r"unevenly spaced \(1\.900 to 3\.100 mm"):
        io.load(write_series(tmp_path, made))


def test_copies_of_one_object_are_read_once_with_a_word(tmp_path):
    made, _, _ = slices(3)
    image = io.load(write_series(tmp_path, [*made, made[1]]))
    assert image.array.shape[-1] == 3 and "1 copies" in image.source.words["notes"][0]


def test_duplicates_are_refused(tmp_path):
    made, other = slices(3)[0], slices(3)[0]
    with pytest.raises(FormatError, match=r"2 images at one place .* and 1 at others: duplicates"):
        io.load(write_series(tmp_path / "some", [*made, other[1]]))
    with pytest.raises(FormatError, match=r"2 images at every place .* that nothing tells apart: duplicates"):
        io.load(write_series(tmp_path / "all", made + other))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ImageOrientationPatient": list(SAGITTAL)}, "more than one orientation"),
        ({"PixelSpacing": [0.6, 0.75]}, "more than one pixel spacing"),
        ({"Rows": 3, "Columns": 16}, "more than one size"),
        ({"ImagePositionPatient": None}, "1 of 3 images state no position"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 2, 0]}, "not two orthogonal unit vectors"),
        ({"PixelSpacing": ["a", "b"]}, "PixelSpacing is not a number"),
    ],
)
def test_mixed_series_are_refused(tmp_path, change, says):
    made, _, _ = slices(3)
    for name, value in change.items():
        if value is None:
            delattr(made[2], name)
        elif value == ["a", "b"]:
            del made[2].PixelSpacing
            made[2].add_new("PixelSpacing", "LO", value)
            made[2]["PixelSpacing"].VR = "LO"
        else:
            setattr(made[2], name, value)
    with pytest.raises(FormatError, match=says) as raised:
        io.load(write_series(tmp_path, made))
    assert str(tmp_path) in str(raised.value)


def test_several_series_are_listed_and_one_can_be_chosen(tmp_path):
    write_series(tmp_path / "a", slices(3, series="1.2.840.7", SeriesDescription="thin")[0])
    write_series(tmp_path / "b", slices(2, series="1.2.840.8", SeriesDescription="thick")[0])
    with pytest.raises(FormatError, match="holds 2 series") as raised:
        io.load(tmp_path)
    lines = str(raised.value).splitlines()
    assert f"{tmp_path.name}#1.2.840.7" in lines[0]
    assert lines[1:] == ["  1.2.840.7  CT  thin  3 files", "  1.2.840.8  CT  thick  2 files"]
    assert io.load(f"{tmp_path}#1.2.840.8").space.shape == (8, 6, 2)
    assert io.header(f"{tmp_path}#840.7").space.shape == (8, 6, 3)
    with pytest.raises(FormatError, match=r"no series 9\.9"):
        io.load(f"{tmp_path}#9.9")


def test_a_tilted_stack_is_straightened_with_a_word(tmp_path):
    """A bar along the table: slices drift 1.5 mm (2 columns) each, so that the upright bar moves 2 columns the other way in them."""
    made, _, _ = slices(5, shape=(4, 20), step=(1.5, 0, 2.5))
    for k, data in enumerate(made):
        array = np.zeros((4, 20), np.uint16)
        array[:, 12 - 2 * k] = 1000
        data.PixelData = array.tobytes()
    image = io.load(write_series(tmp_path, made))
    assert image.space.shear < 1e-9 and np.allclose(image.space.spacing, (0.75, 0.5, 2.5)) and image.space.shape == (28, 4, 5)
    assert (image.array[0].argmax(axis=0) == 12).all()
    assert np.allclose(image.space.origin, (-10, -20, 30))
    assert f"{np.degrees(np.arctan(1.5 / 2.5)):.1f} degrees" in image.source.words["notes"][0]


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("shift", [(1.3, 0.0), (0.0, -0.7), (-2.0, 1.5), (0.21, 3.4)])
def test_slices_are_shifted_as_by_scipy(shift, kind):
    array = np.random.default_rng(0).normal(100, 60, (2, 5, 9, 14)).clip(0, 255).astype(kind)
    found = straightened(array, shift)
    (columns, rows), (left, top) = grown(shift, 5)
    assert found.dtype == kind and found.shape == (2, 5, 9 + rows, 14 + columns)
    wide = np.pad(array, ((0, 0), (0, 0), (top, rows - top), (left, columns - left)), constant_values=array.min())
    for k in range(5):
        for channel in (0, 1):
            far = (k * shift[1], k * shift[0])
            moved = ndimage.shift(wide[channel, k].astype(np.float32), far, order=1, cval=float(array.min()))
            expected = moved if kind == np.float32 else np.rint(moved)
            np.testing.assert_allclose(found[channel, k], expected, rtol=2e-7 if kind == np.float32 else 0)  # a last bit


@pytest.mark.parametrize(("modality", "says"), [("SR", "structured report"), ("RTPLAN", "radiotherapy plan"), ("PR", "presentation state")])
def test_objects_without_pixels_say_what_they_are(tmp_path, modality, says):
    data = plain(np.zeros((2, 2), np.uint8), Modality=modality, PixelData=None, Rows=None, Columns=None)
    with pytest.raises(FormatError, match=f"{says}.*holds no pixels"):
        io.load(save(data, tmp_path / "x.dcm"))


# Segmentations and slides


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_segmentation_has_a_channel_per_segment_and_empty_slices(tmp_path, kind):
    masks = np.zeros((2, 3, 3, 5), np.uint8)
    masks[0, 0, 1, 2] = masks[0, 2, 0, 4] = masks[1, 2, 2, 0] = 1
    data = segmentation(masks * (200 if kind == "FRACTIONAL" else 1), kind=kind, MaximumFractionalValue=200)
    image = io.load(save(data, tmp_path / "x.dcm"))
    assert np.array_equal(image.array, masks.transpose(0, 3, 2, 1)) and image.array.dtype == ("uint8" if kind == "BINARY" else "float32")
    assert image.space.spacing == (0.75, 0.5, 2.5) and image.source.words["segments"] == {"1": "organ 1", "2": "organ 2"}


def test_a_segmentation_beside_its_image_stands_back(tmp_path):
    write_series(tmp_path, slices(3)[0])
    save(segmentation(np.ones((1, 3, 6, 8), np.uint8), series="1.2.9"), tmp_path / "seg.dcm")
    image = io.load(tmp_path)
    assert image.source.words["modality"] == "CT" and "1 SEG" in image.source.words["notes"][0]
    assert io.load(f"{tmp_path}#1.2.9").source.words["segments"] == {"1": "organ 1"}


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_structures_fill_the_voxels_whose_centres_lie_inside(tmp_path, orientation):
    made, _, step = slices(3, shape=(40, 50), orientation=orientation)
    across, down = np.array(orientation[:3]), np.array(orientation[3:])

    def lps(polygon, k):
        return np.array(made[k].ImagePositionPatient) + polygon[:, :1] * 0.75 * across + polygon[:, 1:] * 0.5 * down

    random = np.random.default_rng(0)
    angles = np.sort(random.uniform(0, 2 * np.pi, 30))
    star = np.stack([24.3 + np.cos(angles) * random.uniform(5, 20, 30), 19.7 + np.sin(angles) * random.uniform(5, 18, 30)], 1)
    outer = np.array([[4.5, 4.5], [40.5, 4.5], [40.5, 30.5], [4.5, 30.5]])
    hole = np.array([[10.5, 10.5], [20.5, 10.5], [20.5, 20.5], [10.5, 20.5]])
    far = lps(outer, 0) - 40 * step
    drawn = structures(made, {"star": [lps(star, 1), far], "ring": [lps(outer, 2), lps(hole, 2)]})
    write_series(tmp_path, made)
    save(drawn, tmp_path / "structures.dcm")
    found = io.load(f"{tmp_path}#1.2.77")
    grid = np.stack(np.meshgrid(np.arange(50), np.arange(40), indexing="ij"), -1).reshape(-1, 2)
    assert found.space.same_as(io.load(tmp_path).space) and found.source.words["segments"] == {"1": "star", "2": "ring"}
    assert np.array_equal(found.array[0, :, :, 1].astype(bool).ravel(), Path(star).contains_points(grid))
    assert found.array.sum(axis=(1, 2)).tolist()[1] == [0, 0, 36 * 26 - 10 * 10] and found.array[0, :, :, [0, 2]].sum() == 0
    assert "1 contours lie outside" in found.source.words["notes"][0]
    assert f"#{drawn.SOPInstanceUID}" in " ".join(io.load(tmp_path).source.words["notes"])
    with pytest.raises(FormatError, match=r"choose it: FOLDER#1\.2\.77"):
        io.load(tmp_path / "structures.dcm")


# Folders, zips and hostile files


def test_a_zip_gives_what_the_folder_gives_and_writes_nothing(tmp_path):
    folder = write_series(tmp_path / "in", slices(4)[0])
    box = tmp_path / "scans.zip"
    with zipfile.ZipFile(box, "w", zipfile.ZIP_DEFLATED) as file:
        for number, path in enumerate(sorted(folder.iterdir())):
            file.write(path, f"../../escape/{number}.dcm")
        file.writestr("readme.txt", "hello")
    before = sorted(tmp_path.rglob("*"))
    zipped, plain_folder = io.load(box), io.load(folder)
    assert np.array_equal(zipped.array, plain_folder.array) and zipped.space.same_as(plain_folder.space)
    assert sorted(tmp_path.rglob("*")) == before and not (tmp_path.parent.parent / "escape").exists()


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("vesalius.io.formats.dicom.files._LARGE", 1 << 22)
    box = tmp_path / "bomb.zip"
    with zipfile.ZipFile(box, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.dcm", "w", force_zip64=True) as member:
        for _ in range(5):
            member.write(bytes(1 << 20))
    with pytest.raises(FormatError, match="zip bomb"):
        io.load(box)


def test_a_zip_without_dicom_is_not_claimed(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("a.txt", "no image")
    with pytest.raises(FormatError):
        io.load(tmp_path / "x.zip")
    with pytest.raises(FormatError, match="holds no DICOM"):
        io.load(tmp_path)


@pytest.mark.parametrize("change", [{"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 10**9}, {"Rows": 7}])
def test_absurd_sizes_are_refused_before_memory_is_asked_for(tmp_path, change):
    with pytest.raises(FormatError, match=r"declares .* bytes of pixels but holds at most"):
        io.load(save(plain(np.zeros((6, 8), np.uint16), **change), tmp_path / "x.dcm"))


def test_truncated_files_are_named(tmp_path):
    path = save(plain(np.zeros((64, 64), np.uint16)), tmp_path / "x.dcm")
    whole = path.read_bytes()
    for share in (0.05, 0.2, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(FormatError, match=r"x\.dcm"):
            io.load(path)


def test_damaged_files_give_an_image_or_a_format_error(tmp_path):
    path = save(slices(1)[0][0], tmp_path / "x.dcm")
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(1)
    for _ in range(150):
        damaged = whole.copy()
        damaged[random.integers(128, len(whole), 3)] = random.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            io.load(path)
        except FormatError as problem:
            assert "x.dcm" in str(problem)
