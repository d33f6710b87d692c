"""What a user may point `predict` at, and what is refused rather than guessed."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from tests.unit.io import dicom_maker as made_dicom
from vesalius.core.errors import DataError, UsageError
from vesalius.engine.inputs import cases_of, stem
from vesalius.io import load


def scan(path, *, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".png"):
        Picture.fromarray(np.zeros((4, 5), np.uint8)).save(path)
    else:
        nib.save(nib.Nifti1Image(np.full((4, 4, 4), value, np.float32), np.eye(4)), path)
    return path


def named(cases):
    return {case.name: {channel: path.name for channel, path in case.images.items()} for case in cases}


@pytest.mark.parametrize(("name", "expected"), [
    ("a.nii.gz", "a"), ("a.b.nii", "a.b"), ("A.NII.GZ", "A"), ("folder", "folder"), ("a.zip#series", "a"), ("x.tar", "x.tar"),
    ("p.jpeg", "p"),
])  # fmt: skip
def test_the_name_of_a_case_is_its_file_without_the_ending(tmp_path, name, expected):
    assert stem(tmp_path / name) == expected


def test_a_single_file(tmp_path):
    assert named(cases_of(scan(tmp_path / "carla.nii.gz"), ["ct"])) == {"carla": {"ct": "carla.nii.gz"}}


def test_a_table_of_several_views_need_not_say_what_they_show(tmp_path):
    for name in ("f1.png", "s1.png", "s2.png"):
        scan(tmp_path / name)
    for title, first, second in (("", "", ""), (",class", ",x", ",")):
        (tmp_path / "new.csv").write_text(f"case,image_front,image_side{title}\na,f1.png,s1.png{first}\nb,,s2.png{second}\n")
        found = named(cases_of(tmp_path / "new.csv", ["front", "side"]))
        assert found == {"a": {"front": "f1.png", "side": "s1.png"}, "b": {"side": "s2.png"}}
    (tmp_path / "one.csv").write_text("image\nf1.png\n")
    assert named(cases_of(tmp_path / "one.csv", ["film"])) == {"f1": {"film": "f1.png"}}
    with pytest.raises(DataError, match="the model wants back"):
        cases_of(tmp_path / "new.csv", ["back", "top"])


def test_a_folder_of_scans(tmp_path):
    for name in ("a.nii.gz", "b.1.nii", "c.png"):
        scan(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    assert named(cases_of(tmp_path, ["ct"])) == {"a": {"ct": "a.nii.gz"}, "b.1": {"ct": "b.1.nii"}, "c": {"ct": "c.png"}}


def test_numbered_channels(tmp_path):
    for case, channel in (("a", 0), ("a", 1), ("b", 1)):
        scan(tmp_path / f"{case}_{channel:04d}.nii.gz")
    assert named(cases_of(tmp_path, ["t1", "t2"])) == {"a": {"t1": "a_0000.nii.gz", "t2": "a_0001.nii.gz"}, "b": {"t2": "b_0001.nii.gz"}}


def test_one_numbered_channel(tmp_path):
    for case in "ab":
        scan(tmp_path / f"{case}_0000.nii.gz")
    assert named(cases_of(tmp_path, ["ct"])) == {"a": {"ct": "a_0000.nii.gz"}, "b": {"ct": "b_0000.nii.gz"}}


def test_pictures_in_a_row_are_no_channels(tmp_path):
    for k in range(3):
        scan(tmp_path / f"frame_{k:04d}.png")
    assert sorted(named(cases_of(tmp_path, ["photo"]))) == ["frame_0000", "frame_0001", "frame_0002"]


def test_a_channel_too_many_is_told(tmp_path):
    for k in range(3):
        scan(tmp_path / f"a_{k:04d}.nii.gz")
    with pytest.raises(DataError, match=r"a_0002.*knows 0 to 1"):
        cases_of(tmp_path, ["t1", "t2"])


def test_channels_by_name(tmp_path):
    images = {"t2": scan(tmp_path / "x.nii.gz"), "t1": scan(tmp_path / "y.nii.gz")}
    assert named(cases_of(tmp_path, ["t1", "t2"], images)) == {"x": {"t2": "x.nii.gz", "t1": "y.nii.gz"}}
    with pytest.raises(UsageError, match="Did you mean t1"):
        cases_of(tmp_path, ["t1", "flair"], {"T1": tmp_path / "x.nii.gz"})


def test_a_file_is_not_enough_for_two_channels(tmp_path):
    with pytest.raises(UsageError, match="--image t1=FILE --image t2=FILE"):
        cases_of(scan(tmp_path / "a.nii.gz"), ["t1", "t2"])


def test_what_is_not_there_or_holds_nothing_is_told(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        cases_of(tmp_path / "none", ["ct"])
    with pytest.raises(DataError, match="holds no image"):
        cases_of(tmp_path, ["ct"])


def test_a_data_set_by_its_layout(tmp_path):
    for name in ("a", "b"):
        scan(tmp_path / "images" / f"{name}.nii.gz")
        scan(tmp_path / "masks" / f"{name}.nii.gz", value=1)
    assert sorted(named(cases_of(tmp_path, ["ct"]))) == ["a", "b"]
    assert all(list(case.images) == ["ct"] for case in cases_of(tmp_path, ["ct"]))
    scan(tmp_path / "masks" / "a.nii.gz")
    scan(tmp_path / "masks" / "b.nii.gz")
    with pytest.raises(DataError, match="None of the 2 masks marks anything"):  # the reason is told, not hidden
        cases_of(tmp_path, ["ct"])


def film(path, number, **elements):
    """A radiograph of patient `number`, of a series of its own."""
    words = {"PatientID": f"person {number}", "series": f"1.2.3.{number}", "Modality": "DX", **elements}
    return made_dicom.save(made_dicom.plain(np.full((4, 5), number, np.uint16), **words), path)


def test_dicom_files_of_several_series_are_several_cases(tmp_path):
    for number in range(3):
        film(tmp_path / f"IM{number}.dcm", number)
    film(tmp_path / "IM3", 3)
    found = cases_of(tmp_path, ["xray"])
    assert named(found) == {"IM0": {"xray": "IM0.dcm"}, "IM1": {"xray": "IM1.dcm"}, "IM2": {"xray": "IM2.dcm"}, "IM3": {"xray": "IM3"}}
    assert [case.patient for case in found] == [f"person {k}" for k in range(4)]
    pixels = [load(case.images["xray"]).array for case in found]
    assert [(float(p.min()), float(p.max()), p.shape) for p in pixels] == [(k, k, (1, 4, 5)) for k in range(4)]


def test_one_series_number_for_several_people_is_no_series(tmp_path):
    for number in range(3):
        film(tmp_path / f"{number}.dcm", number, series="1.2.3")
    assert [case.patient for case in cases_of(tmp_path, ["xray"])] == [f"person {k}" for k in range(3)]


def test_the_slices_of_a_series_are_one_case_with_whatever_was_drawn_on_it(tmp_path):
    made, _, _ = made_dicom.slices(4)
    made_dicom.write_series(tmp_path / "ct", made)
    assert named(cases_of(tmp_path / "ct", ["ct"])) == {"ct": {"ct": "ct"}}
    film(tmp_path / "ct" / "seg.dcm", 9, Modality="SEG")
    assert named(cases_of(tmp_path / "ct", ["ct"])) == {"ct": {"ct": "ct"}}


def test_series_in_folders_of_their_own_are_several_cases(tmp_path):
    for patient in ("anna", "bert"):
        made, _, _ = made_dicom.slices(3, series=f"1.2.{len(patient)}.{ord(patient[0])}")
        made_dicom.write_series(tmp_path / patient, made)
    assert named(cases_of(tmp_path, ["ct"])) == {"anna": {"ct": "anna"}, "bert": {"ct": "bert"}}
    made_dicom.write_series(tmp_path / "one" / "deep", made_dicom.slices(3)[0])
    assert named(cases_of(tmp_path / "one", ["ct"])) == {"one": {"ct": "one"}}
