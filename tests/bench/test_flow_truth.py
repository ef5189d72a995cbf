"""Every flow method on clips whose flow is known, and what a cache of it saves.

`pytest tests/bench/test_flow_truth.py -n 0 -m slow -s` prints the figures. RAFT is measured
where its weights have been fetched.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest
import torch
from synthetic import score, sliding_square, turning_zoom

from dreamflow.flow import FlowMethod, FlowSource
from dreamflow.flow_cache import FlowCache
from dreamflow.frames import to_image
from dreamflow.raft import URLS
from dreamflow.render import shrink
from dreamflow.video.reader import open_clip

CLIP = Path(__file__).parents[2] / "samples" / "clip.mp4"
QUALITIES = ("ultrafast", "fast", "medium", "fine")


def methods() -> dict[str, FlowMethod]:
    found = {f"dis {quality}": FlowMethod("dis", quality=quality) for quality in QUALITIES}
    found |= {name: FlowMethod(name) for name in ("farneback", "none")}
    fetched = Path(torch.hub.get_dir()) / "checkpoints"
    there = (name for name, url in URLS.items() if (fetched / url.rpartition("/")[2]).exists())
    return found | {name: FlowMethod(name) for name in there}


@pytest.mark.slow
def test_end_point_error_and_mask_of_every_method(capsys):
    clips = {"square": sliding_square(6), "zoom": turning_zoom(6)}
    with capsys.disabled():
        print("\nmethod         clip    EPE, px  recall  precision  ms a pair")
        for name, method in methods().items():
            for clip, truth in clips.items():
                began = time.perf_counter()
                found = score(truth, method)
                each = (time.perf_counter() - began) / (len(truth.frames) - 1) * 1000
                print(
                    f"{name:14} {clip:7} {found.end_point_error:7.2f}  {found.recall:6.3f}  "
                    f"{found.precision:9.3f}  {each:9.1f}"
                )
    assert score(clips["square"], methods()["dis medium"]).recall >= 0.9


def seconds(source: FlowSource, images: list[torch.Tensor]) -> float:
    """Of a pair, both ways, in the median."""
    taken = []
    for first, second in zip(images[1:], images, strict=False):
        began = time.perf_counter()
        source.both_ways(first, second)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dis", "farneback"])
def test_room_and_time_of_a_cache(capsys, tmp_path, name):
    with open_clip(CLIP) as clip:
        arrays = [array.copy() for _, array in zip(range(9), clip.frames(), strict=False)]
    images = [shrink(to_image(array), 768) for array in arrays]
    cache = FlowCache(FlowMethod(name), tmp_path)
    cold, warm = seconds(cache, images), seconds(cache, images)
    room = sum(path.stat().st_size for path in tmp_path.rglob("*.flow")) / (len(images) - 1)
    height, width = images[0].shape[-2:]
    with capsys.disabled():
        print(
            f"\n{name} at {width}x{height}, both ways: {room / 1024:.0f} KiB a frame "
            f"({room / (height * width * 16):.2f} of raw), cold {cold * 1000:.1f} ms, "
            f"warm {warm * 1000:.1f} ms, ratio {warm / cold:.2f}"
        )
    assert room < height * width * 16
