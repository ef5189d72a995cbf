"""Clips as arrays: every frame once, upright, with square pixels, in full-range RGB, in time.

Convention. Frame i of a clip is on screen from `info.start + i / info.rate` on. Which frame of the
file that is, is settled from the list of its frames' times before the first one is decoded; so the
count is exact, and a frame that cannot be read leaves a gap that is noticed and filled, never a
shift. Sources of variable rate, `rate`, `start` and `end` are all served by that one list.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from dreamflow.ahead import Ahead
from dreamflow.errors import BadMediaError, DreamflowError, UsageError
from dreamflow.frames import Array, Box, Moment, VideoInfo
from dreamflow.video import colors, sequences
from dreamflow.video.ffmpeg import FFmpegError, Input, Process
from dreamflow.video.limits import MAX_FRAMES, MAX_PIXELS
from dreamflow.video.probe import INFO, Probe, decode_limit, nearest, probe, shown_tick

logger = logging.getLogger("dreamflow")

QUEUE_LENGTH = 4
STILLS_RATE = Fraction(30)
WARNINGS_PER_CLIP = 5


@dataclass(frozen=True)
class Decoded:
    """A frame as a source gives it."""

    index: int
    """Among all frames of the file, from 0."""
    array: Array
    sound: bool
    """False where the decoder had to make up some of it."""


Frames = Generator[Decoded, None, None]


class _Source(Protocol):
    """Where frames come from."""

    path: Path

    @property
    def files(self) -> Sequence[Path]:
        """What is read, one file or many."""
        ...

    def decode(self, first: int, last: int) -> Frames:
        """Frames `first` to `last` in order; those that cannot be read are left out."""
        ...

    def time_of(self, index: int) -> Fraction:
        """Seconds from the first frame of the file."""
        ...

    def cancel(self) -> None:
        """Make a `decode` that runs in another thread end soon."""
        ...


class Clip:
    """An open clip. Leaving its `with` block ends all decoding."""

    def __init__(
        self, source: _Source, info: VideoInfo, schedule: Sequence[int], *, strict: bool
    ) -> None:
        self.info = info
        self._source = source
        self._schedule = schedule
        self._strict = strict
        self._running: list[Ahead[Array]] = []

    def __enter__(self) -> Clip:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def part(self, first: int, stop: int) -> Clip:
        """Frames `first` up to `stop` of this clip as one of its own; decoding begins near them."""
        info = replace(
            self.info,
            frame_count=stop - first,
            start=self.info.start + first / self.info.rate,
            first_index=self.info.first_index + first,
        )
        return Clip(self._source, info, self._schedule[first:stop], strict=self._strict)

    @property
    def files(self) -> Sequence[Path]:
        """The files that the frames come from."""
        return self._source.files

    def frames(self) -> Iterator[Array]:
        """Yield the clip's frames, `info.frame_count` of them, decoded ahead in a thread.

        Raises BadMediaError where the file ends before its time or, in a strict clip, at the first
        frame that cannot be read.
        """
        ahead = Ahead(self._fill_gaps, QUEUE_LENGTH, "decoder", self._source.cancel)
        self._running.append(ahead)
        with contextlib.closing(ahead):
            yield from ahead

    def close(self) -> None:
        while self._running:
            self._running.pop().close()

    def _fill_gaps(self) -> Generator[Array, None, None]:
        """The scheduled frames; the one before stands in for a frame that cannot be read."""
        gaps = _Gaps(self._source, self._strict)
        with contextlib.closing(self._source.decode(self._schedule[0], self._schedule[-1])) as file:
            coming = next(file, None)
            shown: Decoded | None = None
            for wanted in self._schedule:
                while coming is not None and coming.index <= wanted:
                    if coming.sound or shown is None:
                        shown = coming
                    coming = next(file, None)
                shown = shown or coming  # where nothing before can be read, the next one stands in
                if shown is None:
                    raise BadMediaError(f"{self._source.path}: not one of its frames can be read")
                if shown.index != wanted or not shown.sound:
                    gaps.report(wanted)
                yield shown.array
        gaps.summarise()


def open_clip(
    path: Path | str,
    *,
    start: Moment | None = None,
    end: Moment | None = None,
    rate: Fraction | None = None,
    size: Box | None = None,
    allow_truncated: bool = False,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Clip:
    """Open a video file, a folder of stills, or a numbered pattern such as `frame_%04d.png`.

    `start` and `end` count from the clip's first frame, `end` is exclusive; written in frames they
    mean frames at the clip's resulting rate. `rate` resamples a video and is the speed at which
    stills are shown. `size` scales to the largest picture of the same shape inside the box.
    """
    path = Path(path)
    if sequences.is_stills(path):
        return _open_stills(path, start, end, rate or STILLS_RATE, size, strict, max_pixels)
    facts = probe(path, max_pixels=max_pixels)
    _check_complete(path, facts, allow_truncated)
    _warn(path, facts, rate)
    source = _VideoFile(
        path, facts, fitted(size, facts.width, facts.height, max_pixels), max_pixels
    )
    shown_at = rate or facts.rate
    schedule, first = _cut(_schedule(path, facts, shown_at), start, end, shown_at)
    info = VideoInfo(
        width=source.size[0],
        height=source.size[1],
        rate=shown_at,
        frame_count=len(schedule),
        start=facts.start + first / shown_at,
        first_index=first,
        bits=source.bits,
    )
    return Clip(source, info, schedule, strict=strict)


def _open_stills(
    path: Path,
    start: Moment | None,
    end: Moment | None,
    rate: Fraction,
    size: Box | None,
    strict: bool,
    max_pixels: int,
) -> Clip:
    paths = sequences.find_stills(path)
    width, height = sequences.check_sizes(paths, max_pixels)
    source = _Stills(path, paths, fitted(size, width, height, max_pixels), rate, max_pixels)
    schedule, first = _cut(range(len(paths)), start, end, rate)
    info = VideoInfo(*source.size, rate, len(schedule), first / rate, first, source.bits)
    return Clip(source, info, schedule, strict=strict)


def _schedule(path: Path, facts: Probe, rate: Fraction) -> Sequence[int]:
    """For each frame to be shown, the index of the file's frame that is on screen then.

    A file's frame begins at the shown frame nearest to its time, so that the rounding of clocks
    neither drops nor doubles any.
    """
    if rate == facts.rate and not facts.variable_rate:
        return range(facts.frame_count)
    ticks, per_tick = facts.frame_ticks, facts.time_base * rate
    places = [floor((tick - ticks[0]) * per_tick + Fraction(1, 2)) for tick in ticks]
    count = max(1, floor((facts.end_ticks - ticks[0]) * per_tick + Fraction(1, 2)))
    if count > MAX_FRAMES:
        raise BadMediaError(
            f"{path}: at {float(rate):.3f} frames per second it has {count} frames, over the limit "
            f"of {MAX_FRAMES} (cut it, or give a lower --fps)"
        )
    schedule, index = [], 0
    for place in range(count):
        while index + 1 < len(places) and places[index + 1] <= place:
            index += 1
        schedule.append(index)
    return schedule


def _cut(
    schedule: Sequence[int], start: Moment | None, end: Moment | None, rate: Fraction
) -> tuple[Sequence[int], int]:
    """The part of the schedule from `start` up to `end`, and the place of its first frame."""
    count = len(schedule)
    first = start.frame(rate) if start else 0
    stop = count if end is None else min(count, ceil(end.seconds(rate) * rate))
    if first >= count:
        raise UsageError(
            f"the start is behind the clip's end ({count} frames, {float(count / rate):.3f} s)"
        )
    if stop <= first:
        raise UsageError("the end is not behind the start: nothing of the clip is left")
    return schedule[first:stop], first


def fitted(size: Box | None, width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """The (width, height) that a wish for a size means; raises UsageError over the limit."""
    wide, high = size.fit(width, height) if size else (width, height)
    if wide * high > max_pixels:
        raise UsageError(
            f"a size of {wide}x{high} is over the limit of {max_pixels / 1e6:g} "
            "megapixels (raise it with --max-pixels)"
        )
    return wide, high


def _check_complete(path: Path, facts: Probe, allow_truncated: bool) -> None:
    if not facts.truncated:
        return
    ended = f"{path} ended early: {facts.frame_count} of {facts.declared_count} frames"
    if not allow_truncated:
        ways = "--allow-truncated, or allow_truncated: true in a manifest,"
        raise BadMediaError(f"{ended} ({ways} renders what there is)")
    logger.warning(ended)


def _warn(path: Path, facts: Probe, rate: Fraction | None) -> None:
    if facts.interlaced:
        logger.warning("%s is interlaced; its combed frames are dreamed as they are", path)
    if facts.alpha and facts.codec != "gif":  # every GIF counts as transparent
        logger.warning("%s: its transparency is laid over black", path)
    if facts.variable_rate and rate is None:
        logger.warning(
            "%s has a variable frame rate; it is resampled to %.3f frames per second",
            *(path, float(facts.rate)),
        )


class _Gaps:
    """Says which frames could not be read, without flooding the log; refuses in strict clips."""

    def __init__(self, source: _Source, strict: bool) -> None:
        self._source = source
        self._strict = strict
        self._reported: set[int] = set()

    def report(self, index: int) -> None:
        if index in self._reported:
            return
        self._reported.add(index)
        where = f"{self._source.path}: frame {index} at {float(self._source.time_of(index)):.3f} s"
        if self._strict:
            error = BadMediaError(f"{where} cannot be read")
            error.frame = index
            raise error
        if len(self._reported) <= WARNINGS_PER_CLIP:
            logger.warning("%s cannot be read; the frame before stands in", where)

    def summarise(self) -> None:
        if (more := len(self._reported) - WARNINGS_PER_CLIP) > 0:
            logger.warning("%s: %d more frames cannot be read", self._source.path, more)


class _VideoFile:
    """Frames decoded by ffmpeg, each recognised by its time."""

    def __init__(self, path: Path, facts: Probe, size: tuple[int, int], max_pixels: int) -> None:
        self.path = path
        self.files = (path,)
        self.size = size
        self.bits = 16 if facts.bits > 8 else 8
        self._facts = facts
        self._conversion = colors.to_rgb(path, facts, size, self.bits)
        self._max_pixels = max_pixels
        self._process: Process | None = None

    def time_of(self, index: int) -> Fraction:
        facts = self._facts
        return (facts.frame_ticks[index] - facts.frame_ticks[0]) * facts.time_base

    def cancel(self) -> None:
        if self._process is not None:
            self._process.kill()

    def decode(self, first: int, last: int) -> Frames:
        seek = self._seek_to(first)
        if seek:
            sought = self._run(first, last, seek)
            begun = next(sought, None)
            if begun is not None and begun.index == first:
                yield begun
                yield from sought
                return
            # The container's index led to a later place; decoding from the beginning is exact.
            sought.close()
        yield from self._run(first, last, [])

    def _seek_to(self, first: int) -> list[str]:
        """Options that jump to the last keyframe but one before `first`.

        But one, so that frames of an open group of pictures, which need the group before theirs,
        have been decoded well before the first that is shown.
        """
        facts = self._facts
        place = bisect_left(facts.key_ticks, facts.frame_ticks[first]) - 2
        if place < 1:
            return []
        seconds = float(facts.key_ticks[place] * facts.time_base + Fraction(1, 4) / facts.rate)
        return ["-seek_timestamp", "1", "-noaccurate_seek", "-ss", f"{seconds:.6f}"]

    def _run(self, first: int, last: int, seek: list[str]) -> Frames:
        width, height = self.size
        dtype = np.uint8 if self.bits == 8 else np.uint16
        frame_bytes = width * height * 3 * np.dtype(dtype).itemsize
        log = _FrameLog()
        arguments = self._arguments(first, last, seek)
        with Process(arguments, what=f"{self.path}: decoding failed", on_line=log.read) as process:
            self._process = process
            index = first - 1
            while len(data := process.read(frame_bytes)) == frame_bytes:
                tick, sound = log.next_frame()
                index = nearest(self._facts.frame_ticks, tick, low=index + 1)
                array = np.frombuffer(data, dtype).reshape(height, width, 3)
                yield Decoded(index, array, sound)
                if index >= last:
                    return
            _check_end(self.path, process)

    def _arguments(self, first: int, last: int, seek: list[str]) -> list[str | Input]:
        pixels = "rgb24" if self.bits == 8 else "rgb48le"
        graph = ",".join([*self._trim(first, last), "showinfo=checksum=0", *self._conversion])
        return [
            *INFO,
            *("-debug_ts", "-copyts", "-max_error_rate", "1"),
            *seek,
            *decode_limit(self._max_pixels),
            *colors.decoder(self._facts),
            Input(self.path),
            *("-map", "0:V:0", "-vf", graph, "-fps_mode", "passthrough"),
            *("-f", "rawvideo", "-pix_fmt", pixels, "-"),
        ]

    def _trim(self, first: int, last: int) -> list[str]:
        """A filter that drops what is not wanted before it is converted and piped."""
        ticks = self._facts.frame_ticks
        bounds = [f"start_pts={ticks[first]}"] if first else []
        bounds += [f"end_pts={ticks[last + 1]}"] if last + 1 < len(ticks) else []
        return [f"trim={':'.join(bounds)}"] if bounds else []


def _check_end(path: Path, process: Process) -> None:
    """What ends without a signal has only run out of readable frames; a killed decoder has not."""
    try:
        process.finish()
    except FFmpegError as error:
        if error.code is None or error.code < 0:
            raise
        raise BadMediaError(str(error)) from None


_DECODED = re.compile(r"decoder -> pts:(-?\d+) ")


class _FrameLog:
    """Reads from ffmpeg's messages the time of each frame piped out, and whether it is damaged."""

    def __init__(self) -> None:
        self._ticks: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._damaged: set[int] = set()
        self._damage_ahead = False

    def read(self, line: str) -> None:
        """Take one line; called in the thread that drains stderr.

        ffmpeg's filter and decoder speak at once, so that what the one says may stand in the same
        line behind half a sentence of the other.
        """
        if (tick := shown_tick(line)) is not None:
            self._ticks.put(tick)
        if line.endswith("corrupt decoded frame"):
            self._damage_ahead = True
        elif self._damage_ahead and (decoded := _DECODED.search(line)):
            self._damaged.add(int(decoded[1]))
            self._damage_ahead = False

    def next_frame(self) -> tuple[int, bool]:
        """Time and soundness of the next frame; its line was written before its pixels were."""
        tick = self._ticks.get(timeout=60)
        return tick, tick not in self._damaged


class _Stills:
    """Frames read one by one from picture files."""

    def __init__(
        self,
        path: Path,
        paths: Sequence[Path],
        size: tuple[int, int],
        rate: Fraction,
        max_pixels: int,
    ) -> None:
        self.path = path
        self.files = paths
        self.size = size
        self._rate = rate
        self._max_pixels = max_pixels
        self._warned_of_alpha = False
        self.bits = 8 * self._read(0).itemsize

    def time_of(self, index: int) -> Fraction:
        return index / self._rate

    def cancel(self) -> None:
        """Nothing runs beside the reading thread."""

    def decode(self, first: int, last: int) -> Frames:
        for index in range(first, last + 1):
            try:
                array = self._read(index)
            except DreamflowError as error:
                logger.warning("%s", error)
                continue
            yield Decoded(index, resized(_with_bits(array, self.bits), self.size), True)

    def _read(self, index: int) -> Array:
        from dreamflow.video.stills import read_still_with_alpha

        still = read_still_with_alpha(self.files[index], max_pixels=self._max_pixels)
        if still.alpha is not None and not self._warned_of_alpha:
            self._warned_of_alpha = True
            logger.warning("%s: its transparency is laid over black", self.files[index])
        return still.flat()


def _with_bits(array: Array, bits: int) -> Array:
    """The same picture at 8 or 16 bits, full range both."""
    if array.itemsize * 8 == bits:
        return array
    if bits == 16:
        return array.astype(np.uint16) * np.uint16(257)
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def resized(array: Array, size: tuple[int, int]) -> Array:
    """An array, of any number of channels, scaled to (width, height)."""
    import cv2

    width, height = size
    if array.shape[:2] == (height, width):
        return array
    shrinks = width < array.shape[1]
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
