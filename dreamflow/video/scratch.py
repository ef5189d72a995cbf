"""Finished frames put aside on disk: what a film shows again would not fit in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dreamflow.errors import StorageError
from dreamflow.frames import Array


class Scratch:
    """Arrays of one shape and type by their place, `run` of them to a file.

    `name` gives the file of a run by its number. Raises StorageError where the disk is full.
    """

    def __init__(
        self, name: Callable[[int], Path], run: int, shape: tuple[int, int, int], bits: int
    ) -> None:
        self._name, self._run, self._shape = name, run, shape
        self._dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
        self._open: tuple[int, Path] | None = None

    def write_to(self, path: Path, number: int) -> None:
        """From now on run `number` is written, under this name until it is finished."""
        self._open = (number, path)

    def put(self, place: int, array: Array) -> None:
        """Put an array aside, after all others of its run that come before it."""
        number, within = divmod(place, self._run)
        if self._open is None or self._open[0] != number:
            raise IndexError(f"place {place} is not in the run that is being written")
        try:
            with open(self._open[1], "ab") as file:
                file.truncate(within * array.nbytes)
                file.write(np.ascontiguousarray(array, self._dtype).data)
        except OSError as error:
            raise StorageError(
                f"cannot put a frame of {array.nbytes} bytes aside in {self._open[1].parent}: "
                f"{error.strerror}"
            ) from error

    def __getitem__(self, place: int) -> Array:
        """The array that was put there."""
        number, within = divmod(place, self._run)
        path = self._open[1] if self._open and self._open[0] == number else self._name(number)
        array = np.empty(self._shape, self._dtype)
        try:
            with open(path, "rb") as file:
                file.seek(within * array.nbytes)
                read = file.readinto(array.reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise StorageError(f"cannot read back {path}: {error.strerror}") from error
        if read != array.nbytes:
            raise StorageError(f"cannot read back {path}: it ends early")
        return array
