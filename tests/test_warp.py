"""Moving pictures along vectors and changing their size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import texture

from dreamflow import warp

MODES = ("bilinear", "bicubic")


def constant_flow(height, width, right, down):
    return torch.tensor([right, down], dtype=torch.float32)[:, None, None].expand(
        1, 2, height, width
    )


def smooth_flow(height, width, seed, longest):
    """Soft random vectors of at most `longest` pixels each way."""
    coarse = torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return longest * torch.nn.functional.interpolate(
        coarse, (height, width), mode="bilinear", align_corners=True
    )


def inverse(flow):
    """The flow that leads back: g(p) = -f(p + g(p)), by iteration."""
    back = -flow
    for _ in range(20):
        back = -warp.backward(flow, back, mode="bilinear")
    return back


# ── along vectors ──


@pytest.mark.parametrize("mode", MODES)
def test_a_flow_of_whole_pixels_is_a_shift_right_then_down(mode):
    image = texture(24, 32, sigma=0)
    right, down = 5, -3
    moved = warp.backward(image, constant_flow(24, 32, right, down), mode)
    expected = image[..., : 24 + down, right:]
    torch.testing.assert_close(moved[..., -down:, : 32 - right], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(24, 32), (1, 1), (1, 9), (7, 1)])
def test_no_flow_changes_nothing(mode, size):
    image = texture(*size, sigma=0)
    moved = warp.backward(image, constant_flow(*size, 0, 0), mode)
    torch.testing.assert_close(moved, image, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_half_a_pixel_lies_between_its_neighbours(mode):
    ramp = torch.arange(16.0).expand(1, 1, 4, 16)
    moved = warp.backward(ramp, constant_flow(4, 16, 0.5, 0), mode)
    torch.testing.assert_close(moved[..., 2:-2], ramp[..., 2:-2] + 0.5)


@pytest.mark.parametrize("mode", MODES)
def test_the_border_colour_continues_outside(mode):
    image = texture(12, 16, sigma=0)
    above_left = warp.backward(image, constant_flow(12, 16, -1000, -1000), mode)
    below_right = warp.backward(image, constant_flow(12, 16, 1000, 1000), mode)
    torch.testing.assert_close(above_left, image[..., :1, :1].expand_as(image))
    torch.testing.assert_close(below_right, image[..., -1:, -1:].expand_as(image))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_there_and_back_is_where_it_began(seed, longest):
    image = texture(40, 48, sigma=3)
    flow = smooth_flow(40, 48, seed, longest)
    returned = warp.backward(warp.backward(image, flow), inverse(flow))
    centre = (..., slice(10, 30), slice(10, 38))
    error = (returned - image)[centre].square().mean().sqrt()
    assert float(error) < 0.02 * float(image.std())


def test_the_sampled_picture_may_have_another_size_than_the_flow():
    image = texture(12, 16)
    assert warp.backward(image, torch.zeros(1, 2, 5, 7)).shape == (1, 3, 5, 7)


def test_bicubic_keeps_more_detail_than_bilinear_over_generations():
    image = texture(32, 32, sigma=1)
    there, back = constant_flow(32, 32, 0.5, 0.5), constant_flow(32, 32, -0.5, -0.5)

    def wander(mode):
        wandered = image
        for _ in range(3):
            wandered = warp.backward(warp.backward(wandered, there, mode), back, mode)
        return float((wandered - image)[..., 8:-8, 8:-8].abs().mean())

    assert wander("bicubic") < 0.5 * wander("bilinear")


def test_the_same_size_returns_the_very_picture():
    image = texture(12, 16)
    assert warp.resize(image, (12, 16)) is image


@pytest.mark.parametrize("size", [(24, 32), (7, 9), (1, 1), (13, 40)])
def test_a_flat_colour_stays_what_it_is_at_any_size(size):
    flat = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(1, 3, 12, 16)
    resized = warp.resize(flat, size)
    assert resized.shape == (1, 3, *size)
    torch.testing.assert_close(resized, flat[..., :1, :1].expand(1, 3, *size))


def test_shrinking_averages_instead_of_picking_pixels():
    stripes = (torch.arange(48) % 2).float().expand(1, 3, 48, 48)
    shrunk = warp.resize(stripes, (16, 16))[..., 2:-2]
    torch.testing.assert_close(shrunk, torch.full_like(shrunk, 0.5), rtol=0, atol=0.1)


def lines(height, width):
    """White ones of a pixel's width, the hardest there are."""
    picture = torch.zeros(1, 3, height, width)
    picture[..., ::7, :] = picture[..., ::5] = 1
    return picture


@pytest.mark.parametrize(("drawn", "levels"), [(lines, 1.5), (texture, 0.5)])
def test_what_is_shrunk_in_levels_is_what_is_shrunk_in_numbers(drawn, levels):
    picture = drawn(90, 160)
    small, exact = (each(picture, (54, 96)) for each in (warp.shrink, warp.resize))
    assert small.min() >= 0
    assert small.max() <= 1
    assert (small - exact.clamp(0, 1)).abs().mean() < levels / 255


def test_enlarging_does_not_move_the_picture():
    """Pixel areas are aligned, so the centre of a blob stays at the same share of the width."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    blob = torch.exp(-((x - 15) ** 2 + (y - 6) ** 2) / 8)[None, None]
    large = warp.resize(blob, (48, 72))
    across = (large * (torch.arange(72) + 0.5)).sum() / large.sum() / 72
    down = (large * (torch.arange(48) + 0.5)[:, None]).sum() / large.sum() / 48
    assert float(across) == pytest.approx(15.5 / 24, abs=1e-3)
    assert float(down) == pytest.approx(6.5 / 16, abs=1e-3)
