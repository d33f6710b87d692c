"""Measures of made images against brute force, closed forms of normal distributions, planted copies, and data that cannot help."""

import math

import numpy as np
import pytest
from scipy import linalg, stats
from scipy.spatial.distance import cdist

from vesalius.core.errors import DataError
from vesalius.metrics._features import BLOCK, described, nearest, random_projection
from vesalius.metrics.frechet import frechet, frechet_of_normals
from vesalius.metrics.kernel_distance import kernel_distance
from vesalius.metrics.memorised import memorised
from vesalius.metrics.neighbours import neighbours
from vesalius.metrics.utility import DO_NOT_USE, USE, Labelled, Trial, balanced_accuracy, utility


def normal(n, f=4, *, seed=0, shift=0.0):
    return np.random.default_rng(seed).standard_normal((n, f)) + shift


# -- kernel distance ------------------------------------------------------------------------------------------------------


def by_loops(x, y):
    """Gretton et al. 2012, equation 3, pair by pair."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def own(z):
        return sum(k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j) / (len(z) * (len(z) - 1))

    return own(x) + own(y) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_kernel_distance_and_its_jackknife_by_brute_force():
    x, y = normal(9), normal(7, seed=1, shift=0.3)
    found = kernel_distance(x, y)
    assert found["kid"] == pytest.approx(by_loops(x, y), rel=1e-9)
    left_out = [[by_loops(np.delete(x, i, 0), y) for i in range(9)], [by_loops(x, np.delete(y, i, 0)) for i in range(7)]]
    error = math.sqrt(sum((len(v) - 1) * np.var(v) for v in left_out))
    assert (found["kid_high"] - found["kid_low"]) / 2 == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-6)


def test_kernel_distance_is_unbiased_and_its_interval_holds():
    """One feature: E k = E (xy + 1)^3 from the moments of N(0, 1) and N(m, 1). Small sets are as right on average as large ones.
    The kernel's tail is heavy in one dimension, so the interval of 95 % holds somewhat less often there."""
    m = 1.0
    moments = [np.array([1, 0, 1, 0]), np.array([1, m, 1 + m**2, m**3 + 3 * m])]
    expected = [sum(math.comb(3, k) * a[k] * b[k] for k in range(4)) for a, b in ((moments[0],) * 2, (moments[1],) * 2, moments)]
    truth = expected[0] + expected[1] - 2 * expected[2]
    found = [kernel_distance(normal(150, 1, seed=s), normal(120, 1, seed=1000 + s, shift=m)) for s in range(200)]
    values = np.array([f["kid"] for f in found])
    assert values.mean() == pytest.approx(truth, abs=3.5 * values.std() / math.sqrt(200))
    assert np.mean([f["kid_low"] <= truth <= f["kid_high"] for f in found]) > 0.84


def test_blocks_change_nothing():
    x, y = normal(BLOCK + 30, 3), normal(40, 3, seed=1)
    k = [(a @ b.T / 3 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    own = [(m.sum() - np.trace(m)) / (len(m) * (len(m) - 1)) for m in k[:2]]
    assert kernel_distance(x, y)["kid"] == pytest.approx(sum(own) - 2 * k[2].mean(), rel=1e-9)
    far, which = nearest(x, x, k=2, own=True)
    every = cdist(x, x) + np.diag(np.full(len(x), np.inf))
    assert far == pytest.approx(np.sort(every, 1)[:, 1], abs=1e-6)
    assert every[np.arange(len(x)), which] == pytest.approx(far, abs=1e-6)


# -- Fréchet distance -----------------------------------------------------------------------------------------------------


def test_frechet_of_normals_in_closed_form():
    """With covariances that commute: |m - n|^2 + sum (sigma_i - tau_i)^2; otherwise against the matrix root; of rank one too."""
    turn = linalg.qr(normal(3, 3))[0]
    s, t = (turn * np.square(v) @ turn.T for v in ([1.0, 2.0, 3.0], [0.5, 2.5, 0.0]))
    zero, one = np.zeros(3), np.array([1.0, -1.0, 2.0])
    assert frechet_of_normals((zero, s), (one, t)) == pytest.approx(6 + 0.25 + 0.25 + 9, abs=1e-6)
    a, b = (m @ m.T for m in (normal(3, 3, seed=1), normal(3, 3, seed=2)))
    want = np.trace(a + b - 2 * np.real(linalg.sqrtm(a @ b)))
    assert frechet_of_normals((zero, a), (zero, b)) == pytest.approx(want, rel=1e-6)
    assert frechet_of_normals((zero, a), (zero, a)) == pytest.approx(0, abs=1e-6)
    assert frechet_of_normals((zero, a), (one, b)) == pytest.approx(frechet_of_normals((one, b), (zero, a)))


def test_frechet_is_refused_where_it_would_mislead():
    with pytest.raises(DataError, match=r"2,000 images.*kernel_distance"):
        frechet(normal(1999), normal(5000))
    assert frechet(normal(2000, 2), normal(2000, 2, shift=3.0))["fid"] == pytest.approx(18, rel=1e-6)


# -- neighbours -----------------------------------------------------------------------------------------------------------


def test_neighbours_by_brute_force():
    real, fake = normal(30, 3), normal(25, 3, seed=1, shift=0.5)
    found = neighbours(real, fake, k=3, k_counted=5)
    radius = {(name, k): np.sort(cdist(z, z), 1)[:, k] for name, z in (("real", real), ("fake", fake)) for k in (3, 5)}
    apart = cdist(real, fake)
    assert found["precision"] == np.mean([any(apart[i, j] <= radius["real", 3][i] for i in range(30)) for j in range(25)])
    assert found["recall"] == np.mean([any(apart[i, j] <= radius["fake", 3][j] for j in range(25)) for i in range(30)])
    assert found["density"] == pytest.approx(sum(apart[i, j] <= radius["real", 5][i] for i in range(30) for j in range(25)) / (5 * 25))
    assert found["coverage"] == np.mean([any(apart[i, j] <= radius["real", 5][i] for j in range(25)) for i in range(30)])


def test_equal_distributions_have_density_one_and_the_expected_coverage():
    """Naeem et al. 2020, appendix: E coverage = 1 - (M - 1) ... (M - k) / ((2M - 1) ... (2M - k)) for M of each."""
    found = [neighbours(normal(200, 2, seed=s), normal(200, 2, seed=500 + s)) for s in range(30)]
    expected = 1 - math.prod((200 - i) / (400 - i) for i in range(1, 6))
    assert np.mean([f["density"] for f in found]) == pytest.approx(1, abs=0.05)
    assert np.mean([f["coverage"] for f in found]) == pytest.approx(expected, abs=0.015)


def test_a_lost_mode_costs_recall_and_a_strange_one_precision():
    two, one = np.concatenate([normal(100), normal(100, seed=1, shift=20.0)]), normal(200, seed=2)
    lost, strange = neighbours(two, one), neighbours(one, two)
    assert lost["recall"] < 0.6 and lost["coverage"] < 0.6 and lost["precision"] > 0.8
    assert strange["precision"] < 0.6 and strange["recall"] > 0.8


# -- memorisation ---------------------------------------------------------------------------------------------------------


def test_planted_copies_are_found_and_honest_samples_are_not():
    train, test = normal(400, 6), normal(200, 6, seed=1)
    honest = memorised(normal(200, 6, seed=2), train, test)
    assert honest["p_copied"] > 0.01 and abs(honest["closer"] - 0.5) < 0.1 and honest["near_copies"] < 0.04
    copied = normal(200, 6, seed=3)
    copied[:60] = train[:60] + 0.01 * normal(60, 6, seed=4)
    found = memorised(copied, train, test)
    assert found["p_copied"] < 1e-6 and found["near_copies"] > 0.28 and found["authentic"] < honest["authentic"] - 0.1


def test_memorisation_by_brute_force():
    fake, train, test = normal(12), normal(15, seed=1), normal(9, seed=2)
    near, expected = cdist(fake, train).min(1), cdist(test, train).min(1)
    found = memorised(fake, train, test)
    assert found["closer"] == pytest.approx(np.mean([a < b for a in near for b in expected]))
    between = np.sort(cdist(train, train), 1)[:, 1]
    assert found["authentic"] == np.mean(near > between[cdist(fake, train).argmin(1)])
    random, pooled = np.random.default_rng(0), np.concatenate([near, expected])
    orders = [random.permutation(pooled) for _ in range(4000)]
    by_permutation = np.mean([np.less.outer(o[:12], o[12:]).mean() >= found["closer"] for o in orders])
    assert found["p_copied"] == pytest.approx(by_permutation, abs=0.05)


def test_p_values_are_spread_evenly_where_nothing_is_copied():
    values = [memorised(normal(60, 2, seed=s), normal(60, 2, seed=s + 300), normal(60, 2, seed=s + 600))["p_copied"] for s in range(300)]
    assert np.mean(np.array(values) < 0.05) < 0.1


# -- use ------------------------------------------------------------------------------------------------------------------


def by_nearest_mean(images, labels, seed):
    return np.stack([images[labels == one].mean(0) for one in (0, 1)])


TRIAL = Trial(by_nearest_mean, lambda model, images: cdist(images, model).argmin(1), repeats=2, draws=200)


def classes(n, *, seed, apart=1.0, noise=1.0):
    labels = np.arange(n) % 2
    return Labelled(noise * normal(n, 8, seed=seed) + apart * (labels[:, None] - 0.5), labels)


def test_made_images_that_help_are_used_and_others_are_not():
    few, test = classes(4, seed=0, noise=3.0), classes(600, seed=1)
    good, noise = classes(400, seed=2), classes(400, seed=3, apart=-1.0)
    helped, hurt = utility(few, good, test, trial=TRIAL), utility(few, noise, test, trial=TRIAL)
    assert helped["verdict"] == USE and helped["gain_low"] > 0 and helped["made"] > 0.8
    assert hurt["verdict"] == DO_NOT_USE and "do not use" in hurt["verdict"] and hurt["gain"] < 0
    rival = Trial(lambda images, labels, seed: by_nearest_mean(good.images, good.labels, seed), TRIAL.predict, repeats=2)
    beaten = utility(few, good, test, trial=TRIAL, rival=rival)
    assert beaten["rival"] > beaten["real"] and beaten["gain"] == beaten["both"] - beaten["rival"] and beaten["verdict"] == DO_NOT_USE
    same = utility(good, good, test, trial=TRIAL)
    assert same["verdict"] == DO_NOT_USE and same["gain"] == 0 == same["gain_low"] == same["gain_high"]


def test_a_single_class_balances_but_does_not_teach_alone():
    real, test = classes(40, seed=0), classes(100, seed=1)
    found = utility(real, Labelled(real.images[:2] * 0, np.zeros(2, int)), test, trial=TRIAL)
    assert math.isnan(found["made"]) and 0 <= found["both"] <= 1


def test_balanced_accuracy():
    assert balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])) == pytest.approx((2 / 3 + 1) / 2)


# -- what is given --------------------------------------------------------------------------------------------------------


def test_a_random_projection_keeps_distances():
    images = np.random.default_rng(0).random((20, 1, 12, 12))
    found = described(images, random_projection(144, size=4000), batch=7)
    assert found.shape == (20, 4000)
    ratio = cdist(found, found)[np.triu_indices(20, 1)] / cdist(*(images.reshape(20, -1),) * 2)[np.triu_indices(20, 1)]
    assert ratio == pytest.approx(1, abs=0.08)


def test_nonsense_is_refused():
    wrong = ((normal(9), normal(9, 3), "as many numbers"), (normal(9), normal(1), "At least"), (normal(9)[0], normal(9), "must be"))
    for real, fake, word in wrong:
        with pytest.raises(DataError, match=word):
            kernel_distance(real, fake)
    with pytest.raises(DataError, match="finite"):
        neighbours(normal(9), normal(9) * np.nan)
    with pytest.raises(DataError, match="needs a class"):
        Labelled(normal(3), np.zeros(2))
    with pytest.raises(DataError, match="no real training image"):
        utility(classes(4, seed=0), Labelled(normal(2, 8), np.array([0, 7])), classes(4, seed=1), trial=TRIAL)
