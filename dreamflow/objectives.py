"""What a dream is after: small terms over a dict of features, summed with weights.

A term scores the features of one forward pass in a unit of its own, held fixed, so that weights
mean the same on every layer of every network: the gradient of `E / |E|` with the divisor held
fixed is that of `log E`, and layers whose activations differ a thousandfold mix evenly. A score
that may be of either sign has another unit, which each states: the spread of all classes' scores,
or the root mean square of the features it is made of.

Features are `[B, C, h, w]` by layer; those of a picture that a term compares with are found by
(layer, picture).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dreamflow import classes, settings
from dreamflow.settings import AnyObjective

Reference = tuple[str, str]
"""A layer's features of another picture: (layer, name of the picture)."""
Features = Mapping[str | Reference, Tensor]
Octaves = tuple[int, ...] | Literal["all"]

SOURCE = "<source>"
"""What the frame without its dream is called among the pictures."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand, and what all kinds have in common."""

    weight: float = 1.0
    octaves: Octaves = "all"
    """Those it is dreamed in, as `dream.octave_sizes` numbers them."""
    mask: str = ""
    """Name of the mask that says where it is dreamed; empty for everywhere."""

    bounded: ClassVar[bool] = False
    """Whether 0 is the best score there is: the term is a distance with its sign turned."""
    aligned: ClassVar[bool] = False
    """Whether it matters where in the frame a feature is: jitter is to be undone first."""

    @property
    def layers(self) -> tuple[str, ...]:
        """What it looks at, as the extractor names it."""
        raise NotImplementedError

    @property
    def references(self) -> tuple[Reference, ...]:
        """Features of other pictures that it compares with."""
        return ()

    def score(self, features: Features) -> Tensor:
        """What rises as the picture becomes what the term is after; a scalar."""
        raise NotImplementedError

    def unit(self, features: Features) -> Tensor:
        """What the score is counted in: its own present size, unless a term says otherwise."""
        return self.score(features).abs()


@dataclass(frozen=True)
class OneLayer(Term):
    """A term over one layer."""

    layer: str

    @property
    def layers(self) -> tuple[str, ...]:
        """What it looks at, as the extractor names it."""
        return (self.layer,)


@dataclass(frozen=True)
class LayerEnergy(OneLayer):
    """Mean square activation of a layer: the objective of Mordvintsev et al. 2015."""

    def score(self, features: Features) -> Tensor:
        return features[self.layer].square().mean()


@dataclass(frozen=True)
class LayerMagnitude(OneLayer):
    """Mean absolute activation of a layer, the L1 norm: what is faint counts for more."""

    def score(self, features: Features) -> Tensor:
        return features[self.layer].abs().mean()


@dataclass(frozen=True)
class Channels(OneLayer):
    """Mean activation of channels of a layer: the channel objective of Olah et al. 2017.

    ("Feature Visualization", Distill.) Its unit is the root mean square of these channels.
    """

    channels: tuple[int, ...]

    def _chosen(self, features: Features) -> Tensor:
        return features[self.layer][:, list(self.channels)]

    def score(self, features: Features) -> Tensor:
        return self._chosen(features).mean()

    def unit(self, features: Features) -> Tensor:
        return self._chosen(features).square().mean().sqrt()


@dataclass(frozen=True)
class Neuron(OneLayer):
    """Activation of one channel at one place: the neuron objective of Olah et al. 2017.

    Its unit is the root mean square of the channel.
    """

    aligned: ClassVar[bool] = True

    channel: int
    x: float
    """Fraction of the width, from the left."""
    y: float
    """Fraction of the height, from the top."""

    def score(self, features: Features) -> Tensor:
        values = features[self.layer][:, self.channel]
        height, width = values.shape[-2:]
        row, column = min(int(self.y * height), height - 1), min(int(self.x * width), width - 1)
        return values[:, row, column].mean()

    def unit(self, features: Features) -> Tensor:
        return features[self.layer][:, self.channel].square().mean().sqrt()


@dataclass(frozen=True)
class Direction(OneLayer):
    """Mean dot product with a direction among the channels, times a power of the cosine.

    The directions and the factor, never under a tenth, are those of Olah et al. 2017 and of
    Carter et al. 2019 ("Activation Atlas"): without it what is merely strong wins. The unit is the
    mean length of the feature vectors.
    """

    vector: tuple[float, ...]
    """One number for each channel; its length does not matter."""
    cosine: float = 1.0

    def score(self, features: Features) -> Tensor:
        values = features[self.layer]
        direction = values.new_tensor(self.vector)
        direction = direction / direction.norm().clamp(min=torch.finfo(values.dtype).tiny)
        along = torch.einsum("bchw,c->bhw", values, direction)
        if self.cosine == 0:
            return along.mean()
        length = _lengths(values)
        return (along * (along / length).clamp(min=0.1) ** self.cosine).mean()

    def unit(self, features: Features) -> Tensor:
        return _lengths(features[self.layer]).mean()


def _lengths(values: Tensor) -> Tensor:
    """Of the feature vectors; never 0, where the root has no slope."""
    return (values.square().sum(dim=1) + torch.finfo(torch.float32).tiny).sqrt()


@dataclass(frozen=True)
class ClassScore(Term):
    """A class's score before softmax: the objective of Simonyan, Vedaldi & Zisserman 2013.

    Before, since what softmax yields rises as well by drawing less of all other classes. Its unit
    is the spread of all classes' scores.
    """

    index: int
    """Its place among the scores (see `classes.index`)."""
    layer: str = classes.LAYER

    @property
    def layers(self) -> tuple[str, ...]:
        """The pseudo layer that the scores are in."""
        return (self.layer,)

    def score(self, features: Features) -> Tensor:
        return features[self.layer][:, self.index].mean()

    def unit(self, features: Features) -> Tensor:
        return features[self.layer].std()


@dataclass(frozen=True)
class Target(Term):
    """How near the score of a term is to a value: gradient descent on the input until it is met.

    (Inverting what a network says, as in Mahendran & Vedaldi 2015, for a single number.) The unit
    is that of the term.
    """

    bounded: ClassVar[bool] = True

    of: Term
    value: float

    @property
    def layers(self) -> tuple[str, ...]:
        """Those of the term."""
        return self.of.layers

    @property
    def aligned(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the term is."""
        return self.of.aligned

    def score(self, features: Features) -> Tensor:
        return -(self.of.score(features) - self.value).abs()

    def unit(self, features: Features) -> Tensor:
        return self.of.unit(features)


@dataclass(frozen=True)
class Guide(OneLayer):
    """Mean dot product of each feature vector with the one of the guide that fits it best.

    The guided dream of Google's notebook (Mordvintsev, Olah & Tyka 2015): shapes of another picture
    wherever they are hinted at.
    """

    picture: str

    @property
    def references(self) -> tuple[Reference, ...]:
        """The guide's features."""
        return ((self.layer, self.picture),)

    def score(self, features: Features) -> Tensor:
        values = features[self.layer].flatten(2)
        guide = features[self.layer, self.picture].flatten(2)[0]
        return (guide.T @ values).amax(dim=1).mean() / len(guide)


@dataclass(frozen=True)
class Style(Term):
    """How far the Gram matrices of layers are from those of another picture, turned.

    The style loss of Gatys, Ecker & Bethge 2016 ("Image Style Transfer Using Convolutional Neural
    Networks"), relative to the size of the picture's own matrices; the mean over the layers.
    """

    bounded: ClassVar[bool] = True

    looks_at: tuple[str, ...]
    picture: str

    @property
    def layers(self) -> tuple[str, ...]:
        """What it looks at, as the extractor names it."""
        return self.looks_at

    @property
    def references(self) -> tuple[Reference, ...]:
        """The picture's features in all layers."""
        return tuple((layer, self.picture) for layer in self.layers)

    def score(self, features: Features) -> Tensor:
        return -torch.stack([self._distance(layer, features) for layer in self.layers]).mean()

    def _distance(self, layer: str, features: Features) -> Tensor:
        wanted = gram(features[layer, self.picture])
        size = wanted.square().sum().clamp(min=torch.finfo(torch.float32).tiny)
        return (gram(features[layer]) - wanted).square().sum(dim=(-2, -1)).mean() / size

    def unit(self, features: Features) -> Tensor:
        """1, as the score is relative already."""
        return torch.ones_like(features[self.layers[0]][0, 0, 0, 0])


def gram(values: Tensor) -> Tensor:
    """Mean products of channels with one another, `[B, C, C]`; the place is averaged away."""
    flat = values.flatten(2)
    return flat @ flat.mT / flat.shape[-1]


@dataclass(frozen=True)
class Likeness(OneLayer):
    """How far a layer's features are from `gain` times those of another picture, turned.

    With the frame itself and a gain it is `||f(x) - g f(x0)||²`, the "enhance" that was discussed
    for Caffe in 2015; with another picture and gain 1 the content loss of Gatys, Ecker & Bethge
    2016. The unit is the mean square of the features compared with.
    """

    bounded: ClassVar[bool] = True
    aligned: ClassVar[bool] = True

    picture: str = SOURCE
    gain: float = 1.0

    @property
    def references(self) -> tuple[Reference, ...]:
        """The other picture's features, place by place."""
        return ((self.layer, self.picture),)

    def score(self, features: Features) -> Tensor:
        wanted = self.gain * features[self.layer, self.picture]
        return -(features[self.layer] - wanted).square().mean()

    def unit(self, features: Features) -> Tensor:
        return features[self.layer, self.picture].square().mean()


@dataclass(frozen=True)
class Diversity(OneLayer):
    """How unlike the pictures of a batch are: less the mean cosine of their Gram matrices.

    The diversity term of Olah et al. 2017. A picture alone scores 0.
    """

    def score(self, features: Features) -> Tensor:
        grams = gram(features[self.layer]).flatten(1)
        count = len(grams)
        if count == 1:
            return 0 * grams.sum()
        unit_length = grams / (grams.square().sum(1, keepdim=True) + 1e-30).sqrt()
        return (count - unit_length.sum(0).square().sum()) / (count * (count - 1))

    def unit(self, features: Features) -> Tensor:
        """1, as cosines are of no unit."""
        return torch.ones_like(features[self.layer][0, 0, 0, 0])


# ── from the settings ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Builder:
    """Makes the terms of objectives, of one preset."""

    network: str = ""
    """The preset's own, whose layers keep their names."""
    directions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """What stands in the files that objectives name."""

    def terms(self, objectives: Sequence[AnyObjective]) -> list[Term]:
        """The terms of objectives, in order; what has no weight is left out."""
        return [self._term(objective) for objective in objectives if objective.weight]

    def key(self, objective: AnyObjective, layer: str) -> str:
        """What the extractor calls the layer."""
        return layer_key(layer, objective.network, self.network)

    def vector(self, objective: settings.DirectionObjective) -> tuple[float, ...]:
        """The numbers of a direction."""
        given = objective.direction
        return self.directions[given] if isinstance(given, str) else given

    def _term(self, objective: AnyObjective) -> Term:
        common: Any = {
            "weight": objective.weight,
            "octaves": objective.octaves,
            "mask": settings.mask_name(objective.mask),
        }
        keys = tuple(self.key(objective, layer) for layer in objective.layers)
        first = keys[0]
        match objective:
            case settings.Objective():
                return (LayerEnergy if objective.norm == "l2" else LayerMagnitude)(first, **common)
            case settings.ClassObjective():
                term = ClassScore(objective.index, first, **common)
                return _towards(term, objective.target)
            case settings.ChannelObjective():
                term = Channels(first, (objective.channel,), **common)
                return _towards(term, objective.target)
            case settings.ChannelsObjective():
                return Channels(first, objective.channels, **common)
            case settings.NeuronObjective():
                channel, x, y = objective.neuron
                return _towards(Neuron(first, int(channel), x, y, **common), objective.target)
            case settings.DirectionObjective():
                vector = self.vector(objective)
                return Direction(first, vector, objective.cosine, **common)
            case settings.GuideObjective():
                return Guide(first, objective.guide, **common)
            case settings.StyleObjective():
                return Style(keys, objective.style, **common)
            case settings.ContentObjective():
                return Likeness(first, objective.content, **common)
            case settings.EnhanceObjective():
                return Likeness(first, gain=objective.enhance, **common)
            case settings.DiversityObjective():
                return Diversity(first, **common)


def _towards(term: Term, target: float | None) -> Term:
    if target is None:
        return term
    common: Any = {"weight": term.weight, "octaves": term.octaves, "mask": term.mask}
    return Target(term, target, **common)


def layer_key(layer: str, network: str, own: str) -> str:
    """What a layer of `network` is called among the features of a preset whose own is `own`."""
    return f"{layer} of {network}" if network not in ("", own) else layer


def build(objectives: Sequence[AnyObjective]) -> list[Term]:
    """The terms of a preset's objectives that need no more than its own network."""
    return Builder().terms(objectives)


# ── summing up ───────────────────────────────────────────────────────────────────────────────────


def at_octave(terms: Sequence[Term], octave: int) -> list[Term]:
    """Those of the terms that are dreamed in that octave."""
    return [term for term in terms if term.octaves == "all" or octave in term.octaves]


def share(terms: Sequence[Term]) -> float:
    """How much of a full step the terms ask for: all of it from a sum of weights of 1 upwards.

    Gradients are normalised, so that without it a lone term would enter at full strength however
    small its weight.
    """
    return min(1.0, sum(abs(term.weight) for term in terms))


def total(
    terms: Sequence[Term], features: Features, units: Sequence[Tensor] | None = None
) -> Tensor:
    """Weighted sum of all terms, each in its present unit or in the one given; to ascend.

    In present units only its gradient means anything, and its distance to 0 where all terms are
    `bounded`.
    """
    tiny = torch.finfo(torch.float32).tiny
    units = [term.unit(features).detach() for term in terms] if units is None else units
    shares = [
        term.weight * term.score(features) / unit.clamp(min=tiny)
        for term, unit in zip(terms, units, strict=True)
    ]
    return torch.stack(shares).sum()
