"""What objectives name in files, and renders that use it: pictures, masks, other networks."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch
from tiny import panning_clip, still_clip, texture

from dreamflow import ensemble, job, preset, props, render
from dreamflow.errors import BadMediaError, DreamflowError, InputMissingError, PresetError
from dreamflow.frames import to_array
from dreamflow.masks import Mask
from dreamflow.render import check_names
from dreamflow.video.stills import Still

BRIEF = "dream: {octaves: 1, steps: 2, jitter: 4}\ncolor: {anchor: none}\n"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(objectives, more=BRIEF, name="p.yaml"):
    Path(name).write_text(f"objectives: [{objectives}]\n{more}")
    return preset.load(f"./{name}")


def picture(name, seed=1, height=60, width=80):
    pixels = to_array(texture(height, width, seed=seed))
    cv2.imwrite(name, pixels[:, :, ::-1])
    return pixels


def split_mask(name):
    """White on the left."""
    pixels = np.zeros((10, 16), np.uint8)
    pixels[:, :8] = 255
    cv2.imwrite(name, pixels)


def prepared(look, **conditions):
    return job.prepare(look, Fraction(30), "cpu", 1, **conditions)


def dreamed(look, source):
    return job.dream_still(Still(source), prepared(look)).pixels


# ── reading ──


def test_each_file_is_read_once_and_found_beside_the_preset():
    Path("looks").mkdir()
    picture("looks/g.png")
    split_mask("looks/m.png")
    np.save("looks/d.npy", np.arange(5.0))
    text = "{layer: a, guide: g.png, mask: m.png}, {layer: a, content: g.png, mask: luma}"
    look = written(f"{text}, {{layer: a, direction: d.npy}}", name="looks/p.yaml")
    found = props.read(look)
    assert set(found.pictures) == {"looks/g.png"}
    assert found.pictures["looks/g.png"].shape == (1, 3, 60, 80)
    assert set(found.masks) == {"looks/m.png"}
    assert found.directions == {"looks/d.npy": (0.0, 1.0, 2.0, 3.0, 4.0)}


def test_a_direction_may_be_safetensors():
    safetensors.numpy.save_file({"any": np.array([1.0, -2.0], np.float32)}, "d.safetensors")
    assert props.read_direction(Path("d.safetensors")) == (1.0, -2.0)


def refuse(name, data):
    Path(name).write_bytes(data)
    with pytest.raises(BadMediaError, match=name):
        props.read_direction(Path(name))


@pytest.mark.parametrize("name", ["d.npy", "d.safetensors"])
@pytest.mark.parametrize(
    "data", [b"", b"text", b"\x93NUMPY\x01\x00", b"PK\x03\x04zip", b"\xff" * 99]
)
def test_what_is_no_direction_is_refused(name, data):
    refuse(name, data)


def test_a_pickle_is_never_run(tmp_path):
    np.save("d.npy", np.array([{"a": 1}], object), allow_pickle=True)
    refuse("d.npy", Path("d.npy").read_bytes())


@pytest.mark.parametrize("values", [np.ones((2, 2)), np.array(3.0), np.array([]), [1.0, np.nan]])
def test_a_direction_is_one_row_of_finite_numbers(values):
    np.save("d.npy", values)
    refuse("d.npy", Path("d.npy").read_bytes())


def test_too_large_a_direction_is_refused():
    np.save("d.npy", np.zeros(200_000))
    refuse("d.npy", Path("d.npy").read_bytes())


@pytest.mark.parametrize("key", ["guide", "style", "content", "direction", "mask"])
def test_a_missing_file_is_named_where_it_is_written(key):
    more = "" if key == "mask" else "x"
    look = written(f"{{layer: features.3, {key}: n{more}.npy}}")
    with pytest.raises(
        InputMissingError, match=rf"^./p\.yaml:1:\d+: objectives\.0\.{key}: no such"
    ):
        props.read(look)


# ── what a network does not have ──


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("{layer: features.3, channel: 128}", "0.channel: features.3 has channels 0 to 127"),
        ("{layer: fire2, channels: [3, 500]}", "0.channels.1: fire2 has channels 0 to 127"),
        ("{layer: features.3, neuron: [128, 0, 0]}", "0.neuron.0: features.3 has channels"),
        ("{layer: nix, guide: g.png}", "objectives.0.layer: unknown layer 'nix'"),
        ("{layer: [features.3, nix], style: g.png}", "objectives.0.layer.1: unknown layer 'nix'"),
        ("{layer: features.3, network: nix}", "objectives.0.network: unknown network 'nix'"),
        ("{layer: inception4c, network: vgg16}", "0.layer: unknown layer 'inception4c' of"),
    ],
)  # fmt: skip
def test_unknown_names_and_channels_are_named_where_they_are_written(objective, message):
    with pytest.raises(PresetError) as caught:
        check_names(written(objective))
    assert str(caught.value).startswith("./p.yaml:1:")
    assert message in str(caught.value)


def test_a_direction_has_a_number_for_each_channel():
    with pytest.raises(PresetError, match=r"features.3 has 128 channels, but 2 numbers are given"):
        prepared(written("{layer: features.3, direction: [1, 2]}"))


# ── renders ──


@pytest.mark.parametrize(
    "objective",
    ["{layer: features.4, guide: g.png}", "{layer: [features.3, features.4], style: g.png}",
     "{layer: features.4, content: g.png}", "{layer: features.4, enhance: 2}",
     "{layer: features.4, norm: l1}", "{layer: features.4, channels: [1, 2, 3]}",
     "{class: goldfish, target: 20}"],
)  # fmt: skip
def test_every_kind_changes_a_still(objective):
    picture("g.png")
    source = to_array(texture(60, 80))
    change = np.abs(dreamed(written(objective), source).astype(int) - source)
    assert change.mean() > 0.3


def test_two_guides_give_two_pictures():
    for name, seed in (("g.png", 1), ("h.png", 9)):
        picture(name, seed)
    source = to_array(texture(60, 80))
    one, other = (
        dreamed(written(f"{{layer: features.6, guide: {name}}}"), source).astype(int)
        for name in ("g.png", "h.png")
    )
    assert np.abs(one - other).mean() > 0.5


def test_a_mask_of_an_objective_holds_in_a_still_and_through_a_clip():
    split_mask("m.png")
    look = written("{layer: features.4, mask: m.png}")
    source = to_array(texture(48, 64))
    change = np.abs(dreamed(look, source).astype(int) - source)
    assert change[:, :30].mean() > 1
    assert change[:, 34:].max() == 0
    clip = still_clip(3)
    frames = [to_array(each.image) for each in render.render(clip, prepared(look))]
    for frame, plain in zip(frames, clip, strict=True):
        assert np.abs(frame.astype(int) - plain)[:, 36:].max() <= 1
        assert np.abs(frame.astype(int) - plain)[:, :28].mean() > 1


def test_a_luma_mask_dreams_where_it_is_bright():
    source = to_array(texture(48, 64))
    source[:, 32:] //= 12
    change = np.abs(
        dreamed(written("{layer: features.4, mask: luma}"), source).astype(int) - source
    )
    assert change[:, :28].mean() > 4 * change[:, 36:].mean()


def test_a_motion_mask_dreams_where_something_moves():
    still, moving = still_clip(3, 48, 96), panning_clip(3, 48, 48, speed=3)
    clip = []
    for background, part in zip(still, moving, strict=True):
        frame = background.copy()
        frame[:, :48] = part
        clip.append(frame)
    frames = list(render.render(clip, prepared(written("{layer: features.4, mask: motion}"))))
    change = [
        np.abs(to_array(each.image).astype(int) - plain)
        for each, plain in zip(frames, clip, strict=True)
    ]
    assert change[0].max() <= 1  # nothing has moved yet
    assert change[2][:, 8:36].mean() > 5 * change[2][:, 70:].mean()


def test_motion_is_white_where_it_is_quick():
    flow = torch.zeros(1, 2, 40, 250)
    flow[:, 0, :, 200:] = 1.0  # of the long side a 250th
    shares = Mask.of_motion(flow, 1.0).shares
    assert float(shares[..., 220:].min()) == pytest.approx(1, abs=0.01)
    assert float(shares[..., :180].max()) == pytest.approx(0, abs=0.01)
    assert float(Mask.of_motion(flow, 2.0).shares[..., 230].mean()) == pytest.approx(0.5, abs=0.01)


def test_several_networks_dream_on_one_picture(monkeypatch):
    """Each runs once in a pass, whatever is asked of it."""
    one = "{layer: features.4}, {layer: features.3}, {class: goldfish}"
    other = f"{{layer: features.4, network: 'squeezenet1_1:{weights()}'}}"
    look = written(f"{one}, {other}, {other[:-1]}, norm: l1}}")
    engine = prepared(look)
    assert isinstance(engine.extractor, ensemble.Ensemble)
    runs = []
    for part in engine.extractor.children():
        for extractor in part:
            extractor.register_forward_pre_hook(lambda module, _: runs.append(module.name))
    job.dream_still(Still(to_array(texture(48, 64))), engine)
    assert len(runs) == 2 * 2
    assert len(set(runs)) == 2


def weights():
    """The embedded network's file, by a link inside the preset's folder."""
    source = Path(ensemble.__file__).parent / "weights" / "squeezenet1_1_imagenet.safetensors"
    copy = Path("w.safetensors")
    copy.write_bytes(source.read_bytes())
    return copy


def test_the_same_network_twice_is_the_network_once():
    source = to_array(texture(48, 64))
    alone = dreamed(written("{layer: features.4}"), source)
    named = dreamed(written("{layer: features.4, network: squeezenet1_1}"), source)
    assert np.array_equal(alone, named)


def test_two_networks_with_one_file_dream_as_one():
    source = to_array(texture(48, 64))
    file = weights()
    alone = dreamed(written("{layer: features.4, weight: 1}, {layer: features.3}"), source)
    text = f"{{layer: features.4}}, {{layer: features.3, network: 'squeezenet1_1:{file}'}}"
    apart = dreamed(written(text), source)
    assert np.abs(alone.astype(int) - apart).max() <= 1


# ── what is for stills only, or for clips only ──


def request(look, source="g.png", target="out.png"):
    return job.VideoRequest(Path(source), target, look, threads=1)


def test_a_start_from_nothing_is_refused_for_a_clip():
    Path("frames").mkdir()
    picture("frames/a_1.png")
    look = written("{layer: features.3}", "dream: {start: grey, steps: 1}\n")
    with pytest.raises(PresetError, match=r"p.yaml:2:\d+: dream.start: 'grey' is for stills"):
        list(job.render_video(request(look, "frames", "out.mp4")))


def test_a_motion_mask_is_refused_for_a_still():
    picture("g.png")
    look = written("{layer: features.3, mask: motion}")
    with pytest.raises(PresetError, match=r"objectives.0.mask: 'motion' is for clips"):
        list(job.render_picture(request(look)))


def test_a_still_from_nothing_shows_nothing_of_the_picture():
    look = written("{layer: features.4}", "dream: {start: grey, steps: 2, octaves: 1, size: 48}\n")
    one, other = (dreamed(look, picture("g.png", seed)) for seed in (1, 2))
    assert one.shape == (60, 80, 3)
    assert np.array_equal(one, other)


def test_an_objectives_files_survive_and_are_in_the_recipe_by_name():
    picture("g.png")
    Path("sub").mkdir()
    picture("sub/h.png")
    look = written("{layer: features.4, guide: sub/h.png}")
    with pytest.raises(DreamflowError, match=r"h\.png"):
        list(job.render_picture(request(look, target="sub/h.png")))
    facts = json.loads(job.recipe(prepared(look)))
    assert facts["objectives_sha256"] == {"h.png": job.sha256(Path("sub/h.png"))}
    assert "sub/" not in facts["preset"]
    assert "guide: h.png" in facts["preset"]


# ── strength ──


def mean_changes(look, strengths):
    source = to_array(texture(72, 96, sigma=3))
    results = []
    for strength in strengths:
        result = dreamed(look.model_copy(update={"strength": strength}), source)
        results.append(float(np.abs(result.astype(float) - source).mean()))
    return results


@pytest.mark.parametrize("layer", ["features.3", "features.6", "features.9", "features.12"])
def test_strength_scales_the_change_evenly_on_every_layer(layer):
    look = written(f"{{layer: {layer}}}", "dream: {octaves: 2, steps: 6}\n")
    none, quarter, half, whole, double = mean_changes(look, (0.0, 0.25, 0.5, 1.0, 2.0))
    assert none < 0.5
    assert quarter / whole == pytest.approx(0.25, abs=0.1)
    assert half / whole == pytest.approx(0.5, abs=0.1)
    assert 1.5 < double / whole < 2.2


def test_a_strength_of_1_is_the_presets_look_to_the_bit():
    look = written("{layer: features.4}")
    assert render.ascent(look) is look.dream
    assert render.gentler(look).step_size == look.dream.step_size * look.follow.effort
    doubled = look.model_copy(update={"strength": 2.0})
    ratio = render.gentler(doubled).step_size / render.gentler(look).step_size
    assert ratio == render.ascent(doubled).step_size / look.dream.step_size > 2


def test_strength_may_move():
    look = written("{layer: features.4}", BRIEF + "strength: 0:(0), 4:(1)\n")
    frames = list(render.render(still_clip(5), prepared(look, frame_count=5)))
    change = [float((each.image - frames[0].image).abs().mean()) for each in frames]
    assert change[0] < change[1] < change[3]
