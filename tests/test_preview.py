"""The preview: the lattice moves as a dream would, and the film is whole."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TinyExtractor, make_engine, make_preset, texture

from dreamflow import preset as presets
from dreamflow import preview
from dreamflow.cli import run
from dreamflow.frames import Array, Box, to_array
from dreamflow.job import Finished, Started, VideoRequest
from dreamflow.preview import COVER, FIRST, LATER, MAX_FRAMES, Motion, lay_lattice
from dreamflow.render import Engine, RenderedFrame
from dreamflow.video.probe import probe
from dreamflow.video.reader import open_clip
from dreamflow.video.stills import write_still

SPEED, SQUARE = 3, 48
HEIGHT, WIDTH = 96, 160
QUICK = ("dream.steps=1", "dream.octaves=1", "dream.size=64", "objectives=[{layer: features.3}]")


def moving_square(count: int) -> list[Array]:
    """A textured square that moves to the right over another texture that stands still."""
    ground, square = texture(HEIGHT, WIDTH, sigma=2), texture(SQUARE, SQUARE, seed=5, sigma=2)
    frames = []
    for index in range(count):
        frame = ground.clone()
        left = 20 + SPEED * index
        frame[..., 24 : 24 + SQUARE, left : left + SQUARE] = square
        frames.append(to_array(frame))
    return frames


def motions(folder: Path, frames: list[Array], engine: Engine) -> list[Motion]:
    """The lattice's way through frames."""
    for index, frame in enumerate(frames):
        write_still(folder / f"{index:03}.png", frame)
    with open_clip(folder) as clip:
        return list(preview.follow_lattice(clip, engine))


def engine_with(**follow: object) -> Engine:
    settings = {"decay": 1.0, "effort": 0.0, "softness": 0.0, **follow}
    return make_engine(make_preset(follow=settings), extractor=TinyExtractor())


def request(source: Path, target: Path, *overrides: str, **options: object) -> VideoRequest:
    look = presets.load("base", overrides=[*QUICK, *overrides])
    given = {"size": Box(160, 160), "device": "cpu", "threads": 1, **options}
    return VideoRequest(source, str(target), look, **given)  # pyright: ignore[reportArgumentType]


def films(path: Path) -> list[Array]:
    with open_clip(path) as clip:
        return list(clip.frames())


# ── the lattice ──────────────────────────────────────────────────────────────────────────────────


def test_a_grid_over_a_moving_square_moves_with_it(tmp_path):
    last = motions(tmp_path, moving_square(8), engine_with())[-1]  # 21 px: not a mesh's multiple
    laid, carried = lay_lattice(last.full)[:, FIRST], last.lattice[:, FIRST]
    shift, inside = SPEED * 7, slice(36, 60)
    at_start, now = slice(36, 56), slice(36 + shift, 56 + shift)
    same = (carried[:, inside, now] - laid[:, inside, at_start]).abs().mean()
    stayed = (carried[:, inside, now] - laid[:, inside, now]).abs().mean()
    assert same < 0.12
    assert stayed > 2 * same
    around = slice(120, 150)
    assert (carried[:, :, around] - laid[:, :, around]).abs().mean() < 0.05


def test_what_a_square_uncovers_is_lost_and_grows_anew(tmp_path):
    _, *found = motions(tmp_path, moving_square(9), engine_with(effort=4.0, steps=5))
    behind, elsewhere = (slice(30, 66), slice(30, 38)), (slice(0, 96), slice(120, 150))
    masks = [motion.reliable for motion in found if motion.reliable is not None]
    assert min(mask[0, 0, *behind].mean() for mask in masks) < 0.8
    assert min(mask[0, 0, *elsewhere].mean() for mask in masks) > 0.95
    lattice = found[-1].lattice[0]
    assert lattice[LATER, *behind].max() > 0.5
    assert lattice[FIRST, *behind].mean() < 0.1 < lattice[FIRST, *elsewhere].mean()
    assert lattice[LATER, *elsewhere].mean() < 0.02


def test_the_lattice_fades_with_the_presets_decay_re_scaled_to_the_rate(tmp_path):
    engine = make_engine(make_preset(follow={"decay": 0.5, "effort": 0.0}), rate=Fraction(60))
    still = [to_array(texture(48, 64, sigma=2))] * 4
    covers = [motion.lattice[:, COVER].mean() for motion in motions(tmp_path, still, engine)]
    assert covers == pytest.approx([1, 0.5**0.5, 0.5, 0.5**1.5], abs=0.01)


def test_the_lattice_goes_where_the_camera_takes_a_dream(tmp_path):
    still = [to_array(texture(HEIGHT, WIDTH, sigma=2))] * 3
    looks = [make_preset(follow={"decay": 1.0, "effort": 0.0}, camera={"pan_x": pan})
             for pan in (0.0, 3 / WIDTH)]  # fmt: skip
    at_rest, panned = (
        motions(tmp_path, still, make_engine(look, extractor=TinyExtractor()))[-1].lattice[:, FIRST]
        for look in looks
    )
    shift, inside = 6, slice(24, 72)  # not a multiple of a mesh
    moved = panned[:, inside, 40 + shift : 120 + shift]
    assert float((moved - at_rest[:, inside, 40:120]).abs().mean()) < 0.02
    assert float((panned - at_rest)[:, inside, 40:120].abs().mean()) > 0.05


def test_effort_makes_up_for_decay(tmp_path):
    still = [to_array(texture(48, 64, sigma=2))] * 6
    first, *_, last = motions(tmp_path, still, engine_with(decay=0.98, effort=1.0))
    assert torch.allclose(first.lattice, last.lattice, atol=0.02)


def test_a_cut_lays_a_new_lattice(tmp_path):
    frames = [to_array(texture(48, 64, seed=seed, sigma=1)) for seed in (1, 1, 2, 2)]
    found = motions(tmp_path, frames, engine_with(restart=0.8))
    assert [motion.from_scratch for motion in found] == [True, False, True, False]
    assert found[0].followed is None
    followed = [motion.followed or 0 for motion in found]
    assert followed[1] > 0.9 > 0.8 > followed[2]


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (48, 64)])
def test_pictures_of_any_size_take_a_lattice(size):
    lattice = lay_lattice(torch.zeros(1, 3, *size))
    assert lattice.shape == (1, 3, *size)
    assert (lattice[:, COVER] == 1).all()


# ── the film ─────────────────────────────────────────────────────────────────────────────────────


def test_the_film_has_the_frames_rate_and_sound_of_the_clip(clip_path, tmp_path):
    output = tmp_path / "preview.mp4"
    started, *frames, finished = preview.render_preview(request(clip_path, output))
    assert isinstance(started, Started)
    assert started.info.frame_count == 24
    assert [frame.index for frame in frames if isinstance(frame, RenderedFrame)] == [*range(24)]
    assert finished == Finished(str(output), 24, finished.seconds)  # pyright: ignore[reportAttributeAccessIssue]
    facts = probe(output)
    assert (facts.frame_count, facts.rate) == (24, Fraction(24000, 1001))
    assert facts.sounds
    shown = frames[0].image.shape  # pyright: ignore[reportAttributeAccessIssue]
    assert (facts.height, facts.width) == tuple(shown[-2:])
    assert facts.width >= 160 + 16 * 3
    assert list(tmp_path.iterdir()) == [output]


def playhead(picture: Array) -> int:
    """The column that is white over most of the curves."""
    white = (picture[-90:] > 230).all(axis=2).sum(axis=0)
    assert white.max() > 40
    return int(white.argmax())


def test_the_playhead_moves_to_the_right_with_every_frame(clip_path, tmp_path):
    output = tmp_path / "preview.mkv"
    for _ in preview.render_preview(request(clip_path, output, "dream.chroma=t/99")):
        pass
    columns = [playhead(picture) for picture in films(output)]
    steps = np.diff(columns)
    assert steps.min() > 0
    assert steps.max() - steps.min() <= 1


def test_readings_end_before_the_edge_of_the_picture(clip_path, tmp_path):
    output = tmp_path / "preview.mkv"
    long = "objectives=[{layer: features.12, weight: 0.1234}, {class: 1, weight: -99.87+t/99}]"
    for _ in preview.render_preview(request(clip_path, output, long)):
        pass
    readings = films(output)[-1][-140:, -100:]
    assert readings[:, :90].max() > 150
    assert readings[:, 92:].max() < 60


def test_the_stills_are_dreamed_and_the_moving_picture_is_not(clip_path, tmp_path):
    looks = []
    for steps in ("1", "4"):
        output = tmp_path / f"{steps}.mkv"
        overrides = (f"dream.steps={steps}", f"follow.steps={steps}", "dream.step_size=9")
        for _ in preview.render_preview(request(clip_path, output, *overrides)):
            pass
        looks.append(films(output)[0].astype(int))
    changed = abs(looks[0] - looks[1]).max(axis=2) > 8
    pane = slice(44, 44 + 120)
    assert changed[pane, 192 : 192 + 44].mean() > 0.2
    assert not changed[pane, 16 : 16 + 160].any()


def test_a_part_of_a_clip_is_shown_with_the_curves_of_a_render_of_that_part(clip_path, tmp_path):
    output = tmp_path / "part.mp4"
    words = ["preview", str(clip_path), "-o", str(output), "--start", "6f", "--end", "18f"]
    words += ["--size", "96", "--threads", "1", *(w for o in QUICK for w in ("-s", o))]
    assert run([*words, "-s", "dream.chroma=t/11"]) == 0  # it would be over 2 at frame 23
    assert probe(output).frame_count == 12


def test_a_long_clip_is_shown_in_three_passages():
    assert preview.passages(MAX_FRAMES) == [(0, MAX_FRAMES)]
    parts = preview.passages(10_001)
    assert sum(stop - first for first, stop in parts) == MAX_FRAMES
    assert (parts[0][0], parts[-1][1]) == (0, 10_001)
    first, stop = parts[1]
    assert first <= 5000 < stop
    assert all(a[1] <= b[0] for a, b in pairwise(preview.passages(MAX_FRAMES + 1)))


def test_passages_are_joined_to_one_film_of_the_right_length(clip_path, tmp_path, monkeypatch):
    monkeypatch.setattr(preview, "MAX_FRAMES", 12)
    output = tmp_path / "short.mp4"
    events = list(preview.render_preview(request(clip_path, output)))
    frames = [event for event in events if isinstance(event, RenderedFrame)]
    assert [f.index for f in frames] == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert [f.index for f in frames if f.from_scratch] == [0, 10, 20]
    assert probe(output).frame_count == 12
    assert not probe(output).sounds


@pytest.mark.parametrize("frames", [1, 2])
def test_clips_of_a_frame_or_two_have_a_preview(media, tmp_path, frames):
    clip = media.counter("short.mp4", frames=frames)
    output = tmp_path / "out.mp4"
    for _ in preview.render_preview(request(clip, output)):
        pass
    assert probe(output).frame_count == frames


def test_a_preview_that_is_stopped_leaves_nothing(clip_path, tmp_path):
    with closing(preview.render_preview(request(clip_path, tmp_path / "out.mp4"))) as events:
        assert isinstance(next(events), Started)
        next(events)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["missing.mp4", "-o", "new.mp4"], 66, "missing.mp4"),
        (["{clip}", "-o", "new.png"], 2, "allowed endings"),
        (["{clip}", "-o", "old.mp4"], 73, "give -y"),
        (["{clip}", "-o", "new.mp4", "-p", "dosg"], 78, "did you mean 'dogs'"),
        (["{clip}", "-o", "new.mp4", "-s", "dream.chroma=t"], 78, "it must be"),
        (["{clip}", "-o", "{clip}", "-y"], 2, "another name"),
    ],
)
def test_wrong_calls_are_refused_in_one_line_before_any_work(
    words, code, said, clip_path, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.mp4").write_bytes(b"old")
    assert run(["preview", *(word.format(clip=clip_path) for word in words)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dreamflow: error: ")
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_bytes() == b"old"
