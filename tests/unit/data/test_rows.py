"""Thumbnails in a file: the same numbers as in an array, and hardly any memory."""

import tracemalloc
from importlib import import_module
from threading import Thread

import numpy as np
import pytest

from vesalius.data.doctor import _rows
from vesalius.data.doctor._rows import Gathered, Kept, Rows
from vesalius.data.doctor.duplicates import SIDE, near_pairs


@pytest.mark.parametrize("held", [1, 1 << 24])
def test_rows_are_what_was_added(held, monkeypatch):
    monkeypatch.setattr(_rows, "HELD", held)
    numbers = np.random.default_rng(0).normal(size=(23, 5, 4)).astype(np.float16)
    rows = Rows((5, 4), "float16")
    assert [rows.add(part) for part in (numbers[:9], numbers[9:10], numbers[10:])] == [0, 9, 10]
    assert rows.shape == (23, 5, 4) and len(rows) == 23
    for part in (slice(None), slice(3, 9), slice(20, 99), slice(7, 7), np.array([22, 0, 5]), np.zeros(0, int)):
        assert np.array_equal(rows[part], numbers[part])


def test_threads_may_share_rows(monkeypatch):
    monkeypatch.setattr(_rows, "HELD", 1)
    rows, places = Rows((64,), "uint8"), {}

    def put(value):
        for k in range(20):
            places[value, k] = rows.add(np.full((3, 64), value, np.uint8))

    threads = [Thread(target=put, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 6 * 20 * 3
    assert all((rows[first : first + 3] == value).all() for (value, _), first in places.items())


def test_pairs_are_found_in_a_file_as_in_an_array(monkeypatch):
    """Copies with noise among strangers; views of volumes and of pictures, more than are worked out at once."""
    monkeypatch.setattr(_rows, "HELD", 1)
    monkeypatch.setattr(import_module("vesalius.data.doctor.duplicates"), "AT_ONCE", 4)
    draw = np.random.default_rng(1)
    for views in (1, 3):
        thumbs = draw.integers(0, 256, (14, views, SIDE, SIDE), np.uint8)
        thumbs[11] = np.clip(thumbs[2] + draw.normal(0, 5, thumbs[2].shape), 0, 255).astype(np.uint8)
        if views == 1:
            thumbs[12] = thumbs[5, :, ::-1]
        sheet = Rows((SIDE, SIDE), "uint8")
        kept = [Kept(sheet, sheet.add(one), views) for one in thumbs]
        found = near_pairs(Gathered(kept))
        assert found == near_pairs(thumbs)
        assert {(p.first, p.second, p.turned) for p in found} == {(2, 11, False)} | ({(5, 12, True)} if views == 1 else set())


def test_memory_does_not_grow_with_the_number_of_thumbnails(monkeypatch):
    monkeypatch.setattr(_rows, "HELD", 1)

    def held(count):
        tracemalloc.start()
        try:
            sheet = Rows((SIDE, SIDE), "uint8")
            kept = [Kept(sheet, sheet.add(np.full((1, SIDE, SIDE), k % 256, np.uint8)), 1) for k in range(count)]
            return tracemalloc.get_traced_memory()[0] if kept else 0
        finally:
            tracemalloc.stop()

    assert (held(600) - held(100)) / 500 < 200, "bytes of a case, whose thumbnail has 5,184"
