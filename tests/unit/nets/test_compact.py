"""The compact network: its published size, both numbers of axes, any size of image, and what it is made of."""

import pytest
import torch

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise


def made(ndim=2, **more):
    return initialise(NETS["compact"](ndim, 2, 3, channels=(4, 6, 8), **more), torch.Generator().manual_seed(0))


def test_the_number_of_weights_is_that_of_the_formula():
    net, widths, before, total = NETS["compact"](2, 1, 2), (48, 96, 144), 1, 0
    for width in widths:
        total += 9 * width * (before + width) + 4 * width
        before = width
    assert sum(p.numel() for p in net.parameters()) == total + 2 * before + 2 == NETS.card("compact").facts["parameters"]


@pytest.mark.parametrize("sides", [(28, 28), (9, 14), (3, 1), (12, 10, 7), (5, 6, 1)])
def test_any_size_gives_logits_and_the_head_follows_the_trunk(sides):
    net = made(len(sides)).eval()
    image = torch.randn(2, 2, *sides, generator=torch.Generator().manual_seed(1))
    logits = net(image)
    assert logits.shape == (2, 3) and torch.equal(net.classify(net.trunk(image)), logits) and torch.equal(net.heads(image)[0], logits)
    assert torch.allclose(net(image[:1]), logits[:1], atol=1e-5), "each case is answered alone"


def test_a_gradient_reaches_every_weight():
    net = made()
    (net(torch.randn(4, 2, 12, 12)) ** 2).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    assert all(float(p.grad.abs().max()) > 0 for p in net.parameters() if p.ndim > 1)


def test_the_same_seed_draws_the_same_weights():
    one, other = made().state_dict(), made().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("wrong", [{"ndim": 4}, {"dropout": 1.0}, {"channels": ()}, {"channels": (4, 0)}, {"in_channels": 0}])
def test_nonsense_is_refused(wrong):
    settings = {"ndim": 2, "in_channels": 1, "out_channels": 2, **wrong}
    with pytest.raises(UsageError, match="compact network needs"):
        NETS["compact"](settings.pop("ndim"), settings.pop("in_channels"), settings.pop("out_channels"), **settings)
    with pytest.raises(VesaliusError, match=r"expects \(B, C, \*S\)"):
        made()(torch.zeros(1, 2, 4, 4, 4))
