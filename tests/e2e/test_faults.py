"""What goes wrong, as the user of the command meets it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from commands import OLD, assert_nothing_runs_in, encoders_of, error_line, wait_for


@pytest.fixture
def folder(tmp_path):
    """A folder with an output that a failed run must not touch."""
    (tmp_path / "old.mp4").write_bytes(OLD)
    return tmp_path


def assert_untouched(folder: Path, *others: str) -> None:
    assert sorted(os.listdir(folder)) == sorted(["old.mp4", *others])
    assert (folder / "old.mp4").read_bytes() == OLD
    assert_nothing_runs_in(folder)


def test_a_bad_clip_is_refused_and_the_old_file_survives(dreamflow, folder):
    (folder / "text.mp4").write_text("<html>")
    ran = dreamflow("video", "text.mp4", "-o", "old.mp4", "-y", cwd=folder)
    assert ran.returncode == 65
    assert "text.mp4" in error_line(ran.stderr)
    assert_untouched(folder, "text.mp4")


def test_ctrl_c_finishes_the_frame_and_leaves_the_old_file(dreamflow, folder, long_clip):
    words = ("video", long_clip, "-o", "old.mp4", "-y", *dreamflow.quick, "--progress", "json")
    process = dreamflow.start(*words, cwd=folder)
    wait_for(process, "frame", 2)
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
    wait_for(process, "frame", 1)
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
    encoders_of(process)
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
    wait_for(process, "frame", 1)
    for encoder in encoders_of(process):
        os.kill(encoder, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 74
    assert "encoder" in error_line(err)
    assert_untouched(folder)
