"""Metrics of localised anomalies against brute force over every threshold, scikit-learn, and figures by hand."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from vesalius.core.errors import DataError
from vesalius.metrics._heat import Heat
from vesalius.metrics.aupro import aupro
from vesalius.metrics.best_dice import best_dice
from vesalius.metrics.pixel_ranking import pixel_ranking
from vesalius.testing.check_map_metric import example


def regions_by_flooding(mask):
    """Connected pixels (corners touch too) as sets of indices, by flooding from each."""
    left, found = set(map(tuple, np.argwhere(mask))), []
    while left:
        edge = [left.pop()]
        region = set(edge)
        while edge:
            here = edge.pop()
            near = {p for p in left if max(abs(a - b) for a, b in zip(p, here, strict=True)) == 1}
            left -= near
            region |= near
            edge += near
        found.append(region)
    return found


def points_by_loops(maps, truths):
    """(false positive rate, per-region overlap, Dice) at every threshold, each counted anew."""
    regions = [(heat, region) for heat, truth in zip(maps, truths, strict=True) for region in regions_by_flooding(truth)]
    points = [(0.0, 0.0, 0.0)]
    for cut in sorted({float(v) for heat in maps for v in heat.ravel()}, reverse=True):
        said = [heat >= cut for heat in maps]
        false = sum((s & ~t).sum() for s, t in zip(said, truths, strict=True)) / sum((~t).sum() for t in truths)
        overlap = np.mean([np.mean([heat[p] >= cut for p in region]) for heat, region in regions])
        pairs = list(zip(said, truths, strict=True))
        dice = 2 * sum((s & t).sum() for s, t in pairs) / sum(s.sum() + t.sum() for s, t in pairs)
        points.append((float(false), float(overlap), float(dice)))
    return points


def area_by_loops(points, limit):
    """Trapezes between neighbours, the last one cut at `limit`."""
    total = 0.0
    for (x0, y0, _), (x1, y1, _) in pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        height = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        total += (end - x0) * (y0 + height) / 2
    return total / limit


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("levels", [4, 25])
def test_overlap_and_dice_by_brute_force(ndim, levels):
    maps, truths = example(ndim, images=3, seed=5)
    cut = (slice(3, 15),) * ndim if ndim == 2 else (slice(4, 12),) * 3
    maps = [np.round(a[cut] * levels / 6) for a in maps]  # many ties
    truths = [a[cut] for a in truths]
    points = points_by_loops(maps, truths)
    heat = Heat.of(maps, truths)
    assert heat.region.max() == sum(len(regions_by_flooding(t)) for t in truths) > 1
    assert aupro(heat)["aupro"] == pytest.approx(area_by_loops(points, 0.3), rel=1e-12)
    assert best_dice(heat)["best_dice"] == pytest.approx(max(dice for _, _, dice in points), rel=1e-12)


@pytest.mark.parametrize("ndim", [2, 3])
def test_ranking_is_that_of_scikit_learn(ndim):
    maps, truths = example(ndim)
    maps = [np.round(a, 1) for a in maps]
    score, truth = (np.concatenate([a.ravel() for a in every]) for every in (maps, truths))
    found = pixel_ranking(Heat.of(maps, truths))
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(truth, score), rel=1e-10)
    assert found["pixel_ap"] == pytest.approx(average_precision_score(truth, score), rel=1e-10)


def test_a_small_region_weighs_as_much_as_a_large_one():
    """Only the large region is found, without a false positive, until everything is said: half of the overlap, then a straight line up."""
    truth = np.zeros((10, 10), bool)
    truth[:4, :5], truth[9, 9] = True, True
    heat = np.where(truth, 1.0, 0.0)
    heat[9, 9] = 0.0
    assert aupro(Heat.of([heat], [truth]))["aupro"] == pytest.approx(0.5 + 0.5 * 0.3 / 2)
    assert best_dice(Heat.of([heat], [truth]))["best_dice"] == pytest.approx(40 / 41)


def test_a_map_of_one_value_knows_nothing():
    _, truths = example(2)
    heat = Heat.of([np.ones(t.shape) for t in truths], truths)
    share = sum(t.sum() for t in truths) / sum(t.size for t in truths)
    found = pixel_ranking(heat) | aupro(heat) | best_dice(heat)
    assert found == pytest.approx({"pixel_auroc": 0.5, "pixel_ap": share, "aupro": 0.15, "best_dice": 2 * share / (1 + share)})


def test_what_does_not_fit_is_refused():
    maps, truths = example(2)
    with pytest.raises(DataError, match="one shape"):
        Heat.of([maps[0][:-1]], [truths[0]])
    with pytest.raises(DataError, match="one shape"):
        Heat.of([maps[0][None, None]], [truths[0][None, None]])
    with pytest.raises(DataError, match="3 maps, 4 masks"):
        Heat.of(maps[:3], truths)
    with pytest.raises(DataError, match="finite"):
        Heat.of([np.full((3, 3), np.nan)], [np.ones((3, 3))])
