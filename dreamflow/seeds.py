"""What a zoom grows from: a picture, a plain colour or noise, at the size of the film.

Convention: arrays `[H, W, 3]` RGB, uint8 or uint16, as everywhere in media code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ImageColor

from dreamflow.errors import UsageError
from dreamflow.frames import Array, Box
from dreamflow.video.reader import fitted, resized
from dreamflow.video.stills import read_still

logger = logging.getLogger("dreamflow")

USUAL_SIZE = (1280, 720)
"""(width, height) of a film that grows from no picture; the shape too, where one side is given."""

_NOISE_DEVIATION = 0.18
"""Of full scale, about the middle: next to nothing of it is cut off."""
_NOISE_CHROMA = 0.4
"""Of the colour that three independent channels have: with all of it zooms stay neon for ever."""


@dataclass(frozen=True)
class Solid:
    """One colour everywhere."""

    color: tuple[int, int, int]
    """8-bit red, green, blue."""

    @classmethod
    def parse(cls, text: str) -> Solid:
        """Read a name of CSS (`teal`) or `#rrggbb`."""
        try:
            red, green, blue = ImageColor.getrgb(text)[:3]
        except ValueError:
            raise UsageError(
                f"not a colour: {text!r} (write a name such as teal, or #rrggbb)"
            ) from None
        return cls((red, green, blue))

    def __str__(self) -> str:
        return "solid #{:02x}{:02x}{:02x}".format(*self.color)


@dataclass(frozen=True)
class Noise:
    """Random grain: `white` is alike at all scales of detail, `pink` softer, like a landscape."""

    kind: Literal["pink", "white"]

    def __str__(self) -> str:
        return f"{self.kind} noise"


Seed = Path | Solid | Noise


def draw(seed: Seed, size: Box | None, *, multiple: int, take: int, max_pixels: int) -> Array:
    """The first picture of a film: `size` covered and cropped at the centre, never distorted.

    Without `size` a picture keeps its own. Sides are cut to multiples of `multiple`, with a warning
    where they were asked for. `take` is the seed of the randomness. Errors as `read_still`;
    UsageError for a size over `max_pixels`.
    """
    if isinstance(seed, Path):
        array = read_still(seed, max_pixels=max_pixels)
        height, width, _ = array.shape
        wanted = _film_size(size, (width, height), multiple, max_pixels)
        return covering(array, wanted)
    width, height = _film_size(size, USUAL_SIZE, multiple, max_pixels)
    if isinstance(seed, Solid):
        return np.broadcast_to(np.array(seed.color, np.uint8), (height, width, 3)).copy()
    return _noise(seed.kind, (height, width), take)


def _film_size(
    size: Box | None, own: tuple[int, int], multiple: int, max_pixels: int
) -> tuple[int, int]:
    """(width, height) of the film; a box is filled, a single side keeps the shape of `own`."""
    shape = own if size is None or size.one_side else (size.width, size.height)
    width, height = fitted(size, *shape, max_pixels)
    film = _whole(width, multiple), _whole(height, multiple)
    derived = size is not None and size.one_side  # then the short side is nobody's wish
    if film != (width, height) and not (derived and max(film) == max(width, height)):
        logger.warning(
            "the film is %dx%d, not %dx%d: its sides are multiples of %d",
            *(*film, width, height, multiple),
        )
    return film


def _whole(side: int, multiple: int) -> int:
    return max(multiple, side // multiple * multiple)


def covering(
    array: Array,
    size: tuple[int, int],
    *,
    shape: tuple[int, int] | None = None,
    scaled: Callable[[Array, tuple[int, int]], Array] = resized,
) -> Array:
    """The array scaled until it covers (width, height), its centre cut out.

    `shape` is the (width, height) that it stands for, if it is to be stretched to that first.
    """
    width, height = size
    columns, rows = shape or (array.shape[1], array.shape[0])
    scale = max(Fraction(width, columns), Fraction(height, rows))
    across, down = max(width, round(columns * scale)), max(height, round(rows * scale))
    left, top = (across - width) // 2, (down - height) // 2
    whole = scaled(array, (across, down))
    return np.ascontiguousarray(whole[top : top + height, left : left + width])


def _noise(kind: str, size: tuple[int, int], take: int) -> Array:
    """Normal noise about the middle grey; pink has amplitudes that fall with the frequency."""
    height, width = size
    grain = np.random.default_rng(take).standard_normal((height, width, 3))
    grey = grain.mean(axis=2, keepdims=True)
    grain = grey + _NOISE_CHROMA * (grain - grey)
    grain /= max(float(grain.std()), 1e-9)
    if kind == "pink":
        down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
        frequency = np.hypot(down, across)
        frequency[0, 0] = np.inf
        spectrum = np.fft.rfft2(grain, axes=(0, 1)) / frequency[..., None]
        grain = np.fft.irfft2(spectrum, s=size, axes=(0, 1))
        grain /= max(float(grain.std()), 1e-9)
    levels = (0.5 + _NOISE_DEVIATION * grain).clip(0, 1)
    return (levels * 65535).round().astype(np.uint16)
