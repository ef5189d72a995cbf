"""One output from a request: whole, or not there at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_preset, panning_clip, texture

from dreamflow import job, networks, warp
from dreamflow.errors import BadMediaError, DreamflowError, OutputError, UsageError
from dreamflow.frames import Moment, to_array, to_image
from dreamflow.job import Finished, Started, VideoRequest, render_moment, render_video
from dreamflow.render import Engine, RenderedFrame, render
from dreamflow.video import writer
from dreamflow.video.probe import probe
from dreamflow.video.reader import open_clip
from dreamflow.video.stills import Still, write_still

WEIGHTS = Path(networks.__file__).parent / "weights" / "squeezenet1_1_imagenet.safetensors"
DREAM = {"octaves": 1, "steps": 1, "jitter": 2, "size": 48}
FAST = {"speed": "ultrafast", "threads": 1}
STEPS = {"dream": DREAM, "follow": {"octaves": 1, "steps": 1}, "output": FAST}


def make_request(source, target, **options):
    preset = options.pop("preset", None) or make_preset("features.4", **STEPS)
    return VideoRequest(Path(source), str(target), preset, device="cpu", threads=1, **options)


def ffmpegs():
    """Process ids of this process's ffmpegs."""
    found = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="], capture_output=True, text=True
    )
    lines = found.stdout.splitlines()
    return {int(line.split()[0]) for line in lines if line.split()[1].startswith("ffmpeg")}


def frames_of(path):
    with open_clip(path) as clip:
        return list(clip.frames())


@pytest.fixture(scope="module")
def short_clip(media):
    """Six frames of 64x48 at 24000/1001 with sound."""
    picture, tone = "testsrc2=s=64x48:r=24000/1001", "sine=d=0.25"
    sources = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone]
    codecs = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    return media.draw("short.mp4", *sources, "-frames:v", "6", *codecs)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "dream.mp4"


@pytest.fixture(autouse=True)
def _nothing_is_left(target):
    """Whatever happens: no draft beside the output, no ffmpeg."""
    target.parent.mkdir()
    yield
    assert {path.name for path in target.parent.iterdir()} <= {target.name}
    assert ffmpegs() == set()


def test_a_clip_becomes_a_video_and_every_event_is_told_in_order(short_clip, target):
    started, *frames, finished = render_video(make_request(short_clip, target))
    assert isinstance(started, Started)
    assert (started.info.width, started.info.height, started.info.frame_count) == (64, 48, 6)
    assert started.codec == "h264"
    assert all(isinstance(frame, RenderedFrame) for frame in frames)
    assert [frame.index for frame in frames] == list(range(6))
    assert isinstance(finished, Finished)
    assert (finished.target, finished.frame_count) == (str(target), 6)
    found = probe(target)
    assert found.rate == Fraction(24000, 1001)
    decoded = frames_of(target)
    assert len(decoded) == 6
    for array, frame in zip(decoded, frames, strict=True):
        error = np.abs(array.astype(int) - to_array(frame.image).astype(int)).mean()
        assert error < 8  # 4:2:0 and crf 17


def test_the_output_is_not_there_before_the_last_frame(short_clip, target):
    for event in render_video(make_request(short_clip, target)):
        assert target.exists() == isinstance(event, Finished)


def test_the_same_request_gives_the_same_pictures_and_another_seed_does_not(short_clip, target):
    pictures = []
    for seed in (1, 1, 2):
        preset = make_preset("features.4", seed=seed, **STEPS)
        request = make_request(short_clip, target, preset=preset, overwrite=True)
        list(render_video(request))
        pictures.append(np.stack(frames_of(target)))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_the_network_is_built_once(short_clip, target, monkeypatch):
    built = []
    build = networks.build

    def counted(*arguments, **options):
        built.append(build(*arguments, **options))
        return built[-1]

    monkeypatch.setattr(networks, "build", counted)
    list(render_video(make_request(short_clip, target)))
    assert len(built) == 1


def test_octaves_too_small_for_the_network_are_warned_of_once(short_clip, target, caplog):
    tiny_octaves = {**DREAM, "octaves": 6, "octave_scale": 2.0}
    preset = make_preset("features.4", **{**STEPS, "dream": tiny_octaves})
    with caplog.at_level(logging.WARNING, "dreamflow"):
        *_, finished = render_video(make_request(short_clip, target, preset=preset))
    assert isinstance(finished, Finished)
    assert sum("octaves" in record.getMessage() for record in caplog.records) == 1


def test_the_recipe_names_all_that_the_picture_hangs_on():
    engine = job.prepare(make_preset("features.4", seed=7), Fraction(25), "cpu", 1)
    facts = json.loads(job.recipe(job.facts(engine)))
    assert "seed: 7" in facts["preset"]
    assert "layer: features.4" in facts["preset"]
    assert facts["threads"] == 1
    assert facts["device"] == "cpu"
    assert len(facts["weights_sha256"]) == 64
    assert {"dreamflow", "torch", "ffmpeg"} <= set(facts)


def test_the_recipe_does_not_tell_where_weights_lie():
    preset = make_preset("features.4", network=f"squeezenet1_1:{WEIGHTS}")
    text = job.recipe(job.facts(job.prepare(preset, Fraction(25), "cpu", 1)))
    assert f"network: squeezenet1_1:{WEIGHTS.name}\n" in json.loads(text)["preset"]
    assert str(WEIGHTS.parent) not in text


@pytest.mark.parametrize("length", [60_000, 70_000])
def test_a_preset_too_long_to_be_embedded_is_refused_before_the_first_frame(
    short_clip, tmp_path, length
):
    """The longest that passes fits into every output; a JPEG has the least room."""
    preset = make_preset("features.4", description="x" * length, **STEPS)
    look = tmp_path / "look.jpg"
    events = job.render_look(make_request(short_clip, look, preset=preset), Moment.parse("0"))
    if length < job.MAX_RECIPE_BYTES:
        assert len(list(events)) == 3
        assert look.exists()
    else:
        with pytest.raises(UsageError, match="shorten its description"):
            next(events)
        with pytest.raises(UsageError, match="shorten its description"):
            next(render_video(make_request(short_clip, tmp_path / "a.mp4", preset=preset)))


# ── sound ──


@pytest.fixture(scope="module")
def late_clip(media):
    """A second of 64x48 at 25 fps, whose sound begins with a bang at 0.4 s, in frame 10."""
    picture = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1"]
    bang = ["-itsoffset", "0.4", "-f", "lavfi", "-i", "aevalsrc=sin(2*PI*500*t)*exp(-9*t):d=0.6"]
    return media.draw("late.mkv", *picture, *bang, "-c:v", "libx264", "-c:a", "pcm_s16le")


@pytest.fixture
def listening(tmp_path):
    """A preset that dreams on the beat alone, and listens to the file `audio` if it is given."""

    def listening(audio=""):
        path = tmp_path / "listening.yaml"
        path.write_text(
            "objectives: [{layer: features.4, weight: '3*audio.beat'}]\n"
            + "".join(f"{key}: {json.dumps(value)}\n" for key, value in STEPS.items())
            + (f"audio: {audio}\n" if audio else "")
        )
        return job.presets.load(str(path))

    return listening


def weights(events):
    found = [event for event in events if isinstance(event, RenderedFrame)]
    return [frame.objectives[0].weight for frame in found]


def test_the_clips_sound_drives_the_picture_in_time(late_clip, target, listening):
    whole = weights(render_video(make_request(late_clip, target, preset=listening())))
    assert whole[:10] == [0] * 10
    assert whole[10] == 3
    assert all(later < earlier for earlier, later in pairwise(whole[10:]))
    assert len(probe(target).sounds) == 1


def test_a_part_of_a_clip_and_a_look_at_it_hear_what_the_whole_does(
    late_clip, target, tmp_path, listening
):
    preset = listening()
    whole = weights(render_video(make_request(late_clip, target, preset=preset)))
    cut = {"start": Moment.parse("8f"), "end": Moment.parse("14f"), "overwrite": True}
    assert (
        weights(render_video(make_request(late_clip, target, preset=preset, **cut)))
        == (whole[8:14])
    )
    look = job.render_look(
        make_request(late_clip, tmp_path / "look.png", preset=preset), Moment.parse("12f")
    )
    assert weights(look) == whole[:13]


def test_a_sound_file_is_listened_to_and_the_film_keeps_its_own_sound(
    media, late_clip, target, listening, tmp_path
):
    bang = ["-f", "lavfi", "-i", "aevalsrc=between(t\\,0.2\\,0.3)*sin(2*PI*500*t):d=1"]
    (tmp_path / "song.wav").write_bytes(media.draw("song.wav", *bang).read_bytes())
    request = make_request(late_clip, target, preset=listening("song.wav"))
    heard = weights(render_video(request))
    assert heard.index(3) == 5
    assert probe(target).sounds[0].start == pytest.approx(0.4, abs=0.03)
    text = writer.embedded_settings(target)
    assert text is not None
    facts = json.loads(text)
    digest = hashlib.sha256((tmp_path / "song.wav").read_bytes()).hexdigest()
    assert facts["audio_sha256"] == digest
    assert "\naudio: song.wav\n" in facts["preset"]
    assert str(tmp_path) not in text


def test_what_has_no_sound_is_refused_with_the_setting_that_needs_it(
    media, tmp_path, target, listening
):
    silent = make_request(media.counter("mute.mp4", frames=3), target, preset=listening())
    still = tmp_path / "still.png"
    write_still(still, np.zeros((48, 64, 3), np.uint8))
    picture = make_request(still, tmp_path / "dream.png", preset=listening())
    folder = make_request(tmp_path, target, preset=listening())
    needs = r"has no sound, which objectives\.0\.weight needs: '3\*audio\.beat'"
    for events in (
        render_video(silent),
        render_video(folder),
        job.render_look(replace(silent, target=str(tmp_path / "l.png")), Moment.parse("0")),
        job.render_picture(picture),
    ):
        with pytest.raises(BadMediaError, match=needs):
            list(events)


def test_stills_can_be_driven_by_a_sound_file(media, tmp_path, target, listening):
    bang = ["-f", "lavfi", "-i", "aevalsrc=between(t\\,0.1\\,0.3)*sin(2*PI*500*t):d=1"]
    (tmp_path / "song.wav").write_bytes(media.draw("soon.wav", *bang).read_bytes())
    for number in range(6):
        write_still(tmp_path / f"s{number}.png", np.full((48, 64, 3), 90, np.uint8))
    request = make_request(tmp_path / "s%d.png", target, preset=listening("song.wav"))
    assert weights(render_video(request)).index(3) == 3


def test_a_sound_that_nothing_asks_for_is_not_opened(short_clip, target):
    preset = make_preset("features.4", audio="/nowhere/song.wav", **STEPS)
    list(render_video(make_request(short_clip, target, preset=preset)))
    text = writer.embedded_settings(target)
    assert text is not None
    assert "audio: song.wav" in json.loads(text)["preset"]
    assert "audio_sha256" not in text


def test_the_sound_file_is_never_overwritten(media, late_clip, tmp_path, listening):
    song = tmp_path / "song.mp4"
    bang = ["-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac"]
    song.write_bytes(media.draw("sine.mp4", *bang).read_bytes())
    request = make_request(late_clip, song, preset=listening("song.mp4"), overwrite=True)
    with pytest.raises(UsageError, match="is read by this very render"):
        next(render_video(request))


# ── stopped and failed ──


@pytest.mark.parametrize("events", [1, 2, 4])
def test_closing_it_early_leaves_nothing(short_clip, target, events):
    generator = render_video(make_request(short_clip, target))
    for _ in range(events):
        next(generator)
    generator.close()
    assert not target.exists()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()], ids=type)
def test_an_exception_between_two_frames_comes_out_and_leaves_nothing(short_clip, target, error):
    generator = render_video(make_request(short_clip, target))
    for _ in range(3):
        next(generator)
    with pytest.raises(type(error)):
        generator.throw(error)
    assert not target.exists()


@pytest.mark.parametrize("name", ["frames/", "dream.gif", "dream.mkv"])
def test_other_kinds_of_output_leave_nothing_either(short_clip, target, name):
    generator = render_video(make_request(short_clip, f"{target.parent}/{name}"))
    for _ in range(3):
        next(generator)
    generator.close()
    assert list(target.parent.iterdir()) == []


def test_a_source_that_goes_away_before_the_sound_is_fetched_loses_no_frame(
    short_clip, tmp_path, target
):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(short_clip.read_bytes())
    generator = render_video(make_request(clip, target))
    for _ in range(7):
        next(generator)
    clip.rename(tmp_path / "elsewhere.mp4")
    with pytest.raises(DreamflowError, match=r"clip\.mp4"):
        next(generator)
    assert not target.exists()
    (tmp_path / "elsewhere.mp4").rename(clip)
    started, *frames, _ = render_video(make_request(clip, target))
    assert (started.resumes_at, frames) == (6, [])
    assert len(frames_of(target)) == 6


def test_an_unreadable_frame_stops_a_strict_render(media, damaged, tmp_path, target):
    clip = media.counter("counter.avi", frames=20, codec="mjpeg")
    broken = damaged(clip, tmp_path / "broken.avi", at=0.6, length=600)
    events = []
    with pytest.raises(BadMediaError):
        events.extend(render_video(make_request(broken, target, strict=True)))
    assert not target.exists()


def test_an_existing_output_is_refused_before_anything_is_read(target):
    target.write_bytes(b"the old film")
    with pytest.raises(OutputError):
        next(render_video(make_request("/nowhere/clip.mp4", target)))
    assert target.read_bytes() == b"the old film"


# ── one moment, one picture ──


def test_a_moment_is_led_up_to_and_nothing_is_written(short_clip, target):
    started, *frames = render_moment(make_request(short_clip, target), Moment.parse("4f"))
    assert isinstance(started, Started)
    assert started.info.frame_count == len(frames)
    assert [frame.index for frame in frames] == list(range(5))
    assert list(target.parent.iterdir()) == []


def test_a_late_moment_starts_half_a_second_before(clip_path, target):
    started, *frames = render_moment(make_request(clip_path, target), Moment.parse("20f"))
    assert isinstance(started, Started)
    assert [frame.index for frame in frames] == list(range(9, 21))
    assert started.info.frame_count == 12
    torch.testing.assert_close(frames[-1].carry.source, resized_source(clip_path, 20))


def resized_source(path, index):
    return warp.shrink(to_image(frames_of(path)[index]), (36, 48))


def test_a_moment_looks_as_in_the_whole_render(short_clip, target):
    request = make_request(short_clip, target)
    *_, last = render_moment(request, Moment.parse("3f"))
    whole = [event for event in render_video(request) if isinstance(event, RenderedFrame)]
    assert torch.equal(last.image, whole[3].image)


def make_stills(folder, count):
    folder.mkdir()
    for index in range(count):
        write_still(folder / f"{index}.png", to_array(texture(12, 16, seed=index)))
    return folder


def test_what_lies_before_a_moment_is_not_even_read(tmp_path, target, caplog):
    stills = make_stills(tmp_path / "stills", 20)
    (stills / "1.png").write_bytes(b"torn")
    request = make_request(stills, target, strict=True, rate=Fraction(10))
    _, *frames = render_moment(request, Moment.parse("1.9"))
    assert [frame.index for frame in frames] == [14, 15, 16, 17, 18, 19]
    assert "torn" not in caplog.text
    assert "1.png" not in caplog.text


def test_a_moment_behind_the_end_is_refused(short_clip, target):
    request = make_request(short_clip, target)
    assert list(render_moment(request, Moment.parse("5f")))
    for moment in ("6f", "0.2503", "9:00"):
        with pytest.raises(UsageError, match=r"6 frames, 0\.250 s"):
            list(render_moment(request, Moment.parse(moment)))


# ── the input ──


def test_an_output_that_is_read_itself_is_refused_by_any_name(short_clip, tmp_path):
    clip, link = tmp_path / "clip.mp4", tmp_path / "link.mp4"
    clip.write_bytes(short_clip.read_bytes())
    link.symlink_to(clip)
    for source, target in ((clip, clip), (clip, link), (link, clip)):
        with pytest.raises(UsageError, match="read by this very render"):
            list(render_video(make_request(source, target, overwrite=True)))
    assert clip.read_bytes() == short_clip.read_bytes()


def test_a_look_does_not_replace_one_of_the_stills_it_is_made_of(tmp_path):
    stills = make_stills(tmp_path / "stills", 2)
    before = (stills / "1.png").read_bytes()
    request = make_request(stills, stills / "1.png", overwrite=True)
    with pytest.raises(UsageError, match="read by this very render"):
        list(job.render_look(request, Moment.parse("0")))
    assert (stills / "1.png").read_bytes() == before


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_still_is_dreamed_as_the_first_frame_of_a_clip_and_keeps_its_alpha(dtype):
    engine = Engine.build(make_preset("features.4", **STEPS), Fraction(30))
    bits = np.iinfo(dtype).bits
    pixels = to_array(texture(48, 64), bits)
    alpha = np.arange(48 * 64, dtype=dtype).reshape(48, 64)
    dreamed = job.dream_still(Still(pixels, alpha), engine)
    (first,) = render([pixels], engine)
    assert dreamed.pixels.dtype == dtype
    assert np.array_equal(dreamed.pixels, to_array(first.image, bits))
    assert not np.array_equal(dreamed.pixels, pixels)
    assert np.array_equal(dreamed.alpha, alpha)


def test_a_small_still_is_warned_of_and_dreamed(caplog):
    engine = Engine.build(make_preset("features.4", dream={"steps": 1}), Fraction(30))
    (frame,) = panning_clip(1, 9, 11)
    with caplog.at_level(logging.WARNING, "dreamflow"):
        assert job.dream_still(Still(frame, None), engine).pixels.shape == frame.shape
    assert sum("octaves" in record.getMessage() for record in caplog.records) == 1
