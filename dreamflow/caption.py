"""A line of text at the foot of a finished frame: what is being dreamed.

It is drawn onto what is written, never onto what is fed back.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dreamflow.frames import Array, to_array
from dreamflow.render import RenderedFrame
from dreamflow.settings import AnyObjective, Output

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HEIGHT = 1 / 28
"""Of capitals, as a share of the frame's short side."""
_LEAST_HEIGHT = 7
"""Pixels; smaller ones cannot be read."""


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

    Convention: array [H, W, 3], RGB, 8 or 16 bits. Text too long for the width is drawn smaller;
    the font has ASCII only.
    """
    height, width, _ = array.shape
    capitals = max(_LEAST_HEIGHT, round(min(height, width) * _HEIGHT))
    margin = capitals
    scale = min(_scale(text, capitals), _widest(text, width - 2 * margin))
    stroke = max(1, round(capitals / 9))
    rim = _coverage((height, width), text, margin, scale, 3 * stroke)
    letters = _coverage((height, width), text, margin, scale, stroke)
    top = float(np.iinfo(array.dtype).max)
    drawn = array * (1 - 0.7 * rim)
    return (drawn + (top - drawn) * letters).round().astype(array.dtype)


def _scale(text: str, capitals: int) -> float:
    (_, height), _ = cv2.getTextSize("H", _FONT, 1.0, 1)
    return capitals / height


def _widest(text: str, room: int) -> float:
    """The scale at which the text fills `room` pixels."""
    (width, _), _ = cv2.getTextSize(text, _FONT, 1.0, 1)
    return max(room, 1) / max(width, 1)


def _coverage(
    size: tuple[int, int], text: str, margin: int, scale: float, stroke: int
) -> np.ndarray:
    """How much of each pixel the strokes cover, 0..1, `[H, W, 1]`."""
    canvas = np.zeros(size, np.uint8)
    foot = (margin, size[0] - margin)
    cv2.putText(canvas, text, foot, _FONT, scale, (255,), stroke, cv2.LINE_AA)
    return canvas[..., None] / np.float32(255)
