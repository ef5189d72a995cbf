"""Measures of films whose answers are known beforehand, and the files and words they come in."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tiny

from dreamflow import job, measure, preset, report, shots
from dreamflow.errors import UsageError
from dreamflow.frames import Array, Moment, to_array
from dreamflow.measure import LAGS, Measurement, MeasureRequest, Meter, Summary
from dreamflow.settings import Output
from dreamflow.video import ffmpeg, writer
from dreamflow.video.reader import open_clip

RATE = Fraction(25)
HEIGHT, WIDTH, SPEED = 120, 200, 2


def pan(count: int, seed: int = 0) -> list[Array]:
    """A textured scene that moves `SPEED` pixels to the left in each frame."""
    scene = to_array(tiny.texture(HEIGHT, WIDTH + SPEED * count, seed=seed, sigma=2))
    return [scene[:, SPEED * i : SPEED * i + WIDTH] for i in range(count)]


def pattern(width: int) -> np.ndarray:
    """What is dreamed: waves of 16 levels."""
    y, x = np.indices((HEIGHT, width))
    return (16 * np.sin(x / 1.7) * np.cos(y / 2.3))[..., None]


def plus(frame: Array, dream: np.ndarray | float) -> Array:
    return np.clip(frame + np.round(dream), 0, 255).astype(np.uint8)


def stuck_to_the_scene(frames: list[Array]) -> list[Array]:
    whole = pattern(WIDTH + SPEED * len(frames))
    return [plus(f, whole[:, SPEED * i : SPEED * i + WIDTH]) for i, f in enumerate(frames)]


def stuck_to_the_screen(frames: list[Array]) -> list[Array]:
    return [plus(frame, pattern(WIDTH)) for frame in frames]


def noisy(frames: list[Array]) -> list[Array]:
    random = np.random.default_rng(0)
    return [plus(frame, random.normal(0, 12, frame.shape)) for frame in frames]


def measured(source: Iterable[Array], output: Iterable[Array]) -> Meter:
    meter = Meter(RATE)
    for marked, dreamed in zip(shots.mark(source, "auto", RATE), output, strict=True):
        meter.add(marked, dreamed)
    return meter


# ── flicker ──────────────────────────────────────────────────────────────────────────────────────


def test_a_dream_that_sticks_to_the_scene_does_not_flicker():
    frames = pan(10)
    for lag in LAGS:
        assert measure.flicker(frames, stuck_to_the_scene(frames), lag) < 0.03


def test_a_dream_that_stays_on_the_screen_while_the_camera_pans_flickers():
    frames = pan(10)
    assert measure.flicker(frames, stuck_to_the_screen(frames), 1) > 0.9


def test_on_a_still_scene_a_still_dream_does_not_flicker():
    frames = [pan(1)[0]] * 8
    assert measure.flicker(frames, stuck_to_the_screen(frames), 1) == pytest.approx(0, abs=1e-3)


def test_noise_flickers_by_the_root_of_two():
    frames = [pan(1)[0]] * 8
    for lag in LAGS:
        assert measure.flicker(frames, noisy(frames), lag) == pytest.approx(math.sqrt(2), abs=0.03)


def test_flicker_is_relative_to_the_strength_of_the_dream():
    frames = pan(8)
    faint = [plus(f, pattern(WIDTH) / 2) for f in frames]
    strong = measure.flicker(frames, stuck_to_the_screen(frames), 1)
    assert measure.flicker(frames, faint, 1) == pytest.approx(strong, rel=0.1)


def test_a_tint_is_no_dream():
    frames = pan(8)
    tinted = [plus(f, 10 * (i % 2)) for i, f in enumerate(frames)]
    meter = measured(frames, tinted)
    assert sum(pair.energy for f in meter.frames if (pair := f.pairs[0])) < 1


def test_what_changes_at_a_cut_is_no_flicker():
    frames = pan(8, seed=1) + pan(8, seed=2)
    output = stuck_to_the_scene(frames[:8]) + stuck_to_the_scene(frames[8:])
    meter = measured(frames, output)
    missing = [f.index for f in meter.frames if f.pairs[0] is None]
    assert missing == [0, 8]
    assert [f.index for f in meter.frames if f.pairs[1] is None] == [*range(5), *range(8, 13)]
    assert Summary.of_film(meter.frames).flicker[0] < 0.15  # type: ignore[operator]
    assert [f.shot for f in meter.frames] == [1] * 8 + [2] * 8


def test_an_output_like_its_source_has_no_flicker_to_speak_of():
    frames = pan(6)
    assert measured(frames, frames).frames[5].flicker(1) is None
    with pytest.raises(ValueError, match="nothing to compare"):
        measure.flicker(frames, frames, 1)


def test_flicker_is_counted_only_where_motion_can_be_followed():
    meter = measured(frames := pan(6), stuck_to_the_scene(frames))
    shares = [pair.followed for f in meter.frames if (pair := f.pairs[1])]
    assert all(0.5 < share < 1 for share in shares)  # what came in at the side cannot be


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (48, 48)])
def test_small_pictures_are_measured(size):
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (*size, 3), np.uint8) for _ in range(3)]
    assert len(measured(frames, frames).frames) == 3


# ── change, colour, drift ────────────────────────────────────────────────────────────────────────


def test_change_is_the_root_mean_square_of_the_difference():
    frames = [np.full((HEIGHT, WIDTH, 3), 100, np.uint8)] * 2
    meter = measured(frames, [plus(frame, 12) for frame in frames])
    assert meter.frames[0].change == pytest.approx(12, abs=1e-3)
    assert meter.frames[0].shift.brightness == pytest.approx(12, abs=1e-3)


def test_drift_is_how_far_brightness_rises_over_the_shot():
    frames = [np.full((HEIGHT, WIDTH, 3), 100, np.uint8)] * 11
    meter = measured(frames, [plus(frame, 2 * i) for i, frame in enumerate(frames)])
    drift = Summary.of_shot(meter.frames).drift
    assert drift.brightness == pytest.approx(20, abs=0.01)
    assert 5 < drift.lightness < 10
    assert abs(drift.a) + abs(drift.b) < 0.1


def test_drifts_of_shots_do_not_cancel():
    one, other = pan(8, seed=1), pan(8, seed=2)
    output = [plus(f, i) for i, f in enumerate(one)] + [plus(f, -i) for i, f in enumerate(other)]
    assert Summary.of_film(measured(one + other, output).frames).drift.brightness > 6


def test_a_colour_cast_is_told_from_brightness():
    frames = [np.full((HEIGHT, WIDTH, 3), 128, np.uint8)] * 2
    shift = measured(frames, [plus(f, np.array([20, -10, 0])) for f in frames]).frames[0].shift
    assert shift.a > 5
    assert abs(shift.lightness) < 2


def test_clipped_pixels_are_counted():
    frame = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    output = frame.copy()
    output[: HEIGHT // 4, :, 1] = 255
    output[-HEIGHT // 4 :, :, 2] = 0
    assert measured([frame], [output]).frames[0].clipped == pytest.approx(0.5)


# ── strength ─────────────────────────────────────────────────────────────────────────────────────


def test_strength_is_the_ratio_of_mean_square_activations():
    engine = tiny.make_engine(tiny.make_preset())
    frame = pan(1)[0]
    assert measure.strength(engine, 0, frame, frame) == 1
    grey = np.full_like(frame, 128)
    expected = 1 / measure.strength(engine, 0, grey, frame)
    assert measure.strength(engine, 0, frame, grey) == pytest.approx(expected)


def test_layers_count_by_their_weight():
    both = {"objectives": ({"layer": "first", "weight": 3}, {"layer": "second"})}
    engines = [
        tiny.make_engine(tiny.make_preset(**stages))
        for stages in ({"layer": "first"}, {"layer": "second"}, both)
    ]
    frame = pan(1)[0]
    first, second, mixed = (measure.strength(e, 0, frame, 255 - frame) for e in engines)
    assert mixed == pytest.approx((3 * first + second) / 4)


# ── the worst ────────────────────────────────────────────────────────────────────────────────────


def test_the_frames_that_flicker_most_are_kept_apart_from_each_other():
    frames = [pan(1)[0]] * 60
    output = stuck_to_the_screen(frames)
    for index, size in ((20, 20.0), (22, 40.0), (45, 30.0)):
        output[index] = noisy([plus(frames[0], size * pattern(WIDTH) / 16)])[0]
    worst = measured(frames, output).worst
    assert [bad.frame.index for bad in worst[:2]] in ([22, 45], [45, 22], [23, 45], [23, 46])
    indices = sorted(bad.frame.index for bad in worst)
    assert all(later - earlier >= 12.5 for earlier, later in itertools.pairwise(indices))
    assert worst[0].output.shape[1] == measure.THUMBNAIL


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def write(path: Path, frames: list[Array], rate: Fraction = RATE) -> Path:
    height, width, _ = frames[0].shape
    settings = Output(crf=1)
    codec = writer.codec_for(path, settings)
    draft = path.with_suffix(".draft")
    with writer.Encoder(
        draft, codec, width=width, height=height, rate=rate, settings=settings
    ) as encoder:
        for frame in frames:
            encoder.write(np.ascontiguousarray(frame))
    writer.join([draft], path, codec, frame_count=len(frames), rate=rate)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("measure") / "source.mkv", pan(8, 1) + pan(8, 2))


@pytest.fixture(scope="module")
def output(source: Path) -> Path:
    with open_clip(source) as clip:
        frames = [frame.copy() for frame in clip.frames()]
    dreamed = stuck_to_the_scene(frames[:8]) + stuck_to_the_screen(frames[8:])
    return write(source.with_name("output.mkv"), dreamed)


def finish(request: MeasureRequest) -> Measurement:
    last = list(measure.measure(request))[-1]
    assert isinstance(last, Measurement)
    return last


@pytest.fixture(scope="module")
def measurement(source: Path, output: Path) -> Measurement:
    return finish(MeasureRequest(source, output, threads=1))


def test_a_film_is_measured_shot_by_shot(measurement):
    steady, swimming = measurement.shots
    assert steady.frames == swimming.frames == 8
    assert steady.flicker[0] < 0.15 < 0.8 < swimming.flicker[0]
    assert steady.flicker[0] < measurement.film.flicker[0] < swimming.flicker[0]


def test_a_file_without_settings_is_measured_but_for_its_strength(source, output, caplog):
    assert finish(MeasureRequest(source, output, threads=1)).film.strength is None
    assert "give --preset" in caplog.text


def test_the_json_holds_film_and_shots(measurement):
    found = json.loads(measurement.as_json())
    assert [shot["first"] for shot in found["shots"]] == [0, 8]
    assert found["film"]["flicker_1"] == pytest.approx(measurement.film.flicker[0])
    assert found["film"]["strength"] is None


def test_the_csv_has_a_line_for_each_frame(measurement):
    rows = list(csv.DictReader(measurement.as_csv().splitlines()))
    assert [int(row["frame"]) for row in rows] == list(range(16))
    assert rows[0]["flicker_1"] == ""
    assert float(rows[1]["flicker_1"]) == pytest.approx(measurement.frames[1].flicker(1))


def test_the_table_ends_with_the_whole_film(measurement):
    rows = report.table(measurement)
    assert [row[0] for row in rows] == ["shot", "1", "2", "all"]
    assert len({len(row) for row in rows}) == 1


def test_the_plot_is_a_picture_with_curves_and_frames(measurement):
    picture = report.draw(measurement)
    height, width, _ = picture.shape
    assert width == 1408
    assert picture[-height // 4 :, : width // 3].std() > 10  # thumbnails
    assert len(np.unique(picture[: height // 2].reshape(-1, 3), axis=0)) > 50


def test_a_scaled_output_is_compared_with_the_scaled_source(source, output, tmp_path):
    small = tmp_path / "small.mkv"
    ffmpeg.run([ffmpeg.Input(output), "-vf", "scale=100:60", ffmpeg.output_name(small)])
    found = finish(MeasureRequest(source, small, threads=1))
    assert found.film.frames == 16
    assert found.film.change < 16


def test_what_the_encoder_padded_is_left_out(tmp_path):
    frames = [frame[:119, :199] for frame in pan(3)]
    odd = write(tmp_path / "odd.mkv", frames)
    even = write(tmp_path / "even.mp4", frames)
    with open_clip(even) as clip:
        assert (clip.info.width, clip.info.height) == (200, 120)
    assert finish(MeasureRequest(odd, even, threads=1)).film.change < 3


def test_a_part_of_the_source_is_named_by_start_and_end(source, output, tmp_path):
    with open_clip(output) as clip:
        part = write(tmp_path / "part.mkv", list(clip.frames())[4:12])
    start, end = (Moment(Fraction(place), in_frames=True) for place in (4, 12))
    found = finish(MeasureRequest(source, part, start=start, end=end, threads=1))
    assert [frame.index for frame in found.frames] == list(range(4, 12))
    with pytest.raises(UsageError, match=r"16 frames at 25 fps.* 8 at 25"):
        finish(MeasureRequest(source, part))


def test_other_rates_and_shapes_are_refused(source, tmp_path):
    slow = write(tmp_path / "slow.mkv", pan(16), Fraction(24))
    with pytest.raises(UsageError, match="16 at 24"):
        finish(MeasureRequest(source, slow))
    square = write(tmp_path / "square.mkv", [frame[:, :72] for frame in pan(16)])
    with pytest.raises(UsageError, match="different shapes"):
        finish(MeasureRequest(source, square))


@pytest.mark.slow
def test_a_render_carries_the_preset_its_strength_is_measured_with(tmp_path):
    source = write(tmp_path / "source.mkv", pan(3))
    overrides = ["dream.steps=4", "dream.octaves=1", "objectives=[{layer: fire2}]"]
    chosen = preset.load("base", overrides=overrides)
    target = tmp_path / "dream.mp4"
    for _ in job.render_video(job.VideoRequest(source, str(target), chosen, threads=1)):
        pass
    found = finish(MeasureRequest(source, target, threads=1))
    assert found.film.strength is not None
    assert found.film.strength > 1.2
    given = finish(MeasureRequest(source, target, chosen, threads=1))
    assert given.film.strength == pytest.approx(found.film.strength)
