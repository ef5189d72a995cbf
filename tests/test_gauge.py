"""How strong a dream is to be, and how large a step that takes."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from tiny import TinyExtractor, still_clip, texture

from dreamflow import gauge, preset
from dreamflow.gauge import shortfall, size_of_step
from dreamflow.job import prepare
from dreamflow.objectives import ClassScore, LayerEnergy
from dreamflow.render import render


def test_nothing_missing_is_a_full_step_and_more_than_enough_is_none():
    assert size_of_step(None) == 1
    assert size_of_step(0.0) == 1
    assert size_of_step(-1.0) == 0
    assert 1 < size_of_step(0.1) < size_of_step(10.0) <= 2


def test_the_shortfall_is_the_mean_over_terms_by_weight():
    features = TinyExtractor()(texture(32, 32))
    terms = [LayerEnergy("first", weight=1.0), LayerEnergy("second", weight=3.0)]
    has = {term.layer: float(term.score(features)) for term in terms}
    targets = {(0, "first"): has["first"] * math.e, (0, "second"): has["second"]}
    assert shortfall(targets, 0, terms, features) == pytest.approx(0.25, abs=1e-4)
    assert shortfall(targets, 1, terms, features) is None


def test_what_has_no_energy_to_hold_is_left_alone():
    features = TinyExtractor()(texture(32, 32))
    assert shortfall({}, 0, [LayerEnergy("first")], features) is None
    suppressed = [LayerEnergy("first", weight=-1.0), ClassScore(3)]
    assert shortfall({(0, "first"): 1.0}, 0, suppressed, features) is None


def test_a_gauge_is_the_energy_of_the_dream_at_every_octave():
    extractor, source, dreamed = TinyExtractor(), texture(32, 40), texture(32, 40, seed=1)
    terms = [LayerEnergy("first", octaves=(0,)), LayerEnergy("second")]
    sizes = [(1, (16, 20)), (0, (32, 40))]
    learnt = gauge.learn(extractor, terms, sizes, source, dreamed, 7)
    assert learnt.index == 7
    assert set(learnt.targets) == {(1, "second"), (0, "first"), (0, "second")}
    expected = float(terms[1].score(extractor(dreamed)))
    assert learnt.energies[-1] == (0, "second", pytest.approx(expected))


def test_a_carried_dream_grows_a_little_over_a_fresh_one_and_no_further():
    """By what its film loses when it is encoded, and a little for an unlucky first frame."""
    look = preset.load("base", overrides=["dream.size=160"])
    engine = prepare(look, Fraction(25), "cpu", 2)
    frames = list(render(still_clip(16, 96, 160), engine))

    def energy(frame):
        features = engine.extractor(frame.carry.source + frame.carry.residual)
        return float(engine.terms[0].score(features))

    first, *carried = [energy(frame) for frame in frames]
    assert all(1.02 * first < each < 1.5 * first for each in carried)
    assert 1.21 * first < sum(carried) / len(carried) < 1.4 * first
