"""Flow that another program has computed, as files: Middlebury's `.flo`, or `.npy` of NumPy.

Convention. A folder holds `forward_7_8.flo`, the flow from source frame 7 to frame 8 on the grid of
frame 7, and `backward_8_7.flo`, the one from 8 to 7 on the grid of 8 (zeros before a number do not
matter; as the stylisers of video name them). Frames count from 0 at the beginning of the clip,
whatever --start says, at the rate of the render. An `.npy` is floats `[H, W, 2]`, (x right, y
down), in pixels. Files of another size than the frame's are scaled, and their vectors with them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from torch import Tensor

from dreamflow import vectors
from dreamflow.errors import BadMediaError, InputMissingError
from dreamflow.flow import FlowSource, Frames, as_flow
from dreamflow.frames import VideoInfo
from dreamflow.video.ffmpeg import open_regular
from dreamflow.video.limits import MAX_PIXELS

_NAME = re.compile(r"(forward|backward)_([0-9]{1,9})_([0-9]{1,9})\.(flo|npy)")
_MAGIC = np.float32(202021.25).tobytes()
_UNKNOWN = 1e9
"""Middlebury's files hold more than this where the vector is not known."""


@dataclass(frozen=True)
class _Layout:
    """What a file's head says of the vectors behind it."""

    height: int
    width: int
    dtype: np.dtype[np.floating]
    offset: int
    """Bytes before the first vector."""

    @property
    def byte_count(self) -> int:
        return self.offset + self.height * self.width * 2 * self.dtype.itemsize


class FlowFiles(FlowSource):
    """The flow files of a folder. Raises InputMissingError if there are none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fingerprint = f"files {folder}"
        self._files = _found(folder)

    def between(self, first: Tensor, second: Tensor, frames: Frames | None = None) -> Tensor:
        """As of any `FlowSource`; frames further apart are followed through those between.

        Raises BadMediaError for a damaged file or one of another shape than the frame's,
        InputMissingError for one that is not there.
        """
        if frames is None:
            raise ValueError("flow from files needs to know which frames are meant")
        size = first.shape[-2], first.shape[-1]
        if frames in self._files:
            return as_flow(self._read(frames, size), first.device)
        flow = np.zeros((*size, 2), np.float32)
        for step in _steps(frames):
            flow = flow + vectors.pulled(self._read(step, size), flow)
        return as_flow(flow, first.device)

    def check(self, info: VideoInfo) -> None:
        """Refuse a missing or damaged file, or one of the wrong shape, before frames are rendered.

        Raises as `between`.
        """
        last = info.first_index + info.frame_count - 1
        for step in (*_steps((info.first_index, last)), *_steps((last, info.first_index))):
            path = self._path(step)
            with open(open_regular(path), "rb") as file:
                _check_shape(path, _layout(path, file), (info.height, info.width))

    def _path(self, step: Frames) -> Path:
        if step not in self._files:
            raise InputMissingError(
                f"no flow from frame {step[0]} to {step[1]}: {self.folder} has no "
                f"{_name(step)}.flo or .npy"
            )
        return self._files[step]

    def _read(self, step: Frames, size: tuple[int, int]) -> np.ndarray:
        """Vectors `[H, W, 2]` on a grid of `size`."""
        path = self._path(step)
        with open(open_regular(path), "rb") as file:
            layout = _layout(path, file)
            _check_shape(path, layout, size)
            file.seek(layout.offset)
            data = file.read(layout.byte_count - layout.offset)
        found = np.frombuffer(data, layout.dtype).astype(np.float32)
        if not np.isfinite(found).all():
            raise BadMediaError(f"{path} holds numbers that are not finite (NaN or infinite)")
        if np.abs(found).max() >= _UNKNOWN:
            raise BadMediaError(f"{path} has unknown vectors (1e9 and more): fill them in first")
        return vectors.resized(found.reshape(layout.height, layout.width, 2), size)


def _steps(frames: Frames) -> list[Frames]:
    """From the first frame to the second, one by one."""
    way = 1 if frames[1] > frames[0] else -1
    return [(at, at + way) for at in range(frames[0], frames[1], way)]


def _name(frames: Frames) -> str:
    return f"{'forward' if frames[1] > frames[0] else 'backward'}_{frames[0]}_{frames[1]}"


def _found(folder: Path) -> Mapping[Frames, Path]:
    """Files by the frames that they lead from and to."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputMissingError(
            f"cannot read the flow files in {folder}: {error.strerror}"
        ) from error
    files = dict(_named(paths))
    if not files:
        raise InputMissingError(
            f"{folder} holds no flow (forward_7_8.flo, backward_8_7.flo, and so on, or .npy)"
        )
    return files


def _named(paths: Iterable[Path]) -> Iterable[tuple[Frames, Path]]:
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match and (match[1] == "forward") == (int(match[3]) > int(match[2])):
            yield (int(match[2]), int(match[3])), path


def _check_shape(path: Path, layout: _Layout, size: tuple[int, int]) -> None:
    height, width = size
    # Rounding to whole pixels changes the shape of small pictures most.
    slack = 2 * max(layout.width, width)
    if abs(layout.width * height - layout.height * width) > slack:
        raise BadMediaError(
            f"{path} is {layout.width}x{layout.height}, the frame {width}x{height}: "
            "flow of another shape does not fit"
        )


def _layout(path: Path, file: BinaryIO) -> _Layout:
    """Read and check the head of an opened file; raises BadMediaError."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    layout = _npy_layout(path, file) if path.suffix == ".npy" else _flo_layout(path, file)
    height, width = layout.height, layout.width
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise BadMediaError(f"{path} claims to be {width}x{height}, at most 64 megapixels can be")
    if size != layout.byte_count:
        kind = "cut off" if size < layout.byte_count else "too long"
        raise BadMediaError(
            f"{path} is {kind}: {size} bytes, {layout.byte_count} for {width}x{height}"
        )
    return layout


def _flo_layout(path: Path, file: BinaryIO) -> _Layout:
    """Magic 202021.25 as float32, width and height as int32, rows of (x, y), all little-endian."""
    head = file.read(12)
    if head[:4] != _MAGIC or len(head) < 12:
        raise BadMediaError(f"{path} is no .flo file: it does not begin with 202021.25 and a size")
    width, height = (int(side) for side in np.frombuffer(head[4:], "<i4"))
    return _Layout(height, width, np.dtype("<f4"), 12)


def _npy_layout(path: Path, file: BinaryIO) -> _Layout:
    """Only the head is left to NumPy: what follows is read as plain numbers, never unpickled."""
    heads = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        shape, by_columns, dtype = heads[npy.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise BadMediaError(f"{path} is no .npy file that can be read") from error
    if len(shape) != 3 or shape[2] != 2 or dtype.kind != "f" or by_columns:
        order = " by columns" if by_columns else ""
        raise BadMediaError(
            f"{path} holds {dtype}{list(shape)}{order}, not floats [height, width, 2]"
        )
    return _Layout(shape[0], shape[1], dtype, file.tell())
