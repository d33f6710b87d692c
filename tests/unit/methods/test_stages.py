"""Groups of layers from the image to the answer, and what learns slower or not at all."""

import pytest
import torch
from torch import nn

from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._stages import layers
from vesalius.methods.supervised import Supervised
from vesalius.nets import NETS


def net(name, **more):
    return NETS[name](2, 2, 3, **{**NETS.card(name).facts["small"], **more})


class Terms(nn.Module):
    def forward(self, heads, target):
        return {"all": heads[0].square().sum()}


def test_groups_hold_every_weight_once():
    for name in ("resnet", "vit", "transmed", "vgg", "feature_fusion", "convnext"):
        made = net(name)
        found = [weight for group in layers(made) for weight in group]
        assert len({id(w) for w in found}) == len(found) == len(list(made.parameters()))


def test_the_groups_of_a_resnet_are_its_stages_and_its_head():
    made = net("resnet")
    assert [{id(w) for w in group} for group in layers(made)] == [
        *({id(w) for w in stage.parameters()} for stage in made.stages), {id(w) for w in made.head.parameters()}
    ]  # fmt: skip


def test_the_groups_of_a_transformer_are_its_patches_its_blocks_and_its_head():
    made = net("vit")
    found = layers(made)
    assert len(found) == 1 + 12 + 1
    assert {id(made.embed.weight), id(made.positions.places), id(made.transformer.token)} <= set(map(id, found[0]))
    assert {id(w) for w in made.transformer.blocks[4].parameters()} == set(map(id, found[5]))
    assert {id(made.transformer.norm.weight), id(made.head.weight)} <= set(map(id, found[-1]))


def test_encoders_side_by_side_are_as_deep_as_each_other():
    made = net("feature_fusion")
    found = layers(made)
    assert len(found) == 5 + 2  # the encoders, the hidden layer on joined features, the answer
    for k in range(5):
        assert set(map(id, found[k])) == {id(w) for trunk in made.encoders.trunks for w in trunk[k].parameters()}


def test_rates_fall_from_the_head_to_the_image():
    made = Supervised(net("resnet"), Terms(), learning_rate=0.1, weight_decay=0.01, layer_decay=0.5)
    rates = {id(w): group["lr"] for group in made.optimisers()["net"].param_groups for w in group["params"]}
    for depth, stage in enumerate(made.net.stages):
        assert {rates[id(w)] for w in stage.parameters()} == {0.1 * 0.5 ** (5 - depth)}
    assert {rates[id(w)] for w in made.net.head.parameters()} == {0.1}
    assert made.optimisers()["net"].param_groups[0]["lr"] == 0.1


def test_frozen_layers_stay_as_they_are_to_the_last_running_mean():
    made = Supervised(net("resnet"), Terms(), learning_rate=0.1, weight_decay=0.01, freeze=2)
    before = {name: value.clone() for name, value in made.net.state_dict().items()}
    made.train()
    optimiser = made.optimisers()["net"]
    for _, losses in made.steps(Batch({"image": torch.randn(2, 2, 16, 16), "target": torch.zeros(2, 1)}, {})):
        losses["all"].backward()
    optimiser.step()
    changed = {name.split(".")[1] for name, value in made.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"2", "3", "4"}
    with pytest.raises(UsageError, match="6 groups of layers; at most 5"):
        Supervised(net("resnet"), Terms(), learning_rate=0.1, weight_decay=0.01, freeze=6)
