"""One output of a clip or a picture: from a checked request to a finished file at its place.

Everything is refused before work that can be. How a film then comes about is told in `film`; until
it is whole the output path is untouched.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dreamflow
from dreamflow import audio, caption, flow, lookahead, machine, masks, props, shots, warp
from dreamflow import preset as presets
from dreamflow.checkpoint import State
from dreamflow.ensemble import AnyExtractor
from dreamflow.errors import BadMediaError, UsageError
from dreamflow.feedback import Carry
from dreamflow.film import (
    IMAGE_BYTES,
    Conditions,
    Event,
    Film,
    Finished,
    Leg,
    Parts,
    Saved,
    Shown,
    Started,
    check_target,
    digest,
    divide,
    fingerprint,
    make,
    make_leg,
    sha256,
)
from dreamflow.flow import FlowMethod, FlowSource
from dreamflow.flow_cache import FlowCache
from dreamflow.flow_files import FlowFiles
from dreamflow.frames import Array, Moment, VideoInfo, to_array, to_image
from dreamflow.preset import Preset
from dreamflow.render import (
    Engine,
    RenderedFrame,
    compose,
    dream_from_scratch,
    dream_size,
    render_shots,
    shrink,
    warn_of_dropped_octaves,
    warn_of_idle_objectives,
)
from dreamflow.schedule import SoundCurves
from dreamflow.strict_yaml import quoted
from dreamflow.video import ffmpeg, writer
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.reader import Clip, fitted, open_clip, resized
from dreamflow.video.scratch import Scratch
from dreamflow.video.sequences import files_of, is_stills
from dreamflow.video.stills import Still, read_still_with_alpha, write_still
from dreamflow.video.writer import Codec

__all__ = ["Conditions", "Finished", "Saved", "Started"]

logger = logging.getLogger("dreamflow")

Fit = Callable[[Array], Array]

SETTLING_SECONDS = Fraction(1, 2)
"""How long before a wished moment a preview starts, so that its frame looks as in the render."""

MakeFlow = Callable[[torch.device], FlowSource]

MAX_RECIPE_BYTES = 65_000
"""What the least roomy of all outputs can hold: a JPEG's one comment."""


@dataclass(frozen=True)
class VideoRequest(Conditions):
    """What to render, as the command line or a manifest asks for it."""

    source: Path
    target: str
    """Output name; a trailing `/` means a folder of pictures."""
    preset: Preset
    start: Moment | None = None
    end: Moment | None = None
    rate: Fraction | None = None
    allow_truncated: bool = False
    strict: bool = False
    flow_files: Path | None = None
    """Folder of flow computed elsewhere (see `flow_files`), in the place of the preset's method."""
    flow_cache: Path | None = None
    """Folder that keeps the flow that was searched for, for the next render."""

    @property
    def look(self) -> Preset:
        """The preset, saying so if flow comes from files."""
        if self.flow_files is None:
            return self.preset
        follow = self.preset.follow.model_copy(update={"flow": "files"})
        return self.preset.model_copy(update={"follow": follow})


def render_video(request: VideoRequest) -> Generator[Event | Finished, None, None]:
    """Render a clip; yields `Started`, one `RenderedFrame` per frame, then `Finished`.

    Between them `Saved` tells what is safe. Closing the generator early stops everything; the same
    request goes on behind what was saved. Raises the DreamflowError that fits; the output path is
    then as it was.
    """
    began = time.monotonic()
    check_target(request.target, request)
    codec = writer.codec_for(request.target, request.preset.output)
    with open_source(request) as clip:
        _check_inputs_survive(request, clip.files)
        engine = _engine(request, clip.info)
        film = _film(request, clip, engine, codec)
        warn_of_octaves(engine, clip.info)
        yield from make(film, request.target, request)
    yield Finished(request.target, clip.info.frame_count, time.monotonic() - began)


def divide_video(request: VideoRequest, least_frames: int) -> Parts:
    """Open the folder of a clip's job, whose lock is held, and divide what is missing at its cuts.

    Parts are at least `least_frames` long.
    """
    codec = writer.codec_for(request.target, request.preset.output)
    with open_source(request) as clip:
        film = _film(request, clip, _engine(request, clip.info), codec)

        def cuts() -> Iterator[int]:
            found = shots.find(clip, request.preset.shots)
            return (shot.first for shot in found if shot.first > clip.info.first_index)

        return divide(film, request.target, request, cuts, least_frames)


def render_leg(
    request: VideoRequest, leg: Leg, extractor: AnyExtractor | None = None
) -> Generator[RenderedFrame | Saved, None, None]:
    """Render the chunks of a leg into the folder of the job, which `divide_video` has opened.

    An `extractor` that has the preset's layers saves loading the network.
    """
    codec = writer.codec_for(request.target, request.preset.output)
    with open_source(request) as clip:
        film = _film(request, clip, _engine(request, clip.info, extractor), codec)
        yield from make_leg(film, request.target, request, leg)


def _film(request: VideoRequest, clip: Clip, engine: Engine, codec: Codec) -> Film:
    """What to make of a clip."""
    info, settings, known = clip.info, request.preset.output, facts(engine)
    bits, inputs = codec.array_bits(info.bits), _read(request, clip)

    def frames(place: int, state: State | None, _aside: Scratch) -> Generator[Shown, None, None]:
        assert state is None or isinstance(state, Carry)
        for frame in _dreamed(clip, engine, place, state):
            yield Shown(frame.index, caption.finished(frame, settings, bits), frame)

    height, width = dream_size((info.height, info.width), engine.preset.dream.size)
    return Film(
        info=info,
        codec=codec,
        settings=settings,
        frames=frames,
        state=Carry,
        state_bytes=8 * IMAGE_BYTES * height * width,  # two images and what is kept of the past
        fingerprint=fingerprint(known, engine, info, codec, inputs),
        preset=known["preset"],
        device=engine.device,
        inputs=inputs,
        extras=_extras(request, info, recipe(known, request.asked)),
    )


def _read(request: VideoRequest, clip: Clip) -> list[Path]:
    """The files that the pictures come from, besides those that the preset names."""
    flow = sorted(request.flow_files.iterdir()) if request.flow_files else []
    return [*clip.files, *(file for file in flow if file.is_file())]


def _dreamed(
    clip: Clip, engine: Engine, place: int, carry: Carry | None = None
) -> Iterator[RenderedFrame]:
    """The frames of the clip from `place` on; the dream starts afresh at its cuts.

    With the state after a frame before it, they are those that a render of the whole clip has.
    """
    info = clip.info
    first = place if carry is None else carry.index + 1
    seen = max(info.first_index, first - shots.MEMORY)
    with clip.part(seen - info.first_index, info.frame_count) as part:
        frames = shots.mark(part.frames(), engine.preset.shots, info.rate, first_index=seen)
        coming = itertools.dropwhile(lambda frame: frame.index < first, frames)
        head = next(coming)
        in_order = itertools.chain([head], coming)
        carry = None if head.begins_shot else carry
        for frame in render_shots(shots.by_shot(in_order), engine, carry=carry):
            if frame.index >= place:
                yield frame


def _extras(request: VideoRequest, info: VideoInfo, text: str) -> dict[str, Any]:
    """What the finished film has besides its pictures."""
    trimmed = request.start is not None or request.end is not None
    return {
        "source": None if is_stills(request.source) else request.source,
        "start": info.first_index / info.rate if request.start is not None else None,
        "duration": info.duration if trimmed else None,
        "metadata": {"dreamflow": text},
    }


def render_moment(
    request: VideoRequest, moment: Moment
) -> Generator[Started | RenderedFrame, None, None]:
    """The frames that lead up to `moment` of a clip; the last one is how it looks when settled.

    The render starts `SETTLING_SECONDS` before. Writes nothing. Raises UsageError for a moment
    behind the clip's end.
    """
    with open_source(request) as clip:
        yield from _lead_up(clip, _engine(request, clip.info), moment)


def warn_of_octaves(engine: Engine, info: VideoInfo) -> None:
    """Tell of octaves that do not fit, and of objectives that carried frames do not have."""
    warn_of_dropped_octaves(engine, (info.height, info.width))
    warn_of_idle_objectives(engine)


def _lead_up(
    clip: Clip, engine: Engine, moment: Moment
) -> Generator[Started | RenderedFrame, None, None]:
    info = clip.info
    last = moment.frame(info.rate)
    if last >= info.frame_count:
        raise UsageError(
            f"--at is behind the clip's end ({info.frame_count} frames, "
            f"{float(info.duration):.3f} s)"
        )
    warn_of_octaves(engine, info)
    with clip.part(max(0, last - int(SETTLING_SECONDS * info.rate)), last + 1) as part:
        yield Started(part.info, "png")
        yield from _dreamed(part, engine, part.info.first_index)


def render_frames(request: VideoRequest) -> Generator[RenderedFrame, None, None]:
    """The frames of a clip as `render_video` would write them, which this does not."""
    with open_source(request) as clip:
        engine = _engine(request, clip.info)
        warn_of_octaves(engine, clip.info)
        yield from _dreamed(clip, engine, clip.info.first_index)


def render_look(
    request: VideoRequest, moment: Moment
) -> Generator[Started | RenderedFrame | Finished, None, None]:
    """The settled frame at `moment` of a clip, as a picture with the recipe in it."""
    began = time.monotonic()
    target = Path(request.target)
    writer.check_still_target(target, overwrite=request.overwrite)
    with open_source(request) as clip:
        _check_inputs_survive(request, clip.files)
        engine = _engine(request, clip.info)
        text = recipe(facts(engine), request.asked)
        look = None
        for look in _lead_up(clip, engine, moment):
            yield look
    assert isinstance(look, RenderedFrame)
    array = caption.finished(look, request.preset.output, clip.info.bits)
    write_still(target, array, metadata=text)
    yield Finished(request.target, 1, time.monotonic() - began)


def render_picture(request: VideoRequest) -> Generator[Started | Finished, None, None]:
    """Render one picture; its alpha and 16 bits are kept where the target can hold them."""
    began = time.monotonic()
    target = Path(request.target)
    writer.check_still_target(target, overwrite=request.overwrite)
    _check_inputs_survive(request, [request.source])
    still = _sized(read_still_with_alpha(request.source, max_pixels=request.max_pixels), request)
    engine = still_engine(request.preset, request, request.source)
    text = recipe(facts(engine), request.asked)
    height, width, _ = still.pixels.shape
    bits = still.pixels.itemsize * 8
    yield Started(VideoInfo(width, height, engine.rate, 1, bits=bits), target.suffix[1:].lower())
    dreamed = dream_still(still, engine)
    write_still(target, dreamed.pixels, metadata=text, alpha=dreamed.alpha)
    yield Finished(request.target, 1, time.monotonic() - began)


def still_engine(preset: Preset, conditions: Conditions, source: Path | None = None) -> Engine:
    """The engine of one picture, which `source` is the file of, with its mask."""
    rate = Fraction(preset.reference_fps)
    sound = listen(preset, source, VideoInfo(1, 1, rate, 1))
    refuse_motion_masks(preset)
    engine = prepare(
        preset,
        rate,
        conditions.device,
        conditions.threads,
        sound=sound,
        make_flow=without_motion,
        max_pixels=conditions.max_pixels,
    )
    refuse_reels(engine)
    return engine


def _check_inputs_survive(request: VideoRequest, files: Sequence[Path]) -> None:
    sound = sound_file(request.preset)
    read = [*files, *([sound] if sound else []), *named_files(request.preset)]
    writer.check_input_survives(request.target, read)


def _sized(still: Still, request: VideoRequest) -> Still:
    height, width, _ = still.pixels.shape
    size = fitted(request.size, width, height, request.max_pixels)
    alpha = None if still.alpha is None else resized(still.alpha, size)
    return Still(resized(still.pixels, size), alpha)


def dream_still(still: Still, engine: Engine) -> Still:
    """A picture dreamed from scratch, as the first frame of a clip would be; its alpha is kept."""
    engine = engine.at(engine.first_index)
    warn_of_dropped_octaves(engine, still.pixels.shape[:2])
    full = to_image(still.pixels, engine.device)
    source = shrink(full, engine.preset.dream.size)
    with engine.reading():
        engine = engine.alone(source, 0)
    dreamed = dream_from_scratch(engine, source, 0)
    if engine.preset.dream.start == "source":
        image = compose(full, dreamed - source, engine.mask)
    else:  # the source's finer detail has no place in it
        size = (full.shape[-2], full.shape[-1])
        image = masks.kept(engine.mask, full, warp.resize(dreamed, size).clamp(0, 1))
    return Still(to_array(image, still.pixels.dtype.itemsize * 8), still.alpha)


def prepare(
    preset: Preset,
    rate: Fraction,
    device: str = "auto",
    threads: int = 2,
    *,
    frame_count: int = 1,
    first_index: int = 0,
    sound: SoundCurves | None = None,
    make_flow: MakeFlow | None = None,
    max_pixels: int = MAX_PIXELS,
    fit: Fit = np.asarray,
    mask_rate: Fraction | None = None,
    extractor: AnyExtractor | None = None,
) -> Engine:
    """Set the process up (see `machine.tune`) and build the engine of a render.

    `make_flow` takes the place of the preset's flow method; `max_pixels`, `fit` and `mask_rate` are
    for the pictures and masks that it names (see `props.read`), which come first of all.
    """
    found = props.read(preset, max_pixels, fit, mask_rate)
    searches = make_flow is not without_motion and preset.follow.flow in flow.BESIDE_A_DREAM
    aside = lookahead.threads_of(threads) if searches else 0
    machine.tune(threads - aside)
    chosen = machine.pick_device(device)
    return Engine.build(
        preset,
        rate,
        chosen,
        frame_count=frame_count,
        first_index=first_index,
        sound=sound,
        flow=make_flow and make_flow(chosen),
        props=found,
        extractor=extractor,
        aside=aside,
    )


def refuse_from_nothing(preset: Preset) -> None:
    """Refuse a `dream.start` that is for stills: a clip or a zoom has a picture to go on from."""
    if preset.dream.start != "source":
        text = (
            f": {preset.dream.start!r} is for stills (dreamflow image); a clip is dreamed from "
            "its frames and a zoom from its seed: use 'source'"
        )
        raise preset.complaint("dream.start", text)


def refuse_motion_masks(preset: Preset) -> None:
    """Refuse masks of motion for what does not move."""
    for index, objective in enumerate(preset.objectives):
        if objective.mask == "motion":
            text = ": 'motion' is for clips (dreamflow video): use 'luma', a still, or none"
            raise preset.complaint(f"objectives.{index}.mask", text)


def refuse_reels(engine: Engine) -> None:
    """Refuse masks that are clips for what is none."""
    for name in engine.reels:
        raise UsageError(
            f"{name} is a clip, and as a mask for clips (dreamflow video): use a still"
        )


def named_files(preset: Preset) -> list[Path]:
    """The files that a preset's mask and objectives name, all those of a sequence.

    Errors as `sequences.find_stills`.
    """
    named = [*_named(preset, "mask"), *_named(preset, "objectives")]
    return [file for path in named for file in files_of(path)]


def _named(preset: Preset, setting: str) -> list[Path]:
    """What a setting and those in it name."""
    found = presets.files(preset).items()
    return [Path(file) for key, file in found if file and key.split(".")[0] == setting]


def without_motion(_device: torch.device) -> FlowSource:
    """The flow of what is no clip: nothing is searched for, and no weights are fetched for it."""
    return FlowMethod("none")


def make_flow(request: VideoRequest, info: VideoInfo, device: torch.device) -> FlowSource:
    """Where the flow of a request's clip comes from: files, the preset's method, or its cache.

    Raises UsageError where both or neither can be, and as `FlowFiles` and `FlowCache` do.
    """
    if request.flow_files is not None:
        if request.flow_cache is not None:
            raise UsageError("flow from files is not searched for: leave out --flow-cache")
        files = FlowFiles(request.flow_files)
        files.check(info)
        return files
    search = flow.create(request.preset.follow, device)
    return FlowCache(search, request.flow_cache) if request.flow_cache else search


def sound_file(preset: Preset) -> Path | None:
    """The file that a render with this preset listens to in the place of the clip's sound."""
    return Path(preset.audio) if preset.audio and preset.sound_expressions() else None


def listen(preset: Preset, source: Path | None, info: VideoInfo) -> SoundCurves | None:
    """What the preset's expressions need to know of the sound, over the frames of `info`.

    It is that of the preset's sound file, whose beginning falls on the clip's first frame, else the
    sound of the clip `source`, if there is one. None, and nothing is decoded, for a preset that
    needs none. Raises BadMediaError, naming the setting and its expression, where there is no
    sound.
    """
    wanted = preset.sound_expressions()
    if not wanted:
        return None
    file = sound_file(preset)
    features = None
    if file:
        features = audio.analyse(file)
    elif source is not None and not is_stills(source):
        features = audio.analyse(source, origin=info.start - info.first_index / info.rate)
    if features is None:
        path, expression = next(iter(wanted.items()))
        raise BadMediaError(
            f"{file or source or 'a zoom'} has no sound, which {path} needs: {quoted(expression)} "
            "(name a sound file: `audio: FILE` in the preset, or --audio FILE for a clip)"
        )
    return features.curves(info.rate, info.frame_count, info.first_index)


def facts(engine: Engine, more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What makes an output again, with `more` of it.

    It travels with the film, so of files that the preset names it holds the name and not where they
    lie.
    """
    look = engine.preset
    for key, file in presets.files(look).items():
        look = presets.with_file(look, key, Path(file).name) if file else look
    known = {
        "dreamflow": dreamflow.__version__,
        "torch": torch.__version__,
        "ffmpeg": ffmpeg.version(),
        "device": engine.device.type,
        "threads": torch.get_num_threads() + engine.aside,
        "weights_sha256": engine.extractor.weights_sha256,
        **(more or {}),
        "preset": presets.dump(look),
    }
    if sound := sound_file(engine.preset):
        known["audio_sha256"] = sha256(sound)
    for mask in _named(engine.preset, "mask"):
        known["mask_sha256"] = digest(mask)
    if files := _named(engine.preset, "objectives"):
        known["objectives_sha256"] = {file.name: digest(file) for file in files}
    return known


def recipe(known: Mapping[str, Any], asked: str = "") -> str:
    """Facts as the JSON text embedded in an output; `asked` is what a batch knows it by.

    Raises UsageError for a preset too long to be embedded.
    """
    text = json.dumps({**known, "asked": asked} if asked else known)
    if len(text) > MAX_RECIPE_BYTES:
        raise UsageError(
            f"the preset takes {len(text)} bytes to embed in the output, at most "
            f"{MAX_RECIPE_BYTES} fit: shorten its description or its list of objectives"
        )
    return text


def open_source(request: VideoRequest) -> Clip:
    """The clip, or the part of it, that a request is about."""
    return open_clip(
        request.source,
        start=request.start,
        end=request.end,
        rate=request.rate,
        size=request.size,
        allow_truncated=request.allow_truncated,
        strict=request.strict,
        max_pixels=request.max_pixels,
    )


def _engine(
    request: VideoRequest, info: VideoInfo, extractor: AnyExtractor | None = None
) -> Engine:
    refuse_from_nothing(request.preset)
    return clip_engine(request, info, listen(request.preset, request.source, info), extractor)


def clip_engine(
    request: VideoRequest,
    info: VideoInfo,
    sound: SoundCurves | None,
    extractor: AnyExtractor | None = None,
) -> Engine:
    """The engine of a request's clip, whose sound is heard already (see `listen`)."""
    return prepare(
        request.look,
        info.rate,
        request.device,
        request.threads,
        frame_count=info.frame_count,
        first_index=info.first_index,
        sound=sound,
        make_flow=functools.partial(make_flow, request, info),
        max_pixels=request.max_pixels,
        extractor=extractor,
        mask_rate=None if is_stills(request.source) else request.rate,
    )
