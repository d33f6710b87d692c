"""What each lever is worth: the same work with it and without it, in turns (A B A B) in one process on one thread.

    python benchmarks/levers.py [--rounds 5] [--patch 40 56 40] [--only PART OF A NAME] [--laptop]

A row says how many times as long the work takes without the lever, everything else as it is. The check is what the two give: loss and
gradient of one step on the same weights and batch for a training step, labels for a volume, voxels for augmentation. A lever that stops
paying is taken out. Tried and left out: norms of several voxels at a time in a training step (0.98); in a plane, the
sampling of rotated samples in runs through torch (`grid_sample` there works on whole registers: 5 ns a voxel beside 9); in the kernel that
moves voxels, the processor's own gathers (1.8 times as long as pairs loaded one by one) and blocks of 16 rows in 16 planes (1.0).
"""

import argparse
import copy
from contextlib import nullcontext
from types import SimpleNamespace

from _side_by_side import OURS, as_a_laptop, in_turns, keep, rows, swapped

NORM = "instance norm keeps channels together"
MEMORY = "freed memory is kept"
WIDE = "voxels are normalised several at a time"
AT_ONCE = "a kernel in C normalises and cuts off in two passes"
COUNTED = "a kernel in C sums for Dice and cross entropy"
RAISED = "transposed convolutions are matrix products"
JOINED = "a transposed convolution and the convolution behind it are one"
REST = "first, transposed and last convolutions and gradients in steps of two go by kernels in C"
FEWER = "convolutions of 3 x 3 x 3 multiply less than half as often"
FOURTH = "convolutions of 3 x 3 x 3 multiply a fourth as often in fp32"
AT_ONCE_SINGLE = "a kernel in C normalises and cuts off maps in fp32 in two passes"
WINNERS = "only classes that can be the largest are interpolated"
CELLS = "logits go to labels by the kernels in C"
LINES = "samples that are only scaled go along the axes"
PLACES = "what moves voxels goes through one kernel"
SPACE = "rotated volumes are sampled in runs that fit the cache"
SHADES = {"gamma goes in runs that fit the cache, by logarithms": "gamma", "blur copies nothing on its way": "blur",
          "contrast without the slow kernels for two limits at once": "contrast",
          "low resolution goes along the axes, without a coarse grid": "low resolution",
          "noise is looked up by random bits": "noise"}  # fmt: skip
GREY = "grey values are changed by kernels in C, where they lie"


def norm():
    """Where it is, and what stands there without the lever."""
    from vesalius.nets import _blocks

    return _blocks, "normalised", lambda x, layer, **how: None


def wide():
    from torch.nn import functional as F

    from vesalius.nets import _blocks

    def one(x, layer, *, slope=1.0, own=False):
        return F.leaky_relu(F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps), slope, inplace=True)

    return _blocks, "normalised_widely", one


def at_once():
    from vesalius.nets import _blocks

    return _blocks, "normalised_at_once", lambda x, layer, **how: None


def counted():
    from vesalius.losses import _soft_counts

    return _soft_counts, "serves", lambda *_: False


def bare(made):
    """Rows of a lever that counts only where the kernel in C that normalises is not built: measured without it."""

    def rows_of(options):
        with swapped(*at_once()):
            return made(options)

    return rows_of


def joined():
    from vesalius.nets import _blocks

    return _blocks, "joins", lambda *maps: False


def fewer():
    """Where it is not, a transposed convolution and the one behind it are joined."""
    from vesalius.nets import _blocks

    return _blocks, "suits", lambda *of: False


def rest():
    from vesalius.nets import _blocks

    return _blocks, "by_kernels", lambda *of: None


def raised():
    from vesalius.nets import _blocks

    return _blocks, "raised", lambda x, layer: layer(x)


def lines():
    from vesalius.augment import _compose

    return _compose, "along_axes", lambda matrix: False


def winners():
    from vesalius.engine import stream

    return stream, "pays", lambda old, new: False


def places():
    from vesalius.augment import _compose

    return _compose, "show", lambda *_, **how: False


def by_cells():
    from vesalius.engine import cells

    return cells, "suit", lambda *sums: False


def space():
    from vesalius.augment import _compose

    return _compose, "in_space", lambda tensor: False


def grey():
    from vesalius.augment import _grey

    return _grey, "kernel", lambda name, kinds: None


BOXES = "what a label map holds is found in one pass over it"


def boxes():
    import numpy as np

    from vesalius.metrics import _pair

    def in_two_passes(mask):
        flat = np.bitwise_or.reduce(mask, axis=0)
        if not flat.any():
            return None
        lines = [np.bitwise_or.reduce(mask.reshape(len(mask), -1), axis=1)]
        lines += [flat.any(axis=tuple(b for b in range(flat.ndim) if b != a)) for a in range(flat.ndim)]
        return tuple(slice(int(found[0]), int(found[-1]) + 1) for found in map(np.flatnonzero, lines))

    return _pair, "bounding_box", in_two_passes


def lesion(options):
    """Surface distances of a small lesion, as `benchmarks/metrics.py` has it."""
    import metrics

    guess, truth = metrics.maps(256, 1, 0.15)
    return compared(f"{BOXES}: 1 lesion, 256 x 256 x 256", lambda: metrics.ours(guess, truth, 1), boxes(), options,
                    lambda here, there: f"{'the same' if (here == there).all() else 'other'} numbers")  # fmt: skip


ALONG = "scans are resampled along their axes by a kernel in C"
TILES = "copies from one order of axes to the other go tile by tile"
TABLE = "values of a mask are looked up in a table"


def scans(options):
    """What comes before and after a network, of a scan of 256 voxels a side that lies in memory as in its file."""
    import numpy as np

    from vesalius.core import order
    from vesalius.core.space import Space
    from vesalius.data import labels
    from vesalius.data.normalise import Normalise
    from vesalius.data.prepare import Preparation, prepare
    from vesalius.io import separable
    from vesalius.io.image import Image

    pixels = np.random.default_rng(0).normal(0, 400, (1, 256, 256, 256)).astype(np.int16).transpose(0, 3, 2, 1)
    image, mask = Image(pixels, Space.of(pixels.shape[1:], (1.0,) * 3)), (pixels > 300).astype(np.uint8) + (pixels > 600)
    how = Preparation(channels={"image": 1}, normalise=(Normalise(),), spacing=(1.25,) * 3)
    meaning = labels.Labels(names=("a", "b"), values=((1,), (2,)))

    def row(name, work, call, swap):
        return compared(f"{name}: {work}, 256 x 256 x 256", call, swap, options,
                        lambda here, there: f"at most {float(np.abs(here - np.asarray(there, here.dtype)).max()):.1e} apart")  # fmt: skip

    return [*row(ALONG, "1 mm to 1.25 mm, cubic", lambda: prepare(image, how).image, (separable, "kernel", lambda name, kinds: None)),
            *row(TILES, "a mask", lambda: order.contiguous(mask), (order, "SMALL", np.inf)),
            *row(TABLE, "two classes", lambda: meaning.encode(mask), (labels, "LOOKED_UP", 0))]  # fmt: skip


def compared(work, call, swap, options, check):
    """The row of `call` with and without a lever."""

    def without():
        with swapped(*swap):
            return call()

    turns, found = in_turns({OURS: call, "without": without}, rounds=options.rounds)
    return rows(work, turns, check=check(found[OURS], found["without"]))


def step(name, swap, kind="bf16"):
    """A training step of the U-Net."""

    def rows_of(options):
        return one_step(options, name, swap(), kind)

    return rows_of


def one_step(options, name, swap, kind):
    import torch
    import training

    from vesalius.nets.unet import UNet

    torch.manual_seed(0)
    net, (image, mask) = UNet(3, 1, 3), training.batch_of(options)
    take = training.ours(copy.deepcopy(net), image, mask, kind=kind)
    work = f"{options.where}{name}: step, {options.batch} patches of {' x '.join(map(str, options.patch))}"
    return compared(work, take, swap, options, lambda *_: difference(net, image, mask, swap, kind))


def volume(name, swap, sides, patch):
    """A whole volume through the U-Net, as `benchmarks/inference.py` has it."""

    def rows_of(options):
        import inference

        of = SimpleNamespace(volume=sides, patch=patch, channels=4, overlap=0.5, threads=1)

        def check(here, there):
            return f"{100 * (here == there).mean():.2f} % equal labels (random weights)"

        return compared(f"{name}: {' x '.join(map(str, sides))} voxels, 4 channels", inference.ours(of), swap(), options, check)

    return rows_of


def where_torch_raises(work):
    """`work` with transposed convolutions left to torch, and whatever else does without minimal filtering."""

    def rows_of(options):
        with swapped(*rest()):
            return work(options)

    return rows_of


def where_torch_convolves(work):
    """`work` with all convolutions left to torch: what stands on them pays there."""

    def rows_of(options):
        with swapped(*fewer()), swapped(*rest()):
            return work(options)

    return rows_of


def memory(options):
    """One tile of 128 x 128 x 96 and one training step on it, whose maps are larger than the C library keeps."""
    import inference
    import torch
    import training

    from vesalius.nets.unet import UNet

    sides, made = (128, 128, 96), []
    torch.manual_seed(0)
    of = SimpleNamespace(volume=sides, patch=sides, channels=4, overlap=0.5, threads=1)
    image, mask = training.batch_of(SimpleNamespace(batch=1, patch=sides))
    calls = {"a tile": inference.ours(of), "a step on one patch": training.ours(UNet(3, 1, 3), image, mask)}
    for name, call in calls.items():

        both = {OURS: training.remembering(call, training.KEPT), "without": training.remembering(call, training.GIVEN_BACK)}
        turns, _ = in_turns(both, rounds=options.rounds)
        made += rows(f"{MEMORY}: {name} of {' x '.join(map(str, sides))}", turns, check="the same tensors; tests/unit/core/test_memory.py")
    return made


def export(classes, name, swap, *, smooth=False):
    """Class logits to labels on the scan's grid, as `benchmarks/logits.py` has it; levers of torch are measured without the kernels."""

    def rows_of(options):
        import logits

        of = SimpleNamespace(classes=[classes], grid=[80] * 3, shape=[120] * 3, smooth=smooth)

        def check(here, there):
            test = "test_cells" if name == CELLS else "test_candidates"
            return f"{(here != there).sum()} of {here.size} labels differ; tests/unit/engine/{test}.py"

        with nullcontext() if name == CELLS else swapped(*by_cells()):
            work = f"{name}: {classes} classes, 120 x 120 x 120 from 80 x 80 x 80{', smooth' * smooth}"
            return compared(work, logits.ours(of), swap(), options, check)

    return rows_of


def augmentation(size, name, swap, test):
    """Samples of `benchmarks/augment.py` without the lever `name`; `test` shows that both give the same. Levers of the ways through torch
    are measured where no kernel takes their place."""

    def rows_of(options):
        import augment

        once, each = augment.ours(size)
        number = 100 // each if size == "hippocampus" else 24 // each

        def check(*_):
            return f"tests/unit/augment/{test}.py"

        with nullcontext() if name == PLACES else swapped(*places()):
            return compared(f"{name}: {number * each} samples, {size} {' x '.join(map(str, augment.SIZES[size]))}",
                            lambda: [once(k) for k in range(number)], swap(), options, check)  # fmt: skip

    return rows_of


def shades(options):
    """What changes grey values, beside the same formula in whole tensors."""
    import torch

    from vesalius.augment import AUGMENT
    from vesalius.augment._gamma import gamma_curve
    from vesalius.augment._random import per_channel
    from vesalius.augment.blur import _weighed, blurred

    image = torch.randn(1, 1, 96, 96, 96, generator=torch.Generator().manual_seed(0))
    flat, power, sigma, factor = image.flatten(2), torch.tensor([[1.3]]), torch.tensor([[0.8]]), torch.tensor([[1.2]])

    def moments(x):
        mean = x.mean(-1, keepdim=True)
        return mean, (x - mean).square().mean(-1, keepdim=True).sqrt()

    def gamma():
        low, high = flat.aminmax(dim=-1, keepdim=True)
        curve = ((flat - low) / (high - low)).pow(per_channel(power, flat))
        (mean, deviation), (now, spread) = moments(flat), moments(curve)
        return ((curve - now) * (deviation / spread) + mean).reshape(image.shape)

    def blur(axis=2, radius=3):
        half = torch.exp(-0.5 * (torch.arange(radius + 1) / sigma[..., None]).square())
        weights = half / (2 * half.sum(-1, keepdim=True) - 1)
        return _weighed(image, [per_channel(weight, image) for weight in weights.unbind(-1)], axis)

    def contrast():
        low, high = torch.aminmax(flat, dim=-1, keepdim=True)
        return torch.clamp_(torch.addcmul(flat.mean(-1, keepdim=True) * (1 - factor), flat, factor), low, high).reshape(image.shape)

    def low_resolution():
        coarse = torch.nn.functional.interpolate(image, (72,) * 3, mode="nearest-exact")
        return torch.nn.functional.interpolate(coarse, image.shape[2:], mode="trilinear")

    def noise():
        return image + 0.1 * torch.empty_like(image).normal_(generator=torch.Generator().manual_seed(3))

    coarser, loud = {"factor": torch.full((1, 1, 3), 0.75)}, {"deviation": torch.tensor([0.1]), "seed": torch.tensor([3])}
    quick = {
        "low resolution": lambda: AUGMENT["low_resolution"]((0.5, 1.0)).apply(image, coarser),
        "noise": lambda: AUGMENT["noise"](0.1).apply(image, loud),
        "gamma": lambda: gamma_curve(image, power),
        "blur": lambda: blurred(image, sigma, axis=2, radius=3),
        "contrast": lambda: AUGMENT["contrast"]((0.75, 1.25)).apply(image, {"factor": factor}),
    }
    plain = {"gamma": gamma, "blur": blur, "contrast": contrast, "low resolution": low_resolution, "noise": noise}
    made = []
    for name, which in SHADES.items():
        turns, found = in_turns({OURS: quick[which], "without": plain[which]}, rounds=options.rounds, calls=20)
        away = float((found[OURS] - found["without"]).abs().max())
        told = "tests/unit/augment/test_transform_values.py" if which == "noise" else f"at most {away:.1e} apart"
        made += rows(f"{name}: 96 x 96 x 96", turns, check={"without": told})
    return made


def kernels(options):
    """What changes grey values in C, beside what stands in for it where there is no kernel."""
    import torch

    from vesalius.augment import AUGMENT, Augment, Frame, stacked

    image = torch.randn(1, 96, 96, 96, generator=torch.Generator().manual_seed(0))
    frame, made = Frame(1, (96,) * 3, (1.0,) * 3), []
    settings = Augment(bias_field=0.3, bias_field_probability=1, channel_dropout_probability=1)
    drawn = {"gamma": {"gamma": torch.tensor([1.3])}, "gamma_inverted": {"gamma": torch.tensor([1.3])},
             "contrast": {"factor": torch.tensor([1.2])}, "brightness": {"factor": torch.tensor([1.2])},
             "blur": {"sigma": torch.full((1, 3), 0.8)}, "low_resolution": {"factor": torch.full((1, 3), 0.75)},
             "noise": {"deviation": torch.tensor(0.1), "seed": torch.tensor(3)}}  # fmt: skip
    drawn["bias_field"] = AUGMENT["bias_field"](0.3).parameters(torch.Generator().manual_seed(0), frame)
    for name, parameters in drawn.items():
        transform, sample = AUGMENT[name].from_settings(settings, frame), image.clone()
        judge = transform.apply(image[None], stacked([parameters]))[0]

        def change(transform=transform, sample=sample, parameters=parameters):
            sample.copy_(image)
            if not transform.change(sample, parameters):
                raise SystemExit("There are no kernels: python -m vesalius.core.kernels.build")
            return sample

        def apply(transform=transform, sample=sample, parameters=parameters):
            sample.copy_(image)
            return sample.copy_(transform.apply(sample[None], stacked([parameters]))[0])

        turns, _ = in_turns({OURS: change, "without": apply}, rounds=options.rounds, calls=20)
        made += rows(f"{GREY}: {name.replace('_', ' ')}, 96 x 96 x 96", turns,
                     check={"without": f"at most {float((change() - judge).abs().max()):.1e} apart"})  # fmt: skip
    return made


def difference(net, image, mask, swap, kind):
    """How far loss and gradient of the first step in `kind` are from each other, with and without; and of each from the next finer."""
    import torch

    from vesalius.data.labels import Labels
    from vesalius.tasks import TASKS

    loss, finer = TASKS["segment"]().loss(Labels(names=("a", "b"), values=((1,), (2,)))), {"bf16": "fp32", "fp32": "fp64"}[kind]

    def gradient(kind):
        number = torch.float64 if kind == "fp64" else torch.float32
        one = copy.deepcopy(net).to(number).to(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
            total = sum(loss(one.heads(image.to(number, memory_format=torch.channels_last_3d)), mask).values())
        total.backward()
        return float(total.detach()), torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None])

    here, exact = gradient(kind), gradient(finer)
    with swapped(*swap):
        there = gradient(kind)
    away = [float((one[1] - exact[1]).norm() / exact[1].norm()) for one in (here, there)]
    return f"loss {here[0]:.4f} and {there[0]:.4f}; gradient {away[0]:.2g} and {away[1]:.2g} of its length away from {finer}"


WORKS = (
    *((name, step(name, swap)) for name, swap in ((FEWER, fewer), (REST, rest), (AT_ONCE, at_once), (COUNTED, counted))),
    (RAISED, where_torch_raises(step(RAISED, raised))),
    *((name, volume(name, swap, [96, 96, 80], [64] * 3)) for name, swap in ((FEWER, fewer), (REST, rest), (AT_ONCE, at_once))),
    *((name, step(name, swap, "fp32")) for name, swap in ((FOURTH, fewer), (AT_ONCE_SINGLE, at_once))),
    (JOINED, where_torch_convolves(step(JOINED, joined))),
    (JOINED, where_torch_convolves(volume(JOINED, joined, [96, 96, 80], [64] * 3))),
    (NORM, bare(step(NORM, norm))),
    (NORM, bare(volume(NORM, norm, [96, 96, 80], [64] * 3))),
    (WIDE, bare(volume(WIDE, wide, [128, 128, 96], [128, 128, 96]))),
    (MEMORY, memory),
    *((PLACES, augmentation(size, PLACES, places, "test_places")) for size in ("hippocampus", "cube", "picture")),
    *((WINNERS, export(classes, WINNERS, winners)) for classes in (25, 100)),
    *((CELLS, export(classes, CELLS, by_cells, smooth=smooth)) for classes in (25, 100) for smooth in (False, True)),
    *((name, augmentation(size, name, swap, test)) for size in ("hippocampus", "cube")
      for name, swap, test in ((LINES, lines, "test_along_axes"), (SPACE, space, "test_sampling"))),
    (" ".join(SHADES), shades),
    (GREY, kernels),
    *((GREY, augmentation(size, GREY, grey, "test_grey")) for size in ("hippocampus", "cube", "picture")),
    (BOXES, lesion),
    (" ".join((ALONG, TILES, TABLE)), scans),
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--only", default="", help="levers whose names hold this")
    parser.add_argument("--laptop", action="store_true", help="as on a processor with AVX2 alone: for training steps in fp32")
    options = parser.parse_args()
    options.where = as_a_laptop(options.laptop)
    import torch

    torch.set_num_threads(1)
    made = [row for name, work in WORKS for row in (work(options) if options.only in name else ())]
    keep("levers", made, title="Levers: the same work without each of them")


if __name__ == "__main__":
    main()
