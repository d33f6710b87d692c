"""From class logits on the network's grid to labels on the scan's own grid: seconds and peak memory, beside nnU-Net's export and MONAI's
Resize + argmax.

    python benchmarks/logits.py [--grid 80 80 80] [--shape 120 120 120] [--classes 25 100] [--rounds 2]

Every turn is a fresh process on one thread, of which only the export is timed; peak memory is that of the whole process (interpreter,
torch and logits included, ours as much as theirs). The others get all logits in memory, as their own inference leaves them (nnU-Net
in half precision, MONAI in float32). Ours gets them tile by tile, because that is how it works, and the making of the tiles is timed
with it. nnU-Net's export is its own function with the settings of its default plans (order 1). The check is the share of equal labels.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from _side_by_side import OURS, child, in_processes, keep, rows, takes_a_side, took_a_side


class Fields:
    """Smooth logits (K, *grid), each class a product of three waves: any box of them is made in no time."""

    def __init__(self, classes, grid):
        random = np.random.default_rng(0)
        self.shape = tuple(grid)
        self.waves = []
        for side in grid:
            turns, phase = random.uniform(0.5, 3, (classes, 1)), random.uniform(0, 2 * np.pi, (classes, 1))
            self.waves.append(np.cos(2 * np.pi * turns * np.arange(side) / side + phase).astype(np.float32))
        self.waves[0] *= 12

    def region(self, slices):
        a, b, c = (wave[:, part] for wave, part in zip(self.waves, slices, strict=True))
        return (a[:, :, None] * b[:, None])[..., None] * c[:, None, None]


def ours(options):
    import torch

    from vesalius.engine.stream import stream_labels
    from vesalius.engine.tiles import Tiling

    source = Fields(options.classes[0], options.grid)
    tiling = Tiling(tuple(-(-side // 2) for side in options.grid), overlap=0)  # every voxel once, as the others get it
    torch.set_num_threads(1)
    return lambda: stream_labels(lambda tiles: tiles, source, tuple(options.shape), tiling=tiling, exclusive=True)[0]


def nnunet(options):
    import torch
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape as export
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    logits = torch.from_numpy(Fields(options.classes[0], options.grid).region((slice(None),) * 3)).half()
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
    logits = torch.from_numpy(Fields(options.classes[0], options.grid).region((slice(None),) * 3))
    resize, decide = Resize(tuple(options.shape), mode="trilinear", align_corners=False), AsDiscrete(argmax=True)
    return lambda: decide(resize(logits))[0].numpy().astype(np.uint8)


SIDES = {OURS: ours, "nnU-Net": nnunet, "MONAI": monai}


def compare(classes, options):
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{number}.npy" for number, name in enumerate(SIDES)}
        words = ["--grid", *options.grid, "--shape", *options.shape, "--classes", classes]
        commands = {name: child(__file__, "--side", name, "--labels", paths[name], *words) for name in SIDES}
        turns = in_processes(commands, rounds=options.rounds)
        labels = {name: np.load(path) for name, path in paths.items()}
    check = {name: f"{100 * np.mean(labels[OURS] == found):.3f} % equal labels" for name, found in labels.items()}
    sides = " from ".join(" x ".join(map(str, of)) for of in (options.shape, options.grid))
    return rows(f"{classes} classes, {sides}", turns, check=check, goal=5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, nargs=3, default=[80] * 3)
    parser.add_argument("--shape", type=int, nargs=3, default=[120] * 3)
    parser.add_argument("--classes", type=int, nargs="+", default=[25, 100])
    parser.add_argument("--rounds", type=int, default=2)
    takes_a_side(parser, SIDES)
    options = parser.parse_args()
    if took_a_side(options, SIDES):
        return
    keep("logits", [row for k in options.classes for row in compare(k, options)], title="Export: class logits to labels on the scan's grid")


if __name__ == "__main__":
    main()
