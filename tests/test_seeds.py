"""What zooms grow from, at the size of the film."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dreamflow.errors import BadMediaError, InputMissingError, UsageError
from dreamflow.frames import Box
from dreamflow.seeds import Noise, Solid, covering, draw
from dreamflow.video.stills import write_still

RULES = {"multiple": 2, "take": 0, "max_pixels": 1_000_000}


@pytest.fixture
def picture(tmp_path):
    """60x40, red on the left half, green on the right, blue in the middle."""
    array = np.zeros((40, 60, 3), np.uint8)
    array[:, :30, 0] = array[:, 30:, 1] = 200
    array[15:25, 25:35] = (0, 0, 200)
    write_still(tmp_path / "seed.png", array)
    return tmp_path / "seed.png"


@pytest.mark.parametrize(
    ("size", "shape"),
    [(None, (40, 60)), ("30", (20, 30)), ("20x20", (20, 20)), ("60x10", (10, 60)),
     ("33x21", (20, 32)), ("90x90", (90, 90))],
)  # fmt: skip
def test_a_size_is_filled_and_sides_are_even(picture, size, shape):
    array = draw(picture, size and Box.parse(size), **RULES)
    assert array.shape == (*shape, 3)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("33x21", "the film is 32x20, not 33x21: its sides are multiples of 2"),
        ("1x1", "the film is 2x2, not 1x1: its sides are multiples of 2"),
        ("33", "the film is 32x22, not 33x22: its sides are multiples of 2"),
        ("32", ""),  # whose short side, 21.3, nobody asked for
        ("30x20", ""),
        (None, ""),
    ],
)
def test_a_film_of_another_size_than_asked_for_is_told(picture, size, told, caplog):
    draw(picture, size and Box.parse(size), **RULES)
    assert caplog.messages == ([told] if told else [])


def test_a_picture_whose_sides_are_odd_is_told(tmp_path, caplog):
    write_still(tmp_path / "odd.png", np.zeros((57, 101, 3), np.uint8))
    assert draw(tmp_path / "odd.png", None, **RULES).shape == (56, 100, 3)
    assert caplog.messages == ["the film is 100x56, not 101x57: its sides are multiples of 2"]


def test_sides_stay_odd_where_the_codec_takes_them(picture):
    array = draw(picture, Box.parse("33x21"), **{**RULES, "multiple": 1})
    assert array.shape == (21, 33, 3)


def test_the_centre_is_kept_and_nothing_is_distorted(picture):
    array = draw(picture, Box.parse("40x40"), **RULES)
    blue = np.argwhere(array[..., 2] > 100)
    low, high = blue.min(0), blue.max(0)
    assert tuple(high - low + 1) == (10, 10)
    assert tuple((low + high) / 2) == (19.5, 19.5)


def test_covering_never_leaves_a_border():
    for width, height in [(7, 90), (90, 7), (1, 1), (64, 64)]:
        array = covering(np.full((33, 50, 3), 200, np.uint8), (width, height))
        assert array.shape == (height, width, 3)
        assert array.min() == 200


def test_pictures_of_all_kinds_are_upright_and_flat(tmp_path):
    turned = Image.new("CMYK", (40, 20), (0, 255, 255, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    array = draw(tmp_path / "turned.jpg", None, **RULES)
    assert array.shape == (40, 20, 3)
    assert array[..., 0].mean() > array[..., 1].mean() + 50
    deep = np.full((8, 8, 3), 40_000, np.uint16)
    write_still(tmp_path / "deep.png", deep, alpha=np.full((8, 8), 32_768, np.uint16))
    array = draw(tmp_path / "deep.png", None, **RULES)
    assert array.dtype == np.uint16
    assert abs(int(array[0, 0, 0]) - 20_000) < 3


@pytest.mark.parametrize(
    ("text", "color"),
    [("teal", (0, 128, 128)), ("#20304a", (32, 48, 74)), ("#fff", (255, 255, 255))],
)
def test_a_colour_is_a_name_or_its_numbers(text, color):
    assert Solid.parse(text) == Solid(color)
    array = draw(Solid(color), Box.parse("16x8"), **RULES)
    assert array.shape == (8, 16, 3)
    assert (array == color).all()


def test_what_is_no_colour_is_refused():
    for text in ("blurple", "", "#12", "rgb(1", "#ggg000"):
        with pytest.raises(UsageError, match="not a colour"):
            Solid.parse(text)


def test_without_a_picture_films_are_wide():
    assert draw(Solid((1, 2, 3)), None, **RULES).shape == (720, 1280, 3)
    assert draw(Solid((1, 2, 3)), Box.parse("64"), **RULES).shape == (36, 64, 3)


def test_noise_is_another_for_another_take_only():
    first, again, other = (
        draw(Noise("white"), Box.parse("32x16"), **{**RULES, "take": take}) for take in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pink_noise_is_soft_and_white_noise_is_not():
    roughness = {}
    for kind in ("pink", "white"):
        array = draw(Noise(kind), Box.parse("128x128"), **RULES).astype(float) / 65535
        assert 0.12 < array.std() < 0.2
        assert abs(array.mean() - 0.5) < 0.03
        roughness[kind] = np.abs(np.diff(array, axis=1)).mean() / array.std()
    assert roughness["white"] > 1.95 * roughness["pink"]


def test_what_cannot_be_a_seed_is_refused(tmp_path, picture):
    with pytest.raises(InputMissingError):
        draw(tmp_path / "absent.png", None, **RULES)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(BadMediaError):
        draw(tmp_path / "text.png", None, **RULES)
    with pytest.raises(UsageError, match="over the limit"):
        draw(picture, Box.parse("2000x2000"), **RULES)


@pytest.mark.parametrize("kind", ["pink", "white"])
def test_noise_is_more_grey_than_coloured(kind):
    array = draw(Noise(kind), Box.parse("64x48"), **RULES).astype(float)
    grey = array.mean(axis=2, keepdims=True)
    assert 0.1 < (array - grey).std() / grey.std() < 0.9
