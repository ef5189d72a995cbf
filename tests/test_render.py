"""Frames in, dreamed frames out: what is kept between frames and what is not."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from tiny import (
    TinyExtractor,
    make_engine,
    make_preset,
    mean_level,
    panning_clip,
    passing_block,
    still_clip,
    texture,
)

from dreamflow import feedback, networks, preset, warp
from dreamflow.dream import dream
from dreamflow.errors import BadMediaError, PresetError
from dreamflow.feedback import Carry
from dreamflow.frames import to_array, to_image
from dreamflow.objectives import LayerEnergy
from dreamflow.render import (
    Engine,
    Start,
    compose,
    dream_size,
    gentler,
    render,
    ripened,
    warn_of_dropped_octaves,
    warn_of_idle_objectives,
)

DREAM = {"octaves": 2, "steps": 3, "jitter": 4}
ASLEEP = {"dream": {"steps": 0}, "follow": {"steps": 0}, "color": {"anchor": "none"}}


def rendered(sources, engine=None, **options):
    return list(render(sources, engine or make_engine(make_preset(dream=DREAM)), **options))


def hooks(module):
    kinds = [name for name in vars(module) if name.endswith("_hooks")]
    return sum(len(getattr(m, kind)) for m in module.modules() for kind in kinds)


# ── which frame is which ──


def test_frame_i_comes_from_source_i():
    clip = panning_clip(4)
    frames = rendered(clip, make_engine(make_preset(**ASLEEP)))
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    for frame, source in zip(frames, clip, strict=True):
        assert np.array_equal(to_array(frame.image), source)


def test_a_dream_is_laid_on_its_own_source_not_on_the_last_one():
    clip = panning_clip(4)
    for frame, source in zip(rendered(clip), clip, strict=True):
        image = to_image(source)
        torch.testing.assert_close(frame.carry.source, image)
        expected = (image + frame.carry.residual).clamp(0, 1)
        torch.testing.assert_close(frame.image, expected, rtol=0, atol=1e-6)
        assert frame.carry.index == frame.index
        assert float(frame.carry.residual.abs().mean()) > 1 / 255


def test_frames_are_yielded_one_by_one_as_they_are_read():
    taken = []

    def sources():
        for index, array in enumerate(panning_clip(9)):
            taken.append(index)
            yield array

    frames = render(sources(), make_engine(make_preset(dream=DREAM)))
    assert taken == []
    next(frames)
    next(frames)
    assert taken == [0, 1]


def test_a_frame_before_one_that_cannot_be_read_is_still_yielded():
    def sources():
        yield from panning_clip(2)
        raise BadMediaError("torn")

    frames = render(sources(), make_engine(make_preset(dream=DREAM)))
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(BadMediaError, match="torn"):
        next(frames)


def test_a_frame_from_scratch_is_dreamed_as_a_still_is_wherever_the_run_begins():
    (source,) = panning_clip(1)
    engine = make_engine(make_preset(dream=DREAM, color={"anchor": "none"}))
    (here,) = rendered([source], engine, first_index=3)
    assert here.index == 3
    alone = dream(to_image(source), engine.extractor, engine.terms, engine.preset.dream, (0, 0))
    torch.testing.assert_close(here.image, alone, rtol=0, atol=1e-6)


def test_carried_frames_draw_by_their_index():
    first, second = panning_clip(2)
    engine = make_engine(make_preset(dream=DREAM, follow={"jitter": 1.0, "settle": False}))
    films = [rendered([first, second], engine, first_index=index) for index in (0, 0, 3)]
    here, again, later = (film[-1].image for film in films)
    assert torch.equal(here, again)
    assert not torch.equal(here, later)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_film():
    clip = panning_clip(3)
    films = [rendered(clip, make_engine(make_preset(dream=DREAM, seed=s))) for s in (1, 1, 2)]
    for one, again, other in zip(*films, strict=True):
        assert torch.equal(one.image, again.image)
        assert not torch.equal(one.image, other.image)


# ── from frame to frame ──


@pytest.mark.parametrize("cut", [1, 3])
def test_a_run_handed_over_in_the_middle_is_bit_identical(cut):
    clip = panning_clip(6)
    whole = rendered(clip)
    first = rendered(clip[:cut])
    second = rendered(clip[cut:], first_index=cut, carry=first[-1].carry)
    for one, other in zip(whole, first + second, strict=True):
        assert torch.equal(one.image, other.image)
        assert one.index == other.index
        assert one.from_scratch == other.from_scratch


def test_from_scratch_are_the_first_frame_and_the_first_after_a_cut():
    one_scene = panning_clip(3, 72, 96)
    other_scene = [255 - array[::-1, ::-1] for array in one_scene]
    engine = make_engine(make_preset(dream=DREAM, follow={"restart": 0.6}))
    frames = rendered(one_scene + other_scene, engine)
    assert [frame.from_scratch for frame in frames] == [True, False, False, True, False, False]


def test_only_frames_from_scratch_get_all_steps():
    preset = make_preset(dream=DREAM, follow={"octaves": 1, "steps": 1, "settle": False})
    engine = make_engine(preset)
    frames = render(panning_clip(3), engine)
    calls = []
    for _ in frames:
        calls.append(len(engine.extractor.sides))
    assert calls == [6, 7, 8]


def test_steps_after_the_first_frame_shift_less_and_blur_more_by_the_shares_of_the_presets():
    dream = {"jitter": 8, "smoothing": 1.2}
    follow = {"jitter": 0.25, "smoothing": 1.5}
    look = make_preset(dream=dream, follow=follow)
    settings = gentler(look)
    assert (settings.jitter, settings.smoothing) == (2, pytest.approx(1.8))
    assert (look.dream.jitter, gentler(make_preset(dream=dream)).jitter) == (8, 8)


def test_a_carried_dream_stays_on_what_moves():
    """A dream without new steps moves with the pan: it is last frame's, two pixels on."""
    speed = 2
    preset = make_preset(
        dream=DREAM, follow={"steps": 0, "decay": 1.0}, color={"anchor": "none"}
    )  # fmt: skip
    clip = panning_clip(4, 64, 96, speed=speed)
    first, *_, last = (frame.carry.residual for frame in rendered(clip, make_engine(preset)))
    moved = torch.roll(first, 3 * speed, dims=3)[..., 12:-12, 24:-16]
    stayed = first[..., 12:-12, 24:-16]
    found = last[..., 12:-12, 24:-16]
    assert float((found - moved).abs().mean()) < 0.4 * float((found - stayed).abs().mean())


def test_residuals_keep_their_sign():
    frames = rendered(panning_clip(3))
    for frame in frames:
        residual = frame.image - frame.carry.source
        assert float(residual.min()) < -1 / 255
        assert float(residual.max()) > 1 / 255
        torch.testing.assert_close(frame.carry.residual, residual, rtol=0, atol=1e-6)


def test_the_network_is_the_same_and_grows_no_hooks():
    engine = make_engine(make_preset(dream=DREAM))
    assert hooks(engine.extractor) == 0
    before = sum(1 for _ in engine.extractor.modules())
    for _ in render(panning_clip(4), engine):
        assert hooks(engine.extractor) == 0
    assert sum(1 for _ in engine.extractor.modules()) == before
    assert not any(parameter.requires_grad for parameter in engine.extractor.parameters())


def test_the_embedded_network_grows_no_hooks_either():
    engine = Engine.build(make_preset("features.4", dream=DREAM), Fraction(25))
    assert isinstance(engine.extractor, networks.Extractor)
    before = hooks(engine.extractor)
    rendered(panning_clip(3), engine)
    assert hooks(engine.extractor) == before == 0


def test_nothing_holds_the_graph_of_a_finished_frame():
    for frame in rendered(panning_clip(2)):
        for tensor in (frame.image, frame.carry.source, frame.carry.residual):
            assert not tensor.requires_grad
            assert tensor.grad_fn is None


# ── memory, ripeness and settling ──


def test_a_carried_state_holds_the_frames_that_are_asked_for_later():
    """Four near ones, so that the fifth before the next frame is there, then every eighth."""
    engine = make_engine(make_preset(dream={**DREAM, "steps": 1}))
    *_, last = rendered(still_clip(32), engine, first_index=3)
    assert last.index == 34
    assert [past.index for past in last.carry.pasts] == [33, 32, 31, 30, 24, 16]
    near, _ = feedback.consulted(last.carry.pasts, 34, 35)
    assert near is not None
    assert near.index == 30


@pytest.mark.parametrize("first_index", [0, 1])
def test_older_frames_are_kept_where_frames_are_skipped(first_index):
    """Wherever a shot begins: which frames of it are dreamed hangs on that."""
    frame = torch.zeros(1, 3, 4, 4)
    index, carry = first_index, Carry(first_index, frame, frame)
    while index < 60:
        index += 2
        carry = Carry(index, frame, frame, pasts=carry.aged(np.eye(3), index))
    assert [past.index - first_index for past in carry.pasts[feedback.NEAR - 1 :]] == [48, 40]


def test_without_memory_nothing_is_kept():
    engine = make_engine(make_preset(dream=DREAM, follow={"memory": 0.0}))
    *_, last = rendered(panning_clip(4), engine)
    assert last.carry.pasts == ()


def test_a_run_handed_over_in_the_middle_of_a_long_shot_is_bit_identical():
    clip = panning_clip(12)
    engine = make_engine(make_preset(dream=DREAM, camera={"zoom": 1.01}))
    whole = rendered(clip, engine)
    rest = rendered(clip[9:], engine, first_index=9, carry=whole[8].carry)
    for one, other in zip(whole[9:], rest, strict=True):
        assert torch.equal(one.image, other.image)


BEHIND = (..., slice(24, 48), slice(64, 72))


def test_what_was_hidden_for_a_few_frames_gets_its_old_dream_back():
    def likeness(memory):
        follow = {"octaves": 1, "steps": 0, "decay": 1.0, "memory": memory}
        look = make_preset(dream=DREAM, follow=follow, color={"anchor": "none"})
        frames = rendered(passing_block(), make_engine(look))
        before, after = (frames[index].carry.residual[BEHIND] for index in (5, 14))
        return float((before * after).sum() / before.square().sum())

    assert likeness(0.15) > 0.7
    assert likeness(0.0) < 0.3


def test_places_just_uncovered_are_unripe_and_ripen():
    frames = rendered(
        passing_block(), make_engine(make_preset(dream=DREAM, follow={"memory": 0.0}))
    )
    behind = [float(frame.carry.ripeness[BEHIND].mean()) for frame in frames]
    beside = [float(frame.carry.ripeness[..., 140:].mean()) for frame in frames]
    assert behind[3] == pytest.approx(1, abs=0.02)
    assert beside[12] == pytest.approx(1, abs=0.02)
    assert behind[12] < 0.7
    assert behind[12] < behind[13] < behind[14]


@pytest.mark.parametrize(("octaves", "gained"), [(1, 0.01), (4, 0.04)])
def test_a_frame_ripens_by_its_share_of_the_steps_of_one_from_scratch(octaves, gained):
    """An octave of four is a quarter of them: what a slow pan brings in is long behind the rest."""
    follow = {"octaves": octaves, "steps": 2, "effort": 0.2, "catch_up": 1.0}
    engine = make_engine(make_preset(dream={"octaves": 4, "steps": 10}, follow=follow))
    image, flow = torch.zeros(1, 3, 40, 40), torch.zeros(1, 2, 40, 40)
    for before, times in ((0.0, 2), (0.5, 1.5)):
        start = Start(image, torch.full((1, 1, 40, 40), before), flow)
        after = ripened(engine, start)
        torch.testing.assert_close(after, torch.full((1, 1, 40, 40), before + times * gained))


def test_what_was_uncovered_is_dreamed_harder():
    def amount(catch_up):
        follow = {"memory": 0.0, "catch_up": catch_up, "settle": False}
        look = make_preset(dream=DREAM, follow=follow, color={"anchor": "none"})
        last = rendered(passing_block(), make_engine(look))[-1]
        return float(last.carry.residual[BEHIND].square().mean().sqrt())

    assert amount(3.0) > 1.3 * amount(0.0)


def test_nothing_trails_behind_what_moves():
    """Three frames after a strip was uncovered nothing of the block's own dream is left on it."""
    follow = {"steps": 0, "decay": 1.0, "memory": 0.0}
    look = make_preset(dream=DREAM, follow=follow, color={"anchor": "none"})
    *_, last = rendered(passing_block(start=30, count=14, speed=4), make_engine(look))
    residual = last.carry.residual
    on_the_block = residual[..., 24:48, 88:112].square().mean().sqrt()
    assert on_the_block > 1 / 255
    assert float(residual[BEHIND].square().mean().sqrt()) < 0.2 * float(on_the_block)


def test_a_settled_frame_takes_no_backward_pass_and_changes_nothing():
    engine = make_engine(make_preset(dream=DREAM, follow={"decay": 1.0, "memory": 0.0}))
    first, second = rendered(still_clip(2), engine)
    strong = replace(
        first.carry.gauge, energies=tuple((o, n, 1e-9) for o, n, _ in first.carry.gauge.energies)
    )
    quiet = replace(
        engine,
        preset=engine.preset.model_copy(
            update={"color": engine.preset.color.model_copy(update={"anchor": "none"})}
        ),
    )
    (found,) = rendered(
        still_clip(1), quiet, first_index=1, carry=replace(first.carry, gauge=strong)
    )
    torch.testing.assert_close(found.image, first.image, rtol=0, atol=1e-5)
    assert not torch.equal(second.image, first.image)


def test_the_strength_to_hold_is_learnt_again_when_the_objectives_change():
    gauge = rendered(still_clip(1))[0].carry.gauge
    source, terms = texture(48, 64), [LayerEnergy("second")]
    source = to_image(still_clip(1)[0])
    assert gauge.holds_for(terms, source, 1000)
    other = [LayerEnergy("second", weight=0.5), LayerEnergy("first", weight=0.5)]
    assert gauge.holds_for(other, source, 23)
    assert not gauge.holds_for(other, source, 24)
    assert not gauge.holds_for(terms, 0.5 + (source - 0.5) * 0.3, 24)


def test_the_strength_to_hold_is_learnt_again_where_a_curve_comes_to_rest(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "{objectives: [{layer: second}], dream: {octaves: 1, steps: 2}, strength: {0: 0.5, 2: 1}}"
    )
    engine = make_engine(preset.load(str(path)).resolved(30, 30))
    gauges = [frame.carry.gauge for frame in rendered(still_clip(30), engine)]
    targets = [gauge.targets for gauge in gauges]
    assert targets[0]
    assert not any(targets[1:26])
    assert targets[26]
    assert all(each == targets[26] for each in targets[27:])
    assert gauges[26].strength == 1


# ── a still clip, for a long time ──


def settled(count, engine):
    """The second half of a still clip's frames, all of them checked to stay in range."""
    frames = []
    for frame in render(still_clip(count), engine):
        assert 0 <= float(frame.image.min()) <= float(frame.image.max()) <= 1
        assert float(frame.carry.residual.abs().max()) <= 1
        frames.append(frame)
    return frames[count // 2 :]


def drift_of(frames, window):
    """Change of the mean brightness from the first to the last `window` frames, in levels."""
    images = [frame.image for frame in frames]
    return abs(mean_level(images[-window:]) - mean_level(images[:window]))


def growth_of(frames, window):
    strength = [float(frame.carry.residual.square().mean().sqrt()) for frame in frames]
    return np.mean(strength[-window:]) / np.mean(strength[:window])


def test_a_still_clip_keeps_its_brightness_and_the_dream_does_not_grow():
    frames = settled(40, make_engine(make_preset(dream=DREAM, follow={"decay": 0.9})))
    assert drift_of(frames, 5) < 1
    assert 0.8 < growth_of(frames, 5) < 1.2


@pytest.mark.slow
def test_a_still_clip_keeps_its_brightness_for_500_frames():
    """With the default decay, which takes some hundred frames to settle."""
    preset = make_preset("features.7", dream={**DREAM, "jitter": 8})
    frames = settled(500, Engine.build(preset, Fraction(25)))
    assert drift_of(frames, 50) < 1
    assert 0.8 < growth_of(frames, 50) < 1.2


def test_wild_settings_are_clamped_at_both_ends():
    wild = {"octaves": 1, "steps": 2, "step_size": 64.0, "chroma": 1.0, "limit": 0.0}
    preset = make_preset(dream=wild, color={"anchor": "none"}, follow={"effort": 4.0})
    for frame in rendered(panning_clip(4), make_engine(preset)):
        assert float(frame.image.min()) == 0
        assert float(frame.image.max()) == 1
        dreamed = frame.carry.source + frame.carry.residual
        assert -1e-6 < float(dreamed.min()) <= float(dreamed.max()) < 1 + 1e-6


# ── sizes ──


def test_the_scene_stays_sharp_when_the_dream_runs_smaller():
    clip = panning_clip(2, 64, 96)
    asleep = make_preset(**{**ASLEEP, "dream": {"steps": 0, "size": 32}})
    for frame, source in zip(rendered(clip, make_engine(asleep)), clip, strict=True):
        assert np.array_equal(to_array(frame.image), source)


def test_only_the_residual_is_enlarged():
    (source,) = panning_clip(1, 64, 96)
    engine = make_engine(make_preset(dream={**DREAM, "size": 32}))
    (frame,) = rendered([source], engine)
    assert frame.carry.residual.shape == (1, 3, 21, 32)
    assert frame.image.shape == (1, 3, 64, 96)
    enlarged = warp.resize(frame.carry.residual, (64, 96))
    assert torch.equal(frame.image, (to_image(source) + enlarged).clamp(0, 1))
    assert max(max(side) for side in engine.extractor.sides) == 32


def test_dream_size_limits_the_long_side_and_never_enlarges():
    assert dream_size((1080, 1920), 768) == (432, 768)
    assert dream_size((1920, 1080), 768) == (768, 432)
    assert dream_size((100, 50), 768) == (100, 50)
    assert dream_size((1080, 1920), "full") == (1080, 1920)
    assert dream_size((1, 5000), 100) == (1, 100)


def test_compose_clamps():
    assert torch.equal(compose(texture(8, 8), torch.ones(1, 3, 4, 4)), torch.ones(1, 3, 8, 8))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 40), (17, 13), (57, 101)])
def test_frames_of_any_size_are_rendered(size):
    clip = [to_array(texture(*size, seed=seed)) for seed in range(3)]
    for frame in rendered(clip):
        assert frame.image.shape == (1, 3, *size)
        assert bool(frame.image.isfinite().all())


def octave_warnings(caplog):
    return [r.getMessage() for r in caplog.records if "octaves" in r.getMessage()]


def test_octaves_under_the_networks_minimum_are_warned_of_in_one_line(caplog):
    engine = make_engine(make_preset(dream={"octaves": 6, "octave_scale": 2.0}))
    with caplog.at_level(logging.WARNING, "dreamflow"):
        warn_of_dropped_octaves(engine, (48, 64))
    (message,) = octave_warnings(caplog)
    assert "64x48" in message
    assert "6 octaves" in message
    assert "3 kept" in message
    assert "\n" not in message


def test_octaves_that_fit_are_not_warned_of(caplog):
    engine = make_engine(make_preset(dream={"octaves": 3, "octave_scale": 2.0}))
    with caplog.at_level(logging.WARNING, "dreamflow"):
        warn_of_dropped_octaves(engine, (48, 64))
    assert octave_warnings(caplog) == []


@pytest.mark.parametrize(("octaves", "words"), [(1, "set follow.octaves to 3 or more"), (3, "")])
def test_objectives_that_carried_frames_would_never_have_are_warned_of(caplog, octaves, words):
    preset = make_preset(follow={"octaves": octaves})
    coarse = preset.objectives[0].model_copy(update={"octaves": (2, 3)})
    objectives = (*preset.objectives, coarse)
    engine = make_engine(preset.model_copy(update={"objectives": objectives}))
    with caplog.at_level(logging.WARNING, "dreamflow"):
        warn_of_idle_objectives(engine)
    assert len(caplog.records) == (octaves < 3)
    assert words in caplog.text


# ── failures ──


def test_a_failed_source_reaches_the_caller_after_the_frames_before_it():
    def sources():
        yield from panning_clip(2)
        raise OSError("the disk is gone")

    frames = render(sources(), make_engine(make_preset(dream=DREAM)))
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(frames)
    assert list(frames) == []


def test_a_failed_dream_reaches_the_caller_and_names_its_frame():
    engine = make_engine(make_preset(dream=DREAM))
    frames = render(panning_clip(4), engine, first_index=10)
    next(frames)
    next(frames)
    engine.extractor.first.weight.fill_(torch.inf)
    with pytest.raises(BadMediaError, match=r"frame 12: .*second"):
        next(frames)
    assert list(frames) == []


def test_a_rate_is_per_second_not_per_frame():
    """At half the frame rate a frame keeps the square of its share of the dream."""
    shares = []
    for rate in (30, 15):
        preset = make_preset(
            dream=DREAM, follow={"steps": 0, "decay": 0.8}, color={"anchor": "none"}
        )  # fmt: skip
        first, second = rendered(still_clip(2), make_engine(preset, rate=Fraction(rate)))
        ratio = second.carry.residual.abs().mean() / first.carry.residual.abs().mean()
        shares.append(float(ratio))
    assert shares == pytest.approx([0.8, 0.64], abs=0.01)


def test_the_tiny_network_is_seeded():
    one, other = (TinyExtractor(seed=seed)(texture(16, 16))["second"] for seed in (0, 0))
    assert torch.equal(one, other)


# ── settings that move ──


def moving_engine(tmp_path, name="p.yaml", frame_count=4, first_index=0, **values):
    """An engine over a preset file whose settings are `values`, resolved for a render."""
    stages = {"dream": {**DREAM, **values}}
    path = tmp_path / name
    path.write_text(json.dumps({"objectives": [{"layer": "second"}], **stages}))
    moving = preset.load(str(path)).resolved(frame_count, 30)
    return replace(make_engine(moving), first_index=first_index)


def images(sources, engine, **options):
    return torch.cat([frame.image for frame in rendered(sources, engine, **options)])


def test_a_constant_curve_renders_the_same_bits_as_the_number(tmp_path):
    clip = panning_clip(4)
    plain = images(clip, moving_engine(tmp_path, step_size=1.5))
    assert torch.equal(images(clip, moving_engine(tmp_path, step_size="0:(1.5)")), plain)
    assert torch.equal(images(clip, moving_engine(tmp_path, step_size={"0": 1.5})), plain)


def test_a_moving_setting_counts_at_its_own_frame(tmp_path):
    clip = panning_clip(4)
    plain = images(clip, moving_engine(tmp_path, step_size=1.5))
    moved = images(clip, moving_engine(tmp_path, step_size="0:(1.5), 1:(1.5), 2:(6)"))
    assert torch.equal(moved[:2], plain[:2])
    assert not torch.equal(moved[2], plain[2])


def test_curves_count_from_the_first_output_frame_and_not_from_the_run(tmp_path):
    clip = panning_clip(4)
    values = {"step_size": "0:(1), 3:(8)"}
    whole = rendered(clip, moving_engine(tmp_path, first_index=10, **values), first_index=10)
    engine = moving_engine(tmp_path, first_index=10, **values)
    rest = rendered(clip[2:], engine, first_index=12, carry=whole[1].carry)
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.image, other.image)


def test_an_objective_without_weight_is_no_term_and_without_any_nothing_is_dreamed(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "objectives:\n  - {layer: first, weight: '0:(1), 2:(0)'}\n"
        "  - {layer: second, weight: '0:(0), 1:(1), 2:(0)'}\n"
        "color: {anchor: none}\nfollow: {flow: none}\n"
    )
    engine = make_engine(preset.load(str(path)).resolved(3, 30))
    layers = [[term.layer for term in engine.at(index).terms] for index in range(3)]
    assert layers == [["first"], ["first", "second"], []]
    clip = panning_clip(3)
    *_, last = rendered(clip[2:], engine, first_index=2)
    assert torch.equal(last.image, to_image(clip[2]))
    assert [o.weight for o in last.objectives] == [0, 0]


def film(tmp_path, text, count=4, clip=None):
    """The frames of a short clip in a preset over the embedded network."""
    path = tmp_path / "p.yaml"
    path.write_text(text + "dream: {octaves: 2, steps: 2, jitter: 4}\n")
    engine = Engine.build(preset.load(str(path)), Fraction(24), frame_count=count)
    return images(clip or panning_clip(count), engine)


def test_a_deeper_layer_without_weight_changes_no_bit(tmp_path):
    alone = film(tmp_path, "objectives: [{layer: fire3}]\n")
    weightless = film(tmp_path, "objectives: [{layer: fire3}, {layer: fire9, weight: '0*t'}]\n")
    assert torch.equal(alone, weightless)


def test_a_layer_that_leaves_is_not_computed_any_more(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "objectives:\n  - {layer: first}\n  - {layer: second, weight: '0:(1), 2:(0)'}\n"
    )
    engine = make_engine(preset.load(str(path)).resolved(4, 30))
    asked = []
    for _ in render(panning_clip(4), engine):
        asked.append(set().union(*engine.extractor.asked))
        engine.extractor.asked.clear()
    assert asked == [{"first", "second"}, {"first", "second"}, {"first"}, {"first"}]


FADE = """\
objectives:
  - {layer: fire4, weight: "12:(1), 36:(0)", ease: in-out}
  - {layer: fire6, weight: "12:(0), 36:(1)", ease: in-out}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "settle"), [(still_clip, "false"), (panning_clip, "false"), (panning_clip, "true")]
)
def test_a_cross_fade_of_two_layers_has_no_jump(tmp_path, recipe, settle):
    """A settled dream on a still clip rests in most frames: there is no usual change to exceed."""
    fade = f"{FADE}follow: {{settle: {settle}}}\n"
    frames = film(tmp_path, fade, 48, recipe(48, 72, 96))
    changes = (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3))
    assert float(changes.max()) < 2 * float(changes.median())
    faded, kept = (
        frames[-1],
        film(tmp_path, f"objectives: [{{layer: fire4}}]\nfollow: {{settle: {settle}}}\n", 48,
             recipe(48, 72, 96))[-1],
    )  # fmt: skip
    assert float((faded - kept).abs().mean()) > 2 / 255


def test_unknown_layers_are_all_named_where_they_were_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(
        "objectives:\n  - {layer: fire33}\n  - {cycle: [fire3, fir4], every: 4s, fade: 1s}\n"
    )
    with pytest.raises(PresetError) as caught:
        Engine.build(preset.load("p.yaml", overrides=["objectives.0.layer=x"]), Fraction(24))
    first, second = str(caught.value).split("\n")
    assert first.startswith("--set objectives.0.layer: unknown layer 'x' of squeezenet1_1 (nearest")
    assert second.startswith("p.yaml:3:21: objectives.2.layer: unknown layer 'fir4' of squeezenet1")
    assert second.endswith("; `dreamflow layers squeezenet1_1` lists all)")


def test_an_unknown_network_is_named_where_it_was_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("network: vgg61\nobjectives: [{layer: x}]\n")
    with pytest.raises(
        PresetError, match=r"^p\.yaml:1:10: network: unknown network 'vgg61' \(near"
    ):
        Engine.build(preset.load("p.yaml"), Fraction(24))


# ── frames between dreamed ones ──


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9])
def test_every_frame_of_a_clip_comes_out_once_at_any_cadence(count):
    engine = make_engine(make_preset(dream=DREAM, cadence=3))
    assert [frame.index for frame in rendered(panning_clip(count), engine)] == list(range(count))


def test_no_frame_left_out_of_the_dreaming_shows_its_raw_source():
    """Strobing: a gap carries about as much of the dream as the frames on both its sides."""
    clip = panning_clip(9)
    frames = rendered(clip, make_engine(make_preset(dream=DREAM, cadence=4)))
    amounts = [
        float((frame.image - to_image(source)).abs().mean())
        for frame, source in zip(frames, clip, strict=True)
    ]
    for gap in (amounts[0:5], amounts[4:9]):
        assert min(gap[1:4]) > 0.8 * min(gap[0], gap[4])


def test_frames_left_out_keep_their_own_source_sharp():
    """With a dream of nothing, what comes out is the source itself, not a mix of its neighbours."""
    clip = panning_clip(5)
    frames = rendered(clip, make_engine(make_preset(**ASLEEP, cadence=4)))
    for frame, source in zip(frames, clip, strict=True):
        assert np.array_equal(to_array(frame.image), source)


def test_only_every_nth_frame_of_a_clip_is_dreamed():
    engine = make_engine(make_preset(dream=DREAM, cadence=4))
    frames = rendered(still_clip(9), engine)
    assert [frame.carry.index for frame in frames] == [0, 0, 0, 0, 4, 4, 4, 4, 8]


def test_a_cut_within_a_gap_blends_nothing_across_it():
    """Each side of it is followed to the neighbour on its own side."""
    one, other = to_array(texture(48, 64, seed=1)), to_array(texture(48, 64, seed=2))
    clip = [one, one, one, other, other]
    frames = rendered(clip, make_engine(make_preset(dream=DREAM, cadence=4)))
    residuals = [frame.image - to_image(source) for frame, source in zip(frames, clip, strict=True)]
    near = float((residuals[1] - residuals[0]).abs().mean())
    far = float((residuals[3] - residuals[0]).abs().mean())
    assert near < 0.5 * far


# ── a camera over a clip ──


def test_the_dream_zooms_over_a_clip_that_stands_still():
    """Without new dreaming a residual runs away from the centre; the scene stays."""
    still = {"dream": {"steps": 0}, "follow": {"steps": 0, "flow": "none", "decay": 1.0}}
    look = make_preset(**still, color={"anchor": "none"}, camera={"zoom": 1.05})
    source = to_image(np.full((64, 64, 3), 100, np.uint8))
    residual = torch.zeros(1, 3, 64, 64)
    residual[..., 30:34, 42:46] = 0.4
    clip = [np.full((64, 64, 3), 100, np.uint8)] * 8
    for cadence in (1, 3):
        engine = make_engine(look.model_copy(update={"cadence": cadence}))
        frames = rendered(clip, engine, first_index=1, carry=Carry(0, source, residual))
        for frame in frames:
            row, column = divmod(int((frame.image - source)[0, 0].argmax()), 64)
            assert abs(column - (31.5 + 12 * 1.05**frame.index)) <= 2.5
            assert abs(row - 31.5) <= 2.5
            assert float(frame.image[..., :8, :8].std()) < 1e-3


def test_a_camera_that_stands_changes_nothing():
    clip = panning_clip(4)
    plain = rendered(clip)
    standing = rendered(clip, make_engine(make_preset(dream=DREAM, camera={"center_x": 0.1})))
    for one, other in zip(plain, standing, strict=True):
        assert torch.equal(one.image, other.image)
