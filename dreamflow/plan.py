"""From the renders that a manifest asks for to checked requests, and what they will cost.

Everything that can be known is looked at before the first frame is dreamed: every input is opened,
every preset's network, layers and curves are tried, the place of every result, the room on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from dreamflow import ensemble, flow, seeds
from dreamflow import preset as presets
from dreamflow.ensemble import AnyExtractor
from dreamflow.errors import (
    DreamflowError,
    InputMissingError,
    PresetError,
    StorageError,
    UsageError,
)
from dreamflow.film import Conditions, sha256
from dreamflow.frames import Array, Box, VideoInfo, to_image
from dreamflow.job import VideoRequest, listen, open_source, prepare, without_motion
from dreamflow.manifest import Entry, ImageJob, VideoJob, ZoomJob, moment, rate
from dreamflow.preset import Preset
from dreamflow.render import RenderedFrame, check_names, dream_size, layers_of, render
from dreamflow.seeds import Noise, Seed, Solid
from dreamflow.settings import Output
from dreamflow.strict_yaml import Problem, together
from dreamflow.video import writer
from dreamflow.video.reader import fitted, resized
from dreamflow.video.sequences import files_of
from dreamflow.video.stills import read_still, still_format, still_size
from dreamflow.zoom import render_zoom
from dreamflow.zoom_job import RATE, ZoomRequest

Request = VideoRequest | ZoomRequest


@dataclass(frozen=True)
class Render:
    """One checked render of a batch."""

    entry: Entry
    request: Request
    info: VideoInfo
    """Of the result; a picture is a film of one frame."""
    disk_bytes: int
    """Estimate of what the result takes."""

    @property
    def kind(self) -> str:
        return self.entry.job.kind

    @property
    def input_name(self) -> str:
        """What it is made from, as reports call it."""
        request = self.request
        source = request.source if isinstance(request, VideoRequest) else request.seed
        return source.name if isinstance(source, Path) else str(source)


def plan(entries: Iterable[Entry], conditions: Conditions) -> list[Render]:
    """All renders, checked. Raises PresetError with a line for each thing wrong.

    `conditions` are those of every request, but for size and `overwrite`, which are the jobs' own.
    Whether a result is there already is not looked at.
    """
    problems: list[Problem] = []
    lines: list[str] = []
    checker = _Checker(conditions)
    renders: list[Render] = []
    for entry in entries:
        try:
            renders.append(checker.checked(entry))
        except PresetError as error:
            lines += str(error).splitlines()
        except DreamflowError as error:
            problems.append(Problem(entry.mark, str(error)))
    if problems or lines:
        raise together([*map(str, problems), *lines])
    return renders


@dataclass
class _Checker:
    """Looks at clips and networks, at each only once however many renders need it."""

    conditions: Conditions
    _clips: dict[Any, VideoInfo] = field(default_factory=dict)
    _networks: dict[Any, AnyExtractor] = field(default_factory=dict)
    _methods: set[str] = field(default_factory=set)
    """Of flow, that can be had."""

    def checked(self, entry: Entry) -> Render:
        request = request_of(entry, self.conditions)
        _check_target(entry, request)
        check_names(request.preset)
        self._check_flow(entry)
        info = self._info(entry, request)
        self._check_engine(request, info)
        return Render(entry, request, info, _bytes(entry, request, info))

    def _check_engine(self, request: Request, info: VideoInfo) -> None:
        """Refuse weights that cannot be had, curves out of range, files that are not there."""
        preset = request.preset
        layers = tuple(layers_of(preset))
        if (preset.network, layers) not in self._networks:
            self._networks[preset.network, layers] = ensemble.build(preset.network, layers, "cpu")
        prepare(
            preset,
            info.rate,
            "cpu",
            request.threads,
            frame_count=info.frame_count,
            first_index=info.first_index,
            sound=listen(preset, _clip_of(request), info),
            make_flow=without_motion,
            max_pixels=request.max_pixels,
            extractor=self._networks[preset.network, layers],
        )

    def _check_flow(self, entry: Entry) -> None:
        """Refuse flow for clips from weights that cannot be had, or files: none are named here."""
        follow = entry.preset.follow
        if not isinstance(entry.job, VideoJob) or follow.flow in self._methods:
            return
        if follow.flow == "files":
            text = ": a manifest cannot say where flow files are: choose a method that searches"
            raise entry.preset.complaint("follow.flow", text)
        flow.create(follow)
        self._methods.add(follow.flow)

    def _info(self, entry: Entry, request: Request) -> VideoInfo:
        if isinstance(request, ZoomRequest):
            return _zoom_info(request)
        if isinstance(entry.job, ImageJob):
            return _picture_info(request)
        key = (request.source, request.start, request.end, request.rate, request.size)
        if key not in self._clips:
            with open_source(request) as clip:
                self._clips[key] = clip.info
        return self._clips[key]


def request_of(entry: Entry, conditions: Conditions) -> Request:
    """What the job module is asked for. Raises UsageError for wishes that exclude each other."""
    job = entry.job
    common: dict[str, Any] = {
        "target": entry.output,
        "preset": entry.preset,
        "size": job.box,
        "device": conditions.device,
        "threads": conditions.threads,
        "overwrite": True,  # what is there was looked at when the batch began
        "max_pixels": conditions.max_pixels,
        "stall_seconds": conditions.stall_seconds,
        "restart": conditions.restart,
    }
    if isinstance(job, ZoomJob):
        common |= {"rate": rate(job.fps) or RATE, "frames": job.frames}
        common |= {"duration": moment(job.duration), "loop": job.loop, "ping_pong": job.ping_pong}
        return ZoomRequest(_seed(entry, job), **common)
    assert entry.input is not None
    if isinstance(job, VideoJob):
        common |= {"start": moment(job.start), "end": moment(job.end), "rate": rate(job.fps)}
        common |= {"allow_truncated": job.allow_truncated, "strict": job.strict}
    return VideoRequest(entry.input, **common)


def _seed(entry: Entry, job: ZoomJob) -> Seed:
    if entry.input is not None:
        return entry.input
    return Solid.parse(job.solid) if job.solid else Noise(job.noise or "pink")


def asked_for(request: Request) -> str:
    """A digest of what is asked for: what is read, and all settings of the picture.

    Neither versions nor threads nor devices are in it: a film that is finished stays finished.
    """
    video = isinstance(request, VideoRequest)
    source = request.source if video else request.seed
    look, read = request.preset, []
    for key, file in presets.files(look).items():
        if file:
            look = presets.with_file(look, key, Path(file).name)
            read.append(_digest(Path(file)))
    facts = {
        "source": _digest(source) if isinstance(source, Path) else str(source),
        "files": read,
        "preset": presets.dump(look),
        **{key: str(getattr(request, key, None)) for key in _ASKED},
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


_ASKED = ("size", "start", "end", "rate", "frames", "duration", "loop", "ping_pong")


def _digest(path: Path) -> str:
    """That of a file, or of all stills of a sequence."""
    return " ".join(sha256(file) for file in files_of(path))


def answers(path: str, asked: str) -> bool:
    """Whether a file or folder that is there is the result that was asked for."""
    try:
        text = writer.embedded_settings(Path(path))
        return text is not None and json.loads(text).get("asked") == asked
    except (DreamflowError, OSError, ValueError, AttributeError, RecursionError):
        return False


def _clip_of(request: Request) -> Path | None:
    return request.source if isinstance(request, VideoRequest) else None


def _check_target(entry: Entry, request: Request) -> None:
    """Refuse a name that does not say what to write, or a folder that cannot be written to."""
    if isinstance(entry.job, ImageJob):
        still_format(Path(request.target))
    else:
        writer.codec_for(request.target, request.preset.output)
    folder = _standing(Path(request.target).parent)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {request.target}: {folder} is no folder to write to")


def _standing(folder: Path) -> Path:
    """The folder, or what there is of the way to it."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _picture_info(request: VideoRequest) -> VideoInfo:
    if not request.source.is_file():
        raise InputMissingError(f"no such file: {request.source}")
    return VideoInfo(*_picture_size(request), Fraction(request.preset.reference_fps), 1)


def _picture_size(request: VideoRequest) -> tuple[int, int]:
    return fitted(request.size, *still_size(request.source), request.max_pixels)


def _zoom_info(request: ZoomRequest) -> VideoInfo:
    height, width, _ = _first_picture(request, request.size).shape
    return VideoInfo(width, height, request.rate, request.frame_count())


def _first_picture(request: ZoomRequest, size: Box | None) -> Array:
    codec = writer.codec_for(request.target, request.preset.output)
    take, most = request.preset.seed, request.max_pixels
    return seeds.draw(request.seed, size, multiple=codec.multiple, take=take, max_pixels=most)


# ── room on disk ─────────────────────────────────────────────────────────────────────────────────

BITS_PER_PIXEL = {
    **{"h264": 1.0, "h265": 1.0, "vp9": 0.8, "av1": 0.6, "prores": 5.0, "ffv1": 14.0},
    **{"gif": 5.0, "png": 14.0},
}
"""What dreams, which are full of detail, take in each codec; with `crf` at 17."""
_CRF_HALVES = 6
"""Steps of `crf` that halve the size."""
_STILL_BITS = 14.0
_WORKING_SHARE = 2.5
"""What a render takes on disk while it runs, as a multiple of its result."""


def _bytes(entry: Entry, request: Request, info: VideoInfo) -> int:
    """Estimate of what the result takes on disk."""
    pixels = info.width * info.height * info.frame_count
    if isinstance(entry.job, ImageJob):
        return int(pixels * _STILL_BITS / 8)
    output = request.preset.output
    codec = writer.codec_for(request.target, output)
    quality = 0.5 ** ((output.crf - Output().crf) / _CRF_HALVES) if codec.crf_limit else 1.0
    return int(pixels * BITS_PER_PIXEL[codec.name] * quality / 8) + 4096


def check_room(renders: Sequence[Render], workers: int) -> None:
    """Raise StorageError where the results, and those in the making, will not fit on their disk."""
    needs: dict[int, list[int]] = defaultdict(list)
    folders: dict[int, Path] = {}
    for render_ in renders:
        folder = _standing(Path(render_.request.target).parent)
        needs[folder.stat().st_dev].append(render_.disk_bytes)
        folders[folder.stat().st_dev] = folder
    for device, sizes in needs.items():
        in_the_making = sum(sorted(sizes)[-workers:]) * (_WORKING_SHARE - 1)
        need, free = int(sum(sizes) + in_the_making), shutil.disk_usage(folders[device]).free
        if need > free:
            raise StorageError(
                f"{folders[device]} has {amount(free)} free, these renders take about "
                f"{amount(need)}: make room, or choose another folder with --output"
            )


def amount(count: float) -> str:
    """Bytes for people: `3.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


# ── time ─────────────────────────────────────────────────────────────────────────────────────────

SECONDS_PER_SHOT = 5
"""How long the shots of a clip are taken to be, as long as nobody has looked for its cuts."""
_SAMPLE_SIDE = 320
_LEAST_SAMPLE = 3


@dataclass(frozen=True)
class Pace:
    """How long frames of one look take on one worker, by the pixel that is dreamed."""

    scratch: float
    """Seconds for a pixel of a frame without a past."""
    carried: float
    """Seconds for a pixel of any other frame, on average."""

    def over(self, each: Render) -> float:
        """Seconds for a whole render."""
        frames = each.info.frame_count
        shots = 1.0
        if each.kind == "video":
            shots = max(1.0, float(each.info.duration) / SECONDS_PER_SHOT)
        seconds = min(shots, frames) * self.scratch + max(0, frames - shots) * self.carried
        return seconds * _dreamed_pixels(each.request.preset, each.info)


def estimate(renders: Iterable[Render]) -> Iterator[float]:
    """Seconds that each render will take on one worker, from a short pass with its very look.

    A few frames are dreamed for each look, at 320 pixels on the long side, and scaled to the pixels
    and frames there are. It is taken that a clip cuts every five seconds. Encoding, which runs
    beside, is left out, and so is what workers take from one another.
    """
    known: dict[tuple[str, str], Pace] = {}
    for each in renders:
        changes = {"seed": 0, "output": Output()}
        look = presets.dump(each.request.preset.model_copy(update=changes))
        if (each.kind, look) not in known:
            known[each.kind, look] = _measured(each)
        yield known[each.kind, look].over(each)


def _measured(each: Render) -> Pace:
    box = Box(_SAMPLE_SIDE, _SAMPLE_SIDE, one_side=True)
    if max(each.info.width, each.info.height) > _SAMPLE_SIDE:
        each = replace(each, request=replace(each.request, size=box))
    frames = list(_sample(each))
    pixels = _dreamed_pixels(each.request.preset, frames[0])
    scratch, *carried = (frame.seconds / pixels for frame in frames)
    return Pace(scratch, statistics.mean(carried or [scratch]))


def _sample(each: Render) -> Iterator[RenderedFrame]:
    """The first frames of a render."""
    request, info = each.request, each.info
    cadence = request.preset.cadence
    count = min(info.frame_count, 1 + cadence if cadence > 1 else _LEAST_SAMPLE)
    sound = listen(request.preset, _clip_of(request), info)
    moves = not isinstance(request, ZoomRequest) and each.kind != "image"
    engine = prepare(
        request.preset,
        info.rate,
        request.device,
        request.threads,
        frame_count=info.frame_count,
        first_index=info.first_index,
        sound=sound,
        make_flow=None if moves else without_motion,
    )
    if isinstance(request, ZoomRequest):
        seed = to_image(_first_picture(request, request.size), engine.device)
        yield from render_zoom(seed, engine, count)
    elif each.kind == "image":
        picture = resized(read_still(request.source), _picture_size(request))
        yield from render([picture], engine)
    else:
        with open_source(request) as clip, clip.part(0, count) as part:
            yield from render(part.frames(), engine, first_index=info.first_index)


def _dreamed_pixels(preset: Preset, shown: VideoInfo | RenderedFrame) -> int:
    """Pixels at which frames of this size are dreamed."""
    if isinstance(shown, RenderedFrame):
        size = (shown.image.shape[-2], shown.image.shape[-1])
    else:
        size = (shown.height, shown.width)
    height, width = dream_size(size, preset.dream.size)
    return height * width
