"""Where a dream may grow: white dreams, black stays what it was, grey dreams less.

A mask holds for the frame and not for what is filmed: it stands still while the picture moves under
it; `mattes` has those that travel. Whoever dreams multiplies by it what is added to a picture, so
that where it is 0 nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamflow.filters import gaussian_blur
from dreamflow.frames import Array

_LUMA = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709
_QUICK = 1 / 250
"""Of the long side, per reference frame: what a person walking by makes."""
_SOFT = 3.0
"""Blur of a motion mask, in pixels."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A share for each place of a frame, the same for whatever is dreamed there."""

    shares: Tensor
    """`[1, 1, H, W]`, 0..1, of any size: it is stretched over the frame."""

    @classmethod
    def of(cls, weights: Array, device: torch.device | str = "cpu") -> Mask:
        """From weights `[H, W]` in 0..1, such as `weights_of` a picture."""
        return cls(
            torch.from_numpy(np.ascontiguousarray(weights, np.float32))[None, None].to(device)
        )

    @classmethod
    def of_luma(cls, image: Tensor) -> Mask:
        """Light where an image `[1, 3, H, W]` is."""
        luma = torch.from_numpy(_LUMA).to(image)
        return cls(torch.einsum("bchw,c->bhw", image, luma)[:, None].clamp(0, 1))

    @classmethod
    def of_motion(cls, flow: Tensor, reference_frames: float) -> Mask:
        """White where a flow `[1, 2, H, W]`, in pixels, over so many reference frames is quick.

        That is from `_QUICK` of the long side on; slower places are as grey as they are slow.
        """
        quick = _QUICK * max(flow.shape[-2:]) * max(reference_frames, 1e-6)
        shares = (flow.square().sum(1, keepdim=True).sqrt() / quick).clamp(0, 1)
        return cls(gaussian_blur(shares, _SOFT).clamp(0, 1))

    def to(self, device: torch.device) -> Mask:
        """The same on a device."""
        return Mask(self.shares.to(device))

    def at(self, image: Tensor) -> Tensor:
        """The shares at the size of an image, softly resized, `[1, 1, H, W]`."""
        size = (image.shape[-2], image.shape[-1])
        if tuple(self.shares.shape[-2:]) == size:
            return self.shares
        # Linear: a cubic overshoots, and would let the dream into a hair's breadth of black.
        return F.interpolate(
            self.shares, size, mode="bilinear", align_corners=False, antialias=True
        ).clamp(0, 1)


class MaskFrames(Protocol):
    """Masks of which each frame has its own, whatever is to be seen there."""

    def at(self, index: int) -> Mask:
        """That of source frame `index`."""
        ...

    def close(self) -> None:
        """Stop reading; the next `at` begins again."""
        ...


def weights_of(pixels: Array, alpha: Array | None) -> Array:
    """What a picture says as a mask, `[H, W]` float32 in 0..1.

    That is its alpha if it has one that varies, else its luma. Convention: pixels `[H, W, 3]` and
    alpha `[H, W]`, uint8 or uint16.
    """
    top = np.float32(np.iinfo(pixels.dtype).max)
    if alpha is not None and alpha.min() < alpha.max():
        return alpha.astype(np.float32) / top
    return (pixels @ _LUMA).astype(np.float32) / top


def stretched(weights: Array, size: tuple[int, int]) -> Array:
    """Weights scaled to (width, height), without the overshoot of a cubic."""
    shrinks = size[0] < weights.shape[1]
    return cv2.resize(weights, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def within(mask: Mask | None, before: Tensor, after: Tensor) -> Tensor:
    """From `before`, as far towards `after` as the mask allows; where it is 0, bit for bit."""
    if mask is None:
        return after
    shares = mask.at(before)
    return torch.where(shares > 0, torch.lerp(before, after, shares), before)


def kept(mask: Mask | None, before: Tensor, after: Tensor) -> Tensor:
    """`after`, but `before` where the mask is 0: for what only resampling carried there."""
    return after if mask is None else torch.where(mask.at(before) > 0, after, before)
