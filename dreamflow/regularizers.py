"""Priors R(X) that keep a dream plausible, and ways of shaping its gradient to the same end.

A prior is a penalty on the picture. Its gradient, in which every pixel counts by itself, stands
beside the objectives' gradient, whose mean absolute value is 1: on a picture that offends against
it, a prior of weight 1 pulls about as hard as they do. Each is a sum over all pixels, in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dreamflow import warp
from dreamflow.filters import gaussian_blur
from dreamflow.settings import Regularize

_SMOOTH = 0.01
"""Under the root of the total variation: differences under a tenth count by their squares."""
_HALVINGS = 6
_LEVELS = 4
"""Of the pyramid in which a gradient is normalised, as in Google's notebook."""

COLOUR = (
    (1.10, 0.89, 0.75),
    (0.89, 0.98, 0.91),
    (0.75, 0.91, 0.92),
)
"""Covariance of R, G and B in the sample photographs, in units of the mean variance."""


def total_variation(picture: Tensor, _source: Tensor) -> Tensor:
    """Length of the brightness gradient, summed (Rudin, Osher & Fatemi 1992).

    Used on inverted networks by Mahendran & Vedaldi 2015. At the last row and column the picture
    goes on as it ends.
    """
    right = F.pad(picture.diff(dim=-1), (0, 1))
    down = F.pad(picture.diff(dim=-2), (0, 0, 0, 1))
    return (right.square() + down.square() + _SMOOTH).sqrt().sum()


def l2_grey(picture: Tensor, _source: Tensor) -> Tensor:
    """Squared distance to mid-grey: the L2 norm of Simonyan, Vedaldi & Zisserman 2013."""
    return 2 * (picture - 0.5).square().sum()


def l2_source(picture: Tensor, source: Tensor) -> Tensor:
    """Squared distance to the picture without the dream; a deviation of 1/20 pulls with 1."""
    return 10 * (picture - source).square().sum()


def p_norm(picture: Tensor, _source: Tensor) -> Tensor:
    """Sixth power of the distance to mid-grey (Mahendran & Vedaldi 2015): bounds the extremes."""
    return (2 * (picture - 0.5)).pow(6).sum() / 4


def spectrum(picture: Tensor, _source: Tensor) -> Tensor:
    """Minus the log-likelihood of a picture whose amplitudes fall as 1/frequency.

    Photographs' do (Field 1987, "Relations between the statistics of natural images and the
    response properties of cortical cells"): each Fourier coefficient counts by its frequency
    squared, 1 being the finest horizontal or vertical grating.
    """
    height, width = picture.shape[-2:]
    coefficients = torch.fft.rfft2(picture, norm="ortho")
    power = coefficients.real.square() + coefficients.imag.square()
    twice = torch.full((coefficients.shape[-1],), 2.0, device=picture.device, dtype=picture.dtype)
    twice[0] = 1  # rfft2 leaves out the mirror image of all columns but these
    if width % 2 == 0:
        twice[-1] = 1
    weights = (2 * frequencies(height, width, picture)).square() * twice
    return 4 * (power * weights).sum()


def frequencies(height: int, width: int, like: Tensor) -> Tensor:
    """Cycles per pixel of each coefficient of `rfft2`, `[height, width // 2 + 1]`."""
    options = {"device": like.device, "dtype": like.dtype}
    vertical = torch.fft.fftfreq(height, **options)[:, None]
    horizontal = torch.fft.rfftfreq(width, **options)
    return (vertical.square() + horizontal.square()).sqrt()


PRIORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "total_variation": total_variation,
    "l2_grey": l2_grey,
    "l2_source": l2_source,
    "p_norm": p_norm,
    "spectrum": spectrum,
}
"""Penalties by the name of their setting: (picture, picture without the dream) -> a scalar."""


def penalty(picture: Tensor, source: Tensor, settings: Regularize) -> Tensor | None:
    """All priors in force, weighted and summed; None without one."""
    weights = {name: getattr(settings, name) for name in PRIORS}
    parts = [weight * PRIORS[name](picture, source) for name, weight in weights.items() if weight]
    return torch.stack(parts).sum() if parts else None


def value_and_gradient(
    picture: Tensor, source: Tensor, settings: Regularize
) -> tuple[float, Tensor]:
    """The sum of all priors in force, and its gradient."""
    leaf = picture.detach().requires_grad_(True)
    found = penalty(leaf, source, settings)
    if found is None:
        return 0.0, torch.zeros_like(picture)
    return float(found.detach()), torch.autograd.grad(found, leaf)[0]


def in_force(settings: Regularize) -> bool:
    """Whether `settled` would change anything."""
    return settings.blur > 0 or any(getattr(settings, name) > 0 for name in PRIORS)


def settled(picture: Tensor, source: Tensor, settings: Regularize, step: float) -> Tensor:
    """The picture after a step of the dream on `source`, as the priors and the blur leave it.

    `step` times the gradient of the priors is taken off, or as many halves of it as it takes not to
    overshoot, that is to raise the penalty.
    """
    if any(getattr(settings, name) > 0 for name in PRIORS):
        picture = _pulled(picture, source, settings, step)
    if settings.blur > 0:
        picture = source + gaussian_blur(picture - source, settings.blur)
    return picture


def _pulled(picture: Tensor, source: Tensor, settings: Regularize, step: float) -> Tensor:
    before, gradient = value_and_gradient(picture, source, settings)
    for _ in range(_HALVINGS):
        moved = picture - step * gradient
        after = penalty(moved, source, settings)
        if after is not None and float(after) <= before:
            return moved
        step /= 2
    return picture


# ── shaping ──────────────────────────────────────────────────────────────────────────────────────


def shaped(gradient: Tensor, settings: Regularize) -> Tensor:
    """The gradient with its scales evened out and its colours decorrelated, as `settings` say."""
    if settings.laplacian > 0:
        gradient = evened_scales(gradient, settings.laplacian)
    if settings.decorrelate > 0:
        gradient = decorrelated(gradient, settings.decorrelate)
    return gradient


def evened_scales(gradient: Tensor, share: float) -> Tensor:
    """The levels of the gradient's Laplacian pyramid brought to one strength, by that share.

    Google's notebook (Mordvintsev, Olah & Tyka 2015): low frequencies are boosted, so that there is
    less grain. A share of 1 divides each level by its standard deviation.
    """
    parts: list[Tensor] = []
    rest = gradient
    for _ in range(_LEVELS):
        height, width = rest.shape[-2:]
        if min(height, width) < 4:
            break
        smaller = warp.resize(rest, ((height + 1) // 2, (width + 1) // 2))
        parts.append(rest - warp.resize(smaller, (height, width)))
        rest = smaller
    tiny = torch.finfo(gradient.dtype).tiny
    merged = rest / rest.std().clamp(min=tiny) ** share
    for part in reversed(parts):
        enlarged = warp.resize(merged, (part.shape[-2], part.shape[-1]))
        merged = enlarged + part / part.std().clamp(min=tiny) ** share
    return merged


def decorrelated(gradient: Tensor, share: float) -> Tensor:
    """The step that ascent in decorrelated colours would take (Olah et al. 2017), by that share.

    With R, G, B = C z, C the root of their covariance in photographs, a step along the gradient of
    z changes the picture by C Cᵀ times its own gradient.
    """
    covariance = torch.tensor(COLOUR).to(gradient)
    mix = torch.lerp(torch.eye(3).to(gradient), covariance, share)
    return (gradient.permute(0, 2, 3, 1) @ mix).permute(0, 3, 1, 2)


def natural(gradient: Tensor) -> Tensor:
    """The gradient with amplitudes that fall as 1/frequency, its colours decorrelated.

    What Olah et al. 2017 get by optimising decorrelated Fourier coefficients, scaled as in
    photographs, with steps of one size (Adam): coarse shapes come first, and no grain.
    """
    height, width = gradient.shape[-2:]
    lowest = 1 / max(height, width)
    scale = lowest / frequencies(height, width, gradient).clamp(min=lowest)
    filtered = torch.fft.irfft2(torch.fft.rfft2(gradient) * scale, (height, width))
    return decorrelated(filtered, 1.0)
