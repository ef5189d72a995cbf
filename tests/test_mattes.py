"""Masks that travel: with what they are on, with a class, frame by frame; the same when resumed."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import make_engine, make_preset, panning_clip, still_clip, texture

from dreamflow import checkpoint, cli, heatmap, job, mattes, networks
from dreamflow.errors import UsageError
from dreamflow.feedback import Carry
from dreamflow.flow import FlowMethod, correspond
from dreamflow.frames import to_array, to_image
from dreamflow.heatmap import Target
from dreamflow.job import VideoRequest, render_picture, render_video
from dreamflow.masks import Mask
from dreamflow.mattes import Matte, Tracker
from dreamflow.render import render, start_image
from dreamflow.settings import ClassMask, FileMask
from dreamflow.video.reader import open_clip
from dreamflow.video.stills import read_still, write_still
from dreamflow.zoom_job import ZoomRequest, render_film

ROOT = Path(__file__).parents[1]
BRIEF = {
    "dream": {"octaves": 1, "steps": 2, "jitter": 2, "step_size": 6.0},
    "follow": {"octaves": 1, "steps": 1},
}
DIS = FlowMethod("dis")


def block(left, right, height=48, width=64):
    shares = torch.zeros(1, 1, height, width)
    shares[..., 12:36, left:right] = 1
    return shares


def carried(matte, images):
    """The matte on the last of the images, from the first on."""
    for last, now in itertools.pairwise(images):
        matte = mattes.moved(matte, now, correspond(DIS, now, last), 1.0)
    return matte


# ── along the flow ──


def test_a_mask_moves_with_what_it_is_on_and_keeps_its_shape():
    images = [to_image(frame) for frame in panning_clip(9, speed=3)]
    shares = block(8, 24)
    moved = carried(Matte("m", shares, shares, 0), images).shares
    assert float((moved - block(32, 48)).abs().mean()) < 0.02
    assert float((moved - shares).abs().mean()) > 0.2


def test_what_a_thing_uncovers_is_not_in_its_mask():
    """A block moves over a ground of another colour, two pixels a frame."""
    ground, thing = texture(48, 64, seed=1) * 0.4, 1 - texture(24, 16, seed=2) * 0.4
    images = []
    for left in range(8, 42, 2):
        image = ground.clone()
        image[..., 12:36, left : left + 16] = thing
        images.append(image)
    shares = block(8, 24)
    moved = carried(Matte("m", shares, shares, 0), images).shares
    assert float(moved[..., 12:36, 42:54].mean()) > 0.95
    assert float(moved[..., 12:36, :38].mean()) < 0.06


def test_what_cannot_be_followed_is_filled_from_like_colours():
    source = torch.zeros(1, 3, 32, 64)
    source[..., 32:] = 0.8
    shares, reliable = (source[:, :1] > 0).float(), torch.ones(1, 1, 32, 64)
    reliable[..., 28:36] = 0
    torn = shares.clone()
    torn[..., 28:36] = 0.5
    assert torch.allclose(mattes.filled(torn, source, reliable), shares, atol=0.02)


# ── found again ──


def test_a_mask_glides_to_what_is_found_again_and_is_not_looked_for_before():
    looks = []

    def find(image):
        looks.append(1)
        return torch.full_like(image[:, :1], float(len(looks) > 1))

    tracker, image = Tracker(find, again=4), texture(24, 32)
    matte = tracker.begun("m", image, 10)
    levels = []
    for index in range(11, 20):
        matte = mattes.moved(matte, image, correspond(DIS, image, image), 1.0)
        matte = tracker.looked(matte, image, index, 1.0)
        levels.append(float(matte.shares.mean()))
    assert len(looks) == 1 + 2  # at 14 and 18
    assert levels[:4] == [0.0] * 4
    assert levels == sorted(levels)
    assert max(np.diff(levels)) < 0.2
    assert levels[-1] == pytest.approx(1 - math.exp(-5 / 6), abs=1e-4)


def test_a_class_is_where_the_heat_map_has_it():
    small = cv2.resize(read_still(ROOT / "samples" / "coffee.jpg"), (120, 80))
    image = to_image(small)
    (tracker,) = mattes.trackers(
        [ClassMask.model_validate({"class": "espresso", "invert": each}) for each in (True, False)],
        {},
        torch.device("cpu"),
    ).values()
    matte = tracker.begun("class 967", image, 0)
    target = Target.of_class("espresso")
    extractor = networks.build(networks.DEFAULT, [target.layer])
    expected = heatmap.mask(heatmap.heat(image, extractor, target))
    assert np.array_equal(matte.shares[0, 0].numpy(), expected)
    there, elsewhere = matte.masks["<class 967>"], matte.masks["<not class 967>"]
    assert torch.equal(there.shares + elsewhere.shares, torch.ones_like(there.shares))


# ── in a render ──


class Numbered:
    """Masks drawn for the frames of a `panning_clip`: a block that moves along."""

    def at(self, index):
        return Mask(block(8 + 2 * index, 24 + 2 * index))

    def close(self):
        """Nothing is open."""


def engines(kind, **stages):
    """An engine whose whole frame is masked by what moves, of either kind."""
    mask = {"file": "m.png", "follow": kind == "followed"}
    engine = make_engine(make_preset(mask=mask, **{**BRIEF, **stages}))
    if kind == "followed":
        tracker = Tracker(Mask(block(8, 24)).at)
        return replace(engine, trackers={"m.png followed": tracker})
    return replace(engine, reels={"<m.png>": Numbered()})


@pytest.mark.parametrize("cadence", [1, 3])
@pytest.mark.parametrize("kind", ["numbered", "followed"])
def test_the_dream_is_where_the_mask_has_moved(kind, cadence):
    clip = panning_clip(7)
    for array, frame in zip(clip, render(clip, engines(kind, cadence=cadence)), strict=True):
        change = (to_image(array) - frame.image).abs().mean(dim=(0, 1))
        left = 8 + 2 * frame.index
        assert change[14:34, left + 2 : left + 14].mean() > 0.01
        assert change[:, : max(0, left - 4)].max() < 0.004
        assert change[:, left + 20 :].max() < 0.004


def test_black_stays_to_the_bit_under_masks_of_each_frame():
    clip = panning_clip(6)
    for array, frame in zip(clip, render(clip, engines("numbered", cadence=2)), strict=True):
        black = Numbered().at(frame.index).shares.expand(1, 3, -1, -1) == 0
        assert torch.equal(frame.image[black], to_image(array)[black])


def test_a_dream_does_not_fade_that_moves_with_its_mask():
    """On the soft front of the mask it is as strong as it was; it comes from where that was."""
    clip = panning_clip(12)

    class Soft(Numbered):
        def at(self, index):
            x = torch.arange(64.0).expand(1, 1, 48, 64) - 2 * index
            return Mask(((36 - x) / 16).clamp(0, 1))

    strengths = []
    for frame in render(clip, replace(engines("numbered"), reels={"<m.png>": Soft()})):
        change = (to_image(clip[frame.index]) - frame.image).abs()
        at = 2 * frame.index
        strengths.append(float(change[..., 24 + at : 32 + at].mean()))
    assert strengths[-1] > 0.6 * strengths[2]


def test_where_a_mask_opens_the_dream_is_not_ripe():
    """What was black has had no dream, though frames have passed; so it catches up."""
    clip = still_clip(3)
    *_, last = render(clip[:2], engines("numbered"))
    assert isinstance(last.carry, Carry)
    white = {"<m.png>": Mask(torch.ones(1, 1, 48, 64))}
    start = start_image(engines("numbered").wearing(white), last.carry, to_image(clip[2]))
    assert start is not None
    assert float(start.ripeness[..., 14:34, 12:24].min()) > 0.9
    assert float(start.ripeness[..., 30:].max()) == 0


@pytest.mark.parametrize("kind", ["numbered", "followed"])
def test_a_render_goes_on_to_the_bit_from_a_checkpoint(kind):
    clip, stages = panning_clip(9), {"cadence": 2}
    whole = list(render(clip, engines(kind, **stages)))
    state = checkpoint.from_bytes(checkpoint.to_bytes(whole[4].carry), Carry)
    assert isinstance(state, Carry)
    rest = list(render(clip[5:], engines(kind, **stages), first_index=5, carry=state))
    for before, after in zip(whole[5:], rest, strict=True):
        assert torch.equal(before.image, after.image)


def test_an_objective_keeps_to_a_thing_and_another_to_all_but_it():
    preset = make_preset(**BRIEF)
    base = preset.objectives[0]
    there = base.model_copy(update={"mask": FileMask(file="m.png", follow=True)})
    engine = make_engine(preset.model_copy(update={"objectives": (there,)}))
    engine = replace(engine, trackers={"m.png followed": Tracker(Mask(block(8, 24)).at)})
    clip = panning_clip(5)
    *_, last = render(clip, engine)
    change = (to_image(clip[-1]) - last.image).abs().mean(dim=(0, 1))
    assert change[14:34, 18:30].mean() > 4 * change[:, 44:].mean()


# ── files and commands ──

QUICK = ["--threads", "1", "-q", "-s", "dream.octaves=1", "-s", "dream.steps=1", "-y"]


def save_clip(folder, count=5):
    folder.mkdir()
    frames = panning_clip(count)
    for index, frame in enumerate(frames):
        write_still(folder / f"f_{index}.png", frame)
    return frames


def save_masks(folder, count=5):
    """Stills of another size; all of frame 3 is white, of others the block."""
    folder.mkdir()
    for index in range(count):
        levels = (Numbered().at(index).shares[0, 0].numpy() * 255).astype(np.uint8)
        levels[:] |= 255 * (index == 3)
        write_still(
            folder / f"m_{index}.png", cv2.resize(levels, (128, 96))[..., None].repeat(3, 2)
        )


def test_the_mask_of_a_frame_has_its_number_whatever_the_start(tmp_path):
    frames = save_clip(tmp_path / "in")
    save_masks(tmp_path / "masks")
    words = ["-o", f"{tmp_path}/out/", "--mask", str(tmp_path / "masks"), "--start", "2f"]
    assert cli.run(["video", str(tmp_path / "in"), *words, *QUICK]) == 0
    with open_clip(tmp_path / "out") as clip:
        changes = [
            np.abs(array.astype(int) - frame)[:, 48:].max()
            for array, frame in zip(clip.frames(), frames[2:], strict=True)
        ]
    assert changes[0] == changes[2] == 0 < changes[1]


def test_the_recipe_tells_a_sequence_of_masks_by_all_its_files(tmp_path):
    save_masks(tmp_path / "masks", 3)
    mask = {"file": str(tmp_path / "masks"), "invert": True}
    look = make_preset(mask=mask, objectives=({"layer": "features.4", "mask": mask},), **BRIEF)
    known = []
    for _ in range(2):
        facts = job.facts(job.prepare(look, Fraction(25), "cpu", 1))
        assert "file: masks\n" in facts["preset"]
        known.append((facts["mask_sha256"], facts["objectives_sha256"]["masks"]))
        write_still(tmp_path / "masks" / "m_2.png", np.zeros((96, 128, 3), np.uint8))
    (one, of_one), (other, of_other) = known
    assert one == of_one != other == of_other
    assert len(job.named_files(look)) == 6


def test_a_stopped_render_goes_on_to_the_same_film(tmp_path):
    save_clip(tmp_path / "in")
    save_masks(tmp_path / "masks", 3)
    write_still(tmp_path / "m.png", np.full((4, 4, 3), 200, np.uint8))
    still, clip = {"file": str(tmp_path / "m.png"), "follow": True}, str(tmp_path / "masks")
    look = make_preset("features.4", mask=still, **BRIEF)
    one = look.objectives[0].model_copy(update={"mask": clip})
    look = look.model_copy(update={"objectives": (one,)})
    films = []
    for name, stops in (("whole", False), ("stopped", True)):
        request = VideoRequest(
            tmp_path / "in", f"{tmp_path}/{name}/", look, threads=1, device="cpu", chunk_frames=2
        )
        events = render_video(request)
        if stops:
            while type(next(events)).__name__ != "Saved":
                continue
            events.close()
            events = render_video(request)
        list(events)
        with open_clip(tmp_path / name) as film:
            films.append(list(film.frames()))
    assert np.array_equal(*films)


@pytest.mark.parametrize("mask", [{"file": "{}/masks"}, {"file": "{}/masks", "invert": True}])
def test_a_mask_that_is_a_clip_is_refused_for_a_still(tmp_path, mask):
    save_masks(tmp_path / "masks", 2)
    write_still(tmp_path / "in.png", to_array(texture(36, 48)))
    mask = {**mask, "file": mask["file"].format(tmp_path)}
    request = VideoRequest(tmp_path / "in.png", f"{tmp_path}/o.png", make_preset(
        "features.4", mask=mask, **BRIEF), threads=1)  # fmt: skip
    with pytest.raises(UsageError, match=r"masks>? is a clip, and as a mask for clips"):
        list(render_picture(request))


def test_a_mask_that_follows_is_refused_for_a_zoom_and_for_a_mask_that_is_a_clip(tmp_path):
    save_masks(tmp_path / "masks", 2)
    write_still(tmp_path / "in.png", to_array(texture(36, 48)))
    for file, words in (("in.png", "is for clips and stills"), ("masks", "moves by itself")):
        mask = {"file": str(tmp_path / file), "follow": True}
        look = make_preset("features.4", mask=mask, **BRIEF)
        request = ZoomRequest(tmp_path / "in.png", f"{tmp_path}/o/", look, frames=1, threads=1)
        with pytest.raises(UsageError, match=words):
            list(render_film(request))
