"""The one door to the ffmpeg binary: finding it, handing it files, running it, its errors.

Convention. Media files never appear on a command line: an `Input` in an argument list is opened
here, afresh for every process (shared or re-used descriptors give wrong frames with exit code 0),
and handed over as a numbered descriptor. ffmpeg may open nothing else, and only as one of
`CONTAINERS`, so playlists and scripts that name further files or addresses are refused.
Output files are written by name, as `output_name` spells it: rewriting formats (`+faststart`) come
out corrupt through a descriptor.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from dreamflow.errors import InputMissingError, StorageError, UnavailableError
from dreamflow.video.limits import MAX_STREAMS

CONTAINERS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", "mxf", "nut", "dv", "rm"),
    *("yuv4mpegpipe", "ivf", "wtv", "h264", "hevc", "m4v", "obu", "mpegvideo", "mjpeg"),
    *("gif", "apng", "wav", "aiff", "caf", "flac", "mp3", "aac", "ac3", "eac3"),
)
"""ffmpeg's names of the formats that may be read; none of them refers to other files.
Never hls, dash, concat, sdp, image2 or the like. The sound formats are there to be named when
someone gives one as a clip."""

OLDEST_RELEASE, OLDEST_LIBAVUTIL = "6.0", 58
"""Descriptors as inputs came with FFmpeg 6.0, whose libavutil is 58; development builds carry no
release number, but all print libavutil's."""

STDERR_LINES = 60

_CASCADE = (
    *(
        "Error opening input file",
        "Error opening output file",
        "Conversion failed",
        "Consider incr",
    ),
    *("Task finished with error", "Terminating thread", "Could not open encoder before EOF"),
    *("Error while opening encoder", "Error sending frames to consumers", "Nothing was written"),
    *("Cannot determine format of input", "Decode error rate"),
)
"""How the lines begin that ffmpeg adds after the one that says what went wrong."""

_COMMON = ("-hide_banner", "-nostdin", "-nostats", "-loglevel", "repeat+level+warning")


_NICENESS = 15
_PIPE_BYTES = 1 << 20


class FFmpegError(StorageError):
    """ffmpeg failed; `code` is its exit code (negative: the signal), `lines` its last words."""

    def __init__(self, what: str, code: int | None, lines: Sequence[str]) -> None:
        self.code = code
        self.lines = tuple(lines)
        super().__init__(f"{what}: {explain(self.lines)} (ffmpeg exit code {code})")


@dataclass(frozen=True)
class Input:
    """A media file among the arguments, in the place of `-i NAME`."""

    path: Path

    def open(self) -> int:
        return open_regular(self.path)


@dataclass(frozen=True)
class Completed:
    """What a finished ffmpeg left behind."""

    stdout: bytes
    stderr: str


Arguments = Sequence[str | Input]


def find() -> Path:
    """The ffmpeg binary: `DREAMFLOW_FFMPEG`, else imageio-ffmpeg's, else the one on PATH."""
    binary = _locate()
    _check_version(binary)
    return binary


def version() -> str:
    """ffmpeg's own version string, such as `n9.0.2-17-g2a571b6068`."""
    first = _check_version(_locate()).splitlines()[0]
    return first.removeprefix("ffmpeg version ").split(" ")[0]


def encoders() -> frozenset[str]:
    """Names of all encoders compiled in (a hardware encoder may still lack its hardware)."""
    return frozenset(columns[1] for columns in _list(find(), "-encoders"))


def filters() -> frozenset[str]:
    """Names of all filters compiled in."""
    return frozenset(columns[1] for columns in _list(find(), "-filters") if len(columns) > 3)


def pixel_formats() -> dict[str, tuple[int, int]]:
    """For each pixel format its number of components and the bits of the deepest of them."""
    rows = [columns for columns in _list(find(), "-pix_fmts") if len(columns) == 5]
    return {row[1]: (int(row[2]), max(map(int, row[4].split("-")))) for row in rows}


def open_regular(path: Path) -> int:
    """A new read-only descriptor of a regular file; raises InputMissingError for anything else."""
    try:
        # Without O_NONBLOCK the mere opening of a FIFO waits for a writer, for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputMissingError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputMissingError(f"cannot read {path}: {reason}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        kind = "a folder" if path.is_dir() else "a pipe, socket or device"
        raise InputMissingError(f"not a file but {kind}: {path}")
    return descriptor


def output_name(path: Path) -> str:
    """`path` as ffmpeg takes it for a plain file, whatever the name looks like.

    Give the format (`-f mp4`) as well: it is not to be guessed from a hostile name.
    """
    return f"file:{os.path.abspath(path)}"


def run(
    arguments: Arguments, *, what: str = "ffmpeg failed", feed: Iterable[bytes] | None = None
) -> Completed:
    """Run ffmpeg to its end, collecting all output; `what` heads the message if it fails.

    What it reads as `pipe:0` is taken from `feed`.
    """
    with Process(arguments, feeds=feed is not None, what=what) as process:
        if feed is not None:
            process.feed(feed)
        stdout = process.read_all()
        process.finish()
        return Completed(stdout, "\n".join(process.lines))


class Process:
    """A running ffmpeg, killed and reaped when its `with` block ends.

    It reads raw frames from `write` when `feeds` is set, and whatever it prints to `-` comes out of
    `read`. Its stderr is drained all the while; the last lines are kept, `on_line` sees each one
    (called in the draining thread).
    """

    def __init__(
        self,
        arguments: Arguments,
        *,
        feeds: bool = False,
        what: str = "ffmpeg failed",
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.what = what
        self.lines: deque[str] = deque(maxlen=STDERR_LINES)
        self._on_line = on_line
        self._feeder: threading.Thread | None = None
        self._feeding_failure: BaseException | None = None
        self._popen = _start(arguments, subprocess.PIPE if feeds else subprocess.DEVNULL)
        self._drain = threading.Thread(target=self._drain_stderr, daemon=True)
        self._drain.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        if self._feeder is not None:
            self._feeder.join()  # a write to a dead process returns at once
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):  # bytes that the dead process never took
                    pipe.close()

    def write(self, data: bytes | memoryview) -> None:
        """Feed ffmpeg's standard input; raises FFmpegError with ffmpeg's words when it is gone."""
        try:
            _pipe(self._popen.stdin).write(data)
        except (OSError, ValueError):
            self._fail()

    def feed(self, blocks: Iterable[bytes]) -> None:
        """Write `blocks` from a thread, to the end; `finish` raises what goes wrong in it."""

        def write_all() -> None:
            try:
                for block in blocks:
                    self.write(block)
                _pipe(self._popen.stdin).close()
            except BaseException as error:
                self._feeding_failure = error
                self._popen.kill()

        self._feeder = threading.Thread(target=write_all, name="feeder", daemon=True)
        self._feeder.start()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes of standard output, fewer only at its end."""
        return _pipe(self._popen.stdout).read(size)

    def read_some(self, size: int) -> bytes:
        """What there is of standard output, at most `size` bytes; empty only at its end."""
        return _pipe(self._popen.stdout).read1(size)  # pyright: ignore[reportAttributeAccessIssue]

    def read_all(self) -> bytes:
        return _pipe(self._popen.stdout).read()

    def read_line(self) -> bytes:
        """The next line of standard output with its newline; empty at the end."""
        return _pipe(self._popen.stdout).readline()

    def finish(self) -> None:
        """Close the feed, wait for the end; raises FFmpegError unless the exit code is 0."""
        if self._feeder is not None:
            self._feeder.join()
            if self._feeding_failure is not None:
                raise self._feeding_failure
        elif self._popen.stdin is not None:
            try:
                self._popen.stdin.close()
            except OSError:
                self._fail()
        if self.wait() != 0:
            self._fail()

    def wait(self) -> int:
        """Wait for the end and for the last of stderr; the exit code, negative for a signal."""
        code = self._popen.wait()
        self._drain.join()
        return code

    def kill(self) -> None:
        """End ffmpeg at once, if it still runs, and reap it. Safe from any thread."""
        self._popen.kill()
        self.wait()

    def _fail(self) -> None:
        try:
            # A closed pipe means that ffmpeg is on its way out; its last words are still to come.
            self._popen.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        raise FFmpegError(self.what, self.wait(), self.lines) from None

    def _drain_stderr(self) -> None:
        for raw in _pipe(self._popen.stderr):
            line = raw.decode("utf-8", "replace").rstrip()
            self.lines.append(line)
            if self._on_line is not None:
                self._on_line(line)


def explain(lines: Sequence[str]) -> str:
    """The words in ffmpeg's stderr that say why: its last errors, else its last lines, in one."""
    errors = [line for line in lines if "[error]" in line or "[fatal]" in line]
    words = dict.fromkeys(_plain(line) for line in (errors or lines))
    telling = [word for word in words if word and not word.startswith(_CASCADE)]
    return "; ".join((telling or list(words))[-3:]) or "it gave no reason"


def _plain(line: str) -> str:
    """An ffmpeg message without its `[mov,mp4 @ 0x5581] [error]` prefixes."""
    return re.sub(r"\[[^]]*( @ 0x[0-9a-f]+|error|fatal|warning)\] ", "", line).strip()


def _start(arguments: Arguments, stdin: int) -> subprocess.Popen[bytes]:
    binary = find()
    with contextlib.ExitStack() as opened:
        words: list[str] = [*_COMMON]
        descriptors: list[int] = []
        for argument in arguments:
            if isinstance(argument, Input):
                descriptors.append(argument.open())
                opened.callback(os.close, descriptors[-1])
                words += _input_words(descriptors[-1])
            else:
                words.append(argument)
        popen = subprocess.Popen(
            [str(binary), *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            # Ctrl-C is for us to handle: an ffmpeg that gets it too ends the file early, "done".
            process_group=0,
        )
    _give_way(popen)
    return popen


def _give_way(popen: subprocess.Popen[bytes]) -> None:
    """Let ffmpeg wait for the numeric threads, which all wait when one of them is interrupted.

    Without it a render on two cores took a tenth longer. Large pipes wake both sides less often.
    """
    with contextlib.suppress(OSError):  # a system may forbid either; it is only slower then
        os.setpriority(os.PRIO_PROCESS, popen.pid, _NICENESS)
        for pipe in (popen.stdin, popen.stdout):
            if pipe is not None and sys.platform == "linux":
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _input_words(descriptor: int) -> list[str]:
    whitelists = ["-protocol_whitelist", "fd", "-format_whitelist", ",".join(CONTAINERS)]
    limit = ["-max_streams", str(MAX_STREAMS)]
    return [*whitelists, *limit, "-fd", str(descriptor), "-i", "fd:"]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _locate() -> Path:
    named = os.environ.get("DREAMFLOW_FFMPEG")
    if named:
        return Path(named)
    return _bundled() or _on_path()


def _bundled() -> Path | None:
    import imageio_ffmpeg

    try:
        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        return None


def _on_path() -> Path:
    found = shutil.which("ffmpeg")
    if found is None:
        raise UnavailableError(
            "no ffmpeg: looked for imageio-ffmpeg's binary and for `ffmpeg` on PATH "
            "(set DREAMFLOW_FFMPEG to a binary)"
        )
    return Path(found)


@functools.cache
def _check_version(binary: Path) -> str:
    """What `-version` prints; raises UnavailableError for what is no FFmpeg 6.0 or newer."""
    wanted = f"dreamflow needs FFmpeg {OLDEST_RELEASE} or newer (set DREAMFLOW_FFMPEG to one)"
    try:
        ran = subprocess.run(
            [str(binary), "-version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=60
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it does not answer"
        raise UnavailableError(f"cannot run ffmpeg at {binary}: {reason}; {wanted}") from None
    text = ran.stdout.decode("utf-8", "replace")
    found = re.search(r"^libavutil\s+(\d+)\.", text, re.MULTILINE)
    if ran.returncode or found is None or not text.startswith("ffmpeg version "):
        raise UnavailableError(f"{binary} is not ffmpeg; {wanted}")
    if int(found[1]) < OLDEST_LIBAVUTIL:
        raise UnavailableError(f"{binary} is too old: {text.splitlines()[0]}; {wanted}")
    return text


@functools.cache
def _list(binary: Path, option: str) -> tuple[tuple[str, ...], ...]:
    """The rows of one of ffmpeg's listings, in columns, without its legend."""
    ran = subprocess.run(
        [str(binary), "-hide_banner", option], capture_output=True, stdin=subprocess.DEVNULL
    )
    text = ran.stdout.decode("utf-8", "replace")
    legend_end = re.search(r"^ *-{3,}$", text, re.MULTILINE)
    rows = text[legend_end.end() if legend_end else 0 :].splitlines()
    return tuple(tuple(row.split()) for row in rows if len(row.split()) > 1)
