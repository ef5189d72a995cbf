"""From the gradient of a score to a direction that paints well.

A plain gradient is noise with a few spots in it. It is blurred, evened out over the picture,
reduced in colour and capped, in this order: so a dream comes up everywhere, in natural colours.
"""

from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamflow.filters import blur_pixels, gaussian_blur
from dreamflow.pixels import as_image, as_pixels
from dreamflow.settings import Dream

_CELL = 8
"""Pixels a side of the cells in which the gradient's strength is averaged."""
_EVERY = _CELL // 2
"""Pixels from one to the next of those that are averaged in a cell: four tell as much as all."""
_BAND_PIXELS = 1 << 16
"""Mixed at once, so that what comes in between stays small and near."""
_TINY = float(np.finfo(np.float32).tiny)
_THIRDS = np.full((1, 3), 1 / 3, np.float32)


def shape_gradient(gradient: Tensor, settings: Dream) -> Tensor:
    """Blur the gradient, even it out, reduce its colour and cap its outliers, as `settings` say.

    Convention: gradient `[1, 3, H, W]`; it stays as it is, and the result is of the same form.
    """
    smooth, even = settings.smoothing > 0, settings.spread > 0
    if gradient.device.type != "cpu":
        blurred = cascaded_blur(gradient, settings.smoothing) if smooth else gradient.clone()
        cells = evening(blurred, settings.spread) if even else None
        return mix_and_cap(blurred, cells, settings.chroma, settings.limit)
    pixels = as_pixels(gradient)
    pixels = _blurred(pixels, settings.smoothing) if smooth else pixels.copy()
    cells = _cells(pixels[::_EVERY, ::_EVERY], settings.spread) if even else None
    _mix(pixels, cells, settings.chroma)
    _cap(pixels, settings.limit)
    return as_image(pixels)


def cascaded_blur(gradient: Tensor, sigma: float) -> Tensor:
    """Mean of two blurs, at half and at twice `sigma`: keeps fine strokes beside broad ones."""
    if gradient.device.type == "cpu":
        return as_image(_blurred(as_pixels(gradient), sigma))
    return gaussian_blur(gradient, sigma / 2).lerp_(gaussian_blur(gradient, sigma * 2), 0.5)


def evening(gradient: Tensor, spread: float) -> Tensor:
    """What to multiply the gradient with so that the dream covers the picture evenly.

    Returns a number for each cell of `_CELL` pixels a side, `[1, 1, h, w]`: the mean absolute value
    around it to the power of `-spread`. "Around" is a Gaussian of a fourteenth of the long side,
    the size of a face in the picture. A plain gradient is largest where the layer already fires, so
    that one spot eats the picture; this lets fainter places grow too. (Google's notebook evens out
    the scales of a gradient in a Laplacian pyramid; this evens out its places.)
    """
    return as_image(_cells(as_pixels(gradient, _EVERY), spread)).to(gradient.device)


def mix_and_cap(gradient: Tensor, cells: Tensor | None, chroma: float, limit: float) -> Tensor:
    """The gradient evened out by `cells` (see `evening`), the share `chroma` of its colour, all of
    its grey (the mean of the channels), and no value over `limit` times its mean absolute one (0:
    any).

    Works in place, and without another picture in memory, where the gradient lies pixel by pixel.
    """
    if gradient.device.type == "cpu":
        pixels = as_pixels(gradient)
        _mix(pixels, None if cells is None else as_pixels(cells), chroma)
        _cap(pixels, limit)
        return as_image(pixels)
    if cells is not None:
        factor = F.interpolate(cells, scale_factor=_CELL, mode="bilinear", align_corners=False)
        gradient.mul_(factor[..., : gradient.shape[-2], : gradient.shape[-1]])
    if chroma != 1:
        gradient.lerp_(gradient.mean(dim=1, keepdim=True), 1 - chroma)
    if limit > 0:
        cap = limit * mean_size(gradient)  # a number: with a tensor as bound it takes 9x the time
        gradient.clamp_(-cap, cap)
    return gradient


def mean_size(gradient: Tensor) -> float:
    """The mean absolute value; on the CPU without a copy where the gradient lies pixel by pixel."""
    if gradient.device.type == "cpu":
        return _mean_size(as_pixels(gradient))
    rows = torch.linalg.vector_norm(gradient, 1, dim=(1, 3), dtype=torch.float32)
    return float(rows.mean()) / (gradient.shape[1] * gradient.shape[3])


def _blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    # In a pyramid the broad one takes half the time, but a street scene flickers by a thirtieth
    # more and comes out an eighth fainter: what a pyramid makes of a place hangs on its grid.
    fine, broad = blur_pixels(pixels, sigma / 2), blur_pixels(pixels, sigma * 2)
    return cv2.addWeighted(fine, 0.5, broad, 0.5, 0, dst=fine)


def _cells(sample: np.ndarray, spread: float) -> np.ndarray:
    """`[h, w]`, of a gradient's every `_EVERY`th pixel."""
    height, width = ((side + 1) // 2 for side in sample.shape[:2])
    border = (0, 2 * height - sample.shape[0], 0, 2 * width - sample.shape[1])
    pairs = cv2.copyMakeBorder(np.abs(sample), *border, cv2.BORDER_REPLICATE)
    means = cv2.resize(pairs, (width, height), interpolation=cv2.INTER_AREA)
    sizes = cv2.transform(means, _THIRDS)
    around = blur_pixels(sizes, max(height, width) / 14)
    floor = max(cv2.mean(sizes)[0] / 10, _TINY)  # flat places stay flat
    return (around + floor) ** -spread


def _mix(pixels: np.ndarray, cells: np.ndarray | None, chroma: float) -> None:
    factors = None if cells is None else cv2.merge([cells] * 3)
    rows = max(1, _BAND_PIXELS // pixels.shape[1] // _CELL) * _CELL
    for top in range(0, len(pixels), rows):
        band = pixels[top : top + rows]
        mixed = band if chroma == 1 else cv2.transform(band, _grey_and_color(chroma))
        if factors is not None:
            cv2.multiply(mixed, _enlarged(factors, top, band.shape[:2]), dst=band)
        elif mixed is not band:
            band[:] = mixed


@cache
def _grey_and_color(chroma: float) -> np.ndarray:
    return np.eye(3) * chroma + (1 - chroma) / 3


def _enlarged(cells: np.ndarray, top: int, size: tuple[int, int]) -> np.ndarray:
    """Of cells enlarged to pixels as many rows and columns as `size` says, from row `top` on."""
    first, last = top // _CELL, (top + size[0] - 1) // _CELL
    begin = max(first - 1, 0)  # interpolation looks at the next cell
    pixels = cv2.resize(cells[begin : last + 2], None, fx=_CELL, fy=_CELL)
    above = (first - begin) * _CELL
    return pixels[above : above + size[0], : size[1]]


def _cap(pixels: np.ndarray, limit: float) -> None:
    if limit > 0:
        cap = limit * _mean_size(pixels)
        np.clip(pixels, -cap, cap, out=pixels)


def _mean_size(pixels: np.ndarray) -> float:
    return cv2.norm(pixels, cv2.NORM_L1) / pixels.size
