"""The installed command, run as a user runs it: as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = ("-s", "dream.octaves=1", "-s", "dream.steps=1", "-s", "follow.steps=1", "--threads", "2")
"""Options of a render that dreams, but not for long."""

TIMEOUT = 300


class Command:
    """Runs `dreamflow` in a folder; every run is waited for, or ended with the test."""

    quick = QUICK

    def __init__(self) -> None:
        self.script = Path(sys.executable).with_name("dreamflow")
        self.running: list[subprocess.Popen[str]] = []

    def start(
        self, *words: str | Path, cwd: Path, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(self.script), *map(str, words)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def __call__(
        self, *words: str | Path, cwd: Path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, cwd=cwd, env=env)
        out, err = process.communicate(timeout=TIMEOUT)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def end_all(self) -> None:
        for process in self.running:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def dreamflow():
    command = Command()
    yield command
    command.end_all()


@pytest.fixture(scope="session")
def short_clip(media) -> Path:
    """Three frames of 96x64 at 24000/1001, with sound that begins later than the picture."""
    return media.draw(
        "short.mp4",
        *("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24000/1001:d=1"),
        *("-itsoffset", "0.04", "-f", "lavfi", "-i", "sine=d=0.08"),
        *("-frames:v", "3", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"),
    )


@pytest.fixture(scope="session")
def long_clip(media) -> Path:
    """Four hundred frames, more than any test waits for."""
    return media.draw(
        "long.mp4",
        *("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=16"),
        *("-frames:v", "400", "-c:v", "libx264", "-pix_fmt", "yuv420p"),
    )


@pytest.fixture(scope="session")
def rendered(dreamflow, short_clip, tmp_path_factory):
    """A folder with `out.mp4`, made of the short clip, and what the command said."""
    folder = tmp_path_factory.mktemp("rendered")
    ran = dreamflow("video", short_clip, "-o", "out.mp4", *QUICK, "--progress", "json", cwd=folder)
    return folder, ran
