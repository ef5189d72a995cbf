"""CIELAB there and back, and the pull towards another picture's colours."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.color
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import texture

from dreamflow import color
from dreamflow.color import ColorStatistics, pull, to_lab, to_rgb, with_shoulders


def patch(red, green, blue):
    return torch.tensor([red, green, blue], dtype=torch.float32)[None, :, None, None]


def random_image(seed, height=16, width=20):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def statistics(image):
    return ColorStatistics.of(image)


@given(st.integers(0, 10**6))
def test_lab_there_and_back(seed):
    pixels = np.random.default_rng(seed).random((320, 3), np.float32)
    # At most 0.0055 off for twenty million colours.
    np.testing.assert_allclose(to_rgb(to_lab(pixels)), pixels, rtol=0, atol=8e-3)


@pytest.mark.parametrize(
    ("color", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_known_colours(color, lab):
    np.testing.assert_allclose(to_lab(np.float32([color]))[0], lab, rtol=0, atol=0.2)


def test_every_grey_has_no_colour():
    greys = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, axis=1)
    lab = to_lab(greys)
    assert abs(lab[:, 1:]).max() < 0.2
    assert (np.diff(lab[:, 0]) > 0).all()


# ── pull ──


def test_strength_0_is_the_very_picture():
    image = random_image(0)
    assert pull(image, statistics(texture(8, 8)), 0) is image


def test_strength_1_reaches_the_anchors_mean_and_its_smaller_spread():
    image = texture(32, 40, seed=1)
    anchor = statistics(0.4 + 0.2 * texture(32, 40, seed=2))
    pulled = statistics(pull(image, anchor, 1))
    torch.testing.assert_close(pulled.mean, anchor.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(pulled.spread, anchor.spread, rtol=0.02, atol=0.05)


def test_half_the_strength_goes_half_the_way():
    image, anchor = texture(32, 40, seed=1), statistics(0.4 + 0.2 * texture(32, 40, seed=2))
    half, own = statistics(pull(image, anchor, 0.5)), statistics(image)
    middle = own.towards(anchor, 0.5)
    torch.testing.assert_close(half.mean, middle.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(half.spread, middle.spread, rtol=0.02, atol=0.1)


def test_a_spread_is_never_stretched():
    image = 0.4 + 0.2 * texture(32, 40, seed=1)
    anchor = statistics(texture(32, 40, seed=2))
    own, pulled = statistics(image), statistics(pull(image, anchor, 1))
    assert min(np.divide(anchor.spread, own.spread)) > 1.5
    torch.testing.assert_close(pulled.spread, own.spread, rtol=0.02, atol=0.05)


def test_its_own_anchor_does_not_change_a_picture():
    image = texture(32, 40)
    torch.testing.assert_close(pull(image, statistics(image), 1), image, rtol=0, atol=1e-3)


@pytest.mark.parametrize("image", [patch(0.5, 0.5, 0.5), patch(0, 0, 0), patch(1, 1, 1)])
def test_a_flat_picture_stays_flat_and_in_range(image):
    flat = image.expand(1, 3, 8, 8)
    pulled = pull(flat, statistics(texture(32, 40)), 1)
    assert float((pulled - pulled[..., :1, :1]).abs().max()) < 1e-3
    assert 0 <= float(pulled.min()) <= float(pulled.max()) <= 1


@pytest.mark.parametrize("noise", [0.0, 1e-4, 2e-3])
def test_a_logo_on_a_nearly_flat_picture_moves_as_the_rest_does(noise):
    """No pixel of it is in the sample: what rounding leaves there must not be taken for a slope."""
    grains = torch.randn(1, 3, 720, 1280, generator=torch.Generator().manual_seed(0))
    image = 0.9 + noise * grains
    image[..., 301:314, 301:314] = torch.tensor([0.8, 0.1, 0.1])[None, :, None, None]
    own = statistics(image)
    lighter = ColorStatistics((own.mean[0] + 5, *own.mean[1:]), own.spread)
    moved = (pull(image, lighter, 1.0) - image)[0, :, 301:314, 301:314]
    assert float(moved.min()) > 0
    assert float(moved.max()) < 0.15


def test_the_result_stays_within_0_and_1():
    pulled = pull(random_image(0), statistics(random_image(1) ** 6), 1)
    assert 0 <= float(pulled.min()) <= float(pulled.max()) <= 1


def colored(seed):
    """A picture with red, green and blue places, none of them pure."""
    planes = [texture(48, 64, seed=seed + place)[:, :1] for place in range(3)]
    return 0.1 + 0.8 * torch.cat(planes, dim=1)


def exactly_pulled(image, anchor, strength):
    """Every pixel for itself, by scikit-image's CIELAB."""
    lab = skimage.color.rgb2lab(image[0].permute(1, 2, 0).double().numpy())
    mean, spread = lab.mean((0, 1)), lab.std((0, 1))
    gain = 1 + strength * (np.minimum(anchor.spread, spread) / spread - 1)
    moved = (lab - mean) * gain + mean + strength * (anchor.mean - mean)
    return torch.from_numpy(skimage.color.lab2rgb(moved)).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_the_affine_map_is_near_to_what_each_colour_would_become(strength):
    for seed in range(4):
        image, anchor = colored(seed), statistics(0.35 + 0.3 * colored(seed + 10))
        exact = exactly_pulled(image, anchor, strength)
        error, move = pull(image, anchor, strength) - exact, exact - image
        assert float(error.abs().mean()) < 0.15 * float(move.abs().mean())
        assert float(error.mean().abs()) < 0.002


@pytest.mark.parametrize("color", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)])
def test_a_pure_colour_among_others_stays_near_to_what_it_would_become(color):
    image = colored(4)
    image[..., 10:30, 10:30] = patch(*color)
    anchor = statistics(0.35 + 0.3 * colored(14))
    error = pull(image, anchor, 0.2) - exactly_pulled(image, anchor, 0.2)
    assert float(error.abs().max()) < 0.16


def test_pulled_again_and_again_a_picture_gets_where_it_is_pulled_to():
    image, anchor = colored(3), statistics(0.5 + 0.3 * colored(20))
    for _ in range(30):
        image = pull(image, anchor, 0.2)
    torch.testing.assert_close(statistics(image).mean, anchor.mean, rtol=0, atol=0.2)


def test_the_map_is_the_same_on_any_device():
    image, affine = (
        colored(5),
        np.array([[0.9, 0.1, 0, 0.02], [0, 1.1, -0.1, 0], [0.2, 0, 0.7, 0.05]]),
    )
    here, there = color._mapped(image, affine), color._mapped_with_torch(image, affine)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-6)


def test_a_hundred_pulls_that_change_nothing_leave_no_drift():
    image = texture(32, 40)
    pulled = image
    for _ in range(100):
        pulled = pull(pulled, statistics(image), 1)
    torch.testing.assert_close(pulled, image, rtol=0, atol=2e-3)


def test_places_count_by_their_shares():
    image, shares = random_image(1, 32, 40), torch.zeros(1, 1, 32, 40)
    shares[..., 4:20, 8:30] = 0.7
    own, cut = ColorStatistics.of(image, shares), statistics(image[..., 4:20, 8:30])
    torch.testing.assert_close((own.mean, own.spread), (cut.mean, cut.spread))


def test_where_no_place_counts_all_of_them_do():
    image = random_image(2)
    nowhere, everywhere = ColorStatistics.of(image, torch.zeros(1, 1, 16, 20)), statistics(image)
    assert nowhere == everywhere


def test_a_burnt_corner_is_pulled_back_by_its_own_colours():
    """Held against the whole frame, in which it hardly counts, it would stay as it is."""
    source = random_image(3, 64, 64) * 0.2 + 0.4
    burnt, shares = source.clone(), torch.zeros(1, 1, 64, 64)
    burnt[..., :16, :16] = patch(0.9, 0.1, 0.8)
    shares[..., :16, :16] = 1
    pulled = pull(burnt, ColorStatistics.of(source, shares), 1, shares)[..., :16, :16]
    wanted = source[..., :16, :16].mean(dim=(-2, -1))
    torch.testing.assert_close(pulled.mean(dim=(-2, -1)), wanted, rtol=0, atol=0.03)


# ── shoulders ──


def test_shoulders_leave_the_middle_and_bend_both_ends_before_they_are_reached():
    values = torch.linspace(-0.1, 1.1, 1201).expand(1, 3, 1, -1)
    bent = with_shoulders(values)[0, 0, 0]
    middle = (values[0, 0, 0] - 0.5).abs() <= 0.48
    torch.testing.assert_close(bent[middle], values[0, 0, 0][middle], rtol=0, atol=1e-6)
    assert 0 < float(bent.min()) < float(bent.max()) < 1
    assert bool((bent.diff() > 0).all())
    torch.testing.assert_close(bent, 1 - bent.flip(0), rtol=0, atol=1e-6)


def test_shoulders_have_no_corner():
    values = torch.linspace(0, 0.04, 401).expand(1, 3, 1, -1)
    slopes = with_shoulders(values)[0, 0, 0].diff() / 1e-4
    assert float(slopes.diff().abs().max()) < 0.02
