"""The ascent: what it is given, what it may change, and where it stops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import TinyExtractor, texture

from dreamflow import networks, objectives
from dreamflow.dream import Effort, ascend, draw_shift, dream, octave_sizes, roll
from dreamflow.errors import BadMediaError
from dreamflow.objectives import LayerEnergy
from dreamflow.settings import Dream

TERMS = [LayerEnergy("second")]
SHORT = Dream(octaves=2, steps=3, jitter=4)
UNSHAPED = Dream(smoothing=0, spread=0, chroma=1, limit=0)
"""Takes the gradient as it is."""


@pytest.fixture(scope="module")
def embedded() -> networks.Extractor:
    return networks.build("squeezenet1_1", ["features.4", "features.7"])


def energy(extractor, layer, image):
    return float(extractor(image)[layer].square().mean())


def change(extractor, layer, settings, image, shift=(0, 0)):
    """Mean absolute change of one step, in 8-bit levels."""
    after = ascend(image, extractor, [LayerEnergy(layer)], settings, shift)
    return float((after - image).abs().mean()) * 255


# ── the whole dream ──


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (0, -4), (-2, 5), (13, -40)])
def test_a_shift_goes_around_the_borders(shift):
    image = texture(9, 14).contiguous(memory_format=torch.channels_last)
    rolled = roll(image, shift)
    assert torch.equal(rolled, torch.roll(image, shift, dims=(2, 3)))
    assert rolled.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(roll(rolled, (-shift[0], -shift[1])), image)


@pytest.mark.parametrize("size", [(48, 64), (3, 5), (1, 1), (31, 17)])
def test_no_steps_give_the_image_back_at_any_size(size):
    image = texture(*size)
    result = dream(image, TinyExtractor(), TERMS, Dream(steps=0))
    torch.testing.assert_close(result, image, rtol=0, atol=1e-6)


def test_octaves_hand_on_only_detail_so_the_scene_is_never_blurred():
    checkers = (torch.arange(64) % 2).float().expand(1, 3, 48, 64).clone()
    result = dream(checkers, TinyExtractor(), TERMS, Dream(octaves=4, octave_scale=2, steps=0))
    assert torch.equal(result, checkers)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_picture():
    image, extractor = texture(48, 64), TinyExtractor()
    first, again, reseeded, next_frame = (
        dream(image, extractor, TERMS, SHORT, seed) for seed in [(1, 0), (1, 0), (2, 0), (1, 1)]
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, reseeded)
    assert not torch.equal(first, next_frame)


def test_the_score_of_the_layer_rises(embedded):
    image = texture(64, 80)
    for extractor, layer in [(TinyExtractor(), "first"), (embedded, "features.4")]:
        result = dream(image, extractor, [LayerEnergy(layer)], SHORT)
        assert energy(extractor, layer, result) > 1.1 * energy(extractor, layer, image)


def test_a_negative_weight_lowers_the_score():
    image, extractor = texture(48, 64), TinyExtractor()
    terms, longer = [LayerEnergy("second", weight=-1)], SHORT.model_copy(update={"steps": 10})
    results = [dream(image, extractor, terms, longer, (seed, 0)) for seed in range(4)]
    mean = sum(energy(extractor, "second", result) for result in results) / len(results)
    assert mean < 0.8 * energy(extractor, "second", image)


def test_values_stay_within_0_and_1_and_reach_both_ends():
    wild = Dream(octaves=2, steps=4, step_size=64, limit=0, chroma=1)
    image, extractor = texture(48, 64), TinyExtractor()
    step = ascend(ascend(image, extractor, TERMS, wild, (0, 0)), extractor, TERMS, wild, (0, 0))
    for result in (step, dream(image, extractor, TERMS, wild)):
        assert float(result.min()) == 0
        assert float(result.max()) == 1


def test_a_source_beyond_the_range_is_clamped_before_it_is_dreamed():
    image = texture(48, 64) * 3 - 1
    result = dream(image, TinyExtractor(), TERMS, Dream(steps=0))
    assert torch.equal(result, image.clamp(0, 1))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 40), (17, 5)])
def test_a_picture_under_the_networks_minimum_is_dreamed_all_the_same(embedded, size):
    assert min(size) < embedded.minimum_side
    image = texture(*size)
    result = dream(image, embedded, [LayerEnergy("features.7")], Dream(steps=2))
    assert result.shape == image.shape
    assert not torch.equal(result, image)


def test_the_given_image_is_left_as_it_was():
    image = texture(48, 64)
    before = image.clone()
    dream(image, TinyExtractor(), TERMS, SHORT)
    assert torch.equal(image, before)
    assert not image.requires_grad


# ── octaves ──


def test_octaves_run_from_small_to_full_and_keep_their_numbers():
    sizes = list(octave_sizes((90, 120), Dream(octaves=3, octave_scale=1.5), 8))
    assert sizes == [(2, (40, 53)), (1, (60, 80)), (0, (90, 120))]


def test_octaves_under_the_networks_minimum_are_left_out():
    settings = Dream(octaves=6, octave_scale=2)
    assert [octave for octave, _ in octave_sizes((64, 200), settings, 20)] == [1, 0]
    assert [octave for octave, _ in octave_sizes((10, 10), settings, 20)] == [0]


def test_the_network_never_sees_less_than_its_minimum():
    extractor = TinyExtractor(minimum_side=16)
    dream(texture(40, 56), extractor, TERMS, Dream(octaves=8, steps=1))
    assert len(set(extractor.sides)) > 1
    assert min(map(min, extractor.sides)) >= 16


def test_an_objective_is_dreamed_in_its_octaves_only():
    settings = Dream(octaves=3, octave_scale=2, steps=2, jitter=4)
    extractor = TinyExtractor()
    terms = [LayerEnergy("first", octaves=(2,)), LayerEnergy("second", octaves=(0,))]
    dream(texture(64, 96), extractor, terms, settings)
    assert extractor.sides == [(16, 24)] * 2 + [(64, 96)] * 2  # none at octave 1, of 32x48
    assert extractor.asked == [{"first"}] * 2 + [{"second"}] * 2


def test_an_octave_named_by_no_objective_takes_no_steps():
    image, extractor = texture(48, 64), TinyExtractor()
    result = dream(image, extractor, [LayerEnergy("second", octaves=(7,))], SHORT)
    assert extractor.sides == []
    torch.testing.assert_close(result, image, rtol=0, atol=1e-6)


def test_all_octaves_spelled_out_are_the_same_bits_as_all():
    image = texture(48, 64)
    every, listed = (
        dream(image, TinyExtractor(), [LayerEnergy("second", octaves=octaves)], SHORT)
        for octaves in ("all", (0, 1))
    )
    assert torch.equal(every, listed)


# ── randomness ──


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4), st.integers(0, 512))
def test_a_shift_depends_on_its_key_alone_and_stays_within_the_jitter(key, jitter):
    torch.manual_seed(0)
    down, right = draw_shift(key, jitter)
    torch.manual_seed(1)
    assert draw_shift(key, jitter) == (down, right)
    assert max(abs(down), abs(right)) <= jitter


def test_shifts_reach_both_ends_and_differ_by_every_part_of_the_key():
    shifts = [draw_shift((0, frame), 2) for frame in range(200)]
    assert {down for down, _ in shifts} == {right for _, right in shifts} == {-2, -1, 0, 1, 2}
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({draw_shift(key, 512) for key in keys}) == len(keys)


@pytest.mark.parametrize("beside", ["flat", "busy"])
def test_what_is_behind_moves_by_a_step_whatever_is_beside_it(beside):
    """A wall that a pan brings in has a small gradient, and the dream beside it a large one."""
    image, unripe = texture(48, 80), torch.zeros(1, 1, 48, 80)
    unripe[..., 40:] = 0.5
    image[..., :40] = 0.5 if beside == "flat" else texture(48, 40, sigma=0.6)
    settings = Dream(octaves=1, steps=1, jitter=0, step_size=2, spread=0)
    effort = Effort(unripe, ripe=0.0)
    terms = [LayerEnergy("second")]
    found = dream(image, TinyExtractor(), terms, settings, effort=effort) - image
    assert float(found[..., :40].abs().max()) == 0
    assert float(found[..., 40:].abs().mean()) == pytest.approx(0.5 * 2 / 255, rel=0.05)


@given(st.tuples(st.integers(-40, 40), st.integers(-40, 40)))
def test_rolling_there_and_back_changes_nothing(shift):
    image = texture(17, 23)
    down, right = shift
    rolled = roll(image, shift)
    assert torch.equal(roll(rolled, (-down, -right)), image)
    assert rolled.is_contiguous(memory_format=torch.channels_last)


def test_roll_moves_down_and_right():
    image = torch.zeros(1, 3, 8, 8)
    image[..., 2, 3] = 1
    assert torch.equal(roll(image, (1, 2))[0, 0].nonzero(), torch.tensor([[3, 5]]))


def test_a_shifted_step_lands_where_the_picture_is():
    """With a network that looks the same everywhere a shift must not move the result."""
    image, extractor = texture(48, 64), TinyExtractor()
    straight = ascend(image, extractor, [LayerEnergy("first")], UNSHAPED, (0, 0))
    shifted = ascend(image, extractor, [LayerEnergy("first")], UNSHAPED, (6, -4))
    # Only along the seam, which lies elsewhere, does the network see another neighbourhood.
    centre = (..., slice(10, 40), slice(10, 50))
    moved = (straight - image)[centre]
    torch.testing.assert_close((shifted - image)[centre], moved, rtol=0.02, atol=1e-4)


# ── one step ──


def test_one_step_moves_the_average_pixel_by_step_size_on_every_network(embedded):
    """What makes presets transfer between networks and layers."""
    cases = [
        (embedded, "features.4"),
        (embedded, "features.7"),
        (TinyExtractor(), "first"),
        (TinyExtractor(seed=1, gain=0.01), "second"),
        (TinyExtractor(seed=2, gain=100), "second"),
    ]
    image = texture(64, 80)
    settings = Dream(step_size=1.5)
    for extractor, layer in cases:
        assert change(extractor, layer, settings, image) == pytest.approx(1.5, rel=0.01)


def test_one_preset_changes_pixels_comparably_on_every_network(embedded):
    image = texture(64, 80)
    settings = Dream(octaves=2, steps=4, step_size=1.5, jitter=8)
    cases = [(embedded, "features.4"), (embedded, "features.7"), (TinyExtractor(), "second")]
    changes = [
        float((dream(image, extractor, [LayerEnergy(layer)], settings) - image).abs().mean()) * 255
        for extractor, layer in cases
    ]
    assert max(changes) < 2.5 * min(changes)
    assert min(changes) > 1.5
    assert max(changes) < 2 * 4 * 1.5


@pytest.mark.parametrize("step_size", [0, 0.01, 0.5, 3, 12])
def test_step_size_is_in_8_bit_levels(step_size):
    moved = change(TinyExtractor(), "first", Dream(step_size=step_size), texture(24, 32))
    assert moved == pytest.approx(step_size, rel=0.01, abs=1e-3)


def test_a_layer_that_answers_nothing_moves_nothing():
    dead = TinyExtractor()
    dead.second.bias.fill_(-1e6)
    image = texture(24, 32)
    assert torch.equal(ascend(image, dead, TERMS, Dream(), (3, 4)), image)


@pytest.mark.parametrize("gain", [math.nan, math.inf, 1e30, 1e7], ids=str)
def test_leaving_the_numbers_stops_naming_frame_layer_and_setting(gain):
    """NaN and infinite features, and finite ones whose square is not."""
    extractor = TinyExtractor(gain=gain)
    if gain == 1e7:
        extractor.second.weight.mul_(1e7)
        extractor.second.bias.mul_(1e7)
        assert all(map(torch.Tensor.all, map(torch.isfinite, extractor(texture(24, 32)).values())))
    with pytest.raises(BadMediaError, match=r"frame 7: .*second.*dream\.step_size") as caught:
        dream(texture(24, 32), extractor, TERMS, SHORT, (0, 7))
    assert caught.value.exit_code == 65
    assert "\n" not in str(caught.value)


def test_a_picture_that_is_not_numbers_stops_too():
    image = texture(24, 32)
    image[0, 0, 3, 4] = math.nan
    with pytest.raises(BadMediaError, match="frame 2"):
        dream(image, TinyExtractor(), TERMS, SHORT, (0, 2))


def test_several_terms_pull_together():
    image, extractor = texture(48, 64), TinyExtractor()
    terms = [LayerEnergy("first"), LayerEnergy("second")]
    result = dream(image, extractor, terms, SHORT)
    assert all(
        energy(extractor, t.layer, result) > energy(extractor, t.layer, image) for t in terms
    )
    assert objectives.total(terms, extractor(image)).item() == pytest.approx(2)


def test_a_lone_term_fades_in_with_its_weight_and_is_whole_from_1_on():
    image = texture(32, 40)

    def change(weight):
        terms = [LayerEnergy("second", weight=weight)]
        return float((dream(image, TinyExtractor(), terms, SHORT) - image).abs().mean())

    assert change(0.1) < 0.3 * change(1.0)
    assert change(1.0) == pytest.approx(change(5.0))


@pytest.mark.parametrize("tile", ["off", 64])
def test_what_is_hardly_behind_is_left_alone_where_the_whole_is_strong_enough(tile):
    image, unripe = texture(80, 90), torch.zeros(1, 1, 80, 90)
    unripe[..., :3, :5] = 1
    settings = Dream(octaves=1, steps=1, jitter=0, tile=tile)
    effort = Effort(unripe, 1.0, {(0, "second"): 1e-6})
    found = dream(image, TinyExtractor(), [LayerEnergy("second")], settings, effort=effort)
    assert torch.equal(found, image)


def test_what_is_behind_is_dreamed_though_the_whole_is_strong_enough():
    image, unripe = texture(32, 40), torch.zeros(1, 1, 32, 40)
    unripe[..., 10:] = 1
    settings, terms = Dream(octaves=1, steps=2, jitter=0), [LayerEnergy("second")]
    enough = {(0, "second"): 1e-6}
    rested = dream(image, TinyExtractor(), terms, settings, effort=Effort(targets=enough))
    assert torch.equal(rested, image)
    found = dream(image, TinyExtractor(), terms, settings, effort=Effort(unripe, 1.0, enough))
    changed = (found - image).abs()
    assert float(changed[..., :10].max()) == 0
    harder = Effort(unripe, 3.0, enough)
    more = (dream(image, TinyExtractor(), terms, settings, effort=harder) - image).abs()
    assert float(more[..., 10:].mean()) > 1.5 * float(changed[..., 10:].mean()) > 0
