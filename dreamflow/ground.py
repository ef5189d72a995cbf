"""New ground: what a pan, or something that comes into view, brings into the picture.

A carried frame is dreamed in few octaves, as the coarse ones it has from its first frame. What was
not in that has none, and from fine strokes alone no dream of any size ever grows. So where much is
new at a stretch the coarser octaves are dreamed too, on that and on no more of the picture than is
around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dreamflow.filters import gaussian_blur

_CELL = 8
"""Pixels a side of the cells in which it is told what is broad, and windows are cut."""
_BREADTH = 12.0
"""Pixels (standard deviation) around a place, most of which must be new there."""
_CONTEXT = 48
"""Pixels around new ground that the network sees with it."""
_LEAST = 0.005
"""Of the picture: less is not worth a pass."""
_FLEETING = 0.2
"""Of what is new, as much that it came with this very frame: where it comes and goes like that no
dream has the time to grow, and what is begun there again and again only flickers."""


@dataclass(frozen=True)
class NewGround:
    """Where a frame is to be dreamed in coarser octaves, and the piece of it that holds that."""

    share: Tensor
    """How much of a step each place of the whole frame gets, `[1, 1, h, w]` in 0..1."""
    rows: slice
    columns: slice

    def of(self, picture: Tensor) -> Tensor:
        """The piece of a picture `[1, C, h, w]`, as a view."""
        return picture[..., self.rows, self.columns]

    def put(self, picture: Tensor, piece: Tensor) -> Tensor:
        """The picture with another piece in its place."""
        whole = picture.clone()
        whole[..., self.rows, self.columns] = piece
        return whole


def find(ripeness: Tensor, trust: Tensor, least_side: int) -> NewGround | None:
    """New ground by what is ripe and what could be followed, both `[1, 1, h, w]` in 0..1.

    The piece is at least `least_side` pixels a side, or as large as the picture. None where what
    is new is little, narrow, or, taken over the whole picture, mostly gone in a few frames.
    """
    unripe = 1 - ripeness
    new, fresh = float(unripe.mean()), float(1 - trust.mean())
    lasting = 1 - fresh / (_FLEETING * new) if new > _LEAST else 0.0
    if lasting <= 0:
        return None
    height, width = unripe.shape[-2:]
    cells = (math.ceil(height / _CELL), math.ceil(width / _CELL))
    coarse = F.interpolate(unripe, cells, mode="bilinear", align_corners=False, antialias=True)
    around = gaussian_blur(coarse, _BREADTH / _CELL)
    broad = (2 * around - 1).clamp(0, 1) * lasting
    if float(broad.mean()) <= _LEAST:
        return None
    share = F.interpolate(broad, (height, width), mode="bilinear", align_corners=False)
    rows, columns = (
        _span(broad.amax((0, 1, axis)), length, least_side)
        for axis, length in ((3, height), (2, width))
    )
    return NewGround(torch.minimum(share, unripe), rows, columns)


def _span(strongest: Tensor, length: int, least: int) -> slice:
    """Pixels along one side that hold all cells over 0, with what is around them."""
    found = strongest.nonzero()
    cell = length / len(strongest)
    first = max(0, math.floor(int(found[0]) * cell) - _CONTEXT)
    last = min(length, math.ceil((int(found[-1]) + 1) * cell) + _CONTEXT)
    first = max(0, min(first, last - least))
    return slice(first, min(length, max(last, first + least)))
