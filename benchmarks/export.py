"""Whole-volume prediction: seconds and peak resident memory, ours beside MONAI's sliding_window_inference + argmax.

    python benchmarks/export.py [--net unet] [--shape 512 512 400] [--grid 341 341 267] [--classes 25] [--json]

Every measurement is a fresh process with the same network (random weights), volume, tiles (Gaussian, sigma = side / 8), threads
and precision; peak memory is that of the process in all (ru_maxrss: interpreter, torch, network, volume, labels). `--grid` is
the network's grid where it differs from that of the answer: MONAI's logits are then interpolated (trilinear) before the argmax,
as nnU-Net does. Where MONAI would need more than `--peer-limit` GiB, its volume and ours beside it are cut along the last axis;
the row says so; `--peer-limit 0` leaves MONAI out. MONAI gets its logits as contiguous float32, which it adds up fastest and
most exactly; ours gets them as the network leaves them (channels last, bf16). MONAI is given our Gaussian, because its own ends at
1e-3, which changes 2 % of the labels of a network of random weights. `agree` is the share of equal labels, null where the two place
their tiles differently (ours evenly, MONAI's last one shifted).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _side_by_side import keep

GIB = 2**30


def volume(shape):
    """Float32 (1, *shape): blobs and noise, made slice by slice so that the making leaves no mark on the peak."""
    import numpy as np

    random = np.random.default_rng(0)
    array = np.empty((1, *shape), np.float32)
    waves = [np.sin(np.arange(side) * 2 * np.pi * 3 / side, dtype=np.float32) for side in shape]
    plane = waves[1][:, None] * waves[2]
    for row in range(shape[0]):
        array[0, row] = waves[0][row] + plane + 0.3 * random.standard_normal(plane.shape, dtype=np.float32)
    return array


def network(options):
    """(b, 1, *patch) -> (b, K, *patch): the plain U-Net of the product, or one convolution to weigh all that is not network."""
    import torch
    from torch import nn

    from vesalius.nets.unet import UNet

    torch.manual_seed(0)
    nets = {
        "unet": lambda: UNet(3, 1, options.classes, channels=options.channels),
        "tiny": lambda: nn.Sequential(nn.Conv3d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv3d(16, options.classes, 1)),
    }
    layout = torch.channels_last_3d
    net = nets[options.net]().eval().to(memory_format=layout)
    clock = {"network": 0.0}

    def logits(tiles):
        since = time.perf_counter()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            out = net(tiles.contiguous(memory_format=layout))
        clock["network"] += time.perf_counter() - since
        return out

    return logits, clock


def ours(net, pixels, options):
    from vesalius.engine.stream import stream_labels
    from vesalius.engine.tiles import Tiling

    tiling = Tiling(tuple(options.patch), overlap=options.overlap)
    return stream_labels(net, pixels, tuple(options.shape), tiling=tiling, exclusive=True)[0]


def monai(net, pixels, options):
    import numpy as np
    import torch
    from monai.inferers import sliding_window_inference

    from vesalius.engine.tiles import gaussian

    def contiguous(tiles):
        return net(tiles).float().contiguous()

    with torch.inference_mode():
        weight = torch.from_numpy(np.einsum("i,j,k", *[gaussian(side, 1 / 8) for side in options.patch])).float()
        words = {"overlap": options.overlap, "roi_weight_map": weight}
        logits = sliding_window_inference(torch.from_numpy(pixels)[None], tuple(options.patch), 1, contiguous, **words)
        if list(logits.shape[2:]) != list(options.shape):
            logits = torch.nn.functional.interpolate(logits, size=tuple(options.shape), mode="trilinear", align_corners=False)
        return logits.argmax(1)[0].numpy().astype(np.uint8)


def work(options):
    """One measurement in this process; labels go to `options.labels`."""
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    pixels = volume(options.grid)
    net, clock = network(options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    since, spent = time.perf_counter(), time.process_time()
    labels = {"ours": ours, "monai": monai}[options.work](net, pixels, options)
    seconds, spent = time.perf_counter() - since, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.save(options.labels, labels)
    return {"seconds": seconds, "cpu_seconds": spent, "network_seconds": clock["network"], "peak_bytes": peak, "peak_bytes_before": before}


def measured(name, options, shape, grid, labels):
    """What a fresh process measures, or None where the peer is not installed."""
    words = {"work": name, "shape": shape, "grid": grid, "labels": labels}
    command = [sys.executable, __file__]
    for word, value in {**vars(options), **words}.items():
        if word == "json" or value is None:
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        command += [f"--{word.replace('_', '-')}", *map(str, values)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "No module named 'monai'" in done.stderr:
        return None
    if done.returncode:
        return {"failed": f"exit {done.returncode}: {done.stderr[-500:]}"}
    return json.loads(done.stdout)


def peer_bytes(options, shape, grid):
    """What MONAI keeps: float32 logits, weights and volume on the grid; logits of the answer where it differs; int64 argmax."""
    inner, outer = grid[0] * grid[1] * grid[2], shape[0] * shape[1] * shape[2]
    return 4 * inner * (options.classes + 2) + outer * (9 + (4 * options.classes if shape != grid else 0)) + GIB


def sizes(options):
    """(shape, grid) of the answer and of the network: the whole, and the part that MONAI can hold where that is less."""
    whole = (options.shape, options.grid)
    for tenth in range(10, 0, -1):
        part = tuple([*sides[:2], sides[2] * tenth // 10] for sides in whole)
        if peer_bytes(options, *part) <= options.peer_limit * GIB:
            return [whole] if tenth == 10 else [whole, part]
    return [whole]


def aligned(options, grid):
    """Whether evenly spaced tiles and MONAI's tiles lie at the same places."""
    strides = [int(side * (1 - options.overlap)) for side in options.patch]
    return all((whole - side) % stride == 0 for whole, side, stride in zip(grid, options.patch, strides, strict=True))


def compare(options):
    import numpy as np

    rows = []
    for shape, grid in sizes(options):
        names = ["ours", "monai"] if peer_bytes(options, shape, grid) <= options.peer_limit * GIB else ["ours"]
        if names == ["ours"] and options.peer_limit > 0:
            need = peer_bytes(options, shape, grid) / GIB
            print(f"MONAI would need about {need:.0f} GiB here and is measured on a part.", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: str(Path(folder) / f"{name}.npy") for name in names}
            found = {name: measured(name, options, shape, grid, paths[name]) for name in names}
            same_for_both = {word: getattr(options, word) for word in ("classes", "net", "patch", "overlap", "precision", "threads")}
            row = {"shape": shape, "grid": grid, **same_for_both, **found}
            if all(Path(path).exists() for path in paths.values()) and len(names) == 2:
                first, second = (np.load(path, mmap_mode="r") for path in paths.values())
                same = float(np.mean([np.mean(a == b) for a, b in zip(first, second, strict=True)]))
                row["agree"] = same if aligned(options, grid) else None
        rows.append(row)
        told(row)
    return rows


def kept(rows):
    """Rows in the form of every comparison."""
    made = []
    for row in rows:
        sides = {name: row[name] for name in ("ours", "monai") if "seconds" in (row.get(name) or {})}
        each = {n: {"wall": of["seconds"], "cpu": of["cpu_seconds"], "peak": of["peak_bytes"]} for n, of in sides.items()}
        over = {key: [each["monai"][key] / each["ours"][key]] * 3 if len(each) == 2 else None for key in ("wall", "cpu", "peak")}
        agree = f"{100 * row['agree']:.3f} % equal labels" if row.get("agree") is not None else "labels not compared"
        sides_, network = " x ".join(map(str, row["shape"])), sides["ours"]["network_seconds"]
        made.append({"work": f"{sides_}, {row['classes']} classes, {row['net']}", "opponent": "MONAI" if len(each) == 2 else None,
                     "rounds": 1, "ours": each["ours"], "theirs": each.get("monai", {}), "cpu_ratio": over["cpu"],
                     "wall_ratio": over["wall"], "peak_ratio": over["peak"], "check": f"{agree}; network {network:.1f} s of ours",
                     "goal": None})  # fmt: skip
    return made


def told(row):
    sides = "x".join(map(str, row["shape"])) + (f" from {'x'.join(map(str, row['grid']))}" if row["shape"] != row["grid"] else "")
    print(f"{row['net']}, {sides}, {row['classes']} classes, {row['threads']} threads", file=sys.stderr)
    for name in ("ours", "monai"):
        found = row.get(name, {})
        if not found or "failed" in found:
            print(f"  {name:6s} {'not measured' if found == {} else found or 'not installed'}", file=sys.stderr)
            continue
        rest = found["seconds"] - found["network_seconds"]
        peak = found["peak_bytes"] / GIB
        print(f"  {name:6s} {found['seconds']:8.1f} s (network {found['network_seconds']:.1f}, all else {rest:.1f}), "
              f"peak {peak:.2f} GiB", file=sys.stderr)  # fmt: skip
    if row.get("agree") is not None:
        print(f"  equal labels {100 * row['agree']:.3f} %", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=["unet", "tiny"], default="unet")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32, 64, 128], help="of the U-Net's stages")
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 400], help="of the answer")
    parser.add_argument("--grid", type=int, nargs=3, help="of the network, as the answer where not given")
    parser.add_argument("--classes", type=int, default=25)
    parser.add_argument("--patch", type=int, nargs=3, default=[128, 128, 128])
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-limit", type=float, default=20, help="GiB that MONAI may take")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", choices=["ours", "monai"], help=argparse.SUPPRESS)
    parser.add_argument("--labels", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.grid = options.grid or options.shape
    if options.work:
        print(json.dumps(work(options)))
        return
    rows = compare(options)
    keep("export", kept(rows), title="A whole volume to labels, many classes: time and peak memory")
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
