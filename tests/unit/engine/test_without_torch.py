"""The way from logits to an answer where torch cannot be imported: a process of its own, and beside it the way through tensors."""

import os
import subprocess
import sys

import numpy as np
import pytest

from vesalius.engine import cells
from vesalius.engine.stream import stream_labels
from vesalius.engine.tiles import Tiling

FILES = ("answered", "cells", "inputs", "lines", "outlines", "parts", "probabilities", "reading", "sums", "tiles")
BLOCKED = "import sys\nsys.modules['torch'] = None\n"
STREAMED = """
import numpy as np
from vesalius.engine import cells
from vesalius.engine.parts import Parts
from vesalius.engine.tiles import ArraySource, Cut, Tiling, pieces

given = np.load(sys.argv[1])
cut = Cut(given["logits"].shape[1:], Tiling((8, 8, 8), batch=2, skip=given["mask"]))
labels = np.empty((21, 30, 23), np.uint8)
parts = Parts(cut, len(given["logits"]), labels, threads=2)
for piece in pieces(ArraySource(given["logits"]), cut):
    for index, tile in zip(piece.tiles, piece.images if piece.images is not None else (), strict=True):
        parts.add(index, cells.laid(tile))
    for index in piece.air:
        parts.add_air(index)
    if piece.final:
        parts.end(piece.final)
    elif piece.side:
        parts.flush(piece.rows, piece.side)
np.save(sys.argv[2], labels)
"""


def run(words, *more):
    result = subprocess.run([sys.executable, "-c", BLOCKED + words, *map(str, more)], env={**os.environ}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("file", FILES)
def test_it_is_not_imported(file):
    run(f"import vesalius.engine.{file}")


def test_where_it_is_imported_that_is_seen():
    with pytest.raises(AssertionError, match="torch"):
        run("import vesalius.engine.rolling")


@pytest.mark.skipif(not cells.suit("float16", "cpu", 3), reason="the kernels are not built: python -m vesalius.core.kernels.build")
def test_labels_are_those_of_tensors(tmp_path):
    logits = np.random.default_rng(0).standard_normal((5, 14, 13, 15)).astype(np.float32)
    mask = np.ones(logits.shape[1:], bool)
    mask[:9, :9] = False
    np.savez(tmp_path / "given.npz", logits=logits, mask=mask)
    run(STREAMED, tmp_path / "given.npz", tmp_path / "labels.npy")
    expected = stream_labels(lambda x: x, logits, (21, 30, 23), tiling=Tiling((8, 8, 8), batch=2, skip=mask), exclusive=True)
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), expected[0])
