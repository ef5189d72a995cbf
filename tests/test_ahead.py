"""An iterator that runs ahead in a thread, within bounds, and always ends."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from dreamflow.ahead import Ahead


def running(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_items_come_in_order_and_the_thread_ends_with_them():
    def numbers():
        yield from range(20)

    with closing(Ahead(numbers, 3, "in order")) as ahead:
        assert list(ahead) == list(range(20))
    assert not running("in order")


def test_no_more_are_made_than_fit_and_the_one_in_hand():
    made = []
    waits = threading.Event()

    def numbers():
        for number in range(100):
            made.append(number)
            if number == 4:
                waits.set()
            yield number

    with closing(Ahead(numbers, 3, "bounded")) as ahead:
        assert next(iter(ahead)) == 0
        assert waits.wait(10)
        assert len(made) <= 5


def test_an_exception_comes_where_its_item_would_have():
    def numbers():
        yield 1
        raise ValueError("two")

    with closing(Ahead(numbers, 1, "failing")) as ahead:
        taken = iter(ahead)
        assert next(taken) == 1
        with pytest.raises(ValueError, match="two"):
            next(taken)


def test_leaving_early_closes_the_generator_and_joins_the_thread():
    closed = threading.Event()

    def numbers():
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    with closing(Ahead(numbers, 2, "endless")) as ahead:
        next(iter(ahead))
    assert closed.is_set()
    assert not running("endless")


def test_cancel_wakes_a_generator_that_waits():
    wake = threading.Event()

    def numbers():
        wake.wait()
        yield 1

    Ahead(numbers, 1, "asleep", wake.set).close()
    assert not running("asleep")
