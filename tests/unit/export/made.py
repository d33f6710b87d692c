"""Exported models that are made in no time: networks of random weights, written down, and what stands around them."""

import numpy as np

from tests.unit.export.test_written import KINDS, made
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation
from vesalius.export.model import Model, Tiles, print_of
from vesalius.export.written import written

LABELS = Labels(names=("left", "right"), values=((1,), (2,)))
SIDE = 16


def weights_of(kind, *, channels=1, classes=3, number=0):
    """Steps of a network, and its weights as the model names those of network `number`."""
    net, ndim = made(kind, channels=channels, classes=classes)
    steps, weights = written(net, channels, ndim=ndim, pooling=net.pooling)
    return steps, {f"{number}.{name}": one for name, one in weights.items()}


def model_of(*kinds, channels=1, labels=LABELS, **changes):
    """A model of networks of these kinds, and its weights."""
    networks, weights = [], {}
    for number, kind in enumerate(kinds):
        steps, own = weights_of(kind, channels=channels, classes=labels.out_channels, number=number)
        networks.append(steps)
        weights |= own
    ndim = KINDS[kinds[0]][1]
    tiles = Tiles(patch=(SIDE,) * ndim, overlap=0.5, batch=2, skip_air=True, mirror=((0,), (1,), (0, 1)))
    how = Preparation(channels={"image": channels}, normalise=(Normalise(),) * channels)
    words = {"print": print_of(weights), "labels": labels, "preparation": how, "tiles": tiles, "number": "bf16", "networks": networks}
    return Model.checked({**words, **changes}), weights


def saved(folder, *kinds, **changes):
    """The same, written into `folder`."""
    model, weights = model_of(*kinds, **changes)
    model.save(folder, weights)
    return model, weights


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
