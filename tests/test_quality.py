"""The default look on the sample clip: steady, strong, in natural colours, in constant memory."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamflow import preset
from dreamflow.frames import Moment, to_image
from dreamflow.job import VideoRequest, prepare, render_video
from dreamflow.measure import flicker
from dreamflow.render import dream_from_scratch
from dreamflow.video import ffmpeg
from dreamflow.video.reader import open_clip

pytestmark = pytest.mark.slow
CLIP = Path(__file__).parents[1] / "samples" / "clip.mp4"
FRAMES = Moment(Fraction(24), in_frames=True)
MEGABYTE = 2**20


def decode(path: Path) -> np.ndarray:
    with open_clip(path, end=FRAMES) as clip:
        return np.stack([frame.copy() for frame in clip.frames()])


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    return decode(CLIP)


@pytest.fixture(scope="module")
def dreamed(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    target = tmp_path_factory.mktemp("quality") / "dream.mp4"
    request = VideoRequest(CLIP, str(target), preset.load("base"), end=FRAMES)
    for _ in render_video(request):
        pass
    return decode(target)


def test_the_dream_sticks_to_what_moves(source, dreamed):
    assert flicker(source, dreamed, lag=1) <= 0.30
    assert flicker(source, dreamed, lag=5) <= 0.65


def test_noise_would_not_pass_for_steady(source):
    noise = np.random.default_rng(0).integers(-30, 31, source.shape)
    noisy = np.clip(source + noise, 0, 255).astype(np.uint8)
    assert flicker(source, noisy, lag=1) > 1


def test_the_dream_is_there_and_its_colours_are_not_clipped(source, dreamed):
    change = (dreamed.astype(np.float32) - source) / 255
    assert np.sqrt((change**2).mean()) >= 0.07
    clipped = ((dreamed == 0) | (dreamed == 255)).any(-1).mean()
    assert clipped < 0.06


def test_the_dream_is_as_strong_as_from_scratch_and_stays_so(source, dreamed):
    engine = prepare(preset.load("base"), Fraction(25), "cpu", 2)

    def energy(image: torch.Tensor) -> float:
        with torch.no_grad():
            features = engine.extractor(image)
        return sum(float(term.score(features)) for term in engine.terms)

    ratios = []
    for index in range(5, len(source), 3):
        scratch = dream_from_scratch(engine, to_image(source[index]), index)
        ratios.append(energy(to_image(dreamed[index])) / energy(scratch))
    assert np.mean(ratios) >= 0.7
    assert np.std(ratios) / np.mean(ratios) < 0.25


PEAK = """
import json, sys
from pathlib import Path
from dreamflow import preset
from dreamflow.job import VideoRequest, render_video
overrides = ["dream.steps=1", "follow.steps=1", "objectives=[{layer: fire2}]"]
look = preset.load("base", overrides=overrides)
request = VideoRequest(Path(sys.argv[1]), sys.argv[2], look, overwrite=True)
for event in render_video(request):
    pass
status = Path("/proc/self/status").read_text()  # ru_maxrss would be that of pytest, if larger
print(json.dumps(int(status.partition("VmHWM:")[2].split()[0]) * 1024))
"""


def peak_memory(folder: Path, frame_count: int) -> int:
    clip = folder / f"{frame_count}.mp4"
    picture = f"testsrc2=s=160x90:r=25:d={frame_count / 25}"
    ffmpeg.run(["-f", "lavfi", "-i", picture, "-c:v", "libx264", ffmpeg.output_name(clip)])
    command = [sys.executable, "-c", PEAK, str(clip), str(folder / f"{frame_count}-out.mp4")]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def test_memory_does_not_grow_with_the_clip(tmp_path):
    """The lesser of two long runs: the heap's own spread from run to run is some 30 MB."""
    long = min(peak_memory(tmp_path, 300) for _ in range(2))
    assert long - peak_memory(tmp_path, 30) < 60 * MEGABYTE
