"""What every source of flow promises: all that search, a cache in front of one, and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flows import install_raft, write_pan
from tiny import texture

from dreamflow import warp
from dreamflow.flow import METHODS, FlowMethod, FlowSource
from dreamflow.flow_cache import FlowCache
from dreamflow.flow_files import FlowFiles

QUALITIES = ("ultrafast", "fast", "medium", "fine")
RAFTS = ("raft_small", "raft_large")
SEEING = [*(f"dis {quality}" for quality in QUALITIES), "dis at 64", "farneback", "cache"]
"""What finds motion in pictures. RAFT does not here, as its weights are random."""
SEARCHING = [*SEEING, *RAFTS, "none"]
SIZES = [(1, 1), (2, 2), (1, 50), (50, 1), (17, 13), (57, 101), (48, 48), (48, 854), (255, 3)]
"""(height, width)"""

Make = Callable[[str], FlowSource]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    def made(name: str) -> FlowSource:
        kind, *more = name.split()
        if kind == "cache":
            return FlowCache(FlowMethod("dis"), tmp_path / "kept")
        if kind in RAFTS:
            install_raft(tmp_path, kind, monkeypatch)
        if "at" in more:
            return FlowMethod(kind, size=int(more[-1]))
        return FlowMethod(kind, quality=more[0]) if more else FlowMethod(kind)

    return made


def test_the_contract_covers_all_methods():
    assert set(METHODS) == {name.split()[0] for name in SEARCHING} - {"cache"}


@pytest.mark.parametrize("name", SEARCHING)
def test_any_size_is_taken_and_given_back(make, name):
    source = make(name)
    # A network works hardest where it pads most: for it one such size, and one that is not padded.
    sizes = [(1, 1), (50, 1), (136, 128)] if name in RAFTS else SIZES
    for size in sizes:
        one, other = texture(*size, seed=1), texture(*size, seed=2)
        for flow in source.both_ways(one, other):
            assert flow.shape == (1, 2, *size)
            assert flow.dtype == torch.float32
            assert bool(flow.isfinite().all())


@pytest.mark.parametrize("name", [*SEEING, "none"])
def test_identical_frames_have_no_flow(make, name):
    """Farnebäck's is up to a tenth of a pixel along the right and lower border."""
    source = make(name)
    for size in SIZES:
        frame = texture(*size)
        flow = source.between(frame, frame).abs()
        assert float(flow.max()) < 0.15
        assert float(flow.mean()) < 0.02


@pytest.mark.parametrize("name", [*SEEING, "none"])
def test_flat_frames_have_no_flow(make, name):
    dark, light = torch.full((1, 3, 50, 60), 0.2), torch.full((1, 3, 50, 60), 0.3)
    assert float(make(name).between(dark, light).abs().max()) < 0.01


def shifted(right: int, down: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two frames of a scene that moves by (right, down): the first one's p is at p + shift."""
    scene = texture(120, 160, sigma=2)
    first = scene[..., 10:106, 10:138]
    return first, scene[..., 10 - down : 106 - down, 10 - right : 138 - right]


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.parametrize("shift", [(7, 3), (-4, 0), (0, -5), (-2, 6)], ids=str)
def test_a_known_shift_is_found_with_its_sign(make, name, shift):
    flow = make(name).between(*shifted(*shift))[..., 12:-12, 12:-12]
    expected = torch.tensor(shift, dtype=torch.float32)[None, :, None, None]
    assert float((flow - expected).abs().mean()) < 0.25


@pytest.mark.parametrize("name", [*SEEING, "files"])
def test_pulling_the_second_frame_along_the_flow_gives_the_first(make, name, tmp_path):
    first, second = shifted(7, 3)
    if name == "files":
        source: FlowSource = FlowFiles(write_pan(tmp_path, [4], (96, 128), (7, 3)))
    else:
        source = make(name)
    there, back = source.both_ways(first, second, (4, 5))
    for flow, target, other in ((there, first, second), (back, second, first)):
        off = (warp.backward(other, flow) - target)[..., 14:-14, 14:-14].abs().mean()
        assert float(off) < 0.1 * float((other - target)[..., 14:-14, 14:-14].abs().mean())


@pytest.mark.parametrize("name", SEEING)
def test_a_shift_is_found_in_pictures_that_must_be_padded(make, name):
    scene = texture(40, 60, sigma=2)
    flow = make(name).between(scene[..., 4:34, 4:44], scene[..., 4:34, 2:42])
    assert float(flow[:, 0, 8:-8, 8:-8].median()) == pytest.approx(2, abs=0.3)
    assert float(flow[:, 1, 8:-8, 8:-8].median()) == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("name", SEARCHING)
def test_the_same_frames_give_the_same_bits_whatever_came_before(make, name):
    one, other = texture(57, 101, seed=1), texture(57, 101, seed=2)
    source = make(name)
    first = source.between(one, other)
    source.between(texture(64, 80, seed=3), texture(64, 80, seed=4))
    back = source.between(other, one)
    assert torch.equal(source.between(one, other), first)
    both = source.both_ways(one, other)
    assert torch.equal(both[0], first)
    assert torch.equal(both[1], back)
    assert torch.equal(make(name).between(one, other), first)


@pytest.mark.slow
@pytest.mark.parametrize("name", RAFTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_is_taken_by_a_network(make, name, size):
    flow = make(name).between(texture(*size, seed=1), texture(*size, seed=2))
    assert flow.shape == (1, 2, *size)
    assert bool(flow.isfinite().all())


@pytest.mark.parametrize("name", SEARCHING)
def test_an_answer_is_not_overwritten_by_the_next(make, name):
    one, other = texture(57, 101, seed=1), texture(57, 101, seed=2)
    source = make(name)
    first = source.between(one, other)
    kept = first.clone()
    source.between(other, one)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("name", SEARCHING)
def test_frames_are_left_as_they_were_in_any_memory_order(make, name):
    one, other = texture(57, 101, seed=1), texture(57, 101, seed=2)
    before = one.clone()
    source = make(name)
    flow = source.between(one, other)
    assert torch.equal(one, before)
    reordered = one.contiguous(memory_format=torch.channels_last)
    assert torch.equal(source.between(reordered, other), flow)


@pytest.mark.parametrize("name", SEARCHING)
def test_vectors_come_in_steps_that_a_cache_keeps_exactly(make, name):
    flow = make(name).between(texture(57, 101, seed=1), texture(57, 101, seed=2))
    assert torch.equal(flow, (flow * 64).round() / 64)
