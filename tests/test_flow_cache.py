"""A cache changes the time that flow takes, and never a bit of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import texture

from dreamflow import flow_cache
from dreamflow.errors import OutputError
from dreamflow.flow import FlowMethod, Frames
from dreamflow.flow_cache import FlowCache, decoded, encoded

SIZE = (57, 101)
ONE, OTHER = texture(*SIZE, seed=1), texture(*SIZE, seed=2)


class Counting(FlowMethod):
    """A search that knows how often it was asked."""

    asked = 0

    def between(
        self, first: torch.Tensor, second: torch.Tensor, frames: Frames | None = None
    ) -> torch.Tensor:
        self.asked += 1
        return super().between(first, second, frames)

    def both_ways(
        self, first: torch.Tensor, second: torch.Tensor, frames: Frames | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked += 2
        return super().both_ways(first, second, frames)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*"))


def test_warm_cold_and_absent_give_the_same_bits(tmp_path):
    plain = FlowMethod("dis").both_ways(ONE, OTHER)
    cold = FlowCache(FlowMethod("dis"), tmp_path).both_ways(ONE, OTHER)
    search = Counting("dis")
    warm = FlowCache(search, tmp_path).both_ways(ONE, OTHER)
    assert search.asked == 0
    for expected, *found in zip(plain, cold, warm, strict=True):
        for flow in found:
            assert flow.numpy().tobytes() == expected.numpy().tobytes()


def test_each_direction_is_kept_by_itself(tmp_path):
    search = Counting("dis")
    cache = FlowCache(search, tmp_path)
    there, back = cache.both_ways(ONE, OTHER)
    assert torch.equal(cache.between(ONE, OTHER), there)
    assert torch.equal(cache.between(OTHER, ONE), back)
    assert search.asked == 2


@pytest.mark.parametrize(
    "search",
    [
        lambda: Counting("farneback"),
        lambda: Counting("dis", quality="fast"),
        lambda: Counting("dis", size=64),
    ],
)
def test_another_search_has_flow_of_its_own(tmp_path, search):
    FlowCache(FlowMethod("dis"), tmp_path).between(ONE, OTHER)
    other = search()
    FlowCache(other, tmp_path).between(ONE, OTHER)
    assert other.asked == 1


def test_another_number_of_threads_has_flow_of_its_own(tmp_path):
    FlowCache(FlowMethod("dis"), tmp_path).between(ONE, OTHER)
    cv2.setNumThreads(2)
    search = Counting("dis")
    FlowCache(search, tmp_path).between(ONE, OTHER)
    assert search.asked == 1


def test_one_changed_value_is_another_picture(tmp_path):
    search = Counting("dis")
    cache = FlowCache(search, tmp_path)
    cache.between(ONE, OTHER)
    changed = ONE.clone()
    changed[0, 0, 3, 3] += 0.1
    cache.between(changed, OTHER)
    assert search.asked == 2


def test_pictures_of_the_same_bytes_and_another_shape_are_told_apart(tmp_path):
    search = Counting("dis")
    cache = FlowCache(search, tmp_path)
    for size in ((20, 40), (40, 20)):
        grey = torch.full((1, 3, *size), 0.5)
        assert cache.between(grey, grey).shape == (1, 2, *size)
    assert search.asked == 2


@pytest.mark.parametrize("at", [0, 20, 33, 40, 200])
def test_an_entry_with_one_wrong_byte_is_made_again(tmp_path, at):
    expected = FlowCache(FlowMethod("dis"), tmp_path).between(ONE, OTHER)
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    search = Counting("dis")
    assert torch.equal(FlowCache(search, tmp_path).between(ONE, OTHER), expected)
    assert search.asked == 1
    assert path.read_bytes() == whole


@pytest.mark.parametrize("length", [0, 10, 100])
def test_an_entry_that_was_cut_off_is_made_again(tmp_path, length):
    expected = FlowCache(FlowMethod("dis"), tmp_path).between(ONE, OTHER)
    (path,) = entries(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert torch.equal(FlowCache(FlowMethod("dis"), tmp_path).between(ONE, OTHER), expected)


def test_an_entry_that_would_inflate_without_end_is_not_taken(tmp_path):
    bomb = encoded(np.zeros((2000, 2000, 2), np.float32))
    with pytest.raises(ValueError, match="another size"):
        decoded(bomb, SIZE)


def test_a_pipe_in_an_entrys_place_is_not_waited_for(tmp_path):
    expected = FlowCache(FlowMethod("dis"), tmp_path).between(ONE, OTHER)
    (path,) = entries(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert torch.equal(FlowCache(FlowMethod("dis"), tmp_path).between(ONE, OTHER), expected)


def test_vectors_are_kept_exactly_however_large():
    random = np.random.default_rng(0)
    steps = random.integers(-(2**19), 2**19, (*SIZE, 2)).astype(np.float32) / 64
    assert decoded(encoded(steps), SIZE).tobytes() == steps.tobytes()


def test_what_was_not_used_for_longest_makes_room(tmp_path):
    pictures = [texture(*SIZE, seed=seed) for seed in range(6)]
    FlowCache(FlowMethod("dis"), tmp_path).between(pictures[0], OTHER)
    size = entries(tmp_path)[0].stat().st_size
    search = Counting("dis")
    cache = FlowCache(search, tmp_path, max_bytes=4 * size)
    for picture in pictures:
        cache.between(picture, OTHER)
        for path in entries(tmp_path):  # the clock of a file system is coarse
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**10))
        cache.between(pictures[0], OTHER)
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 4 * size
    search.asked = 0
    cache.between(pictures[0], OTHER)
    cache.between(pictures[-1], OTHER)
    assert search.asked == 0


def test_a_disk_without_room_ends_the_keeping_and_nothing_else(tmp_path, caplog):
    cache = FlowCache(FlowMethod("dis"), tmp_path / "kept")
    shutil.rmtree(tmp_path / "kept")
    expected = FlowMethod("dis").between(ONE, OTHER)
    assert torch.equal(cache.between(ONE, OTHER), expected)
    assert torch.equal(cache.between(ONE, OTHER), expected)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot keep flow in"):
        FlowCache(FlowMethod("dis"), tmp_path / "file" / "kept")


def test_nothing_else_in_the_folder_is_touched(tmp_path):
    (tmp_path / "ab").mkdir()
    mine = tmp_path / "ab" / "notes.txt"
    mine.write_text("x" * 10_000)
    cache = FlowCache(FlowMethod("dis"), tmp_path, max_bytes=1)
    cache.between(ONE, OTHER)
    assert mine.exists()
    assert flow_cache.MAX_BYTES > 1 << 30
