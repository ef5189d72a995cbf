"""Timing in pairs: the machine's speed drifts, so only ratios within one run mean anything."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

from dreamflow import machine

Run = Callable[[], Any]
THREADS = 2


@pytest.fixture(autouse=True)
def _calm_process() -> None:
    """In place of the tests' single thread: a process tuned as every render tunes its own."""
    machine.tune(THREADS)


def timed(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


@pytest.fixture
def compare(benchmark, capsys):
    """`compare(label, ours, baseline)` runs the two in turn and prints and returns their ratio.

    `baseline` may return its own seconds (a float), when it ran in another process.
    """

    def run(label: str, ours: Run, baseline: Callable[[], Any], rounds: int = 7) -> float:
        others: list[float] = []

        def before_each() -> None:
            began = time.perf_counter()
            reported = baseline()
            elapsed = time.perf_counter() - began
            others.append(reported if isinstance(reported, float) else elapsed)

        ours()
        benchmark.pedantic(ours, setup=before_each, rounds=rounds, iterations=1)
        pairs = zip(benchmark.stats.stats.data, others[-rounds:], strict=True)
        ratio = statistics.median(mine / theirs for mine, theirs in pairs)
        benchmark.extra_info[label] = ratio
        with capsys.disabled():
            print(f"\n{label}: {ratio:.2f}")
        return ratio

    return run
