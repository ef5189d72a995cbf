"""Clips whose flow is known: the default method finds it, and no dream trails behind what moves."""

from __future__ import annotations

import pytest
import torch
from synthetic import Truth, score, sliding_square, turning_zoom
from tiny import TinyExtractor, make_engine, make_preset

from dreamflow import warp
from dreamflow.feedback import Carry
from dreamflow.flow import create
from dreamflow.render import render
from dreamflow.settings import Follow

DEFAULT = create(Follow())


@pytest.mark.parametrize("truth", [sliding_square(4), turning_zoom(4)], ids=["square", "zoom"])
def test_the_true_flow_makes_each_frame_of_the_one_before_it(truth: Truth):
    for t in range(1, 4):
        warped = warp.backward(truth.frames[t - 1], truth.flow_to_previous[t - 1])
        off = (warped - truth.frames[t]).abs()[..., ~truth.uncovered[t - 1]]
        assert float(off.mean()) < 0.005


def test_what_a_moving_square_uncovers_is_masked_and_its_motion_found():
    found = score(sliding_square(4), DEFAULT)
    assert found.recall >= 0.9
    assert found.precision >= 0.55
    assert found.end_point_error < 0.6


def test_the_flow_of_a_turning_zoom_is_found():
    assert score(turning_zoom(4), DEFAULT).end_point_error < 0.2


def trailing(speed: tuple[int, int]) -> tuple[Truth, list[torch.Tensor]]:
    """A dream of 0.3 that lies on the square alone, carried along without being dreamed on.

    The residuals of frames 1, 2, …
    """
    truth = sliding_square(7, side=40, speed=speed)
    still = {"dream": {"steps": 0}, "color": {"anchor": "none"}}
    follow = {"steps": 0, "decay": 1.0, "restart": 0.0}
    engine = make_engine(make_preset(**still, follow=follow), extractor=TinyExtractor())
    arrays = truth.arrays()
    left, top = 24, 30
    residual = torch.zeros_like(truth.frames[0])
    residual[..., top : top + 40, left : left + 40] = 0.3
    carry = Carry(0, truth.frames[0], residual)
    frames = render(arrays[1:], engine, first_index=1, carry=carry)
    return truth, [frame.carry.residual for frame in frames]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("speed", "most"), [((6, 2), 0.05), ((3, 0), 0.05), ((2, 1), 0.1), ((10, -2), 0.05)], ids=str
)
def test_no_dream_trails_behind_a_moving_square(speed, most):
    """Three frames after a strip was uncovered, nothing of the square's dream is in it.

    Of one two pixels wide, as wide as a mask's soft border, a tenth may be left.
    """
    truth, residuals = trailing(speed)
    for t in range(1, 4):
        strip = truth.uncovered[t - 1]
        left_behind = residuals[t + 2][..., strip].abs().mean()
        assert float(left_behind) < most * 0.3
    x, y = (24 + 6 * speed[0], 30 + 6 * speed[1])
    on_square = residuals[-1][..., y + 12 : y + 28, x + 12 : x + 28]
    assert float(on_square.mean()) > 0.8 * 0.3
