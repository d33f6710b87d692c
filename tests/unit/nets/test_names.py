"""Weights under the names of torchvision and timm: published names and shapes, and what becomes of them."""

import pytest
import torch
from torch.nn import functional as F

from vesalius.core.errors import VesaliusError
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise
from vesalius.nets._names import borrow, translate
from vesalius.nets._residual import ResidualTrunk

UNITS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
LAYERS = (6, 12, 24, 16)


def normed(name, width):
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")} | {f"{name}.num_batches_tracked": ()}


def resnet(depth, classes=1000):
    """Names and shapes of torchvision's and timm's ResNet."""
    deep, entry, found = depth == 50, 64, {"conv1.weight": (64, 3, 7, 7), **normed("bn1", 64)}
    for stage, units in enumerate(UNITS[depth]):
        width = 64 << stage
        out = width * (4 if deep else 1)
        for unit in range(units):
            here = f"layer{stage + 1}.{unit}"
            shapes = [(width, entry, 3, 3), (width, width, 3, 3)]
            if deep:
                shapes = [(width, entry, 1, 1), (width, width, 3, 3), (out, width, 1, 1)]
            for k, shape in enumerate(shapes, 1):
                found |= {f"{here}.conv{k}.weight": shape, **normed(f"{here}.bn{k}", shape[0])}
            if unit == 0 and entry != out:
                found |= {f"{here}.downsample.0.weight": (out, entry, 1, 1), **normed(f"{here}.downsample.1", out)}
            entry = out
    return found | {"fc.weight": (classes, entry), "fc.bias": (classes,)}


def densenet(classes=1000):
    """Names and shapes of torchvision's and timm's DenseNet-121."""
    width, found = 64, {"features.conv0.weight": (64, 3, 7, 7), **normed("features.norm0", 64)}
    for block, layers in enumerate(LAYERS, 1):
        for layer in range(1, layers + 1):
            here = f"features.denseblock{block}.denselayer{layer}"
            found |= {**normed(f"{here}.norm1", width), f"{here}.conv1.weight": (128, width, 1, 1)}
            found |= {**normed(f"{here}.norm2", 128), f"{here}.conv2.weight": (32, 128, 3, 3)}
            width += 32
        if block < 4:
            here = f"features.transition{block}"
            found |= {**normed(f"{here}.norm", width), f"{here}.conv.weight": (width // 2, width, 1, 1)}
            width //= 2
    return found | {**normed("features.norm5", width), "classifier.weight": (classes, width), "classifier.bias": (classes,)}


def linear(name, entry, out, *, joint=False):
    last = "_" if joint else "."
    return {f"{name}{last}weight": (out, entry), f"{name}{last}bias": (out,)}


def vit(naming, classes=1000, w=192, tokens=196):
    """Names and shapes of timm's and torchvision's vision transformers, in the size Ti."""
    timm = naming == "timm"
    found = {"cls_token" if timm else "class_token": (1, 1, w), "pos_embed" if timm else "encoder.pos_embedding": (1, 1 + tokens, w)}
    patch = "patch_embed.proj" if timm else "conv_proj"
    found |= {f"{patch}.weight": (w, 3, 16, 16), f"{patch}.bias": (w,)}
    for k in range(12):
        here = f"blocks.{k}" if timm else f"encoder.layers.encoder_layer_{k}"
        for part in ("norm1", "norm2") if timm else ("ln_1", "ln_2"):
            found |= {f"{here}.{part}.weight": (w,), f"{here}.{part}.bias": (w,)}
        found |= linear(f"{here}.attn.qkv", w, 3 * w) if timm else linear(f"{here}.self_attention.in_proj", w, 3 * w, joint=True)
        found |= linear(f"{here}.{'attn.proj' if timm else 'self_attention.out_proj'}", w, w)
        found |= linear(f"{here}.mlp.{'fc1' if timm else '0'}", w, 4 * w) | linear(f"{here}.mlp.{'fc2' if timm else '3'}", 4 * w, w)
    last, head = ("norm", "head") if timm else ("encoder.ln", "heads.head")
    return found | {f"{last}.weight": (w,), f"{last}.bias": (w,)} | linear(head, w, classes)


def convnext(naming, classes=1000, w=96):
    """Names and shapes of timm's and torchvision's ConvNeXt, in the size T."""
    timm = naming == "timm"
    stem = "stem" if timm else "features.0"
    found = {f"{stem}.0.weight": (w, 3, 4, 4), f"{stem}.0.bias": (w,), f"{stem}.1.weight": (w,), f"{stem}.1.bias": (w,)}
    scale, depth, norm, up, down = (("gamma", "conv_dw", "norm", "mlp.fc1", "mlp.fc2") if timm else
                                    ("layer_scale", "block.0", "block.2", "block.3", "block.5"))  # fmt: skip
    for stage, count in enumerate((3, 3, 9, 3)):
        if stage:
            here = f"stages.{stage}.downsample" if timm else f"features.{2 * stage}"
            found |= {f"{here}.0.weight": (w,), f"{here}.0.bias": (w,), f"{here}.1.weight": (2 * w, w, 2, 2), f"{here}.1.bias": (2 * w,)}
            w *= 2
        for k in range(count):
            here = f"stages.{stage}.blocks.{k}" if timm else f"features.{2 * stage + 1}.{k}"
            found |= {f"{here}.{scale}": (w,) if timm else (w, 1, 1), f"{here}.{depth}.weight": (w, 1, 7, 7), f"{here}.{depth}.bias": (w,)}
            found |= {f"{here}.{norm}.weight": (w,), f"{here}.{norm}.bias": (w,)}
            found |= linear(f"{here}.{up}", w, 4 * w) | linear(f"{here}.{down}", 4 * w, w)
    last, head = ("head.norm", "head.fc") if timm else ("classifier.0", "classifier.2")
    return found | {f"{last}.weight": (w,), f"{last}.bias": (w,)} | linear(head, w, classes)


CASES = [("resnet", resnet(18), {"depth": 18}), ("resnet", resnet(50), {"depth": 50}), ("densenet", densenet(), {}),
         ("vit", vit("timm"), {"size": "Ti"}), ("vit", vit("torchvision"), {"size": "Ti"}),
         ("convnext", convnext("timm"), {"size": "T"}), ("convnext", convnext("torchvision"), {"size": "T"})]  # fmt: skip
IDS = ["resnet18", "resnet50", "densenet", "vit of timm", "vit of torchvision", "convnext of timm", "convnext of torchvision"]


def filled(shapes):
    """Numbers that differ from tensor to tensor."""
    return {name: torch.full(shape, float(k)) for k, (name, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize(("name", "shapes", "arguments"), CASES[:-1], ids=IDS[:-1])
def test_every_published_name_has_its_place(name, shapes, arguments):
    """All names go somewhere, to a weight of the same size, and nothing of ours is left as it was drawn."""
    net, theirs = initialise(NETS[name](2, 3, 1000, **arguments), torch.Generator().manual_seed(0)), filled(shapes)
    assert borrow(net, theirs) == []
    values = sorted(float(v.flatten()[0]) for k, v in net.state_dict().items() if not k.endswith("stream"))
    places = [k for k in shapes if k.startswith(("pos_embed", "encoder.pos"))]  # goes to two of ours
    assert values == sorted([float(v.flatten()[0]) for v in theirs.values()] + [float(theirs[k].flatten()[0]) for k in places])


def test_they_stand_where_they_belong():
    """The order of layers in the forward pass, by one name of each kind."""
    ours = translate(filled(resnet(50)), "ResNet")
    theirs = filled(resnet(50))
    for a, b in (("layer3.2.conv2.weight", "stages.3.2.residual.1.0.weight"),
                 ("layer4.0.bn3.running_var", "stages.4.0.residual.2.1.running_var"),
                 ("layer1.0.downsample.1.bias", "stages.1.0.shortcut.1.bias"), ("bn1.weight", "stages.0.0.1.weight")):  # fmt: skip
        assert torch.equal(ours[b], theirs[a])
    ours, theirs = translate(filled(densenet()), "DenseNet"), filled(densenet())
    for a, b in (("features.denseblock3.denselayer24.conv2.weight", "features.5.23.1.2.weight"),
                 ("features.transition2.norm.weight", "features.4.0.weight"), ("features.norm5.bias", "features.8.0.bias")):  # fmt: skip
        assert torch.equal(ours[b], theirs[a])
    theirs = filled(convnext("timm"))
    ours = translate(theirs, "ConvNeXt")
    for a, b in (("stages.2.downsample.1.weight", "stages.4.1.weight"), ("stages.2.blocks.8.mlp.fc2.bias", "stages.5.8.pointwise.3.bias"),
                 ("stages.0.blocks.1.conv_dw.weight", "stages.1.1.depthwise.weight"), ("head.norm.bias", "head.1.bias")):  # fmt: skip
        assert torch.equal(ours[b], theirs[a])
    old = {"features.denseblock1.denselayer2.norm.1.weight": torch.ones(96)}
    assert list(translate(old, "DenseNet")) == ["features.1.1.0.0.weight"]


def test_the_answer_is_that_of_the_borrowed_weights():
    """A ResNet-18 by plain functions on torchvision's names."""
    generator = torch.Generator().manual_seed(0)
    w = {k: 0.5 + torch.rand(s, generator=generator) for k, s in resnet(18, 5).items()}
    w |= {k: 0.05 * torch.randn(v.shape, generator=generator) for k, v in w.items() if v.ndim > 1}

    def conv(x, name, stride=1):
        return F.conv2d(x, w[f"{name}.weight"], None, stride, w[f"{name}.weight"].shape[-1] // 2)

    def norm(x, name):
        return F.batch_norm(x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"], w[f"{name}.bias"])

    net = NETS["resnet"](2, 3, 5).eval()
    assert borrow(net, w) == []
    image = torch.randn(1, 3, 64, 64, generator=generator)
    x = F.max_pool2d(norm(conv(image, "conv1", 2), "bn1").relu(), 3, 2, 1)
    for stage in range(1, 5):
        for unit in range(2):
            here, stride = f"layer{stage}.{unit}", 2 if stage > 1 and unit == 0 else 1
            y = norm(conv(norm(conv(x, f"{here}.conv1", stride), f"{here}.bn1").relu(), f"{here}.conv2"), f"{here}.bn2")
            short = norm(conv(x, f"{here}.downsample.0", stride), f"{here}.downsample.1") if stride == 2 else x
            x = (y + short).relu()
    torch.testing.assert_close(net(image), x.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"], rtol=1e-4, atol=1e-3)


def test_a_block_of_a_convnext_answers_with_the_borrowed_weights():
    """By plain functions on torchvision's names."""
    generator = torch.Generator().manual_seed(0)
    w = {k: 0.1 * torch.randn(s, generator=generator) for k, s in convnext("torchvision").items()}
    net = NETS["convnext"](2, 3, 1000).eval()
    assert borrow(net, w) == []
    x = torch.randn(1, 192, 9, 8, generator=generator)
    here = {part.removeprefix("features.3.2."): v for part, v in w.items() if part.startswith("features.3.2.")}
    y = F.conv2d(x, here["block.0.weight"], here["block.0.bias"], padding=3, groups=192).permute(0, 2, 3, 1)
    y = F.layer_norm(y, (192,), here["block.2.weight"], here["block.2.bias"], eps=1e-6)
    y = F.linear(F.gelu(F.linear(y, here["block.3.weight"], here["block.3.bias"])), here["block.5.weight"], here["block.5.bias"])
    torch.testing.assert_close(net.stages[3][2](x), x + here["layer_scale"] * y.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


def test_other_classes_channels_and_axes():
    """The head stays as it was drawn; a grey volume that is the same along its first axis is answered in its inside as the picture is."""
    theirs = {k: torch.randn(s, generator=torch.Generator().manual_seed(len(k))) for k, s in resnet(18).items()}
    net = initialise(NETS["resnet"](3, 1, 2), torch.Generator().manual_seed(0))
    assert borrow(net, theirs) == ["head.2.weight", "head.2.bias"]
    kernel = net.stages[0][0][0].weight
    torch.testing.assert_close(kernel.sum((1, 2)), theirs["conv1.weight"].sum(1))
    grey = torch.randn(1, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    flat = F.conv2d(grey.expand(-1, 3, -1, -1), theirs["conv1.weight"], None, 2, 3)
    deep = F.conv3d(grey[:, :, None].expand(-1, -1, 13, -1, -1), kernel, None, 2, 3)
    torch.testing.assert_close(deep[:, :, 3], flat, rtol=1e-4, atol=1e-4)


def test_a_trunk_takes_the_layers_and_leaves_the_head():
    trunk = ResidualTrunk(2, 3, 18)
    assert borrow(trunk, filled(resnet(18))) == []
    assert float(trunk[0][0][0].weight.detach().max()) == 0 and float(trunk[4][1].residual[1][0].weight.detach().min()) > 0


def test_places_are_interpolated_to_the_grid_at_hand():
    shapes = vit("timm")
    theirs = {k: torch.zeros(s) for k, s in shapes.items()}
    rising = torch.arange(14.0).expand(14, 14).reshape(1, 196, 1).expand(-1, -1, 192)
    theirs["pos_embed"] = torch.cat((torch.full((1, 1, 192), 9.0), rising), 1)
    net = NETS["vit"](2, 3, 1000, size="Ti", sides=448)
    assert borrow(net, theirs) == []
    torch.testing.assert_close(net.positions.places[5, 2:6, 0], torch.tensor([0.75, 1.25, 1.75, 2.25]))
    assert float(net.transformer.place.detach().min()) == 9


def test_weights_of_another_network_are_refused_in_words():
    theirs = filled(resnet(18))
    with pytest.raises(VesaliusError, match=r"not the weights of a DenseNet .* conv1\.weight"):
        borrow(NETS["densenet"](2, 3, 10), theirs)
    with pytest.raises(VesaliusError, match=r"stages\.1\.0\.residual\.0\.0\.weight has shape|smaller"):
        borrow(NETS["resnet"](2, 3, 10, depth=50), theirs)
    with pytest.raises(VesaliusError, match="larger"):
        borrow(NETS["resnet"](2, 3, 10), filled(resnet(50)))
    with pytest.raises(VesaliusError, match="smaller"):
        borrow(NETS["resnet"](2, 3, 10, depth=34), theirs)
    with pytest.raises(VesaliusError, match="got a MobileNet"):
        borrow(NETS["mobilenet"](2, 3, 10), theirs)
    with pytest.raises(VesaliusError, match=r"published stem.*net.arguments=.*published"):
        borrow(NETS["resnet"](2, 3, 10, stem="small"), theirs)
