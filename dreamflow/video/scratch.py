"""Finished frames put aside on disk: what a film shows again would not fit in memory."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from dreamflow.errors import StorageError
from dreamflow.frames import Array
from dreamflow.video.stills import temporary_beside


class Scratch:
    """A list of arrays of one shape and type in a nameless file beside `target`.

    As a context manager; the file is gone as soon as it is closed, or the process dies. Raises
    StorageError where the disk is full.
    """

    def __init__(self, target: Path) -> None:
        self._path = temporary_beside(target)
        self._count = 0
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)

    def __enter__(self) -> Self:
        self._file = open(self._path, "x+b", buffering=0)
        self._path.unlink()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def append(self, array: Array) -> None:
        """Put one more at the end."""
        self._shape, self._dtype = array.shape, array.dtype
        data = memoryview(array.tobytes())
        try:
            self._file.seek(0, os.SEEK_END)
            while data:
                data = data[self._file.write(data) or 0 :]
        except OSError as error:
            raise StorageError(
                f"cannot put a frame of {array.nbytes} bytes aside in {self._path.parent}: "
                f"{error.strerror}"
            ) from error
        self._count += 1

    def __getitem__(self, index: int) -> Array:
        """The array number `index`, as it was put in."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        array = np.empty(self._shape, self._dtype)
        self._file.seek(index * array.nbytes)
        data = array.reshape(-1).view(np.uint8).data
        while data:
            read = self._file.readinto(data)
            if not read:
                raise StorageError(f"frames put aside in {self._path.parent} cannot be read back")
            data = data[read:]
        return array
