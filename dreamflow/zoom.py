"""Zooms: a picture that is dreamed on, moved by the camera and fed back, without end.

The loop of Mordvintsev's first zoom films (Google Research blog, 2015) blurs, drifts in colour and
burns out within a hundred frames. Here each frame is resampled once, sharpened by what that cost,
given a little grain to dream on, and pulled back to the colours it is anchored to; its darkest and
lightest values run into the ends without reaching them.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamflow import camera, color, masks, warp
from dreamflow.camera import Matrix
from dreamflow.color import ColorStatistics
from dreamflow.dream import dream
from dreamflow.feedback import Canvas
from dreamflow.filters import gaussian_blur
from dreamflow.frames import Array, to_image
from dreamflow.pixels import as_image
from dreamflow.render import Engine, RenderedFrame, ascent, dream_size, gentler, shrink
from dreamflow.settings import Color

_RUNNING_SHARE = 0.01
"""How far a running anchor follows the picture in a frame at the reference rate."""
_LIFTING_SHARE = 0.06
"""How far an anchor that is too dark or flat goes towards what it shall be in such a frame."""
_OF_FOUR_BYTES = np.float32((4 * (256**2 - 1) / 12) ** -0.5)
"""What gives a sum of four even bytes a deviation of 1."""
_GRAINS = 1 << 22
"""Numbers that all grain is taken from, more than there are in a frame of 720 rows."""
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
        for event in _gap(last, canvas, engines, moves, began):
            if event.index < end:
                yield event


def _gap(
    last: Canvas, canvas: Canvas, engines: Sequence[Engine], moves: Sequence[Matrix], began: float
) -> Iterator[RenderedFrame]:
    """The frames from one dreamed frame to the next: those between them, then that one."""
    for place, now in enumerate(engines[:-1], 1):
        border = now.preset.camera.border
        picture = camera.between(last.picture, canvas.picture, moves, place, border)
        event = _event(last, now, opens=False, began=began)
        yield replace(event, index=last.index + place, image=picture)
        began = time.perf_counter()
    yield _event(canvas, engines[-1], opens=False, began=began)


def render_loop(
    seed: Tensor,
    engine: Engine,
    frame_count: int,
    lead: int,
    shelf: Shelf,
    *,
    canvas: Canvas | None = None,
) -> Iterator[RenderedFrame]:
    """Dive into `seed` so that the last of `frame_count` frames runs on into the first.

    `lead` frames (0 < lead < frame_count), numbered from -lead on, come before the film. They move
    as its last ones do, and those that are dreamed are to be put on the `shelf`, with 16 bits, at
    their places counted from the first; over those last ones they are mixed into the feedback, so
    that one dive turns into the other while both move alike. The last frame is that before the
    first one, to the last bit of an array. `cadence` leaves frames out as in a film that is none,
    but counts from the last frame, so that lead and end are dreamed in the same places.

    `canvas` is the state after the last dreamed frame before the first one.
    """
    places = _dreamed_places(frame_count, lead, engine.preset.cadence)
    if canvas is None:
        began, now = time.perf_counter(), engine.at(-lead % frame_count)
        canvas = replace(open_canvas(now, seed, -lead % frame_count), index=-lead)
        yield _event(canvas, now, opens=True, began=began)
    unmixed = frame_count - lead
    for before, stop in pairwise(places[places.index(canvas.index) :]):
        began, last = time.perf_counter(), canvas
        turns = [index % frame_count for index in range(before + 1, stop + 1)]
        engines = [engine.at(turn) for turn in turns]
        moves = [_move(now, last.picture) for now in engines]
        canvas = replace(dive(engines[-1], last, seed, turns[-1], moves), index=stop)
        if stop >= unmixed:
            old = to_image(shelf[stop - unmixed], engine.device)
            share = _mixed_in(max(0, before + 1 - unmixed), stop + 1 - unmixed, lead)
            canvas = replace(canvas, picture=canvas.picture.lerp(old, share))
        yield from _gap(last, canvas, engines, moves, began)


def _dreamed_places(frame_count: int, lead: int, cadence: int) -> list[int]:
    """The frames of a loop that are dreamed, from -lead on.

    The first and the last are, and else every so many that end with the last; so the lead's are
    those of the film's end.
    """
    film = range(frame_count - 1, -1, -cadence)
    before = (turn - frame_count for turn in film if turn >= frame_count - lead)
    return sorted({-lead, *before, *film})


def _mixed_in(before: int, now: int, length: int) -> float:
    """What to mix into a frame of a cross-fade that feeds on itself.

    Of the old picture is left, after that many of `length` frames, a share that falls along half a
    cosine to 0; each frame is given what is missing after the one mixed before it.
    """
    left, was = (0.5 + 0.5 * math.cos(math.pi * place / length) for place in (now, before))
    return 1 - left / was


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
        picture = gaussian_blur(picture, 1.0).lerp_(picture, 1 + settings.sharpen * share)
    if settings.noise > 0:
        deviation = settings.noise * share**0.5  # what adds up are squares
        grain = _grain(engine, picture, index, _NOISE)
        grainy = torch.add(picture, grain, alpha=deviation)
        picture = masks.within(engine.mask, picture, grainy)
    if settings.reseed > 0:
        picture = torch.lerp(picture, seed, 1 - (1 - settings.reseed) ** share)
    return picture.clamp(0, 1)


def _grain(engine: Engine, like: Tensor, index: int, purpose: int) -> Tensor:
    """Noise of the picture's form, nearly normal, the same for the same seed and frame on any
    device; not to be written to.

    It is a stretch of one long line of numbers, begun anywhere: nobody sees that two frames share
    some of it, at other places, and it takes a tenth of the time of new numbers. (Grain of films
    is made so too: Norkin & Birkbeck 2018, "Film grain synthesis for AV1".)
    """
    _, channels, height, width = like.shape
    count, line = height * width * channels, _line_of_grain()
    key = np.random.SeedSequence((engine.preset.seed, index, purpose))
    begin = int(key.generate_state(1)[0]) % len(line)
    stretch = line[begin : begin + count]
    if len(stretch) < count:  # round and round
        whole, rest = divmod(count - len(stretch), len(line))
        stretch = np.concatenate((stretch, *[line] * whole, line[:rest]))
    return as_image(stretch.reshape(height, width, channels)).to(like.device)


@functools.cache
def _line_of_grain() -> NDArray[np.float32]:
    """Numbers of mean 0 and deviation 1, 16 MB of them.

    Each is a sum of four bytes, which NumPy draws alike in all its versions. (Single bytes, whose
    noise has no tails, left a faint weave in grey places after two hundred frames.)
    """
    drawn = np.random.SFC64(0).random_raw(_GRAINS // 2).astype("<u8").view(np.int8)
    sums = drawn.reshape(4, _GRAINS).sum(axis=0, dtype=np.int16, initial=2)  # a byte has -1/2
    return np.multiply(sums, _OF_FOUR_BYTES, dtype=np.float32)


def _dreamed(engine: Engine, picture: Tensor, index: int, *, gently: bool) -> Tensor:
    """The picture dreamed on at the size dreams run at; what was dreamed is enlarged onto it."""
    preset = engine.preset
    settings = gentler(preset) if gently else ascent(preset)
    seed, mask = (preset.seed, index), engine.mask
    size = (picture.shape[-2], picture.shape[-1])
    if dream_size(size, settings.size) == size:
        scene = engine.scene(picture)
        return dream(picture, engine.extractor, engine.terms, settings, seed, mask, scene=scene)
    small = shrink(picture, settings.size)
    scene = engine.scene(small)
    dreamed = dream(small, engine.extractor, engine.terms, settings, seed, mask, scene=scene)
    return masks.kept(mask, picture, picture + warp.resize(dreamed - small, size))


def _colored(engine: Engine, picture: Tensor, anchor: ColorStatistics, strength: float) -> Tensor:
    """The picture with its colours pulled to the anchor's, and its ends bent."""
    settings, colored = engine.preset.color, picture
    if settings.anchor != "none" and strength > 0:
        wanted = anchor.limited(settings)
        colored = color.pull(picture, wanted, strength)
    return masks.within(engine.mask, picture, color.with_shoulders(colored))
