"""Zooms as files and streams: whole, or not there at all."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import make_preset, texture

from dreamflow import cli, preset, zoom_job
from dreamflow.errors import BadMediaError, OutputError, StorageError, UsageError
from dreamflow.frames import Box, Moment, to_array, to_image
from dreamflow.job import Finished, Started
from dreamflow.render import RenderedFrame
from dreamflow.seeds import Noise, Solid, draw
from dreamflow.video.probe import probe
from dreamflow.video.reader import open_clip
from dreamflow.video.scratch import Scratch
from dreamflow.video.stills import write_still
from dreamflow.video.writer import embedded_settings
from dreamflow.zoom import render_loop, render_zoom
from dreamflow.zoom_job import ZoomRequest, render_film, render_stream

ROOT = Path(__file__).parents[1]
STAGES = {
    "dream": {"octaves": 1, "steps": 1, "jitter": 2},
    "follow": {"octaves": 1, "steps": 1},
    "output": {"speed": "ultrafast", "threads": 1},
}
QUICK = [
    *("--size", "48x32", "--threads", "1", "-q"),
    *("-s", "dream.octaves=1", "-s", "dream.steps=1"),
    *("-s", "follow.octaves=1", "-s", "follow.steps=1"),
]


def make_request(target, seed=None, **options):
    stages = {**STAGES, "camera": {"zoom": 1.03}, **options.pop("stages", {})}
    look = make_preset("features.4", **stages)
    given = {"size": Box.parse("48x32"), "device": "cpu", "threads": 1, **options}
    return ZoomRequest(seed or Noise("pink"), str(target), look, **given)


def frames_of(path):
    with open_clip(path) as clip:
        return [frame.astype(int) for frame in clip.frames()]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "zoom.mp4"


@pytest.fixture(autouse=True)
def _nothing_is_left(target):
    """Whatever happens: no draft and no frames put aside beside the output."""
    target.parent.mkdir()
    yield
    assert not [path for path in target.parent.iterdir() if path.name.startswith(".")]


@pytest.fixture
def tone(media):
    """Half a second of sound."""
    return media.draw("tone.wav", "-f", "lavfi", "-i", "sine=d=0.5")


def test_a_zoom_becomes_a_film_and_every_event_is_told_in_order(target):
    started, *frames, finished = render_film(make_request(target, frames=5))
    assert isinstance(started, Started)
    assert (started.info.width, started.info.height, started.info.frame_count) == (48, 32, 5)
    assert all(isinstance(frame, RenderedFrame) for frame in frames)
    assert (
        [frame.index for frame in frames] == [0, 1, 2, 3, 4] == list(range(started.frames_to_come))
    )
    assert isinstance(finished, Finished)
    found = probe(target)
    assert (found.rate, found.frame_count, found.sounds) == (Fraction(30), 5, ())
    assert min(np.abs(a - b).mean() for a, b in pairwise(frames_of(target))) > 1


@pytest.mark.parametrize("rate", ["24000/1001", "24", "25", "30000/1001", "60"])
def test_a_duration_is_kept_at_any_rate(target, rate):
    rate = Fraction(rate)
    list(render_film(make_request(target, duration=Moment.parse("0.2"), rate=rate)))
    found = probe(target)
    assert found.rate == rate
    assert found.frame_count == round(rate / 5)


@pytest.mark.parametrize("name", ["z.mp4", "z.mov", "z.webm", "z.mkv", "z.gif", "z/"])
def test_a_film_carries_its_sound_and_takes_its_length(tmp_path, tone, name, caplog):
    target = f"{tmp_path}/{name}"
    look = make_preset("features.4", audio=str(tone), **STAGES)
    request = ZoomRequest(Noise("pink"), target, look, rate=Fraction(10), size=Box(32, 32))
    with caplog.at_level(logging.WARNING, "dreamflow"):
        *_, finished = render_film(request)
    assert finished.frame_count == 5
    silent = name in ("z.gif", "z/")
    assert any("holds no sound" in record.getMessage() for record in caplog.records) == silent
    if not silent:
        assert len(probe(Path(target)).sounds) == 1


def test_sound_longer_than_the_film_is_cut_to_it(target, media):
    tone = media.draw("long.wav", "-f", "lavfi", "-i", "sine=d=5")
    look = make_preset("features.4", audio=str(tone), **STAGES)
    request = ZoomRequest(Noise("pink"), str(target), look, frames=6, size=Box(32, 32))
    list(render_film(request))
    from dreamflow import audio

    assert abs(audio.length(target) - Fraction(6, 30)) < Fraction(1, 15)


def test_the_sound_drives_the_zoom(target, media):
    """Silence, then a tone: the camera moves only while there is sound."""
    sound = media.draw("late.wav", "-f", "lavfi", "-i", "sine=d=1,adelay=500|500,volume=9")
    path = target.parent / "look.yaml"
    path.write_text(
        "objectives: [{layer: features.4}]\ncamera: {zoom: '1 + 0.2*audio.rms'}\n"
        "dream: {steps: 0}\nfollow: {steps: 0}\nfeedback: {noise: 0, sharpen: 0}\n"
        "color: {anchor: none}\n"
    )
    look = preset.load(str(path)).model_copy(update={"audio": str(sound)})
    request = ZoomRequest(
        Noise("pink"), str(target), look, rate=Fraction(10), size=Box(32, 32), threads=1
    )
    frames = [frame.image for frame in render_film(request) if isinstance(frame, RenderedFrame)]
    moved = [float((a - b).abs().mean()) for a, b in pairwise(frames)]
    assert max(moved[:3]) < 1e-4  # the darkest pixels run into black
    assert min(moved[7:12]) > 0.009


def test_a_film_without_sound_to_take_its_length_from_is_refused(target, tmp_path):
    write_still(tmp_path / "still.png", np.zeros((8, 8, 3), np.uint8))
    look = make_preset("features.4", audio=str(tmp_path / "still.png"))
    with pytest.raises(BadMediaError):
        list(render_film(ZoomRequest(Noise("pink"), str(target), look)))


def test_a_soundtrack_without_sound_is_refused_before_any_work(target, media):
    silent = media.draw("silent.mkv", "-f", "lavfi", "-i", "testsrc2=s=32x32:d=0.2", "-c:v", "ffv1")
    look = make_preset("features.4", audio=str(silent))
    with pytest.raises(BadMediaError, match="has no sound: name another file as --audio"):
        next(render_film(ZoomRequest(Noise("pink"), str(target), look, frames=3)))


def test_a_film_there_and_back_that_listens_is_told_of_its_way_back(target, tone, caplog):
    overrides = ["camera.zoom=1 + audio.rms", "dream.octaves=1", "dream.steps=0", "follow.steps=0"]
    look = preset.load("base", overrides=overrides).model_copy(update={"audio": str(tone)})
    rest = {"rate": Fraction(6), "size": Box(64, 64), "ping_pong": True, "threads": 1}
    list(render_film(ZoomRequest(Noise("pink"), str(target), look, **rest)))
    told = "on the way back of --ping-pong the picture does not follow the sound"
    assert caplog.messages == [told]


def test_there_and_back_shows_both_ends_once(tmp_path):
    for count in (1, 2, 7, 8):
        target = f"{tmp_path}/{count}/"
        list(render_film(make_request(target, frames=count, ping_pong=True)))
        film = frames_of(Path(target))
        assert len(film) == count
        top = count // 2
        for index in range(1, (count + 1) // 2):
            assert np.array_equal(film[-index], film[index]), (count, index)
        assert len({frame.tobytes() for frame in film}) == top + 1


def test_a_loop_as_a_file_has_no_seam(tmp_path):
    target = f"{tmp_path}/loop/"
    events = list(render_film(make_request(target, frames=15, loop=True)))
    film = frames_of(Path(target))
    assert len(film) == 15
    assert events[0].frames_to_come == 20
    assert [frame.index for frame in events[1:-1]] == list(range(-5, 15))
    steps = [np.abs(a - b).mean() for a, b in pairwise(film)]
    assert np.abs(film[0] - film[-1]).mean() <= np.percentile(steps, 90)


def test_a_loop_may_leave_frames_out(tmp_path):
    request = make_request(f"{tmp_path}/loop/", frames=16, loop=True)
    look = request.preset.model_copy(update={"cadence": 3})
    list(render_film(replace(request, preset=look)))
    film = frames_of(tmp_path / "loop")
    steps = [np.abs(a - b).mean() for a, b in pairwise(film)]
    assert len(film) == 16
    assert np.abs(film[0] - film[-1]).mean() <= np.percentile(steps, 90)


def test_the_film_tells_what_it_grew_from(tmp_path, target):
    write_still(tmp_path / "a b.png", to_array(texture(32, 48)))
    list(render_film(make_request(target, tmp_path / "a b.png", frames=2, ping_pong=True)))
    facts = json.loads(embedded_settings(target))
    assert facts["zoom_of"] == "a b.png"
    assert len(facts["picture_sha256"]) == 64
    assert facts["closed_by"] == "ping-pong"


def test_the_same_request_gives_the_same_film(target):
    films = []
    for _ in range(2):
        list(render_film(make_request(target, frames=4, overwrite=True)))
        films.append(np.stack(frames_of(target)))
    assert np.array_equal(*films)


def test_a_camera_that_stands_still_is_told(target, caplog):
    with caplog.at_level(logging.WARNING, "dreamflow"):
        list(render_film(make_request(target, frames=2, stages={"camera": {}})))
    assert any("stands still" in record.getMessage() for record in caplog.records)


def test_an_existing_output_is_left_alone_unless_told_otherwise(target):
    target.write_bytes(b"mine")
    for render, live in ((render_film, False), (render_stream, True)):
        with pytest.raises(OutputError, match="-y"):
            list(render(make_request(target, frames=1, live=live)))
    assert target.read_bytes() == b"mine"


def test_a_film_that_is_stopped_leaves_nothing(target):
    film = render_film(make_request(target, frames=50))
    for _ in range(3):
        next(film)
    film.close()
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({}, "how long"),
        ({"frames": 3, "duration": Moment.parse("1")}, "both say how long"),
        ({"frames": 3, "loop": True, "ping_pong": True}, "give one of them"),
        ({"frames": 3, "loop": True, "live": True}, "no end"),
        ({"duration": Moment.parse("0.001")}, "0 frames"),
    ],
)
def test_wishes_that_make_no_film_are_refused(target, wishes, words):
    with pytest.raises(UsageError, match=words):
        make_request(target, **wishes)
    with pytest.raises(UsageError, match="--live"):
        make_request("-", frames=3)


# ── streams ──


def test_a_stream_is_a_film_that_players_read(target):
    stream = target.with_suffix(".ts")
    started, *frames, finished = render_stream(make_request(stream, frames=12, live=True))
    assert (started.frames_to_come, finished.frame_count, len(frames)) == (12, 12, 12)
    facts = probe(stream)
    assert (facts.container, facts.codec) == ("mpegts", "h264")
    assert (facts.width, facts.height, facts.rate) == (48, 32, Fraction(30))
    assert len(frames_of(stream)) == 12


def test_a_stream_named_like_a_film_is_told(target, caplog):
    for name in (target, target.with_suffix(".ts"), target.with_suffix("")):
        list(render_stream(make_request(name, frames=1, live=True)))
    assert caplog.messages == [f"{target} becomes an MPEG-TS stream, whose usual ending is .ts"]


def test_what_was_streamed_before_the_end_can_be_played(target):
    stream = target.with_suffix(".ts")
    endless = render_stream(make_request(stream, live=True))
    assert next(endless).frames_to_come == 0
    for _ in range(40):
        next(endless)
    endless.close()
    assert len(frames_of(stream)) > 20


def live(*words):
    command = [sys.executable, "-m", "dreamflow", "zoom", "--noise", "pink", "--live", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, *QUICK], env=environment, **pipes)


def test_a_closed_pipe_ends_a_stream_in_good_order():
    with live("-o", "-") as process:
        guard = threading.Timer(120, process.kill)
        guard.start()
        assert process.stdout.read(188 * 50)[0] == 0x47  # MPEG-TS
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr.read() == b""
        guard.cancel()


def test_ctrl_c_ends_a_stream_in_good_order(target):
    stream = target.with_suffix(".ts")
    with live("-o", str(stream)) as process:
        guard = threading.Timer(120, process.kill)
        guard.start()
        while not (stream.exists() and stream.stat().st_size > 188 * 50):
            assert process.poll() is None
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        error = process.stderr.read().decode()
        guard.cancel()
    assert "Traceback" not in error
    assert "error: stopped after" in error
    assert frames_of(stream)


# ── the command line ──


def call(capsys, *words):
    code = cli.run(["zoom", *map(str, words)])
    return code, capsys.readouterr().err


def test_the_command_makes_a_film(target, capsys):
    code, error = call(capsys, "--solid", "#203040", "-o", target, "--frames", 3, *QUICK)
    assert (code, error) == (0, "")
    assert probe(target).frame_count == 3
    assert embedded_settings(target).count("zoom: 1.02") == 1  # the look called dive


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--frames", 3], 2, "one thing"),
        (["--solid", "red", "--noise", "pink", "--frames", 3], 2, "one thing"),
        (["--solid", "blurple", "--frames", 3], 2, "not a colour"),
        (["--noise", "pink"], 2, "how long"),
        (["--noise", "brown", "--frames", 3], 2, "--noise"),
        (["--noise", "pink", "--frames", 3.5], 2, "'3.5' is not a whole number"),
        (["--noise", "pink", "--frames", 3, "--strength", "x"], 2, "'x' is not a number"),
        (["nothere.png", "--frames", 3], 66, "no such file"),
        (["--noise", "pink", "--frames", 3, "-p", "nothere"], 78, "unknown preset"),
        (["--noise", "pink", "--audio", "nothere.wav"], 66, "no such file"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(target, capsys, words, code, told):
    found, error = call(capsys, *words, "-o", target)
    assert found == code
    assert error.count("\n") == 1
    assert told in error
    assert not target.exists()


# ── frames put aside ──


@pytest.mark.parametrize("bits", [8, 16])
def test_frames_put_aside_come_back_in_any_order(tmp_path, bits):
    dtype = np.uint8 if bits == 8 else np.uint16
    arrays = [np.random.default_rng(i).integers(0, 255, (5, 7, 3)).astype(dtype) for i in range(5)]
    shelf = Scratch(lambda number: tmp_path / str(number), 3, (5, 7, 3), bits)
    for number, places in enumerate([(0, 1, 2), (3, 4)]):
        shelf.write_to(tmp_path / "unfinished", number)
        for place in places:
            shelf.put(place, arrays[place])
            assert np.array_equal(shelf[place], arrays[place])
        (tmp_path / "unfinished").rename(tmp_path / str(number))
        shelf.write_to(tmp_path / "unfinished", number + 1)
    for place in (3, 0, 2, 1, 4):
        assert np.array_equal(shelf[place], arrays[place])
    with pytest.raises(StorageError, match="ends early"):
        shelf[5]
    with pytest.raises(StorageError, match="cannot read back"):
        shelf[9]
    with pytest.raises(IndexError):
        shelf.put(0, arrays[0])


# ── the look of it ──


ZOOMS = [look.name for look in preset.shipped() if look.family == "zooms"]


def _seed_and_engine(name, size, frame_count):
    rules = {"multiple": 2, "take": 0, "max_pixels": 10**8}
    seed = draw(ROOT / "samples" / "hubble.jpg", Box.parse(size), **rules)
    engine = zoom_job.prepare(preset.load(name), Fraction(30), "cpu", 1, frame_count=frame_count)
    return to_image(seed), engine


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOOMS if name != "stream"])
def test_no_zoom_blurs_drifts_or_burns_out(name):
    seed, engine = _seed_and_engine(name, "160x90", 120)
    kept = [f for f in render_zoom(seed, engine, 120) if f.index in (0, 50, 119)]
    first, early, late = (_facts_of(frame.image, engine) for frame in kept)
    assert late["brightness"] == pytest.approx(early["brightness"], rel=0.15)
    assert late["saturation"] == pytest.approx(early["saturation"], rel=0.15)
    assert late["clipped"] < 0.1
    assert 0.7 < late["detail"] / early["detail"] < 1.5
    assert late["detail"] > 0.3 * first["detail"]
    for before, after in zip(early["activation"], late["activation"], strict=True):
        assert after > 0.5 * before


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOOMS)
def test_every_zoom_closes_its_loop(name):
    """The step over the seam is no larger than the 90th percentile of the others."""
    seed, engine = _seed_and_engine(name, "128x72", 18)
    shelf, film = {}, []
    for frame in render_loop(seed, engine, 18, 6, shelf):
        if frame.index < 0:
            shelf[frame.index + 6] = to_array(frame.image, 16)
        else:
            film.append(frame.image)
    *steps, seam = (float((b - a).abs().mean()) for a, b in pairwise([*film, film[0]]))
    assert seam <= np.percentile(steps, 90)


def _facts_of(image, engine):
    array = to_array(image)
    grey = cv2.cvtColor(array, cv2.COLOR_RGB2GRAY).astype(np.float32)
    with torch.no_grad():
        features = engine.extractor(image)
    return {
        "brightness": array.mean(),
        "saturation": cv2.cvtColor(array, cv2.COLOR_RGB2HSV)[..., 1].mean(),
        "clipped": ((array == 0) | (array == 255)).any(-1).mean(),
        "detail": cv2.Laplacian(grey, cv2.CV_32F).var(),
        "activation": [float(feature.square().mean()) for feature in features.values()],
    }


def test_a_colour_and_noise_are_seeds_too(target):
    for seed in (Solid((10, 120, 120)), Noise("white")):
        *_, finished = render_film(make_request(target, seed, frames=2, overwrite=True))
        assert finished.frame_count == 2
