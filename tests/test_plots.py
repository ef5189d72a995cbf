"""Plots: what is drawn is what the preset does, whatever is in the preset."""

from __future__ import annotations

import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageColor

from dreamflow import plots, preset
from dreamflow.cli import run
from dreamflow.errors import UsageError
from dreamflow.frames import Moment
from dreamflow.plots import COLORS, Span, Timeline, plot, strip
from dreamflow.preset import Preset
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.stills import read_still

RATE = Fraction(30)


def make_preset(*overrides: str) -> Preset:
    return preset.load("base", overrides=overrides)


def timeline(*overrides: str, frames: int = 60) -> Timeline:
    return Timeline.of(make_preset(*overrides), frames, RATE)


def curve_row(picture: np.ndarray, lane: plots.Lane, column: int) -> int:
    """The highest row of a lane at which a column has the lane's own colour."""
    ink = np.array(ImageColor.getrgb(lane.colors[0]))
    part = picture[lane.top : lane.top + lane.height, column].astype(int)
    near = np.flatnonzero(abs(part - ink).max(axis=1) < 60)
    assert near.size, f"nothing drawn in column {column}"
    return int(near[0])


def measured(span: Span, *overrides: str) -> tuple[int, Fraction]:
    info = span.measure(make_preset(*overrides), max_pixels=MAX_PIXELS)
    return info.frame_count, info.rate


# ── what moves ───────────────────────────────────────────────────────────────────────────────────


def test_tracks_hold_the_numbers_that_a_render_uses():
    overrides = ("dream.jitter=0:(4), 59:(30)", "objectives.0.weight=1-t/100")
    line, resolved = timeline(*overrides), make_preset(*overrides).resolved(60, RATE)
    (jitter,) = line.moving
    assert (jitter.key, jitter.unit) == ("dream.jitter", "px")
    for frame in (0, 17, 59):
        now = resolved.at(frame)
        assert jitter.values[frame] == now.dream.jitter
        assert line.weights[0].values[frame] == now.objectives[0].weight


def test_what_does_not_move_is_listed_with_its_unit_and_what_moves_is_not():
    constants = dict(timeline("dream.steps=0:(1), 9:(4)").constants)
    assert constants["dream.jitter"] == "8 px"
    assert constants["dream.tile"] == "auto"
    assert constants["follow.decay"] == "0.999 per frame at 30 fps"
    assert "dream.steps" not in constants
    assert "audio" not in constants  # empty


def test_layers_that_come_twice_are_told_apart():
    twice = "objectives=[{layer: fire6}, {layer: fire6, octaves: [0, 1]}, {layer: fire8}]"
    names = [track.key for track in timeline(twice).weights]
    assert names == ["fire6 (1)", "fire6 @0,1 (2)", "fire8"]


def test_of_the_sound_only_what_is_listened_to_is_shown():
    sound = {name: np.linspace(0, 1, 60) for name in plots.SOUND_NAMES}
    listening = make_preset("dream.step_size=1+audio.bass")
    assert set(Timeline.of(listening, 60, RATE, sound).sound) == {"audio.bass"}


# ── the picture ──────────────────────────────────────────────────────────────────────────────────


def test_a_curve_that_rises_is_drawn_rising():
    lanes = strip(timeline("dream.step_size=0:(1), 59:(3)"), 600, "measured")
    lane = lanes.lanes[1]
    assert lane.label == "dream.step_size"
    columns = [lanes.column(frame, 60) for frame in (10, 30, 50)]
    rows = [curve_row(lanes.picture, lane, column) for column in columns]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] - rows[2] > lane.height / 3


def test_a_single_frame_that_stands_out_of_a_hundred_thousand_is_seen():
    spike = timeline("dream.step_size=where(t==77777,9,1)", frames=100_000)
    lanes = strip(spike, 800, "measured")
    lane, at = lanes.lanes[1], lanes.column(77_777, 100_000)
    around = [curve_row(lanes.picture, lane, column) for column in range(at - 2, at + 3)]
    assert min(around) < lane.height / 3
    assert curve_row(lanes.picture, lane, at - 40) > lane.height / 2


def test_stacked_layers_fill_their_lane_in_their_own_colours():
    both = "objectives=[{layer: fire6, weight: 1}, {layer: fire8, weight: 1}]"
    lanes = strip(timeline(both), 600, "measured")
    lane = lanes.lanes[0]
    column = lanes.picture[lane.top : lane.top + lane.height, lanes.column(30, 60)].astype(int)
    first, second = (np.array(ImageColor.getrgb(color)) for color in COLORS[:2])
    assert abs(column[-8] - first).max() < 60
    assert abs(column[12] - second).max() < 60


def test_with_nothing_moving_the_picture_says_so():
    assert timeline().nothing_moves
    still, moving = plot(timeline(), "base"), plot(timeline("dream.chroma=t/60"), "base")
    title = slice(122, 146)  # rows of the first panel's title, its right half
    assert (still[title, 800:] > 100).any()
    assert not (moving[title, 800:] > 100).any()
    assert moving.shape[0] > still.shape[0]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_renders_of_a_few_frames_can_be_plotted(frames):
    line = timeline("dream.chroma=0:(0), 1:(1)", frames=frames)
    assert plot(line, "short").shape[1] == 1600
    assert strip(line, 600, "measured").picture.shape[1] == 600


@pytest.mark.parametrize("text", ["$\\frac{", "$x$ 日本 \x07", "_hidden", "w" * 3000, "%s {0}"])
def test_words_of_strangers_are_drawn_as_they_are(text):
    line = timeline("dream.chroma=0.5+0*t")
    assert plot(line, text, text).shape == plot(line, "plain", "plain").shape


def test_layers_that_suppress_are_drawn_below_nought():
    both = "objectives=[{layer: fire6, weight: 1}, {layer: fire8, weight: -1}]"
    lanes = strip(timeline(both), 600, "measured")
    lane = lanes.lanes[0]
    column = lanes.picture[lane.top : lane.top + lane.height, lanes.column(30, 60)].astype(int)
    rows = [
        int(abs(column - np.array(ImageColor.getrgb(color))).max(axis=1).argmin())
        for color in COLORS[:2]
    ]
    assert rows[0] < lane.height / 2 < rows[1]


# ── how long ─────────────────────────────────────────────────────────────────────────────────────


def test_the_length_is_that_asked_for_else_past_the_last_key():
    assert measured(Span(frames=7)) == (7, 30)
    assert measured(Span(duration=Moment.parse("2.5"), rate=Fraction(24))) == (60, 24)
    assert measured(Span()) == (300, 30)
    frames, _ = measured(Span(), "dream.chroma=0:(0), 20s:(1)")
    assert 600 < frames < 900


def test_a_clip_lends_its_length_and_rate(clip_path):
    assert measured(Span(clip=clip_path)) == (24, Fraction(24000, 1001))


@pytest.mark.parametrize(
    "span",
    [
        Span(frames=3, duration=Moment.parse("1")),
        Span(duration=Moment.parse("0")),
        Span(duration=Moment.parse("100:00:00"), rate=Fraction(1000)),
    ],
)
def test_lengths_that_make_no_sense_are_refused(span):
    with pytest.raises(UsageError, match=r"give one of|cannot plot"):
        measured(span)


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_the_command_writes_a_picture_and_keeps_what_is_there(tmp_path, capsys):
    output = tmp_path / "plot.png"
    words = ["presets", "plot", "base", "-o", str(output), "-s", "dream.chroma=t/99"]
    assert run([*words, "--frames", "50"]) == 0
    assert read_still(output).shape[1] == 1600
    assert run(words) == 73
    assert run([*words, "-y"]) == 78  # 1 is left behind before the 10 s are over
    assert "it must be" in capsys.readouterr().err
    assert read_still(output).shape[1] == 1600


def test_a_preset_that_listens_is_plotted_with_a_clip_and_refused_without(
    clip_path, tmp_path, capsys
):
    words = ["presets", "plot", "base", "-o", str(tmp_path / "plot.png")]
    words += ["-s", "dream.step_size=1+audio.rms"]
    assert run(words) == 2
    assert "dream.step_size listens to a sound ('1+audio.rms')" in capsys.readouterr().err
    assert run([*words, "--input", str(clip_path)]) == 0


def test_a_preset_is_plotted_with_the_sound_file_that_is_named(clip_path, tmp_path, capsys):
    sound = tmp_path / "sound.mp4"
    shutil.copy(clip_path, sound)
    words = ["presets", "plot", "base", "-o", str(tmp_path / "a.png"), "--audio", str(sound)]
    assert run([*words, "-s", "dream.step_size=1+audio.rms", "--frames", "9"]) == 0
    assert read_still(tmp_path / "a.png").shape[1] == 1600
    assert run(["presets", "plot", "base", "-o", str(tmp_path / "c.png"), "--audio", "x.wav"]) == 0
    assert "--audio changes nothing" in capsys.readouterr().err
    words = ["presets", "plot", "base", "-y", "-o", str(sound), "--audio", str(sound)]
    assert run(words) != 0
    assert sound.read_bytes() == clip_path.read_bytes()


@pytest.mark.parametrize(
    ("words", "code"),
    [(["bsae"], 78), (["base", "--input", "missing.mp4"], 66), (["base", "--fps", "0"], 2)],
)
def test_wrong_calls_have_their_codes(words, code, tmp_path):
    assert run(["presets", "plot", *words, "-o", str(tmp_path / "plot.png")]) == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import dreamflow.cli, dreamflow.job", "matplotlib"),
        ("import dreamflow.plots", "torch"),
        ("import dreamflow.preview", "matplotlib.pyplot"),
    ],
)
def test_nothing_heavy_is_loaded_where_it_is_not_needed(program, absent):
    check = f"{program}, sys; assert {absent!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=Path(plots.__file__).parents[1])
