"""What a dream is after: small terms over a dict of features, summed with weights.

A term scores the features of one forward pass. Each is divided by its own present value, so that
weights mean the same on every layer of every network: the gradient of `E / |E|` with the divisor
held fixed is that of `log E`, and layers whose activations differ a thousandfold mix evenly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dreamflow.settings import Objective

Features = Mapping[str, Tensor]


@dataclass(frozen=True)
class LayerEnergy:
    """Mean square activation of a layer: the objective of Mordvintsev et al. 2015."""

    layer: str
    weight: float = 1.0
    octaves: tuple[int, ...] | Literal["all"] = "all"
    """Those it is dreamed in, as `dream.octave_sizes` numbers them."""

    def score(self, features: Features) -> Tensor:
        return features[self.layer].square().mean()


def build(objectives: Sequence[Objective]) -> list[LayerEnergy]:
    """The terms of a preset's objectives, in order; what has no weight is left out."""
    return [LayerEnergy(o.layer, o.weight, o.octaves) for o in objectives if o.weight]


def at_octave(terms: Sequence[LayerEnergy], octave: int) -> list[LayerEnergy]:
    """Those of the terms that are dreamed in that octave."""
    return [term for term in terms if term.octaves == "all" or octave in term.octaves]


def share(terms: Sequence[LayerEnergy]) -> float:
    """How much of a full step the terms ask for: all of it from a sum of weights of 1 upwards.

    Gradients are normalised, so that without it a lone term would enter at full strength however
    small its weight.
    """
    return min(1.0, sum(abs(term.weight) for term in terms))


def total(terms: Sequence[LayerEnergy], features: Features) -> Tensor:
    """Weighted sum of all terms, each relative to its own present value; a scalar to ascend.

    The value is the sum of weights by construction; only its gradient means anything.
    """
    scores = [(term.weight, term.score(features)) for term in terms]
    tiny = torch.finfo(torch.float32).tiny
    relative = [weight * score / score.detach().abs().clamp(min=tiny) for weight, score in scores]
    return torch.stack(relative).sum()
