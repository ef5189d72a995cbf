"""Keeping colours natural: statistics of a picture in CIELAB, and pulling one towards another's."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamflow.pixels import as_image, as_pixels
from dreamflow.settings import Color

# sRGB primaries and D65 white (IEC 61966-2-1), rows scaled so that white is (1, 1, 1).
_RGB_TO_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]], dtype=torch.float64)  # fmt: skip
_RGB_TO_XYZ /= _RGB_TO_XYZ.sum(dim=1, keepdim=True)
_XYZ_TO_RGB = torch.linalg.inv(_RGB_TO_XYZ)
_XYZ_TO_LAB = torch.tensor([[0.0, 116, 0], [500, -500, 0], [0, 200, -200]], dtype=torch.float64)
_LAB_TO_XYZ = torch.linalg.inv(_XYZ_TO_LAB)
_LAB_KNEE = 6 / 29
_SHOULDER = 0.02
_BAND_PIXELS = 1 << 20
"""Moved at once, so that an 8K picture takes little beside itself."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ColorStatistics:
    """Mean and spread (standard deviation) of L*, a*, b* over a picture, each `[1, 3, 1, 1]`."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, image: Tensor, shares: Tensor | None = None) -> "ColorStatistics":
        """Those of an sRGB image in 0..1, from every n-th pixel where it is large.

        `shares` `[1, 1, H, W]`, 0..1, say how much each place counts; all count alike where none
        of them does.
        """
        sample = _sample(image)
        lab = _lab_with_opencv(sample) if image.device.type == "cpu" else to_lab(sample)
        weights = None if shares is None else _sample(shares)
        if weights is None or not weights.any():
            return cls(*_moments(lab))
        weights = weights / weights.sum()
        mean = (lab * weights).sum(dim=(-2, -1), keepdim=True)
        variance = ((lab - mean).square() * weights).sum(dim=(-2, -1), keepdim=True)
        return cls(mean, variance.sqrt())

    def limited(self, settings: Color) -> "ColorStatistics":
        """With the spread of lightness and of colour times what the settings say."""
        factors = (settings.contrast, settings.saturation, settings.saturation)
        return ColorStatistics(self.mean, self.spread * _triple(factors, self.spread))

    def lifted(self, settings: Color) -> "ColorStatistics":
        """Neither darker, flatter nor greyer than the settings' least."""
        grey = settings.least_saturation
        lightness = _triple((settings.least_lightness, -math.inf, -math.inf), self.mean)
        spread = _triple((settings.least_contrast, grey, grey), self.spread)
        return ColorStatistics(self.mean.maximum(lightness), self.spread.maximum(spread))

    def towards(self, other: "ColorStatistics", share: float) -> "ColorStatistics":
        """Those that lie `share` of the way to `other`'s."""
        mean, spread = self.mean.lerp(other.mean, share), self.spread.lerp(other.spread, share)
        return ColorStatistics(mean, spread)


def _triple(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values).to(like).view(1, 3, 1, 1)


def pull(
    image: Tensor, anchor: ColorStatistics, strength: float, shares: Tensor | None = None
) -> Tensor:
    """Move the mean and spread of `image` in CIELAB towards `anchor`'s by the share `strength`.

    Convention: image [1, 3, H, W] in 0..1; `strength` 0 leaves it, 1 gives it the anchor's
    statistics (Reinhard et al. 2001, "Color transfer between images", there in another opponent
    space). A spread is never stretched: a flat picture stays flat. The result is clamped. Places
    count in its statistics by their `shares`, as in `ColorStatistics.of`.
    """
    if strength == 0:
        return image
    own = ColorStatistics.of(image, shares)
    wanted = torch.lerp(own.spread, torch.minimum(anchor.spread, own.spread), strength)
    gain = wanted / own.spread.clamp(min=1e-3)
    offset = torch.lerp(own.mean, anchor.mean, strength) - own.mean * gain
    scale = _scale_with_opencv if image.device.type == "cpu" else _scale
    return scale(image, gain, offset).clamp_(0, 1)


def with_shoulders(image: Tensor) -> Tensor:
    """The picture with its ends bent like film's: nothing reaches 0 or 1, however often repeated.

    Values within `_SHOULDER` of an end run into it along an exponential of the same slope; the rest
    stays as it is. Without it a picture that feeds on itself piles up at both ends.
    """
    inwards = 0.5 - image
    from_end = (0.5 - inwards.abs()).clamp_(max=_SHOULDER)
    lift = torch.exp(from_end / _SHOULDER - 1).mul_(_SHOULDER).sub_(from_end)  # 0 further inside
    return image + torch.copysign(lift, inwards)


def _scale(image: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """`lab * gain + offset`, there and back again."""
    return from_lab(to_lab(image) * gain + offset)


def _scale_with_opencv(image: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """`_scale` in a third of the time, within 0.003 of it and 0.0001 on average.

    OpenCV's tables are off by a level at places, the same way each time. In a feedback loop that
    would add up, so what is added to the image is the difference of two ways back.
    """
    affine = torch.cat((torch.diag(gain.flatten()), offset.reshape(3, 1)), dim=1).numpy()
    pixels = as_pixels(image)
    changed = np.empty_like(pixels)
    rows = max(1, _BAND_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):  # what comes in between is five pictures more
        band = slice(top, top + rows)
        _move_with_opencv(pixels[band], affine, changed[band])
    return as_image(changed)


def _move_with_opencv(pixels: Floats, affine: Floats, out: Floats) -> None:
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2Lab)
    moved = cv2.cvtColor(cv2.transform(lab, affine), cv2.COLOR_Lab2RGB)
    back = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
    cv2.add(cv2.subtract(moved, back, dst=back), pixels, dst=out)


def _lab_with_opencv(image: Tensor) -> Tensor:
    """`to_lab` in a tenth of the time, within 0.1."""
    pixels = as_pixels(image)
    lab = cv2.cvtColor(pixels.clip(0, 1), cv2.COLOR_RGB2Lab)
    return as_image(lab)


def to_lab(image: Tensor) -> Tensor:
    """sRGB image in 0..1 -> CIELAB with D65 white: L* 0..100, a* and b* about -100..100."""
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055).clamp(min=0) ** 2.4,
                         image / 12.92)  # fmt: skip
    xyz = _mix(linear, _RGB_TO_XYZ)
    curved = torch.where(xyz > _LAB_KNEE**3, xyz.clamp(min=1e-9) ** (1 / 3),
                         xyz / (3 * _LAB_KNEE**2) + 4 / 29)  # fmt: skip
    lab = _mix(curved, _XYZ_TO_LAB)
    lab[:, 0] -= 16
    return lab


def from_lab(lab: Tensor) -> Tensor:
    """CIELAB -> sRGB image; colours outside sRGB come out below 0 or above 1."""
    shifted = lab.clone()
    shifted[:, 0] += 16
    curved = _mix(shifted, _LAB_TO_XYZ)
    xyz = torch.where(curved > _LAB_KNEE, curved**3, 3 * _LAB_KNEE**2 * (curved - 4 / 29))
    linear = _mix(xyz, _XYZ_TO_RGB)
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055,
                       linear * 12.92)  # fmt: skip


def _moments(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel; on the CPU in a tenth of the time of torch."""
    if lab.device.type != "cpu":
        spread, mean = torch.std_mean(lab, dim=(-2, -1), keepdim=True, correction=0)
        return mean, spread
    mean, spread = (torch.from_numpy(each).float() for each in cv2.meanStdDev(as_pixels(lab)))
    return mean.view(1, 3, 1, 1), spread.view(1, 3, 1, 1)


def _sample(image: Tensor) -> Tensor:
    """Every n-th pixel of every n-th row, 64 a side if there are: enough for statistics."""
    every = max(1, min(image.shape[-2:]) // 64)
    return image[..., ::every, ::every]


def _mix(image: Tensor, matrix: Tensor) -> Tensor:
    weights = matrix.to(image)[:, :, None, None]
    return torch.nn.functional.conv2d(image, weights)
