"""What is looked at before a batch begins, and what it is said to cost."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from nights import write

from dreamflow import manifest, plan, raft
from dreamflow.errors import PresetError, StorageError, UnavailableError
from dreamflow.film import Conditions
from dreamflow.job import VideoRequest
from dreamflow.zoom_job import ZoomRequest

CONDITIONS = Conditions(threads=1, device="cpu")


@pytest.fixture
def planned(night):
    """A way to plan a manifest in a folder with a clip and a picture."""
    return lambda text: plan.plan(manifest.read(Path(write(text))), CONDITIONS)


def test_every_kind_of_job_becomes_the_request_it_means(planned):
    video, zoom, noise, image = planned("""
jobs:
  - {input: a.mp4, output: x.mp4, start: 6f, end: 0.9, fps: 23.976, size: 32, strict: true}
  - {kind: zoom, input: cup.jpg, output: y.mp4, duration: 2, fps: 12, size: 64x36, loop: true}
  - {kind: zoom, noise: white, output: z.mkv, frames: 5, size: 40}
  - {kind: image, input: cup.jpg, output: c.png, size: 100}
""")
    assert isinstance(video.request, VideoRequest)
    assert video.request.strict
    info = video.info
    assert (info.width, info.height, info.rate) == (32, 24, Fraction(24000, 1001))
    assert (info.first_index, info.frame_count) == (6, 16)
    assert isinstance(zoom.request, ZoomRequest)
    assert zoom.request.loop
    assert (zoom.info.width, zoom.info.height, zoom.info.frame_count) == (64, 36, 24)
    assert (noise.input_name, noise.info.frame_count) == ("white noise", 5)
    assert (image.info.width, image.info.frame_count) == (100, 1)


def test_everything_wrong_is_told_at_once_and_where(planned):
    Path("text.mp4").write_text("hello")
    Path("p.yaml").write_text("extends: base\nnetwork: alexnetz\n")
    with pytest.raises(PresetError) as caught:
        planned("""
jobs:
  - {input: gone.mp4, output: 1.mp4}
  - {input: text.mp4, output: 2.mp4}
  - {input: a.mp4, output: 3.xyz}
  - {input: a.mp4, output: 4.mp4, start: 99}
  - {input: a.mp4, output: 5.mp4, set: {objectives: [{layer: fire99}]}}
  - {input: a.mp4, output: 6.mp4, preset: ./p.yaml}
  - {input: a.mp4, output: 7.mp4, set: {dream.steps: "0:(5), 10:(5000)"}}
  - {kind: zoom, input: cup.jpg, output: 8.mp4}
  - {input: a.mp4, output: night.yaml/9.mp4}
""")
    lines = str(caught.value).split("\n")
    wanted = [
        ("night.yaml:3:5: ", "gone.mp4"),
        ("night.yaml:4:5: ", "text.mp4"),
        ("night.yaml:5:5: ", "3.xyz"),
        ("night.yaml:6:5: ", "behind the clip's end"),
        ("night.yaml:7:", "fire99"),
        ("p.yaml:2:", "alexnetz"),
        ("night.yaml:9:", "at frame 2; it must be"),
        ("night.yaml:10:5: ", "how long?"),
        ("night.yaml:11:5: ", "no folder to write to"),
    ]
    assert len(lines) == len(wanted)
    for place, text in wanted:
        assert any(line.startswith(place) and text in line for line in lines), (place, lines)
    assert sorted(path.name for path in Path().iterdir()) == [
        "a.mp4", "cup.jpg", "night.yaml", "p.yaml", "text.mp4",
    ]  # fmt: skip


def test_flow_from_files_is_refused_for_clips(planned):
    text = "jobs: [{{kind: {}, input: {}, output: x.png/, set: {{follow.flow: files}}}}]"
    with pytest.raises(PresetError, match=r"1:\d+: follow\.flow: a manifest cannot say where"):
        planned(text.format("video", "a.mp4"))
    (still,) = planned(text.format("image", "cup.jpg").replace("x.png/", "x.png"))
    assert still.info.frame_count == 1


def test_flow_whose_weights_cannot_be_had_is_refused_before_the_night(planned, monkeypatch):
    def refuse(_name, _device):
        raise UnavailableError("cannot fetch it")

    monkeypatch.setattr(raft, "build", refuse)
    with pytest.raises(PresetError, match=r"night\.yaml:1:8: cannot fetch it"):
        planned("jobs: [{input: a.mp4, output: x.mp4, set: {follow.flow: raft_small}}]")


def test_the_same_clip_is_probed_once(planned, monkeypatch):
    opened = []
    real = plan.open_source
    monkeypatch.setattr(plan, "open_source", lambda request: opened.append(1) or real(request))
    planned('jobs: [{input: a.mp4, seed: [1, 2, 3], preset: [base, acid], output: "{index}.mp4"}]')
    assert len(opened) == 1


def test_more_than_the_disk_holds_is_refused_with_the_bytes(planned):
    (each,) = planned("jobs: [{input: a.mp4, output: x.mp4}]")
    plan.check_room([each], 1)
    huge = plan.Render(each.entry, each.request, each.info, 10**18)
    with pytest.raises(StorageError, match=r"free, these renders take about 2\.5e\+03 TB|\d TB"):
        plan.check_room([huge], 1)


def test_what_is_asked_for_tells_renders_apart_but_not_machines(planned):
    from dataclasses import replace

    asked = [
        plan.asked_for(each.request)
        for each in planned("""
jobs:
  - {input: a.mp4, output: 1.mp4}
  - {input: a.mp4, output: 2.mp4, seed: 1}
  - {input: a.mp4, output: 3.mp4, size: 32}
  - {input: a.mp4, output: 4.mp4, start: 2f}
  - {input: a.mp4, output: 5.mp4, set: {dream.steps: 3}}
  - {kind: zoom, input: cup.jpg, frames: 3, output: 6.mp4}
""")
    ]
    assert len(set(asked)) == 6
    (again,) = planned("jobs: [{input: a.mp4, output: elsewhere.mp4}]")
    assert plan.asked_for(replace(again.request, threads=7, device="cuda")) == asked[0]
    with open("a.mp4", "ab") as file:
        file.write(b"\0")
    assert plan.asked_for(again.request) != asked[0]


def test_an_estimate_is_made_of_frames_that_are_dreamed(planned):
    renders = planned("""
defaults: {set: {dream: {octaves: 1, steps: 1}, follow: {octaves: 1, steps: 1}}}
jobs:
  - {input: a.mp4, output: 1.mp4}
  - {input: a.mp4, output: 2.mp4, end: 6f}
  - {kind: image, input: cup.jpg, output: 3.png, size: 64}
  - {kind: zoom, noise: pink, frames: 48, size: 64, output: 4.mp4}
""")
    whole, part, image, zoom = plan.estimate(renders)
    assert whole > part > 0
    assert image > 0
    assert zoom > 0


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB")]
)
def test_amounts_are_told_to_people(count, text):
    assert plan.amount(count) == text
