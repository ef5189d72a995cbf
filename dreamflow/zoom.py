"""Zooms: a picture that is dreamed on, moved by the camera and fed back, without end.

The loop of Mordvintsev's first zoom films (Google Research blog, 2015) blurs, drifts in colour and
burns out within a hundred frames. Here each frame is resampled once, sharpened by what that cost,
given a little grain to dream on, and pulled back to the colours it is anchored to; its darkest and
lightest values run into the ends without reaching them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dreamflow import camera, color, warp
from dreamflow.camera import Matrix
from dreamflow.color import ColorStatistics
from dreamflow.dream import dream
from dreamflow.feedback import Canvas
from dreamflow.filters import gaussian_blur
from dreamflow.frames import Array, to_image
from dreamflow.render import Engine, RenderedFrame, gentler, shrink
from dreamflow.settings import Color

_RUNNING_SHARE = 0.01
"""How far a running anchor follows the picture in a frame at the reference rate."""
_LIFTING_SHARE = 0.06
"""How far an anchor that is too dark or flat goes towards what it shall be in such a frame."""
_NOISE, _FILL = 1, 2
"""What a random draw is for; part of its key."""


class Shelf(Protocol):
    """Where finished frames were put aside, as arrays."""

    def __getitem__(self, index: int, /) -> Array: ...


def render_zoom(
    seed: Tensor,
    engine: Engine,
    frame_count: int | None = None,
    *,
    canvas: Canvas | None = None,
    period: int | None = None,
) -> Iterator[RenderedFrame]:
    """Dive into `seed`, an image `[1, 3, H, W]`; without `frame_count` it never ends.

    `canvas` is the state after the frame before the first one; without it that one is dreamed
    from the seed. Frame i is the same however many follow. Curves begin again after `period`
    frames, without it they hold their last value. Where `cadence` leaves frames out, they are made
    of the dreamed ones before and after, and their state is that of the former.
    """
    end = math.inf if frame_count is None else frame_count

    def at(index: int) -> Engine:
        return engine.at(index % period if period else index)

    if canvas is None:
        began, now = time.perf_counter(), at(0)
        canvas = open_canvas(now, seed, 0)
        yield _event(canvas, now, opens=True, began=began)
    while canvas.index + 1 < end:
        began, last = time.perf_counter(), canvas
        places = range(last.index + 1, last.index + 1 + engine.preset.cadence)
        engines = [at(place) for place in places]
        moves = [_move(now, last.picture) for now in engines]
        canvas = dive(engines[-1], last, seed, places[-1], moves)
        for place, now in enumerate(engines[:-1], 1):
            if last.index + place < end:
                border = now.preset.camera.border
                picture = camera.between(last.picture, canvas.picture, moves, place, border)
                event = _event(last, now, opens=False, began=began)
                yield replace(event, index=last.index + place, image=picture)
                began = time.perf_counter()
        if canvas.index < end:
            yield _event(canvas, engines[-1], opens=False, began=began)


def render_loop(
    seed: Tensor,
    engine: Engine,
    frame_count: int,
    lead: int,
    shelf: Shelf,
    *,
    first: int | None = None,
    canvas: Canvas | None = None,
) -> Iterator[RenderedFrame]:
    """Dive into `seed` so that the last of `frame_count` frames runs on into the first.

    `lead` frames (0 < lead < frame_count), numbered from -lead on, come before the film. They move
    as its last ones do, and are to be put on the `shelf` in their order, with 16 bits; over those
    last ones they are mixed into the feedback, so that one dive turns into the other while both
    move alike. The last frame is that before the first one, to the last bit of an array.

    `canvas` is the state after the frame before `first`, to begin there.
    """
    for index in range(-lead if first is None else first, frame_count):
        turn, place = index % frame_count, index - frame_count + lead
        began, now, opens = time.perf_counter(), engine.at(turn), canvas is None
        if canvas is None:
            canvas = open_canvas(now, seed, turn)
        else:
            canvas = dive(now, canvas, seed, turn, [_move(now, canvas.picture)])
        if place >= 0:
            before = to_image(shelf[place], engine.device)
            mixed = canvas.picture.lerp(before, _mixed_in(place, lead))
            canvas = replace(canvas, picture=mixed)
        yield replace(_event(canvas, now, opens=opens, began=began), index=index)


def _mixed_in(place: int, length: int) -> float:
    """What to mix into frame `place` of a cross-fade that feeds on itself.

    The share of the old picture that is left falls along half a cosine, to 0 in the last frame;
    each frame is given what is missing after all before it.
    """
    left, before = (0.5 + 0.5 * math.cos(math.pi * (place + i) / length) for i in (1, 0))
    return 1 - left / before


def _event(canvas: Canvas, engine: Engine, *, opens: bool, began: float) -> RenderedFrame:
    seconds, terms = time.perf_counter() - began, engine.preset.objectives
    return RenderedFrame(canvas.index, canvas.picture, canvas, opens, seconds, terms)


def open_canvas(engine: Engine, seed: Tensor, index: int) -> Canvas:
    """The first frame: the seed, dreamed from scratch."""
    preset = engine.preset
    anchor = ColorStatistics.of(seed)
    picture = _dreamed(engine, seed, index, gently=False)
    return Canvas(index, _colored(engine, picture, anchor, preset.color.strength), anchor)


def dive(
    engine: Engine, canvas: Canvas, seed: Tensor, index: int, moves: Sequence[Matrix]
) -> Canvas:
    """The frame so many `moves` after `canvas`: moved, refreshed, dreamed on, coloured."""
    share = len(moves) * engine.reference_frames
    start = _moved(engine, canvas.picture, index, camera.composed(moves))
    start = _refreshed(engine, start, seed, index, share)
    picture = _dreamed(engine, start, index, gently=True)
    settings = engine.preset.color
    picture = _colored(engine, picture, canvas.anchor, 1 - (1 - settings.rate) ** share)
    return Canvas(index, picture, _next_anchor(canvas.anchor, picture, settings, share))


def _next_anchor(
    anchor: ColorStatistics, picture: Tensor, settings: Color, share: float
) -> ColorStatistics:
    """Where the colours are pulled to in the next frame: slowly lifted, slowly following."""
    if settings.anchor == "running":
        follows = 1 - (1 - _RUNNING_SHARE) ** share
        anchor = anchor.towards(ColorStatistics.of(picture), follows)
    return anchor.towards(anchor.lifted(settings), 1 - (1 - _LIFTING_SHARE) ** share)


def _move(engine: Engine, picture: Tensor) -> Matrix:
    """The camera's move in one frame."""
    size = (picture.shape[-2], picture.shape[-1])
    return camera.matrix(engine.preset.camera, size, engine.reference_frames)


def _moved(engine: Engine, picture: Tensor, index: int, by: Matrix) -> Tensor:
    border, fill = engine.preset.camera.border, None
    if border == "outpaint":
        fill = picture.mean((-2, -1), keepdim=True) + 0.2 * _grain(engine, picture, index, _FILL)
    moved = camera.move(picture, by, border, fill)
    return moved.contiguous(memory_format=torch.channels_last)  # all that follows is quicker so


def _refreshed(engine: Engine, picture: Tensor, seed: Tensor, index: int, share: float) -> Tensor:
    """Sharpened, with fresh grain and some of the seed: as after `share` reference frames."""
    settings = engine.preset.feedback
    if settings.sharpen > 0:
        blurred = gaussian_blur(picture, 1.0)
        picture = torch.lerp(blurred, picture, 1 + settings.sharpen * share)
    if settings.noise > 0:
        deviation = settings.noise * share**0.5  # what adds up are squares
        picture = picture + deviation * _grain(engine, picture, index, _NOISE)
    if settings.reseed > 0:
        picture = torch.lerp(picture, seed, 1 - (1 - settings.reseed) ** share)
    return picture.clamp(0, 1)


def _grain(engine: Engine, like: Tensor, index: int, purpose: int) -> Tensor:
    """Normal noise of the picture's form, the same for the same seed and frame on any device."""
    key = np.random.SeedSequence((engine.preset.seed, index, purpose))
    generator = torch.Generator().manual_seed(int(key.generate_state(1, np.uint64)[0] >> 1))
    _, channels, height, width = like.shape
    drawn = torch.randn((1, height, width, channels), generator=generator)
    return drawn.permute(0, 3, 1, 2).to(like)


def _dreamed(engine: Engine, picture: Tensor, index: int, *, gently: bool) -> Tensor:
    """The picture dreamed on at the size dreams run at; what was dreamed is enlarged onto it."""
    preset = engine.preset
    settings = gentler(preset) if gently else preset.dream
    small = shrink(picture, settings.size)
    dreamed = dream(small, engine.extractor, engine.terms, settings, (preset.seed, index))
    size = (picture.shape[-2], picture.shape[-1])
    return picture + warp.resize(dreamed - small, size) if small is not picture else dreamed


def _colored(engine: Engine, picture: Tensor, anchor: ColorStatistics, strength: float) -> Tensor:
    settings = engine.preset.color
    if settings.anchor != "none" and strength > 0:
        wanted = anchor.limited(settings)
        picture = color.pull(picture.clamp(0, 1), wanted, strength)
    return color.with_shoulders(picture)
