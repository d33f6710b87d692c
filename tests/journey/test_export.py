"""A run, exported, answers in a process that has neither torch nor anything else but numpy and our kernels: as the run itself does."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image as Picture

from tests.unit.engine.test_whole import plan_of as plan_of_cases
from tests.unit.engine.tiny import LABELS, ball, tiny_dataset, tiny_plan, write_run
from tests.unit.io.dicom_maker import slices, write_series
from vesalius.cli.main import main
from vesalius.core.files import write_json
from vesalius.core.space import Space
from vesalius.data.labels import Labels
from vesalius.engine.answered import Options
from vesalius.engine.predict import predict
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.state import save_weights
from vesalius.export.exporting import keep
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.plan.search import build

BLOCKED = ("torch", "scipy", "typer", "rich", "click", "nibabel", "pydicom", "PIL", "jinja2", "pylibjpeg", "gdcm", "contourpy", "pydantic",
           "pydantic_core")  # fmt: skip
CODE = f"import sys\nsys.modules.update(dict.fromkeys({BLOCKED!r}))\nfrom vesalius.cli.main import main\nsys.exit(main(sys.argv[1:]))"
SIDE, PATCH = 22, 16
REGIONS = Labels(names=("whole", "core"), values=((1, 2), (2,)), kind="regions")
SETTINGS = (f"patch.size={[PATCH] * 3}", "preparation.order=1", "net.channels=[16,32]", "train.precision=bf16", "predict.batch=2")
FLAT = (f"patch.size={[PATCH] * 2}", "net.channels=[16,32]")


def pixels_of(seed, ndim):
    """A ball in noise as a network sees it, and its classes or regions: (1, *S), (K, *S)."""
    pixels, mask = ball(seed, side=SIDE, ndim=ndim)
    core = mask & (np.roll(mask, SIDE // 8, 0))
    made = (pixels + 1.5 * core * (ndim == 2) - pixels.mean()) / pixels.std()
    return made[None].astype(np.float32), np.stack([mask, core] if ndim == 2 else [~mask, mask]).astype(np.float32)


def learn(net, ndim, *, seed, steps=30):
    """Enough to tell the ball from the noise: by the signs of gradients, for which no optimiser has to be imported."""
    cases = [pixels_of(seed + k, ndim) for k in range(4)]
    image, truth = (torch.from_numpy(np.stack([case[k] for case in cases])) for k in (0, 1))
    for step in range(steps):
        at = (..., *(slice(start, start + PATCH) for start in np.random.default_rng(step).integers(0, SIDE - PATCH + 1, ndim)))
        made = net(image[at])
        logits = made[0] if isinstance(made, list | tuple) else made
        loss = F.cross_entropy(logits, truth[at]) if ndim == 3 else F.binary_cross_entropy_with_logits(logits, truth[at])
        slopes = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
        with torch.no_grad():
            for weight, slope in zip(net.parameters(), slopes, strict=True):
                weight -= 0.01 * (1 - step / steps) * (0 if slope is None else slope.sign())
    return net.eval()


def learned(folder, ndim, plan):
    """A run of that plan, whose networks know what the ball is."""
    names = [case.name for case in tiny_dataset().cases]
    run = write_run(folder, tiny_dataset(), plan, folds=[(names, names)] * plan.folds)
    for seed, member in enumerate(run.members):
        net = build(plan.net, 1, run.task.out_channels(plan.labels), seed=seed).train()
        save_weights(member / "weights.safetensors", learn(net, ndim, seed=10 * seed).state_dict(), {"final": True})
    return run


def scan_of(path, seed, ndim):
    """The same, in other numbers and on a coarser, oblique grid."""
    pixels, _ = pixels_of(100 + seed, ndim)
    space = Space.of(pixels.shape[1:], physical=False)
    if ndim == 3:
        space = Space(pixels.shape[1:], np.array([[0, -1.1, 0, 20], [0.1, 0, 1.0, -30], [1.2, 0, 0, 7], [0, 0, 0, 1.0]]))
    path.parent.mkdir(parents=True, exist_ok=True)
    save(Image(100 + 20 * pixels, space), path)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """{"3D": ..., "2D": ...}: folders with a run, its model and scans. The first has two networks; the second labels that overlap, one of
    which must be certain, one stand alone."""
    made = {"3D": tmp_path_factory.mktemp("solid"), "2D": tmp_path_factory.mktemp("flat")}
    learned(made["3D"] / "run", 3, tiny_plan((*SETTINGS, "folds=2")))
    flat = learned(made["2D"] / "run", 2, tiny_plan(FLAT, ndim=2, labels=REGIONS))
    write_json(flat.path / "calibration.json", {"version": 1, "outlines": {"whole": {"log_odds": 2.0}}, "single": {"core": {}}})
    for kind, ending in (("3D", ".nii.gz"), ("2D", ".nrrd")):
        folder = made[kind]
        assert main(["export", str(folder / "run"), "-o", str(folder / "model"), "--json"]) == 0
        for seed in range(3):
            scan_of(folder / "in" / f"c{seed}{ending}", seed, int(kind[0]))
        predict(folder / "run", folder / "in", folder / "predicted", options=Options(probabilities=True, apart=True))
    return made


def answer(*words, code=0, kernels="", command="answer"):
    """`vesalius answer`, or another command, where there is nothing else: (stdout, stderr)."""
    done = subprocess.run([sys.executable, "-c", CODE, command, *map(str, words)], capture_output=True, text=True,
                          env={**os.environ, **({"VESALIUS_KERNELS": kernels} if kernels else {})})  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def rows(folder, name="predictions.json"):
    return json.loads((folder / name).read_text())["cases"]


def assert_alike(here, there):
    """Answers and all that stands beside them: 999 of 1000 voxels, volumes to a hundredth, and probabilities as near as logits of bf16."""
    files = sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    for file in files:
        if file.suffix == ".npy":
            one, two = np.load(here / file), np.load(there / file)
            assert one.dtype == two.dtype == np.float16 and one.shape == two.shape
            apart = np.abs(one.astype(np.float32) - two)
            assert apart.max() < 0.05 and apart.mean() < 2e-3 and two.astype(np.float32).std() > 0.05
        elif file.suffix != ".json":
            one, two = load(here / file), load(there / file)
            assert one.space.same_as(two.space) and one.array.dtype == two.array.dtype
            assert (one.array == two.array).mean() >= 0.999 and 0 < (two.array > 0).mean() < 0.5
    said, meant = (json.loads((folder / "predictions.json").read_text()) for folder in (here, there))
    assert said.keys() == meant.keys() and said["labels"] == meant["labels"]
    for one, two in zip(said["cases"], meant["cases"], strict=True):
        assert one.keys() == two.keys() and (one["case"], one["file"], one["problem"]) == (two["case"], two["file"], two["problem"])
        assert one["volumes"] == pytest.approx(two["volumes"], rel=0.01) and all(one["volumes"].values())


@pytest.mark.parametrize("kind", ["3D", "2D"])
def test_answers_are_those_of_the_run(kinds, tmp_path, kind):
    folder = kinds[kind]
    out, told = answer(folder / "model", folder / "in", "-o", tmp_path / "out", "--apart", "--probabilities")
    assert_alike(tmp_path / "out", folder / "predicted")
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["c0", "c1", "c2"] and "answering" in told
    named = Run.open(folder / "run").plan.labels.names
    assert all(name in out for name in named)
    ending = ".nii.gz" if kind == "3D" else ".nrrd"
    assert {path.name for path in (tmp_path / "out" / "c0").iterdir()} == {f"{name}{ending}" for name in named}


@pytest.mark.parametrize("kind", ["3D", "2D"])
def test_the_run_itself_answers_without_torch(kinds, tmp_path, kind):
    shutil.copytree(kinds[kind] / "run", tmp_path / "run")
    _, told = answer(tmp_path / "run", kinds[kind] / "in", "-o", tmp_path / "out", code=1, command="predict")
    assert "vesalius predict needs torch, which this installation lacks" in told
    assert keep(Run.open(tmp_path / "run"), Listener())
    answer(tmp_path / "run", kinds[kind] / "in", "-o", tmp_path / "out", "--apart", "--probabilities", command="predict")
    assert_alike(tmp_path / "out", kinds[kind] / "predicted")
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["model"] == str(tmp_path / "run")


def test_a_model_in_place_of_a_run_is_told_without_torch_too(kinds, tmp_path):
    model = kinds["3D"] / "model"
    _, told = answer(model, kinds["3D"] / "in", "-o", tmp_path / "out", code=1, command="predict")
    assert f"{model} is an exported model, which answers scans: vesalius answer {model} SCANS" in told
    _, told = answer(tmp_path, kinds["3D"] / "in", "-o", tmp_path / "out", code=1, command="predict")
    assert f"{tmp_path} is not a run: it has no plan.json" in told


def test_without_kernels_too(kinds, tmp_path):
    answer(kinds["2D"] / "model", kinds["2D"] / "in", "-o", tmp_path / "out", "--apart", "--probabilities", kernels="off")
    assert_alike(tmp_path / "out", kinds["2D"] / "predicted")
    answer(kinds["3D"] / "model", kinds["3D"] / "in" / "c1.nii.gz", "-o", tmp_path / "solid", kernels="off")
    one, two = (load(folder / "c1.nii.gz").array for folder in (tmp_path / "solid", kinds["3D"] / "predicted"))
    assert (one == two).mean() >= 0.999


def test_mirrored_passes_count_as_in_the_run(kinds, tmp_path):
    folder = kinds["3D"]
    scan = folder / "in" / "c0.nii.gz"
    predict(folder / "run", scan, tmp_path / "there", options=Options(settings=("predict.mirror=true",)))
    answer("--mirror", folder / "model", "-o", tmp_path / "here", scan)
    assert_alike(tmp_path / "here", tmp_path / "there")


def test_a_series_of_dicom(kinds, tmp_path):
    made, _, _ = slices(SIDE, shape=(SIDE, SIDE), spacing=(1.0, 1.0), step=(0, 0, 1.0))
    pixels, _ = pixels_of(200, 3)
    for k, data in enumerate(made):
        data.PixelData = np.rint(1000 + 100 * pixels[0, :, :, k]).astype(np.uint16).tobytes()
    write_series(tmp_path / "series", made)
    predict(kinds["3D"] / "run", tmp_path / "series", tmp_path / "there")
    answer(kinds["3D"] / "model", tmp_path / "series", "-o", tmp_path / "here")
    assert_alike(tmp_path / "here", tmp_path / "there")
    assert [row["file"] for row in rows(tmp_path / "here")] == ["series.nii.gz"]


def test_json_is_the_answer_alone_and_one_case_goes_by_channels(kinds, tmp_path):
    scan = kinds["3D"] / "in" / "c1.nii.gz"
    out, _ = answer(kinds["3D"] / "model", "--image", f"image={scan}", "-o", tmp_path, "--json")
    (row,) = json.loads(out)["cases"]
    assert row["case"] == "c1" and row["file"] == str(tmp_path / "c1.nii.gz") and row["problem"] is None
    assert row["volumes"]["ball"] == pytest.approx(rows(kinds["3D"] / "predicted")[1]["volumes"]["ball"], rel=0.01)
    _, told = answer(kinds["3D"] / "model", "--image", f"imgae={scan}", "-o", tmp_path, code=2)
    assert "Unknown channel 'imgae'. Did you mean image?" in told


def test_what_is_answered_is_left_alone_unless_overwrite_says_otherwise(kinds, tmp_path):
    folder, out = kinds["3D"], tmp_path / "out"
    out.mkdir()
    (out / "c0.nii.gz").write_bytes(b"mine")
    said, _ = answer(folder / "model", folder / "in", "-o", out)
    assert (out / "c0.nii.gz").read_bytes() == b"mine" and "there already" in said
    assert [row["volumes"] is None for row in rows(out)] == [True, False, False]
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    answer(folder / "model", folder / "in", "-o", out)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")} == before
    answer(folder / "model", folder / "in", "-o", out, "--overwrite")
    shutil.copytree(folder / "predicted", tmp_path / "there",
                    ignore=lambda at, names: [n for n in names if "." not in n or n.endswith(".npy")])  # fmt: skip
    assert_alike(out, tmp_path / "there")


def test_probabilities_are_no_answer(kinds, tmp_path):
    """Those of a process that was killed between them and its answer, and what it left of a file, are made again."""
    folder, out = kinds["2D"], tmp_path / "out"
    out.mkdir()
    for name in ("c0_probabilities.npy", ".1.native.c1_probabilities.npy", ".1..1.native.c1_probabilities.npy"):
        (out / name).write_bytes(b"left")
    answer(folder / "model", folder / "in", "-o", out, "--probabilities")
    assert len(list(out.glob("*.nrrd"))) == 3 and all(row["volumes"] for row in rows(out))
    made = [np.load(out / f"c{k}_probabilities.npy") for k in range(3)]
    answer(folder / "model", folder / "in", "-o", out)
    assert [row["volumes"] for row in rows(out)] == [None] * 3
    for k, one in enumerate(made):
        said = load(out / f"c{k}.nrrd")
        assert one.shape == (2, *said.space.shape) and 0 < (one[0] > 0.5).mean() < 0.5


def test_parts_share_the_cases(kinds, tmp_path):
    folder = kinds["2D"]
    for part in (0, 1):
        answer(folder / "model", folder / "in", "-o", tmp_path, "--num-parts", 2, "--part-id", part)
    mine = [{row["case"] for row in rows(tmp_path, f"predictions-{part}.json")} for part in (0, 1)]
    assert mine[0] | mine[1] == {"c0", "c1", "c2"} and not mine[0] & mine[1] and not (tmp_path / "predictions.json").exists()
    assert len(list(tmp_path.glob("*.nrrd"))) == 3
    _, told = answer(folder / "model", folder / "in", "-o", tmp_path, "--num-parts", 2, "--part-id", 2, code=2)
    assert "part id from 0 to 1" in told


def test_a_scan_that_cannot_be_read_stops_the_work_or_is_listed(kinds, tmp_path):
    folder = kinds["3D"]
    shutil.copytree(folder / "in", tmp_path / "in")
    data = (tmp_path / "in" / "c1.nii.gz").read_bytes()
    (tmp_path / "in" / "c1.nii.gz").write_bytes(data[: len(data) // 2])
    _, told = answer(folder / "model", tmp_path / "in", "-o", tmp_path / "out", code=1)
    assert "c1.nii.gz" in told and "Traceback" not in told and not (tmp_path / "out" / "predictions.json").exists()
    out, told = answer(folder / "model", tmp_path / "in", "-o", tmp_path / "out", "--skip-bad", code=1)
    assert "1 of 3 cases could not be answered" in told and "c1.nii.gz" in out
    assert [bool(row["problem"]) for row in rows(tmp_path / "out")] == [False, True, False]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["c0.nii.gz", "c2.nii.gz"]


def test_scans_of_other_axes_and_answers_in_place_of_scans_are_refused(kinds, tmp_path):
    _, told = answer(kinds["2D"] / "model", kinds["3D"] / "in", "-o", tmp_path / "out", code=1)
    assert "has 3 dimensions; the model was trained on 2" in told
    _, told = answer(kinds["3D"] / "model", kinds["3D"] / "in", "-o", kinds["3D"] / "in", code=2)
    assert "would take the place of the scan" in told


def test_a_kind_of_file_that_needs_more_says_what_to_install(kinds, tmp_path):
    Picture.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.jpg")
    _, told = answer(kinds["2D"] / "model", tmp_path / "a.jpg", "-o", tmp_path / "out", code=1)
    assert "pip install 'vesalius[files]'" in told and "Traceback" not in told


def refused(capsys, *words):
    code = main([*map(str, words)])
    assert code == 1
    return capsys.readouterr().err


def test_a_run_that_is_not_of_voxels_cannot_be_exported(tmp_path, capsys):
    write_run(tmp_path / "run", tiny_dataset(), plan_of_cases())
    told = refused(capsys, "export", tmp_path / "run", "-o", tmp_path / "model")
    assert f"{tmp_path / 'run'} does not answer voxel by voxel (task classify)" in told and "vesalius predict" in told
    assert not (tmp_path / "model").exists()


def test_a_run_without_weights_and_a_folder_in_use_are_refused(kinds, tmp_path, capsys):
    write_run(tmp_path / "run", tiny_dataset(), tiny_plan(labels=LABELS))
    assert "has no weights yet" in refused(capsys, "export", tmp_path / "run", "-o", tmp_path / "model")
    assert "is not a run" in refused(capsys, "export", tmp_path / "nothing", "-o", tmp_path / "model")
    told = refused(capsys, "export", kinds["2D"] / "run", "-o", kinds["2D"] / "model")
    assert "is not empty. Choose another folder, or --overwrite." in told
    assert main(["export", str(kinds["2D"] / "run"), "-o", str(kinds["2D"] / "model"), "--overwrite"]) == 0
    said = capsys.readouterr().out
    assert "1 network, labels whole=1+2, core=2" in said and "vesalius answer" in said


def test_a_run_given_to_answer_says_what_to_do(kinds, tmp_path):
    _, told = answer(kinds["3D"] / "run", kinds["3D"] / "in", "-o", tmp_path / "out", code=1)
    assert f"It is a run: export it first (vesalius export {kinds['3D'] / 'run'} -o MODEL), or answer with vesalius predict." in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [("predict", "SCANS"), ("evaluate",), ("report",), ("export",), ("explain", "SCANS", "-o", "a.png")])
def test_a_model_given_to_what_wants_a_run_says_what_to_do(kinds, tmp_path, capsys, words):
    model = kinds["3D"] / "model"
    given = [kinds["3D"] / "in" / "c0.nii.gz" if word == "SCANS" else word for word in words[1:]]
    told = refused(capsys, words[0], model, *given)
    assert f"{model} is an exported model, which answers scans: vesalius answer {model} SCANS" in told


def test_the_model_is_small_and_says_where_it_is_from(kinds):
    model = json.loads((kinds["3D"] / "model" / "model.json").read_text())
    assert model["record"]["run"] == "run" and len(model["networks"]) == 2
    assert sorted(path.name for path in (kinds["3D"] / "model").iterdir()) == ["model.json", "weights.safetensors"]
    assert model["compared"]["fp32_same_labels"] >= 0.999 and model["compared"]["fp32_difference"] < 1e-3
