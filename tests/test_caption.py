"""Captions: readable on anything, at any size, and on what is written only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dreamflow import classes
from dreamflow.caption import caption, finished, subject
from dreamflow.color import ColorStatistics
from dreamflow.feedback import Canvas
from dreamflow.render import RenderedFrame
from dreamflow.settings import ClassObjective, Objective, Output


def of_class(name, weight):
    return ClassObjective(**{"class": name, "weight": weight})


@pytest.mark.parametrize("size", [(36, 64), (144, 256), (720, 1280), (1280, 720)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_caption_is_seen_on_any_ground_at_the_foot(size, level):
    plain = np.full((*size, 3), level, np.uint8)
    drawn = caption(plain, "red fox")
    changed = np.argwhere((drawn != plain).any(axis=2))
    assert len(changed) > 40
    assert changed[:, 0].min() >= size[0] / 2
    letters, rim = drawn.max(), drawn.min()
    assert int(letters) - int(rim) >= 150
    assert (plain == level).all()


def test_a_long_caption_stays_inside_a_narrow_frame():
    drawn = caption(np.zeros((90, 120, 3), np.uint8), max(classes.labels(), key=len))
    assert drawn.any()
    assert not drawn[:, -2:].any()


def test_sixteen_bits_stay_sixteen_bits():
    drawn = caption(np.full((90, 160, 3), 1000, np.uint16), "cock")
    assert drawn.dtype == np.uint16
    assert drawn.max() == 65535


def test_a_caption_names_what_has_most_weight():
    terms = (Objective(layer="fire8", weight=0.5), of_class("COCK", 0.9), of_class(1, 0.1))
    assert subject(terms) == "cock"
    assert subject((Objective(layer="fire8", weight=-1),)) == ""


@pytest.mark.parametrize("wanted", [False, True])
def test_only_what_is_written_is_captioned(wanted):
    image = torch.full((1, 3, 72, 128), 0.5)
    before = image.clone()
    state = Canvas(0, image, ColorStatistics.of(image))
    frame = RenderedFrame(0, image, state, True, 0.0, (of_class("cock", 1.0),))
    array = finished(frame, Output(caption=wanted))
    assert (array != 128).any() == wanted
    assert torch.equal(frame.image, before)
