"""Times, sizes and pixels as users and media have them."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreamflow.errors import UsageError
from dreamflow.frames import Box, Moment, VideoInfo, to_array, to_image

FILM = Fraction(24000, 1001)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", Fraction(12)),
        ("12.5", Fraction(25, 2)),
        ("0.1", Fraction(1, 10)),
        ("3.", Fraction(3)),
        (" 7 ", Fraction(7)),
        ("1:02.5", Fraction(125, 2)),
        ("1:00:00", Fraction(3600)),
        ("48f", 48 / FILM),
    ],
)
def test_times_are_read_exactly(text, seconds):
    assert Moment.parse(text).seconds(FILM) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "abc", "1.5f", "f", "1:2:3:4", "1e3", ".5", "1:", "nan", "12s", "4 8f"]
)
def test_what_is_no_time_is_refused_with_the_forms_that_are(text):
    with pytest.raises(UsageError, match=r"12\.5.*1:02\.5.*48f") as caught:
        Moment.parse(text)
    assert repr(text) in str(caught.value)


def test_the_frame_at_a_moment_is_the_one_on_screen():
    assert Moment.parse("48f").frame(FILM) == 48
    assert Moment.parse("1").frame(FILM) == 23
    assert Moment.parse("1.001").frame(FILM) == 24
    assert Moment.parse("0").frame(FILM) == 0


@given(st.integers(0, 10**6), st.sampled_from([FILM, Fraction(25), Fraction(30000, 1001)]))
def test_a_frame_number_survives_the_way_through_seconds(number, rate):
    moment = Moment.parse(f"{number}f")
    assert Moment(moment.seconds(rate)).frame(rate) == number


def test_sizes_are_a_long_side_or_a_box():
    assert Box.parse("640") == Box(640, 640)
    assert Box.parse(" 640x360 ") == Box(640, 360)


@pytest.mark.parametrize("text", ["", "0", "640x0", "0x360", "-5", "640X360x2", "640x", "1.5", "a"])
def test_what_is_no_size_is_refused_with_the_forms_that_are(text):
    with pytest.raises(UsageError, match="640x360") as caught:
        Box.parse(text)
    assert repr(text) in str(caught.value)


def test_a_picture_is_fitted_inside_the_box_in_its_own_shape():
    assert Box(640, 640).fit(1920, 1080) == (640, 360)
    assert Box(640, 360).fit(1080, 1920) == (202, 360)
    assert Box(100, 100).fit(5000, 1) == (100, 1)


@given(*[st.integers(1, 9000)] * 4)
def test_a_fitted_picture_touches_the_box_and_stays_inside(box_w, box_h, width, height):
    fitted = Box(box_w, box_h).fit(width, height)
    assert fitted[0] == box_w or fitted[1] == box_h
    assert 1 <= fitted[0] <= box_w
    assert 1 <= fitted[1] <= box_h


def test_durations_are_exact():
    assert VideoInfo(64, 48, FILM, 24).duration == Fraction(1001, 1000)


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_every_level_survives_the_way_through_an_image(dtype, bits):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    array = np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=-1).reshape(16, -1, 3)
    image = to_image(array)
    assert image.shape == (1, 3, 16, levels.size // 16)
    assert image.dtype == torch.float32
    assert float(image.min()) == 0
    assert float(image.max()) == pytest.approx(1)
    assert float(image.max()) <= 1
    restored = to_array(image, bits)
    assert restored.dtype == dtype
    assert np.array_equal(restored, array)


def test_channels_and_axes_keep_their_places():
    array = np.zeros((4, 6, 3), np.uint8)
    array[1, 5] = (255, 0, 51)
    image = to_image(array)
    torch.testing.assert_close(image[0, :, 1, 5], torch.tensor([1, 0, 0.2]))
    assert float(image.sum()) == pytest.approx(1.2)
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_an_image_does_not_share_memory_with_its_array():
    array = np.full((4, 6, 3), 100, np.uint8)
    to_image(array).zero_()
    assert array.min() == 100


def test_arrays_are_clamped_and_rounded_to_the_nearest_level():
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0])
    image = values.expand(1, 3, 1, -1)
    assert to_array(image)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
    assert to_array(image, 16)[0, :, 0].tolist() == [0, 0, 103, 154, 65535, 65535]


def test_pixels_need_torch_but_times_do_not():
    program = (
        "import sys, dreamflow.frames as f; f.Moment.parse('1'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
