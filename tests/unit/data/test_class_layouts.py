"""Classes of whole cases, from folders, tables, stacks and a dataset.json: who is of which class, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from tests.data import data_folder
from tests.unit.io.dicom_maker import AXIAL, plain
from vesalius.core.errors import DataError, UsageError
from vesalius.core.files import write_json
from vesalius.core.space import Space
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.fingerprint import fingerprint
from vesalius.data.labels import IGNORE, Labels
from vesalius.data.layouts import LAYOUTS
from vesalius.data.whole import read_whole
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.plan.whole import grids, preparation_rule


def picture(path, *, seed=0, side=9):
    """Grey noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (1, side, side + 2)).astype(np.uint8)
    save(Image(pixels, Space.of((side, side + 2), physical=False)), path)


def written(folder, lines):
    """A table in `folder` with pictures a.png to d.png beside it."""
    for k, name in enumerate("abcd"):
        picture(folder / f"{name}.png", seed=k)
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder / "cases.csv"


def test_folders_are_classes_and_the_folders_inside_them_patients(tmp_path):
    for k, place in enumerate(["normal/1.png", "normal/2.png", "tumour/p7/1.png", "tumour/p7/2.png", "tumour/p8/1.png"]):
        picture(tmp_path / place, seed=k)
    found = Dataset.open(tmp_path)
    assert (found.task, found.layout, found.labels.names) == ("classify", "class_folders", ("normal", "tumour"))
    assert {c.name: (c.patient, c.classes) for c in found.cases} == {
        "1": ("1", {"normal": 1}), "2": ("2", {"normal": 1}), "p7_1": ("p7", {"tumour": 1}), "p7_2": ("p7", {"tumour": 1}),
        "p8_1": ("p8", {"tumour": 1}),
    }  # fmt: skip


def test_parts_are_folders_too_and_equal_names_are_told_apart(tmp_path):
    for k, place in enumerate(["train/a/1.png", "train/b/1.png", "valid/a/1.png", "test/b/1.png"]):
        picture(tmp_path / place, seed=k)
    found = Dataset.open(tmp_path)
    assert {c.name: c.split for c in found.cases} == {"train_a_1": "train", "train_b_1": "train", "val_a_1": "val", "test_b_1": "test"}
    assert len({c.patient for c in found.cases}) == 4


def test_masks_beside_images_are_no_classes(tmp_path):
    picture(tmp_path / "images" / "1.png")
    picture(tmp_path / "masks" / "1.png", seed=1)
    assert LAYOUTS["class_folders"]().recognises(tmp_path) == 0


def test_a_table_names_views_and_classes(tmp_path):
    head = "case,patient,image_front,image_side,class,split,age"
    path = written(tmp_path, [head, "x,p1,a.png,b.png,ill,train,40", "y,p2,c.png,,well,test,50"])
    found = Dataset.open(path)
    assert found.channels == ("front", "side") and found.labels.names == ("well", "ill"), "what is looked for is last"
    assert [sorted(c.images) for c in found.cases] == [["front", "side"], ["front"]]
    assert [c.metadata for c in found.cases] == [{"age": 40}, {"age": 50}] and [c.patient for c in found.cases] == ["p1", "p2"]


def test_the_user_names_classes_and_says_which_one_is_looked_for(tmp_path):
    path = written(tmp_path, ["image,class", "a.png,0", "b.png,1", "c.png,1"])
    found = Dataset.open(path, labels=["ill=1", "well=0"])
    assert found.labels.names == ("ill", "well") and [c.classes for c in found.cases] == [{"well": 1}, {"ill": 1}, {"ill": 1}]
    with pytest.raises(UsageError, match="Expected NAME=CLASS"):
        Dataset.open(path, labels=["ill=7"])


def test_findings_are_columns_or_lists(tmp_path):
    path = written(tmp_path, ["image,finding_mass,finding_fluid", "a.png,1,0", "b.png,,1", "c.png,-1,0", "d.png,,"])
    found = Dataset.open(path)
    assert found.labels.kind == "findings" and [c.classes for c in found.cases] == [{"mass": 1, "fluid": 0}, {"fluid": 1}, {"fluid": 0}]
    assert any("1 rows have no class" in note for note in found.notes)
    assert [found.labels.coded(c.classes).tolist() for c in found.cases] == [[1, 0], [IGNORE, 1], [IGNORE, 0]]
    listed = Dataset.open(written(tmp_path / "l", ["image,findings", "a.png,mass;fluid", "b.png,none", "c.png,fluid"]))
    assert [listed.labels.coded(c.classes).tolist() for c in listed.cases] == [[1, 1], [0, 0], [1, 0]]  # fluid, mass


def test_grades_keep_their_order(tmp_path):
    found = Dataset.open(written(tmp_path, ["image,grade", "a.png,10", "b.png,9", "c.png,2"]))
    assert found.labels.kind == "grades" and found.labels.names == ("2", "9", "10")


@pytest.mark.parametrize(("lines", "words"), [
    (["image,class", "a.png,x", "lost.png,y"], "line 3: there is no"),
    (["image,class,split", "a.png,x,train", "b.png,y,holdout"], "line 3: the split 'holdout'"),
    (["image,class", "a.png,x", "b.png,x"], "1 class"),
    (["image,finding_a,finding_b", "a.png,1,0", "b.png,maybe,0"], "neither 0 nor 1"),
    (["case,image,class", "x,a.png,1", "x,b.png,2"], "stand in several rows"),
])  # fmt: skip
def test_a_wrong_table_is_refused_in_words(tmp_path, lines, words):
    with pytest.raises(DataError, match=words):
        Dataset.open(written(tmp_path, lines))


def test_stacks_are_read_one_image_at_a_time(tmp_path):
    draw = np.random.default_rng(0)
    stacks = {f"{p}_images": draw.integers(0, 255, (n, 6, 5, 3)).astype(np.uint8) for p, n in (("train", 3), ("test", 2))}
    np.savez_compressed(tmp_path / "s.npz", **stacks, train_labels=np.array([[0], [1], [1]]), test_labels=np.array([[1], [0]]))
    found = Dataset.open(tmp_path / "s.npz")
    assert [(c.name, c.split, c.classes) for c in found.cases] == [
        ("train_0", "train", {"class 0": 1}), ("train_1", "train", {"class 1": 1}), ("train_2", "train", {"class 1": 1}),
        ("test_0", "test", {"class 1": 1}), ("test_1", "test", {"class 0": 1})]  # fmt: skip
    for k, case in enumerate(found.part("train")):
        image = load(case.images["image"])
        assert np.array_equal(image.array, np.moveaxis(stacks["train_images"][k], -1, 0)) and image.space.shape == (6, 5)


def test_a_stack_with_other_labels_than_its_json_names_is_refused(tmp_path):
    np.savez(tmp_path / "s.npz", train_images=np.zeros((2, 4, 4), np.uint8), train_labels=np.array([[0], [2]]))
    write_json(tmp_path / "dataset.json", {"task": "classification", "labels": {"0": "a", "1": "b"}, "group": "none"})
    with pytest.raises(DataError, match=r"\[2\] have no name"):
        Dataset.open(tmp_path)


def test_a_changed_stack_is_read_anew(tmp_path):
    for value in (3, 4):
        np.savez(tmp_path / "s.npz", train_images=np.full((2 + value, 4, 4), value, np.uint8))
        assert load(tmp_path / "s.npz#train_images[1]").array.max() == value


def test_old_cases_without_classes_are_read(tmp_path):
    from vesalius.data.case import Case

    old = {"name": "a", "patient": "a", "images": {"image": "a.png"}, "masks": {}, "split": "", "metadata": {}}
    assert Case.from_json(old).to_json() == old and Case.from_json(old).classes is None
    new = {**old, "classes": {"x": 1}}
    assert Case.from_json(new).to_json() == new and Case.from_json(new).labelled


def test_a_case_is_of_exactly_one_class():
    labels = Labels(names=("a", "b"), values=((0,), (1,)), kind="classes")
    assert labels.coded({"b": 1}).tolist() == [1] and labels.out_channels == 2 and labels.grain == "case"
    for wrong in ({}, {"a": 1, "b": 1}, {"c": 1}):
        with pytest.raises(DataError, match="Expected one class"):
            labels.coded(wrong)


def test_real_sets_are_recognised_with_their_groups():
    brain = Dataset.open(data_folder("cls_brain_tumour_4class"))
    assert (brain.task, len(brain.cases), len(brain.labels.names)) == ("classify", 1797, 4)
    assert {part: len(brain.part(part)) for part in ("train", "val", "test")} == {"train": 1170, "val": 272, "test": 355}
    assert len({c.patient for c in brain.cases}) < 1797
    chest = Dataset.open(data_folder("cls_pneumoniamnist"))
    assert chest.labels.names == ("normal", "pneumonia") and len(chest.cases) == 5856


def test_single_dicom_files_are_pictures_and_a_folder_of_slices_is_a_volume(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 99, (6, 7)).astype(np.uint16)
    for k, place in enumerate(["ill/1.dcm", "ill/2.dcm", "well/3"]):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        plain(pixels + k, series=f"1.{k}").save_as(tmp_path / place, enforce_file_format=True)
    for k in range(3):
        (tmp_path / "well" / "p9").mkdir(exist_ok=True)
        slice_ = plain(pixels, series="1.9", ImagePositionPatient=[0, 0, k], ImageOrientationPatient=list(AXIAL), PixelSpacing=[1, 1])
        slice_.save_as(tmp_path / "well" / "p9" / f"{k}.dcm", enforce_file_format=True)
    found = Dataset.open(tmp_path)
    assert {c.name: c.images["image"].name for c in found.cases} == {"1": "1.dcm", "2": "2.dcm", "3": "3", "p9": "p9"}
    assert {c.name: load(c.images["image"]).space.ndim for c in found.cases}["p9"] == 3


def test_two_phases_of_a_heart_are_two_channels_of_one_case(tmp_path):
    root = data_folder("cardiac_cine_mr")
    patients = (root / "patients.csv").read_text().split()[1:]
    lines = ["patient,image_ed,image_es,class,split"]
    for line in patients:
        name, group, part = line.split(",")
        lines.append(f"{name},{root / f'{name}_ED.nii.gz'},{root / f'{name}_ES.nii.gz'},{group},{part}")
    (tmp_path / "hearts.csv").write_text("\n".join(lines) + "\n")
    found = Dataset.open(tmp_path / "hearts.csv")
    assert found.channels == ("ed", "es") and len(found.labels.names) == 5 and len(found.cases) == len(patients) == 40
    facts = fingerprint(found, found.cases[:2])
    how, _ = preparation_rule(facts, grids(facts)[-1])
    assert read_whole(found.cases[0], how, grids(facts)[-1]).shape == (2, *grids(facts)[-1])


def test_channels_are_taken_by_name_and_in_the_order_asked_for():
    cases = tuple(Case(f"c{k}", f"p{k}", {name: Path(f"{name}{k}.png") for name in views}, classes={"a": 1})
                  for k, views in enumerate((("front", "side"), ("front",), ("side",))))  # fmt: skip
    data = Dataset("d", Path("."), "classify", cases, ("front", "side"),
                   Labels(names=("a", "b"), values=((0,), (1,)), kind="classes"))  # fmt: skip
    turned = data.with_channels(["side", "front"])
    assert turned.channels == ("side", "front") and len(turned.cases) == 3 and list(turned.cases[0].images) == ["side", "front"]
    alone = data.with_channels(["side"])
    assert [case.name for case in alone.cases] == ["c0", "c2"] and list(alone.cases[0].images) == ["side"]
    assert "1 cases have none" in alone.notes[-1]
    with pytest.raises(UsageError, match="Did you mean side"):
        data.with_channels(["sied"])
    with pytest.raises(UsageError, match="once"):
        data.with_channels(["side", "side"])
