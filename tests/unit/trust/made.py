"""Made answers with known properties, for the tests of trust."""

import numpy as np
from scipy.special import expit, softmax


def classes(cases=400, number=3, *, temperature=1.0, seed=0, strength=1.5):
    """Logits whose softmax at `temperature` is the true law of the truth: dividing by it calibrates them exactly."""
    random = np.random.default_rng(seed)
    honest = random.normal(size=(cases, number)) * strength
    truth = (softmax(honest, axis=1).cumsum(1) < random.random((cases, 1))).sum(1)
    return honest * temperature, truth


def findings(cases=400, number=2, *, temperature=1.0, shift=0.0, seed=0):
    """Logits z with P(yes) = sigmoid(z / temperature + shift)."""
    random = np.random.default_rng(seed)
    honest = random.normal(size=(cases, number)) * 1.5
    truth = (random.random((cases, number)) < expit(honest)).astype(int)
    return (honest - shift) * temperature, truth
