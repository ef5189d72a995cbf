"""Rows 1, 2, 3, 4, 6, 8, 20, 31: what stops a render, and how it goes on."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from commands import (
    OLD,
    Faulty,
    assert_nothing_runs_in,
    encoders_of,
    error_line,
    kill,
    wait_for,
    warnings_in,
)
from tiny import make_preset

import dreamflow
from dreamflow import networks
from dreamflow.job import VideoRequest, render_video
from dreamflow.job_folder import folder_of, is_placed

FRAMES = 120
CHUNK = 48


def assert_resumes(faulty, film, uninterrupted, at):
    """The same command goes on at frame `at`, and the film is what it would have been."""
    told = faulty.video(film, "-o", "out.mp4")
    assert told.code == 0, told.err
    assert ("resuming" in told.err) == (at is not None)
    assert at is None or f"resuming at frame {at} of {FRAMES}\n" in told.err
    assert np.array_equal(faulty.frames("out.mp4"), uninterrupted)
    assert faulty.left() == {"out.mp4"}
    return told


@pytest.fixture(scope="session")
def killed_render(film, tmp_path_factory):
    """The folder of the job of a render that was killed when it had finished two chunks."""
    faulty = Faulty(tmp_path_factory.mktemp("killed"))
    process = faulty.start_video(film, "-o", "out.mp4")
    wait_for(process, "saved", 2)
    kill(process)
    assert_nothing_runs_in(faulty.folder)
    return faulty.job("out.mp4")


@pytest.fixture
def stopped(faulty, killed_render):
    """The same beside the output of this test."""
    return Path(shutil.copytree(killed_render, faulty.job("out.mp4")))


# ── 1: kill -9 ──


@pytest.mark.parametrize(
    "kills", [5, pytest.param(20, marks=pytest.mark.slow)], ids=lambda kills: f"{kills} kills"
)
def test_row_01_killed_at_random_moments_a_render_ends_with_every_frame_the_same(
    clip_path, tmp_path, kills
):
    """Chunks of three frames, so that moments fall before, into and between their endings."""
    faulty, moments = Faulty(tmp_path), random.Random(kills)
    stages = {"dream": {"octaves": 1, "steps": 2, "size": 64}, "output": {"threads": 1}}
    preset = make_preset("features.4", **stages)
    request = VideoRequest(
        clip_path, str(tmp_path / "out.mp4"), preset, device="cpu", threads=1, chunk_frames=3
    )
    began = time.monotonic()
    list(render_video(request))
    length, whole = time.monotonic() - began, faulty.frames("out.mp4")
    os.remove(tmp_path / "out.mp4")
    killed = 0
    while killed < kills:
        before = chunks_in(request)
        is_killed = renders_for(request, moments.uniform(0, 0.6) * length)
        if is_killed:
            killed += 1
            there = (tmp_path / "out.mp4").exists()  # then chunks were being tidied away
            assert there or before <= chunks_in(request)
            assert_nothing_runs_in(tmp_path)
        if (tmp_path / "out.mp4").exists() and not is_placed(tmp_path / "out.mp4"):
            assert np.array_equal(faulty.frames("out.mp4"), whole)
            assert is_killed or faulty.left() == {"out.mp4"}
            assert not chunks_in(request)  # they go before what tells that it is in its place
            os.remove(tmp_path / "out.mp4")  # it got to its end: another life begins
    list(render_video(request))
    assert np.array_equal(faulty.frames("out.mp4"), whole)
    assert faulty.left() == {"out.mp4"}


def renders_for(request, seconds):
    """Render in a process of its own; whether it was killed after so many seconds."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(Path(request.target).parent)
            for _ in render_video(request):
                pass
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def chunks_in(request):
    job = folder_of(Path(request.target))
    return {path.name for path in job.glob("*.video")} if job.exists() else set()


def test_row_01_killed_after_a_chunk_it_goes_on_behind_it(faulty, film, uninterrupted, stopped):
    told = assert_resumes(faulty, film, uninterrupted, 2 * CHUNK)
    assert told.out.count('"event": "frame"') == FRAMES - 2 * CHUNK


def test_row_01_killed_when_the_output_is_in_its_place_it_is_done(faulty, film, uninterrupted):
    """Between the last rename and the removal of the folder."""
    assert faulty.video(film, "-o", "out.mp4", "--keep-job").code == 0
    for path in faulty.job("out.mp4").glob("*.video"):
        path.unlink()
    told = faulty.video(film, "-o", "out.mp4")
    assert told.code == 0, told.err
    assert '"event": "frame"' not in told.out
    assert np.array_equal(faulty.frames("out.mp4"), uninterrupted)
    assert faulty.left() == {"out.mp4"}


# ── 2: damage ──


def torn_journal(job):
    data = (job / "journal").read_bytes()
    (job / "journal").write_bytes(data[:-20])


def flipped_line(job):
    first, second = (job / "journal").read_bytes().splitlines(keepends=True)
    (job / "journal").write_bytes(first.replace(b"video", b"vidoo") + second)


def truncated_chunk(job):
    os.truncate(job / "000000.video", 1000)


def flipped_chunk(job):
    data = bytearray((job / "000001.video").read_bytes())
    data[len(data) // 2] ^= 0x10
    (job / "000001.video").write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "at"),
    [(torn_journal, CHUNK), (flipped_line, 0), (truncated_chunk, 0), (flipped_chunk, CHUNK)],
)
def test_row_02_a_damaged_line_or_chunk_is_noticed_and_only_that_chunk_redone(
    faulty, film, uninterrupted, stopped, damage, at
):
    damage(stopped)
    told = assert_resumes(faulty, film, uninterrupted, at)
    assert len(warnings_in(told.err)) == 1
    assert "damaged" in told.err
    assert told.out.count('"event": "frame"') == FRAMES - CHUNK


# ── 3: signals ──


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_row_03_a_signal_finishes_the_frame_and_says_how_to_go_on(faulty, film, number, code):
    (faulty.folder / "out.mp4").write_bytes(OLD)
    process = faulty.start_video(film, "-o", "out.mp4", "-y")
    wait_for(process, "saved")
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code
    assert f"run the same command to resume at frame {CHUNK}" in error_line(err)
    assert (faulty.folder / "out.mp4").read_bytes() == OLD
    told = faulty.video(film, "-o", "out.mp4", "-y")
    assert f"resuming at frame {CHUNK} of {FRAMES}" in told.err
    assert told.code == 0
    assert faulty.left() == {"out.mp4"}


def test_row_03_before_the_first_chunk_there_is_nothing_to_go_on_from(faulty, film):
    process = faulty.start_video(film, "-o", "out.mp4")
    wait_for(process, "frame", 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "run the same command to start again" in error_line(err)
    assert faulty.left() == set()


@pytest.mark.slow
def test_row_03_a_second_signal_stops_at_once(faulty, film):
    endless = ("-s", "dream.steps=1000", "-s", "dream.size=full", "--size", "1280")
    process = faulty.start("video", film, "-o", "out.mp4", *endless, "--threads", "1")
    encoders_of(process)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2)  # the frame takes far longer
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    error_line(err)
    assert faulty.left() == set()


# ── 4: the encoder ──


def test_row_04_a_killed_encoder_loses_no_finished_frame(faulty, film, uninterrupted):
    process = faulty.start_video(film, "-o", "out.mp4")
    wait_for(process, "saved")
    for encoder in encoders_of(process):
        os.kill(encoder, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 74
    assert "libx264 encoder failed" in error_line(err)
    assert "frames are finished and kept" in err
    assert faulty.video(film, "-o", "out.mp4").code == 0
    assert np.array_equal(faulty.frames("out.mp4"), uninterrupted)


@pytest.mark.slow
def test_row_04_an_encoder_that_takes_nothing_is_given_up(faulty, film):
    process = faulty.start_video(film, "-o", "out.mp4", "--stall-seconds", "1")
    wait_for(process, "saved")
    for encoder in encoders_of(process):
        os.kill(encoder, signal.SIGSTOP)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 74
    assert "took nothing for 1 s" in error_line(err)
    assert "frames are finished and kept" in err


def test_row_04_an_encoder_that_refuses_its_options_is_69(faulty, film, monkeypatch):
    from dreamflow.video import writer

    refusing = {"options": lambda _: ["-preset", "no-such-speed"]}
    codec = writer.CODECS["h264"]
    monkeypatch.setitem(writer.CODECS, "h264", type(codec)(**{**vars(codec), **refusing}))
    told = faulty.video(film, "-o", "out.mp4")
    assert told.code == 69
    assert "no-such-speed" in error_line(told.err)
    assert faulty.left() == set()


# ── 6: disk full ──


@contextmanager
def files_limited_to(size):
    """No file grows beyond `size` bytes, as on a disk that is full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_row_06_no_room_for_a_chunk(faulty, film, uninterrupted, stopped):
    smallest = min(path.stat().st_size for path in stopped.glob("*.video"))
    with files_limited_to(smallest // 4):  # the chunk to come has half as many frames
        told = faulty.video(film, "-o", "out.mp4")
    assert told.code == 74
    assert " bytes more in " in error_line(told.err)
    assert faulty.left() == {stopped.name}
    assert_resumes(faulty, film, uninterrupted, 2 * CHUNK)


def test_row_06_no_room_for_the_join(faulty, film, uninterrupted, stopped):
    largest = max(path.stat().st_size for path in stopped.glob("*.video"))
    with files_limited_to(largest + 3000):
        told = faulty.video(film, "-o", "out.mp4")
    assert told.code == 74
    assert " bytes more in " in error_line(told.err)
    assert faulty.left() == {stopped.name}
    assert not list(stopped.glob(".*"))
    assert_resumes(faulty, film, uninterrupted, FRAMES)


def test_row_06_no_room_for_the_journal(faulty, film, uninterrupted, stopped):
    """All else fits: the journal alone is already as large as a file may become."""
    journal = stopped / "journal"
    padding = b"x" * 4000 + b"\n"
    journal.write_bytes(padding * 50 + journal.read_bytes())
    with files_limited_to(journal.stat().st_size + 100):
        told = faulty.video(film, "-o", "out.mp4")
    assert told.code == 74
    assert " bytes more in " in error_line(told.err)
    assert_resumes(faulty, film, uninterrupted, 2 * CHUNK)


# ── 8: twice ──


def test_row_08_the_second_of_two_says_who_is_running(faulty, film):
    first = faulty.start_video(film, "-o", "out.mp4")
    wait_for(first, "frame")
    first.send_signal(signal.SIGSTOP)  # on a busy machine it would be done before the other begins
    told = faulty.video(film, "-o", "out.mp4")
    assert told.code == 75
    assert f"is being rendered by process {first.pid} on " in error_line(told.err)
    kill(first)


def test_row_08_the_lock_of_a_dead_owner_is_taken_over(faulty, film, stopped):
    assert (stopped / "lock").read_text().startswith("process ")
    assert faulty.video(film, "-o", "out.mp4").code == 0


# ── 31: another job ──


def test_row_31_a_changed_preset_is_refused_until_restarted(faulty, film, stopped):
    kept = sorted(stopped.iterdir())
    told = faulty.video(film, "-o", "out.mp4", "-s", "dream.chroma=0.5")
    assert told.code == 78
    assert "dream.chroma was 0.42, is 0.5" in error_line(told.err)
    assert "--restart" in told.err
    assert sorted(stopped.iterdir()) == kept
    told = faulty.video(film, "-o", "out.mp4", "-s", "dream.chroma=0.5", "--restart")
    assert told.code == 0
    assert "resuming" not in told.err
    assert faulty.left() == {"out.mp4"}


def test_row_31_a_changed_input_is_refused(faulty, film, stopped):
    other = faulty.folder / "other.mp4"
    other.write_bytes(film.read_bytes() + b"\0\0\0\x08free")
    told = faulty.video(other, "-o", "out.mp4")
    assert told.code == 78
    assert "the input is another" in error_line(told.err)


def test_row_31_a_job_of_the_version_before_is_refused(faulty, film, stopped):
    """What it dreamt, and what it left between two frames, may be of another form."""
    path = stopped / "fingerprint.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "dreamflow": "0.1.0"}))
    told = faulty.video(film, "-o", "out.mp4")
    assert told.code == 78
    assert f"dreamflow was 0.1.0, is {dreamflow.__version__}" in error_line(told.err)


def test_row_31_changed_weights_are_refused(faulty, film, stopped):
    mine = faulty.folder / "mine.safetensors"
    shipped = Path(networks.__file__).parent / "weights" / "squeezenet1_1_imagenet.safetensors"
    state = safetensors.torch.load_file(shipped)
    safetensors.torch.save_file({key: value * 1.01 for key, value in state.items()}, mine)
    told = faulty.video(film, "-o", "out.mp4", "-s", f"network=squeezenet1_1:{mine}")
    assert told.code == 78
    assert "the weights are others" in error_line(told.err)
