"""Networks that correct the baseline, written down and asked without torch: the labels that the run gives."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.engine.tiny import ball, tiny_plan, write_scans
from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json, write_json
from vesalius.data.labels import Labels
from vesalius.engine.infer import callables, classes
from vesalius.engine.predict import Options, predict
from vesalius.engine.run import CORRECTED, FIRST, Run
from vesalius.engine.tiles import ArraySource, Cut, pieces
from vesalius.engine.workflow import train
from vesalius.export.answering import Answerer, answer
from vesalius.export.correcting import correcting
from vesalius.export.exporting import export
from vesalius.export.model import FILE, WEIGHTS, Model
from vesalius.export.numbers import halves, singles
from vesalius.export.streaming import Wanted, stream
from vesalius.io import load

PLAIN = """
import sys
sys.modules.update(dict.fromkeys(("torch", "scipy", "typer", "pydantic", "pydantic_core")))
from vesalius.export.answering import answer
(done,) = answer(sys.argv[1], sys.argv[2], sys.argv[3])
assert done.path is not None, done.problem
"""


class Linear(nn.Module):
    """A network whose every logit is a sum of its channels, some of which are log odds that it corrects."""

    def __init__(self, channels, made, *, prior):
        super().__init__()
        self.layer, self.prior = nn.Conv2d(channels + prior, made, 1), prior
        for k, weight in enumerate(self.parameters()):
            nn.init.normal_(weight, generator=torch.Generator().manual_seed(10 * prior + k))

    def forward(self, x):
        return self.layer(x)


def without_torch(net, *, kind="fp32"):
    """A network of numpy, in whose map channels lie together."""
    weight, bias = (one.detach().numpy() for one in (net.layer.weight[..., 0, 0], net.layer.bias))

    def ask(tiles):
        assert tiles.shape[1] == weight.shape[1] and tiles.dtype == np.float32
        made = np.ascontiguousarray(np.moveaxis(tiles, 1, -1)) @ weight.T + bias
        return np.moveaxis(halves(made) if kind == "bf16" else made, -1, 1)

    return ask


def tiles_of(channels, odds, *, seed=0):
    """Two tiles of 8 x 6 voxels with log odds from 0 to 12."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(0, 1, (2, channels, 8, 6)), random.uniform(0, 12, (2, odds, 8, 6))], 1).astype(np.float32)


@pytest.mark.parametrize("made", [2, 3])  # overlapping labels; two exclusive ones and the background
@pytest.mark.parametrize("priors", [(2,), (0, 2), (2, 0, 2), (0, 0)])
def test_each_network_is_shown_its_own_odds_as_with_torch(made, priors):
    nets, tiles = [Linear(2, made, prior=prior) for prior in priors], tiles_of(2, sum(priors))
    theirs = callables(nets, tiny_plan(["preparation.channels={\"image\":2}"], ndim=2), "cpu")
    ours, before = correcting([without_torch(net) for net in nets], 2, priors), tiles.copy()
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one(tiles), other(torch.from_numpy(tiles)).numpy(), atol=1e-5)
    np.testing.assert_array_equal(tiles, before)


def test_odds_are_added_to_logits_of_bf16_in_float32():
    net, tiles = Linear(1, 3, prior=2), tiles_of(1, 2)
    (one,) = correcting([without_torch(net, kind="bf16")], 1, [2])
    logits = singles(without_torch(net, kind="bf16")(np.concatenate([tiles[:, :1], tiles[:, 1:] / 3], 1)))
    wanted = logits + np.concatenate([np.zeros_like(tiles[:, :1]), tiles[:, 1:] - 6], 1)
    np.testing.assert_allclose(one(tiles), wanted, atol=1e-5)


@pytest.mark.parametrize("mirror", [False, True])
def test_tiles_are_air_where_neither_the_scan_nor_the_odds_say_anything(mirror):
    """As with torch: a tile that is passed over is background, one without a scan but with odds is not passed over."""
    plan = tiny_plan([f"predict.mirror={json.dumps(mirror)}", "predict.skip_air=true", "predict.batch=2"], ndim=2)
    volume, net = np.zeros((2, 40, 22), np.float32), Linear(1, 2, prior=1)
    volume[0, :10], volume[1, :10] = np.random.default_rng(0).normal(0, 3, (10, 22)), np.linspace(0, 12, 22)
    volume[1, 28:] = np.linspace(12, 0, 22)
    theirs = classes(callables([net], plan, "cpu"), volume, (40, 22), plan=plan, device="cpu")
    tiles = model_of(plan).tiles
    networks = correcting([without_torch(net)], 1, [1])
    ours = stream(networks, volume, Wanted((40, 22), True), tiling=tiles.tiling(mirrored=mirror))
    np.testing.assert_array_equal(ours, theirs)
    air = [index for piece in pieces(ArraySource(volume), Cut((40, 22), tiles.tiling())) for index in piece.air]
    assert air and 0 < ours[0, 28:].mean() < 1


def model_of(plan):
    """What an export says of tiles."""
    from vesalius.export.exporting import tiles_of as tiles

    steps = {"kind": "convolution", "takes": ["image"], "makes": "map", "weight": "w", "step": (1, 1), "pad": (0, 0)}
    return Model(print="", labels=plan.labels, preparation=plan.preparation, tiles=tiles(plan), number="fp32",
                 networks=({"ndim": 2, "channels": 1, "pooling": (1, 1), "steps": [steps]},))  # fmt: skip


def trained(folder, data, plan):
    """A run of a few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VESALIUS_HOME", str(folder / "home"))
        plan.save(folder / "plan.json")
        return train(data, folder / "run", plan_file=folder / "plan.json")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("correcting")
    return trained(folder, write_scans(folder / "scans", 7), tiny_plan(["net.prior=1"], steps=4))


@pytest.fixture
def asked(run):
    """`asked(names)`: the run with its networks of these names alone answering."""
    kept = read_json(run.path / "calibration.json")

    def ask(names, **more):
        write_json(run.path / "calibration.json", {**kept, "networks": names, **more})
        return Run(run.path)

    yield ask
    write_json(run.path / "calibration.json", kept)


def new_scans(folder):
    """Two that nobody has seen, one in a wide frame of zeros."""
    folder.mkdir()
    for k, frame in enumerate((0, 5)):
        pixels = np.pad(100 + 20 * ball(50 + k, side=15)[0].astype(np.float32), frame)
        nib.save(nib.Nifti1Image(pixels, np.diag([1, 1.1, 0.9, 1])), folder / f"new{k}.nii.gz")
    return folder


def same(one, other, *, name=""):
    """The least share of voxels with the same label in answers to both scans, which are neither empty nor full."""
    files = [f"new{k}/{name}" if name else f"new{k}.nii.gz" for k in (0, 1)]
    pairs = [(load(one / file).array, load(other / file).array) for file in files]
    assert all(0 < theirs.mean() < 1 for _, theirs in pairs)
    return min(float((ours == theirs).mean()) for ours, theirs in pairs)


@pytest.mark.parametrize("names", [[FIRST, CORRECTED], [CORRECTED], [FIRST]])
@pytest.mark.parametrize("mirror", [False, True])
def test_an_exported_model_answers_as_the_run_does(asked, names, mirror, tmp_path):
    again, scans = asked(names), new_scans(tmp_path / "scans")
    model = export(again, tmp_path / "model")
    predict(again, scans, tmp_path / "theirs", options=Options(settings=(f"predict.mirror={json.dumps(mirror)}",)))
    answer(tmp_path / "model", scans, tmp_path / "ours", mirror=mirror)
    assert same(tmp_path / "ours", tmp_path / "theirs") >= 0.999
    assert model.odds == [int(name == CORRECTED) for name in names] and model.compared["fp32_difference"] < 1e-3
    assert ("priors" in read_json(tmp_path / "model" / FILE)) == (CORRECTED in names), "without baselines a model is written as before"


def test_outlines_that_are_nowhere_certain_go_as_in_the_run(asked, tmp_path):
    again, scans = asked([FIRST, CORRECTED], outlines={"ball": {"log_odds": 2.0}}), new_scans(tmp_path / "scans")
    assert export(again, tmp_path / "model").levels
    predict(again, scans, tmp_path / "theirs")
    answer(tmp_path / "model", scans, tmp_path / "ours")
    assert same(tmp_path / "ours", tmp_path / "theirs") >= 0.999


def test_without_torch_and_scipy_it_answers_too(run, tmp_path):
    scans = new_scans(tmp_path / "scans")
    (scans / "new1.nii.gz").unlink()
    export(run, tmp_path / "model")
    answer(tmp_path / "model", scans, tmp_path / "here")
    for kernels in ("", "off"):
        env, there = {**os.environ, **({"VESALIUS_KERNELS": kernels} if kernels else {})}, tmp_path / f"there{kernels}"
        told = subprocess.run([sys.executable, "-c", PLAIN, tmp_path / "model", scans, there], env=env, capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        here, found = (load(folder / "new0.nii.gz").array for folder in (tmp_path / "here", there))
        assert (here == found).mean() >= 0.999 and 0 < found.mean() < 1


def test_what_the_network_was_shown_decides(run, tmp_path):
    """The baseline is heard: with another one labels are others."""
    export(run, tmp_path / "model")
    tree = read_json(tmp_path / "model" / FILE)
    k = next(k for k, prior in enumerate(tree["priors"]) if prior)
    answer(tmp_path / "model", new_scans(tmp_path / "scans"), tmp_path / "before")
    tree["priors"][k]["coefficients"] = np.negative(tree["priors"][k]["coefficients"]).tolist()
    write_json(tmp_path / "model" / FILE, tree)
    answer(tmp_path / "model", tmp_path / "scans", tmp_path / "after")
    pairs = [[load(tmp_path / which / f"new{n}.nii.gz").array for which in ("before", "after")] for n in (0, 1)]
    assert min(float((one != other).mean()) for one, other in pairs) > 0.01


def spoilt(prior, **changes):
    return {**prior, **changes}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda priors: priors[:1], "1 baselines for 2 networks"),
        (lambda priors: priors[::-1], "do not suit each other"),
        (lambda priors: [None, None], "do not suit each other"),
        (lambda priors: [None, {}], "is not whole"),
        (lambda priors: [None, spoilt(priors[1], centre=priors[1]["centre"][1:])], "not of 1 channels, 3 axes and 1 labels"),
        (lambda priors: [None, spoilt(priors[1], centre=[None, *priors[1]["centre"][1:]])], "finite numbers"),
        (lambda priors: [None, spoilt(priors[1], spread="wide")], "is not whole"),
        (lambda priors: [None, spoilt(priors[1], atlas=priors[1]["atlas"] * 2)], "1 labels"),
        (lambda priors: [None, "a baseline"], "expected values by their names"),
    ],
)
def test_baselines_that_do_not_belong_to_the_networks_are_refused(asked, spoil, says, tmp_path):
    export(asked([FIRST, CORRECTED]), tmp_path / "model")
    tree = read_json(tmp_path / "model" / FILE)
    write_json(tmp_path / "model" / FILE, {**tree, "priors": spoil(tree["priors"])})
    with pytest.raises(VesaliusError, match=says) as told:
        Answerer.load(tmp_path / "model")
    assert "Export the model again" in str(told.value)


def test_a_model_without_that_field_still_loads(asked, tmp_path):
    export(asked([FIRST]), tmp_path / "model")
    assert "priors" not in read_json(tmp_path / "model" / FILE) and (tmp_path / "model" / WEIGHTS).exists()
    ask = Answerer.load(tmp_path / "model")
    image = np.zeros((1, 4, 4, 4), np.float32)
    assert ask.model.baselines == [None] and ask.model.shown(image) is image


def with_bottoms(folder):
    """Scans whose masks have a second value below the ball, as labels of which one holds the other."""
    found = write_scans(folder, 7)
    for path in (folder / "masks").glob("*.nii.gz"):
        mask = np.asarray(nib.load(path).dataobj).astype(np.uint8)
        mask[:, :, 11:][mask[:, :, 11:] == 0] = 2
        nib.save(nib.Nifti1Image(mask, np.eye(4)), path)
    return replace(found, labels=Labels(names=("ball", "all"), values=((1,), (1, 2)), kind="regions"))


def test_labels_that_overlap(tmp_path):
    """Two of them: the odds of both are shown, and no logit is the background's."""
    data = with_bottoms(tmp_path / "data")
    run = trained(tmp_path, data, tiny_plan(["net.prior=2"], steps=4, labels=data.labels))
    write_json(run.path / "calibration.json", {**read_json(run.path / "calibration.json"), "networks": [FIRST, CORRECTED]})
    run, scans = Run(run.path), new_scans(tmp_path / "scans")
    model = export(run, tmp_path / "model")
    assert model.odds == [0, 2] and not model.labels.exclusive
    predict(run, scans, tmp_path / "theirs", options=Options(apart=True))
    answer(tmp_path / "model", scans, tmp_path / "ours", options=Options(apart=True))
    for name in ("ball", "all"):
        assert same(tmp_path / "ours", tmp_path / "theirs", name=f"{name}.nii.gz") >= 0.999
