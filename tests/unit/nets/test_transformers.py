"""Attention against torch's own, tokens that are missing, and TransMed and the fusion networks against the paper's arithmetic."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise
from vesalius.nets._transformer import Attention, Positions, Transformer
from vesalius.nets.transmed import TransMed


def drawn(module, seed=0):
    return initialise(module, torch.Generator().manual_seed(seed)).eval()


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_attention_is_that_of_torch():
    """With the same weights and a mask: the answer, and the weights of every head."""
    ours, theirs = drawn(Attention(12, 3)), nn.MultiheadAttention(12, 3, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.query_key_value.weight.mul_(20))
        theirs.in_proj_bias.copy_(ours.query_key_value.bias.add_(noise(36)))
        theirs.out_proj.weight.copy_(ours.project.weight)
        theirs.out_proj.bias.copy_(ours.project.bias.add_(noise(12)))
    x, there = noise(2, 5, 12), torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1]], dtype=torch.bool)
    expected, weights = theirs(x, x, x, key_padding_mask=~there, average_attn_weights=False)
    torch.testing.assert_close(ours(x, there), expected)
    torch.testing.assert_close(ours.weights(x, there), weights)


def test_missing_tokens_change_nothing():
    """Whatever stands in a missing place, and however many there are: the answer is that without them."""
    net, x = drawn(Transformer(12, depth=3, heads=3)), noise(2, 6, 12)
    there = torch.tensor([[1, 1, 1, 1, 0, 0]] * 2, dtype=torch.bool)
    other = torch.cat((x[:, :4], 100 * noise(2, 2, 12, seed=1)), 1)
    torch.testing.assert_close(net(x, there), net(x[:, :4]))
    torch.testing.assert_close(net(other, there), net(x[:, :4]))
    assert float(net.attentions(x, there)[1][..., 5:].detach().abs().max()) == 0


def test_attentions_of_the_network_are_those_of_its_blocks():
    net = drawn(NETS["vit"](2, 1, 2, size="Ti", scale=0.125, sides=16, patch=8))
    image, seen = noise(2, 1, 16, 16), []
    net.transformer.blocks[1].attention.register_forward_pre_hook(lambda module, args: seen.append(module.weights(args[0])))
    net(image)
    torch.testing.assert_close(net.attentions(image)[1], seen[0])


@pytest.mark.parametrize(("ndim", "sides", "patch", "grid"), [(2, (32, 48), 8, (4, 6)), (3, (8, 32, 32), (4, 8, 16), (2, 4, 2))])
def test_the_grid_of_tokens(ndim, sides, patch, grid):
    net = drawn(NETS["vit"](ndim, 1, 2, size="Ti", scale=0.125, sides=sides, patch=patch))
    assert net.grid(sides) == (grid, 1)
    assert net.tokens(noise(1, 1, *sides)).shape == (1, torch.tensor(grid).prod(), 24)
    with pytest.raises(VesaliusError, match="multiples of the patch"):
        net.grid((33,) * ndim)


def test_places_on_another_grid_are_interpolated():
    """A plane that rises evenly stays one inside; the grid that was planned is answered as it is."""
    places = Positions((4, 6), 1)
    with torch.no_grad():
        places.places.copy_(torch.arange(6.0).expand(4, 6)[..., None])
    assert torch.equal(places((4, 6)), places.places)
    torch.testing.assert_close(places((8, 12))[4, 4:8, 0], torch.tensor([1.75, 2.25, 2.75, 3.25]))


# Published ResNets of 18, 34, 50 and 152 layers, less their heads.
TRUNKS = {"T": 11_689_512 - 513_000, "S": 21_797_672 - 513_000, "B": 25_557_032 - 2_049_000, "L": 60_192_808 - 2_049_000}
WIDTHS = {"T": (512, 192), "S": (512, 384), "B": (2048, 768), "L": (2048, 768)}
MILLIONS = {"T": 17, "S": 43, "B": 110, "L": 145}


@pytest.mark.parametrize("size", list(MILLIONS))
def test_transmed_has_the_totals_of_the_paper(size):
    """ResNet without its head, a linear layer, twelve blocks of 12 w^2 + 13 w, a last norm, class token, places, and the decision."""
    features, w = WIDTHS[size]
    tokens = 2 * 4 * 2 * 2  # modalities, groups of slices, rows, columns
    expected = TRUNKS[size] + features * w + w + 12 * (12 * w * w + 13 * w) + 2 * w + w + (1 + tokens) * w + 5 * w + 5
    with torch.device("meta"):
        assert count(TransMed(3, 2, 5, size=size, slices=12)) == expected
    assert round(expected / 1e6) == MILLIONS[size]


def small(ndim=3, modalities=2, **more):
    return drawn(TransMed(ndim, modalities, 3, **{"size": "T", "slices": 6, "stem": "small", "scale": 0.125, **more}))


def test_three_adjacent_slices_are_the_channels_of_a_picture():
    """Each voxel of a volume goes where the paper puts it: counted one by one; the last slice is repeated to fill a picture."""
    net, (slices, height, width) = small(), (4, 32, 36)
    volume = torch.arange(2.0 * slices * height * width).reshape(1, 2, slices, height, width)
    patches = net.patches(volume)
    assert patches.shape == (1, 2 * 2 * 2 * 2, 3, 16, 18)
    token = 0
    for modality in range(2):
        for group in range(2):
            for row in range(2):
                for column in range(2):
                    for k in range(3):
                        source = volume[0, modality, min(3 * group + k, slices - 1)]
                        assert torch.equal(patches[0, token, k], source[16 * row : 16 * row + 16, 18 * column : 18 * column + 18])
                    token += 1
    odd = net.patches(F.pad(volume, (0, 1)))  # a column of zeros fills 37 to 38
    assert odd.shape[-1] == 19 and float(odd[0, 1, 0, :, -2:].abs().max()) == 0


def test_a_picture_is_a_volume_of_one_slice():
    flat, image = small(2), noise(2, 2, 32, 32)
    assert flat.grid((32, 32)) == ((2, 1, 2, 2), 1)
    patches = flat.patches(image)
    assert patches.shape == (2, 8, 3, 16, 16) and torch.equal(patches[:, :, 0], patches[:, :, 2])


@pytest.mark.parametrize("name", ["transmed", "feature_fusion", "decision_fusion"])
def test_a_missing_modality_is_ignored_sample_by_sample(name):
    """Sample 1 lacks modality 0. Its batch normalisation, its answer and that of others are as if it had never been asked."""
    arguments = {"stem": "small", "scale": 0.125, **({"size": "T"} if name == "transmed" else {})}
    net, image = drawn(NETS[name](2, 2, 3, **arguments)), noise(3, 2, 32, 32)
    image[1, 0] = 0
    answers = net(image)
    torch.testing.assert_close(answers[[0, 2]], net(image[[0, 2]]), rtol=1e-4, atol=1e-5)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    net.train()(image)
    means = [v for k, v in net.state_dict().items() if k.endswith("running_mean")]
    assert not all(torch.equal(v, w) for v, w in zip(means, [w for k, w in state.items() if k.endswith("running_mean")], strict=True))
    if name != "transmed":  # the first encoder has seen samples 0 and 2 alone
        net.load_state_dict(state)
        lone = drawn(NETS[name](2, 2, 3, **arguments)).train()
        net.train()(image)
        lone(image[[0, 2]])
        first = [f"encoders.trunks.0.{key}" for key, _ in net.encoders.trunks[0].named_buffers() if key.endswith("running_mean")]
        for key in first:
            torch.testing.assert_close(net.state_dict()[key], lone.state_dict()[key])


@torch.no_grad()
def test_missing_in_transmed_is_what_attention_leaves_out():
    net, image = small(), noise(2, 2, 6, 32, 32)
    image[0, 1] = 0
    there = torch.ones(2, 16, dtype=torch.bool)
    there[0, 8:] = False
    tokens, found = net.tokens(image)
    assert torch.equal(found, there)
    for weights in net.attentions(image):
        assert float(weights[0, ..., 9:].abs().max()) == 0 and float(weights[1, ..., 9:].abs().min()) > 0
    torch.testing.assert_close(net(image)[:1], net.head(net.transformer(tokens[:1, :8])))


def test_decisions_are_averaged_over_those_that_are_there():
    image = noise(2, 3, 32, 32)
    image[0, 1] = 0
    for average in ("logits", "probabilities"):
        net = drawn(NETS["decision_fusion"](2, 3, 4, stem="small", scale=0.125, average=average))
        said = [d(t(image[:, k : k + 1])) for k, (d, t) in enumerate(zip(net.deciders, net.encoders.trunks, strict=True))]
        if average == "probabilities":
            said = [s.softmax(-1) for s in said]
        expected = torch.stack([(said[0][0] + said[2][0]) / 2, (said[0][1] + said[1][1] + said[2][1]) / 3])
        torch.testing.assert_close(net(image), expected.log() if average == "probabilities" else expected)


def test_features_are_joined():
    net, image = drawn(NETS["feature_fusion"](2, 2, 3, stem="small", scale=0.125)), noise(2, 2, 32, 32)
    image[1, 1] = 0
    joined = torch.cat([t(image[:, k : k + 1]).mean((2, 3)) for k, t in enumerate(net.encoders.trunks)], 1)
    joined[1, joined.shape[1] // 2 :] = 0
    hidden = F.relu(F.linear(joined, net.head[1].weight, net.head[1].bias))
    torch.testing.assert_close(net(image), F.linear(hidden, net.head[4].weight, net.head[4].bias))


def interaction(net, first, second):
    """f(a, c) + f(b, d) - f(a, d) - f(b, c) of two images (1, 2, *S) whose modalities are exchanged: 0 for any sum of what each says."""
    mixed = [torch.stack([one[:, 0], other[:, 1]], 1) for one, other in ((first, second), (second, first))]
    return float((net(first) + net(second) - net(mixed[0]) - net(mixed[1])).abs().max())


@torch.no_grad()
@pytest.mark.parametrize(("name", "more", "told"), [("feature_fusion", {}, True), ("feature_fusion", {"joint": "linear"}, False),
                                                    ("decision_fusion", {}, False), ("transmed", {"size": "T"}, True),
                                                    ("resnet", {}, True)])  # fmt: skip
def test_what_only_two_modalities_together_tell(name, more, told):
    """An exclusive or has an interaction, so a fusion whose answer is a sum over modalities cannot learn it at any length."""
    net = drawn(NETS[name](2, 2, 3, stem="small", scale=0.125, **more))
    found = interaction(net, noise(1, 2, 16, 16), 3 * noise(1, 2, 16, 16).flip(-1))
    assert found > 1e-3 if told else found < 1e-5


@pytest.mark.parametrize("name", ["transmed", "feature_fusion", "decision_fusion"])
def test_all_modalities_missing_is_answered_with_a_number(name):
    more = {"size": "T"} if name == "transmed" else {}
    net = drawn(NETS[name](2, 2, 3, stem="small", scale=0.125, **more))
    assert bool(net(torch.zeros(2, 2, 32, 32)).isfinite().all())


def test_a_modality_that_one_sample_has_can_be_learned_from():
    """A single sample with maps of one voxel has no batch to be normalised by; the others, which are zero, are taken along."""
    net, image = drawn(NETS["feature_fusion"](2, 2, 3, stem="small", scale=0.125)).train(), noise(3, 2, 8, 8)
    image[:2, 0] = 0
    assert float(net.trunk(image)[:2, : net.encoders.features].detach().abs().max()) == 0
    assert bool(net(image).isfinite().all())


def test_transmed_out_of_nonsense():
    with pytest.raises(UsageError, match="at least one slice"):
        TransMed(3, 1, 2, slices=0)
    with pytest.raises(VesaliusError, match="at least 64"):  # patches of 32 for the published stem
        small(stem="published")(torch.zeros(1, 2, 6, 32, 32))
