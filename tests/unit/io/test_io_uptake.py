"""SUV of a PET series: against the formula, by every way in which headers state times, and what is said where they do not."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.unit.io.dicom_maker import save, slices
from vesalius.cli.main import main
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset as Cases
from vesalius.data.doctor import examine
from vesalius.data.labels import Labels
from vesalius.io import load

HALF = 6586.2  # seconds, fluorine 18


def injected(**elements):
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife, drug.RadiopharmaceuticalStartTime = 3.7e8, HALF, "100000.00"
    for name, value in elements.items():
        setattr(drug, name, value)
    return Sequence([drug])


STATED = {
    "Modality": "PT", "Units": "BQML", "PatientWeight": 70, "DecayCorrection": "START", "SeriesDate": "20200102", "SeriesTime": "110000",
    "AcquisitionDate": "20200102", "AcquisitionTime": "110500", "RadiopharmaceuticalInformationSequence": injected(),
}  # fmt: skip


def series(folder, **elements):
    stated = {name: value for name, value in {**STATED, **elements}.items() if value is not None}
    for k, data in enumerate(slices(3, **stated)[0]):
        save(data, folder / f"{k}.dcm")
    return folder


def factor(seconds):
    return 70_000 / (3.7e8 * 0.5 ** (seconds / HALF))


@pytest.mark.parametrize(("elements", "seconds"), [
    ({}, 3600),
    ({"SeriesTime": "130000"}, 3900),  # made anew later: the first acquisition counts
    ({"DecayCorrection": "ADMIN"}, 0),
    ({"RadiopharmaceuticalInformationSequence": injected(RadiopharmaceuticalStartDateTime="20200102093000")}, 5400),
    ({"RadiopharmaceuticalInformationSequence": injected(RadiopharmaceuticalStartTime="233000")}, 41400),  # the evening before
])  # fmt: skip
def test_the_factor_is_that_of_the_formula(tmp_path, elements, seconds):
    words = load(series(tmp_path, **elements)).source.words
    assert words["suv_factor"] == pytest.approx(factor(seconds), rel=1e-9) and "no_suv" not in words


def test_a_patient_in_whom_all_stays_and_spreads_evenly_has_one():
    """370 MBq at the time of the scan in 70 kg: 5,286 Bq/ml everywhere is an SUV of 1."""
    assert factor(0) * 3.7e8 / 70_000 == pytest.approx(1)


@pytest.mark.parametrize(("elements", "says"), [
    ({"PatientWeight": None}, "PatientWeight"),
    ({"RadiopharmaceuticalInformationSequence": None}, "RadiopharmaceuticalInformationSequence"),
    ({"RadiopharmaceuticalInformationSequence": injected(RadionuclideTotalDose=0)}, "RadionuclideTotalDose"),
    ({"Units": "CNTS"}, "CNTS"),
    ({"DecayCorrection": "NONE"}, "DecayCorrection NONE"),
    ({"RadiopharmaceuticalInformationSequence": injected(RadiopharmaceuticalStartDateTime="20191201093000")}, "a clock or a date is wrong"),
])  # fmt: skip
def test_what_is_missing_is_said(tmp_path, elements, says):
    words = load(series(tmp_path, **elements)).source.words
    assert says in words["no_suv"] and "suv_factor" not in words


def test_convert_gives_suv_and_the_doctor_asks_for_it(tmp_path, capsys):
    raw = load(series(tmp_path / "pet"))
    assert main(["convert", str(tmp_path / "pet"), str(tmp_path / "suv.nii.gz"), "--suv"]) == 0
    assert np.allclose(load(tmp_path / "suv.nii.gz").array, raw.array * factor(3600), rtol=1e-5)
    capsys.readouterr()
    assert main(["convert", str(tmp_path / "suv.nii.gz"), str(tmp_path / "twice.nii.gz"), "--suv"]) == 2
    assert "it is no PET series in DICOM" in capsys.readouterr().err
    cases = tuple(Case(f"c{k}", f"c{k}", {"PET": tmp_path / "pet"}, {"reference": tmp_path / "suv.nii.gz"}) for k in range(2))
    found = examine(Cases("d", tmp_path, "segment", cases, ("PET",), Labels(names=("a",), values=((1,),))))
    (finding,) = [one for one in found if one.check == "uptake"]
    assert "becquerel" in finding.message and "--suv" in finding.remedy
