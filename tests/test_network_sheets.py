"""Sheets of what a network sees: every cell there, and refusals before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreamflow import networks, preset
from dreamflow.cli import run
from dreamflow.network_sheets import SheetRequest, _channels, _pasted, network_sheet
from dreamflow.video.stills import read_still, write_still

CUP = Path(__file__).parents[1] / "samples" / "coffee.jpg"


def drawn(target: Path, **wanted: object) -> list[str]:
    """The labels of a sheet's cells, in order."""
    events = network_sheet(SheetRequest(target=target, threads=1, cell=64, **wanted))
    return [event.name for event in events]


def test_filters_are_all_there(tmp_path):
    assert len(drawn(tmp_path / "f.png", filters=True)) == 64
    assert read_still(tmp_path / "f.png").std() > 20


def test_every_layer_has_its_map(tmp_path):
    labels = drawn(tmp_path / "a.png", activations=True, image=CUP)
    infos = networks.list_layers(networks.DEFAULT)
    assert labels == [info.alias or info.name for info in infos]


def test_channels_come_in_the_order_asked_for(tmp_path):
    wanted = {"layer": "fire3", "channels": "7,3", "image": CUP}
    assert drawn(tmp_path / "c.png", **wanted) == ["channel 7", "channel 3"]


def test_the_top_channels_are_those_that_the_still_excites_most(tmp_path):
    wanted = {"layer": "fire3", "activations": True, "image": CUP}
    every = drawn(tmp_path / "all.png", channels="all", **wanted)
    top = drawn(tmp_path / "top.png", channels="top 5", **wanted)
    assert len(every) == 128
    assert len(set(top)) == 5
    assert set(top) <= set(every)


def test_a_still_smaller_than_the_network_takes_is_looked_at_too(tmp_path):
    write_still(tmp_path / "dot.png", np.full((1, 2, 3), 90, np.uint8))
    wanted = {"layer": "fire8", "activations": True, "channels": "3", "image": tmp_path / "dot.png"}
    assert drawn(tmp_path / "m.png", **wanted) == ["channel 3"]


def test_the_line_under_a_picture_can_be_pasted(tmp_path):
    request = SheetRequest(target=tmp_path / "x.png", layer="fire3", channels="3", image=CUP)
    line = _pasted(request, {"layer": "fire3", "channel": 3})
    (tmp_path / "pasted.yaml").write_text(f"description: Pasted.\n{line}\n")
    assert preset.load(str(tmp_path / "pasted.yaml")).objectives[0].layer == "fire3"
    _, cell = next(iter(_channels(SheetRequest(target=request.target, layer="fire3",
                                               channels="3", image=CUP, cell=48))))  # fmt: skip
    assert cell.caption == line


@pytest.mark.slow
def test_classes_are_drawn_from_grey(tmp_path):
    assert drawn(tmp_path / "k.png", classes=("tabby",)) == ["tabby"]
    assert np.ptp(read_still(tmp_path / "k.png")) > 100


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        ([], 2, "--image IN"),
        (["--filters", "--classes", "tabby"], 2, "one thing"),
        (["--classes", "tabbi"], 78, "tabby"),
        (["--classes", ","], 2, "which classes"),
        (["--channels", "3", "--image", str(CUP)], 2, "--layer LAYER"),
        (["--layer", "fire33", "--image", str(CUP)], 78, "fire3"),
        (["--layer", "fire3", "--channels", "some", "--image", str(CUP)], 2, "top 24"),
        (["--layer", "fire3", "--channels", "top 0", "--image", str(CUP)], 2, "top 24"),
        (["--layer", "fire3", "--channels", "128", "--image", str(CUP)], 78, "it has 128"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, capsys, options, code, told):
    assert run(["layers", "--sheet", str(tmp_path / "s.png"), *options, "--threads", "1"]) == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / "s.png").exists()


@pytest.mark.parametrize("option", ["--filters", "--activations"])
def test_options_of_a_sheet_without_one_are_refused(capsys, option):
    assert run(["layers", option]) == 2
    assert "--sheet PNG" in capsys.readouterr().err
