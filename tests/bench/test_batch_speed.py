"""How to divide a machine: `pytest tests/bench/test_batch_speed.py --benchmark-only -n 0 -m ''`.

On two cores two workers with one thread each should take at most 0.65 of the time of one such
worker, and no longer than one worker with two threads.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dreamflow import batch, manifest, plan
from dreamflow.batch import Batch
from dreamflow.film import Conditions
from dreamflow.workers import LocalPool

CLIP = Path(__file__).parents[2] / "samples" / "clip.mp4"
MANIFEST = """
defaults: {size: 320, output: "{index}.mp4", end: 1}
jobs: [{input: clip.mp4, seed: [1, 2, 3, 4]}]
"""


@pytest.fixture
def four_clips(tmp_path, monkeypatch):
    """A way to render four clips with so many workers of so many threads, workers warm."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(CLIP, "clip.mp4")
    Path("night.yaml").write_text(MANIFEST)

    def render(pool, threads):
        for old in Path().glob("00*.mp4"):
            old.unlink()
        conditions = Conditions(threads=threads, device="cpu")
        night = Batch(pool)
        night.add(batch.survey(plan.plan(manifest.read(Path("night.yaml")), conditions)))
        for _ in night.run():
            pass
        assert [item.state for item in night.items] == ["finished"] * 4

    return render


def in_pairs(compare, render, label, ours, theirs):
    """The ratio of two ways to divide the machine, each (workers, threads)."""
    with LocalPool(ours[0]) as one, LocalPool(theirs[0]) as other:
        render(one, ours[1])
        render(other, theirs[1])  # now all processes have loaded what they need
        return compare(
            label, lambda: render(one, ours[1]), lambda: render(other, theirs[1]), rounds=3
        )


def test_two_workers_against_one(compare, four_clips):
    label = "2 workers / 1 worker, a thread each (at most 0.65)"
    assert in_pairs(compare, four_clips, label, (2, 1), (1, 1)) <= 0.65


def test_two_workers_against_two_threads(compare, four_clips):
    label = "2 workers / 1 worker with 2 threads (at most 1)"
    assert in_pairs(compare, four_clips, label, (2, 1), (1, 2)) <= 1
