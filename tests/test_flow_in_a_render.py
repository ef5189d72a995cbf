"""Renders that take their flow from a cache or from files are those that search for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from flows import write_flo
from synthetic import sliding_square

from dreamflow import job, preset
from dreamflow.errors import InputMissingError, UsageError
from dreamflow.flow import FlowMethod
from dreamflow.frames import to_image
from dreamflow.render import RenderedFrame
from dreamflow.video.stills import write_still

COUNT = 4
CHEAP = ("objectives=[{layer: fire2}]", "dream.steps=1", "dream.octaves=1", "follow.steps=1")


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stills")
    for index, array in enumerate(sliding_square(COUNT, 72, 96, side=32).arrays()):
        write_still(folder / f"{index:04d}.png", array)
    return folder


def rendered(stills: Path, target: Path, *more: str, **options: Any) -> list[torch.Tensor]:
    look = preset.load("base", overrides=[*CHEAP, *more])
    request = job.VideoRequest(stills, f"{target}/", look, threads=1, **options)
    return [e.image for e in job.render_video(request) if isinstance(e, RenderedFrame)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_a_cache_changes_no_bit_and_serves_another_preset(stills, tmp_path):
    kept = tmp_path / "kept"
    plain = rendered(stills, tmp_path / "plain")
    assert same(rendered(stills, tmp_path / "cold", flow_cache=kept), plain)
    entries = {path: path.stat().st_ino for path in kept.rglob("*.flow")}
    assert len(entries) == 2 * (COUNT - 1) + (COUNT - 2)  # of neighbours, and of the memory
    assert same(rendered(stills, tmp_path / "warm", flow_cache=kept), plain)
    rendered(stills, tmp_path / "other", "dream.step_size=5", flow_cache=kept)
    assert {path: path.stat().st_ino for path in kept.rglob("*.flow")} == entries


@pytest.mark.parametrize("cadence", [1, 3])
def test_flow_that_was_written_to_files_makes_the_same_film(stills, tmp_path, cadence):
    cv2.setNumThreads(1)
    images = [to_image(array) for array in sliding_square(COUNT, 72, 96, side=32).arrays()]
    method, folder = FlowMethod("dis"), tmp_path / "flow"
    folder.mkdir()
    for i, one in enumerate(images):
        for j, other in enumerate(images):
            if i != j:
                way = "forward" if j > i else "backward"
                vectors = method.between(one, other)[0].permute(1, 2, 0).numpy()
                write_flo(folder / f"{way}_{i}_{j}.flo", vectors)
    plain = rendered(stills, tmp_path / "plain", f"cadence={cadence}")
    assert same(
        rendered(stills, tmp_path / "files", f"cadence={cadence}", flow_files=folder), plain
    )


def test_missing_flow_is_refused_before_the_first_frame(stills, tmp_path):
    folder = tmp_path / "flow"
    folder.mkdir()
    write_flo(
        folder / "forward_0_1.flo",
        FlowMethod("none")
        .between(torch.zeros(1, 3, 72, 96), torch.zeros(1, 3, 72, 96))[0]
        .permute(1, 2, 0)
        .numpy(),
    )
    with pytest.raises(InputMissingError, match="no flow from frame 1 to 2"):
        rendered(stills, tmp_path / "out", flow_files=folder)
    assert not (tmp_path / "out").exists()


def test_files_and_a_cache_of_what_is_not_searched_for_exclude_each_other(stills, tmp_path):
    with pytest.raises(UsageError, match="leave out --flow-cache"):
        rendered(stills, tmp_path / "out", flow_files=tmp_path, flow_cache=tmp_path)


def test_a_preset_that_wants_files_says_which_option_names_them(stills, tmp_path):
    with pytest.raises(UsageError, match="--flow-files FOLDER"):
        rendered(stills, tmp_path / "out", "follow.flow=files")
