"""A whole volume through the same network, tile by tile, to labels: beside nnU-Net's predictor and MONAI's sliding_window_inference.

    python benchmarks/inference.py [--volume 96 96 80] [--patch 64 64 64] [--rounds 2]

The network is our U-Net (16 to 128 features, four channels in, four classes, the same random weights); tiles overlap by half and count by
a Gaussian; nobody mirrors. Ours runs as `vesalius predict` runs it (bf16 where it pays, channels last), the others as they run on a
processor (fp32). Every turn is a fresh process on one thread, of which the pass is timed; peak memory is that of the whole process. The
check is the share of equal labels, hard for a network of random weights, whose classes are nearly equal in many voxels; `fp32` says how
many are equal where ours computes in fp32 too, so that what is left is where the tiles lie and how they are weighed.
"""

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from _side_by_side import OURS, child, in_processes, keep, process, rows, takes_a_side, took_a_side

CHANNELS, CLASSES = 4, 4
FP32 = "vesalius in fp32"


def volume(options):
    random = np.random.default_rng(0)
    waves = [np.sin(np.arange(side) * 6 / side, dtype=np.float32) for side in options.volume]
    smooth = waves[0][:, None, None] + waves[1][:, None] * waves[2]
    return (smooth + 0.3 * random.standard_normal((CHANNELS, *options.volume), dtype=np.float32)).astype(np.float32)


def network():
    import torch

    from vesalius.nets.unet import UNet

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return UNet(3, CHANNELS, CLASSES).eval()


def ours(options, kind=None):
    from vesalius.engine.infer import callables
    from vesalius.engine.stream import stream_labels
    from vesalius.engine.tiles import Tiling
    from vesalius.plan.budget import precision

    plan = SimpleNamespace(net=SimpleNamespace(ndim=3), train=SimpleNamespace(precision=kind or precision("cpu")[0]))
    (net,) = callables([network()], plan, "cpu")
    pixels, tiling = volume(options), Tiling(tuple(options.patch), overlap=0.5)
    return lambda: stream_labels(net, pixels, tuple(options.volume), tiling=tiling, exclusive=True)[0]


def nnunet(options):
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False, perform_everything_on_device=False)
    predictor.network, predictor.configuration_manager = network(), SimpleNamespace(patch_size=tuple(options.patch))
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=CLASSES)
    pixels = torch.from_numpy(volume(options))

    def once():
        with torch.inference_mode():
            return predictor.predict_sliding_window_return_logits(pixels).argmax(0).numpy().astype(np.uint8)

    return once


def monai(options):
    import torch
    from monai.inferers import sliding_window_inference

    net, pixels = network(), torch.from_numpy(volume(options))

    def once():
        with torch.inference_mode():
            logits = sliding_window_inference(pixels[None], tuple(options.patch), 1, net, overlap=0.5, mode="gaussian")
            return logits.argmax(1)[0].numpy().astype(np.uint8)

    return once


SIDES = {OURS: ours, "nnU-Net predictor": nnunet, "MONAI sliding window": monai, FP32: lambda options: ours(options, "fp32")}


def compare(options):
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{number}.npy" for number, name in enumerate(SIDES)}
        words = ["--volume", *options.volume, "--patch", *options.patch]
        commands = {name: child(__file__, "--side", name, "--labels", paths[name], *words) for name in SIDES}
        process(FP32, commands.pop(FP32))
        turns = in_processes(commands, rounds=options.rounds)
        labels = {name: np.load(path) for name, path in paths.items()}

    def equal(a, b):
        return 100 * np.mean(labels[a] == labels[b])

    check = {name: f"{equal(OURS, name):.2f} % equal labels (fp32: {equal(FP32, name):.2f} %)" for name in labels}
    sides, patch = (" x ".join(map(str, of)) for of in (options.volume, options.patch))
    return rows(f"{sides} voxels, {CHANNELS} channels, patch {patch}", turns, check=check, goal=4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=int, nargs=3, default=[96, 96, 80])
    parser.add_argument("--patch", type=int, nargs=3, default=[64, 64, 64])
    parser.add_argument("--rounds", type=int, default=2)
    takes_a_side(parser, SIDES)
    options = parser.parse_args()
    if took_a_side(options, SIDES):
        return
    keep("inference", compare(options), title="A whole volume through the same network")


if __name__ == "__main__":
    main()
