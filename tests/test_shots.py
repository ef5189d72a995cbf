"""Cuts are found, what only looks like one is not, and nothing of a dream passes one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from dreamflow import job, preset, shots
from dreamflow.errors import UnavailableError
from dreamflow.frames import Array, Moment, Shot, to_array
from dreamflow.render import RenderedFrame, render, render_shots
from dreamflow.settings import Cuts
from dreamflow.video import ffmpeg
from dreamflow.video.reader import open_clip

RATE = Fraction(25)
HEIGHT, WIDTH = 90, 160
BLACK, WHITE = (np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in (0, 255))


def scene(seed: int, count: int, speed: int = 1) -> list[Array]:
    """A textured scene that moves `speed` pixels to the left in each frame."""
    image = tiny.texture(HEIGHT, WIDTH + speed * count, seed=seed, sigma=4)
    return [to_array(image[..., speed * i : speed * i + WIDTH]) for i in range(count)]


def faded(frames: Iterable[Array], levels: Iterable[float]) -> list[Array]:
    return [(f * level).astype(np.uint8) for f, level in zip(frames, levels, strict=True)]


def cuts(frames: Iterable[Array], setting: Cuts = "auto", first_index: int = 0) -> list[int]:
    marked = shots.mark(frames, setting, RATE, first_index=first_index)
    return [frame.index for frame in marked if frame.begins_shot][1:]


def test_the_cuts_of_three_joined_shots_are_found():
    assert cuts(scene(1, 20) + scene(2, 17, 3) + scene(3, 15)) == [20, 37]


def test_cuts_count_from_the_index_of_the_first_frame():
    assert cuts(scene(1, 8) + scene(2, 8), first_index=100) == [108]


def test_shots_of_the_same_colours_are_told_apart():
    one = scene(1, 12)
    assert cuts(one + [frame[::-1] for frame in one]) == [12]


@pytest.mark.parametrize("length", [2, 3, 4, 6])
def test_short_shots_are_found(length):
    frames = [frame for seed in range(5) for frame in scene(seed, length)]
    assert cuts(frames) == [length, 2 * length, 3 * length, 4 * length]


def test_a_cut_before_the_last_frames_is_found():
    assert cuts(scene(1, 12) + scene(2, 2)) == [12]


def test_a_cut_to_black_and_one_out_of_it_are_found():
    assert cuts(scene(1, 12) + [BLACK] * 12 + scene(2, 12)) == [12, 24]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("flash", [WHITE, BLACK])
def test_a_flash_is_no_cut(length, flash):
    frames = scene(1, 24, 2)
    frames[10 : 10 + length] = [flash] * length
    assert cuts(frames) == []


def test_a_flash_hides_no_cut_near_it():
    frames = scene(1, 12) + scene(2, 20)
    frames[20:22] = [WHITE] * 2
    assert cuts(frames) == [12]


def test_a_few_frames_of_another_scene_are_no_cut():
    frames = scene(1, 24)
    frames[10:13] = scene(2, 3)
    assert cuts(frames) == []


@pytest.mark.parametrize("length", [6, 8, 16])
def test_a_fade_to_black_and_back_is_no_cut(length):
    down = np.linspace(1, 0, length)
    levels = [*np.ones(8), *down, *np.zeros(8), *down[::-1], *np.ones(8)]
    assert cuts(faded(scene(1, len(levels)), levels)) == []


@pytest.mark.parametrize("steps", [2, 3, 4])
@pytest.mark.parametrize("black", [1, 8, 20])
def test_a_quick_fade_to_black_and_back_is_no_cut(steps, black):
    down = np.linspace(1, 0, steps + 1)
    levels = [*np.ones(8), *down[1:], *np.zeros(black), *down[-2::-1], *np.ones(8)]
    assert cuts(faded(scene(1, len(levels)), levels)) == []


@pytest.mark.parametrize("steps", [2, 3, 4, 8])
def test_a_cut_out_of_the_black_that_a_fade_ended_in_is_found(steps):
    levels = [*np.ones(8), *np.linspace(1, 0, steps + 1)[1:], *np.zeros(8)]
    assert cuts(faded(scene(1, len(levels)), levels) + scene(2, 12)) == [len(levels)]


@pytest.mark.parametrize("speed", [16, 32, 64])
def test_a_pan_of_which_every_frame_stands_twice_is_no_cut(speed):
    panned = [frame for frame in scene(1, 12, speed) for _ in range(2)]
    assert cuts([panned[0]] * 8 + panned + [panned[-1]] * 8) == []


def test_single_frames_of_many_scenes_are_not_told_apart():
    assert cuts(scene(9, 12) + [frame for seed in range(6) for frame in scene(seed, 1)]) == []


def test_a_slow_dissolve_is_no_cut():
    one, other = scene(1, 32), scene(2, 32)
    shares = [*np.zeros(8), *np.linspace(0, 1, 16), *np.ones(8)]
    mixed = [(a * (1 - s) + b * s) for a, b, s in zip(one, other, shares, strict=True)]
    assert cuts([frame.astype(np.uint8) for frame in mixed]) == []


@pytest.mark.parametrize("speed", [8, 16, 32, 48])
def test_a_fast_pan_is_no_cut(speed):
    panned = scene(1, 20, speed)
    assert cuts([panned[0]] * 8 + panned + [panned[-1]] * 8) == []


@pytest.mark.parametrize("period", [1, 2, 3, 4])
@pytest.mark.parametrize("dark", [0.0, 0.15])
def test_a_strobe_is_no_cut(period, dark):
    frames = scene(1, 40)
    levels = [1.0 if (index // period) % 2 == 0 else dark for index in range(40)]
    assert cuts(faded(frames, levels)) == []


def test_a_still_clip_has_no_cut():
    assert cuts(scene(1, 1) * 30) == []


def test_grain_on_black_has_no_cut():
    random = np.random.default_rng(0)
    assert cuts([random.integers(0, 16, BLACK.shape, np.uint8) for _ in range(30)]) == []


def test_one_frame_is_one_shot():
    assert [frame.begins_shot for frame in shots.mark([WHITE], "auto", RATE)] == [True]


def test_no_frames_are_no_shots():
    assert list(shots.mark([], "auto", RATE)) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 200), (300, 3)])
def test_frames_of_any_size_are_looked_at(size):
    dark, light = (np.full((*size, 3), level, np.uint8) for level in (10, 240))
    assert cuts([dark] * 8 + [light] * 8) == [8]


@pytest.mark.parametrize("size", [(7, 90), (20, 300), (300, 31), (48, 48), (33, 1)])
def test_fine_noise_of_any_size_is_looked_at(size):
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (*size, 3), np.uint8) for _ in range(12)]
    assert cuts(noise) == []


def test_pictures_with_nothing_but_a_border_are_looked_at():
    def framed(side: slice) -> Array:
        picture = BLACK.copy()
        picture[side] = 255
        return picture

    top, bottom = framed(slice(0, 3)), framed(slice(-3, None))
    assert np.isfinite(shots.difference(shots.Look.at(top), shots.Look.at(bottom)))


def test_frames_of_16_bits_are_cut_where_those_of_8_are():
    frames = scene(1, 10) + scene(2, 10)
    assert cuts([frame.astype(np.uint16) * np.uint16(257) for frame in frames]) == [10]


def test_frames_are_passed_on_as_they_are_and_in_order():
    frames = scene(1, 9) + scene(2, 9)
    marked = list(shots.mark(frames, "auto", RATE))
    assert [frame.index for frame in marked] == list(range(18))
    assert all(frame.array is given for frame, given in zip(marked, frames, strict=True))


@pytest.mark.parametrize("rate", [Fraction(2), Fraction(24000, 1001), Fraction(1000)])
def test_only_a_few_frames_are_held_back(rate):
    taken = 0

    def counted() -> Iterator[Array]:
        nonlocal taken
        for frame in [f for seed in range(6) for f in scene(seed, 10)]:
            taken += 1
            yield frame

    behind = []
    for given, _ in enumerate(shots.mark(counted(), "auto", rate), 1):
        behind.append(taken - given)
    assert 4 <= shots.look_ahead(rate) <= 8
    assert max(behind) < shots.look_ahead(rate)


# ── the setting ──────────────────────────────────────────────────────────────────────────────────


def test_off_finds_none():
    assert cuts(scene(1, 8) + scene(2, 8), "off") == []


def test_a_list_is_taken_at_its_word():
    assert cuts(scene(1, 40), (4, "0.8s", "30f", "0:01.4")) == [4, 20, 30, 35]


def test_a_list_counts_from_the_beginning_of_the_clip():
    assert cuts(scene(1, 10), (4, 25, 28, 99), first_index=20) == [25, 28]


def test_a_time_with_three_digits_finds_its_frame_at_any_rate():
    for rate in (Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60)):
        for frame in range(0, 3000, 7):
            assert shots.frame_of(f"{float(frame / rate):.3f}s", rate) == frame


@pytest.mark.parametrize("name", ["adaptive", "content"])
def test_pyscenedetect_finds_cuts_and_its_flashes_are_left_out(name):
    pytest.importorskip("scenedetect")
    frames = scene(1, 20) + scene(2, 20)
    frames[30:32] = [WHITE] * 2
    assert cuts(frames, name) == [20]


def test_a_detector_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scenedetect", None)
    with pytest.raises(UnavailableError, match=r"dreamflow\[scenes\]"):
        shots.mark([], "adaptive", RATE)


# ── in a render ──────────────────────────────────────────────────────────────────────────────────


def test_each_shot_begins_as_a_render_of_its_own_does():
    frames = scene(1, 6) + scene(2, 6) + scene(3, 6)
    engine = tiny.make_engine(tiny.make_preset(dream={"octaves": 2, "steps": 2}), rate=RATE)
    marked = list(shots.mark(frames, "auto", RATE))
    whole = {frame.index: frame for frame in render_shots(shots.by_shot(marked), engine)}
    assert list(whole) == list(range(18))
    for first in (0, 6, 12):
        alone = next(render(frames[first:], engine, first_index=first))
        assert whole[first].from_scratch
        assert torch.equal(whole[first].image, alone.image)
    assert not any(whole[index].from_scratch for index in (1, 7, 17))


def test_only_the_first_shot_goes_on_from_a_carry():
    frames = scene(1, 6)
    engine = tiny.make_engine(tiny.make_preset(dream={"octaves": 2, "steps": 2}), rate=RATE)
    carry = next(render(frames, engine)).carry
    cut = shots.by_shot(shots.mark(frames[1:], (3,), RATE, first_index=1))
    begun = [frame.from_scratch for frame in render_shots(cut, engine, carry=carry)]
    assert begun == [False, False, True, False, False]


def test_without_cuts_a_render_is_what_it_was():
    frames = tiny.panning_clip(4)
    engine = tiny.make_engine(tiny.make_preset(dream={"octaves": 2, "steps": 2}))
    cut = render_shots(shots.by_shot(shots.mark(frames, "auto", RATE)), engine)
    for one, other in zip(cut, render(frames, engine), strict=True):
        assert torch.equal(one.image, other.image)


# ── in a file ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources of lavfi, 12 frames each at 24000/1001, encoded with losses."""
    path = tmp_path_factory.mktemp("shots") / "joined.mp4"
    names = ("testsrc2", "mandelbrot", "smptehdbars")
    inputs: list[str] = []
    for name in names:
        inputs += ["-f", "lavfi", "-t", "0.5005", "-i", f"{name}=s=128x72:r=24000/1001"]
    graph = "[0:v][1:v][2:v]concat=n=3,format=yuv420p"
    ffmpeg.run([*inputs, "-lavfi", graph, "-c:v", "libx264", ffmpeg.output_name(path)])
    return path


def test_the_shots_of_a_file_are_listed(joined):
    with open_clip(joined) as clip:
        found = list(shots.find(clip, "auto"))
    rate = Fraction(24000, 1001)
    assert found == [Shot(0, 12, rate), Shot(12, 24, rate), Shot(24, 36, rate)]
    assert found[1].start == found[1].duration == 12 / rate


def test_a_render_from_a_cut_on_gives_the_frame_that_the_whole_render_has_there(joined, tmp_path):
    overrides = ["objectives=[{layer: fire2}]", "dream.steps=1", "dream.octaves=1"]
    chosen = preset.load("base", overrides=[*overrides, "follow.steps=1", "follow.restart=0"])

    def rendered(name: str, **options: Any) -> dict[int, RenderedFrame]:
        target = str(tmp_path / name)
        request = job.VideoRequest(joined, target, chosen, threads=1, **options)
        events = job.render_video(request)
        return {event.index: event for event in events if isinstance(event, RenderedFrame)}

    whole = rendered("whole.mkv")
    assert [index for index, frame in whole.items() if frame.from_scratch] == [0, 12, 24]
    alone = rendered("alone.mkv", start=Moment(Fraction(12), True), end=Moment(Fraction(14), True))
    assert list(alone) == [12, 13]
    assert all(torch.equal(alone[index].image, whole[index].image) for index in alone)
