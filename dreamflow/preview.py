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
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from dreamflow import feedback, plots, warp
from dreamflow.feedback import Carry
from dreamflow.flow import Correspondence, correspond
from dreamflow.frames import Array, Box, VideoInfo, to_array, to_image
from dreamflow.job import (
    Finished,
    Started,
    VideoRequest,
    listen,
    open_source,
    prepare,
    sound_file,
)
from dreamflow.plots import FAINT_INK, GROUND, INK, Lane, Strip, Timeline
from dreamflow.preset import Preset
from dreamflow.render import (
    Engine,
    RenderedFrame,
    camera_move,
    compose,
    dream_from_scratch,
    shrink,
)
from dreamflow.settings import Output
from dreamflow.video import writer
from dreamflow.video.reader import Clip, resized
from dreamflow.video.sequences import is_stills
from dreamflow.video.stills import temporary_beside
from dreamflow.video.writer import Codec

SHOWN = Box(640, 640)
"""Size of the moving picture unless another is asked for; motion is found at half of it."""
STILL_SIZE = 512
"""Long side at which the stills are dreamed: near that of a render, to judge their scale."""
MAX_FRAMES = 240
"""A longer clip is shown in three passages, around its stills."""

_OUTPUT = Output(crf=20, speed="veryfast")

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
    carry = None
    for index, array in enumerate(clip.frames(), clip.info.first_index):
        now = engine.at(index)
        full = to_image(array, engine.device)
        source = shrink(full, now.preset.dream.size)
        moved = None if carry is None else correspond(now.flow, source, carry.source)
        carried = None if carry is None or moved is None else move(now, carry, moved)
        fresh = lay_lattice(source)
        lattice = fresh if carried is None else grow(carried, fresh, now.preset)
        carry = Carry(index, source, lattice)
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
PLAYHEAD = "#ffffff"

_PAD, _HEAD, _STILL_GAP = 16, 44, 10
_LEAST_WIDTH = 560


def paint(motion: Motion) -> Tensor:
    """The clip, darkened, with the lattice and what was lost on it: image `[1, 3, H, W]`."""
    grey = motion.full.mean(dim=1, keepdim=True)
    shown = (0.45 * motion.full + 0.55 * grey) * 0.6
    if motion.reliable is not None:
        shown = _tint(shown, LOST, 0.55 * (1 - motion.reliable))
    shown = _tint(shown, CARRIED, 0.9 * motion.lattice[:, FIRST:LATER])
    return _tint(shown, GROWN, 0.9 * motion.lattice[:, LATER:COVER])


def _tint(image: Tensor, color: str, strength: Tensor) -> Tensor:
    """Lay a colour over an image, as strongly as `[1, 1, h, w]` says."""
    size = (image.shape[-2], image.shape[-1])
    ink = image.new_tensor(ImageColor.getrgb(color)).view(1, 3, 1, 1) / 255
    return torch.lerp(image, ink, warp.resize(strength, size).clamp(0, 1))


@dataclass(frozen=True)
class Stage:
    """Where things are in the picture, in pixels, (x right, y down), and what never changes."""

    width: int
    height: int
    pane: tuple[int, int, int, int]
    """The moving picture: left, top, width, height."""
    strip: Strip
    strip_top: int
    ground: Array
    """The picture before any frame is on it."""
    info: VideoInfo
    """Of the whole clip."""

    @property
    def frame_count(self) -> int:
        return self.info.frame_count


def set_stage(info: VideoInfo, timeline: Timeline, title: str, stills: dict[int, Array]) -> Stage:
    """Lay out the picture and draw all that stays: title, legend, stills, curves."""
    still_height = max(1, (info.height - 2 * _STILL_GAP) // 3)
    still_width = max(1, round(still_height * info.width / info.height))
    width = max(_LEAST_WIDTH, info.width + still_width + 3 * _PAD)
    width += width % 2
    strip = plots.strip(timeline, width, "followed")
    strip_top = _HEAD + max(info.height, 3 * still_height + 2 * _STILL_GAP) + 6
    height = strip_top + strip.picture.shape[0]
    ground = Image.new("RGB", (width, height + height % 2), GROUND)
    ground.paste(Image.fromarray(strip.picture), (0, strip_top))
    left = _PAD + info.width + _PAD
    for place, (frame, still) in enumerate(stills.items()):
        top = _HEAD + place * (still_height + _STILL_GAP)
        ground.paste(Image.fromarray(resized(still, (still_width, still_height))), (left, top))
        _mark_still(ground, info, strip, strip_top, frame, (left, top + still_height))
    _write_head(ground, title)
    pane = (_PAD, _HEAD, info.width, info.height)
    return Stage(*ground.size, pane, strip, strip_top, np.asarray(ground), info)


def _mark_still(
    ground: Image.Image,
    info: VideoInfo,
    strip: Strip,
    top: int,
    frame: int,
    corner: tuple[int, int],
) -> None:
    """A still's time in its lower left corner, and a notch above the curves at that time."""
    draw = ImageDraw.Draw(ground)
    text = f"{float(frame / info.rate):.2f} s"
    x, y = corner
    length = draw.textlength(text, _font(11))
    draw.rectangle((x, y - 17, x + length + 9, y - 1), GROUND)
    draw.text((x + 5, y - 3), text, INK, _font(11), anchor="ls")
    at = strip.column(frame + 0.5, info.frame_count)
    draw.polygon([(at - 4, top), (at + 4, top), (at, top + 6)], FAINT_INK)


def _write_head(ground: Image.Image, title: str) -> None:
    """The legend at the right, and as much of the title as fits before it."""
    draw, x = ImageDraw.Draw(ground), ground.width - _PAD
    for color, word in ((LOST, "lost"), (GROWN, "grown anew"), (CARRIED, "carried")):
        x -= round(draw.textlength(word, _font(12)))
        draw.text((x, 27), word, FAINT_INK, _font(12), anchor="ls")
        draw.rectangle((x - 15, 18, x - 6, 27), color)
        x -= 30
    room = x - _PAD
    while title and draw.textlength(title, _font(14)) > room:
        title = title[:-2].rstrip() + "…" if len(title) > 2 else ""
    draw.text((_PAD, 28), title, INK, _font(14), anchor="ls")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings along, in which the curves are labelled."""
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def show(stage: Stage, motion: Motion, followed: dict[int, float]) -> Array:
    """The whole picture at one frame; `followed` holds the shares of all frames up to it."""
    frame = motion.index - stage.info.first_index
    picture = Image.fromarray(stage.ground)
    left, top, _, height = stage.pane
    picture.paste(Image.fromarray(to_array(paint(motion))), (left, top))
    draw = ImageDraw.Draw(picture)
    clock = f"{float(frame / stage.info.rate):.2f} s   frame {frame}"
    length = draw.textlength(clock, _font(12))
    draw.rectangle((left, top + height - 20, left + length + 12, top + height - 1), GROUND)
    draw.text((left + 6, top + height - 6), clock, INK, _font(12), anchor="ls")
    *curves, measured = stage.strip.lanes
    _draw_followed(draw, stage, measured, followed, motion.engine.preset.follow.restart)
    for lane in curves:
        _read_off(draw, stage, lane, frame)
    share = "" if motion.followed is None else f"{motion.followed:.0%}"
    _write_reading(draw, stage, measured, 0, share, CARRIED)
    _draw_playhead(draw, stage, frame)
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


def _read_off(draw: ImageDraw.ImageDraw, stage: Stage, lane: Lane, frame: int) -> None:
    """The numbers in force, beside their curves: of the layers, those that weigh most."""
    lines = max(1, lane.height // 14)
    found = [(abs(t.values[frame]), t, c) for t, c in zip(lane.tracks, lane.colors, strict=True)]
    chosen = sorted(found, key=lambda each: -each[0])[:lines]
    for line, (_, track, color) in enumerate(chosen):
        name = f"{track.key.split()[0][:11]} " if lane.tracks is stage.strip.lanes[0].tracks else ""
        _write_reading(draw, stage, lane, line, f"{name}{track.values[frame]:.3g}", color)


def _write_reading(
    draw: ImageDraw.ImageDraw, stage: Stage, lane: Lane, line: int, text: str, color: str
) -> None:
    y = stage.strip_top + lane.top + (lane.height // 2 + 4 if lane.height < 40 else 11 + 14 * line)
    draw.text((stage.strip.right + 10, y), text, color, _font(10), anchor="ls")


def _draw_playhead(draw: ImageDraw.ImageDraw, stage: Stage, frame: int) -> None:
    x = stage.strip.column(frame + 0.5, stage.frame_count)
    first, last = stage.strip.lanes[0], stage.strip.lanes[-1]
    top, bottom = stage.strip_top + first.top, stage.strip_top + last.top + last.height
    draw.line((x, top, x, bottom), PLAYHEAD)


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
    codec = writer.codec_for(request.target, _OUTPUT)
    with ExitStack() as stack:
        clip = stack.enter_context(open_source(replace(request, size=request.size or SHOWN)))
        heard = sound_file(request.preset)
        writer.check_input_survives(request.target, [*clip.files, *([heard] if heard else [])])
        info = clip.info
        sound = listen(request.preset, request.source, info)
        timeline = Timeline.of(request.preset, info.frame_count, info.rate, sound)
        engine = prepare(
            request.preset,
            info.rate,
            request.device,
            request.threads,
            frame_count=info.frame_count,
            first_index=info.first_index,
            sound=sound,
        )
        draft = temporary_beside(Path(request.target))
        stack.callback(writer.discard, draft)
        parts = passages(info.frame_count)
        count = sum(stop - first for first, stop in parts)
        yield Started(replace(info, frame_count=count), codec.name)
        title = request.preset.description or "Motion"
        stage = set_stage(info, timeline, title, dreamed_stills(clip, engine))
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
    return to_array(compose(full, dream_from_scratch(now, source, index) - source))


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
    encoder = writer.Encoder(
        draft,
        codec,
        width=stage.width,
        height=stage.height,
        rate=clip.info.rate,
        settings=_OUTPUT,
        stall_seconds=request.stall_seconds,
    )
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
