"""Commands run within the tests' own process, and what they leave behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dreamflow import cli
from dreamflow.frames import Array
from dreamflow.video.reader import open_clip

OLD = b"old and dear"
NO_DREAM = (
    *("-s", "dream.octaves=1", "-s", "dream.steps=0", "-s", "follow.steps=0"),
    *("-s", "output.speed=ultrafast", "--threads", "1"),
)
"""Options of a render that shows its source as it is, but for the encoder."""


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
        code = cli.run([str(word) for word in words])
        out, err = self._streams()
        answer = Answer(code, out.splitlines(), err.splitlines())
        assert all(line.startswith("dreamflow: ") for line in answer.err), err
        assert bool(answer.errors) == (code != 0), err
        assert children() == []
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


def children() -> list[str]:
    """Names of the processes that this one has started and not waited for."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # gone meanwhile
        if int(rest.split()[1]) == os.getpid():
            found.append(name)
    return found
