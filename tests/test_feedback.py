"""What of the last dream enters the next frame."""

from __future__ import annotations

import pytest
import torch
from tiny import texture

from dreamflow import feedback
from dreamflow.feedback import Carry, soften
from dreamflow.flow import Correspondence
from dreamflow.settings import Follow

HEIGHT, WIDTH = 32, 40
SIZE = (HEIGHT, WIDTH)


def standing(reliable=1.0):
    mask = torch.full((1, 1, *SIZE), float(reliable))
    return Correspondence(torch.zeros(1, 2, *SIZE), mask)


def grey(level=0.5):
    return torch.full((1, 3, *SIZE), level)


def start(residual, correspondence=None, fps=30.0, reference=30.0, source=None, **follow):
    source = grey() if source is None else source
    carry = Carry(0, grey(), residual)
    settings = Follow(**({"decay": 1.0, "softness": 0} | follow))
    return feedback.follow(carry, source, correspondence or standing(), settings, reference / fps)


def test_the_residual_keeps_its_sign():
    signs = torch.linspace(-0.3, 0.3, WIDTH).expand(1, 3, *SIZE)
    torch.testing.assert_close(start(signs) - grey(), signs, rtol=0, atol=1e-5)
    assert torch.equal(start(signs, decay=0.5).sub(0.5).sign(), signs.sign())


def test_the_residual_is_added_to_the_new_source_not_to_the_old():
    source = texture(*SIZE)
    residual = torch.full((1, 3, *SIZE), 0.05)
    torch.testing.assert_close(start(residual, source=source), source + 0.05)


def test_the_residual_travels_with_what_it_was_dreamed_on():
    residual = torch.zeros(1, 3, *SIZE)
    residual[..., 10, 12] = 0.3
    flow = torch.tensor([-7.0, -3.0])[None, :, None, None].expand(1, 2, *SIZE)
    moved = start(residual, Correspondence(flow, torch.ones(1, 1, *SIZE))) - grey()
    assert (moved[0, 0] == moved.max()).nonzero().tolist() == [[13, 19]]
    assert float(moved.max()) == pytest.approx(0.3, abs=1e-3)


def test_nothing_of_the_old_dream_is_where_the_flow_cannot_be_believed():
    mask = torch.ones(1, 1, *SIZE)
    mask[..., :15] = 0
    flow = texture(HEIGHT, WIDTH)[:, :2] * 4
    for softness in (0, 1.5, 4):
        source = texture(*SIZE)
        found = start(
            torch.full((1, 3, *SIZE), 0.3), Correspondence(flow, mask), source=source,
            softness=softness,
        )  # fmt: skip
        assert torch.equal(found[..., :15], source[..., :15])
        assert float((found - source)[..., 30:].mean()) > 0.1


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
def test_decay_is_per_frame_at_the_reference_rate(fps):
    """One second keeps the same share at every rate."""
    residual = torch.full((1, 3, *SIZE), 0.4)
    for _ in range(int(fps)):
        residual = start(residual, fps=fps, decay=0.96) - grey()
    assert float(residual.mean()) == pytest.approx(0.4 * 0.96**30, rel=1e-3)


def test_the_start_image_is_clamped():
    bright = start(torch.full((1, 3, *SIZE), 0.9))
    dark = start(torch.full((1, 3, *SIZE), -0.9))
    assert float(bright.max()) == 1
    assert float(dark.min()) == 0


def test_a_softened_mask_only_loses():
    mask = torch.ones(1, 1, *SIZE)
    mask[..., 10:20] = 0
    soft = soften(mask, 2)
    assert torch.equal(soft[mask == 0], torch.zeros(HEIGHT * 10))
    assert bool((soft <= mask).all())
    assert float(soft[..., 35].min()) == pytest.approx(1, abs=1e-3)
    assert 0 < float(soft[..., 22].mean()) < 1


def test_a_mask_without_borders_stays_what_it_is():
    assert torch.equal(soften(torch.zeros(1, 1, *SIZE), 2), torch.zeros(1, 1, *SIZE))
    full = torch.ones(1, 1, *SIZE)
    torch.testing.assert_close(soften(full, 2), full)
    assert torch.equal(soften(full, 0), full)
