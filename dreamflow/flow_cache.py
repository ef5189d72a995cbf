"""Flow kept on disk, so that the next render of a clip need not search for it again.

An entry is named by what it was computed from: a hash of both pictures as the search saw them, of
the method and its settings, of versions and of thread counts. So a cache can be shared by clips,
sizes and presets, never gives what a search would not give, and needs no upkeep. Vectors come in
steps of 1/64 pixel (see `flow`), which are kept exactly.

Format of an entry: `_MAGIC`, the hash of the rest, height and width as little-endian uint32, then,
deflated, the differences of the vectors along each row, in steps, as little-endian int32, of which
all lowest bytes come first. A damaged entry is searched for and written again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from torch import Tensor

from dreamflow.errors import DreamflowError, OutputError
from dreamflow.flow import STEPS_PER_PIXEL, FlowMethod, FlowSource, Frames, as_flow
from dreamflow.pixels import as_levels
from dreamflow.video.ffmpeg import open_regular
from dreamflow.video.stills import temporary_beside

logger = logging.getLogger("dreamflow")

MAX_BYTES = 8 << 30
"""Room that a cache takes at most; what was not used for longest goes first."""
_MAGIC = b"dreamflow flow 1"
_DIGEST_BYTES = 16
_SIZE = struct.Struct("<II")
_HEAD_BYTES = len(_MAGIC) + _DIGEST_BYTES + _SIZE.size
_KEPT_SHARE = 0.9
"""Of the room, after some was made."""


class FlowCache(FlowSource):
    """A search that remembers. Raises OutputError if the folder cannot be made or written to."""

    def __init__(self, search: FlowMethod, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.fingerprint = search.fingerprint
        self._search, self._folder, self._max_bytes = search, folder, max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot keep flow in {folder}: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"cannot keep flow in {folder}: it cannot be written to")
        self._bytes = sum(size for _, size, _ in self._entries())
        self._full = False

    def between(self, first: Tensor, second: Tensor, frames: Frames | None = None) -> Tensor:
        path = self._path(as_levels(first), as_levels(second))
        kept = self._read(path, first)
        if kept is None:
            kept = self._search.between(first, second)
            self._write(path, kept)
        return kept

    def both_ways(
        self, first: Tensor, second: Tensor, frames: Frames | None = None
    ) -> tuple[Tensor, Tensor]:
        pictures = as_levels(first), as_levels(second)
        paths = self._path(*pictures), self._path(*pictures[::-1])
        there, back = self._read(paths[0], first), self._read(paths[1], second)
        if there is not None and back is not None:
            return there, back
        found = self._search.both_ways(first, second)
        for path, flow in zip(paths, found, strict=True):
            self._write(path, flow)
        return found

    def _path(self, first: np.ndarray, second: np.ndarray) -> Path:
        digest = hashlib.blake2b(f"{self.fingerprint} {first.shape}".encode(), digest_size=20)
        digest.update(first.tobytes())
        digest.update(second.tobytes())
        name = digest.hexdigest()
        return self._folder / name[:2] / f"{name[2:]}.flow"

    def _read(self, path: Path, image: Tensor) -> Tensor | None:
        """What is kept there, if it is whole and of the picture's size."""
        if not path.exists():
            return None
        size = image.shape[-2], image.shape[-1]
        try:
            with open(open_regular(path), "rb") as file:
                found = decoded(file.read(2 * _most_bytes(size)), size)
            os.utime(path)
        except (DreamflowError, OSError, ValueError, zlib.error) as error:
            logger.info("%s is searched for again: %s", path, error)
            return None
        return as_flow(found, image.device)

    def _write(self, path: Path, flow: Tensor) -> None:
        """Keep a flow, whole or not at all; a full disk ends the keeping and not the render."""
        if self._full:
            return
        data = encoded(flow[0].permute(1, 2, 0).cpu().numpy())
        temporary = temporary_beside(path)
        try:
            path.parent.mkdir(exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            self._full = True
            logger.warning("no more flow is kept in %s: %s", self._folder, error.strerror)
            temporary.unlink(missing_ok=True)
            return
        self._bytes += len(data)
        if self._bytes > self._max_bytes:
            self._make_room()

    def _make_room(self) -> None:
        """Remove what was not used for longest; others may be doing the same."""
        entries = sorted(self._entries())
        self._bytes = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if self._bytes <= _KEPT_SHARE * self._max_bytes:
                return
            path.unlink(missing_ok=True)
            self._bytes -= size

    def _entries(self) -> list[tuple[int, int, Path]]:
        """Time of last use in ns, bytes and place of each."""
        entries = []
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*.flow"):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            entries.append((facts.st_mtime_ns, facts.st_size, path))
        return entries


def _most_bytes(size: tuple[int, int]) -> int:
    """Of vectors before they are deflated."""
    return size[0] * size[1] * 2 * 4 + _HEAD_BYTES


def encoded(vectors: np.ndarray) -> bytes:
    """An entry that holds vectors `[H, W, 2]`, which must be whole steps."""
    height, width, _ = vectors.shape
    steps = np.rint(vectors * STEPS_PER_PIXEL).astype("<i4")
    differences = np.diff(steps, axis=1, prepend=np.zeros_like(steps[:, :1]))
    planes = differences.view(np.uint8).reshape(-1, 4).T
    body = _SIZE.pack(height, width) + zlib.compress(planes.tobytes(), 1)
    return _MAGIC + _digest(body) + body


def decoded(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """The vectors `[H, W, 2]` of an entry; ValueError unless it is whole and of (height, width)."""
    start = len(_MAGIC) + _DIGEST_BYTES
    body = data[start:]
    if data[:start] != _MAGIC + _digest(body):
        raise ValueError("it is damaged, or of another version")
    if _SIZE.unpack(body[: _SIZE.size]) != size:
        raise ValueError("it is of another size")
    byte_count = size[0] * size[1] * 2 * 4
    plain = zlib.decompressobj().decompress(body[_SIZE.size :], byte_count)
    if len(plain) != byte_count:
        raise ValueError("it holds too little")
    planes = np.frombuffer(plain, np.uint8).reshape(4, -1)
    differences = np.ascontiguousarray(planes.T).view("<i4").reshape(*size, 2)
    steps = differences.cumsum(axis=1, dtype=np.int32)
    return steps.astype(np.float32) / np.float32(STEPS_PER_PIXEL)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
