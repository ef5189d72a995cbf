"""An endless film: frames into an MPEG transport stream that others watch while it is made."""

from __future__ import annotations

import contextlib
import os
import threading
from fractions import Fraction
from types import TracebackType
from typing import Self

from dreamflow.frames import Array
from dreamflow.settings import Output
from dreamflow.video.ffmpeg import FFmpegError, Process
from dreamflow.video.writer import CODECS

_CHUNK_BYTES = 1 << 16


class ListenerGone(Exception):
    """Nobody reads the stream any more."""


class Stream:
    """Encodes arrays `[H, W, 3]` uint8 to H.264 and hands every packet on at once.

    `descriptor` is where it goes; it is not closed. As a context manager: leaving it, even by an
    exception, waits until all that was written is handed on.
    """

    def __init__(
        self, descriptor: int, *, width: int, height: int, rate: Fraction, settings: Output
    ) -> None:
        self._descriptor = descriptor
        self._arguments = _arguments(f"{width}x{height}", rate, settings)
        self._failure: OSError | None = None

    def __enter__(self) -> Self:
        self._process = Process(self._arguments, feeds=True, what="streaming failed")
        self._pump = threading.Thread(target=self._hand_on, name="stream", daemon=True)
        self._pump.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not isinstance(error, ListenerGone):
                self._process.finish()
        except FFmpegError:
            if error is None:
                self._raise_if_gone()
                raise
        finally:
            self._process.kill()
            self._pump.join()
            self._process.__exit__(None, None, None)

    def write(self, array: Array) -> None:
        """Encode one more frame; raises ListenerGone once what reads the stream has closed it."""
        self._raise_if_gone()
        try:
            self._process.write(array.tobytes())
        except FFmpegError:
            self._raise_if_gone()
            raise

    def _raise_if_gone(self) -> None:
        if isinstance(self._failure, BrokenPipeError):
            raise ListenerGone
        if self._failure is not None:
            raise self._failure

    def _hand_on(self) -> None:
        try:
            while data := self._process.read_some(_CHUNK_BYTES):
                view = memoryview(data)
                while view:
                    view = view[os.write(self._descriptor, view) :]
        except OSError as error:  # raised again in the caller
            self._failure = error
            with contextlib.suppress(OSError):
                self._process.kill()


def _arguments(size: str, rate: Fraction, settings: Output) -> list[str]:
    codec, threads = CODECS["h264"], str(settings.threads)
    return [
        *("-probesize", "32", "-filter_threads", threads),
        *("-f", "rawvideo", "-pixel_format", "rgb24"),
        *("-video_size", size, "-framerate", f"{rate.numerator}/{rate.denominator}"),
        *("-i", "pipe:0", "-vf", codec.filters[8], "-fps_mode", "passthrough"),
        *("-c:v", codec.encoder, *codec.options(settings), "-tune", "zerolatency"),
        # A keyframe every second or so, for those who tune in later.
        *("-g", str(max(1, round(rate))), "-threads", threads),
        *("-flush_packets", "1", "-muxdelay", "0", "-f", "mpegts", "-"),
    ]
