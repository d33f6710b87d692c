"""Does the generator give training images back? Made images against held-out ones, by their distance to the nearest training image.

Meehan et al. 2020 (AISTATS): if made images come from the distribution and not from the training set, they are as far from it as held-out
images are; the test is Mann & Whitney's. Alaa et al. 2022 (ICML): a made image is authentic if the training image nearest to it has
another training image that is nearer. A planted copy is found by both; an image that is only blurred towards the mean counts too, so
look at the pairs.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vesalius.core.card import Card
from vesalius.metrics._features import nearest, rows

CARD = Card(
    entry="memorised", title="Memorisation", tasks=("synthesise",),
    summary="Whether made images lie closer to training images than held-out ones do.",
    paper="Meehan et al. 2020, AISTATS; Alaa et al. 2022, ICML",
    facts={
        "closer": {"definition": "chance that a made image is closer to its nearest training image than a held-out one; 1/2 without copies",
                   "better": "none"},
        "p_copied": {"definition": "chance of so many close images if none were copied (one-sided Mann-Whitney)", "better": "high"},
        "near_copies": {"definition": "share of made images closer to a training image than 99 of 100 held-out ones; 0.01 without copies",
                        "better": "low"},
        "authentic": {"definition": "share of made images farther from the nearest training image than that one's own neighbour",
                      "better": "high"},
        "authentic_held_out": {"definition": "the same of held-out images, which are authentic: what to compare with", "better": "none"},
    },
)  # fmt: skip

QUANTILE = 0.01


def memorised(fake: NDArray[np.floating], train: NDArray[np.floating], test: NDArray[np.floating]) -> dict[str, float]:
    """closer, p_copied, near_copies, authentic and authentic_held_out, from features (N, F)."""
    made, seen, held_out = rows(2, fake=fake, train=train, test=test)
    near, which = nearest(made, seen)
    expected, whose = nearest(held_out, seen)
    between, _ = nearest(seen, seen, own=True)
    test_of_ranks = stats.mannwhitneyu(near, expected, alternative="less", method="asymptotic")
    return {
        "closer": float(1 - test_of_ranks.statistic / (len(near) * len(expected))),
        "p_copied": float(test_of_ranks.pvalue),
        "near_copies": float((near < np.quantile(expected, QUANTILE)).mean()),
        "authentic": float((near > between[which]).mean()),
        "authentic_held_out": float((expected > between[whose]).mean()),
    }
