"""Watching a folder: what has arrived in full, and what has not."""

from __future__ import annotations

import os
import time

import pytest

from dreamflow.errors import InputMissingError
from dreamflow.watch import Watcher


@pytest.fixture
def drop(tmp_path):
    return Watcher(tmp_path, settled_seconds=0.05)


def looked_twice(drop):
    drop.arrived()
    time.sleep(0.06)
    return [path.name for path in drop.arrived()]


def test_clips_and_pictures_arrive_once_and_in_order(drop, tmp_path):
    for name in ("b10.mp4", "b9.MOV", "a.png", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    assert looked_twice(drop) == ["a.png", "b9.MOV", "b10.mp4"]
    assert looked_twice(drop) == []


def test_a_file_that_grows_has_not_arrived(drop, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    drop.arrived()
    time.sleep(0.06)
    path.write_bytes(b"xx")
    assert drop.arrived() == []
    time.sleep(0.06)
    assert drop.arrived() == [path]


def test_a_file_that_is_changed_or_comes_again_is_new(drop, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    assert looked_twice(drop) == ["a.mp4"]
    os.utime(path, ns=(1, 1))
    assert looked_twice(drop) == ["a.mp4"]
    path.unlink()
    drop.arrived()
    path.write_bytes(b"x")
    assert looked_twice(drop) == ["a.mp4"]


def test_there_must_be_a_folder_to_watch(tmp_path):
    with pytest.raises(InputMissingError, match="no such folder"):
        Watcher(tmp_path / "nowhere")


def test_a_folder_that_goes_away_is_told_of(drop, tmp_path):
    tmp_path.rmdir()
    with pytest.raises(InputMissingError, match="cannot be read any more: No such file"):
        drop.arrived()
