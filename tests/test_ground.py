"""What is new at a stretch, and what a carried frame dreams there."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from tiny import TinyExtractor, make_engine, make_preset, panning_clip, texture

from dreamflow import ground, preset, scene
from dreamflow.ground import NewGround
from dreamflow.job import prepare
from dreamflow.masks import Mask
from dreamflow.preset import Preset
from dreamflow.render import Engine, dream_on_new_ground, new_ground, render

SIZE = (1, 1, 120, 200)
FOLLOWED = torch.ones(SIZE)


def ripe_but(columns: slice, rows: slice = slice(None), ripeness: float = 0.1) -> torch.Tensor:
    """A picture that is ripe everywhere else."""
    ripe = torch.ones(SIZE)
    ripe[..., rows, columns] = ripeness
    return ripe


def test_what_a_pan_brought_in_is_found_with_what_is_around_it():
    new = ground.find(ripe_but(slice(160, 200)), FOLLOWED, 16)
    assert new is not None
    assert float(new.share[..., :155].max()) == 0
    assert float(new.share[..., 180:].min()) > 0.7
    assert new.rows == slice(0, 120)
    assert 100 <= new.columns.start <= 140
    assert new.columns.stop == 200


def test_nothing_grows_outside_the_piece():
    ripe = ripe_but(slice(60, 120), slice(50, 90))
    new = ground.find(ripe, FOLLOWED, 16)
    assert new is not None
    outside = new.put(new.share, torch.zeros_like(new.of(new.share)))
    assert float(outside.max()) == 0
    assert float(new.of(new.share).max()) > 0.5


@pytest.mark.parametrize(
    "ripe",
    [
        torch.ones(SIZE),
        ripe_but(slice(100, 106)),  # beside what moves
        ripe_but(slice(90, 100), slice(50, 60)),
        ripe_but(slice(160, 200), ripeness=0.99),
    ],
    ids=["nothing", "a narrow strip", "a spot", "what is ripe"],
)
def test_what_is_little_or_narrow_is_left_to_the_steps_of_the_whole(ripe):
    assert ground.find(ripe, FOLLOWED, 16) is None


def test_where_all_that_is_new_came_with_this_frame_no_dream_is_begun():
    """It comes and goes: what is begun there in every frame anew only flickers."""
    ripe = ripe_but(slice(100, 200))
    fleeting = torch.ones(SIZE)
    fleeting[..., 100:130] = 0
    assert ground.find(ripe, fleeting, 16) is None
    slower = torch.ones(SIZE)
    slower[..., 195:] = 0
    steady, hurried = (ground.find(ripe, trust, 16) for trust in (FOLLOWED, slower))
    assert steady is not None
    assert hurried is not None
    assert 0 < hurried.share.mean() < 0.9 * steady.share.mean()


@pytest.mark.parametrize("least", [16, 110, 150, 500])
@pytest.mark.parametrize("columns", [slice(0, 40), slice(80, 120), slice(160, 200)])
def test_a_piece_is_as_large_as_the_coarsest_octave_needs(least, columns):
    new = ground.find(ripe_but(columns), FOLLOWED, least)
    assert new is not None
    height, width = new.of(FOLLOWED).shape[-2:]
    assert height == 120  # all of it
    assert width >= min(least, 200)


def test_sizes_that_are_no_multiple_of_a_cell_keep_the_edge():
    ripe = torch.ones(1, 1, 61, 83)
    ripe[..., 45:] = 0
    new = ground.find(ripe, torch.ones_like(ripe), 16)
    assert new is not None
    assert new.share.shape == ripe.shape
    assert (new.rows.stop, new.columns.stop) == (61, 83)


def test_only_the_octaves_that_carried_frames_leave_out_are_dreamed_there():
    look = make_preset(dream={"octaves": 3, "steps": 5, "jitter": 2}, follow={"octaves": 1})
    extractor, image = TinyExtractor(), texture(96, 160)
    new = NewGround(torch.ones(1, 1, 96, 160), slice(0, 96), slice(60, 160))
    engine = make_engine(look, extractor=extractor)
    dreamed = dream_on_new_ground(engine, new, image, image, (0, 7), scene.Scene())
    assert extractor.sides == [(49, 51), (69, 71)]  # a step in each of two, none at the full size
    assert torch.equal(dreamed[..., :60], image[..., :60])
    assert float((dreamed - image)[..., 60:].abs().mean()) > 1 / 255


def test_a_mask_holds_on_new_ground_too():
    look = make_preset(dream={"octaves": 3, "steps": 5})
    image, shares = texture(96, 160), torch.ones(1, 1, 96, 160)
    shares[..., :40, :] = 0
    engine = Engine.build(look, Fraction(30), extractor=TinyExtractor())
    masked = replace(engine, mask=Mask(shares))
    new = NewGround(torch.ones(1, 1, 96, 160), slice(10, 96), slice(60, 160))
    dreamed = dream_on_new_ground(masked, new, image, image, (0, 7), scene.Scene())
    assert torch.equal(dreamed[..., :40, :], image[..., :40, :])
    assert float((dreamed - image)[..., 40:, 60:].abs().mean()) > 1 / 255


def test_a_scene_is_cut_like_its_frame():
    shares = torch.linspace(0, 1, 200).expand(1, 1, 120, 200)
    whole = scene.Scene(masks={"ramp": Mask(shares), "coarse": Mask(shares[..., ::2, ::2])})
    new = NewGround(FOLLOWED, slice(0, 120), slice(150, 200))
    cut = whole.cut(new.of, FOLLOWED)
    for mask in cut.masks.values():
        torch.testing.assert_close(mask.shares, shares[..., 150:], rtol=0, atol=0.01)


FEWER = {"dream": {"octaves": 2}, "follow": {"octaves": 1}}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"follow": {"octaves": 1, "ground": 0.0}}, False),
        ({"follow": {"octaves": 2}}, False),
        ({"follow": {"octaves": 1, "steps": 0}}, False),
        ({"dream": {"octaves": 2, "steps": 0}}, False),
        ({"strength": 0.0}, False),
        ({"objectives": ({"layer": "second", "octaves": (0,)},)}, False),
    ],
    ids=["", "turned off", "no octaves left", "no steps", "none at all", "no size", "no objective"],
)
def test_there_is_new_ground_only_where_it_would_be_dreamed(changes, found):
    look = Preset.model_validate({"objectives": ({"layer": "second"},), **FEWER, **changes})
    new = new_ground(make_engine(look), ripe_but(slice(160, 200)), FOLLOWED)
    assert (new is not None) == found


def test_what_a_mask_keeps_the_dream_from_is_no_new_ground():
    look = make_preset(**FEWER)
    right = torch.zeros(SIZE)
    right[..., 100:] = 1
    for columns, found in ((slice(160, 200), True), (slice(0, 40), False)):
        engine = replace(make_engine(look), mask=Mask(right))
        assert (new_ground(engine, ripe_but(columns), FOLLOWED) is not None) == found


def test_priors_leave_what_is_around_new_ground_alone():
    priors = {"l2_source": 1.0, "blur": 0.5, "total_variation": 1.0}
    look = make_preset(**FEWER, regularize=priors)
    engine, image, source = make_engine(look), texture(96, 160), texture(96, 160, seed=1)
    share = torch.zeros(1, 1, 96, 160)
    share[..., 120:] = 1
    new = NewGround(share, slice(0, 96), slice(60, 160))
    dreamed = dream_on_new_ground(engine, new, image, source, (0, 7), engine.scene(source))
    torch.testing.assert_close(dreamed[..., :110], image[..., :110], rtol=0, atol=1e-6)
    assert float((dreamed - image)[..., 125:].abs().mean()) > 1 / 255


def test_what_a_slow_pan_brings_in_comes_up_to_its_surroundings():
    """Its dream had a third of the strength of one from scratch, and no forms but fine strokes."""

    def came_in(step):
        look = preset.load("base", overrides=["dream.size=160", f"follow.ground={step}"])
        engine = prepare(look, Fraction(25), "cpu", 2)
        clip = panning_clip(30, height=96, width=160, speed=2)
        *_, last = render(iter(clip), engine)
        (scratch,) = render([clip[-1]], engine, first_index=29)
        strip = (..., slice(None), slice(8, 50))  # it comes from the left
        return [float(each.carry.residual[strip].abs().mean()) for each in (last, scratch)]

    grown, wanted = came_in(3)
    fine_alone, _ = came_in(0)
    assert grown > 0.6 * wanted
    assert grown > 1.2 * fine_alone
