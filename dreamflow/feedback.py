"""What of the last output enters the next frame.

What travels is the residual, `dream(t-1) - source(t-1)`: the hallucination without the scene. Moved
along the optical flow and added to the new source it sticks to what moves, while the scene itself
stays as sharp as it was filmed (the residual form of Ruder, Dosovitskiy & Brox 2016, who warp the
whole stylised frame).

Small errors of the flow add up from frame to frame: after five, half of a fine dream's detail lies
beside where it should. So some of the dream is taken from a frame further back, by a flow of its
own, as in the long-term consistency of the same paper (there a penalty, here a blend); and what the
last frame did not show may be found there too. (A canvas on which dreams are averaged slowly, moved
along from frame to frame, does not do it, as it moves by the same small errors: flicker over five
frames of a street scene 0.48 with it and without, 0.35 with the older frame.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamflow import camera, warp
from dreamflow.camera import Border, Matrix
from dreamflow.color import ColorStatistics
from dreamflow.filters import for_channels, gaussian_blur
from dreamflow.flow import Correspondence
from dreamflow.gauge import Gauge
from dreamflow.masks import Mask
from dreamflow.mattes import Matte
from dreamflow.settings import Follow

NEAR = 5
"""Dreamed frames from the last one back to the one that steadies it."""
_FAR, _FARTHEST = 8, 24
"""Of those before it every so-manieth source frame is kept, until it is so many frames old."""
_STILL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Past:
    """A frame that was dreamed some while ago, kept small."""

    index: int
    """Source frame it belongs to."""
    pixels: Tensor
    """That source frame in 8-bit levels, uint8 `[1, 3, h, w]`."""
    dreamed: Tensor
    """Its residual, float16 `[1, 3, h, w]`."""
    moves: tuple[float, ...] = _STILL
    """What the camera did to the dream since then, a matrix row by row."""
    where: Tensor | None = None
    """As of `Carry`, float16."""

    @property
    def source(self) -> Tensor:
        """Image `[1, 3, h, w]`."""
        return self.pixels.float() / 255

    @property
    def residual(self) -> Tensor:
        """Signed, `[1, 3, h, w]` in -1..1."""
        return self.dreamed.float()

    @property
    def matrix(self) -> Matrix:
        """The camera's moves as one."""
        return np.reshape(self.moves, (3, 3))

    def moved(self, by: Matrix) -> "Past":
        """After one more move of the camera."""
        whole = by @ self.matrix
        return replace(self, moves=tuple(float(number) for number in whole.flat))


@dataclass(frozen=True)
class Carry:
    """All that passes from one frame of a clip to the next, at the size flow and dream run at."""

    index: int
    """Source frame it belongs to."""
    source: Tensor
    """That source frame, image `[1, 3, h, w]`."""
    residual: Tensor
    """What was dreamed onto it, signed, `[1, 3, h, w]` in -1..1."""
    ripeness: Tensor | None = None
    """How much of a full dream each place has had, `[1, 1, h, w]` in 0..1; None for all of it."""
    gauge: Gauge | None = None
    """How strong a dream is meant to be; None where that is not looked after."""
    pasts: tuple[Past, ...] = ()
    """Frames of the same shot dreamed before, the latest first."""
    mattes: tuple[Matte, ...] = ()
    """The masks that follow what they are on, as they lie on this frame."""
    where: Tensor | None = None
    """How far the dream could grow there, `[1, 1, h, w]` in 0..1; None if that never changes."""

    def aged(self, by: Matrix, index: int) -> tuple[Past, ...]:
        """The pasts of source frame `index`, this frame among them, after a move of the camera.

        The last few stay, up to `NEAR` before the next frame, and of older ones every `_FAR`th,
        or the first one dreamed after that, where the frames between dreamed ones are skipped.
        """
        levels = (self.source * 255).round().to(torch.uint8)
        where = None if self.where is None else self.where.half()
        latest = Past(self.index, levels, self.residual.half(), where=where)
        pasts = [past.moved(by) for past in (latest, *self.pasts)]
        near, far = _near_and_far(pasts)
        gap = index - self.index
        kept = [p for p in far if p.index % _FAR < gap and index - p.index <= _FARTHEST]
        return (*near, *kept)


def _near_and_far(pasts: Sequence[Past]) -> tuple[Sequence[Past], Sequence[Past]]:
    """The pasts of the last frames, and those from before."""
    return pasts[: NEAR - 1], pasts[NEAR - 1 :]


def consulted(pasts: Sequence[Past], index: int, following: int) -> tuple[Past | None, Past | None]:
    """Of the pasts of source frame `index` those that the dreamed frame `following` it looks at.

    The first one steadies it; in the other it may find what the last one did not show, and one of
    those a frame is enough: they take turns.
    """
    near, far = _near_and_far(pasts)
    turn = index // (following - index)  # the how-manieth dreamed frame
    return near[-1] if near else None, far[turn % len(far)] if far else None


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
_AROUND, _LEAST_TEXTURE = 4.0, 0.02
"""Pixels about a place that count as its texture, and the least standard deviation of one."""


@dataclass(frozen=True)
class Arrived:
    """The dream of an earlier frame on the grid of the current one."""

    residual: Tensor
    """Not yet masked."""
    trust: Tensor
    """`[1, 1, h, w]`, 0..1: where it can be followed, with soft borders."""

    @classmethod
    def of(
        cls,
        residual: Tensor,
        correspondence: Correspondence,
        softness: float,
        move: Move,
        mask: Mask | None = None,
        where: Tensor | None = None,
    ) -> "Arrived":
        """Carried along the flow, after a `move` of the camera, in one resampling.

        `where` is how far it could grow where it comes from, if that is not the `mask` of here.
        """
        trust = soften(correspondence.reliable, softness)
        return cls(_carried(residual, correspondence, move, mask, where), trust)

    def steadied(self, older: "Arrived", share: float, textured: Tensor) -> "Arrived":
        """With `share` of `older` where both can be followed, all of it where only that can.

        The latter only on what is `textured` (see there): in a bare wall any flow agrees with its
        way back, and shards of old dreams would hang in it.
        """
        own = self.trust * (1 - share * older.trust)
        other = older.trust * (share * self.trust + (1 - self.trust) * textured)
        trust = own + other
        part = for_channels(other / trust.clamp(min=_LEAST_WEIGHT))
        return Arrived(torch.lerp(self.residual, older.residual, part), trust)


def textured(source: Tensor) -> Tensor:
    """1 where the picture has a texture that flow can hold on to, else 0; `[1, 1, h, w]`."""
    size = (source.shape[-2], source.shape[-1])
    grey = source[..., ::2, ::2].mean(dim=1, keepdim=True)  # a quarter tells as much
    mean, square = (gaussian_blur(each, _AROUND / 2) for each in (grey, grey.square()))
    variance = square - mean.square()
    return F.interpolate((variance > _LEAST_TEXTURE**2).to(source), size, mode="nearest")


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
    arrived = Arrived.of(carry.residual, correspondence, settings.softness, move, mask)
    return laid_on(source, arrived, settings, reference_frames)


def laid_on(source: Tensor, arrived: Arrived, settings: Follow, reference_frames: float) -> Tensor:
    """The source with as much of a dream on it as is left after `reference_frames`."""
    kept = settings.decay**reference_frames
    return (source + arrived.residual * for_channels(arrived.trust * kept)).clamp_(0, 1)


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
    first, second = (
        _carried(carry.residual, correspondence, move, mask, carry.where)
        for carry, correspondence, move in zip(neighbours, found, moves, strict=True)
    )
    return (first * early + second * late) / (early + late).clamp(min=_LEAST_WEIGHT)


def _carried(
    residual: Tensor,
    correspondence: Correspondence,
    move: Move,
    mask: Mask | None,
    where: Tensor | None,
) -> Tensor:
    """A residual on the current frame's grid, not yet faded, in one resampling.

    What comes from where the mask is lighter than here is weakened to what may be dreamed here.
    """
    carried = pulled(residual, correspondence, move)
    if mask is None:
        return carried
    here = mask.at(carried)
    there = pulled(here if where is None else where.to(here), correspondence, move)
    return carried * (here / there.clamp(min=_LEAST_WEIGHT)).clamp(max=1)


def let_grow(
    carry: Carry, correspondence: Correspondence, move: Move, mask: Mask | None
) -> Tensor | float:
    """What share of what may grow here could, where that comes from; 1 at most."""
    if carry.where is None or mask is None:
        return 1.0
    there = pulled(carry.where, correspondence, move)
    return (there / mask.at(there).clamp(min=_LEAST_WEIGHT)).clamp(0, 1)


def pulled(image: Tensor, correspondence: Correspondence, move: Move) -> Tensor:
    """An image of the last frame on the current one's grid, after a `move` of the camera."""
    flow = correspondence.flow_to_previous
    if np.array_equal(move.by, STANDING.by):
        return warp.backward(image, flow)
    return camera.move_along(image, flow, move.by, move.border)


def soften(mask: Tensor, sigma: float) -> Tensor:
    """Blur the border of what is over 0 in a 0..1 mask inwards: what was 0 stays 0.

    A blur alone would let a ghost of the old dream leak into what was just uncovered.
    """
    blurred = gaussian_blur((mask > 0).to(mask), sigma)
    return (2 * blurred - 1).clamp(0, 1) * mask
