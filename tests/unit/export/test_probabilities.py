"""Probabilities without torch beside those of torch, and beside sums in double precision."""

import tracemalloc

import numpy as np
import pytest
import torch

from tests.unit.engine.test_stream import logits_of, noise, resampled
from tests.unit.engine.tiny import tiny_plan
from tests.unit.export.made import BITS, LABELS, baseline, weights_of
from tests.unit.export.test_streaming import CASES, CHANNELS, CLASSES, Mixing
from tests.unit.export.test_written import made
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.space import Space
from vesalius.data.prepare import prepare
from vesalius.engine import probabilities
from vesalius.engine.extras import Extras
from vesalius.engine.infer import answer, callables
from vesalius.engine.stream import Kept, stream_labels
from vesalius.engine.tiles import Tiling, constant
from vesalius.export.answering import Answerer
from vesalius.export.deciding import sigmoid, softmax
from vesalius.export.exporting import tiles_of
from vesalius.export.model import Model, print_of
from vesalius.export.streaming import Wanted, stream
from vesalius.io.image import Image

STEP = 2**-11  # of half precision below 1


def both(networks, volume, output, *, folder, exclusive=True, sure=False, **how):
    """(labels, probabilities, codes of certainty) here and by torch."""
    tiling, found = Tiling(**how), []
    for name in ("here", "torch"):
        file = folder / name / "p.npy"
        codes = np.zeros((1 if exclusive else CLASSES, *output), np.uint8) if sure else None
        if name == "here":
            labels = stream(networks, volume, Wanted(output, exclusive, codes, file), tiling=tiling)
        else:
            nets = [network.torch for network in networks]
            labels = stream_labels(nets, volume, output, tiling=tiling, exclusive=exclusive, kept=Kept(file, codes))
        kept = np.load(file)
        assert kept.dtype == np.float16 and kept.shape == (CLASSES, *output) and [one.name for one in file.parent.iterdir()] == ["p.npy"]
        found.append((labels, kept.astype(np.float64), codes))
    return found


def truth(networks, volume, output, *, exclusive, **how):
    """In double precision, plain passes alone; and how far off sums in half precision may make them."""
    tiling = Tiling(**how)
    mean = sum(logits_of(volume, lambda x, of=network: of.torch(x).float(), tiling) for network in networks) / len(networks)
    values = torch.from_numpy(resampled(mean, output))
    size = float((values - values.amax(0) * exclusive).abs().max())
    return (values.softmax(0) if exclusive else values.sigmoid()).numpy(), size * STEP + STEP


def assert_near(here, there, *, off):
    np.testing.assert_allclose(here, there, rtol=0, atol=off)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(("count", "number"), [(1, "fp32"), (2, "bf16")])
@pytest.mark.parametrize(("shape", "patch", "output"), CASES)
def test_they_are_those_of_torch(way, tmp_path, shape, patch, output, count, number, exclusive):
    volume, networks = noise(CHANNELS, shape), [Mixing(seed, number=number) for seed in range(count)]
    how = {"patch": patch, "batch": 2, "exclusive": exclusive}
    (labels, here, codes), (theirs, there, other) = both(networks, volume, output, folder=tmp_path, sure=True, **how)
    expected, off = truth(networks, volume, output, patch=patch, exclusive=exclusive)
    assert_near(here, expected, off=off)
    assert_near(here, there, off=STEP if way == "kernels" else off)  # of the same sums half precision alone
    if exclusive:
        np.testing.assert_allclose(here.sum(0), 1, atol=CLASSES * STEP)
    said = here.argmax(0)[None] if exclusive else here > 0.5
    gap = np.diff(np.partition(here, -2, 0)[-2:], axis=0) if exclusive else np.abs(here - 0.5)
    assert (said == labels)[gap > STEP].all() and (labels == theirs).mean() > 0.998
    assert np.abs(codes.astype(int) - other).max() <= 1


@pytest.mark.parametrize("exclusive", [True, False])
def test_mirrored_passes_and_air_count(way, tmp_path, exclusive):
    volume, networks, output = noise(CHANNELS, (40, 21)), [Mixing(seed, number="bf16") for seed in range(2)], (60, 30)
    volume[:, 9:26] = -1
    how = {"patch": (8, 8), "batch": 2, "exclusive": exclusive, "skip": constant}
    (_, here, _), (_, there, _) = both(networks, volume, output, folder=tmp_path / "mirrored", mirror=((0,), (1,), (0, 1)), **how)
    (_, plain, _), _ = both(networks, volume, output, folder=tmp_path / "plain", **how)
    assert_near(here, there, off=STEP if way == "kernels" else 16 * STEP)
    assert np.abs(here - plain).max() > 0.1
    air = here[:, 26:27]  # in the middle of what is skipped
    np.testing.assert_allclose(air[0], 1 / (1 + (CLASSES - 1) * np.exp(-10)) if exclusive else 1 / (1 + np.exp(10)), atol=STEP)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(("shape", "patch", "output"), CASES)
def test_row_by_row_they_are_the_same(way, tmp_path, monkeypatch, shape, patch, output, exclusive):
    volume, how = noise(CHANNELS, shape), {"patch": patch, "exclusive": exclusive}
    (labels, here, _), _ = both([Mixing()], volume, output, folder=tmp_path / "together", **how)
    monkeypatch.setattr(probabilities, "TOGETHER", 1)
    (other, there, _), _ = both([Mixing()], volume, output, folder=tmp_path / "apart", **how)
    assert_near(here, there, off=STEP)
    assert (labels == other).mean() > 0.999


def test_never_all_classes_of_the_volume_are_held(way, tmp_path, monkeypatch):
    """Neither on the grid of the network nor on that of the answer."""
    monkeypatch.setattr(probabilities, "TOGETHER", 2**16)
    volume, output, classes = noise(1, (96, 32, 32)), (192, 32, 32), 24
    tracemalloc.start()
    stream([lambda x: np.repeat(x, classes, 1)], volume, Wanted(output, True, None, tmp_path / "p.npy"), tiling=Tiling((16, 16, 16)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < classes * volume.size * 2 / 1.6 < classes * np.prod(output) * 2 / 3


@pytest.mark.parametrize("shift", [0, 6e4, -6e4])
def test_large_logits_are_no_trouble(shift):
    """By the formula in double precision, to the smallest that half precision tells from nothing."""
    values = np.random.default_rng(0).normal(0, 30, (4, 50, 50)).astype(np.float32)
    values[:, 0, :3], values[0, :2, 3:6] = 0, 6e4
    given = (values + np.float32(shift)).astype(np.float32)
    wide = given.astype(np.float64)
    powers = np.exp(wide - wide.max(0))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        shares, each = softmax(given.copy()), sigmoid(given.copy())
        expected = 1 / (1 + np.exp(np.clip(-wide, None, 700)))
    assert shares.dtype == each.dtype == np.float32
    np.testing.assert_allclose(shares, powers / powers.sum(0), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-9)


def test_a_failure_leaves_no_file(tmp_path):
    volume, wanted = noise(CHANNELS, (20, 20)), Wanted((20, 20), True, None, tmp_path / "p.npy")
    with pytest.raises(VesaliusError, match="not finite"):
        stream([lambda x: Mixing()(x) * np.float32(np.nan)], volume, wanted, tiling=Tiling((8, 8)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"written as \.npy"):
        stream([Mixing()], volume, Wanted((20, 20), True, None, tmp_path / "p.nii"), tiling=Tiling((8, 8)))


def scan_of(ndim, channels):
    """Structures in a frame of zeros, on a coarse grid whose axes are turned."""
    shape = (13, 34, 29)[-ndim:]
    pixels = np.zeros((channels, *shape), np.float32)
    inside = (slice(None), *(slice(2, side - 4) for side in shape))
    drawn = np.random.default_rng(3).normal(50, 20, pixels[inside].shape)
    pixels[inside] = sum(np.roll(drawn, k, axis) for k in (0, 1) for axis in range(1, ndim + 1))
    affine = np.array([[0, -1.3, 0, 4], [0, 0, 1.1, 1], [-1.6, 0, 0, 3], [0, 0, 0, 1.0]]) if ndim == 3 else np.diag([1.0, 1.2, 1])
    return Image(pixels, Space(shape, affine)), inside


def answerers(kinds, labels, settings, *, prior=False, mirror=False):
    """(an answerer, what torch takes) of networks of random weights, which know the same; in float32."""
    ndim, channels = made(kinds[0])[1], 2
    changes = ["preparation.channels={\"image\": 2}", "preparation.normalise=[{}, {}]", f"patch.size={[16] * ndim}", "predict.batch=2",
               "train.precision=fp32", "preparation.crop=true", f"predict.mirror={str(mirror).lower()}", *settings]  # fmt: skip
    plan = tiny_plan(changes, ndim=ndim, labels=labels)
    priors = [baseline(labels, channels=channels, ndim=ndim) for _ in kinds] if prior else []
    nets, steps, weights = [], [], {}
    for number, kind in enumerate(kinds):
        shown = channels + len(labels.names) * prior
        net, _ = made(kind, channels=shown, classes=labels.out_channels)
        net.prior = len(labels.names) * prior
        nets.append(net)
        own = weights_of(kind, channels=shown, classes=labels.out_channels, number=number)
        steps.append(own[0])
        weights |= own[1]
    levels, single = {labels.names[0]: 132}, (labels.names[1],)
    model = Model(print=print_of(weights), labels=labels, preparation=plan.preparation, tiles=tiles_of(plan), number="fp32",
                  networks=tuple(steps), priors=tuple(one.to_json() for one in priors), levels=levels, single=single)  # fmt: skip
    ask = Answerer(model, model.ready(weights, number="fp32", threads=1), mirror)
    return ask, plan, (callables(nets, plan, "cpu"), Extras(priors, levels, single))


ANSWERED = {
    "3D": (("3D",), LABELS, {}),
    "two in 3D": (("3D", "residual"), LABELS, {"mirror": True}),
    "overlapping in 3D": (("thick",), BITS, {}),
    "2D": (("2D",), LABELS, {"mirror": True}),
    "overlapping in 2D": (("residual 2D", "2D"), BITS, {}),
    "correcting": (("original", "2D"), LABELS, {"prior": True}),
}


@pytest.mark.parametrize("kind", ANSWERED)
def test_on_the_grid_of_the_scan_they_are_those_of_torch(way, tmp_path, kind):
    """With rules for outlines, of cropped scans, on the grid of the scan and on another."""
    kinds, labels, words = ANSWERED[kind]
    ndim, exclusive = made(kinds[0])[1], labels.exclusive
    image, inside = scan_of(ndim, 2)
    for name, spacing in (("own", []), ("other", [1.0] * ndim)):
        ask, plan, (networks, extras) = answerers(kinds, labels, [f"preparation.spacing={spacing}"], **words)
        prepared = prepare(image, plan.preparation)
        ours, theirs = tmp_path / name / "ours.npy", tmp_path / name / "theirs.npy"
        said = ask(prepared, probabilities=ours)
        expected = answer(networks, prepared, plan=plan, device="cpu", extras=extras, probabilities=theirs)
        here, there = (np.load(file) for file in (ours, theirs))
        assert here.dtype == there.dtype and here.shape == there.shape == (labels.out_channels, *image.space.shape)
        assert_near(here.astype(float), there.astype(float), off=8 * STEP)
        assert (said == expected).mean() > 0.999 and there.astype(float).std() > 0.01
        assert sorted(file.name for file in ours.parent.iterdir()) == ["ours.npy", "theirs.npy"]
        outside = np.ones(image.space.shape, bool)
        outside[inside[1:]] = False
        assert (here[0][outside] == exclusive).all() and not here[1:, outside].any()
        if exclusive:
            np.testing.assert_allclose(here.astype(float).sum(0), 1, atol=len(here) * STEP)
