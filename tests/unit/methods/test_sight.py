"""Maps of a network that has learned elsewhere: those that its stages make, left as they are, and what PaDiM and PatchCore make of them."""

import pytest
import torch

from vesalius.data.batch import Batch, Kind
from vesalius.methods._sight import chosen, seen, sighted
from vesalius.methods.padim import Padim
from vesalius.methods.patchcore import Patchcore

COMPACT = {"name": "compact", "channels": [4, 6, 8]}
UNET = {"name": "unet", "channels": [4, 6, 8], "kernels": [3, 3, 3], "strides": [1, 2, 2]}


def test_each_fineness_is_what_the_stages_make():
    net, image = sighted((1, 16, 16), COMPACT, 0), torch.rand(2, 1, 16, 16)
    now, want = image, []
    for number, stage in enumerate(net.stages):
        now = stage(torch.nn.functional.max_pool2d(now, 2) if number else now)
        want.append(now)
    for found, one in zip(seen(net, image), want, strict=True):
        torch.testing.assert_close(found, one)
    assert [one.shape[1] for one in seen(sighted((2, 8, 8, 8), UNET, 0), torch.rand(1, 2, 8, 8, 8))] == [4, 6, 8]
    assert len(seen(sighted((1, 12, 12), {"name": "vit"}, 0), torch.rand(1, 1, 12, 12))) == 1  # tokens in their places


def test_maps_that_are_too_fine_are_passed_by():
    maps = [torch.zeros(1, 1, side, side) for side in (32, 16, 8, 4)]
    assert chosen(maps, finest=16, most=2) == (1, 2) and chosen(maps, finest=40, most=9) == (0, 1, 2, 3)
    assert chosen(maps, finest=2, most=2) == (3,)


@pytest.mark.parametrize(("kind", "shape", "net"), [
    (Patchcore, (1, 16, 16), COMPACT), (Padim, (1, 16, 16), COMPACT), (Padim, (2, 8, 8, 8), UNET),
])  # fmt: skip
def test_what_is_borrowed_is_not_learned_and_finds_what_is_strange(kind, shape, net):
    method, image = kind(shape, widths=net), torch.rand(12, *shape, generator=torch.Generator().manual_seed(0)) * 0.1
    before = {name: value.clone() for name, value in method.net.state_dict().items()}
    optimiser = method.optimisers()["net"]
    method.train()
    for _, losses in method.steps(Batch({"image": image}, {"image": Kind.IMAGE})):
        sum(losses.values()).backward()
        optimiser.step()
    assert all(torch.equal(value, before[name]) for name, value in method.net.state_dict().items()) and int(method.step) == 1
    method.gather([image])
    odd = image[:1].clone()
    odd[..., 5:8, 5:8] = 1
    assert method.score(odd) > method.score(image).max()
    heat = method.anomaly_map(odd)
    assert heat.shape == (1, 1, *shape[1:]) and torch.isfinite(method.features(odd)).all()
    place = torch.unravel_index(heat.argmax(), heat.shape)[-2:]
    assert all(3 <= int(at) <= 9 for at in place) or len(shape) == 4
