"""White dreams, black stays: to the last bit, in stills, clips and zooms, from any picture."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_engine, make_preset, panning_clip, texture

from dreamflow import cli, masks
from dreamflow.dream import dream
from dreamflow.frames import Box, to_array, to_image
from dreamflow.job import VideoRequest, render_picture
from dreamflow.masks import Mask
from dreamflow.render import render
from dreamflow.settings import Dream
from dreamflow.video.reader import open_clip
from dreamflow.video.stills import read_still, still_metadata, write_still
from dreamflow.zoom import render_zoom
from dreamflow.zoom_job import ZoomRequest, render_film

BRIEF = {
    "dream": {"octaves": 2, "steps": 2, "jitter": 2, "step_size": 6.0},
    "follow": {"octaves": 1, "steps": 1},
}


def left_half(height=36, width=48):
    weights = np.zeros((height, width), np.float32)
    weights[:, : width // 2] = 1
    return weights


def masked_engine(weights, **stages):
    return replace(make_engine(make_preset(**{**BRIEF, **stages})), mask=Mask.of(weights))


def changed(before, after):
    """Mean change in the left and in the right half."""
    change = (before - after).abs()
    middle = change.shape[-1] // 2
    return float(change[..., :middle].mean()), float(change[..., middle:].max())


# ── what a picture says ──


def test_a_mask_is_the_luma_of_an_opaque_picture():
    pixels = np.zeros((1, 4, 3), np.uint8)
    pixels[0, 1:] = [(255, 255, 255), (255, 0, 0), (0, 255, 0)]
    assert masks.weights_of(pixels, None)[0] == pytest.approx([0, 1, 0.2126, 0.7152], abs=1e-6)
    assert masks.weights_of(pixels.astype(np.uint16) * 257, None)[0, 1] == pytest.approx(1)


def test_a_mask_is_the_alpha_that_varies_and_not_the_one_that_does_not():
    pixels = np.full((2, 2, 3), 255, np.uint8)
    varying = np.array([[0, 255], [128, 255]], np.uint8)
    assert masks.weights_of(pixels, varying)[0].tolist() == [0, 1]
    assert masks.weights_of(pixels, np.full((2, 2), 128, np.uint8)) == pytest.approx(1)


def test_a_resized_mask_stays_within_its_range_and_black_stays_black():
    hard = Mask.of(left_half(100, 100))
    for size in ((17, 31), (100, 100), (240, 320)):
        shares = hard.at(torch.zeros(1, 3, *size))[0, 0]
        assert shares.shape == size
        assert shares.min() == 0
        assert shares.max() <= 1
        assert shares[:, : size[1] // 2 - 3].min() > 0.9999
        assert (shares[:, size[1] // 2 + 3 :] == 0).all()


# ── where it is 0, nothing changes; where it is 1, all is as without ──


@pytest.mark.parametrize("size", [(36, 48), (5, 7)], ids=["usual", "under the network's minimum"])
def test_the_ascent_leaves_black_as_it_was(size):
    image, engine = texture(*size), masked_engine(left_half(*size))
    settings = Dream(octaves=3, steps=2, jitter=3, step_size=8)
    dreamed = dream(image, engine.extractor, engine.terms, settings, mask=engine.mask)
    moved, still = changed(image[..., : size[1] // 2 * 2], dreamed[..., : size[1] // 2 * 2])
    assert moved > 0.01
    assert still == 0


def test_a_white_mask_is_as_good_as_none():
    image, engine = texture(36, 48), make_engine(make_preset(**BRIEF))
    settings = Dream(octaves=2, steps=2)
    free, white = (
        dream(image, engine.extractor, engine.terms, settings, mask=mask)
        for mask in (None, Mask.of(np.ones((9, 9))))
    )
    assert torch.allclose(free, white, atol=1e-6)


def test_grey_dreams_less():
    image, engine = texture(36, 48), make_engine(make_preset(**BRIEF))
    settings = Dream(octaves=1, steps=2)
    changes = [
        float(
            (dream(image, engine.extractor, engine.terms, settings, mask=mask) - image).abs().mean()
        )
        for mask in (Mask.of(np.full((4, 4), share)) for share in (0.25, 0.5, 1))
    ]
    assert changes[0] < changes[1] < changes[2]
    assert changes[1] == pytest.approx(changes[2] / 2, rel=0.1)


@pytest.mark.parametrize("size", ["full", 32], ids=["at full size", "dreamed smaller"])
@pytest.mark.parametrize("cadence", [1, 3])
def test_a_clip_is_its_source_where_the_mask_is_black(cadence, size):
    """The dream is carried to the right, out of the mask, and ends at its border."""
    clip = panning_clip(7)
    look = {"cadence": cadence, "dream": {**BRIEF["dream"], "size": size}}
    engine = masked_engine(left_half(48, 64), **look)
    for array, frame in zip(clip, render(clip, engine), strict=True):
        moved, still = changed(to_image(array), frame.image)
        assert moved > 0.003
        assert still == 0


def test_a_dream_carried_out_of_the_light_fades_with_the_mask():
    """On a ramp that a pan carries it down, no place shows more than its share of the whole."""
    clip, ramp = panning_clip(10, speed=3), np.linspace(1, 0, 64, dtype=np.float32)[None]
    strengths = []
    for weights in (np.ones((48, 64), np.float32), ramp.repeat(48, 0)):
        *_, last = render(clip, masked_engine(weights))
        strengths.append((last.image - to_image(clip[-1])).abs().mean(dim=(0, 1, 2)))
    whole, ramped = strengths
    share = ramped[40:56].mean() / whole[40:56].mean()
    assert 0.1 < share < 0.5  # the ramp itself is 0.24 there


def test_a_zoom_only_moves_what_is_black():
    seed, still = texture(36, 48), {"camera": {}, "feedback": {"sharpen": 0.0}}
    engine = masked_engine(left_half(), **still)
    *_, last = render_zoom(seed, engine, 8)
    moved, untouched = changed(seed, last.image)
    assert moved > 0.01
    assert untouched == 0


def test_the_first_frame_of_a_zoom_is_its_seed_where_the_mask_is_black():
    seed, engine = texture(36, 48), masked_engine(left_half(), camera={"zoom": 1.05})
    moved, untouched = changed(seed, next(render_zoom(seed, engine)).image)
    assert moved > 0.01
    assert untouched == 0


# ── files and commands ──


QUICK = ["--threads", "1", "-q", "-s", "dream.octaves=2", "-s", "dream.steps=1"]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in.png"
    write_still(path, to_array(texture(36, 48)))
    return path


def save_mask(path, kind):
    """White on the left, in one of the ways in which people save masks; of a size of its own."""
    grey = (left_half(72, 96) * 255).astype(np.uint8)
    if kind == "grey 16":
        cv2.imwrite(str(path), grey.astype(np.uint16) * 257)
    elif kind == "alpha":
        planes = [np.zeros_like(grey)] * 3
        Image.fromarray(np.dstack([*planes, grey])).save(path)
    elif kind == "cmyk":
        Image.fromarray(grey).convert("RGB").convert("CMYK").save(path)
    else:
        Image.fromarray(grey).convert(kind).save(path)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("L", ".png"), ("1", ".png"), ("P", ".gif"), ("RGB", ".webp"), ("grey 16", ".png"),
     ("alpha", ".png"), ("cmyk", ".tif")],
)  # fmt: skip
def test_any_picture_is_a_mask(tmp_path, picture, kind, suffix):
    mask, target = tmp_path / f"mask{suffix}", tmp_path / "out.png"
    save_mask(mask, kind)
    code = cli.run(["image", str(picture), "-o", str(target), "--mask", str(mask), *QUICK])
    assert code == 0
    source, dreamed = (read_still(path).astype(int) for path in (picture, target))
    assert np.array_equal(source[:, 26:], dreamed[:, 26:])
    assert np.abs(source - dreamed)[:, :22].mean() > 2
    facts = json.loads(still_metadata(target))
    assert f"mask: mask{suffix}\n" in facts["preset"]
    assert len(facts["mask_sha256"]) == 64


def test_a_preset_names_its_mask_from_its_own_folder(tmp_path, picture, monkeypatch):
    (tmp_path / "looks").mkdir()
    save_mask(tmp_path / "looks" / "m.png", "L")
    look = tmp_path / "looks" / "p.yaml"
    look.write_text("extends: base\nmask: m.png\ndream: {steps: 1, octaves: 1}\n")
    target = tmp_path / "out.png"
    monkeypatch.chdir(tmp_path)
    assert cli.run(["image", str(picture), "-o", str(target), "-p", "looks/p.yaml", "-q"]) == 0
    assert np.array_equal(read_still(picture)[:, 26:], read_still(target)[:, 26:])


def test_a_mask_lies_on_a_seed_and_is_cropped_with_it(tmp_path):
    """The seed is 2:1, the film square: of the mask's left half, a square's left half is left."""
    seed, mask = tmp_path / "seed.png", tmp_path / "mask.png"
    write_still(seed, to_array(texture(48, 96)))
    weights = np.zeros((20, 20, 3), np.uint8)
    weights[:, :10] = 255
    weights[:, :4] = 0  # outside the film: 0.2 of the width is under the quarter that is cut off
    write_still(mask, weights)
    look = make_preset("features.4", mask=str(mask), camera={}, **BRIEF)
    look = look.model_copy(update={"feedback": look.feedback.model_copy(update={"sharpen": 0.0})})
    options = {"size": Box.parse("48x48"), "frames": 2, "threads": 1, "device": "cpu"}
    list(render_film(ZoomRequest(seed, f"{tmp_path}/out/", look, **options)))
    with open_clip(tmp_path / "out") as clip:
        *_, last = clip.frames()
    change = np.abs(last.astype(int) - read_still(seed)[:, 24:72])
    assert change[:, 27:].max() == 0
    assert change[:, :2].mean() > 1


def test_a_mask_that_lets_nothing_through_is_told(tmp_path, picture, caplog):
    write_still(tmp_path / "black.png", np.zeros((4, 4, 3), np.uint8))
    look = make_preset("features.4", mask=str(tmp_path / "black.png"), **BRIEF)
    with caplog.at_level(logging.WARNING, "dreamflow"):
        list(render_picture(VideoRequest(picture, str(tmp_path / "o.png"), look, threads=1)))
    assert any("black everywhere" in record.getMessage() for record in caplog.records)
    assert np.array_equal(read_still(picture), read_still(tmp_path / "o.png"))


@pytest.mark.parametrize("command", ["image", "zoom"])
@pytest.mark.parametrize(("content", "code"), [(None, 66), (b"not a picture", 65)])
def test_a_mask_that_is_none_is_refused_in_one_line(
    tmp_path, picture, capsys, command, content, code
):
    mask, target = tmp_path / "mask.png", tmp_path / "out.png"
    if content:
        mask.write_bytes(content)
    words = ["--frames", "1"] if command == "zoom" else []
    target = f"{tmp_path}/out/" if command == "zoom" else str(target)
    found = cli.run([command, str(picture), "-o", target, "--mask", str(mask), *words, *QUICK])
    error = capsys.readouterr().err
    assert found == code
    assert error.count("\n") == 1
    assert "mask.png" in error
    assert not Path(target).exists()


def test_the_mask_is_not_overwritten(tmp_path, picture, capsys):
    mask = tmp_path / "mask.png"
    save_mask(mask, "L")
    before = mask.read_bytes()
    words = ["image", str(picture), "-y", "-o", str(mask), "--mask", str(mask), *QUICK]
    assert cli.run(words) == 2
    assert "read by this very render" in capsys.readouterr().err
    assert mask.read_bytes() == before
