"""What it costs that a render can be stopped: `pytest tests/bench --benchmark-only -n 0 -m ''`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from dreamflow import preset
from dreamflow.film import Saved
from dreamflow.frames import Moment
from dreamflow.job import VideoRequest, render_video
from dreamflow.job_folder import folder_of

CLIP = Path(__file__).parents[2] / "samples" / "clip.mp4"
FRAMES, CHUNK, ALL = 72, 24, 1_000_000


def request(target: Path, chunk_frames: int) -> VideoRequest:
    return VideoRequest(
        CLIP, str(target), preset.load("base"), overwrite=True, threads=2,
        end=Moment(Fraction(FRAMES), in_frames=True), chunk_frames=chunk_frames,
    )  # fmt: skip


def test_chunks_against_one_for_the_whole_film(compare, tmp_path):
    """Chunks of half the usual length, so twice the journal, checkpoints and encoder starts."""

    def rendered(chunk_frames: int) -> None:
        for _ in render_video(request(tmp_path / "out.mp4", chunk_frames)):
            pass

    label = "in chunks / in one (at most 1.05)"
    assert compare(label, lambda: rendered(CHUNK), lambda: rendered(ALL), rounds=3) <= 1.05


def test_the_folder_takes_little_room(benchmark, capsys, tmp_path):
    """Chunks before the join, and the joined film beside them, against the film alone."""
    target, sizes = tmp_path / "out.mp4", [0]

    def rendered() -> None:
        for event in render_video(request(target, CHUNK)):
            if isinstance(event, Saved):
                chunks = folder_of(target).glob("*.video")
                sizes.append(sum(path.stat().st_size for path in chunks))

    benchmark.pedantic(rendered, rounds=1, iterations=1)
    ratio = max(sizes) / target.stat().st_size + 1
    with capsys.disabled():
        print(f"\nroom at most / the film's (at most 2.5): {ratio:.2f}")
    assert max(sizes) > 0
    assert ratio <= 2.5
