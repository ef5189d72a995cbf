"""Rows 5, 7 and 9 to 19: what is read, what reads it, and where the result shall go."""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import NO_DREAM, OLD, contents, frames_of
from PIL import Image

from dreamflow.video import ffmpeg
from dreamflow.video.limits import MAX_FRAMES, MAX_STREAMS
from dreamflow.video.probe import probe
from dreamflow.video.stills import read_still, read_still_with_alpha, write_still

TEST_CARD = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2")
NOISE = ("-vf", "noise=alls=40:allf=t")
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module")
def clip(media):
    """Three frames, without sound."""
    return media.counter("three.mp4", frames=3)


# ── 5: ffmpeg ──

PRINTS_VERSION = "#!/bin/sh\necho 'ffmpeg version 5.1.2'\necho 'libavutil      57. 28.100'\n"


@pytest.mark.parametrize(
    ("script", "mode", "said"),
    [
        (None, 0, "cannot run ffmpeg at"),
        (PRINTS_VERSION, 0o755, "is too old: ffmpeg version 5.1.2"),
        (PRINTS_VERSION, 0o644, "cannot run ffmpeg at"),
        ("#!/bin/sh\necho no\n", 0o755, "is not ffmpeg"),
    ],
    ids=["missing", "too old", "not executable", "another program"],
)
def test_row_05_an_ffmpeg_that_is_none_is_named(command, clip, monkeypatch, script, mode, said):
    binary = Path.cwd() / "ffmpeg"
    if script is not None:
        binary.write_text(script)
        binary.chmod(mode)
    monkeypatch.setenv("DREAMFLOW_FFMPEG", str(binary))
    line = command.refused_video(69, clip)
    assert str(binary) in line
    assert said in line
    assert "FFmpeg 6.0 or newer" in line


# ── 7: the output ──


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere/new.mp4", "No such file or directory: nowhere"),
        ("full/", "a folder with files in it"),
        ("full", "a folder with files in it"),
        ("full/old.mp4", "give -y to overwrite it"),
        ("full/old.mp4/new.mp4", "Not a directory"),
        ("/proc/new.mp4", "/proc"),
    ],
)
def test_row_07_an_output_that_cannot_be_is_refused_before_any_work(command, target, said):
    Path("full").mkdir()
    Path("full/old.mp4").write_bytes(OLD)
    line = command.refusal(73, "video", "never looked at.mp4", "-o", target)
    assert said in line


def test_row_07_a_read_only_folder_is_refused(command, clip):
    Path("kept").mkdir()
    if subprocess.run(["chattr", "+i", "kept"], capture_output=True).returncode:
        Path("kept").chmod(0o555)
        if os.access("kept", os.W_OK):
            pytest.skip("nothing is read-only to root here")
    try:
        assert "kept" in command.refusal(73, "video", clip, "-o", "kept/new.mp4")
    finally:
        subprocess.run(["chattr", "-i", "kept"], capture_output=True)


def test_row_07_the_old_file_survives_a_failed_run_and_gives_way_to_a_good_one(
    command, clip, damaged, tmp_path
):
    line = command.refused_video(65, damaged(clip, tmp_path / "cut.mp4", keep=0.5))
    assert "cut.mp4" in line
    command.video(clip, "old.mkv", "-y")
    assert probe(Path("old.mkv")).frame_count == 3


# ── 9, 10: what is no clip ──


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.mp4", "no such file: missing.mp4"),
        ("folder", "no pictures in folder"),
        ("fifo.mp4", "not a file but a pipe"),
        ("/dev/zero", "not a file but a pipe, socket or device"),
        ("frame_%04d.png", "no file and no pictures by the name"),
        ("loop.png", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
    ],
)
@pytest.mark.parametrize("verb", ["video", "image", "shots"])
def test_row_09_what_is_not_there_to_be_read_is_named(command, verb, name, said):
    Path("folder").mkdir()
    os.mkfifo("fifo.mp4")
    os.symlink("loop.png", "loop.png")
    output = () if verb == "shots" else ("-o", "new.mkv" if verb == "video" else "new.png")
    line = command.refusal(66, verb, name, *output)
    if verb == "video":
        assert said in line
    assert name in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_row_09_what_may_not_be_read_is_said_so(command, clip):
    Path("secret.mp4").write_bytes(clip.read_bytes())
    Path("secret.mp4").chmod(0)
    assert "Permission denied" in command.refused_video(66, "secret.mp4")


NO_CLIPS = {
    "empty": (b"", "it is empty (zero bytes)"),
    "text": (b"A dream within a dream.\n" * 40, "it is text, not a video"),
    "web page": (b"<!DOCTYPE html>\n<html><video src='a.mp4'></html>", "a web page (HTML)"),
    "noise": (np.random.default_rng(7).bytes(5000), "not a video"),
    "zeros": (bytes(100_000), "not a video"),
}


@pytest.mark.parametrize(("content", "said"), NO_CLIPS.values(), ids=NO_CLIPS.keys())
def test_row_10_what_is_no_video_is_named_for_what_it_is(command, content, said):
    Path("clip.mp4").write_bytes(content)
    assert said in command.refused_video(65, "clip.mp4")


def test_row_10_sound_and_cover_art_are_not_video(command, media, tmp_path):
    tone = media.draw("tone.mp4", "-f", "lavfi", "-i", "sine=d=0.2", "-c:a", "aac")
    assert "there is sound in it but no video" in command.refused_video(65, tone)
    cover = tmp_path / "cover.png"
    write_still(cover, np.zeros((16, 16, 3), np.uint8))
    art = ["-f", "image2", "-i", str(cover), "-map", "0", "-map", "1", "-c:v", "png"]
    sound = ["-f", "lavfi", "-i", "sine=d=0.2", *art, "-c:a", "aac"]
    album = media.draw("album.m4a", *sound, "-disposition:v", "attached_pic", "-f", "mp4")
    assert "cover art" in command.refused_video(65, album)


# ── 11, 12: damage ──


@pytest.fixture(scope="module")
def noisy(media):
    """48 frames too busy to be small, their index at the head."""
    fast = ("-movflags", "+faststart", "-g", "12")
    return media.draw("noisy.mp4", *TEST_CARD, *NOISE, "-frames:v", "48", *X264, *fast)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.8])
def test_row_11_without_its_index_a_clip_is_refused(command, clip, damaged, tmp_path, keep):
    cut = damaged(clip, tmp_path / "cut.mp4", keep=keep)
    line = command.refused_video(65, cut)
    assert f"its index (moov) is {'missing' if keep < 0.5 else 'incomplete'}" in line


def test_row_11_half_a_clip_is_refused_and_rendered_if_allowed(command, noisy, damaged, tmp_path):
    half = damaged(noisy, tmp_path / "half.mp4", keep=0.5)
    line = command.refused_video(65, half)
    ways = "--allow-truncated, or allow_truncated: true in a manifest,"
    assert f"of 48 frames ({ways} renders what there is)" in line
    count = int(line.partition("ended early: ")[2].split()[0])
    assert 10 < count < 40
    answer = command.video(half, "half.mkv", "--allow-truncated")
    (warning,) = answer.warnings
    assert f"ended early: {count} of 48 frames" in warning
    assert probe(Path("half.mkv")).frame_count == count


def test_row_12_the_frame_before_stands_in_for_one_that_cannot_be_read(
    command, noisy, damaged, tmp_path
):
    torn = damaged(noisy, tmp_path / "torn.mp4", at=0.4, length=3000)
    answer = command.video(torn, "out.mkv")
    (warning, *_) = answer.warnings
    lost = int(warning.partition(": frame ")[2].split()[0])
    assert (
        f"frame {lost} at {lost / 25:.3f} s cannot be read; the frame before stands in" in warning
    )
    frames = frames_of("out.mkv")
    assert len(frames) == 48
    assert np.array_equal(frames[lost], frames[lost - 1])
    assert not np.array_equal(frames[40], frames[39])
    line = command.refused_video(65, torn, "--strict")
    assert f"frame {lost} at {lost / 25:.3f} s cannot be read" in line


# ── 13: sizes ──

SIZES = [(1, 1), (2, 2), (101, 57), (16, 16), (3, 200)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ending", [pytest.param("mkv", marks=pytest.mark.slow), "mp4"])
def test_row_13_one_frame_of_any_size_is_rendered(command, media, size, ending):
    width, height = size
    drawn = ["-f", "lavfi", "-i", f"color=s={width}x{height},format=gbrp,geq=r=X*20:g=Y*9:b=99"]
    clip = media.draw("one.mkv", *drawn, "-frames:v", "1", "-c:v", "ffv1")
    answer = command("video", clip, "-o", f"out.{ending}", "--threads", "1", "-s", "dream.steps=1")
    assert answer.code == 0, answer.err
    made = probe(Path(f"out.{ending}"))
    odd = ending == "mp4" and (width % 2 or height % 2)
    padded = (width + width % 2, height + height % 2) if odd else size
    assert ((made.width, made.height), made.frame_count) == (padded, 1)
    assert any("is padded to" in warning for warning in answer.warnings) == bool(odd)


# ── 14: time ──


@pytest.mark.parametrize("rate", ["24000/1001", "12", "60000/1001", "240", "1000"])
def test_row_14_a_rate_is_exact(command, media, rate):
    command.video(media.counter("a.mp4", rate=rate, frames=8), "out.mp4")
    made = probe(Path("out.mp4"))
    assert (made.rate, made.frame_count, made.variable_rate) == (Fraction(rate), 8, False)
    assert made.duration == 8 / Fraction(rate)


def test_row_14_a_variable_rate_is_resampled_once_and_keeps_its_length(command, media):
    uneven = "setpts='(N+4*floor(N/3))/25/TB'"
    clip = media.counter("vfr.mkv", "-vf", uneven, "-fps_mode", "vfr", frames=18)
    source = probe(clip)
    answer = command.video(clip, "out.mp4")
    (warning,) = answer.warnings
    assert "variable frame rate" in warning
    made = probe(Path("out.mp4"))
    assert not made.variable_rate
    assert made.rate == source.rate
    assert abs(made.duration - source.duration) <= 1 / made.rate


TIMES = {
    "late": ("-itsoffset", "0.4"),
    "negative": ("-itsoffset", "-0.4"),
}


@pytest.mark.parametrize("shift", TIMES.values(), ids=TIMES.keys())
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_row_14_sound_stays_with_a_picture_that_begins_late_or_early(
    command, media, clip_path, shift, ending
):
    """The same clip twice: its picture moved, its sound not."""
    inputs = [*shift, ffmpeg.Input(clip_path), ffmpeg.Input(clip_path)]
    maps = ["-map", "0:v", "-map", "1:a", "-c", "copy"]
    clip = media.draw(f"moved.{ending}", *inputs, *maps, "-avoid_negative_ts", "disabled")
    source = probe(clip)
    command.video(clip, f"out.{ending}")
    made = probe(Path(f"out.{ending}"))
    offsets = [facts.sounds[0].start - facts.start for facts in (source, made)]
    assert abs(offsets[0] - offsets[1]) < Fraction(1, 500)
    assert (made.rate, made.frame_count) == (source.rate, source.frame_count)


def test_row_14_an_edit_list_is_obeyed(command, media):
    whole = media.counter("whole.mp4", "-g", "24")
    cut = ["-ss", "0.5", ffmpeg.Input(whole), "-c", "copy"]
    clip = media.draw("edited.mp4", *cut)
    source = probe(clip)
    assert source.frame_count < 24  # the file still holds them all, behind its edit list
    command.video(clip, "out.mkv")
    numbers = [media.count_of(frame) for frame in frames_of("out.mkv")]
    assert numbers == list(range(24 - source.frame_count, 24))


# ── 15: shapes ──


def alike(frame, expected):
    """Whether two pictures are the same but for where their chroma was sampled."""
    return np.abs(frame.astype(np.int16) - expected).mean() < 10


def test_row_15_rotated_and_anamorphic_clips_come_out_upright_with_square_pixels(command, media):
    plain = media.draw("a.mp4", *TEST_CARD, "-frames:v", "2", *X264)
    turned = media.draw("b.mp4", "-display_rotation", "90", ffmpeg.Input(plain), "-c", "copy")
    wide = ["-frames:v", "2", *X264, "-vf", "setsar=2/1"]
    anamorphic = media.draw("c.mp4", *TEST_CARD, *wide)
    command.video(turned, "turned.mkv")
    command.video(anamorphic, "wide.mkv")
    straight, rotated = frames_of(plain), frames_of("turned.mkv")
    assert alike(rotated[0], np.rot90(straight[0]))
    assert not alike(rotated[0], np.rot90(straight[0], -1))
    made = probe(Path("wide.mkv"))
    assert (made.coded_width, made.coded_height) == (128, 48)


def test_row_15_mirrored_clips_come_out_as_they_are_shown(command, media):
    plain = media.draw("a.mp4", *TEST_CARD, "-frames:v", "1", *X264)
    mirrored = media.draw("m.mp4", "-display_hflip", ffmpeg.Input(plain), "-c", "copy")
    command.video(mirrored, "out.mkv")
    assert alike(frames_of("out.mkv")[0], frames_of(plain)[0][:, ::-1])
    assert not alike(frames_of("out.mkv")[0], frames_of(plain)[0])


def test_row_15_interlaced_clips_are_rendered_with_a_warning(command, media):
    fields = [*TEST_CARD, "-frames:v", "2", *X264, "-flags", "+ildct+ilme", "-x264opts", "tff=1"]
    answer = command.video(media.draw("i.mp4", *fields, "-vf", "setfield=tff"), "out.mkv")
    (warning,) = answer.warnings
    assert "is interlaced" in warning
    assert probe(Path("out.mkv")).frame_count == 2


# ── 16: colours ──

PATCH = (180, 60, 40)
TAGS = {
    "601": ("yuv420p", "smpte170m", "tv"),
    "709": ("yuv420p", "bt709", "tv"),
    "full range": ("yuv420p", "bt709", "pc"),
    "10 bits": ("yuv420p10le", "bt709", "tv"),
    "4:2:2": ("yuv422p", "smpte170m", "tv"),
    "4:4:4": ("yuv444p", "bt709", "tv"),
    "untagged": ("yuv420p", "", "tv"),
}


def patch(pixel_format, matrix, span):
    """Arguments that draw two frames of one colour, coded so; ffmpeg's scaler is told all."""
    red, green, blue = PATCH
    source = f"color=c=0x{red:02x}{green:02x}{blue:02x}:s=64x48:r=25,format=gbrp"
    scale = f"scale=out_color_matrix={matrix or 'smpte170m'}:out_range={span}"
    tags = f"setparams=colorspace={matrix or 'unknown'}:range={span}"
    unsaid = "color_primaries=unknown:color_trc=unknown"
    graph = f"{scale},format={pixel_format},{tags}:{unsaid}"
    return ["-f", "lavfi", "-i", source, "-frames:v", "2", "-vf", graph]


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS.keys())
@pytest.mark.parametrize("ending", [pytest.param("mkv", marks=pytest.mark.slow), "mp4"])
def test_row_16_colours_come_back(command, media, tags, ending):
    clip = media.draw("p.mkv", *patch(*tags), "-c:v", "ffv1")
    command.video(clip, f"out.{ending}", "-s", "output.crf=4")
    frame = frames_of(f"out.{ending}")[0]
    scale = 257 if frame.dtype == np.uint16 else 1
    assert np.abs(frame[24, 32] / scale - PATCH).max() <= 2


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_row_16_high_dynamic_range_is_brought_to_the_screen(command, media, transfer):
    grey = "color=s=64x48:r=25,format=yuv420p10le,geq=lum=502:cb=512:cr=512"
    tags = f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer}:range=tv"
    drawn = ["-f", "lavfi", "-i", f"{grey},{tags}", "-frames:v", "1", "-c:v", "ffv1"]
    command.video(media.draw("hdr.mkv", *drawn), "out.mp4", "-s", "output.crf=4")
    color = probe(Path("out.mp4")).color
    assert (color.matrix, color.primaries, color.transfer) == ("bt709", "bt709", "bt709")
    red, green, blue = (int(value) for value in frames_of("out.mp4")[0][24, 32])
    assert max(red, green, blue) - min(red, green, blue) <= 3
    assert 60 < green < 250


# ── 17: stills ──


def colours(mode):
    ramp = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3) * 80 % 65536
    return Image.fromarray((ramp // 257).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_row_17_pictures_of_every_kind_are_rendered_in_rgb(command, mode):
    name = "in.tif" if mode == "CMYK" else "in.png"
    colours(mode).save(name)
    command.image(name, "out.png")
    expected = np.asarray(colours(mode).convert("RGB"), np.int16)
    assert np.abs(read_still(Path("out.png")).astype(np.int16) - expected).max() <= 1


def test_row_17_alpha_and_sixteen_bits_are_kept_where_the_target_can(command):
    pixels = np.arange(24 * 32 * 3, dtype=np.uint16).reshape(24, 32, 3) * 20
    alpha = np.full((24, 32), 40_000, np.uint16)
    write_still(Path("in.png"), pixels, alpha=alpha)
    command.image("in.png", "out.png")
    still = read_still_with_alpha(Path("out.png"))
    assert still.pixels.dtype == np.uint16
    assert np.array_equal(still.alpha, alpha)
    (warning,) = command.image("in.png", "flat.jpg").warnings
    assert "laid over black" in warning
    (warning,) = command.video("in.png", "flat.mp4").warnings
    assert "laid over black" in warning


def test_row_17_a_palette_gif_is_a_clip(command, media):
    clip = media.draw("a.gif", *TEST_CARD, "-frames:v", "3")
    command.video(clip, "out.gif")
    assert probe(Path("out.gif")).frame_count == 3


# ── 18: sound ──

TONES = ("-f", "lavfi", "-i", "sine=f=440:d=0.4", "-f", "lavfi", "-i", "sine=f=880:d=0.4")


@pytest.fixture(scope="module")
def two_tracks(media):
    maps = ("-map", "0", "-map", "1", "-map", "2")
    return media.draw(
        "two.mkv", *TEST_CARD, *TONES, *maps, "-frames:v", "10", *X264, "-c:a", "pcm_s16le"
    )


def sounds_of(name):
    return [sound.codec for sound in probe(Path(name)).sounds]


def test_row_18_a_clip_without_sound_stays_without(command, clip):
    assert command.video(clip, "out.mp4").warnings == []
    assert sounds_of("out.mp4") == []


def test_row_18_tracks_are_kept_and_reencoded_only_where_the_container_cannot_hold_them(
    command, two_tracks
):
    assert command.video(two_tracks, "out.mkv").warnings == []
    assert sounds_of("out.mkv") == ["pcm_s16le", "pcm_s16le"]
    for name, codec in (("out.mp4", "aac"), ("out.webm", "opus")):
        warnings = command.video(two_tracks, name).warnings
        assert len(warnings) == 2
        assert all("is re-encoded with" in warning for warning in warnings)
        assert sounds_of(name) == [codec, codec]


def test_row_18_pcm_in_mp4_and_sound_with_an_offset_are_kept_in_sync(command, media):
    shifted = ["-itsoffset", "0.16", "-f", "lavfi", "-i", "sine=d=0.3"]
    words = ["-map", "0", "-map", "1", "-frames:v", "10", *X264, "-c:a", "pcm_s16le"]
    clip = media.draw("pcm.mp4", *TEST_CARD, *shifted, *words)
    command.video(clip, "out.mp4")
    source, made = probe(clip), probe(Path("out.mp4"))
    assert abs(made.sounds[0].start - source.sounds[0].start) < Fraction(1, 40)


# ── 19: bombs ──


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, data=b"", animation=None):
    """A PNG file whose header says so much, whatever its data hold."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    control = b"" if animation is None else chunk(b"acTL", struct.pack(">II", animation, 0))
    return b"\x89PNG\r\n\x1a\n" + head + control + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def deflated_zeros(count):
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(count >> 20)) + packer.flush()


@pytest.fixture(scope="module")
def bombs(tmp_path_factory, media):
    """Files of a few kilobytes that would take gigabytes, by name."""
    folder = tmp_path_factory.mktemp("bombs")
    zeros = deflated_zeros(16384 * (16384 * 3 + 1))
    huge = media.draw("h.mp4", "-f", "lavfi", "-i", "color=s=64x48", "-frames:v", "1", *X264)
    files = {
        "header.png": png(16384, 16384),
        "bomb.png": png(16384, 16384, data=zeros),
        "deep.png": png(2**31 - 1, 2**31 - 1),
        "a.apng": png(64, 48, data=zlib.compress(bytes(48 * 193)), animation=10**6),
        "screen.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0xF0, 0, 0) + bytes(6)
        + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00;",
        "track.mp4": huge.read_bytes().replace(
            struct.pack(">HH", 64, 48) + struct.pack(">II", 0x480000, 0x480000),
            struct.pack(">HH", 16384, 16384) + struct.pack(">II", 0x480000, 0x480000),
        ),
    }  # fmt: skip
    for name, data in files.items():
        (folder / name).write_bytes(data)
    cv2.imwrite(str(folder / "large.jpg"), np.zeros((8192, 8192), np.uint8))
    drawn = ["-f", "lavfi", "-i", "color=s=12000x6000:r=1", "-frames:v", "1", "-c:v", "mjpeg"]
    ffmpeg.run([*drawn, "-q:v", "31", "-f", "avi", ffmpeg.output_name(folder / "wide.avi")])
    return folder


MEASURED = """
import json, sys
from dreamflow import cli, job, networks
from dreamflow.video import ffmpeg
ffmpeg.version(), ffmpeg.encoders(), ffmpeg.pixel_formats()
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
before = peak()
for name in sys.argv[1:]:
    code = cli.run(["video", name, "-o", "out.mkv"])
    print(json.dumps({"code": code, "megabytes": (peak() - before) / 1000}))
"""
FFMPEG_KILOBYTES = 600_000
"""Of address space, a few times what it really uses; a picture of 72 megapixels takes more."""


def measured(*names):
    """For renders of these in one process: exit code and peak memory above the imports; stderr.

    ffmpeg runs within limits, so that a refusal for want of memory would show.
    """
    binary = Path.cwd().parent / "ffmpeg"
    binary.write_text(f'#!/bin/sh\nulimit -v {FFMPEG_KILOBYTES}\nexec "{ffmpeg.find()}" "$@"\n')
    binary.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, names)],
        env={**os.environ, "DREAMFLOW_FFMPEG": str(binary)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()], ran.stderr.splitlines()


BOMBS = ["header.png", "bomb.png", "deep.png", "large.jpg", "a.apng", "screen.gif", "wide.avi"]


@pytest.mark.parametrize("name", BOMBS)
def test_row_19_a_bomb_is_refused_from_its_header(command, bombs, name):
    line = command.refused_video(65, bombs / name)
    assert name in line
    assert ("--max-pixels" if name != "a.apng" else "1000000 frames") in line


def test_row_19_a_bomb_takes_no_room(command, bombs):
    names = ("bomb.png", "wide.avi", "a.apng")
    answers, told = measured(*(bombs / name for name in names))
    for name, answer, line in zip(names, answers, told, strict=True):
        assert ("1000000 frames" if name == "a.apng" else "--max-pixels") in line
        assert answer["code"] == 65
        assert answer["megabytes"] < 300, name
    assert contents(Path.cwd()) == {}


def test_row_19_a_picture_is_as_limited_as_a_clip(command, bombs):
    for name in ("header.png", "bomb.png", "deep.png", "large.jpg"):
        assert "--max-pixels" in command.refusal(65, "image", bombs / name, "-o", "out.png")


def test_row_19_a_header_that_lies_is_no_way_around(command, bombs):
    """A track said to be larger than its pictures, which are what counts."""
    answer = command("video", bombs / "track.mp4", "-o", "out.mkv", *NO_DREAM)
    assert answer.code in (0, 65)


def test_row_19_the_limit_can_be_raised_and_8k_passes_as_it_is(command, media):
    drawn = ["-f", "lavfi", "-i", "color=s=7680x4320", "-frames:v", "1"]
    clip = media.draw("8k.mp4", *drawn, *X264, "-preset", "ultrafast")
    command.video(clip, "out.mkv", "--size", "64")
    assert probe(Path("out.mkv")).width == 64
    line = command.refused_video(65, clip, "--max-pixels", "33000000")
    assert "33 megapixels" in line


def test_row_19_frames_hours_streams_and_tags_are_limited_too(command, media):
    picture = ["-f", "lavfi", "-i", "color=s=16x16:r=25:d=0.08"]
    ages = media.draw("ages.mkv", *picture, "-vf", "setpts=N*9e4/TB", "-fps_mode", "vfr")
    assert "outside the limits" in command.refused_video(65, ages)
    long = media.draw("long.mkv", *picture, "-vf", "setpts=N*3000/TB", "-fps_mode", "vfr")
    line = command.refused_video(65, long, "--fps", "1000")
    assert f"over the limit of {MAX_FRAMES}" in line
    tracks = [word for _ in range(MAX_STREAMS) for word in ("-map", "1")]
    many = media.draw("many.mp4", *picture, "-f", "lavfi", "-i", "sine=d=0.1", "-map", "0", *tracks)
    assert f"more than {MAX_STREAMS} streams" in command.refused_video(65, many)
    talk = media.draw("plain.mkv", *picture)
    tags = Path("tags.txt")
    tags.write_text(";FFMETADATA1\n" + "".join(f"key{n}={'x' * 900_000}\n" for n in range(10)))
    wordy = ["-f", "ffmetadata", "-i", str(tags), "-map_metadata", "1", "-map", "0", "-c", "copy"]
    chatty = media.draw("chatty.mkv", ffmpeg.Input(talk), *wordy)
    assert "its tags take over" in command.refused_video(65, chatty)


def test_outputs_have_usual_rights(command, clip):
    mask = os.umask(0o022)
    try:
        command.video(clip, "out.mp4")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(Path("out.mp4").stat().st_mode) == 0o644
