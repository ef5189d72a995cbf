"""Priors: their gradients, what they pull towards, and that without one nothing changes."""

from __future__ import annotations

import pytest
import torch
from tiny import TinyExtractor, texture

from dreamflow import regularizers
from dreamflow.dream import dream
from dreamflow.objectives import LayerEnergy
from dreamflow.regularizers import PRIORS
from dreamflow.scene import Scene
from dreamflow.settings import Dream, Regularize

TERMS = [LayerEnergy("second")]
STEPS = Dream(octaves=2, steps=6, jitter=4)


def dreamed(**priors):
    scene = Scene(regularize=Regularize(**priors))
    return dream(texture(48, 64), TinyExtractor(), TERMS, STEPS, scene=scene)


def high(picture):
    """Energy of the finest detail."""
    return float(picture.diff(dim=-1).diff(dim=-1).square().mean())


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_the_gradient_of_every_prior_is_that_of_finite_differences(name, size):
    generator = torch.Generator().manual_seed(1)
    draw = {"generator": generator, "dtype": torch.float64}
    picture = torch.rand(1, 3, *size, **draw).requires_grad_(True)
    source = torch.rand(1, 3, *size, **draw)
    assert torch.autograd.gradcheck(lambda image: PRIORS[name](image, source), picture)


def test_the_spectrum_prior_is_the_energy_of_all_gratings():
    """By Parseval: a constant costs nothing, the finest grating its whole energy times four."""
    constant = torch.full((1, 3, 8, 8), 0.7)
    assert float(PRIORS["spectrum"](constant, constant)) == pytest.approx(0, abs=1e-9)
    grating = ((-1.0) ** torch.arange(8)).expand(1, 3, 8, 8)
    assert float(PRIORS["spectrum"](grating, grating)) == pytest.approx(4 * grating.numel())


@pytest.mark.parametrize("name", [*PRIORS, "blur", "laplacian", "decorrelate"])
def test_every_prior_has_its_setting_and_0_changes_no_bit(name):
    assert torch.equal(dreamed(**{name: 0.0}), dreamed())
    assert not torch.equal(dreamed(**{name: 1.0}), dreamed())


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_lowers_its_own_penalty_more_the_heavier_it_is(name):
    source = texture(48, 64)
    found = [float(PRIORS[name](dreamed(**{name: weight}), source)) for weight in (0.0, 0.5, 2.0)]
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize("name", PRIORS)
def test_the_heaviest_prior_does_not_overshoot(name):
    picture, source = texture(32, 32, sigma=0), texture(32, 32, seed=3)
    settings = Regularize(**{name: 10.0})
    before = float(PRIORS[name](picture, source))
    after = regularizers.settled(picture, source, settings, 0.25)
    assert float(PRIORS[name](after, source)) <= before


@pytest.mark.parametrize("name", ["total_variation", "spectrum", "blur"])
def test_what_keeps_grain_down_does(name):
    assert high(dreamed(**{name: 1.0})) < 0.8 * high(dreamed())


def test_the_dream_alone_is_blurred_and_not_the_scene():
    scene = Scene(regularize=Regularize(blur=3.0))
    checkers = 0.4 + 0.2 * (torch.arange(64) % 2).float().expand(1, 3, 48, 64)
    faint = STEPS.model_copy(update={"step_size": 0.01})
    result = dream(checkers, TinyExtractor(), TERMS, faint, scene=scene)
    torch.testing.assert_close(result, checkers, rtol=0, atol=1e-3)


def noise(height=32, width=48):
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(4))


def test_normalised_scales_are_of_one_strength():
    """White noise has most of its energy in the finest octave; brought to one, all have as much."""

    def energies(gradient):
        power = torch.fft.rfft2(gradient).abs().square().mean(dim=(0, 1))
        frequency = regularizers.frequencies(64, 96, gradient)
        bands = [(0.25, 0.5), (0.125, 0.25), (0.0625, 0.125)]
        return [float(power[(frequency > low) & (frequency <= top)].sum()) for low, top in bands]

    rough = noise(64, 96)
    before, after = energies(rough), energies(regularizers.evened_scales(rough, 1.0))
    assert before[0] > 10 * before[2]
    assert max(after) < 3 * min(after)


def test_decorrelated_colours_are_greyer_and_keep_their_sign():
    gradient = noise()
    plain = regularizers.decorrelated(gradient, 0.0)
    torch.testing.assert_close(plain, gradient)
    mixed = regularizers.decorrelated(gradient, 1.0)

    def colour(image):
        return float((image - image.mean(1, keepdim=True)).std() / image.mean(1).std())

    assert colour(mixed) < 0.3 * colour(gradient)
    assert float((mixed * gradient).sum()) > 0


def test_natural_steps_have_amplitudes_that_fall_with_the_frequency():
    amplitudes = torch.fft.rfft2(regularizers.natural(noise())).abs().mean(dim=(0, 1))
    frequency = regularizers.frequencies(32, 48, noise())
    low, high = (frequency > 0.04) & (frequency < 0.08), (frequency > 0.4) & (frequency < 0.5)
    ratio = float(amplitudes[low].mean() / amplitudes[high].mean())
    expected = float((1 / frequency[low]).mean() / (1 / frequency[high]).mean())
    assert ratio == pytest.approx(expected, rel=0.3)
