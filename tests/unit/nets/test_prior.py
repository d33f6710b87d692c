"""Networks that correct a shallow classifier: where they start, what they are shown, at every scale."""

import numpy as np
import pytest
import torch

from vesalius.data.primed import LIMIT, SCALE
from vesalius.nets._prior import corrected, seen
from vesalius.plan.plan import Net
from vesalius.plan.search import build


def image(ndim=3, *, prior=2, side=8):
    random = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 1, *[side] * ndim, generator=random)
    odds = 2 * LIMIT * torch.rand(2, prior, *[side] * ndim, generator=random)
    return torch.cat([pixels, odds], 1)


def net_of(ndim, *, prior, classes):
    return build(Net(name="unet", ndim=ndim, channels=(4, 6, 8), prior=prior, bias=(1.0,) * classes), 1, classes)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("classes", [2, 3])  # overlapping labels; classes that exclude each other, background first
def test_learning_starts_from_the_answer_of_the_classifier(ndim, classes):
    x, net = image(ndim), net_of(ndim, prior=2, classes=classes)
    (said,) = corrected([net(seen(x, 2))], x, 2)
    odds = x[:, 1:] - LIMIT
    assert torch.allclose(said[:, -2:], odds, atol=1e-5)
    if classes == 3:
        assert torch.equal(said[:, 0], torch.zeros_like(said[:, 0]))
        assert torch.allclose((said[:, 1:] - said[:, :1]), odds, atol=1e-5), "log odds against the background"


def test_coarser_heads_get_means():
    x, net = image(2), net_of(2, prior=2, classes=2)
    x = x[:, :, :8, :8]
    heads = corrected(net.heads(seen(x, 2)), x, 2)
    for head in heads:
        factor = 8 // head.shape[-1]
        means = (x[:, 1:] - LIMIT).reshape(2, 2, 8 // factor, factor, 8 // factor, factor).mean((3, 5))
        assert torch.allclose(head, means, atol=1e-5)


def test_what_is_shown_is_of_like_size_and_the_image_stays():
    x = image()
    shown = seen(x, 2)
    assert torch.equal(shown[:, :1], x[:, :1]) and torch.allclose(shown[:, 1:] * SCALE, x[:, 1:])
    assert seen(x, 0) is x


def test_outside_a_scan_there_is_background():
    x = torch.zeros(1, 2, 4, 4)  # padding: image 0, odds 0
    (said,) = corrected([torch.zeros(1, 2, 4, 4)], x, 1)
    assert np.allclose(said.softmax(1)[:, 1].numpy(), 1 / (1 + np.exp(LIMIT)))
