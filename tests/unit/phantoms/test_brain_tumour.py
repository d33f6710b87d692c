"""Heads with tumours: contrasts against the signal equation, growth against Fisher's wave, push against its closed form."""

from functools import cache

import numpy as np
import pytest

from vesalius.core.errors import UsageError
from vesalius.phantoms.brain_tumour import LABELS, SITES, BrainTumour, generate
from vesalius.phantoms.brain_tumour import growth as g
from vesalius.phantoms.brain_tumour.brain import hulls, ventricles
from vesalius.phantoms.brain_tumour.head import draw_head
from vesalius.phantoms.brain_tumour.regions import _behind
from vesalius.phantoms.brain_tumour.render import Scene, paint, render
from vesalius.phantoms.brain_tumour.scan import _slices, grid
from vesalius.phantoms.brain_tumour.tissues import INDEX, TISSUES, Canvas, signal_table

COARSE = (44, 58, 48)


@cache
def head():
    return draw_head(np.random.default_rng(7))


@cache
def lesion():
    return g.draw_lesion(np.random.default_rng(8), head())


@cache
def tumour():
    return g.grow(np.random.default_rng(9), head(), lesion())


@cache
def scan(seed=1, site="north", **words):
    return generate(COARSE, seed=seed, site=site, **words)


def signals(site, sequence):
    protocol = site.protocol(sequence)
    column = signal_table([(protocol.signal, protocol.enhanced)], site.field)[:, 0]
    return {tissue.name: float(column[k]) for k, tissue in enumerate(TISSUES)}


@pytest.mark.parametrize("site", SITES, ids=lambda s: s.name)
def test_contrasts_are_those_of_a_reading_room(site):
    t1, t1c, t2, flair = (signals(site, s) for s in ("T1", "T1c", "T2", "FLAIR"))
    assert t1["fat"] > t1["white"] > t1["grey"] > t1["oedema"] > t1["fluid"]
    assert t2["fluid"] > t2["necrosis"] > t2["oedema"] > t2["grey"] > t2["white"]
    assert flair["oedema"] > flair["grey"] > flair["white"] > 20 * flair["fluid"]
    assert t1c["rim"] > 1.2 * t1c["white"] > t1c["white"] > t1["rim"]
    assert t1c["white"] == pytest.approx(t1["white"], rel=0.05) and t1c["necrosis"] < t1c["white"]


def test_layers_are_fractions_that_sum_to_one():
    canvas = Canvas(np.eye(len(TISSUES), dtype=np.float32), 3)
    canvas.paint("fluid", np.array([1, 0.5, 0], np.float32))
    canvas.paint("grey", np.array([0.5], np.float32), np.array([1]))
    fractions = {name: canvas.values[k] for name, k in INDEX.items()}
    assert fractions["fluid"] == pytest.approx([1, 0.25, 0]) and fractions["grey"] == pytest.approx([0, 0.5, 0])
    assert fractions["air"] == pytest.approx([0, 0.25, 1])


def test_every_point_of_a_head_is_made_of_tissue():
    table = np.eye(len(TISSUES), dtype=np.float32)
    scene = Scene(head(), tumour(), g_pose(), table)
    world = np.random.default_rng(0).uniform(-90, 90, (3, 20_000)).astype(np.float32)
    fractions, truth = paint(scene, world, width=1.0)
    total = fractions.sum(0)  # 1, times a texture of 3.5 % within the skull
    assert total.mean() == pytest.approx(1, abs=0.002) and total == pytest.approx(1, abs=0.035 * 5.5)
    assert fractions.min() > -1e-5 and truth.min() >= 0 and truth.sum(0).max() < 1 + 1e-5
    assert (fractions[INDEX["air"]] > 0.99).mean() > 0.1


def g_pose():
    from vesalius.phantoms.brain_tumour.head import Pose

    return Pose(np.eye(3), (0.0, 0.0, 0.0))


def test_anatomy_has_the_volumes_of_people():
    axis = [np.arange(low, high, 3.0, dtype=np.float32) for low, high in ((-80, 80), (-115, 85), (-75, 85))]
    x, y, z = (a.ravel() for a in np.meshgrid(*axis, indexing="ij"))
    p, ml = (x, y, z), 27 / 1e3
    outline = hulls(p)
    assert 1100 < (outline.cerebrum < 0).sum() * ml < 1700  # with the fluid of the sulci
    assert 100 < (outline.cerebellum < 0).sum() * ml < 190
    assert 8 < (ventricles(head(), p) < 0).sum() * ml < 90


def test_the_truth_is_exact_and_nested():
    made = scan()
    labels, voxel = made["labels"], made["space"].voxel_volume / 1e3
    stated, regions = made["facts"]["volumes_ml"], made["facts"]["regions_ml"]
    assert {name: (labels == value).sum() * voxel for name, value in LABELS.items()} == pytest.approx(stated)
    assert regions["whole"] >= regions["core"] >= regions["enhancing"] > 0
    assert regions["core"] == pytest.approx(stated["necrotic"] + stated["enhancing"])
    assert sum(made["facts"]["continuous_ml"].values()) == pytest.approx(regions["whole"], rel=0.05)


def test_what_enhances_is_bright_after_contrast_and_oedema_on_flair():
    made = scan()
    images, labels = made["images"], made["labels"]
    difference = images[1] - images[0]
    healthy = (labels == 0) & (images[0] > np.median(images[0]))
    assert difference[labels == 3].mean() > 4 * abs(difference[healthy].mean())
    assert images[3][labels == 2].mean() > 1.2 * images[3][healthy].mean()


def test_a_seed_is_one_patient_at_every_size():
    coarse, fine = scan(seed=5), generate((60, 78, 64), seed=5, site="north")
    a, b = coarse["facts"]["regions_ml"], fine["facts"]["regions_ml"]
    assert a["whole"] == pytest.approx(b["whole"], rel=0.04) and a["core"] == pytest.approx(b["core"], rel=0.06)
    middles = [s["space"].world(np.argwhere(s["labels"] > 0)).mean(0) for s in (coarse, fine)]
    assert np.linalg.norm(middles[0] - middles[1]) < 1.0  # mm


def test_the_core_has_about_the_wanted_volume():
    ratios = []
    for seed in range(3):
        person = draw_head(np.random.default_rng(seed))
        wanted = g.draw_lesion(np.random.default_rng(seed), person)
        grown = g.grow(np.random.default_rng(seed), person, wanted)
        space = grid((44, 58, 48), (3.72,) * 3, site=SITES[0], generator=np.random.default_rng(0))
        _, parts = render(Scene(person, grown, g_pose(), np.ones((len(TISSUES), 1), np.float32)), space)
        ratios.append((parts[0] + parts[2]).sum() * space.voxel_volume / 1e3 / wanted.volume)
    assert 0.75 < np.mean(ratios) < 1.25 and min(ratios) > 0.5 and max(ratios) < 1.6


def test_a_healthy_head_has_no_truth():
    made = scan(lesion=lesion().model_copy(update={"volume": 0.0}))
    assert not made["labels"].any() and made["facts"]["regions_ml"]["whole"] == 0


def test_the_wished_share_of_patients_is_healthy():
    phantom, shape = BrainTumour(healthy=0.5), (16, 20, 16)
    sick = [phantom.sample(shape, seed=seed, site="north")["labels"].any() for seed in range(12)]
    assert 3 <= sum(sick) <= 9
    assert phantom.sample(shape, seed=0, site="north", visit=1)["labels"].any() == sick[0]
    with pytest.raises(UsageError, match="from 0 to 1; got 2"):
        BrainTumour(healthy=2)


def test_cells_do_not_pass_a_wall():
    size = 2 * g.HALF + 1
    speed = np.ones((size,) * 3, np.float32)
    speed[:, g.HALF + 4] = 0
    first = np.zeros_like(speed)
    first[g.HALF, g.HALF, g.HALF] = 0.5
    density, _ = g._invade(speed, first, invasion=3.0, target=4000)
    assert density[:, g.HALF + 4 :].max() == 0 and density[:, : g.HALF].max() > g.CORE


def test_growth_prefers_white_matter():
    size = 2 * g.HALF + 1
    speed = np.full((size,) * 3, g.GREY_FACTOR, np.float32)
    speed[:, :, g.HALF :] = 1
    first = np.zeros_like(speed)
    first[g.HALF, g.HALF, g.HALF] = 0.5
    density, _ = g._invade(speed, first, invasion=3.0, target=2000)
    reached = np.flatnonzero(density[g.HALF, g.HALF] > g.VISIBLE) - g.HALF
    assert reached.max() > 1.4 * -reached.min()


def test_depth_is_distance_behind_fishers_front():
    """In even tissue the front moves at 2 sqrt(D rho), so depth from times of arrival is distance."""
    size = 2 * g.HALF + 1
    first = np.zeros((size,) * 3, np.float32)
    first[g.HALF, g.HALF, g.HALF] = 0.5
    density, depth = g._invade(np.ones_like(first), first, invasion=3.0, target=9000)
    line, cells = depth[g.HALF, g.HALF, g.HALF :], density[g.HALF, g.HALF, g.HALF :]
    edge = int(np.flatnonzero(cells > g.CORE)[-1])
    slope = (line[edge - 4] - line[edge]) / (4 * g.STEP)
    assert abs(line[edge]) < 2.5 and slope == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("level", [g.CORE, g.VISIBLE])
def test_densities_are_read_as_millimetres_on_the_front(level):
    w, x = 3.0, np.linspace(-15, 15, 13)
    density = (1 + np.exp(x / (2 * w))) ** -2.0
    at_level = 2 * w * np.log(1 / np.sqrt(level) - 1)
    assert _behind(density, level, w) == pytest.approx(at_level - x, abs=1e-3)


def test_the_push_keeps_volume_and_order():
    """Deep in the brain the tissue at radius r came from (r^3 - k R^3 (1 - exp(-(r/R)^3)))^(1/3)."""
    grown = tumour()
    reach, part = grown.reach, grown.lesion.mass_effect
    radii = np.linspace(0.5, 60, 200, dtype=np.float32)
    direction = np.array([np.sign(grown.lesion.place[0]), 0, 0])
    place = np.asarray(grown.lesion.place)[:, None] + direction[:, None] * radii
    p = tuple(axis.astype(np.float32) for axis in place)
    q, effaced = g.displaced(grown, p, head=head(), inner=np.full_like(radii, -100))
    came = np.linalg.norm(np.stack(q) - np.asarray(grown.lesion.place)[:, None], axis=0)
    exact = np.cbrt(radii**3 - part * reach**3 * (1 - np.exp(-((radii / reach) ** 3))))
    assert came == pytest.approx(exact, abs=0.02) and (np.diff(came) > 0).all()
    assert 0 <= effaced.min() and effaced.max() <= 1 and effaced[0] > effaced[-1]


def test_the_skull_does_not_give_way():
    p = tuple(np.full(3, c + 5, np.float32) for c in tumour().lesion.place)
    q, _ = g.displaced(tumour(), p, head=head(), inner=np.zeros(3, np.float32))
    assert np.stack(q) == pytest.approx(np.stack(p), abs=1e-4)


def test_thick_slices_can_be_kept_or_resampled():
    space = grid((20, 20, 40), (1.0, 1.0, 1.0), site=SITES[0], generator=np.random.default_rng(0))
    thick = _slices(space, 5.0, 0.3)
    assert thick.sum(1) == pytest.approx(1, abs=1e-5) and _slices(space, 1.0, 0.3) is None
    kept = generate((48, 62, 12), (3.5, 3.5, 14.0), seed=2)
    assert kept["labels"].shape == (48, 62, 12) and kept["space"].spacing == pytest.approx((3.5, 3.5, 14.0))


def test_sites_differ_in_grid_and_intensity():
    spaces = {s: scan(site=s)["space"] for s in ("north", "south", "east", "west")}
    assert [spaces[s].axis_codes for s in spaces] == ["RAS", "LPS", "RAS", "LAS"]
    assert np.abs(spaces["east"].direction - np.eye(3)).max() > 0.02  # oblique
    means = [scan(site=s)["images"][0].mean() for s in spaces]
    assert max(means) > 1.5 * min(means)


@pytest.mark.parametrize("words", [{"sequences": ("T9",)}, {"site": "nroth"}, {"shape": (20, 20)}, {"spacing": (1.0, 0.0, 1.0)}])
def test_nonsense_is_refused(words):
    with pytest.raises(UsageError):
        generate(**{"shape": (20, 20, 20), "seed": 0, **words})


def test_some_sequences_are_some_of_the_images():
    made = generate((20, 26, 22), seed=0, sequences=("FLAIR", "T1c"))
    assert made["images"].shape == (2, 20, 26, 22) and made["facts"]["sequences"] == ["FLAIR", "T1c"]
