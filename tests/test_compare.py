"""Clips side by side: each in its place, in time, with its name and the sound of the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreamflow import compare
from dreamflow.errors import OutputError, UsageError
from dreamflow.frames import Array, Box
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.probe import probe
from dreamflow.video.reader import open_clip
from dreamflow.video.writer import embedded_settings


def patch(media, name: str, color: str, *, size: str = "160x96", frames: int = 6, rate: str = "25"):
    source = ["-f", "lavfi", "-i", f"color=c={color}:s={size}:r={rate}"]
    return media.draw(name, *source, "-frames:v", str(frames), "-c:v", "ffv1")


def run(clips: list[Path], target: Path, *labels: str, **options: object) -> list[Array]:
    done = list(compare.compare(clips, str(target), labels or None, **options))  # type: ignore[arg-type]
    with open_clip(target) as clip:
        frames = [frame.copy() for frame in clip.frames()]
    assert done == list(range(1, len(frames) + 1))
    return frames


def test_two_clips_stand_beside_each_other(media, tmp_path):
    red, blue = (patch(media, f"{color}.mkv", color) for color in ("red", "blue"))
    frame = run([red, blue], tmp_path / "grid.mkv")[0]
    left, right = frame[20:80, 30:150], frame[20:80, 200:320]
    assert left.mean(axis=(0, 1)) == pytest.approx([254, 0, 0], abs=3)
    assert right.mean(axis=(0, 1)) == pytest.approx([0, 0, 254], abs=3)


def test_labels_are_written_below(media, tmp_path):
    clips = [patch(media, f"{color}.mkv", color) for color in ("red", "blue")]
    named = run(clips, tmp_path / "named.mkv")[0]
    labelled = run(clips, tmp_path / "labelled.mkv", "one", "another")[0]
    assert named[116:, :].max() > 200
    assert not np.array_equal(named[116:], labelled[116:])
    assert np.array_equal(named[:112], labelled[:112])


@pytest.mark.parametrize("count", [2, 3, 9])
def test_every_clip_has_a_place_of_its_own(media, tmp_path, count):
    levels = [20 * (place + 2) for place in range(count)]
    clips = [
        patch(media, f"{level}.mkv", f"0x{level:02x}{level:02x}{level:02x}") for level in levels
    ]
    frame = run(clips, tmp_path / "grid.mkv")[0]
    shares = [(np.abs(frame.astype(int) - level).max(axis=2) <= 1).sum() for level in levels]
    assert all(160 * 96 <= share < 1.1 * 160 * 96 for share in shares)


def test_other_sizes_are_fitted_into_the_first_ones(media, tmp_path):
    wide = patch(media, "wide.mkv", "white")
    high = patch(media, "high.mkv", "white", size="100x200")
    frame = run([wide, high], tmp_path / "grid.mkv")[0]
    bright = (frame[:112] > 200).all(axis=2)
    assert bright[:, :180].sum() == 160 * 96
    assert bright[:, 180:].sum() == 48 * 96


def test_a_size_can_be_asked_for(media, tmp_path):
    clips = [patch(media, f"{color}.mkv", color) for color in ("red", "blue")]
    frame = run(clips, tmp_path / "grid.mkv", size=Box(320, 320))[0]
    assert frame.shape[1] == 2 * (320 + 16) + 16


def test_a_clip_that_is_over_shows_its_last_frame(media, tmp_path):
    short = media.counter("short.mkv", frames=3, codec="ffv1")
    long = media.counter("long.mkv", frames=8, codec="ffv1")
    frames = run([short, long], tmp_path / "grid.mkv", size=Box(160, 160))
    assert len(frames) == 8
    levels = [int(frame[60, 60, 0]) for frame in frames]
    assert levels[0] < levels[1] < levels[2] == levels[3] == levels[7]


def test_the_sound_of_the_first_comes_along_and_its_recipe_does_not(clip_path, tmp_path):
    target = tmp_path / "grid.mp4"
    run([clip_path, clip_path], target)
    facts = probe(target, max_pixels=MAX_PIXELS)
    assert len(facts.sounds) == 1
    assert not embedded_settings(target)


def test_odd_sizes_make_a_grid_that_every_codec_takes(media, tmp_path, caplog):
    odd = patch(media, "odd.mkv", "red", size="161x97")
    run([odd, odd], tmp_path / "grid.mp4")
    assert "padded" not in caplog.text


def test_what_cannot_be_compared_is_refused_before_any_work(media, tmp_path):
    red = patch(media, "red.mkv", "red")
    fast = patch(media, "fast.mkv", "red", rate="30000/1001")
    target = tmp_path / "grid.mkv"
    with pytest.raises(UsageError, match="2 to 9 clips"):
        run([red], target)
    with pytest.raises(UsageError, match="2 to 9 clips"):
        run([red] * 10, target)
    with pytest.raises(UsageError, match="1 labels for 2 clips"):
        run([red, red], target, "one")
    with pytest.raises(UsageError, match=r"fast.mkv: 30000/1001"):
        run([red, fast], target)
    target.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        run([red, red], target)
    assert target.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]
