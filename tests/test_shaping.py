"""The shape of a gradient: what a dream owes its natural colours and its even cover to."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from dreamflow import shaping
from dreamflow.settings import Dream
from dreamflow.shaping import shape_gradient

UNSHAPED = Dream(smoothing=0, spread=0, chroma=1, limit=0)


def noise(height=32, width=40):
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(5))


def shaped_by(gradient, **changes):
    return shape_gradient(gradient, UNSHAPED.model_copy(update=changes))


def test_a_gradient_can_be_taken_as_it_is():
    gradient = noise()
    assert torch.equal(shaped_by(gradient), gradient)


def test_no_value_of_the_gradient_exceeds_the_limit():
    spiky = noise() ** 5
    cap = 2 * float(spiky.abs().mean())
    assert float(spiky.abs().max()) > cap
    assert float(shaped_by(spiky, limit=2).abs().max()) == pytest.approx(cap)


@pytest.mark.parametrize("chroma", [0, 0.45, 1, 2])
def test_chroma_scales_colour_and_leaves_grey_alone(chroma):
    gradient = noise()
    shaped = shaped_by(gradient, chroma=chroma)
    grey = gradient.mean(1, keepdim=True)
    torch.testing.assert_close(shaped.mean(1, keepdim=True), grey, rtol=0, atol=1e-6)
    torch.testing.assert_close(shaped - grey, chroma * (gradient - grey), rtol=0, atol=1e-5)


def test_smoothing_lowers_fine_detail_and_keeps_the_mean():
    gradient = noise() + 1
    smooth = shaped_by(gradient, smoothing=2)
    assert float(smooth.std()) < 0.5 * float(gradient.std())
    assert float(smooth.mean()) == pytest.approx(float(gradient.mean()), abs=0.1)


def test_spread_lifts_faint_places_and_keeps_every_sign():
    gradient = noise(96, 192)
    gradient[..., 96:] *= 0.1

    def contrast(values):
        return float(values[..., :48].abs().mean() / values[..., 144:].abs().mean())

    evened = [shaped_by(gradient, spread=spread) for spread in (0, 0.5, 1)]
    assert contrast(evened[0]) > 1.5 * contrast(evened[1]) > 2 * contrast(evened[2])
    assert all(torch.equal(values.sign(), gradient.sign()) for values in evened)


def test_a_gradient_of_zero_stays_zero_in_every_shape():
    nothing = torch.zeros(1, 3, 24, 32)
    assert torch.equal(shape_gradient(nothing, Dream()), nothing)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (65, 1)])
@pytest.mark.parametrize("smoothing", [0, 1])
def test_the_smallest_gradients_are_shaped_too(size, smoothing):
    shaped = shaped_by(noise(*size), spread=0.6, chroma=0.4, smoothing=smoothing)
    assert tuple(shaped.shape[-2:]) == size
    assert bool(torch.isfinite(shaped).all())


@pytest.mark.parametrize("chroma", [0.4, 1.0])
@pytest.mark.parametrize("even", [False, True])
def test_mixing_and_capping_work_in_the_gradients_own_memory(chroma, even):
    gradient = noise(150, 90).contiguous(memory_format=torch.channels_last)
    cells = shaping.evening(gradient, 0.6) if even else None
    wanted = gradient.double()
    if cells is not None:
        few = torch.from_numpy(cells).permute(2, 0, 1)[None]
        factor = F.interpolate(few, scale_factor=8, mode="bilinear", align_corners=False)
        wanted *= factor[..., :150, :90]
    wanted = torch.lerp(wanted.mean(1, keepdim=True).expand_as(wanted), wanted, chroma)
    cap = 2 * float(wanted.abs().mean())
    before = gradient.data_ptr()
    found = shaping.mix_and_cap(gradient, cells, chroma, 2)
    assert found.data_ptr() == before
    torch.testing.assert_close(found.double(), wanted.clamp(-cap, cap), rtol=1e-5, atol=1e-6)


def test_bands_of_a_large_gradient_meet_without_a_seam():
    gradient = noise(800, 640).abs() + 0.1
    gradient[..., 300:, :] *= 4
    shaped = shaped_by(gradient, spread=0.8) / gradient  # the factors that each pixel had
    steps = (shaped[..., 1:, :].log() - shaped[..., :-1, :].log()).abs().amax(dim=(0, 1, 3))
    within_cells = steps[torch.arange(799) % 8 != 7].max()
    assert float(steps.max()) < 1.01 * float(within_cells)


def test_the_shape_is_the_same_however_its_parts_are_called():
    """As a tiled step blurs by the piece and does the rest on the whole."""
    gradient, settings = noise(90, 130), Dream()
    blurred = shaping.cascaded_blur(gradient, settings.smoothing)
    cells = shaping.evening(blurred, settings.spread)
    parts = shaping.mix_and_cap(blurred, cells, settings.chroma, settings.limit)
    assert torch.equal(parts, shape_gradient(gradient, settings))


def test_shaping_leaves_the_gradient_that_it_is_given():
    gradient = noise(64, 64).contiguous(memory_format=torch.channels_last)
    before = gradient.clone()
    for smoothing in (0.0, 1.0):
        shape_gradient(gradient, Dream(smoothing=smoothing))
    assert torch.equal(gradient, before)


def test_the_mean_size_is_exact_and_shows_what_is_no_number():
    gradient = noise(300, 90)
    exact = float(gradient.double().abs().mean())
    assert shaping.mean_size(gradient) == pytest.approx(exact, rel=1e-6)
    for wrong in (math.nan, math.inf):
        gradient[0, 1, 7, 7] = wrong
        assert not math.isfinite(shaping.mean_size(gradient))
