"""The images nearest to one: features of classifiers and of methods without labels, the index that is kept, and what is said."""

import numpy as np
import pytest
import torch

from tests.unit.engine.test_whole import SIDE, cohort, plan_of
from tests.unit.engine.tiny import answering, tiny_dataset, tiny_plan, write_run
from vesalius.audit import features, similar
from vesalius.audit.features import features_of, of_classifier
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.nets import NETS
from vesalius.nets.compact import Compact
from vesalius.report.similar import write_similar


def compact():
    torch.manual_seed(0)
    return Compact(2, 1, 2, channels=(4, 6)).eval()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """24 pictures of 12 patients, dark and bright in turn; the first 16 are learned from."""
    data = cohort(tmp_path / "pictures", 24, patients=[f"p{k // 2:02}" for k in range(24)])
    names = [case.name for case in data.cases]
    made = write_run(tmp_path / "run", data, plan_of(), folds=[(names[:16], names[16:20])], test=names[20:])
    return answering(made, monkeypatch, [compact()])


def test_features_of_a_classifier_are_what_goes_into_its_last_layer():
    net, images = compact(), torch.randn(5, 1, SIDE, SIDE)
    found = of_classifier(net, 2)(images.numpy())
    with torch.no_grad():
        assert found == pytest.approx(net.trunk(images).flatten(2).mean(2).numpy(), abs=1e-6)
        assert net.answer(torch.from_numpy(found)) == pytest.approx(net(images).numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ["resnet", "vit", "decision_fusion", "transmed", "googlenet"])
def test_classifiers_of_every_build_describe_images(name):
    """Those that decide several times are described by all that goes into their decisions; no two images alike."""
    small = {"vit": {"size": "Ti", "sides": (32, 32), "patch": 8}, "resnet": {"depth": 18}, "transmed": {"size": "T"}}.get(name, {})
    side = 32 if name == "vit" else 64
    images = np.random.default_rng(0).normal(size=(3, 2, side, side)).astype(np.float32)
    rows = of_classifier(NETS[name](2, 2, 3, **small), 3)(images)
    assert rows.shape[0] == 3 and rows.shape[1] >= 8 and rows.std(0).max() > 0


class NoWords(torch.nn.Module):
    """Neither a last layer nor maps."""

    def forward(self, image):
        return image.flatten(1)[:, :2]


def test_what_cannot_describe_is_refused(tmp_path):
    with pytest.raises(VesaliusError, match="neither a last layer"):
        of_classifier(NoWords(), 2)(np.zeros((1, 1, 4, 4), np.float32))
    voxel = write_run(tmp_path / "voxel", tiny_dataset(), tiny_plan())
    with pytest.raises(UsageError, match="voxel by voxel"):
        features.describer(voxel)


def test_the_nearest_by_brute_force_and_never_of_the_own_patient(run):
    asked = run.dataset.case("c05").images["image"]
    found = similar.similar(run, asked, k=5)
    cases = [run.dataset.case(name) for name in run.splits["folds"][0]["train"]]
    rows = features_of(run, cases).astype(float)
    rows -= rows.mean(0)
    cosine = rows @ rows[5] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[5])
    order = [k for k in np.argsort(-cosine, kind="stable") if cases[k].patient != "p02"][:5]
    assert [row["case"] for row in found["neighbours"]] == [cases[k].name for k in order]
    assert [row["distance"] for row in found["neighbours"]] == pytest.approx(1 - cosine[order], abs=1e-5)
    assert found["searched"] == 16 and any("p02, are left out" in remark for remark in found["remarks"])
    assert sum(found["labels"].values()) == 5 and set(found["labels"]) <= {"dark", "bright"}


def test_a_test_image_finds_training_images_alone(run):
    found = similar.similar(run, run.dataset.case("c22").images["image"], k=99)
    assert len(found["neighbours"]) == 16 and not any("left out" in remark for remark in found["remarks"])
    assert {row["case"] for row in found["neighbours"]} == set(run.splits["folds"][0]["train"])


def test_the_index_is_kept_and_made_anew_when_what_it_is_made_of_changes(run, monkeypatch):
    asked, calls = run.dataset.case("c22").images["image"], []
    real = similar.features_of
    monkeypatch.setattr(similar, "features_of", lambda *a, **k: calls.append(len(a[1])) or real(*a, **k))
    first = similar.similar(run, asked)
    assert similar.similar(run, asked)["neighbours"] == first["neighbours"] and calls == [16, 1, 1]
    file = next((run.path / similar.FOLDER).glob("*.npz"))
    file.write_bytes(b"damaged")
    assert similar.similar(run, asked)["neighbours"] == first["neighbours"] and calls[-2:] == [16, 1]
    (run.path / "weights.safetensors").write_bytes((run.path / "weights.safetensors").read_bytes() + b" ")
    similar.similar(run, asked)
    assert calls[-2:] == [16, 1] and not list((run.path / similar.FOLDER).glob(".*"))


def test_other_images_can_be_searched(run, tmp_path):
    for k in range(6):
        cohort(tmp_path / "others" / ("dark" if k % 2 else "bright"), 4)
    found = similar.similar(run, run.dataset.case("c22").images["image"], data=tmp_path / "others", k=3)
    assert found["searched"] == 8 and len(found["neighbours"]) == 3


def test_an_image_unlike_all_is_told(run):
    index = similar.indexed(run, [run.dataset.case(name) for name in run.splits["folds"][0]["train"]])
    assert any("unlike all" in remark for remark in similar._remarks(index, np.array([1.9]), None))
    assert any("a copy" in remark for remark in similar._remarks(index, np.array([0.0]), None))
    with pytest.raises(UsageError, match="At least one"):
        similar.similar(run, run.dataset.case("c22").images["image"], k=0)


def test_the_page_shows_the_image_and_those_found(run, tmp_path):
    asked = run.dataset.case("c22")
    found = similar.similar(run, asked.images["image"], k=4)
    page = write_similar(found, asked, {case.name: case for case in run.dataset.cases}, path=tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 5 and "Of the 4 nearest images" in page
    assert all(f">{row['case']}<" in page for row in found["neighbours"]) and "http://www.w3.org" not in page.split("<main>")[0]


def test_the_command_answers(run, capsys, monkeypatch):
    from vesalius.cli.main import main

    assert main(["similar", str(run.path), str(run.dataset.case("c22").images["image"]), "-k", "3", "--json"]) == 0
    import json

    found = json.loads(capsys.readouterr().out)
    assert len(found["neighbours"]) == 3 and found["page"].endswith(".html")
