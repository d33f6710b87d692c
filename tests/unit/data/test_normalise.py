"""Intensities on one scale: closed forms, and Hounsfield units known by content whatever the channel is called."""

import numpy as np
import pytest

from vesalius.data.normalise import Normalise, choose, ends, looks_like_hounsfield, looks_like_uptake, moments


def scan(kind, seed=0):
    """Voxels as scanners give them, whole numbers where they are."""
    draw = np.random.default_rng(seed)
    if kind == "ct":
        air, body, bone = np.full(40000, -1000), draw.normal(30, 40, 50000), draw.normal(500, 200, 5000)
        return np.rint(np.concatenate([air, body, bone]))
    if kind == "ct without air":
        return np.rint(draw.normal(30, 40, 50000))
    if kind == "mr":
        return np.rint(np.abs(draw.normal(300, 120, 50000)))
    if kind == "mr float":
        return draw.normal(0, 500, 50000)
    if kind == "z-scores in integers":
        return np.rint(draw.normal(0, 500, 50000))
    if kind == "pet":
        return draw.gamma(0.5, 2.0, 50000)
    raise ValueError(kind)


def stats(values):
    """As the fingerprint states them."""
    low, high = np.percentile(values, [0.5, 99.5])
    clipped = np.clip(values, low, high)
    return {"mean": clipped.mean(), "std": clipped.std(), "p0.5": low, "p99.5": high, "low": low, "high": high,
            "median": np.median(values), "minimum": values.min(), "whole": np.mean(values == np.rint(values)),
            "near_water": np.mean(np.abs(values) <= 150), "below_air": np.mean((values < -1050) & (values != values.min()))}  # fmt: skip


def test_zscore_is_mean_0_and_deviation_1():
    x = np.array([[2.0, 4.0], [6.0, 8.0]])
    np.testing.assert_allclose(Normalise().apply(x), (x - 5) / np.sqrt(5), rtol=1e-6)


def test_zscore_of_the_nonzero_leaves_the_rest_at_0():
    x = np.array([0.0, 1.0, 3.0, 0.0])
    np.testing.assert_allclose(Normalise(nonzero=True).apply(x), [0, -1, 1, 0])


def test_window_clips_and_then_scales_by_the_data_set():
    rule = Normalise(kind="window", low=-100, high=300, mean=50, std=25)
    np.testing.assert_allclose(rule.apply(np.array([-1000.0, 50.0, 75.0, 2000.0])), [-6, 0, 1, 10])


def test_a_constant_image_is_finite():
    for rule in (Normalise(), Normalise(nonzero=True), Normalise(kind="window", low=0, high=0, mean=0, std=0)):
        for value in (0.0, 7.0):
            assert np.isfinite(rule.apply(np.full((3, 3), value))).all()


def test_large_whole_numbers_keep_their_precision():
    x = 30000 + np.arange(1000, dtype=np.int16).reshape(10, 100)[:, :50]
    found = Normalise().apply(x)
    assert found.dtype == np.float32 and found.mean() == pytest.approx(0, abs=1e-4) and found.std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "expected"), [("ct", True), ("mr", False), ("mr float", False), ("pet", False), ("ct without air", False)]
)
def test_hounsfield_units_are_known_by_content(kind, expected):
    assert looks_like_hounsfield(stats(scan(kind))) is expected


@pytest.mark.parametrize("name", ["CT", "ct_scan", "image", "T1", "0"])
def test_the_name_of_a_ct_does_not_matter(name):
    facts = stats(scan("ct"))
    rule, why = choose(name, facts, 1.0)
    assert (rule.kind, rule.low, rule.high, rule.mean, rule.std) == ("window", facts["p0.5"], facts["p99.5"], facts["mean"], facts["std"])
    assert "Hounsfield units by content" in why


def test_mr_called_ct_is_still_mr():
    rule, why = choose("CT", stats(scan("mr")), 1.0)
    assert rule == Normalise() and "arbitrary units" in why


def test_padding_below_air_is_still_ct():
    values = np.concatenate([scan("ct"), np.full(2000, -3024)])
    assert looks_like_hounsfield(stats(values))


def test_uptake_needs_name_and_tail():
    assert looks_like_uptake("PET_SUV", stats(scan("pet")))
    assert not looks_like_uptake("T2", stats(scan("pet"))) and not looks_like_uptake("PET", stats(scan("mr")))
    assert choose("PET", stats(scan("pet")), 1.0)[0].kind == "window"


def test_zero_background_is_left_out_below_three_quarters():
    assert choose("T1", stats(scan("mr")), 0.74)[0].nonzero and not choose("T1", stats(scan("mr")), 0.76)[0].nonzero


def test_moments_of_a_large_scan_are_those_of_numpy(monkeypatch):
    monkeypatch.setattr("vesalius.data.normalise.LOOKED_AT", 100)
    x = np.random.default_rng(0).normal(3e4, 7, (13, 9, 11)).astype(np.float32)
    assert moments(x) == pytest.approx((x.mean(dtype=np.float64), x.std(dtype=np.float64)), rel=1e-9)
    inside = x > 3e4
    assert moments(x * inside, nonzero=True) == pytest.approx((x[inside].mean(dtype=np.float64), x[inside].std(dtype=np.float64)), rel=1e-9)


def test_what_is_normalised_stays_as_it_is():
    for rule in (Normalise(), Normalise(nonzero=True), Normalise(kind="window", low=0, high=2, mean=1, std=2)):
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        rule.apply(x)
        assert (x == np.arange(6).reshape(2, 3)).all()


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("size", [1, 2, 3, 200, 201, 5000])
def test_percentiles_of_whole_numbers_are_counted(kind, size):
    limits = np.iinfo(kind) if kind != "float32" else np.iinfo(np.int16)
    x = np.random.default_rng(size).integers(limits.min, limits.max, size, endpoint=True).astype(kind).reshape(1, 1, -1)
    expected = np.percentile(x.astype(np.float64), [0.5, 99.5])
    np.testing.assert_allclose(ends(x), expected, rtol=1e-6, atol=1e-2 if kind == "float32" else 1e-9)


@pytest.mark.parametrize("rule", [Normalise(), Normalise(nonzero=True), Normalise(kind="window", low=-50, high=90, mean=7, std=30),
                                  Normalise(kind="unit"), Normalise(kind="unit", low=3, high=80)])  # fmt: skip
@pytest.mark.parametrize("slab", [100, 1 << 22])
def test_slabs_of_whole_numbers_are_the_whole_in_floats(rule, slab, monkeypatch):
    """In any order of memory, against the formula in double precision."""
    monkeypatch.setattr("vesalius.data.normalise.SLAB", slab)
    x = np.random.default_rng(0).integers(-100, 100, (11, 9, 70)).astype(np.int16)
    x[2:5] = 0
    real = x.astype(np.float64)
    inside = x != 0 if rule.nonzero else np.ones(x.shape, bool)
    low, high = (rule.low, rule.high) if rule.high > rule.low else np.percentile(real, [0.5, 99.5])
    clipped = real if rule.kind == "zscore" else real.clip(low, high)
    mean, std = {"zscore": (real[inside].mean(), real[inside].std()), "window": (rule.mean, rule.std), "unit": (low, high - low)}[rule.kind]
    expected = np.where(inside, (clipped - mean) / std, 0)
    for values in (x, np.asfortranarray(x), x.astype(np.float32), x[::-1]):
        found = rule.apply(values)
        assert found.flags.c_contiguous and found.dtype == np.float32
        np.testing.assert_allclose(found, expected[::-1] if values.strides[0] < 0 else expected, rtol=1e-5, atol=1e-5)
