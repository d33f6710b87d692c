"""What maps will be is what they are; whatever does not fit together is an error before a kernel is called."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.unit.export.made import noise, weights_of
from tests.unit.export.test_written import KINDS
from vesalius.core.errors import VesaliusError
from vesalius.export import arithmetic, quick
from vesalius.export.flow import LARGEST, channels_of, check_sides
from vesalius.export.layers import Layer
from vesalius.export.network import Network, able
from vesalius.export.numbers import halves, singles
from vesalius.export.steps import LONGEST, Steps

BOTH = [number for number in ("fp32", "bf16") if able(number) == number]


def convolution(takes, makes, *, weight="w", side=3, pad=1, step=1, **more):
    return {"kind": "convolution", "takes": takes, "makes": makes, "weight": weight, "step": (step,) * 2, "pad": (pad,) * 2, **more}


def other(kind, takes, makes, **more):
    return {"kind": kind, "takes": takes, "makes": makes, **more}


def steps_of(*steps, channels=1, pooling=(1, 1)):
    return Steps.checked({"ndim": 2, "channels": channels, "pooling": pooling, "steps": steps})


def zeros(**shapes):
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_what_they_will_be(kind, monkeypatch):
    """Of every step of every kind of network: the sides and channels of its map, as it is made."""
    steps, weights = weights_of(kind, classes=5)
    network = Network(steps, {name[2:]: one for name, one in weights.items()})
    seen = {}

    def watched(layer, maps, *, own, call=Layer.__call__):
        seen[layer.step.makes] = (made := call(layer, maps, own=own)).shape
        return made

    monkeypatch.setattr(Layer, "__call__", watched)
    network(noise(1, 1, *(16,) * steps.ndim))
    assert network.classes == 5 and seen[steps.steps[-1].makes] == (1, *(16,) * steps.ndim, 5)
    for name, shape in seen.items():
        upto = replace(steps, steps=steps.steps[: 1 + [step.makes for step in steps.steps].index(name)])
        assert channels_of(upto, network.weights) == shape[-1]
        if shape[1:-1] != (16,) * steps.ndim:
            with pytest.raises(VesaliusError, match=f"answers on the sides \\({shape[1]}, {shape[2]}"):
                check_sides(upto, network.weights, (16,) * steps.ndim)


@pytest.mark.parametrize(
    ("steps", "weights", "says"),
    [
        ([convolution(["image"], "a")], {"w": (4, 2, 3, 3)}, "takes 1 channels"),
        ([convolution(["image", "image"], "a")], {"w": (4, 1, 3, 3)}, "takes 2 channels"),
        ([convolution(["image"], "a")], {"w": (4, 1, 3, 3, 3)}, "its weights are"),
        ([convolution(["image"], "a")], {"w": (4, 1, 9)}, "its weights are"),
        ([convolution(["image"], "a")], {"w": ()}, "its weights are"),
        ([convolution(["image"], "a")], {"w": (0, 1, 3, 3)}, "its weights are"),
        ([convolution(["image"], "a")], {"w": (4, 1, 0, 3)}, "its weights are"),
        ([convolution(["image"], "a", pad=3)], {"w": (4, 1, 3, 3)}, r"pads \(3, 3\)"),
        ([convolution(["image"], "a", bias="b")], {"w": (4, 1, 3, 3), "b": (3,)}, "its bias is"),
        ([convolution(["image"], "a", bias="b")], {"w": (4, 1, 3, 3), "b": (4, 1)}, "its bias is"),
        ([convolution(["image"], "a", bias="b")], {"w": (4, 1, 3, 3), "b": ()}, "its bias is"),
        ([convolution(["image"], "a")], {"w": (2**16 + 1, 1, 1, 1)}, "pads|more than 65536"),
        ([other("transposed", ["image"], "a", weight="w", step=(2, 2))], {"w": (2, 4, 2, 2)}, "takes 1 channels"),
        ([other("transposed", ["image"], "a", weight="w", step=(2, 2))], {"w": (1, 4, 3, 3)}, "in steps"),
        ([other("transposed", ["image"], "a", weight="w", step=(1, 2))], {"w": (1, 4, 2, 1)}, "in steps"),
        ([other("transposed", ["image"], "a", weight="w", step=(2, 2))], {"w": (1, 0, 2, 2)}, "in steps"),
        ([other("transposed", ["image"], "a", weight="w", bias="b", step=(1, 1))], {"w": (1, 4, 1, 1), "b": (1,)}, "its bias is"),
        ([other("normalisation", ["image"], "a", weight="w")], {"w": (2,)}, "its weights are"),
        ([other("normalisation", ["image"], "a", weight="w")], {"w": (1, 1)}, "its weights are"),
        ([other("normalisation", ["image"], "a", bias="b")], {"b": (2,)}, "its bias is"),
        ([convolution(["image"], "a"), other("sum", ["image", "a"], "b")], {"w": (4, 1, 3, 3)}, r"maps of \[1, 4\] channels"),
    ],
)
def test_weights_that_do_not_suit_are_refused(steps, weights, says):
    with pytest.raises(VesaliusError, match=f"does not fit together.*{says}"):
        Network(steps_of(*steps), zeros(**weights))


def test_channels_that_double_without_end_are_refused():
    names = ["image", *(f"map_{k}" for k in range(40))]
    steps = [other("joined", [before, before], after) for before, after in pairwise(names)]
    with pytest.raises(VesaliusError, match="makes 131072 channels"):
        Network(steps_of(*steps), {})


DOWN = convolution(["image"], "a", step=2)
POOL = other("mean_pool", ["image"], "a", step=(2, 2))


@pytest.mark.parametrize(
    ("steps", "weights", "sides", "says"),
    [
        ([DOWN], {"w": (4, 1, 3, 3)}, (8, 8), r"answers on the sides \(4, 4\)"),
        ([DOWN, other("joined", ["image", "a"], "b")], {"w": (4, 1, 3, 3)}, (8, 8), "maps of the sides"),
        ([DOWN, convolution(["image", "a"], "b", weight="v")], {"w": (4, 1, 3, 3), "v": (2, 5, 3, 3)}, (8, 8), "maps of the sides"),
        ([DOWN, other("sum", ["a", "image"], "b")], {"w": (1, 1, 3, 3)}, (8, 8), "maps of the sides"),
        ([POOL, other("transposed", ["a"], "b", weight="w", step=(2, 2))], {"w": (1, 1, 2, 2)}, (9, 8), r"answers on the sides \(8, 8\)"),
        ([POOL, other("transposed", ["a"], "b", weight="w", step=(2, 2)), other("sum", ["b", "image"], "c")], {"w": (1, 1, 2, 2)}, (8, 9),
         "maps of the sides"),
        ([other("max_pool", ["image"], "a", step=(9, 1))], {}, (8, 8), r"a map of the sides \(0, 8\)"),
        ([convolution(["image"], "a", pad=0)], {"w": (4, 1, 9, 3)}, (8, 8), "a map of the sides"),
        ([convolution(["image"], "a", pad=8)], {"w": (4, 1, 9, 9)}, (4, 4), "a map of the sides"),
        ([other("transposed", ["image"], "a", weight="w", step=(3, 3))], {"w": (1, 1, 3, 3)}, (8, 8), r"a map of the sides \(24, 24\)"),
        ([other("leaky", ["image"], "a")], {}, (LONGEST + 1, 8), "at most"),
        ([other("leaky", ["image"], "a")], {}, (LONGEST, LARGEST // LONGEST + 1), "at most"),
    ],
)  # fmt: skip
def test_maps_that_do_not_meet_are_refused(steps, weights, sides, says):
    """Whatever the network claims to pool by."""
    network = Network(steps_of(*steps), zeros(**weights))
    with pytest.raises(VesaliusError, match=says):
        network.suits(sides)
    if max(sides) < 100:
        with pytest.raises(VesaliusError, match=says):
            network(np.zeros((1, 1, *sides), np.float32))


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("kind", ["joined", "leaky"])
def test_a_step_that_does_nothing_shares_no_memory(kind, number):
    """What comes after may work where its own map lies."""
    steps = steps_of(other(kind, ["image"], "a"), other("normalisation", ["a"], "b", added=1e-5), other("joined", ["image", "b"], "c"))
    x = 3 + noise(1, 1, 8, 8)
    before = x.copy()
    found = singles(Network(steps, {}, number=number)(x))
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(found[:, :1], x, rtol=2**-8)
    np.testing.assert_allclose(found[:, 1:], (x - x.mean()) / x.std(), atol=0.05 if number == "bf16" else 1e-4)


@pytest.mark.parametrize("number", BOTH)
def test_a_map_may_be_taken_twice(number):
    steps = steps_of(other("joined", ["image", "image"], "a"), other("joined", ["a", "image", "a"], "b"), other("sum", ["b", "b"], "c"))
    x = np.round(8 * noise(1, 1, 4, 4))
    found = singles(Network(steps, {}, number=number)(x))
    np.testing.assert_array_equal(found, 2 * x.repeat(5, 1))


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("kind", ["sum", "joined", "convolution", "mean_pool", "max_pool", "transposed", "normalisation", "leaky"])
def test_the_image_meets_maps_in_one_kind_of_number(kind, number):
    """The image comes in float32, maps of a network may be bf16: of both each step takes one kind."""
    channels = 16
    first = convolution(["image"], "a")
    ends = {
        "sum": [other("sum", ["image", "a"], "b")],
        "joined": [other("joined", ["image", "a"], "b")],
        "convolution": [convolution(["image", "a"], "b", weight="v")],
        "mean_pool": [other("mean_pool", ["image"], "b", step=(1, 1)), other("sum", ["a", "b"], "c")],
        "max_pool": [other("max_pool", ["image"], "b", step=(1, 1)), other("sum", ["b", "a"], "c")],
        "transposed": [other("transposed", ["image"], "b", weight="u", step=(1, 1)), other("sum", ["b", "a"], "c")],
        "normalisation": [other("normalisation", ["image"], "b", added=1e-5), other("sum", ["b", "a"], "c")],
        "leaky": [other("leaky", ["image"], "b", slope=0.5), other("sum", ["b", "a"], "c")],
    }
    x = noise(1, channels, 16, 16)
    drawn = {"w": noise(channels, channels, 3, 3, seed=1) / 12, "v": noise(16, 2 * channels, 3, 3, seed=2) / 17,
             "u": noise(channels, channels, 1, 1, seed=3) / 4}  # fmt: skip
    weights = {name: one for name, one in drawn.items() if name == "w" or any(step.get("weight") == name for step in ends[kind])}
    lying = np.moveaxis(x, 1, -1)
    a = arithmetic.convolution(lying, drawn["w"], None, step=(1, 1), pad=(1, 1))
    expected = {
        "sum": lambda: lying + a,
        "joined": lambda: np.concatenate([lying, a], -1),
        "convolution": lambda: arithmetic.convolution(np.concatenate([lying, a], -1), drawn["v"], None, step=(1, 1), pad=(1, 1)),
        "mean_pool": lambda: lying + a,
        "max_pool": lambda: lying + a,
        "transposed": lambda: a + lying @ drawn["u"][:, :, 0, 0],
        "normalisation": lambda: a + (lying - lying.mean((1, 2))) / lying.std((1, 2)),
        "leaky": lambda: a + np.where(lying > 0, lying, lying / 2),
    }[kind]()
    found = singles(Network(steps_of(first, *ends[kind], channels=channels), weights, number=number)(x))
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected, atol=0.06 if number == "bf16" else 1e-4)


@pytest.mark.skipif("bf16" not in BOTH, reason="no kernels for bf16 here: not built, VESALIUS_KERNELS, or another processor")
@pytest.mark.parametrize("channels", [1, 3, 4, 15])
@pytest.mark.parametrize("sides", [(3, 4, 57), (5, 33), (4, 16)])
def test_a_first_convolution_is_exact_and_fills_up_no_channels(channels, sides):
    """In whole numbers, of which none need be rounded, as by numpy in float32."""
    random = np.random.default_rng(0)
    x = np.asarray(random.integers(-2, 3, (2, channels, *sides)), np.float32)
    weight, bias = (np.asarray(random.integers(-1, 2, shape), np.float32) for shape in ((16, channels, *(3,) * len(sides)), (16,)))
    ones, lying = (1,) * len(sides), np.moveaxis(x, 1, -1)
    assert quick.begins(lying, weight, step=ones, pad=ones)
    found = singles(quick.begun(lying, weight, bias, threads=2))
    expected = arithmetic.convolution(lying, weight, bias, step=ones, pad=ones)
    np.testing.assert_array_equal(found, singles(halves(expected)))


@pytest.mark.skipif("bf16" not in BOTH, reason="no kernels for bf16 here: not built, VESALIUS_KERNELS, or another processor")
@pytest.mark.parametrize("classes", [1, 2, 4, 7, 8, 9, 25])
@pytest.mark.parametrize(("channels", "sides"), [(16, (3, 5, 9)), (48, (4, 16)), (16, (1, 1)), (32, (2, 20, 13))])
@pytest.mark.parametrize("biased", [False, True])
def test_a_last_convolution_is_exact(classes, channels, sides, biased):
    """In whole numbers, of which none need be rounded, as by numpy in float32; what lies beside is left alone."""
    random, ones, none = np.random.default_rng(0), (1,) * len(sides), (0,) * len(sides)
    x = np.asarray(random.integers(-3, 4, (2, *sides, channels)), np.float32)
    weight, bias = (np.asarray(random.integers(-2, 3, shape), np.float32) for shape in ((classes, channels, *ones), (classes,)))
    assert quick.ends(halves(x), weight, step=ones, pad=none) and not quick.ends(x, weight, step=ones, pad=none)
    found = quick.ended(halves(x), halves(weight.reshape(classes, -1)), bias if biased else None, threads=2)
    expected = arithmetic.convolution(x, weight, bias if biased else None, step=ones, pad=none)
    np.testing.assert_array_equal(singles(found), singles(halves(expected)))


@pytest.mark.parametrize(
    ("channels", "classes", "side", "step", "pad"),
    [(16, 16, 1, 1, 0), (12, 3, 1, 1, 0), (16, 3, 3, 1, 1), (16, 3, 1, 2, 0), (528, 3, 1, 1, 0), (16, 3, 1, 1, 1)],
)
def test_what_is_no_last_convolution(channels, classes, side, step, pad):
    weight = np.zeros((classes, channels, side, side), np.float32)
    assert not quick.ends(np.zeros((1, 4, 4, channels), np.uint16), weight, step=(step, step), pad=(pad, pad))


@pytest.mark.parametrize("more", ["more", ""])
def test_weights_that_no_step_takes_are_named(more):
    with pytest.raises(VesaliusError, match="has no step for the weights"):
        Network(steps_of(convolution(["image"], "a")), zeros(w=(4, 1, 3, 3)) | {more: np.zeros(4, np.float32)})


@pytest.mark.parametrize(
    "step",
    [
        other("leaky", ["image"], "a", weight="w"),
        other("joined", ["image"], "a", slope=0.1),
        other("sum", ["image", "image"], "a", step=(1, 1)),
        other("transposed", ["image"], "a", weight="w", step=(1, 1), pad=(1, 1)),
        other("transposed", ["image"], "a", step=(1, 1)),
        other("mean_pool", ["image"], "a", step=(1, 1), pad=(1, 1)),
        convolution(["image"], "a", weight=""),
        convolution(["image"], "a", slope=0.0),
        convolution(["image"], "a", step=LONGEST + 1),
        convolution(["image"], "a", step=10**30),
        other("leaky", ["image"], "a", slope=float("nan")),
        other("normalisation", ["image"], "a", added=-1e-5),
        other("normalisation", ["image"], "a", added=float("inf")),
    ],
)
def test_what_a_step_does_not_go_by_is_refused(step):
    with pytest.raises(VesaliusError):
        steps_of(step)
