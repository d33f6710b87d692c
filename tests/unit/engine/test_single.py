"""Of which labels the largest outline alone is kept: asked of labels in one piece, set where it helps, applied to what is said."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from vesalius.core.files import read_json, write_json
from vesalius.data.labels import IGNORE, Labels
from vesalius.engine import certain
from vesalius.engine.certain import Outline
from vesalius.engine.extras import largest, levels_of, single_of
from vesalius.engine.run import CALIBRATION
from vesalius.engine.single import gained, in_one_piece, settle_single

LABELS = Labels(names=("organ", "spots"), values=((1,), (2,)))


def target(spots=2, organ=True):
    out = np.zeros((1, 20, 20), np.uint8)
    out[0, 1:9, 1:9] = organ
    for k in range(spots):
        out[0, 12:14, 3 * k : 3 * k + 2] = 2
    out[0, 19] = IGNORE
    return out


def test_only_labels_in_one_piece_are_asked_about():
    assert in_one_piece([target(), target(1)], LABELS) == ["organ"]
    assert in_one_piece([target(1), target(0, organ=False)], LABELS) == ["organ", "spots"]
    assert in_one_piece([target(0), target(0)], LABELS) == ["organ"], "a label that no case shows"
    speck = target(1)
    speck[0, 0, 19] = 1  # one voxel of 65 is more than a hundredth
    assert in_one_piece([target(1), speck], LABELS) == ["spots"]


def test_the_largest_outline_alone_is_kept():
    said = target(3)
    said[0, 15:17, 15:17] = 1
    left = largest(said, ["organ"], labels=LABELS)
    assert ndimage.label(left[0] == 1)[1] == 1 and (left == 1).sum() == 64 and ((left == 2) == (said == 2)).all()
    assert ndimage.label(largest(said, ["spots"], labels=LABELS)[0] == 2)[1] == 1
    assert np.array_equal(largest(np.zeros_like(said), ["organ"], labels=LABELS), np.zeros_like(said))
    regions = Labels(names=("whole", "core"), values=((1, 2), (2,)), kind="regions")
    both = np.concatenate([said == 1, said == 2]).astype(np.uint8)
    assert largest(both, ["whole"], labels=regions).sum((1, 2)).tolist() == [64, 12]


def rows(*cases):
    """(size, right) of each outline of a case, and the voxels of its truth."""
    return [([Outline(200, size, right) for size, right in parts], true) for parts, true in cases]


def test_it_is_set_where_specks_are_wrong_and_not_where_parts_are_right():
    specks = ([(100, 90), (10, 0)], 100)
    found = gained(rows(*[specks] * 5))
    assert found == {"dice": pytest.approx(180 / 200), "dice_without": pytest.approx(180 / 210, abs=1e-4), "cases": 5}
    assert gained(rows(*[([(60, 50), (40, 40)], 100)] * 5)) is None, "the second outline is right"
    assert gained(rows(*[([(100, 90)], 100)] * 5)) is None, "nothing changes"
    assert gained(rows(*[specks] * 3)) is None, "three cases"
    one = rows(*[([(100, 90)], 100)] * 9, ([(100, 90), (100, 90)], 180), specks)
    assert gained(one) is None, "what one case gains another loses"


def run_of(folder):
    """What the question needs of a run: one member with five validation cases."""
    names = [f"c{k}" for k in range(5)]
    return SimpleNamespace(path=folder, members=[folder], splits={"folds": [{"val": names}]}, trained=lambda members: members,
                           plan=SimpleNamespace(labels=LABELS)), {n: SimpleNamespace(target=target()) for n in names}  # fmt: skip


def test_what_was_set_is_kept_with_what_was_there_and_taken_back(tmp_path, monkeypatch):
    """A faint outline of the organ, which its level leaves out already, counts no more."""
    run, stored = run_of(tmp_path)
    organ = [Outline(250, 100, 90), Outline(250, 10, 0), Outline(140, 50, 0)]
    said = {"organ": (organ, 100), "spots": ([], 0)}
    monkeypatch.setattr(certain, "looked", lambda run, member, cases: [said] * len(cases))
    write_json(tmp_path / CALIBRATION, {"version": 1, "outlines": {"organ": {"log_odds": 2.0}}})
    asked = []
    found = settle_single(run, stored, tick=lambda *words: asked.append(words))
    assert list(found) == ["organ"] and found["organ"]["dice_without"] == pytest.approx(180 / 210, abs=1e-4) and len(asked) == 5
    assert single_of(run) == ["organ"] and "outlines" in read_json(tmp_path / CALIBRATION)
    said["organ"] = ([Outline(250, 100, 90)], 100)
    assert settle_single(run, stored, tick=lambda *_: None) == {} and single_of(run) == []


def test_with_few_cases_or_labels_in_pieces_nobody_is_asked(tmp_path, monkeypatch):
    run, stored = run_of(tmp_path)
    monkeypatch.setattr(certain, "looked", None)
    assert settle_single(run, dict(list(stored.items())[:3]), tick=lambda *_: None) == {}
    torn = target()
    torn[0, 15, 1:9] = 1
    assert settle_single(run, {name: SimpleNamespace(target=torn) for name in stored}, tick=lambda *_: None) == {}
    assert not (tmp_path / CALIBRATION).exists()


def folds_of(folder, said):
    """Three folds of four validation cases each; `said` gives the outlines of the organ by fold."""
    names = [[f"f{k}c{n}" for n in range(4)] for k in range(3)]
    run = SimpleNamespace(path=folder, members=[folder / str(k) for k in range(3)], splits={"folds": [{"val": some} for some in names]},
                          trained=lambda members: members, plan=SimpleNamespace(labels=LABELS))  # fmt: skip
    look = lambda run, member, cases: [{"organ": (said[int(member.name)], 100), "spots": ([], 0)}] * len(cases)  # noqa: E731
    return run, {n: SimpleNamespace(target=target()) for some in names for n in some}, look


def test_no_validation_case_is_judged_by_rules_that_it_helped_to_set(tmp_path, monkeypatch):
    """Fold 0 alone draws a faint wrong outline and a certain wrong speck: it moves what answers later, not what judges itself."""
    right = [Outline(250, 100, 90)]
    run, stored, look = folds_of(tmp_path, [[*right, Outline(140, 50, 0), Outline(250, 10, 0)], right, right])
    monkeypatch.setattr(certain, "looked", look)
    (tmp_path / "fingerprint.json").write_text('{"cases": 12, "classes": {"organ": {"cases": 11}, "spots": {"cases": 12}}}')
    certain.settle(run, stored, tick=lambda *_: None)
    settle_single(run, stored, tick=lambda *_: None)
    assert levels_of(run)["organ"] > 140 and single_of(run) == ["organ"]
    assert levels_of(run, 0) == {} and single_of(run, 0) == [], "the others draw nothing wrong"
    assert levels_of(run, 1) == levels_of(run, 2) == levels_of(run) and single_of(run, 1) == ["organ"], "fold 0 is among the others"
    before = read_json(tmp_path / CALIBRATION)
    settle_single(run, stored, tick=lambda *_: None)
    assert read_json(tmp_path / CALIBRATION) == before
