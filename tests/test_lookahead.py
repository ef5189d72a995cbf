"""Motion that is found while the frame before is dreamed: the same, only sooner."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from tiny import (
    TinyExtractor,
    make_engine,
    make_preset,
    panning_clip,
    passing_block,
    still_clip,
)

from dreamflow import job, lookahead, preset
from dreamflow.flow import FlowMethod, FlowSource
from dreamflow.lookahead import Lookahead
from dreamflow.render import render

FRAMES = 24
"""More than it takes until far memory is asked too."""
DREAM = {"octaves": 2, "steps": 2}


class Watched(FlowMethod):
    """Flow that notes which thread was asked for it, and can fail."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__("dis")
        self.asked: list[tuple[int, str]] = []
        """(source index, thread) of each."""
        self._fails_at = fails_at

    def _note(self, frames) -> None:
        self.asked.append((frames[0], threading.current_thread().name))
        if frames[0] == self._fails_at:
            raise ValueError("no flow here")

    def between(self, first, second, frames=None):
        self._note(frames)
        return super().between(first, second, frames)

    def both_ways(self, first, second, frames=None):
        self._note(frames)
        return super().both_ways(first, second, frames)


def engine(aside: int, flow: FlowSource | None = None, **stages):
    made = make_engine(make_preset(dream=DREAM, **stages))
    return replace(made, aside=aside, flow=flow or made.flow)


def images(clip, made) -> list[torch.Tensor]:
    return [frame.image for frame in render(clip, made)]


@pytest.mark.parametrize(("threads", "aside"), [(1, 0), (2, 0), (3, 1), (5, 1), (6, 2), (64, 2)])
def test_a_third_of_the_threads_are_taken_and_two_at_most(threads, aside):
    assert lookahead.threads_of(threads) == aside


AFRESH = {"follow": {"restart": 0.9}}
"""Some frames begin afresh, and do not ask for what was expected."""


@pytest.mark.parametrize("aside", [1, 2])
@pytest.mark.parametrize(
    "stages",
    [{}, {"cadence": 3}, {"camera": {"zoom": 1.01}}, {"follow": {"memory": 0.0}}, AFRESH],
    ids=str,
)
def test_what_is_found_ahead_makes_the_same_pictures(aside, stages, monkeypatch):
    clip = passing_block(count=FRAMES, speed=6)
    ahead = images(clip, engine(aside, **stages))
    monkeypatch.setattr(Lookahead, "expect", lambda *_: None)
    for one, other in zip(ahead, images(clip, engine(aside, **stages)), strict=True):
        assert torch.equal(one, other)


def test_all_searches_of_a_moving_clip_are_foreseen():
    flow = Watched()
    images(passing_block(count=FRAMES, speed=6), engine(1, flow))
    assert {index for index, _ in flow.asked} == set(range(1, FRAMES))
    assert threading.current_thread().name not in {thread for _, thread in flow.asked}


def test_where_frames_are_skipped_their_searches_are_foreseen():
    flow = Watched()
    images(passing_block(count=FRAMES, speed=6), engine(1, flow, cadence=3))
    main = threading.current_thread().name
    assert {index for index, thread in flow.asked if thread != main} == {
        index for index in range(1, FRAMES - 1) if index % 3
    }


def test_a_still_scene_is_not_searched_for_what_it_does_not_lack():
    """The last frame and the one that steadies it, but none of the far ones."""
    flow = Watched()
    images(still_clip(FRAMES), engine(1, flow))
    assert len(flow.asked) < 2 * FRAMES


@pytest.mark.parametrize(("aside", "cadence", "read"), [(0, 1, 2), (1, 1, 3), (1, 3, 4)])
def test_one_frame_is_read_ahead_at_most(aside, cadence, read):
    taken = []
    frames = render(
        (taken.append(array) or array for array in panning_clip(12)), engine(aside, cadence=cadence)
    )
    next(frames)
    next(frames)
    assert len(taken) == read


def test_other_threads_keep_their_number_of_torch_threads():
    """Torch's default for new threads is one for the whole process."""
    torch.set_num_threads(2)
    images(panning_clip(3), engine(1))
    with ThreadPoolExecutor(1) as another:
        assert another.submit(torch.get_num_threads).result() == 2


def test_a_search_that_fails_ends_the_render_at_the_frame_it_is_for():
    frames = render(panning_clip(6), engine(1, Watched(fails_at=3)))
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no flow here"):
        next(frames)


def test_no_thread_outlives_a_render_that_is_left_early():
    before = threading.active_count()
    frames = render(panning_clip(6), engine(2))
    next(frames)
    assert threading.active_count() > before
    frames.close()
    assert threading.active_count() == before


def test_a_dream_from_scratch_has_all_threads_and_a_carried_one_those_that_are_left():
    class Counting(TinyExtractor):
        def forward(self, image, layers=None):
            counts.add(torch.get_num_threads())
            return super().forward(image, layers)

    counts: set[int] = set()
    frames = render(panning_clip(3), replace(engine(2), extractor=Counting()))
    most = []
    for _ in frames:
        most.append(max(counts))
        counts.clear()
    assert most == [3, 1, 1]


@pytest.mark.parametrize(("method", "aside"), [("dis", 1), ("farneback", 1), ("none", 0)])
def test_threads_are_divided_only_where_there_is_something_to_search_for(method, aside):
    look = preset.load("base", overrides=[f"follow.flow={method}"])
    made = job.prepare(look, Fraction(25), "cpu", 3)
    assert made.aside == aside
    assert torch.get_num_threads() == 3 - aside
    assert job.facts(made)["threads"] == 3


def test_a_still_is_dreamed_with_all_threads():
    made = job.prepare(preset.load("base"), Fraction(25), "cpu", 3, make_flow=job.without_motion)
    assert made.aside == 0
    assert torch.get_num_threads() == 3
