"""Films made chunk by chunk: no border shows, and after a stop they go on bit by bit the same."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny import make_preset, panning_clip

from dreamflow.errors import ChangedError, StoppedError, StorageError
from dreamflow.film import CHUNK_FRAMES, Finished, Saved, Started
from dreamflow.frames import Box
from dreamflow.job import VideoRequest, render_video
from dreamflow.job_folder import folder_of
from dreamflow.render import RenderedFrame
from dreamflow.seeds import Noise
from dreamflow.settings import Output
from dreamflow.video import writer
from dreamflow.video.probe import probe
from dreamflow.video.reader import open_clip
from dreamflow.video.stills import write_still
from dreamflow.zoom_job import ZoomRequest, render_film

STAGES = {
    "dream": {"octaves": 1, "steps": 1, "jitter": 2, "size": 48},
    "follow": {"octaves": 1, "steps": 1},
    "output": {"speed": "ultrafast", "threads": 1},
}
CONDITIONS = {"device": "cpu", "threads": 1, "chunk_frames": 4}
RATES = [Fraction(24000, 1001), Fraction(30)]


@pytest.fixture
def target(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "dream.mkv"


@pytest.fixture
def stills(tmp_path):
    """Fourteen frames: a pan, then a cut in the middle of a chunk, then another."""
    folder = tmp_path / "stills"
    folder.mkdir()
    frames = [*panning_clip(6), *(255 - frame for frame in panning_clip(8))]
    for number, frame in enumerate(frames):
        write_still(folder / f"{number:02}.png", frame)
    return folder


def clip_request(stills, target, **options):
    stages = {**STAGES, **options.pop("stages", {})}
    return VideoRequest(stills, str(target), make_preset("features.4", **stages),
                        **{**CONDITIONS, **options})  # fmt: skip


def zoom_request(_, target, **options):
    stages = {**STAGES, "camera": {"zoom": 1.03}, **options.pop("stages", {})}
    given = {"size": Box.parse("48x32"), "frames": 14, **CONDITIONS, **options}
    return ZoomRequest(Noise("pink"), str(target), make_preset("features.4", **stages), **given)


def render(request):
    return render_video(request) if isinstance(request, VideoRequest) else render_film(request)


def frames_of(path):
    with open_clip(path) as clip:
        return np.stack(list(clip.frames()))


def stop_after(request, count):
    """Render until so many frames have come, and stop."""
    events = render(request)
    while count:
        count -= isinstance(next(events), RenderedFrame)
    events.close()


# ── borders ──


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "h264"), ("a.mov", "h264"), ("a.mp4", "h265"), ("a.webm", "vp9"),
     ("a.mp4", "av1"), ("a.webm", "av1"), ("a.mov", "prores"), ("a.mkv", "ffv1"),
     ("a.gif", "gif"), ("a/", "png")],
)  # fmt: skip
def test_chunks_are_joined_without_a_missing_or_doubled_frame(tmp_path, name, codec, rate):
    """Every frame carries its number as a barcode of eight bars."""
    sizes = {"width": 128, "height": 48, "rate": rate, "settings": Output(threads=1)}
    drafts, count = [], 23
    for first, stop in pairwise([0, 7, 14, 15, count]):
        drafts.append(tmp_path / f"draft{first}")
        with writer.Encoder(drafts[-1], writer.CODECS[codec], first=first, **sizes) as encoder:
            for number in range(first, stop):
                encoder.write(barcode(number))
    target = tmp_path / name
    writer.join(drafts, target, writer.CODECS[codec], frame_count=count, rate=rate)
    assert [number_in(frame) for frame in frames_of(target)] == list(range(count))
    if target.is_dir():
        return
    facts = probe(target)
    assert list(facts.frame_ticks) == sorted(set(facts.frame_ticks))
    if facts.container.startswith("mov"):
        assert (facts.start, facts.rate, facts.duration) == (0, rate, count / rate)
        assert {b - a for a, b in pairwise(facts.frame_ticks)} == {1 / rate / facts.time_base}


def barcode(number):
    bars = [(number >> bit) & 1 for bit in range(8)]
    row = np.repeat(np.array(bars, np.uint8) * 219 + 18, 16)
    return np.broadcast_to(row[None, :, None], (48, 128, 3)).copy()


def number_in(frame):
    bars = frame.mean(axis=(0, 2)).reshape(8, 16).mean(axis=1)
    return sum(1 << bit for bit, level in enumerate(bars) if level > np.iinfo(frame.dtype).max / 2)


@pytest.fixture(scope="module")
def there_and_back():
    """Three chunks of a filmed scene, whose turns fall on no border."""
    frames = list(frames_of(Path(__file__).parents[1] / "samples" / "clip.mp4")[:, :180, :320])
    return np.stack([*frames, *frames[-2:0:-1]])[: 3 * CHUNK_FRAMES]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
def test_a_chunk_is_as_good_at_its_borders_as_in_its_middle(tmp_path, there_and_back, codec):
    """Within 1 dB over four frames at either end, and no worse in the very last one."""
    drafts, rate, settings = [], Fraction(25), Output()
    sizes = {"width": 320, "height": 180, "rate": rate, "settings": settings}
    for first in range(0, len(there_and_back), CHUNK_FRAMES):
        drafts.append(tmp_path / f"draft{first}")
        with writer.Encoder(drafts[-1], writer.CODECS[codec], first=first, **sizes) as encoder:
            for frame in there_and_back[first : first + CHUNK_FRAMES]:
                encoder.write(frame)
    target, count = tmp_path / "a.mkv", len(there_and_back)
    writer.join(drafts, target, writer.CODECS[codec], frame_count=count, rate=rate)
    found = psnr(frames_of(target), there_and_back).reshape(-1, CHUNK_FRAMES).mean(axis=0)
    middle = found[CHUNK_FRAMES // 4 : -CHUNK_FRAMES // 4].mean()
    assert abs(found[:4].mean() - middle) <= 1
    assert abs(found[-4:].mean() - middle) <= 1
    assert found[-1] >= middle - 1


def psnr(found, wanted):
    """Of every frame, in dB."""
    errors = np.square(found.astype(np.float32) - wanted).mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / errors)


def test_drafts_that_do_not_belong_together_are_refused(tmp_path):
    drafts = [tmp_path / "a", tmp_path / "b"]
    for draft, rate in zip(drafts, RATES, strict=True):
        sizes = {"width": 128, "height": 48, "rate": rate, "settings": Output()}
        with writer.Encoder(draft, writer.CODECS["h264"], **sizes) as encoder:
            encoder.write(barcode(1))
    with pytest.raises(StorageError, match="neighbours"):
        writer.join(drafts, tmp_path / "a.mp4", writer.CODECS["h264"], frame_count=2, rate=rate)


# ── going on ──

KINDS = {
    "clip": (clip_request, {}),
    "cadence": (clip_request, {"stages": {"cadence": 3}}),
    "part": (clip_request, {"stages": {"shots": ("9f",)}}),
    "zoom": (zoom_request, {}),
    "zoom cadence": (zoom_request, {"stages": {"cadence": 3}}),
    "loop": (zoom_request, {"loop": True, "frames": 13}),
    "loop cadence": (zoom_request, {"loop": True, "frames": 16, "stages": {"cadence": 3}}),
    "there and back": (zoom_request, {"ping_pong": True, "frames": 17}),
}


def test_an_input_that_changes_while_it_is_read_gets_into_no_finished_chunk(stills, target):
    last = stills / "13.png"
    as_it_was = last.read_bytes()
    events = render(clip_request(stills, target))
    while not isinstance(next(events), Saved):
        pass
    write_still(last, panning_clip(1)[0])
    with pytest.raises(ChangedError, match="changed while it was read"):
        list(events)
    assert not target.exists()
    last.write_bytes(as_it_was)
    events = list(render(clip_request(stills, target)))
    assert next(event for event in events if isinstance(event, Started)).resumes_at == 4
    found = frames_of(target)
    target.unlink()
    list(render(clip_request(stills, target)))
    assert np.array_equal(found, frames_of(target))


def test_an_input_that_is_only_touched_has_not_changed(stills, target):
    for event in render(clip_request(stills, target)):
        if isinstance(event, Saved):
            (stills / "13.png").touch()
    assert len(frames_of(target)) == 14


def test_an_input_that_is_taken_away_once_it_was_read_is_not_missed(stills, target):
    for event in render(clip_request(stills, target)):
        if isinstance(event, Saved):
            (stills / "00.png").unlink(missing_ok=True)
    assert len(frames_of(target)) == 14


@pytest.mark.parametrize("kind", KINDS)
def test_a_render_that_was_stopped_goes_on_bit_by_bit_the_same(stills, target, tmp_path, kind):
    make_request, options = KINDS[kind]
    whole = make_request(stills, tmp_path / "whole.mkv", **options)
    list(render(whole))
    request = make_request(stills, target, **options)
    for count in (5, 1, 4):
        stop_after(request, count)
        assert not target.exists()
    started, *events, finished = render(request)
    assert isinstance(finished, Finished)
    assert started.resumes_at is not None
    came = sum(isinstance(event, RenderedFrame) for event in events)
    assert came == started.frames_to_come
    assert np.array_equal(frames_of(target), frames_of(tmp_path / "whole.mkv"))
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a/"])
def test_other_kinds_of_output_go_on_the_same_way(stills, tmp_path, name):
    (tmp_path / "whole").mkdir()
    list(render(clip_request(stills, f"{tmp_path}/whole/{name}")))
    request = clip_request(stills, f"{tmp_path}/{name}")
    stop_after(request, 9)
    list(render(request))
    assert digests(tmp_path / name) == digests(tmp_path / "whole" / name)
    assert not folder_of(tmp_path / name).exists()


def digests(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_what_is_saved_is_told_and_not_rendered_again(stills, target):
    request = clip_request(stills, target)
    events = render(request)
    told = []
    for event in events:
        if isinstance(event, Saved):
            told.append(event.frame_count)
        if told == [4, 8]:
            break
    events.close()
    started, *events, _ = render(request)
    assert isinstance(started, Started)
    assert (started.resumes_at, started.frames_done, started.frames_to_come) == (8, 8, 6)
    indices = [event.index for event in events if isinstance(event, RenderedFrame)]
    assert indices == list(range(8, 14))


def test_a_stop_before_the_first_chunk_leaves_nothing(stills, target):
    stop_after(clip_request(stills, target), 3)
    assert list(target.parent.iterdir()) == []


def test_a_job_that_is_kept_has_the_output_done(stills, target):
    request = clip_request(stills, target, keep_job=True)
    list(render(request))
    assert len(list(folder_of(target).glob("*.video"))) == 4
    before = target.stat().st_ino
    _started, finished = render(request)
    assert (finished.frame_count, target.stat().st_ino) == (14, before)
    list(render(replace(request, keep_job=False)))
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_states_are_kept_now_and_then(stills, target):
    request = clip_request(stills, target, chunk_frames=1)
    stop_after(request, 13)
    states = sorted(path.name for path in folder_of(target).glob("*.state"))
    assert states == ["000007.state", "000011.state", "000012.state"]


def test_a_damaged_state_costs_only_time(stills, target, tmp_path, caplog):
    list(render(clip_request(stills, tmp_path / "whole.mkv")))
    request = clip_request(stills, target)
    stop_after(request, 9)
    flip_a_byte(folder_of(target) / "000001.state")
    with caplog.at_level(logging.WARNING, "dreamflow"):
        started, *events, _ = render(request)
    assert "000001.state is damaged" in caplog.text
    assert (started.resumes_at, started.frames_to_come) == (8, 10)
    assert sum(isinstance(event, RenderedFrame) for event in events) == 10
    assert np.array_equal(frames_of(target), frames_of(tmp_path / "whole.mkv"))


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["clip", "loop", "there and back"])
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_a_damaged_chunk_alone_is_written_again(stills, target, tmp_path, caplog, kind, chunk):
    make_request, options = KINDS[kind]
    list(render(make_request(stills, tmp_path / "whole.mkv", **options)))
    request = make_request(stills, target, **options)
    events = render(request)
    saved = 0
    while saved < 3:
        saved += isinstance(next(events), Saved)
    events.close()
    folder = folder_of(target)
    files = {path: path.stat().st_mtime_ns for path in folder.glob("*.video")}
    for damaged in folder.glob(f"{chunk:06}.[av]*"):
        flip_a_byte(damaged)
    with caplog.at_level(logging.WARNING, "dreamflow"):
        list(render(replace(request, keep_job=True)))
    assert len(caplog.records) == 1
    assert f"chunk {chunk} of" in caplog.text
    for path, before in files.items():
        assert (path.stat().st_mtime_ns == before) == (path.stem != f"{chunk:06}")
    assert np.array_equal(frames_of(target), frames_of(tmp_path / "whole.mkv"))


# ── the job ──


def test_something_else_is_refused_with_what_changed_until_restarted(stills, target):
    stop_after(clip_request(stills, target), 6)
    other = clip_request(stills, target, stages={"dream": {**STAGES["dream"], "steps": 2}})
    with pytest.raises(ChangedError, match=r"dream\.steps was 1, is 2.*--restart") as caught:
        list(render(other))
    assert caught.value.exit_code == 78
    with pytest.raises(ChangedError, match="threads was 1, is 2"):
        list(render(clip_request(stills, target, threads=2)))
    with pytest.raises(ChangedError, match="size was"):
        list(render(clip_request(stills, target, size=Box.parse("32"))))
    with pytest.raises(ChangedError, match="audio was not given, is tone"):
        list(render(clip_request(stills, target, stages={"audio": "tone.wav"})))
    assert len(list(folder_of(target).glob("*.video"))) == 1
    started, *_ = render(replace(other, restart=True))
    assert started.resumes_at is None
    assert target.exists()


def test_another_input_is_refused(stills, target):
    stop_after(clip_request(stills, target), 6)
    write_still(stills / "13.png", panning_clip(1)[0])
    with pytest.raises(ChangedError, match="the input is another"):
        list(render(clip_request(stills, target)))


def test_two_at_once_do_not_write_the_same_output(stills, target):
    first = render(clip_request(stills, target))
    next(first)
    with pytest.raises(StoppedError, match=r"is being rendered by process \d+ on ") as caught:
        list(render(clip_request(stills, target)))
    assert caught.value.exit_code == 75
    *_, finished = first
    assert isinstance(finished, Finished)


def test_what_a_film_needs_is_asked_of_the_disk_first(stills, target, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(StorageError, match=r"takes about \d+ bytes in .* 100 are free"):
        next(render(clip_request(stills, target)))
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 255, "é" * 120 + ".mp4", "a b'\";$(id).mp4"])
def test_the_folder_of_any_output_has_a_name(tmp_path, name):
    folder_of(tmp_path / name).mkdir()
