"""Adam and L-BFGS: known minima, passes counted, and what they are for in a dream."""

from __future__ import annotations

import pytest
import torch
from tiny import TinyExtractor, texture

from dreamflow import networks, optimizers
from dreamflow.dream import dream
from dreamflow.objectives import LayerEnergy, Likeness
from dreamflow.optimizers import Adam
from dreamflow.scene import Scene
from dreamflow.settings import Dream, Regularize


def rosenbrock(place):
    leaf = place.detach().requires_grad_(True)
    value = 100 * (leaf[1] - leaf[0] ** 2) ** 2 + (1 - leaf[0]) ** 2
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient


def test_lbfgs_finds_the_end_of_a_bent_valley():
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    found = optimizers.lbfgs(rosenbrock, start, 80, 0.1)
    torch.testing.assert_close(found, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-3)


@pytest.mark.parametrize("passes", [1, 2, 3, 7, 20])
def test_lbfgs_never_evaluates_more_often_than_it_may_and_never_rises(passes):
    asked = []

    def loss(place):
        asked.append(1)
        return rosenbrock(place)

    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    found = optimizers.lbfgs(loss, start, passes, 0.1)
    assert len(asked) == passes
    assert rosenbrock(found)[0] <= rosenbrock(start)[0]


def test_lbfgs_stays_where_there_is_no_slope():
    def flat(place):
        return 0.0, torch.zeros_like(place)

    start = torch.ones(3)
    assert torch.equal(optimizers.lbfgs(flat, start, 10, 0.1), start)


def test_adams_first_step_is_the_sign_and_steady_gradients_keep_their_size():
    gradient = torch.tensor([3.0, -0.01, 0.0])
    adam = Adam()
    for _ in range(5):
        direction = adam.direction(gradient)
        torch.testing.assert_close(direction, gradient.sign(), rtol=0, atol=1e-4)


def test_adam_damps_what_changes_its_mind():
    adam = Adam()
    for step in range(20):
        direction = adam.direction(torch.tensor([1.0, (-1.0) ** step]))
    assert abs(float(direction[1])) < 0.2 * float(direction[0])


@pytest.mark.parametrize("optimizer", ["ascent", "adam", "lbfgs"])
def test_every_optimizer_raises_the_energy_in_as_many_passes_as_steps(optimizer):
    image, extractor = texture(48, 64), TinyExtractor()
    settings = Dream(octaves=2, steps=5, jitter=4, optimizer=optimizer)
    result = dream(image, extractor, [LayerEnergy("second")], settings)
    assert len(extractor.sides) == 10
    energy = [float(TinyExtractor()(each)["second"].square().mean()) for each in (image, result)]
    assert energy[1] > 1.05 * energy[0]
    assert result.min() >= 0
    assert result.max() <= 1


def test_lbfgs_enhances_further_than_ascent_in_equal_passes():
    """On `||f(x) - g f(x0)||²`, both at their best: the ascent with the best of several steps."""
    image = texture(64, 80, sigma=2)
    extractor = networks.build("squeezenet1_1", ["features.6"])
    term = Likeness("features.6", gain=1.5)
    unshaped = {"smoothing": 0, "spread": 0, "chroma": 1, "limit": 0, "octaves": 1, "jitter": 0}

    def loss(optimizer, step_size):
        settings = Dream(**unshaped, steps=16, step_size=step_size, optimizer=optimizer)
        result = dream(image, extractor, [term], settings)
        features = {**extractor(result), **Scene().at(image, [term], extractor).references}
        return -float(term.score(features))

    ascents = [loss("ascent", step_size) for step_size in (0.3, 0.6, 1.2, 2.5)]
    assert loss("lbfgs", 1.0) < 0.9 * min(ascents)


def test_lbfgs_counts_priors_in():
    image, extractor = texture(48, 64), TinyExtractor()
    settings = Dream(octaves=1, steps=12, optimizer="lbfgs")
    loose, held = (
        dream(image, extractor, [LayerEnergy("second")], settings,
              scene=Scene(regularize=Regularize(l2_source=weight)))
        for weight in (0.0, 5.0)
    )  # fmt: skip
    assert float((held - image).abs().mean()) < 0.5 * float((loose - image).abs().mean())
