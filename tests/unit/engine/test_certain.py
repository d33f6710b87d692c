"""Which outlines are kept: levels chosen on validation, against brute force, and applied to what is said."""

import numpy as np
import pytest
import torch

from vesalius.data.labels import Labels
from vesalius.engine.certain import LEVELS, Outline, chosen, dice_by_level, of_case
from vesalius.engine.extras import kept, outlines
from vesalius.engine.rolling import argmax_with_odds, coded
from vesalius.engine.stream import Kept, stream_labels
from vesalius.engine.sums import CODES_PER_UNIT, EVEN
from vesalius.engine.tiles import Tiling

LABELS = Labels(names=("lesion",), values=((1,),))


def case(seed):
    draw = np.random.default_rng(seed)
    said = np.zeros((1, 16, 16), np.uint8)
    for row, column in ((1, 1), (1, 9), (9, 2)):
        said[0, row : row + draw.integers(2, 5), column : column + draw.integers(2, 5)] = 1
    certainty = np.where(said, draw.integers(EVEN, 256, said.shape), 0).astype(np.uint8)
    truth = np.zeros_like(said)
    truth[0, 1:5, 9:13] = seed % 2
    return said, certainty, truth


def test_dice_by_level_is_what_keeping_gives():
    for seed in range(4):
        said, certainty, truth = case(seed)
        rows = [of_case(said, certainty, truth, labels=LABELS)["lesion"]]
        table = dice_by_level(rows)[0]
        for level in (EVEN, 180, 220, 250, 255):
            left = kept(said, certainty, {"lesion": level}, labels=LABELS)
            total = int(left.sum()) + int(truth.sum())
            wanted = 2 * int((left & truth).sum()) / total if total else 1.0
            assert table[level - EVEN] == pytest.approx(wanted)


def test_the_lowest_level_keeps_everything_and_others_keep_whole_outlines():
    said, certainty, _ = case(0)
    assert np.array_equal(kept(said, certainty, {"lesion": int(LEVELS[0])}, labels=LABELS), said)
    assert np.array_equal(kept(said, certainty, {}, labels=LABELS), said)
    parts = outlines(said[0] == 1, certainty[0])
    middle = sorted(peak for *_, peak in parts)[1]
    left = kept(said, certainty, {"lesion": middle}, labels=LABELS)[0]
    for box, members, peak in parts:
        assert left[box][members].all() == (peak >= middle) and left[box][members].any() == (peak >= middle)


def test_overlapping_labels_are_judged_one_by_one():
    labels = Labels(names=("whole", "core"), values=((1, 2), (2,)), kind="regions")
    said = np.ones((2, 4, 4), np.uint8)
    certainty = np.stack([np.full((4, 4), 200), np.full((4, 4), 140)]).astype(np.uint8)
    left = kept(said, certainty, {"core": 150, "whole": 150}, labels=labels)
    assert left[0].all() and not left[1].any()


def rows_of(pairs):
    """Cases with one outline each: (log odds, right or false)."""
    return [([Outline(int(odds * CODES_PER_UNIT) + EVEN, 100, 90 if right else 0)], 100 if right else 0) for odds, right in pairs]


def test_a_level_is_set_where_false_outlines_are_uncertain():
    found = chosen(rows_of([(9, True)] * 6 + [(2, False), (2.5, False), (1, False), (3, False)]))
    assert found is not None and 3 < found["log_odds"] < 9
    assert found["dice"] == pytest.approx((6 * 0.9 + 4) / 10) and found["dice_without"] == pytest.approx(0.54) and found["cases"] == 10


def test_no_level_where_nothing_is_gained_or_little_is_known():
    assert chosen(rows_of([(9, True)] * 8)) is None
    assert chosen(rows_of([(2, True)] * 4 + [(9, False)] * 4)) is None, "the false ones are the certain ones"
    assert chosen(rows_of([(9, True), (1, False)])) is None, "two cases"
    assert chosen(rows_of([(9, True)] * 40 + [(1, False)])) is None, "one case of many may be chance"


def test_the_lowest_of_equal_levels_within_the_error_is_taken():
    pairs = [(9, True)] * 6 + [(1, False)] * 6 + [(8, False)]  # one false one is nearly as certain as the right ones
    found = chosen(rows_of(pairs))
    assert found is not None and found["log_odds"] < 4


def test_room_is_left_below_what_is_right():
    found = chosen(rows_of([(12, True)] * 5 + [(5, True)] + [(4, False)] * 6 + [(2, False)] * 6))
    assert found is not None and 2 < found["log_odds"] <= 3, "those at 4 stay: one that is right is as certain as 5"


def test_certainty_is_the_log_odds_of_what_is_said():
    random = torch.Generator().manual_seed(0)
    values = torch.randn(4, 3, 5, 5, generator=random) * 2
    number, odds = argmax_with_odds(iter(values))
    p = values.double().softmax(0)
    assert torch.equal(number.long(), values.argmax(0))
    assert torch.allclose(odds.double(), torch.logit(p.max(0).values), atol=1e-4)
    assert coded(torch.tensor([0.0, 1.0, -1.0, 99.0, -99.0])).tolist() == [EVEN, EVEN + CODES_PER_UNIT, EVEN - CODES_PER_UNIT, 255, 0]


@pytest.mark.parametrize("exclusive", [True, False])
def test_streaming_fills_the_certainty(exclusive):
    volume = np.random.default_rng(0).standard_normal((2, 9, 10, 11)).astype(np.float32)
    tiling = Tiling(patch=(6, 6, 6), overlap=0.5, batch=2)

    def network(x):
        return torch.cat([x, -x[:, :1] * 3], 1)

    sure = np.zeros((1 if exclusive else 3, 18, 20, 22), np.uint8)
    said = stream_labels(network, volume, (18, 20, 22), tiling=tiling, exclusive=exclusive, kept=Kept(certainty=sure))
    assert np.array_equal(said, stream_labels(network, volume, (18, 20, 22), tiling=tiling, exclusive=exclusive))
    if exclusive:
        few = torch.from_numpy(stream_logits(network, volume, tiling))
        number, odds = argmax_with_odds(iter(few))
        assert (np.abs(sure[0].astype(int) - coded(odds).numpy()) <= 1).all() and np.mean(number.numpy() == said[0]) > 0.999
    else:
        assert np.array_equal(sure > EVEN, (said == 1) & (sure > EVEN)) and (sure[said == 1] >= EVEN).all()


def stream_logits(network, volume, tiling):
    """Logits on the output grid, from the probabilities of three regions (their log odds)."""
    from tests.unit.engine.test_stream import logits_of, resampled

    return np.ascontiguousarray(resampled(logits_of(volume, network, tiling), (18, 20, 22)), np.float32)
