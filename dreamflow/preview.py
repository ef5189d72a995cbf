"""The motion without the dream: in seconds, what a clip and a preset will do to each other.

A lattice takes the place of the dream and is carried from frame to frame exactly as the dream's
residual would be: same flow, same mask, same decay, same restarts. Where it sticks, the dream will;
where it is lost, the dream is dropped and grows anew. Beside it are three dreamed stills, below it
the preset's curves with a playhead, and how much of each frame could be followed.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from dreamflow import feedback
from dreamflow.feedback import Carry
from dreamflow.flow import Correspondence, correspond
from dreamflow.frames import Array, Box, VideoInfo, to_array, to_image
from dreamflow.job import (
    Finished,
    Started,
    VideoRequest,
    clip_engine,
    listen,
    named_files,
    open_source,
    sound_file,
)
from dreamflow.plots import Lane, Timeline
from dreamflow.preset import Preset
from dreamflow.render import (
    Engine,
    RenderedFrame,
    camera_move,
    compose,
    dream_from_scratch,
    shrink,
)
from dreamflow.stage import OUTPUT, Stage, draw_clock, read_lanes, set_stage, tint, write_reading
from dreamflow.video import writer
from dreamflow.video.reader import Clip
from dreamflow.video.sequences import is_stills
from dreamflow.video.stills import temporary_beside
from dreamflow.video.writer import Codec

SHOWN = Box(480, 480)
"""Size of the moving picture unless another is asked for; motion is found at half of it."""
STILL_SIZE = 320
"""Long side at which the stills are dreamed; most of the time goes there.

They are shown smaller yet. What is dreamed is as large in pixels as in a render, hence larger in
proportion.
"""
MAX_FRAMES = 240
"""A longer clip is shown in three passages, around its stills."""


# ── the lattice ──────────────────────────────────────────────────────────────────────────────────

FIRST, LATER, COVER = 0, 1, 2
"""Channels of what is carried: the lattice laid first, the one grown later, how strong both are."""

_LINES = 20
"""Meshes along the long side."""
_BARE = 0.15
"""Strength under which there is nothing left for the dream to go on from."""


@dataclass(frozen=True)
class Motion:
    """One frame of the clip and the lattice on it."""

    index: int
    """Source frame index."""
    full: Tensor
    """The source, image `[1, 3, H, W]`."""
    carry: Carry
    """Its residual is the lattice: 0..1, channels `FIRST`, `LATER` and `COVER`."""
    reliable: Tensor | None
    """`[1, 1, h, w]`: 1 where the last frame could be followed; None if this is the first."""
    from_scratch: bool
    """Whether the lattice was laid anew, as a dream would be."""
    engine: Engine
    """With the numbers in force at this frame."""

    @property
    def lattice(self) -> Tensor:
        return self.carry.residual

    @property
    def followed(self) -> float | None:
        """Share of the picture."""
        return None if self.reliable is None else float(self.reliable.mean())


def follow_lattice(clip: Clip, engine: Engine) -> Iterator[Motion]:
    """Carry a lattice through a clip as the engine would carry a dream."""
    with engine.reading():
        yield from _follow_lattice(clip, engine)


def _follow_lattice(clip: Clip, engine: Engine) -> Iterator[Motion]:
    carry = None
    for index, array in enumerate(clip.frames(), clip.info.first_index):
        now = engine.at(index).with_reels(index)
        full = to_image(array, engine.device)
        source = shrink(full, now.preset.dream.size)
        moved = None
        if carry is not None:
            moved = correspond(now.flow, source, carry.source, (index, carry.index))
        carried = None if carry is None or moved is None else move(now, carry, moved)
        fresh = lay_lattice(source)
        lattice = fresh if carried is None else grow(carried, fresh, now.preset)
        if carry is None or moved is None or carried is None:
            worn = now.begun(source, index)
        else:
            worn = now.followed(carry, source, index, moved)
        now, carry = now.with_mattes(worn), Carry(index, source, lattice, mattes=worn)
        yield Motion(index, full, carry, moved.reliable if moved else None, carried is None, now)


def move(engine: Engine, carry: Carry, moved: Correspondence) -> Tensor | None:
    """The lattice where `render.start_image` would carry a dream; None where that starts anew."""
    settings = engine.preset.follow
    if moved.reliable.mean() < settings.restart:
        return None
    black = torch.zeros_like(carry.source)
    by = camera_move([engine], carry.source)
    return feedback.follow(carry, black, moved, settings, engine.reference_frames, by)


def lay_lattice(like: Tensor) -> Tensor:
    """A whole lattice of the size of an image, in full strength."""
    height, width = like.shape[-2:]
    mesh = max(6.0, max(height, width) / _LINES)
    down, across = (_lines(side, mesh, like.device) for side in (height, width))
    first = torch.maximum(down[:, None], across).expand(1, 1, height, width)
    return torch.cat((first, torch.zeros_like(first), torch.ones_like(first)), dim=1)


def _lines(side: int, mesh: float, device: torch.device) -> Tensor:
    """A soft line in the middle of every mesh, along one side."""
    place = torch.arange(side, device=device) + 0.5
    distance = (place % mesh - mesh / 2).abs()
    return (1.4 - distance).clamp(0, 1)


def grow(carried: Tensor, fresh: Tensor, preset: Preset) -> Tensor:
    """What a frame's few steps make of a carried lattice.

    They strengthen what is there, and where there is nothing a new lattice begins. A frame dreams
    as much of a whole dream as its steps, octaves and effort are of the first frame's.
    """
    cover = carried[:, COVER:]
    grown = (cover + _growth(preset)).clamp(max=1)
    bare = cover < _BARE
    stronger = torch.where(bare, 1.0, grown / cover.clamp(min=_BARE))
    first, later = carried[:, :LATER] * stronger, carried[:, LATER:COVER] * stronger
    later = later + torch.where(bare, fresh[:, :LATER] * (grown - cover), 0.0)
    return torch.cat((first, later, grown), dim=1).clamp(0, 1)


def _growth(preset: Preset) -> float:
    dream, follow = preset.dream, preset.follow
    whole = dream.steps * dream.octaves
    return follow.effort * follow.steps * follow.octaves / whole if whole else 0.0


# ── the picture ──────────────────────────────────────────────────────────────────────────────────

CARRIED, GROWN, LOST = "#5cc8ff", "#ffb454", "#ff3d5a"
_LEGEND = ((LOST, "lost"), (GROWN, "grown anew"), (CARRIED, "carried"))


def paint(motion: Motion) -> Tensor:
    """The clip, darkened, with the lattice and what was lost on it: image `[1, 3, H, W]`."""
    grey = motion.full.mean(dim=1, keepdim=True)
    shown = (0.45 * motion.full + 0.55 * grey) * 0.6
    if motion.reliable is not None:
        shown = tint(shown, LOST, 0.55 * (1 - motion.reliable))
    lattice, mask = motion.lattice, motion.engine.mask
    if mask is not None:
        lattice = lattice * mask.at(lattice)
    shown = tint(shown, CARRIED, 0.9 * lattice[:, FIRST:LATER])
    return tint(shown, GROWN, 0.9 * lattice[:, LATER:COVER])


def show(stage: Stage, motion: Motion, followed: dict[int, float]) -> Array:
    """The whole picture at one frame; `followed` holds the shares of all frames up to it."""
    frame = motion.index - stage.info.first_index
    picture = Image.fromarray(stage.ground)
    left, top, *_ = stage.pane
    picture.paste(Image.fromarray(to_array(paint(motion))), (left, top))
    draw = ImageDraw.Draw(picture)
    draw_clock(draw, stage, frame)
    measured = stage.strip.lanes[-1]
    _draw_followed(draw, stage, measured, followed, motion.engine.preset.follow.restart)
    share = "" if motion.followed is None else f"{motion.followed:.0%}"
    write_reading(draw, stage, measured, 0, share, CARRIED)
    read_lanes(draw, stage, frame)
    return np.asarray(picture)


def _draw_followed(
    draw: ImageDraw.ImageDraw, stage: Stage, lane: Lane, followed: dict[int, float], restart: float
) -> None:
    """A bar for each frame, as high as its share; the line is where dreams restart."""
    bottom = stage.strip_top + lane.top + lane.height - 1
    for frame, share in followed.items():
        begin, end = (stage.strip.column(at, stage.frame_count) for at in (frame, frame + 1))
        color = LOST if share < restart else "#2f6f93"
        high = max(1, round(share * lane.height))
        draw.rectangle((begin, bottom - high + 1, max(begin, end - 1), bottom), color)
    level = bottom - round(restart * lane.height)
    draw.line((stage.strip.left, level, stage.strip.right, level), LOST)


# ── the film ─────────────────────────────────────────────────────────────────────────────────────


def render_preview(
    request: VideoRequest,
) -> Generator[Started | RenderedFrame | Finished, None, None]:
    """Write the preview of a clip; the events are those of a render.

    It is as long as the clip and has its sound, or shows three passages of a clip of more than
    `MAX_FRAMES`, without sound. Closing the generator early leaves nothing behind.
    """
    began = time.monotonic()
    writer.check_target(request.target, overwrite=request.overwrite)
    codec = writer.codec_for(request.target, OUTPUT)
    with ExitStack() as stack:
        clip = stack.enter_context(open_source(replace(request, size=request.size or SHOWN)))
        heard = sound_file(request.preset)
        read = [*clip.files, *([heard] if heard else []), *named_files(request.preset)]
        writer.check_input_survives(request.target, read)
        info = clip.info
        sound = listen(request.preset, request.source, info)
        timeline = Timeline.of(request.preset, info.frame_count, info.rate, sound)
        engine = clip_engine(request, info, sound)
        draft = temporary_beside(Path(request.target))
        stack.callback(writer.discard, draft)
        parts = passages(info.frame_count)
        count = sum(stop - first for first, stop in parts)
        yield Started(replace(info, frame_count=count), codec.name)
        title = request.preset.description or "Motion"
        stage = set_stage(info, timeline, title, dreamed_stills(clip, engine), "followed", _LEGEND)
        yield from _encode(request, clip, parts, engine, stage, codec, draft)
        _join(request, info, codec, draft, parts)
    yield Finished(request.target, count, time.monotonic() - began)


def passages(frame_count: int) -> list[tuple[int, int]]:
    """What is shown of a clip, as (first, stop): all, or its beginning, middle and end.

    Leaving out single frames instead would show a motion that no render will see.
    """
    if frame_count <= MAX_FRAMES:
        return [(0, frame_count)]
    third = MAX_FRAMES // 3
    return [
        (first, first + third) for first in (0, (frame_count - third) // 2, frame_count - third)
    ]


def dreamed_stills(clip: Clip, engine: Engine) -> dict[int, Array]:
    """The first, the middle and the last frame, each dreamed from scratch, by their place."""
    engine = _at_size(engine, STILL_SIZE)
    last = clip.info.frame_count - 1
    return {place: _dreamed(clip, engine, place) for place in (0, last // 2, last)}


def _dreamed(clip: Clip, engine: Engine, place: int) -> Array:
    with clip.part(place, place + 1) as part:
        (array,) = part.frames()
        index = part.info.first_index
    full = to_image(array, engine.device)
    now = engine.at(index)
    source = shrink(full, now.preset.dream.size)
    now = now.alone(source, index)
    residual = dream_from_scratch(now, source, index) - source
    return to_array(compose(full, residual, now.mask))


def _at_size(engine: Engine, size: int) -> Engine:
    """The engine for frames whose flow and dream are no larger than `size`."""
    dream = engine.preset.dream
    limit = size if dream.size == "full" else min(size, dream.size)
    preset = engine.preset.model_copy(update={"dream": dream.model_copy(update={"size": limit})})
    return replace(engine, preset=preset)


def _encode(
    request: VideoRequest,
    clip: Clip,
    parts: list[tuple[int, int]],
    engine: Engine,
    stage: Stage,
    codec: Codec,
    draft: Path,
) -> Iterator[RenderedFrame]:
    engine = _at_size(engine, max(16, max(clip.info.width, clip.info.height) // 2))
    encoder = stage.encoder(draft, codec, request.stall_seconds)
    followed: dict[int, float] = {}
    with encoder:
        for first, stop in parts:
            with clip.part(first, stop) as part:
                began = time.perf_counter()
                for motion in follow_lattice(part, engine):
                    if motion.followed is not None:
                        followed[motion.index - clip.info.first_index] = motion.followed
                    picture = show(stage, motion, followed)
                    encoder.write(picture)
                    seconds = time.perf_counter() - began
                    yield RenderedFrame(
                        motion.index, to_image(picture), motion.carry, motion.from_scratch,
                        seconds, motion.engine.preset.objectives,
                    )  # fmt: skip
                    began = time.perf_counter()


def _join(
    request: VideoRequest, info: VideoInfo, codec: Codec, draft: Path, parts: list[tuple[int, int]]
) -> None:
    whole = len(parts) == 1
    trimmed = request.start is not None or request.end is not None
    writer.join(
        [draft],
        Path(request.target),
        codec,
        frame_count=sum(stop - first for first, stop in parts),
        rate=info.rate,
        source=request.source if whole and not is_stills(request.source) else None,
        start=info.first_index / info.rate if request.start is not None else None,
        duration=info.duration if trimmed else None,
    )
