"""Clips whose true flow is known: a square that slides over a ground, and a turning, zooming view.

Convention. Frames are images `[1, 3, H, W]`; flows are `[1, 2, H, W]` as in `flow`, from frame t
back to t-1 on the grid of t. `uncovered` is what frame t shows and t-1 did not, bool `[H, W]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from tiny import texture
from torch import Tensor

from dreamflow import warp
from dreamflow.flow import FlowSource, correspond
from dreamflow.frames import Array, to_array


@dataclass(frozen=True)
class Truth:
    """A clip and what is known of it."""

    frames: list[Tensor]
    flow_to_previous: list[Tensor]
    """Of frames 1, 2, …"""
    uncovered: list[Tensor]
    """Of frames 1, 2, …"""

    def arrays(self) -> list[Array]:
        return [to_array(frame) for frame in self.frames]


def sliding_square(
    count: int,
    height: int = 120,
    width: int = 200,
    *,
    side: int = 48,
    speed: tuple[int, int] = (6, 2),
    place: tuple[int, int] = (24, 30),
    seed: int = 0,
) -> Truth:
    """A textured square at (x, y) `place` that moves `speed` pixels a frame over a still ground."""
    ground = texture(height, width, seed=seed + 1, sigma=2)
    square = texture(side, side, seed=seed + 2, sigma=2)
    frames, flows, uncovered, before = [], [], [], None
    for t in range(count):
        left, top = place[0] + speed[0] * t, place[1] + speed[1] * t
        there = torch.zeros(height, width, dtype=torch.bool)
        there[top : top + side, left : left + side] = True
        frame = ground.clone()
        frame[..., there] = square.flatten(2)
        frames.append(frame)
        if before is not None:
            back = -torch.tensor(speed, dtype=torch.float32)[None, :, None, None]
            flows.append(back * there)
            uncovered.append(before & ~there)
        before = there
    return Truth(frames, flows, uncovered)


def turning_zoom(
    count: int, height: int = 120, width: int = 200, *, degrees: float = 1.0, zoom: float = 1.01
) -> Truth:
    """A texture that turns and grows about the middle of the picture, by so much in each frame."""
    scene = texture(2 * height, 2 * width, seed=5, sigma=2.5)
    frames = [_viewed(scene, degrees * t, zoom**t, (height, width)) for t in range(count)]
    step = _about_the_middle(-degrees, 1 / zoom, (height, width))
    flow = step - _grid((height, width))
    inside = _inside(step, (height, width))
    return Truth(frames, [flow] * (count - 1), [~inside] * (count - 1))


def _viewed(scene: Tensor, degrees: float, zoom: float, size: tuple[int, int]) -> Tensor:
    to_scene = _about_the_middle(-degrees, 1 / zoom, size)
    offset = torch.tensor([size[1] / 2, size[0] / 2])[None, :, None, None]
    return warp.backward(scene, to_scene + offset - _grid(size)).clamp(0, 1)


def _grid(size: tuple[int, int]) -> Tensor:
    y, x = np.indices(size, np.float32)
    return torch.from_numpy(np.stack((x, y)))[None]


def _about_the_middle(degrees: float, zoom: float, size: tuple[int, int]) -> Tensor:
    """Where every pixel lands when the picture is turned and enlarged about its middle."""
    angle = np.deg2rad(degrees)
    turn = zoom * torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])[None, :, None, None]
    off = _grid(size) - middle
    return torch.einsum("ij,bjhw->bihw", turn.float(), off) + middle


def _inside(places: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = places[0]
    return (x >= 0) & (x <= size[1] - 1) & (y >= 0) & (y <= size[0] - 1)


@dataclass(frozen=True)
class Score:
    """How well a source of flow, and the mask drawn from it, do on a clip whose truth is known."""

    end_point_error: float
    """Mean length of found less true vector, pixels, where there is a true one, 8 px from the
    border (Otte & Nagel 1994; Middlebury's EPE)."""
    recall: float
    """Share of the uncovered pixels that the mask leaves out; NaN where nothing is uncovered."""
    precision: float
    """Share of what the mask leaves out that is uncovered, or within `TOLERANCE` px of it."""

    TOLERANCE: ClassVar[int] = 4


def score(truth: Truth, source: FlowSource) -> Score:
    """Over all frames of the clip but the first; a border of 8 px does not count."""
    errors, found, hidden, hits, near_hits = [], 0, 0, 0, 0
    inner = (slice(8, -8), slice(8, -8))
    for t in range(1, len(truth.frames)):
        given = correspond(source, truth.frames[t], truth.frames[t - 1], (t, t - 1))
        uncovered = truth.uncovered[t - 1]
        difference = given.flow_to_previous - truth.flow_to_previous[t - 1]
        errors.append(difference.norm(dim=1)[0][inner][~uncovered[inner]])
        masked = (given.reliable[0, 0] == 0)[inner]
        reach = 2 * Score.TOLERANCE + 1
        near = F.max_pool2d(uncovered[None].float(), reach, 1, Score.TOLERANCE)[0].bool()[inner]
        found += int(masked.sum())
        hidden += int(uncovered[inner].sum())
        hits += int((masked & uncovered[inner]).sum())
        near_hits += int((masked & near).sum())
    return Score(float(torch.cat(errors).mean()), _share(hits, hidden), _share(near_hits, found))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
