"""DeepDream: gradient ascent on the picture, from coarse to fine.

The method is that of "Inceptionism: Going Deeper into Neural Networks" (Mordvintsev, Olah & Tyka,
Google Research blog, 2015) and its notebook: octaves that hand on only the detail they added, a
random shift (jitter) before every step, and a gradient normalised before it is added. Departures:
the gradient is blurred, its colour reduced and its outliers capped first, which keeps natural
colours. The notebook divides by the mean absolute value too, but has a step scale of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamflow import gauge, masks, objectives, warp
from dreamflow.errors import BadMediaError
from dreamflow.filters import gaussian_blur
from dreamflow.gauge import Energies
from dreamflow.masks import Mask
from dreamflow.objectives import Term
from dreamflow.settings import Dream

if TYPE_CHECKING:
    from dreamflow.networks import Extractor

_CELL = 16
"""Pixels a side of the cells in which the gradient's strength is averaged."""

Seed = tuple[int, int]
"""(seed of the render, index of the source frame): what all randomness of a frame hangs on."""


@dataclass(frozen=True)
class Effort:
    """How hard to dream, where, and until when."""

    places: Tensor | None = None
    """`[1, 1, H, W]`, what to multiply each step with; None for 1 everywhere."""
    targets: Energies = field(default_factory=dict)
    """What is strong enough; nothing is where a layer is not in it."""
    octave: int = 0
    """That of the steps in question."""

    def at(self, octave: int, like: Tensor) -> Effort:
        """The same for the steps of an octave, in which the picture is as large as `like`."""
        places = self.places
        if places is not None:
            size = (like.shape[-2], like.shape[-1])
            places = F.interpolate(places, size, mode="bilinear", align_corners=False)
        return Effort(places, self.targets, octave)

    def size(self, terms: Sequence[Term], features: objectives.Features) -> float:
        """What to multiply the whole step with."""
        if not self.targets:
            return 1.0
        return gauge.size_of_step(gauge.shortfall(self.targets, self.octave, terms, features))


FULL = Effort()


def dream(
    image: Tensor,
    extractor: Extractor,
    terms: Sequence[Term],
    settings: Dream,
    seed: Seed = (0, 0),
    mask: Mask | None = None,
    effort: Effort = FULL,
) -> Tensor:
    """Dream on `image` and return it with what was dreamed, as much as the `mask` lets grow.

    Convention: image [1, 3, H, W], RGB, 0..1, any size (one smaller than the network's minimum is
    continued by its edge meanwhile). The result has the same form and stays within 0..1.

    Where an octave has no terms there is nothing to ascend to, and it takes no steps.
    Raises BadMediaError when the gradient leaves the numbers (NaN or infinite).
    """
    height, width = image.shape[-2:]
    whole = _pad_to(image, extractor.minimum_side).clamp(0, 1)
    dreamed, detail = whole, None
    for octave, size in octave_sizes(whole.shape[-2:], settings, extractor.minimum_side):
        base = warp.resize(whole, size)
        dreamed = base if detail is None else base + warp.resize(detail, size)
        here = objectives.at_octave(terms, octave)
        harder = effort.at(octave, dreamed)
        for step in range(settings.steps if here else 0):
            shift = draw_shift((*seed, octave, step), settings.jitter)
            dreamed = ascend(dreamed, extractor, here, settings, shift, seed[1], mask, harder)
        detail = dreamed - base
    dreamed = dreamed[..., :height, :width].clamp(0, 1)  # the last octave is the full size
    return masks.kept(mask, image, dreamed)


def octave_sizes(
    size: Sequence[int], settings: Dream, minimum_side: int
) -> Iterator[tuple[int, tuple[int, int]]]:
    """(octave, (height, width)) from small to full; octave 0 is the full size.

    Octaves with a side under `minimum_side`, which the network cannot take, are left out.
    """
    for octave in reversed(range(settings.octaves)):
        scale = settings.octave_scale**octave
        height, width = (round(side / scale) for side in size)
        if octave == 0 or min(height, width) >= minimum_side:
            yield octave, (height, width)


def draw_shift(key: Sequence[int], jitter: int) -> tuple[int, int]:
    """A random shift of -jitter..jitter pixels (down, right), the same for the same `key`.

    Drawn on the CPU from a generator of its own, so that serial, resumed and distributed renders
    shift alike.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    down, right = generator.integers(-jitter, jitter, size=2, endpoint=True)
    return int(down), int(right)


def ascend(
    image: Tensor,
    extractor: Extractor,
    terms: Sequence[Term],
    settings: Dream,
    shift: tuple[int, int],
    frame: int = 0,
    mask: Mask | None = None,
    effort: Effort = FULL,
) -> Tensor:
    """One step: shift, forward, backward, shape the gradient, shift back, add it, clamp to 0..1.

    Nothing changes, and there is no backward pass, where the dream is strong enough as it is.
    """
    shifted = roll(image, shift).requires_grad_(True)
    features = extractor(shifted, {term.layer for term in terms})
    size = effort.size(terms, features)
    if size == 0:
        return image
    score = objectives.total(terms, features)
    (gradient,) = torch.autograd.grad(score, shifted)
    gradient = shape_gradient(gradient, settings)
    scale = gradient.abs().mean()
    # A score that overflows has a gradient of zero: without its check the dream silently stops.
    if not (math.isfinite(score.detach()) and math.isfinite(scale)):
        layers = ", ".join(term.layer for term in terms)
        raise BadMediaError(
            f"frame {frame}: the energy of {layers} or its gradient is not finite (lower "
            f"dream.step_size, now {settings.step_size:g}, or choose another layer)"
        )
    down, right = shift
    step = roll(gradient, (-down, -right))
    if mask is not None:
        step = step * mask.at(step)
    if effort.places is not None:
        step = step * effort.places
    levels = settings.step_size / 255 * objectives.share(terms) * size
    scaled = levels / max(float(scale), torch.finfo(scale.dtype).tiny)
    return torch.add(image, step, alpha=scaled).clamp_(0, 1)


def shape_gradient(gradient: Tensor, settings: Dream) -> Tensor:
    """Blur the gradient, even it out, reduce its colour and cap its outliers, as `settings` say."""
    if settings.smoothing > 0:
        gradient = cascaded_blur(gradient, settings.smoothing)
    if settings.spread > 0:
        gradient = gradient * evening(gradient, settings.spread)
    if settings.chroma != 1:
        gradient = less_colour(gradient, settings.chroma)
    if settings.limit > 0:
        cap = settings.limit * float(gradient.abs().mean())  # a tensor as bound takes 9x the time
        gradient = gradient.clamp(-cap, cap)
    return gradient


def less_colour(gradient: Tensor, chroma: float) -> Tensor:
    """The share `chroma` of the gradient's colour, all of its grey (the mean of the channels)."""
    mix = torch.eye(3) * chroma + (1 - chroma) / 3
    return (gradient.permute(0, 2, 3, 1) @ mix.to(gradient)).permute(0, 3, 1, 2)


def cascaded_blur(gradient: Tensor, sigma: float) -> Tensor:
    """Mean of two blurs, at half and at twice `sigma`: keeps fine strokes beside broad ones."""
    fine, broad = gaussian_blur(gradient, sigma / 2), gaussian_blur(gradient, sigma * 2)
    return (fine + broad).mul_(0.5)


def evening(gradient: Tensor, spread: float) -> Tensor:
    """What to multiply the gradient with so that the dream covers the picture evenly.

    Returns `[1, 1, H, W]`: the mean absolute value around each pixel to the power of `-spread`.
    "Around" is a Gaussian of a fourteenth of the long side, the size of a face in the picture. A
    plain gradient is largest where the layer already fires, so that one spot eats the picture;
    this lets fainter places grow too. (Google's notebook evens out the scales of a gradient in a
    Laplacian pyramid; this evens out its places.)
    """
    height, width = gradient.shape[-2:]
    sample = gradient[..., ::4, ::4].abs().mean(dim=1, keepdim=True)  # a sixteenth tells as much
    cells = (max(1, round(height / _CELL)), max(1, round(width / _CELL)))
    around = gaussian_blur(F.adaptive_avg_pool2d(sample, cells), max(cells) / 14)
    floor = (sample.mean() / 10).clamp(min=torch.finfo(sample.dtype).tiny)  # flat places stay flat
    factor = (around + floor) ** -spread
    return F.interpolate(factor, (height, width), mode="bilinear", align_corners=False)


def roll(image: Tensor, shift: tuple[int, int]) -> Tensor:
    """Shift `image` by (down, right) pixels around its borders, in channels_last memory order."""
    rolled = torch.roll(image.permute(0, 2, 3, 1), shift, dims=(1, 2))
    return rolled.permute(0, 3, 1, 2).detach()


def _pad_to(image: Tensor, side: int) -> Tensor:
    height, width = image.shape[-2:]
    below, right = max(0, side - height), max(0, side - width)
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image
