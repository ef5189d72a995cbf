"""Terms over features, and how they are mixed."""

from __future__ import annotations

import pytest
import torch

from dreamflow import objectives
from dreamflow.objectives import LayerEnergy
from dreamflow.settings import Objective


def features(scale_of_b=1.0):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(1, 4, 6, 8, generator=generator).requires_grad_(True)
    b = (scale_of_b * torch.randn(1, 4, 6, 8, generator=generator)).requires_grad_(True)
    return {"a": a, "b": b}


def gradients(terms, values):
    return torch.autograd.grad(objectives.total(terms, values), list(values.values()))


def test_terms_come_in_the_order_and_with_the_weights_of_the_preset():
    terms = objectives.build([Objective(layer="b", weight=2), Objective(layer="a")])
    assert terms == [LayerEnergy("b", 2), LayerEnergy("a", 1)]


def test_a_term_counts_in_its_octaves_only():
    low, high, both = (
        LayerEnergy("a", octaves=(0, 1)), LayerEnergy("b", octaves=(2,)), LayerEnergy("c")
    )  # fmt: skip
    at = [objectives.at_octave([low, high, both], octave) for octave in range(4)]
    assert at == [[low, both], [low, both], [high, both], [both]]
    (term,) = objectives.build([Objective(layer="a", octaves=(0, 1))])
    assert term == low


def test_the_energy_of_a_layer_is_its_mean_square():
    assert LayerEnergy("a").score({"a": torch.tensor([1.0, -2.0, 3.0])}).item() == pytest.approx(
        14 / 3
    )


def test_the_gradient_is_that_of_the_log_of_the_energy():
    values = features()
    found = gradients([LayerEnergy("a", 1.5), LayerEnergy("b", -1)], values)
    expected = [
        weight * 2 * value / value.square().sum()
        for weight, value in zip((1.5, -1), values.values(), strict=True)
    ]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.detach())


def test_a_layer_with_a_thousandfold_activations_does_not_drown_the_other():
    """Relative to the features' own size both pull as hard, whatever their units."""
    terms = [LayerEnergy("a"), LayerEnergy("b")]
    plain, scaled = features(), features(scale_of_b=1000)
    for values in (plain, scaled):
        pairs = zip(gradients(terms, values), values.values(), strict=True)
        pulls = [float((gradient * value.detach()).sum()) for gradient, value in pairs]
        assert pulls == pytest.approx([2, 2], rel=1e-4)


def test_a_silent_layer_gives_a_gradient_of_zero():
    silent = {"a": torch.zeros(1, 4, 6, 8, requires_grad=True)}
    (gradient,) = gradients([LayerEnergy("a")], silent)
    assert torch.equal(gradient, torch.zeros_like(gradient))
