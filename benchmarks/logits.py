"""From class logits on the network's grid to labels on the scan's own grid: seconds and peak memory, beside nnU-Net's export and MONAI's
Resize + argmax.

    python benchmarks/logits.py [--grid 80 80 80] [--shape 120 120 120] [--classes 25 100] [--rounds 2] [--smooth] [--torch]

Every turn is a fresh process on one thread, of which only the export is timed; peak memory is that of the whole process (interpreter,
torch where it is needed, and logits, ours as much as theirs); the check also has it without that of a process that exports a tiny volume.
Ours is what `vesalius predict` does on a processor, and `vesalius answer` with an exported model: without torch. With `--torch` it is what
`predict` does where there is a GPU or are no kernels. The others
get all logits in memory, as their own inference leaves them (nnU-Net in half precision, MONAI in float32). Ours gets them tile by tile,
because that is how it works: from a network that makes the logits of the tile it is asked for (of 64 voxels a side at most), and the making
is timed with it. nnU-Net's export is its own function with the settings of its default plans (order 1). The check is the share of equal
labels; nnU-Net's are made once more of logits in full precision, since half precision alone moves some. Logits are rough: every class is a
product of waves, and in most places several are nearly as large as the largest. `--smooth` has them as a trained network
leaves them: few classes near any place, most voxels clear.
"""

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from _side_by_side import OURS, child, in_processes, keep, rows, takes_a_side, took_a_side

TILE = 64  # the largest side of a tile, as in inference.py
TINY = ("--grid", 8, 8, 8, "--shape", 12, 12, 12)  # a volume whose peak is what a process needs whatever it exports


class Fields:
    """Logits (K, *grid), each class a product of three lines, so that any box of them is made in no time: waves, or bells where `smooth`
    (organs of an eighth to a half of the volume's side, and a background of half their height)."""

    def __init__(self, classes, grid, *, smooth=False):
        random = np.random.default_rng(0)
        self.shape = tuple(grid)
        line = self.bell if smooth else self.wave
        self.waves = [line(random, classes, np.arange(side) / side).astype(np.float32) for side in grid]
        self.waves[0] *= 12

    @staticmethod
    def wave(random, classes, place):
        turns, phase = random.uniform(0.5, 3, (classes, 1)), random.uniform(0, 2 * np.pi, (classes, 1))
        return np.cos(2 * np.pi * turns * place + phase)

    @staticmethod
    def bell(random, classes, place):
        middle, radius = random.uniform(0.1, 0.9, (classes, 1)), random.uniform(0.06, 0.25, (classes, 1))
        lines = 0.5 ** ((place - middle) / radius) ** 2
        lines[0] = 0.5 ** (1 / 3)
        return lines

    def region(self, slices):
        a, b, c = (wave[:, part] for wave, part in zip(self.waves, slices, strict=True))
        return (a[:, :, None] * b[:, None])[..., None] * c[:, None, None]


class Places:
    """A volume (1, *grid) for `network`: every voxel of a box that is read holds the number of the box' first voxel."""

    def __init__(self, grid):
        self.shape = tuple(grid)
        assert np.prod(grid) <= 2**24  # which float32 can count

    def region(self, slices):
        first = np.ravel_multi_index([part.start for part in slices], self.shape)
        return np.full((1, *(part.stop - part.start for part in slices)), first, np.float32)


def network(fields):
    """From tiles (1, 1, *patch) of `Places` to the logits there."""

    def logits(tiles):
        first = np.unravel_index(int(tiles[0, 0, 0, 0, 0]), fields.shape)
        return fields.region([slice(a, a + n) for a, n in zip(first, tiles.shape[2:], strict=True)])[None]

    return logits


def fields(options):
    return Fields(options.classes[0], options.grid, smooth=options.smooth)


def ours(options):
    from vesalius.engine.tiles import Tiling

    net, source, shape = network(fields(options)), Places(options.grid), tuple(options.shape)
    tiling = Tiling(tuple(-(-side // -(-side // TILE)) for side in options.grid), overlap=0)  # every voxel once, as the others get it
    if not options.torch:
        from vesalius.export.streaming import Wanted, stream

        return lambda: stream([net], source, Wanted(shape, exclusive=True), tiling=tiling)[0]
    import torch

    from vesalius.engine.stream import stream_labels

    torch.set_num_threads(1)
    return lambda: stream_labels(lambda tiles: torch.from_numpy(net(tiles)), source, shape, tiling=tiling, exclusive=True)[0]


def nnunet(options):
    import torch
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape as export
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    logits = torch.from_numpy(fields(options).region((slice(None),) * 3))
    logits = logits if options.full else logits.half()
    resample = partial(resample_data_or_seg_to_shape, is_seg=False, order=1, order_z=0, force_separate_z=None)
    plans = SimpleNamespace(transpose_forward=[0, 1, 2], transpose_backward=[0, 1, 2])
    spacing = [side / grid for side, grid in zip(options.shape, options.grid, strict=True)]
    configuration = SimpleNamespace(spacing=spacing, resampling_fn_probabilities=resample)
    labels = LabelManager({"background": 0, **{f"c{k}": k for k in range(1, options.classes[0])}}, None)
    shape = tuple(options.shape)
    about = {"spacing": [1.0] * 3, "shape_after_cropping_and_before_resampling": shape, "shape_before_cropping": shape,
             "bbox_used_for_cropping": [[0, side] for side in shape]}  # fmt: skip
    return lambda: export(logits, plans, configuration, labels, about, num_threads_torch=1)


def monai(options):
    import torch
    from monai.transforms import AsDiscrete, Resize

    torch.set_num_threads(1)
    logits = torch.from_numpy(fields(options).region((slice(None),) * 3))
    resize, decide = Resize(tuple(options.shape), mode="trilinear", align_corners=False), AsDiscrete(argmax=True)
    return lambda: decide(resize(logits))[0].numpy().astype(np.uint8)


FULL = "nnU-Net"  # whose labels are made once more of logits in full precision
SIDES = {OURS: ours, FULL: nnunet, "MONAI": monai}


def compare(classes, options):
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{number}.npy" for number, name in enumerate(SIDES)}
        whole = ("--grid", *options.grid, "--shape", *options.shape)

        def commands(size, *names):
            words = ["--smooth"] * options.smooth + ["--torch"] * options.torch + ["--classes", classes, *size]
            return {name: child(__file__, "--side", name, "--labels", paths[name], *words) for name in names}

        floors, turns = in_processes(commands(TINY, *SIDES), rounds=1), in_processes(commands(whole, *SIDES), rounds=options.rounds)
        labels = {name: np.load(path) for name, path in paths.items()}
        in_processes(commands((*whole, "--full"), FULL), rounds=1)
        full = np.load(paths[FULL])
    own = {name: statistics.median(turn.peak for turn in turns[name]) - floors[name][0].peak for name in SIDES}
    equal = {name: f"{100 * np.mean(labels[OURS] == found):.3f} % equal labels" for name, found in labels.items()}
    equal[FULL] += f" ({100 * np.mean(labels[OURS] == full):.3f} % of logits in full precision)"
    check = {name: f"{equal[name]}; peak beyond that of 8 x 8 x 8 {own[OURS] / 2**20:,.0f} and {own[name] / 2**20:,.0f} MiB: "
                   f"{own[name] / own[OURS]:.1f} times" for name in SIDES}  # fmt: skip
    sides = " from ".join(" x ".join(map(str, of)) for of in (options.shape, options.grid))
    kind = ", smooth" * options.smooth + ", by torch" * options.torch
    return rows(f"{classes} classes, {sides}{kind}", turns, check=check, goal=None if options.torch else 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, nargs=3, default=[80] * 3)
    parser.add_argument("--shape", type=int, nargs=3, default=[120] * 3)
    parser.add_argument("--classes", type=int, nargs="+", default=[25, 100])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--smooth", action="store_true", help="logits like those of a trained network")
    parser.add_argument("--torch", action="store_true", help="ours as vesalius predict does it where there is a GPU")
    parser.add_argument("--full", action="store_true", help="nnU-Net gets its logits in full precision")
    takes_a_side(parser, SIDES)
    options = parser.parse_args()
    if took_a_side(options, SIDES):
        return
    keep("logits", [row for k in options.classes for row in compare(k, options)], title="Export: class logits to labels on the scan's grid")


if __name__ == "__main__":
    main()
