"""Keeping colours natural: statistics of a picture in CIELAB, and pulling one towards another's."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dreamflow.pixels import as_image, as_pixels
from dreamflow.settings import Color

_SHOULDER = 0.02
_SAMPLE = 48
"""Pixels a side, about, that a picture's statistics are taken from."""
_SLIGHT = 1e-6
"""A variance of colours that is none: a quarter of an 8-bit level, squared."""

Floats = NDArray[np.floating]
Lab = tuple[float, float, float]
"""L*, a*, b*."""


@dataclass(frozen=True)
class ColorStatistics:
    """Mean and spread (standard deviation) of L*, a*, b* over a picture."""

    mean: Lab
    spread: Lab

    @classmethod
    def of(cls, image: Tensor, shares: Tensor | None = None) -> "ColorStatistics":
        """Those of an sRGB image in 0..1, from every n-th pixel where it is large.

        `shares` `[1, 1, H, W]`, 0..1, say how much each place counts; all count alike where none
        of them does.
        """
        pixels = _sample(image)
        moments = _moments(to_lab(pixels), _weights(len(pixels), shares))
        mean, spread = (tuple(each.tolist()) for each in moments)
        return cls(mean, spread)

    def limited(self, settings: Color) -> "ColorStatistics":
        """With the spread of lightness and of colour times what the settings say."""
        factors = (settings.contrast, settings.saturation, settings.saturation)
        return ColorStatistics(self.mean, _each(operator.mul, self.spread, factors))

    def lifted(self, settings: Color) -> "ColorStatistics":
        """Neither darker, flatter nor greyer than the settings' least."""
        least_mean = (settings.least_lightness, -math.inf, -math.inf)
        grey = settings.least_saturation
        return ColorStatistics(
            _each(max, self.mean, least_mean),
            _each(max, self.spread, (settings.least_contrast, grey, grey)),
        )

    def towards(self, other: "ColorStatistics", share: float) -> "ColorStatistics":
        """Those that lie `share` of the way to `other`'s."""

        def between(one: float, two: float) -> float:
            return one + share * (two - one)

        return ColorStatistics(
            _each(between, self.mean, other.mean), _each(between, self.spread, other.spread)
        )


def _each(function: Callable[[float, float], float], one: Lab, other: Lab) -> Lab:
    lightness, a, b = map(function, one, other)
    return lightness, a, b


def pull(
    image: Tensor, anchor: ColorStatistics, strength: float, shares: Tensor | None = None
) -> Tensor:
    """Move the mean and spread of `image` in CIELAB towards `anchor`'s by the share `strength`.

    Convention: image [1, 3, H, W] float32 in 0..1; `strength` 0 leaves it, 1 gives it the anchor's
    statistics (Reinhard et al. 2001, "Color transfer between images", there in another opponent
    space). A spread is never stretched: a flat picture stays flat. The result is clamped. Places
    count in its statistics by their `shares`, as in `ColorStatistics.of`.

    Each colour would have a move of its own. What is done to the picture is the affine map of RGB
    that is nearest to them over a sample of it, in a small part of the time: a tenth off on average
    where no colour leaves sRGB on its way, single saturated ones by up to 0.16. What no pixel of
    the sample is like may be further off. In a feedback loop what the map misses is measured again
    in the next frame.
    """
    if strength == 0:
        return image
    pixels = _sample(image)
    lab, weights = to_lab(pixels), _weights(len(pixels), shares)
    mean, spread = _moments(lab, weights)
    gain = 1 - strength + strength * np.minimum(anchor.spread / np.maximum(spread, 1e-3), 1)
    offset = mean + strength * (anchor.mean - mean) - gain * mean
    # Both ways back are OpenCV's, whose tables are off by up to a level and a half at places.
    moves = to_rgb(lab * np.float32(gain) + np.float32(offset)) - to_rgb(lab)
    return _mapped(image, _nearest_affine(pixels, moves, weights)).clamp_(0, 1)


def _nearest_affine(pixels: Floats, moves: Floats, weights: Floats) -> Floats:
    """`[3, 4]`: by least squares what each colour becomes that is moved like those of a sample.

    Along colours that hardly vary nothing is known of what is beside them, and they move as one.
    (For that the moves must have no mean: what rounding leaves of it would be taken for a slope.)
    """
    center, shift = weights @ pixels, weights @ moves
    around = pixels - center
    weighted = around.T * weights
    varied = weighted @ around + _SLIGHT * np.eye(3, dtype=np.float32)
    _, slope = cv2.solve(varied, weighted @ (moves - shift), flags=cv2.DECOMP_CHOLESKY)
    affine = np.empty((3, 4))
    affine[:, :3], affine[:, 3] = np.eye(3) + slope.T, shift - center @ slope
    return affine


def _mapped(image: Tensor, affine: Floats) -> Tensor:
    """Every colour through an affine map `[3, 4]`."""
    if image.device.type == "cpu":  # in a fifth of the time of torch
        return as_image(cv2.transform(as_pixels(image), affine))
    return _mapped_with_torch(image, affine)


def _mapped_with_torch(image: Tensor, affine: Floats) -> Tensor:
    mapped = torch.as_tensor(affine).to(image)
    return torch.einsum("ck,bkhw->bchw", mapped[:, :3], image) + mapped[:, 3].view(1, 3, 1, 1)


def with_shoulders(image: Tensor) -> Tensor:
    """The picture with its ends bent like film's: nothing reaches 0 or 1, however often repeated.

    Values within `_SHOULDER` of an end run into it along an exponential of the same slope; the rest
    stays as it is, but for rounding. Without it a picture that feeds on itself piles up at both
    ends.
    """
    # Such an end is what an exponential linear unit has (Barron 2017, CELU).
    below = F.celu((1 - _SHOULDER) - image, _SHOULDER, inplace=True)
    return F.celu((1 - 2 * _SHOULDER) - below, _SHOULDER, inplace=True).add_(_SHOULDER)


def to_lab(pixels: Floats) -> Floats:
    """sRGB pixels `[N, 3]` in 0..1 -> CIELAB with D65 white: L* 0..100, a* and b* about -100..100.

    OpenCV's, within 0.5 of the formulas.
    """
    return cv2.cvtColor(pixels[None], cv2.COLOR_RGB2Lab)[0]


def to_rgb(lab: Floats) -> Floats:
    """The way back from `to_lab`; colours outside sRGB come out at its border."""
    return cv2.cvtColor(lab[None], cv2.COLOR_Lab2RGB)[0]


def _moments(lab: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each channel."""
    mean = weights @ lab
    return mean, np.sqrt(weights @ np.square(lab - mean))


def _weights(count: int, shares: Tensor | None) -> Floats:
    """How much each of so many pixels of a sample counts, float32 `[N]`; they add up to 1."""
    if shares is not None:
        weights = _every(shares).ravel()
        if weights.any():
            return weights / weights.sum()
    return np.full(count, 1 / count, np.float32)


def _sample(image: Tensor) -> Floats:
    """Pixels of an image clipped to 0..1, float32 `[N, 3]`."""
    return _every(image).clip(0, 1).reshape(-1, 3)


def _every(image: Tensor) -> Floats:
    """Every n-th pixel of every n-th row, about `_SAMPLE` a side: enough for statistics."""
    every = max(1, round(min(image.shape[-2:]) / _SAMPLE))
    return as_pixels(image, every)
