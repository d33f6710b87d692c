"""A model that is saved comes back; one that is damaged, mixed or made up is refused before anything computes by it."""

import errno
import json
import random
import resource
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.unit.export.made import BITS, SIDE, model_of, noise, saved
from vesalius.core import files
from vesalius.core.errors import VesaliusError
from vesalius.data.labels import Labels
from vesalius.export import model as room
from vesalius.export.model import FILE, WEIGHTS, Model, print_of, read_weights
from vesalius.export.network import Network, able
from vesalius.export.streaming import Wanted, stream


def opened(folder):
    model = Model.load(folder)
    return model, model.loaded(folder, threads=1)


def change(folder, *path, to=None):
    """Set what lies at `path` in model.json; without `to` it goes."""
    tree = json.loads((folder / FILE).read_text())
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    if to is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    (folder / FILE).write_text(json.dumps(tree))


def put(folder, weights):
    """Other weights, and their print in both files."""
    weights = {name: np.ascontiguousarray(one) for name, one in weights.items()}
    save_file(weights, folder / WEIGHTS, metadata={"print": print_of(weights)})
    change(folder, "print", to=print_of(weights))


@pytest.mark.parametrize("kinds", [("3D",), ("2D", "residual 2D"), ("original",)])
def test_a_model_comes_back_and_answers_the_same(tmp_path, kinds):
    model, weights = saved(tmp_path, *kinds, single=("left",), levels={"right": 140}, compared={"fp32_difference": 1e-6}, record={"a": 1})
    back, networks = opened(tmp_path)
    assert back == model and len(networks) == len(kinds)
    tile = noise(2, 1, *(SIDE,) * model.ndim)
    for number, (network, steps) in enumerate(zip(networks, model.networks, strict=True)):
        own = {name[2:]: one for name, one in weights.items() if name.startswith(f"{number}.")}
        np.testing.assert_array_equal(network(tile), Network(steps, own, number=able("bf16"))(tile))
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, WEIGHTS]


def test_eleven_networks_are_told_apart(tmp_path):
    """1 and 10 begin alike."""
    saved(tmp_path, *["original"] * 11)
    assert len(opened(tmp_path)[1]) == 11


def test_more_than_one_channel_and_other_kinds_of_labels(tmp_path):
    labels = Labels(names=("a", "b"), values=((1, 2), (2,)), kind="regions")
    saved(tmp_path, "2D", channels=3, labels=labels)
    assert opened(tmp_path)[1][0].classes == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ('{"version": 1' + "0" * 5000 + "}", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        ("[]", "says version None"),
        ("3", "says version None"),
        ("{}", "says version None"),
        ('{"version": null}', "says version None"),
        ('{"version": "1"}', "says version '1'"),
        ('{"version": true}', "says version True"),
        ('{"version": 1.5}', "says version 1.5"),
        ('{"version": 0}', "says version 0"),
        ('{"version": 2}', "is of version 2; this vesalius knows up to 1. Install a later one"),
        ('{"version": 1}', "labels: is missing"),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path, text, says):
    saved(tmp_path, "original")
    (tmp_path / FILE).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(VesaliusError, match=says):
        Model.load(tmp_path)


@pytest.mark.parametrize("name", ["print", "labels", "preparation", "tiles", "number", "networks"])
def test_what_is_missing_is_named(tmp_path, name):
    saved(tmp_path, "original")
    change(tmp_path, name)
    with pytest.raises(VesaliusError, match=rf"model.json: {name}: .*Export the model again"):
        Model.load(tmp_path)


@pytest.mark.parametrize(
    ("path", "to", "says"),
    [
        (("networks",), [], "do not suit"),
        (("networks", 0, "channels"), 2, "do not suit"),
        (("preparation", "channels"), {"image": 2}, "do not suit"),
        (("preparation", "channels"), {}, "do not suit"),
        (("preparation", "channels"), {"a": 2, "b": -1}, "1 rules for 1 channels"),
        (("preparation", "normalise"), [{}, {}], "2 rules for 1 channels"),
        (("preparation", "spacing"), [1.0], "cannot be prepared so"),
        (("preparation", "spacing"), [1.0, 0.0], "the spacing is"),
        (("preparation", "spacing"), [1.0, float("nan")], "the spacing is"),
        (("preparation", "order"), 2, "cannot be prepared so"),
        (("preparation", "fit"), "pad", "cannot be prepared so"),
        (("preparation", "more"), 1, "more"),
        (("tiles", "patch"), [SIDE] * 3, "do not suit"),
        (("tiles", "patch"), [SIDE, SIDE + 1], "multiples"),
        (("tiles", "patch"), [0, 0], "at least 1"),
        (("tiles", "patch"), [-SIDE, SIDE], "at least 1"),
        (("tiles", "overlap"), 1, "overlap"),
        (("tiles", "overlap"), float("nan"), "overlap"),
        (("tiles", "batch"), 0, "batch"),
        (("tiles", "mirror"), [[2]], "axes"),
        (("tiles", "mirror"), [[0, 0]], "twice"),
        (("labels", "kind"), "classes", "do not suit"),
        (("labels", "kind"), "findings", "do not suit"),
        (("labels", "names"), [], "a name and values"),
        (("labels", "names"), ["left", "right", "more"], "a name and values"),
        (("labels", "values"), [[1], []], "a name and values"),
        (("single",), ["nobody"], "rules for outlines"),
        (("levels",), {"nobody": 130}, "rules for outlines"),
        (("number",), "fp16", "number"),
        (("networks", 0, "ndim"), 3, "place along each of 3 axes"),
        (("networks", 0, "pooling"), [4], "pooling"),
        (("networks", 0, "steps", 0, "takes"), ["nothing"], "does not follow"),
    ],
)
def test_parts_that_do_not_suit_each_other_are_refused(tmp_path, path, to, says):
    saved(tmp_path, "original")
    change(tmp_path, *path, to=to)
    with pytest.raises(VesaliusError, match=says) as told:
        Model.load(tmp_path)
    assert "Export the model again: vesalius export RUN" in str(told.value)


def test_networks_of_other_classes_than_labels_are_refused(tmp_path):
    saved(tmp_path, "original")
    change(tmp_path, "labels", to={"names": ["a", "b", "c"], "values": [[1], [2], [3]]})
    with pytest.raises(VesaliusError, match="answers with 3 classes; the labels a=1, b=2, c=3 need 4"):
        opened(tmp_path)


def test_a_baseline_of_another_kind_of_labels_is_refused(tmp_path):
    """Its odds would be against something else."""
    saved(tmp_path, "original", prior=True)
    opened(tmp_path)
    tree = json.loads((tmp_path / FILE).read_text())["priors"][0]
    change(tmp_path, "priors", 0, to={**tree, "exclusive": False, "coefficients": [row[1:] for row in tree["coefficients"]]})
    with pytest.raises(VesaliusError, match="the baseline that network 0 corrects"):
        opened(tmp_path)


def test_a_patch_whose_maps_do_not_meet_is_refused(tmp_path):
    """Though the networks claim to pool by less."""
    saved(tmp_path, "original")
    change(tmp_path, "networks", 0, "pooling", to=[1, 1])
    change(tmp_path, "tiles", "patch", to=[SIDE, SIDE + 2])
    with pytest.raises(VesaliusError, match=r"does not fit together.*where tiles are \(16, 18\)"):
        opened(tmp_path)


def test_weights_of_another_export_are_refused(tmp_path):
    saved(tmp_path / "one", "original")
    model, weights = model_of("original")
    others = {name: one + 1 for name, one in weights.items()}
    replace(model, print=print_of(others)).save(tmp_path / "two", others)
    (tmp_path / "two" / WEIGHTS).replace(tmp_path / "one" / WEIGHTS)
    with pytest.raises(VesaliusError, match=rf"of another export than {FILE} beside it.*--overwrite"):
        opened(tmp_path / "one")


def test_a_single_bit_is_missed_by_nobody(tmp_path):
    saved(tmp_path, "original")
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    data[-1000] ^= 1
    (tmp_path / WEIGHTS).write_bytes(data)
    with pytest.raises(VesaliusError, match="is damaged: its numbers are not those that were written"):
        opened(tmp_path)


def test_weights_are_told_apart_by_names_shapes_and_numbers():
    a = {"x": noise(2, 3), "y": noise(2, 3, seed=1)}
    others = [{"x": a["y"], "y": a["x"]}, {"x": a["x"].reshape(3, 2), "y": a["y"]}, {"x": a["x"]}, {"z": a["x"], "y": a["y"]},
              {"x": a["x"], "y": np.nextafter(a["y"], np.float32(9))}]  # fmt: skip
    assert len({print_of(one) for one in [a, *others]}) == 6 and print_of(dict(reversed(a.items()))) == print_of(a)


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (None, "does not exist. Copy the whole folder"),
        (b"", "not a whole safetensors file"),
        (b"\xff" * 1000, "not a whole safetensors file"),
        (b"\x10" + b"\0" * 7 + b'{"a": "nonsense"', "not a whole safetensors file"),
    ],
)
def test_no_weights_at_all(tmp_path, left, says):
    saved(tmp_path, "original")
    (tmp_path / WEIGHTS).unlink()
    if left is not None:
        (tmp_path / WEIGHTS).write_bytes(left)
    with pytest.raises(VesaliusError, match=says):
        opened(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_weights_that_are_cut_off(tmp_path, share):
    saved(tmp_path, "original")
    data = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VesaliusError, match=f"{WEIGHTS} is not a whole safetensors file.*Copy it again"):
        opened(tmp_path)


def raw(kind, size):
    """A safetensors file with one weight of a kind of number."""
    header = json.dumps({"__metadata__": {"print": "x"}, "w": {"dtype": kind, "shape": [2], "data_offsets": [0, 2 * size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(2 * size)


@pytest.mark.parametrize(("kind", "size"), [("F64", 8), ("F16", 2), ("BF16", 2), ("F8_E4M3", 1), ("I32", 4), ("BOOL", 1), ("C64", 8)])
def test_other_kinds_of_numbers_are_refused(tmp_path, kind, size):
    (tmp_path / WEIGHTS).write_bytes(raw(kind, size))
    with pytest.raises(VesaliusError, match=r"not finite numbers of 32 bits|not a whole safetensors file"):
        read_weights(tmp_path / WEIGHTS)
    (tmp_path / WEIGHTS).write_bytes(raw("F32", 4))
    assert read_weights(tmp_path / WEIGHTS)[1] == "x"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    _, weights = saved(tmp_path, "original")
    name = sorted(weights)[2]
    weights[name] = weights[name].copy()
    weights[name].flat[-1] = value
    put(tmp_path, weights)
    with pytest.raises(VesaliusError, match=f"the weights {name} are not finite numbers of 32 bits"):
        opened(tmp_path)


def test_every_weight_that_is_missing_surplus_or_of_another_shape_is_refused(tmp_path):
    """One after the other, each cut, turned, doubled, flattened and exchanged; of kernels whose channels are alike on both sides all that
    differs is the numbers."""
    _, weights = saved(tmp_path, "3D")
    for name, one in weights.items():
        put(tmp_path, {key: value for key, value in weights.items() if key != name})
        with pytest.raises(VesaliusError, match=f"lacks the weights {name[2:]}"):
            opened(tmp_path)
        shapes = [one[:-1], np.concatenate([one, one]), one[None], one.reshape(-1, 1), one.T, one[..., None]]
        for other in shapes:
            if other.shape != one.shape:
                put(tmp_path, weights | {name: other})
                with pytest.raises(VesaliusError, match="does not fit together"):
                    opened(tmp_path)
    for more in ("0.more", "1.more", "more", "0.", ""):
        put(tmp_path, weights | {more: one})
        with pytest.raises(VesaliusError, match=r"no step for the weights|no network of model\.json takes"):
            opened(tmp_path)
    put(tmp_path, weights)
    opened(tmp_path)


def test_a_folder_that_is_no_model_says_what_to_do(tmp_path):
    with pytest.raises(VesaliusError, match=r"not an exported model: it has no model.json. Make one: vesalius export RUN"):
        Model.load(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(VesaliusError, match=rf"It is a run: export it first \(vesalius export {tmp_path} -o MODEL\)"):
        Model.load(tmp_path)


def test_a_save_that_is_killed_between_its_files_leaves_no_mixture(tmp_path, monkeypatch):
    """Weights come first, so model.json is the old one: the print tells."""
    saved(tmp_path, "original")
    before = (tmp_path / FILE).read_bytes()

    def killed(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(room, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            saved(tmp_path, "2D")
    assert (tmp_path / FILE).read_bytes() == before
    with pytest.raises(VesaliusError, match="another export"):
        opened(tmp_path)
    saved(tmp_path, "2D")
    opened(tmp_path)


def test_a_first_save_that_is_killed_is_no_model(tmp_path, monkeypatch):
    def killed(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(room, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            saved(tmp_path, "original")
    with pytest.raises(VesaliusError, match="not an exported model"):
        Model.load(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files")
def test_a_disk_that_is_full_is_told_and_leaves_the_old_model(tmp_path):
    """As when the file cannot grow any more: the error of safetensors, not ours."""
    saved(tmp_path, "original")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
        with pytest.raises(VesaliusError, match=rf"Cannot write .*{WEIGHTS}.*Free some space or choose another folder"):
            saved(tmp_path, "2D")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    opened(tmp_path)


def test_a_disk_that_fills_before_model_json_leaves_no_half_of_it(tmp_path, monkeypatch):
    calls = iter(range(10))

    def full(number, flush=files.os.fsync):
        if next(calls):
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(number)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(VesaliusError, match=rf"Cannot write .*{FILE}: No space left on device"):
        saved(tmp_path, "original")
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


VALUES = [
    None, True, -1, 0, 1, 2, 3, 5, 16, 17, 2**16, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.1, float("nan"), float("inf"), 1e300, "", "image",
    "map_0", "map_3", "fp32", [], {}, [1], [1, 1, 1], [2, 2, 2], [0, 0, 0], [3, 3, 3], [1, 2, 2], [1, 1], [8, 8], [[0]], [5, 5, 5],
    "sum", "joined", "leaky", "normalisation", "convolution", "transposed", "mean_pool", "max_pool",
]  # fmt: skip
STEP = ("takes", "weight", "bias", "kind", "step", "pad", "slope", "added", "channels", "ndim", "makes")


def places(tree, at=()):
    """The way to everything in a tree of JSON."""
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield (*at, key)
        yield from places(tree[key], (*at, key))


def within(tree, at):
    for key in at:
        tree = tree[key]
    return tree


def spoil(tree, draw):
    """One change somewhere: left out, another value, that of another place, one more, two exchanged."""
    every = [at for at in places(tree) if at[0] not in ("record", "compared")]
    at = draw.choice((draw.random() < 0.7 and [one for one in every if one[0] == "networks"]) or every)
    like = [one for one in every if one[-1] == at[-1]] or every
    if at[-1] not in STEP and draw.random() < 0.5:
        at = draw.choice([one for one in every if one[-1] in STEP] or every)
        like = [one for one in every if one[-1] == at[-1]]
    inner, key, way = within(tree, at[:-1]), at[-1], draw.randrange(6)
    if way == 0:
        del inner[key]
    elif way == 1:
        inner[key] = draw.choice(VALUES)
    elif way == 2 and isinstance(inner, list):
        inner.insert(key, json.loads(json.dumps(inner[key])))
    elif way == 3 and isinstance(inner, list):
        other = draw.randrange(len(inner))
        inner[key], inner[other] = inner[other], inner[key]
    elif way == 4 and isinstance(inner[key], int | float):
        inner[key] += draw.choice([-1, 1, 2])
    else:
        inner[key] = json.loads(json.dumps(within(tree, draw.choice(like))))


def spoil_weights(weights, draw):
    """One change of one of them."""
    name, other = draw.choice(sorted(weights)), draw.choice(sorted(weights))
    one = weights[name]
    axis = draw.randrange(one.ndim)
    changed = [one.take(range(one.shape[axis] - 1), axis), np.concatenate([one, one], axis), np.moveaxis(one, axis, 0), one.reshape(-1),
               one[None], one.astype(np.float64), np.where(one == one.max(), np.float32(draw.choice([np.nan, 3e38])), one)]  # fmt: skip
    way = draw.randrange(len(changed) + 3)
    if way < len(changed):
        weights[name] = changed[way]
    elif way == len(changed):
        del weights[name]
    elif way == len(changed) + 1:
        weights[draw.choice(["0.more", "1.x", "more"])] = one
    else:
        weights[name], weights[other] = weights[other], weights[name]


def computed(folder):
    """Everything that a model is asked for, in both kinds of numbers, on a small scan; nothing of tiles that are large."""
    model, _ = opened(folder)
    if np.prod(model.tiles.patch) > 2 * SIDE**3:
        return
    weights, _ = read_weights(folder / WEIGHTS)
    image, labels, shape = noise(model.preparation.in_channels, *(9, 20, 18)[: model.ndim]), model.labels, (15, 19, 11)[: model.ndim]
    for number in ("fp32", able("bf16")):
        nets = model.ready(weights, number=number, threads=1)
        sure = np.zeros((1 if labels.exclusive else len(labels.names), *shape), np.uint8) if number == "fp32" else None
        said = stream(nets, model.shown(image), Wanted(shape, labels.exclusive, sure), tiling=model.tiles.tiling(mirrored=sure is not None))
        labels.decode(said)


WHOLE = {
    "3D": (("3D",), {}),
    "residual": (("residual",), {}),
    "original": (("original",), {}),
    "two": (("odd channels", "thick"), {"labels": BITS}),
    "flat": (("residual 2D", "2D"), {"labels": BITS}),
    "prior": (("original",), {"prior": True, "channels": 2}),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", WHOLE)
def test_whatever_the_files_say_it_is_an_answer_or_an_error_in_words(tmp_path, kind):
    """Files that are changed at random; a process that dies here has read or written where it must not."""
    _, good = saved(tmp_path, *WHOLE[kind][0], **WHOLE[kind][1])
    text, ran, seeds = (tmp_path / FILE).read_text(), 0, 40
    for seed in range(seeds):
        draw, tree, weights = random.Random(f"{kind} {seed}"), json.loads(text), dict(good)
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            if draw.random() < 0.65:
                spoil(tree, draw)
            else:
                spoil_weights(weights, draw)
        (tmp_path / FILE).write_text(json.dumps(tree))
        put(tmp_path, weights)
        try:
            computed(tmp_path)
            ran += 1
        except VesaliusError as told:
            assert str(told)
    assert 0 < ran < seeds / 2
