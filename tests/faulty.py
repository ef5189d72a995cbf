"""Runs the command in a folder, lets it meet with faults, and looks at what it leaves."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamflow import cli
from dreamflow.frames import Array
from dreamflow.video.reader import open_clip

OLD = b"old and dear"
TIMEOUT = 300
QUICK = (
    *("-s", "dream.octaves=1", "-s", "dream.steps=1", "-s", "follow.steps=1"),
    *("-s", "dream.size=48", "-s", "output.speed=ultrafast", "--threads", "1"),
)
"""Options of a render that dreams, but not for long."""


class _Stream(io.StringIO):
    """A text stream that can be set up as those of a process can."""

    def reconfigure(self, **_: object) -> None: ...


@dataclass(frozen=True)
class Told:
    """What a run of the command had to say."""

    code: int
    out: str
    err: str


class Faulty:
    """Runs the command in a folder of its own and looks at what it leaves there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[str]] = []

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start the command as a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "dreamflow", *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def start_video(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start a quick render that tells of every event."""
        return self.start("video", *words, *QUICK, "--progress", "json")

    def run(self, *words: str | Path) -> Told:
        """Run the command to its end, within this process."""
        out, err = _Stream(), _Stream()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = cli.run([str(word) for word in words])
        return Told(code, out.getvalue(), err.getvalue())

    def video(self, *words: str | Path) -> Told:
        """The same for a quick render."""
        return self.run("video", *words, *QUICK, "--progress", "json")

    def left(self) -> set[str]:
        """What lies in the folder."""
        return set(os.listdir(self.folder))

    def job(self, name: str) -> Path:
        """The folder of an unfinished output."""
        return self.folder / f".{name}.dreamflow"

    def frames(self, name: str) -> Array:
        with open_clip(self.folder / name) as clip:
            return np.stack(list(clip.frames()))

    def end_all(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()


def error_line(told: str) -> str:
    """The one line that says what went wrong."""
    (line,) = [line for line in told.splitlines() if line.startswith("dreamflow: error: ")]
    assert "Traceback" not in told
    return line


def warnings_in(told: str) -> list[str]:
    return [line for line in told.splitlines() if line.startswith("dreamflow: warning: ")]


def wait_for(process: subprocess.Popen[str], event: str, count: int = 1) -> None:
    """Read what a render with `--progress json` says until an event has come so often."""
    assert process.stdout is not None
    assert process.stderr is not None
    while count:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        count -= f'"event": "{event}"' in line


def encoders_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the encoders that a render has running."""
    words = ["pgrep", "-P", str(process.pid), "-f", "rawvideo -pixel_format"]
    deadline = time.monotonic() + 120
    while not (found := subprocess.run(words, capture_output=True).stdout.split()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [int(pid) for pid in found]


def kill(process: subprocess.Popen[str]) -> None:
    """End a render in the hardest way, as a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def assert_nothing_runs_in(folder: Path) -> None:
    """No process works in `folder` any more; one whose pipes are closed takes a moment to end."""
    deadline = time.monotonic() + 30
    while found := processes_in(folder):
        assert time.monotonic() < deadline, f"still running: {found}"
        time.sleep(0.05)


def processes_in(folder: Path) -> list[str]:
    """Names of those that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder):
                found.append((process / "comm").read_text().strip())
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return found
