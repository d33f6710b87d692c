"""Seconds for HD95 + ASSD + NSD of label maps: ours, MONAI and DeepMind's surface-distance, measured in turns (A B C A B C ...).

    python benchmarks/metrics.py [--rounds 5] [--largest 256] [--json]

All run on one thread on the same maps. MONAI is given the one-hot arrays that it wants, the making of which counts, and
computes the three metrics by its three functions. surface-distance computes its distances once per label for all three;
it weighs the surface by area, so its values differ by definition. Values of ours and MONAI are asserted equal.
Medians over rounds, and of the ratio within each round the median and its range.
"""

import argparse
import json
import sys
import warnings

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
)


def maps(side: int, classes: int, filled: float) -> tuple[np.ndarray, np.ndarray]:
    """Two label maps of `classes` smooth, unlike organs: the cells of random points inside a ball, and the same, warped and noisy."""
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).astype(np.float32)
    points = random.uniform(0.2, 0.8, (classes, 3)) * side

    def one(shift: np.ndarray) -> np.ndarray:
        nearest = np.full(grid.shape[:3], np.inf, np.float32)
        label = np.zeros(grid.shape[:3], np.uint8)
        for k, point in enumerate(points, start=1):
            away = np.linalg.norm(grid + shift - point, axis=-1)
            label[away < nearest], nearest = k, np.minimum(nearest, away)
        label[np.linalg.norm(grid + shift - side / 2, axis=-1) > filled * side / 2] = 0
        return label

    warp = np.stack([ndimage.gaussian_filter(random.standard_normal((side,) * 3).astype(np.float32), side / 12) for _ in range(3)], -1)
    return one(np.zeros(3, np.float32)), one(warp / warp.std() * 1.2)


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


def compare(name: str, side: int, classes: int, filled: float, rounds: int) -> list[dict[str, object]]:
    """The rows of one kind of map."""
    guess, truth = maps(side, classes, filled)
    measures = {OURS: ours, "MONAI": monai, "surface-distance": deepmind}
    sides = {who: (lambda measure=measure: measure(guess, truth, classes)) for who, measure in measures.items()}
    turns, values = in_turns(sides, rounds=rounds)
    np.testing.assert_allclose(values[OURS], values["MONAI"], rtol=1e-4, atol=1e-4)
    away = float(np.abs(values[OURS] - values["surface-distance"])[:, :2].max())
    check = {"MONAI": "equal to 1e-4", "surface-distance": f"HD95, ASSD within {away:.2f} mm (weighs by area)"}
    return rows(f"{name}, {side} x {side} x {side}", turns, check=check, goal=5)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--largest", type=int, default=256, help="leave out maps of more voxels a side")
    words.add_argument("--json", action="store_true")
    chosen = words.parse_args()
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    compare("warm-up", 32, 2, 0.7, 1)  # imports and first calls
    found = [row for case in CASES if case[1] <= chosen.largest for row in compare(*case, chosen.rounds)]
    keep("metrics", found, title="HD95 + ASSD + NSD of label maps")
    if chosen.json:
        json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
