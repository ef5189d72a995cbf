"""The camera's matrix has Deforum's signs, scales with the rate, and one resampling is sharp."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from tiny import texture

from dreamflow import camera
from dreamflow.settings import Camera

SIZE = (90, 160)
BORDERS = ("reflect", "wrap", "replicate", "outpaint")


def landed(matrix, x, y):
    """Where the matrix takes a pixel."""
    along, down, depth = matrix @ (x, y, 1)
    return along / depth, down / depth


def after(seconds, fps, **settings):
    """The matrix of so many seconds at a rate, settings being per frame at 30 fps."""
    step = camera.matrix(Camera(**settings), SIZE, 30 / fps)
    return np.linalg.matrix_power(step, round(seconds * fps))


@pytest.mark.parametrize("fps", [24, 25, 60])
@pytest.mark.parametrize(
    "settings", [{"zoom": 1.02}, {"rotate": 1.5}, {"pan_x": 0.004}, {"zoom": 0.99, "rotate": 0.5}]
)
def test_a_second_moves_the_picture_alike_at_every_rate(fps, settings):
    ours, theirs = after(1, fps, **settings), after(1, 30, **settings)
    np.testing.assert_allclose(ours[:2, :2], theirs[:2, :2], atol=1e-9)
    np.testing.assert_allclose(ours[:2, 2], theirs[:2, 2], atol=1e-6)


def test_zoom_and_rotate_are_opencvs_and_so_deforums():
    height, width = SIZE
    ours = camera.matrix(Camera(zoom=1.1, rotate=20), SIZE)
    theirs = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), 20, 1.1)
    np.testing.assert_allclose(ours[:2], theirs, atol=1e-9)


def test_pan_goes_right_and_down_in_widths():
    assert landed(camera.matrix(Camera(pan_x=0.1, pan_y=0.05), SIZE), 10, 10) == (26, 18)


def test_the_centre_stays_where_it_is():
    settings = Camera(zoom=1.3, rotate=30, shear=0.2, tilt=10, turn=10, center_x=0.25, center_y=1)
    x, y = 0.25 * 160 - 0.5, 90 - 0.5
    np.testing.assert_allclose(landed(camera.matrix(settings, SIZE), x, y), (x, y), atol=1e-9)


def test_tilt_narrows_the_top_and_turn_the_right_side():
    def distance(matrix, one, other):
        return math.dist(landed(matrix, *one), landed(matrix, *other))

    tilted, turned = (camera.matrix(Camera(**{name: 5.0}), SIZE) for name in ("tilt", "turn"))
    top, bottom = ((0, 0), (159, 0)), ((0, 89), (159, 89))
    left, right = ((0, 0), (0, 89)), ((159, 0), (159, 89))
    assert distance(tilted, *top) < 159 < distance(tilted, *bottom)
    assert distance(turned, *right) < 89 < distance(turned, *left)


def test_the_picture_goes_where_the_matrix_says():
    image = torch.zeros(1, 3, *SIZE)
    image[..., 30, 100] = 1
    matrix = camera.matrix(Camera(pan_x=0.05, rotate=90), SIZE)
    moved = camera.move(image, matrix, "replicate")[0, 0]
    row, column = divmod(int(moved.argmax()), SIZE[1])
    np.testing.assert_allclose((column, row), landed(matrix, 100, 30), atol=0.51)


@pytest.mark.parametrize(
    "settings",
    [{"zoom": 1.02}, {"rotate": 2.0}, {"pan_x": 0.013, "pan_y": 0.007}, {"shear": 0.03},
     {"tilt": 1.0, "turn": -1.0}],
)  # fmt: skip
def test_there_and_back_returns_within_a_level(settings):
    image = texture(*SIZE, sigma=4)
    there = camera.matrix(Camera(**settings), SIZE)
    returned = camera.move(camera.move(image, there, "reflect"), np.linalg.inv(there), "reflect")
    error = (returned - image)[..., 16:-16, 16:-16]
    assert float(error.square().mean().sqrt()) < 1 / 255


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(
    "settings",
    [{"rotate": 45.0}, {"zoom": 0.5}, {"pan_x": 1.0, "pan_y": -1.0}, {"tilt": 45.0, "turn": 45.0},
     {"shear": 1.0}],
)  # fmt: skip
def test_nothing_black_comes_in_at_any_border(border, settings):
    image = 0.5 + 0.2 * texture(*SIZE)
    matrix = camera.matrix(Camera(**settings), SIZE)
    moved = camera.move(image, matrix, border, fill=torch.full_like(image, 0.6))
    assert bool(moved.isfinite().all())
    assert float(moved.min()) > 0.4


def the_other_way(image, matrix, border, monkeypatch):
    """The move as torch makes it, which GPUs and older OpenCVs take."""
    with monkeypatch.context() as patch:
        patch.setattr(camera, "_OPENCV_IS_EXACT", False)
        return camera.move(image, matrix, border)


NEAR = [({"zoom": 1.3, "rotate": 20.0}, 1), ({"zoom": 0.7}, 1), ({"pan_x": 0.4, "pan_y": -0.3}, 1),
        ({"tilt": 8.0, "turn": -6.0}, 1), ({"shear": 0.2}, 1)]  # fmt: skip
FAR = [({"pan_y": 0.75}, 1), ({"pan_x": 0.6}, 3), ({"zoom": 0.5, "center_y": 2.0}, 1),
       ({"zoom": 0.5, "tilt": 40.0}, 1), ({"zoom": 0.5}, 3), ({"zoom": 0.85}, 8)]  # fmt: skip


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("settings", "share"), NEAR + FAR)
def test_the_quick_way_on_the_cpu_goes_where_the_other_goes(border, settings, share, monkeypatch):
    """However far: a picture's length beyond a border that goes on OpenCV 5.0 errs by up to 0.6."""
    image, matrix = texture(*SIZE, sigma=1), camera.matrix(Camera(**settings), SIZE, share)
    moved = camera.move(image, matrix, border)
    other = the_other_way(image, matrix, border, monkeypatch)
    torch.testing.assert_close(moved, other, rtol=0, atol=5e-4)


@pytest.mark.skipif(not camera._OPENCV_IS_EXACT, reason="OpenCV before 5 moves in steps of 1/32")
@pytest.mark.parametrize(("settings", "share"), NEAR)
def test_near_moves_are_made_the_quick_way(settings, share, monkeypatch):
    ways = []
    monkeypatch.setattr(camera, "_sample", lambda *_: ways.append("torch"))
    camera.move(texture(*SIZE), camera.matrix(Camera(**settings), SIZE, share), "reflect")
    assert not ways


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [(1, 7), (40, 1), (1, 1), (2, 3)])
def test_a_strip_of_one_pixel_is_moved_too(border, size):
    """OpenCV 5.0 never ends where it reflects a side of one pixel."""
    image = torch.full((1, 3, *size), 0.25)
    matrix = camera.matrix(Camera(zoom=0.6, rotate=30.0, pan_x=0.3), size)
    moved = camera.move(image, matrix, border, fill=image)
    torch.testing.assert_close(moved, image, rtol=0, atol=1e-4)


def test_what_lies_behind_the_horizon_is_not_seen_upside_down():
    """A floor that is black where it ends before the viewer's feet: its mirror image in the sky
    would be black above, where the far end belongs.
    """
    floor = torch.linspace(1, 0, SIZE[0])[None, None, :, None].expand(1, 3, *SIZE).contiguous()
    matrix = camera.matrix(Camera(tilt=45.0), SIZE, share=1.7)
    moved = camera.move(floor, matrix, "replicate")
    assert float(moved[..., 0, :].min()) > 0.95
    assert bool((moved.diff(dim=-2) < 0.01).all())


def test_wrap_brings_in_the_other_side_without_a_seam():
    image = texture(*SIZE, sigma=2)
    moved = camera.move(image, camera.matrix(Camera(pan_x=0.25), SIZE), "wrap")
    torch.testing.assert_close(moved, image.roll(40, -1), rtol=0, atol=1e-4)


def test_outpaint_shows_the_fill_beyond_the_border_and_only_there():
    image, fill = torch.full((1, 3, *SIZE), 0.2), torch.full((1, 3, *SIZE), 0.9)
    moved = camera.move(image, camera.matrix(Camera(pan_x=0.25), SIZE), "outpaint", fill)
    assert float(moved[..., :39].min()) > 0.89
    assert float(moved[..., 41:].max()) < 0.21


def test_a_camera_at_rest_returns_the_very_picture():
    image = texture(*SIZE)
    assert camera.move(image, camera.matrix(Camera(), SIZE), "reflect") is image


def test_drawing_back_does_not_alias():
    stripes = torch.zeros(1, 3, 128, 128)
    stripes[..., ::2] = 1
    moved = camera.move(stripes, camera.matrix(Camera(zoom=0.55), (128, 128)), "reflect")
    assert float(moved[..., 40:88, 40:88].std()) < 0.2


def test_ten_moves_of_half_a_pixel_keep_nearly_all_contrast():
    image = texture(*SIZE, sigma=2)
    there = camera.matrix(Camera(pan_x=0.5 / 160), SIZE)
    moved = image
    for _ in range(10):
        moved = camera.move(moved, there, "wrap")
    torch.testing.assert_close(moved, image.roll(5, -1), rtol=0, atol=0.15)
    assert float(moved.std()) > 0.95 * float(image.std())
