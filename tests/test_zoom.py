"""Zooms feed on themselves for ever: nothing may blur, drift, darken or burn out on the way."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from tiny import make_engine, make_preset, texture

from dreamflow import preset, zoom
from dreamflow.color import ColorStatistics
from dreamflow.frames import to_array, to_image
from dreamflow.zoom import render_loop, render_zoom

SMALL = {"dream": {"octaves": 1, "steps": 2, "jitter": 2}, "follow": {"octaves": 1, "steps": 1}}
DIVING = {"zoom": 1.03, "rotate": 1.0}


def engine_of(rate=30, **stages):
    return make_engine(make_preset(**{**SMALL, "camera": DIVING, **stages}), rate=Fraction(rate))


def images(seed, engine, count):
    return [frame.image for frame in render_zoom(seed, engine, count)]


@pytest.fixture(scope="module")
def seed():
    return texture(36, 48)


def test_frames_are_numbered_and_only_the_first_is_dreamed_from_scratch(seed):
    frames = list(render_zoom(seed, engine_of(), 4))
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.from_scratch for frame in frames] == [True, False, False, False]
    assert all(frame.image.shape == seed.shape for frame in frames)


def test_a_zoom_goes_on_from_its_canvas_as_if_it_had_never_stopped(seed):
    whole = list(render_zoom(seed, engine_of(), 6))
    rest = list(render_zoom(seed, engine_of(), 6, canvas=whole[2].carry))
    assert [frame.index for frame in rest] == [3, 4, 5]
    for once, again in zip(whole[3:], rest, strict=True):
        assert torch.equal(once.image, again.image)


def test_without_a_count_it_never_ends_and_its_frames_are_the_same(seed):
    endless = [frame.image for frame in islice(render_zoom(seed, engine_of()), 5)]
    for free, counted in zip(endless, images(seed, engine_of(), 5), strict=True):
        assert torch.equal(free, counted)


def test_the_picture_moves_as_the_camera_says():
    """A bright spot runs away from the centre by the zoom, without any dreaming."""
    spot = torch.full((1, 3, 64, 64), 0.2)
    spot[..., 30:34, 42:46] = 0.9
    still = {"dream": {"octaves": 1, "steps": 0}, "follow": {"octaves": 1, "steps": 0}}
    plain = {"feedback": {"sharpen": 0.0, "noise": 0.0}, "color": {"anchor": "none"}}
    engine = engine_of(**still, **plain, camera={"zoom": 1.02})
    last = images(spot, engine, 16)[-1][0, 0]
    row, column = divmod(int(last.argmax()), 64)
    assert abs(column - (31.5 + 12 * 1.02**15)) <= 1.5
    assert abs(row - 31.5) <= 1.5


@pytest.mark.parametrize("border", ["reflect", "wrap", "replicate", "outpaint"])
def test_zooming_out_and_turning_never_feed_black_wedges_back(border):
    bright = texture(48, 64) * 0.4 + 0.5
    camera = {"zoom": 0.96, "rotate": 7.0, "border": border}
    still = {"dream": {"octaves": 1, "steps": 0}, "follow": {"octaves": 1, "steps": 0}}
    engine = engine_of(**still, camera=camera, color={"anchor": "none"})
    frames = images(bright, engine, 40)
    assert max(float((frame < 0.2).float().mean()) for frame in frames) < 0.03
    edges = torch.cat([frames[-1][..., :4, :].flatten(), frames[-1][..., -4:, :].flatten()])
    assert abs(float(edges.mean()) - float(bright.mean())) < 0.1


def test_nothing_piles_up_at_black_or_white(seed):
    strong = {"dream": {"octaves": 1, "steps": 2, "step_size": 12.0, "chroma": 1.0}}
    last = to_array(images(seed, engine_of(**strong), 40)[-1])
    assert ((last == 0) | (last == 255)).any(-1).mean() < 0.02


def test_brightness_and_spread_stay_where_the_seed_has_them(seed):
    last = images(seed, engine_of(), 60)[-1]
    before, after = (ColorStatistics.of(image) for image in (seed, last))
    assert after.mean[0] == pytest.approx(before.mean[0], rel=0.15)
    assert after.spread[0] == pytest.approx(before.spread[0], rel=0.15)


def test_a_dark_seed_becomes_light_little_by_little():
    dark = texture(36, 48) * 0.15
    color = {"least_lightness": 40.0, "least_contrast": 15.0}
    frames = images(dark, engine_of(color=color), 60)
    lightness = [ColorStatistics.of(frame).mean[0] for frame in frames]
    assert lightness[0] < 15
    assert max(after - before for before, after in pairwise(lightness)) < 4
    assert 36 < lightness[-1] < 46


def test_a_flat_seed_is_held_flat_unless_the_least_contrast_lets_it_live():
    flat = torch.full((1, 3, 36, 48), 0.4) + 0.01 * (texture(36, 48) - 0.5)
    engines = [engine_of(color={"least_contrast": least}) for least in (0.0, 20.0)]
    held, alive = (ColorStatistics.of(images(flat, engine, 40)[-1]) for engine in engines)
    assert alive.spread[0] > 4 * held.spread[0]


def test_a_running_anchor_follows_the_picture_and_the_sources_stays(seed):
    for kind, moves in (("running", True), ("source", False)):
        frames = list(render_zoom(seed, engine_of(color={"anchor": kind}), 5))
        first, last = frames[0].carry.anchor, frames[-1].carry.anchor
        assert (first.mean == last.mean) != moves


def test_reseeding_keeps_the_seed_in_sight(seed):
    errors = []
    for share in (0.0, 0.3):
        engine = engine_of(feedback={"reseed": share}, camera={"zoom": 1.05})
        last = images(seed, engine, 20)[-1]
        errors.append(float((last - seed).abs().mean()))
    assert errors[1] < 0.7 * errors[0]


def test_after_one_second_the_colours_are_pulled_as_far_at_any_rate():
    dark = texture(36, 48) * 0.15
    still = {"dream": {"octaves": 1, "steps": 0}, "follow": {"octaves": 1, "steps": 0}}
    ends = []
    for rate in (24, 30, 60):
        engine = engine_of(rate, **still, color={"least_lightness": 50.0}, camera={})
        last = images(dark, engine, rate + 1)[-1]
        ends.append(ColorStatistics.of(last).mean[0])
    assert max(ends) - min(ends) < 1


# ── frames between dreamed ones ──


@pytest.mark.parametrize("cadence", [2, 3, 5])
def test_frames_left_out_lie_between_their_neighbours(seed, cadence):
    """Each gap is closed in steps of like size, without a raw or a repeated frame."""
    frames = images(seed, engine_of(cadence=cadence), 4 * cadence + 1)
    assert len(frames) == 4 * cadence + 1
    steps = steps_between(frames[cadence:])
    assert max(steps) < 3 * min(steps)
    detail = [float(frame.diff(dim=-1).abs().mean()) for frame in frames[cadence:]]
    assert min(detail) > 0.6 * max(detail)


def test_only_every_nth_frame_is_dreamed(seed):
    engine = engine_of(cadence=4)
    list(render_zoom(seed, engine, 1))
    scratch = len(engine.extractor.sides)
    list(render_zoom(seed, engine, 9))
    assert len(engine.extractor.sides) == 2 * scratch + 2


def test_a_gap_does_not_depend_on_how_long_the_film_is(seed):
    long, short = (images(seed, engine_of(cadence=4), count) for count in (9, 7))
    for one, other in zip(short, long, strict=False):
        assert torch.equal(one, other)


def test_the_camera_goes_as_far_at_any_cadence():
    spot = torch.full((1, 3, 64, 64), 0.2)
    spot[..., 30:34, 42:46] = 0.9
    still = {"dream": {"octaves": 1, "steps": 0}, "follow": {"octaves": 1, "steps": 0}}
    plain = {"feedback": {"sharpen": 0.0, "noise": 0.0}, "color": {"anchor": "none"}}
    engine = engine_of(**still, **plain, camera={"zoom": 1.02}, cadence=4)
    for index, image in enumerate(images(spot, engine, 16)):
        row, column = divmod(int(image[0, 0].argmax()), 64)
        assert abs(column - (31.5 + 12 * 1.02**index)) <= 2.5
        assert abs(row - 31.5) <= 2.5


def test_a_zoom_with_gaps_goes_on_from_any_frame(seed):
    whole = list(render_zoom(seed, engine_of(cadence=3), 8))
    rest = list(render_zoom(seed, engine_of(cadence=3), 8, canvas=whole[5].carry))
    assert [frame.index for frame in rest] == [4, 5, 6, 7]
    for once, again in zip(whole[4:], rest, strict=True):
        assert torch.equal(once.image, again.image)


# ── loops ──


def steps_between(frames):
    return [float((after - before).abs().mean()) for before, after in pairwise(frames)]


def rendered_loop(seed, engine, frame_count, lead):
    shelf, frames = {}, []
    for frame in render_loop(seed, engine, frame_count, lead, shelf):
        frames.append(frame)
        if frame.index < 0:
            shelf[frame.index + lead] = to_array(frame.image, 16)
    return frames


def test_a_loop_runs_on_into_its_beginning(seed):
    """The step over the seam is no larger than the 90th percentile of the others."""
    frames = rendered_loop(seed, engine_of(), 24, 8)
    assert [frame.index for frame in frames] == list(range(-8, 24))
    film = [frame.image for frame in frames[8:]]
    seam = steps_between([film[-1], film[0]])[0]
    assert seam <= np.percentile(steps_between(film), 90)
    before_the_first = to_image(to_array(frames[7].image, 16))
    assert torch.allclose(film[-1], before_the_first, atol=1e-6)


@pytest.mark.parametrize(("cadence", "count"), [(2, 24), (3, 25), (5, 24)])
def test_a_loop_with_gaps_runs_on_into_its_beginning(seed, cadence, count):
    engine = engine_of(cadence=cadence)
    frames = rendered_loop(seed, engine, count, 8)
    assert [frame.index for frame in frames] == list(range(-8, count))
    film = [frame.image for frame in frames[8:]]
    seam = steps_between([film[-1], film[0]])[0]
    assert seam <= np.percentile(steps_between(film), 90)
    before_the_first = to_image(to_array(frames[7].image, 16))
    assert torch.allclose(film[-1], before_the_first, atol=1e-6)
    dreamed = {frame.carry.index for frame in frames}
    assert len(dreamed) <= (count + 8) / cadence + 3  # the opening and two remainders


@pytest.mark.parametrize("cadence", [1, 2, 7, 60])
@pytest.mark.parametrize(("count", "lead"), [(2, 1), (9, 4), (10, 9)])
def test_a_loop_of_any_length_is_whole(seed, cadence, count, lead):
    frames = rendered_loop(seed, engine_of(cadence=cadence), count, lead)
    assert [frame.index for frame in frames] == list(range(-lead, count))
    assert torch.allclose(frames[lead - 1].image, frames[-1].image, atol=1e-4)


def test_curves_of_a_loop_are_those_of_the_film_before_it_too(seed):
    moving = preset.Preset.model_validate({"objectives": ({"layer": "second"},), **SMALL})
    engine = make_engine(moving)
    asked = []

    class Watched(type(engine)):
        def at(self, index):
            asked.append(index)
            return engine

    watched = Watched(**{name: getattr(engine, name) for name in engine.__dataclass_fields__})
    rendered_loop(seed, watched, 6, 2)
    assert asked == [4, 5, 0, 1, 2, 3, 4, 5]


def test_curves_of_an_endless_zoom_begin_again_after_their_period(seed):
    text = {"objectives": ({"layer": "second"},), **SMALL}
    engine = make_engine(preset.Preset.model_validate(text))
    asked = []

    class Watched(type(engine)):
        def at(self, index):
            asked.append(index)
            return engine

    watched = Watched(**{name: getattr(engine, name) for name in engine.__dataclass_fields__})
    list(islice(render_zoom(seed, watched, period=3), 7))
    assert asked == [0, 1, 2, 0, 1, 2, 0]


def grain(index, size=(36, 48), noise_seed=0, purpose=1):
    engine = engine_of(seed=noise_seed)
    return zoom._grain(engine, torch.empty(1, 3, *size), index, purpose)


SIZES = pytest.mark.parametrize("size", [(180, 320), (1200, 1300)], ids=["small", "over the line"])
"""The line that grain is taken from is shorter than the latter."""


@SIZES
def test_grain_is_that_of_its_frame_seed_and_purpose(size):
    first = grain(5, size)
    assert torch.equal(grain(5, size), first)
    for other in (grain(6, size), grain(5, size, noise_seed=1), grain(5, size, purpose=2)):
        assert abs(float((other * first).mean())) < 0.02


@SIZES
def test_grain_is_even_noise_in_a_picture_of_any_size(size):
    for index in range(3):
        drawn = grain(index, size)
        assert drawn.shape == (1, 3, *size)
        assert float(drawn.mean()) == pytest.approx(0, abs=0.02)
        assert float(drawn.std()) == pytest.approx(1, abs=0.02)
        assert float(drawn.abs().max()) > 3
        for way in ((0, 1), (1, 0)):  # neighbours have nothing to do with each other
            beside = torch.roll(drawn, way, dims=(2, 3))
            assert abs(float((drawn * beside).mean())) < 0.02


def test_rendering_leaves_the_line_of_grain_as_it_is(seed):
    before = zoom._line_of_grain().copy()
    images(seed, engine_of(feedback={"noise": 0.1}), 3)
    outpainted = {**DIVING, "zoom": 0.9, "border": "outpaint"}
    images(seed, engine_of(camera=outpainted, feedback={"noise": 0.1}), 3)
    assert np.array_equal(zoom._line_of_grain(), before)
