"""Chest films: findings lie where they were put and where anatomy allows, sites differ, the shortcut is as strong as asked."""

from functools import cache

import numpy as np
import pytest

from vesalius.core.errors import UsageError
from vesalius.phantoms.chest_xray import CLASSES, LABELS, SITES, ChestXray, _positioned, generate
from vesalius.phantoms.chest_xray.film import burn, collimate, develop
from vesalius.phantoms.chest_xray.findings import LOBES, Finding, draw_finding, water
from vesalius.phantoms.chest_xray.patient import EXTENT, draw_patient
from vesalius.phantoms.chest_xray.solids import cage, domes, heart, lung

SIDES = (96, 96)


@cache
def film(kind, seed=2, site="digital", shape=SIDES, visit=0):
    return generate(shape, seed=seed, kind=kind, site=site, visit=visit)


def points(*where):
    return tuple(np.array(where, float).T)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_truth_is_of_the_class_and_nothing_else(kind):
    made = film(kind)
    assert set(np.unique(made["labels"])) == ({0, LABELS[kind]} if kind != "normal" else {0})
    assert made["facts"]["class"] == kind


@pytest.mark.parametrize("kind", CLASSES[1:])
def test_a_finding_makes_the_film_whiter_where_the_truth_says_and_nowhere_else(kind):
    change = film(kind)["images"][0] - film("normal")["images"][0]
    shown = film(kind)["labels"] > 0
    change -= np.median(change[~shown])  # the grey scale follows the whole film
    assert change[shown].mean() > 15 and change[shown].mean() > 2 * np.percentile(np.abs(change[~shown]), 85)


def test_a_nodule_is_seen_where_its_ray_meets_the_detector():
    for seed in range(2):
        made = generate(SIDES, seed=seed, kind="nodule")
        beam = _positioned(SIDES, made["space"].spacing[0], np.random.default_rng([seed, 6, 0]))
        finding = made["facts"]["finding"]
        place, enlarged = beam.pixels(np.array([finding["place_mm"]]))
        row, column = np.rint(place[0]).astype(int)
        assert made["labels"][row, column] == LABELS["nodule"]
        disc = np.pi / 4 * (finding["size_mm"] * enlarged[0]) ** 2 / 100
        assert 0.5 * disc < made["facts"]["areas_cm2"]["nodule"] < 1.3 * disc


def test_sides_are_those_of_a_film_that_is_read():
    for seed in range(4):
        made = generate((64, 64), seed=seed, kind="effusion")
        columns = np.nonzero(made["labels"])[1]
        assert (columns.mean() < 31.5) == (made["facts"]["finding"]["side"] == "right")


def test_fluid_climbs_at_the_side():
    made = film("effusion", seed=3)
    assert made["facts"]["finding"]["side"] == "right"
    top = [np.flatnonzero(made["labels"][:, c])[0] for c in np.flatnonzero(made["labels"].any(0))]
    assert min(top[:4]) < np.median(top[-8:]) - 2


def test_a_consolidation_keeps_to_its_lobe():
    patient = draw_patient(4)
    fissure = patient.domes[0] + 0.5 * (patient.cage[3] - patient.domes[0])
    near = points(*[(70.0, 30.0, fissure + dz) for dz in (-25, -6, 6, 25)])
    for lobe, seen in (("right upper", (0, 0, 1, 1)), ("right middle", (1, 1, 0, 0))):
        finding = Finding("pneumonia", 60.0, (70.0, 30.0, fissure), 1, lobe, 4)
        filled = water(finding, patient)(near, np.zeros(4))
        assert ((filled > 0.1) == np.array(seen, bool)).all()
    assert water(finding, patient)(points((-70.0, 30.0, fissure - 5)), np.zeros(1))[0] == 0, "the other lung"
    drawn = {draw_finding("pneumonia", draw_patient(seed), visit=0).lobe for seed in range(60)}
    assert drawn == set(LOBES)


def test_the_organs_lie_where_they_belong():
    for seed in range(6):
        patient = draw_patient(seed)
        grid = np.meshgrid(np.arange(-140, 141, 10.0), np.arange(-90, 91, 10.0), np.arange(-150, 150, 10.0), indexing="ij")
        p = tuple(grid)
        x = grid[0]
        beats, air = heart(patient, p) < 0, lung(patient, p)[0] < 0
        assert x[beats].mean() < -8, "the heart lies to the left"
        assert not (beats & air).any() and not (air & (domes(patient, p) < -1)).any() and not (air & (cage(patient, p) > 1)).any()
        right, left = (air & (x > 0)).sum(), (air & (x < 0)).sum()
        assert right > left and 2.5 < air.sum() * 1e-3 < 8, "the right lung is the larger; both hold some litres"
        assert patient.domes[0] > patient.domes[1], "the right diaphragm stands higher"
        ratio = np.ptp(x[beats]) / (2 * patient.cage[0])
        assert 0.35 < ratio < 0.6


def test_a_person_is_the_same_at_every_size():
    small, large = film("normal")["images"][0], film("normal", shape=(192, 192))["images"][0]
    pooled = large.reshape(96, 2, 96, 2).mean((1, 3))
    assert np.corrcoef(small[8:-8, 8:-8].ravel(), pooled[8:-8, 8:-8].ravel())[0, 1] > 0.99
    assert film("normal")["facts"]["person"] == film("nodule", visit=1)["facts"]["person"]


def test_films_need_not_be_square():
    square, tall = (generate(shape, (2.0, 2.0), seed=2, kind="effusion") for shape in ((190, 190), (190, 151)))
    assert tall["labels"].shape == (190, 151) and tall["images"].shape == (1, 190, 151)
    overlap = (square["labels"][:, 20:170] > 0) & (tall["labels"][:, 1:] > 0)
    assert overlap.sum() > 0.95 * (tall["labels"] > 0).sum()


def test_sites_process_in_their_own_way():
    flat = np.full((60, 60), 2.0)
    flat[:, 30:] = 3.5
    noise = {}
    for site in SITES:
        image = develop(flat, step=1.0, site=site, generator=np.random.default_rng(0))
        assert image[30, 45] > image[30, 10] + 20 and 0 <= image.min() and image.max() <= 255
        noise[site.name] = np.diff(image[10:50, 40:55]).std()
        low = develop(flat, step=1.0, site=site.model_copy(update={"dose": site.dose / 100}), generator=np.random.default_rng(0))
        assert np.diff(low[10:50, 40:55]).std() > 5 * noise[site.name], "a hundredth of the dose, ten times the noise"
    assert len({round(v, 3) for v in noise.values()}) == len(SITES)


def test_the_collimator_blackens_the_border_alone():
    image = np.full((186, 186), 200.0, np.float32)
    cut = collimate(image, step=2.0, site=SITES[1], generator=np.random.default_rng(3))
    assert (cut[15:-15, 15:-15] == 200).all() and 0 < (cut == 3).mean() < 0.15


def test_a_letter_is_burned_into_the_corner():
    image = burn(np.zeros((186, 186), np.float32), step=2.0, generator=np.random.default_rng(0))
    rows, columns = np.nonzero(image)
    assert rows.max() < 0.15 * 186 and columns.min() > 0.8 * 186
    coarse = burn(np.zeros((62, 62)), step=6.0, generator=np.random.default_rng(0))
    assert coarse.sum() * 9 == pytest.approx(image.sum(), rel=0.1), "the letter keeps its ink at every size"
    plain, marked = (generate((64, 64), seed=1, kind="normal", site="film", marker=m) for m in (False, True))
    assert 0 < (plain["images"] != marked["images"]).mean() < 0.02 and marked["facts"]["metadata"]["marker"] == 1


@pytest.mark.parametrize(("shortcut", "sick", "well"), [(None, 0, 0), (0.0, 0.5, 0.5), (0.6, 0.8, 0.2), (1.0, 1, 0)])
def test_the_shortcut_is_as_strong_as_asked(shortcut, sick, well):
    phantom = ChestXray(shortcut)
    marked = {True: [], False: []}
    for seed in range(1200):
        marked[phantom.class_of(seed) != "normal"].append(phantom._marked(seed, 0))
    for found, expected in ((marked[True], sick), (marked[False], well)):
        assert abs(np.mean(found) - expected) <= 3.5 * np.sqrt(expected * (1 - expected) / len(found))


def test_nonsense_is_refused():
    for words, said in (({"kind": "fracture"}, "fracture"), ({"site": "moon"}, "moon"), ({"spacing": (1.0, 2.0)}, "spacing")):
        with pytest.raises(UsageError, match=said):
            generate((16, 16), seed=0, **words)
    with pytest.raises(UsageError, match="0 to 1"):
        ChestXray(2.0)
    assert EXTENT[0] == EXTENT[1]
