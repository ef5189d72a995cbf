"""What a preview is drawn on: a moving picture, stills at its right, the preset's curves below."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from dreamflow import plots, warp
from dreamflow.frames import Array, VideoInfo
from dreamflow.plots import FAINT_INK, GROUND, INK, Lane, Strip, Timeline
from dreamflow.settings import Output
from dreamflow.video.reader import resized
from dreamflow.video.writer import Codec, Encoder

Legend = tuple[tuple[str, str], ...]
"""Colours and what they stand for, from the right."""

PLAYHEAD = "#ffffff"
OUTPUT = Output(crf=20, speed="veryfast")
"""How any preview is encoded."""

_PAD, _HEAD, _STILL_GAP = 16, 44, 10
_READING_MARGIN = 10
_LEAST_WIDTH = 560


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

    def encoder(self, draft: Path, codec: Codec, stall_seconds: float) -> Encoder:
        """What takes the pictures of a preview."""
        return Encoder(
            draft,
            codec,
            width=self.width,
            height=self.height,
            rate=self.info.rate,
            settings=OUTPUT,
            stall_seconds=stall_seconds,
        )


def set_stage(
    info: VideoInfo,
    timeline: Timeline,
    title: str,
    stills: dict[int, Array],
    measured: str,
    legend: Legend,
) -> Stage:
    """Lay out the picture and draw all that stays: title, legend, stills, curves.

    `stills` are by their frames; `measured` is what the last lane tells of.
    """
    still_height = max(1, (info.height - 2 * _STILL_GAP) // 3)
    still_width = max(1, round(still_height * info.width / info.height))
    width = max(_LEAST_WIDTH, info.width + still_width + 3 * _PAD)
    width += width % 2
    strip = plots.strip(timeline, width, measured)
    strip_top = _HEAD + max(info.height, 3 * still_height + 2 * _STILL_GAP) + 6
    height = strip_top + strip.picture.shape[0]
    ground = Image.new("RGB", (width, height + height % 2), GROUND)
    ground.paste(Image.fromarray(strip.picture), (0, strip_top))
    left = _PAD + info.width + _PAD
    for place, (frame, still) in enumerate(stills.items()):
        top = _HEAD + place * (still_height + _STILL_GAP)
        ground.paste(Image.fromarray(resized(still, (still_width, still_height))), (left, top))
        _mark_still(ground, info, strip, strip_top, frame, (left, top + still_height))
    _write_head(ground, title, legend)
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


def _write_head(ground: Image.Image, title: str, legend: Legend) -> None:
    """The legend at the right, and as much of the title as fits before it."""
    draw, x = ImageDraw.Draw(ground), ground.width - _PAD
    for color, word in legend:
        x -= round(draw.textlength(word, _font(12)))
        draw.text((x, 27), word, FAINT_INK, _font(12), anchor="ls")
        draw.rectangle((x - 15, 18, x - 6, 27), color)
        x -= 30
    room = x - _PAD
    draw.text((_PAD, 28), _fitted(draw, title, room, _font(14)), INK, _font(14), anchor="ls")


def _fitted(draw: ImageDraw.ImageDraw, text: str, room: float, font: ImageFont.FreeTypeFont) -> str:
    """As much of a text, from its beginning, as is no wider than `room` pixels."""
    while text and draw.textlength(text, font) > room:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    return text


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings along, in which the curves are labelled."""
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def draw_clock(draw: ImageDraw.ImageDraw, stage: Stage, frame: int) -> None:
    """The time of a frame, in the lower left corner of the moving picture."""
    left, top, _, height = stage.pane
    clock = f"{float(frame / stage.info.rate):.2f} s   frame {frame}"
    length = draw.textlength(clock, _font(12))
    draw.rectangle((left, top + height - 20, left + length + 12, top + height - 1), GROUND)
    draw.text((left + 6, top + height - 6), clock, INK, _font(12), anchor="ls")


def read_lanes(draw: ImageDraw.ImageDraw, stage: Stage, frame: int) -> None:
    """The numbers that the preset has in force at a frame, and the playhead at it."""
    for lane in stage.strip.lanes[:-1]:
        _read_off(draw, stage, lane, frame)
    _draw_playhead(draw, stage, frame)


def _read_off(draw: ImageDraw.ImageDraw, stage: Stage, lane: Lane, frame: int) -> None:
    """The numbers in force, beside their curves: of the layers, those that weigh most."""
    lines = max(1, lane.height // 14)
    found = [(abs(t.values[frame]), t, c) for t, c in zip(lane.tracks, lane.colors, strict=True)]
    chosen = sorted(found, key=lambda each: -each[0])[:lines]
    layers = lane.tracks is stage.strip.lanes[0].tracks
    for line, (_, track, color) in enumerate(chosen):
        text = f"{track.values[frame]:.3g}"
        if layers:
            room = _reading_room(stage) - draw.textlength(f" {text}", _font(10))
            text = f"{_fitted(draw, track.key.split()[0], room, _font(10))} {text}"
        write_reading(draw, stage, lane, line, text, color)


def _reading_room(stage: Stage) -> int:
    """Pixels between the curves and the right edge, less a margin at both ends."""
    return stage.width - stage.strip.right - 2 * _READING_MARGIN


def write_reading(
    draw: ImageDraw.ImageDraw, stage: Stage, lane: Lane, line: int, text: str, color: str
) -> None:
    y = stage.strip_top + lane.top + (lane.height // 2 + 4 if lane.height < 40 else 11 + 14 * line)
    draw.text((stage.strip.right + _READING_MARGIN, y), text, color, _font(10), anchor="ls")


def _draw_playhead(draw: ImageDraw.ImageDraw, stage: Stage, frame: int) -> None:
    x = stage.strip.column(frame + 0.5, stage.frame_count)
    first, last = stage.strip.lanes[0], stage.strip.lanes[-1]
    top, bottom = stage.strip_top + first.top, stage.strip_top + last.top + last.height
    draw.line((x, top, x, bottom), PLAYHEAD)


def tint(image: Tensor, color: str, strength: Tensor) -> Tensor:
    """Lay a colour over an image, as strongly as `[1, 1, h, w]` says."""
    size = (image.shape[-2], image.shape[-1])
    ink = image.new_tensor(ImageColor.getrgb(color)).view(1, 3, 1, 1) / 255
    return torch.lerp(image, ink, warp.resize(strength, size).clamp(0, 1))
