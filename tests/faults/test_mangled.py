"""Media files with something wrong in them: read, or refused in one line, within bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mangle
import numpy as np
import pytest

from dreamflow.video.stills import write_still

PER_PROCESS = 20
MEGABYTES = 900
SECONDS = 20
"""Of all processors, for one file."""
TIMEOUT = 900
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "5")
SOUND = ("-f", "lavfi", "-i", "sine=d=0.4")
CARD = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4")


@pytest.fixture(scope="module")
def whole(media, tmp_path_factory):
    """One good file of every kind that is mangled."""
    folder = tmp_path_factory.mktemp("whole")
    pixels = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    write_still(folder / "a.png", pixels, metadata="words")
    write_still(folder / "deep.png", pixels.astype(np.uint16) * 257, alpha=None)
    write_still(folder / "a.jpg", pixels, metadata="words")
    return [
        media.draw("a.mp4", *CARD, *SOUND, *X264, "-c:a", "aac"),
        media.draw("fast.mp4", *CARD, *X264, "-movflags", "+faststart+frag_keyframe"),
        media.draw("a.mkv", *CARD, *SOUND, *X264, "-c:a", "flac"),
        media.draw("a.webm", *CARD, "-c:v", "libvpx", "-deadline", "realtime"),
        media.draw("a.gif", *CARD, "-frames:v", "4"),
        media.draw("a.avi", *CARD, "-c:v", "mjpeg"),
        media.draw("a.wav", *SOUND),
        folder / "a.png",
        folder / "deep.png",
        folder / "a.jpg",
    ]


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_mangled_files_are_read_or_refused_in_one_line(whole, tmp_path, count):
    paths = []
    for seed in range(count):
        source = whole[seed % len(whole)]
        paths.append(tmp_path / f"{seed:03}{source.suffix}")
        paths[-1].write_bytes(mangle.mangle(source.read_bytes(), seed))
    for first in range(0, count, PER_PROCESS):
        for answer in read_apart(paths[first : first + PER_PROCESS]):
            assert answer["said"].isprintable(), answer
            assert answer["megabytes"] < MEGABYTES, answer
            assert answer["seconds"] < SECONDS, answer
    assert running() == []


def read_apart(paths: list[Path]) -> list[dict]:
    """How each file was read in a process of its own; it must come to its end in good order."""
    words = [sys.executable, mangle.__file__, *map(str, paths)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, (lines[-1:], ran.stderr[-2000:])
    assert "Traceback" not in ran.stderr
    answers = [line for line in lines if "read" in line]
    assert [answer["read"] for answer in answers] == list(map(str, paths))
    return answers


def running() -> list[str]:
    """Decoders that have lost the process that started them."""
    found = subprocess.run(["pgrep", "-P", "1", "-a", "ffmpeg"], capture_output=True, text=True)
    return [line for line in found.stdout.splitlines() if "-protocol_whitelist fd" in line]
