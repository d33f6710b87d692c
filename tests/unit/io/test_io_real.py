"""Real files: the zoos judged against a second reading, and real DICOM series against pydicom."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.data import data_folder
from vesalius import io
from vesalius.core.errors import FormatError


def zoo():
    path = Path(__file__).parents[3] / "benchmarks" / "zoo.py"
    spec = importlib.util.spec_from_file_location("zoo", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_zoo_files_are_read_right_or_refused_clearly():
    """A third of the files; `python benchmarks/zoo.py` judges all of them."""
    pytest.importorskip("highdicom")
    pytest.importorskip("nrrd")
    data_folder("nifti_zoo")
    rows = zoo().run(data_folder("dicom_zoo").parent, every=3)
    assert not [row for row in rows if row["verdict"] == "wrong"]
    assert len(rows) > 150 and sum(row["verdict"] == "right" for row in rows) > 0.6 * len(rows)
    assert all(len(row["told"]) > 20 for row in rows if row["verdict"] == "error")


def by_pydicom(folder):
    """(volume in our order of axes, affine) computed here from every slice's own elements."""
    import pydicom

    made = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    across, down = np.array(made[0].ImageOrientationPatient, float).reshape(2, 3)
    made.sort(key=lambda data: np.dot(data.ImagePositionPatient, np.cross(across, down)))
    volume = np.stack([data.pixel_array * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0)) for data in made])
    first, last = (np.array(data.ImagePositionPatient, float) for data in (made[0], made[-1]))
    columns = [across * made[0].PixelSpacing[1], down * made[0].PixelSpacing[0], (last - first) / (len(made) - 1), first]
    affine = np.diag([-1.0, -1, 1, 1]) @ np.vstack([np.stack(columns, 1), [0, 0, 0, 1]])
    return volume.transpose(2, 1, 0), affine


def test_a_real_ct_from_its_zip(tmp_path):
    box = data_folder("ct_lung_dicom") / "LUNG1-001.zip"
    with zipfile.ZipFile(box) as file:
        file.extractall(tmp_path)
    image, (volume, affine) = io.load(box), by_pydicom(tmp_path / "image")
    assert np.array_equal(image.array[0], volume) and np.allclose(image.space.affine, affine)
    assert image.source.words["modality"] == "CT" and "RTSTRUCT" in image.source.words["notes"][0]


def test_three_real_series_in_one_zip(tmp_path):
    box = data_folder("tumour_sts_ct_pet_mr") / "STS_008_raw_dicom.zip"
    with pytest.raises(FormatError, match="holds 3 series") as raised:
        io.load(box)
    with zipfile.ZipFile(box) as file:
        file.extractall(tmp_path)
    for line in str(raised.value).splitlines()[1:]:
        uid, modality = line.split()[:2]
        image = io.load(f"{box}#{uid}")
        volume, affine = by_pydicom(tmp_path / "STS_008" / {"CT": "CT", "MR": "MR_T1", "PT": "PET"}[modality] / "image")
        assert np.allclose(image.array[0], volume, rtol=1e-6) and np.allclose(image.space.affine, affine, atol=1e-5)
