"""The preview of a zoom: the seed moves as the camera will, and the film is whole."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny import make_engine, make_preset, texture

from dreamflow import camera
from dreamflow import preset as presets
from dreamflow.cli import run
from dreamflow.frames import Box, Moment, to_array
from dreamflow.job import Finished, Started
from dreamflow.seeds import Noise
from dreamflow.video.probe import probe
from dreamflow.video.stills import write_still
from dreamflow.zoom_job import ZoomRequest
from dreamflow.zoom_preview import CameraPath, moved, render_preview

QUICK = (
    *("dream.steps=1", "dream.octaves=1", "follow.steps=1", "follow.octaves=1"),
    "objectives=[{layer: features.3}]",
)


def path_of(rate=10, **settings):
    engine = make_engine(make_preset(camera=settings), rate=Fraction(rate))
    return CameraPath(engine, (48, 64), 100)


def request(target, *overrides, seed=None, **options):
    look = presets.load("dive", overrides=[*QUICK, *overrides])
    given = {"size": Box.parse("96x64"), "frames": 6, "threads": 1, "device": "cpu", **options}
    return ZoomRequest(seed or Noise("pink"), str(target), look, **given)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "seed.png"
    write_still(path, to_array(texture(64, 96)))
    return path


def test_the_seed_is_where_the_camera_takes_it():
    path, seed = path_of(zoom=1.02, rotate=1.0), texture(48, 64)
    assert torch.equal(moved(path, seed, 0)[0], seed)
    step = camera.matrix(path.engine.preset.camera, (48, 64), 3.0)  # 30 / 10 fps
    after_five = camera.move(seed, np.linalg.matrix_power(step, 5), "reflect")
    assert torch.allclose(moved(path, seed, 5)[0], after_five.clamp(0, 1), atol=1e-5)


def test_a_seed_laid_anew_takes_over_without_a_jump():
    path, seed = path_of(zoom=1.02), texture(48, 64)
    shares = [[share for _, share in path.layers(frame)] for frame in range(70)]
    assert all(sum(each) == pytest.approx(1) for each in shares)
    pictures = [moved(path, seed, frame)[0] for frame in range(70)]
    steps = [float((b - a).abs().mean()) for a, b in pairwise(pictures)]
    assert max(steps) < 2.5 * np.median(steps)
    detail = [float(each.diff(dim=-1).abs().mean()) for each in pictures]
    assert min(detail) > 0.2 * detail[0]  # it never becomes a blur


def test_what_comes_from_beyond_the_border_is_told():
    seed = texture(48, 64)
    diving, retreating = path_of(zoom=1.02), path_of(zoom=0.97)
    assert moved(diving, seed, 12)[2].max() < 1e-5
    beyond = moved(retreating, seed, 12)[2][0, 0]
    assert beyond[0, 0] > 0.99
    assert beyond[24, 32] < 1e-5


def test_the_enlargement_is_that_of_the_film_at_any_rate():
    assert path_of(zoom=1.02).enlargement()[10] == pytest.approx(1.02**30)
    assert path_of(rate=60, zoom=1.02).enlargement()[60] == pytest.approx(1.02**30)


def test_the_preview_is_as_long_as_the_film_and_larger_than_it(tmp_path, picture):
    target = tmp_path / "preview.mp4"
    events = list(render_preview(request(target, seed=picture)))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert [event.index for event in events[1:-1]] == list(range(6))
    found = probe(target)
    assert (found.frame_count, found.rate) == (6, Fraction(30))
    assert found.width > 96
    assert found.height > 64


def test_the_preview_carries_the_films_sound(tmp_path, media):
    tone = media.draw("tone.wav", "-f", "lavfi", "-i", "sine=d=0.5")
    target = tmp_path / "out.mp4"
    look = request(target, "camera.zoom=1+audio.rms/9").preset
    look = look.model_copy(update={"audio": str(tone)})
    asked = ZoomRequest(Noise("pink"), str(target), look, size=Box(96, 64), rate=Fraction(12))
    list(render_preview(asked))
    assert probe(target).frame_count == 6
    assert len(probe(target).sounds) == 1


def test_a_film_there_and_back_is_shown_there(tmp_path):
    target = tmp_path / "out.mp4"
    list(render_preview(request(target, ping_pong=True, frames=8)))
    assert probe(target).frame_count == 5


def test_a_preview_that_is_stopped_leaves_nothing(tmp_path):
    with closing(render_preview(request(tmp_path / "out.mp4"))) as events:
        next(events)
        next(events)
    assert list(tmp_path.iterdir()) == []


def test_the_command_tells_seeds_from_clips(tmp_path, picture):
    words = ["--threads", "1", "-q", "--size", "96x64", *(w for o in QUICK for w in ("-s", o))]
    for seed in ([str(picture)], ["--noise", "pink"], ["--solid", "teal"]):
        target = tmp_path / "out.mp4"
        length = ["--duration", "0.1", "-y"]
        assert run(["preview", *seed, "-o", str(target), *length, *words]) == 0
        assert probe(target).frame_count == 3
        target.unlink()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{seed}"], 2, "how long"),
        ([], 2, "what of?"),
        (["{seed}", "--noise", "pink", "--frames", "3"], 2, "one thing"),
        (["{seed}", "--frames", "3", "--start", "1"], 2, "--start is for clips"),
        (["{clip}", "--frames", "3"], 2, "--frames is for zooms"),
        (["{clip}", "--ping-pong"], 2, "--ping-pong is for zooms"),
        (["gone.png", "--frames", "3"], 66, "gone.png"),
        (["{seed}", "--frames", "3", "-p", "dvie"], 78, "did you mean 'dive'"),
        (["{seed}", "--frames", "3", "--mask", "gone.png"], 66, "gone.png"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(
    words, code, said, picture, clip_path, tmp_path, capsys
):
    names = {"seed": picture, "clip": clip_path}
    target = tmp_path / "new.mp4"
    call = ["preview", *(word.format(**names) for word in words), "-o", str(target)]
    assert run([*call, "--threads", "1"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dreamflow: error: ")
    assert said in line
    assert not target.exists()


def test_a_length_in_frames_is_a_duration_too(tmp_path):
    target = tmp_path / "out.mp4"
    list(render_preview(request(target, frames=None, duration=Moment.parse("4f"))))
    assert probe(target).frame_count == 4
