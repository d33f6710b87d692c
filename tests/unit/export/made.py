"""Exported models that are made in no time: networks of random weights, written down, and what stands around them."""

import numpy as np

from tests.unit.export.test_written import KINDS, made
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation
from vesalius.data.voxel_odds import CELLS, OF_CHANNEL, VoxelOdds
from vesalius.export.model import Model, Tiles, print_of
from vesalius.export.written import written

LABELS = Labels(names=("left", "right"), values=((1,), (2,)))
BITS = Labels(names=("a", "b", "c"), values=((1,), (2,), (4,)), kind="bits")
SIDE = 16


def weights_of(kind, *, channels=1, classes=3, number=0):
    """Steps of a network, and its weights as the model names those of network `number`."""
    net, ndim = made(kind, channels=channels, classes=classes)
    steps, weights = written(net, channels, ndim=ndim, pooling=net.pooling)
    return steps, {f"{number}.{name}": one for name, one in weights.items()}


def baseline(labels, *, channels, ndim):
    """One that has learned nothing in particular."""
    draw, count = np.random.default_rng(0), len(labels.names)
    features = OF_CHANNEL * channels + ndim + count
    shapes = {"centre": (features,), "coefficients": (1 + features + features * (features + 1) // 2, count + labels.exclusive)}
    drawn = {name: draw.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    atlas = draw.uniform(0, 1, (count, *(CELLS,) * ndim)).astype(np.float32)
    return VoxelOdds(exclusive=labels.exclusive, cases=5, atlas=atlas, spread=np.ones(features, np.float32), **drawn)


def model_of(*kinds, channels=1, labels=LABELS, prior=False, **changes):
    """A model of networks of these kinds, and its weights; with `prior` they correct a baseline."""
    networks, weights = [], {}
    if prior:
        priors = [baseline(labels, channels=channels, ndim=KINDS[kind][1]).to_json() for kind in kinds]
        changes = {"priors": priors, **changes}
    for number, kind in enumerate(kinds):
        shown = channels + len(labels.names) * prior
        steps, own = weights_of(kind, channels=shown, classes=labels.out_channels, number=number)
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
