"""A class stream shows its classes: as pictures, not as patterns that only the network sees."""

from __future__ import annotations

import io
import json
import random
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


def seed_picture() -> Tensor:
    """The sample at 256x144."""
    seed = to_image(read_still(HUBBLE), CPU)
    return warp.resize(seed, (round(256 * seed.shape[-2] / seed.shape[-1]), 256))[..., :144, :]


def recognised(folder: Path, stops: list[str], every: int, fade: int, judge) -> list[bool]:
    """Whether each class is among the best three at the end of its turn, `every` frames long."""
    tour = ", ".join(f"class: {json.dumps(stop)}" for stop in stops)
    path = folder / "tour.yaml"
    path.write_text(
        f"extends: stream\nobjectives: [{{cycle: [{tour}], every: {every}f, fade: {fade}f}}]\n"
    )
    ends = {every * (turn + 1) - fade: stop for turn, stop in enumerate(stops)}
    engine = Engine.build(preset.load(str(path)), Fraction(30), frame_count=max(ends) + 1)
    found = []
    for frame in render_zoom(seed_picture(), engine, max(ends) + 1):
        if frame.index in ends:
            best = ranks_of(damaged(frame.image), judge)[:3]
            found.append(classes.index(ends[frame.index]) in best)
            clipped = ((frame.image < 1 / 255) | (frame.image > 254 / 255)).any(dim=1)
            assert clipped.float().mean() < 0.1
    return found


@pytest.mark.slow
def test_each_class_of_the_stream_is_recognised_at_the_end_of_its_turn(tmp_path, judge):
    """In turns a third as long as the preset's own."""
    stops = [term.label for term in preset.load("stream").objectives]
    found = recognised(tmp_path, stops, every=40, fade=10, judge=judge)
    assert len(found) == 5
    assert sum(found) >= 4


@pytest.mark.slow
def test_five_classes_drawn_by_lot_are_recognised_at_the_end_of_their_turns(tmp_path, judge):
    """In turns as long as the preset's."""
    stops = random.Random(0).sample(classes.labels(), 5)
    found = recognised(tmp_path, stops, every=120, fade=30, judge=judge)
    assert sum(found) >= 4
