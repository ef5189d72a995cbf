"""Rows 1, 2, 3, 4, 6, 8, 20, 31: what stops a render, and how it goes on."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time

import numpy as np
import pytest
from faulty import (
    OLD,
    assert_nothing_runs_in,
    encoders_of,
    error_line,
    kill,
    wait_for,
    warnings_in,
)

FRAMES = 120
CHUNK = 48


def assert_resumes(faulty, film, uninterrupted, at):
    """The same command goes on at frame `at`, and the film is what it would have been."""
    code, told = faulty.video(film, "-o", "out.mp4")
    assert code == 0, told
    assert (f"resuming at frame {at} of {FRAMES}" in told) == (at is not None)
    assert np.array_equal(faulty.frames("out.mp4"), uninterrupted)
    assert faulty.left() == {"out.mp4"}


# ── 1: kill -9 ──


def kill_at(faulty, film, moment):
    """Start the render and kill it after so many seconds; whether it was still running."""
    process = faulty.start_video(film, "-o", "out.mp4")
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        kill(process)
        assert_nothing_runs_in(faulty.folder)
        return True
    return False


@pytest.mark.parametrize(
    "kills", [5, pytest.param(20, marks=pytest.mark.slow)], ids=lambda kills: f"{kills} kills"
)
def test_row_01_killed_at_random_moments_it_resumes_with_every_frame_the_same(
    faulty, film, uninterrupted, kills
):
    moments = random.Random(kills)
    began = time.monotonic()
    code, _ = faulty.video(film, "-o", "out.mp4")
    length = time.monotonic() - began
    for _ in range(kills):
        if code == 0:  # each life of the output begins with none
            assert np.array_equal(faulty.frames("out.mp4"), uninterrupted)
            assert faulty.left() == {"out.mp4"}
            os.remove(faulty.folder / "out.mp4")
        before = finished_chunks(faulty)
        if kill_at(faulty, film, moments.uniform(0.2, 1.0) * length):
            assert before <= finished_chunks(faulty)
            assert len(unfinished_files(faulty)) <= 3  # those of one chunk
            code = None
        else:
            code = 0
    code, told = faulty.video(film, "-o", "out.mp4")
    assert code == 0, told
    assert np.array_equal(faulty.frames("out.mp4"), uninterrupted)
    assert faulty.left() == {"out.mp4"}


def finished_chunks(faulty):
    job = faulty.job("out.mp4")
    return set(job.glob("*.video")) if job.exists() and faulty.left() == {job.name} else set()


def unfinished_files(faulty):
    return list(faulty.job("out.mp4").glob(".*"))


def test_row_01_killed_after_a_chunk_it_goes_on_behind_it(faulty, film, uninterrupted):
    process = faulty.start_video(film, "-o", "out.mp4")
    wait_for(process, "saved", 2)
    kill(process)
    assert_resumes(faulty, film, uninterrupted, 2 * CHUNK)


def test_row_01_killed_when_the_output_is_in_its_place_it_is_done(faulty, film, uninterrupted):
    """Between the last rename and the removal of the folder."""
    code, _ = faulty.video(film, "-o", "out.mp4", "--keep-job")
    assert code == 0
    for path in faulty.job("out.mp4").glob("*.video"):
        path.unlink()
    code, told = faulty.video(film, "-o", "out.mp4")
    assert code == 0, told
    assert np.array_equal(faulty.frames("out.mp4"), uninterrupted)
    assert faulty.left() == {"out.mp4"}


# ── 2: damage ──


@pytest.fixture
def stopped(faulty, film):
    """The folder of a render that was killed when it had two chunks."""
    process = faulty.start_video(film, "-o", "out.mp4")
    wait_for(process, "saved", 2)
    kill(process)
    return faulty.job("out.mp4")


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def torn_journal(job):
    data = (job / "journal").read_bytes()
    (job / "journal").write_bytes(data[:-20])


def flipped_line(job):
    first, second = (job / "journal").read_bytes().splitlines(keepends=True)
    (job / "journal").write_bytes(first.replace(b"video", b"vidoo") + second)


def truncated_chunk(job):
    os.truncate(job / "000000.video", 1000)


def flipped_chunk(job):
    flip_a_byte(job / "000001.video")


@pytest.mark.parametrize(
    ("damage", "at", "redone"),
    [(torn_journal, CHUNK, 72), (flipped_line, 0, 72), (truncated_chunk, 0, 72),
     (flipped_chunk, CHUNK, 72)],
)  # fmt: skip
def test_row_02_a_damaged_line_or_chunk_is_noticed_and_only_that_chunk_redone(
    faulty, film, uninterrupted, stopped, damage, at, redone
):
    damage(stopped)
    process = faulty.start_video(film, "-o", "out.mp4")
    out, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert len(warnings_in(told)) == 1
    assert "damaged" in told
    assert f"resuming at frame {at} of" in told
    assert out.count('"event": "frame"') == redone
    assert np.array_equal(faulty.frames("out.mp4"), uninterrupted)


# ── 3: signals ──


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_row_03_a_signal_finishes_the_frame_and_says_how_to_go_on(
    faulty, film, uninterrupted, number, code
):
    (faulty.folder / "out.mp4").write_bytes(OLD)
    process = faulty.start_video(film, "-o", "out.mp4", "-y")
    wait_for(process, "saved")
    wait_for(process, "frame", 2)
    process.send_signal(number)
    _, told = process.communicate(timeout=300)
    assert process.returncode == code
    assert f"run the same command to resume at frame {CHUNK}" in error_line(told)
    assert (faulty.folder / "out.mp4").read_bytes() == OLD
    assert_nothing_runs_in(faulty.folder)
    os.remove(faulty.folder / "out.mp4")
    assert_resumes(faulty, film, uninterrupted, CHUNK)


def test_row_03_before_the_first_chunk_there_is_nothing_to_go_on_from(faulty, film):
    process = faulty.start_video(film, "-o", "out.mp4")
    wait_for(process, "frame", 2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "run the same command to start again" in error_line(told)
    assert faulty.left() == set()


def test_row_03_a_second_signal_stops_at_once(faulty, film):
    endless = ("-s", "dream.steps=1000", "-s", "dream.size=full", "--size", "1280")
    process = faulty.start("video", film, "-o", "out.mp4", *endless, "--threads", "1")
    encoders_of(process)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2)  # the frame takes far longer
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    error_line(told)
    assert faulty.left() == set()


# ── 4: the encoder ──


def test_row_04_a_killed_encoder_loses_no_finished_frame(faulty, film, uninterrupted):
    process = faulty.start_video(film, "-o", "out.mp4")
    wait_for(process, "saved")
    for encoder in encoders_of(process):
        os.kill(encoder, signal.SIGKILL)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 74
    assert "libx264 encoder failed" in error_line(told)
    assert f"{CHUNK} of {FRAMES} frames are finished and kept" in told
    assert_resumes(faulty, film, uninterrupted, CHUNK)


def test_row_04_an_encoder_that_takes_nothing_is_given_up(faulty, film):
    process = faulty.start_video(film, "-o", "out.mp4", "--stall-seconds", "1")
    wait_for(process, "saved")
    stopped = encoders_of(process)
    for encoder in stopped:
        os.kill(encoder, signal.SIGSTOP)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 74
    assert "took nothing for 1 s" in error_line(told)
    assert faulty.job("out.mp4").exists()


# ── 6: disk full ──


def limited_to(size):
    """No file may grow beyond `size` bytes, as on a disk that is full then."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_row_06_no_room_for_a_chunk(faulty, film, uninterrupted):
    code, told = faulty.video(film, "-o", "out.mp4", limit=limited_to(6000))
    assert code == 74
    assert " bytes " in error_line(told)
    assert faulty.left() == set()
    assert_resumes(faulty, film, uninterrupted, None)


def test_row_06_no_room_for_the_join(faulty, film, uninterrupted, stopped):
    largest = max(path.stat().st_size for path in stopped.glob("*.*"))
    code, told = faulty.video(film, "-o", "out.mp4", limit=limited_to(largest + 2000))
    assert code == 74
    assert " bytes more in " in error_line(told)
    assert faulty.left() == {stopped.name}
    assert not list(stopped.glob(".*"))
    assert_resumes(faulty, film, uninterrupted, FRAMES)


def test_row_06_no_room_for_the_journal(faulty, film, uninterrupted, stopped):
    """The journal alone lies on a disk that is full."""
    full = faulty.folder / "full"
    full.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(full)]
    if subprocess.run(words, capture_output=True).returncode:
        full.rmdir()
        pytest.skip("no file system can be mounted here")
    try:
        pass
    finally:
        subprocess.run(["umount", str(full)], check=True)
        full.rmdir()


# ── 8: twice ──


def test_row_08_the_second_of_two_says_who_is_running(faulty, film):
    first = faulty.start_video(film, "-o", "out.mp4")
    wait_for(first, "frame")
    code, told = faulty.video(film, "-o", "out.mp4")
    assert code == 75
    assert f"is being rendered by process {first.pid} on " in error_line(told)
    kill(first)


def test_row_08_the_lock_of_a_dead_owner_is_taken_over(faulty, film, uninterrupted, stopped):
    assert (stopped / "lock").read_text().startswith("process ")
    assert_resumes(faulty, film, uninterrupted, 2 * CHUNK)


# ── 31: another job ──


def test_row_31_a_changed_preset_is_refused_naming_what_changed(faulty, film, stopped):
    kept = sorted(stopped.iterdir())
    code, told = faulty.video(film, "-o", "out.mp4", "-s", "dream.jitter=3")
    assert code == 78
    line = error_line(told)
    assert "dream.jitter was 32, is 3" in line
    assert "--restart" in line
    assert sorted(stopped.iterdir()) == kept


def test_row_31_a_changed_input_is_refused(faulty, film, stopped):
    other = faulty.folder / "other.mp4"
    other.write_bytes(film.read_bytes() + b"\0\0\0\x08free")
    code, told = faulty.video(other, "-o", "out.mp4")
    assert code == 78
    assert "the input is another" in error_line(told)


def test_row_31_changed_weights_are_refused(faulty, film, stopped):
    import safetensors.torch

    from dreamflow import networks

    weights = faulty.folder / "mine.safetensors"
    shipped = networks.__file__.replace("networks.py", "weights/squeezenet1_1_imagenet.safetensors")
    state = safetensors.torch.load_file(shipped)
    safetensors.torch.save_file({key: value * 1.01 for key, value in state.items()}, weights)
    code, told = faulty.video(film, "-o", "out.mp4", "-s", f"network=squeezenet1_1:{weights}")
    assert code == 78
    assert "the weights is another" in error_line(told) or "the weights" in error_line(told)


def test_row_31_restart_discards(faulty, film, stopped):
    code, told = faulty.video(film, "-o", "out.mp4", "-s", "dream.jitter=3", "--restart")
    assert code == 0, told
    assert "resuming" not in told
    assert faulty.left() == {"out.mp4"}
