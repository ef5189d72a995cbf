"""From the gradient of a score to a direction that paints well.

A plain gradient is noise with a few spots in it. It is blurred, evened out over the picture,
reduced in colour and capped, in this order: so a dream comes up everywhere, in natural colours.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from dreamflow import warp
from dreamflow.filters import for_channels, gaussian_blur
from dreamflow.pixels import as_image, as_pixels
from dreamflow.settings import Dream

_CELL = 16
"""Pixels a side of the cells in which the gradient's strength is averaged."""
_BAND = 64
"""Rows that are mixed at once, so that what comes in between stays small and near."""
_THIRDS = np.full((1, 3), 1 / 3, np.float32)


def shape_gradient(gradient: Tensor, settings: Dream) -> Tensor:
    """Blur the gradient, even it out, reduce its colour and cap its outliers, as `settings` say.

    Convention: gradient `[1, 3, H, W]`; it stays as it is, and the result is of the same form.
    """
    smooth = settings.smoothing > 0
    blurred = cascaded_blur(gradient, settings.smoothing) if smooth else gradient.clone()
    factor = evening(blurred, settings.spread) if settings.spread > 0 else None
    return mix_and_cap(blurred, factor, settings.chroma, settings.limit)


def cascaded_blur(gradient: Tensor, sigma: float) -> Tensor:
    """Mean of two blurs, at half and at twice `sigma`: keeps fine strokes beside broad ones."""
    fine, broad = gaussian_blur(gradient, sigma / 2), gaussian_blur(gradient, sigma * 2)
    return fine.lerp_(broad, 0.5)


def evening(gradient: Tensor, spread: float) -> Tensor:
    """What to multiply the gradient with so that the dream covers the picture evenly.

    Returns `[1, 1, H, W]`: the mean absolute value around each pixel to the power of `-spread`.
    "Around" is a Gaussian of a fourteenth of the long side, the size of a face in the picture. A
    plain gradient is largest where the layer already fires, so that one spot eats the picture;
    this lets fainter places grow too. (Google's notebook evens out the scales of a gradient in a
    Laplacian pyramid; this evens out its places.)
    """
    height, width = gradient.shape[-2:]
    sample = as_pixels(gradient[..., ::4, ::4])  # a sixteenth tells as much
    sizes = cv2.transform(np.abs(sample), _THIRDS)
    cells = (max(1, round(height / _CELL)), max(1, round(width / _CELL)))
    means = as_image(cv2.resize(sizes, cells[::-1], interpolation=cv2.INTER_AREA))
    around = gaussian_blur(means, max(cells) / 14)
    floor = max(cv2.mean(sizes)[0] / 10, torch.finfo(around.dtype).tiny)  # flat places stay flat
    factor = (around + floor) ** -spread
    return warp.resize(factor.to(gradient.device), (height, width))


def mix_and_cap(gradient: Tensor, factor: Tensor | None, chroma: float, limit: float) -> Tensor:
    """The gradient times `factor` `[1, 1, H, W]`, the share `chroma` of its colour, all of its grey
    (the mean of the channels), and no value over `limit` times its mean absolute one (0: any).

    Works in place, and without another picture in memory, where the gradient lies pixel by pixel.
    """
    if gradient.device.type == "cpu":
        gradient = _mixed_with_opencv(gradient, factor, chroma)
    else:
        if factor is not None:
            gradient.mul_(factor)
        if chroma != 1:
            gradient.lerp_(gradient.mean(dim=1, keepdim=True), 1 - chroma)
    if limit > 0:
        cap = limit * mean_size(gradient)  # a number: with a tensor as bound it takes 9x the time
        gradient.clamp_(-cap, cap)
    return gradient


def _mixed_with_opencv(gradient: Tensor, factor: Tensor | None, chroma: float) -> Tensor:
    pixels = as_pixels(gradient)
    mix = np.eye(3) * chroma + (1 - chroma) / 3
    for top in range(0, len(pixels), _BAND):
        band = pixels[top : top + _BAND]
        mixed = band if chroma == 1 else cv2.transform(band, mix)
        if factor is not None:
            times = as_pixels(for_channels(factor[..., top : top + _BAND, :]))
            np.multiply(mixed, times, out=band)
        elif mixed is not band:
            band[:] = mixed
    return as_image(pixels)


def mean_size(gradient: Tensor) -> float:
    """The mean absolute value; on the CPU without a copy where the gradient lies pixel by pixel."""
    if gradient.device.type == "cpu":
        return cv2.norm(as_pixels(gradient), cv2.NORM_L1) / gradient.numel()
    rows = torch.linalg.vector_norm(gradient, 1, dim=(1, 3), dtype=torch.float32)
    return float(rows.mean()) / (gradient.shape[1] * gradient.shape[3])
