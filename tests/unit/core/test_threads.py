"""Answers of threads in order, with few of them at hand."""

import time
from threading import get_ident

import pytest

from vesalius.core.threads import AHEAD, answers


def test_answers_come_in_order_from_several_threads():
    seen = set()

    def square(k):
        seen.add(get_ident())
        time.sleep(0.002 * (k % 3))  # later ones are often done first
        return k * k

    assert list(answers(square, range(40), threads=4)) == [k * k for k in range(40)]
    assert len(seen) > 1


def test_no_more_are_drawn_than_are_about_to_be_used():
    drawn = []

    def items():
        for k in range(1000):
            drawn.append(k)
            yield k

    coming = answers(lambda k: k, items(), threads=2)
    for taken in range(1, 5):
        next(coming)
        assert len(drawn) == AHEAD * 2 + taken
    coming.close()
    assert len(drawn) == AHEAD * 2 + 4


def test_an_error_comes_to_the_caller_and_the_rest_is_left():
    called = []

    def careful(k):
        called.append(k)
        if k == 3:
            raise ValueError("three")
        return k

    coming = answers(careful, range(1000), threads=1)
    assert [next(coming) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(coming)
    assert len(called) < 20


def test_nothing_asked_gives_nothing():
    assert list(answers(len, [], threads=3)) == []
