"""Recognition: the real data sets as they are described, and the ways in which people lay out their own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from tests.data import data_folder
from vesalius.core.errors import DataError, UsageError
from vesalius.core.files import write_json
from vesalius.core.space import Space
from vesalius.data.dataset import Dataset
from vesalius.data.layouts._groups import arithmetic
from vesalius.data.layouts._labels import asked, declared
from vesalius.io import load, save
from vesalius.io.image import Image

REAL = {  # cases, patients, channels, labels, train / val / test cases
    "seg3d_hippocampus_mr": (207, 137, ("image",), ("anterior", "posterior"), (136, 29, 42)),
    "cardiac_cine_mr": (80, 40, ("image",), ("RV", "MYO", "LV"), (50, 10, 20)),
    "tumour_sts_ct_pet_mr": (15, 15, ("CT", "MR_T1", "PET"), ("GTV_Mass",), (8, 3, 4)),
    "tumour_brats_mini": (2, 2, ("flair", "t1c"), ("necrosis", "oedema", "non-enhancing", "enhancing"), (1, 0, 1)),
    "vessels_chase_db1": (28, 14, ("image",), ("vessel",), (16, 4, 8)),
    "cxr_lungs_lesions_seg": (58, 46, ("image",), ("Right Lung", "Left Lung", "Cardiomediastinum", "Airways", "Ground Glass Opacities",
                                                   "Consolidation"), (39, 7, 12)),
    "us_breast_seg": (78, 78, ("image",), ("lesion",), (50, 12, 16)),
}  # fmt: skip


def picture(path: Path, value: int | None = None, *, shape: tuple[int, ...] = (12, 14), seed: int = 0) -> None:
    """Noise at `path`, or a mask with a square of `value`; volumes for NIfTI."""
    shape = (*shape, 5) if ".nii" in path.name and len(shape) == 2 else shape
    pixels = np.random.default_rng(seed).integers(1, 200, shape).astype(np.uint8)
    if value is not None:
        pixels[:] = 0
        pixels[3:7, 4:9] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    save(Image(pixels[None], Space.of(shape, physical=len(shape) == 3)), path)


def names(dataset: Dataset) -> list[str]:
    return [case.name for case in dataset.cases]


@pytest.mark.parametrize("name", list(REAL))
def test_real_sets_are_read_as_described(name):
    dataset = Dataset.open(data_folder(name))
    cases, patients, channels, labels, sizes = REAL[name]
    assert len(dataset.cases) == cases and len({c.patient for c in dataset.cases}) == patients
    assert dataset.channels == channels and dataset.labels.names == labels and dataset.task == "segment"
    assert tuple(len(dataset.part(p)) for p in ("train", "val", "test")) == sizes
    assert all(path.is_file() for case in dataset.cases for path in (*case.images.values(), *case.masks.values()))


def test_hippocampus_pairs_are_one_subject():
    dataset = Dataset.open(data_folder("seg3d_hippocampus_mr"))
    patient = {case.name: case.patient for case in dataset.cases}
    assert patient["hippocampus_003"] == patient["hippocampus_004"] == "subject 2"
    assert patient["hippocampus_007"] == patient["hippocampus_008"] != patient["hippocampus_006"]


def test_cardiac_phases_share_a_patient_and_a_diagnosis():
    dataset = Dataset.open(data_folder("cardiac_cine_mr"))
    ed, es = dataset.case("p001_ED"), dataset.case("p001_ES")
    assert ed.patient == es.patient == "p001" and ed.metadata == {"group": "DCM"}
    assert any("scribble" in note for note in dataset.notes)


def test_scribbles_can_be_taken_instead():
    dataset = Dataset.open(data_folder("cardiac_cine_mr"), take="scribble", ignore=4)
    assert len(dataset.cases) == 30 and dataset.labels.ignore == 4
    assert all("scribble" in str(case.mask) for case in dataset.cases)


def test_second_observer_and_eight_bit_masks():
    dataset = Dataset.open(data_folder("vessels_chase_db1"))
    assert list(dataset.cases[0].masks) == ["1stHO", "2ndHO"]
    assert dataset.labels.values == ((1, 255),) and any("255 is read as 1" in note for note in dataset.notes)


def test_overlapping_bits_and_metadata():
    dataset = Dataset.open(data_folder("cxr_lungs_lesions_seg"))
    assert dataset.labels.kind == "bits" and dataset.labels.values == ((1,), (2,), (4,), (8,), (16,), (32,))
    case = dataset.case("1312A392-67A3-4EBF-9319-810CF6DA5EF6")
    assert case.patient == "39" and case.metadata == {"finding": "COVID-19", "sex": "M", "age": 50, "view": "PA"}


def test_classes_in_file_names_are_kept():
    dataset = Dataset.open(data_folder("us_breast_seg"))
    assert {case.metadata["class"] for case in dataset.cases} == {"benign", "malignant", "normal"}


def test_regions_on_request():
    dataset = Dataset.open(data_folder("tumour_brats_mini"), labels=["whole=1+2+3+4", "core=1+3+4", "enhancing=4"])
    assert dataset.labels.kind == "regions" and dataset.labels.values == ((1, 2, 3, 4), (1, 3, 4), (4,))


def test_instance_masks_are_refused_with_the_remedy():
    with pytest.raises(DataError, match="inst"):
        Dataset.open(data_folder("nuclei_dsb2018"))


@pytest.mark.parametrize(("image", "mask"), [
    ("images/{}.png", "masks/{}.png"), ("images/{}.png", "labels/{}_mask.png"), ("{}.png", "{}_mask.png"), ("{}.nii.gz", "{}_seg.nii.gz"),
    ("{0}/scan.nii.gz", "{0}/seg.nii.gz"), ("{0}/{0}_flair.nii.gz", "{0}/{0}_seg.nii.gz"), ("train/images/{}.png", "train/masks/{}.png"),
    ("imgs/{}.jpg", "segmentations/{}.png"), ("data/{}_img.png", "data/{}_gt.png"), ("images/{}.png", "ground_truth/{}.png"),
])  # fmt: skip
def test_pairs_by_name(tmp_path, image, mask):
    for k in ("a1", "a2", "b10"):
        picture(tmp_path / image.format(k))
        picture(tmp_path / mask.format(k), 1)
    dataset = Dataset.open(tmp_path)
    assert dataset.layout == "pairs" and [name.removesuffix("_img") for name in names(dataset)] == ["a1", "a2", "b10"]
    assert len(dataset.channels) == 1 and dataset.labels.names == ("foreground",)


def test_img_and_mask_prefixes_are_matched_by_number(tmp_path):
    for k in range(3):
        picture(tmp_path / "images" / f"img_{k}.png")
        picture(tmp_path / "masks" / f"mask_{k}.png", 255)
    dataset = Dataset.open(tmp_path)
    assert len(dataset.cases) == 3 and any("numbers" in note for note in dataset.notes)


def test_channels_of_one_case_and_two_raters(tmp_path):
    for k in ("p1", "p2"):
        for word in ("t1", "t2", "flair"):
            picture(tmp_path / f"{k}_{word}.nii.gz")
        picture(tmp_path / f"{k}_seg_rater1.nii.gz", 2)
        picture(tmp_path / f"{k}_seg_rater2.nii.gz", 2)
    (tmp_path / "p2_t2.nii.gz").unlink()
    dataset = Dataset.open(tmp_path)
    assert dataset.channels == ("flair", "t1", "t2") and list(dataset.case("p2").images) == ["flair", "t1"]
    assert list(dataset.case("p1").masks) == ["rater1", "rater2"]


def test_split_folders_with_the_same_names(tmp_path):
    for part in ("train", "test"):
        for k in range(2):
            picture(tmp_path / part / "images" / f"{k}.png", seed=k)
            picture(tmp_path / part / "masks" / f"{k}.png", 1)
    dataset = Dataset.open(tmp_path)
    assert names(dataset) == ["test_0", "test_1", "train_0", "train_1"] and len(dataset.part("test")) == 2


def test_one_folder_within_a_folder(tmp_path):
    picture(tmp_path / "download" / "images" / "a.png")
    picture(tmp_path / "download" / "masks" / "a.png", 1)
    assert names(Dataset.open(tmp_path)) == ["a"]


def test_further_masks_are_not_taken_for_nothing(tmp_path):
    for name, value in (("b (1).png", None), ("b (1)_mask.png", 1), ("b (1)_mask_1.png", 1)):
        picture(tmp_path / name, value)
    with pytest.raises(DataError, match="name the label with a glob"):
        Dataset.open(tmp_path, layout="pairs")


def test_globs_name_channels_raters_and_patients(tmp_path):
    for k in ("s1_v1", "s1_v2", "s2_v1"):
        for word in ("foo", "bar", "alice", "bob"):
            picture(tmp_path / k / f"{k}.{word}.nii.gz", 1 if word in ("alice", "bob") else None)
    dataset = Dataset.open(tmp_path, image=["*.foo.nii.gz", "B=*.bar.nii.gz"], mask=["*.alice.nii.gz", "*.bob.nii.gz"], patient=r"^(s\d)")
    assert dataset.channels == ("foo", "B") and names(dataset) == ["s1_v1", "s1_v2", "s2_v1"]
    assert [case.patient for case in dataset.cases] == ["s1", "s1", "s2"] and list(dataset.cases[0].masks) == ["rater 1", "rater 2"]


def test_a_glob_for_images_leaves_the_masks_out(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "a_x.png", 1)
    dataset = Dataset.open(tmp_path, image=["*.png"], mask=["*_x.png"])
    assert names(dataset) == ["a"] and dataset.cases[0].images["image"].name == "a.png"


def test_wrong_globs_say_what_they_found(tmp_path):
    picture(tmp_path / "a_im.png")
    picture(tmp_path / "b_lab.png", 1)
    with pytest.raises(DataError, match="matches none of the 1 images"):
        Dataset.open(tmp_path, image=["*.nii.gz"], mask=["*_lab.png"])
    with pytest.raises(DataError, match="same words"):
        Dataset.open(tmp_path, image=["*_im.png"], mask=["*_lab.png"])
    with pytest.raises(UsageError, match="needs --mask"):
        Dataset.open(tmp_path, image=["*_im.png"])


def test_nnunet_regions_ignore_and_test_part(tmp_path):
    for part, k in (("Tr", 0), ("Tr", 1), ("Ts", 2)):
        for channel in range(2):
            picture(tmp_path / f"images{part}" / f"x_{k}_{channel:04}.nii.gz")
        picture(tmp_path / f"labels{part}" / f"x_{k}.nii.gz", 2)
    words = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}
    write_json(tmp_path / "dataset.json", {"channel_names": {"0": "T1", "1": "CT"}, "labels": words, "file_ending": ".nii.gz"})
    dataset = Dataset.open(tmp_path)
    assert dataset.layout == "nnunet" and dataset.channels == ("T1", "CT") and len(dataset.part("test")) == 1
    assert dataset.labels.kind == "regions" and dataset.labels.ignore == 4 and dataset.labels.values == ((1, 2, 3), (2, 3))


def test_nnunet_version_1_and_msd_differ_by_the_files(tmp_path):
    words = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "part"},
             "training": [{"image": "./imagesTr/a_1.nii.gz", "label": "./labelsTr/a_1.nii.gz"}]}  # fmt: skip
    write_json(tmp_path / "dataset.json", words)
    picture(tmp_path / "labelsTr" / "a_1.nii.gz", 1)
    picture(tmp_path / "imagesTr" / "a_1_0000.nii.gz")
    assert Dataset.open(tmp_path).layout == "nnunet"
    (tmp_path / "imagesTr" / "a_1_0000.nii.gz").rename(tmp_path / "imagesTr" / "a_1.nii.gz")
    assert Dataset.open(tmp_path).layout == "msd"


def test_manifest(tmp_path):
    picture(tmp_path / "i.png")
    picture(tmp_path / "m.png", 7)
    rows = ["case;patient;image_a;image_b;mask_x;split;age", "c1;p1;i.png;;m.png;train;61", "c2;p2;i.png;i.png;m.png;test;"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    dataset = Dataset.open(tmp_path / "t.csv")
    assert dataset.channels == ("a", "b") and dataset.case("c1").metadata == {"age": 61} and list(dataset.case("c1").masks) == ["x"]
    assert [case.split for case in dataset.cases] == ["train", "test"] and dataset.labels.values == ((7,),)


@pytest.mark.parametrize(("row", "what"), [
    ("c,i.png,none.png,train", "there is no"), ("c,,m.png,train", "no image"), ("c,i.png,m.png,foo", "foo"),
])  # fmt: skip
def test_manifest_errors_name_the_line(tmp_path, row, what):
    picture(tmp_path / "i.png")
    picture(tmp_path / "m.png", 1)
    (tmp_path / "t.csv").write_text(f"case,image,mask,split\nb,i.png,m.png,\n{row}\n")
    with pytest.raises(DataError, match=f"line 3.*{what}"):
        Dataset.open(tmp_path / "t.csv")


def test_nothing_recognised_says_what_each_needs(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError) as told:
        Dataset.open(tmp_path)
    assert all(f"{name}:" in str(told.value) for name in ("csv", "described", "msd", "nnunet", "pairs"))


def test_wrong_words_get_the_nearest_right_ones(tmp_path):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "masks" / "a.png", 1)
    with pytest.raises(UsageError, match="Did you mean pairs"):
        Dataset.open(tmp_path, layout="pair")
    with pytest.raises(UsageError, match="image"):
        Dataset.open(tmp_path, images=["*.png"])
    with pytest.raises(DataError, match="does not exist"):
        Dataset.open(tmp_path / "nowhere")


def test_two_layouts_at_once_are_not_guessed_between(tmp_path):
    picture(tmp_path / "imagesTr" / "a_0000.nii.gz")
    picture(tmp_path / "labelsTr" / "a.nii.gz", 1)
    words = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "x": 1}, "task": "segmentation", "group": "none"}
    write_json(tmp_path / "dataset.json", words)
    with pytest.raises(DataError, match="--layout"):
        Dataset.open(tmp_path)
    assert Dataset.open(tmp_path, layout="nnunet").channels == ("T1",)


def test_split_that_names_absent_files(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "a_mask.png", 1)
    write_json(tmp_path / "dataset.json", {"task": "segmentation", "labels": {"1": "x"}, "splits": {"train": ["a"], "test": ["gone"]}})
    with pytest.raises(DataError, match="gone"):
        Dataset.open(tmp_path)


def test_masks_that_are_images_are_refused(tmp_path):
    for k in range(2):
        pixels = np.linspace(0, 1, 12 * 14 * 5, dtype=np.float32).reshape(1, 12, 14, 5)
        picture(tmp_path / f"{k}.nii.gz")
        save(Image(pixels, Space.of((12, 14, 5))), tmp_path / f"{k}_seg.nii.gz")
    with pytest.raises(DataError, match="does not look like a mask"):
        Dataset.open(tmp_path)


def test_colour_coded_masks(tmp_path):
    coloured = np.zeros((3, 12, 14), np.uint8)
    coloured[0, 2:5], coloured[1, 7:9] = 255, 128
    for k in range(2):
        picture(tmp_path / "images" / f"{k}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        save(Image(coloured, Space.of((12, 14), physical=False)), tmp_path / "masks" / f"{k}.png")
    labels = Dataset.open(tmp_path).labels
    assert labels.colours == {0: (0, 0, 0), 1: (255, 0, 0), 2: (0, 128, 0)}
    coded = labels.encode(coloured)[0]
    assert (coded[2:5] == 1).all() and (coded[7:9] == 2).all() and (coded == 0).sum() == 7 * 14
    assert Dataset.open(tmp_path, labels=["red=1", "green=2"]).labels.names == ("red", "green")


def test_jpeg_masks_are_read_by_halves(tmp_path):
    for k in range(2):
        picture(tmp_path / "images" / f"{k}.png", shape=(64, 64))
        mask = np.zeros((64, 64), np.uint8)
        mask[3:7, 4:9] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Pillow.fromarray(mask).save(tmp_path / "masks" / f"{k}.jpg", quality=60)
    dataset = Dataset.open(tmp_path)
    coded = dataset.labels.encode(load(dataset.cases[0].masks["reference"]).array)
    assert dataset.labels.names == ("foreground",) and any("JPEG" in note for note in dataset.notes)
    assert coded[0, 4, 5] == 1 and coded[0, 30:].max() == 0 and abs(int(coded.sum()) - 4 * 5) <= 4


def test_a_patient_rule_that_misses_is_an_error(tmp_path):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "masks" / "a.png", 1)
    with pytest.raises(DataError, match="finds nothing"):
        Dataset.open(tmp_path, patient=r"zzz(\d+)zzz")
    with pytest.raises(UsageError, match="regular expression"):
        Dataset.open(tmp_path, patient="(")


def test_shared_patients_are_suspected(tmp_path):
    for k in ("p01_L", "p01_R", "p02_L", "p02_R"):
        picture(tmp_path / "images" / f"{k}.png")
        picture(tmp_path / "masks" / f"{k}.png", 1)
    assert any("of one patient" in note for note in Dataset.open(tmp_path).notes)
    assert not any("of one patient" in note for note in Dataset.open(tmp_path, patient=r"(p\d+)").notes)


@pytest.mark.parametrize(("rule", "number", "value"), [
    ("(id+1)//2", 7, 4), ("(id+1)//2", 8, 4), ("number", 12, 12), ("id % 10 * 2 - 1", 23, 5),
])  # fmt: skip
def test_arithmetic_of_grouping_rules(rule, number, value):
    assert arithmetic(rule, number) == value


@pytest.mark.parametrize("rule", ["__import__('os')", "id ** 9", "id if 1 else 2", "foo", "id //", "id // 0", "1.5 + id", "(lambda: id)()"])
def test_nothing_else_is_evaluated(rule):
    with pytest.raises(DataError, match="must use only"):
        arithmetic(rule, 3)


@pytest.mark.parametrize("words", [{"0": "background", "1": "liver", "2": "tumour"}, {"background": 0, "liver": 1, "tumour": 2},
                                   ["background", "liver", "tumour"], ["liver", "tumour"], {"2": "tumour", "1": "liver"}])  # fmt: skip
def test_ways_of_declaring_labels(words):
    labels = declared(words)
    assert labels.names == ("liver", "tumour") and labels.values == ((1,), (2,)) and labels.exclusive


def test_labels_that_are_not_understood():
    with pytest.raises(DataError, match="instance masks"):
        declared({"k>0": "nucleus k"})
    with pytest.raises(UsageError, match="NAME=VALUE"):
        asked(["liver"], regions=False, ignore=None)


def test_merged_values_are_exclusive_and_shared_ones_regions():
    assert asked(["a=1+2", "b=3"], regions=False, ignore=None).kind == "exclusive"
    assert asked(["a=1+2", "b=2"], regions=False, ignore=None).kind == "regions"
    assert asked(["a=1", "ignore=255"], regions=False, ignore=None).ignore == 255
