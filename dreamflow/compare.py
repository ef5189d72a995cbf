"""Clips side by side in one video, with their names, to choose settings by eye."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dreamflow.errors import UsageError
from dreamflow.frames import Array, Box
from dreamflow.settings import Output
from dreamflow.sheets import GROUND, Cell, compose_sheet, layout
from dreamflow.video import writer
from dreamflow.video.reader import Clip, open_clip, resized
from dreamflow.video.sequences import is_stills
from dreamflow.video.stills import temporary_beside

MOST_CLIPS = 9
_CELL = Box(960, 960)
"""What a clip is shrunk to fit in, unless a size is asked for."""


def compare(
    clips: Sequence[Path],
    target: str,
    labels: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    size: Box | None = None,
    overwrite: bool = False,
) -> Generator[int, None, None]:
    """Write 2 to `MOST_CLIPS` clips of one rate on a grid; yields how many frames are done.

    All cells have the first clip's size, fitted into `size`; other shapes get borders. The sound is
    that of the first. A clip that is over shows its last frame. Raises UsageError for clips of
    different rates, OutputError before any work if `target` is taken.
    """
    names = _names(clips, labels)
    writer.check_target(target, overwrite=overwrite)
    codec = writer.codec_for(target, Output())
    with ExitStack() as stack:
        opened = [stack.enter_context(open_clip(clip)) for clip in clips]
        writer.check_input_survives(target, [file for clip in opened for file in clip.files])
        _check_rates(clips, opened)
        board = _Board(names, _cell_size(opened[0], size), columns)
        first, count = opened[0].info, max(clip.info.frame_count for clip in opened)
        draft = temporary_beside(Path(target))
        stack.callback(writer.discard, draft)
        height, width, _ = board.ground.shape
        encoder = writer.Encoder(
            draft, codec, width=width, height=height, rate=first.rate, settings=Output()
        )
        with encoder:
            for done, frames in enumerate(_together(opened, count), 1):
                encoder.write(board.with_pictures(frames))
                yield done
        _join(draft, target, codec, clips[0], count, opened[0])


def _names(clips: Sequence[Path], labels: Sequence[str] | None) -> Sequence[str]:
    if not 2 <= len(clips) <= MOST_CLIPS:
        raise UsageError(f"2 to {MOST_CLIPS} clips can be compared, not {len(clips)}")
    if labels is None:
        return [clip.name for clip in clips]
    if len(labels) != len(clips):
        raise UsageError(f"{len(labels)} labels for {len(clips)} clips: give one for each, or none")
    return labels


def _check_rates(clips: Sequence[Path], opened: Sequence[Clip]) -> None:
    if len({clip.info.rate for clip in opened}) > 1:
        rates = ", ".join(f"{p}: {c.info.rate}" for p, c in zip(clips, opened, strict=True))
        raise UsageError(f"clips of different frame rates cannot run side by side ({rates})")


def _cell_size(clip: Clip, size: Box | None) -> tuple[int, int]:
    """(width, height) of every picture on the grid."""
    own = clip.info.width, clip.info.height
    shrinks = size is not None or max(own) > max(_CELL.width, _CELL.height)
    return (size or _CELL).fit(*own) if shrinks else own


def _together(opened: Sequence[Clip], count: int) -> Iterator[tuple[Array, ...]]:
    """The frames of all clips at the same time, `count` times."""
    return itertools.islice(zip(*(_held(clip) for clip in opened), strict=True), count)


def _held(clip: Clip) -> Iterator[Array]:
    """A clip's frames, and then its last one for ever."""
    last = None
    for last in clip.frames():
        yield last
    assert last is not None
    yield from itertools.repeat(last)


class _Board:
    """The grid with its words, drawn once, on which each frame's pictures are laid."""

    def __init__(self, names: Sequence[str], cell: tuple[int, int], columns: int | None) -> None:
        self._size = cell
        blank = np.full((cell[1], cell[0], 3), GROUND, np.uint8)
        cells = [Cell(name, picture=blank) for name in names]
        columns = columns or math.ceil(math.sqrt(len(cells)))
        self._corners = [layout(cells, columns).corner(place) for place in range(len(cells))]
        self.ground = _even(compose_sheet(cells, columns))

    def with_pictures(self, pictures: Sequence[Array]) -> Array:
        sheet = self.ground.copy()
        for (x, y), picture in zip(self._corners, pictures, strict=True):
            small = self._fitted(picture)
            height, width, _ = small.shape
            across, down = (self._size[0] - width) // 2, (self._size[1] - height) // 2
            sheet[y + down : y + down + height, x + across : x + across + width] = small
        return sheet

    def _fitted(self, picture: Array) -> Array:
        height, width, _ = picture.shape
        small = resized(picture, Box(*self._size).fit(width, height))
        return small if small.dtype == np.uint8 else (small >> 8).astype(np.uint8)


def _even(sheet: Array) -> Array:
    """With sides that every codec takes."""
    height, width, _ = sheet.shape
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    return np.pad(sheet, padding, constant_values=GROUND)


def _join(
    draft: Path, target: str, codec: writer.Codec, first: Path, count: int, clip: Clip
) -> None:
    has_sound = not is_stills(first)
    # The first clip's tags come along with its sound; its recipe would not make this picture.
    forget = {"dreamflow": ""} if writer.container_for(target).holds_sound else {}
    writer.join(
        [draft],
        Path(target),
        codec,
        frame_count=count,
        rate=clip.info.rate,
        source=first if has_sound else None,
        metadata=forget,
    )
