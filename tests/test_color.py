"""CIELAB there and back, and the pull towards another picture's colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import texture

from dreamflow.color import (
    ColorStatistics,
    _scale,
    _scale_with_opencv,
    from_lab,
    pull,
    to_lab,
)


def patch(red, green, blue):
    return torch.tensor([red, green, blue], dtype=torch.float32)[None, :, None, None]


def random_image(seed, height=16, width=20):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def statistics(image):
    return ColorStatistics.of(image)


@given(st.integers(0, 10**6))
def test_lab_there_and_back(seed):
    image = random_image(seed)
    torch.testing.assert_close(from_lab(to_lab(image)), image, rtol=0, atol=1e-4)


def test_lab_there_and_back_at_the_ends_and_the_knees_of_the_curves():
    values = torch.tensor([0, 1e-6, 1e-4, 0.0031308, 0.01, 0.04, 0.04045, 0.041, 0.5, 1.0])
    greys = values.expand(1, 3, 1, -1)
    torch.testing.assert_close(from_lab(to_lab(greys)), greys, rtol=0, atol=1e-4)


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
    torch.testing.assert_close(to_lab(patch(*color)), patch(*lab), rtol=0, atol=0.05)


def test_every_grey_has_no_colour():
    greys = torch.linspace(0, 1, 256).expand(1, 3, 1, -1)
    lab = to_lab(greys)
    assert float(lab[:, 1:].abs().max()) < 0.01
    assert bool((lab[0, 0, 0].diff() > 0).all())


def test_lab_is_that_of_opencv():
    image = random_image(0, 32, 32)
    pixels = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    theirs = torch.from_numpy(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)).permute(2, 0, 1)[None]
    torch.testing.assert_close(to_lab(image), theirs, rtol=0, atol=0.5)


def test_the_given_picture_is_left_as_it_was():
    image = random_image(0)
    before = image.clone()
    lab = to_lab(image)
    kept = lab.clone()
    from_lab(lab)
    assert torch.equal(image, before)
    assert torch.equal(lab, kept)


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
    torch.testing.assert_close(half.mean, (own.mean + anchor.mean) / 2, rtol=0, atol=0.1)
    torch.testing.assert_close(half.spread, (own.spread + anchor.spread) / 2, rtol=0.02, atol=0.1)


def test_a_spread_is_never_stretched():
    image = 0.4 + 0.2 * texture(32, 40, seed=1)
    anchor = statistics(texture(32, 40, seed=2))
    pulled = statistics(pull(image, anchor, 1))
    assert bool((anchor.spread > 1.5 * statistics(image).spread).all())
    torch.testing.assert_close(pulled.spread, statistics(image).spread, rtol=0.02, atol=0.05)


def test_its_own_anchor_does_not_change_a_picture():
    image = texture(32, 40)
    torch.testing.assert_close(pull(image, statistics(image), 1), image, rtol=0, atol=1e-3)


@pytest.mark.parametrize("image", [patch(0.5, 0.5, 0.5), patch(0, 0, 0), patch(1, 1, 1)])
def test_a_flat_picture_stays_flat_and_in_range(image):
    flat = image.expand(1, 3, 8, 8)
    pulled = pull(flat, statistics(texture(32, 40)), 1)
    assert float((pulled - pulled[..., :1, :1]).abs().max()) < 1e-3
    assert 0 <= float(pulled.min()) <= float(pulled.max()) <= 1


def test_the_result_stays_within_0_and_1():
    pulled = pull(random_image(0), statistics(random_image(1) ** 6), 1)
    assert 0 <= float(pulled.min()) <= float(pulled.max()) <= 1


def test_what_the_cpu_does_in_tables_is_what_the_formulas_do():
    image, anchor = random_image(0, 64, 64), statistics(texture(32, 40))
    gain, offset = 0.9 * torch.ones(1, 3, 1, 1), patch(2.0, 1.0, -1.0)
    quick, exact = (way(image, gain, offset).clamp(0, 1) for way in (_scale_with_opencv, _scale))
    torch.testing.assert_close(quick, exact, rtol=0, atol=5e-3)
    assert abs(float((quick - exact).mean())) < 1e-4
    assert not torch.equal(image, pull(image, anchor, 0.5))


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
    assert torch.equal(nowhere.mean, everywhere.mean)


def test_a_burnt_corner_is_pulled_back_by_its_own_colours():
    """Held against the whole frame, in which it hardly counts, it would stay as it is."""
    source = random_image(3, 64, 64) * 0.2 + 0.4
    burnt, shares = source.clone(), torch.zeros(1, 1, 64, 64)
    burnt[..., :16, :16] = patch(0.9, 0.1, 0.8)
    shares[..., :16, :16] = 1
    pulled = pull(burnt, ColorStatistics.of(source, shares), 1, shares)[..., :16, :16]
    wanted = source[..., :16, :16].mean(dim=(-2, -1))
    torch.testing.assert_close(pulled.mean(dim=(-2, -1)), wanted, rtol=0, atol=0.03)
