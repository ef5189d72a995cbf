"""What a dream is after: small terms over a dict of features, summed with weights.

A term scores the features of one forward pass in a unit of its own, held fixed, so that weights
mean the same on every layer of every network: the gradient of `E / |E|` with the divisor held
fixed is that of `log E`, and layers whose activations differ a thousandfold mix evenly. A class's
score may be of either sign; its unit is the spread of all classes' scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dreamflow import classes
from dreamflow.settings import ClassObjective, Objective

Features = Mapping[str, Tensor]
Octaves = tuple[int, ...] | Literal["all"]


@dataclass(frozen=True)
class LayerEnergy:
    """Mean square activation of a layer: the objective of Mordvintsev et al. 2015."""

    layer: str
    weight: float = 1.0
    octaves: Octaves = "all"
    """Those it is dreamed in, as `dream.octave_sizes` numbers them."""

    def score(self, features: Features) -> Tensor:
        return features[self.layer].square().mean()

    def unit(self, features: Features) -> Tensor:
        """What the score is counted in: its own present size."""
        return self.score(features).abs()


@dataclass(frozen=True)
class ClassScore:
    """A class's score before softmax: the objective of Simonyan, Vedaldi & Zisserman 2013.

    Before, since what softmax yields rises as well by drawing less of all other classes.
    """

    index: int
    """Its place among the scores (see `classes.index`)."""
    weight: float = 1.0
    octaves: Octaves = "all"
    layer: str = classes.LAYER

    def score(self, features: Features) -> Tensor:
        return features[self.layer][0, self.index]

    def unit(self, features: Features) -> Tensor:
        """What the score is counted in: the spread of all classes' scores."""
        return features[self.layer].std()


Term = LayerEnergy | ClassScore


def build(objectives: Sequence[Objective | ClassObjective]) -> list[Term]:
    """The terms of a preset's objectives, in order; what has no weight is left out."""
    return [_term(objective) for objective in objectives if objective.weight]


def _term(objective: Objective | ClassObjective) -> Term:
    weight, octaves = objective.weight, objective.octaves
    if isinstance(objective, ClassObjective):
        return ClassScore(objective.index, weight, octaves)
    return LayerEnergy(objective.layer, weight, octaves)


def at_octave(terms: Sequence[Term], octave: int) -> list[Term]:
    """Those of the terms that are dreamed in that octave."""
    return [term for term in terms if term.octaves == "all" or octave in term.octaves]


def share(terms: Sequence[Term]) -> float:
    """How much of a full step the terms ask for: all of it from a sum of weights of 1 upwards.

    Gradients are normalised, so that without it a lone term would enter at full strength however
    small its weight.
    """
    return min(1.0, sum(abs(term.weight) for term in terms))


def total(terms: Sequence[Term], features: Features) -> Tensor:
    """Weighted sum of all terms, each in its present unit; a scalar to ascend.

    Only its gradient means anything.
    """
    tiny = torch.finfo(torch.float32).tiny
    shares = [
        term.weight * term.score(features) / term.unit(features).detach().clamp(min=tiny)
        for term in terms
    ]
    return torch.stack(shares).sum()
