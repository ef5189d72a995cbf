"""What goes wrong, as the user of the command meets it."""

from __future__ import annotations

import os
import pty
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


def test_without_ffmpeg_the_command_says_so(dreamflow, folder, short_clip):
    (folder / "ffmpeg").write_text("#!/bin/sh\necho no\n")
    env = {"DREAMFLOW_FFMPEG": str(folder / "ffmpeg")}
    ran = dreamflow("video", short_clip, "-o", "old.mp4", "-y", cwd=folder, env=env)
    assert ran.returncode == 69
    assert str(folder / "ffmpeg") in error_line(ran.stderr)
    assert_untouched(folder, "ffmpeg")


def test_a_folder_that_takes_no_files_is_refused_before_work(dreamflow, folder, short_clip):
    ran = dreamflow("video", short_clip, "-o", "/proc/out.mp4", cwd=folder)
    assert ran.returncode == 73
    assert "/proc" in error_line(ran.stderr)
    assert_untouched(folder)


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


@pytest.mark.slow
def test_a_narrow_terminal_and_a_bare_environment_are_enough(dreamflow, folder, short_clip):
    """A real terminal of 20 columns, LANG=C, no HOME: a bar of one short line, and success."""
    leader, follower = pty.openpty()
    script = [str(dreamflow.script), "video", str(short_clip), "-o", "new.mp4", *dreamflow.quick]
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TERM": "xterm", "COLUMNS": "20"}
    process = subprocess.Popen(script, cwd=folder, env=env, stderr=follower)
    os.close(follower)
    said = b""
    try:
        while block := os.read(leader, 4096):
            said += block
    except OSError:
        pass  # how Linux says that the other end is closed
    os.close(leader)
    assert process.wait(timeout=300) == 0
    assert b"3/3" in said
    assert b"Traceback" not in said
    assert_untouched(folder, "new.mp4")


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault_and_nothing_gets_into_the_video(
    dreamflow, folder, short_clip, closed
):
    words = [dreamflow.script, "video", short_clip, "-o", "new.mp4", *dreamflow.quick]
    line = " ".join(f"'{word}'" for word in [*words, "--progress", "json", "-v"])
    ran = subprocess.run(["sh", "-c", f"{line} {closed}"], cwd=folder, timeout=300)
    assert ran.returncode == 0
    shown = dreamflow("show", "new.mp4", cwd=folder)
    assert shown.stdout.startswith("# dreamflow: ")
    assert_untouched(folder, "new.mp4")
