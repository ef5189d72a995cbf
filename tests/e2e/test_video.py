"""A clip goes in, a dream comes out: what the user of the command gets."""

from __future__ import annotations

import json
import os
from fractions import Fraction

import numpy as np
import pytest

from dreamflow.video import ffmpeg
from dreamflow.video.ffmpeg import Input
from dreamflow.video.probe import probe
from dreamflow.video.reader import open_clip


def frames_of(path):
    with open_clip(path) as clip:
        return list(clip.frames())


def packets_of(path):
    """Size and checksum of every packet of the first sound stream."""
    ran = ffmpeg.run([Input(path), *("-map", "0:a:0", "-c", "copy", "-f", "framecrc", "-")])
    lines = ran.stdout.decode().splitlines()
    return [line.split(",")[4:6] for line in lines if not line.startswith("#")]


# ── one render, seen from all sides ──


def test_the_render_succeeds_and_leaves_one_file(rendered):
    folder, ran = rendered
    assert (ran.returncode, ran.stderr) == (0, "")
    assert os.listdir(folder) == ["out.mp4"]


def test_count_rate_size_and_duration_are_those_of_the_source(rendered, short_clip):
    made, source = probe(rendered[0] / "out.mp4"), probe(short_clip)
    assert made.rate == source.rate == Fraction(24000, 1001)
    assert made.frame_count == source.frame_count == 3
    assert made.duration == source.duration
    assert (made.width, made.height, made.codec) == (96, 64, "h264")


def test_sound_is_bit_identical_and_keeps_its_offset(rendered, short_clip):
    made, source = probe(rendered[0] / "out.mp4"), probe(short_clip)
    assert packets_of(rendered[0] / "out.mp4") == packets_of(short_clip) != []
    offset = source.sounds[0].start - source.start
    assert abs(made.sounds[0].start - made.start - offset) < Fraction(1, 1000)


def test_the_output_carries_all_four_colour_tags(rendered):
    color = probe(rendered[0] / "out.mp4").color
    assert (color.matrix, color.primaries, color.transfer, color.range) == (
        *("bt709", "bt709", "bt709"),
        "tv",
    )


def test_every_frame_is_dreamed(rendered, short_clip):
    for made, source in zip(frames_of(rendered[0] / "out.mp4"), frames_of(short_clip), strict=True):
        assert np.abs(made.astype(int) - source).mean() > 1


def test_the_events_are_one_json_object_a_line(rendered):
    events = [json.loads(line) for line in rendered[1].stdout.splitlines()]
    assert [event["event"] for event in events] == ["started", *["frame"] * 3, "finished"]
    assert events[0]["rate"] == "24000/1001"
    assert [event["index"] for event in events[1:4]] == [0, 1, 2]
    assert [event["from_scratch"] for event in events[1:4]] == [True, False, False]
    assert events[3]["seconds_left"] == 0
    assert events[4]["output"] == "out.mp4"


def test_what_show_prints_makes_the_bit_identical_video_again(
    rendered, dreamflow, short_clip, tmp_path
):
    made = rendered[0] / "out.mp4"
    shown = dreamflow("show", made, "--preset", cwd=tmp_path)
    (tmp_path / "again.yaml").write_text(shown.stdout)
    words = ("-p", "again.yaml", "--threads", "2", "-o", "again.mp4")
    assert dreamflow("video", short_clip, *words, cwd=tmp_path).returncode == 0
    assert np.array_equal(frames_of(tmp_path / "again.mp4"), frames_of(made))


def test_another_seed_is_another_take(rendered, dreamflow, short_clip, tmp_path):
    words = (*dreamflow.quick, "--seed", "1", "-o", "other.mp4")
    assert dreamflow("video", short_clip, *words, cwd=tmp_path).returncode == 0
    pairs = zip(frames_of(tmp_path / "other.mp4"), frames_of(rendered[0] / "out.mp4"), strict=True)
    assert all(not np.array_equal(other, made) for other, made in pairs)


# ── slower ones ──


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60"])
@pytest.mark.parametrize("frames", [1, 5])
def test_any_rate_and_a_single_frame_keep_count_time_and_sound(
    dreamflow, media, tmp_path, rate, frames
):
    clip = media.draw(
        "rate.mp4",
        *("-f", "lavfi", "-i", f"testsrc2=s=96x64:r={rate},trim=end_frame={frames}"),
        *("-f", "lavfi", "-i", "sine=d=0.1"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"),
    )
    ran = dreamflow("video", clip, "-o", "out.mp4", *dreamflow.quick, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    made, source = probe(tmp_path / "out.mp4"), probe(clip)
    assert made.rate == source.rate == Fraction(rate)
    assert made.frame_count == source.frame_count == frames
    assert abs(made.duration - source.duration) < Fraction(1, 1000)
    assert packets_of(tmp_path / "out.mp4") == packets_of(clip) != []


PATCHES = ("red", "green", "blue", "gray", "orange", "0x20A0C0")
TAGS = {
    "smpte170m": ("smpte170m", ["-colorspace", "smpte170m", "-color_range", "tv"]),
    "bt709": ("bt709", ["-colorspace", "bt709", "-color_range", "tv"]),
    "untagged": ("smpte170m", []),  # of this size, players take it for 601
}


@pytest.mark.slow
@pytest.mark.parametrize("tagging", TAGS)
def test_without_steps_flat_colours_come_back_within_two_levels(
    dreamflow, media, tmp_path, tagging
):
    matrix, tags = TAGS[tagging]
    inputs = [f"color={color}:s=32x64:r=25:d=0.12,format=gbrp" for color in PATCHES]
    stacked = ";".join(f"{source}[p{n}]" for n, source in enumerate(inputs))
    labels = "".join(f"[p{n}]" for n in range(len(inputs)))
    graph = (
        f"{stacked};{labels}hstack={len(inputs)},"
        f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv444p"
    )
    clip = media.draw(
        f"patches_{tagging}.mp4",
        *("-f", "lavfi", "-i", graph, "-frames:v", "3", "-c:v", "libx264", "-qp", "0", *tags),
    )
    still = ("-s", "dream.steps=0", "-s", "follow.steps=0", "-s", "output.crf=1")
    ran = dreamflow("video", clip, "-o", "out.mp4", *still, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    wanted = [(255, 0, 0), (0, 128, 0), (0, 0, 255), (128, 128, 128), (255, 165, 0), (32, 160, 192)]
    for frame in frames_of(tmp_path / "out.mp4"):
        for place, color in enumerate(wanted):
            patch = frame[16:48, place * 32 + 8 : place * 32 + 24].astype(int)
            assert np.abs(patch - color).max() <= 2


@pytest.mark.slow
def test_a_shown_preset_makes_the_bit_identical_video(dreamflow, short_clip, tmp_path):
    change = ("-s", "dream.octaves=1", "-s", "dream.steps=2", "-s", "follow.steps=1")
    shown = dreamflow("presets", "show", "base", *change, cwd=tmp_path)
    (tmp_path / "f.yaml").write_text(shown.stdout)
    for words in (("-p", "f.yaml", "-o", "a.mp4"), (*change, "-o", "b.mp4")):
        assert dreamflow("video", short_clip, *words, cwd=tmp_path).returncode == 0
    assert np.array_equal(frames_of(tmp_path / "a.mp4"), frames_of(tmp_path / "b.mp4"))


MOVING = """\
extends: base
objectives:
  - {layer: fire4, weight: "0:(0), 2:(1)", ease: in-out}
  - {cycle: [fire3, fire5, fire6], every: 2, fade: 1, weight: 0.5+t/9}
  - {layer: fire2, octaves: [1]}
dream: {octaves: 2, steps: 2, octave_scale: {0: 1.4, 100%: 1.8}, step_size: "2+sin(sec)"}
follow: {steps: 1}
"""


@pytest.mark.slow
def test_a_moving_preset_as_it_is_shown_makes_the_bit_identical_video(
    dreamflow, short_clip, tmp_path
):
    (tmp_path / "a.yaml").write_text(MOVING)
    shown = dreamflow("presets", "show", "a.yaml", cwd=tmp_path)
    (tmp_path / "b.yaml").write_text(shown.stdout)
    for name in "ab":
        words = ("-p", f"{name}.yaml", "-o", f"{name}.mkv", "--threads", "2")
        ran = dreamflow("video", short_clip, *words, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
    embedded = dreamflow("show", "a.mkv", "--preset", cwd=tmp_path)
    (tmp_path / "c.yaml").write_text(embedded.stdout)
    words = ("-p", "c.yaml", "-o", "c.mkv", "--threads", "2")
    assert dreamflow("video", short_clip, *words, cwd=tmp_path).returncode == 0
    films = [frames_of(tmp_path / f"{name}.mkv") for name in "abc"]
    assert np.array_equal(films[0], films[1])
    assert np.array_equal(films[0], films[2])


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".mov", ".webm", ".mkv", ".gif", "/"])
def test_every_kind_of_output_is_made_and_can_be_shown(dreamflow, short_clip, tmp_path, ending):
    target = f"out{ending}"
    ran = dreamflow("video", short_clip, "-o", target, *dreamflow.quick, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert len(frames_of(tmp_path / target)) == 3
    shown = dreamflow("show", target, "--preset", cwd=tmp_path)
    assert "\n  steps: 1\n" in shown.stdout


@pytest.mark.slow
@pytest.mark.parametrize("size", ["1x1", "2x2", "16x16", "101x57"])
def test_any_size_works_and_padding_is_said(dreamflow, media, tmp_path, size):
    picture = ("-f", "lavfi", "-i", f"color=teal:s={size}:r=25:d=1", "-frames:v", "2")
    clip = media.draw("size.mkv", *picture, "-c:v", "ffv1", "-pix_fmt", "bgr0")
    ran = dreamflow("video", clip, "-o", "out.mp4", *dreamflow.quick, cwd=tmp_path)
    width, height = map(int, size.split("x"))
    made = probe(tmp_path / "out.mp4")
    assert ran.returncode == 0, ran.stderr
    assert (made.width, made.height) == (width + width % 2, height + height % 2)
    assert ("padded" in ran.stderr) == bool(width % 2 or height % 2)
