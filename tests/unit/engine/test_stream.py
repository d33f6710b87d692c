"""Streamed labels against the plain way: keep the logits of the whole volume, interpolate them all, then decide."""

import errno
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.engine.rolling import running_argmax
from vesalius.engine.stream import Kept, stream_labels
from vesalius.engine.tiles import ArraySource, Cut, Tiling, buffer_bytes, gaussian

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def logits_of(volume, network, tiling):
    """(K, *S) in float64: every tile added with its Gaussian, divided by the sum of Gaussians."""
    shape = volume.shape[1:]
    sides = [max(n, p) for n, p in zip(shape, tiling.patch, strict=True)]
    before = [(m - n) // 2 for m, n in zip(sides, shape, strict=True)]
    padded = np.pad(volume, [(0, 0)] + [(b, m - n - b) for b, m, n in zip(before, sides, shape, strict=True)], constant_values=tiling.fill)
    weight = gaussian(tiling.patch[0], tiling.sigma)
    for side in tiling.patch[1:]:
        weight = weight[..., None] * gaussian(side, tiling.sigma)
    total = norm = None
    shifts = [[start + b for start in first] for first, b in zip(Cut(shape, tiling).starts, before, strict=True)]
    for corner in product(*shifts):
        box = (slice(None), *[slice(c, c + p) for c, p in zip(corner, tiling.patch, strict=True)])
        out = network(torch.from_numpy(padded[box].astype(np.float32))[None])[0].double().numpy()
        if total is None:
            total, norm = np.zeros((len(out), *sides)), np.zeros(sides)
        total[box] += out * weight
        norm[box[1:]] += weight
    inner = (slice(None), *[slice(b, b + n) for b, n in zip(before, shape, strict=True)])
    return (total / norm)[inner]


def resampled(logits, output_shape, nearest=()):
    values = torch.from_numpy(logits)[None]
    for axis in nearest:
        size = list(values.shape[2:])
        size[axis] = output_shape[axis]
        values = F.interpolate(values, size=size, mode="nearest-exact")
    return F.interpolate(values, size=output_shape, mode=MODES[len(output_shape)], align_corners=False)[0].numpy()


def convolution(channels, classes, ndim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn((classes, channels, *[5] * ndim), generator=generator) / 5 ** (ndim / 2)
    conv = (F.conv2d, F.conv3d)[ndim - 2]
    return lambda x: conv(x, kernel, padding=2)


def noise(channels, shape, seed=1):
    return np.random.default_rng(seed).standard_normal((channels, *shape)).astype(np.float32)


def assert_same_labels(labels, values, tolerance):
    """Equal to the argmax of `values` (K, *S), but for voxels whose two largest logits are within `tolerance`."""
    expected = values.argmax(0)
    wrong = labels[0] != expected
    assert wrong.mean() <= 1e-4, f"{wrong.mean():.2e} of the labels differ"
    chosen = np.take_along_axis(values, labels.astype(int), 0)[0]
    assert (values.max(0) - chosen)[wrong].max(initial=0) <= tolerance


CASES = [
    ((20, 17, 23), (8, 8, 8), (20, 17, 23)),  # equal
    ((20, 17, 23), (8, 8, 8), (40, 34, 46)),  # up
    ((20, 17, 23), (8, 8, 8), (31, 25, 39)),
    ((20, 17, 23), (8, 8, 8), (9, 6, 5)),  # down, rows that no output needs
    ((20, 17, 23), (8, 8, 8), (41, 9, 23)),  # up, down, equal
    ((20, 17, 23), (8, 8, 8), (20, 34, 23)),
    ((20, 17, 23), (8, 8, 8), (45, 17, 23)),
    ((17, 21, 44), (8, 8, 8), (34, 30, 60)),  # streams along the last axis
    ((17, 44, 21), (8, 8, 8), (20, 91, 30)),  # and the middle one
    ((6, 30, 30), (4, 16, 16), (25, 60, 60)),  # anisotropic
    ((5, 7, 6), (8, 8, 8), (11, 9, 13)),  # smaller than the patch
    ((5, 19, 3), (8, 8, 8), (5, 25, 8)),
    ((1, 12, 12), (1, 8, 8), (1, 20, 20)),
    ((9, 12, 12), (1, 12, 12), (9, 20, 20)),  # slices
    ((33, 29), (16, 16), (33, 29)),
    ((33, 29), (16, 16), (71, 64)),
    ((33, 129), (16, 16), (17, 64)),
    ((10, 40), (16, 16), (33, 33)),
]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize(("shape", "patch", "output"), CASES)
def test_labels_equal_those_of_the_whole_volume(shape, patch, output, precision):
    tiling = Tiling(patch, batch=3, precision=precision, fill=0.5)
    volume, network = noise(2, shape), convolution(2, 5, len(shape))
    labels = stream_labels(network, volume, output, tiling=tiling, exclusive=True)
    assert labels.dtype == np.uint8 and labels.shape == (1, *output)
    values = resampled(logits_of(volume, network, tiling), output)
    if precision == "float32":
        assert_same_labels(labels, values, 2e-5)
    else:  # white noise is full of ties: what differs must be within the rounding of half precision
        chosen = np.take_along_axis(values, labels.astype(int), 0)[0]
        assert (values.max(0) - chosen).max() < 5 * np.abs(values).max() * 2**-11


def smooth(shape, seed=0):
    """(C, *shape): blobs, like anatomy."""
    coarse = torch.from_numpy(noise(6, [max(2, n // 8) for n in shape], seed))[None]
    return 5 * F.interpolate(coarse, size=shape, mode=MODES[len(shape)], align_corners=False)[0].numpy()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_half_precision_changes_no_more_than_one_label_in_ten_thousand(precision):
    shape, output = (48, 56, 40), (90, 111, 80)
    tiling = Tiling((24, 24, 24), precision=precision)
    volume = smooth(shape)
    labels = stream_labels(lambda x: x, volume, output, tiling=tiling, exclusive=True)
    expected = resampled(volume.astype(np.float64), output).argmax(0)
    assert (labels[0] == expected).mean() >= (1 if precision == "float32" else 0.9999)
    assert len(np.unique(labels)) == 6


def test_monai_gives_the_same_labels_with_the_same_weights():
    inferers = pytest.importorskip("monai.inferers")
    shape, patch = (32, 30, 24), (16, 12, 8)  # evenly spaced tiles and MONAI's lie at the same places
    volume, network = noise(2, shape), convolution(2, 5, 3)
    weight = torch.from_numpy(np.einsum("i,j,k", *[gaussian(side, 1 / 8) for side in patch])).float()
    with torch.inference_mode():
        image = torch.from_numpy(volume)[None]
        logits = inferers.sliding_window_inference(image, patch, 4, network, overlap=0.5, roi_weight_map=weight)[0].numpy()
    labels = stream_labels(network, volume, shape, tiling=Tiling(patch, precision="float32"), exclusive=True)
    assert_same_labels(labels, logits, 2e-5)


def test_no_resampling_gives_back_every_logit():
    # logits = image: tiles, weights and sums must leave the image as it was.
    volume = noise(4, (30, 26, 22))
    labels = stream_labels(lambda x: x, volume, (30, 26, 22), tiling=Tiling((8, 12, 16), precision="float32"), exclusive=True)
    np.testing.assert_array_equal(labels[0], volume.argmax(0))


@pytest.mark.parametrize("nearest", [(0,), (2,), (0, 1)])
def test_separate_z_takes_the_nearest_slice(nearest):
    shape, output = (6, 20, 22), (26, 31, 50)
    tiling = Tiling((4, 8, 8), precision="float32", nearest=nearest)
    volume = noise(3, shape)
    labels = stream_labels(lambda x: x, volume, output, tiling=tiling, exclusive=True)
    assert_same_labels(labels, resampled(volume.astype(np.float64), output, nearest), 2e-5)


def test_regions_have_a_threshold_each():
    shape, output = (20, 18, 16), (30, 30, 30)
    volume = noise(3, shape)
    values = resampled(volume.astype(np.float64), output)
    for thresholds in ((), (0.3, 0.5, 0.8)):
        tiling = Tiling((8, 8, 8), precision="float32", thresholds=thresholds)
        labels = stream_labels(lambda x: x, volume, output, tiling=tiling, exclusive=False)
        limits = np.array(thresholds or [0.5] * 3).reshape(3, 1, 1, 1)
        sure = np.abs(values - np.log(limits / (1 - limits))) > 1e-5
        assert labels.shape == (3, *output) and sure.mean() > 0.999
        np.testing.assert_array_equal(labels[sure], (1 / (1 + np.exp(-values)) > limits)[sure])


@pytest.mark.parametrize("shape", [(25, 30, 21), (25, 30)])
def test_a_constant_network_gives_constants(shape):
    def network(x):
        return torch.tensor([0.0, -1.0, 1.0]).reshape(1, 3, *[1] * len(shape)).expand(len(x), 3, *x.shape[2:])

    tiling = Tiling((12,) * len(shape), batch=2, mirror=((0,),))
    labels = stream_labels(network, noise(1, shape), tuple(2 * n for n in shape), tiling=tiling, exclusive=True)
    assert (labels == 2).all()


@pytest.mark.parametrize(("shape", "mirror"), [((20, 18), ((0,), (1,), (0, 1))), ((12, 14, 13), ((0,), (2,), (0, 1, 2)))])
def test_mirroring_leaves_an_equivariant_network_as_it_is(shape, mirror):
    def network(x):  # symmetric neighbourhoods
        wide = (F.avg_pool2d, F.avg_pool3d)[len(shape) - 2](x, 3, 1, 1)
        return torch.cat([x, wide, 2 * wide - x], 1)

    plain, mirrored = (
        stream_labels(network, noise(1, shape), shape, tiling=Tiling((8,) * len(shape), precision="float32", mirror=m), exclusive=True)
        for m in ((), mirror)
    )
    assert (plain == mirrored).mean() > 0.999 and len(np.unique(plain)) == 2


def test_mirrored_passes_are_averaged():
    def network(x):  # knows left from right
        ramp = torch.linspace(-1, 1, x.shape[-1]).expand_as(x)
        return torch.cat([torch.zeros_like(x), ramp + 0.25], 1)

    words = {"tiling": Tiling((8, 8), mirror=((1,),)), "exclusive": True}
    assert (stream_labels(network, noise(1, (8, 8)), (8, 8), **words) == 1).all()  # the ramp cancels, 0.25 is left


def test_networks_are_averaged_in_one_pass():
    volume, reads = noise(1, (16, 16, 16)), []

    class Source(ArraySource):
        def region(self, slices):
            reads.append(slices)
            return super().region(slices)

    members = [convolution(1, 4, 3, seed) for seed in range(3)]
    tiling = Tiling((8, 8, 8), precision="float32")
    joint = stream_labels(members, Source(volume), (20, 20, 20), tiling=tiling, exclusive=True)
    assert len(reads) == Cut((16, 16, 16), tiling).count
    values = resampled(sum(logits_of(volume, member, tiling) for member in members) / 3, (20, 20, 20))
    assert_same_labels(joint, values, 2e-5)


@pytest.mark.parametrize("exclusive", [True, False])
def test_air_is_background_without_the_network(exclusive):
    volume = np.full((1, 40, 16, 16), -1.0, np.float32)
    volume[:, 22:30] = 1
    calls = []

    def network(x):  # sees a lesion everywhere
        calls.append(len(x))
        return torch.full((len(x), 2, *x.shape[2:]), 3.0) * torch.tensor([-1.0, 1.0]).reshape(1, 2, 1, 1, 1)

    tiling = Tiling((8, 8, 8), skip=volume[0] > 0)
    labels = stream_labels(network, volume, (40, 16, 16), tiling=tiling, exclusive=exclusive)[-1]
    cut = Cut((40, 16, 16), tiling)
    busy = [i for i, start in enumerate(cut.starts[0]) if start < 30 and start + 8 > 22]
    assert sum(calls) == 1 + len(busy) * cut.count // len(cut.starts[0])  # the first tile tells the number of classes
    assert (labels[22:30] == 1).all() and (labels[34:] == 0).all() and (labels[9:18] == 0).all()


def test_progress_counts_every_tile():
    told = []
    tiling = Tiling((8, 8, 8), batch=2, skip=lambda tile: tile.mean() > 0)
    stream_labels(lambda x: x, noise(2, (20, 20, 20)), (20, 20, 20), tiling=tiling, exclusive=True, progress=lambda *now: told.append(now))
    done, total = zip(*told, strict=True)
    assert list(done) == sorted(done) and done[-1] == total[-1] == Cut((20, 20, 20), tiling).count


@pytest.mark.parametrize("shape", [(14, 15, 16), (14, 15, 40)])
@pytest.mark.parametrize("exclusive", [True, False])
def test_probabilities_on_request(tmp_path, exclusive, shape):
    volume, output, path = noise(3, shape), (20, 25, 18), tmp_path / "new" / "case.npy"
    tiling = Tiling((8, 8, 8), precision="float32")
    labels = stream_labels(lambda x: x, volume, output, tiling=tiling, exclusive=exclusive, kept=Kept(path))
    kept = np.load(path)
    assert kept.dtype == np.float16 and kept.shape == (3, *output) and [p.name for p in path.parent.iterdir()] == ["case.npy"]
    values = torch.from_numpy(resampled(volume.astype(np.float64), output))
    expected = (values.softmax(0) if exclusive else values.sigmoid()).numpy()
    np.testing.assert_allclose(kept, expected, atol=6e-4)
    without = stream_labels(lambda x: x, volume, output, tiling=tiling, exclusive=exclusive)
    np.testing.assert_array_equal(labels, without)


def test_a_failed_prediction_leaves_no_file(tmp_path):
    with pytest.raises(VesaliusError, match="not finite"):
        stream_labels(
            lambda x: x / 0,
            noise(2, (8, 8)),
            (8, 8),
            tiling=Tiling((8, 8)),
            exclusive=True,
            kept=Kept(tmp_path / "case.npy"),
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="reserves room where the system can")
def test_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    path = tmp_path / "case.npy"
    with pytest.raises(VesaliusError, match="No space left"):
        stream_labels(lambda x: x, noise(2, (8, 8)), (8, 8), tiling=Tiling((8, 8)), exclusive=True, kept=Kept(path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("network", "words", "match"),
    [
        (lambda x: x * float("nan"), {}, "not finite"),
        (lambda x: x * 1e9, {}, "not finite"),
        (lambda x: x[..., :4], {}, r"Expected logits of shape \(1, K, 8, 8\)"),
        (lambda x: x[:, :1], {}, "2 to 256 classes"),
        (lambda x: x, {"output_shape": (8, 8, 8)}, "same number of sides"),
        (lambda x: x, {"exclusive": False, "tiling": Tiling((8, 8), thresholds=(0.5,))}, "1 numbers for 2 regions"),
    ],
)
def test_nonsense_is_refused(network, words, match):
    words = {"output_shape": (8, 8), "tiling": Tiling((8, 8)), "exclusive": True, **words}
    with pytest.raises(VesaliusError, match=match):
        stream_labels(network, noise(2, (16, 16)), **words)


def test_probabilities_need_npy(tmp_path):
    with pytest.raises(UsageError, match=r"\.npy"):
        stream_labels(lambda x: x, noise(2, (8, 8)), (8, 8), tiling=Tiling((8, 8)), exclusive=True, kept=Kept(tmp_path / "p.nii"))


def test_running_argmax_takes_the_first_of_equals():
    values = np.random.default_rng(0).integers(0, 4, (7, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(running_argmax(torch.from_numpy(values.copy())).numpy(), values.argmax(0))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def peak_above_start(shape, output, classes):
    """Resident bytes at the most while a volume is streamed, above those before."""

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def streamed(sides, grid, progress):
        def network(x):
            return x.expand(-1, classes, -1, -1, -1)

        tiling = Tiling((16, *sides[1:]), overlap=0.25)
        stream_labels(network, np.zeros((1, *sides), np.float32), grid, tiling=tiling, exclusive=True, progress=progress)

    streamed((24, 8, 8), (36, 12, 12), lambda *_: None)  # code that is loaded when it is first used
    peak, start = [], resident()
    streamed(shape, output, lambda *_: peak.append(resident()))
    return max(peak) - start


def test_memory_stays_at_the_rolling_buffer():
    """Peak resident memory above the start: the volume, the buffer, the labels and less than 70 MB of work, for logits of 1.4 GB; in a
    process of its own, in whose memory no other test has left holes."""
    shape, output, classes = (192, 96, 96), (288, 144, 144), 60
    code = f"from {__name__} import peak_above_start\nprint(peak_above_start({shape}, {output}, {classes}))"
    roots = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": roots})
    assert done.returncode == 0, done.stderr
    sums, labels = buffer_bytes(shape, classes, Tiling((16, 96, 96), overlap=0.25)), int(np.prod(output))
    assert sums == 2 * classes * 17 * 96 * 96
    assert int(done.stdout) < sums + labels + 70e6 < 4 * classes * labels / 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("output", [(20, 17, 23), (31, 25, 39)])
def test_a_gpu_gives_the_same_labels(output):
    volume, network = noise(2, (20, 17, 23)), convolution(2, 5, 3)
    tiling = Tiling((8, 8, 8), batch=3, precision="float32", skip=lambda tile: tile.mean() > 0.1)

    def on_gpu(x):
        assert x.is_cuda
        return network(x.cpu()).cuda()

    here = stream_labels(network, volume, output, tiling=tiling, exclusive=True)
    there = stream_labels(on_gpu, volume, output, tiling=tiling, exclusive=True, device="cuda")
    assert (here == there).mean() > 0.9999
