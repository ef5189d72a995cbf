import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from dreamflow.errors import BadMediaError, InputMissingError, OutputError, UsageError
from dreamflow.video.stills import (
    STILL_FORMATS,
    read_still,
    read_still_with_alpha,
    still_metadata,
    still_size,
    write_still,
)

SETTINGS = '{"seed": 7, "look": "Zürich \\u2603 ünïcode ☃", "more": "' + "x" * 20_000 + '"}'


def noise(*shape, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top, shape, dtype=dtype, endpoint=True)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with_header(width, height, *, data=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp"])
def test_colour_pictures_come_back_exactly(tmp_path, name):
    array = noise(5, 7, 3)
    Image.fromarray(array).save(tmp_path / name, **({"lossless": True} if "webp" in name else {}))
    np.testing.assert_array_equal(read_still(tmp_path / name), array)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_pictures_keep_every_bit(tmp_path, name, channels):
    array = noise(5, 7, channels, dtype=np.uint16)
    cv2.imwrite(str(tmp_path / name), array[..., ::-1])
    read = read_still(tmp_path / name)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, np.broadcast_to(array, (5, 7, 3)))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA"])
def test_grey_and_palette_become_rgb(tmp_path, mode):
    Image.fromarray(noise(5, 7, 3)).convert("L").convert(mode).save(tmp_path / "a.png")
    read = read_still(tmp_path / "a.png")
    assert read.shape == (5, 7, 3)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read[..., 0], read[..., 2])


def test_gif_first_frame_is_taken_and_said(tmp_path, caplog):
    first, second = (Image.new("RGB", (6, 4), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert (read_still(tmp_path / "a.gif") == [255, 0, 0]).all()
    assert "first frame" in caplog.text


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_exif_orientation_is_applied(tmp_path, name, orientation):
    # The corner that is white once upright, by the definition of each orientation.
    stored = {
        1: (0, 0),
        2: (0, -1),
        3: (-1, -1),
        4: (-1, 0),
        5: (0, 0),
        6: (-1, 0),
        7: (-1, -1),
        8: (0, -1),
    }[orientation]
    array = np.zeros((16, 32, 3), np.uint8)
    rows = slice(0, 8) if stored[0] == 0 else slice(8, 16)
    columns = slice(0, 8) if stored[1] == 0 else slice(24, 32)
    array[rows, columns] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / name, exif=exif)
    read = read_still(tmp_path / name)
    assert read.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
    assert still_size(tmp_path / name) == (read.shape[1], read.shape[0])
    assert read[:8, :8].mean() > 240
    assert read.mean() < 255 / 7


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_orientation_agrees_with_8_bit(tmp_path, orientation):
    array = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / "8.png", exif=exif)
    plain = cv2.imencode(".png", array[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    tag = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "16.png").write_bytes(plain[:33] + tag + plain[33:])
    np.testing.assert_array_equal(
        read_still(tmp_path / "16.png"), read_still(tmp_path / "8.png").astype(np.uint16) * 257
    )


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    for colour in ("red", "green", "white", "black"):
        rgb = Image.new("RGB", (16, 16), colour)
        rgb.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
        difference = read_still(tmp_path / "a.jpg").astype(int) - np.asarray(rgb)
        assert abs(difference).max() <= 3


def swapped_profile():
    """The sRGB profile with another name and its red and blue primaries exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = (data.index(tag) + 4 for tag in (b"rXYZ", b"bXYZ"))
    data[red : red + 4], data[blue : blue + 4] = data[blue : blue + 4], data[red : red + 4]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "xBGR".encode("utf-16-be"))


def test_an_embedded_profile_is_followed(tmp_path):
    picture = Image.new("RGB", (8, 8), (255, 0, 0))
    picture.save(tmp_path / "a.png", icc_profile=swapped_profile())
    assert read_still(tmp_path / "a.png")[0, 0].tolist() == pytest.approx([0, 0, 255], abs=2)


def test_a_damaged_profile_is_left_out(tmp_path):
    picture = Image.new("RGB", (8, 8), (255, 0, 0))
    picture.save(tmp_path / "a.png", icc_profile=b"no profile at all")
    assert read_still(tmp_path / "a.png")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_split_off_or_laid_over_black_with_a_warning(tmp_path, caplog, dtype):
    array, alpha = noise(5, 7, 3, dtype=dtype), noise(5, 7, dtype=dtype)
    write_still(tmp_path / "a.png", array, alpha=alpha)
    still = read_still_with_alpha(tmp_path / "a.png")
    np.testing.assert_array_equal(still.pixels, array)
    np.testing.assert_array_equal(still.alpha, alpha)
    assert not caplog.records
    flat = read_still(tmp_path / "a.png")
    share = alpha[..., None] / np.iinfo(dtype).max
    np.testing.assert_array_equal(flat, np.rint(array * share))
    assert "transparency" in caplog.text


def test_palette_transparency_is_alpha(tmp_path):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "a.gif", transparency=0)
    still = read_still_with_alpha(tmp_path / "a.gif")
    assert still.alpha is not None
    assert still.alpha[0, 0] == 0
    assert (still.alpha.ravel()[1:] == 255).all()


def test_opaque_alpha_is_no_alpha(tmp_path, caplog):
    write_still(tmp_path / "a.png", noise(3, 3, 3), alpha=np.full((3, 3), 255, np.uint8))
    assert read_still_with_alpha(tmp_path / "a.png").alpha is None
    read_still(tmp_path / "a.png")
    assert not caplog.records


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (101, 57)])
def test_odd_and_tiny_sizes_come_back(tmp_path, size):
    array = noise(size[1], size[0], 3)
    write_still(tmp_path / "a.png", array)
    np.testing.assert_array_equal(read_still(tmp_path / "a.png"), array)


def test_size_limit_is_checked_from_the_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_with_header(16_384, 16_384, data=bytes(1000)))
    assert still_size(path) == (16_384, 16_384)
    with pytest.raises(BadMediaError, match=r"16384x16384.*64 megapixels.*--max-pixels"):
        read_still(path)
    Image.new("RGB", (10, 10)).save(path)
    with pytest.raises(BadMediaError, match="10x10"):
        read_still(path, max_pixels=99)
    assert read_still(path, max_pixels=100).shape == (10, 10, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain text\n",
        b"<html><body>not found</body></html>",
        noise(5000).tobytes(),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
    ids=["empty", "text", "html", "noise", "postscript"],
)
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadMediaError, match=r"a\.png"):
        read_still(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["8.png", "16.png", "a.jpg", "a.webp", "a.tif", "a.gif"])
def test_damaged_pictures_are_refused_or_read_but_never_crash(tmp_path, name, capfd):
    if name == "16.png":
        cv2.imwrite(str(tmp_path / name), noise(20, 20, 3, dtype=np.uint16))
    else:
        Image.fromarray(noise(20, 20, 3)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    random = np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole[: random.integers(1, len(whole))])
        damaged[random.integers(len(damaged))] ^= 0xFF
        (tmp_path / name).write_bytes(damaged)
        try:
            read_still(tmp_path / name)
        except BadMediaError:
            refused += 1
    assert refused > 20
    assert capfd.readouterr().err == ""


def test_missing_folder_fifo_and_unreadable_are_missing_inputs(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    for path in (tmp_path / "no.png", tmp_path, tmp_path / "fifo.png"):
        with pytest.raises(InputMissingError):
            read_still(path)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_is_lossless_in_both_depths(tmp_path, dtype):
    array = noise(6, 5, 3, dtype=dtype)
    write_still(tmp_path / "a.png", array)
    read = read_still(tmp_path / "a.png")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("suffix", STILL_FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_settings_travel_in_every_format_and_depth(tmp_path, suffix, dtype):
    write_still(tmp_path / f"a{suffix}", noise(16, 16, 3, dtype=dtype), metadata=SETTINGS)
    assert still_metadata(tmp_path / f"a{suffix}") == SETTINGS
    assert read_still(tmp_path / f"a{suffix}").shape == (16, 16, 3)


@pytest.mark.parametrize("suffix", STILL_FORMATS)
def test_no_settings_are_found_where_none_were_written(tmp_path, suffix):
    write_still(tmp_path / f"a{suffix}", noise(8, 8, 3))
    assert still_metadata(tmp_path / f"a{suffix}") is None


def test_a_foreign_jpeg_comment_is_not_ours(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", comment=b"made elsewhere")
    assert still_metadata(tmp_path / "a.jpg") is None


def test_settings_too_long_for_a_jpeg_are_refused(tmp_path):
    with pytest.raises(OutputError, match=r"write \.png"):
        write_still(tmp_path / "a.jpg", noise(8, 8, 3), metadata="x" * 70_000)
    assert not list(tmp_path.iterdir())


def test_jpeg_keeps_colour_at_full_resolution(tmp_path):
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 200
    write_still(tmp_path / "a.jpg", stripes)
    assert abs(read_still(tmp_path / "a.jpg").astype(int) - stripes).max() < 25


def test_16_bits_are_rounded_to_8_where_the_format_holds_8(tmp_path):
    write_still(tmp_path / "a.jpg", np.full((8, 8, 3), 128 * 257 - 120, np.uint16))
    assert (read_still(tmp_path / "a.jpg") == 128).all()


def test_webp_keeps_alpha_and_jpeg_flattens_it_with_a_warning(tmp_path, caplog):
    array = np.full((8, 8, 3), 200, np.uint16) * 257
    alpha = np.zeros((8, 8), np.uint16)
    alpha[:4] = 65535
    write_still(tmp_path / "a.webp", array, alpha=alpha)
    kept = read_still_with_alpha(tmp_path / "a.webp").alpha
    np.testing.assert_array_equal(kept, alpha // 257)
    assert not caplog.records
    write_still(tmp_path / "a.jpg", array, alpha=alpha)
    assert "transparency" in caplog.text
    flat = read_still(tmp_path / "a.jpg")
    assert flat[0, 0, 0] > 190
    assert flat[7, 7, 0] < 10


def test_unknown_ending_lists_the_allowed_ones(tmp_path):
    with pytest.raises(UsageError, match=r"\.png, \.jpg, \.jpeg, \.webp"):
        write_still(tmp_path / "a.xyz", noise(2, 2, 3))


@pytest.mark.parametrize(
    "name",
    ["-y.png", "a b'\";$(id).png", "%d.png", "concat:a|b.png", "http:x.png", "a\nb.png", "🌀.PNG"],
)
def test_hostile_names_are_plain_files(tmp_path, name):
    array = noise(3, 3, 3)
    write_still(tmp_path / name, array)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(read_still(tmp_path / name), array)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(Exception, match=r"a\.png") as caught:
        write_still(tmp_path / "a.png", noise(3, 3, 3))
    assert caught.value.exit_code == 74
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(OutputError, match="missing"):
        write_still(tmp_path / "missing" / "a.png", noise(3, 3, 3))


def test_written_files_have_usual_rights(tmp_path):
    write_still(tmp_path / "a.png", noise(3, 3, 3))
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode
