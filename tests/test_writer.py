import os
import signal
import subprocess
import threading
import time
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import pytest

from dreamflow.errors import OutputError, StorageError, UnavailableError, UsageError
from dreamflow.frames import to_array, to_image
from dreamflow.settings import Output
from dreamflow.video import ffmpeg
from dreamflow.video.ffmpeg import Input
from dreamflow.video.probe import probe
from dreamflow.video.reader import open_clip
from dreamflow.video.stills import read_still
from dreamflow.video.writer import (
    CODECS,
    CONTAINERS,
    Encoder,
    check,
    check_target,
    codec_for,
    container_for,
    embedded_settings,
    join,
)

EXACT = "accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"
FAST = Output(speed="ultrafast")
RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)]
PAIRS = [(ending, codec) for ending, container in CONTAINERS.items() for codec in container.codecs]
VIDEO_PAIRS = [pair for pair in PAIRS if CONTAINERS[pair[0]].holds_sound]
SETTINGS = '{"name": "Zürich ☃; a=b#c \\\\ \\n", "lines": "one\ntwo", "x": "' + "x" * 30_000 + '"}'


def frames(count, width=64, height=48, dtype=np.uint8, seed=0):
    """Smooth moving pictures, each different."""
    random = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    coarse = random.random((count, 4, 5, 3)).astype(np.float32)
    smooth = [cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR) for grid in coarse]
    return [np.rint(array * top).astype(dtype) for array in smooth]


def encode(path, codec, arrays, rate=Fraction(25), settings=FAST, **options):
    height, width, _ = arrays[0].shape
    bits = 8 if arrays[0].dtype == np.uint8 else 16
    sizes = {"width": width, "height": height, "bits": bits}
    with Encoder(path, CODECS[codec], rate=rate, settings=settings, **sizes, **options) as encoder:
        for array in arrays:
            encoder.write(array)


def decode(path, width, height, *, deep=False):
    """All frames as RGB, by the tags that the file itself carries."""
    words = ["-vf", f"scale=flags={EXACT}", "-fps_mode", "passthrough", "-f", "rawvideo"]
    words += ["-pix_fmt", "rgb48le" if deep else "rgb24", "-"]
    data = ffmpeg.run([Input(path), "-map", "0:V:0", *words]).stdout
    return np.frombuffer(data, "<u2" if deep else np.uint8).reshape(-1, height, width, 3)


def make(path, *words):
    ffmpeg.run([*words, "-y", ffmpeg.output_name(path)])
    return path


def clip(path, *sound, video=("-c:v", "libx264", "-preset", "ultrafast"), late=(), options=()):
    """A two-second clip at 24000/1001 with a tone; `late` goes before the sound's input."""
    return make(
        path,
        *("-f", "lavfi", "-i", "testsrc=s=64x48:r=24000/1001:d=2", *late),
        *("-f", "lavfi", "-i", "sine=440:r=44100:d=2.2"),
        *(*video, "-pix_fmt", "yuv420p", *(sound or ("-c:a", "aac")), *options),
    )


def sound_packets(path, track=0):
    words = ["-map", f"0:a:{track}", "-c", "copy", "-f", "streamhash", "-hash", "sha256", "-"]
    return ffmpeg.run([Input(path), *words]).stdout


def sound_offset(path, track=0):
    """Seconds from the first picture to the first sound."""
    facts = probe(path)
    return float(facts.sounds[track].start - facts.start)


def finish(
    tmp_path, name, *, source=None, count=48, rate=Fraction(24000, 1001), codec=None, **trim
):
    target = tmp_path / name
    codec = codec or codec_for(str(tmp_path / name), Output()).name
    encode(tmp_path / "draft", codec, frames(count), rate)
    join(
        [tmp_path / "draft"], target, CODECS[codec], frame_count=count, rate=rate, source=source,
        metadata={"dreamflow": SETTINGS}, **trim,
    )  # fmt: skip
    return target


# ── choosing ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "h264"), ("a.M4V", "h264"), ("a.mov", "prores"), ("a.webm", "vp9"),
     ("a.mkv", "ffv1"), ("a.gif", "gif"), ("a/", "png")],
)  # fmt: skip
def test_the_name_chooses_the_codec(name, codec):
    assert codec_for(name, Output()).name == codec


def test_an_existing_folder_is_a_folder_of_pictures(tmp_path):
    assert codec_for(tmp_path, Output()).name == "png"


def test_a_codec_the_container_cannot_hold_is_refused_with_the_allowed_ones():
    assert codec_for("a.mov", Output(codec="h264")).name == "h264"
    with pytest.raises(UsageError, match=r"a\.mp4 cannot hold vp9: allowed there are h264, h265"):
        codec_for("a.mp4", Output(codec="vp9"))


def test_an_unknown_ending_is_refused_with_the_allowed_ones():
    with pytest.raises(UsageError, match=r"\.mp4, \.m4v, \.mov, \.webm, \.mkv, \.gif, /"):
        codec_for("a.xyz", Output())


def test_a_crf_beyond_the_codecs_own_range_is_refused():
    assert codec_for("a.webm", Output(crf=63)).name == "vp9"
    with pytest.raises(UsageError, match="0 to 51"):
        codec_for("a.mp4", Output(crf=52))


def test_depth_follows_codec_and_source():
    assert [CODECS["h264"].array_bits(bits) for bits in (8, 10, 16)] == [8, 8, 8]
    assert [CODECS["prores"].array_bits(bits) for bits in (8, 10, 16)] == [16, 16, 16]
    assert [CODECS["ffv1"].array_bits(bits) for bits in (8, 10, 16)] == [8, 16, 16]


# ── before any work ──────────────────────────────────────────────────────────────────────────────


def test_targets_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    (tmp_path / "old.mp4").write_bytes(b"old")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.mp4" / "file").touch()
    refused = {
        tmp_path / "missing" / "a.mp4": "cannot write",
        tmp_path / "old.mp4": "give -y",
        tmp_path / "old.mp4" / "a.mp4": "cannot write",
        tmp_path / "full": "files in it",
        tmp_path / "folder.mp4": "files in it",
        tmp_path / "fifo.mp4": "not a plain file",
        Path("/proc/a.mp4"): "cannot write",
        tmp_path / ("x" * 300 + ".mp4"): "cannot write",
    }
    for path, words in refused.items():
        with pytest.raises(OutputError, match=words) as caught:
            check_target(path, overwrite=path.name != "old.mp4")
        assert "\n" not in str(caught.value)
    check_target(tmp_path / "old.mp4", overwrite=True)
    assert (tmp_path / "old.mp4").read_bytes() == b"old"


def test_new_files_and_new_or_empty_folders_are_accepted_and_left_alone(tmp_path):
    (tmp_path / "empty").mkdir()
    for output in ("new.mp4", "new/", "empty", "empty/"):
        check_target(f"{tmp_path}/{output}", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_folders_that_cannot_be_replaced_are_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    monkeypatch.chdir(tmp_path / "empty")
    for output in ("./", "../link/", f"{tmp_path}/empty/"):
        with pytest.raises(OutputError, match="name a new folder inside it"):
            check_target(output, overwrite=True)
    check_target("./new/", overwrite=False)


def test_a_link_that_leads_nowhere_is_not_replaced(tmp_path):
    (tmp_path / "link.mp4").symlink_to("nowhere")
    with pytest.raises(OutputError, match="not a plain file"):
        check_target(tmp_path / "link.mp4", overwrite=True)


def test_a_folder_of_pictures_does_not_replace_a_file(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(OutputError, match="not a folder"):
        check_target(f"{tmp_path}/a/", overwrite=True)


# ── encoding ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("codec", ["ffv1", "gif"])
def test_lossless_drafts_come_back_exactly(tmp_path, codec):
    arrays = frames(3)
    encode(tmp_path / "draft", codec, arrays)
    np.testing.assert_array_equal(decode(tmp_path / "draft", 64, 48), arrays)


def test_ffv1_keeps_16_bits(tmp_path):
    arrays = frames(2, dtype=np.uint16)
    encode(tmp_path / "draft", "ffv1", arrays)
    np.testing.assert_array_equal(decode(tmp_path / "draft", 64, 48, deep=True), arrays)


def test_prores_takes_more_than_8_bits(tmp_path):
    ramp = np.linspace(20_000, 24_000, 256).astype(np.uint16)
    array = np.broadcast_to(ramp[None, :, None], (48, 256, 3))
    encode(tmp_path / "draft", "prores", [array])
    back = decode(tmp_path / "draft", 256, 48, deep=True)[0]
    assert len(np.unique(back[..., 1])) > 30  # 8 bits have 16 levels in this range
    assert abs(back.astype(int) - array).max() < 257


@pytest.mark.parametrize(("ending", "codec"), VIDEO_PAIRS)
def test_every_codec_decodes_again_in_every_container_with_four_colour_tags(
    tmp_path, ending, codec
):
    arrays = frames(4)
    encode(tmp_path / "draft", codec, arrays)
    target = tmp_path / f"out{ending}"
    join([tmp_path / "draft"], target, CODECS[codec], frame_count=4, rate=Fraction(25))
    facts = probe(target)
    tags = facts.color
    matrix, range_ = ("gbr", "pc") if codec == "ffv1" else ("bt709", "tv")
    assert (tags.range, tags.matrix) == (range_, matrix)
    assert (tags.primaries, tags.transfer) == ("bt709", "bt709")
    assert facts.rate == 25
    back = decode(target, 64, 48).astype(int)
    assert back.shape == (4, 48, 64, 3)
    assert abs(back - np.array(arrays)).mean() < 4


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1", "prores", "ffv1"])
def test_flat_patches_come_back_within_two_levels(tmp_path, codec):
    random = np.random.default_rng(3)
    corners = [[255 * (index >> bit & 1) for bit in range(3)] for index in range(8)]
    colours = np.array([*corners, *random.integers(0, 256, (24, 3))], np.uint8)
    array = colours.reshape(4, 8, 3).repeat(32, axis=0).repeat(32, axis=1)
    arrays = [array.astype(np.uint16) * 257 if codec == "prores" else array] * 2
    encode(tmp_path / "draft", codec, arrays, settings=Output())  # x265's fastest is 0.4 worse
    patches = decode(tmp_path / "draft", 256, 128).reshape(2, 4, 32, 8, 32, 3)
    found = patches[:, :, 8:24, :, 8:24].mean(axis=(2, 4))
    assert abs(found - colours.reshape(4, 8, 3)).max() <= 2


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1", "prores"])
def test_chroma_lies_at_the_left_where_players_take_it_to_be(tmp_path, codec):
    array = np.full((48, 64, 3), (200, 40, 40), np.uint8)
    array[:, 27:] = (40, 90, 200)
    source = array.astype(np.uint16) * 257 if codec == "prores" else array
    encode(tmp_path / "draft", codec, [source], settings=Output(crf=4))
    places = {}
    for location in ("left", "center"):
        filters = f"scale=in_chroma_loc={location}:flags={EXACT}"
        words = ["-vf", filters, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        data = ffmpeg.run([Input(tmp_path / "draft"), *words]).stdout
        red, _, blue = np.frombuffer(data, np.uint8).reshape(48, 64, 3)[24].astype(float).T
        steps = np.diff(blue - red)
        places[location] = np.average(np.arange(63) + 0.5, weights=steps)
    assert places["left"] == pytest.approx(26.5, abs=0.1)
    assert places["center"] == pytest.approx(27, abs=0.1)


@pytest.mark.parametrize("tag", ["bt709", "smpte170m", "untagged"])
@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.webm", "out.mkv"])
def test_colours_of_any_source_survive_decoding_and_encoding(tmp_path, name, tag):
    colours = np.random.default_rng(5).integers(0, 256, (2, 4, 3), dtype=np.uint8)
    (tmp_path / "raw").write_bytes(colours.repeat(32, axis=0).repeat(32, axis=1).tobytes())
    matrix = "bt709" if tag == "bt709" else "smpte170m"
    tags = [] if tag == "untagged" else ["-colorspace", tag, "-color_primaries", tag]
    source = make(
        tmp_path / "source.mkv",
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x64", "-i", str(tmp_path / "raw")),
        *("-vf", f"scale=out_color_matrix={matrix}:out_range=tv:flags={EXACT},format=yuv444p10le"),
        *("-c:v", "ffv1", *tags),
    )
    codec = codec_for(tmp_path / name, Output())
    with open_clip(source) as clip:
        bits = codec.array_bits(clip.info.bits)
        arrays = [_with_bits(array, bits) for array in clip.frames()]
        encode(tmp_path / "draft", codec.name, arrays, clip.info.rate)
    join([tmp_path / "draft"], tmp_path / name, codec, frame_count=1, rate=clip.info.rate)
    with open_clip(tmp_path / name) as clip:
        (back,) = (_with_bits(array, 8) for array in clip.frames())
    patches = back.reshape(2, 32, 4, 32, 3)[:, 8:24, :, 8:24].mean(axis=(1, 3))
    # Eight bits of YUV alone are up to 2 levels off; what a codec adds shall not be seen.
    assert abs(np.rint(patches) - colours).max() <= 2


def _with_bits(array, bits):
    return to_array(to_image(array), bits)


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm", "a.mkv"])
@pytest.mark.parametrize("count", [1, 9])
def test_rate_and_count_are_exact(tmp_path, name, rate, count):
    facts = probe(finish(tmp_path, name, rate=rate, count=count))
    assert facts.frame_count == count
    assert facts.rate == rate or count == 1
    assert facts.start == 0
    assert abs(facts.duration - count / rate) <= 1 / rate


def test_av1_goes_into_mp4_webm_and_matroska():
    for name in ("a.mp4", "a.m4v", "a.webm", "a.mkv"):
        assert codec_for(name, Output(codec="av1", crf=63)).encoder == "libsvtav1"
    with pytest.raises(UsageError, match=r"a\.mov cannot hold av1"):
        codec_for("a.mov", Output(codec="av1"))


@pytest.mark.parametrize("codec", CODECS)
def test_equal_frames_give_equal_bytes(tmp_path, codec):
    for name in ("a", "b"):
        encode(tmp_path / name, codec, frames(6))
    one, other = (list(written(tmp_path / name)) for name in ("a", "b"))
    assert one == other


def written(draft):
    """Name and bytes of every file that a draft consists of."""
    files = sorted(draft.iterdir()) if draft.is_dir() else [draft]
    return ((path.name if draft.is_dir() else "", path.read_bytes()) for path in files)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (101, 57), (16, 16), (3, 200)])
@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1", "prores", "ffv1"])
def test_odd_and_tiny_sizes_work_padded_by_their_edge(tmp_path, codec, size, caplog):
    arrays = frames(2, *size)
    encode(tmp_path / "draft", codec, arrays)
    width, height = CODECS[codec].padded(*size)
    back = decode(tmp_path / "draft", width, height).astype(int)
    assert ("padded" in caplog.text) == ((width, height) != size)
    assert len(back) == 2
    if size == (101, 57) and codec.startswith("h26"):
        assert (width, height) == (102, 58)
        assert abs(back[:, :, -1] - back[:, :, -2]).mean() < 12


def test_a_frame_of_another_size_or_depth_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match="a frame is"):
        encode(tmp_path / "draft", "ffv1", [*frames(1), *frames(1, 32, 32)])
    with pytest.raises(ValueError, match="uint16"):
        encode(tmp_path / "draft", "ffv1", [*frames(1), *frames(1, dtype=np.uint16)])
    assert not (tmp_path / "draft").exists()


def encoder_at(path, **options):
    sizes = {"width": 64, "height": 48, "rate": Fraction(25)}
    return Encoder(path, CODECS["h264"], settings=FAST, **sizes, **options)


def encode_one(path, before_leaving, **options):
    with encoder_at(path, **options) as encoder:
        encoder.write(frames(1)[0])
        before_leaving()


def interrupt():
    raise KeyboardInterrupt


def test_an_interrupted_encode_leaves_neither_draft_nor_ffmpeg(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        encode_one(tmp_path / "draft", interrupt)
    assert not list(tmp_path.iterdir())
    assert children() == set()


def children():
    found = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="], capture_output=True, text=True
    )
    lines = found.stdout.splitlines()
    return {int(line.split()[0]) for line in lines if line.split()[1].startswith("ffmpeg")}


def encode_until_stopped(path, stop, **options):
    """Feed frames for ever, doing `stop` to the running ffmpeg after the third."""
    (array,) = frames(1, 320, 240)
    with Encoder(
        path, CODECS["h264"], width=320, height=240, rate=Fraction(25), settings=FAST, **options
    ) as encoder:
        for index in range(10_000):
            encoder.write(array)
            if index == 2:
                (pid,) = children()
                os.kill(pid, stop)


def test_a_killed_encoder_is_an_error_with_its_exit_code(tmp_path):
    with pytest.raises(StorageError, match=r"libx264 encoder failed.*-9"):
        encode_until_stopped(tmp_path / "draft", signal.SIGKILL)
    assert not (tmp_path / "draft").exists()
    assert children() == set()


def test_an_encoder_that_takes_nothing_is_stopped(tmp_path):
    with pytest.raises(StorageError, match=r"took nothing for 0\.5 s"):
        encode_until_stopped(tmp_path / "draft", signal.SIGSTOP, stall_seconds=0.5)
    assert not (tmp_path / "draft").exists()
    assert children() == set()


def test_an_encoder_that_hangs_at_the_end_is_stopped(tmp_path):
    with pytest.raises(StorageError, match="took nothing"):
        encode_one(
            tmp_path / "draft", lambda: os.kill(*children(), signal.SIGSTOP), stall_seconds=0.5
        )
    assert children() == set()


def test_a_slow_renderer_is_no_stalled_encoder(tmp_path):
    arrays = frames(3)
    with encoder_at(tmp_path / "draft", stall_seconds=0.3) as encoder:
        for array in arrays:
            encoder.write(array)
            time.sleep(0.5)
    assert len(decode(tmp_path / "draft", 64, 48)) == 3


def test_options_the_encoder_refuses_are_said(tmp_path):
    with pytest.raises(UnavailableError, match="libx264"):
        encode(
            tmp_path / "draft",
            "h264",
            frames(1),
            settings=FAST.model_copy(update={"speed": "sluggish"}),
        )
    assert not (tmp_path / "draft").exists()


def test_an_ffmpeg_without_the_encoder_is_unavailable(tmp_path):
    lacking = replace(CODECS["h264"], encoder="libx264_of_the_future")
    with (
        pytest.raises(UnavailableError, match=r"no libx264_of_the_future.*output\.codec"),
        Encoder(tmp_path / "a", lacking, width=2, height=2, rate=Fraction(25), settings=FAST),
    ):
        pass


def test_a_folder_that_is_gone_is_a_storage_error_or_unavailable(tmp_path):
    with pytest.raises((StorageError, UnavailableError), match="No such file"):
        encode(tmp_path / "missing" / "draft", "h264", frames(30))


def test_no_thread_is_left_behind(tmp_path):
    before = threading.active_count()
    encode(tmp_path / "draft", "ffv1", frames(2))
    assert threading.active_count() == before


# ── joining ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
def test_sound_is_copied_bit_by_bit_with_its_offset(tmp_path, name):
    sources = {
        "plain": clip(tmp_path / "plain.mp4"),
        "late sound": clip(tmp_path / "late.mp4", late=("-itsoffset", "0.3")),
        "late video": make(
            tmp_path / "video.mkv",
            *("-itsoffset", "0.5", "-f", "lavfi", "-i", "testsrc=s=64x48:r=24000/1001:d=2"),
            *("-itsoffset", "0.2", "-f", "lavfi", "-i", "sine=440:d=2", "-copyts"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
        ),
        "late start": clip(tmp_path / "a.ts", "-c:a", "mp2"),
    }
    for source in sources.values():
        target = finish(tmp_path, name, source=source)
        assert sound_packets(target) == sound_packets(source)
        assert sound_offset(target) == pytest.approx(sound_offset(source), abs=0.0021)
        assert probe(target).rate == Fraction(24000, 1001)


def test_the_sound_before_the_first_picture_is_still_heard_in_mp4(tmp_path):
    source = make(
        tmp_path / "a.mkv",
        *("-itsoffset", "0.5", "-f", "lavfi", "-i", "testsrc=s=64x48:r=24000/1001:d=2"),
        *("-f", "lavfi", "-i", "sine=440:d=2.5", "-copyts"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
    )
    target = finish(tmp_path, "out.mp4", source=source)
    assert heard(target) == pytest.approx(heard(source), abs=1500)


def heard(path):
    """Samples that come out of the decoder."""
    data = ffmpeg.run([Input(path), "-map", "0:a:0", "-ac", "1", "-f", "s16le", "-"]).stdout
    return len(data) // 2


def test_a_clip_without_sound_stays_without(tmp_path, caplog):
    source = make(tmp_path / "a.mp4", "-f", "lavfi", "-i", "testsrc=s=64x48:d=1")
    assert probe(finish(tmp_path, "out.mp4", source=source)).sounds == ()
    assert not caplog.records


def test_two_tracks_stay_two(tmp_path):
    source = make(
        tmp_path / "a.mp4",
        *("-f", "lavfi", "-i", "testsrc=s=64x48:d=2", "-f", "lavfi", "-i", "sine=440:d=2"),
        *("-f", "lavfi", "-i", "sine=880:d=2", "-map", "0", "-map", "1", "-map", "2"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
        *("-metadata:s:a:1", "language=deu"),
    )
    for name in ("out.mp4", "out.mkv", "out.webm"):
        target = finish(tmp_path, name, source=source)
        assert len(probe(target).sounds) == 2
        if name != "out.webm":
            assert [sound_packets(target, track) for track in (0, 1)] == [
                sound_packets(source, track) for track in (0, 1)
            ]
        assert b"language=deu" in ffmpeg.run([Input(target), "-f", "ffmetadata", "-"]).stdout or (
            "(deu)" in describe(target) or "(ger)" in describe(target)
        )


def describe(path):
    return ffmpeg.run(
        ["-loglevel", "info", Input(path), "-map", "0", "-c", "copy", "-f", "null", "-"]
    ).stderr


@pytest.mark.parametrize(
    ("sound", "name", "becomes"),
    [("pcm_s16le", "out.mp4", "aac"), ("pcm_s16le", "out.webm", "opus"),
     ("libopus", "out.mov", "pcm_s16le"), ("aac", "out.webm", "opus")],
)  # fmt: skip
def test_sound_is_reencoded_only_where_the_container_cannot_hold_it(
    tmp_path, caplog, sound, name, becomes
):
    source = clip(tmp_path / "a.mkv", "-c:a", sound)
    target = finish(tmp_path, name, source=source)
    assert [track.codec for track in probe(target).sounds] == [becomes]
    assert "re-encoded" in caplog.text
    assert sound_offset(target) == pytest.approx(0, abs=0.03)
    assert heard(target) / rate_of(target) == pytest.approx(2.2, abs=0.06)


def rate_of(path):
    return 48_000 if ", 48000 Hz" in describe(path) else 44_100


def test_surround_sound_goes_into_webm(tmp_path):
    source = make(
        tmp_path / "a.mkv",
        *("-f", "lavfi", "-i", "testsrc=s=64x48:d=1", "-f", "lavfi", "-i", "sine=440:d=1"),
        *("-af", "aformat=channel_layouts=5.1(side)", "-c:v", "libx264", "-c:a", "ac3"),
    )
    target = finish(tmp_path, "out.webm", source=source)
    assert "5.1" in describe(target)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.webm", "out.mkv"])
def test_trimmed_sound_is_cut_to_match(tmp_path, name):
    # A click 1.25 s into the film must be heard 0.75 s after a start at 0.5 s.
    source = make(
        tmp_path / "a.mkv",
        *("-f", "lavfi", "-i", "testsrc=s=64x48:r=24:d=2"),
        *("-f", "lavfi", "-i", "aevalsrc='if(between(t,1.25,1.26),0.9,0)':d=2:s=48000"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "pcm_s16le"),
    )
    target = finish(
        tmp_path, name, source=source, count=24, rate=Fraction(24),
        start=Fraction(1, 2), duration=Fraction(1),
    )  # fmt: skip
    data = ffmpeg.run(
        [Input(target), "-map", "0:a:0", "-ac", "1", "-ar", "48000", "-f", "s16le", "-"]
    ).stdout
    samples = abs(np.frombuffer(data, np.int16).astype(int))
    assert np.flatnonzero(samples > 8000)[0] / 48_000 == pytest.approx(0.75, abs=0.004)
    assert len(samples) / 48_000 == pytest.approx(1, abs=0.025)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.webm", "out.mkv"])
def test_tags_chapters_and_settings_arrive(tmp_path, name):
    source = clip(
        tmp_path / "a.mkv", "-c:a", "libopus",
        options=("-metadata", "title=Ein Stück", "-metadata", "artist=Me"),
    )  # fmt: skip
    chapters = tmp_path / "chapters.txt"
    chapters.write_text(
        ";FFMETADATA1\ntitle=Ein Stück\nartist=Me\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=900\ntitle=one\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=900\nEND=2000\ntitle=two\n"
    )
    chaptered = make(
        tmp_path / "b.mkv", "-i", str(source), "-i", str(chapters), "-map_metadata", "1",
        "-c", "copy",
    )  # fmt: skip
    target = finish(tmp_path, name, source=chaptered)
    tags = {key.lower(): value for key, value in probe(target).tags.items()}
    assert tags["title"] == "Ein Stück"
    assert tags["artist"] == "Me"
    assert embedded_settings(target) == SETTINGS
    assert "major_brand" not in tags or tags["major_brand"] in ("isom", "qt  ")
    assert probe(target).chapters
    assert "two" in describe(target)


def test_mp4_begins_with_its_index(tmp_path):
    data = finish(tmp_path, "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_clip_without_settings_has_none(tmp_path):
    assert embedded_settings(clip(tmp_path / "a.mp4")) is None


# ── GIF and folders of pictures ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rate", "count", "expected"),
    [(Fraction(25), 10, 10), (Fraction(24000, 1001), 24, 24), (Fraction(60), 30, 25),
     (Fraction(25), 1, 1)],
)  # fmt: skip
def test_gif_keeps_frames_time_and_settings(tmp_path, rate, count, expected):
    target = finish(tmp_path, "out.gif", rate=rate, count=count)
    facts = probe(target)
    assert facts.frame_count == expected
    assert float(facts.duration) == pytest.approx(count / rate, abs=float(1 / rate))
    assert embedded_settings(target) == SETTINGS
    arrays = frames(count)
    assert abs(decode(target, 64, 48)[0].astype(int) - arrays[0]).mean() < 12


@pytest.mark.parametrize(
    ("rate", "count", "expected"),
    [("60", 9, 7), ("60", 2, 1), ("60000/1001", 3, 2), ("100", 5, 3), ("120", 1, 1), ("120", 6, 3)],
)
def test_a_gif_of_a_fast_clip_shows_the_first_frame_of_each_fiftieth_second(
    tmp_path, rate, count, expected
):
    target = finish(tmp_path, "out.gif", rate=Fraction(rate), count=count)
    assert probe(target).frame_count == expected
    shown = decode(target, 64, 48).astype(int)
    starts = [ceil(index * Fraction(rate) / 50) for index in range(expected)]
    for picture, start in zip(shown, starts, strict=True):
        distances = [abs(picture - array).mean() for array in frames(count)]
        assert distances.index(min(distances)) == start


def test_gif_and_pictures_say_that_sound_is_left_out(tmp_path, caplog):
    source = clip(tmp_path / "a.mp4")
    finish(tmp_path, "out.gif", source=source, count=2)
    assert "holds no sound" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["out", "%d 100%"])
def test_pictures_are_numbered_without_a_hole_and_exact(tmp_path, dtype, name):
    arrays = frames(12, dtype=dtype)
    encode(tmp_path / "draft", "png", arrays)
    target = tmp_path / name
    target.mkdir()
    join(
        [tmp_path / "draft"], target, CODECS["png"], frame_count=12, rate=Fraction(25),
        metadata={"dreamflow": SETTINGS},
    )  # fmt: skip
    files = sorted(path.name for path in target.iterdir())
    assert files == [f"{number:08d}.png" for number in range(1, 13)]
    for name, array in zip(files, arrays, strict=True):
        read = read_still(target / name)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, array)
    assert embedded_settings(target) == SETTINGS


def test_pictures_are_marked_as_srgb_and_not_darkened(tmp_path):
    data = (finish(tmp_path, "out", codec="png", count=2) / "00000002.png").read_bytes()
    assert data.count(b"sRGB") == 1, data[:200]
    assert b"gAMA" not in data or b"gAMA\x00\x00\xb1\x8f" in data  # 1/2.2


# ── into place ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    ["-y.mp4", "a b'\";$(id).mp4", "%d.mp4", "concat:a|b.mp4", "http:x.mp4", "a\nb.mp4", "🌀.mp4",
     "file:x.gif", "%03d.gif"],
)  # fmt: skip
def test_hostile_output_names_are_plain_files(tmp_path, name):
    check_target(tmp_path / name, overwrite=False)
    target = finish(tmp_path, name, count=3)
    (tmp_path / "draft").unlink()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert probe(target).frame_count == 3


def test_a_failed_join_leaves_the_old_output_and_nothing_else(tmp_path):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    encode(tmp_path / "draft", "h264", frames(5))
    with pytest.raises(StorageError, match="5 frames, not 6"):
        join([tmp_path / "draft"], target, CODECS["h264"], frame_count=6, rate=Fraction(25))
    (tmp_path / "draft").write_bytes(b"rubbish")
    with pytest.raises(StorageError, match="damaged"):
        join([tmp_path / "draft"], target, CODECS["h264"], frame_count=5, rate=Fraction(25))
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft", "out.mp4"]


def test_check_notices_missing_frames_wrong_length_and_damage(tmp_path):
    target = finish(tmp_path, "out.mkv", count=10, rate=Fraction(10))
    check(target, frame_count=10, rate=Fraction(10))
    with pytest.raises(StorageError, match="10 frames, not 11"):
        check(target, frame_count=11, rate=Fraction(10))
    with pytest.raises(StorageError, match="lasts"):
        check(target, frame_count=10, rate=Fraction(20))
    target.write_bytes(b"")
    with pytest.raises(StorageError, match="read back"):
        check(target, frame_count=10, rate=Fraction(10))


def test_container_table_is_consistent():
    for container in CONTAINERS.values():
        assert set(container.codecs) <= set(CODECS)
    assert container_for("a.mp4").format == "mp4"
