"""The command as tests run it, within their process or beside it, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamflow import cli
from dreamflow.frames import Array
from dreamflow.video.reader import open_clip

OLD = b"old and dear"
NO_DREAM = (
    *("-s", "dream.octaves=1", "-s", "dream.steps=0", "-s", "follow.steps=0"),
    *("-s", "output.speed=ultrafast", "--threads", "1"),
)
"""Options of a render that shows its source as it is, but for the encoder."""
TIMEOUT = 300
QUICK = (
    *("-s", "dream.octaves=1", "-s", "dream.steps=1", "-s", "follow.steps=1"),
    *("-s", "dream.size=48", "-s", "output.speed=ultrafast", "--threads", "1"),
)
"""Options of a render that dreams, but not for long."""


# ── within the process ──


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it said."""

    code: int
    out: list[str]
    err: list[str]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err if line.startswith("dreamflow: error: ")]

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.err if line.startswith("dreamflow: warning: ")]


class Commands:
    """Runs commands in the working folder; every one is looked at for what none may do."""

    def __init__(self, streams: Callable[[], tuple[str, str]]) -> None:
        self._streams = streams

    def __call__(self, *words: str | Path) -> Answer:
        """Run `dreamflow WORDS`; it fails in words, or not at all, and leaves no ffmpeg running."""
        before = children()  # what Ray or multiprocessing needed in a test before this one stays
        code = cli.run([str(word) for word in words])
        out, err = self._streams()
        answer = Answer(code, out.splitlines(), err.splitlines())
        assert all(line.startswith("dreamflow: ") for line in answer.err), err
        assert bool(answer.errors) == (code != 0), err
        assert children() <= before
        return answer

    def video(self, source: str | Path, target: str | Path, *words: str | Path) -> Answer:
        """Render without dreaming; it must succeed."""
        answer = self("video", source, "-o", target, *NO_DREAM, *words)
        assert answer.code == 0, answer.err
        return answer

    def image(self, source: str | Path, target: str | Path, *words: str | Path) -> Answer:
        answer = self("image", source, "-o", target, *NO_DREAM, *words)
        assert answer.code == 0, answer.err
        return answer

    def refusal(self, code: int, *words: str | Path) -> str:
        """The one line with which a command ends that leaves everything as it was."""
        (line,) = self.refusals(code, *words)
        return line

    def refusals(self, code: int, *words: str | Path) -> list[str]:
        """The error lines of a command that leaves everything as it was."""
        before = contents(Path.cwd())
        answer = self(*words)
        assert answer.code == code, answer.err
        assert answer.out == []
        assert contents(Path.cwd()) == before
        return [line.removeprefix("dreamflow: error: ") for line in answer.errors]

    def refused_video(self, code: int, source: str | Path, *words: str | Path) -> str:
        """The one line with which a render over an old file ends, which is as it was."""
        old = Path("old.mkv")
        old.write_bytes(OLD)
        return self.refusal(code, "video", *NO_DREAM, *words, "-o", old, "-y", "--", source)


def frames_of(path: str | Path) -> list[Array]:
    with open_clip(path) as clip:
        return list(clip.frames())


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder and below, with what is in the files; None for what is no file."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def children() -> set[tuple[int, str]]:
    """Numbers and names of the processes that this one has started and not waited for."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # gone meanwhile
        if int(rest.split()[1]) == os.getpid():
            found.add((int(status.parent.name), name))
    return found


# ── in a folder, among faults ──


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
        return np.stack(frames_of(self.folder / name))

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
