"""What of the last output enters the next frame.

What travels is the residual, `dream(t-1) - source(t-1)`: the hallucination without the scene. Moved
along the optical flow and added to the new source it sticks to what moves, while the scene itself
stays as sharp as it was filmed (the residual form of Ruder, Dosovitskiy & Brox 2016, who warp the
whole stylised frame).
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dreamflow import camera, warp
from dreamflow.camera import Border, Matrix
from dreamflow.color import ColorStatistics
from dreamflow.filters import gaussian_blur
from dreamflow.flow import Correspondence
from dreamflow.masks import Mask
from dreamflow.settings import Follow


@dataclass(frozen=True)
class Carry:
    """All that passes from one frame of a clip to the next, at the size flow and dream run at."""

    index: int
    """Source frame it belongs to."""
    source: Tensor
    """That source frame, image `[1, 3, h, w]`."""
    residual: Tensor
    """What was dreamed onto it, signed, `[1, 3, h, w]` in -1..1."""


@dataclass(frozen=True)
class Canvas:
    """All that passes from one frame of a zoom to the next."""

    index: int
    picture: Tensor
    """That frame, image `[1, 3, H, W]` at the size of the film."""
    anchor: ColorStatistics
    """What its colours are pulled to."""


@dataclass(frozen=True)
class Move:
    """What the camera does to a dream that is carried to another frame."""

    by: Matrix
    border: Border


STANDING = Move(np.eye(3), "reflect")

_LEAST_WEIGHT = 0.01
"""Of a place in a cross-fade; what is followed less surely fades away."""


def follow(
    carry: Carry,
    source: Tensor,
    correspondence: Correspondence,
    settings: Follow,
    reference_frames: float,
    move: Move = STANDING,
    mask: Mask | None = None,
) -> Tensor:
    """The start image of the frame after `carry`: its source with the carried dream on it.

    `reference_frames` at the reference rate, which `decay` is meant for, have passed between them.
    """
    carried = _carried(carry, correspondence, move, mask)
    followed = soften(correspondence.reliable, settings.softness)
    kept = settings.decay**reference_frames
    return (source + carried * followed * kept).clamp(0, 1)


def between(
    neighbours: tuple[Carry, Carry],
    found: tuple[Correspondence, Correspondence],
    moves: tuple[Move, Move],
    share: float,
    settings: Follow,
    mask: Mask | None = None,
) -> Tensor:
    """The residual of a frame that was not dreamed, from the dreamed ones before and after it.

    Both are carried to it and cross-faded, `share` being that of the latter; where only one of them
    can be followed, it stands alone.
    """
    early, late = (
        soften(each.reliable, settings.softness) * weight
        for each, weight in zip(found, (1 - share, share), strict=True)
    )
    first, second = map(_carried, neighbours, found, moves, (mask, mask))
    return (first * early + second * late) / (early + late).clamp(min=_LEAST_WEIGHT)


def _carried(carry: Carry, correspondence: Correspondence, move: Move, mask: Mask | None) -> Tensor:
    """The residual on the current frame's grid, not yet faded, in one resampling.

    What comes from where the mask is lighter than here is weakened to what may be dreamed here.
    """
    carried = _pulled(carry.residual, correspondence, move)
    if mask is None:
        return carried
    here = mask.at(carried)
    there = _pulled(here, correspondence, move)
    return carried * (here / there.clamp(min=_LEAST_WEIGHT)).clamp(max=1)


def _pulled(image: Tensor, correspondence: Correspondence, move: Move) -> Tensor:
    """An image of the last frame on the current one's grid."""
    flow = correspondence.flow_to_previous
    if np.array_equal(move.by, STANDING.by):
        return warp.backward(image, flow)
    return camera.move_along(image, flow, move.by, move.border)


def soften(mask: Tensor, sigma: float) -> Tensor:
    """Blur the border of a 0..1 mask inwards: what was 0 stays 0.

    A blur alone would let a ghost of the old dream leak into what was just uncovered.
    """
    blurred = gaussian_blur(mask, sigma)
    return (2 * blurred - 1).clamp(0, 1) * mask
