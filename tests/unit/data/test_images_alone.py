"""Images without any answer: read only where none is needed, from folders, DICOM series and stacks; labels that are there are kept."""

import numpy as np
import pytest

from vesalius.core.errors import DataError, UsageError
from vesalius.core.space import Space
from vesalius.data.dataset import Dataset
from vesalius.data.doctor import examine
from vesalius.data.fingerprint import fingerprint
from vesalius.engine.inputs import cases_of
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.tasks import aimed


def picture(path, seed, side=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (1, side, side), np.uint8)
    save(Image(pixels, Space.of((side, side), physical=False)), path)


def test_a_plain_folder_is_refused_where_answers_are_needed_and_read_where_not(tmp_path):
    for k in range(5):
        picture(tmp_path / "train" / f"{k}.png", k)
        picture(tmp_path / "test" / f"{k + 5}.png", k + 5)
    with pytest.raises(DataError, match="laid out in no way that is known"):
        Dataset.open(tmp_path)
    found = Dataset.open(tmp_path, unlabelled=True)
    assert found.layout == "images" and found.alone and found.grain == "image" and len(found.learnable) == 10
    assert {case.split for case in found.cases} == {"train", "test"} and found.labels.names == ()
    with pytest.raises(UsageError, match="nothing that could be named"):
        Dataset.open(tmp_path, unlabelled=True, labels=["a=1"])
    with pytest.raises(UsageError, match="labelled for nothing"):
        aimed(found, "segment")


def test_a_folder_of_classes_within_a_folder_keeps_its_classes(tmp_path):
    for k in range(6):
        picture(tmp_path / "all" / ("normal", "ill")[k % 2] / f"{k}.png", k)
    found = aimed(Dataset.open(tmp_path, unlabelled=True), "anomaly")
    assert found.layout == "class_folders" and set(found.labels.names) == {"normal", "ill"} and found.alone
    assert Dataset.from_json(found.to_json()) == found
    assert aimed(found, "anomaly", normal=["ill"]).metadata["normal"] == ["ill"]
    with pytest.raises(UsageError, match="Did you mean"):
        aimed(found, "anomaly", normal=["norml"])


def test_stacks_without_labels_are_images_one_by_one(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (7, 9, 8), np.uint8)
    np.savez(tmp_path / "stack.npz", allow_pickle=False, train_images=pixels, test_images=pixels[:3])
    found = Dataset.open(tmp_path / "stack.npz", unlabelled=True)
    assert [case.split for case in found.cases] == ["train"] * 7 + ["test"] * 3
    assert np.array_equal(load(found.cases[4].images["image"]).array[0], pixels[4])
    assert len(cases_of(tmp_path / "stack.npz", ["xray"])) == 10


def test_the_doctor_asks_nothing_of_answers_that_are_not_learned(tmp_path):
    for k in range(6):
        picture(tmp_path / "normal" / f"{k}.png", k)
    picture(tmp_path / "ill" / "6.png", 6)
    labelled = Dataset.open(tmp_path)
    assert any(f.check == "classes" and f.severity == "error" for f in examine(labelled))
    assert not any(f.severity == "error" for f in examine(aimed(labelled, "anomaly")))


def test_masks_are_not_read_to_look_at_images(tmp_path):
    (tmp_path / "masks").mkdir()
    for k in range(4):
        picture(tmp_path / "images" / f"{k}.png", k)
        save(Image(np.ones((1, 10, 10), np.uint8), Space.of((10, 10), physical=False)), tmp_path / "masks" / f"{k}.png")
    found = aimed(Dataset.open(tmp_path, labels=["lesion=1"]), "pretrain")
    (tmp_path / "masks" / "0.png").unlink()
    seen = fingerprint(found, found.cases)
    assert seen["cases"] == 4 and seen["classes"] == {} and seen["shapes"] == [[10, 10]] * 4
