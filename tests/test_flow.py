"""The direction of the flow, and what the mask lets through."""

from __future__ import annotations

import pytest
import torch
from tiny import texture

from dreamflow import warp
from dreamflow.flow import FlowMethod, correspond, recognise

METHODS = ("dis", "farneback")
RIGHT, DOWN = 7, 3


def panned(height=96, width=128, right=RIGHT, down=DOWN):
    """(previous, current): a scene that moved right and down by so many pixels, no wrapping."""
    scene = texture(height + down, width + right, sigma=2)
    return scene[..., down:, right:], scene[..., :height, :width]


def passing_square(size=40, right=8):
    """(previous, current, uncovered, covered) of a square that moved right over another texture.

    `uncovered` is ground that only the current frame shows, `covered` what only the previous did.
    """
    ground, square = texture(96, 144, seed=1, sigma=2), texture(size, size, seed=2, sigma=2)
    top, left = 28, 40
    previous, current = ground.clone(), ground.clone()
    previous[..., top : top + size, left : left + size] = square
    current[..., top : top + size, left + right : left + right + size] = square
    uncovered, covered = torch.zeros(2, 96, 144, dtype=torch.bool)
    uncovered[top : top + size, left : left + right] = True
    covered[top : top + size, left + size : left + size + right] = True
    return previous, current, uncovered, covered


@pytest.mark.parametrize("name", METHODS)
def test_warping_the_previous_frame_by_the_flow_gives_the_current_one(name):
    previous, current = panned()
    found = correspond(FlowMethod(name), current, previous)
    valid = (..., slice(DOWN + 8, -8), slice(RIGHT + 8, -8))
    median = found.flow_to_previous[valid].flatten(2).median(dim=2).values[0]
    torch.testing.assert_close(median, torch.tensor([-RIGHT, -DOWN]).float(), rtol=0, atol=0.1)
    warped = warp.backward(previous, found.flow_to_previous)
    error = (warped - current)[valid].abs().mean()
    assert float(error) < 0.1 * float((previous - current)[valid].abs().mean())


@pytest.mark.parametrize("name", METHODS)
def test_almost_all_of_a_pan_can_be_believed_except_what_came_into_view(name):
    previous, current = panned()
    reliable = correspond(FlowMethod(name), current, previous).reliable[0, 0]
    assert float(reliable[DOWN + 8 : -8, RIGHT + 8 : -8].mean()) > 0.9
    assert float(reliable[: DOWN - 1].mean()) < 0.1
    assert float(reliable[:, : RIGHT - 1].mean()) < 0.1


def test_the_mask_covers_what_a_moving_square_uncovers_and_little_else():
    previous, current, uncovered, _ = passing_square()
    reliable = correspond(FlowMethod("dis"), current, previous).reliable[0, 0] > 0
    assert float((~reliable)[uncovered].float().mean()) >= 0.9
    assert float(reliable[~uncovered].float().mean()) >= 0.75


def test_what_is_masked_depends_on_the_direction_of_time():
    """The strip uncovered going forward is the strip covered going back."""
    previous, current, uncovered, covered = passing_square()
    back_in_time = correspond(FlowMethod("dis"), previous, current).reliable[0, 0] > 0
    assert float((~back_in_time)[covered].float().mean()) >= 0.9
    there = correspond(FlowMethod("dis"), current, previous).reliable[0, 0] > 0
    assert float(there[covered].float().mean()) > float(there[uncovered].float().mean()) + 0.5


def test_the_mask_never_touches_the_vectors():
    previous, current, *_ = passing_square()
    found = correspond(FlowMethod("dis"), current, previous)
    assert float(found.reliable.mean()) < 1
    assert torch.equal(found.flow_to_previous, FlowMethod("dis").between(current, previous))


def test_the_mask_is_0_or_1():
    previous, current, *_ = passing_square()
    reliable = correspond(FlowMethod("dis"), current, previous).reliable
    assert reliable.shape == (1, 1, 96, 144)
    assert set(reliable.unique().tolist()) <= {0, 0.5, 1}


def test_frames_with_nothing_in_common_are_hardly_believed():
    one, other = texture(96, 128, seed=1), texture(96, 128, seed=2)
    assert float(correspond(FlowMethod("dis"), one, other).reliable.mean()) < 0.6


def test_an_older_frame_is_believed_where_it_brings_the_same_colours():
    previous, current, uncovered, _ = passing_square()
    reliable = recognise(FlowMethod("dis"), current, previous).reliable[0, 0] > 0
    assert float((~reliable)[uncovered].float().mean()) >= 0.9
    assert float(reliable[~uncovered].float().mean()) >= 0.75


def test_of_an_older_frame_of_another_scene_hardly_anything_is_believed():
    one, other = texture(96, 128, seed=1), texture(96, 128, seed=2)
    assert float(recognise(FlowMethod("dis"), one, other).reliable.mean()) < 0.2


@pytest.mark.parametrize("name", [*METHODS, "none"])
def test_a_still_scene_is_believed_almost_everywhere(name):
    frame = texture(64, 80)
    assert float(correspond(FlowMethod(name), frame, frame).reliable.mean()) > 0.95
