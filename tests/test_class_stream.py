"""A class stream shows its classes: as pictures, not as patterns that only the network sees."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import texture
from torch import Tensor

from dreamflow import classes, networks, preset, warp
from dreamflow.dream import dream
from dreamflow.filters import gaussian_blur
from dreamflow.frames import to_array, to_image
from dreamflow.objectives import ClassScore
from dreamflow.render import Engine
from dreamflow.settings import Dream
from dreamflow.video.stills import read_still
from dreamflow.zoom import render_zoom

HUBBLE = Path(__file__).parents[1] / "samples" / "hubble.jpg"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def judge():
    return networks.build("squeezenet1_1", [classes.LAYER])


def ranks_of(image: Tensor, judge: networks.Extractor) -> list[int]:
    """The classes from the highest score down."""
    with torch.no_grad():
        return judge(image)[classes.LAYER][0].argsort(descending=True).tolist()


def damaged(image: Tensor) -> Tensor:
    """Blurred, scaled down and through JPEG: what a pattern of single pixels does not survive."""
    height, width = image.shape[-2:]
    small = warp.resize(gaussian_blur(image, 1.0), (round(height * 0.8), round(width * 0.8)))
    packed = io.BytesIO()
    Image.fromarray(to_array(small)).save(packed, "JPEG", quality=75)
    return to_image(np.array(Image.open(packed)), CPU)


def test_dreaming_of_a_class_raises_its_score_above_nearly_all_others(judge):
    image, settings = texture(96, 128), Dream(octaves=2, steps=8, smoothing=2, spread=0)
    cock = classes.index("cock")
    before = ranks_of(image, judge).index(cock)
    after = ranks_of(dream(image, judge, [ClassScore(cock)], settings), judge)
    assert after.index(cock) < before / 4


@pytest.mark.slow
def test_each_class_of_the_stream_is_recognised_at_the_end_of_its_turn(tmp_path, judge):
    every, fade = 40, 10  # frames, a third of the preset's own
    stops = [term.label for term in preset.load("stream").objectives]
    tour = ", ".join(f"class: {stop}" for stop in stops)
    path = tmp_path / "short.yaml"
    path.write_text(
        f"extends: stream\nobjectives: [{{cycle: [{tour}], every: {every}f, fade: {fade}f}}]\n"
    )
    ends = {every * (turn + 1) - fade: stop for turn, stop in enumerate(stops)}
    seed = to_image(read_still(HUBBLE), CPU)
    seed = warp.resize(seed, (round(256 * seed.shape[-2] / seed.shape[-1]), 256))[..., :144, :]
    engine = Engine.build(preset.load(str(path)), Fraction(30), frame_count=max(ends) + 1)
    recognised = []
    for frame in render_zoom(seed, engine, max(ends) + 1):
        if frame.index in ends:
            best = ranks_of(damaged(frame.image), judge)[:3]
            recognised.append(classes.index(ends[frame.index]) in best)
            clipped = ((frame.image < 1 / 255) | (frame.image > 254 / 255)).any(dim=1)
            assert clipped.float().mean() < 0.1
    assert len(recognised) == 5
    assert sum(recognised) >= 4
