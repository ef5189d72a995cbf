"""Heat maps: the place where a thing is pasted is the place where it is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from dreamflow import classes, heatmap, networks
from dreamflow.cli import run
from dreamflow.errors import PresetError
from dreamflow.frames import Array, to_image
from dreamflow.heatmap import Region, Target
from dreamflow.video.stills import read_still, write_still

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="module")
def extractor() -> networks.Extractor:
    return networks.build("squeezenet1_1", [classes.MAP, classes.LAYER, "features.3"])


def cat() -> Array:
    data = pytest.importorskip("skimage.data", reason="the extra `test` has it")
    return data.chelsea()


def pasted(thing: Array, ground: Array, draw: np.random.Generator) -> tuple[Array, Region]:
    """The thing at a quarter of the ground's width, somewhere on it, and where that is."""
    height, width, _ = ground.shape
    across = width // 4
    down = round(across * thing.shape[0] / thing.shape[1])
    x, y = int(draw.integers(width - across + 1)), int(draw.integers(height - down + 1))
    picture = ground.copy()
    picture[y : y + down, x : x + across] = cv2.resize(
        thing, (across, down), interpolation=cv2.INTER_AREA
    )
    return picture, Region(x, y, across, down)


def overlaps(
    things: dict[str, Array], extractor: networks.Extractor, count: int
) -> Iterator[float]:
    ground, draw = read_still(SAMPLES / "hubble.jpg"), np.random.default_rng(20)
    for number in range(count):
        name = list(things)[number % len(things)]
        picture, place = pasted(things[name], ground, draw)
        found = heatmap.heat(to_image(picture), extractor, Target.of_class(name))
        yield heatmap.strongest_region(found).overlap(place)


@pytest.mark.slow
def test_a_cup_and_a_cat_pasted_on_the_sky_are_found_where_they_are(extractor):
    things = {"espresso": read_still(SAMPLES / "coffee.jpg"), "Egyptian cat": cat()}
    found = list(overlaps(things, extractor, 10))
    assert sum(overlap >= 0.5 for overlap in found) >= 8, found


def test_a_pasted_cup_is_found(extractor):
    (found,) = overlaps({"espresso": read_still(SAMPLES / "coffee.jpg")}, extractor, 1)
    assert found >= 0.5


def test_the_scores_of_all_places_average_to_those_of_the_picture(extractor):
    features = extractor(torch.rand(1, 3, 160, 224), [classes.MAP, classes.LAYER])
    scores = features[classes.LAYER]
    torch.testing.assert_close(features[classes.MAP].mean((-2, -1)), scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", networks.list_networks())
def test_every_network_scores_every_place(name):
    graph = networks._cut(networks.NETWORKS[name].module(), {classes.MAP})
    small, large = (
        graph(torch.empty(1, 3, *size, device="meta"))[classes.MAP].shape
        for size in ((299, 299), (320, 640))
    )
    assert small[:2] == large[:2] == (1, 1000)
    assert small[2] == small[3]
    assert large[3] >= 1.7 * large[2]


@torch.no_grad()
@pytest.mark.parametrize(("name", "side"), [("alexnet", 224), ("resnet50", 97)])
def test_fully_connected_layers_become_the_same_as_convolutions(name, side):
    entry = networks.NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = entry.module().to_empty(device="cpu")
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.02)
        for buffer in module.buffers():
            buffer.fill_(1)
        image = torch.rand(1, 3, side, side)
    features = networks._cut(module, {classes.MAP, classes.LAYER})(image)
    scores, places = features[classes.LAYER], features[classes.MAP]
    if name == "alexnet":  # its head looks at the whole map: that is the window in the middle
        middle = places[..., places.shape[-2] // 2, places.shape[-1] // 2]
    else:
        middle = places.mean((-2, -1))
    torch.testing.assert_close(middle, scores, rtol=1e-3, atol=1e-5)


def test_a_map_has_the_size_of_the_picture_whatever_that_is(extractor):
    for size in ((1, 1), (3, 400), (90, 61)):
        found = heatmap.heat(torch.rand(1, 3, *size), extractor, Target("features.3", 5, ""))
        assert found.shape == size
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


def test_the_strongest_region_is_that_of_the_maximum_and_not_the_largest():
    found = np.zeros((40, 60), np.float32)
    found[5:30, 5:40] = 2
    found[33:37, 50:56] = 3
    assert heatmap.strongest_region(found) == Region(50, 33, 6, 4)


def test_a_flat_map_has_a_region_too():
    region = heatmap.strongest_region(np.full((20, 30), 4, np.float32))
    assert (region.width, region.height) == (30, 20) or region.width * region.height == 1


def test_an_inverted_mask_is_what_is_left_by_the_mask():
    found = np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32)
    there, elsewhere = heatmap.mask(found), heatmap.mask(found, invert=True)
    np.testing.assert_allclose(there + elsewhere, 1, atol=1e-6)
    assert there.flat[found.argmax()] == 1
    assert there.min() == 0


def test_overlap_is_one_with_oneself_and_nothing_apart():
    box = Region(3, 4, 10, 20)
    assert box.overlap(box) == 1
    assert box.overlap(Region(13, 4, 5, 5)) == 0
    assert box.overlap(Region(3, 4, 10, 10)) == 0.5


# ── the command ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cup(tmp_path) -> Path:
    small = cv2.resize(read_still(SAMPLES / "coffee.jpg"), (150, 100))
    write_still(tmp_path / "cup.png", small)
    return tmp_path / "cup.png"


def test_the_command_writes_picture_array_and_mask_and_prints_the_box(cup, tmp_path, capsys):
    names = [str(tmp_path / name) for name in ("map.png", "map.npy", "mask.png")]
    options = ["-o", names[0], "--npy", names[1], "--mask", names[2], "--invert"]
    assert run(["heatmap", str(cup), "--class", "ESPRESSO", *options, "--threads", "1"]) == 0
    found = np.load(names[1], allow_pickle=False)
    box = heatmap.strongest_region(found)
    assert f"{box.width}x{box.height} at x {box.x}, y {box.y}" in capsys.readouterr().out
    assert found.shape == (100, 150)
    picture, mask = read_still(Path(names[0])), read_still(Path(names[2]))
    assert (picture[box.y, box.x : box.x + box.width] == 255).all()
    assert mask.shape == (100, 150, 3)
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert (mask[y, x] == 0).all()
    assert (mask[..., 0] == mask[..., 2]).all()


def test_a_channel_of_a_layer_can_be_looked_for(cup, tmp_path, capsys):
    wanted = ["--layer", "fire3", "--channel", "7", "-o", str(tmp_path / "map.png")]
    assert run(["heatmap", str(cup), *wanted, "--threads", "1"]) == 0
    assert "fire3 channel 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "code", "told"),
    [
        ([], 2, "say what to look for"),
        (["--class", "tabby", "--layer", "fire3", "--channel", "1"], 2, "say what to look for"),
        (["--layer", "fire3"], 2, "--channel N"),
        (["--class", "tabby", "--invert"], 2, "--mask PNG"),
        (["--class", "tabbi"], 78, "tabby"),
        (["--class", "1000"], 78, "0 to 999"),
        (["--layer", "fire33", "--channel", "1"], 78, "fire3"),
        (["--layer", "fire3", "--channel", "128"], 78, "it has 128: 0 to 127"),
        (["--network", "squeezenet", "--class", "tabby"], 78, "squeezenet1_1"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(cup, tmp_path, capsys, wanted, code, told):
    assert run(["heatmap", str(cup), *wanted, "-o", str(tmp_path / "map.png")]) == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / "map.png").exists()


@pytest.mark.parametrize("option", ["--mask", "--npy"])
def test_no_two_outputs_are_one_file(cup, tmp_path, capsys, option):
    (tmp_path / "there").symlink_to(tmp_path)
    files = ["-o", str(tmp_path / "map.png"), option, str(tmp_path / "there" / "map.png")]
    assert run(["heatmap", str(cup), "--class", "tabby", *files]) == 2
    assert "asked for twice" in capsys.readouterr().err
    assert not (tmp_path / "map.png").exists()


def test_the_source_is_never_overwritten(cup, capsys):
    before = cup.read_bytes()
    assert run(["heatmap", str(cup), "--class", "tabby", "-o", str(cup), "-y"]) == 2
    assert cup.read_bytes() == before


def test_an_unknown_class_is_a_preset_error():
    with pytest.raises(PresetError, match="unknown class"):
        Target.of_class("nothing of that kind")
