"""A class stream shows its classes: as pictures, not as patterns that only the network sees."""

from __future__ import annotations

import io
import json
import random
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import texture
from torch import Tensor

from dreamflow import classes, networks, preset, warp
from dreamflow.dream import dream
from dreamflow.filters import gaussian_blur
from dreamflow.frames import Box, to_array, to_image
from dreamflow.objectives import ClassScore
from dreamflow.preset import Preset
from dreamflow.render import Engine
from dreamflow.seeds import Noise, draw
from dreamflow.settings import Dream
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
    """On average over eight pictures: how soon it rises in a single one is chance."""
    settings = Dream(octaves=2, steps=8, smoothing=2, spread=0)
    images = [texture(96, 128, seed=seed) for seed in range(8)]
    cock = classes.index("cock")
    dreams = [dream(image, judge, [ClassScore(cock)], settings) for image in images]
    before, after = (
        sum(ranks_of(image, judge).index(cock) for image in group) for group in (images, dreams)
    )
    assert after < before / 4


SIZE = Box(256, 144)


def first_picture(seed: Path | Noise) -> Tensor:
    return to_image(draw(seed, SIZE, multiple=2, take=0, max_pixels=10**6), CPU)


def ends_of_turns(look: Preset, frame_count: int) -> dict[int, str]:
    """The last frame in which each class has all the weight, and its label."""
    film = look.resolved(frame_count, 30)
    strongest = [
        max(film.at(index).objectives, key=lambda each: each.weight) for index in range(frame_count)
    ]
    pairs = enumerate(pairwise(strongest))
    return {
        index: now.label for index, (now, after) in pairs if now.weight == 1 and after.weight < 1
    }


def detail(image: Tensor) -> float:
    return cv2.Laplacian(cv2.cvtColor(to_array(image), cv2.COLOR_RGB2GRAY), cv2.CV_32F).var()


def recognised(look: Preset, seed: Tensor, ends: dict[int, str], judge) -> list[bool]:
    """Whether each class is among the best three at the end of its turn.

    Each is to be about as crisp as the first.
    """
    engine = Engine.build(look, Fraction(30), frame_count=max(ends) + 1)
    found, crispness = [], []
    for frame in render_zoom(seed, engine, max(ends) + 1):
        if frame.index in ends:
            best = ranks_of(damaged(frame.image), judge)[:3]
            found.append(classes.index(ends[frame.index]) in best)
            crispness.append(detail(frame.image))
            assert crispness[-1] > 0.6 * crispness[0]
            clipped = ((frame.image < 1 / 255) | (frame.image > 254 / 255)).any(dim=1)
            assert clipped.float().mean() < 0.1
    return found


def test_a_class_has_its_turn_until_the_next_fades_in():
    ends = ends_of_turns(preset.load("stream"), 600)
    assert ends == {90: "cock", 210: "red fox", 330: "volcano", 450: "tarantula", 570: "goldfish"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [HUBBLE, Noise("pink")], ids=["still", "noise"])
def test_each_class_of_the_stream_is_recognised_at_the_end_of_its_turn(seed, judge):
    look = preset.load("stream")
    found = recognised(look, first_picture(seed), ends_of_turns(look, 600), judge)
    assert len(found) == 5
    assert sum(found) >= 4


@pytest.mark.slow
def test_five_classes_drawn_by_lot_are_recognised_at_the_end_of_their_turns(tmp_path, judge):
    """In turns as long as the preset's."""
    stops = random.Random(0).sample(classes.labels(), 5)
    tour = ", ".join(f"class: {json.dumps(stop)}" for stop in stops)
    path = tmp_path / "tour.yaml"
    path.write_text(f"extends: stream\nobjectives: [{{cycle: [{tour}], every: 4s, fade: 1s}}]\n")
    look = preset.load(str(path))
    found = recognised(look, first_picture(HUBBLE), ends_of_turns(look, 600), judge)
    assert len(found) == 5
    assert sum(found) >= 4
