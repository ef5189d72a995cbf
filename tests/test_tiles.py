"""Tiles: the same look as the whole, no trace of the grid, and memory that suffices."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import TinyExtractor, texture
from torch import Tensor

from dreamflow import dream, networks, tiles, warp
from dreamflow.errors import StoppedError, is_out_of_memory
from dreamflow.frames import to_image
from dreamflow.objectives import Builder, LayerEnergy, Term
from dreamflow.scene import View
from dreamflow.settings import ClassObjective, Dream, Objective
from dreamflow.tiles import Tiler
from dreamflow.video.stills import read_still

SAMPLES = Path(__file__).parents[1] / "samples"
ENERGY = [LayerEnergy("second")]


def energies(*layers: str) -> list[Term]:
    return Builder().terms([Objective(layer=layer) for layer in layers])


def small_cup(width: int, height: int) -> Tensor:
    return warp.resize(to_image(read_still(SAMPLES / "coffee.jpg")), (height, width)).clamp(0, 1)


# ── the grid ──


@pytest.mark.parametrize("size", [(90, 131), (64, 64), (65, 200), (300, 70)])
@pytest.mark.parametrize("margin", [0, 13, 500])
def test_cores_cover_every_pixel_once_wherever_the_grid_is(size, margin):
    picture = torch.arange(size[0] * size[1], dtype=torch.float32).reshape(1, 1, *size)
    for key in range(3):
        counted, copied = torch.zeros_like(picture), torch.full_like(picture, -1)
        for window in tiles.windows(picture, 64, margin, (key,)):
            rows, columns = torch.meshgrid(window.rows, window.columns, indexing="ij")
            down, right = window.core
            counted[0, 0].index_put_(
                (rows[down, right], columns[down, right]), torch.ones(()), accumulate=True
            )
            window.put_core(copied, window.of(picture))
        assert (counted == 1).all()
        assert torch.equal(copied, picture)


def test_the_grid_is_elsewhere_in_every_step():
    picture = torch.zeros(1, 3, 200, 300)
    corners = {int(next(tiles.windows(picture, 64, 8, (1, step))).columns[0]) for step in range(9)}
    assert len(corners) > 6


# ── the look ──


@pytest.mark.slow
@pytest.mark.parametrize("layers", [("features.11",), ("features.11", "features.6")])
def test_tiles_change_the_picture_as_much_as_the_whole_does(layers):
    extractor, image = networks.build(networks.DEFAULT, layers), small_cup(360, 240)
    whole, tiled = (
        dream.dream(image, extractor, energies(*layers), Dream(octaves=2, steps=4, tile=tile))
        - image
        for tile in ("off", 128)
    )
    assert tiled.abs().mean() == pytest.approx(float(whole.abs().mean()), rel=0.05)
    assert tiled.std() == pytest.approx(float(whole.std()), rel=0.05)
    assert not torch.equal(whole, tiled)


def test_a_tiles_gradient_is_that_of_the_whole_away_from_the_borders():
    extractor, image = TinyExtractor(), texture(200, 240)
    settings = Dream(octaves=1, steps=1, jitter=0, spread=0, limit=0, smoothing=0, chroma=1)
    whole, tiled = (
        dream.dream(
            image, extractor, [LayerEnergy("first")], settings.model_copy(update={"tile": tile})
        )
        - image
        for tile in ("off", 96)
    )
    inside = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(tiled[inside], whole[inside], rtol=0.02, atol=1e-5)


def on_the_grid(size: tuple[int, int], side: int, margin: int, key: tuple[int, ...]) -> Tensor:
    """Whether a pixel is within eight of an edge between cores: the stride of what is dreamed."""
    edges = torch.zeros(1, 1, *size)
    for window in tiles.windows(edges, side, margin, key):
        down, right = window.core
        part = torch.ones(1, 1, len(window.rows), len(window.columns))
        part[..., down.start + 8 : down.stop - 8, right.start + 8 : right.stop - 8] = 0
        window.put_core(edges, part)
    return edges[0, 0] > 0


@pytest.mark.parametrize("layer", ["features.6", "features.9"])
def test_flat_grey_dreamed_in_tiles_has_no_more_energy_along_the_grid_than_elsewhere(layer):
    extractor = networks.build(networks.DEFAULT, [layer])
    tiler, terms = Tiler(extractor, 64), energies(layer)
    grey = torch.full((1, 3, 192, 208), 0.5)
    on, off = [], []
    for key in range(6):

        def one(picture, window, units):
            return dream.uphill(window.of(picture), extractor, terms, View(picture), units=units)

        _, gradient = tiler.uphill(grey, terms, {}, (key,), one)
        strength = gradient.square().sum((0, 1))
        grid = on_the_grid((192, 208), 64, tiler.needs(terms).margin, (key,))
        on.append(strength[grid].mean())
        off.append(strength[~grid].mean())
    assert torch.stack(on).mean() < 1.1 * torch.stack(off).mean()
    assert torch.stack(on).mean() > 0.9 * torch.stack(off).mean()


def test_pictures_that_fit_keep_their_bits_whatever_the_setting():
    extractor, image = TinyExtractor(), texture(60, 80)
    whole, auto = (
        dream.dream(image, extractor, ENERGY, Dream(octaves=2, steps=2, tile=tile))
        for tile in ("off", "auto")
    )
    assert torch.equal(whole, auto)


def test_tiled_renders_are_the_same_every_time():
    image, settings = texture(150, 170), Dream(octaves=2, steps=2, tile=64)
    first, second = (dream.dream(image, TinyExtractor(), ENERGY, settings) for _ in range(2))
    assert torch.equal(first, second)


def test_classes_are_drawn_in_tiles_too():
    extractor = networks.build(networks.DEFAULT, ["classes"])
    terms = Builder().terms([ClassObjective.model_validate({"class": "tabby"})])
    image = small_cup(150, 100)
    dreamed = dream.dream(image, extractor, terms, Dream(octaves=1, steps=2, tile=96))
    assert (dreamed - image).abs().mean() > 1 / 255


# ── memory ──


def test_the_reach_of_a_layer_is_that_of_its_convolutions():
    extractor = TinyExtractor()
    assert 2 <= tiles.needs(extractor, ("first",)).margin <= 4
    assert 4 <= tiles.needs(extractor, ("second",)).margin <= 8
    deep = networks.build(networks.DEFAULT, ["features.3", "features.11"])
    shallow, far = (tiles.needs(deep, (layer,)) for layer in ("features.3", "features.11"))
    assert 8 < shallow.margin < far.margin < 400
    assert 200 < shallow.bytes_per_pixel < far.bytes_per_pixel < 2000


def test_auto_cuts_what_would_take_too_much_and_says_so_before(caplog):
    tiler = Tiler(networks.build(networks.DEFAULT, ["features.11"]), "auto")
    terms = energies("features.11")
    assert tiler.side((540, 960), terms) is None
    side = tiler.side((4320, 7680), terms)
    assert side is not None
    assert 256 < side < 1024
    tiler.prepare((4320, 7680), terms)
    assert re.search(r"7680x4320 is dreamed in tiles of \d+ px.* in one piece", caplog.text)


def test_tiles_are_made_smaller_three_times_and_then_a_size_is_named(caplog):
    tiler, size = Tiler(TinyExtractor(), 1024), (4000, 6000)
    for side in (512, 256, 128):
        tiler.shrink(size, ENERGY)
        assert tiler.side(size, ENERGY) == side
        assert f"tiles of {side} px" in caplog.text
    with pytest.raises(StoppedError, match=r"dream\.size=\d+ would fit") as stopped:
        tiler.shrink(size, ENERGY)
    assert stopped.value.exit_code == 75


def test_without_tiles_there_is_nothing_to_make_smaller():
    with pytest.raises(StoppedError, match="would fit"):
        Tiler(TinyExtractor(), "off").shrink((400, 600), ENERGY)


class ShortOfMemory(TinyExtractor):
    """Runs out of memory on pictures of more pixels than `most`, as a device would."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, image, layers=None):
        if image.shape[-2] * image.shape[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(image, layers)


def test_a_picture_that_is_too_large_for_the_device_goes_on_in_tiles(caplog):
    extractor, image = ShortOfMemory(400**2), texture(380, 500)
    dreamed = dream.dream(image, extractor, ENERGY, Dream(octaves=1, steps=2))
    assert (dreamed - image).abs().mean() > 1 / 255
    assert "memory is short" in caplog.text
    dream.dream(image, extractor, ENERGY, Dream(octaves=1, steps=1))
    assert caplog.text.count("memory is short") == 1  # what was learnt is kept


def test_what_fits_in_no_tile_stops_the_render_in_good_order():
    """Not even what a tile takes can be measured there."""
    settings = Dream(octaves=1, steps=1, tile=128)
    with pytest.raises(StoppedError, match=r"more than there is; dream\.size=\d+ would fit"):
        dream.dream(texture(300, 300), ShortOfMemory(50), ENERGY, settings)


PEAK_OF_A_STILL = """
import sys
from pathlib import Path
import numpy as np
from dreamflow import job, preset
from dreamflow.video.stills import write_still

def kilobytes(name):
    return int(Path("/proc/self/status").read_text().partition(name)[2].split()[0])

source, target, *changes = sys.argv[1:]
write_still(Path(source), np.random.default_rng(1).integers(0, 256, (2700, 4800, 3), np.uint8))
look = preset.load("base", overrides=changes)
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = kilobytes("VmRSS:")
request = job.VideoRequest(Path(source), target, look, threads=1)
for _ in job.render_picture(request):
    pass
print(1024 * (kilobytes("VmHWM:") - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_still_takes_less_than_six_copies_of_itself(tmp_path):
    """Without steps, whose tiles add the same at every size; at 8K all is under 3 GB then.

    Even its second octave is over the 64 MB from which blocks are handed back at once: whether
    smaller ones are is chance (a 4K picture took 6.7 to 7.6 copies, run by run).
    """
    changes = [
        "objectives=[{layer: features.3}]", "dream.size=full", "dream.tile=256", "dream.steps=0",
        "dream.octaves=2",
    ]  # fmt: skip
    arguments = [str(tmp_path / "in.png"), str(tmp_path / "out.png"), *changes]
    program = [sys.executable, "-c", PEAK_OF_A_STILL, *arguments]
    told = subprocess.run(program, check=True, capture_output=True, text=True, timeout=300).stdout
    assert int(told) < 6 * 4800 * 2700 * 3 * 4


def test_free_memory_heeds_a_limit_on_the_address_space():
    program = (
        "import resource, torch\n"
        "from dreamflow import machine\n"
        "free = machine.free_bytes(torch.device('cpu'))\n"
        "limit = 1 << 36\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "left = machine.free_bytes(torch.device('cpu'))\n"
        "assert 0 < left <= min(free * 1.2, limit), (free, left)\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "limit = taken + (1 << 28)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "assert machine.free_bytes(torch.device('cpu')) <= 1 << 28\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_allocation_that_fails_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(1 << 50)
    assert is_out_of_memory(failed.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
