"""Tours of layers: what they are short for, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreamflow.errors import PresetError
from dreamflow.preset import dump, load, load_with_origins
from dreamflow.schedule import SOUND_NAMES

TOUR = "objectives: [{cycle: [a, b, c], every: 4s, fade: 1s}]\n"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    """Presets are named relative to the working folder, so that messages are exact."""
    monkeypatch.chdir(tmp_path)


def read(text, overrides=()):
    Path("p.yaml").write_text(text)
    return load("p.yaml", overrides=overrides)


def complaints(text, overrides=()):
    with pytest.raises(PresetError) as caught:
        read(text, overrides)
    return str(caught.value).split("\n")


def weights(preset, frame_count, fps):
    """[frames, objectives]"""
    moving = preset.resolved(frame_count, fps)
    return np.array([[o.weight for o in moving.at(i).objectives] for i in range(frame_count)])


def test_each_layer_has_its_turn_and_fades_into_the_next():
    tour = read(TOUR)
    assert [o.layer for o in tour.objectives] == ["a", "b", "c"]
    found = weights(tour, 25, 1)  # a frame a second; fades take the last second of a turn
    turns = np.repeat(np.eye(3), 4, axis=0)
    np.testing.assert_array_equal(found, np.concatenate([turns, turns, turns[:1]]))


@pytest.mark.parametrize("fps", [1, 7.5, 24000 / 1001, 30, 60])
@pytest.mark.parametrize("frame_count", [1, 2, 48, 700])
@pytest.mark.parametrize(("every", "fade"), [("4s", "1s"), ("3s", "3s"), ("48", "12f"),
                                             ("25%", "5%"), ("0.7s", "0s"), (1, 0),
                                             ("4s", 0), ("25%", "0s")])  # fmt: skip
def test_at_any_length_and_rate_the_weights_sum_to_1_and_the_first_begins(
    every, fade, fps, frame_count
):
    tour = read(f"objectives: [{{cycle: [a, b, c], every: {every}, fade: {fade}}}]")
    found = weights(tour, frame_count, fps)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-8)
    assert found[0].tolist() == [1, 0, 0]
    assert found.min() >= 0
    assert ((found > 0).sum(axis=1) <= 2).all()


def test_a_fade_has_no_jump_and_no_corner():
    fade = weights(read(TOUR), 481, 120)[:, 1][360:]  # the second one fades in from 3 s to 4 s
    assert (fade[0], fade[60], fade[120]) == (0, pytest.approx(0.5), 1)
    steps = np.diff(fade)
    assert (steps >= 0).all()
    assert steps.max() < 2 / 120
    assert np.abs(np.diff(steps)).max() < 0.001


def test_two_layers_take_turns():
    found = weights(read("objectives: [{cycle: [a, b], every: 2, fade: 2}]"), 9, 30)
    assert found[:, 0].tolist() == pytest.approx([1, 0.5, 0, 0.5, 1, 0.5, 0, 0.5, 1])


def test_a_tour_stands_among_other_objectives_with_a_weight_and_octaves():
    text = """\
objectives:
  - {layer: x, weight: 3}
  - {cycle: [a, b], every: 4s, fade: 1s, weight: -2, octaves: [1, 0]}
  - {cycle: [c, d], every: 4s, fade: 1s, weight: 0.5+t/100}
"""
    tour = read(text)
    assert [o.layer for o in tour.objectives] == ["x", "a", "b", "c", "d"]
    assert [o.octaves for o in tour.objectives] == ["all", (1, 0), (1, 0), "all", "all"]
    found = weights(tour, 100, 1)
    assert found[[0, 4, 50]].tolist() == pytest.approx(
        np.array([[3, -2, 0, 0.5, 0], [3, 0, -2, 0, 0.54], [3, -2, 0, 1, 0]])
    )


def test_a_tour_may_listen_to_the_sound():
    tour = read("objectives: [{cycle: [a, b], every: 1, fade: 0, weight: audio.rms}]")
    assert set(tour.sound_expressions()) == {"objectives.0.weight", "objectives.1.weight"}
    sound = {name: np.array([0.5, 0.25]) for name in SOUND_NAMES}
    moving = tour.resolved(2, 30, sound)
    assert [o.weight for o in moving.at(0).objectives] == [0.5, 0]
    assert [o.weight for o in moving.at(1).objectives] == [0, 0.25]


def test_an_override_reaches_into_a_tour_and_behind_it():
    text = "objectives:\n  - {cycle: [a, b], every: 4s, fade: 1s}\n  - {layer: c}\n"
    tour = read(text, ["objectives.0.every=8s", "objectives.1.weight=3"])
    assert weights(tour, 9, 1)[[0, 6, 8]].tolist() == [[1, 0, 3], [1, 0, 3], [0, 1, 3]]


def test_a_tour_reads_back_from_what_it_is_short_for():
    tour = read(TOUR + "dream: {octaves: 2}\n")
    Path("q.yaml").write_text(dump(tour))
    assert load("q.yaml") == tour
    np.testing.assert_array_equal(weights(load("q.yaml"), 99, 25), weights(tour, 99, 25))


def test_every_layer_of_a_tour_knows_its_line():
    text = "objectives:\n- every: 4s\n  fade: 1s\n  cycle:\n  - a\n  - b\n"
    Path("p.yaml").write_text(text)
    tour, origins = load_with_origins("p.yaml")
    found = [origins[f"objectives.{index}.layer"] for index in (0, 1)]
    assert found == ["p.yaml:5", "p.yaml:6"]
    error = tour.complaint("objectives.1.layer", ": is not there")
    assert str(error) == "p.yaml:6:5: objectives.1.layer: is not there"


STOPS = "a list of 2 to 100, each a text or a mapping with class"
TIME = "a text such as 4s, 96f, 25% or a whole number from 0 to 999999999 (frames)"


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        ("{cycle: [], every: 4s, fade: 1s}",
         "22: objectives.0.cycle: must be a list of 2 to 100, each a text or a "
         "mapping with class, not an empty list"),
        ("{cycle: [a], every: 4s, fade: 1s}",
         "22: objectives.0.cycle: must be a list of 2 to 100, each a text or a "
         "mapping with class, not a list of 1"),
        ("{cycle: a, every: 4s, fade: 1s}",
         "22: objectives.0.cycle: must be a list of 2 to 100, each a text or a "
         "mapping with class, not 'a'"),
        ("{cycle: [a, 3], every: 4s, fade: 1s}",
         "26: objectives.0.cycle.1: must be a text or a mapping with class, not 3"),
        ("{cycle: [a, b], every: 4s, fade: 5s}",
         "47: objectives.0.fade: must be no longer than `every`, which is 4s, not 5s"),
        ("{cycle: [a, b], every: 4s, fade: 5}",
         "47: objectives.0.fade: must be in the unit of `every`, which is 4s, not 5"),
        ("{cycle: [a, b], every: 0s, fade: 0s}",
         "37: objectives.0.every: must be longer than 0, not 0s"),
        ("{cycle: [a, b], every: soon, fade: 0s}",
         f"37: objectives.0.every: must be {TIME}, not 'soon'"),
        ("{cycle: [a, b], every: -4, fade: 0s}",
         f"37: objectives.0.every: must be {TIME}, not -4"),
        ("{cycle: [a, b], every: 4s}",
         f"14: objectives.0.fade is missing; give {TIME}"),
        ("{cycle: [a, b], every: 4s, fade: 1s, layer: x}",
         "51: key 'layer' does not go with 'cycle' "
         "(allowed: cycle, every, fade, weight, octaves)"),
        ("{cylce: [a, b], every: 4s, fade: 1s}",
         f"14: objectives.0.cycle is missing; give {STOPS}"),
        ("{layer: a, every: 4s}",
         "25: key 'every' does not go with 'layer' "
         "(allowed: layer, weight, ease, octaves, network, mask, norm)"),
        ("{cycle: [a, b], every: 4s, fade: 1}",
         "47: objectives.0.fade: must be in the unit of `every`, which is 4s, not 1"),
        ("{cycle: [a, b], every: 4s, fade: 0, octaves: [-1]}",
         "60: objectives.0.octaves.0: must be a whole number from 0 to 15, not -1"),
        ("{cycle: [a, b], every: 4s, fade: 1s, weight: 200}",
         "59: objectives.0.weight: must be a number from -100 to 100, not 200"),
        ("{cycle: [a, b], every: 4s, fade: 1s, weight: 2+foo}",
         "59: objectives.0.weight: unknown name 'foo' (did you mean 'floor'?)"),
        ("{cycle: [a, b], every: 4s, fade: 1s, weight: '0:(1), 5s:(2)'}",
         "59: objectives.0.weight: must be a number or an expression for a cycle, without keys"),
        ("{cycle: [a, b], every: 4s, fade: 1s, weight: {0: 1}}",
         "59: objectives.0.weight: must be a number or an expression for a cycle, without keys"),
        ("{cycle: [a, b], every: 4s, fade: 1s, octaves: [7]}",
         "61: objectives.0.octaves.0: must be from 0 (full size) to 3, as dream.octaves is 4, "
         "not 7"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_tour_is_named_where_it_stands(item, complaint):
    assert complaints(f"objectives: [{item}]")[0] == f"p.yaml:1:{complaint}"


def test_a_mistake_in_an_override_of_a_tour_is_named():
    assert complaints(TOUR, ["objectives.0.fade=9s"]) == [
        "--set objectives.0.fade: must be no longer than `every`, which is 4s, not 9s"
    ]


def test_a_weight_that_leaves_its_range_points_at_the_weight_of_the_tour():
    tour = read("objectives: [{cycle: [a, b], every: 4s, fade: 1s, weight: t*9}]")
    with pytest.raises(PresetError) as caught:
        tour.resolved(1000, 30)
    assert str(caught.value) == (
        "p.yaml:1:59: objectives.0.weight is 108 at frame 12; it must be a number from -100 to 100"
    )


def test_tours_count_their_layers_against_the_limit_of_objectives():
    tours = ", ".join(f"{{cycle: [{', '.join('a' * 60)}], every: 4s, fade: 1s}}" for _ in range(2))
    (line,) = complaints(f"objectives: [{tours}]")
    assert line.startswith("p.yaml:1:13: objectives: must be a list of 1 to 100, each ")
    assert line.endswith("not a list of 120")


def test_a_tour_visits_classes_beside_layers():
    item = "{cycle: [class: tabby, fire5, {class: 1}], every: 4s, fade: 1s}"
    tour = read(f"objectives: [{item}]").resolved(360, 30)
    assert [term.label for term in tour.objectives] == ["tabby", "fire5", "goldfish"]
    for frame, weights in [(0, [1, 0, 0]), (105, [0.5, 0.5, 0]), (240, [0, 0, 1])]:
        found = [term.weight for term in tour.at(frame).objectives]
        assert found == pytest.approx(weights)


def test_a_class_that_is_not_known_is_named_where_it_stands_in_a_tour():
    item = "{cycle: [class: tabbi, fire5], every: 4s, fade: 1s}"
    assert complaints(f"objectives: [{item}]")[0].startswith(
        "p.yaml:1:30: objectives.0.cycle.0.class: unknown class 'tabbi' (nearest: tabby, "
    )
