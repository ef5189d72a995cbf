"""Frames into video files: the codecs and containers there are, encoding, joining with the sound.

A render goes through drafts. An `Encoder` writes one, video only, of all frames or of a run of them
that other drafts go on from. `join` puts the drafts, the source's sound, tags and chapters and our
settings together without encoding the pictures again, checks the result and moves it over the
target, so what stands at the target is whole or untouched. ffmpeg only ever sees temporary names of
our own making.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from dreamflow.errors import (
    DreamflowError,
    InputMissingError,
    OutputError,
    StorageError,
    UnavailableError,
    UsageError,
)
from dreamflow.frames import Array, VideoInfo
from dreamflow.settings import Output
from dreamflow.video import ffmpeg
from dreamflow.video.ffmpeg import FFmpegError, Input, Process, output_name
from dreamflow.video.probe import Probe, Sound, probe, tags
from dreamflow.video.stills import (
    COMMENT_MARK,
    STILL_FORMATS,
    label_png,
    place,
    still_format,
    still_metadata,
    temporary_beside,
)

logger = logging.getLogger("dreamflow")

# ── what there is ────────────────────────────────────────────────────────────────────────────────

_BT709 = "color_primaries=bt709:color_trc=bt709"
_EXACT = "flags=accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"


def _limited(pixel_format: str) -> str:
    """Filters from RGB to BT.709 in TV range, with all four colour tags on every frame.

    Chroma lies at the left, where players take it to be; swscale would centre it.
    """
    return (
        f"scale=out_color_matrix=bt709:out_range=tv:out_chroma_loc=left:{_EXACT},"
        f"format={pixel_format},"
        f"setparams=colorspace=bt709:{_BT709}:range=tv"
    )


def _lossless(pixel_format: str) -> str:
    """Filters that keep RGB as it is, tagged."""
    return f"format={pixel_format},setparams=colorspace=gbr:{_BT709}:range=pc"


@dataclass(frozen=True)
class Codec:
    """A way to encode the draft, and so what the finished file holds."""

    name: str
    encoder: str
    filters: Mapping[int, str]
    """By bits of the arrays: what makes the encoder's pixels of them."""
    options: Callable[[Output], list[str]]
    draft: str = "nut"
    """ffmpeg's name of the draft's container; `image2` is a folder of pictures."""
    bits: int = 8
    """Per channel, as the finished file has it."""
    multiple: int = 1
    """Sides must be multiples of this, and at least `least_side`."""
    least_side: int = 1
    crf_limit: int | None = None
    bytes_per_pixel: float = 1.5
    """Of a dream, about; twice that for deep arrays. Lossless unless another is given."""
    reorder: int = 0
    """Frames by which decoding runs ahead of showing."""
    mp4_tag: str | None = None
    """What MP4 and MOV shall call it, where ffmpeg's choice is not what players look for."""

    def array_bits(self, source_bits: int) -> int:
        """Which arrays (8 or 16 bits) to hand over for a source of this depth.

        Ten bits are worth filling from any source, for a dream is computed in floats; sixteen only
        from a deep one, for they cost much room.
        """
        return 16 if self.bits == 10 or min(self.bits, source_bits) > 8 else 8

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """The smallest size the encoder takes that holds this one."""
        sides = (max(side, self.least_side) for side in (width, height))
        across, down = (-(-side // self.multiple) * self.multiple for side in sides)
        return across, down


# Chunks are encoded one by one. With qcomp below 1 x264 and x265 spend bits by what later frames
# make of a place, of which a chunk's last frames have none: they came out 1.5 to 2 dB below its
# middle. With 1 all frames are quantised alike; at equal size that costs 0.3 dB on the whole.


def _quality(output: Output) -> list[str]:
    return ["-crf", str(output.crf), "-preset", output.speed]


def _x264(output: Output) -> list[str]:
    # Dreams live by their colours: where red, green and blue are counted alike it pays to spend
    # more on chroma, and flat patches come back exactly. They are texture all over, from which
    # x264 would take to give to flat ground: with a quarter of that a dream in the dark keeps 4%
    # more of its layer's activation for 5% more bytes, and a bright one flickers by 2% less.
    words = "chroma-qp-offset=-2:aq-strength=0.25"
    return [*_quality(output), "-qcomp", "1", "-x264-params", words]


def _x265(output: Output) -> list[str]:
    # x265 has its own words for threads.
    parameters = f"pools={output.threads}:frame-threads=1:log-level=error:qcomp=1"
    return [*_quality(output), "-x265-params", parameters]


_VP9_SPEED = {"ultrafast": 5, "veryfast": 5, "fast": 4, "medium": 3, "slow": 1, "veryslow": 0}


_VP9_SPREAD = 5
"""By how many steps of `crf` a frame may be better than asked for. Without a bound keyframes were
4 dB better than what follows them, and each chunk began with a flash of sharpness."""


def _vp9(output: Output) -> list[str]:
    speed, best = str(_VP9_SPEED[output.speed]), str(max(0, output.crf - _VP9_SPREAD))
    quality = ["-crf", str(output.crf), "-qmin", best, "-b:v", "0"]
    return [*quality, "-row-mt", "1", "-cpu-used", speed]


_AV1_SPEED = {"ultrafast": 12, "veryfast": 10, "fast": 9, "medium": 8, "slow": 6, "veryslow": 4}


def _av1(output: Output) -> list[str]:
    # SVT-AV1 has its own words for threads. It too looks ahead beyond where a chunk ends.
    alike = "aq-mode=0:enable-tf=0:use-fixed-qindex-offsets=1"
    words = ["-svtav1-params", f"lp={output.threads}:{alike}"]
    return ["-crf", str(output.crf), "-preset", str(_AV1_SPEED[output.speed]), *words]


def _prores(output: Output) -> list[str]:
    return ["-profile:v", "hq", "-vendor", "apl0"]


def _ffv1(output: Output) -> list[str]:
    return ["-level", "3"]


def _png(output: Output) -> list[str]:
    return []


_SRGB = "setparams=color_primaries=bt709:color_trc=iec61966-2-1:range=pc"
"""PNG's usual transfer is sRGB's; with BT.709's name on it viewers would show it darker."""


_RGB = {8: _lossless("bgr0"), 16: _lossless("gbrp16le")}
_YUV420 = {8: _limited("yuv420p")}
_YUV422 = {bits: _limited("yuv422p10le") for bits in (8, 16)}
_PNG = {8: f"format=rgb24,{_SRGB}", 16: f"format=rgb48be,{_SRGB}"}

CODECS: dict[str, Codec] = {
    "h264": Codec(
        *("h264", "libx264", _YUV420, _x264),
        **{"multiple": 2, "crf_limit": 51, "bytes_per_pixel": 0.1, "reorder": 2},
    ),
    "h265": Codec(
        *("h265", "libx265", _YUV420, _x265),
        **{"multiple": 2, "least_side": 16, "crf_limit": 51, "bytes_per_pixel": 0.12},
        **{"reorder": 2, "mp4_tag": "hvc1"},
    ),
    "vp9": Codec("vp9", "libvpx-vp9", _YUV420, _vp9, crf_limit=63, bytes_per_pixel=0.08),
    "av1": Codec(
        *("av1", "libsvtav1", _YUV420, _av1),
        **{"least_side": 16, "crf_limit": 63, "bytes_per_pixel": 0.07},
    ),
    "prores": Codec("prores", "prores_ks", _YUV422, _prores, bits=10, bytes_per_pixel=0.5),
    "ffv1": Codec("ffv1", "ffv1", _RGB, _ffv1, bits=16),
    "gif": Codec("gif", "ffv1", {8: _RGB[8]}, _ffv1),
    "png": Codec("png", "png", _PNG, _png, "image2", bits=16),
}
"""By the names in the settings. A GIF is made from a lossless draft when joining.

`reorder` is what x264 and x265 do with pyramids of B-frames, their deepest order."""


@dataclass(frozen=True)
class Container:
    """A kind of output."""

    format: str
    """ffmpeg's name for it."""
    codecs: tuple[str, ...]
    """Keys of `CODECS`; the first is the default."""
    sounds: frozenset[str] | None = frozenset()
    """ffmpeg's names of the sound codecs it holds; None for all."""
    sound_encoder: tuple[str, ...] = ()
    """What other sound, and sound that is cut, is re-encoded with."""
    flags: tuple[str, ...] = ()

    @property
    def holds_sound(self) -> bool:
        return bool(self.sound_encoder)


_PCM_KINDS = ("u8", "s8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be")
_PCM = frozenset(f"pcm_{kind}" for kind in _PCM_KINDS)
_MP4_SOUNDS = frozenset({"aac", "mp2", "mp3", "ac3", "eac3", "dts", "alac"})
_MOV_FLAGS = ("-movflags", "+faststart+use_metadata_tags")
# libopus knows only the layouts of the Vorbis order; 5.1(side), the usual one in films, is refused.
_OPUS = ("libopus", "-b:a", "192k", "-af", "aformat=channel_layouts=mono|stereo|5.1|7.1")

_MP4 = Container(
    "mp4",
    ("h264", "h265", "av1"),
    _MP4_SOUNDS | {"flac", "opus"},
    ("aac", "-b:a", "256k"),
    _MOV_FLAGS,
)
CONTAINERS: dict[str, Container] = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container(
        "mov", ("prores", "h264", "h265"), _MP4_SOUNDS | _PCM, ("pcm_s16le",), _MOV_FLAGS
    ),
    ".webm": Container("webm", ("vp9", "av1"), frozenset({"opus", "vorbis"}), _OPUS),
    ".mkv": Container(
        "matroska", ("ffv1", "h264", "h265", "vp9", "av1", "prores"), None, ("flac",)
    ),
    ".gif": Container("gif", ("gif",)),
    "/": Container("image2", ("png",)),
}
"""By the ending of the output's name; `/` is a folder of numbered pictures."""


def container_for(output: str | Path) -> Container:
    """The kind of output that a name asks for; raises UsageError listing those there are."""
    text = os.fspath(output)
    ending = "/" if text.endswith("/") or os.path.isdir(text) else Path(text).suffix.lower()
    if ending not in CONTAINERS:
        single = "; single pictures are made with `dreamflow image` or --at"
        raise UsageError(
            f"cannot tell what to write from the name {text!r}: allowed endings are "
            f"{', '.join(CONTAINERS)} (a folder of pictures)"
            f"{single if ending in STILL_FORMATS else ''}"
        )
    return CONTAINERS[ending]


def codec_for(output: str | Path, settings: Output) -> Codec:
    """The codec for an output. `output` is a string where its trailing `/` matters."""
    allowed = container_for(output).codecs
    name = allowed[0] if settings.codec == "auto" else settings.codec
    if name not in allowed:
        raise UsageError(
            f"{os.fspath(output)} cannot hold {name}: allowed there are {', '.join(allowed)}"
        )
    codec = CODECS[name]
    if codec.crf_limit is not None and settings.crf > codec.crf_limit:
        raise UsageError(f"output.crf is {settings.crf}, {name} takes 0 to {codec.crf_limit}")
    return codec


# ── before any work ──────────────────────────────────────────────────────────────────────────────


def estimate(codec: Codec, info: VideoInfo, settings: Output) -> float:
    """About how many bytes a frame of a dream takes; finer grain takes twice as much."""
    finer = 2 ** ((17 - settings.crf) / 6) if codec.crf_limit == 51 else 1
    deeper = 2 if codec.bits == 16 and codec.array_bits(info.bits) == 16 else 1
    return info.width * info.height * codec.bytes_per_pixel * finer * deeper


def check_target(output: str | Path, *, overwrite: bool) -> None:
    """Raise OutputError if the output cannot be put where it was asked for.

    Raises UsageError if the name does not tell what to write.
    """
    folder = container_for(output).format == "image2"
    _check_place(Path(output), folder=folder, overwrite=overwrite)


def check_still_target(output: str | Path, *, overwrite: bool) -> None:
    """The same for a single picture."""
    still_format(Path(output))
    _check_place(Path(output), folder=False, overwrite=overwrite)


def check_place(output: Path, *, overwrite: bool) -> None:
    """The same for a file of any other kind."""
    _check_place(output, folder=False, overwrite=overwrite)


def check_input_survives(output: str | Path, inputs: Iterable[Path]) -> None:
    """Raise UsageError if the output, by whatever name, would take the place of what is read."""
    path = Path(output)
    if path.exists() and any(file.exists() and path.samefile(file) for file in inputs):
        raise UsageError(f"{path} is read by this very render: give the output another name")


def _check_place(path: Path, *, folder: bool, overwrite: bool) -> None:
    try:
        _check_occupied(path, folder=folder, overwrite=overwrite)
        trial = temporary_beside(path)
        trial.touch(exist_ok=False)
        trial.unlink()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"cannot write {path}: {reason}: {path.parent}") from None


def _check_occupied(path: Path, *, folder: bool, overwrite: bool) -> None:
    if path.is_dir():
        if not folder:
            raise OutputError(f"{path} is a folder: name a file")
        if any(path.iterdir()):
            raise OutputError(f"{path} is a folder with files in it: name a new or an empty one")
        if path.is_symlink() or os.path.ismount(path) or path.samefile(os.curdir):
            raise OutputError(
                f"{path} is a link, a mount or the working folder, which the finished folder "
                "cannot take the place of: name a new folder inside it"
            )
    elif os.path.lexists(path):
        if folder or not path.is_file():
            raise OutputError(f"{path} exists and is not a {'folder' if folder else 'plain file'}")
        if not overwrite:
            raise OutputError(f"{path} exists: give -y to overwrite it")


# ── encoding ─────────────────────────────────────────────────────────────────────────────────────

_QUEUE_FRAMES = 4
_POLL_SECONDS = 0.1


class Encoder:
    """Encodes arrays into a draft, behind the caller, as a context manager.

    Convention: arrays `[height, width, 3]` RGB of `bits` 8 (uint8) or 16 (uint16); the i-th one is
    frame `first` + i of the film, shown at exactly that many / rate. Equal arrays and settings give
    equal bytes. Leaving the block waits until all is written; leaving it by an exception stops
    ffmpeg and removes the draft.

    Raises UnavailableError if the encoder is missing or refuses its settings, StorageError if it
    dies, cannot write, or shows no sign of life for `stall_seconds`.
    """

    def __init__(
        self,
        path: Path,
        codec: Codec,
        *,
        width: int,
        height: int,
        rate: Fraction,
        settings: Output,
        bits: int = 8,
        first: int = 0,
        stall_seconds: float = 60,
    ) -> None:
        self._path, self._codec, self._bits = Path(path), codec, bits
        self._shape = (height, width, 3)
        self._padded = codec.padded(width, height)
        self._arguments = [
            *_raw_input(self._padded, rate, settings, bits),
            *_draft_output(self._path, codec, settings, bits, first),
        ]
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUE_FRAMES)
        self._failure: BaseException | None = None
        self._taken = 0
        self._stall_seconds = stall_seconds

    def __enter__(self) -> Encoder:
        _warn_of_padding(self._codec, self._shape, self._padded)
        if self._codec.encoder not in ffmpeg.encoders():
            raise UnavailableError(
                f"this ffmpeg has no {self._codec.encoder} encoder ({ffmpeg.find()}): choose "
                f"another output.codec, or set DREAMFLOW_FFMPEG to a full build"
            )
        what = f"the {self._codec.encoder} encoder failed"
        if self._codec.draft == "image2":
            self._path.mkdir()
        self._process = Process(self._arguments, feeds=True, what=what)
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        done = False
        try:
            if error is None:
                self._hand_over(None)
                self._wait_for(lambda: not self._feeder.is_alive())
                self._raise_failure()
                done = True
        finally:
            self._stop()
            if not done:
                discard(self._path)

    def write(self, array: Array) -> None:
        """Encode one more frame; blocks while `ffmpeg` is four frames behind."""
        dtype = np.uint8 if self._bits == 8 else np.uint16
        if array.shape != self._shape or array.dtype != dtype:
            given = f"{array.dtype} {array.shape}"
            raise ValueError(f"a frame is {given}, the video {np.dtype(dtype)} {self._shape}")
        (width, height), (rows, columns, _) = self._padded, self._shape
        below, right = height - rows, width - columns
        if below or right:
            array = np.pad(array, ((0, below), (0, right), (0, 0)), mode="edge")
        self._hand_over(array.tobytes())

    def _hand_over(self, data: bytes | None) -> None:
        def handed() -> bool:
            self._raise_failure()
            try:
                self._queue.put(data, timeout=_POLL_SECONDS)
            except queue.Full:
                return False
            return True

        self._wait_for(handed)

    def _feed(self) -> None:
        try:
            while (data := self._queue.get()) is not None:
                self._process.write(data)
                self._taken += 1
            self._process.finish()
        except BaseException as error:  # raised again in the caller
            self._failure = error

    def _wait_for(self, done: Callable[[], bool]) -> None:
        """Wait as long as ffmpeg takes frames or its file grows."""
        since, before = time.monotonic(), self._signs_of_life()
        while not done():
            self._feeder.join(_POLL_SECONDS)
            if (now := self._signs_of_life()) != before:
                since, before = time.monotonic(), now
            elif time.monotonic() - since > self._stall_seconds:
                self._stop()
                raise StorageError(
                    f"the {self._codec.encoder} encoder took nothing for "
                    f"{self._stall_seconds:g} s and was stopped: "
                    f"{ffmpeg.explain(list(self._process.lines))}"
                )

    def _signs_of_life(self) -> tuple[int, int]:
        return self._taken, self._draft_size()

    def _draft_size(self) -> int:
        try:
            folder = self._codec.draft == "image2"
            return len(os.listdir(self._path)) if folder else self._path.stat().st_size
        except OSError:
            return 0

    def _raise_failure(self) -> None:
        failure = self._failure
        if isinstance(failure, FFmpegError) and self._refused(failure):
            raise UnavailableError(str(failure)) from failure
        if failure is not None:
            raise failure

    def _refused(self, failure: FFmpegError) -> bool:
        """Whether ffmpeg gave up by itself before it wrote anything, for want of no room."""
        full = any("No space left" in line for line in failure.lines)
        return (failure.code or 0) > 0 and self._draft_size() == 0 and not full

    def _stop(self) -> None:
        self._process.kill()
        with contextlib.suppress(queue.Full):  # then the feeder is writing, which fails by now
            self._queue.put_nowait(None)
        self._feeder.join()
        self._process.__exit__(None, None, None)


def _raw_input(size: tuple[int, int], rate: Fraction, settings: Output, bits: int) -> list[str]:
    pixels = "rgb24" if bits == 8 else "rgb48le"
    raw = ["-f", "rawvideo", "-pixel_format", pixels, "-video_size", f"{size[0]}x{size[1]}"]
    return [
        *("-y", "-filter_threads", str(settings.threads)),
        *raw,
        *("-framerate", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0"),
    ]


def _draft_output(path: Path, codec: Codec, settings: Output, bits: int, first: int) -> list[str]:
    # Times in a draft begin so late that none that decoding comes to needs be below zero.
    filters = f"setpts=N+{first + codec.reorder},{codec.filters[bits]}"
    encoder = ["-c:v", codec.encoder, *codec.options(settings), "-threads", str(settings.threads)]
    words = ["-vf", filters, "-fps_mode", "passthrough", *encoder, "-flags:v", "+bitexact"]
    if codec.draft == "image2":
        pattern = output_name(path).replace("%", "%%") + "/%08d.png"
        return [*words, "-start_number", str(first + 1), "-f", "image2", pattern]
    # Written packet by packet, so that the growing file is a sign of life.
    words += ["-fflags", "+bitexact", "-flush_packets", "1", "-write_index", "0"]
    return [*words, "-f", codec.draft, output_name(path)]


def _warn_of_padding(codec: Codec, shape: tuple[int, ...], padded: tuple[int, int]) -> None:
    height, width, _ = shape
    if padded != (width, height):
        logger.warning(
            "%dx%d is padded to %dx%d at the edges: %s takes only multiples of %d from %d on",
            *(width, height, *padded, codec.name, codec.multiple),
            max(codec.least_side, codec.multiple),
        )


# ── joining ──────────────────────────────────────────────────────────────────────────────────────

_GIF_RATE_LIMIT = Fraction(50)
"""Viewers play a delay under two centiseconds as ten."""

_TRUSTED_PIXELS = 1 << 28
"""Limit for files of our own making."""


def join(
    drafts: Sequence[Path],
    target: Path,
    codec: Codec,
    *,
    frame_count: int,
    rate: Fraction,
    source: Path | None = None,
    start: Fraction | None = None,
    duration: Fraction | None = None,
    metadata: Mapping[str, str] | None = None,
    soundtrack: Path | None = None,
    workshop: Path | None = None,
    announce: Callable[[Path], None] | None = None,
) -> None:
    """Make the finished output of drafts, check it, and move it over `target`.

    The drafts follow each other without a gap, all made alike. What is not finished lies in the
    folder `workshop`, in the target's file system; without one, beside the target. `announce` is
    called with what will be moved over the target next.

    Sound, tags and chapters come from `source`. Untrimmed, sound keeps its bits and its offset to
    the video; it is re-encoded, and that said, where the container cannot hold it. Trimmed by
    `start` (seconds after the source's first frame) or `duration` (seconds), it is cut to match,
    which takes re-encoding. `metadata` is added to the tags; where there is room for one text only
    (GIF, PNG), that is `metadata["dreamflow"]`. A `soundtrack`, any file with sound in it, is laid
    under a film that has no `source`, from its first frame on, and cut to its length.

    Raises FFmpegError or StorageError; then `target` is as it was.
    """
    container = container_for("/" if codec.name == "png" else target)
    texts = dict(metadata or {})
    if source is not None and not container.holds_sound:
        _warn_of_lost_sound(source)
    if soundtrack is not None and not container.holds_sound:
        logger.warning("an output of this kind holds no sound: %s is left out", soundtrack)
    temporary = temporary_beside(workshop / "any" if workshop else target)
    sounds = 0
    try:
        if container.format == "gif":
            _write_gif(drafts, temporary, rate, texts.get("dreamflow"))
            frame_count, rate = _gif_timing(frame_count, rate)
        elif container.format == "image2":
            _gather_pngs(drafts, temporary, texts.get("dreamflow"))
        else:
            accompaniment = _Accompaniment.of(source, container, start, duration)
            sound = _Soundtrack(soundtrack, frame_count / rate) if soundtrack else accompaniment
            sounds = sound.count if sound else 0
            _write_video(drafts, temporary, container, codec, rate, sound, texts)
        check(temporary, frame_count=frame_count, rate=rate, sounds=sounds)
        if announce is not None:
            announce(temporary)
        place(temporary, target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    finally:
        discard(temporary)


def check(path: Path, *, frame_count: int, rate: Fraction, sounds: int = 0) -> None:
    """Open a finished output again; raises StorageError if frames, time or sound are missing."""
    if path.is_dir():
        found, seconds = len(list(path.glob("*.png"))), frame_count / rate
    else:
        try:
            facts = probe(path, max_pixels=_TRUSTED_PIXELS)
        except DreamflowError as error:
            raise StorageError(f"the finished video cannot be read back: {error}") from error
        found, seconds = facts.frame_count, facts.duration
        if len(facts.sounds) != sounds:
            raise StorageError(f"the finished video has {len(facts.sounds)} sounds, not {sounds}")
    if found != frame_count:
        raise StorageError(f"the finished video has {found} frames, not {frame_count}")
    # A container that counts milliseconds, or a GIF's centiseconds, rounds the last frame's end.
    if abs(seconds - frame_count / rate) > 1 / rate + Fraction(1, 50):
        raise StorageError(
            f"the finished video lasts {float(seconds):.3f} s, not {float(frame_count / rate):.3f}"
        )


def embedded_settings(path: Path) -> str | None:
    """The text stored as `dreamflow` in an output of any kind; None if there is none."""
    path = Path(path)
    if path.is_dir():
        first = min(path.glob("*.png"), default=None)
        if first is None:
            raise InputMissingError(f"a folder without pictures: {path}")
        return still_metadata(first)
    if path.suffix.lower() in (".gif", ".png", ".jpg", ".jpeg", ".webp"):
        return still_metadata(path)
    # Matroska writes its keys in capitals.
    return next((value for key, value in tags(path).items() if key.lower() == "dreamflow"), None)


@dataclass(frozen=True)
class _Accompaniment:
    """What the finished video takes over from the source besides its pictures."""

    source: Path
    facts: Probe
    sounds: tuple[Sound, ...]
    copied: tuple[bool, ...]
    """For each sound, whether it is taken over bit by bit."""
    cut: tuple[Fraction, Fraction | None] | None
    """Where the sound begins, in the source's own time, and how long it lasts; None for all."""

    @classmethod
    def of(
        cls,
        source: Path | None,
        container: Container,
        start: Fraction | None,
        duration: Fraction | None,
    ) -> _Accompaniment | None:
        if source is None:
            return None
        facts = probe(source, max_pixels=_TRUSTED_PIXELS)
        trimmed = start is not None or duration is not None
        sounds = tuple(sound for sound in facts.sounds if sound.start is not None)
        copied = tuple(not trimmed and _holds(container, sound) for sound in sounds)
        cut = (facts.start + (start or 0), duration) if trimmed else None
        for sound, kept in zip(sounds, copied, strict=True):
            if not kept:
                _say_reencoding(sound, container, trimmed=trimmed)
        return cls(source, facts, sounds, copied, cut)

    @property
    def count(self) -> int:
        """Of the tracks with sound in them."""
        return len(self.sounds)

    @property
    def video_delay(self) -> Fraction:
        """Seconds by which the pictures begin after the container; ffmpeg takes that for zero."""
        return Fraction(0) if self.cut else self.facts.start - self.facts.container_start

    def input(self) -> list[str | Input]:
        if self.cut is None:
            return [Input(self.source)]
        begin, length = self.cut
        limit = [] if length is None else ["-t", _seconds(length)]
        return ["-seek_timestamp", "1", "-ss", _seconds(begin), *limit, Input(self.source)]

    def output(self, container: Container) -> list[str]:
        maps = [word for sound in self.sounds for word in ("-map", f"1:{sound.index}")]
        codecs: list[str] = []
        for place_among, copied in enumerate(self.copied):
            words = ("copy",) if copied else container.sound_encoder
            codecs += _for_sound(place_among, words)
        # Brands and the like tell of the source's container, not of ours.
        foreign = ("major_brand", "minor_version", "compatible_brands", "encoder")
        blank = [word for key in foreign for word in ("-metadata", f"{key}=")]
        return [*maps, *codecs, "-map_metadata", "1", "-map_chapters", "1", *blank]


@dataclass(frozen=True)
class _Soundtrack:
    """A sound file laid under a film from its first frame on."""

    path: Path
    length: Fraction
    """Of the film, in seconds."""
    count = 1
    video_delay = Fraction(0)

    def input(self) -> list[str | Input]:
        return ["-t", _seconds(self.length), Input(self.path)]

    def output(self, container: Container) -> list[str]:
        return ["-map", "1:a:0", *_for_sound(0, container.sound_encoder), "-map_metadata", "-1"]


def _holds(container: Container, sound: Sound) -> bool:
    return container.sounds is None or sound.codec in container.sounds


def _for_sound(place_among: int, words: Sequence[str]) -> list[str]:
    """Encoder words such as `aac -b:a 256k`, addressed to one of the sound streams."""
    addressed = ["-c:a", *words]
    options = {"-c:a": "-c:a", "-b:a": "-b:a", "-af": "-filter:a"}
    return [f"{options[word]}:{place_among}" if word in options else word for word in addressed]


def _say_reencoding(sound: Sound, container: Container, *, trimmed: bool) -> None:
    encoder = container.sound_encoder[0]
    if trimmed:
        logger.info("sound (%s) is cut to the video and re-encoded with %s", sound.codec, encoder)
    else:
        logger.warning(
            "sound (%s) is re-encoded with %s: %s cannot hold it",
            *(sound.codec, encoder, container.format),
        )


def _warn_of_lost_sound(source: Path) -> None:
    if probe(source, max_pixels=_TRUSTED_PIXELS).sounds:
        logger.warning("an output of this kind holds no sound: that of %s is left out", source)


_SYNC_POINT = bytes.fromhex("4e4be4adeeca4569")
"""With it the frames begin in a NUT file (its specification, 2008); before it are headers."""
_HEADER_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20


def _one_after_the_other(drafts: Sequence[Path]) -> Iterator[bytes]:
    """The bytes of one draft that shows what all of them show.

    Frames in a NUT file need no more than the headers before them, which all drafts have in common.
    """
    common: bytes | None = None
    for draft in drafts:
        with open(draft, "rb") as file:
            head = file.read(_HEADER_BYTES)
            header, mark, frames = head.partition(_SYNC_POINT)
            if not mark or header != (common or header):
                raise StorageError(f"{draft} is damaged or does not belong to its neighbours")
            yield (b"" if common else header) + mark + frames
            common = header
            while block := file.read(_BLOCK_BYTES):
                yield block


_FROM_DRAFTS = ("-f", "nut", "-format_whitelist", "nut", "-i", "pipe:0")


def _write_video(
    drafts: Sequence[Path],
    temporary: Path,
    container: Container,
    codec: Codec,
    rate: Fraction,
    accompaniment: _Accompaniment | _Soundtrack | None,
    texts: Mapping[str, str],
) -> None:
    delay = accompaniment.video_delay if accompaniment else Fraction(0)
    arguments: list[str | Input] = ["-y", *_FROM_DRAFTS]
    if accompaniment:
        arguments += accompaniment.input()
    arguments += ["-map", "0:v:0", "-c:v", "copy", "-bsf:v", _times(codec, rate, delay)]
    arguments += _color_tags(codec)
    if codec.mp4_tag and container.format in ("mp4", "mov"):
        arguments += ["-tag:v", codec.mp4_tag]
    if accompaniment:
        arguments += accompaniment.output(container)
    for key, text in texts.items():
        arguments += ["-metadata", f"{key}={text}"]
    arguments += ["-flags:a", "+bitexact", "-fflags", "+bitexact", *container.flags]
    arguments += ["-f", container.format, output_name(temporary)]
    feed = _one_after_the_other(drafts)
    ffmpeg.run(arguments, what="joining video and sound failed", feed=feed)


def _color_tags(codec: Codec) -> list[str]:
    """What the filters put on every frame, which a NUT file does not hold."""
    lossless = codec.encoder == "ffv1"
    matrix, levels = ("rgb", "pc") if lossless else ("bt709", "tv")
    tags = {"color_range": levels, "colorspace": matrix}
    tags |= {"color_primaries": "bt709", "color_trc": "bt709"}
    return [word for key, value in tags.items() for word in (f"-{key}", value)]


def _times(codec: Codec, rate: Fraction, delay: Fraction) -> str:
    """A bitstream filter that says when frames are decoded and shown, from `delay` on.

    A draft tells only when they are shown, and what ffmpeg makes up is wrong where one draft goes
    over to the next.
    """
    length = f"{rate.denominator}/{rate.numerator}/TB"
    begin = f"round({delay.numerator}/{delay.denominator}/TB)"
    shown = f"PTS-STARTPTS+{begin}"
    decoded = f"round((N-{codec.reorder})*{length})+{begin}" if codec.reorder else shown
    return f"setts=pts={shown}:dts={decoded}:duration=round({length})"


def _gif_timing(frame_count: int, rate: Fraction) -> tuple[int, Fraction]:
    """How many frames of a clip a GIF shows, and how fast."""
    if rate <= _GIF_RATE_LIMIT:
        return frame_count, rate
    return int((frame_count - 1) * _GIF_RATE_LIMIT / rate) + 1, _GIF_RATE_LIMIT


def _slower(rate: Fraction) -> str:
    """A filter that keeps the first frame in each of a GIF's frame times.

    ffmpeg's `fps` filter rounds its own way, by which now and then one frame too few comes out.
    """
    ratio = _GIF_RATE_LIMIT / rate
    places = (f"floor({n}*{ratio.numerator}/{ratio.denominator})" for n in ("n", "(n-1)"))
    return f"select='not(eq({','.join(places)}))',settb=1/{_GIF_RATE_LIMIT},setpts=N,"


def _write_gif(drafts: Sequence[Path], temporary: Path, rate: Fraction, text: str | None) -> None:
    """Two passes: one palette for the whole clip, then the frames in its colours."""
    slower = _slower(rate) if rate > _GIF_RATE_LIMIT else ""
    palette = temporary.with_name(temporary.name + "-palette")
    what = "making the GIF failed"
    try:
        make = ["-vf", "palettegen", "-c:v", "rawvideo", "-pix_fmt", "bgra", "-f", "nut"]
        words = ["-y", *_FROM_DRAFTS, *make, output_name(palette)]
        ffmpeg.run(words, what=what, feed=_one_after_the_other(drafts))
        use = f"[0:v]{slower}null[frames];[frames][1:v]paletteuse=diff_mode=rectangle"
        arguments = [*_FROM_DRAFTS, Input(palette), "-lavfi", use, "-loop", "0"]
        arguments += ["-fps_mode", "passthrough", "-f", "gif", "-"]
        with Process(arguments, feeds=True, what=what) as process:
            process.feed(_one_after_the_other(drafts))
            _save_gif(process, temporary, text)
            process.finish()
    finally:
        palette.unlink(missing_ok=True)
    if slower:
        logger.warning(
            "GIF viewers show at most %s frames a second: some are left out", _GIF_RATE_LIMIT
        )


def _save_gif(process: Process, path: Path, text: str | None) -> None:
    """Store what ffmpeg sends, with `text` as a comment between the head and the first frame."""
    with open(path, "xb") as file:
        head = process.read(13)
        file.write(head)
        if len(head) == 13 and head[10] & 0x80:
            file.write(process.read(3 << (head[10] & 7) + 1))
        if text is not None:
            file.write(_gif_comment((COMMENT_MARK + text).encode()))
        while block := process.read(1 << 20):
            file.write(block)


def _gif_comment(text: bytes) -> bytes:
    """A comment extension: the text in blocks of up to 255 bytes, each after its length."""
    blocks = (text[at : at + 255] for at in range(0, len(text), 255))
    return b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def _gather_pngs(drafts: Sequence[Path], folder: Path, text: str | None) -> None:
    """The pictures of all drafts in one folder; the first one carries `text`."""
    folder.mkdir()
    for picture in (picture for draft in drafts for picture in draft.iterdir()):
        _link(picture, folder / picture.name)
    first = folder / "00000001.png"
    if text is not None and first.exists():
        labelled = label_png(first.read_bytes(), text)
        first.unlink()  # the draft has the same file
        first.write_bytes(labelled)


def _link(source: Path, target: Path) -> None:
    """Give a file one more name, or where a file system has no such thing, copy it."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)


_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def _seconds(value: Fraction) -> str:
    return f"{float(value):.6f}"


def discard(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
