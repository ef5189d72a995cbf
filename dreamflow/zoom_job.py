"""One zoom: from a checked request to a finished film at its place, or to a stream without end.

As for clips, everything is refused before work that can be, and until the film is whole the output
path is untouched. Only a stream is written where it goes at once: that is what it is for.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from dreamflow import audio, masks, seeds
from dreamflow.camera import matrix
from dreamflow.caption import finished
from dreamflow.checkpoint import State
from dreamflow.errors import BadMediaError, OutputError, UsageError
from dreamflow.feedback import Canvas
from dreamflow.film import (
    IMAGE_BYTES,
    Conditions,
    Event,
    Film,
    Finished,
    Shown,
    Started,
    check_target,
    fingerprint,
    make,
    sha256,
)
from dreamflow.frames import Array, Moment, VideoInfo, to_array, to_image
from dreamflow.job import (
    facts,
    listen,
    named_files,
    prepare,
    recipe,
    refuse_from_nothing,
    refuse_motion_masks,
    refuse_reels,
    warn_of_octaves,
    without_motion,
)
from dreamflow.preset import Preset
from dreamflow.render import Engine, RenderedFrame
from dreamflow.schedule import SoundCurves
from dreamflow.seeds import Seed
from dreamflow.settings import Camera
from dreamflow.video import writer
from dreamflow.video.scratch import Scratch
from dreamflow.video.stills import still_size
from dreamflow.video.stream import ListenerGone, Stream
from dreamflow.video.writer import Codec
from dreamflow.zoom import render_loop, render_zoom

logger = logging.getLogger("dreamflow")

RATE = Fraction(30)
FADE_SECONDS = 2
"""How long one dive takes to turn into the other where a loop closes, at most a third of it."""
STREAM_SECONDS = 3600
"""What curves stretch over in a stream; then they begin again."""
MAX_FRAMES = 10_000_000

_STANDARD_OUTPUT = 1
_STREAM_ENDINGS = ("", ".ts", ".m2ts", ".mts")


@dataclass(frozen=True)
class ZoomRequest(Conditions):
    """What to render, as the command line asks for it.

    Raises UsageError for wishes that exclude each other, and for a film without a length.
    """

    seed: Seed
    target: str
    """Output name; a trailing `/` means a folder of pictures, `-` standard output (streams)."""
    preset: Preset
    frames: int | None = None
    duration: Moment | None = None
    rate: Fraction = RATE
    loop: bool = False
    ping_pong: bool = False
    live: bool = False

    def __post_init__(self) -> None:
        if self.frames is not None and self.duration is not None:
            raise UsageError("--frames and --duration both say how long: give one of them")
        if self.loop and self.ping_pong:
            raise UsageError("--loop and --ping-pong both close the film: give one of them")
        if self.live and (self.loop or self.ping_pong or self.preset.audio):
            raise UsageError("a --live stream has no end to close, and no sound: leave that out")
        if self.target == "-" and not self.live:
            raise UsageError("only a stream goes to standard output: add --live, or name a file")
        if self._length is None and not (self.live or self.preset.audio):
            raise UsageError("how long? give --frames 300, --duration 10, or --audio FILE")
        if self._length is not None and not 1 <= self._length <= MAX_FRAMES:
            raise UsageError(f"{self._length} frames: a film has 1 to {MAX_FRAMES}")

    @property
    def soundtrack(self) -> Path | None:
        """The sound that the film carries, and expressions listen to."""
        return Path(self.preset.audio) if self.preset.audio else None

    @property
    def _length(self) -> int | None:
        if self.duration is None:
            return self.frames
        return round(self.duration.seconds(self.rate) * self.rate)

    def frame_count(self) -> int:
        """Of the whole film; without a wish it lasts as long as its sound.

        Raises BadMediaError for a soundtrack without sound; else errors as `audio.analyse`.
        """
        if self.soundtrack is None:
            return self._length or 0
        if self._length is not None and audio.is_in(self.soundtrack):
            return self._length
        seconds = None if self._length is not None else audio.length(self.soundtrack)
        if seconds is None:
            raise BadMediaError(
                f"{self.soundtrack} has no sound: name another file as --audio, or leave it out"
            )
        return max(1, round(seconds * self.rate))


def render_film(request: ZoomRequest) -> Generator[Event | Finished, None, None]:
    """Render a zoom; yields `Started`, the `RenderedFrame`s, then `Finished`.

    A loop's frames before the film have negative indices; a film there and back yields the way
    there. Between them `Saved` tells what is safe. Closing the generator early stops everything;
    the same request goes on behind what was saved. Raises the DreamflowError that fits; the output
    path is then as it was.
    """
    began = time.monotonic()
    check_target(request.target, request)
    codec = writer.codec_for(request.target, request.preset.output)
    check_inputs_survive(request)
    array = first_picture(request, codec.multiple)
    info = info_of(request, array, request.frame_count())
    course = Course.of(request, info)
    engine = engine_for(request, info, course.dreamed, heard(request, info))
    warn(engine, info)
    if request.ping_pong and request.preset.sound_expressions():
        logger.warning("on the way back of --ping-pong the picture does not follow the sound")
    film = _film(request, course, array, engine, codec)
    yield from make(film, request.target, request)
    yield Finished(request.target, info.frame_count, time.monotonic() - began)


@dataclass(frozen=True)
class Course:
    """Which frames are dreamed and which are shown, in which order."""

    length: int
    """Frames shown."""
    dreamed: int
    """Those of them that are dreamed, from the first on."""
    lead: int
    """Frames dreamed before the film, of which its end makes use; none but for a loop."""

    @classmethod
    def of(cls, request: ZoomRequest, info: VideoInfo) -> Course:
        length = info.frame_count
        if request.ping_pong:
            return cls(length, length // 2 + 1, 0)
        fade = max(1, min(round(FADE_SECONDS * info.rate), length // 3))
        return cls(length, length, min(fade, length - 1) if request.loop else 0)

    @property
    def aside(self) -> int:
        """Frames that are needed again: those of the lead, or of the way there."""
        return self.lead if self.dreamed == self.length else self.dreamed


def _film(request: ZoomRequest, course: Course, array: Array, engine: Engine, codec: Codec) -> Film:
    """What to make of a first picture."""
    info, known = info_of(request, array, course.length), facts(engine, _facts(request))
    bits = codec.array_bits(info.bits)

    def frames(place: int, state: State | None, aside: Scratch) -> Generator[Shown, None, None]:
        assert state is None or isinstance(state, Canvas)
        seed = to_image(array, engine.device)
        if course.lead:
            return _loop(seed, engine, course, bits, place, state, aside)
        return _dive(seed, engine, course, bits, place, state, aside)

    return Film(
        info=info,
        codec=codec,
        settings=request.preset.output,
        frames=frames,
        state=Canvas,
        state_bytes=IMAGE_BYTES * info.height * info.width,
        fingerprint=fingerprint(known, engine, info, codec, ()),
        preset=known["preset"],
        device=engine.device,
        inputs=(),
        extras={
            "soundtrack": request.soundtrack,
            "metadata": {"dreamflow": recipe(known, request.asked)},
        },
        lead=course.lead,
        dreamed=course.lead + course.dreamed,
        aside=course.aside,
        aside_bits=16 if course.lead else bits,
    )


def _loop(
    seed: Tensor,
    engine: Engine,
    course: Course,
    bits: int,
    place: int,
    canvas: Canvas | None,
    aside: Scratch,
) -> Generator[Shown, None, None]:
    """A film whose end runs on into its beginning, with what comes before it."""
    for frame in render_loop(seed, engine, course.length, course.lead, aside, canvas=canvas):
        if frame.index < place:
            continue
        if frame.index < 0:
            dreamed = frame.carry.index == frame.index
            again = to_array(frame.image, 16) if dreamed else None
            yield Shown(frame.index, None, frame, again)
        else:
            yield Shown(frame.index, finished(frame, engine.preset.output, bits), frame)


def _dive(
    seed: Tensor,
    engine: Engine,
    course: Course,
    bits: int,
    place: int,
    canvas: Canvas | None,
    aside: Scratch,
) -> Generator[Shown, None, None]:
    """A film that goes on and on, or there and back; its two ends are then shown once."""
    turns = course.dreamed < course.length
    if place < course.dreamed:
        for frame in render_zoom(seed, engine, course.dreamed, canvas=canvas):
            if frame.index >= place:
                array = finished(frame, engine.preset.output, bits)
                yield Shown(frame.index, array, frame, array if turns else None)
    for back in range(max(place, course.dreamed), course.length):
        yield Shown(back, aside[course.length - back], None)


def render_stream(
    request: ZoomRequest,
) -> Generator[Started | RenderedFrame | Finished, None, None]:
    """Dive on until `frames` are done, nobody reads any more, or the generator is closed.

    Yields as `render_film` does. What was written stays where it is, and can be played.
    """
    began, count = time.monotonic(), 0
    if request.preset.output.codec not in ("auto", "h264"):
        raise UsageError(f"a stream is h264, not {request.preset.output.codec} (output.codec)")
    check_inputs_survive(request)
    array = first_picture(request, writer.CODECS["h264"].multiple)
    wanted = request.frame_count()
    info = info_of(request, array, wanted or round(STREAM_SECONDS * request.rate))
    engine = engine_for(request, info, info.frame_count, heard(request, info))
    warn(engine, info)
    with _opened(request) as descriptor:
        yield Started(info, "h264", wanted)
        size = {"width": info.width, "height": info.height}
        stream = Stream(descriptor, **size, rate=info.rate, settings=request.preset.output)
        try:
            with stream:
                seed = to_image(array, engine.device)
                for frame in render_zoom(seed, engine, wanted or None, period=info.frame_count):
                    stream.write(finished(frame, request.preset.output))
                    count += 1
                    yield frame
        except ListenerGone:
            logger.info("the stream is closed by what reads it")
    yield Finished(request.target, count, time.monotonic() - began)


@contextmanager
def _opened(request: ZoomRequest) -> Iterator[int]:
    """The descriptor that the stream goes to."""
    if request.target == "-":
        descriptor = os.dup(_STANDARD_OUTPUT)
    else:
        name = request.target
        if Path(name).suffix.lower() not in _STREAM_ENDINGS:
            logger.warning("%s becomes an MPEG-TS stream, whose usual ending is .ts", name)
        how = os.O_TRUNC if request.overwrite else os.O_EXCL
        try:
            descriptor = os.open(
                request.target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o666
            )
        except FileExistsError:
            raise OutputError(f"{request.target} exists: give -y to overwrite it") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise OutputError(f"cannot write {request.target}: {reason}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


# ── what both have in common ─────────────────────────────────────────────────────────────────────


def first_picture(request: ZoomRequest, multiple: int) -> Array:
    """The seed at the size of the film, its sides multiples of `multiple`; errors as `draw`."""
    return seeds.draw(
        request.seed,
        request.size,
        multiple=multiple,
        take=request.preset.seed,
        max_pixels=request.max_pixels,
    )


def info_of(request: ZoomRequest, array: Array, frame_count: int) -> VideoInfo:
    """The film that grows from a first picture."""
    height, width, _ = array.shape
    return VideoInfo(width, height, request.rate, frame_count, bits=array.itemsize * 8)


def engine_for(
    request: ZoomRequest, info: VideoInfo, frame_count: int, sound: SoundCurves | None
) -> Engine:
    """The engine of a film of which that many frames are dreamed, with its mask."""
    refuse_from_nothing(request.preset)
    refuse_motion_masks(request.preset)
    fit = partial(_laid_over, seed=request.seed, info=info)
    engine = prepare(
        request.preset,
        info.rate,
        request.device,
        request.threads,
        frame_count=frame_count,
        sound=sound,
        make_flow=without_motion,
        max_pixels=request.max_pixels,
        fit=fit,
    )
    refuse_reels(engine)
    if engine.trackers:
        raise UsageError(
            f"a mask that follows ({', '.join(engine.trackers)}) is for clips and stills: "
            "use a still of the seed (dreamflow heatmap --mask draws one)"
        )
    return engine


def heard(request: ZoomRequest, info: VideoInfo) -> SoundCurves | None:
    """What the preset's expressions need to know of the film's sound (see `job.listen`)."""
    return listen(request.preset, None, info)


def _laid_over(weights: Array, seed: Seed, info: VideoInfo) -> Array:
    """A mask cut like the seed it is meant for: stretched over it, then cropped with it."""
    if not isinstance(seed, Path):
        return weights
    frame = (info.width, info.height)
    return seeds.covering(weights, frame, shape=still_size(seed), scaled=masks.stretched)


def check_inputs_survive(request: ZoomRequest) -> None:
    """Raise UsageError if the output would take the place of what is read."""
    if request.target == "-":
        return
    inputs = [request.soundtrack, request.seed if isinstance(request.seed, Path) else None]
    read = [path for path in inputs if path] + named_files(request.preset)
    writer.check_input_survives(request.target, read)


def _facts(request: ZoomRequest) -> dict[str, str]:
    """What made the film besides the preset; of a picture its name, not where it lies."""
    seed = request.seed
    known = {"zoom_of": seed.name if isinstance(seed, Path) else str(seed)}
    if isinstance(seed, Path):
        known["picture_sha256"] = sha256(seed)
    if request.loop or request.ping_pong:
        known["closed_by"] = "loop" if request.loop else "ping-pong"
    return known


def warn(engine: Engine, info: VideoInfo) -> None:
    """Tell of octaves that do not fit, of objectives left out, and of a camera that never moves."""
    warn_of_octaves(engine, info)
    moments = (engine.at(index).preset.camera for index in range(0, info.frame_count, 10))
    if all(_stands_still(settings) for settings in moments):
        logger.warning(
            "the camera stands still: no camera.* of this preset moves it "
            "(try -s camera.zoom=1.02, or --preset dive)"
        )


def _stands_still(settings: Camera) -> bool:
    return matrix(settings, (9, 16), 1.0).tolist() == np.eye(3).tolist()
