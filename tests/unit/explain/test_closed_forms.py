"""Explanations of networks simple enough to be explained on paper."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError
from vesalius.explain import EXPLAIN, completeness_gap
from vesalius.explain._frame import enlarged
from vesalius.explain.attention_rollout import rollout
from vesalius.testing.check_explain import Convolutional, example

SIDES = {2: (6, 5), 3: (4, 3, 5)}


class Linear(nn.Module):
    """logit_k = <weight_k, image> + bias_k."""

    def __init__(self, sides, *, channels=2, classes=3):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(classes, channels, *sides, generator=generator))
        self.bias = nn.Parameter(torch.randn(classes, generator=generator))

    def forward(self, image):
        return image.flatten(1) @ self.weight.flatten(1).T + self.bias


def linear(ndim):
    net = Linear(SIDES[ndim])
    image = torch.randn(4, 2, *SIDES[ndim], generator=torch.Generator().manual_seed(2))
    return net, image, torch.tensor([0, 2, 1, 2])


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("baseline", [0.0, -1.5])
def test_integrated_gradients_of_a_line_are_weight_times_way(ndim, baseline):
    net, image, target = linear(ndim)
    for steps in (1, 7):
        heat = EXPLAIN["integrated_gradients"](steps=steps, baseline=baseline)(net, image, target)
        torch.testing.assert_close(heat, (net.weight[target] * (image - baseline)).sum(1).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_gradient_of_a_line_is_its_weight_also_smoothed(ndim):
    net, image, target = linear(ndim)
    for explain in (EXPLAIN["gradient"](), EXPLAIN["smooth_grad"](samples=3)):
        torch.testing.assert_close(explain(net, image, target), net.weight[target].abs().amax(1).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
def test_occlusion_of_a_line_is_what_the_windows_held(ndim):
    net, image, target = linear(ndim)
    part = (net.weight[target] * (image - 0.5)).sum(1).detach()
    single = EXPLAIN["occlusion"](window=1, stride=1, baseline=0.5, at_once=7)(net, image, target)
    torch.testing.assert_close(single, part, rtol=1e-3, atol=1e-4)
    explain = EXPLAIN["occlusion"](window=2, stride=1, baseline=0.5)
    total, times = torch.zeros_like(part), torch.zeros_like(part)
    for window in explain.windows(image.shape[2:]):
        where = (slice(None), *window)
        total[where] += part[where].flatten(1).sum(1).reshape(-1, *[1] * ndim)
        times[where] += 1
    torch.testing.assert_close(explain(net, image, target), total / times, rtol=1e-3, atol=1e-4)


def test_windows_hide_every_voxel_and_stay_inside():
    for sides, window, stride in (((7, 5), 3, 2), ((9, 4, 6), (4, 2, 3), (3, 1, 2)), ((8, 8), None, None)):
        seen = torch.zeros(sides)
        for place in EXPLAIN["occlusion"](window=window, stride=stride).windows(torch.Size(sides)):
            assert all(0 <= s.start < s.stop <= side for s, side in zip(place, sides, strict=True))
            seen[place] += 1
        assert int(seen.min()) >= 1
    for wrong in ({"window": 9}, {"window": 2, "stride": 3}, {"window": 0}, {"window": (2, 2, 2)}):
        with pytest.raises(UsageError):
            list(EXPLAIN["occlusion"](**wrong).windows(torch.Size((8, 8))))


@pytest.mark.parametrize("name", ["integrated_gradients", "occlusion", "gradient", "smooth_grad"])
def test_a_pixel_that_the_network_ignores_has_no_heat_and_one_that_it_needs_has(name):
    """Dummy and sensitivity of Sundararajan et al."""

    class Corner(nn.Module):
        def forward(self, image):
            return torch.stack([image[:, 0, 1, 2] ** 3 + 2 * image[:, 0, 1, 2], 0 * image[:, 0, 0, 0]], 1)

    words = {"window": 1, "stride": 1} if name == "occlusion" else {}
    image = torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(0)) + 2
    heat = EXPLAIN[name](**words)(Corner(), image, torch.tensor([0, 0]))
    assert bool((heat[:, 1, 2] != 0).all())
    heat[:, 1, 2] = 0
    assert float(heat.abs().max()) == 0


@pytest.mark.parametrize("ndim", [2, 3])
def test_integrated_gradients_add_up_to_the_change_of_the_score_ever_better(ndim):
    class Smooth(nn.Module):
        """Curved, so that one step is not enough."""

        def __init__(self):
            super().__init__()
            self.line = Linear(SIDES[ndim])

        def forward(self, image):
            return torch.tanh(self.line(image) / 4) * 5 + self.line(torch.sin(image))

    net, (_, image, target) = Smooth().double(), linear(ndim)
    image = image.double()
    gaps = []
    for steps in (4, 16, 64, 256):
        heat = EXPLAIN["integrated_gradients"](steps=steps, baseline=0.3)(net, image, target)
        gaps.append(float(completeness_gap(net, image, heat.double(), baseline=0.3, target=target).max()))
    assert gaps[0] > 0.02 and gaps[1] < gaps[0] / 4 and gaps[2] < gaps[1] / 8 and gaps[3] < 1e-4


def test_integrated_gradients_add_up_for_a_network_with_kinks_too():
    net = Convolutional(2, torch.Generator().manual_seed(3)).eval()
    image, _ = example(2)
    gaps = [completeness_gap(net, image, EXPLAIN["integrated_gradients"](steps=s)(net, image)).max().item() for s in (2, 256)]
    with torch.no_grad():
        change = (net(image) - net(torch.zeros_like(image))).abs().max().item()
    assert gaps[1] < 0.02 * change and gaps[1] < 0.3 * gaps[0]


def test_a_network_of_one_sequence_gives_the_other_no_share():
    net, image, target = linear(2)
    with torch.no_grad():
        net.weight[:, 1] = 0
    shares = EXPLAIN["integrated_gradients"]().by_channel(net, image, target)
    assert float(shares[:, 1].abs().max()) == 0 and float(shares[:, 0].abs().max()) > 0


@pytest.mark.parametrize("ndim", [2, 3])
def test_grad_cam_of_a_mean_and_a_line_is_weights_times_maps(ndim):
    """Class activation maps (Zhou et al. 2016): relu(sum_k w_k A_k), here divided by the number of places that the mean is over."""
    net = Convolutional(ndim, torch.Generator().manual_seed(0)).eval()
    image, _ = example(ndim)
    target = torch.tensor([1, 0, 1])
    maps = net.trunk(image).detach()
    weights = net.answer.weight[target].detach().reshape(len(image), -1, *[1] * ndim)
    expected = F.relu((weights * maps).sum(1)) / maps[0, 0].numel()
    torch.testing.assert_close(EXPLAIN["grad_cam"]()(net, image, target), enlarged(expected, image.shape[2:]), rtol=1e-4, atol=1e-6)


def test_grad_cam_plus_plus_follows_its_equations_with_derivatives_by_autograd():
    """Equation 19 with the first three derivatives of exp(score) taken one place at a time, not from powers of the first."""
    net = Convolutional(2, torch.Generator().manual_seed(0)).eval().double()
    image = example(2)[0][:1, :, :8, :8].double()
    maps = net.trunk(image).detach()

    def value(flat):
        return net.classify(flat.reshape(maps.shape))[0, 1].exp()

    flat = maps.flatten().clone().requires_grad_()
    (first,) = torch.autograd.grad(value(flat), flat, create_graph=True)
    derivatives = []
    for k in range(flat.numel()):
        (second,) = torch.autograd.grad(first[k], flat, create_graph=True)
        (third,) = torch.autograd.grad(second[k], flat, retain_graph=True)
        derivatives.append((second[k].item(), third[k].item()))
    second, third = torch.tensor(derivatives, dtype=torch.float64).T.reshape(2, *maps.shape)
    alpha = second / (2 * second + maps.sum((2, 3), keepdim=True) * third)
    weight = (alpha * F.relu(first.detach().reshape(maps.shape))).sum((2, 3), keepdim=True)
    expected = enlarged(F.relu((weight * maps).sum(1)), image.shape[2:]) / value(maps.flatten()).item()
    heat = EXPLAIN["grad_cam_plus_plus"]()(net, image, torch.tensor([1]))
    torch.testing.assert_close(heat.double(), expected, rtol=1e-4, atol=1e-8)


def test_rollout_multiplies_attention_with_the_residual_way():
    drawn = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    layers = [drawn, drawn.flip(1).roll(1, -1)]
    eye = torch.eye(4)
    steps = [0.5 * layer.mean(1) + 0.5 * eye for layer in layers]
    torch.testing.assert_close(rollout(layers), steps[1] @ steps[0])
    torch.testing.assert_close(rollout(layers).sum(-1), torch.ones(2, 4))
    torch.testing.assert_close(rollout([eye.expand(1, 1, 4, 4)] * 5)[0], eye)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_rollout_reads_the_class_token_and_leaves_extra_tokens_out(extra):
    class Stare(nn.Module):
        """Every token attends to patch 5 of 2 x 3 alone."""

        def forward(self, image):
            return image.flatten(1)[:, :2]

        def grid(self, sides):
            return (sides[0] // 2, sides[1] // 2), extra

        def attentions(self, image):
            one = torch.zeros(len(image), 1, 6 + extra, 6 + extra)
            one[..., extra + 5] = 1
            return [one, one]

    heat = EXPLAIN["attention_rollout"]()(Stare(), torch.rand(2, 1, 4, 6))
    assert heat.shape == (2, 4, 6) and bool((heat.flatten(1).argmax(1) == 23).all())


def test_rollout_sums_over_modalities():
    class Two(nn.Module):
        """Two modalities of 2 x 2 patches: the class token takes .25 from patch 1 of the first and .125 from patch 1 of the second."""

        def forward(self, image):
            return image.flatten(1)[:, :2]

        def grid(self, sides):
            return (2, 1, 2, 2), 1

        def attentions(self, image):
            one = torch.eye(9).repeat(len(image), 1, 1, 1)
            one[..., 0, :] = 0
            one[..., 0, 0], one[..., 0, 1 + 1], one[..., 0, 1 + 4 + 1] = 0.25, 0.5, 0.25
            return [one]

    heat = EXPLAIN["attention_rollout"]()(Two(), torch.rand(3, 2, 2, 2))
    torch.testing.assert_close(heat, torch.tensor([[0.0, 0.375], [0, 0]]).expand(3, -1, -1))


def test_rollout_refuses_a_grid_that_does_not_fit():
    class Wrong(nn.Module):
        def forward(self, image):
            return image.flatten(1)[:, :2]

        def grid(self, sides):
            return sides, 1

        def attentions(self, image):
            return [torch.ones(len(image), 1, 3, 3)]

    with pytest.raises(UsageError, match=r"1 \+ 24 tokens.*got 3"):
        EXPLAIN["attention_rollout"]()(Wrong(), torch.rand(1, 1, 4, 6))
