"""The gradient of a picture far beyond memory, tile by tile, with the look of the whole.

Each tile is seen with a margin of context, and only its core is kept. The margin is twice as wide
as nearly all of a place's gradient reaches (the effective receptive field of Luo, Li, Urtasun &
Zemel 2016, measured on the network): once for what the core's pixels change, and once more for what
that sees, so that the padding at the tile's own border plays no part.

The grid is rolled to another place in every step, as in Google's notebook, around the picture's
borders. What makes terms comparable, their units, is taken over the whole picture, so that a tile
is neither stronger nor weaker than its neighbours.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from dreamflow import machine
from dreamflow.errors import StoppedError, is_out_of_memory
from dreamflow.objectives import Reference, Term

if TYPE_CHECKING:
    from dreamflow.ensemble import AnyExtractor

logger = logging.getLogger("dreamflow")

WHOLE_BYTES = 3_000_000_000
"""A pass that takes no more runs on the whole picture. Fixed, and not what happens to be free, so
that a render is the same on every machine that has it."""
_TILE_BYTES = 350_000_000
"""Of a pass over a tile."""
_LEAST_SIDE = 64
_HALVINGS = 3
"""How often tiles are made smaller when memory runs out."""

_STRIDE = 32
"""Tiles and margins are multiples of the largest stride in use, so that all see one lattice."""

_PROBE_SIDE = 384
_REACH = 0.99
"""Share of a place's gradient that counts as its reach."""
_BACKWARD = 2.0
"""A pass takes this many times what autograd keeps: gradients, and what convolutions unfold."""

Uphill = Callable[[Tensor, "Window", Sequence[Tensor] | None], tuple[Tensor, Tensor]]
"""Score and gradient of the picture in a window, with the units of the terms if they are given."""


@dataclass(frozen=True)
class Needs:
    """What a network takes to dream some of its layers."""

    bytes_per_pixel: float
    """Memory of a forward and a backward pass."""
    margin: int
    """Context that a tile needs on each side, in pixels."""


@dataclass(frozen=True)
class Window:
    """Rows and columns of a picture, around its borders, and where in them the core lies."""

    rows: Tensor
    columns: Tensor
    core: tuple[slice, slice]

    def of(self, picture: Tensor) -> Tensor:
        """A copy of what it shows of `[B, C, H, W]`, in channels_last memory order."""
        shown = picture.index_select(2, self.rows).index_select(3, self.columns)
        return shown.contiguous(memory_format=torch.channels_last)

    def put_core(self, picture: Tensor, part: Tensor) -> None:
        """Write the core of `part`, which is as large as the window, into the picture."""
        down, right = self.core
        rows, columns = self.rows[down], self.columns[right]
        picture[:, :, rows[:, None], columns] = part[:, :, down, right]


@functools.lru_cache(maxsize=8)
def needs(extractor: AnyExtractor, layers: tuple[str, ...]) -> Needs:
    """Measured on noise, in one small pass; kept for each network and its layers."""
    side = max(_PROBE_SIDE, extractor.minimum_side)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, side, side, generator=generator).to(extractor.device)
    noise.requires_grad_(True)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = extractor(noise, layers)
    weights = sum(parameter.nbytes for parameter in extractor.parameters())
    saved = max(sum(kept.values()) - weights, noise.nbytes)
    maps = [features[layer] for layer in layers if features[layer].ndim == 4]
    reach = max((_reach(values, noise) for values in maps), default=side // 8)
    return Needs(_BACKWARD * saved / side**2, 2 * reach)


def _reach(values: Tensor, image: Tensor) -> int:
    """Pixels from a place of a map within which `_REACH` of its gradient lies."""
    height, width = values.shape[-2:]
    middle = values[..., height // 2, width // 2].square().sum()
    (gradient,) = torch.autograd.grad(middle, image, retain_graph=True)
    strength = gradient.abs().sum((0, 1))
    side = strength.shape[-1]
    y = torch.arange(side, device=strength.device)
    centre = ((height // 2 + 0.5) * side / height, (width // 2 + 0.5) * side / width)
    away = torch.maximum((y[:, None] - centre[0]).abs(), (y - centre[1]).abs()).long()
    within = torch.zeros(side + 1, device=strength.device)
    within.index_add_(0, away.flatten().clamp(max=side), strength.flatten())
    share = within.cumsum(0) / within.sum().clamp(min=1e-30)
    return int((share < _REACH).sum()) + 1


class Tiler:
    """Decides into what tiles pictures are cut; makes them smaller for good if memory runs out."""

    def __init__(self, extractor: AnyExtractor, setting: int | Literal["auto", "off"]) -> None:
        self._extractor = extractor
        self._setting = setting
        self._halvings = 0
        self._announced: set[tuple[int, int]] = set()

    def needs(self, terms: Sequence[Term]) -> Needs:
        """What these terms take."""
        return needs(self._extractor, tuple(sorted({x for term in terms for x in term.layers})))

    def side(self, size: tuple[int, int], terms: Sequence[Term]) -> int | None:
        """Pixels a side of the tiles' cores; None where (height, width) is seen as a whole.

        Terms for which places in the frame matter are always seen as a whole.
        """
        pixels, longest = size[0] * size[1], max(size)
        if self._setting == "off" or not terms or any(term.aligned for term in terms):
            return None
        if isinstance(self._setting, int):
            side = self._setting
        elif pixels * _MOST_BYTES <= WHOLE_BYTES or self._pass_bytes(pixels, terms) <= WHOLE_BYTES:
            side = longest
        else:
            needed = self.needs(terms)
            side = math.isqrt(int(_TILE_BYTES / needed.bytes_per_pixel)) - 2 * needed.margin
        side = max(_LEAST_SIDE, side >> self._halvings)
        return side if side < longest else None

    def _pass_bytes(self, pixels: int, terms: Sequence[Term]) -> float:
        return pixels * self.needs(terms).bytes_per_pixel

    def estimate(self, size: tuple[int, int], terms: Sequence[Term]) -> float:
        """Bytes that a dream at (height, width) takes, in tiles if it is."""
        height, width = size
        side = self.side(size, terms)
        seen = height * width if side is None else (side + 2 * self.needs(terms).margin) ** 2
        return height * width * _PICTURE_BYTES + self._pass_bytes(seen, terms)

    def prepare(self, size: tuple[int, int], terms: Sequence[Term]) -> None:
        """Say, before a render starts, if its pictures of (height, width) are dreamed in tiles.

        Where these would not fit into the memory that is free they are made smaller, said too;
        StoppedError when that does not help.
        """
        height, width = size
        if height * width * _MOST_BYTES <= WHOLE_BYTES or not terms:
            return
        free = machine.free_bytes(self._extractor.device)
        while self.estimate(size, terms) > free:
            self.shrink(size, terms)
        side = self.side(size, terms)
        if side is not None and size not in self._announced:
            self._announced.add(size)
            machine.return_large_memory()
            whole, now = self._pass_bytes(height * width, terms), self.estimate(size, terms)
            logger.warning(
                "%dx%d is dreamed in tiles of %d px: that takes %.1f GB, in one piece it would be "
                "%.1f GB", width, height, side, now / 1e9, whole / 1e9,
            )  # fmt: skip

    def shrink(self, size: tuple[int, int], terms: Sequence[Term]) -> None:
        """Halve the tiles, and say so; StoppedError if that was done often enough."""
        height, width = size
        before = self.side(size, terms) or max(size)
        fixed = self._setting == "off" or any(term.aligned for term in terms)
        if fixed or self._halvings >= _HALVINGS or before <= _LEAST_SIDE:
            raise StoppedError(
                f"out of memory: dreaming at {width}x{height} takes {self._told(size, terms)}; "
                f"dream.size={self._fitting(size)} would fit"
            )
        self._halvings += 1
        after = self.side(size, terms) or max(size)
        logger.warning("memory is short: dreaming in tiles of %d px, not %d", after, before)

    def _told(self, size: tuple[int, int], terms: Sequence[Term]) -> str:
        """The estimate in words; on a device that has no room to measure either, that."""
        try:
            return f"{self.estimate(size, terms) / 1e9:.1f} GB"
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return "more than there is"

    def _fitting(self, size: tuple[int, int]) -> int:
        """A long side at which the pictures alone take half of what is free."""
        free = machine.free_bytes(self._extractor.device)
        pixels = free / 2 / (_PICTURE_BYTES + (0 if self._setting != "off" else _MOST_BYTES))
        return max(64, min(max(size) * 3 // 4, int(math.sqrt(pixels * max(size) / min(size)))))

    def uphill(
        self,
        image: Tensor,
        terms: Sequence[Term],
        references: Mapping[Reference, Tensor],
        key: Sequence[int],
        one: Uphill,
    ) -> tuple[Tensor, Tensor]:
        """Score and gradient of all terms over the whole picture; `one` gives those of a window.

        `references` are features of other pictures that terms compare with; `key` seeds the roll of
        the grid.
        """
        machine.return_free_memory()  # of the last octave, half a gigabyte for an 8K picture
        height, width = image.shape[-2:]
        side = self.side((height, width), terms) or max(height, width)
        cut = list(windows(image, side, self.needs(terms).margin, key))
        held = self._units(image, terms, references, cut)
        score, gradient = torch.zeros((), device=image.device), torch.empty_like(image)
        for window in cut:
            part_score, part = one(image, window, held)
            # Scores are means: those of a tile count as much as the tile is large.
            share = len(window.rows) * len(window.columns) / (height * width)
            window.put_core(gradient, part * share)
            score += part_score * share
        return score, gradient

    @torch.no_grad()
    def _units(
        self,
        image: Tensor,
        terms: Sequence[Term],
        references: Mapping[Reference, Tensor],
        cut: Sequence[Window],
    ) -> Sequence[Tensor]:
        """What each term is counted in over the whole picture: the mean of that in all tiles.

        It takes passes of its own. A term that is alone needs none: a step has its own length.
        """
        ones = [torch.ones((), device=image.device) for _ in terms]
        if len(terms) == 1:
            return ones
        layers = list(dict.fromkeys(layer for term in terms for layer in term.layers))
        found = []
        for window in cut:
            features = {**self._extractor(window.of(image), layers), **references}
            found.append(torch.stack([term.unit(features) for term in terms]))
        return list(torch.stack(found).mean(0))


@functools.lru_cache(maxsize=8)
def tiler_for(extractor: AnyExtractor, setting: int | Literal["auto", "off"]) -> Tiler:
    """The one that all pictures of a network share, so that what it learnt of memory is kept."""
    return Tiler(extractor, setting)


_MOST_BYTES = 6000
"""For each pixel, of a pass through any network in use: fewer pixels need no measuring."""
_PICTURE_BYTES = 72
"""For each pixel, of the pictures and gradients that are kept whole: six of them."""


def windows(image: Tensor, side: int, margin: int, key: Sequence[int]) -> Iterator[Window]:
    """Tiles of `side` that cover a picture once with their cores, from a corner drawn by `key`."""
    height, width = image.shape[-2:]
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    top, left = int(generator.integers(height)), int(generator.integers(width))
    for rows, down in _spans(height, side, margin, top, image.device):
        for columns, right in _spans(width, side, margin, left, image.device):
            yield Window(rows, columns, (down, right))


def _spans(
    length: int, side: int, margin: int, start: int, device: torch.device
) -> Iterator[tuple[Tensor, slice]]:
    """Places along one side, around its end, and the core in them; all of much the same length."""
    count = math.ceil(length / side)
    edges = [_on_stride(length * place / count) for place in range(count)] + [length]
    for begin, end in itertools.pairwise(edges):
        before = min(_on_stride(margin + _STRIDE / 2), (length - (end - begin)) // 2)
        places = torch.arange(begin - before, end + before, device=device)
        yield (places + start) % length, slice(before, before + end - begin)


def _on_stride(place: float) -> int:
    return round(place / _STRIDE) * _STRIDE
