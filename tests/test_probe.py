from __future__ import annotations

import os
from fractions import Fraction

import pytest

from dreamflow.errors import BadMediaError, InputMissingError
from dreamflow.video import ffmpeg
from dreamflow.video.ffmpeg import Input
from dreamflow.video.probe import Times, find_rate, parse_ffmetadata, probe, tags

RATES = ["24000/1001", "25", "30000/1001", "60", "60000/1001", "1000"]
COLOR_TAGS = "setparams=range=pc:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
DASH = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>'


def picture(size: str = "64x48", rate: str = "25") -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}"]


def test_the_facts_of_an_ordinary_clip(clip_path):
    facts = probe(clip_path)
    assert (facts.width, facts.height) == (facts.coded_width, facts.coded_height) == (64, 48)
    assert facts.rate == Fraction(24000, 1001)
    assert facts.frame_count == facts.declared_count == 24
    assert not facts.variable_rate
    assert not facts.interlaced
    assert not facts.truncated
    assert facts.start == 0
    assert facts.duration == Fraction(1001, 1000)
    assert (facts.pixel_format, facts.bits, facts.alpha) == ("yuv420p", 8, False)
    assert facts.container.startswith("mov")
    assert [(sound.index, sound.codec) for sound in facts.sounds] == [(1, "aac")]
    assert not facts.chapters


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi"])
def test_rates_are_exact_and_frames_counted(media, name, rate):
    facts = probe(media.counter(name, "-bf", "2", rate=rate))
    assert facts.rate == Fraction(rate)
    assert facts.frame_count == 24
    assert not facts.variable_rate


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.ts", "libx264"), ("a.mpg", "mpeg2video"), ("a.flv", "flv"), ("a.webm", "libvpx")],
)
def test_other_containers_give_the_same_facts(media, name, codec):
    facts = probe(media.counter(name, rate="30000/1001", codec=codec))
    assert (facts.rate, facts.frame_count) == (Fraction(30000, 1001), 24)


def test_one_frame_is_a_clip(media):
    for name in ("one.mp4", "one.mkv"):
        facts = probe(media.counter(name, frames=1))
        assert (facts.frame_count, facts.rate) == (1, 25)


def test_rotation_mirroring_and_aspect_make_upright_square_pixels(media):
    wide = media.draw(
        "ana.mp4", *picture(), "-frames:v", "2", "-vf", "setsar=4/3", "-c:v", "libx264"
    )
    assert (probe(wide).width, probe(wide).height) == (85, 48)
    turned = media.folder / "turned.mp4"
    copied = ["-c", "copy", "-y", ffmpeg.output_name(turned)]
    ffmpeg.run(["-display_rotation", "90", "-display_hflip", Input(wide), *copied])
    facts = probe(turned)
    assert (facts.coded_width, facts.coded_height) == (64, 48)
    assert (facts.width, facts.height) == (36, 64)


def test_interlaced_video_is_noticed(media):
    options = ["-frames:v", "2", "-vf", "interlace", "-flags", "+ilme+ildct", "-c:v", "libx264"]
    assert probe(media.draw("lace.mp4", *picture(), *options)).interlaced


def test_colour_tags_depth_and_alpha_are_reported(media):
    deep = ["-frames:v", "2", "-pix_fmt", "yuv422p10le", "-c:v", "libx264", "-vf", COLOR_TAGS]
    facts = probe(media.draw("deep.mp4", *picture(), *deep))
    assert facts.bits == 10
    color = facts.color
    assert (color.range, color.matrix) == ("pc", "bt709")
    assert (color.primaries, color.transfer) == ("bt709", "bt709")
    clear = ["-frames:v", "2", "-pix_fmt", "argb", "-c:v", "qtrle"]
    assert probe(media.draw("clear.mov", *picture(), *clear)).alpha
    hidden = ["-frames:v", "2", "-pix_fmt", "yuva420p", "-c:v", "libvpx-vp9"]
    assert probe(media.draw("clear.webm", *picture(), *hidden)).alpha


def test_variable_rate_is_averaged(media):
    slowing = "setpts='if(lt(N,12),N,12+(N-12)*2)/25/TB'"
    options = ["-frames:v", "24", "-vf", slowing, "-fps_mode", "passthrough", "-c:v", "libx264"]
    facts = probe(media.draw("vfr.mp4", *picture(), *options))
    assert facts.variable_rate
    assert facts.frame_count == 24
    assert abs(facts.frame_count / facts.rate - facts.duration) < Fraction(1, 100)


def test_a_few_missing_frames_do_not_change_the_rate():
    ticks = tuple(tick for tick in range(0, 30_000, 1000) if tick not in (7000, 13_000))
    times = Times(ticks, (0,), 30_000)
    assert find_rate(times, Fraction(1, 25_000), Fraction(25)) == (25, True)


def test_millisecond_clocks_do_not_blur_the_rate():
    exact = Fraction(60000, 1001)
    ticks = tuple(round(i * 1000 / exact) for i in range(60))
    times = Times(ticks, (0,), 1001)
    assert find_rate(times, Fraction(1, 1000), Fraction(19001, 317)) == (exact, False)


def test_a_single_frame_however_short_has_a_usual_rate():
    one = Times((0,), (0,), 1)
    assert find_rate(one, Fraction(1, 12800), Fraction(12800)) == (Fraction(25), False)
    assert find_rate(one, Fraction(1, 12800), Fraction(30)) == (Fraction(30), False)


def test_an_edit_list_hides_frames(media):
    whole = media.counter("whole.mp4", "-g", "50", "-bf", "2", frames=24)
    cut = media.folder / "cut.mp4"
    ffmpeg.run(["-ss", "0.4", Input(whole), "-c", "copy", "-y", ffmpeg.output_name(cut)])
    assert probe(cut).frame_count == 14
    assert probe(cut).start == 0


def test_late_video_keeps_its_start(media, clip_path):
    late = media.folder / "late.mp4"
    arguments = ["-itsoffset", "2.5", Input(clip_path), Input(clip_path)]
    arguments += ["-map", "0:v", "-map", "1:a", "-c", "copy", "-y", ffmpeg.output_name(late)]
    ffmpeg.run(arguments)
    facts = probe(late)
    assert facts.start == Fraction(5, 2)
    assert facts.container_start == 0
    assert facts.duration == Fraction(1001, 1000)


def test_two_sound_tracks_and_chapters(media, clip_path, tmp_path):
    marks = tmp_path / "marks"
    marks.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=one\n")
    both = tmp_path / "both.mkv"
    streams = ["-map", "0:v", "-map", "0:a", "-map", "0:a", "-map_metadata", "1", "-c", "copy"]
    ffmpeg.run([Input(clip_path), "-i", f"file:{marks}", *streams, ffmpeg.output_name(both)])
    facts = probe(both)
    assert [sound.index for sound in facts.sounds] == [1, 2]
    assert facts.chapters


def test_tags_come_back_whatever_they_hold(media, clip_path, tmp_path):
    text = "a=b; c # \\d\n[STREAM]\nsecond: 'line' \\"
    tagged = tmp_path / "tagged.mp4"
    metadata = ["-metadata", f"dreamflow={text}", "-movflags", "+use_metadata_tags"]
    ffmpeg.run([Input(clip_path), "-c", "copy", *metadata, ffmpeg.output_name(tagged)])
    assert tags(tagged)["dreamflow"] == text
    assert probe(tagged).tags["dreamflow"] == text


def test_only_the_global_section_of_metadata_counts():
    text = ";FFMETADATA1\ntitle=x\\=y\n;comment\\=no\n[CHAPTER]\ntitle=chapter\n"
    assert parse_ffmetadata(text) == {"title": "x=y"}


def test_metadata_cannot_pose_as_a_stream(clip_path, tmp_path):
    posing = tmp_path / "posing.mkv"
    text = "x\n[info]   Stream #0:9 -> #0:9 (copy)\n[info]   Chapters:"
    metadata = ["-metadata", f"title={text}", "-c", "copy"]
    ffmpeg.run([Input(clip_path), *metadata, ffmpeg.output_name(posing)])
    assert len(probe(posing).sounds) == 1


def test_what_is_no_file_is_missing_input(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, words in (
        (tmp_path / "none.mp4", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "pipe.mp4", "a pipe"),
        (tmp_path / ("x" * 300), "cannot read"),
    ):
        with pytest.raises(InputMissingError, match=words):
            probe(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_missing_input(tmp_path):
    (tmp_path / "a.mp4").touch(mode=0)
    with pytest.raises(InputMissingError, match="Permission denied"):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"just some words\n" * 9, "it is text"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (bytes(range(256)) * 64, "not a video"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "HLS playlist"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "ffconcat script"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=video 5004 RTP/AVP 96\r\n", "SDP"),
        (DASH.encode(), "DASH manifest"),
    ],
    ids=["empty", "text", "html", "noise", "hls", "ffconcat", "sdp", "dash"],
)
def test_what_is_no_video_is_named_for_what_it_is(content, words, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(BadMediaError, match=words) as caught:
        probe(path)
    assert "\n" not in str(caught.value)


def test_sound_alone_is_refused(media):
    sound = media.draw("sound.m4a", "-f", "lavfi", "-i", "sine=d=0.2", "-c:a", "aac")
    with pytest.raises(BadMediaError, match="sound in it but no video"):
        probe(sound)


def test_cover_art_is_not_video(media):
    sources = ["-f", "lavfi", "-i", "sine=d=0.2", *picture(), "-frames:v", "1"]
    streams = ["-map", "0", "-map", "1", "-c:a", "aac", "-c:v", "mjpeg"]
    cover = media.draw("cover.m4a", *sources, *streams, "-disposition:v", "attached_pic")
    with pytest.raises(BadMediaError, match="cover art"):
        probe(cover)


def test_a_file_cut_before_its_index_is_refused(clip_path, damaged, tmp_path):
    with pytest.raises(BadMediaError, match="moov"):
        probe(damaged(clip_path, tmp_path / "cut.mp4", keep=0.6))


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", ["-movflags", "+faststart"]), ("a.mkv", [])]
)
def test_half_a_file_knows_how_much_is_missing(media, damaged, tmp_path, name, options):
    noise = ["-vf", "noise=alls=40:allf=t", "-frames:v", "48", "-c:v", "libx264", "-g", "8"]
    whole = media.draw(name, *picture(), *noise, *options)
    facts = probe(damaged(whole, tmp_path / name, keep=0.5))
    assert facts.truncated
    assert facts.declared_count == 48
    assert 10 < facts.frame_count < 40


def test_huge_pictures_are_refused_from_the_header(media):
    clip = media.counter("small.mp4")
    with pytest.raises(BadMediaError, match=r"32x24.*limit.*--max-pixels"):
        probe(clip, max_pixels=32 * 24 - 1)
    assert probe(clip, max_pixels=32 * 24).width == 32
