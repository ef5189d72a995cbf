"""The two Gaussian blurs are one."""

from __future__ import annotations

import pytest
import torch
from tiny import texture

from dreamflow import filters
from dreamflow.filters import gaussian_blur

BLURS = [gaussian_blur, filters._blur_separably]
SIGMAS = [0.25, 0.5, 1, 2.3, 5]


def noise(channels=3, height=48, width=56):
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_both_implementations_agree(sigma, channels):
    image = noise(channels)
    one, other = (blur(image, sigma) for blur in BLURS)
    assert one.shape == other.shape == image.shape
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_point_becomes_a_gaussian(blur, sigma):
    image = torch.zeros(1, 1, 61, 61)
    image[..., 30, 30] = 1
    offsets = torch.arange(61.0) - 30
    bell = torch.exp(-0.5 * (offsets / sigma) ** 2)
    bell /= bell.sum()
    torch.testing.assert_close(blur(image, sigma)[0, 0], bell[:, None] * bell, rtol=0, atol=3e-4)


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 40), (48, 56)])
@pytest.mark.parametrize("sigma", [0.5, 4])
def test_a_flat_picture_stays_flat_at_any_size(blur, size, sigma):
    flat = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(1, 3, *size)
    torch.testing.assert_close(blur(flat, sigma), flat)


def test_the_mean_is_kept_where_the_borders_are_flat():
    image = torch.nn.functional.pad(noise(height=16, width=16), (24, 24, 24, 24))
    assert float(gaussian_blur(image, 4).sum()) == pytest.approx(float(image.sum()), abs=1e-3)


def test_sigma_0_is_the_very_picture():
    image = texture(8, 8)
    assert gaussian_blur(image, 0) is image


def test_the_given_picture_is_left_as_it_was_in_any_memory_order():
    image = texture(24, 32).contiguous(memory_format=torch.channels_last)
    before = image.clone()
    blurred = gaussian_blur(image, 2)
    assert torch.equal(image, before)
    torch.testing.assert_close(gaussian_blur(image.contiguous(), 2), blurred)
