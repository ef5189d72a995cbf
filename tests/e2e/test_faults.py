"""What goes wrong, as the user of the command meets it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

OLD = b"old and dear"


@pytest.fixture
def folder(tmp_path):
    """A folder with an output that a failed run must not touch."""
    (tmp_path / "old.mp4").write_bytes(OLD)
    return tmp_path


def assert_untouched(folder: Path, *others: str) -> None:
    assert sorted(os.listdir(folder)) == sorted(["old.mp4", *others])
    assert (folder / "old.mp4").read_bytes() == OLD
    assert_nothing_runs_in(folder)


def assert_nothing_runs_in(folder: Path) -> None:
    """No process works in `folder` any more; a killed one takes a moment to be gone."""
    deadline = time.monotonic() + 30
    while found := processes_in(folder):
        assert time.monotonic() < deadline, f"still running: {found}"
        time.sleep(0.05)


def processes_in(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder):
                found.append((process / "comm").read_text().strip())
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return found


def error_line(stderr: str) -> str:
    (line,) = [line for line in stderr.splitlines() if line.startswith("dreamflow: error: ")]
    assert "Traceback" not in stderr
    return line


def wait_for_frames(process: subprocess.Popen[str], count: int) -> None:
    while count:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        count -= '"event": "frame"' in line


def wait_for_encoder(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the encoder, which runs from just before the first frame is dreamed."""
    deadline = time.monotonic() + 120
    words = ["pgrep", "-P", str(process.pid), "-f", "rawvideo -pixel_format"]
    while not (found := subprocess.run(words, capture_output=True).stdout.split()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(pid) for pid in found]


def test_a_bad_clip_is_refused_and_the_old_file_survives(dreamflow, folder):
    (folder / "text.mp4").write_text("<html>")
    ran = dreamflow("video", "text.mp4", "-o", "old.mp4", "-y", cwd=folder)
    assert ran.returncode == 65
    assert "text.mp4" in error_line(ran.stderr)
    assert_untouched(folder, "text.mp4")


def test_ctrl_c_finishes_the_frame_and_leaves_the_old_file(dreamflow, folder, long_clip):
    words = ("video", long_clip, "-o", "old.mp4", "-y", *dreamflow.quick, "--progress", "json")
    process = dreamflow.start(*words, cwd=folder)
    wait_for_frames(process, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "run the same command" in error_line(err)
    assert "stopping after this frame" in err
    assert_untouched(folder)


@pytest.mark.slow
def test_sigterm_is_143_and_leaves_the_old_file(dreamflow, folder, long_clip):
    words = ("video", long_clip, "-o", "old.mp4", "-y", *dreamflow.quick, "--progress", "json")
    process = dreamflow.start(*words, cwd=folder)
    wait_for_frames(process, 1)
    process.terminate()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143
    error_line(err)
    assert_untouched(folder)


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_the_frame(dreamflow, folder, long_clip):
    endless = ("-s", "dream.steps=1000", "-s", "dream.size=full", "--size", "1280")
    words = ("video", long_clip, "-o", "old.mp4", "-y", *endless, "--progress", "json")
    process = dreamflow.start(*words, cwd=folder)
    wait_for_encoder(process)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3)  # the frame takes far longer
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    error_line(err)
    assert_untouched(folder)


@pytest.mark.slow
def test_a_killed_encoder_is_74_and_leaves_the_old_file(dreamflow, folder, long_clip):
    words = ("video", long_clip, "-o", "old.mp4", "-y", *dreamflow.quick, "--progress", "json")
    process = dreamflow.start(*words, cwd=folder)
    wait_for_frames(process, 1)
    for encoder in wait_for_encoder(process):
        os.kill(encoder, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 74
    assert "encoder" in error_line(err)
    assert_untouched(folder)
