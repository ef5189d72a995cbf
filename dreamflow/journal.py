"""What of a render is finished: a file with a line for each chunk, only ever added to.

A line is a checksum and a JSON text. It is written after all that it tells of is safe on the disk,
and synced itself; so what a line says is true, whatever happened afterwards. Lines that are torn or
damaged are passed over.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamflow.video.ffmpeg import open_regular

_MAX_LINE_BYTES = 4096
_CHECKSUM_DIGITS = 16
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Seal:
    """What a file was when it was finished."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Seal:
        """That of a file, or of all files in a folder with their names."""
        total, digest = 0, hashlib.sha256()
        for part in _parts(path):
            if part != path:
                digest.update(part.name.encode() + b"\0")
            with open(open_regular(part), "rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
                    total += len(block)
        return cls(total, digest.hexdigest())

    def fits(self, path: Path) -> bool:
        """Whether a file or folder still is what it was; one of another size is not read."""
        size = sum(part.stat().st_size for part in _parts(path))
        return size == self.size and Seal.of(path) == self


def _parts(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


@dataclass(frozen=True)
class Entry:
    """A finished chunk."""

    chunk: int
    seals: Mapping[str, Seal]
    """Of its files, by what they hold."""

    def line(self) -> bytes:
        seals = {kind: [seal.size, seal.sha256] for kind, seal in self.seals.items()}
        text = json.dumps({"chunk": self.chunk, "files": seals})
        return f"{_checksum(text.encode())} {text}\n".encode()


def parse(line: bytes) -> Entry | None:
    """The entry in a line; None if it is not as it was written."""
    checksum, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or checksum.decode("latin-1") != _checksum(text[:-1]):
        return None
    try:
        return _entry(json.loads(text))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _entry(facts: Any) -> Entry:
    seals = {str(kind): Seal(size, digest) for kind, (size, digest) in facts["files"].items()}
    whole = [facts["chunk"], *(seal.size for seal in seals.values())]
    texts = [seal.sha256 for seal in seals.values()]
    if not all(type(number) is int and number >= 0 for number in whole):
        raise ValueError("not a count")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("not a digest")
    return Entry(facts["chunk"], seals)


def _checksum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:_CHECKSUM_DIGITS]


class Journal:
    """The journal in the file `path`, which is made if it is not there. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: dict[int, Entry] = {}
        """By the number of the chunk; of two that tell of the same one, the later."""
        self.damaged_lines = 0
        self._read()

    def append(self, entry: Entry) -> None:
        """Add an entry; it is on the disk when this returns."""
        with self._opened() as file:
            line = entry.line()
            while line:  # what does not fit is written in part; the rest of it says why
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        self.entries[entry.chunk] = entry

    def _opened(self) -> io.FileIO:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # a pipe would be waited for
            os.close(descriptor)
            raise OSError(errno.EINVAL, "its journal is not a plain file: give --restart")
        return open(descriptor, "r+b", buffering=0)

    def _read(self) -> None:
        whole = 0
        with self._opened() as raw, io.BufferedReader(raw) as file:
            while line := file.readline(_MAX_LINE_BYTES):
                entry = parse(line)
                if entry is None:
                    self.damaged_lines += 1
                else:
                    self.entries[entry.chunk] = entry
                if line.endswith(b"\n"):
                    whole = file.tell()
            # What is torn must not swallow the beginning of the next line.
            os.truncate(raw.fileno(), whole)
