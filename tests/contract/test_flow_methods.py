"""What every flow method promises."""

from __future__ import annotations

import pytest
import torch
from tiny import texture

from dreamflow.flow import METHODS, FlowMethod

FOLLOWING = [name for name in METHODS if name != "none"]
SIZES = [(1, 1), (2, 2), (1, 50), (50, 1), (17, 13), (57, 101), (48, 48), (48, 854), (255, 3)]
"""(height, width)"""


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> FlowMethod:
    return FlowMethod(request.param)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_is_taken_and_given_back(method, size):
    flow = method.between(texture(*size, seed=1), texture(*size, seed=2))
    assert flow.shape == (1, 2, *size)
    assert flow.dtype == torch.float32
    assert bool(flow.isfinite().all())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_identical_frames_have_no_flow(method, size):
    """Farnebäck's is up to a tenth of a pixel along the right and lower border."""
    frame = texture(*size)
    assert float(method.between(frame, frame).abs().max()) < 0.15
    assert float(method.between(frame, frame).abs().mean()) < 0.02


def test_flat_frames_have_no_flow(method):
    dark, light = torch.full((1, 3, 50, 60), 0.2), torch.full((1, 3, 50, 60), 0.3)
    assert float(method.between(dark, light).abs().max()) < 0.01


@pytest.mark.parametrize("name", FOLLOWING)
@pytest.mark.parametrize("shift", [(7, 3), (-4, 0), (0, -5), (-2, 6)], ids=str)
def test_a_known_shift_is_found_with_its_sign(name, shift):
    """The scene moves by (right, down): the first frame's pixel p is at p + shift."""
    right, down = shift
    scene = texture(120, 160, sigma=2)
    first = scene[..., 10:106, 10:138]
    second = scene[..., 10 - down : 106 - down, 10 - right : 138 - right]
    flow = FlowMethod(name).between(first, second)[..., 12:-12, 12:-12]
    expected = torch.tensor([right, down], dtype=torch.float32)[None, :, None, None]
    assert float((flow - expected).abs().mean()) < 0.25


@pytest.mark.parametrize("name", FOLLOWING)
def test_a_shift_is_found_in_pictures_that_must_be_padded(name):
    scene = texture(40, 60, sigma=2)
    flow = FlowMethod(name).between(scene[..., 4:34, 4:44], scene[..., 4:34, 2:42])
    assert float(flow[:, 0, 8:-8, 8:-8].median()) == pytest.approx(2, abs=0.3)
    assert float(flow[:, 1, 8:-8, 8:-8].median()) == pytest.approx(0, abs=0.3)


def test_the_same_frames_give_the_same_bits_whatever_came_before(method):
    one, other = texture(57, 101, seed=1), texture(57, 101, seed=2)
    first = method.between(one, other)
    method.between(texture(64, 80, seed=3), texture(64, 80, seed=4))
    method.between(other, one)
    assert torch.equal(method.between(one, other), first)
    assert torch.equal(FlowMethod(method.name).between(one, other), first)


def test_an_answer_is_not_overwritten_by_the_next(method):
    one, other = texture(57, 101, seed=1), texture(57, 101, seed=2)
    first = method.between(one, other)
    kept = first.clone()
    method.between(other, one)
    assert torch.equal(first, kept)


def test_frames_are_left_as_they_were_in_any_memory_order(method):
    one, other = texture(57, 101, seed=1), texture(57, 101, seed=2)
    before = one.clone()
    flow = method.between(one, other)
    assert torch.equal(one, before)
    reordered = one.contiguous(memory_format=torch.channels_last)
    assert torch.equal(method.between(reordered, other), flow)
