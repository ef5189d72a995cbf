"""Flow files are taken for the frames they name, scaled to the dream, and never trusted."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from flows import constant, flo_bytes, write_flo, write_pan

from dreamflow.errors import BadMediaError, InputMissingError
from dreamflow.flow_files import FlowFiles
from dreamflow.frames import VideoInfo

SIZE = (20, 32)
FRAME = torch.zeros(1, 3, *SIZE)


def read(folder: Path, frames: tuple[int, int] = (0, 1), frame: torch.Tensor = FRAME):
    return FlowFiles(folder).between(frame, frame, frames)


def clip(first: int, count: int, size: tuple[int, int] = SIZE) -> VideoInfo:
    return VideoInfo(size[1], size[0], Fraction(25), count, first_index=first)


def test_both_directions_are_read_by_frame(tmp_path):
    source = FlowFiles(write_pan(tmp_path, range(6, 9), SIZE, (3, -2)))
    there, back = source.both_ways(FRAME, FRAME, (7, 8))
    assert there.shape == (1, 2, *SIZE)
    assert there[0, :, 5, 5].tolist() == [3, -2]
    assert back[0, :, 5, 5].tolist() == [-3, 2]


def test_zeros_before_a_number_do_not_matter(tmp_path):
    write_flo(tmp_path / "backward_0008_0007.flo", constant(*SIZE, 1, 2))
    assert read(tmp_path, (8, 7))[0, :, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_npy_files_of_any_float_are_read(tmp_path, kind):
    vectors = np.random.default_rng(0).integers(-8, 8, (*SIZE, 2)).astype(kind)
    np.save(tmp_path / "forward_0_1.npy", vectors)
    assert torch.equal(
        read(tmp_path)[0].permute(1, 2, 0), torch.from_numpy(vectors.astype(np.float32))
    )


def test_flow_of_the_full_size_is_scaled_with_its_vectors(tmp_path):
    write_flo(tmp_path / "forward_0_1.flo", constant(40, 64, 6, -4))
    assert torch.allclose(read(tmp_path), torch.tensor([3.0, -2.0])[None, :, None, None])


def test_flow_smaller_than_the_dream_grows_with_its_vectors(tmp_path):
    write_flo(tmp_path / "forward_0_1.flo", constant(10, 16, 1.5, -1))
    assert torch.allclose(read(tmp_path), torch.tensor([3.0, -2.0])[None, :, None, None])


def test_frames_further_apart_are_followed_through_those_between(tmp_path):
    source = FlowFiles(write_pan(tmp_path, range(4), SIZE, (2, 1)))
    assert torch.allclose(
        source.between(FRAME, FRAME, (3, 0)), torch.tensor([-6.0, -3.0])[None, :, None, None]
    )


def test_what_is_between_is_followed_where_it_leads(tmp_path):
    """A step of 4 px to the right lands on vectors that say 1, not on those it started from."""
    write_flo(tmp_path / "forward_0_1.flo", constant(*SIZE, 4, 0))
    second = np.zeros((*SIZE, 2), np.float32)
    second[:, 4:, 0] = 1
    write_flo(tmp_path / "forward_1_2.flo", second)
    assert bool((read(tmp_path, (0, 2))[:, 0] == 5).all())


def test_a_file_for_two_frames_far_apart_is_taken_as_it_is(tmp_path):
    write_flo(tmp_path / "forward_0_5.flo", constant(*SIZE, 9, 9))
    assert bool((read(tmp_path, (0, 5)) == 9).all())


def test_a_missing_file_is_named(tmp_path):
    source = FlowFiles(write_pan(tmp_path, [0], SIZE, (1, 1)))
    with pytest.raises(InputMissingError, match=r"no backward_2_1\.flo or \.npy"):
        source.between(FRAME, FRAME, (2, 1))
    with pytest.raises(InputMissingError, match=r"no forward_1_2\.flo"):
        source.check(clip(0, 3))


def test_all_of_a_part_of_a_clip_is_checked_and_no_more(tmp_path):
    source = FlowFiles(write_pan(tmp_path, range(10, 14), SIZE, (1, 1)))
    source.check(clip(10, 5))
    source.check(clip(20, 1))
    with pytest.raises(InputMissingError):
        source.check(clip(9, 5))


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_folder_without_flow_is_refused(tmp_path, make):
    make(tmp_path / "empty")
    with pytest.raises(InputMissingError, match="empty"):
        FlowFiles(tmp_path / "empty")


GOOD = flo_bytes(constant(*SIZE, 1, 1))
HEAD = GOOD[:4]


def sized(width: int, height: int) -> bytes:
    return HEAD + np.array([width, height], "<i4").tobytes()


def of(value: float) -> bytes:
    vectors = constant(*SIZE, 1, 1)
    vectors[3, 4, 1] = value
    return flo_bytes(vectors)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is no .flo file"),
        (b"<html>not found</html>", "is no .flo file"),
        (GOOD[:11], "is no .flo file"),
        (GOOD[:4][::-1] + GOOD[4:], "is no .flo file"),
        (GOOD[:-1], "is cut off"),
        (GOOD[:12], "is cut off"),
        (GOOD + b"\0", "is too long"),
        (sized(0, 20), "claims to be 0x20"),
        (sized(-32, -20), "claims to be -32x-20"),
        (sized(2**31 - 1, 2**31 - 1), "at most 64 megapixels"),
        (sized(8000, 8000), "is cut off"),
        (of(np.nan), "not finite"),
        (of(np.inf), "not finite"),
        (of(1e10), "unknown vectors"),
        (flo_bytes(constant(32, 20, 1, 1)), "flow of another shape"),
    ],
)
def test_a_bad_flo_file_is_refused_in_one_line(tmp_path, data, reason):
    (tmp_path / "forward_0_1.flo").write_bytes(data)
    with pytest.raises(BadMediaError, match=reason) as caught:
        read(tmp_path)
    assert "forward_0_1.flo" in str(caught.value)
    assert "\n" not in str(caught.value)


def saved(array: np.ndarray, **options: bool) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array, **options)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"is no \.npy file"),
        (b"\x93NUMPY\x09\x00", r"is no \.npy file"),
        (saved(np.zeros((20, 32, 3), "f4")), "not floats"),
        (saved(np.zeros((20, 32, 2), "i4")), "not floats"),
        (saved(np.zeros((2, 20, 32), "f4")), "not floats"),
        (saved(np.asfortranarray(np.zeros((20, 32, 2), "f4"))), "by columns"),
        (saved(np.array([{}] * 4, dtype=object), allow_pickle=True), "not floats"),
        (saved(np.zeros((20, 32, 2), "f4"))[:-8], "is cut off"),
        (saved(np.full((20, 32, 2), np.nan, "f4")), "not finite"),
        (saved(np.zeros((20, 20, 2), "f4")), "flow of another shape"),
    ],
)
def test_a_bad_npy_file_is_refused_in_one_line(tmp_path, data, reason):
    (tmp_path / "forward_0_1.npy").write_bytes(data)
    with pytest.raises(BadMediaError, match=reason) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pipe_with_a_flow_files_name_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "forward_0_1.flo")
    with pytest.raises(InputMissingError, match="a pipe"):
        read(tmp_path)


def test_damage_is_found_before_the_first_frame(tmp_path):
    source = FlowFiles(write_pan(tmp_path, range(3), SIZE, (1, 1)))
    path = tmp_path / "backward_3_2.flo"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadMediaError, match="cut off"):
        source.check(clip(0, 4))
