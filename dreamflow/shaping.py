"""From the gradient of a score to a direction that paints well.

A plain gradient is noise with a few spots in it. It is blurred, evened out over the picture,
reduced in colour and capped, in this order: so a dream comes up everywhere, in natural colours.
"""

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
_BAND_PIXELS, _LEAST_BAND = 1 << 16, 4
"""Mixed at once, so that what comes in between stays small and near; but so many rows of cells, as
two more are enlarged with them."""
_COLOR, _GREY = np.eye(3), np.full((3, 3), 1 / 3)
_TINY = float(np.finfo(np.float32).tiny)


def shape_gradient(gradient: Tensor, settings: Dream) -> Tensor:
    """Blur the gradient, even it out, reduce its colour and cap its outliers, as `settings` say.

    Convention: gradient `[1, 3, H, W]`; it stays as it is, and the result is of the same form.
    """
    smooth = settings.smoothing > 0
    blurred = cascaded_blur(gradient, settings.smoothing) if smooth else gradient.clone()
    cells = evening(blurred, settings.spread) if settings.spread > 0 else None
    return mix_and_cap(blurred, cells, settings.chroma, settings.limit)


def cascaded_blur(gradient: Tensor, sigma: float) -> Tensor:
    """Mean of two blurs, at half and at twice `sigma`: keeps fine strokes beside broad ones.

    (In a pyramid the broad one takes half the time, but what comes out of it hangs on its grid: a
    street scene flickers by a thirtieth more and is an eighth fainter.)
    """
    if gradient.device.type != "cpu":
        return gaussian_blur(gradient, sigma / 2).lerp_(gaussian_blur(gradient, sigma * 2), 0.5)
    pixels = as_pixels(gradient)
    fine, broad = blur_pixels(pixels, sigma / 2), blur_pixels(pixels, sigma * 2)
    return as_image(cv2.addWeighted(fine, 0.5, broad, 0.5, 0, dst=fine))


def evening(gradient: Tensor, spread: float) -> np.ndarray:
    """What to multiply the gradient with so that the dream covers the picture evenly.

    Returns a number for each cell of `_CELL` pixels a side, for three channels, `[h, w, 3]`: the
    mean absolute value around it to the power of `-spread`. "Around" is a Gaussian of a fourteenth
    of the long side, the size of a face in the picture. A plain gradient is largest where the layer
    already fires, so that one spot eats the picture; this lets fainter places grow too. (Google's
    notebook evens out the scales of a gradient in a Laplacian pyramid; this evens out its places.)
    """
    sample = np.abs(as_pixels(gradient, _EVERY))
    height, width = ((side + 1) // 2 for side in sample.shape[:2])
    border = (0, 2 * height - sample.shape[0], 0, 2 * width - sample.shape[1])
    pairs = cv2.copyMakeBorder(sample, *border, cv2.BORDER_REPLICATE)
    means = cv2.resize(pairs, (width, height), interpolation=cv2.INTER_AREA)
    sizes = cv2.transform(means, _GREY)
    around = blur_pixels(sizes, max(height, width) / 14)
    floor = max(cv2.mean(sizes)[0] / 10, _TINY)  # flat places stay flat
    return (around + floor) ** -spread


def mix_and_cap(gradient: Tensor, cells: np.ndarray | None, chroma: float, limit: float) -> Tensor:
    """The gradient evened out by `cells` (see `evening`), the share `chroma` of its colour, all of
    its grey (the mean of the channels), and no value over `limit` times its mean absolute one (0:
    any).

    Works in place, and without another picture in memory, where the gradient lies pixel by pixel.
    """
    if gradient.device.type == "cpu":
        gradient = as_image(_mixed(as_pixels(gradient), cells, chroma))
    else:
        if cells is not None:
            few = as_image(cells).to(gradient.device)
            factor = F.interpolate(few, scale_factor=_CELL, mode="bilinear", align_corners=False)
            gradient.mul_(factor[..., : gradient.shape[-2], : gradient.shape[-1]])
        if chroma != 1:
            gradient.lerp_(gradient.mean(dim=1, keepdim=True), 1 - chroma)
    if limit > 0:
        cap = limit * mean_size(gradient)  # a number: with a tensor as bound it takes 9x the time
        gradient.clamp_(-cap, cap)
    return gradient


def _mixed(pixels: np.ndarray, cells: np.ndarray | None, chroma: float) -> np.ndarray:
    mix = chroma * _COLOR + (1 - chroma) * _GREY
    rows = max(_LEAST_BAND, _BAND_PIXELS // pixels.shape[1] // _CELL) * _CELL
    for top in range(0, len(pixels), rows):
        band = pixels[top : top + rows]
        mixed = band if chroma == 1 else cv2.transform(band, mix)
        if cells is not None:
            np.multiply(mixed, _enlarged(cells, top, band.shape[:2]), out=band)
        elif mixed is not band:
            band[:] = mixed
    return pixels


def _enlarged(cells: np.ndarray, top: int, size: tuple[int, int]) -> np.ndarray:
    """Of cells enlarged to pixels as many rows and columns as `size` says, from row `top` on."""
    first, last = top // _CELL, (top + size[0] - 1) // _CELL
    begin = max(first - 1, 0)  # interpolation looks at the next cell
    pixels = cv2.resize(cells[begin : last + 2], None, fx=_CELL, fy=_CELL)
    above = (first - begin) * _CELL
    return pixels[above : above + size[0], : size[1]]


def mean_size(gradient: Tensor) -> float:
    """The mean absolute value; on the CPU without a copy where the gradient lies pixel by pixel."""
    if gradient.device.type == "cpu":
        return cv2.norm(as_pixels(gradient), cv2.NORM_L1) / gradient.numel()
    rows = torch.linalg.vector_norm(gradient, 1, dim=(1, 3), dtype=torch.float32)
    return float(rows.mean()) / (gradient.shape[1] * gradient.shape[3])
