"""Seconds for HD95 + ASSD + NSD of label maps: ours, MONAI and DeepMind's surface-distance, measured in turns (A B C A B C ...).

    python benchmarks/metrics.py [--rounds 5] [--sides 128 256] [--json]

All run on one thread on the same maps. MONAI is given the one-hot arrays that it wants, the making of which counts, and
computes the three metrics by its three functions. surface-distance computes its distances once per label for all three;
it weighs the surface by area, so its values differ by definition. Values of ours and MONAI are asserted equal. Where the one-hot
arrays do not fit into the memory that is free, MONAI is left out and the check says what it would need.
Medians over rounds, and of the ratio within each round the median and its range.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
from _side_by_side import OURS, in_turns, keep, rows
from scipy import ndimage

from vesalius.core.space import Space
from vesalius.metrics._pair import pairs_of_maps
from vesalius.metrics.surface import surface

SPACING = (1.0, 0.8, 0.8)
CASES = (
    ("1 organ", 128, 1, 0.7),
    ("5 organs", 128, 5, 0.9),
    ("25 organs", 128, 25, 0.95),
    ("1 lesion", 128, 1, 0.15),
    ("1 organ", 256, 1, 0.7),
    ("5 organs", 256, 5, 0.9),
    ("25 organs", 256, 25, 0.95),
    ("1 lesion", 256, 1, 0.15),
    ("1 organ", 512, 1, 0.7),
    ("25 organs", 512, 25, 0.95),
    ("1 lesion", 512, 1, 0.15),
)
SMOOTH = 128  # sides: a larger map is warped by an enlarged field
HELD = 16  # bytes that MONAI holds for each voxel and class: two float32 one-hot maps, and one of int64 on the way


def maps(side: int, classes: int, filled: float) -> tuple[np.ndarray, np.ndarray]:
    """Two label maps of `classes` smooth, unlike organs: the cells of random points inside a ball, and the same, warped and noisy."""
    random = np.random.default_rng(0)
    points = (random.uniform(0.2, 0.8, (classes, 3)) * side).astype(np.float32)
    few = min(side, SMOOTH)
    warp = np.stack([ndimage.gaussian_filter(random.standard_normal((few,) * 3).astype(np.float32), few / 12) for _ in range(3)])
    warp *= 1.2 * side / few / warp.std()
    warp = warp if few == side else np.stack([ndimage.zoom(field, side / few, order=1) for field in warp])
    plane = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij")).astype(np.float32)

    def one(shift: np.ndarray | None) -> np.ndarray:
        label = np.zeros((side,) * 3, np.uint8)
        for row in range(side):
            place = np.concatenate([np.full((1, side, side), row, np.float32), plane])
            if shift is not None:
                place = place + shift[:, row]
            away = np.stack([((place - point[:, None, None]) ** 2).sum(0) for point in points])
            inside = ((place - side / 2) ** 2).sum(0) <= (filled * side / 2) ** 2
            label[row] = np.where(inside, away.argmin(0) + 1, 0)
        return label

    return one(None), one(warp)


def ours(guess: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    space = Space.of(truth.shape, SPACING)
    found = [surface(pair) for pair in pairs_of_maps(guess, truth, space, classes=classes, tolerance=1.0)]
    return np.array([[f["hd95"], f["assd"], f["nsd"]] for f in found])


def monai(guess: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    p, t = (torch.nn.functional.one_hot(torch.as_tensor(m).long(), classes + 1).movedim(-1, 0)[None].float() for m in (guess, truth))
    word = {"include_background": False, "spacing": list(SPACING)}
    found = (
        compute_hausdorff_distance(p, t, percentile=95, **word),
        compute_average_surface_distance(p, t, symmetric=True, **word),
        compute_surface_dice(p, t, class_thresholds=[1.0] * classes, **word),
    )
    return torch.cat(found).T.numpy()


def deepmind(guess: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    import surface_distance as package

    found = []
    for k in range(1, classes + 1):
        both = package.compute_surface_distances(truth == k, guess == k, SPACING)
        out, back = package.compute_average_surface_distance(both)
        found.append([package.compute_robust_hausdorff(both, 95), (out + back) / 2, package.compute_surface_dice_at_tolerance(both, 1.0)])
    return np.array(found)


def free() -> int:
    """Bytes of memory that are free."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def compare(name: str, side: int, classes: int, filled: float, rounds: int) -> list[dict[str, object]]:
    """The rows of one kind of map."""
    guess, truth = maps(side, classes, filled)
    measures, need = {OURS: ours, "MONAI": monai, "surface-distance": deepmind}, HELD * (classes + 1) * side**3
    fits = need < free()
    if not fits:
        measures.pop("MONAI")
    sides = {who: (lambda measure=measure: measure(guess, truth, classes)) for who, measure in measures.items()}
    turns, values = in_turns(sides, rounds=rounds)
    away = float(np.abs(values[OURS] - values["surface-distance"])[:, :2].max())
    check = {"MONAI": "equal to 1e-4", "surface-distance": f"HD95, ASSD within {away:.2f} mm (weighs by area)"}
    if fits:
        np.testing.assert_allclose(values[OURS], values["MONAI"], rtol=1e-4, atol=1e-4)
    else:
        check["surface-distance"] += f"; MONAI would need {need / 2**30:.0f} GiB"
    return rows(f"{name}, {side} x {side} x {side}", turns, check=check, goal=5)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--sides", type=int, nargs="+", choices=sorted({case[1] for case in CASES}), default=[128, 256])
    words.add_argument("--json", action="store_true")
    chosen = words.parse_args()
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    compare("warm-up", 32, 2, 0.7, 1)  # imports and first calls
    found = [row for case in CASES if case[1] in chosen.sides for row in compare(*case, chosen.rounds)]
    keep("metrics", found, title="HD95 + ASSD + NSD of label maps")
    if chosen.json:
        json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
