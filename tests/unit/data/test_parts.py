"""Masks that lie in one file per label: recognised by name, by globs and in a table, read, examined, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.io.dicom_maker import save as save_dicom
from tests.unit.io.dicom_maker import segmentation, slices, structures
from vesalius.core.errors import DataError, UsageError
from vesalius.core.files import write_json
from vesalius.core.space import Space
from vesalius.data.case import Case, Parts, files_of
from vesalius.data.dataset import Dataset
from vesalius.data.doctor import examine
from vesalius.data.layouts import _parts
from vesalius.data.layouts._parts import _told_apart
from vesalius.data.read import read_images, read_mask
from vesalius.io import save
from vesalius.io.image import Image


def drawn(path: Path, rows: slice | None = None, *, seed: int = 0, value: int = 1, side: int = 12) -> None:
    """Noise at `path`, or a mask of `value` in some rows."""
    shape = (side, 14, 5) if ".nii" in path.name else (side, 14)
    pixels = np.random.default_rng(seed).integers(1, 200, shape).astype(np.uint8)
    if rows is not None:
        pixels[:] = 0
        pixels[rows] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    save(Image(pixels[None], Space.of(shape, physical=len(shape) == 3)), path)


LIVER, SPLEEN, WHOLE = slice(1, 4), slice(6, 9), slice(0, 10)
FORMS = {
    "organ folders": ("{c}/ct.nii.gz", "{c}/segmentations/{label}.nii.gz"),
    "beside each other": ("{c}.png", "{c}_{label}_mask.png"),
    "case folders": ("{c}/ct.nii.gz", "{c}/{label}_seg.nii.gz"),
    "names with labels": ("images/{c}.png", "masks/{c}_{label}.png"),
    "folders of labels": ("images/{c}.png", "masks/{label}/{c}.png"),
    "labels first": ("images/{c}.nii.gz", "labels/{label}_{c}.nii.gz"),
}


def folder(root: Path, form: str, **labels: slice) -> Path:
    image, mask = FORMS[form]
    for k in range(1, 4):
        drawn(root / image.format(c=f"p{k}"), seed=k)
        for label, rows in labels.items():
            drawn(root / mask.format(c=f"p{k}", label=label), rows, value=255 if k == 1 else 1)
    return root


@pytest.mark.parametrize("form", FORMS)
def test_labels_with_files_of_their_own_are_one_mask(form, tmp_path):
    dataset = Dataset.open(folder(tmp_path, form, liver=LIVER, spleen=SPLEEN))
    assert [case.name for case in dataset.cases] == ["p1", "p2", "p3"] and len(dataset.channels) == 1
    assert dataset.labels.names == ("liver", "spleen") and dataset.labels.kind == "exclusive"
    for case in dataset.cases:
        assert len(files_of(case.mask)) == 2
        coded = read_mask(case.mask, dataset.labels, read_images(case, {dataset.channels[0]: 1}).space)
        assert (coded[0, LIVER] == 1).all() and (coded[0, SPLEEN] == 2).all() and (coded > 0).sum() == 6 * coded[0, 0].size
    assert not [finding for finding in examine(dataset) if finding.severity == "error"]


def test_labels_that_share_voxels_are_learned_each_for_itself(tmp_path):
    dataset = Dataset.open(folder(tmp_path, "organ folders", liver=LIVER, whole=WHOLE))
    coded = read_mask(dataset.cases[0].mask, dataset.labels, Space.of((12, 14, 5)))
    assert dataset.labels.kind == "bits" and dataset.labels.names == ("liver", "whole")
    assert coded.sum((1, 2, 3)).tolist() == [3 * 70, 10 * 70]
    assert any("share voxels" in note for note in dataset.notes)


def test_the_parts_survive_being_written_down(tmp_path):
    dataset = Dataset.open(folder(tmp_path, "names with labels", liver=LIVER, spleen=SPLEEN))
    assert Dataset.from_json(dataset.to_json()) == dataset
    assert isinstance(Case.from_json(dataset.cases[0].to_json()).mask, Parts)


def test_a_label_without_a_file_is_absent_and_said(tmp_path):
    root = folder(tmp_path, "organ folders", liver=LIVER, spleen=SPLEEN)
    (root / "p2/segmentations/spleen.nii.gz").unlink()
    dataset = Dataset.open(root)
    coded = read_mask(dataset.case("p2").mask, dataset.labels, Space.of((12, 14, 5)))
    assert set(np.unique(coded)) == {0, 1} and any("spleen (1)" in note for note in dataset.notes)


def test_globs_name_the_labels(tmp_path):
    for k in range(3):
        drawn(tmp_path / f"{k}-scan.png", seed=k)
        drawn(tmp_path / f"{k}-a.png", LIVER)
        drawn(tmp_path / f"{k}-b.png", SPLEEN)
    dataset = Dataset.open(tmp_path, image=["*-scan.png"], mask=["liver=*-a.png", "spleen=*-b.png"])
    assert dataset.labels.names == ("liver", "spleen") and len(dataset.cases) == 3
    with pytest.raises(UsageError, match="every label once"):
        Dataset.open(tmp_path, image=["*-scan.png"], mask=["liver=*-a.png", "*-b.png"])
    with pytest.raises(UsageError, match="--mask LABEL=GLOB"):
        Dataset.open(tmp_path, image=["*-scan.png"], mask=["liver=*-a.png", "spleen=*-b.png"], labels=["liver=1"])


def test_a_table_names_the_labels(tmp_path):
    lines = ["case,patient,image,label_liver,label_spleen,label_name"]
    for k in range(3):
        drawn(tmp_path / f"{k}.png", seed=k)
        drawn(tmp_path / f"{k}a.png", LIVER)
        drawn(tmp_path / f"{k}b.png", SPLEEN)
        lines.append(f"c{k},p{k},{k}.png,{k}a.png,{k}b.png,good")
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    dataset = Dataset.open(tmp_path / "cases.csv")
    assert dataset.layout == "csv" and dataset.labels.names == ("liver", "spleen")
    assert dataset.cases[0].metadata == {"label_name": "good"}


def test_one_word_for_all_is_no_label(tmp_path):
    dataset = Dataset.open(folder(tmp_path, "names with labels", liver=LIVER))
    assert all(isinstance(case.mask, Path) for case in dataset.cases)


def test_a_part_that_is_a_map_of_labels_is_refused(tmp_path):
    root = folder(tmp_path, "names with labels", liver=LIVER, spleen=SPLEEN)
    pixels = np.zeros((1, 12, 14), np.uint8)
    pixels[0, 2], pixels[0, 4] = 1, 2
    save(Image(pixels, Space.of((12, 14), physical=False)), root / "masks/p2_liver.png")
    with pytest.raises(DataError, match=r"p2_liver\.png is the mask of one label but holds 3 values"):
        Dataset.open(root)


def test_a_part_off_the_grid_of_the_others_is_found_by_the_doctor(tmp_path):
    root = folder(tmp_path, "organ folders", liver=LIVER, spleen=SPLEEN)
    drawn(root / "p3/segmentations/spleen.nii.gz", SPLEEN, side=20)
    found = [finding for finding in examine(Dataset.open(root)) if finding.severity == "error"]
    assert [finding.cases for finding in found] == [("p3",)] and "does not lie on the grid of" in found[0].message


def test_several_raters_are_said_aloud(tmp_path):
    for k in range(3):
        drawn(tmp_path / f"{k}.png", seed=k)
        drawn(tmp_path / f"{k}_mask_r1.png", LIVER)
        drawn(tmp_path / f"{k}_mask_r2.png", SPLEEN)
    (note,) = [note for note in Dataset.open(tmp_path).notes if "raters" in note]
    assert note.startswith("Masks of 2 raters: r1, r2.") and "--mask LABEL=GLOB" in note


def test_a_glob_that_matches_nothing_shows_what_there_is(tmp_path):
    drawn(tmp_path / "1_flair.png")
    with pytest.raises(DataError, match=r"'\*_seg.png' matches none of the 1 images .*: 1_flair.png"):
        Dataset.open(tmp_path, image=["*_flar.png"], mask=["*_seg.png"])
    with pytest.raises(DataError, match=r"does not exist\. Did you mean scans"):
        (tmp_path / "scans").mkdir()
        Dataset.open(tmp_path / "scan")


def test_layers_of_one_file_are_labels(tmp_path):
    for k in range(3):
        drawn(tmp_path / f"images/p{k}.nii.gz", seed=k)
        layers = np.zeros((2, 12, 14, 5), np.uint8)
        layers[0, LIVER], layers[1, SPLEEN] = 1, 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        save(Image(layers, Space.of((12, 14, 5))), tmp_path / f"masks/p{k}.nii.gz")
    dataset = Dataset.open(tmp_path)
    assert dataset.labels.names == ("layer 1", "layer 2") and dataset.labels.kind == "exclusive"
    assert any("one layer per label" in note for note in dataset.notes)
    coded = read_mask(dataset.cases[0].mask, dataset.labels, Space.of((12, 14, 5)))
    assert (coded[0, LIVER] == 1).all() and (coded[0, SPLEEN] == 2).all()
    assert Dataset.from_json(dataset.to_json()) == dataset
    assert not [finding for finding in examine(dataset) if finding.severity == "error"]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_segments_of_dicom_are_labels_by_their_names_on_the_grid_of_the_scan(tmp_path, kind):
    """The segmentation holds three of the five slices."""
    masks = np.zeros((2, 3, 6, 8), np.uint8)
    masks[0, 0, 1:3, 2:5], masks[1, 2, 2:5, 3:6] = 1, 1
    for k in range(3):
        made, _, _ = slices(5, series=f"1.2.{k}")
        for number, data in enumerate(made):
            save_dicom(data, tmp_path / f"c{k}/ct/{number}.dcm")
        places = [tuple(map(float, data.ImagePositionPatient)) for data in made[1:4]]
        scaled = masks * (200 if kind == "FRACTIONAL" else 1)
        drawn_on = segmentation(scaled, kind=kind, positions=places, series=f"1.9.{k}", MaximumFractionalValue=200)
        save_dicom(drawn_on, tmp_path / f"c{k}/seg.dcm")
    dataset = Dataset.open(tmp_path)
    assert dataset.channels == ("ct",) and dataset.labels.names == ("organ 1", "organ 2")
    space = read_images(dataset.cases[0], {"ct": 1}).space
    coded = read_mask(dataset.cases[0].mask, dataset.labels, space)
    wanted = np.zeros((5, 6, 8), np.uint8)
    wanted[1:4][masks[0] == 1], wanted[1:4][masks[1] == 1] = 1, 2
    assert np.array_equal(coded[0], wanted.transpose(2, 1, 0))
    assert not [finding for finding in examine(dataset) if finding.severity == "error"]


def test_the_longest_case_in_a_name_is_meant():
    cases = {"p1", "p1_a", "b"}
    assert _told_apart("p1_a_liver", cases) == ("p1_a", "liver") and _told_apart("p1_liver", cases) == ("p1", "liver")
    assert _told_apart("liver_p1", cases) == ("p1", "liver") and _told_apart("liver left_b", cases) == ("b", "liver left")
    assert _told_apart("p10_liver", cases) == _told_apart("p1_2", cases) == _told_apart("liver", cases) == ("", "")


def test_a_case_that_was_not_looked_at_and_overlaps_is_found_by_the_doctor(tmp_path, monkeypatch):
    root = folder(tmp_path, "organ folders", liver=LIVER, spleen=SPLEEN)
    drawn(root / "p2/segmentations/spleen.nii.gz", WHOLE)
    monkeypatch.setattr(_parts, "LOOK_AT", 2)  # the first and the last
    dataset = Dataset.open(root)
    (found,) = [finding for finding in examine(dataset) if finding.severity == "error"]
    assert dataset.labels.kind == "exclusive" and found.cases == ("p2",) and "as in no case that was looked at first" in found.message


def test_files_that_go_on_after_the_name_of_a_case_are_one_label_together(tmp_path):
    """One file per lesion, as many data sets of ultrasound have it; the files may share voxels."""
    for k in (1, 2, 10):
        drawn(tmp_path / "benign" / f"benign ({k}).png", seed=k)
        drawn(tmp_path / "benign" / f"benign ({k})_mask.png", LIVER)
    drawn(tmp_path / "benign/benign (1)_mask_1.png", slice(2, 5))
    drawn(tmp_path / "benign/benign (1)_mask_2.png", SPLEEN)
    with pytest.raises(DataError, match=r"--mask 'lesion=\*_mask\*.png'"):
        Dataset.open(tmp_path)
    dataset = Dataset.open(tmp_path, image=["*.png"], mask=["lesion=*_mask*.png"])
    assert [case.name for case in dataset.cases] == ["benign (1)", "benign (2)", "benign (10)"]
    assert dataset.labels.names == ("lesion",) and [len(files_of(case.mask)) for case in dataset.cases] == [3, 1, 1]
    coded = read_mask(dataset.cases[0].mask, dataset.labels, Space.of((12, 14), physical=False))
    assert np.flatnonzero(coded[0, :, 0]).tolist() == [1, 2, 3, 4, 6, 7, 8] and coded.max() == 1
    assert Dataset.from_json(dataset.to_json()) == dataset


def test_a_description_gives_the_order_of_labels_and_must_name_them_all(tmp_path):
    root = folder(tmp_path, "beside each other", liver=LIVER, spleen=SPLEEN)
    words = {"task": "segmentation", "group": "none", "labels": {"1": "spleen", "2": "liver"}}
    write_json(root / "dataset.json", words)
    dataset = Dataset.open(root)
    assert dataset.layout == "described" and dataset.labels.names == ("spleen", "liver")
    write_json(root / "dataset.json", {**words, "labels": {"1": "lung"}})
    with pytest.raises(DataError, match="the labels lung, but its files of masks name liver, spleen"):
        Dataset.open(root)


def test_structures_in_a_folder_are_labels_by_a_table(tmp_path):
    """Contours of two organs beside the series that they were drawn on; the modality chooses."""
    lines = ["case,image,mask"]
    for k in range(3):
        made, _, _ = slices(4, shape=(20, 24), series=f"1.2.{k}")
        first = np.array(made[1].ImagePositionPatient)
        left, right = (np.array([[x, 2.5], [x + 6, 2.5], [x + 6, 12.5], [x, 12.5]]) for x in (1.5, 12.5))
        contours = {name: [first + np.c_[box * [0.75, 0.5], np.zeros(4)]] for name, box in (("left", left), ("right", right))}
        for number, data in enumerate([*made, structures(made, contours)]):
            save_dicom(data, tmp_path / f"c{k}/{number}.dcm")
        lines.append(f"c{k},c{k}#CT,c{k}#RTSTRUCT")
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    dataset = Dataset.open(tmp_path / "cases.csv")
    assert dataset.labels.names == ("left", "right") and dataset.labels.kind == "exclusive"
    coded = read_mask(dataset.cases[0].mask, dataset.labels, read_images(dataset.cases[0], {"image": 1}).space)
    assert [np.count_nonzero(coded == value) for value in (1, 2)] == [60, 60] and not coded[0, :, :, [0, 2, 3]].any()
    assert not [finding for finding in examine(dataset) if finding.severity == "error" and finding.check != "groups"]
    (tmp_path / "cases.csv").write_text("\n".join([*lines, "c9,c9#CT,c9#RTSTRUCT"]) + "\n")
    with pytest.raises(DataError, match=r"line 5: there is no .*c9#CT"):
        Dataset.open(tmp_path / "cases.csv")
