"""The quick reader and writer of plain NIfTI-1 headers against nibabel, which must say the same of sound, odd and broken ones alike."""

import sys
from subprocess import run

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vesalius import io
from vesalius.io.formats import _nifti1

SHAPES = ((5, 4, 3), (5, 4), (5, 4, 1, 3), (5, 4, 3, 2))


def header(random):
    """Of nibabel: any shape, kind, place, scale and words."""
    made = nibabel.Nifti1Header()
    made.set_data_shape(SHAPES[random.integers(len(SHAPES))])
    made.set_data_dtype(np.dtype(list(_nifti1.KINDS.values())[random.integers(len(_nifti1.KINDS))]))
    affine = np.diag([*random.uniform(0.5, 2, 3), 1]) + np.vstack([random.normal(size=(3, 4)) / 9, np.zeros(4)])
    made.set_sform(affine, int(random.integers(4)))
    made.set_qform(affine, int(random.integers(4)), strip_shears=True)
    made["scl_slope"], made["scl_inter"] = random.choice([np.nan, 0, 1, 2.5]), random.choice([np.nan, 0, -3])
    made["xyzt_units"], made["vox_offset"], made["descrip"] = random.integers(4), random.choice([0, 352, 368]), b"made"
    return bytearray(made.binaryblock)


def said(path):
    """What the format makes of the header, or the error that tells why it makes nothing."""
    try:
        found = io.header(path)
    except Exception as problem:
        return str(problem)
    return found.space.affine.tolist(), found.space.shape, found.channels, found.dtype, repr(found.words)


@pytest.mark.parametrize("damaged", [0, 1, 3])
def test_what_nibabel_says(tmp_path, monkeypatch, damaged):
    random, path, quick = np.random.default_rng(damaged), tmp_path / "x.nii", 0
    for _ in range(300):
        raw = header(random)
        for spot in random.choice([*range(40, 56), *range(68, 124), *range(252, 256), *range(280, 348)], damaged):
            raw[spot] = random.integers(256)
        path.write_bytes(bytes(raw) + bytes(2400))
        found, plain = said(path), _nifti1.plain(bytes(raw)) is not None
        with monkeypatch.context() as patch:
            patch.setattr(_nifti1, "plain", lambda _: None)
            assert found == said(path)
        quick += plain
    assert quick == 300 if not damaged else 0 < quick < 300


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32"])
def test_headers_written_are_those_of_nibabel(tmp_path, monkeypatch, kind):
    random = np.random.default_rng(3)
    (tmp_path / "x.nii").write_bytes(bytes(header(random)) + bytes(2400))
    image = io.load(tmp_path / "x.nii")
    mask = image.with_array(random.integers(0, 9, (1, *image.space.shape)).astype(kind))
    io.save(mask, tmp_path / "quick.nii")
    monkeypatch.setattr(_nifti1, "blank", _by_nibabel)
    io.save(mask, tmp_path / "slow.nii")
    assert (tmp_path / "quick.nii").read_bytes() == (tmp_path / "slow.nii").read_bytes()


def _by_nibabel(shape, kind):
    made = nibabel.Nifti1Header()
    made.set_data_shape(shape)
    made.set_data_dtype(kind)
    made["magic"], made["vox_offset"] = b"n+1", 352
    return made


TURNS = [np.eye(3), *np.stack([np.diag(signs) for signs in ((1, -1, -1), (-1, 1, -1), (-1, -1, 1))]),
         *Rotation.random(40, random_state=0).as_matrix(), *Rotation.from_rotvec(0.999999 * np.pi * np.eye(3)).as_matrix()]  # fmt: skip


@pytest.mark.parametrize("mirrored", [1, -1])
@pytest.mark.parametrize("sheared", [0, 0.2])
def test_a_new_place_is_written_as_nibabel_writes_it(mirrored, sheared):
    """A header has float32; of half a turn either sign of the axis will do."""
    for number, turn in enumerate(TURNS):
        affine = np.eye(4)
        affine[:3, :3] = turn @ (np.diag([0.7, 1.3, 2.5 * mirrored]) + sheared * np.eye(3, k=1))
        affine[:3, 3] = np.random.default_rng(number).normal(0, 100, 3)
        made = []
        for fields in (_nifti1.blank((3, 4, 5), np.dtype("int16")), _by_nibabel((3, 4, 5), np.dtype("int16"))):
            fields.set_sform(affine, code=1)
            fields.set_qform(affine, code=2)
            fields.set_xyzt_units("mm")
            made.append(nibabel.Nifti1Header(fields.binaryblock))
        np.testing.assert_allclose(made[0].get_qform(), made[1].get_qform(), atol=2e-6)
        if not sheared:
            np.testing.assert_allclose(made[0].get_qform(), affine, atol=1e-5)
        for name in ("srow_x", "srow_y", "srow_z", "qoffset_x", "pixdim", "sform_code", "qform_code", "xyzt_units", "dim"):
            np.testing.assert_allclose(made[0][name], made[1][name], rtol=2e-7)


def test_quaternions_are_those_of_scipy():
    for turn in TURNS:
        ours, theirs = _nifti1.quaternion(turn), Rotation.from_matrix(turn).as_quat(scalar_first=True)
        assert abs(abs(ours @ theirs) - 1) < 1e-12 and ours[0] >= 0 and abs(np.linalg.norm(ours) - 1) < 1e-12


def test_nibabel_is_not_imported_for_a_new_place(tmp_path):
    """As of an answer to DICOM."""
    code = """
import sys
import numpy as np
sys.modules["nibabel"] = None
from vesalius import io
from vesalius.core.space import Space
from vesalius.io.image import Image
io.save(Image(np.ones((1, 3, 4, 5), np.uint8), Space((3, 4, 5), np.diag([-1, 2, 3, 1.0]))), sys.argv[1])
io.save(Image(np.ones((1, 3, 4), np.uint8), Space.of((3, 4), physical=False)), sys.argv[2])
"""
    run([sys.executable, "-c", code, tmp_path / "x.nii.gz", tmp_path / "y.nii"], check=True)
    made, flat = nibabel.load(tmp_path / "x.nii.gz"), nibabel.load(tmp_path / "y.nii")
    for found, code in (made.get_sform(coded=True), made.get_qform(coded=True)):
        assert np.array_equal(found, np.diag([-1, 2, 3, 1])) and code == 1
    assert made.header.get_xyzt_units()[0] == "mm" and flat.header.get_xyzt_units()[0] == "unknown" and flat.shape == (4, 3)


def test_nibabel_is_not_imported_for_plain_files(tmp_path):
    affine = np.diag([1.0, 1, 2, 1])
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine), tmp_path / "x.nii.gz")
    code = "import sys; from vesalius import io; io.save(io.load(sys.argv[1]), sys.argv[2]); sys.exit('nibabel' in sys.modules)"
    run([sys.executable, "-c", code, tmp_path / "x.nii.gz", tmp_path / "y.nii.gz"], check=True)
    written = nibabel.load(tmp_path / "y.nii.gz")
    assert written.shape == (3, 4, 5) and np.array_equal(written.affine, affine)
