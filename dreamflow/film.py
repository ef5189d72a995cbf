"""The life of one film: chunk after chunk into the folder of its job, joined, put in its place.

Clips and zooms differ in where their frames come from, and are made alike. Whatever stops a render,
the chunks that are finished stay, and the same order goes on behind them, to the last bit the same.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import os
import shutil
import signal
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
import yaml

from dreamflow import checkpoint
from dreamflow.checkpoint import State
from dreamflow.errors import ChangedError, InputMissingError, StorageError
from dreamflow.feedback import Canvas, Carry
from dreamflow.frames import Array, Box, VideoInfo
from dreamflow.job_folder import KEPT_STATES, JobFolder, is_placed
from dreamflow.render import Engine, RenderedFrame
from dreamflow.settings import Output
from dreamflow.video import writer
from dreamflow.video.ffmpeg import FFmpegError, open_regular
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.scratch import Scratch
from dreamflow.video.sequences import files_of
from dreamflow.video.writer import Codec

logger = logging.getLogger("dreamflow")

CHUNK_FRAMES = 48
"""What a stopped render loses at most. Each begins with a keyframe, as films do every few seconds;
it is part of the fingerprint, for it changes the encoded pictures."""


IMAGE_BYTES = 12
"""Of a pixel in an image."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How any output is computed and put in its place."""

    size: Box | None = None
    device: str = "auto"
    threads: int = 2
    """CPU threads of the numeric code: part of what makes two renders bit-identical."""
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    stall_seconds: float = 60.0
    restart: bool = False
    """Discard what an earlier render of this output left unfinished."""
    keep_job: bool = False
    """Leave the folder of the job where it is when the output is finished."""
    chunk_frames: int = CHUNK_FRAMES
    asked: str = ""
    """What a batch knows its results by; goes into the output."""
    held: bool = False
    """Whoever asks has the lock on the job's folder."""


@dataclass(frozen=True)
class Started:
    """Everything is checked and open; frames follow."""

    info: VideoInfo
    codec: str
    frames_to_come: int | None = None
    """`RenderedFrame`s that follow, where they are not just those of the film; 0: without end."""
    frames_done: int = 0
    """Those that an earlier render has finished."""
    resumes_at: int | None = None
    """The first frame of the film that is not finished, if an earlier render was begun."""


@dataclass(frozen=True)
class Saved:
    """A chunk is finished: a render that is stopped from now on goes on behind `frame_count`."""

    frame_count: int


@dataclass(frozen=True)
class Finished:
    """The output is complete and in its place."""

    target: str
    frame_count: int
    seconds: float


Event = Started | RenderedFrame | Saved


@dataclass(frozen=True)
class Shown:
    """What there is at one place of a film."""

    place: int
    array: Array | None
    """The finished picture; none before the film begins."""
    event: RenderedFrame | None
    """How it came about; none for a picture that is shown again."""
    aside: Array | None = None
    """What of it is needed again."""


Frames = Callable[[int, State | None, Scratch], Generator[Shown, None, None]]


@dataclass(frozen=True)
class Film:
    """What is to be made, and how its frames come about."""

    info: VideoInfo
    codec: Codec
    settings: Output
    frames: Frames
    """From a place on, given the last state before it and what was put aside, which counts from the
    first place. Equal arrays whatever place it begins at."""
    state: type[Carry] | type[Canvas]
    state_bytes: int
    """How large one is, about."""
    fingerprint: Mapping[str, str]
    """All that the pictures hang on, in words."""
    preset: str
    """As YAML, to be read by people."""
    device: torch.device
    inputs: Sequence[Path]
    """The files that the fingerprint knows as the input."""
    extras: Mapping[str, Any]
    """Sound and texts, as `writer.join` takes them."""
    lead: int = 0
    """Places before the film begins."""
    dreamed: int | None = None
    """Places that are rendered, lead included, where the rest shows them again."""
    aside: int = 0
    """How many pictures are put aside."""
    aside_bits: int = 8

    @property
    def places(self) -> range:
        first = self.info.first_index
        return range(first - self.lead, first + self.info.frame_count)

    @property
    def dreamed_places(self) -> range:
        return self.places[: self.dreamed]

    @property
    def bits(self) -> int:
        """Of the arrays that are encoded."""
        return self.codec.array_bits(self.info.bits)


def check_target(target: str, conditions: Conditions) -> None:
    """Refuse an output that cannot be written; what its own job has put there does not count."""
    ours = is_placed(Path(target)) and not conditions.restart
    writer.check_target(target, overwrite=conditions.overwrite or ours)


def make(film: Film, target: str, conditions: Conditions) -> Iterator[Event]:
    """Render what is missing of a film, join it, and put it at `target`.

    Closing the generator early, or an exception, leaves the finished chunks in the job's folder.
    """
    with _folder(film, target, conditions) as folder:
        job = _Job(film, folder, conditions)
        with job.keeping_what_is_finished():
            runs = job.missing_runs()
            job.check_space()
            yield job.started(runs)
            for run in runs:
                yield from job.render(run)
            if not folder.is_placed:
                job.join(Path(target))
        if not conditions.keep_job:
            folder.discard()


def _folder(film: Film, target: str, conditions: Conditions, part: int | None = None) -> JobFolder:
    identity = {**film.fingerprint, "chunk length": str(conditions.chunk_frames)}
    return JobFolder(
        Path(target),
        identity,
        preset=film.preset,
        restart=conditions.restart,
        held=conditions.held,
        part=part,
    )


# ── in parts ─────────────────────────────────────────────────────────────────────────────────────

LEG_CHUNKS = KEPT_STATES
"""How many chunks are sent for at a time; behind them a state is kept for good."""


@dataclass(frozen=True)
class Leg:
    """A run of chunks that a worker makes by itself, once those before it in its part are done."""

    part: int
    """Number of the first chunk of its part."""
    first: int
    stop: int
    """Numbers of its first chunk, and of the one behind its last."""
    cut: int | None
    """The place of a cut before the part, from which it can be rendered without a past."""

    @property
    def chunks(self) -> frozenset[int]:
        return frozenset(range(self.first, self.stop))


def _legs(start: int, stop: int, cut: int | None) -> Iterator[Leg]:
    """A part in legs that end where a state is kept."""
    ends = [*range((start // LEG_CHUNKS + 1) * LEG_CHUNKS, stop, LEG_CHUNKS), stop]
    for first, end in itertools.pairwise([start, *ends]):
        yield Leg(start, first, end, cut)


@dataclass(frozen=True)
class Parts:
    """A film divided so that several workers can make it at once."""

    legs: tuple[tuple[Leg, ...], ...]
    """For each part its legs, in order; without those that are finished."""
    frames: int
    """Of the film, that are missing."""
    frames_done: int
    """Of the film, that are finished."""


def divide(
    film: Film,
    target: str,
    conditions: Conditions,
    cuts: Callable[[], Iterable[int]],
    least_frames: int,
) -> Parts:
    """Open the folder of a film's job and divide what is missing, where its dream starts afresh.

    `cuts` finds the places of the cuts; it is called if anything is missing.
    """
    with _folder(film, target, conditions) as folder:
        job = _Job(film, folder, conditions)
        job.check_space()
        missing = {chunk for run in job.missing_runs() for chunk in run}
        return job.parts(missing, cuts, least_frames)


def part_starts(
    places: range, length: int, cuts: Iterable[int], least_frames: int
) -> list[tuple[int, int | None]]:
    """The first chunk of each part, and the cut from which it is rendered.

    A part begins with the first chunk behind a cut, which the frames between have to be rendered
    for a second time; so it is at least four times as long as they are, and `least_frames`.
    """
    starts: list[tuple[int, int | None]] = [(0, None)]
    for cut in sorted(cuts):
        chunk = -(-(cut - places.start) // length)
        again = chunk * length - (cut - places.start)
        enough = max(least_frames, 4 * again)
        since = (chunk - starts[-1][0]) * length
        left = len(places) - chunk * length
        if chunk and chunk == starts[-1][0]:
            starts[-1] = (chunk, cut)  # nearer to the chunk
        elif since >= least_frames and left >= enough:
            starts.append((chunk, cut))
    return starts


def make_leg(
    film: Film, target: str, conditions: Conditions, leg: Leg
) -> Iterator[RenderedFrame | Saved]:
    """Render what is missing of a leg. The folder of the job is there, and its lock held."""
    with _folder(film, target, conditions, leg.part) as folder:
        job = _Job(film, folder, conditions, leg.cut)
        for run in job.missing_runs(range(leg.first, leg.stop)):
            yield from job.render(run)


class _Job:
    """A film in the folder that it is made in, chunk by chunk.

    Chunks are runs of `chunk_frames` places, numbered from 0; the last one may be shorter.
    """

    def __init__(
        self, film: Film, folder: JobFolder, conditions: Conditions, cut: int | None = None
    ) -> None:
        self._film, self._folder, self._conditions = film, folder, conditions
        self._cut = cut
        """A place before which nothing is known, and nothing needed."""
        self._length = conditions.chunk_frames
        height, width = film.info.height, film.info.width
        self._aside = Scratch(
            lambda number: folder.file(number, "aside"),
            self._length,
            (height, width, 3),
            film.aside_bits,
        )

    # ── what there is to do ──

    @property
    def _count(self) -> int:
        return -(-len(self._film.places) // self._length)

    def _places(self, chunk: int) -> range:
        return self._film.places[chunk * self._length : (chunk + 1) * self._length]

    def missing_runs(self, among: range | None = None) -> list[range]:
        """The numbers of the chunks that are not finished, in runs without a hole."""
        if self._folder.is_placed:
            return []
        runs: list[range] = []
        for number in range(self._count) if among is None else among:
            if number in self._folder.finished:
                continue
            if runs and runs[-1].stop == number:
                runs[-1] = range(runs[-1].start, number + 1)
            else:
                runs.append(range(number, number + 1))
        return runs

    def _state_for(self, run: range) -> int | None:
        """The chunk whose state a run of chunks goes on from; None if it needs none."""
        again = self._places(run.start).start >= self._film.dreamed_places.stop
        known = None if again else self._folder.state_before(run.start)
        needless = (
            known is not None and self._cut is not None and (self._places(known).stop <= self._cut)
        )
        return None if needless else known

    def _begin(self, run: range) -> int:
        """The place at which rendering must begin so that a run of chunks can be written."""
        first = self._places(run.start).start
        if first >= self._film.dreamed_places.stop:
            return first
        known = self._state_for(run)
        if known is not None:
            return self._places(known).stop
        return self._film.places.start if self._cut is None else self._cut

    def parts(
        self, missing: Collection[int], cuts: Callable[[], Iterable[int]], least_frames: int
    ) -> Parts:
        """What is missing, in parts and legs."""
        places, left = self._film.places, sum(len(self._places(chunk)) for chunk in missing)
        found = cuts() if missing else ()
        starts = part_starts(places, self._length, found, least_frames)
        stops = [*(start for start, _ in starts[1:]), self._count]
        legs = [
            tuple(leg for leg in _legs(start, stop, cut) if not leg.chunks.isdisjoint(missing))
            for (start, cut), stop in zip(starts, stops, strict=True)
        ]
        return Parts(tuple(filter(None, legs)), left, len(places) - left)

    def started(self, runs: list[range]) -> Started:
        film, dreamed = self._film, self._film.dreamed_places
        spans = [(self._begin(run), self._places(run[-1]).stop) for run in runs]
        to_come = sum(max(0, min(stop, dreamed.stop) - first) for first, stop in spans)
        first = self._places(runs[0].start).start if runs else film.places.stop
        at = max(0, first - film.info.first_index) if self._folder.finished else None
        return Started(film.info, film.codec.name, to_come, len(dreamed) - to_come, at)

    # ── doing it ──

    def render(self, run: range) -> Iterator[RenderedFrame | Saved]:
        """Finish the chunks of a run; hands on all frames that are rendered for it."""
        begin, first = self._begin(run), self._places(run.start).start
        state = self._load(self._state_for(run))
        with closing(self._film.frames(begin, state, self._aside)) as shown:
            for again in itertools.islice(shown, first - begin):
                yield from _events(again)
            for chunk in run:
                yield from self._write(chunk, shown)
                if chunk + 1 < self._count:
                    yield Saved(self._places(chunk).stop - self._film.info.first_index)

    def _load(self, chunk: int | None) -> State | None:
        if chunk is None:
            return None
        data = self._folder.file(chunk, "state").read_bytes()
        return checkpoint.from_bytes(data, self._film.state, self._film.device)

    def _write(self, chunk: int, shown: Iterator[Shown]) -> Iterator[RenderedFrame]:
        """Write a chunk; its last frame is handed on when all of it is safe."""
        places, last = self._places(chunk), None
        with self._folder.writing(chunk, "video", "aside", "state") as files:
            self._aside.write_to(files["aside"], chunk)
            with self._encoder(files["video"], places) as encoder:
                for last in itertools.islice(shown, len(places)):
                    if encoder and last.array is not None:
                        encoder.write(last.array)
                    if last.aside is not None:
                        self._aside.put(last.place - self._film.places.start, last.aside)
                    if last.place != places[-1]:
                        yield from _events(last)
            self._check_inputs()
            if last and last.event and chunk + 1 < self._count:
                files["state"].write_bytes(checkpoint.to_bytes(last.event.carry))
        if last:
            yield from _events(last)

    def _check_inputs(self) -> None:
        """Raise ChangedError if what is read is no longer what it was when the render began.

        What was moved away or deleted is not changed: whoever has it open reads on.
        """
        try:
            found = _digest(self._film.inputs)
        except InputMissingError:
            return
        if found != self._film.fingerprint[_INPUT]:
            raise ChangedError(
                f"the input was changed while it was read, the latest frames are discarded: "
                f"put back {self._film.inputs[0]} as it was and run the same command to go on"
            )

    def _encoder(self, draft: Path, places: range) -> AbstractContextManager[writer.Encoder | None]:
        film, first = self._film, max(places.start, self._film.info.first_index)
        if first >= places.stop:
            return nullcontext()
        return writer.Encoder(
            draft,
            film.codec,
            width=film.info.width,
            height=film.info.height,
            rate=film.info.rate,
            settings=film.settings,
            bits=film.bits,
            first=first - film.info.first_index,
            stall_seconds=self._conditions.stall_seconds,
        )

    def join(self, target: Path) -> None:
        """Put the finished film at `target`."""
        film = self._film
        writer.join(
            self._folder.drafts(),
            target,
            film.codec,
            frame_count=film.info.frame_count,
            rate=film.info.rate,
            workshop=self._folder.path,
            announce=self._folder.announce,
            **film.extras,
        )

    # ── room, and what is left when it fails ──

    def check_space(self) -> None:
        """Raise StorageError if the disk has less room than the film is likely to take."""
        needed, free = self._bytes_needed(), self._bytes_free()
        if needed > free:
            raise StorageError(
                f"the film takes about {needed} bytes in {self._folder.path.parent}, where {free} "
                "are free: make room, or write to another disk"
            )

    def _bytes_needed(self) -> int:
        """About what is still to be written: chunks, what is put aside, states, and the output."""
        if self._folder.is_placed:
            return 0
        film, finished = self._film, self._folder.finished
        left = sum(len(self._places(chunk)) for chunk in set(range(self._count)) - finished)
        done = len(film.places) - left
        if done:
            each = self._folder.finished_bytes / done
        else:
            each = writer.estimate(film.codec, film.info, film.settings)
        joined = 0 if film.codec.draft == "image2" else each * film.info.frame_count
        pixels = film.info.width * film.info.height
        aside = film.aside * pixels * 3 * film.aside_bits // 8 * left / len(film.places)
        states = film.state_bytes * (2 + self._count / KEPT_STATES) if self._count > 1 else 0
        return int(each * left + joined + aside + states)

    def _bytes_free(self) -> int:
        return shutil.disk_usage(self._folder.path).free

    @contextmanager
    def keeping_what_is_finished(self) -> Iterator[None]:
        """Say, if it fails, what is kept, and on a full disk how much room is missing."""
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException as error:
            self._say_what_is_kept()
            if _is_full(error):
                raise StorageError(
                    f"{error}; finishing takes about {self._bytes_needed()} bytes more in "
                    f"{self._folder.path.parent}, where {self._bytes_free()} are free"
                ) from error
            raise

    def _say_what_is_kept(self) -> None:
        if self._folder.finished:
            kept = sum(len(self._places(chunk)) for chunk in self._folder.finished)
            logger.warning(
                "%d of %d frames are finished and kept: the same command goes on from there",
                *(kept, len(self._film.places)),
            )


def _events(shown: Shown) -> Iterator[RenderedFrame]:
    if shown.event is not None:
        yield shown.event


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _is_full(error: BaseException) -> bool:
    """Whether something could not be written for want of room."""
    if not isinstance(error, (OSError, StorageError)):
        return False
    signalled = isinstance(error, FFmpegError) and error.code == -signal.SIGXFSZ
    return signalled or any(os.strerror(number) in str(error) for number in _FULL)


# ── what the pictures hang on ────────────────────────────────────────────────────────────────────


def fingerprint(
    facts: Mapping[str, Any], engine: Engine, info: VideoInfo, codec: Codec, inputs: Sequence[Path]
) -> dict[str, str]:
    """All that makes two renders the same, in words: of `facts`, as a recipe holds them, and of
    what they leave out."""
    known = {key.replace("_sha256", " SHA-256"): value for key, value in facts.items()}
    settings = yaml.safe_load(known.pop("preset"))
    settings.pop("description", None)
    known |= dict(_single_values(settings))
    known |= {
        "opencv": cv2.__version__,
        "flow": engine.flow.fingerprint,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "frames": info.frame_count,
        "first frame": info.first_index,
        "frame rate": info.rate,
        "size": f"{info.width}x{info.height}",
        "bits": info.bits,
        "codec": codec.name,
        _INPUT: _digest(inputs),
    }
    return {key: str(value) for key, value in known.items()}


_INPUT = "input SHA-256"


def digest(path: Path) -> str:
    """The SHA-256 of a file, or one of all files of a sequence."""
    files = files_of(path)
    return sha256(path) if files == [path] else _digest(files)


def _digest(paths: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(sha256(path).encode())
    return found.hexdigest()


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal; read once for as long as the file is not changed."""
    with open(open_regular(path), "rb") as file:
        facts = os.fstat(file.fileno())
        identity = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if identity not in _DIGESTS:
            _DIGESTS[identity] = hashlib.file_digest(file, "sha256").hexdigest()
        return _DIGESTS[identity]


_DIGESTS: dict[tuple[int, ...], str] = {}
"""A clip is looked at again for each of its legs, and can be large."""


def _single_values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The settings with their dotted paths."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        yield path, value
        return
    for key, part in parts:
        yield from _single_values(part, f"{path}.{key}".lstrip("."))
