"""What is said of made images, against the measures of the shelf, brute force, and a second implementation of principal components."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from vesalius.core.errors import VesaliusError
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.io import load
from vesalius.methods import METHODS
from vesalius.methods._adversaries import Design
from vesalius.metrics.kernel_distance import kernel_distance
from vesalius.metrics.neighbours import neighbours
from vesalius.plan.images import design_rule
from vesalius.plan.methods import built
from vesalius.tasks import Images
from vesalius.tasks.generate import Generate, spread
from vesalius.tasks.generate.making import in_grey, knows_classes, like, made, sheet
from vesalius.tasks.generate.measures import LEAST, PAIRED, Beside, Real, closeness, copies
from vesalius.tasks.generate.shallow import Components

CLASSES = Labels(names=("normal", "ill"), values=((0,), (1,)), kind="classes")


def noise(number, *, seed=0, shift=0.0):
    draw = np.random.default_rng(seed)
    return np.clip(0.2 * draw.standard_normal((number, 1, 6, 6)) + 0.5 + shift, 0, 1).astype(np.float32)


def images(number, *, seed=0, ill=()):
    cases = [Case(f"c{k}", f"p{k // 2}", {}, classes={"ill" if k in ill else "normal": 1}) for k in range(number)]
    return Images(cases, list(noise(number, seed=seed)), CLASSES)


def gan(**more):
    return METHODS["conditional_gan"]((1, 6, 6), classes=2, design=Design(latent=3, widths=(4,), bounds=(0.0, 1.0)), **more).eval()


def test_the_numbers_are_those_of_the_shelf():
    real, fake = noise(40), noise(35, seed=1, shift=0.1)
    one = Real.of(real)
    found = Beside.of(fake, one)
    y = one.described(fake)
    assert found.kid() == pytest.approx(kernel_distance(one.features, y)["kid"], rel=1e-4)
    wanted = neighbours(one.features, y)
    every = found.measures(np.arange(40))
    assert every["coverage"] == wanted["coverage"] and every["recall"] == wanted["recall"] and every["kid"] == found.kid()
    assert found.more()["precision"] == wanted["precision"] and "not stated: too few" in found.more()["fid"]
    apart = cdist(one.features, y, "sqeuclidean").min(1) / 36
    assert found.distance == pytest.approx(apart) and found.row(3)["distance"] == pytest.approx(apart[3])


def test_an_image_that_is_drawn_twice_makes_no_pair_with_itself():
    """By hand, over pairs of different images only; a plain estimate of a draw with repeats is too large, since an image is like itself."""
    real, fake = noise(12), noise(15, seed=1)
    one = Real.of(real)
    found, index = Beside.of(fake, one), np.array([0, 0, 1, 2, 3, 4, 5, 5, 5, 8, 9, 11])

    def k(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    x, y = one.features[index], one.described(fake)
    apart = index[:, None] != index
    by_hand = k(x, x)[apart].mean() + (k(y, y).sum() - np.trace(k(y, y))) / (15 * 14) - 2 * k(x, y).mean()
    assert found.kid(index) == pytest.approx(by_hand, rel=1e-4)
    assert np.isnan(found.kid(np.zeros(4, np.intp)))


def test_the_mean_of_drawn_distances_is_the_distance():
    found, draw = Beside.of(noise(60, seed=1), Real.of(noise(60))), np.random.default_rng(0)
    drawn = [found.kid(draw.integers(0, 60, 60)) for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(found.kid(), abs=4 * np.std(drawn) / 20)


def test_few_real_images_have_distances_alone():
    found = Beside.of(noise(8, seed=1), Real.of(noise(LEAST - 1)))
    told = found.measures(np.arange(LEAST - 1))
    assert np.isnan(told["kid"]) and np.isnan(told["coverage"]) and told["distance"] > 0 and "too few" in found.more()["fid"]


def test_closeness_falls_from_one():
    assert closeness(-0.1) == 1 == closeness(0.0) and closeness(1.0) == 0.5 and closeness(float("nan")) == 0


def test_copies_are_flagged_and_honest_images_are_not():
    learned, real = noise(80), Real.of(noise(60, seed=1))
    seen = real.described(learned)
    honest = copies(Beside.of(noise(60, seed=2), real), seen, real)
    stolen = copies(Beside.of(np.concatenate([noise(30, seed=2), learned[:30]]), real), seen, real)
    assert not honest["copied"] and "no sign" in honest["verdict"] and stolen["copied"] and "given back" in stolen["verdict"]
    assert stolen["flagged"] >= 30 and {one["made"] for one in stolen["closest"]} <= set(range(30, 60))
    assert all(one["training"] == one["made"] - 30 and one["distance"] < 1e-5 for one in stolen["closest"])


def test_components_are_those_of_scikit_learn():
    faces = noise(50) + np.linspace(0, 0.3, 50, dtype=np.float32)[:, None, None, None]
    found, other = Components.of(faces, components=5), PCA(5).fit(faces.reshape(50, -1))
    assert found.spread == pytest.approx(np.sqrt(other.explained_variance_), rel=0.05)
    assert abs(float(found.axes[0] @ other.components_[0])) == pytest.approx(1, abs=1e-3)
    drawn = found.samples(2000)
    assert drawn.shape == (2000, 1, 6, 6) and drawn.min() >= 0 and drawn.max() <= 1
    assert drawn.mean(0) == pytest.approx(faces.mean(0), abs=0.03) and np.array_equal(drawn, found.samples(2000))
    assert Components.of(faces[:3]).samples(4).shape == (4, 1, 6, 6)


def test_made_images_have_the_classes_of_the_real_ones():
    """The method is told each class as often as the real images have it."""
    method, asked = gan(), []
    plain = method.samples

    def samples(number, *, seed=0, label=None):
        asked.append((number, label))
        return plain(number, seed=seed, label=label)

    method.samples = samples
    assert like(method, images(20, ill=range(5)), number=40).shape == (40, 1, 6, 6)
    assert [one for one in asked if one[0]] == [(30, 0), (10, 1)]


@pytest.mark.parametrize("name", ["vae", "gaussian_mixture_vae", "rbm", "dbm"])
def test_other_methods_make_images_too(name):
    method = METHODS[name]((1, 6, 6)).eval()
    found = made(method, 3, sweeps=2)
    assert found.shape == (3, 1, 6, 6) and found.min() >= 0 and found.max() <= 1 and np.array_equal(found, made(method, 3, sweeps=2))
    with pytest.raises(VesaliusError, match="conditional_gan"):
        made(method, 1, label=0)


def test_a_method_without_images_says_so():
    with pytest.raises(VesaliusError, match="--task generate"):
        made(METHODS["autoencoder"]((1, 6, 6)), 1)


def test_ways_begin_and_end_at_images_and_change_slowly():
    method = gan()
    ways = method.between(2, 33)
    assert ways.shape == (2, 33, 1, 6, 6) and torch.equal(ways, method.between(2, 33))
    steps, ends = (ways[:, 1:] - ways[:, :-1]).abs().mean(), (ways[:, -1] - ways[:, 0]).abs().mean()
    assert 0 < float(steps) < float(ends) / 4


def test_a_run_is_judged_with_pictures(tmp_path):
    found = Generate().judge(gan(), images(16, seed=1, ill=range(6)), trained=images(30, ill=range(9)), calibration={}, folder=tmp_path)
    assert set(found.rows) == {"model", "baseline", "possible"}
    assert [row["case"] for row in found.rows["model"]] == [f"c{k}" for k in range(16)]
    assert found.measure("possible", np.arange(16))["all"]["distance"] < found.measure("model", np.arange(16))["all"]["distance"]
    named = {one["name"]: one for one in found.more["pictures"]}
    assert set(named) == {"real", "made", "between", "nearest"} and "Rows: normal, ill." in named["made"]["words"]
    assert load(tmp_path / "made.png").array.shape == (1, 2 * 8, 12 * 8)


def test_sheets_show_the_first_channel_and_the_middle_slice():
    volume = np.zeros((2, 3, 4, 5), np.float32)
    volume[0, 2, 0, 2] = 1
    assert in_grey(volume).shape == (4, 3) and in_grey(volume)[3, 0] == 255
    assert sheet([noise(3), noise(3)]).shape == (16, 24) and len(spread(range(5), 9)) == 9 and PAIRED > 1000


def test_critics_of_few_images_get_views_that_suit_their_loss():
    few, many = design_rule("dcgan", (28, 28), 600), design_rule("dcgan", (28, 28), 60000)
    assert few["views"]["horizon"] and "views" not in many and many["widths"] == few["widths"] == [32, 64]
    wasserstein = design_rule("wgan_gp", (28, 28), 600)
    assert wasserstein["views"] == {"probability": 0.2, "target": None}
    for name, design in (("dcgan", few), ("wgan_gp", wasserstein)):
        method = built(name, (1, 28, 28), {"design": design}, learning_rate=1e-3, weight_decay=0.0, seed=0)
        assert method.design.views is not None and method.design.bounds == (0.0, 1.0)


def test_a_critic_that_reads_classes_makes_images_of_none():
    design = Design(latent=3, widths=(4,))
    read, told = (METHODS[name]((1, 8, 8), classes=2, design=design) for name in ("semi_supervised_gan", "conditional_gan"))
    assert not knows_classes(read) and knows_classes(told)
