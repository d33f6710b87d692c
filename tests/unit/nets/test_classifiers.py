"""Convolutional classifiers against published counts, a second implementation with the same weights, and one phantom learned."""

import pytest
import torch
from torch import nn

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise
from vesalius.nets._chance import Dropout, DropPath

PUBLISHED = [  # of 1000 classes and three colours, as torchvision and the authors of SE-ResNet count them
    ("vgg", {"depth": 11, "norm": "none"}, 132_863_336), ("vgg", {"depth": 13, "norm": "none"}, 133_047_848),
    ("vgg", {"depth": 16, "norm": "none"}, 138_357_544), ("vgg", {"depth": 19, "norm": "none"}, 143_667_240),
    ("vgg", {"depth": 16}, 138_365_992), ("vgg", {"depth": 19}, 143_678_248),
    ("googlenet", {"large": 3}, 13_004_888), ("googlenet", {"large": 3, "auxiliary": False}, 6_624_904),
    ("resnet", {"depth": 18}, 11_689_512), ("resnet", {"depth": 34}, 21_797_672), ("resnet", {"depth": 50}, 25_557_032),
    ("resnet", {"depth": 101}, 44_549_160), ("resnet", {"depth": 152}, 60_192_808),
    ("densenet", {"depth": 121}, 7_978_856), ("densenet", {"depth": 161}, 28_681_000),
    ("densenet", {"depth": 169}, 14_149_480), ("densenet", {"depth": 201}, 20_013_928),
    ("se_resnet", {"depth": 18}, 11_778_592), ("se_resnet", {"depth": 34}, 21_958_868), ("se_resnet", {"depth": 50}, 28_088_024),
    ("se_resnet", {"depth": 101}, 49_326_872), ("se_resnet", {"depth": 152}, 66_821_848),
    ("efficientnet", {"size": "B0"}, 5_288_548), ("efficientnet", {"size": "B1"}, 7_794_184), ("efficientnet", {"size": "B2"}, 9_109_994),
    ("efficientnet", {"size": "B3"}, 12_233_232), ("efficientnet", {"size": "B4"}, 19_341_616),
    ("efficientnet", {"size": "B5"}, 30_389_784), ("efficientnet", {"size": "B6"}, 43_040_704),
    ("efficientnet", {"size": "B7"}, 66_347_960),
    ("convnext", {"size": "T"}, 28_589_128), ("convnext", {"size": "S"}, 50_223_688),
    ("convnext", {"size": "B"}, 88_591_464), ("convnext", {"size": "L"}, 197_767_336),
    ("vit", {"size": "Ti"}, 5_717_416), ("vit", {"size": "S"}, 22_050_664), ("vit", {"size": "B"}, 86_567_656),
    ("vit", {"size": "L"}, 304_326_632),
]  # fmt: skip
# Those with maps and a published stem; the compact network and the perceptron have tests of their own.
OWN = ("compact", "perceptron")
MAPS = [name for name in NETS if "classify" in NETS.card(name).tasks and hasattr(NETS[name], "trunk") and name not in OWN]


def count(net):
    return sum(p.numel() for p in net.parameters())


def small(name, *ends, **more):
    """A small network with drawn weights."""
    return initialise(NETS[name](*ends, **{**NETS.card(name).facts["small"], **more}), torch.Generator().manual_seed(0))


IDS = ["-".join(map(str, (name, *arguments.values()))) for name, arguments, _ in PUBLISHED]


@pytest.mark.parametrize(("name", "arguments", "parameters"), PUBLISHED, ids=IDS)
def test_each_variant_has_its_published_parameters(name, arguments, parameters):
    with torch.device("meta"):
        assert count(NETS[name](2, 3, 1000, **arguments)) == parameters


def test_the_inception_of_the_paper_has_5_convolutions():
    """The third branch of the nine modules: 25 rather than 9 weights for each pair of maps (table 1 of the paper)."""
    pairs = [(16, 32), (32, 96), (16, 48), (24, 64), (24, 64), (32, 64), (32, 128), (32, 128), (48, 128)]
    with torch.device("meta"):
        assert count(NETS["googlenet"](2, 3, 1000)) == 13_004_888 + (25 - 9) * sum(a * b for a, b in pairs)


@pytest.mark.parametrize("side", [28, 32, 64])
@pytest.mark.parametrize("name", MAPS)
def test_small_images_pass_the_small_stem(name, side):
    """28 pixels (MedMNIST) and others; maps keep more than a voxel where the published stem would leave one."""
    card = NETS.card(name)
    ndim = card.ndim[0]
    image = torch.randn(1, 1, *(7, side, side)[3 - ndim :], generator=torch.Generator().manual_seed(0))
    net = small(name, ndim, 1, 2, stem="small").eval()
    maps = net.trunk(image)
    assert maps.shape[-1] > 1 and net.classify(maps).shape == (1, 2)


@pytest.mark.parametrize("name", [name for name in MAPS if name not in ("alexnet", "googlenet", "convnext", "attention_mil")])
def test_thin_volumes_pass(name):
    assert small(name, 3, 1, 2).eval()(torch.randn(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).shape == (1, 2)


def test_an_image_too_small_for_the_published_stem_is_told_of_the_small_one():
    with pytest.raises(VesaliusError, match=r'at least 32; got \(28, 28\).*stem="small"'):
        small("resnet", 2, 1, 2, stem="published")(torch.zeros(1, 1, 28, 28))
    with pytest.raises(UsageError, match="Did you mean 18"):
        NETS["resnet"](2, 1, 2, depth=19)


def same_weights(ours, theirs):
    """Tensors in order of construction, all drawn away from 0 and 1, copied into `theirs`."""
    left = [t for n, t in ours.state_dict().items() if not n.endswith(("stream", "num_batches_tracked"))]
    right = [t for n, t in theirs.state_dict().items() if not n.endswith("num_batches_tracked")]
    generator = torch.Generator().manual_seed(1)
    for a, b in zip(left, right, strict=True):
        if a.ndim == 1:
            a.add_(0.1 * torch.rand(a.shape, generator=generator))
        b.copy_(a.reshape(b.shape))


@pytest.mark.parametrize("name", ["resnet", "densenet"])
def test_the_forward_pass_is_that_of_monai(name):
    """3D, one channel, two classes: parameters, and logits with the same weights."""
    monai = pytest.importorskip("monai.networks.nets")
    blocks = dict(block="basic", layers=[2, 2, 2, 2], block_inplanes=[16, 32, 64, 128])
    theirs = {
        "resnet": lambda: monai.ResNet(**blocks, spatial_dims=3, n_input_channels=1, num_classes=2, bias_downsample=False),
        "densenet": lambda: monai.DenseNet121(3, 1, 2, init_features=16, growth_rate=8),
    }[name]().eval()
    if name == "resnet":
        theirs.conv1.stride = (2, 2, 2)
    ours = initialise(NETS[name](3, 1, 2, scale=0.25), torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        same_weights(ours, theirs)
        image = torch.randn(2, 1, 32, 32, 64, generator=torch.Generator().manual_seed(2))
        assert count(ours) == count(theirs)
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-5)


def test_three_axes_have_monais_parameters():
    monai = pytest.importorskip("monai.networks.nets")
    with torch.device("meta"):
        net50 = monai.resnet50(spatial_dims=3, n_input_channels=1, num_classes=2, feed_forward=True, bias_downsample=False)
        assert count(NETS["resnet"](3, 1, 2, depth=50)) == count(net50)
        assert count(NETS["se_resnet"](3, 1, 2)) == count(monai.SEResNet50(spatial_dims=3, in_channels=1, num_classes=2))
        b4 = monai.EfficientNetBN("efficientnet-b4", spatial_dims=3, in_channels=1, num_classes=2, pretrained=False)
        assert count(NETS["efficientnet"](3, 1, 2, size="B4")) == count(b4)


def test_squeeze_and_excitation_is_its_equation():
    from vesalius.nets._classifier_blocks import SqueezeExcitation

    gate = SqueezeExcitation(4, 2, nn.ReLU())
    x = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    (w1, b1), (w2, b2) = (layer.parameters() for layer in (gate.squeeze, gate.excite))
    s = torch.sigmoid(torch.relu(x.mean((2, 3)) @ w1.T + b1) @ w2.T + b2)
    torch.testing.assert_close(gate(x), x * s[:, :, None, None])


@pytest.mark.parametrize("name", ["resnet", "googlenet"])
def test_auxiliary_heads_and_what_they_look_at(name):
    """GoogLeNet answers three times while it learns; each auxiliary head sees other maps, the first is what `forward` gives."""
    net = small(name, 2, 1, 3).eval()
    image = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    found = net.heads(image)
    assert len(found) == (3 if name == "googlenet" else 1)
    for a in range(1, len(found)):
        found[a].sum().backward(retain_graph=True)
        reached = [p.grad is not None for p in net.parts[a + 1].parameters()]
        assert not any(reached) and net.head[-1].weight.grad is None


def drops(net):
    return [layer.rate for layer in net.modules() if isinstance(layer, DropPath)]


def test_stochastic_depth_rises_to_the_published_rate():
    with torch.device("meta"):
        for size, last in (("T", 0.1), ("S", 0.4), ("B", 0.5)):
            rates = drops(NETS["convnext"](2, 3, 10, size=size))
            assert rates == pytest.approx([last * k / (len(rates) - 1) for k in range(len(rates))])
        assert max(drops(NETS["vit"](2, 3, 10, size="Ti"))) == pytest.approx(0.1)
        assert [layer.rate for layer in NETS["efficientnet"](2, 3, 10, size="B3").modules() if isinstance(layer, Dropout)] == [0.3]


@pytest.mark.parametrize("name", ["resnet", "vit", "transmed", "decision_fusion"])
def test_eight_pictures_are_learned_by_heart(name):
    generator = torch.Generator().manual_seed(0)
    more = {"sides": 16} if name == "vit" else {}
    net, labels = small(name, 2, 2, 2, **more), torch.tensor([0, 1] * 4)
    images = torch.randn(8, 2, 16, 16, generator=generator) + labels[:, None, None, None]
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1
