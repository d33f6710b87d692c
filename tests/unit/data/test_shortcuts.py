"""What gives a class away without showing it: sources, margins, sites. Each is planted and must be found; without it nothing is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from vesalius.core.space import Space
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.doctor import _probe, draw, examine, looks
from vesalius.data.doctor._controls import MOST, WORDS, cramer
from vesalius.data.doctor._draw import veil
from vesalius.data.doctor._questions import questions, sampled
from vesalius.data.doctor._sources import ending, sources, telling
from vesalius.data.doctor.duplicates import Pair
from vesalius.data.labels import Labels
from vesalius.io import save
from vesalius.io.image import Image
from vesalius.metrics._answers import Answers
from vesalius.metrics._delong import delong, interval, macro_area
from vesalius.phantoms.chest_xray import SITES, generate
from vesalius.phantoms.chest_xray.film import burn

TWO = Labels(names=("well", "ill"), values=((0,), (1,)), kind="classes")
THREE = Labels(names=("a", "b", "c"), values=((0,), (1,), (2,)), kind="classes")


def made(folder, count=40, *, pixels=None, labels=TWO, where=lambda k, name: f"{k:02}.png", **words):
    """`count` pictures of noise, classes in turn; `pixels(k, kind, image)` gives what is written instead, `words` metadata by case."""
    cases = []
    for k in range(count):
        kind = k % len(labels.names)
        image = np.random.default_rng(k).integers(0, 200, (36, 36)).astype(np.uint8)
        image = image if pixels is None else pixels(k, kind, image)
        path = folder / where(k, labels.names[kind])
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image(image[None], Space.of(image.shape, physical=False)), path)
        metadata = {key: value(k, kind) for key, value in words.items()}
        cases.append(Case(f"c{k:02}", f"p{k:02}", {"image": path}, classes={labels.names[kind]: 1}, metadata=metadata))
    return Dataset("d", folder, "classify", tuple(cases), ("image",), labels)


def told(findings, check, severity="warning"):
    return [f for f in findings if (f.check, f.severity) == (check, severity)]


# -- the probe -----------------------------------------------------------------------------------------------------------


def test_areas_and_intervals_are_those_of_the_metrics():
    draw_ = np.random.default_rng(0)
    patients = draw_.integers(0, 25, 60)
    truth = draw_.integers(0, 3, 60)
    score = draw_.normal(size=(60, 3)) + np.eye(3)[truth]
    one = _probe.area(score[:, :1], (truth[:, None] == 0).astype(float), patients)
    expected = delong(score[:, 0], truth == 0, patients=patients)
    assert (one.auc, one.low, one.high) == pytest.approx((expected.area[0], *interval(expected)), abs=1e-12)
    whole = _probe.area(score, np.eye(3)[truth], np.unique(patients, return_inverse=True)[1])
    expected = macro_area(Answers(np.exp(score) / np.exp(score).sum(1, keepdims=True), truth, True, patients.astype(str), (0.5,)))
    macro = np.mean([delong(score[:, k], truth == k).area[0] for k in range(3)])
    assert whole.auc == pytest.approx(macro, abs=1e-12) and whole.low < whole.auc < whole.high


@pytest.mark.parametrize(("cases", "width"), [(40, 7), (20, 50)])
def test_what_is_left_out_is_answered_by_ridge_regression(monkeypatch, cases, width):
    draw_ = np.random.default_rng(1)
    x, y, fold = draw_.normal(size=(cases, width)), draw_.integers(0, 2, (cases, 2)).astype(float), np.arange(cases) % 4
    monkeypatch.setattr(_probe, "PENALTIES", np.array([3.0]))
    found = _probe.left_out(x, y, fold)
    for k in range(4):
        seen, left = x[fold != k], x[fold == k]
        weights = np.linalg.solve(seen.T @ seen + 3 * np.eye(width), seen.T @ (y[fold != k] - y[fold != k].mean(0)))
        assert found[fold == k] == pytest.approx(left @ weights - (left @ weights).mean(0), abs=1e-9)


def test_the_margin_sees_nothing_of_the_centre_and_the_centre_nothing_of_the_margin():
    thumbs = np.random.default_rng(2).integers(0, 255, (3, 2, 72, 72)).astype(np.uint8)
    other = thumbs.copy()
    other[..., 8:-8, 8:-8] = 255 - other[..., 8:-8, 8:-8]
    assert (_probe.cells(thumbs, "margin") == _probe.cells(other, "margin")).all()
    assert (_probe.cells(thumbs, "centre") != _probe.cells(other, "centre")).any()
    other = thumbs.copy()
    other[..., :8, :] = 3
    assert (_probe.cells(thumbs, "centre") == _probe.cells(other, "centre")).all()
    assert [_probe.inside(region).sum() for region in _probe.REGIONS] == [81, 32, 49]


def test_cases_of_one_patient_are_left_out_together_and_shuffled_together():
    owner, generator = np.repeat(np.arange(12), 3), np.random.default_rng(3)
    targets = np.repeat((np.arange(12) % 2)[:, None], 3, 0).astype(float)
    fold = _probe.folds(targets, owner, generator)
    assert all(len(set(fold[owner == k])) == 1 for k in range(12))
    assert all(abs(targets[fold == k].mean() - 0.5) < 0.34 for k in set(fold)), "classes are shared out evenly"
    dealt = _probe.shuffled(targets, owner, generator)
    assert all(len(set(dealt[owner == k, 0])) == 1 for k in range(12)) and dealt.sum() == targets.sum()


def test_what_is_not_there_is_not_found_and_unknown_findings_do_not_count():
    draw_ = np.random.default_rng(4)
    x, names = draw_.normal(size=(120, 30)), [str(k) for k in range(120)]
    y = draw_.integers(0, 2, (120, 2)).astype(float)
    x[:, 0] += 3 * y[:, 1]
    y[::3, 1] = np.nan
    found = _probe.probed(x, y, names)
    assert found.each[0].low < 0.5 < found.each[0].high and found.each[1].low > 0.7
    assert found.auc == pytest.approx((found.each[0].auc + found.each[1].auc) / 2)
    middle, low, high = found.chance
    assert low <= 0.5 <= high and abs(middle - 0.5) < 0.06


# -- sources --------------------------------------------------------------------------------------------------------------


def test_a_size_that_goes_with_the_class_is_told_with_figures(tmp_path):
    def cut(k, kind, image):
        return image[:30, :32] if kind == 1 or k == 0 else image[: 30 + k % 7]

    found = told(examine(made(tmp_path, pixels=cut), controls=False), "shortcut")
    assert [f.details["property"] for f in found] == ["size"]
    assert found[0].message == "The size tells the class: every 'ill' image is 30 x 32, 5% of the others are."


def test_files_that_are_compressed_otherwise_are_told(tmp_path):
    found = told(examine(made(tmp_path, pixels=lambda k, kind, image: image // 16 * 16 if kind else image), controls=False), "shortcut")
    assert [f.details["property"] for f in found] == ["number of bytes per pixel"]


def test_metadata_and_the_kind_of_numbers_are_told_but_not_other_words_for_the_class(tmp_path):
    def deep(k, kind, image):
        return image.astype(np.uint16) * 100 if kind else image

    data = made(tmp_path, pixels=deep, scanner=lambda k, kind: "AB"[kind], diagnosis=lambda k, kind: "xy"[kind], age=lambda k, kind: k % 3)
    found = {f.details["property"] for f in told(examine(data, controls=False), "shortcut")}
    assert {"metadata (scanner)", "kind of numbers"} <= found and not any("diagnosis" in name or "age" in name for name in found)


def test_folders_and_names_are_a_note_unless_they_are_the_class_itself(tmp_path):
    honest = made(tmp_path / "a", where=lambda k, name: f"{name}/{name}_{k}.png")
    assert not [f for f in examine(honest, controls=False) if f.check == "shortcut"]
    apart = made(tmp_path / "b", where=lambda k, name: f"archive/IM-{k}.png" if name == "ill" else f"clinic/scan-{k}.png")
    found = [f for f in examine(apart, controls=False) if f.check == "shortcut"]
    assert {(f.severity, f.details["property"]) for f in found} == {("note", "folder"), ("note", "beginning of the name")}
    assert "every 'ill' image is archive, no other is" in " ".join(f.message for f in found)


def test_an_ending_is_what_says_the_format():
    assert [ending(Path(name)) for name in ("a/1.2.840.DCM", "x.nii.gz", "s.npz#train/3", "IM0")] == [".dcm", ".nii.gz", ".npz", ""]


def test_a_value_of_one_patient_tells_nothing_of_others():
    patients = [f"p{k // 4}" for k in range(40)]
    target = (np.arange(40) // 4 % 2).astype(float)
    assert telling(patients, target, patients).share == 0.5, "each patient has a value of its own"
    assert telling([str(t) for t in target], target, patients).share == 1.0
    half = telling(["x" if k % 8 < 6 else "y" for k in range(40)], (np.arange(40) % 8 < 4).astype(float), [str(k) for k in range(40)])
    assert half.share == pytest.approx((1 + 0.5) / 2), "all of 4, and 2 of 4 of the others"


def test_findings_are_asked_for_one_by_one_and_copies_count_as_one_patient(tmp_path):
    data = replace(made(tmp_path, 24), labels=Labels(names=("fluid", "mass"), values=((1,), (2,)), kind="findings"))
    cases = tuple(replace(c, classes={"fluid": k % 2} if k < 4 else {"fluid": k % 2, "mass": int(k < 6)}) for k, c in enumerate(data.cases))
    seen = looks(replace(data, cases=cases))
    asked = questions(replace(data, cases=cases), seen, [("c00", "c02", Pair(0, 2, True))])
    assert asked.names == ("fluid",), "two patients with a mass are too few"
    assert asked.patients[0] == asked.patients[2] == "p00" and len(set(asked.patients)) == 23
    assert list(sources(data, asked)) == []


# -- controls -------------------------------------------------------------------------------------------------------------


def test_a_margin_that_tells_is_a_warning_with_pictures(tmp_path):
    def framed(k, kind, image):
        if kind == 1:
            image[1:4, 2:10] = 230
        return image

    data = made(tmp_path, 60, pixels=framed)
    findings = examine(data)
    warning = told(findings, "margin")[0]
    assert "ill with an area of" in warning.message and warning.details["classes"]["ill"]["low"] > 0.7
    rows = {row["what"]: row for row in told(findings, "controls", "note")[0].details["rows"]}
    assert rows[WORDS["centre"]]["low"] < 0.5 < rows[WORDS["centre"]]["high"] and rows[WORDS["margin"]]["auc"] > 0.9
    assert all(row["shuffled_low"] <= 0.5 <= row["shuffled_high"] for row in rows.values())
    written = draw(data, (warning,), tmp_path / "out")
    assert [path.name for path in written] == ["cases.png", "shortcuts.png"]
    covered = veil(np.zeros((90, 90, 3), np.uint8))
    assert (covered[10:80, 10:80] == 225).all() and (covered[:10] == 0).all() and (covered[:, 80:] == 0).all()
    assert not told(examine(data, controls=False), "margin")


def test_what_is_seen_in_the_centre_is_no_warning(tmp_path):
    def spot(k, kind, image):
        if kind == 2:
            image[14:20, 12:20] = 230
        return image

    findings = examine(made(tmp_path, 60, pixels=spot, labels=THREE))
    assert not [f for f in findings if f.severity == "warning" and f.check in ("margin", "site", "shuffle", "shortcut")]
    assert told(findings, "controls", "note")[0].details["cases"] == 60


def test_a_site_that_can_be_seen_and_goes_with_the_class_is_a_warning(tmp_path):
    def site(k, kind):
        return "north" if (k // 2 % 4 == 0) == (kind == 1) else "south"  # three quarters of one class, one of the other

    def pixels(k, kind, image):
        return image if site(k, kind) == "north" else np.sort(image, 0)

    findings = examine(made(tmp_path, 80, pixels=pixels, site=site))
    found = told(findings, "site")[0]
    assert found.details["key"] == "site" and found.details["v"] > 0.3 and found.details["p"] < 0.01
    mixed = examine(made(tmp_path / "b", 80, pixels=lambda k, kind, image: image if k // 2 % 2 else np.sort(image, 0),
                         site=lambda k, kind: "north" if k // 2 % 2 else "south"))  # fmt: skip
    assert not told(mixed, "site")
    row = told(mixed, "controls", "note")[0].details["rows"][-1]
    assert row["tells"] == "site" and row["low"] > 0.9 and row["v"] == 0


def test_cramers_v_and_its_p():
    draw_ = np.random.default_rng(5)
    kinds = draw_.integers(0, 3, 200)
    values = np.where(draw_.random(200) < 0.4, kinds, draw_.integers(0, 4, 200)).astype(str)
    table = np.array([[np.sum((values == v) & (kinds == k)) for k in range(3)] for v in sorted(set(values))])
    expected = chi2_contingency(table, correction=False)
    phi = max(0, expected.statistic / 200 - 3 * 2 / 199)
    v, p = cramer(values.tolist(), kinds)
    assert p == pytest.approx(expected.pvalue) and v == pytest.approx(np.sqrt(phi / min(4 - 9 / 199 - 1, 3 - 4 / 199 - 1)))
    assert cramer(["a"] * 5, np.arange(5)) == (0.0, 1.0)


def test_few_patients_are_told_and_many_cases_are_drawn_by_patient(tmp_path):
    note = told(examine(made(tmp_path, 12)), "controls", "note")[0]
    assert "12 patients" in note.message and "rows" not in note.details
    rows = sampled([f"p{k // 3}" for k in range(2400)], MOST)
    assert len(rows) == MOST == 1500 and set(np.bincount(rows // 3).tolist()) == {0, 3}


def test_the_letter_on_chest_films_is_found_and_nothing_is_without_it(tmp_path):
    films = [generate((48, 48), seed=k, kind=("normal", "nodule")[k % 2], site=SITES[k // 2 % 2]) for k in range(40)]
    step = films[0]["space"].spacing[0]

    def lettered(k, kind, image):
        return np.rint(burn(films[k]["images"][0], step=step, generator=np.random.default_rng(k))).astype(np.uint8)

    plain = examine(made(tmp_path / "plain", pixels=lambda k, kind, image: films[k]["images"][0].astype(np.uint8)))
    marked = examine(made(tmp_path / "marked", pixels=lambda k, kind, image: lettered(k, kind, image) if kind else
                          films[k]["images"][0].astype(np.uint8)))  # fmt: skip
    everywhere = examine(made(tmp_path / "every", pixels=lettered))
    assert not told(plain, "margin") and not told(everywhere, "margin") and told(marked, "margin")


