"""Gaussian blur, the one filter a dream needs, and masks: quick on the CPU, right on any device."""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamflow.pixels import as_image, as_pixels


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur `[1, C, H, W]` (C at most 4) with a Gaussian of `sigma` pixels; borders reflect.

    On the CPU OpenCV does it in a third of the time of two separable convolutions, and in a tenth
    of that of a depthwise one; `sigma` 0 returns the image as it is.
    """
    if sigma <= 0:
        return image
    if image.device.type == "cpu":
        return as_image(blur_pixels(as_pixels(image), sigma))
    return _blur_separably(image, sigma)


def blur_pixels(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """The same for an array `[H, W, C]`; `sigma` over 0."""
    side = 2 * _radius(sigma) + 1
    return cv2.GaussianBlur(pixels, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)


def for_channels(mask: Tensor) -> Tensor:
    """A mask `[1, 1, H, W]` to multiply images `[1, 3, H, W]` with.

    On the CPU it has three channels, which lie pixel by pixel as those of an image do: with one for
    all of them torch takes ten times as long.
    """
    if mask.device.type != "cpu":
        return mask
    plane = as_pixels(mask)
    return as_image(cv2.merge([plane] * 3))


def _radius(sigma: float) -> int:
    return max(1, math.ceil(3 * sigma))


def _blur_separably(image: Tensor, sigma: float) -> Tensor:
    channels, height, width = image.shape[1:]
    radius = _radius(sigma)
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(channels, 1, -1)
    # Reflection reaches at most to the opposite border; tiny pictures repeat their edge beyond it.
    mode = "reflect" if min(height, width) > radius else "replicate"
    padded = F.pad(image, (radius, radius, radius, radius), mode=mode)
    rows = F.conv2d(padded, kernel[:, :, None, :], groups=channels)
    return F.conv2d(rows, kernel[:, :, :, None], groups=channels)
