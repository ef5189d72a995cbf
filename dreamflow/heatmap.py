"""Where a network sees something: its scores of every place, over several scales.

The recipe is that of the memorability maps of Khosla, Raju, Torralba & Oliva 2015, "Understanding
and Predicting Image Memorability at a Large Scale": the network is applied fully convolutionally to
the picture at several sizes, and the maps are averaged. There the network scored memorability; here
it is a class or a channel.

Convention: a map is float32 `[H, W]`, in the unit of the score (before softmax) or of the
activation; what is warm in it depends on the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamflow import classes, networks, warp
from dreamflow.errors import PresetError
from dreamflow.frames import Array

if TYPE_CHECKING:
    from dreamflow.networks import Extractor

Map = NDArray[np.float32]

_SHORT_SIDES = tuple(round(224 * 2 ** (step / 2)) for step in range(1, 5))
"""Of the picture at each scale: what fills between a whole and a quarter of it is seen at about the
size that networks were trained on."""
_MOST_PIXELS = 6_000_000
"""Of the picture at any scale, so that a banner does not fill the memory."""
_EDGE = 0.25
"""Where a region ends: this share of the way from the map's median to its maximum. Chosen on
pictures of other things than those that the tests paste."""


@dataclass(frozen=True)
class Target:
    """What is looked for: one channel of a layer, or of the class scores."""

    layer: str
    channel: int
    label: str
    """What people call it."""

    @classmethod
    def of_class(cls, name: str) -> Target:
        """A class of ImageNet, by its label or number; PresetError for an unknown one."""
        try:
            index = classes.index(int(name) if name.strip().isdecimal() else name)
        except ValueError as error:
            raise PresetError(str(error)) from None
        return cls(classes.MAP, index, classes.label(index))

    @classmethod
    def of_channel(cls, network: str, layer: str, channel: int) -> Target:
        """A channel of a layer; PresetError if `network` has none such."""
        networks.check_channel(network, layer, channel)
        return cls(layer, channel, f"{layer} channel {channel}")


@dataclass(frozen=True)
class Region:
    """A box in a picture, in pixels from its top left corner, (x right, y down)."""

    x: int
    y: int
    width: int
    height: int

    def overlap(self, other: Region) -> float:
        """Intersection over union with another box: 1 where they are the same, 0 where apart."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        shared = max(0, across) * max(0, down)
        return shared / (self.width * self.height + other.width * other.height - shared)


@torch.no_grad()
def heat(image: Tensor, extractor: Extractor, target: Target) -> Map:
    """The map of `target` over `image` [1, 3, H, W], at the image's own size.

    `extractor` must have the target's layer. Scales come from the short side alone, so that a
    picture gives much the same map at any resolution.
    """
    size = (image.shape[-2], image.shape[-1])
    total = torch.zeros(1, 1, *size)
    for short in _SHORT_SIDES:
        scaled = warp.resize(image, _scaled(size, short, extractor.minimum_side)).clamp(0, 1)
        features = extractor(scaled, [target.layer])[target.layer]
        seen = features[:, target.channel : target.channel + 1].cpu()
        total += torch.nn.functional.interpolate(seen, size, mode="bilinear", align_corners=False)
    return (total / len(_SHORT_SIDES))[0, 0].numpy()


def _scaled(size: tuple[int, int], short: int, minimum_side: int) -> tuple[int, int]:
    """(height, width) with that short side, fewer where it would be too many pixels."""
    height, width = size
    scale = min(short / min(size), math.sqrt(_MOST_PIXELS / (height * width)))
    return max(minimum_side, round(height * scale)), max(minimum_side, round(width * scale))


def relative(found: Map) -> Map:
    """The map from 0 (its median and all below) to 1 (its maximum); 0 everywhere if it is flat."""
    ground, top = float(np.median(found)), float(found.max())
    return ((found - ground) / max(top - ground, 1e-12)).clip(0, 1)


def strongest_region(found: Map) -> Region:
    """The box of what hangs together with the warmest place of the map."""
    warm = relative(found)
    _, labels = cv2.connectedComponents((warm >= _EDGE).astype(np.uint8), connectivity=4)
    y, x = np.unravel_index(int(warm.argmax()), warm.shape)
    left, top, width, height = cv2.boundingRect((labels == labels[y, x]).astype(np.uint8))
    return Region(left, top, width, height)


def mask(found: Map, *, invert: bool = False) -> Map:
    """How much to dream where: 1 in warm places, 0 in cold ones, a half at the edge of regions.

    Inverted it is everywhere but there.
    """
    soft = (relative(found) / (2 * _EDGE)).clip(0, 1)
    return 1 - soft if invert else soft


def overlay(array: Array, found: Map, region: Region) -> Array:
    """The picture in dim grey with the map in colour on it, and a frame around the region.

    `array` [H, W, 3] uint8; so is the result.
    """
    warm = relative(found)[..., None]
    levels = (warm * 255).round().astype(np.uint8)
    color = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    grey = array.mean(axis=2, keepdims=True) * np.float32(0.6) + array * np.float32(0.2)
    share = np.sqrt(warm) * np.float32(0.75)
    laid = np.ascontiguousarray((grey * (1 - share) + color * share).round().astype(np.uint8))
    return _framed(laid, region)


def _framed(array: Array, region: Region) -> Array:
    """With a white line on a dark one, which is seen on any ground, around the region."""
    thin = max(1, round(min(array.shape[:2]) / 240))
    corner = (region.x + region.width - 1, region.y + region.height - 1)
    for shade, width in ((0, 3 * thin), (255, thin)):
        cv2.rectangle(array, (region.x, region.y), corner, (shade,) * 3, width)
    return array
