"""Labels without torch beside those of `engine/stream.py`, of the same logits to the last bit, and beside sums in double precision."""

import os
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
import torch

from tests.unit.engine.test_stream import logits_of, noise, resampled
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.engine import cells
from vesalius.engine.stream import Kept, stream_labels
from vesalius.engine.sums import LIMIT
from vesalius.engine.tiles import Cut, Tiling, constant
from vesalius.export import streaming
from vesalius.export.deciding import coded
from vesalius.export.numbers import halves, singles
from vesalius.export.streaming import Wanted, mean_of, stream

KERNELS = cells.suit("float16", "cpu", 3)
CHANNELS, CLASSES = 2, 5
CASES = [  # volume, patch, output
    ((30,), (8,), (30,)),
    ((30,), (8,), (77,)),
    ((30,), (8,), (11,)),
    ((5,), (8,), (9,)),
    ((33, 29), (16, 16), (33, 29)),
    ((33, 29), (16, 16), (71, 64)),
    ((33, 40), (16, 16), (17, 21)),
    ((10, 40), (16, 16), (33, 33)),  # one side smaller than the patch
    ((20, 17, 23), (8, 8, 8), (20, 17, 23)),
    ((20, 17, 23), (8, 8, 8), (31, 25, 39)),
    ((20, 17, 23), (8, 8, 8), (9, 6, 5)),
    ((20, 17, 23), (8, 8, 8), (41, 9, 23)),  # finer, coarser, the same
    ((5, 7, 6), (8, 8, 8), (11, 9, 13)),
    ((9, 12, 12), (1, 12, 12), (9, 20, 20)),  # slices
]


class Mixing:
    """Logits of a tile: its channels mixed, and a slope for each class, so that a mirrored tile is another. Products and sums one by one in
    float32, which numpy and torch do to the same bits."""

    def __init__(self, seed=0, *, number="fp32", scale=2.0, shift=0.0):
        self.mix = (scale * np.random.default_rng(seed).standard_normal((CLASSES, CHANNELS))).astype(np.float32)
        self.number, self.shift = number, np.float32(shift)

    def slope(self, sides):
        made = np.zeros((), np.float32)
        for side in sides:
            made = made[..., None] + np.linspace(-1, 1, side, dtype=np.float32)
        return made

    def of(self, x, slope, stack):
        mixed = [sum(weight * x[:, c] for c, weight in enumerate(row)) for row in self.mix.tolist()]
        return stack([one + slope * (k - 1.5) + self.shift for k, one in enumerate(mixed)], 1)

    def __call__(self, x):
        """As the networks of an exported model answer: channels lie together."""
        logits = self.of(x, self.slope(x.shape[2:]), np.stack)
        assert logits.dtype == np.float32
        lying = np.moveaxis(np.ascontiguousarray(np.moveaxis(logits, 1, -1)), -1, 1)
        return halves(lying) if self.number == "bf16" else lying

    def torch(self, x):
        logits = self.of(x, torch.from_numpy(self.slope(x.shape[2:])), torch.stack)
        return logits.bfloat16() if self.number == "bf16" else logits


def both(networks, volume, output, *, exclusive=True, sure=False, **how):
    """(labels, codes of certainty) here and by torch."""
    tiling, found = Tiling(**how), []
    form = (1 if exclusive else CLASSES, *output)
    for way in ("here", "torch"):
        codes = np.zeros(form, np.uint8) if sure else None
        if way == "here":
            labels = stream(networks, volume, Wanted(output, exclusive, codes), tiling=tiling)
        else:
            nets = [network.torch for network in networks]
            labels = stream_labels(nets, volume, output, tiling=tiling, exclusive=exclusive, kept=Kept(certainty=codes))
        assert labels.dtype == np.uint8 and labels.shape == form
        found.append((labels, codes))
    return found


def truth(networks, volume, output, **how):
    """Logits (K, *output) in double precision, plain passes alone."""
    tiling = Tiling(**how)
    mean = sum(logits_of(volume, lambda x, of=network: of.torch(x).float(), tiling) for network in networks) / len(networks)
    return resampled(mean, output)


def assert_alike(here, there, values, *, exclusive=True):
    """Half precision keeps 11 bits of how far a class is below the largest (a region from 0). It is rounded at other places here than
    there, so labels may differ where the two largest (a region and 0) are nearer than that: in white noise, which is full of borders, one
    or two in ten thousand."""
    wrong = here != there
    near = 4 * np.abs(values - values.max(0) * exclusive).max() * 2**-11
    gap = np.diff(np.partition(values, -2, 0)[-2:], axis=0) if exclusive else np.abs(values)
    assert gap[wrong].max(initial=0) < near
    assert wrong.sum() <= max(1, wrong.size // 1000)
    best = np.take_along_axis(values, here.astype(int), 0) if exclusive else None
    assert (values.max(0) - best).max() < near if exclusive else np.array_equal((values > 0)[gap > near], here[gap > near] == 1)


@pytest.mark.parametrize(("count", "number"), [(1, "fp32"), (2, "bf16")])
@pytest.mark.parametrize(("shape", "patch", "output"), CASES)
def test_labels_are_those_of_torch(way, shape, patch, output, count, number):
    volume, networks = noise(CHANNELS, shape), [Mixing(seed, number=number) for seed in range(count)]
    (here, _), (there, _) = both(networks, volume, output, patch=patch, batch=2)
    assert_alike(here, there, truth(networks, volume, output, patch=patch))
    if way == "kernels":
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("shape", "patch", "output"), CASES)
def test_overlapping_labels_are_those_of_torch(shape, patch, output, count):
    volume, networks = noise(CHANNELS, shape), [Mixing(seed) for seed in range(count)]
    (here, codes), (there, other) = both(networks, volume, output, exclusive=False, sure=True, patch=patch, batch=3)
    values = truth(networks, volume, output, patch=patch)
    assert_alike(here, there, values, exclusive=False)
    expected = np.clip(8 * values + 128, 0, 255)
    assert np.abs(codes - expected).max() < 0.7  # rounding, and half precision of 8 times up to 16
    assert np.abs(codes.astype(int) - other).max() <= 1 and (codes == other).mean() > 0.9


@pytest.mark.parametrize(("shape", "patch", "output"), CASES)
def test_certainty_is_the_log_odds_against_all_others(way, shape, patch, output):
    volume, networks = noise(CHANNELS, shape), [Mixing()]
    (here, codes), (there, other) = both(networks, volume, output, sure=True, patch=patch)
    values = truth(networks, volume, output, patch=patch)
    assert_alike(here, there, values)
    share = torch.from_numpy(values).softmax(0).numpy().max(0)
    expected = np.clip(8 * np.log(share / np.maximum(1 - share, 1e-300)) + 128, 0, 255)
    inside = expected < 250  # beyond, 1 - share is rounding
    assert np.abs(codes[0] - expected)[inside].max() < 0.8
    assert np.abs(codes.astype(int) - other).max() <= 1 and (codes == other).mean() > 0.9
    plain, _ = both(networks, volume, output, patch=patch)[0]
    assert (plain != here).mean() < 5e-3


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(("shape", "patch", "output", "number"), [(*CASES[5], "bf16"), ((9, 17, 12), (8, 8, 8), (12, 25, 12), "fp32")])
def test_mirrored_passes_are_those_of_torch(way, shape, patch, output, exclusive, number):
    axes = range(len(shape))
    mirror = tuple(some for count in range(1, len(shape) + 1) for some in combinations(axes, count))
    volume, networks = noise(CHANNELS, shape), [Mixing(seed, number=number) for seed in range(2)]
    how = {"patch": patch, "batch": 2, "exclusive": exclusive}
    (here, _), (there, _) = both(networks, volume, output, mirror=mirror, **how)
    (plain, _), _ = both(networks, volume, output, **how)
    assert (here != there).mean() < 2e-3 and (plain != here).mean() > 0.1
    if way == "kernels" and exclusive:
        np.testing.assert_array_equal(here, there)


def test_the_mean_is_that_of_passes_put_back():
    """By the formula: of every pass, the logits of the mirrored tile, mirrored back."""
    tiles, networks, mirror = noise(1, (CHANNELS, 4, 6)), [Mixing(0), Mixing(1)], ((0,), (1,), (0, 1))
    passes = [np.flip(net(np.flip(tiles, axes).copy()), axes) for net in networks for axes in ((), (2,), (3,), (2, 3))]
    found = mean_of(networks, tiles, mirror)
    np.testing.assert_allclose(found, np.mean(passes, 0, dtype=np.float64), atol=1e-6)
    assert np.abs(found - mean_of(networks, tiles, ())).max() > 0.1


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("overlap", [0, 0.5])
@pytest.mark.parametrize(("shape", "patch", "output"), [((40, 21), (8, 8), (60, 30)), ((30, 17, 16), (8, 8, 8), (45, 17, 20))])
def test_air_is_background_as_in_torch(way, shape, patch, output, overlap, exclusive):
    volume = noise(CHANNELS, shape)
    volume[:, 9:26] = -1
    mask = np.ones(shape, bool)
    mask[-8:] = False
    asked = []

    class Counting(Mixing):
        def __call__(self, x):
            asked.append(len(x))
            return super().__call__(x)

    for skip in (constant, mask):
        asked.clear()
        how = {"patch": patch, "batch": 3, "overlap": overlap, "skip": skip, "exclusive": exclusive}
        (here, _), (there, _) = both([Counting(shift=-0.5)], volume, output, **how)
        assert sum(asked) < Cut(shape, Tiling(patch, overlap=overlap)).count
        assert (here != there).mean() < 2e-3
        air = round(output[0] * 37 / 40) if skip is mask and shape[0] == 40 else None
        assert air is None or not here[:, air:].any()


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01 * LIMIT, -1.01 * LIMIT])
def test_logits_that_no_sum_can_hold_are_an_error(way, exclusive, value):
    volume = noise(CHANNELS, (20, 20))

    def network(x):
        logits = Mixing()(x)
        if (x[:, 0, 0, 0] == volume[0, -8, -8]).any():  # the last tile
            logits[-1, 1, 3, 3] = value
        return logits

    with pytest.raises(VesaliusError, match=f"not finite or beyond {LIMIT:.0f}"):
        stream([network], volume, Wanted((20, 20), exclusive), tiling=Tiling((8, 8), batch=2))


@pytest.mark.parametrize("sure", [True, False])
def test_what_all_classes_have_in_common_costs_no_precision(way, sure):
    """Softmax does not know it; in half precision it would leave steps of 64 between classes."""
    volume, output = noise(CHANNELS, (20, 18)), (27, 30)
    (here, codes), (there, other) = both([Mixing(shift=1e5)], volume, output, sure=sure, patch=(8, 8))
    (plain, straight), _ = both([Mixing()], volume, output, sure=sure, patch=(8, 8))
    assert (here == there).all() if way == "kernels" and not sure else (here != there).mean() < 5e-3
    assert (here == plain).mean() > 0.99
    assert not sure or (np.abs(codes.astype(int) - straight).max() <= 2 and np.abs(codes.astype(int) - other).max() <= 1)


def cut_off(x):
    return Mixing()(x)[..., :-1]


def flat(x):
    return Mixing()(x)[:, :, 0]


def longer(x):
    return np.pad(Mixing()(x), [(0, 0), (0, 0), (0, 0), (0, 1)])


def doubled(x):
    return np.concatenate([Mixing()(x)] * 2)


def fewer(x):
    return Mixing()(x)[:, :1]


def many(x):
    return np.repeat(Mixing()(x)[:, :1], 257, 1)


def changing():
    """One class less from the third call on."""
    calls = iter(range(1000))
    return lambda x: Mixing()(x)[:, : CLASSES - (next(calls) > 1)]


@pytest.mark.parametrize(
    ("networks", "exclusive", "says"),
    [
        ([cut_off], True, r"Expected logits of shape \(2, K, 8, 8\) from the network; got \(2, 5, 8, 7\)"),
        ([Mixing(), cut_off], True, r"Expected logits of shape"),
        ([longer], True, "Expected logits of shape"),
        ([longer], False, "Expected logits of shape"),
        ([flat], True, "Expected logits of shape"),
        ([doubled], False, "Expected logits of shape"),
        ([fewer], True, "2 to 256 classes; the network gives 1"),
        ([many], True, "2 to 256 classes; the network gives 257"),
        ([Mixing(), fewer], True, "Expected 5 classes of every network, as of the first; got 1"),
        ([fewer, Mixing()], False, "Expected 1 classes of every network, as of the first; got 5"),
        (None, True, "as of the first"),
        (None, False, "Expected logits of 5 classes of a tile, as of the first; got 4"),
    ],
)
def test_a_network_that_answers_otherwise_is_told(way, networks, exclusive, says):
    with pytest.raises(VesaliusError, match=says):
        stream(networks or [changing()], noise(CHANNELS, (20, 20)), Wanted((20, 20), exclusive), tiling=Tiling((8, 8), batch=2))


@pytest.mark.parametrize("shape", [(20,), (20, 0), (20, 20, 20)])
def test_another_kind_of_grid_is_refused(shape):
    with pytest.raises(UsageError, match="same number of sides"):
        stream([Mixing()], noise(CHANNELS, (20, 20)), Wanted(shape, True), tiling=Tiling((8, 8)))


def test_progress_counts_every_tile_and_the_volume_stays_as_it_is():
    volume, told = noise(CHANNELS, (8, 20, 20)), []
    volume[:, :, :9] = 0
    before, tiling = volume.copy(), Tiling((8, 8, 8), skip=constant)
    stream([Mixing()], volume, Wanted((8, 20, 20), True), tiling=tiling, progress=lambda *now: told.append(now))
    assert [all_ for _, all_ in told] == [16] * len(told) and told[-1][0] == 16
    assert sorted(told) == told
    np.testing.assert_array_equal(volume, before)


@pytest.mark.skipif(not KERNELS, reason="the kernels are not built: python -m vesalius.core.kernels.build")
def test_threads_make_no_difference():
    volume, tiling = noise(CHANNELS, (40, 44, 42)), Tiling((24, 24, 24))
    one, two = (stream([Mixing()], volume, Wanted((50, 61, 50), True), tiling=tiling, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("odds", [0, 0.06, 0.0625, 0.07, -3.3, 15.9, 40, -40])
def test_log_odds_in_eight_bits(odds):
    from vesalius.engine.rolling import coded as in_torch

    assert coded(np.float32([odds])).tolist() == in_torch(torch.tensor([odds])).tolist()
    assert abs(int(coded(np.float32([odds]))[0]) - (128 + 8 * max(min(odds, 15.875), -16))) <= 0.5


CODE = """
import sys
sys.modules["torch"] = sys.modules["scipy"] = None
import numpy as np
from vesalius.engine.tiles import Tiling
from vesalius.export.numbers import halves
from vesalius.export.streaming import Wanted, stream

volume, codes = np.load(sys.argv[1]), np.zeros((1, 31, 25, 39), np.uint8)
made = [stream([halves], volume, Wanted((31, 25, 39), exclusive, sure), tiling=Tiling((8, 8, 8), batch=2))
        for exclusive, sure in ((True, None), (True, codes), (False, None))]
np.savez(sys.argv[2], *made, codes)
"""


def test_without_kernels_and_torch_labels_are_the_same(tmp_path):
    """A process that has neither, the resampling of sums included."""
    volume, output, how = noise(4, (20, 17, 23)), (31, 25, 39), {"patch": (8, 8, 8), "batch": 2}
    np.save(tmp_path / "volume.npy", volume)
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path / "volume.npy"), str(tmp_path / "made.npz")],
                          env={**os.environ, "VESALIUS_KERNELS": "off"}, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    labels, sure, overlapping, codes = np.load(tmp_path / "made.npz").values()
    rounded = singles(halves(volume)).astype(np.float64)
    values = resampled(rounded, output)
    np.testing.assert_array_equal(labels, sure)
    theirs = stream_labels(lambda x: x.bfloat16(), volume, output, tiling=Tiling(**how), exclusive=True)
    assert_alike(labels, theirs, values)
    theirs = stream_labels(lambda x: x.bfloat16(), volume, output, tiling=Tiling(**how), exclusive=False)
    assert_alike(overlapping, theirs, values, exclusive=False)
    wanted = np.zeros((1, *output), np.uint8)
    stream_labels(lambda x: x.bfloat16(), volume, output, tiling=Tiling(**how), exclusive=True, kept=Kept(certainty=wanted))
    assert np.abs(codes.astype(int) - wanted).max() <= 1


def test_the_kernels_are_taken_where_they_can_be(monkeypatch):
    """Otherwise what stands above of kernels would be empty."""
    if not KERNELS:
        pytest.skip("the kernels are not built: python -m vesalius.core.kernels.build")
    monkeypatch.setattr(streaming, "_Rows", None)
    stream([Mixing()], noise(CHANNELS, (20, 20)), Wanted((20, 20), True), tiling=Tiling((8, 8)))
