"""Scores worked out by hand: on the scan's own grid, per case, rater and fold, with the baseline beside them."""

import json
import threading
from contextlib import nullcontext
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from tests.unit.engine.tiny import LABELS, Threshold, answering, tiny_plan, write_run
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.engine.evaluate import ahead, evaluate, evaluate_files
from vesalius.engine.progress import Listener

SPACING = (1.0, 2.0, 0.5)
SHAPE = (10, 8, 12)


def block(*box):
    """A mask that is True in `box`."""
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*side) for side in box)] = True
    return mask


SAID = block((2, 6), (2, 6), (2, 8))  # 96 voxels: what the network answers
TRUTH = block((3, 7), (2, 6), (2, 8))  # 96 voxels, of which 72 are in both
SECOND = block((2, 6), (2, 6), (2, 6))  # 64 voxels, all of them in the answer


def case(folder, name, *, said=SAID, masks=(TRUTH,), patient="", **metadata):
    """A scan on which the network answers `said`, with one mask per rater, on a flipped grid."""
    affine = np.diag([-SPACING[0], SPACING[1], -SPACING[2], 1.0])
    paths = {f"rater{k}": folder / f"{name}_mask{k}.nii.gz" for k in range(len(masks))}
    pixels = np.where(said, 110.0, 90.0) + np.random.default_rng(0).normal(0, 0.5, SHAPE)
    nib.save(nib.Nifti1Image(pixels.astype(np.float32), affine), folder / f"{name}.nii.gz")
    for path, mask in zip(paths.values(), masks, strict=True):
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
    return Case(name, patient or name, {"image": folder / f"{name}.nii.gz"}, paths, metadata=metadata)


def run_of(tmp_path, cases, *, test=(), folds=None, labels=LABELS):
    plan = tiny_plan([f"folds={len(folds or [1])}"], labels=labels)
    how = replace(plan.preparation, spacing=SPACING)  # the scans' own, so that the unit is mm
    dataset = Dataset("made", tmp_path, "segment", tuple(cases), ("image",), labels)
    (tmp_path / "run").mkdir()
    return write_run(tmp_path / "run", dataset, plan.model_copy(update={"preparation": how}), folds=folds, test=test)


def test_a_case_by_hand(tmp_path, monkeypatch):
    run = run_of(tmp_path, [case(tmp_path, "a"), case(tmp_path, "b")], test=["a"], folds=[(["b"], [])])
    found = evaluate(answering(run, monkeypatch, [Threshold()]))
    (row,) = found["parts"]["test"]["model"]["rows"]
    voxel = 1.0 * 2.0 * 0.5
    assert (row["case"], row["label"], row["state"]) == ("a", "ball", "scored")
    assert row["dice"] == 2 * 72 / (96 + 96) and row["iou"] == 72 / 120
    assert row["sensitivity"] == row["precision"] == 72 / 96
    assert (row["volume"], row["true_volume"], row["volume_error"]) == (96 * voxel, 96 * voxel, 0)
    assert row["hd95"] == 1.0  # the block is shifted by one voxel of 1 mm
    assert found["unit"] == "mm" and "dice" in found["definitions"] and list(found["parts"]) == ["test"]
    assert found["parts"]["test"]["baseline"] is None


def test_what_is_returned_is_what_is_kept(tmp_path, monkeypatch):
    run = run_of(tmp_path, [case(tmp_path, "a")])
    found = evaluate(answering(run, monkeypatch, [Threshold()]))
    assert json.loads((run.path / "metrics.json").read_text()) == json.loads(json.dumps(found))
    kept = nib.load(run.path / "predictions" / "val" / "a.nii.gz")
    assert np.array_equal(kept.get_fdata() > 0, SAID)
    np.testing.assert_allclose(kept.affine, nib.load(tmp_path / "a.nii.gz").affine)


def test_further_raters_are_scored_against_the_first(tmp_path, monkeypatch):
    run = run_of(tmp_path, [case(tmp_path, "a", masks=(SAID, SECOND, TRUTH))])
    scores = evaluate(answering(run, monkeypatch, [Threshold()]))["parts"]["val"]
    assert scores["model"]["rows"][0]["dice"] == 1
    assert {name: found["rows"][0]["dice"] for name, found in scores["raters"].items()} == {
        "rater1": 2 * 64 / (64 + 96), "rater2": 2 * 72 / (96 + 96)}  # fmt: skip


def test_the_baseline_stands_beside_the_model(tmp_path, monkeypatch):
    class Half:
        def predict(self, image):
            assert image.shape == (1, *SHAPE) and image.dtype == np.float32
            flipped = block((3, 7), (2, 6), (4, 8))[::-1, :, ::-1]  # the grid of the network is turned to RAS+
            return flipped[None].astype(np.uint8)

    run = run_of(tmp_path, [case(tmp_path, "a")])
    scores = evaluate(answering(run, monkeypatch, [Threshold()]), baseline=Half())["parts"]["val"]
    assert scores["baseline"]["rows"][0]["dice"] == 2 * 64 / (64 + 96)


def test_each_case_is_answered_by_the_fold_that_never_saw_it(tmp_path, monkeypatch):
    cases = [case(tmp_path, name) for name in "abc"]
    run = run_of(tmp_path, cases, test=["c"], folds=[(["a"], ["b"]), (["b"], ["a"])])
    blind, seeing = Threshold(level=99), Threshold()
    answering(run, monkeypatch, [blind, seeing])
    parts = evaluate(run)["parts"]
    assert {row["case"]: row["state"] for row in parts["val"]["model"]["rows"]} == {"b": "missed", "a": "scored"}
    assert [row["case"] for row in parts["test"]["model"]["rows"]] == ["c"]
    assert parts["test"]["model"]["rows"][0]["state"] == "missed"  # the mean of -99 and of the other


def test_folds_that_have_not_learned_are_left_out(tmp_path, monkeypatch):
    """Ctrl-C in the first of two folds: the model so far is tested."""
    run = run_of(tmp_path, [case(tmp_path, name) for name in "abc"], test=["c"], folds=[(["a"], ["b"]), (["b"], ["a"])])
    answering(run, monkeypatch, [Threshold(), Threshold()])
    (run.members[1] / "weights.safetensors").unlink()
    parts = evaluate(run)["parts"]
    assert [row["case"] for row in parts["val"]["model"]["rows"]] == ["b"] and parts["test"]["model"]["rows"][0]["dice"] == 0.75
    (run.members[0] / "weights.safetensors").unlink()
    with pytest.raises(VesaliusError, match="no weights yet"):
        evaluate(run)


def test_labels_that_overlap_are_scored_one_by_one(tmp_path, monkeypatch):
    labels = Labels(names=("whole", "core"), values=((1, 2), (2,)), kind="regions")
    made = case(tmp_path, "a", masks=(TRUTH.astype(int) + (TRUTH & SECOND),))
    run = run_of(tmp_path, [made], labels=labels)
    rows = evaluate(answering(run, monkeypatch, [Threshold(2, exclusive=False)]))["parts"]["val"]["model"]["rows"]
    both = TRUTH & SECOND
    assert {row["label"]: row["dice"] for row in rows} == {"whole": 0.75, "core": 2 * both.sum() / (both.sum() + 96)}


def test_scores_are_summarised_by_metadata(tmp_path, monkeypatch):
    cases = [case(tmp_path, "a", sex="F"), case(tmp_path, "b", sex="M", masks=(SAID,)), case(tmp_path, "c", sex="M", masks=(SAID,))]
    run = answering(run_of(tmp_path, cases), monkeypatch, [Threshold()])
    groups = evaluate(run, by=["sex"])["parts"]["val"]["model"]["groups"]["sex"]
    assert {value: groups[value]["ball"]["dice"]["mean"] for value in groups} == {"F": 0.75, "M": 1.0}
    with pytest.raises(UsageError, match=r"Unknown word of the metadata 'sexx'\. Did you mean sex"):
        evaluate(run, by=["sexx"])


def test_masks_from_anywhere(tmp_path, monkeypatch):
    cases = [case(tmp_path, name) for name in ("a", "a.1")]
    run = answering(run_of(tmp_path, cases, test=["a", "a.1"]), monkeypatch, [Threshold()])
    folder = tmp_path / "answers"
    folder.mkdir()
    for name, mask in (("a", TRUTH), ("a.1", SAID)):
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), nib.load(tmp_path / "a.nii.gz").affine), folder / f"{name}.nii.gz")
    rows = evaluate_files(run, folder)["parts"]["test"]["model"]["rows"]
    assert {row["case"]: row["dice"] for row in rows} == {"a": 1.0, "a.1": 0.75}
    assert not (run.path / "metrics.json").exists()
    (folder / "a.nii.gz").unlink()
    with pytest.raises(VesaliusError, match="0 masks for the case a;"):
        evaluate_files(run, folder)


def test_another_truth(tmp_path, monkeypatch):
    run = answering(run_of(tmp_path, [case(tmp_path, "a")]), monkeypatch, [Threshold()])
    other = Dataset("other", tmp_path, "segment", (case(tmp_path, "x", masks=(SECOND,)),), ("image",), LABELS)
    rows = evaluate_files(run, None, other)["parts"]["test"]["model"]["rows"]
    assert [(row["case"], row["dice"]) for row in rows] == [("x", 2 * 64 / (64 + 96))]


def test_a_case_without_truth_and_a_part_without_cases_are_told(tmp_path, monkeypatch):
    bare = case(tmp_path, "a")
    run = answering(run_of(tmp_path, [Case("a", "a", bare.images)]), monkeypatch, [Threshold()])
    with pytest.raises(VesaliusError, match="a has no mask"):
        evaluate(run)
    with pytest.raises(VesaliusError, match="no case to score"):
        evaluate(run, parts=["test"])


def test_progress_is_told(tmp_path, monkeypatch):
    told = []

    class Noted(Listener):
        def stage(self, what):
            return nullcontext(lambda *words: told.append((what, *words)))

    run = run_of(tmp_path, [case(tmp_path, "a"), case(tmp_path, "b")], test=["a"], folds=[([], ["b"])])
    answering(run, monkeypatch, [Threshold()])
    evaluate(run, listener=Noted())
    assert told == [("testing on val", 1, 1, "b"), ("testing on test", 1, 1, "a")]


def test_the_next_case_is_read_while_this_one_is_worked_on():
    begun, second = [], threading.Event()

    def read_one(case):
        begun.append(case.name)
        if case.name == "b":
            second.set()
        return case

    cases = [Case(name, name, {}) for name in "abc"]
    for read in ahead(cases, read_one):
        if read.name == "a":
            assert second.wait(5)
            assert begun == ["a", "b"]
    assert begun == ["a", "b", "c"] and list(ahead([], lambda c: c)) == []
