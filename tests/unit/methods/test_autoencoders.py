"""Autoencoders without a distribution: principal components, the Jacobian by autograd, the divergence of sparsity, spoiling, stacks."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from sklearn.decomposition import PCA

from vesalius.core.errors import VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.methods._chance import Chance
from vesalius.methods._spoil import Spoil, boxed
from vesalius.methods.adversarial_autoencoder import AdversarialAutoencoder
from vesalius.methods.autoencoder import Autoencoder
from vesalius.methods.contractive_autoencoder import ContractiveAutoencoder
from vesalius.methods.denoising_autoencoder import DenoisingAutoencoder
from vesalius.methods.sparse_autoencoder import SparseAutoencoder, jointly, sparsity
from vesalius.methods.stacked_autoencoder import StackedAutoencoder


def learn(method, image, steps):
    """Names of the turns of the last step; the rate falls to zero."""
    teachers = method.optimisers()
    for step in range(steps):
        names = []
        for group in (group for teacher in teachers.values() for group in teacher.param_groups):
            group["lr"] = method.learning_rate * (1 - step / steps)
        for name, losses in method.steps(Batch({"image": image}, {"image": Kind.IMAGE})):
            names.append(name)
            teachers[name].zero_grad()
            sum(losses.values()).backward()
            teachers[name].step()
    return names


def test_a_linear_autoencoder_spans_the_principal_components():
    """Baldi & Hornik 1989: at the minimum the decoder's columns span the first components, and the error is what PCA leaves."""
    random = np.random.default_rng(0)
    spread = np.array([3.0, 2.0, 0.4, 0.3, 0.2, 0.1])
    turn = linalg.qr(random.standard_normal((6, 6)))[0]
    points = random.standard_normal((200, 6)) * spread @ turn.T
    points = points - points.mean(0)
    image = torch.from_numpy(points).reshape(200, 1, 2, 3)
    method = Autoencoder((1, 2, 3), kind="linear", code=2).double()
    search = torch.optim.LBFGS(method.net.parameters(), max_iter=150, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def error():
        search.zero_grad()
        ((_, losses),) = method.steps(Batch({"image": image}, {"image": Kind.IMAGE}))
        losses["reconstruction"].backward()
        return losses["reconstruction"]

    search.step(error)
    pca = PCA(2).fit(points)
    found = linalg.orth(method.coder.from_code.weight.detach().numpy())
    assert np.rad2deg(linalg.subspace_angles(found, pca.components_.T)).max() < 1.5
    left = np.square(points - pca.inverse_transform(pca.transform(points))).mean()
    code = method.coder.encode(image)
    assert (method.coder.decode(code) - image).square().mean().item() == pytest.approx(left, rel=1e-2)


@pytest.mark.parametrize("shape", [(1, 7, 5), (2, 5, 6, 3)])
@pytest.mark.parametrize("kind", ["linear", "dense", "convolutional"])
def test_any_sides_come_back(shape, kind):
    method = Autoencoder(shape, kind=kind, code=3, widths=() if kind == "linear" else (4, 4))
    image = torch.rand(2, *shape)
    assert method.infer(image).shape == image.shape and method.features(image).shape == (2, 3)


def test_the_contraction_is_the_norm_of_the_jacobian():
    method = ContractiveAutoencoder((1, 2, 3), code=4)
    with torch.no_grad():
        for p in method.net.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.ndim)))
    units = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    want = [torch.autograd.functional.jacobian(method.net.encode, row[None])[0, :, 0].square().sum() for row in units]
    torch.testing.assert_close(method.net.contraction(method.net.encode(units)), torch.stack(want))


def test_contraction_contracts():
    image = torch.rand(64, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    norms = []
    for weight in (1e-6, 0.3):
        method = ContractiveAutoencoder((1, 3, 3), code=12, weight=weight, learning_rate=0.01, weight_decay=0.0)
        learn(method, image, 150)
        norms.append(method.net.contraction(method.net.encode(image.flatten(1))).mean().item())
    assert norms[1] < 0.5 * norms[0]


def test_sparsity_is_the_divergence_of_two_coins():
    activity = torch.tensor([0.05, 0.2, 0.9])
    want = sum(stats.entropy([0.05, 0.95], [a, 1 - a]) for a in activity.tolist())
    assert float(sparsity(activity)) == pytest.approx(want, rel=1e-5)
    assert float(sparsity(torch.tensor([0.05]))) == pytest.approx(0, abs=1e-7)


def test_sparse_units_are_on_as_often_as_asked():
    image = torch.rand(128, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    method = SparseAutoencoder((1, 4, 4), kind="linear", code=10, weight=1.0, learning_rate=0.03, weight_decay=0.0)
    before = method.features(image).mean(0)
    learn(method, image, 150)
    assert float(before.mean()) > 0.3 and float((method.features(image).mean(0) - 0.05).abs().max()) < 0.02


def test_the_joint_mean_has_this_processs_gradient():
    code = torch.rand(4, 3, requires_grad=True)
    assert torch.equal(jointly(code).detach(), code.detach().mean(0))
    jointly(code).sum().backward()
    torch.testing.assert_close(code.grad, torch.full((4, 3), 0.25))


def test_spoilt_pixels():
    image, chance = torch.ones(40, 1, 10, 10), Chance(0, 0)
    masked = Spoil(kind="mask", amount=0.3)(image, chance)
    assert set(masked.unique().tolist()) == {0.0, 1.0} and float(masked.mean()) == pytest.approx(0.7, abs=0.03)
    noise = Spoil(amount=0.5)(image, chance) - image
    assert stats.kstest(noise.flatten().numpy() / 0.5, "norm").pvalue > 0.001


@pytest.mark.parametrize("sides", [(8, 6), (6, 4, 8)])
def test_a_box_of_every_sample_is_filled_with_its_mean(sides):
    image = torch.rand(30, 2, *sides, generator=torch.Generator().manual_seed(0)) + 1
    spoilt = boxed(image, Chance(0, 0), share=0.5)
    for clean, other in zip(image, spoilt, strict=True):
        away = (clean != other).any(0)
        places = away.nonzero()
        box = places.max(0).values - places.min(0).values + 1
        assert box.tolist() == [side // 2 for side in sides] and int(away.sum()) == math.prod(box.tolist())
        torch.testing.assert_close(other[:, away], clean.mean().expand(2, int(away.sum())))
    assert len({tuple((a != b).any(0).nonzero()[0].tolist()) for a, b in zip(image, spoilt, strict=True)}) > 5


def test_a_denoising_linear_autoencoder_shrinks_as_the_wiener_filter():
    """Its best answer to noisy x in one dimension: x s^2 / (s^2 + noise^2)."""
    image = torch.randn(500, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    method = DenoisingAutoencoder((1, 1, 1), spoil=Spoil(amount=1.0), kind="linear", code=1, learning_rate=0.02, weight_decay=0.0)
    learn(method, image, 200)
    slope = float(method.infer(torch.ones(1, 1, 1, 1)) - method.infer(torch.zeros(1, 1, 1, 1)))
    variance = float(image.var())
    assert slope == pytest.approx(variance / (variance + 1), abs=0.06)


@pytest.mark.parametrize("spoil", [None, Spoil(kind="mask")])
def test_layers_of_a_stack_learn_in_turn_and_then_together(spoil):
    image = torch.rand(16, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    method = StackedAutoencoder((1, 3, 3), hidden=(6, 4), greedy=2, spoil=spoil)
    before = {name: p.clone() for name, p in method.net.named_parameters()}
    assert learn(method, image, 2) == ["layer0"]
    moved = {name.split(".")[0] for name, p in method.net.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"0"} and learn(method, image, 2) == ["layer1"] and learn(method, image, 1) == ["layer0", "layer1"]


def test_the_encoder_of_a_stack_can_be_taught():
    method, image = StackedAutoencoder((1, 3, 3), hidden=(6, 4)), torch.rand(2, 1, 3, 3)
    encoder = method.encoder()
    assert torch.equal(encoder(image), method.features(image))
    encoder(image).sum().backward()
    assert all(p.grad is None for p in method.parameters()) and all(p.grad is not None for p in encoder.parameters())


def test_the_critic_brings_codes_to_the_prior():
    """Codes of images far from N(0, 1) come nearer to its mean and spread."""
    image = 2 + 2 * torch.randn(256, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    method = AdversarialAutoencoder((1, 1, 2), kind="linear", code=2, weight=1.0, learning_rate=0.02, weight_decay=0.0)
    start = method.features(image)
    learn(method, image, 250)
    code = method.features(image)
    away = [float((x.mean(0).abs() + (x.std(0) - 1).abs()).max()) for x in (start, code)]
    assert away[1] < 0.3 * away[0], away


NONSENSE = [(Autoencoder, {"kind": "round"}), (Autoencoder, {"code": 0}), (Autoencoder, {"kind": "linear", "widths": (3,)}),
            (DenoisingAutoencoder, {"spoil": Spoil(amount=0)}), (SparseAutoencoder, {"weight": 0}), (ContractiveAutoencoder, {"weight": 0}),
            (StackedAutoencoder, {"hidden": ()}), (AdversarialAutoencoder, {"weight": 0})]  # fmt: skip


@pytest.mark.parametrize(("method", "more"), NONSENSE)
def test_nonsense_is_refused(method, more):
    with pytest.raises(VesaliusError, match="got"):
        method((1, 4, 4), **more)
    with pytest.raises(VesaliusError, match="shape"):
        method((4, 4))
