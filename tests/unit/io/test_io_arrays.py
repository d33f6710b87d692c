"""NumPy's files, NRRD and MetaImage: what others wrote, and what must be refused."""

import io as stdio
import zipfile

import numpy as np
import pytest

from vesalius import io
from vesalius.core.errors import FormatError
from vesalius.core.space import Space
from vesalius.io.image import Image

AFFINE = np.array([[0.9, -0.1, 0.3, -20], [0.2, 1.1, -0.4, 5], [-0.1, 0.2, 2.4, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 5), (1, 4, 5)), ((4, 5, 3), (3, 4, 5)), ((4, 5, 6), (1, 4, 5, 6)), ((2, 4, 5, 6), (2, 4, 5, 6))]
)
def test_bare_arrays(tmp_path, shape, expected):
    array = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", scan=array)
    for name in ("x.npy", "x.npz"):
        image = io.load(tmp_path / name)
        assert image.array.shape == expected and image.space.unit == "px" and io.header(tmp_path / name).channels == expected[0]


def test_one_of_several_arrays_is_chosen(tmp_path):
    np.savez(tmp_path / "x.npz", t1=np.zeros((4, 5)), t2=np.ones((4, 5)))
    with pytest.raises(FormatError, match=r"holds t1, t2. Choose one: x\.npz#t1"):
        io.load(tmp_path / "x.npz")
    assert io.load(f"{tmp_path / 'x.npz'}#t2").array.min() == 1
    with pytest.raises(FormatError, match="not t3"):
        io.load(f"{tmp_path / 'x.npz'}#t3")


def test_pickles_are_never_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    np.save(tmp_path / "x.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", allow_pickle=True, array=np.array([Evil()], dtype=object))
    for name in ("x.npy", "x.npz"):
        for door in (io.load, io.header):
            with pytest.raises(FormatError, match="pickled"):
                door(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_npz_bombs_are_refused(tmp_path):
    head = stdio.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as box:
        box.writestr("a.npy", head.getvalue() + bytes(1000))
    with pytest.raises(FormatError, match=r"declares .* bytes"):
        io.load(tmp_path / "x.npz")


def test_npy_is_written_only_where_it_can_be_told_again(tmp_path):
    io.save(Image(np.ones((3, 4, 5), np.uint8), Space.of((4, 5), physical=False)), tmp_path / "x.npy")
    assert io.load(tmp_path / "x.npy").array.shape == (3, 4, 5)
    with pytest.raises(FormatError, match="holds no geometry"):
        io.save(Image(np.ones((1, 4, 5)), Space.of((4, 5))), tmp_path / "x.npy")
    with pytest.raises(FormatError, match="another shape"):
        io.save(Image(np.ones((2, 4, 5)), Space.of((4, 5), physical=False)), tmp_path / "x.npy")


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("detached", [False, True])
def test_files_of_pynrrd(tmp_path, encoding, detached):
    nrrd = pytest.importorskip("nrrd")
    array = np.random.default_rng(0).integers(-50, 50, (4, 5, 6)).astype(np.int16)
    lps = np.diag([-1, -1, 1, 1]) @ AFFINE
    header = {"space": "left-posterior-superior", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3], "encoding": encoding}
    name = tmp_path / ("x.nhdr" if detached else "x.nrrd")
    nrrd.write(str(name), array, header)
    image = io.load(name)
    assert np.array_equal(image.array[0], array) and np.allclose(image.space.affine, AFFINE)


def test_pynrrd_reads_what_we_write(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    image = Image(np.random.default_rng(0).random((2, 4, 5, 6)).astype(np.float32), Space((4, 5, 6), AFFINE))
    io.save(image, tmp_path / "x.nrrd")
    array, header = nrrd.read(str(tmp_path / "x.nrrd"))
    assert np.array_equal(array, image.array) and header["kinds"] == ["list", "domain", "domain", "domain"]
    assert np.allclose(np.asarray(header["space directions"])[1:].T, AFFINE[:3, :3]) and np.allclose(header["space origin"], AFFINE[:3, 3])


MHA = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = {msb}
CompressedData = False
TransformMatrix = 0 1 0 1 0 0 0 0 1
Offset = 10 20 30
ElementSpacing = 1 2 3
DimSize = 4 5 6
ElementType = MET_SHORT
ElementDataFile = {file}
"""


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_file_as_itk_writes_it(tmp_path, order, beside):
    """ITK: a point is Offset + Direction @ (Spacing * index) in LPS; a row of TransformMatrix is the direction of one axis."""
    array = np.arange(120, dtype=np.int16).reshape(6, 5, 4)
    head = MHA.format(msb=order == ">", file="x.raw" if beside else "LOCAL").encode()
    body = array.astype(f"{order}i2").tobytes()
    (tmp_path / "x.raw").write_bytes(body)
    name = tmp_path / ("x.mhd" if beside else "x.mha")
    name.write_bytes(head if beside else head + body)
    image = io.load(name)
    assert np.array_equal(image.array[0], array.transpose(2, 1, 0))
    index = np.array([1, 2, 3])
    point = np.array([10, 20, 30]) + np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]) @ (index * [1, 2, 3])
    assert np.allclose(image.space.world(index), point * [-1, -1, 1])


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/hostname"])
def test_headers_may_not_point_outside_their_folder(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(1000))
    (tmp_path / "in" / "x.mhd").write_text(MHA.format(msb=False, file=name))
    lines = ["NRRD0004", "type: short", "dimension: 2", "sizes: 4 5", "encoding: raw", "endian: little", f"data file: {name}", "", ""]
    (tmp_path / "in" / "x.nhdr").write_text("\n".join(lines))
    for file in ("x.mhd", "x.nhdr"):
        with pytest.raises(FormatError, match="outside its own folder"):
            io.load(tmp_path / "in" / file)


def test_a_file_that_is_not_what_its_name_says_is_told_so(tmp_path):
    for name, content, told in (("a.png", b"nonsense", "the name says PNG, the content does not"),
                                ("b.jpg", b"", "the name says JPEG, but the file is empty: restore it")):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match=told):
            io.recognise(tmp_path / name)


def test_wrong_names_are_met_with_the_right_ones(tmp_path):
    io.save(Image(np.ones((1, 4, 5)), Space.of((4, 5))), tmp_path / "patient_1.nii.gz")
    with pytest.raises(FormatError, match=r"does not exist. Did you mean patient_1\.nii\.gz"):
        io.load(tmp_path / "patent_1.nii.gz")
    with pytest.raises(FormatError, match=r"Unknown kind of file '\.nrd'. Did you mean .*\.nrrd"):
        io.save(Image(np.ones((1, 4, 5)), Space.of((4, 5))), tmp_path / "x.nrd")
    with pytest.raises(FormatError, match="can be read, not written"):
        io.save(Image(np.ones((1, 4, 5)), Space.of((4, 5))), tmp_path / "x.dcm")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(FormatError, match="Unknown kind of file"):
        io.recognise(tmp_path / "notes.txt")


def test_a_name_that_the_content_belies_is_told(tmp_path):
    (tmp_path / "a.png").write_bytes(b"xx")
    with pytest.raises(FormatError, match="the name says PNG, the content does not"):
        io.load(tmp_path / "a.png")
