"""Variational autoencoders: densities and divergences against torch.distributions, bounds against exact likelihoods, gradients of VQ."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from torch import distributions

from vesalius.core.errors import VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.methods._chance import Chance
from vesalius.methods._coded import divergence, log_normal
from vesalius.methods.autoencoder_kl import AutoencoderKl
from vesalius.methods.context_vae import ContextVae
from vesalius.methods.gaussian_mixture_vae import GaussianMixtureVae
from vesalius.methods.vae import Vae
from vesalius.methods.vq_vae import VqVae, straight_through


def batch(image):
    return Batch({"image": image}, {"image": Kind.IMAGE})


def drawn(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_the_divergence_is_that_of_normals():
    mean, log_variance = drawn(5, 3), drawn(5, 3, seed=1)
    exact = distributions.kl_divergence(distributions.Normal(mean, (log_variance / 2).exp()), distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance), exact)


def test_the_density_is_that_of_normals():
    x, mean, log_variance = drawn(4, 2, 3), drawn(4, 2, 3, seed=1), drawn(4, 2, 3, seed=2)
    exact = distributions.Normal(mean, (log_variance / 2).exp()).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(log_normal(x, mean, log_variance), exact)
    alike = distributions.Normal(mean, math.exp(0.35)).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(log_normal(x, mean, torch.tensor(0.7)), alike)


def linear_vae(exact):
    """x = W z + b + noise with orthogonal columns of W, for which the posterior is normal with a diagonal covariance; `exact` gives the
    encoder that posterior, else another."""
    method = Vae((1, 2, 2), kind="linear", code=2)
    weight, bias, noise = torch.tensor([[1.0, 0.5], [1.0, -0.5], [-1.0, 0.5], [1.0, 0.5]]), torch.tensor([1.0, 0.0, 2.0, -1.0]), 0.3
    assert float(weight[:, 0] @ weight[:, 1]) == 0
    precision = 1 + weight.square().sum(0) / noise
    up = weight.T / noise / precision[:, None]
    with torch.no_grad():
        method.coder.from_code.weight.copy_(weight)
        method.coder.from_code.bias.copy_(bias)
        method.net.log_variance.fill_(math.log(noise))
        method.coder.to_code.weight.copy_(torch.cat([up, torch.zeros(2, 4)]))
        method.coder.to_code.bias.copy_(torch.cat([-up @ bias, -precision.log() if exact else torch.tensor([-1.0, 0.3])]))
    covariance = (weight @ weight.T + noise * torch.eye(4)).numpy()
    return method, stats.multivariate_normal(bias.numpy(), covariance)


@pytest.mark.parametrize("exact", [True, False])
def test_the_bound_meets_the_exact_likelihood_where_the_posterior_is_exact(exact):
    """Probabilistic PCA (Tipping & Bishop 1999): log p(x) is that of one normal."""
    method, density = linear_vae(exact)
    x = drawn(50, 1, 2, 2)
    want = torch.from_numpy(density.logpdf(x.flatten(1).numpy())).float()
    singles = torch.stack([method.bound(x, draws=1, seed=s) for s in range(200)])
    gap = singles.mean(0) - want
    error = singles.std(0) / 200**0.5
    if exact:
        assert bool((gap.abs() < 5 * error + 1e-4).all())
    else:
        assert bool((gap < 4 * error).all()) and float(gap.mean()) < -0.1


def test_losses_are_the_bound_per_pixel_and_beta_weighs_the_divergence():
    x, found = drawn(6, 1, 4, 4), []
    for beta in (1.0, 4.0):
        method = Vae((1, 4, 4), kind="dense", widths=(8,), code=3, beta=beta)
        ((name, losses),) = method.steps(batch(x))
        likely, away = method.terms(x, Chance(0, 0))
        assert name == "net"
        torch.testing.assert_close(losses["reconstruction"], -likely.mean() / 16)
        torch.testing.assert_close(losses["divergence"], beta * away.mean() / 16)
        found.append(float(losses["divergence"].detach()))
    assert found[1] == pytest.approx(4 * found[0], rel=1e-5)


def test_learning_a_linear_vae_reaches_the_likelihood_of_probabilistic_pca():
    """Its maximum is in closed form: noise is the mean of the eigenvalues left out (Tipping & Bishop 1999, eq. 8)."""
    random = np.random.default_rng(0)
    points = random.standard_normal((300, 4)) * [2.0, 1.5, 0.5, 0.5] @ linalg.qr(random.standard_normal((4, 4)))[0]
    values = np.linalg.eigvalsh(np.cov(points.T, bias=True))[::-1]
    noise = values[2:].mean()
    best = -0.5 * (4 * math.log(2 * math.pi) + np.log(values[:2]).sum() + 2 * math.log(noise) + 4)
    image = torch.from_numpy(points - points.mean(0)).float().reshape(300, 1, 2, 2)
    method = Vae((1, 2, 2), kind="linear", code=2, learning_rate=0.06, weight_decay=0.0)
    teacher = method.optimisers()["net"]
    for step in range(400):
        for group in teacher.param_groups:
            group["lr"] = 0.06 * (1 - step / 400)
        for _, losses in method.steps(batch(image)):
            teacher.zero_grad()
            sum(losses.values()).backward()
            teacher.step()
    bound = float(method.bound(image, draws=200).mean())
    alone = -0.5 * np.log(2 * math.pi * math.e * points.var(0)).sum()  # of independent pixels
    assert alone < best - 1 and best - 0.25 < bound < best + 0.03, (alone, best, bound)


def test_a_mixture_of_one_group_costs_the_closed_form_on_average():
    method = GaussianMixtureVae((1, 2, 2), kind="linear", code=3, groups=1)
    with torch.no_grad():
        method.net.mean.zero_()
    mean, log_variance = drawn(4, 3), drawn(4, 3, seed=1)
    codes = [mean + torch.exp(log_variance / 2) * Chance(0, s).normal(mean.shape) for s in range(500)]
    costs = torch.stack([method.cost(mean, log_variance, code) for code in codes]).detach()
    assert bool(((costs.mean(0) - divergence(mean, log_variance)).abs() < 5 * costs.std(0) / 500**0.5).all())


def test_the_prior_is_the_mixture_and_groups_are_its_posterior():
    method = GaussianMixtureVae((1, 2, 2), kind="linear", code=2, groups=3)
    with torch.no_grad():
        method.net.weight.copy_(drawn(3))
        method.net.spread.copy_(drawn(3, 2, seed=1))
    parts = distributions.Independent(distributions.Normal(method.net.mean, (method.net.spread / 2).exp()), 1)
    mixture = distributions.MixtureSameFamily(distributions.Categorical(logits=method.net.weight), parts)
    code = drawn(5, 2, seed=2)
    torch.testing.assert_close(torch.logsumexp(method.net.log_prior(code), 1), mixture.log_prob(code))
    x = drawn(5, 1, 2, 2)
    joint = parts.log_prob(method.code(x)[:, None]).exp() * torch.softmax(method.net.weight, 0)
    torch.testing.assert_close(method.groups(x), (joint / joint.sum(1, keepdim=True)).detach())
    assert method.samples(4, group=1).shape == (4, 1, 2, 2)
    with pytest.raises(VesaliusError, match="0 to 2"):
        method.samples(4, group=3)


def test_the_context_branch_answers_for_the_whole_image():
    method, x = ContextVae((1, 6, 6), kind="dense", widths=(8,), code=3), drawn(5, 1, 6, 6)
    ((_, losses),) = method.steps(batch(x))
    likely, away = method.terms(x, Chance(0, 0))
    torch.testing.assert_close(losses["reconstruction"] + losses["divergence"], (away - likely).mean() / 72)
    assert float(losses["context"].detach()) > 0 and method.samples(2).shape == (2, 1, 6, 6)
    losses["context"].backward()
    assert float(method.coder.to_code.weight.grad[3:].abs().max()) == 0  # it uses mean codes alone: no gradient for the variances


def test_the_gradient_goes_straight_through():
    """d loss / d maps is d loss / d entries, whatever the distance between them; the entries have none from the decoder."""
    maps, entry = drawn(2, 3, 4, 4).requires_grad_(), drawn(2, 3, 4, 4, seed=1).requires_grad_()
    weights = drawn(2, 3, 4, 4, seed=2)
    passed = straight_through(maps, entry)
    torch.testing.assert_close(passed, entry)
    (passed.square() * weights).sum().backward()
    torch.testing.assert_close(maps.grad, 2 * entry.detach() * weights)
    assert entry.grad is None


@pytest.mark.parametrize("shape", [(1, 8, 6), (1, 4, 6, 5)])
def test_entries_are_the_nearest_and_terms_those_of_the_paper(shape):
    method, x = VqVae(shape, code=3, entries=7, widths=(4,)), drawn(3, *shape)
    with torch.no_grad():
        method.net.entries.copy_(drawn(7, 3, seed=5))
    maps = method.net.coder.encode(x)
    rows = maps.movedim(1, -1)
    away = (rows[..., None, :] - method.net.entries).square().sum(-1)
    assert torch.equal(method.codes(x), away.argmin(-1)) and len(method.codes(x).unique()) > 1
    ((_, losses),) = method.steps(batch(x))
    least = away.min(-1).values.mean() / 3
    torch.testing.assert_close(losses["dictionary"], least)
    torch.testing.assert_close(losses["commitment"], 0.25 * least)
    losses["dictionary"].backward(retain_graph=True)
    assert all(p.grad is None or float(p.grad.abs().max()) == 0 for p in method.net.coder.parameters())
    method.net.entries.grad = None
    losses["commitment"].backward()
    assert method.net.entries.grad is None


def test_the_weight_of_the_divergence_of_maps():
    x = drawn(3, 1, 8, 8)
    method = AutoencoderKl((1, 8, 8), code=2, widths=(4, 4), weight=0.5)
    ((_, losses),) = method.steps(batch(x))
    mean, log_variance = method.spread(x)
    assert mean.shape == (3, 2, 2, 2)
    torch.testing.assert_close(losses["divergence"], 0.5 * divergence(mean, log_variance).mean() / 64)


NONSENSE = [(Vae, {"beta": 0}), (GaussianMixtureVae, {"groups": 0}), (ContextVae, {"share": 1.0}), (VqVae, {"entries": 1}),
            (VqVae, {"widths": ()}), (AutoencoderKl, {"weight": -1})]  # fmt: skip


@pytest.mark.parametrize(("method", "more"), NONSENSE)
def test_nonsense_is_refused(method, more):
    with pytest.raises(VesaliusError, match="got"):
        method((1, 8, 8), **more)
