"""What a dream has before it beside its picture: other pictures, masks, priors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dreamflow import regularizers, warp
from dreamflow.masks import Mask
from dreamflow.objectives import SOURCE, Reference, Term
from dreamflow.settings import Regularize

if TYPE_CHECKING:
    from dreamflow.ensemble import AnyExtractor

GUIDE_SIDE = 320
"""Long side at which pictures are looked at whose places do not matter (guides, styles), in
pixels: shapes come in the size they have there, and some 400 places are enough to choose from."""

_KEPT = 32
"""Features of pictures that are kept: a dozen octaves of two layers."""


class Gallery:
    """The pictures that objectives name, and their features, each found once for each size."""

    def __init__(self, extractor: AnyExtractor, pictures: Mapping[str, Tensor]) -> None:
        self._extractor = extractor
        self._pictures = dict(pictures)
        self._looked_at = functools.lru_cache(maxsize=_KEPT)(self._look_at)

    def features(self, name: str, layer: str, size: tuple[int, int] | None) -> Tensor:
        """A layer's features of a picture: of its middle at (height, width), or of all of it."""
        return self._looked_at(name, layer, size)

    @torch.no_grad()
    def _look_at(self, name: str, layer: str, size: tuple[int, int] | None) -> Tensor:
        picture = self._pictures[name]
        if size is None:
            height, width = picture.shape[-2:]
            scale = min(1.0, GUIDE_SIDE / max(height, width))
            least = self._extractor.minimum_side
            size = max(least, round(height * scale)), max(least, round(width * scale))
            fitted = warp.resize(picture, size)
        else:
            fitted = covering(picture, size)
        return self._extractor(fitted.clamp(0, 1), {layer})[layer]


def covering(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """The picture's middle, of the shape of (height, width), at that size."""
    height, width = picture.shape[-2:]
    scale = min(height / size[0], width / size[1])
    tall, wide = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - tall) // 2, (width - wide) // 2
    return warp.resize(picture[..., top : top + tall, left : left + wide], size)


@dataclass(frozen=True)
class View:
    """A scene in one octave."""

    source: Tensor
    """The frame without its dream, image `[1, 3, h, w]`."""
    references: Mapping[Reference, Tensor] = field(default_factory=dict)
    """Features that terms compare with."""
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """`[1, 1, h, w]` in 0..1, by name."""
    regularize: Regularize = field(default_factory=Regularize)
    natural: bool = False
    """Whether steps are those of a frequency-domain parameterisation."""


@dataclass(frozen=True)
class Scene:
    """What a dream has before it beside its picture, at the size of the dream."""

    gallery: Gallery | None = None
    """Must be there for terms with pictures."""
    masks: Mapping[str, Mask] = field(default_factory=dict)
    """Those that terms name."""
    regularize: Regularize = field(default_factory=Regularize)

    def asks_for_source(self, terms: Sequence[Term]) -> bool:
        """Whether the frame without its dream is looked at, and not only its size."""
        compared = any(picture == SOURCE for term in terms for _, picture in term.references)
        return compared or regularizers.in_force(self.regularize)

    def cut(self, cut: Callable[[Tensor], Tensor], frame: Tensor) -> Scene:
        """The scene of a piece of a frame, which `cut` takes out of all that is as large as it."""
        masks = {name: Mask(cut(mask.at(frame))) for name, mask in self.masks.items()}
        return replace(self, masks=masks)

    def at(
        self,
        source: Tensor,
        terms: Sequence[Term],
        extractor: AnyExtractor,
        *,
        natural: bool = False,
    ) -> View:
        """What the terms need of it in an octave in which the frame without its dream is `source`.

        Only the frame's own features cost a pass, one for all terms.
        """
        size = (source.shape[-2], source.shape[-1])
        wanted = {reference: term for term in terms for reference in term.references}
        own = {layer for layer, picture in wanted if picture == SOURCE}
        found: dict[Reference, Tensor] = {}
        if own:
            with torch.no_grad():
                ours = extractor(source, own)
            found = {(layer, SOURCE): ours[layer] for layer in own}
        for (layer, picture), term in wanted.items():
            if picture != SOURCE:
                assert self.gallery is not None, f"no pictures for {picture}"
                place = size if term.aligned else None
                found[layer, picture] = self.gallery.features(picture, layer, place)
        names = {term.mask for term in terms} - {""}
        masks = {name: self.masks[name].at(source) for name in names}
        return View(source, found, masks, self.regularize, natural)
