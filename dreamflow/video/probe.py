"""What is in a media file, found out without decoding more than one frame of it.

Convention. Times are counted in ticks of `Probe.time_base` as the container has them; sizes are
upright with square pixels unless a name says `coded`. There is no ffprobe: the packets are listed
by ffmpeg's `framecrc` writer, and one frame is described by its `showinfo` filter.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from dreamflow.errors import BadMediaError
from dreamflow.video import ffmpeg
from dreamflow.video.ffmpeg import FFmpegError, Input, Process
from dreamflow.video.limits import (
    MAX_FRAMES,
    MAX_HOURS,
    MAX_PIXELS,
    MAX_RATE,
    MAX_STREAMS,
    MAX_TAG_BYTES,
    MIN_RATE,
)

NO_TIME = -(1 << 63)
DISCARD, CORRUPT = 0x4, 0x2
"""Flags of a packet: decoded for the sake of others but not shown; cut off or damaged."""

COMMON_RATES = tuple(
    Fraction(rate, divisor)
    for rate, divisor in (
        *((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (48, 1), (50, 1)),
        *((60000, 1001), (60, 1), (100, 1), (120000, 1001), (120, 1)),
    )
)
_USUAL_RATE = Fraction(25)
"""Where nothing tells."""

HIDDEN_FRAME_CODECS = frozenset({"vp8"})
"""Codecs in which a packet may hold a frame that is never shown."""

REORDER_FRAMES = 16
"""How far codecs may store a frame ahead of its turn."""

INFO = ("-loglevel", "repeat+level+info")
_VERBOSE = ("-loglevel", "repeat+level+verbose")
"""Only so does ffmpeg say where the chroma samples lie."""
LISTING_LINES = 4000


@dataclass(frozen=True)
class Color:
    """ffmpeg's names; `unknown` where the file does not say."""

    range: str
    matrix: str
    primaries: str
    transfer: str


@dataclass(frozen=True)
class Sound:
    """One audio stream."""

    index: int
    """Among all streams of the file."""
    codec: str
    start: Fraction | None
    """Seconds, as the container has it; None for a stream without packets."""


@dataclass(frozen=True)
class Probe:
    """Facts about a file's first real video stream (no cover art) and what accompanies it."""

    container: str
    """ffmpeg's name of the format, such as `mov,mp4,m4a,3gp,3g2,mj2`."""
    codec: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    rate: Fraction
    """Exact if the clip has a constant rate, else the average."""
    variable_rate: bool
    declared_count: int
    """Frames the file should have; more than there are if it was cut off."""
    time_base: Fraction
    """Seconds per tick."""
    frame_ticks: tuple[int, ...] = field(repr=False)
    """When each shown frame appears, ascending."""
    key_ticks: tuple[int, ...] = field(repr=False)
    """When the frames appear from which decoding can begin, ascending."""
    end_ticks: int
    """When the last frame disappears."""
    container_start: Fraction
    """Seconds at which the earliest stream begins; players take it for zero."""
    pixel_format: str
    bits: int
    """Of the deepest component, as coded."""
    alpha: bool
    color: Color
    chroma_location: str
    """ffmpeg's name of where subsampled chroma lies among the luma, `unknown` if nothing tells."""
    interlaced: bool
    sounds: tuple[Sound, ...]
    tags: dict[str, str] = field(hash=False)
    chapters: bool

    @property
    def frame_count(self) -> int:
        return len(self.frame_ticks)

    @property
    def start(self) -> Fraction:
        """Seconds at which the first frame appears, as the container has it."""
        return self.frame_ticks[0] * self.time_base

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's start to the last one's end."""
        return (self.end_ticks - self.frame_ticks[0]) * self.time_base

    @property
    def truncated(self) -> bool:
        return self.frame_count < self.declared_count


def probe(path: Path, *, max_pixels: int = MAX_PIXELS) -> Probe:
    """Look into a video file.

    Raises InputMissingError if it cannot be opened, BadMediaError if it holds no video, no complete
    index, pictures of more than `max_pixels`, or goes beyond another of the `limits`.
    """
    _check_animation(path)
    packets = _list_packets(path, max_pixels)
    _check_pixels(path, packets.coded_width, packets.coded_height, max_pixels)
    shown = _show_frames(path, max_pixels, count=1)
    times = _frame_times(path, packets, max_pixels)
    width, height = _square(shown)
    _check_pixels(path, width, height, max_pixels)
    rate, variable = find_rate(times, packets.time_base, shown.rate)
    _check_time(path, rate, (times.end - times.ticks[0]) * packets.time_base)
    components, bits = ffmpeg.pixel_formats().get(shown.pixel_format, (3, 8))
    return Probe(
        container=packets.container,
        codec=packets.codec,
        width=width,
        height=height,
        coded_width=packets.coded_width,
        coded_height=packets.coded_height,
        rate=rate,
        variable_rate=variable,
        declared_count=_declared_count(packets, times, rate),
        time_base=packets.time_base,
        frame_ticks=times.ticks,
        key_ticks=times.key_ticks,
        end_ticks=times.end,
        container_start=packets.container_start,
        pixel_format=shown.pixel_format,
        bits=bits,
        alpha=components in (2, 4) or packets.alpha_mode,
        color=shown.color,
        chroma_location=packets.chroma_location,
        interlaced=shown.interlaced,
        sounds=packets.sounds(),
        tags=tags(path),
        chapters=packets.chapters,
    )


def tags(path: Path) -> dict[str, str]:
    """The container's own metadata (not its streams'), values as they were written."""
    try:
        with Process([Input(path), "-f", "ffmetadata", "-"]) as process:
            text = process.read(MAX_TAG_BYTES + 1)
            if len(text) > MAX_TAG_BYTES:
                raise BadMediaError(f"{path}: its tags take over {MAX_TAG_BYTES >> 20} MB")
            process.finish()
    except FFmpegError as error:
        raise _refusal(path, error.lines) from None
    return parse_ffmetadata(text.decode("utf-8", "replace"))


def parse_ffmetadata(text: str) -> dict[str, str]:
    r"""The global section of ffmpeg's metadata text, in which `\` escapes newline, = ; # and \."""
    found: dict[str, str] = {}
    for entry in re.findall(r"(?:\\.|[^\\\n])+", text.removeprefix(";FFMETADATA1\n"), re.DOTALL):
        if entry.startswith("["):
            break
        halves = re.fullmatch(r"((?:\\.|[^\\=])*)=(.*)", entry, re.DOTALL)
        if halves and not entry.startswith((";", "#")):
            key, value = (
                re.sub(r"\\(.)", r"\1", half, flags=re.DOTALL) for half in halves.groups()
            )
            found[key] = value
    return found


@dataclass(frozen=True)
class Times:
    """When frames appear; `end` is when the last one disappears."""

    ticks: tuple[int, ...]
    key_ticks: tuple[int, ...]
    end: int


def find_rate(times: Times, time_base: Fraction, declared: Fraction) -> tuple[Fraction, bool]:
    """The exact rate and whether it varies.

    Containers that count milliseconds round 24000/1001 to something near it, so a usual rate that
    explains every frame's time goes before what the container says. A single frame has no rate,
    and containers derive absurd ones from how short it is.
    """
    if len(times.ticks) == 1 and not MIN_RATE <= declared <= MAX_RATE:
        return _USUAL_RATE, False
    near = [rate for rate in COMMON_RATES if abs(rate / declared - 1) < Fraction(1, 200)]
    average = _average_rate(times, time_base)
    usual = sorted(near, key=lambda rate: abs(rate - declared))
    for rate in (*(() if declared in usual else usual), declared, *usual, average):
        if _on_grid(times.ticks, time_base * rate):
            return rate, False
    return next(
        (rate for rate in (declared, *usual) if _has_few_gaps(times, time_base * rate)), average
    ), True


def _average_rate(times: Times, time_base: Fraction) -> Fraction:
    seconds = (times.end - times.ticks[0]) * time_base
    return (len(times.ticks) / seconds).limit_denominator(1001) if seconds > 0 else _USUAL_RATE


def _on_grid(ticks: Sequence[int], frames_per_tick: Fraction) -> bool:
    """Whether frame i appears at i/rate, but for the rounding of the clock and a little jitter."""
    tolerance = max(Fraction(1, 4), frames_per_tick)
    return all(
        abs((tick - ticks[0]) * frames_per_tick - index) <= tolerance
        for index, tick in enumerate(ticks)
    )


def _has_few_gaps(times: Times, frames_per_tick: Fraction) -> bool:
    """Whether a tenth of the frames or less are missing from an otherwise constant rate."""
    places = [(tick - times.ticks[0]) * frames_per_tick for tick in times.ticks]
    tolerance = max(Fraction(1, 4), frames_per_tick)
    even = all(abs(place - round(place)) <= tolerance for place in places)
    return even and 9 * (round(places[-1]) + 1) <= 10 * len(places)


class _Packets:
    """What ffmpeg says of the streams and of every packet, gathered line by line."""

    def __init__(self) -> None:
        self.log: deque[str] = deque(maxlen=LISTING_LINES)
        self.header: dict[tuple[str, int], str] = {}
        self.video: list[tuple[int, int, int]] = []  # ticks, duration, flags
        self.sound_starts: dict[int, int] = {}

    def read_message(self, line: str) -> None:
        """One line of the log, of which a verbose one shall not crowd out the rest."""
        if "[verbose]" not in line:
            self.log.append(line)

    def read_line(self, line: str) -> None:
        """One line of framecrc: `#name stream: value`, or stream, dts, pts, duration, size, crc."""
        if line.startswith("#"):
            name, _, value = line[1:].partition(":")
            words = name.split()
            if len(words) == 2:
                self.header[words[0], int(words[1])] = value.strip()
            return
        stream, dts, pts, duration = (int(column) for column in line.split(",")[:4])
        if stream == 0:
            flags = re.search(r"F=0x([0-9a-fA-F]+)", line)
            # Without the field the packet is flagged as key and nothing else.
            self.video.append((pts, duration, int(flags[1], 16) if flags else 1))
        else:
            self.sound_starts.setdefault(stream, dts if pts == NO_TIME else pts)

    @property
    def container(self) -> str:
        return self._find(r"\[info\] Input #0, (\S+), from ", "unknown")

    @property
    def codec(self) -> str:
        return self.header.get(("codec_id", 0), "unknown")

    @property
    def time_base(self) -> Fraction:
        return Fraction(self.header["tb", 0])

    @property
    def coded_width(self) -> int:
        return int(self._dimensions()[0])

    @property
    def coded_height(self) -> int:
        return int(self._dimensions()[1])

    @property
    def container_start(self) -> Fraction:
        return Fraction(self._find(r"\[info\]   Duration: .*?start: (-?[\d.]+)", "0"))

    @property
    def container_end(self) -> Fraction | None:
        found = self._find(r"\[info\]   Duration: (\d+:\d+:\d+\.\d+)", "")
        if not found:
            return None
        hours, minutes, seconds = found.split(":")
        return self.container_start + 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)

    @property
    def cut_off(self) -> bool:
        signs = ("partial file", "File ended prematurely")
        return any(line.endswith(sign) for line in self.log for sign in signs)

    @property
    def chapters(self) -> bool:
        return "[info]   Chapters:" in self.log

    @property
    def alpha_mode(self) -> bool:
        return any(re.match(r"\[info\]       alpha_mode +: 1$", line) for line in self.log)

    @property
    def chroma_location(self) -> str:
        index = self._find(r"\[info\]   Stream #0:(\d+) -> #0:0 \(copy\)", "0")
        names = "left|center|topleft|top|bottomleft|bottom"
        stream = rf"\[info\]   Stream #0:{index}\b.*: Video: .*[(,] ?({names})\), \d+x\d+"
        return self._find(stream, "unknown")

    def sounds(self) -> tuple[Sound, ...]:
        pattern = r"\[info\]   Stream #0:(\d+) -> #0:(\d+) \(copy\)"
        pairs = [found.groups() for line in self.log if (found := re.match(pattern, line))]
        return tuple(self._sound(int(index), int(ours)) for index, ours in pairs if ours != "0")

    def _sound(self, index: int, ours: int) -> Sound:
        ticks = self.sound_starts.get(ours)
        start = None if ticks is None else ticks * Fraction(self.header["tb", ours])
        return Sound(index, self.header.get(("codec_id", ours), "unknown"), start)

    def _dimensions(self) -> list[str]:
        return self.header.get(("dimensions", 0), "0x0").split("x")

    def _find(self, pattern: str, default: str) -> str:
        return next((hit[1] for line in self.log if (hit := re.match(pattern, line))), default)


def _list_packets(path: Path, max_pixels: int) -> _Packets:
    packets = _Packets()
    streams = ["-map", "0:V:0", "-map", "0:a?", "-c", "copy"]
    arguments = [*_VERBOSE, "-copyts", *decode_limit(max_pixels), Input(path), *streams]
    arguments += ["-f", "framecrc", "-"]
    try:
        with Process(arguments, on_line=packets.read_message) as process:
            while line := process.read_line():
                packets.read_line(line.decode("ascii", "replace"))
                if len(packets.video) > MAX_FRAMES:
                    raise _too_many_frames(path, f"over {MAX_FRAMES}")
            process.finish()
    except FFmpegError:
        raise _refusal(path, packets.log) from None
    if _too_many_streams(packets.log) or (packets.coded_width == 0 and _too_large(packets.log)):
        raise _refusal(path, packets.log)
    return packets


@dataclass(frozen=True)
class _Shown:
    """Frames as `showinfo` describes them: upright, but not yet square."""

    width: int
    height: int
    aspect: Fraction
    rate: Fraction
    pixel_format: str
    color: Color
    interlaced: bool
    ticks: tuple[int, ...]


def _show_frames(path: Path, max_pixels: int, *, count: int | None) -> _Shown:
    """Decode the first `count` frames (None for all) and describe them."""
    log: deque[str] = deque(maxlen=LISTING_LINES)
    ticks: list[int] = []

    def read_line(line: str) -> None:
        if (shown := shown_tick(line)) is not None:
            ticks.append(shown)
        if len(ticks) < 2:
            log.append(line)

    limit = [] if count is None else ["-frames:v", str(count)]
    arguments = [*INFO, "-copyts", *decode_limit(max_pixels), Input(path), "-map", "0:V:0"]
    arguments += ["-vf", "showinfo=checksum=0", *limit, "-fps_mode", "passthrough"]
    try:
        with Process([*arguments, "-f", "null", "-"], on_line=read_line) as process:
            process.finish()
    except FFmpegError:
        if not ticks:
            raise _refusal(path, log) from None
    if not ticks:
        raise BadMediaError(f"{path}: not one frame of its video can be decoded")
    return _describe("\n".join(log), tuple(ticks))


def shown_tick(line: str) -> int | None:
    """The time of the frame that a line of `showinfo` announces; None for other lines."""
    found = re.match(r"\[Parsed_showinfo_\S+ @ \S+\] \[info\] n: *\d+ pts: *(-?\d+) ", line)
    return int(found[1]) if found else None


def _describe(log: str, ticks: tuple[int, ...]) -> _Shown:
    frame = re.search(r" fmt:(\S+) .*?sar:(\d+)/(\d+) s:(\d+)x(\d+) i:(\S)", log)
    rate = re.search(r"config in time_base: \S+ frame_rate: (\d+)/(\d+)", log)
    color = re.search(
        r"color_range:(\S+) color_space:(\S+) color_primaries:(\S+) color_trc:(\S+)", log
    )
    if frame is None:
        raise BadMediaError("ffmpeg describes the video in words that dreamflow does not know")
    across, down = int(frame[2]), int(frame[3])
    per_second = Fraction(int(rate[1]), int(rate[2])) if rate and int(rate[2]) else _USUAL_RATE
    return _Shown(
        width=int(frame[4]),
        height=int(frame[5]),
        aspect=Fraction(across, down) if across and down else Fraction(1),
        rate=per_second or _USUAL_RATE,
        pixel_format=frame[1],
        color=Color(*color.groups()) if color else Color(*["unknown"] * 4),
        interlaced=frame[6] in "TB",
        ticks=ticks,
    )


def _square(shown: _Shown) -> tuple[int, int]:
    """The size with square pixels: the lines are kept, their length is corrected, as players do."""
    return max(1, round(shown.width * shown.aspect)), shown.height


def _frame_times(path: Path, packets: _Packets, max_pixels: int) -> Times:
    """When frames appear: the packets' times, or where those do not tell, the decoded frames'."""
    shown = [
        (pts, duration, flags) for pts, duration, flags in packets.video if not flags & DISCARD
    ]
    while shown and shown[-1][2] & CORRUPT:
        shown.pop()
    ticks = sorted(pts for pts, _, _ in shown)
    told = NO_TIME not in ticks and len(set(ticks)) == len(ticks)
    if not told or packets.codec in HIDDEN_FRAME_CODECS:
        ticks = sorted(_show_frames(path, max_pixels, count=None).ticks)
    if not ticks:
        raise BadMediaError(f"{path}: there is a video stream without a single whole frame")
    if packets.cut_off:
        ticks = _without_stragglers(ticks)
    keys = sorted(pts for pts, _, flags in packets.video if flags & 1 and pts != NO_TIME)
    return Times(tuple(ticks), tuple(keys), ticks[-1] + _last_duration(shown, ticks))


def _without_stragglers(ticks: list[int]) -> list[int]:
    """What is left when frames stored ahead of their turn, behind a gap at the cut, are dropped."""
    steps = [after - before for before, after in pairwise(ticks)]
    usual = sorted(steps)[len(steps) // 2] if steps else 0
    begin = max(0, len(steps) - REORDER_FRAMES)
    gaps = (index for index in range(begin, len(steps)) if 2 * steps[index] > 3 * usual)
    return ticks[: next(gaps, len(steps)) + 1]


def _last_duration(shown: list[tuple[int, int, int]], ticks: list[int]) -> int:
    durations = {pts: duration for pts, duration, _ in shown}
    usual = (ticks[-1] - ticks[0]) // max(1, len(ticks) - 1)
    return durations.get(ticks[-1], 0) or usual or 1


def _declared_count(packets: _Packets, times: Times, rate: Fraction) -> int:
    count = len(times.ticks)
    if not packets.cut_off or packets.container_end is None:
        return count
    seconds = packets.container_end - times.ticks[0] * packets.time_base
    return max(count, round(seconds * rate))


def nearest(ticks: Sequence[int], tick: int, low: int = 0) -> int:
    """The index from `low` on of the value closest to `tick`."""
    after = bisect_left(ticks, tick, lo=low)
    around = [index for index in (after - 1, after) if low <= index < len(ticks)]
    return min(around, key=lambda index: abs(ticks[index] - tick), default=len(ticks) - 1)


def decode_limit(max_pixels: int) -> list[str]:
    """Options that keep ffmpeg from decoding pictures far larger than their header said.

    Decoders count the pixels of their padded buffers, so the exact limit is checked by us.
    """
    return ["-max_pixels", str(2 * max_pixels + 1_000_000)]


def _check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadMediaError(
            f"{path}: pictures of {width}x{height} are over the limit of "
            f"{max_pixels / 1e6:g} megapixels (raise it with --max-pixels)"
        )


def _check_time(path: Path, rate: Fraction, seconds: Fraction) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadMediaError(
            f"{path}: {float(rate):g} frames per second are outside the limits, "
            f"{MAX_RATE} a second and {MIN_RATE * 3600} an hour"
        )
    if seconds > 3600 * MAX_HOURS:
        raise BadMediaError(
            f"{path}: it claims to last {float(seconds) / 3600:.1f} hours, the limit is {MAX_HOURS}"
        )


def _check_animation(path: Path) -> None:
    """Refuse an APNG by the number of frames that its header tells, in its chunk `acTL`."""
    with open(ffmpeg.open_regular(path), "rb") as file:
        head = file.read(4096)
    at = head.find(b"acTL")
    if head.startswith(b"\x89PNG") and at > 0:
        count = int.from_bytes(head[at + 4 : at + 8], "big")
        if count > MAX_FRAMES:
            raise _too_many_frames(path, str(count))


def _too_many_frames(path: Path, count: str) -> BadMediaError:
    return BadMediaError(
        f"{path}: {count} frames are more than the limit of {MAX_FRAMES} (cut it into parts)"
    )


def _too_many_streams(log: Sequence[str] | deque[str]) -> bool:
    return any("Number of streams exceeds" in line for line in log)


def _too_large(log: Sequence[str] | deque[str]) -> str | None:
    found = (re.search(r"Picture size (\d+x\d+) (?:exceeds|is invalid)", line) for line in log)
    return next((hit[1] for hit in found if hit), None)


def _refusal(path: Path, log: Sequence[str] | deque[str]) -> BadMediaError:
    """Why ffmpeg cannot take `path` as a video, in the user's terms."""
    return BadMediaError(f"{path}: {_diagnose(path, log)}")


def _diagnose(path: Path, log: Sequence[str] | deque[str]) -> str:
    if size := _too_large(log):
        return f"pictures of {size} are over the limit (raise it with --max-pixels)"
    if _too_many_streams(log):
        return f"it has more than {MAX_STREAMS} streams (keep those that are needed)"
    with open(ffmpeg.open_regular(path), "rb") as file:
        head = file.read(4096)
        index_cut = _is_index_cut(file)
    if index_cut or any("moov atom not found" in line for line in log):
        state = "incomplete" if index_cut else "missing"
        return f"cut off: its index (moov) is {state}; the recording or download was never finished"
    if any(re.match(r"\[info\] Input #0, ", line) for line in log):
        return _diagnose_streams(log)
    return _diagnose_text(head) or f"not a video that ffmpeg can read ({ffmpeg.explain(list(log))})"


def _is_index_cut(file: BinaryIO) -> bool:
    """Whether the file is an MP4 or MOV, a row of boxes, that ends within its `moov` box."""
    length, at = file.seek(0, os.SEEK_END), 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        size, kind, long = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        end = at + (long if size == 1 else size)
        if end < at + 8 or end > length:
            return kind == b"moov" and end > length
        at = end
    return False


_MOST_BOXES = 1000


def _diagnose_streams(log: Sequence[str] | deque[str]) -> str:
    streams = [line for line in log if re.match(r"\[info\]   Stream #0:\d+\S*: ", line)]
    pictures = [line for line in streams if ": Video: " in line]
    if pictures and all("(attached pic)" in line for line in pictures):
        return "its only picture is cover art; there is no video in it"
    if pictures:
        return f"its video cannot be decoded ({ffmpeg.explain(list(log))})"
    heard = any(": Audio: " in line for line in streams)
    return "there is sound in it but no video" if heard else "there is nothing in it to show"


def _diagnose_text(head: bytes) -> str | None:
    """What a file is that is no media, judged by how it begins."""
    if not head:
        return "it is empty (zero bytes)"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, kind in _TEXT_BEGINNINGS.items():
        if start.startswith(beginning):
            return f"it is {kind}, not a video"
    if kind := next((kind for word, kind in _TEXT_WORDS.items() if word in start), None):
        return f"it is {kind}, not a video"
    printable = sum(byte >= 32 or byte in b"\t\r\n" for byte in head)
    return "it is text, not a video" if printable == len(head) and b"\0" not in head else None


_PLAYLIST = "which names other files and is never followed"
_TEXT_BEGINNINGS = {
    b"#extm3u": f"an HLS playlist ({_PLAYLIST})",
    b"ffconcat": f"an ffconcat script ({_PLAYLIST})",
    b"v=0": f"an SDP description ({_PLAYLIST})",
    b"<!doctype html": "a web page (HTML)",
    b"<html": "a web page (HTML)",
}
_TEXT_WORDS = {b"<mpd": f"a DASH manifest ({_PLAYLIST})"}
