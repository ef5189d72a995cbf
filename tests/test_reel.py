"""Masks that are clips: by number, in any order, bounded, from hostile files."""

from __future__ import annotations

import logging
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from dreamflow import cli
from dreamflow.errors import InputMissingError
from dreamflow.reel import Reel, is_reel
from dreamflow.video.ffmpeg import run
from dreamflow.video.stills import write_still

LEVELS = [0, 40, 80, 120, 160, 200]


def grey(level):
    return np.full((16, 24, 3), level, np.uint8)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "masks"
    path.mkdir()
    for index, level in enumerate(LEVELS):
        write_still(path / f"m_{index:03d}.png", grey(level))
    return path


@pytest.fixture
def clip(folder):
    path = folder.parent / "masks.mkv"
    pictures = str(folder / "m_%03d.png")
    run(["-framerate", "25", "-i", pictures, "-c:v", "ffv1", str(path)], what="drawing masks")
    return path


def level(reel, index):
    return round(float(reel.at(index).shares.mean()) * 255)


@pytest.mark.parametrize("kind", ["folder", "pattern", "clip"])
def test_each_frame_has_the_mask_of_its_number_in_any_order(folder, clip, kind):
    path = {"folder": folder, "pattern": folder / "m_%03d.png", "clip": clip}[kind]
    reel = Reel(path)
    order = [0, 1, 2, 2, 4, 5, 1, 2, 0]
    assert [level(reel, index) for index in order] == pytest.approx(
        [LEVELS[index] for index in order], abs=1
    )
    reel.close()
    assert level(reel, 3) == pytest.approx(LEVELS[3], abs=1)
    reel.close()
    assert not [each for each in threading.enumerate() if each.name == "decoder"]


def test_where_masks_end_the_last_one_holds_and_is_told_of_once(folder, caplog):
    reel = Reel(folder)
    with caplog.at_level(logging.WARNING, "dreamflow"):
        assert [level(reel, index) for index in (4, 5, 6, 99)] == [160, 200, 200, 200]
    reel.close()
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.endswith("masks: the mask has 6 frames, fewer than the clip; its last one holds")


def test_it_may_be_inverted_and_resampled_as_the_clip_is(clip):
    reel = Reel(clip, Fraction(50), inverted=True)
    found = [level(reel, index) for index in (0, 1, 2, 3, 10)]
    reel.close()
    assert found == pytest.approx([255, 255, 215, 215, 55], abs=1)


def test_what_is_a_clip_and_what_a_still_is_told_by_the_content(folder, clip):
    still, moving = folder.parent / "one.gif", folder.parent / "two.gif"
    frames = [Image.fromarray(grey(level)) for level in (0, 255)]
    frames[0].save(still)
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    renamed = folder.parent / "mask.dat"
    renamed.write_bytes((folder / "m_000.png").read_bytes())
    assert [is_reel(path) for path in (still, renamed, folder / "m_000.png")] == [False] * 3
    assert [is_reel(path) for path in (moving, clip, folder, folder / "m_%03d.png")] == [True] * 4
    with pytest.raises(InputMissingError):
        is_reel(folder.parent / "gone.mp4")


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("m.mp4", None, 66),
        ("m.mp4", b"", 65),
        ("m.mp4", b"no clip at all" * 99, 65),
        ("m.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", 65),
        ("m_%d.png", None, 66),
    ],
)
def test_what_is_no_mask_is_refused_in_one_line(folder, tmp_path, capsys, name, content, code):
    mask = tmp_path / name
    if content is not None:
        mask.write_bytes(content)
    words = ["-o", f"{tmp_path}/out/", "--mask", str(mask), "--threads", "1", "-q"]
    assert cli.run(["video", str(folder), *words]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert name in error
    assert not (tmp_path / "out").exists()
