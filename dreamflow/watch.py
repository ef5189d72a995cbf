"""A folder that things are dropped into: which files in it have arrived in full."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dreamflow.errors import InputMissingError
from dreamflow.video.sequences import PICTURE_SUFFIXES, natural_key

SETTLED_SECONDS = 2.0
"""A file that has not changed for so long is there in full."""

CLIP_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".mxf"}
    | {".flv", ".wmv", ".ogv", ".gif", ".3gp"}
)

_State = tuple[int, int]
"""Size and time of change."""


@dataclass
class _Seen:
    state: _State
    since: float
    taken: bool = False


class Watcher:
    """Looks at a folder time and again. Files that are changed later count as new ones."""

    def __init__(self, folder: Path, settled_seconds: float = SETTLED_SECONDS) -> None:
        if not folder.is_dir():
            raise InputMissingError(f"no such folder to watch: {folder}")
        self._folder, self._settled_seconds = folder, settled_seconds
        self._seen: dict[Path, _Seen] = {}

    def arrived(self) -> list[Path]:
        """Clips and pictures that have settled since the last look, in natural order.

        Raises InputMissingError if the folder is gone.
        """
        now = time.monotonic()
        found = dict(self._files())
        self._seen = {path: seen for path, seen in self._seen.items() if path in found}
        settled: list[Path] = []
        for path, state in found.items():
            seen = self._seen.get(path)
            if seen is None or seen.state != state:
                self._seen[path] = _Seen(state, now)
            elif not seen.taken and now - seen.since >= self._settled_seconds:
                seen.taken = True
                settled.append(path)
        return sorted(settled, key=natural_key)

    def _files(self) -> Iterator[tuple[Path, _State]]:
        try:
            paths = list(self._folder.iterdir())
        except OSError as error:
            text = f"the watched folder {self._folder} cannot be read any more: {error.strerror}"
            raise InputMissingError(text) from None
        for path in paths:
            if path.name.startswith(".") or path.suffix.lower() not in _SUFFIXES:
                continue
            try:
                status = path.stat()
            except OSError:
                continue  # gone in the meantime
            if path.is_file() and status.st_size:
                yield path, (status.st_size, status.st_mtime_ns)


_SUFFIXES = PICTURE_SUFFIXES | CLIP_SUFFIXES
