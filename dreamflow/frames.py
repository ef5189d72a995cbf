"""The words for pictures and time that every other module shares.

Convention. Two forms of picture exist and are never mixed:

- an **array** is what media code reads and writes: `[H, W, 3]` RGB, uint8 or uint16, full range,
  upright, square pixels;
- an **image** is what numeric code works on: float32 tensor `[1, 3, H, W]`, RGB, 0..1, on the
  render's device, in channels_last memory order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from dreamflow.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = np.ndarray


@dataclass(frozen=True)
class VideoInfo:
    """What a reader promises about the frames it yields."""

    width: int
    """Pixels, after rotation and with square pixels."""
    height: int
    rate: Fraction
    """Frames per second, exact: 24000/1001 stays 24000/1001."""
    frame_count: int
    """Frames that will be yielded, after trimming and resampling."""
    start: Fraction = Fraction(0)
    """Presentation time of the first frame in seconds, as the container has it."""
    first_index: int = 0
    """Place of the first yielded frame in the untrimmed clip; randomness hangs on it."""
    bits: int = 8
    """Bits per channel of the arrays: 8 (uint8) or 16 (uint16)."""

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's start to the last frame's end."""
        return self.frame_count / self.rate


@dataclass(frozen=True)
class Shot:
    """A run of frames without a cut."""

    first: int
    """Source index of its first frame."""
    stop: int
    """That of the first frame behind it."""
    rate: Fraction
    """Frames per second."""

    @property
    def frame_count(self) -> int:
        return self.stop - self.first

    @property
    def start(self) -> Fraction:
        """Seconds from the beginning of the clip."""
        return self.first / self.rate

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return self.frame_count / self.rate


@dataclass(frozen=True)
class Moment:
    """A point in time as a user writes it: seconds, or frames, taking a rate to become seconds."""

    value: Fraction
    in_frames: bool = False

    _FORM = re.compile(r"(?:(?P<frames>\d+)f)|(?:(?:(?P<h>\d+):)?(?P<m>\d+):)?(?P<s>\d+(?:\.\d*)?)")

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Read `12`, `12.5` (seconds), `1:02.5`, `1:00:00` (minutes, hours) or `48f` (frames)."""
        match = cls._FORM.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"not a time: {text!r} (write seconds as 12.5, minutes as 1:02.5, frames as 48f)"
            )
        if match["frames"]:
            return cls(Fraction(match["frames"]), in_frames=True)
        hours, minutes = int(match["h"] or 0), int(match["m"] or 0)
        return cls(Fraction(match["s"].rstrip(".")) + 60 * minutes + 3600 * hours)

    def seconds(self, rate: Fraction) -> Fraction:
        return self.value / rate if self.in_frames else self.value

    def frame(self, rate: Fraction) -> int:
        """The frame on screen at this moment."""
        return int(self.value) if self.in_frames else int(self.value * rate)


@dataclass(frozen=True)
class Box:
    """A picture size as a user asks for it: a long side, or a box to fit inside."""

    width: int
    height: int
    one_side: bool = field(default=False, compare=False)
    """Whether only the long side was asked for."""

    @classmethod
    def parse(cls, text: str) -> Box:
        """Read `640` (long side) or `640x360` (fit inside)."""
        match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text.strip())
        if match is None or 0 in (sides := [int(side) for side in match.groups() if side]):
            raise UsageError(f"not a size: {text!r} (write 640 for the long side, or 640x360)")
        return cls(sides[0], sides[-1], one_side=len(sides) == 1)

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """The largest (width, height) of the same shape inside the box, at least 1 pixel a side."""
        scale = min(Fraction(self.width, width), Fraction(self.height, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


def parse_rate(text: str) -> Fraction:
    """Read frames per second, exactly: `25`, `24000/1001`, or `23.976`, which means 24000/1001.

    A decimal that is n x 1000/1001 to the digits given stands for just that, as in video it does.
    """
    match = re.fullmatch(r"(\d{1,9})(?:/(\d{1,9})|\.(\d{1,9}))?", text.strip())
    if match is None or (match[2] and int(match[2]) == 0):
        raise _bad_rate(text)
    rate = Fraction(text.strip())
    broadcast = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    last_digit = Fraction(1, 10 ** len(match[3] or ""))
    if rate.denominator > 1 and match[3] and abs(rate - broadcast) <= last_digit / 2:
        rate = broadcast
    if not 0 < rate <= 1000:
        raise _bad_rate(text)
    return rate


def _bad_rate(text: str) -> UsageError:
    return UsageError(
        f"not a frame rate: {text!r} (write 25, 23.976 or 24000/1001; above 0, at most 1000)"
    )


def to_image(array: Array, device: torch.device | str = "cpu") -> Tensor:
    """Array `[H, W, 3]` uint8 or uint16 -> image `[1, 3, H, W]` float32 in 0..1."""
    import torch

    scale = np.float32(1 / np.iinfo(array.dtype).max)
    floats = torch.from_numpy(np.multiply(array, scale, dtype=np.float32))
    return floats.permute(2, 0, 1)[None].to(device)


def to_array(image: Tensor, bits: int = 8) -> Array:
    """Image -> array, clamped and rounded to the nearest level of `bits` 8 or 16."""
    top, dtype = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    pixels = image.detach()[0].permute(1, 2, 0).clamp(0, 1).mul_(top).round_()
    return pixels.cpu().numpy().astype(dtype)
