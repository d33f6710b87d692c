"""Augmentation: samples per second on one thread, ours beside batchgeneratorsv2 (nnU-Net's), TorchIO and MONAI.

    python benchmarks/augment.py [--peers PYTHON] [--rounds 5] [--size cube] [--json]

`--peers` is the interpreter of an environment in which the peers (and their torch) are installed; a peer that is missing
there is reported as not installed. Every round is a fresh process, ours and the peer's in turn (A B A B); the table states the
medians and, for the ratio, its median with the least and the largest over rounds.

The recipe is nnU-Net's, with its probabilities: rotation 30 degrees, scaling 0.7-1.4, noise, blur, brightness, contrast, low
resolution, gamma twice, mirroring. The source is larger than the patch by our margin. Linear for images; nearest for masks
(`batchgeneratorsv2` = as nnU-Net calls it, masks interpolated label by label; `... nearest` = with its nearest mode for masks, the
same work as ours). Its transforms write into the image that they are given, so that is a copy (1.5 to 3.4 % of its time with
nearest masks). TorchIO and MONAI have no low resolution or range-preserving contrast of that kind in one transform: their nearest relatives
stand in, at the same probabilities.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from _side_by_side import environment, keep

SIZES = {"hippocampus": (40, 56, 40), "cube": (96, 96, 96), "picture": (512, 512)}
MARGINS = {"hippocampus": (20, 22, 20), "cube": (48, 48, 48), "picture": (204, 204)}
SAMPLES = {"hippocampus": 400, "cube": 96, "picture": 120}  # so many that what is drawn comes near its probabilities
PEERS = ("batchgeneratorsv2", "batchgeneratorsv2 nearest", "torchio", "monai")


def data(size):
    """One float image (1, *L) and one uint8 mask (1, *L) with three labels in blocks."""
    import torch

    sides = [a + b for a, b in zip(SIZES[size], MARGINS[size], strict=True)]
    mask = torch.zeros(1, *sides, dtype=torch.uint8)
    mask[0, sides[0] // 3 : sides[0] // 2] = 1
    mask[0, sides[0] // 2 : 2 * sides[0] // 3] = 2
    return torch.randn(1, *sides, generator=torch.Generator().manual_seed(0)), mask


def ours(size):
    from vesalius.augment import Augment, Composed
    from vesalius.data.batch import Batch, Kind

    patch = SIZES[size]
    angles = (30.0,) * 3 if len(patch) == 3 else (30.0,)
    composed = Composed(Augment(mirror=(True,) * len(patch), rotation=angles), patch, (1.0,) * len(patch))
    image, mask = data(size)
    four = {"image": image.expand(4, 1, *image.shape[1:]), "mask": mask.expand(4, 1, *mask.shape[1:])}
    batch = Batch(four, {"image": Kind.IMAGE, "mask": Kind.MASK})

    def once(number):
        out = composed(batch, list(range(4 * number, 4 * number + 4)))
        assert out["image"].shape[2:] == patch

    return once, 4


def batchgeneratorsv2(size, mode="bilinear"):
    import math

    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    patch, near, bent = SIZES[size], BGContrast((0.75, 1.25)), BGContrast((0.7, 1.5))
    angle = (-math.pi / 6, math.pi / 6)
    places = SpatialTransform(
        patch, patch_center_dist_from_border=0, random_crop=False, p_elastic_deform=0, p_rotation=0.2, rotation=angle,
        p_scaling=0.2, scaling=(0.7, 1.4), p_synchronize_scaling_across_axes=1, bg_style_seg_sampling=False, mode_seg=mode,
    )  # fmt: skip
    low = SimulateLowResolutionTransform((0.5, 1), False, True, None, None, 0.5)
    values = [
        (GaussianNoiseTransform((0, 0.1), 1, True), 0.1),
        (GaussianBlurTransform((0.5, 1.0), False, False, 0.5, True), 0.2),
        (MultiplicativeBrightnessTransform(near, False, 1), 0.15),
        (ContrastTransform(near, True, False, 1), 0.15),
        (low, 0.25),
        (GammaTransform(bent, 1, False, 1, 1), 0.1),
        (GammaTransform(bent, 0, False, 1, 1), 0.3),
    ]
    chain = [places, *(RandomTransform(t, apply_probability=p) for t, p in values), MirrorTransform(tuple(range(len(patch))))]
    transform = ComposeTransforms(chain)
    image, mask = data(size)

    def once(number):
        out = transform(image=image.clone(), segmentation=mask.short())
        assert out["image"].shape[1:] == patch

    return once, 1


def torchio(size):
    import torchio as tio

    patch = SIZES[size]
    image, mask = data(size)
    if len(patch) == 2:
        image, mask, patch = image[..., None], mask[..., None], (*patch, 1)
    flat = patch[-1] == 1
    angles = (0, 0, 0, 0, -30, 30) if flat else 30
    transform = tio.Compose([
        tio.RandomAffine(scales=0, degrees=angles, p=0.2),
        tio.RandomAffine(scales=(0.7, 1.4), degrees=0, isotropic=True, p=0.2),
        tio.CropOrPad(patch),
        tio.RandomNoise(std=(0, 0.1), p=0.1),
        tio.RandomBlur(std=(0.5, 1.0), p=0.1),
        tio.RandomAnisotropy(axes=(0, 1) if flat else (0, 1, 2), downsampling=(1, 2), p=0.125),
        tio.RandomGamma(log_gamma=(-0.36, 0.41), p=0.4),
        tio.RandomFlip(axes=(0, 1) if flat else (0, 1, 2), flip_probability=0.5),
    ])  # fmt: skip

    def once(number):
        subject = tio.Subject(image=tio.ScalarImage(tensor=image), mask=tio.LabelMap(tensor=mask))
        assert transform(subject)["image"].spatial_shape == patch

    return once, 1


def monai(size):
    import math

    from monai import transforms as mt

    patch, both, only = SIZES[size], ["image", "mask"], ["image"]
    angle = (math.pi / 6,) * (3 if len(patch) == 3 else 1)
    up = "trilinear" if len(patch) == 3 else "bilinear"
    transform = mt.Compose([
        mt.RandAffined(both, spatial_size=patch, prob=0.36, rotate_range=angle, scale_range=((-0.3, 0.4),) * len(patch),
                       mode=["bilinear", "nearest"], padding_mode="zeros"),
        mt.RandGaussianNoised(only, prob=0.1, mean=0, std=0.1),
        mt.RandGaussianSmoothd(only, prob=0.1, sigma_x=(0.5, 1.0), sigma_y=(0.5, 1.0), sigma_z=(0.5, 1.0)),
        mt.RandScaleIntensityd(only, factors=0.25, prob=0.15),
        mt.RandScaleIntensityFixedMeand(only, factors=0.25, prob=0.15, preserve_range=True),
        mt.RandSimulateLowResolutiond(only, prob=0.125, zoom_range=(0.5, 1.0), upsample_mode=up),
        mt.RandAdjustContrastd(only, prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
        mt.RandAdjustContrastd(only, prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        *(mt.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(len(patch))),
    ])  # fmt: skip
    image, mask = data(size)

    def once(number):
        out = transform({"image": image, "mask": mask})
        assert tuple(out["image"].shape[1:]) == patch

    return once, 1


def work(name, size, *, share=1.0):
    """Samples per second of processor time, after a warm-up of a tenth."""
    import random

    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    kinds = {"ours": ours, "torchio": torchio, "monai": monai, "batchgeneratorsv2": batchgeneratorsv2}
    if name == "batchgeneratorsv2 nearest":
        once, step = batchgeneratorsv2(size, "nearest")
    else:
        once, step = kinds[name](size)
    calls = max(2, int(share * SAMPLES[size]) // step)
    for number in range(max(3, calls // 10)):
        once(number + 10**6)
    start = time.process_time()
    for number in range(calls):
        once(number)
    return calls * step / (time.process_time() - start)


def measured(python, name, size, *, share=1.0):
    """What a fresh process of `python` measures; None where the peer is not installed there."""
    command = [python, __file__, "--work", name, "--size", size, "--samples", str(share)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    if done.returncode == 0:
        return float(done.stdout.split()[-1])
    missing = name.split()[0]
    if f"No module named '{missing}'" in done.stderr:
        return None
    raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")


def compare(options):
    rows = []
    for size in [options.size] if options.size else SIZES:
        for peer in PEERS:
            pairs = []
            for _ in range(options.rounds):
                theirs = measured(options.peers, peer, size, share=options.samples)
                if theirs is None:
                    break
                pairs.append((measured(sys.executable, "ours", size, share=options.samples), theirs))
            rows.append({"size": size, "patch": SIZES[size], "peer": peer, **summary(pairs)})
            told(rows[-1])
    return rows


def summary(pairs):
    if not pairs:
        return {"installed": False, "ours": None, "theirs": None, "ratio": None, "ratio_range": None}
    ratios = [a / b for a, b in pairs]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "installed": True, "ours": mine, "theirs": theirs,
        "ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)],
    }  # fmt: skip


def kept(rows, rounds):
    """Rows in the form of every comparison: seconds of processor time a sample."""
    return [
        {"work": f"{row['size']} {' x '.join(map(str, row['patch']))}", "opponent": row["peer"], "rounds": rounds,
         "ours": {"cpu": 1 / row["ours"]}, "theirs": {"cpu": 1 / row["theirs"]}, "cpu_ratio": [row["ratio"], *row["ratio_range"]],
         "wall_ratio": None, "peak_ratio": None, "check": "shape; values are random", "goal": 5}
        for row in rows if row["installed"]
    ]  # fmt: skip


def told(row):
    name = f"{row['size']:12s} {row['peer']:26s}"
    if not row["installed"]:
        print(f"{name} not installed", file=sys.stderr)
        return
    low, high = row["ratio_range"]
    speeds = f"ours {row['ours']:8.1f} samples/s, peer {row['theirs']:8.1f} samples/s"
    print(f"{name} {speeds}, ratio {row['ratio']:6.2f} ({low:.2f} ... {high:.2f})", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="interpreter of the peers' environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=list(SIZES), help="this one alone")
    parser.add_argument("--samples", type=float, default=1, help="share of the usual number of samples in a round")
    options = parser.parse_args()
    if options.work:
        print(work(options.work, options.size, share=options.samples))
        return
    rows = compare(options)
    keep("augment", kept(rows, options.rounds), title="Augmentation: a sample, the same kinds of transforms")
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
