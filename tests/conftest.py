"""Test media from recipes: drawn by ffmpeg into a folder that lasts as long as the session."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import hypothesis
import numpy as np
import pytest
import torch
from commands import Commands

from dreamflow.frames import Array
from dreamflow.video import ffmpeg

COUNTER_SIZE = (32, 24)
_FIRST_LUMA, _LUMA_STEP = 20, 4

hypothesis.settings.register_profile("busy machine", deadline=None)
hypothesis.settings.load_profile("busy machine")


@pytest.fixture(autouse=True)
def _calm_process() -> None:
    """Undo what renders set for the whole process.

    Pictures this small gain nothing from threads, and lose a lot to them on a busy machine;
    Hypothesis refuses to draw floats where denormals are flushed.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.set_flush_denormal(False)


class Media:
    """Draws clips on demand, each once; `count_of` reads a frame's number back from its grey."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def draw(self, name: str, *arguments: str | ffmpeg.Input) -> Path:
        """The file that ffmpeg makes of `arguments`, in a format chosen by the name's suffix."""
        recipe = hashlib.sha256(repr((name, arguments)).encode()).hexdigest()[:12]
        path = self.folder / recipe / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            # Exact decoders and one thread, so that a recipe always draws the same bytes.
            flags = ["-bitexact", "-threads", "1"]
            ffmpeg.run([*arguments, *flags, ffmpeg.output_name(path)])
        return path

    def counter(
        self, name: str, *options: str, rate: str = "25", frames: int = 24, codec: str = "libx264"
    ) -> Path:
        """A grey clip in which frame i has its number as brightness (up to 50 frames)."""
        exact = ["-qp", "0"] if codec == "libx264" else []
        return self.draw(name, *self.counter_source(rate, frames), "-c:v", codec, *exact, *options)

    def counter_source(self, rate: str = "25", frames: int = 24) -> list[str]:
        width, height = COUNTER_SIZE
        luma = f"geq=lum={_FIRST_LUMA}+{_LUMA_STEP}*N:cb=128:cr=128"
        source = f"color=s={width}x{height}:r={rate},format=yuv420p,{luma}"
        return ["-f", "lavfi", "-i", source, "-frames:v", str(frames)]

    def count_of(self, frame: Array) -> int:
        top = np.iinfo(frame.dtype).max
        luma = float(frame.mean()) / top * 219 + 16
        return round((luma - _FIRST_LUMA) / _LUMA_STEP)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    return Media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def clip_path(media: Media) -> Path:
    """24 frames of 64x48 at 24000/1001 with a second of sound, H.264 and AAC in MP4."""
    picture = "testsrc2=s=64x48:r=24000/1001"
    sources = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=d=1.001"]
    codecs = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    return media.draw("clip.mp4", *sources, "-frames:v", "24", *codecs)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip_path: Path) -> Path:
    """The working folder of a batch, with a clip of 24 frames and a picture."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip_path, "a.mp4")
    shutil.copy(Path(__file__).parents[1] / "samples" / "coffee.jpg", "cup.jpg")
    return tmp_path


@pytest.fixture
def long_night(night: Path, media: Media) -> Path:
    """The same with `long.mp4`, of 220 frames, as well."""
    recipe = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=9", "-frames:v", "220"]
    shutil.copy(media.draw("long.mp4", *recipe, "-pix_fmt", "yuv420p"), "long.mp4")
    return night


@pytest.fixture
def damaged() -> Callable[..., Path]:
    """Copies a file with some of its bytes overwritten or cut off."""

    def damage(
        path: Path, target: Path, *, at: float = 0.5, length: int = 0, keep: float = 1.0
    ) -> Path:
        data = bytearray(path.read_bytes())
        begin = int(len(data) * at)
        noise = np.random.default_rng(1).integers(0, 256, length, dtype=np.uint8)
        data[begin : begin + length] = noise.tobytes()
        target.write_bytes(data[: int(len(data) * keep)])
        return target

    return damage


@pytest.fixture
def command(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Commands:
    """Runs commands in a new folder, which is the working folder from then on."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return Commands(capfd.readouterr)
