"""Changes of grey value by the kernels of every library that this processor can run, beside the same formulas in torch."""

import numpy as np
import pytest
import torch

from vesalius.augment import AUGMENT, Augment, Composed, Frame, _grey, stacked
from vesalius.core import kernels
from vesalius.data.batch import Batch, Kind

BUILT = [name for name in kernels.NEEDS if kernels.find(kernels.FOLDER, wished=name)]
PICTURES = [(1, 1), (1, 9), (7, 1), (33, 17), (40, 16), (5, 70), (2, 300)]
VOLUMES = [(1, 1, 1), (2, 3, 5), (9, 8, 7), (17, 16, 33), (1, 4, 40), (40, 5, 3), (3, 20, 15)]
NAMES = ["bias_field", "blur", "brightness", "channel_dropout", "contrast", "gamma", "gamma_inverted", "low_resolution", "noise"]


@pytest.fixture(params=BUILT or [pytest.param("", marks=pytest.mark.skip("No kernels: python -m vesalius.core.kernels.build"))])
def built(request, monkeypatch):
    """Kernels of one library."""
    _, found = kernels.find(kernels.FOLDER, wished=request.param)

    def kernel(name, kinds):
        function = getattr(found, name)
        function.argtypes, function.restype = [kernels.KINDS[kind] for kind in kinds], None
        return function

    monkeypatch.setattr(_grey, "kernel", kernel)


def made(name, **changes):
    """A transform of the shelf that acts on every sample."""
    settings = {"bias_field": 0.4, "noise": 0.3, **AUGMENT[name].example(3), **changes}
    transform = AUGMENT[name].from_settings(Augment.checked(settings), Frame(3, (8, 8), (1.0, 1.0)))
    assert transform is not None
    return transform


def drawn(transform, shape, seed, channels=3):
    return transform.parameters(torch.Generator().manual_seed(seed), Frame(channels, shape, (1.0,) * len(shape)))


def sample(shape, seed=0, channels=3):
    """Channels of other means and deviations (C, *S)."""
    numbers = np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)
    return torch.from_numpy(numbers * 1.5 + np.arange(channels, dtype=np.float32).reshape(-1, *(1,) * len(shape)))


def in_torch(transform, values, parameters, dtype=torch.float64):
    return transform.apply(values[None].to(dtype), stacked([parameters]))[0]


def in_c(transform, values, parameters):
    changed = values.clone()
    assert _grey.changeable(changed) and transform.change(changed, parameters)
    return changed


@pytest.mark.parametrize("shape", PICTURES + VOLUMES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_as_in_torch(built, name, shape):
    transform, values = made(name), sample(shape)
    for seed in range(4):
        parameters = drawn(transform, shape, seed)
        here, there = in_c(transform, values, parameters), in_torch(transform, values, parameters)
        torch.testing.assert_close(here.double(), there, rtol=3e-6, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_channel_of_one_value_comes_out_as_in_torch(built, name):
    values = torch.tensor([0.0, 3.0, -1e6]).reshape(3, 1, 1, 1).expand(3, 6, 5, 20).contiguous()
    transform = made(name)
    parameters = drawn(transform, (6, 5, 20), 1)
    torch.testing.assert_close(in_c(transform, values, parameters).double(), in_torch(transform, values, parameters), rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value")  # of numpy, in the formulas that judge
@pytest.mark.parametrize("strange", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_spreads_as_in_torch(built, name, strange):
    transform, shape = made(name), (9, 20, 18)
    values = sample(shape)
    values[0, 3, 4, 5] = values[2, 0, 0, 17] = strange
    for seed in range(4):
        parameters = drawn(transform, shape, seed)
        if name == "blur" and not bool(parameters["sigma"].all()):
            continue  # torch adds 0 times a neighbour to a channel that is not blurred
        here, there = in_c(transform, values, parameters), in_torch(transform, values, parameters, torch.float32)
        assert torch.equal(here.isfinite(), there.isfinite())
        torch.testing.assert_close(here.nan_to_num(0, 0, 0), there.nan_to_num(0, 0, 0), rtol=1e-5, atol=1e-5)
        if name in ("contrast", "gamma", "gamma_inverted"):
            assert torch.equal(here.isnan(), there.isnan())


@pytest.mark.parametrize("power", [0.1, 0.7, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_is_a_power_whose_mean_and_deviation_are_set_back(built, power, inverted):
    values = torch.cat([torch.linspace(0, 1, 5001), torch.logspace(-7, 0, 4002)])[:9000].reshape(1, 9, 1, 1000).add(0 if inverted else 2)
    changed = values.clone()
    assert _grey.gamma(changed, torch.tensor([power]), inverted=inverted)
    exact = values.double().numpy() * (-1 if inverted else 1)
    curve = ((exact - exact.min()) / np.ptp(exact)) ** np.float64(np.float32(power))
    curve = (curve - curve.mean()) * (exact.std() / curve.std()) + exact.mean()
    np.testing.assert_allclose(changed.numpy(), curve * (-1 if inverted else 1), rtol=0, atol=2e-5 if power < 0.5 else 3e-6)
    order = values.flatten().argsort(stable=True)
    assert bool((changed.flatten()[order].diff() >= -5e-7).all())


def test_contrast_keeps_the_range_of_each_channel(built):
    values = sample((11, 13, 17))
    changed = in_c(made("contrast"), values, {"factor": torch.tensor([3.0, 0.5, 1.0])})
    assert torch.equal(changed[0].amax(), values[0].amax()) and torch.equal(changed[0].amin(), values[0].amin())
    assert float(changed[1].std() / values[1].std()) == pytest.approx(0.5, rel=1e-5)
    torch.testing.assert_close(changed[2], values[2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 70001])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**62 - 1])
def test_noise_is_named_by_the_bits_of_numpys_generator(built, seed, count):
    table, values = torch.arange(65536.0), torch.zeros(1, 1, count)
    assert _grey.noise(values, table, seed=seed, deviation=1.0)
    words = np.random.PCG64(seed).random_raw(-(-count // 4)).view(np.uint16)[:count]
    assert np.array_equal(values.flatten().numpy(), words.astype(np.float32))


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 5, 12, 64])
@pytest.mark.parametrize("shape", [(3, 40), (30, 3), (2, 5, 33), (20, 3, 2)], ids=str)
def test_blurs_of_any_radius_leave_a_mean_and_one_channel_as_they_are(built, radius, shape):
    transform, values = made("blur", blur=(0.1, max(0.2, radius / 3))), sample(shape)
    sigma = torch.rand(3, len(shape), generator=torch.Generator().manual_seed(radius)) * max(0.2, radius / 3) + 0.01
    sigma[1] = 0
    parameters = {"sigma": sigma}
    assert transform.radius == max(radius, 1)
    here = in_c(transform, values, parameters)
    torch.testing.assert_close(here.double(), in_torch(transform, values, parameters), rtol=0, atol=3e-6)
    assert torch.equal(here[1], values[1])


@pytest.mark.parametrize("shape", [(40, 33), (31, 20, 50), (60, 2, 17)], ids=str)
@pytest.mark.parametrize("factor", [0.01, 0.3, 0.5, 0.77, 0.99])
def test_low_resolution_looks_at_nothing_that_it_has_written(built, shape, factor):
    transform, values = made("low_resolution"), sample(shape)
    factors = torch.full((3, len(shape)), factor)
    factors[1, 0] = factors[2, -1] = 1  # coarse axes
    here = in_c(transform, values, {"factor": factors})
    torch.testing.assert_close(here.double(), in_torch(transform, values, {"factor": factors}), rtol=0, atol=3e-6)


def test_a_grid_that_is_finer_goes_by_torch(built):
    values = sample((8, 9))
    before = values.clone()
    assert not made("low_resolution").change(values, {"factor": torch.full((3, 2), 1.5)}) and torch.equal(values, before)


def test_a_bias_field_is_that_of_its_polynomial(built):
    values, shape = sample((6, 7, 40)), (6, 7, 40)
    coefficients = torch.zeros(4, 4, 4)
    coefficients[1, 0, 0], coefficients[0, 2, 0], coefficients[0, 0, 3] = 0.5, -1.0, 2.0
    changed = values.clone()
    assert _grey.bias(changed, coefficients, strength=0.3)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    field = 0.5 * z - y**2 + 2 * x**3
    low = values.double().amin((1, 2, 3), keepdim=True).numpy()
    expected = low + (values.double().numpy() - low) * np.exp(0.3 * field / np.abs(field).max())
    np.testing.assert_allclose(changed.numpy(), expected, rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize(
    "refused",
    [
        torch.zeros(2, 4, 4, dtype=torch.float64),
        torch.zeros(2, 4, 4, dtype=torch.bfloat16),
        torch.zeros(2, 4, 6)[..., ::2],
        torch.zeros(2, 4, 4, requires_grad=True),
        torch.zeros(2, 0, 4),
        torch.zeros(2, 4),
        torch.zeros(2, 2, 2, 2, 2),
        torch.zeros(2, 4, 4, device="meta"),
    ],
)
def test_other_samples_go_by_torch(refused):
    assert not _grey.changeable(refused)


@pytest.mark.parametrize("patch", [(24, 17), (12, 10, 9)])
def test_a_batch_is_the_same_without_kernels(built, monkeypatch, patch):
    chances = {name: 1.0 for name in Augment.model_fields if name.endswith("_probability")}
    composed = Composed(Augment(bias_field=0.3, **chances), patch, (1.0,) * len(patch))
    image = sample(tuple(side + 6 for side in patch), channels=8).reshape(4, 2, *(side + 6 for side in patch))
    batch = Batch({"image": image}, {"image": Kind.IMAGE})
    here = composed(batch, [1, 2, 3, 4])["image"]
    monkeypatch.setattr(_grey, "kernel", lambda name, kinds: None)
    torch.testing.assert_close(here, composed(batch, [1, 2, 3, 4])["image"], rtol=1e-5, atol=1e-4)


def test_numbers_for_other_channels_go_by_torch(built):
    values, two = sample((5, 6)), torch.ones(2)
    assert not _grey.scale(values, two) and not _grey.contrast(values, two) and not _grey.gamma(values, two, inverted=False)
    assert not _grey.blur(values, torch.ones(2, 2), radius=1) and not _grey.blur(values, torch.ones(3, 3), radius=1)
    assert not _grey.coarsen(values, [[2, 2]] * 2) and not _grey.coarsen(values, [[0, 2]] * 3)
    assert not _grey.noise(values, torch.zeros(7), seed=1, deviation=1.0)
