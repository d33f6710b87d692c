"""Networks that put slices or instances together: equations of the papers, order, and what is missing."""

import pytest
import torch
from torch import nn

from vesalius.core.errors import UsageError
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise

NAMES = ("attention_mil", "slice_attention", "slice_lstm")


def small(name, **more):
    made = NETS[name](3, 1, 2, **{**NETS.card(name).facts["small"], **more})
    return initialise(made, torch.Generator().manual_seed(0)).eval()


def bag(slices=5, *, seed=0):
    return torch.randn(1, 1, slices, 28, 28, generator=torch.Generator().manual_seed(seed))


def test_the_published_counts():
    """Ilse et al., table 6: convolutions of 20 and 50, 500 features, 128 in the attention; the gate adds a second layer of 128."""
    lenet = (25 * 20 + 20) + (25 * 20 * 50 + 50) + (800 * 500 + 500)
    attention, decision = (500 * 128 + 128) + (128 + 1), 500 + 1
    for gated, extra in ((False, 0), (True, 500 * 128 + 128)):
        with torch.device("meta"):
            net = NETS["attention_mil"](3, 1, 1, gated=gated)
        assert sum(p.numel() for p in net.parameters()) == lenet + attention + decision + extra


@pytest.mark.parametrize("gated", [False, True])
def test_attention_of_a_bag_is_its_equation(gated):
    net, image = small("attention_mil", gated=gated), bag()
    h = net.embed(net.encoder(image[0].transpose(0, 1)))
    v, w = net.signal[0], net.score
    inner = torch.tanh(h @ v.weight.T + v.bias)
    if gated:
        u = net.gate[0]
        inner = inner * torch.sigmoid(h @ u.weight.T + u.bias)
    e = torch.exp(inner @ w.weight[0] + w.bias)
    a = e / e.sum()
    torch.testing.assert_close(net.looked_at(image)[0], a)
    torch.testing.assert_close(net(image), ((a[:, None] * h).sum(0) @ net.head.weight.T + net.head.bias)[None])


def test_pooling_is_attention_of_torch_within_its_equation():
    from vesalius.nets.slice_attention import HEADS, Pooling

    pool = initialise(Pooling(8), torch.Generator().manual_seed(0)).eval()
    theirs = nn.MultiheadAttention(8, HEADS, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in (pool.query, pool.key, pool.value)]))
        theirs.out_proj.weight.copy_(pool.join.weight)
    slices = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    there = torch.ones(2, 6, dtype=torch.bool)
    there[1, 3:] = False
    rows = torch.relu(pool.rows[0](slices))
    seed = pool.seed.expand(2, 1, 8)
    seen, weights = theirs(seed, rows, rows, key_padding_mask=~there, average_attn_weights=False)
    h = pool.first(seed[:, 0] + seen[:, 0])
    torch.testing.assert_close(pool(slices, there), pool.second(h + torch.relu(pool.feed[0](h))))
    torch.testing.assert_close(pool.weights(rows, there), weights[:, :, 0])


def test_answers_after_every_slice_are_averaged():
    net, image = small("slice_lstm"), bag()
    features = net.encoder(image[0].transpose(0, 1)).mean((2, 3))
    hidden, cell, said = torch.zeros(1, net.read.hidden_size), torch.zeros(1, net.read.hidden_size), []
    w, u, b, c = (p.detach() for p in net.read.parameters())
    for x in features[:, None]:
        i, f, g, o = (x @ w.T + b + hidden @ u.T + c).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        said.append(net.head(hidden))
    torch.testing.assert_close(net(image), torch.stack(said).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_slices_counts_for_the_lstm_alone(name):
    net, image = small(name), bag()
    turned = net(image.flip(2))
    assert torch.allclose(net(image), turned, rtol=1e-4, atol=1e-6) == (name != "slice_lstm")


@pytest.mark.parametrize("name", NAMES)
def test_empty_slices_at_the_end_fill_up_alone(name):
    """Volumes of different depth share a batch: slices of zeros have no say, and no part in the batch normalisation."""
    net, image = small(name), bag(5)
    longer = torch.cat((image, torch.zeros(1, 1, 3, 28, 28)), 2)
    torch.testing.assert_close(net(longer), net(image), rtol=1e-4, atol=1e-6)
    one, two = small(name).train(), small(name).train()
    one(image), two(longer)
    for (key, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        if "running" in key:
            torch.testing.assert_close(a, b, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_a_volume_of_zeros_is_answered_with_a_number(name):
    assert bool(small(name)(torch.zeros(2, 1, 4, 28, 28)).isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_refused(name):
    with pytest.raises(UsageError, match="3 axes of which the first counts the slices"):
        NETS[name](2, 1, 2)


def test_every_encoder_of_a_bag():
    for encoder in ("resnet18", "resnet50"):
        assert small("attention_mil", encoder=encoder, stem="small")(bag()).shape == (1, 2)
