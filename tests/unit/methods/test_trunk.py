"""The trunk that learns without labels is the network that learns with them: same names, same maps, nothing in it that was not learned."""

import pytest
import torch

from vesalius.core.errors import UsageError
from vesalius.engine.begin import begin
from vesalius.engine.state import save_weights
from vesalius.methods import METHODS
from vesalius.methods._trunk import dense, described, fitted, headless, lean, mapped, spread
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise

CLASSIFIERS = {
    "compact": {"channels": (4, 8)},
    "resnet": {"depth": 18, "stem": "small", "scale": 0.0625},
    "se_resnet": {"depth": 18, "stem": "small", "scale": 0.0625},
    "convnext": {"stem": "small", "scale": 0.0625},
    "mobilenet": {"scale": 0.125},
    "vit": {"size": "Ti", "scale": 0.0625, "patch": 8, "sides": (32, 32)},
}
SEGMENTERS = {"unet": {"channels": (4, 8, 8)}, "residual_unet": {"channels": (4, 8), "blocks": (1, 1)}}


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*size, seed=0):
    return torch.randn(*size, generator=random(seed))


def network(name, words, out, *, ndim=2, seed=1):
    return initialise(NETS[name](ndim, 1, out, **words), random(seed)).eval()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_trunk_is_the_classifier_without_its_answer(name, tmp_path):
    net, width = headless((1, 32, 32), {"name": name, **CLASSIFIERS[name]}, random(), read=described)
    later = network(name, CLASSIFIERS[name], 3)
    save_weights(tmp_path / "w.safetensors", dict(net.state_dict()))
    words = begin(later, tmp_path / "w.safetensors")
    assert "Drawn anew" in words and all(value.requires_grad for value in net.parameters())
    missing = [key for key in later.state_dict() if key not in net.state_dict()]
    assert len([key for key in missing if key.endswith(("weight", "bias"))]) == 2  # the answer alone
    answer = next(layer for layer in reversed(list(later.modules())) if isinstance(layer, torch.nn.Linear) and layer.out_features == 3)
    image = drawn(2, 1, 32, 32)
    features = described(net.eval(), image)
    assert features.shape == (2, width) == (2, answer.in_features)
    torch.testing.assert_close(answer(features), later(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_encoder_of_a_segmenter_is_taken_by_name(name, tmp_path):
    net, width = headless((1, 16, 16), {"name": name, **SEGMENTERS[name]}, random(), read=described)
    later = network(name, SEGMENTERS[name], 2)
    assert all(key.startswith(("down", "stem")) for key in net.state_dict())
    save_weights(tmp_path / "w.safetensors", dict(net.state_dict()))
    begin(later, tmp_path / "w.safetensors")
    assert all(torch.equal(value, later.state_dict()[key]) for key, value in net.state_dict().items())
    assert described(net, drawn(2, 1, 16, 16)).shape == (2, width)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_whole_segmenter_is_taken_but_for_its_last_layers(name, tmp_path):
    net = dense((1, 16, 16), {"name": name, **SEGMENTERS[name]}, random())
    later = network(name, SEGMENTERS[name], 1)  # one class, as many as channels: still no last layer is taken
    save_weights(tmp_path / "w.safetensors", dict(net.state_dict()))
    words = begin(later, tmp_path / "w.safetensors")
    missing = [key for key in later.state_dict() if key not in net.state_dict()]
    assert missing and all(key.startswith("outs.") for key in missing) and "outs.0.weight" in words
    image = drawn(1, 1, 16, 16)
    torch.testing.assert_close(net.eval().features(image)[0], later.features(image)[0])


def test_maps_without_the_layers_behind_them():
    """ConvNeXt has a norm between its maps and its answer: who reads maps does not teach it, so it is left out."""
    net, _ = headless((1, 32, 32), {"name": "convnext", **CLASSIFIERS["convnext"]}, random(), read=mapped)
    assert not [key for key in net.state_dict() if key.startswith("head.")]
    whole, _ = headless((1, 32, 32), {"name": "convnext", **CLASSIFIERS["convnext"]}, random(), read=described)
    assert [key for key in whole.state_dict() if key.startswith("head.")]


def test_tokens_lie_where_their_patches_are():
    """The map of a transformer without blocks that mix: a change of one patch changes the token in its place most."""
    net, width = headless((1, 24, 16), {"name": "vit", "size": "Ti", "scale": 0.0625, "patch": 8}, random(), read=mapped)
    image, other = drawn(1, 1, 24, 16), drawn(1, 1, 24, 16)
    other[..., 16:24, 8:16] += 5
    maps = mapped(net.eval(), image)
    assert maps.shape == (1, width, 3, 2)
    change = (mapped(net, other) - maps).abs().sum(1)[0]
    assert int(change.argmax()) == 2 * 2 + 1


def test_a_block_of_pixels_stands_for_each_place():
    maps = torch.arange(2 * 2 * 3 * 1 * 4 * 1.0).reshape(1, 12, 2, 2)  # one channel, three rows and four columns per place
    image = spread(maps, (1, 5, 8))
    assert image.shape == (1, 1, 5, 8)
    for i, j, a, b in ((0, 0, 0, 0), (1, 0, 0, 2), (0, 1, 2, 3), (1, 1, 1, 1)):
        assert image[0, 0, 3 * i + a, 4 * j + b] == maps[0, 4 * a + b, i, j]


def test_sides_are_made_to_suit_the_trunk():
    unet, _ = headless((1, 16, 16), {"name": "unet", **SEGMENTERS["unet"]}, random(), read=described)
    vit, _ = headless((1, 24, 24), {"name": "vit", "size": "Ti", "scale": 0.0625, "patch": 6}, random(), read=described)
    assert fitted(unet, (5.0, 9.0)) == (8, 12) and fitted(vit, (5.0, 12.5)) == (6, 18)


@pytest.mark.parametrize("name", list(NETS))
def test_every_network_of_the_shelf_is_a_trunk_or_says_why_not(name):
    """As built by its card, each weight that is left in it has a gradient; those that describe images do so, most have maps."""
    card = NETS.card(name)
    ndim = card.ndim[0]
    small = dict((card.facts or {}).get("small", {})) | ({"patch": 16} if name == "vit" else {})
    for read in (described, mapped):
        try:
            net, width = headless((1,) + (32,) * ndim, {"name": name, **small}, random(), read=read)
        except UsageError as problem:
            assert name == "googlenet" or (name == "transmed" and read is mapped), problem
            continue
        found = read(net.eval(), drawn(2, 1, *(32,) * ndim))
        assert found.shape[:2] == (2, width)
        found.square().sum().backward()
        assert all(weight.grad is not None for weight in net.parameters())


def test_a_weight_of_the_network_itself_is_left_out_beside_layers_that_stay():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(4, 2)
            self.idle, self.inner.idle = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
            self.unused = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))

    net = Odd()
    assert lean(net, lambda net, image: net.inner(image.flatten(1)), (1, 2, 2)) == 2
    assert list(net.state_dict()) == ["inner.weight", "inner.bias"]


def test_what_is_no_trunk_is_refused():
    with pytest.raises(UsageError, match="3 answers"):
        headless((1, 64, 64), {"name": "googlenet", "scale": 0.125}, random(), read=described)
    with pytest.raises(UsageError, match="nets"):
        headless((1, 16, 16), {"name": "compakt"}, random(), read=described)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 30, 20), (1, 12, 16, 16)])
@pytest.mark.parametrize("name", ["simclr", "simmim", "models_genesis"])
def test_every_shape_has_a_network_by_default(name, shape):
    method = METHODS[name](shape)
    image = torch.zeros(2, *shape)
    assert method.eval().features(image).shape[0] == 2


def test_the_head_is_kept_beside_and_taken_by_nobody(tmp_path):
    method = METHODS["simclr"]((1, 16, 16), trunk={"name": "compact", "channels": (4, 8)}, head=(8, 4))
    later = network("compact", {"channels": (4, 8)}, 2)
    save_weights(tmp_path / "w.safetensors", dict(method.net.state_dict()))
    assert "answer.weight, answer.bias" in begin(later, tmp_path / "w.safetensors")
    strange = method.net.state_dict().keys() - later.state_dict().keys()
    assert strange and all(key.startswith(("pretext.", "usual.")) for key in strange)
