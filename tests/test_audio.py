"""What is heard: every click at its frame, levels from 0 to 1, and nothing where nothing is."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest

from dreamflow.audio import MAX_HOURS, analyse, steady
from dreamflow.errors import BadMediaError, InputMissingError
from dreamflow.schedule import SOUND_NAMES
from dreamflow.video.ffmpeg import Input
from dreamflow.video.probe import probe

RATE = 48_000
FILM, VIDEO = Fraction(24000, 1001), Fraction(30)
RANDOM = np.random.default_rng(1)


def at(seconds):
    return np.arange(int(seconds * RATE)) / RATE


def burst(frequency, decay, seconds=0.05):
    t = at(seconds)
    return np.sin(2 * np.pi * frequency * t) * np.exp(-t / decay)


def struck(moments, sound, seconds):
    """Silence with `sound` at each of the moments."""
    samples = np.zeros(int(seconds * RATE))
    for moment in moments:
        begin = round(float(moment) * RATE)
        part = samples[begin : begin + sound.size]
        part += sound[: part.size]
    return samples


def write_wav(path, samples):
    """Samples `[n]` or `[n, channel]` as 32-bit floats, whatever they are."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    data = samples.astype("<f4").tobytes()
    head = struct.pack("<HHIIHH", 3, channels, RATE, 4 * channels * RATE, 4 * channels, 32)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.fixture
def heard(tmp_path):
    """What is heard in samples."""
    return lambda samples: analyse(write_wav(tmp_path / "sound.wav", samples))


def beats_of(curves):
    """The frames in which a beat falls."""
    return np.flatnonzero(curves["audio.beat"] == 1)


def assert_struck_at(moments, features, rate, seconds):
    """Each moment has its beat within one frame, and no beat is without a moment."""
    found = beats_of(features.curves(rate, int(seconds * rate)))
    wanted = [int(Fraction(moment) * rate) for moment in moments]
    assert len(found) == len(wanted)
    assert np.abs(found - np.array(wanted)).max() <= 1


# ── beats ──


@pytest.fixture(scope="module")
def click_track(tmp_path_factory):
    clicks = struck(np.arange(0.25, 60, 0.5), 0.8 * burst(1000, 0.002), 60)
    return write_wav(tmp_path_factory.mktemp("clicks") / "clicks.wav", clicks)


@pytest.mark.parametrize("rate", [FILM, VIDEO], ids=str)
@pytest.mark.parametrize("codec", ["pcm_s16le", "aac", "libmp3lame", "libopus"])
def test_a_click_track_drives_the_beat_at_every_click_for_a_minute(media, click_track, codec, rate):
    clip = media.draw("clicks.mkv", Input(click_track), "-c:a", codec)
    clicks = [Fraction(2 * number + 1, 4) for number in range(120)]
    assert_struck_at(clicks, analyse(clip), rate, 60)


def test_irregular_clicks_of_one_sample_are_all_found(heard):
    clicks = np.cumsum(RANDOM.uniform(0.2, 0.9, 80)).round(3)
    features = heard(struck(clicks, np.array([0.9]), clicks[-1] + 1))
    assert_struck_at([Fraction(str(click)) for click in clicks], features, VIDEO, clicks[-1] + 1)


def test_the_kick_beats_under_hats_and_a_pad(heard):
    t = at(20)
    pad = 0.1 * np.sin(2 * np.pi * 220 * t) * (1 + 0.3 * np.sin(2 * np.pi * 0.2 * t))
    hat = 0.1 * RANDOM.normal(size=2400) * np.exp(-at(0.05) / 0.012)
    kick = 0.7 * burst(55, 0.08, 0.25)
    kicks = np.arange(0.5, 20, 0.5)
    mix = pad + struck(kicks, kick, 20) + struck(np.arange(0, 20, 0.25), hat, 20)
    features = heard(mix + 0.004 * RANDOM.normal(size=t.size))
    found = beats_of(features.curves(VIDEO, 600))
    found = found[found > 0]  # where it all begins
    assert np.abs(found - (kicks * 30).astype(int)).max() <= 1


def test_a_beat_jumps_to_one_and_dies_away_until_the_next(heard):
    beat = heard(struck([0.5, 1.5], burst(1000, 0.002), 3)).curves(VIDEO, 90)["audio.beat"]
    assert not beat[:15].any()
    assert beat[15] == beat[45] == 1
    assert (np.diff(beat[15:45]) < 0).all()
    assert beat[18] == pytest.approx(np.exp(-0.1 / 0.15))


@pytest.mark.parametrize("sound", ["tone", "noise"])
def test_what_goes_on_evenly_beats_once_at_most_when_it_begins(heard, sound):
    even = {"tone": np.sin(2 * np.pi * 440 * at(20)), "noise": RANDOM.normal(size=20 * RATE)}
    assert set(beats_of(heard(0.2 * even[sound]).curves(VIDEO, 630))) <= {0}


def test_quiet_passages_beat_too(heard):
    loud, quiet = np.arange(0.5, 10, 0.5), np.arange(15, 25, 0.5)
    click = burst(1000, 0.002)
    track = struck(loud, click, 25) + struck(quiet, 0.05 * click, 25)
    moments = [Fraction(moment) for moment in (*loud, *quiet)]
    assert_struck_at(moments, heard(track), VIDEO, 25)


# ── levels ──


@pytest.mark.parametrize(("frequency", "band"), [(80, "bass"), (1000, "mid"), (8000, "treble")])
def test_a_tone_is_heard_in_its_band_alone(heard, frequency, band):
    curves = heard(0.3 * np.sin(2 * np.pi * frequency * at(4))).curves(VIDEO, 120)
    middle = {name: curve[15:110].mean() for name, curve in curves.items()}
    for name in ("bass", "mid", "treble"):
        assert middle[f"audio.{name}"] == pytest.approx(1.0 if name == band else 0.0, abs=0.1)
    assert middle["audio.rms"] > 0.95


def test_levels_rise_at_once_and_fall_slowly(heard):
    rms = heard(struck([1], 0.5 * np.sin(2 * np.pi * 500 * at(1)), 4)).curves(VIDEO, 120)
    rms = rms["audio.rms"]
    assert rms[25] < 0.05 < 0.9 < rms[33]
    assert 0.3 < rms[66] < 0.7  # 0.2 s after the end
    assert rms[119] < 0.01


def test_loudness_is_to_scale(heard):
    t = at(8)
    rms = heard(np.where(t < 4, 0.1, 0.4) * np.sin(2 * np.pi * 500 * t)).curves(VIDEO, 240)
    assert rms["audio.rms"][60] == pytest.approx(0.25, abs=0.02)
    assert rms["audio.rms"][200] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("level", [0, 1e-5])
def test_silence_is_zero_and_hiss_is_not_blown_up(heard, level):
    curves = heard(level * RANDOM.normal(size=2 * RATE)).curves(FILM, 48)
    assert set(curves) == set(SOUND_NAMES)
    for curve in curves.values():
        assert np.isfinite(curve).all()
        assert curve.max() < 0.03


@pytest.mark.parametrize("count", [200, 1000])
def test_a_sound_shorter_than_one_window_is_heard(heard, count):
    for curve in heard(np.full(count, 0.5)).curves(VIDEO, 10).values():
        assert curve.shape == (10,)
        assert ((curve >= 0) & (curve <= 1)).all()


def test_what_is_no_number_or_far_too_loud_is_harmless(heard):
    samples = 0.1 * RANDOM.normal(size=RATE)
    samples[1000], samples[2000:2100], samples[5000] = np.nan, np.inf, 3e38
    for curve in heard(samples).curves(VIDEO, 30).values():
        assert ((curve >= 0) & (curve <= 1)).all()


# ── frames ──


@pytest.mark.parametrize("rate", [Fraction(1), FILM, VIDEO, Fraction(60), Fraction(1000)], ids=str)
def test_a_part_of_a_render_is_that_part_of_the_curves(heard, rate):
    features = heard(struck([0.5, 1.25, 1.7], burst(300, 0.1), 2))
    count = int(3 * rate)
    whole, later = features.curves(rate, count), features.curves(rate, count - 1, 1)
    for name in SOUND_NAMES:
        assert whole[name].shape == (count,)
        np.testing.assert_array_equal(whole[name][1:], later[name])


def test_behind_the_end_of_the_sound_there_is_silence(heard):
    curves = heard(np.sin(2 * np.pi * 440 * at(1))).curves(VIDEO, 300)
    assert all(not curve[75:].round(3).any() for curve in curves.values())


def test_steady_curves_have_one_level():
    curves = steady(0.5, 3)
    assert set(curves) == set(SOUND_NAMES)
    assert all(curve.tolist() == [0.5] * 3 for curve in curves.values())


# ── files ──


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4", "late.ts"])
@pytest.mark.parametrize("offset", ["0.7", "-0.3"])
def test_sound_that_begins_before_or_after_the_picture_is_heard_at_its_time(
    media, click_track, name, offset
):
    picture = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=24000/1001:d=3"]
    sound = ["-itsoffset", offset, Input(click_track), "-map", "0", "-map", "1", "-t", "3"]
    clip = media.draw(name, *picture, *sound, "-c:v", "libx264", "-c:a", "aac")
    moments = Fraction(1, 4) + Fraction(offset) + np.arange(0, 7) * Fraction(1, 2)
    moments = [moment for moment in moments if 0 <= moment < 2]
    features = analyse(clip, origin=probe(clip).start)
    assert_struck_at(moments, features, FILM, 2)


@pytest.mark.parametrize("channel", range(6))
def test_every_channel_is_heard(tmp_path, channel):
    clicks = struck([0.5, 1, 1.5], burst(100, 0.01), 2)
    samples = np.zeros((clicks.size, 6))
    samples[:, channel] = clicks
    path = write_wav(tmp_path / "six.wav", samples)
    assert_struck_at(["1/2", 1, "3/2"], analyse(path), VIDEO, 2)


def test_a_clip_without_sound_or_with_none_in_its_track_has_none(media, tmp_path):
    assert analyse(media.counter("mute.mp4", frames=2), origin=Fraction(0)) is None
    assert analyse(write_wav(tmp_path / "empty.wav", np.zeros(0))) is None


def test_a_damaged_sound_is_heard_as_far_as_it_goes(media, click_track, damaged, tmp_path):
    whole = media.draw("clicks.mp3", Input(click_track), "-c:a", "libmp3lame")
    half = damaged(whole, tmp_path / "half.mp3", length=3000, at=0.2, keep=0.5)
    assert len(beats_of(analyse(half).curves(VIDEO, 900))) > 40


@pytest.mark.parametrize("text", ["hello", "#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", ""])
def test_what_is_no_sound_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "fake.wav"
    path.write_text(text)
    with pytest.raises(
        BadMediaError, match=r"fake\.wav: its sound cannot be decoded: .+"
    ) as caught:
        analyse(path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened_is_said_to_be_missing(tmp_path):
    with pytest.raises(InputMissingError, match="no such file"):
        analyse(tmp_path / "gone.wav")
    with pytest.raises(InputMissingError, match="a folder"):
        analyse(tmp_path)


@pytest.mark.parametrize("hours", [1, MAX_HOURS + 1])
def test_a_leap_in_time_is_not_filled_with_hours_of_silence(media, click_track, hours):
    leap = f"setts=ts=if(gte(N\\,50)\\,TS+{hours * 3600_000}\\,TS)"
    whole = media.draw("two.mkv", Input(click_track), "-t", "2", "-c:a", "libopus")
    leaping = media.draw("leap.mkv", Input(whole), "-c", "copy", "-bsf:a", leap)
    found = analyse(leaping)
    assert found.levels["audio.rms"].size < 600
    assert beats_of(found.curves(VIDEO, 30)).tolist() == [7, 22]
