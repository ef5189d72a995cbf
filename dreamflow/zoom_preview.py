"""Where a zoom's camera goes, in seconds: the seed and a lattice on it, moved but not dreamed.

A seed that is only enlarged would soon be a blur. So it is laid anew every `TURN_SECONDS`, fades in
over the one before, which goes on, and out again: what is seen always moves as the camera does.
Beside it are three dreamed stills, below it the preset's curves and how much it has enlarged.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from dreamflow import camera, zoom
from dreamflow.camera import Matrix
from dreamflow.color import ColorStatistics
from dreamflow.feedback import Canvas
from dreamflow.frames import Array, to_array, to_image
from dreamflow.job import Finished, Started
from dreamflow.plots import Timeline
from dreamflow.preview import CARRIED, GROWN, SHOWN, STILL_SIZE, lay_lattice, passages
from dreamflow.render import Engine, RenderedFrame, shrink
from dreamflow.stage import OUTPUT, Stage, draw_clock, read_lanes, set_stage, tint, write_reading
from dreamflow.video import writer
from dreamflow.video.stills import temporary_beside
from dreamflow.video.writer import Codec
from dreamflow.zoom_job import (
    Course,
    ZoomRequest,
    check_inputs_survive,
    engine_for,
    first_picture,
    heard,
    info_of,
    warn,
)

TURN_SECONDS = 1.5
"""From one laying of the seed to the next; it is seen for twice as long."""

_LEGEND = ((GROWN, "from beyond the border"), (CARRIED, "moved"))
_LEAD = 4
"""Frames dreamed before a still in mid-film, so that it looks as it will on the way."""

# ── the path ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class CameraPath:
    """The camera's way over a film, for pictures of one size."""

    engine: Engine
    size: tuple[int, int]
    """(height, width)"""
    frame_count: int

    @property
    def turn(self) -> int:
        """Frames from one laying of the seed to the next."""
        return max(1, round(TURN_SECONDS * self.engine.rate))

    def layers(self, frame: int) -> Iterator[tuple[Matrix, float]]:
        """What is seen at a frame: how each laying was moved since, and its share in the picture.

        The shares are those of a cross-fade and add up to 1.
        """
        latest = frame // self.turn * self.turn
        share = np.sin(np.pi / 2 * (frame - latest) / self.turn) ** 2 if latest else 1.0
        for laid, part in ((latest - self.turn, 1 - share), (latest, share)):
            if part > 0:
                yield camera.composed([_step(self, i) for i in range(laid + 1, frame + 1)]), part

    def enlargement(self) -> NDArray[np.float64]:
        """How many times each frame of the film enlarges the first one."""
        share = self.engine.reference_frames
        zooms = (self.engine.at(frame).preset.camera.zoom for frame in range(1, self.frame_count))
        logarithms = np.log([1.0, *zooms]) * share
        return np.exp(np.minimum(logarithms.cumsum(), 600))  # more is not a float


@lru_cache(maxsize=1024)
def _step(path: CameraPath, frame: int) -> Matrix:
    """The move that leads from the frame before to this one; each is part of many ways."""
    now = path.engine.at(frame)
    return camera.matrix(now.preset.camera, path.size, now.reference_frames)


def moved(path: CameraPath, seed: Tensor, frame: int) -> tuple[Tensor, Tensor, Tensor]:
    """The seed, the lattice on it, and what lies beyond its border, at a frame of the film.

    Convention: images `[1, C, H, W]` with 3, 1 and 1 channels, of the seed's size.
    """
    border = path.engine.at(frame).preset.camera.border
    lattice = lay_lattice(seed)[:, :1]
    whole = torch.ones_like(lattice)
    picture, lines, beyond = torch.zeros_like(seed), 0 * whole, 0 * whole
    for by, share in path.layers(frame):
        fill = seed.mean((-2, -1), keepdim=True).expand_as(seed)
        picture = picture + share * camera.move(seed, by, border, fill)
        lines = lines + share * camera.move(lattice, by, border, 0 * lattice)
        beyond = beyond + share * (1 - camera.move(whole, by, "outpaint", 0 * whole))
    return picture.clamp(0, 1), lines.clamp(0, 1), beyond.clamp(0, 1)


def paint(path: CameraPath, seed: Tensor, frame: int) -> Tensor:
    """The moved seed, darkened, with the lattice on it: image `[1, 3, H, W]`."""
    picture, lattice, beyond = moved(path, seed, frame)
    grey = picture.mean(dim=1, keepdim=True)
    shown = tint((0.6 * picture + 0.4 * grey) * 0.75, GROWN, 0.3 * beyond)
    mask = path.engine.mask
    if mask is not None:
        lattice = lattice * mask.at(lattice)
    return tint(shown, CARRIED, 0.8 * lattice)


def dreamed_stills(seed: Tensor, engine: Engine, frame_count: int) -> dict[int, Array]:
    """What is dreamed in the first, the middle and the last frame, by their place."""
    small = shrink(seed, STILL_SIZE)
    last = frame_count - 1
    return {place: to_array(_dreamed(small, engine, place)) for place in (0, last // 2, last)}


def _dreamed(seed: Tensor, engine: Engine, place: int) -> Tensor:
    """The seed after a few frames that lead up to `place`, in the colours of a film on its way."""
    first = max(0, place - _LEAD)
    canvas = zoom.open_canvas(engine.at(first), seed, first)
    if first == place:
        return canvas.picture
    settled = replace(canvas, anchor=canvas.anchor.lifted(engine.at(first).preset.color))
    *_, last = zoom.render_zoom(seed, engine, place + 1, canvas=settled)
    return last.image


# ── the picture ──────────────────────────────────────────────────────────────────────────────────


def show(stage: Stage, path: CameraPath, seed: Tensor, frame: int, enlarged: float) -> Array:
    """The whole picture at one frame of the film."""
    picture = Image.fromarray(stage.ground)
    left, top, *_ = stage.pane
    picture.paste(Image.fromarray(to_array(paint(path, seed, frame))), (left, top))
    draw = ImageDraw.Draw(picture)
    draw_clock(draw, stage, frame)
    read_lanes(draw, stage, frame)
    write_reading(draw, stage, stage.strip.lanes[-1], 0, f"{enlarged:.3g} times", CARRIED)
    return np.asarray(picture)


def _draw_enlargement(stage: Stage, times: NDArray[np.float64]) -> Stage:
    """The stage with a line in its last lane, as high as the enlargement's logarithm."""
    ground = Image.fromarray(stage.ground)
    draw, lane = ImageDraw.Draw(ground), stage.strip.lanes[-1]
    logarithms = np.log(times)
    low, high = min(0.0, logarithms.min()), max(0.0, logarithms.max())
    heights = (logarithms - low) / max(high - low, 1e-9) * (lane.height - 4)
    bottom = stage.strip_top + lane.top + lane.height - 3
    points = [
        (stage.strip.column(frame + 0.5, stage.frame_count), bottom - float(height))
        for frame, height in enumerate(heights)
    ]
    draw.line(points, CARRIED, width=2)
    return replace(stage, ground=np.asarray(ground))


# ── the film ─────────────────────────────────────────────────────────────────────────────────────


def render_preview(
    request: ZoomRequest,
) -> Generator[Started | RenderedFrame | Finished, None, None]:
    """Write the preview of a zoom; the events are those of a render.

    It is as long as the film and has its sound, or shows three passages of one of more than
    `preview.MAX_FRAMES`, without sound; a film there and back is shown there. Closing the generator
    early leaves nothing behind.
    """
    began = time.monotonic()
    request = replace(request, size=request.size or SHOWN)
    writer.check_target(request.target, overwrite=request.overwrite)
    codec = writer.codec_for(request.target, OUTPUT)
    check_inputs_survive(request)
    array = first_picture(request, codec.multiple)
    whole = info_of(request, array, request.frame_count())
    info = replace(whole, frame_count=Course.of(request, whole).dreamed, bits=8)
    sound = heard(request, info)
    timeline = Timeline.of(request.preset, info.frame_count, info.rate, sound)
    engine = engine_for(request, info, info.frame_count, sound)
    warn(engine, info)
    seed = to_image(array, engine.device)
    path = CameraPath(engine, array.shape[:2], info.frame_count)
    with ExitStack() as stack:
        draft = temporary_beside(Path(request.target))
        stack.callback(writer.discard, draft)
        parts = passages(info.frame_count)
        count = sum(stop - first for first, stop in parts)
        yield Started(replace(info, frame_count=count), codec.name)
        stills = dreamed_stills(seed, engine, info.frame_count)
        title = request.preset.description or "Camera"
        stage = set_stage(info, timeline, title, stills, "enlarged, log", _LEGEND)
        times = path.enlargement()
        stage = _draw_enlargement(stage, times)
        yield from _encode(request, path, seed, parts, stage, times, codec, draft)
        writer.join(
            [draft],
            Path(request.target),
            codec,
            frame_count=count,
            rate=info.rate,
            soundtrack=request.soundtrack if count == whole.frame_count else None,
        )
    yield Finished(request.target, count, time.monotonic() - began)


def _encode(
    request: ZoomRequest,
    path: CameraPath,
    seed: Tensor,
    parts: list[tuple[int, int]],
    stage: Stage,
    times: NDArray[np.float64],
    codec: Codec,
    draft: Path,
) -> Iterator[RenderedFrame]:
    with stage.encoder(draft, codec, request.stall_seconds) as encoder:
        for frame in (frame for first, stop in parts for frame in range(first, stop)):
            began = time.perf_counter()
            picture = show(stage, path, seed, frame, float(times[frame]))
            encoder.write(picture)
            terms = path.engine.at(frame).preset.objectives
            canvas = Canvas(frame, seed, ColorStatistics.of(seed))
            seconds = time.perf_counter() - began
            yield RenderedFrame(frame, to_image(picture), canvas, frame == 0, seconds, terms)
