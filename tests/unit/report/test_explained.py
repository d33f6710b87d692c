"""Where a network looked, in the report and on request: the heat of a known network, sentences where there is none, planes of volumes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.engine.test_whole import TWO, cohort, plan_of
from tests.unit.engine.tiny import LABELS, answering, tiny_plan, write_run
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.files import write_json
from vesalius.engine.evaluate import evaluate
from vesalius.engine.run import Run
from vesalius.report import asked, explained, write
from vesalius.report.facts import gather


class Corner(nn.Module):
    """Bright where the top left quarter is; its only maps are the image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([-0.1, 0.1]))

    def trunk(self, image):
        window = torch.zeros_like(image)
        window[..., : image.shape[-2] // 2, : image.shape[-1] // 2] = 1
        return image * window

    def classify(self, maps):
        return maps.flatten(1).mean(1)[:, None] * self.weight

    def forward(self, image):
        return self.classify(self.trunk(image))


class Blind(nn.Module):
    """Neither maps nor attentions."""

    def forward(self, image):
        score = image.flatten(1).mean(1)
        return torch.stack([-score, score], 1)


@pytest.fixture
def run(tmp_path, monkeypatch):
    data = cohort(tmp_path / "pictures", 32)
    names = [case.name for case in data.cases]
    made = write_run(tmp_path / "run", data, plan_of(), folds=[(names[:8], names[8:20])], test=names[20:])
    run = answering(made, monkeypatch, [Corner()])
    evaluate(run)
    write_json(run.path / "fingerprint.json", {"shapes": [[8, 8]], "spacings": [[1, 1]], "physical": False, "cases": 8,
                                               "classes": {name: {"cases": 4, "share": 0.5} for name in TWO.names}})  # fmt: skip
    return run


def test_the_report_shows_a_few_cases_and_says_whether_the_heat_can_be_believed(run):
    page = Path(write(run.path)).read_text(encoding="utf-8")
    assert "Where it looked" in page and "Grad-CAM" in page and "With random weights" in page
    facts = gather(run.path)
    from vesalius.report.classes import gallery

    found = explained.results(facts, gallery(facts))
    assert 1 <= len(found["pictures"]) <= sum(explained.ROLES.values())
    assert all(len(one.drawings) == 2 and not one.problem for one in found["pictures"])
    assert "Where it looked" not in Path(write(run.path, live=True)).read_text(encoding="utf-8")


def test_the_heat_of_a_bright_case_lies_where_the_network_looks(run):
    image = torch.ones(1, 1, 8, 8)
    _, method = explained.method_for(Corner(), image, patience=9)
    heat = method(Corner(), image, torch.tensor([1]))[0]
    assert bool((heat[:4, :4] > 0).all()) and float(heat[4:].abs().max()) == 0
    half = torch.cat([image[..., :4], 0.5 * image[..., 4:]], -1)
    assert explained.method_for(Blind(), half, patience=9)[0] == "occlusion"
    with pytest.raises(VesaliusError, match="tells places apart"):
        explained.method_for(Blind(), half, patience=0)


def test_a_heat_that_is_the_same_everywhere_is_not_shown_as_evidence():
    class Single(Corner):
        """Its last map is a single place."""

        def trunk(self, image):
            return super().trunk(image).mean((2, 3), keepdim=True)

    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert explained.is_flat(explained.made("grad_cam", image)(Single(), image))
    assert explained.method_for(Single(), image, patience=9)[0] == "occlusion"
    assert not explained.is_flat(torch.tensor([[1.0, 2.0]])) and explained.is_flat(torch.zeros(1, 2))


def test_what_cannot_be_shown_is_said(run, monkeypatch):
    def lost(self, member):
        raise VesaliusError(f"{member} has no weights.")

    monkeypatch.setattr(Run, "network", lost)
    page = Path(write(run.path)).read_text(encoding="utf-8")
    assert "Where the network looked cannot be shown." in page and "has no weights." in page


def test_volumes_are_cut_across_their_thin_axis_where_most_heat_is():
    image, heat = np.random.default_rng(0).normal(size=(2, 4, 9, 10)), np.zeros((4, 9, 10))
    heat[2, 1, 3] = 1
    planes, hot, words = explained.cut(image, heat)
    assert explained.cut(image, np.ones((4, 9, 10)))[2] == ", slice 3 of 4", "the middle of those alike"
    assert words == ", slice 3 of 4" and hot.shape == (10, 9) and planes.shape == (2, 10, 9)
    assert hot[10 - 1 - 3, 9 - 1 - 1] == 1 and np.array_equal(planes[1], image[1, 2, ::-1, ::-1].T)


def test_one_image_on_request(run, tmp_path):
    from PIL import Image

    case = run.dataset.cases[31]
    found = asked.explained(run, case, tmp_path / "out.png", method="", target="bright", test=True)
    assert found["class"] == "bright" and found["method"] == "Grad-CAM" and "random weights" in found["sentence"]
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size[1] >= 384
    wrong = ({"target": "brigth"}, "bright"), ({"method": "attention_rollout"}, "attentions"), ({"method": "grad_can"}, "grad_cam")
    for words, match in wrong:
        with pytest.raises(UsageError, match=match):
            asked.explained(run, case, tmp_path / "out.png", **{"method": "", "target": "", "test": False, **words})
    with pytest.raises(UsageError, match="PNG"):
        asked.explained(run, case, tmp_path / "out.jpg", method="", target="", test=False)


def test_masks_need_no_explanation(run, tmp_path):
    other = write_run(tmp_path / "masks", run.dataset, tiny_plan(labels=LABELS))
    with pytest.raises(UsageError, match="voxel by voxel"):
        asked.explained(other, run.dataset.cases[0], tmp_path / "o.png", method="", target="", test=False)


class Weighed(Corner):
    """Looks at another corner, and says more or less loudly what it sees."""

    def __init__(self, rows, factor):
        super().__init__()
        self.rows, self.weight = rows, nn.Parameter(factor * torch.tensor([-0.1, 0.1]))

    def trunk(self, image):
        window = torch.zeros_like(image)
        window[..., self.rows, :4] = 1
        return image * window


def test_of_several_networks_the_mean_of_their_heats_is_shown():
    nets = [Weighed(slice(0, 4), 1.0), Weighed(slice(4, 8), 3.0)]
    both, image = explained.Ensemble(nets), torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(both(image), (nets[0](image) + nets[1](image)) / 2)
    name, method = explained.method_for(both, image, patience=9)
    target = both(image).argmax(1)
    heats = [method(net, image, target) for net in nets]
    heat = explained.meaned(method, both)(both, image, target)
    assert name == "grad_cam" and torch.allclose(heat, (heats[0] + heats[1]) / 2)
    assert float(heat[:, :4].max()) > 0 and float(heat[:, 4:].max()) > 0, "each has its corner in it"
    hidden = explained.made("occlusion", image)
    assert torch.allclose(explained.meaned(hidden, both)(both, image, target), hidden(both, image, target), atol=1e-6)
    assert explained.meaned(method, nets[0]) is method


def test_folds_are_explained_by_the_networks_that_answered(tmp_path, monkeypatch):
    data = cohort(tmp_path / "pictures", 32)
    names = [case.name for case in data.cases]
    folds = [(names[8:20], names[:8]), (names[:8], names[8:20])]
    made = write_run(tmp_path / "run", data, plan_of(settings=["folds=2"]), folds=folds, test=names[20:])
    nets = [Weighed(slice(0, 4), 1.0), Weighed(slice(4, 8), 3.0)]
    run = answering(made, monkeypatch, nets)
    seen = [explained.answering(run, explained.member_of(run, name)) for name in (names[0], names[8], names[20])]
    assert seen[0] is nets[0] and seen[1] is nets[1] and list(seen[2].networks) == nets
    found = asked.explained(run, data.cases[21], tmp_path / "out.png", method="", target="bright", test=True)
    assert "the first of the 2 networks" in found["sentence"]
