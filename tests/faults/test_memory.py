"""Row 20: what happens when memory is short, under a limit on a process's address space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dreamflow.video.stills import write_still

pytestmark = pytest.mark.slow

SETTINGS = ("dream.size=full", "dream.steps=1", "dream.octaves=1")
NETWORK_RUN = """
import torch
from dreamflow import cli
cli.run(["image", *{words!r}])
status = open("/proc/self/status").read()
print(status.partition("VmPeak:")[2].split()[0])
"""


@pytest.fixture(scope="module")
def used_by_a_small_picture(tmp_path_factory) -> int:
    """kB of address space, the libraries' above all."""
    folder = tmp_path_factory.mktemp("small")
    write_still(folder / "a.png", np.zeros((48, 64, 3), np.uint8))
    code = NETWORK_RUN.format(words=words(folder / "a.png", folder / "b.png"))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(ran.stdout)


def words(source: Path, target: Path) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("-s", setting)]
    return [str(source), "-o", str(target), "--threads", "1", "--progress", "none", *settings]


def limited(kilobytes: int, folder: Path) -> subprocess.CompletedProcess[str]:
    pixels = np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), np.uint8)
    write_still(folder / "big.png", pixels)
    command = ["-m", "dreamflow", "image", *words(folder / "big.png", folder / "out.png")]
    script = f'ulimit -v {kilobytes} && exec "$@"'
    return subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, *command], capture_output=True, text=True
    )


def test_row_20_a_picture_beyond_memory_is_dreamed_in_tiles(used_by_a_small_picture, tmp_path):
    ran = limited(used_by_a_small_picture + 1_100_000, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "is dreamed in tiles of" in ran.stderr
    assert (tmp_path / "out.png").exists()


def test_row_20_without_room_for_any_tile_it_says_what_to_do(used_by_a_small_picture, tmp_path):
    ran = limited(used_by_a_small_picture + 60_000, tmp_path)
    assert ran.returncode == 75, ran.stderr
    (error,) = (line for line in ran.stderr.splitlines() if "error:" in line)
    assert "memory" in error
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out.png").exists()
