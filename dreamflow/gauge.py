"""How strong a dream is meant to be, and how hard a carried one is to be dreamed for it.

A dream that is carried on loses some of its strength in every frame: to resampling, to occlusion,
to the pull of its colours. How much depends on the scene, and so does what a step gives back.
The strength to hold is that of a dream from scratch of the same preset. It is learnt where one is
made, the first frame of a shot, and again when the objectives or the light have changed much. The
energy of the layers, which every ascent step computes in any case, says how much is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dreamflow import objectives, warp
from dreamflow.color import ColorStatistics
from dreamflow.objectives import Features, LayerEnergy, Term

if TYPE_CHECKING:
    from dreamflow.ensemble import AnyExtractor

Energies = Mapping[tuple[int, str], float]
"""(octave, layer) -> mean square activation."""

_PATIENCE = 24
"""Frames at least before a gauge is learnt again: a whole dream that is not shown."""
_OTHER_WEIGHTS, _OTHER_LIGHT = 0.3, 1.5
"""What makes another objective (share of the weights that moved) and another light (factor)."""
_RESPONSE, _MOST = 2.0, 2.0
"""Of a step: change for a change of the energy by a factor e, and limit."""
_HEADROOM = 1.18
"""Over a dream from scratch, so that a decoded film is as strong as that was before it was encoded:
enlarging and encoding (x264, crf 15) take about a tenth of the energy. The rest is for shots whose
first frame falls short of those that follow. (Three clips with three seeds: 1.02 to 1.33 times the
dreams from scratch of all their frames; with 1.06 it was 0.96 to 1.24, and flicker the same.)"""
_LEAST_STEP = 0.85
"""A step that would be smaller than this is left out, its backward pass too."""


@dataclass(frozen=True)
class Gauge:
    """What a dream from scratch reached."""

    index: int
    """Source frame it was learnt on."""
    light: float
    """Standard deviation of that frame's lightness, L*."""
    weights: tuple[tuple[str, float], ...]
    """Of the layers in force there."""
    energies: tuple[tuple[int, str, float], ...]
    """(octave, layer, mean square activation) of the dream from scratch."""
    strength: float = 1.0
    """That of the preset there."""

    @property
    def targets(self) -> Energies:
        """What a carried dream is to have: as much, what the film will lose of it, and a little."""
        return {(octave, layer): energy * _HEADROOM for octave, layer, energy in self.energies}

    def holds_for(self, terms: Sequence[Term], source: Tensor, index: int) -> bool:
        """Whether a frame is still dreamed for about the same, in about the same light."""
        if index - self.index < _PATIENCE:
            return True
        light = _light(source)
        dark, bright = sorted((light, self.light))
        own, other = dict(self.weights), _weights(terms)
        moved = sum(abs(own.get(k, 0) - other.get(k, 0)) for k in own.keys() | other.keys())
        return bright <= _OTHER_LIGHT * dark and moved <= _OTHER_WEIGHTS


def learn(
    extractor: AnyExtractor,
    terms: Sequence[Term],
    octaves: Iterable[tuple[int, tuple[int, int]]],
    source: Tensor,
    dreamed: Tensor,
    index: int,
) -> Gauge:
    """What `dreamed`, from scratch, has at each of the `octaves`, given as `dream.octave_sizes`."""
    energies = []
    for octave, size in octaves:
        here = [t for t in objectives.at_octave(terms, octave) if isinstance(t, LayerEnergy)]
        if here:
            with torch.no_grad():
                features = extractor(warp.resize(dreamed, size), {term.layer for term in here})
            energies += [(octave, term.layer, float(term.score(features))) for term in here]
    return Gauge(index, _light(source), tuple(_weights(terms).items()), tuple(energies))


def _light(source: Tensor) -> float:
    """Never 0, so that it can be divided by."""
    return max(1.0, ColorStatistics.of(source).spread[0])


def _weights(terms: Sequence[Term]) -> dict[str, float]:
    return {" ".join(term.layers): term.weight for term in terms}


def shortfall(
    targets: Energies, octave: int, terms: Sequence[Term], features: Features
) -> float | None:
    """log(wanted / present energy), mean over the terms by weight; None where nothing is known."""
    missing = weights = 0.0
    for term in terms:
        if not isinstance(term, LayerEnergy):
            continue
        wanted = targets.get((octave, term.layer))
        if wanted and term.weight > 0:
            present = float(term.score(features).detach())
            if present > 0:
                missing += term.weight * math.log(wanted / present)
                weights += term.weight
    return missing / weights if weights else None


def size_of_step(missing: float | None) -> float:
    """What to multiply a step with: 1 where nothing is missing, 0 where there is enough."""
    if missing is None:
        return 1.0
    size = min(1 + _RESPONSE * missing, _MOST)
    return size if size >= _LEAST_STEP else 0.0
