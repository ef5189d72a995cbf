from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from dreamflow.errors import BadMediaError, InputMissingError, UsageError
from dreamflow.frames import Array, Box, Moment
from dreamflow.video import ffmpeg
from dreamflow.video.ffmpeg import FFmpegError, Input
from dreamflow.video.probe import probe
from dreamflow.video.reader import _FrameLog, open_clip

PATCHES = np.array(
    [(255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 40, 30), (40, 180, 60), (30, 60, 200),
     (220, 200, 40), (120, 60, 160)], np.float64,
)  # fmt: skip
PATCH_SIDE = 16
LUMA_WEIGHTS = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593)}


def read(path: Path, **options) -> list[Array]:
    with open_clip(path, **options) as clip:
        frames = list(clip.frames())
        assert len(frames) == clip.info.frame_count
        for frame in frames:
            assert frame.shape == (clip.info.height, clip.info.width, 3)
            assert frame.dtype == (np.uint8 if clip.info.bits == 8 else np.uint16)
    return frames


def numbers(media, path: Path, **options) -> list[int]:
    return [media.count_of(frame) for frame in read(path, **options)]


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "decoder"]


def yuv_planes(standard: str, bits: int, full: bool) -> Array:
    """The patches side by side as planar Y'CbCr 4:4:4, by the formulas of ITU-R BT.601/709/2020."""
    rgb = PATCHES / 255
    red, blue = LUMA_WEIGHTS[standard]
    luma = rgb @ np.array([red, 1 - red - blue, blue])
    cb, cr = (rgb[:, 2] - luma) / (2 - 2 * blue), (rgb[:, 0] - luma) / (2 - 2 * red)
    unit = 2 ** (bits - 8)
    if full:
        top = 2**bits - 1
        rows = [luma * top, cb * top + 128 * unit, cr * top + 128 * unit]
    else:
        rows = [(luma * 219 + 16) * unit, (cb * 224 + 128) * unit, (cr * 224 + 128) * unit]
    wide = np.rint(rows).clip(0, 2**bits - 1).repeat(PATCH_SIDE, axis=1)
    planes = wide[:, None, :].repeat(PATCH_SIDE, axis=1)
    return planes.astype(np.uint8 if bits == 8 else np.uint16)


@pytest.fixture
def patches(tmp_path) -> Callable[..., Path]:
    """Encodes the patches without loss and with the given tags."""

    def encode(standard: str, tags: str, *, bits: int = 8, full: bool = False) -> Path:
        raw = tmp_path / "patches.yuv"
        raw.write_bytes(yuv_planes(standard, bits, full).tobytes())
        kind = "yuv444p" if bits == 8 else "yuv444p10le"
        size = f"{len(PATCHES) * PATCH_SIDE}x{PATCH_SIDE}"
        source = ["-f", "rawvideo", "-s", size, "-pix_fmt", kind, "-i", f"file:{raw}"]
        filters = ["-vf", f"setparams={tags}"] if tags else []
        target = tmp_path / "patches.mp4"
        lossless = ["-c:v", "libx264", "-qp", "0", "-pix_fmt", kind]
        ffmpeg.run([*source, *filters, *lossless, ffmpeg.output_name(target)])
        return target

    return encode


def patch_levels(frame: Array) -> Array:
    """The middle of each patch, in 8-bit levels."""
    middle = frame[PATCH_SIDE // 2, PATCH_SIDE // 2 :: PATCH_SIDE].astype(np.float64)
    return middle * 255 / np.iinfo(frame.dtype).max


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_every_frame_comes_once_and_in_order(media, name, rate):
    path = media.counter(name, "-bf", "2", rate=rate)
    with open_clip(path) as clip:
        assert clip.info.rate == Fraction(rate)
        assert clip.info.duration == 24 / Fraction(rate)
    assert numbers(media, path) == list(range(24))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.ts", "libx264"), ("a.mpg", "mpeg2video"), ("a.webm", "libvpx"), ("a.avi", "ffv1")],
)
def test_containers_without_good_times_keep_their_count(media, name, codec):
    assert numbers(media, media.counter(name, codec=codec)) == list(range(24))


def test_one_frame_is_read(media):
    assert numbers(media, media.counter("one.mp4", frames=1)) == [0]


@pytest.mark.parametrize("size", ["1x1", "2x2", "101x57", "16x16"])
def test_odd_and_tiny_sizes_are_read_exactly(media, size):
    source = ["-f", "lavfi", "-i", f"color=c=0x4080c0:s={size},format=rgb24", "-frames:v", "2"]
    tiny = media.draw("tiny.mkv", *source, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    width, height = map(int, size.split("x"))
    for frame in read(tiny):
        assert frame.shape == (height, width, 3)
        assert np.all(frame == (0x40, 0x80, 0xC0))


def test_start_and_end_are_exact_in_every_container(media):
    for name in ("a.mp4", "a.mkv", "a.ts", "a.avi"):
        path = media.counter(name, "-g", "6", "-bf", "2", "-sc_threshold", "0", frames=40)
        for start in (0, 1, 17, 18, 19, 29, 39):
            cut = {"start": Moment.parse(f"{start}f"), "end": Moment.parse(f"{start + 3}f")}
            assert numbers(media, path, **cut) == list(range(40))[start : start + 3]


def test_far_starts_do_seek(media):
    path = media.counter("a.mp4", "-g", "6", "-bf", "2", "-sc_threshold", "0", frames=40)
    with open_clip(path, start=Moment.parse("30f")) as clip:
        assert "-ss" in clip._source._seek_to(30)  # pyright: ignore[reportAttributeAccessIssue]
        assert clip._source._seek_to(3) == []  # pyright: ignore[reportAttributeAccessIssue]


def test_times_count_from_the_first_frame_and_end_is_exclusive(media):
    path = media.counter("a.mp4")
    with open_clip(path, start=Moment.parse("0.4"), end=Moment.parse("0.5")) as clip:
        assert clip.info.start == Fraction(10, 25)
        assert clip.info.frame_count == 3
        assert [media.count_of(frame) for frame in clip.frames()] == [10, 11, 12]


def test_impossible_times_are_refused(media):
    path = media.counter("a.mp4")
    with pytest.raises(UsageError, match="24 frames"):
        open_clip(path, start=Moment.parse("24f"))
    with pytest.raises(UsageError, match="not behind"):
        open_clip(path, start=Moment.parse("5f"), end=Moment.parse("5f"))


def test_a_new_rate_keeps_the_duration(media):
    path = media.counter("a.mp4")
    for rate in (Fraction(50), Fraction(30000, 1001), Fraction(10), Fraction(24)):
        with open_clip(path, rate=rate) as clip:
            assert clip.info.rate == rate
            assert abs(clip.info.duration - Fraction(24, 25)) <= 1 / rate
        shown = numbers(media, path, rate=rate)
        wanted = [place * 25 / rate for place in range(len(shown))]
        assert all(abs(got - want) <= 1 for got, want in zip(shown, wanted, strict=True))


def test_the_same_rate_changes_nothing(media):
    path = media.counter("a.mkv", rate="24000/1001")
    assert numbers(media, path, rate=Fraction(24000, 1001)) == list(range(24))


def test_variable_rate_is_resampled_in_time(media, caplog):
    slowing = ["-vf", "setpts='if(lt(N,12),N,12+(N-12)*2)/25/TB'", "-fps_mode", "passthrough"]
    source = "color=s=32x24:r=25,format=yuv420p,geq=lum=20+4*N:cb=128:cr=128"
    recipe = ["-f", "lavfi", "-i", source, "-frames:v", "24", *slowing]
    path = media.draw("vfr.mp4", *recipe, "-c:v", "libx264", "-qp", "0")
    facts = probe(path)
    shown = numbers(media, path)
    assert "variable frame rate" in caplog.text
    assert abs(len(shown) / facts.rate - facts.duration) <= 1 / facts.rate
    for place, number in enumerate(shown):
        begins = (number if number < 12 else 12 + 2 * (number - 12)) / 25
        assert abs(begins - place / facts.rate) <= 2 / facts.rate


def test_edit_lists_hide_frames_and_late_video_keeps_its_start(media):
    whole = media.counter("whole.mp4", "-g", "50", "-bf", "2")
    cut, late = media.folder / "hidden.mp4", media.folder / "shifted.mp4"
    copied = ["-c", "copy", "-y"]
    ffmpeg.run(["-ss", "0.4", Input(whole), *copied, ffmpeg.output_name(cut)])
    assert numbers(media, cut) == list(range(10, 24))
    ffmpeg.run(["-itsoffset", "2.5", Input(whole), *copied, ffmpeg.output_name(late)])
    assert numbers(media, late) == list(range(24))
    with open_clip(late) as clip:
        assert clip.info.start == Fraction(5, 2)


@pytest.mark.parametrize(
    ("options", "corner"),
    [
        (["-display_rotation", "90"], (-1, 0)),
        (["-display_rotation", "180"], (-1, -1)),
        (["-display_rotation", "270"], (0, -1)),
        (["-display_rotation", "0", "-display_hflip"], (0, -1)),
    ],
)
def test_rotated_and_mirrored_clips_come_upright(media, options, corner):
    # A red block at the top left of the coded picture tells where that corner went.
    drawn = "color=s=64x32:c=blue,drawbox=c=red:w=16:h=8:t=fill"
    plain = ["-frames:v", "2", "-c:v", "libx264", "-pix_fmt", "yuv444p"]
    flat = media.draw("flat.mp4", "-f", "lavfi", "-i", drawn, *plain)
    turned = media.folder / f"turned{options[1]}{len(options)}.mp4"
    ffmpeg.run([*options, Input(flat), "-c", "copy", "-y", ffmpeg.output_name(turned)])
    frame = read(turned)[0]
    assert frame.shape == ((64, 32, 3) if options[1] in ("90", "270") else (32, 64, 3))
    red, _, blue = frame[corner].astype(int)
    assert red > 200 > 60 > blue


def test_anamorphic_clips_come_with_square_pixels(media):
    wide = ["-vf", "setsar=2", "-c:v", "libx264", "-pix_fmt", "yuv444p", "-frames:v", "1"]
    path = media.draw("wide.mp4", "-f", "lavfi", "-i", "testsrc2=s=32x32", *wide)
    assert read(path)[0].shape == (32, 64, 3)


def test_interlaced_clips_are_read_with_a_warning(media, caplog):
    lace = ["-frames:v", "2", "-vf", "interlace", "-flags", "+ilme+ildct", "-c:v", "libx264"]
    assert len(read(media.draw("lace.mp4", "-f", "lavfi", "-i", "testsrc2=s=64x48", *lace))) == 2
    assert "interlaced" in caplog.text


def test_a_size_fits_inside_its_box(media):
    path = media.draw("big.mp4", "-f", "lavfi", "-i", "testsrc2=s=64x48", "-frames:v", "1")
    assert read(path, size=Box.parse("32"))[0].shape == (24, 32, 3)
    assert read(path, size=Box.parse("200x24"))[0].shape == (24, 32, 3)
    with pytest.raises(UsageError, match="megapixels"):
        open_clip(path, size=Box.parse("99999"))


@pytest.mark.parametrize(
    ("standard", "tags", "bits", "full"),
    [
        ("601", "colorspace=smpte170m", 8, False),
        ("601", "colorspace=bt470bg", 8, False),
        ("601", "", 8, False),
        ("709", "colorspace=bt709", 8, False),
        ("709", "colorspace=bt709:range=pc", 8, True),
        ("709", "colorspace=bt709:range=tv", 10, False),
        ("709", "colorspace=bt709:range=pc", 10, True),
        ("2020", "colorspace=bt2020nc", 10, False),
    ],
)
def test_flat_colours_come_back(patches, standard, tags, bits, full):
    frame = read(patches(standard, tags, bits=bits, full=full))[0]
    assert frame.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert np.abs(patch_levels(frame) - PATCHES).max() <= (2 if bits == 8 else 1)


CHROMA_OFFSETS = {"left": (0, 0.5), "center": (0.5, 0.5), "topleft": (0, 0)}
"""How far right of and below every other luma sample its chroma lies."""


def blue_edge(offset: float, edge: float) -> Array:
    """Chroma samples, two luma samples apart from `offset` on, across a soft edge at `edge`."""
    places = 2 * np.arange(32) + offset
    return np.rint(128 + 40 * np.clip((places - edge) / 6, -1, 1))


def edge_place(levels: Array) -> float:
    """Where a row of pixels changes, on average."""
    steps = np.diff(levels.astype(np.float64))
    return float(np.average(np.arange(len(steps)) + 0.5, weights=steps))


@pytest.mark.parametrize("axis", ["across", "down"])
@pytest.mark.parametrize(
    ("location", "codec", "tagged"),
    [
        ("left", ["libx264", "-qp", "0"], True),
        ("center", ["libx264", "-qp", "0"], True),
        ("topleft", ["libx264", "-qp", "0"], True),
        ("center", ["ffv1"], True),
        ("left", ["libvpx-vp9", "-lossless", "1", "-cpu-used", "8"], False),
    ],
)
def test_chroma_lands_where_the_file_says_and_at_the_left_untold(
    tmp_path, location, codec, tagged, axis
):
    offset = CHROMA_OFFSETS[location][axis == "down"]
    blue = np.broadcast_to(blue_edge(offset, 31.2), (32, 32))
    planes = [np.full((64, 64), 120), blue if axis == "across" else blue.T, np.full((32, 32), 128)]
    data = b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
    (tmp_path / "raw").write_bytes(data)
    source = ["-f", "rawvideo", "-s", "64x64", "-i", f"file:{tmp_path / 'raw'}"]
    tag = f"setparams=chroma_location={location if tagged else 'unspecified'}"
    path = tmp_path / "edge.mkv"
    ffmpeg.run([*source, "-vf", tag, "-c:v", *codec, ffmpeg.output_name(path)])
    assert probe(path).chroma_location == (location if tagged else "unknown")
    frame = read(path)[0]
    row = frame[32, :, 2] if axis == "across" else frame[:, 32, 2]
    assert edge_place(row) == pytest.approx(31.2, abs=0.1)


def test_untagged_high_definition_is_bt709(media):
    red = "color=c=red:s=1280x16,format=gbrp,scale=out_color_matrix=bt709,format=yuv444p"
    untagged = ["-vf", "setparams=colorspace=unknown", "-frames:v", "1", "-c:v", "libx264"]
    path = media.draw("hd.mp4", "-f", "lavfi", "-i", red, *untagged, "-qp", "0")
    assert probe(path).color.matrix == "unknown"
    assert np.abs(read(path)[0][8, 8].astype(int) - (255, 0, 0)).max() <= 2


def test_wide_gamut_is_brought_to_the_screens(patches):
    tags = "colorspace=bt2020nc:color_primaries=bt2020:color_trc=bt709"
    levels = patch_levels(read(patches("2020", tags, bits=10))[0])
    greys = PATCHES.std(axis=1) == 0
    assert np.abs(levels - PATCHES)[greys].max() <= 2
    assert levels[4, 1] > PATCHES[4, 1] + 5  # the same numbers are a stronger green in BT.2020


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_high_dynamic_range_is_tone_mapped(patches, transfer):
    tags = f"colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer}:range=tv"
    levels = patch_levels(read(patches("2020", tags, bits=10))[0])
    white, black, grey = levels[:3].mean(axis=1)
    assert white > 230
    assert black < 3
    assert 40 < grey < 250
    assert levels[:3].std(axis=1).max() < 2


def test_transparency_is_laid_over_black(media, caplog):
    half = "color=c=0xC86432@0.5:s=16x16,format=rgba"
    path = media.draw("half.mov", "-f", "lavfi", "-i", half, "-frames:v", "1", "-c:v", "qtrle")
    assert np.abs(read(path)[0][8, 8].astype(int) - (100, 50, 25)).max() <= 2
    assert "laid over black" in caplog.text
    coded = ["-frames:v", "1", "-c:v", "libvpx-vp9", "-lossless", "1", "-pix_fmt", "yuva420p"]
    webm = media.draw("half.webm", "-f", "lavfi", "-i", half, *coded)
    assert np.abs(read(webm)[0][8, 8].astype(int) - (100, 50, 25)).max() <= 3


def test_a_palette_gif_is_a_clip(media, caplog):
    drawn = "color=c=0x4080c0:s=16x16:r=20:d=0.15,format=rgb24,split[a][b]"
    drawn += ";[a]palettegen[p];[b][p]paletteuse"
    frames = read(media.draw("a.gif", "-f", "lavfi", "-i", drawn, "-frames:v", "3"))
    assert len(frames) == 3
    assert np.abs(frames[0][8, 8].astype(int) - (0x40, 0x80, 0xC0)).max() <= 2
    assert not caplog.records


def test_damage_is_noticed_behind_half_a_line_of_another_thread():
    """As ffmpeg wrote it: its filter's lines come in parts, its decoder's in between."""
    log = _FrameLog()
    shown = "[Parsed_showinfo_0 @ 0x7f65] [info] n:   {} pts:    {} pts_time:0.04 type:P "
    at = "decoder -> pts:{} pts_time:0.12 pkt_dts:1536 keyframe:0"
    log.read(shown.format(1, 512) + "[vist#0:0/mpeg4 @ 0x1] [error] corrupt decoded frame")
    log.read("[Parsed_showinfo_0 @ 0x7f65] [info]  color_trc:unknown" + at.format(1536))
    log.read(shown.format(2, 1024) + at.format(2048))
    log.read(shown.format(3, 1536))
    assert [log.next_frame() for _ in range(3)] == [(512, True), (1024, True), (1536, False)]


def test_half_a_file_is_refused_unless_allowed(media, damaged, tmp_path, caplog):
    noise = ["-vf", "noise=alls=40:allf=t", "-frames:v", "48", "-c:v", "libx264"]
    source = ["-f", "lavfi", "-i", "testsrc2=s=64x48"]
    whole = media.draw("noise.mp4", *source, *noise, "-movflags", "+faststart")
    half = damaged(whole, tmp_path / "half.mp4", keep=0.5)
    with pytest.raises(BadMediaError, match=r"ended early: \d+ of 48 frames"):
        open_clip(half)
    assert 10 < len(read(half, allow_truncated=True)) < 40
    assert "ended early" in caplog.text


@pytest.mark.parametrize(
    ("name", "length", "codec"),
    [("a.mp4", 3000, ["libx264", "-g", "12"]), ("a.mov", 400, ["mpeg4", "-q:v", "3"])],
    ids=["frames missing", "frames made up"],
)
def test_an_unreadable_frame_is_replaced_by_the_one_before(
    media, damaged, tmp_path, caplog, name, length, codec
):
    noise = ["-vf", "noise=alls=40:allf=t", "-frames:v", "48", "-c:v", *codec]
    whole = media.draw(name, "-f", "lavfi", "-i", "testsrc2=s=64x48", *noise)
    torn = damaged(whole, tmp_path / name, at=0.4, length=length)
    frames = read(torn)
    assert len(frames) == 48
    gaps = [record for record in caplog.records if "cannot be read" in record.getMessage()]
    assert gaps
    lost = int(gaps[0].getMessage().split("frame ")[1].split()[0])
    assert f"at {lost / 25:.3f} s" in gaps[0].getMessage()
    assert np.array_equal(frames[lost], frames[lost - 1])
    assert np.array_equal(frames[0], read(whole)[0])
    with pytest.raises(BadMediaError, match=f"frame {lost} at .* cannot be read"):
        read(torn, strict=True)


def test_a_killed_decoder_is_an_error_and_no_short_clip(media):
    path = media.counter("long.mkv", "-vf", "scale=640:480", frames=50)
    with open_clip(path) as clip:
        frames = clip.frames()
        next(frames)
        clip._source._process._popen.kill()  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(FFmpegError):
            list(frames)


def test_closing_early_ends_thread_and_process(media):
    path = media.counter("long.mkv", "-vf", "scale=640:480", frames=50)
    before = len(os.listdir("/dev/fd"))
    with open_clip(path) as clip:
        next(clip.frames())
        held = clip.frames()
        next(held)
        assert decoders()
        process = clip._source._process  # pyright: ignore[reportAttributeAccessIssue]
    assert not decoders()
    assert process._popen.returncode is not None
    assert len(os.listdir("/dev/fd")) == before


def test_a_clip_can_be_read_twice(media):
    with open_clip(media.counter("a.mp4")) as clip:
        first, second = list(clip.frames()), list(clip.frames())
    assert all(map(np.array_equal, first, second))


# ── stills ──


def write_stills(folder: Path, names: list[str], shape=(6, 8), dtype=np.uint8) -> None:
    """Grey stills; the one at place i has brightness i (times 257 in 16 bits)."""
    folder.mkdir(exist_ok=True)
    unit = 1 if dtype == np.uint8 else 257
    for place, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((*shape, 3), place * unit, dtype))


def test_a_folder_of_stills_is_read_in_natural_order(tmp_path):
    write_stills(tmp_path / "s", [f"frame_{i}.png" for i in range(12)])
    with open_clip(tmp_path / "s") as clip:
        assert (clip.info.rate, clip.info.frame_count, clip.info.bits) == (30, 12, 8)
        assert [frame[0, 0, 0] for frame in clip.frames()] == list(range(12))


def test_strangers_in_the_folder_stay_out(tmp_path, caplog):
    write_stills(tmp_path / "s", ["frame_1.png", "frame_2.png", "cover.png"])
    (tmp_path / "s" / "notes.txt").write_text("1")
    (tmp_path / "s" / ".frame_3.png").write_text("hidden")
    assert [frame[0, 0, 0] for frame in read(tmp_path / "s")] == [0, 1]
    assert "1 pictures" in caplog.text


def test_two_series_in_a_folder_must_be_told_apart(tmp_path):
    write_stills(tmp_path / "s", ["a1.png", "a2.png", "b1.png", "b2.png"])
    with pytest.raises(InputMissingError, match=r"a#\.png, b#\.png"):
        open_clip(tmp_path / "s")
    assert len(read(tmp_path / "s" / "b%d.png")) == 2


def test_a_pattern_takes_its_numbers_and_no_others(tmp_path, caplog):
    names = ["f_0009.png", "f_0010.png", "f_0012.png", "f_11.png", "f_0011.png.bak", "g_0011.png"]
    write_stills(tmp_path / "s", [name for name in names if name.endswith(".png")])
    assert [frame[0, 0, 0] for frame in read(tmp_path / "s" / "f_%04d.png")] == [0, 1, 2]
    assert "1 numbers between 9 and 12 have no file" in caplog.text


def test_a_file_of_the_patterns_literal_name_wins(tmp_path):
    write_stills(tmp_path / "s", ["f_%04d.png", "f_0001.png", "f_0002.png"])
    assert len(read(tmp_path / "s" / "f_%04d.png")) == 1


def test_an_empty_folder_is_missing_input(tmp_path):
    with pytest.raises(InputMissingError, match="no pictures"):
        open_clip(tmp_path)


def test_mixed_sizes_are_refused_before_the_first_frame(tmp_path):
    write_stills(tmp_path / "s", ["f1.png", "f2.png"])
    cv2.imwrite(str(tmp_path / "s" / "f3.png"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(BadMediaError, match=r"f3\.png is 9x9 but f1\.png is 8x6"):
        open_clip(tmp_path / "s")


def test_stills_keep_16_bits_and_obey_rate_size_and_times(tmp_path):
    write_stills(tmp_path / "s", [f"f{i}.png" for i in range(10)], dtype=np.uint16)
    options = {"rate": Fraction(24), "size": Box.parse("4"), "start": Moment.parse("3f")}
    with open_clip(tmp_path / "s", **options) as clip:
        info = clip.info
        assert (info.width, info.height, info.bits) == (4, 3, 16)
        assert (info.rate, info.frame_count, info.start) == (24, 7, Fraction(3, 24))
        assert [frame[0, 0, 0] for frame in clip.frames()] == [257 * i for i in range(3, 10)]


def test_a_torn_still_is_replaced_by_the_one_before(tmp_path, caplog):
    write_stills(tmp_path / "s", ["f0.png", "f1.png", "f2.png"])
    torn = tmp_path / "s" / "f1.png"
    torn.write_bytes(torn.read_bytes()[:45])
    assert [frame[0, 0, 0] for frame in read(tmp_path / "s")] == [0, 0, 2]
    assert "frame 1 at 0.033 s cannot be read" in caplog.text
    with pytest.raises(BadMediaError, match="frame 1"):
        read(tmp_path / "s", strict=True)


def test_transparent_stills_are_flattened_with_one_warning(tmp_path, caplog):
    (tmp_path / "s").mkdir()
    for i in range(3):
        clear = np.full((4, 4, 4), (30, 60, 200, 128), np.uint8)
        cv2.imwrite(str(tmp_path / "s" / f"f{i}.png"), clear)
    with caplog.at_level(logging.WARNING):
        frames = read(tmp_path / "s")
    assert np.abs(frames[0][0, 0].astype(int) - (100, 30, 15)).max() <= 1
    assert caplog.text.count("laid over black") == 1
