"""Terms over features, and how they are mixed."""

from __future__ import annotations

import pytest
import torch

from dreamflow import classes, objectives
from dreamflow.objectives import ClassScore, LayerEnergy
from dreamflow.settings import ClassObjective, Objective


def features(scale_of_b=1.0):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(1, 4, 6, 8, generator=generator).requires_grad_(True)
    b = (scale_of_b * torch.randn(1, 4, 6, 8, generator=generator)).requires_grad_(True)
    return {"a": a, "b": b}


def gradients(terms, values):
    return torch.autograd.grad(objectives.total(terms, values), list(values.values()))


def test_terms_come_in_the_order_and_with_the_weights_of_the_preset():
    terms = objectives.build([Objective(layer="b", weight=2), Objective(layer="a")])
    assert terms == [LayerEnergy("b", weight=2), LayerEnergy("a", weight=1)]


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
    found = gradients([LayerEnergy("a", weight=1.5), LayerEnergy("b", weight=-1)], values)
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


def scores(*values):
    return {classes.LAYER: torch.tensor([values], dtype=torch.float64, requires_grad=True)}


def test_the_terms_of_classes_are_their_scores():
    (term,) = objectives.build([ClassObjective(**{"class": "goldfish", "weight": 2})])
    assert term == ClassScore(1, weight=2.0)
    assert term.score(scores(1.0, -3.0, 0.5)).item() == -3


def test_a_class_pulls_upwards_by_the_spread_of_all_scores_whatever_its_sign():
    for shift in (-50.0, 0.0, 50.0):
        values = scores(1.0 + shift, 2.0 + shift, 6.0 + shift)
        (gradient,) = gradients([ClassScore(1, weight=3.0)], values)
        spread = values[classes.LAYER].std().item()
        assert gradient[0].tolist() == pytest.approx([0, 3 / spread, 0])


def test_the_gradient_of_a_class_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 5),
    ).double()  # fmt: skip
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double()
    image = torch.rand(1, 3, 6, 7, generator=generator, dtype=torch.float64)
    unit = network(image).std().detach()

    def value(picture):
        return ClassScore(3, weight=1.5).score({classes.LAYER: network(picture)}) * 1.5 / unit

    leaf = image.clone().requires_grad_(True)
    total = objectives.total([ClassScore(3, weight=1.5)], {classes.LAYER: network(leaf)})
    (gradient,) = torch.autograd.grad(total, leaf)
    for place in [(0, 0, 0, 0), (0, 1, 3, 4), (0, 2, 5, 6)]:
        nudge = torch.zeros_like(image)
        nudge[place] = 1e-6
        with torch.no_grad():
            slope = (value(image + nudge) - value(image - nudge)) / 2e-6
        assert gradient[place].item() == pytest.approx(slope.item(), rel=1e-6)
