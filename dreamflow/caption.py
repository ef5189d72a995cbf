"""A line of text at the foot of a finished frame: what is being dreamed.

It is drawn onto what is written, never onto what is fed back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dreamflow.frames import Array, to_array
from dreamflow.render import RenderedFrame
from dreamflow.settings import AnyObjective, Output

_HEIGHT = 1 / 18
"""Of the font, as a share of the frame's short side."""
_LEAST_HEIGHT = 11
"""Pixels; smaller letters cannot be read."""


def finished(frame: RenderedFrame, settings: Output, bits: int = 8) -> Array:
    """The frame as it is written: an array, captioned if the settings say so."""
    array = to_array(frame.image, bits)
    return caption(array, subject(frame.objectives)) if settings.caption else array


def subject(objectives: Sequence[AnyObjective]) -> str:
    """What has most weight now; empty if nothing has any."""
    strongest = max(objectives, key=lambda objective: objective.weight)
    return strongest.label if strongest.weight > 0 else ""


def caption(array: Array, text: str) -> Array:
    """A copy of `array` with `text` in white on a dark rim, at the lower left.

    Convention: array [H, W, 3], RGB, 8 or 16 bits. Text too long for the width is drawn smaller.
    """
    height, width, _ = array.shape
    size = max(_LEAST_HEIGHT, round(min(height, width) * _HEIGHT))
    margin = round(size * 0.7)
    length = ImageFont.load_default(size).getlength(text)
    size *= min(1, max(1, width - 2 * margin) / max(1, length))
    foot = (margin, height - margin)
    rim = _coverage((width, height), text, foot, size, stroke=max(1, round(size / 10)))
    letters = _coverage((width, height), text, foot, size, stroke=0)
    drawn = array * (1 - 0.8 * rim)
    top = np.float32(np.iinfo(array.dtype).max)
    return (drawn + (top - drawn) * letters).round().astype(array.dtype)


def _coverage(
    size: tuple[int, int], text: str, foot: tuple[int, int], height: float, stroke: int
) -> NDArray[np.float32]:
    """How much of each pixel the letters, `stroke` pixels fatter, cover: 0..1, `[H, W, 1]`."""
    canvas = Image.new("L", size)
    font = ImageFont.load_default(height)  # comes with Pillow
    ImageDraw.Draw(canvas).text(foot, text, 255, font, anchor="ls", stroke_width=stroke)
    return np.asarray(canvas, np.float32)[..., None] / np.float32(255)
