"""Ways to climb besides the plain normalised ascent: Adam, and L-BFGS with a line search."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_MEMORY = 10
"""Pairs of steps and changes of the gradient that L-BFGS remembers."""
_DECREASE = 1e-4
"""Of what the slope promises, the least share that a step must bring (Armijo 1966)."""


class Adam:
    """Step directions from a running mean of gradients over that of their squares.

    Kingma & Ba 2015, with the paper's constants. One for each octave.
    """

    def __init__(self, *, mean: float = 0.9, square: float = 0.999) -> None:
        self._rates = (mean, square)
        self._moments: tuple[Tensor, Tensor] | None = None
        self._steps = 0

    def direction(self, gradient: Tensor) -> Tensor:
        """Where to go now, about 1 in each pixel where gradients agree."""
        first, second = self._rates
        mean, square = self._moments or (torch.zeros_like(gradient), torch.zeros_like(gradient))
        mean = mean.lerp(gradient, 1 - first)
        square = square.lerp(gradient.square(), 1 - second)
        self._moments, self._steps = (mean, square), self._steps + 1
        root = (square / (1 - second**self._steps)).sqrt()
        floor = max(1e-8 * float(root.mean()), torch.finfo(root.dtype).tiny)
        return mean / (1 - first**self._steps) / (root + floor)


def lbfgs(
    loss: Callable[[Tensor], tuple[float, Tensor]], start: Tensor, passes: int, first_step: float
) -> Tensor:
    """Go down a smooth loss from `start`, evaluating it `passes` times at most.

    `loss` gives its value and its gradient. The two-loop recursion of Nocedal & Wright ("Numerical
    Optimization", algorithm 7.4), with backtracking until the loss falls enough; the first step
    tried moves the average value by `first_step`. The loss never rises.
    """
    place = start
    value, gradient = loss(place)
    used = 1
    history: list[tuple[Tensor, Tensor]] = []
    while used < passes:
        direction = _newton_like(gradient, history)
        slope = _dot(gradient, direction)
        if not slope < 0:  # the memory misleads, or there is nowhere to go
            if not history:
                break
            history.clear()
            continue
        size = 1.0 if history else first_step / float(direction.abs().mean())
        while used < passes:
            tried = place + size * direction
            new_value, new_gradient = loss(tried)
            used += 1
            if new_value <= value + _DECREASE * size * slope:
                break
            size /= 2
        else:
            return place
        step, change = tried - place, new_gradient - gradient
        if _dot(step, change) > 1e-10 * _dot(change, change):
            history = [*history, (step, change)][-_MEMORY:]
        place, value, gradient = tried, new_value, new_gradient
    return place


def _newton_like(gradient: Tensor, history: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Minus the gradient times what the history says of the inverse Hessian."""
    direction, shares = -gradient, []
    for step, change in reversed(history):
        share = _dot(step, direction) / _dot(step, change)
        direction = direction - share * change
        shares.append(share)
    if history:
        step, change = history[-1]
        direction = direction * (_dot(step, change) / _dot(change, change))
    for (step, change), share in zip(history, reversed(shares), strict=True):
        direction = direction + (share - _dot(change, direction) / _dot(step, change)) * step
    return direction


def _dot(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum())
