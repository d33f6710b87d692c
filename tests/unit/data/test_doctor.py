"""The data doctor: every illness is planted on purpose and must be found by name; healthy data must be called healthy."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.data import data_folder
from vesalius.core.files import plain
from vesalius.core.space import Space
from vesalius.data import doctor
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.doctor import Finding, clusters, draw, duplicates, examine, looks, told
from vesalius.data.doctor._content import FLIPS, flipped
from vesalius.data.doctor._together import header_leaks, patients
from vesalius.data.doctor.duplicates import AT_ONCE, detail, hamming, hashes, near_pairs, thumbnails
from vesalius.data.labels import Labels
from vesalius.data.split import Fold, Split
from vesalius.io import load, save
from vesalius.io.image import Image

SHAPE = (24, 26, 10)
LABELS = Labels(names=("a", "b"), values=((1,), (2,)))


def scan(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Smooth noise, like nothing else."""
    rough = np.random.default_rng(seed).normal(0, 1, shape)
    return (gaussian_filter(rough, 1.5) * 900 + 400).astype(np.float32)


def marked(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[4:10, 5:12], mask[12:16, 5:12] = 1, 2
    return mask


@pytest.fixture
def cohort(tmp_path) -> Callable[..., Dataset]:
    """A healthy data set of 12 patients; `change(k, image, mask, space)` gives what is written for case k instead."""

    def make(change: Callable[..., tuple] | None = None, *, channels: tuple[str, ...] = ("MR",), labels: Labels = LABELS,
             suffix: str = ".nii.gz", count: int = 12) -> Dataset:  # fmt: skip
        cases = []
        for k in range(count):
            image, mask, space = scan(k), marked(), Space.of(SHAPE, (1, 1, 2))
            image_space, mask_space = space, space
            if change:
                changed = (*change(k, image, mask, space), None, None)
                image, mask = changed[0], changed[1]
                image_space, mask_space = changed[2] or Space.of(image.shape, (1, 1, 2)[: image.ndim]), changed[3] or space
                if mask is not None and mask.shape != mask_space.shape:
                    mask_space = Space.of(mask.shape, mask_space.spacing[: mask.ndim])
            paths = {c: tmp_path / f"{k:02}_{c}{suffix}" for c in channels}
            for path in paths.values():
                save(Image(image[None], image_space), path)
            where = tmp_path / f"{k:02}_seg{suffix}"
            save(Image(mask[None], mask_space), where)
            cases.append(Case(f"c{k:02}", f"p{k:02}", paths, {"reference": where}))
        return Dataset("made", tmp_path, "segment", tuple(cases), channels, labels)

    return make


def only(findings: tuple[Finding, ...], check: str) -> Finding:
    """The one finding; everything else must be healthy."""
    assert [f.check for f in findings] == [check], findings
    return findings[0]


def test_healthy_data_are_called_healthy(cohort):
    assert examine(cohort()) == ()


def test_unreadable_file(cohort):
    dataset = cohort()
    dataset.cases[3].images["MR"].write_bytes(b"nonsense")
    found = only(examine(dataset), "unreadable")
    assert found.severity == "error" and found.cases == ("c03",) and "03_MR" in found.details["path"]


def test_mask_of_another_shape_is_refused_with_the_command(cohort):
    found = only(examine(cohort(lambda k, i, m, s: (i, m[:, :, 1:] if k == 2 else m))), "geometry")
    assert found.severity == "error" and found.cases == ("c02",) and "vesalius convert" in found.remedy and "--order 0" in found.remedy


@pytest.mark.parametrize(("shift", "severity"), [(0.02, "repaired"), (3.0, "error")])
def test_mask_header_off_by_a_little_is_repaired_and_by_much_refused(cohort, shift, severity):
    moved = Space.of(SHAPE, (1, 1, 2), origin=(shift, 0, 0))
    found = only(examine(cohort(lambda k, i, m, s: (i, m, s, moved if k == 1 else s))), "geometry")
    assert found.severity == severity and found.cases == ("c01",)
    assert severity == "repaired" or "--geometry-of" in found.remedy


def test_not_finite(cohort):
    def change(k, image, mask, space):
        if k in (4, 5):
            image[0, 0, : 3 if k == 4 else 1] = np.nan if k == 4 else np.inf
        return image, mask

    found = only(examine(cohort(change)), "finite")
    assert found.severity == "warning" and found.cases == ("c04", "c05")
    assert found.details["share"]["c04"] == pytest.approx(3 / np.prod(SHAPE))


def test_nothing_but_nan(cohort):
    found = only(examine(cohort(lambda k, i, m, s: (i * np.nan if k == 4 else i, m))), "finite")
    assert found.severity == "error" and found.cases == ("c04",)


def test_constant_and_empty(cohort):
    found = only(examine(cohort(lambda k, i, m, s: (i * 0 + 7 if k in (1, 2) else i, m))), "constant")
    assert found.cases == ("c01", "c02")


def test_empty_masks(cohort):
    found = only(examine(cohort(lambda k, i, m, s: (i, m * (k != 6)))), "empty")
    assert found.severity == "warning" and found.cases == ("c06",)
    every = examine(cohort(lambda k, i, m, s: (i, m * 0)))
    assert every[0].check == "empty" and every[0].severity == "error"


def test_label_in_one_case_only(cohort):
    found = only(examine(cohort(lambda k, i, m, s: (i, m if k == 0 else np.where(m == 2, 0, m)))), "rare")
    assert found.cases == ("c00",) and "'b'" in found.message


def test_values_without_a_meaning(cohort):
    found = only(examine(cohort(lambda k, i, m, s: (i, np.where(m == 2, 7, m).astype(np.uint8) if k in (1, 3) else m))), "values")
    assert found.severity == "error" and found.cases == ("c01", "c03") and found.details["values"] == [7]
    ignored = replace(LABELS, ignore=7)
    assert examine(cohort(lambda k, i, m, s: (i, np.where(m == 2, 7, m).astype(np.uint8) if k in (1, 3) else m), labels=ignored)) == ()


def test_a_mask_of_fractions_is_an_image(cohort):
    found = only(examine(cohort(lambda k, i, m, s: (i, (m * 0.3).astype(np.float32) if k == 2 else m))), "values")
    assert found.severity == "error" and found.cases == ("c02",) and "whole numbers" in found.message


def test_masks_of_0_and_255(cohort):
    labels = Labels(names=("a",), values=((1, 255),))
    found = only(examine(cohort(lambda k, i, m, s: (i, (m > 0).astype(np.uint8) * 255), labels=labels)), "values")
    assert found.severity == "repaired" and len(found.cases) == 12


def test_missing_channel_and_other_grid(cohort):
    dataset = cohort(channels=("A", "B"))
    lone = replace(dataset.cases[4], images={"A": dataset.cases[4].images["A"]})
    save(Image(scan(99, (12, 13, 10))[None], Space.of((12, 13, 10), (2, 2, 2))), dataset.cases[5].images["B"])
    save(Image(scan(98)[None], Space.of(SHAPE, (1, 1, 2))), dataset.cases[0].images["B"])
    findings = examine(dataset.with_cases((*dataset.cases[:4], lone, *dataset.cases[5:])))
    by = {f.check: f for f in findings}
    assert by["missing"].cases == ("c04",) and "B" in by["missing"].message
    assert by["grids"].severity == "repaired" and by["grids"].cases == ("c05",)
    assert by["copies"].cases and "c00" not in by["copies"].cases  # A and B hold the same pixels in the other cases


def test_unlike_spacings_and_orientations(cohort):
    def change(k, image, mask, space):
        if k == 0:
            space = Space.of(SHAPE, (1, 1, 5))
        if k == 1:
            affine = space.affine.copy()
            affine[0, 0] = -1
            space = Space(SHAPE, affine)
        return image, mask, space, space

    by = {f.check: f for f in examine(cohort(change))}
    assert set(by) == {"spacing", "orientation"}
    assert by["spacing"].details["largest"] == [1, 1, 5] and by["orientation"].details == {"RAS": 11, "LAS": 1}


def test_names_that_lie_about_the_modality(cohort):
    def hounsfield(k, image, mask, space):
        values = np.clip(np.rint(image - 400), -900, 900)  # around water
        values[: SHAPE[0] // 3] = -1000
        return (values if k % 2 else image).astype(np.int16), mask

    by_name = examine(cohort(hounsfield, channels=("CT",)))
    assert [f.check for f in by_name] == ["modality"] and by_name[0].cases == tuple(f"c{k:02}" for k in range(0, 12, 2))
    as_mr = only(examine(cohort(hounsfield, channels=("T1",))), "modality")
    assert as_mr.cases == tuple(f"c{k:02}" for k in range(1, 12, 2)) and "Hounsfield" in as_mr.message


def test_pictures_among_volumes(cohort):
    findings = examine(cohort(lambda k, i, m, s: (i[:, :, 0], m[:, :, 0], Space.of(SHAPE[:2])) if k == 3 else (i, m)))
    found = next(f for f in findings if f.check == "dimensions")
    assert found.severity == "error" and found.cases == ("c03",)


def test_grey_stored_as_colour(tmp_path):
    cases = []
    for k in range(10):
        grey = scan(k, (60, 70)).clip(0, 255).astype(np.uint8)[None]
        save(Image(np.repeat(grey, 3, 0), Space.of((60, 70), physical=False)), tmp_path / f"{k}.png")
        save(Image(marked((60, 70))[None], Space.of((60, 70), physical=False)), tmp_path / f"{k}_mask.png")
        cases.append(Case(f"{k}", f"{k}", {"image": tmp_path / f"{k}.png"}, {"reference": tmp_path / f"{k}_mask.png"}))
    found = only(examine(Dataset("x", tmp_path, "segment", tuple(cases), ("image",), LABELS)), "components")
    assert found.severity == "note" and len(found.cases) == 10


def test_exact_copies_and_their_leak(cohort):
    dataset = cohort(lambda k, i, m, s: (scan(0) if k in (0, 7) else i, m))
    found = only(examine(dataset), "copies")
    assert found.details == {"pairs": [["c00", "c07", 1.0]], "exact": True}
    names = [case.name for case in dataset.cases]
    made = Split((Fold(tuple(names[:6]), tuple(names[6:9])),), tuple(names[9:]), "by hand")
    leak = next(f for f in examine(dataset, split=made) if f.check == "leak")
    assert leak.severity == "error" and set(leak.cases) == {"c00", "c07"}


def test_near_copies_and_their_leak(cohort):
    def change(k, image, mask, space):
        return (scan(3) * 1.7 + 50 + np.random.default_rng(5).normal(0, 8, SHAPE).astype(np.float32) if k == 8 else image), mask

    dataset = cohort(change)
    found = only(examine(dataset), "copies")
    assert found.cases == ("c03", "c08") and not found.details["exact"]
    parts = {"c03": "train", "c08": "test"}
    cases = [replace(c, split=parts.get(c.name, ["train", "val", "test"][k % 3])) for k, c in enumerate(dataset.cases)]
    leak = next(f for f in examine(dataset.with_cases(tuple(cases))) if f.check == "leak")
    assert leak.severity == "warning" and leak.cases == ("c03", "c08")


def test_copies_of_one_patient_are_no_finding(cohort):
    noise = [np.random.default_rng(k).normal(0, 8, SHAPE).astype(np.float32) for k in range(12)]
    dataset = cohort(lambda k, i, m, s: (scan(3) + noise[k] if k in (3, 4) else i, m))
    one = tuple(replace(c, patient="same") if c.name in ("c03", "c04") else c for c in dataset.cases)
    assert examine(dataset.with_cases(one)) == ()


def test_patient_on_two_sides_and_too_few(cohort):
    dataset = cohort()
    torn = tuple(replace(c, patient="x" if k < 2 else c.patient, split=["train", "test"][k % 2]) for k, c in enumerate(dataset.cases))
    found = next(f for f in examine(dataset.with_cases(torn)) if f.severity == "error")
    assert found.check == "leak" and found.cases == ("c00", "c01")
    few = examine(dataset.with_cases(dataset.cases[:2]))
    assert few[0].check == "groups" and few[0].severity == "error"


def test_patients_of_the_headers_on_two_sides(cohort):
    dataset = cohort()
    seen = looks(dataset)
    for one in seen:
        one.images["MR"] = replace(one.images["MR"], words={"patient": "P1" if one.case.name in ("c00", "c05") else one.case.name})
    assert [f.cases for f in patients(dataset, seen)] == [("c00", "c05")]
    crossing = list(header_leaks(seen, [{"c00": "train", "c05": "test"}]))
    assert crossing[0].severity == "error" and crossing[0].check == "leak" and crossing[0].cases == ("c00", "c05")
    assert list(header_leaks(seen, [{"c00": "train", "c05": "train"}])) == []
    for one in seen:
        one.images["MR"] = replace(one.images["MR"], words={"patient": "ANONYMOUS"})
    assert list(header_leaks(seen, [{"c00": "train", "c05": "test"}])) == []


def test_errors_come_first_and_all_is_json(cohort):
    def change(k, image, mask, space):
        return (image * np.nan if k == 1 else image), (mask * 0 if k == 2 else mask)

    findings = examine(cohort(change))
    assert [f.severity for f in findings] == ["error", "warning"]
    assert json.loads(json.dumps(plain([asdict(f) for f in findings])))[0]["cases"] == ["c01"]


def test_progress_is_told(cohort):
    told = []
    examine(cohort(count=5), progress=lambda done, total: told.append((done, total)))
    assert told == [(k, 5) for k in range(1, 6)]


def test_pictures_are_drawn_even_of_broken_cases(cohort, tmp_path):
    dataset = cohort(lambda k, i, m, s: (scan(0) if k in (0, 7) else i, m))
    dataset.cases[3].images["MR"].write_bytes(b"nonsense")
    paths = draw(dataset, examine(dataset), tmp_path / "seen")
    assert [path.name for path in paths] == ["cases.png", "copies.png"]
    pixels = load(paths[0]).array
    orange = (np.abs(pixels.astype(int) - np.array([230, 85, 13]).reshape(3, 1, 1)).sum(0) == 0).sum()
    assert orange > 100  # outlines of the first label


@pytest.mark.parametrize(("turn", "found"), [
    (lambda a: a[:, ::-1], True), (lambda a: np.rot90(a), True), (lambda a: a[::-1].T, True), (lambda a: a * 0.5 + 20, True),
    (lambda a: a + np.random.default_rng(1).normal(0, 4, a.shape), True), (lambda a: gaussian_filter(a, 8), False),
])  # fmt: skip
def test_what_counts_as_a_copy(turn, found):
    pictures = [scan(k, (96, 96)) for k in range(12)]
    pairs = duplicates([*pictures, turn(pictures[5])])
    assert [(pair.first, pair.second) for pair in pairs] == ([(5, 12)] if found else [])


def test_strangers_who_share_a_rim_are_no_copies():
    """Fundus photographs share their round edge, which is most of their detail."""
    rows, columns = np.mgrid[-1:1:200j, -1:1:200j]
    disc = rows**2 + columns**2 < 0.8
    pictures = [np.where(disc, 120 + scan(k, (200, 200)) * 0.1, 0) for k in range(10)]
    assert duplicates(pictures) == []


def test_a_set_of_nothing_but_copies_is_found():
    base = scan(1, (80, 80))
    pictures = [base + np.random.default_rng(k).normal(0, 1, base.shape) for k in range(10)]
    assert len(duplicates(pictures)) == 45


def test_the_hash_is_the_published_one():
    """Second implementation, pixel by pixel: 9 x 8 means, bit = brighter than the left neighbour."""
    thumb = thumbnails(scan(4, (72, 72)))
    small = np.array([[thumb[0, 9 * r : 9 * r + 9, 8 * c : 8 * c + 8].mean() for c in range(9)] for r in range(8)])
    bits = [int(small[r, c + 1] > small[r, c]) for r in range(8) for c in range(8)]
    value = hashes(thumb[None])[0]
    assert np.unpackbits(value.view(np.uint8)).tolist() == bits
    assert hamming(value, np.stack([value, value ^ np.uint64(7)])).tolist() == [0, 3]


def test_clusters_are_chains_of_pairs():
    base = scan(1, (64, 64))
    pairs = duplicates([base, scan(2, (64, 64)), base.copy(), base.copy()])
    assert clusters(pairs, 4) == [0, 1, 0, 0]


def test_published_split_that_leaks_is_found():
    """Brain slices whose original test part holds copies of training slices; copies are listed with the data."""
    import csv

    folder = data_folder("cls_brain_tumour_4class")
    rows = list(csv.DictReader((folder / "images.csv").read_text().splitlines()))
    pixels = [load(folder / row["image"]).array for row in rows]
    pairs = duplicates(pixels)
    number, group = clusters(pairs, len(rows)), [row["duplicate_group"] for row in rows]
    listed = [(i, j) for i in range(len(rows)) for j in range(i) if group[i] == group[j]]
    assert sum(number[i] == number[j] for i, j in listed) >= 0.98 * len(listed) == 0.98 * 379
    more = [pair for pair in pairs if group[pair.first] != group[pair.second]]
    assert len(more) <= 0.15 * len(listed)  # neighbouring slices of one scan
    part = json.loads((folder / "dataset.json").read_text())["splits"]
    given = {name: side for side, names in part.items() for name in names}
    published = [pair for pair in pairs if rows[pair.first]["original_split"] != rows[pair.second]["original_split"]]
    ours = [pair for pair in pairs if given[rows[pair.first]["image"]] != given[rows[pair.second]["image"]]]
    assert len(published) > 100 and len(ours) < len(published) / 4


@pytest.mark.parametrize(("name", "seconds"), [("seg3d_hippocampus_mr", 30), ("tumour_sts_ct_pet_mr", 60)])
def test_real_sets_are_healthy_and_quickly_seen(name, seconds):
    since = time.perf_counter()
    assert examine(Dataset.open(data_folder(name))) == ()
    assert time.perf_counter() - since < seconds


def test_breast_ultrasound_holds_a_copy_across_its_split():
    findings = examine(Dataset.open(data_folder("us_breast_seg")))
    leak = next(f for f in findings if f.check == "leak")
    assert leak.severity == "warning" and leak.cases == ("malignant_004", "malignant_005")
    assert next(f for f in findings if f.check == "empty").message.startswith("The masks of 26 of 78")


def test_two_observers_of_fundus_photographs():
    findings = examine(Dataset.open(data_folder("vessels_chase_db1")))
    assert {f.check for f in findings} == {"values", "groups"} and not any(f.severity == "error" for f in findings)


@pytest.mark.parametrize("name", ["vessels_chase_db1", "cxr_lungs_lesions_seg", "us_breast_seg", "cardiac_cine_mr"])
def test_flipped_masks_are_found_in_real_sets(name):
    """A flipped mask has the edge strengths of the true one in another order: flips form a group."""
    dataset = Dataset.open(data_folder(name))
    seen = looks(dataset)
    assert list(flipped(dataset, seen)) == []
    for turn in (1, 2, 3):
        turned = [replace(one, edges=tuple(one.edges[k ^ turn] for k in range(4)) if one.edges else ()) for one in seen]
        found = list(flipped(dataset, turned))
        assert len(found) == 1 and FLIPS[turn - 1] in found[0].message


def test_flipped_masks_in_the_file(cohort):
    def change(k, image, mask, space):
        bright = image * 0.1 + 300 * gaussian_filter((mask > 0).astype(np.float32), 0.5)
        return bright.astype(np.float32), (mask[:, ::-1] if k < 12 else mask).copy()

    assert only(examine(cohort(change)), "flipped").message.count("second axis") == 1


def test_near_pairs_of_few_must_be_very_alike():
    thumbs = np.stack([thumbnails(scan(k, (72, 72))) for k in range(3)])
    assert near_pairs(np.concatenate([thumbs, thumbs[:1]]))[0].second == 3


def test_detail_in_half_precision_correlates_as_in_double():
    """More images than are worked out at once, against numpy's correlation of what the blur takes away, in double precision."""
    thumbs = np.random.default_rng(0).integers(0, 256, (AT_ONCE + 3, 1, 72, 72), np.uint8)
    thumbs[-1] = thumbs[0] // 2 + thumbs[1] // 3
    fine = detail(thumbs)[:].astype(np.float32)
    sharp = [thumbs[k, 0] - gaussian_filter(thumbs[k, 0].astype(float), 2.0) for k in (0, 1, AT_ONCE, -1)]
    expected = np.corrcoef([one.ravel() for one in sharp])
    np.testing.assert_allclose(fine[[0, 1, AT_ONCE, -1]] @ fine[[0, 1, AT_ONCE, -1]].T, expected, atol=1e-4)


def test_before_learning_warnings_are_counted_and_shortcuts_told_in_full():
    found = [Finding("margin", "warning", "The margin tells.", (), ""), Finding("copies", "warning", "Two are alike.", (), ""),
             Finding("copies", "warning", "Two more.", (), ""), Finding("values", "repaired", "255", (), "")]  # fmt: skip
    assert told(found[:1]) == ["Warning: The margin tells."] and told(found[3:]) == []
    assert told(found)[1].startswith("The doctor has 2 warnings (copies): see doctor.json")


def test_every_check_is_in_the_documentation():
    room, page = Path(doctor.__file__).parent, Path(doctor.__file__).parents[4] / "docs" / "howto" / "own_data.md"
    checks = {name for file in room.glob("*.py") for name in re.findall(r'Finding\(\s*"([a-z]+)"', file.read_text(encoding="utf-8"))}
    rows = [line.split("|")[1] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    told_of = {word.strip() for row in rows for word in row.split(",")}
    assert len(checks) > 20 and checks - told_of == set()
