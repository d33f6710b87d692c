"""Changes of value against their closed forms, scipy's filters and counts."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.stats import kstest, kurtosis, norm

from vesalius.augment import AUGMENT, Augment, Composed, Frame
from vesalius.augment._random import about_one
from vesalius.augment.bias_field import BiasField, log_gain
from vesalius.augment.blur import Blur
from vesalius.augment.brightness import Brightness
from vesalius.augment.channel_dropout import ChannelDropout
from vesalius.augment.contrast import Contrast
from vesalius.augment.gamma import Gamma
from vesalius.augment.gamma_inverted import GammaInverted
from vesalius.augment.low_resolution import LowResolution
from vesalius.augment.noise import Noise, quantiles

RANDOM = np.random.default_rng(0)
IMAGE = torch.from_numpy(RANDOM.normal(0.3, 1.2, (2, 3, 9, 8, 7)))
FACTOR = torch.tensor([[0.75, 1.0, 1.25], [1.1, 0.9, 0.8]])


def test_brightness_multiplies():
    expected = IMAGE.numpy() * FACTOR.double().numpy()[:, :, None, None, None]
    np.testing.assert_allclose(Brightness((0.75, 1.25)).apply(IMAGE, {"factor": FACTOR}), expected, rtol=1e-12)


def test_contrast_stretches_about_the_mean_within_the_range():
    out = Contrast((0.75, 1.25)).apply(IMAGE, {"factor": FACTOR}).numpy()
    for b in range(2):
        for c in range(3):
            values, factor = IMAGE[b, c].numpy(), float(FACTOR[b, c])
            expected = ((values - values.mean()) * factor + values.mean()).clip(values.min(), values.max())
            np.testing.assert_allclose(out[b, c], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_keeps_mean_and_deviation(inverted):
    entry = GammaInverted if inverted else Gamma
    out = entry((0.7, 1.5)).apply(IMAGE, {"gamma": FACTOR}).numpy()
    for b in range(2):
        for c in range(3):
            values = IMAGE[b, c].numpy() * (-1 if inverted else 1)
            low, width = values.min(), np.ptp(values)
            curve = ((values - low) / width) ** float(FACTOR[b, c]) * width + low
            expected = (curve - curve.mean()) * values.std() / curve.std() + values.mean()
            np.testing.assert_allclose(out[b, c], expected * (-1 if inverted else 1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(out.mean((2, 3, 4)), IMAGE.mean((2, 3, 4)), atol=1e-9)
    np.testing.assert_allclose(out.std((2, 3, 4)), IMAGE.numpy().std((2, 3, 4)), atol=1e-9)


def test_gamma_keeps_the_order_of_values():
    out = Gamma((0.7, 1.5)).apply(IMAGE, {"gamma": FACTOR})
    assert torch.equal(out.flatten(2).argsort(-1), IMAGE.flatten(2).argsort(-1))


def test_noise_has_the_drawn_deviation_and_is_independent_between_channels():
    image, deviation = torch.zeros(2, 2, 40, 40, 40), torch.tensor([0.05, 0.1])
    out = Noise(0.1).apply(image, {"deviation": deviation, "seed": torch.tensor([4, 5])})
    number = 40**3
    for b in range(2):
        for c in range(2):
            ratio = float(out[b, c].double().square().mean()) / float(deviation[b]) ** 2
            assert abs(ratio - 1) < 4.5 * np.sqrt(2 / number)  # the variance of a chi-square
    assert abs(np.corrcoef(out[0].flatten(1))[0, 1]) < 4.5 / np.sqrt(number)
    assert not image.any()


def test_noise_is_normal_and_white():
    """Kolmogorov and Smirnov's distance at the level of one in a million; neighbours, also those of one random word, do not go together."""
    made = Noise(1.0).apply(torch.zeros(1, 1, 50, 60, 70), {"deviation": torch.ones(1), "seed": torch.tensor([9])})
    values = made.flatten().double().numpy()
    assert kstest(values, "norm").statistic < 2.69 / np.sqrt(len(values))
    assert abs(kurtosis(values)) < 5 * np.sqrt(24 / len(values))
    assert all(abs(np.mean(values[lag:] * values[:-lag])) < 5 / np.sqrt(len(values)) for lag in (1, 2, 3, 4, 70, 4200))
    assert all(abs(np.mean(values[lag:] ** 2 * values[:-lag] ** 2) - 1) < 5 * np.sqrt(8 / len(values)) for lag in (1, 2, 3, 4))


def test_noise_is_a_function_of_its_seed():
    blank, one = torch.zeros(1, 1, 9, 7), torch.ones(1)
    first, again, other = (Noise(1.0).apply(blank, {"deviation": one, "seed": torch.tensor([n])}) for n in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_quantiles_are_those_of_the_normal_distribution():
    found, middles = quantiles().double().numpy(), (np.arange(2**16) + 0.5) / 2**16
    np.testing.assert_allclose(found, norm.ppf(middles), rtol=1e-4)
    assert abs(np.mean(found**2) - 1) < 1e-6 and abs(np.mean(found)) < 1e-6


def test_deviations_are_uniform_up_to_the_limit():
    frame = Frame(1, (8, 8), (1.0, 1.0))
    drawn = [float(Noise(0.1).parameters(torch.Generator().manual_seed(s), frame)["deviation"]) for s in range(2000)]
    assert 0 <= min(drawn) and max(drawn) <= 0.1 and np.mean(drawn) == pytest.approx(0.05, rel=0.05)


def test_blur_is_scipys_gaussian():
    sigma = torch.tensor([[[0.5, 0.8, 1.0], [0.0, 0.0, 0.0], [0.9, 0.6, 0.7]], [[1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [0.7, 0.0, 0.9]]])
    out = Blur((0.5, 1.0)).apply(IMAGE, {"sigma": sigma}).numpy()
    for b in range(2):
        for c in range(3):
            expected = IMAGE[b, c].numpy()
            for axis, width in enumerate(sigma[b, c].tolist()):
                expected = gaussian_filter1d(expected, width, axis=axis, mode="nearest", radius=3) if width else expected
            np.testing.assert_allclose(out[b, c], expected, rtol=0, atol=1e-6)
    assert np.array_equal(out[0, 1], IMAGE[0, 1])


def test_low_resolution_by_hand():
    image = torch.arange(8.0).square()[None, None, None].expand(1, 2, 3, 8).contiguous()
    out = LowResolution((0.5, 1.0)).apply(image, {"factor": torch.tensor([[[1.0, 0.5], [1.0, 1.0]]])})
    coarse = np.array([1.0, 9, 25, 49])  # nearest-exact: pixels 1, 3, 5, 7 of 8
    places = (np.arange(8) + 0.5) / 2 - 0.5
    expected = np.interp(places, np.arange(4), coarse)
    np.testing.assert_allclose(out[0, 0], np.tile(expected, (3, 1)), atol=1e-5)
    assert torch.equal(out[0, 1], image[0, 1])


def test_low_resolution_leaves_coarse_axes_and_half_of_the_channels_alone():
    frame = Frame(4, (6, 20, 20), (5.0, 1.0, 1.0))
    entry = LowResolution((0.5, 0.9))
    drawn = torch.stack([entry.parameters(torch.Generator().manual_seed(s), frame)["factor"] for s in range(500)])
    assert bool((drawn[..., 0] == 1).all()) and torch.equal(drawn[..., 1], drawn[..., 2])
    assert abs(float((drawn[..., 1] < 1).float().mean()) - 0.5) < 4.5 * 0.5 / np.sqrt(2000)


def test_bias_field_is_a_bounded_cubic_and_keeps_air_dark():
    frame = Frame(2, (9, 8, 7), (1.0, 1.0, 1.0))
    entry = BiasField(0.4)
    parameters = {k: v[None] for k, v in entry.parameters(torch.Generator().manual_seed(1), frame).items()}
    field = log_gain(parameters, torch.Size(frame.shape)).double()
    assert float(field.abs().max()) == pytest.approx(float(parameters["strength"]), rel=1e-5)
    assert float(parameters["strength"]) <= 0.4
    assert float(field.diff(n=4, dim=1).abs().max()) < 1e-5 < float(field.diff(n=1, dim=1).abs().max())
    image = IMAGE[:1, :2].float()
    out = entry.apply(image, parameters)
    low = image.amin((2, 3, 4), keepdim=True)
    torch.testing.assert_close((out - low).double(), (image - low) * field.exp()[:, None], rtol=1e-5, atol=1e-6)


def test_channel_dropout_takes_one_of_several_and_never_the_only_one():
    entry = ChannelDropout(probability=1.0)
    drawn = [entry.parameters(torch.Generator().manual_seed(s), Frame(3, (4, 4), (1.0, 1.0)))["kept"] for s in range(300)]
    kept = torch.stack(drawn)
    assert bool((kept.sum(1) == 2).all()) and bool(((kept == 0).sum(0) > 60).all())
    assert entry.parameters(torch.Generator(), Frame(1, (4, 4), (1.0, 1.0)))["kept"].tolist() == [1]
    out = entry.apply(IMAGE, {"kept": torch.tensor([[1.0, 0.0, 1.0]] * 2)})
    assert not out[:, 1].any() and torch.equal(out[:, ::2], IMAGE[:, ::2])


def test_factors_are_below_one_as_often_as_above():
    drawn = about_one(torch.Generator().manual_seed(0), (0.7, 1.5), 10000)
    assert 0.7 <= drawn.min() and drawn.max() <= 1.5
    assert abs(float((drawn < 1).float().mean()) - 0.5) < 4.5 * 0.5 / 100
    assert float(drawn[drawn < 1].mean()) == pytest.approx(0.85, abs=0.005)
    assert float(drawn[drawn > 1].mean()) == pytest.approx(1.25, abs=0.01)
    assert about_one(torch.Generator(), (1.2, 1.5), 100).min() >= 1.2 and about_one(torch.Generator(), (0.5, 0.8), 100).max() <= 0.8


def test_the_order_is_nnunets():
    composed = Composed(Augment(rotation=(30.0,)), (32, 32), (1.0, 1.0))
    expected = ["noise", "blur", "brightness", "contrast", "low_resolution", "gamma_inverted", "gamma"]
    assert [type(t) for t in composed.intensity] == [AUGMENT[name] for name in expected]
    assert [t.probability for t in composed.intensity] == [0.1, 0.2, 0.15, 0.15, 0.25, 0.1, 0.3]
