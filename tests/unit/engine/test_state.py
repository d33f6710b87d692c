"""Weights and moments through a file, to the last bit, and files that are no state."""

import json
import signal

import pytest
import torch
from safetensors import safe_open
from torch import nn

from vesalius.core.errors import VesaliusError
from vesalius.engine.state import load_weights, pack, save_weights, unpack


def learner(seed=0, kind=torch.optim.AdamW, **more):
    """A network with an odd set of layers, channels-last, two optimisers that have made three steps."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.ModuleDict({"a": nn.Conv3d(3, 4, (1, 3, 2)), "b": nn.ConvTranspose3d(4, 5, 2), "n": nn.BatchNorm3d(5), "s": nn.PReLU()})
    net = net.to(memory_format=torch.channels_last_3d)
    first, second = list(net["a"].parameters()), [p for name in ("b", "n", "s") for p in net[name].parameters()]
    groups = [{"params": [p for p in second if p.ndim > 1], "weight_decay": 0.1}, {"params": [p for p in second if p.ndim < 2]}]
    return net, {"one": kind(first, lr=1e-2, **more), "two": kind(groups, lr=1e-3, **more)}


def copied(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def step(net, optimisers, seed):
    x = torch.randn(2, 3, 5, 6, 7, generator=torch.Generator().manual_seed(seed))
    loss = net["s"](net["n"](net["b"](net["a"](x)))).square().mean()
    for optimiser in optimisers.values():
        optimiser.zero_grad()
    loss.backward()
    for optimiser in optimisers.values():
        optimiser.step()


@pytest.mark.parametrize("more", [{"fused": True}, {"foreach": True}, {"amsgrad": True}], ids=lambda m: next(iter(m)))
def test_learning_goes_on_to_the_last_bit(tmp_path, more):
    whole, (net, optimisers), (other, others) = learner(**more), learner(**more), learner(seed=1, **more)
    for k in range(5):
        step(*whole, k)
    for k in range(3):
        step(net, optimisers, k)
    average = {name: value.clone() + (1 if value.is_floating_point() else 0) for name, value in net.state_dict().items()}
    save_weights(tmp_path / "s.safetensors", pack(net, average, optimisers), {"step": 3})
    packed, words = load_weights(tmp_path / "s.safetensors")
    kept = {name: torch.zeros_like(value) for name, value in average.items()}
    unpack(packed, other, kept, optimisers=others)
    assert words == {"step": 3} and all(torch.equal(kept[name], average[name]) for name in average)
    for name in optimisers:
        for a, b in zip(optimisers[name].param_groups, others[name].param_groups, strict=True):
            for p, q in zip(a["params"], b["params"], strict=True):
                assert torch.equal(p, q)
                for what, moment in optimisers[name].state[p].items():
                    assert torch.equal(others[name].state[q][what], moment) and others[name].state[q][what].stride() == moment.stride()
    for k in (3, 4):
        step(other, others, k)
    assert all(torch.equal(value, whole[0].state_dict()[name]) for name, value in other.state_dict().items())


def test_settings_of_the_optimiser_stay_those_of_the_plan(tmp_path):
    net, optimisers = learner()
    step(net, optimisers, 0)
    save_weights(tmp_path / "s.safetensors", pack(net, copied(net), optimisers))
    other, others = learner()
    others["two"].param_groups[0]["weight_decay"] = 0.7
    unpack(load_weights(tmp_path / "s.safetensors")[0], other, copied(other), optimisers=others)
    assert others["two"].param_groups[0]["weight_decay"] == 0.7 and others["one"].param_groups[0]["lr"] == 1e-2


def test_a_state_of_no_steps_is_one_too(tmp_path):
    net, optimisers = learner()
    save_weights(tmp_path / "s.safetensors", pack(net, copied(net), optimisers))
    other, others = learner(seed=1)
    unpack(load_weights(tmp_path / "s.safetensors")[0], other, copied(other), optimisers=others)
    step(net, optimisers, 0)
    step(other, others, 0)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in other.state_dict().items())


def test_files_are_plain_safetensors_that_anyone_reads(tmp_path):
    weights = {"w": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(3)}  # not contiguous, and a scalar
    save_weights(tmp_path / "w.safetensors", weights, {"step": 7, "name": "ü"})
    with safe_open(tmp_path / "w.safetensors", framework="np") as file:
        assert file.get_tensor("w").tolist() == [[0, 3], [1, 4], [2, 5]] and int(file.get_tensor("n")) == 3
        assert json.loads(file.metadata()["vesalius"]) == {"step": 7, "name": "ü"}
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_missing_or_broken_file_says_what_to_do(tmp_path):
    with pytest.raises(VesaliusError, match="no weights yet"):
        load_weights(tmp_path / "none.safetensors")
    save_weights(tmp_path / "w.safetensors", {"w": torch.zeros(100)})
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-40])
    with pytest.raises(VesaliusError, match="not a whole safetensors file"):
        load_weights(tmp_path / "w.safetensors")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """Really: the system refuses to let files of this process grow beyond a limit."""
    import resource

    path = tmp_path / "w.safetensors"
    save_weights(path, {"w": torch.ones(10)})
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(VesaliusError, match=r"Cannot write .*w\.safetensors.*Free some space"):
            save_weights(path, {"w": torch.ones(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_weights(path)[0]["w"].tolist() == [1.0] * 10 and [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
