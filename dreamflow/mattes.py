"""Masks that travel with what they are on: carried along the flow from frame to frame.

Film calls such a mask a travelling matte. It is laid on the first frame of a shot and moved with
the scene as the dream is. What of it is looked for, as a class is, is looked for again now and
then; in between, and while it glides to what was found, it moves only as the scene does, so that it
is as steady as that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamflow import classes, heatmap, networks, warp
from dreamflow.flow import Correspondence
from dreamflow.heatmap import Target
from dreamflow.masks import Mask
from dreamflow.networks import Extractor
from dreamflow.settings import AnyMask, ClassMask, FileMask, mask_name

_AGAIN = 15.0
"""Reference frames after which a class is looked for again."""
_GLIDE = 6.0
"""Reference frames in which a mask comes to within 1/e of what was found."""
_LIKE = 0.08
"""Difference of colour at which places have little to do with one another."""
_SPAN = 32
"""What cannot be followed is filled from as far around as this part of the long side."""
_BLACK = 1 / 255
"""Shares under this are none: gliding would never end."""


@dataclass(frozen=True)
class Matte:
    """A travelling mask as it lies on one frame."""

    name: str
    """Of the `thing` in the settings."""
    shares: Tensor
    """`[1, 1, h, w]`, 0..1."""
    goal: Tensor
    """How it was last found, moved here; what the shares glide to."""
    found: int
    """Source index of the frame it was found on."""

    @property
    def masks(self) -> dict[str, Mask]:
        """It and its inverse, by `settings.mask_name`."""
        shares = torch.where(self.shares < _BLACK, 0.0, self.shares)
        return {f"<{self.name}>": Mask(shares), f"<not {self.name}>": Mask(1 - shares)}


@dataclass(frozen=True)
class Tracker:
    """How a travelling mask is found."""

    find: Callable[[Tensor], Tensor]
    """Its shares `[1, 1, h, w]` on an image."""
    again: float = math.inf
    """Reference frames after which to find it again."""

    @classmethod
    def of_class(cls, index: int, extractor: Extractor) -> Tracker:
        """Where a network, whose scores of every place are extracted, sees a class of ImageNet."""
        target = Target.of_class(str(index))

        def find(image: Tensor) -> Tensor:
            warm = heatmap.mask(heatmap.heat(image, extractor, target))
            return torch.from_numpy(warm)[None, None].to(image)

        return cls(find, _AGAIN)

    def begun(self, name: str, source: Tensor, index: int) -> Matte:
        """On source frame `index`, without a past."""
        shares = self.find(source)
        return Matte(name, shares, shares, index)

    def looked(self, matte: Matte, source: Tensor, index: int, reference_frames: float) -> Matte:
        """The matte on that frame, found again if it is time; a frame lasts `reference_frames`."""
        if (index - matte.found) * reference_frames < self.again:
            return matte
        return Matte(matte.name, matte.shares, self.find(source), index)


def trackers(
    wanted: Iterable[AnyMask], held: Mapping[str, Mask], device: torch.device
) -> dict[str, Tracker]:
    """Those of the masks that travel, by thing; the stills among them are `held`.

    Classes are looked for by the network of heat maps, which is built if there are any.
    """
    found: dict[str, Tracker] = {}
    extractor = None
    for mask in wanted:
        if isinstance(mask, ClassMask):
            extractor = extractor or networks.build(networks.DEFAULT, [classes.MAP], device=device)
            found[mask.thing] = Tracker.of_class(mask.index, extractor)
        elif isinstance(mask, FileMask) and mask.follow:
            found[mask.thing] = Tracker(held[mask_name(mask)].at)
    return found


def moved(matte: Matte, source: Tensor, found: Correspondence, passed: float) -> Matte:
    """On the frame of `source`, `passed` reference frames later."""
    both = torch.cat((matte.shares, matte.goal), dim=1)
    here = filled(warp.backward(both, found.flow_to_previous).clamp(0, 1), source, found.reliable)
    shares, goal = here[:, :1], here[:, 1:]
    shares = torch.lerp(shares, goal, 1 - math.exp(-passed / _GLIDE))
    return Matte(matte.name, shares, goal, matte.found)


def filled(shares: Tensor, source: Tensor, reliable: Tensor) -> Tensor:
    """Shares `[1, C, h, w]`, where they are not `reliable` made those of like colours around.

    Without it a mask would leave a trail where its thing uncovers what is behind, and lose what
    comes into the picture or turns.
    """
    height, width = source.shape[-2:]
    y, x = torch.nonzero(reliable[0, 0] < 1, as_tuple=True)
    own, total = source[0][:, y, x], torch.full_like(y, 1e-3, dtype=source.dtype)
    found = shares[0][:, y, x] * total
    step = max(1, round(max(height, width) / _SPAN / 4))
    for down in range(-4 * step, 4 * step + 1, step):
        for right in range(-4 * step, 4 * step + 1, step):
            there = (y + down).clamp(0, height - 1), (x + right).clamp(0, width - 1)
            unlike = (source[0][:, *there] - own).square().sum(0) / (2 * _LIKE**2)
            weight = reliable[0, 0][there] * torch.exp(-unlike)
            found, total = found + shares[0][:, *there] * weight, total + weight
    around, here = shares.clone(), reliable[0, 0][y, x]
    around[0][:, y, x] = torch.lerp(found / total, shares[0][:, y, x], here)
    return around
