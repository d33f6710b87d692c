"""A whole volume through the same network, tile by tile, to labels: beside nnU-Net's predictor and MONAI's sliding_window_inference.

    python benchmarks/inference.py [--volume 96 96 80] [--channels 4] [--patch 64 64 64] [--overlap 0.5] [--rounds 2] [--threads 1]
                                   [--no-fp32] [--exported]
    python benchmarks/inference.py --run RUN

The network is our U-Net (16 to 128 features, four classes, the same random weights); tiles count by a Gaussian; nobody mirrors. Tiles
overlap by half in nnU-Net's predictor and by a quarter in MONAI's function, as they come. Ours overlap by half too, unless validation cases
bear fewer (`vesalius train` asks them): these rows are of an eighth, the fewest that it takes; `--overlap 0.5` cuts alike for all three.
Ours runs as `vesalius predict` runs it by torch (bf16 where it pays, channels last, freed memory kept, waiting threads asleep), the others
as they run on a processor (fp32). Every turn is a fresh process on `--threads`, of which the pass is timed; peak memory is that of the
whole process. With `--exported` ours runs without torch, as `vesalius predict` does on a processor. The check is the share of equal labels,
hard for a network of random weights, whose classes are nearly equal in many voxels; `fp32` says how many are equal where ours computes in
fp32 too, so that what is left is where the tiles lie and how they are weighed (`--no-fp32` leaves that out where it would take long).

What bf16 and fewer tiles cost in Dice is measured with a trained network: `--run` answers the test cases of a run of `vesalius train` in
each of these ways, one scorer for all, and says what validation cases had set.
"""

import argparse
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from _side_by_side import OURS, Turn, alone, as_a_laptop, child, in_processes, keep, process, rows, takes_a_side, timed, took_a_side

CLASSES = 4
OVERLAPS = {OURS: 0.125, "nnU-Net": 0.5, "MONAI": 0.25}  # where none is asked for: ours as validation cases allow
FP32, WRITTEN = "vesalius in fp32", "written"
APART = "ours by an eighth, if validation cases bear it, theirs as they come"


def overlap(options, who):
    """By how much the tiles of `who` overlap."""
    return OVERLAPS[who] if options.overlap is None else options.overlap


def volume(options):
    random = np.random.default_rng(0)
    waves = [np.sin(np.arange(side) * 6 / side, dtype=np.float32) for side in options.volume]
    smooth = waves[0][:, None, None] + waves[1][:, None] * waves[2]
    return (smooth + 0.3 * random.standard_normal((options.channels, *options.volume), dtype=np.float32)).astype(np.float32)


def network(options):
    import torch

    from vesalius.nets.unet import UNet

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return UNet(3, options.channels, CLASSES).eval()


def ours(options, kind=None):
    from vesalius.core.environment import share_processors

    share_processors()
    from vesalius.core.memory import keep_freed_memory
    from vesalius.engine.infer import callables
    from vesalius.engine.stream import stream_labels
    from vesalius.engine.tiles import Tiling
    from vesalius.plan.budget import precision

    plan = SimpleNamespace(net=SimpleNamespace(ndim=3), train=SimpleNamespace(precision=kind or precision("cpu")[0]),
                           preparation=SimpleNamespace(in_channels=options.channels))  # fmt: skip
    (net,) = callables([network(options)], plan, "cpu")
    pixels, tiling = volume(options), Tiling(tuple(options.patch), overlap=overlap(options, OURS))
    keep_freed_memory()
    return lambda: stream_labels(net, pixels, tuple(options.volume), tiling=tiling, exclusive=True)[0]


def written(options):
    """The network written down for `exported`; nothing is timed."""
    from safetensors.numpy import save_file

    from vesalius.export.written import written as noted

    net = network(options)
    steps, weights = noted(net, options.channels, ndim=3, pooling=net.pooling)
    (options.written / "steps.json").write_text(json.dumps(steps.dumped()))
    save_file(weights, options.written / "weights.safetensors")
    return lambda: np.zeros(0)


def exported(options):
    from safetensors.numpy import load_file

    from vesalius.core.memory import keep_freed_memory
    from vesalius.engine.tiles import Tiling
    from vesalius.export.network import Network, able
    from vesalius.export.steps import Steps
    from vesalius.export.streaming import Wanted, stream

    steps = Steps.checked(json.loads((options.written / "steps.json").read_text()))
    net = Network(steps, load_file(options.written / "weights.safetensors"), number=able("bf16"), threads=options.threads)
    pixels, tiling = volume(options), Tiling(tuple(options.patch), overlap=overlap(options, OURS))
    keep_freed_memory()
    return lambda: stream([net], pixels, Wanted(tuple(options.volume), exclusive=True), tiling=tiling, threads=options.threads)[0]


def nnunet(options):
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False, perform_everything_on_device=False,
                                tile_step_size=1 - overlap(options, "nnU-Net"))  # fmt: skip
    predictor.network, predictor.configuration_manager = network(options), SimpleNamespace(patch_size=tuple(options.patch))
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=CLASSES)
    pixels = torch.from_numpy(volume(options))

    def once():
        with torch.inference_mode():
            return predictor.predict_sliding_window_return_logits(pixels).argmax(0).numpy().astype(np.uint8)

    return once


def monai(options):
    import torch
    from monai.inferers import sliding_window_inference

    net, pixels = network(options), torch.from_numpy(volume(options))

    def once():
        with torch.inference_mode():
            shared = overlap(options, "MONAI")
            logits = sliding_window_inference(pixels[None], tuple(options.patch), 1, net, overlap=shared, mode="gaussian")
            return logits.argmax(1)[0].numpy().astype(np.uint8)

    return once


SIDES = {OURS: lambda options: exported(options) if options.written else ours(options), "nnU-Net predictor": nnunet,
         "MONAI sliding window": monai, FP32: lambda options: ours(options, "fp32"), WRITTEN: written}  # fmt: skip


def compare(options):
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{number}.npy" for number, name in enumerate(SIDES)}
        words = ["--volume", *options.volume, "--patch", *options.patch, "--channels", options.channels, "--threads", options.threads]
        words += [] if options.overlap is None else ["--overlap", options.overlap]
        words += ["--written", folder] * options.exported
        commands = {name: child(__file__, "--side", name, "--labels", paths[name], *words) for name in SIDES}
        exact, first = commands.pop(FP32), commands.pop(WRITTEN)
        if options.exported:
            process(WRITTEN, first)
            paths[WRITTEN].unlink()
        if not options.no_fp32:
            process(FP32, exact)
        turns = in_processes(commands, rounds=options.rounds)
        labels = {name: np.load(path) for name, path in paths.items() if path.exists()}

    def equal(a, b):
        return f"{100 * np.mean(labels[a] == labels[b]):.2f} %"

    check = {name: f"{equal(OURS, name)} equal labels" + (f" (fp32: {equal(FP32, name)})" if FP32 in labels else "") for name in labels}
    sides, patch = (" x ".join(map(str, of)) for of in (options.volume, options.patch))
    each = APART if options.overlap is None else f"all overlapping by {options.overlap:g}"
    cut = f"patch {patch}, tiles: {each}" + f", {options.threads} threads" * (options.threads > 1)
    cut += ", ours exported" * options.exported
    work = f"{options.where}{sides} voxels, {options.channels} channels, {cut}"
    return rows(work, turns, check=check, goal=None if options.where else 4)


BF16 = "train.precision=bf16"
WAYS = {"fp32": ("train.precision=fp32", "predict.overlap=0.5"), "bf16": (BF16, "predict.overlap=0.5"),
        **{f"bf16, tiles overlapping by {share}": (BF16, f"predict.overlap={share}") for share in (0.25, 0.125)}}  # fmt: skip
LIGHT = "bf16 without torch"  # as predict answers on a processor, where the run holds what that takes
PAIRS = (("bf16", "fp32"), (LIGHT, "fp32"), *((name, "bf16") for name in WAYS if "tiles" in name))


def quality(options):
    """Dice and seconds of a trained run in each of WAYS: rows of bf16 beside fp32, and of fewer tiles beside half-overlapping ones."""
    from vesalius import Run, predict
    from vesalius.core.memory import keep_freed_memory
    from vesalius.engine.answered import Options
    from vesalius.export.answering import Answerer

    keep_freed_memory()
    run, found, ways = Run.open(options.run), {}, dict(WAYS)
    cases = [case for case in run.dataset.cases if case.name in run.splits["test"]]
    if Answerer.of_run(run.path):
        ways[LIGHT] = ("predict.overlap=0.5",)
    for name, settings in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            turn, _ = timed(lambda to=folder, how=settings: predict(run, cases, to, options=Options(settings=how)))
            found[name] = turn, scored(run, Path(folder))
    pairs = [pair for pair in PAIRS if pair[0] in found]
    return [row for ours_, theirs in pairs for row in beside(run, len(cases), (ours_, *found[ours_]), (theirs, *found[theirs]))]


def beside(run, count, one, other):
    """Two rows: Dice, and seconds."""
    (name, fast, dice), (rest, slow, truth) = one, other
    what = f"{run.dataset.root.name}, {count} test scans, patch {' x '.join(map(str, run.plan.patch.size))}"
    kept = f"; validation cases had set {run.plan.predict.overlap:g}" if "tiles" in name else ""
    check = f"{dice['dice'] - truth['dice']:+.4f}; largest difference of a scan {largest(dice, truth):.4f}{kept}"
    row = alone(f"Dice in {name}: {what}", [Turn(fast.wall, dice["dice"])], check=check)
    row |= {"unit": "Dice", "opponent": f"vesalius, {rest}", "theirs": {"cpu": truth["dice"]}}
    return [row, *rows(f"seconds in {name}: {what}", {OURS: [fast], f"vesalius, {rest}": [slow]}, check=check)]


def scored(run, folder):
    """Dice of each test case, the mean of its labels that are there or were said to be, and the mean of the cases."""
    from vesalius.engine.evaluate import evaluate_files

    cases = {}
    for row in evaluate_files(run, folder)["parts"]["test"]["model"]["rows"]:
        if row["dice"] is not None:
            cases.setdefault(row["case"], []).append(row["dice"])
    means = {name: float(np.mean(values)) for name, values in cases.items()}
    return {"cases": means, "dice": float(np.mean(list(means.values())))}


def largest(one, other):
    return max(abs(dice - other["cases"][name]) for name, dice in one["cases"].items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=int, nargs=3, default=[96, 96, 80])
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--patch", type=int, nargs=3, default=[64, 64, 64])
    parser.add_argument("--overlap", type=float, help="of the tiles of all three; ours by an eighth and theirs as they come otherwise")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-fp32", action="store_true", help="do not say how many labels are equal where ours computes in fp32")
    parser.add_argument("--run", type=Path, help="a run folder: what bf16 and fewer tiles cost in Dice")
    parser.add_argument("--exported", action="store_true", help="ours without torch, as vesalius predict runs it on a processor")
    parser.add_argument("--written", type=Path, help=argparse.SUPPRESS)
    takes_a_side(parser, SIDES)
    parser.add_argument("--laptop", action="store_true", help="all sides as on a processor with AVX2 alone")
    options = parser.parse_args()
    options.where = as_a_laptop(options.laptop)
    if took_a_side(options, SIDES):
        return
    keep("inference", quality(options) if options.run else compare(options), title="A whole volume through the same network")


if __name__ == "__main__":
    main()
