import json
import math
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import get_args

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watched import LOOSER, TARGET_SECONDS, harmless

from dreamflow import preset
from dreamflow.errors import PresetError, UsageError
from dreamflow.preset import Preset, dump, load, load_with_origins
from dreamflow.settings import (
    AnyObjective,
    ClassMask,
    Color,
    Cycle,
    Dream,
    FileMask,
    Follow,
    Objective,
    Output,
)
from dreamflow.strict_yaml import compose, plain

SHIPPED = Path(__file__).parents[1] / "presets"
GROUND = "objectives: [{layer: features.11}]\n"
COLOR = ", ".join(Color.model_fields)
OBJECTIVE = (
    "a mapping with layer, or class, or layer and channel, or layer and channels, or layer and "
    "neuron, or layer and direction, or layer and guide, or layer and style, or layer and content, "
    "or layer and enhance, or layer and diversity, or cycle and every and fade"
)
OBJECTIVES = f"a list of 1 to 100, each {OBJECTIVE}"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    """Presets are named relative to the working folder, so that messages are exact."""
    monkeypatch.chdir(tmp_path)


def write(name, text):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def refused(name, overrides=()):
    """The lines of the refusal of a preset."""
    with pytest.raises(PresetError) as caught:
        load(name, overrides=overrides)
    assert caught.value.exit_code == 78
    return str(caught.value).split("\n")


def complaints(text):
    """The lines of the refusal of a preset of that text."""
    return refused(write("p.yaml", text))


# ── reading ──


def test_a_preset_stands_on_the_defaults():
    read = load(write("p.yaml", GROUND))
    assert read == Preset(objectives=(Objective(layer="features.11"),))
    assert (read.dream, read.follow, read.color, read.output) == (
        Dream(),
        Follow(),
        Color(),
        Output(),
    )


def test_every_kind_of_value_is_read():
    text = """\
description: "Dogs: everywhere"
seed: 7
objectives:
  - {layer: features.11, weight: 1}
  - layer: features.9
    weight: -5e-1
dream: {size: full, step_size: 1e-3}
output: {codec: ffv1}
"""
    read = load(write("p.yaml", text))
    assert read.description == "Dogs: everywhere"
    assert read.seed == 7
    assert [(o.layer, o.weight) for o in read.objectives] == [
        ("features.11", 1.0),
        ("features.9", -0.5),
    ]
    assert (read.dream.size, read.dream.step_size) == ("full", 0.001)
    assert read.output.codec == "ffv1"


def test_a_windows_file_with_a_byte_order_mark_is_read():
    data = b"\xef\xbb\xbf" + GROUND.replace("\n", "\r\n").encode() + b"seed: 3\r\n"
    assert load(write("p.yaml", data)).seed == 3


def test_the_view_of_a_frame_is_plain_settings():
    read = load(write("p.yaml", GROUND))
    assert read.at(0) == read.at(1000) == read


# ── refusing ──


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GROUND + "dream:\n  octave_scael: 1.4\n",
            "p.yaml:3:3: unknown key 'octave_scael' (did you mean 'octave_scale'?)",
        ),
        (
            "objectives: [{layer: a, wieght: 2}]",
            "p.yaml:1:25: unknown key 'wieght' (did you mean 'weight'?)",
        ),
        (
            "objectives: [{layer: a, zzz: 2}]",
            "p.yaml:1:25: unknown key 'zzz' "
            "(allowed: layer, weight, ease, octaves, network, mask, norm)",
        ),
        (
            "objectives: [{class: tabby, layer: a}]",
            "p.yaml:1:29: key 'layer' does not go with 'class' "
            "(allowed: class, weight, ease, octaves, network, mask, target)",
        ),
        (
            GROUND + "dream: {steps: 3.0}",
            "p.yaml:2:16: dream.steps: "
            "must be a whole number from 0 to 1000, not 3.0: write it without a point",
        ),
        (
            GROUND + "shots: [5, -1]",
            "p.yaml:2:12: shots.1: must be a whole number from 0 to 999999999 "
            "or a text such as 48f, 2.5s, 1:02.5, not -1",
        ),
        (
            "objectives: [{layer: a, chanel: 2}]",
            "p.yaml:1:25: unknown key 'chanel' (did you mean 'channel'?)",
        ),
        (
            "objectives: [{layer: a, channel: 2, guide: b.png}]",
            "p.yaml:1:37: key 'guide' does not go with 'channel' "
            "(allowed: layer, weight, ease, octaves, network, mask, channel, target)",
        ),
        (
            "objectives: [{layer: a, channel: -2}]",
            "p.yaml:1:34: objectives.0.channel: must be a whole number from 0 to 65535, not -2",
        ),
        (
            "objectives: [{layer: a, neuron: [1, 0.5, 1.5]}]",
            "p.yaml:1:33: objectives.0.neuron: must be [channel, x, y], a whole number and two "
            "fractions of the frame from 0 to 1, not [1, 0.5, 1.5]",
        ),
        (
            "objectives: [{layer: a, guide: ../b.png}]",
            "p.yaml:1:32: objectives.0.guide: must be a path inside the preset's own folder, not "
            "'../b.png'",
        ),
        (
            "objectives: [{layer: a, mask: /etc/passwd}]",
            "p.yaml:1:31: objectives.0.mask: must be a path inside the preset's own folder, not "
            "'/etc/passwd'",
        ),
        (
            "objectives: [{layer: a, mask: {file: ../m.png}}]",
            "p.yaml:1:38: objectives.0.mask.file: must be a path inside the preset's own folder, "
            "not '../m.png'",
        ),
        (
            "objectives: [{layer: a, mask: {class: tabby, follow: true}}]",
            "p.yaml:1:46: key 'follow' does not go with 'class' (allowed: class, invert)",
        ),
        (
            "objectives: [{layer: a, mask: 3}]",
            "p.yaml:1:31: objectives.0.mask: must be a text or a mapping with class, invert or a "
            "mapping with file, follow, invert, not 3",
        ),
        (
            "objectives: [{layer: a, network: 'vgg16:../w.pth'}]",
            "p.yaml:1:34: objectives.0.network: must be a path inside the preset's own folder, not "
            "'../w.pth'",
        ),
        (
            GROUND + "octave_scale: 3",
            "p.yaml:2:1: unknown key 'octave_scale' (did you mean 'dream.octave_scale'?)",
        ),
        (
            GROUND + "steps: 3",
            "p.yaml:2:1: unknown key 'steps' (did you mean 'dream.steps' or 'follow.steps'?)",
        ),
        (
            "seed: 1",
            f"p.yaml:1:1: objectives is missing; give {OBJECTIVES}",
        ),
        ("objectives: [{weight: 2}]", "p.yaml:1:14: objectives.0.layer is missing; give a text"),
        (
            "objectives: []",
            f"p.yaml:1:13: objectives: must be {OBJECTIVES}, not an empty list",
        ),
        (
            "objectives: [features.11]",
            f"p.yaml:1:14: objectives.0: must be {OBJECTIVE}, not 'features.11'",
        ),
        (
            GROUND + "dream: {octaves: 0}",
            "p.yaml:2:18: dream.octaves: must be a whole number from 1 to 16, not 0",
        ),
        (
            GROUND + "dream: {octaves: 2.5}",
            "p.yaml:2:18: dream.octaves: must be a whole number from 1 to 16, not 2.5",
        ),
        (
            GROUND + "dream: {step_size: 100}",
            "p.yaml:2:20: dream.step_size: must be a number from 0 to 64 (8-bit levels), not 100",
        ),
        (
            GROUND + "dream: {size: 3}",
            "p.yaml:2:15: dream.size: "
            "must be a whole number from 16 to 16384 (px) or 'full', not 3",
        ),
        (
            GROUND + "follow: {flow: optical}",
            "p.yaml:2:16: follow.flow: must be one of dis, farneback, raft_small, raft_large, "
            "files, none, not 'optical'",
        ),
        (GROUND + "network: 3", "p.yaml:2:10: network: must be a text, not 3"),
        (
            GROUND + "color: 0.5",
            f"p.yaml:2:8: color: must be a mapping with {COLOR}, not 0.5",
        ),
        (
            GROUND + "color:\n",
            f"p.yaml:2:7: color: must be a mapping with {COLOR}, not nothing",
        ),
        ("", "p.yaml:1:1: empty; a preset names at least its objectives"),
        ("# nothing\n", "p.yaml:1:1: empty; a preset names at least its objectives"),
        ("- a\n", "p.yaml:1:1: a preset is a mapping of settings, not a list"),
        ("hello", "p.yaml:1:1: a preset is a mapping of settings, not 'hello'"),
        (GROUND + "---\n", "p.yaml:2:1: a second document; write one document per file"),
        (GROUND + "seed: 1\nseed: 2", "p.yaml:3:1: duplicate key 'seed' (first on line 2)"),
        (GROUND + "dream:\n\tsteps: 1", "p.yaml:3:1: indented with a tab; use spaces"),
        (GROUND + "seed: &a 1", "p.yaml:2:7: anchor '&a' is not allowed; write the value out"),
    ],
)
def test_a_mistake_is_named_where_it_stands(text, message):
    assert complaints(text) == [message]


@pytest.mark.parametrize(
    "value", [".nan", ".inf", "-.INF", "1e999", "'10^400'", "'1:30'", "'yes'", "true", "null"]
)
def test_what_is_not_a_finite_number_is_refused_as_it_was_written(value):
    text = GROUND + f"dream: {{smoothing: {value.strip(chr(39))}}}"
    assert complaints(text) == [
        f"p.yaml:2:20: dream.smoothing: must be a number from 0 to 32 (px), not {value}"
    ]


@pytest.mark.parametrize("digits", [399, 401, 5000])
def test_a_number_of_any_length_is_refused_in_one_short_line(digits):
    assert complaints(GROUND + f"dream: {{smoothing: {'9' * digits}}}") == [
        "p.yaml:2:20: dream.smoothing: must be a number from 0 to 32 (px), not " + "9" * 57 + "..."
    ]


def test_all_mistakes_of_a_file_are_reported_at_once_in_its_order():
    text = """\
extends: bsae
network: 3
dream: {octaves: 0, octave_scael: 1}
dream: {}
follow: {flow: &a dos}
objectives: [{weight: 200}]
"""
    assert complaints(text) == [
        "p.yaml:1:10: extends: unknown preset 'bsae' (did you mean 'base' or 'scales'?); "
        "`dreamflow presets list` shows all, a file is given as ./NAME.yaml",
        "p.yaml:2:10: network: must be a text, not 3",
        "p.yaml:3:18: dream.octaves: must be a whole number from 1 to 16, not 0",
        "p.yaml:3:21: unknown key 'octave_scael' (did you mean 'octave_scale'?)",
        "p.yaml:4:1: duplicate key 'dream' (first on line 3)",
        "p.yaml:5:16: anchor '&a' is not allowed; write the value out",
        "p.yaml:6:23: objectives.0.weight: must be a number from -100 to 100, not 200",
    ]


def test_more_than_ten_mistakes_are_counted():
    lines = complaints(GROUND + "".join(f"zzz{i}: 1\n" for i in range(13)))
    assert len(lines) == 11
    assert lines[0].startswith("p.yaml:2:1: unknown key 'zzz0' (allowed: description,")
    assert lines[-1] == "and 3 more"


# ── extends ──


def test_levels_are_laid_on_one_another():
    write("low.yaml", GROUND + "seed: 1\ndream: {octaves: 2, steps: 3}\n")
    write("middle.yaml", "extends: low.yaml\ndream: {steps: 4}\nobjectives: [{layer: b}]\n")
    top = load(write("top.yaml", "extends: middle.yaml\nseed: 9\ndream: {jitter: 1}\n"))
    assert (top.dream.octaves, top.dream.steps, top.dream.jitter) == (2, 4, 1)
    assert top.seed == 9
    assert [o.layer for o in top.objectives] == ["b"]


def test_a_file_extends_a_shipped_preset_by_name():
    assert load(write("p.yaml", "extends: base\nseed: 5\n")) == load("base", overrides=["seed=5"])


def test_a_mistake_below_points_into_the_file_below():
    write("looks/low.yaml", GROUND + "dream: {steps: -1}\n")
    write("looks/top.yaml", "extends: low.yaml\n")
    assert refused("looks/top.yaml") == [
        "looks/low.yaml:2:16: dream.steps: must be a whole number from 0 to 1000, not -1"
    ]


def test_a_circle_is_refused_with_its_way():
    write("a.yaml", "extends: b.yaml\n")
    write("b.yaml", "extends: c.yaml\n")
    write("c.yaml", "seed: 1\nextends: b.yaml\n")
    assert refused("a.yaml") == [
        "c.yaml:2:10: extends: goes in a circle: a.yaml -> b.yaml -> c.yaml -> b.yaml"
    ]


def test_a_long_row_of_presets_is_refused():
    for level in range(30):
        write(f"{level}.yaml", f"extends: {level + 1}.yaml\n")
    assert refused("0.yaml") == ["15.yaml:1:10: extends: more than 16 presets in a row"]


def test_a_link_that_stays_inside_is_followed():
    write("in/sub/low.yaml", GROUND)
    os.symlink("sub/low.yaml", "in/link.yaml")
    assert load(write("in/p.yaml", "extends: link.yaml\n")) == load("in/sub/low.yaml")


def test_a_name_too_long_for_any_file_is_a_missing_one():
    (line,) = complaints(f"extends: {'x' * 5000}.yaml")
    assert line.startswith("p.yaml:1:10: extends: there is no file 'xxx")


def test_a_missing_parent_is_named_and_so_is_a_wrong_kind():
    assert complaints("extends: no.yaml") == [
        "p.yaml:1:10: extends: there is no file 'no.yaml' beside p.yaml"
    ]
    assert complaints("extends: [base]") == [
        "p.yaml:1:10: extends: must be a preset's name or file, not a list"
    ]


# ── weights files ──


def test_a_weights_file_is_found_from_the_presets_folder():
    write("looks/p.yaml", GROUND + "network: vgg16:mine.safetensors\n")
    assert load("looks/p.yaml").network == f"vgg16:{Path('looks/mine.safetensors')}"


def test_a_weights_file_given_on_the_command_line_is_found_from_here():
    read = load("base", overrides=["network=vgg16:/data/mine.safetensors"])
    assert read.network == "vgg16:/data/mine.safetensors"


# ── overrides ──


def test_overrides_reach_every_setting():
    read = load(
        "base",
        overrides=[
            "seed=3",
            "dream.step_size=1e-3",
            "dream.size=full",
            "objectives=[{layer: fire9}, {layer: fire6}]",
            "objectives.1.weight=2",
            "color={strength: 0.1}",
            "description=a=b",
        ],
    )
    assert (read.seed, read.dream.step_size, read.dream.size) == (3, 0.001, "full")
    assert read.objectives == (Objective(layer="fire9"), Objective(layer="fire6", weight=2))
    assert read.color == load("base").color.model_copy(update={"strength": 0.1})
    assert read.description == "a=b"


def test_an_override_of_a_stage_is_laid_on_it_like_a_preset():
    write("p.yaml", GROUND + "dream: {octaves: 2, steps: 3}\n")
    read = load("p.yaml", overrides=["dream={steps: 4, jitter: 1}"])
    assert (read.dream.octaves, read.dream.steps, read.dream.jitter) == (2, 4, 1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "dream.octave_scael=3",
            "--set dream.octave_scael: unknown key 'octave_scael' (did you mean 'octave_scale'?)",
        ),
        ("dreem.octaves=3", "--set dreem.octaves: unknown key 'dreem' (did you mean 'dream'?)"),
        (
            "dream.octaves=yes",
            "--set dream.octaves: must be a whole number from 1 to 16, not 'yes'",
        ),
        (
            "dream={octaves: 0}",
            "--set dream: dream.octaves: must be a whole number from 1 to 16, not 0",
        ),
        (
            "seed.a=1",
            "--set seed.a: seed: must be a whole number from 0 to 4294967295, not a mapping",
        ),
        ("dream.octaves=", "--set dream.octaves: the value is missing"),
        ("dream.octaves=[", "--set dream.octaves: not YAML: did not find expected node content"),
        (
            "dream.octaves=&a 3",
            "--set dream.octaves: anchor '&a' is not allowed; write the value out",
        ),
        (
            "objectives.1.weight=2",
            "--set objectives.1.weight: no item '1'; the list has items 0 to 0",
        ),
        ("objectives.x=2", "--set objectives.x: no item 'x'; the list has items 0 to 0"),
        (
            f"objectives.{'9' * 5000}.weight=0:(1)",
            f"--set objectives.{'9' * 5000}.weight: "
            f"no item '{'9' * 56}...; the list has items 0 to 0",
        ),
        ("extends=acid", "--set extends: cannot be set; choose the preset with --preset"),
        ("a" + ".a" * 5000 + "=1", "--set a" + ".a" * 5000 + ": more than 16 levels deep"),
    ],
)
def test_a_wrong_override_is_named(override, message):
    assert refused("base", [override]) == [message]


@pytest.mark.parametrize("override", ["dream.octaves", "=3", ""])
def test_an_override_without_key_or_value_is_a_usage_error(override):
    with pytest.raises(UsageError) as caught:
        load("base", overrides=[override])
    assert str(caught.value) == (f"--set {override}: write KEY=VALUE, as in --set dream.octaves=3")


def test_mistakes_of_file_and_overrides_come_together():
    write("p.yaml", GROUND + "seed: x\n")
    assert refused("p.yaml", ["dream.steps=x"]) == [
        "--set dream.steps: must be a whole number from 0 to 1000, not 'x'",
        "p.yaml:2:7: seed: must be a whole number from 0 to 4294967295, not 'x'",
    ]


def test_an_override_replaces_what_is_wrong_in_the_file():
    write("p.yaml", GROUND + "seed: x\n")
    assert load("p.yaml", overrides=["seed=4"]).seed == 4


# ── origins ──


def test_every_value_knows_where_it_came_from():
    write("low.yaml", "seed: 2\n" + GROUND + "dream:\n  octaves: 2\n  steps: 3\n")
    write("top.yaml", "extends: low.yaml\ndream:\n  steps: 4\n")
    read, origins = load_with_origins("top.yaml", overrides=["dream.jitter=1"])
    assert origins["seed"] == "low.yaml:1"
    assert origins["objectives.0.layer"] == "low.yaml:2"
    assert origins["objectives.0.weight"] == "default"
    assert origins["dream.octaves"] == "low.yaml:4"
    assert origins["dream.steps"] == "top.yaml:3"
    assert origins["dream.jitter"] == "--set"
    assert origins["dream.size"] == origins["output.codec"] == "default"
    assert len(origins) == len(list(preset._leaves(read)))


# ── names and files ──


def test_an_unknown_name_gets_the_nearest_and_the_command_that_lists():
    assert refused("bsae") == [
        "unknown preset 'bsae' (did you mean 'base' or 'scales'?); "
        "`dreamflow presets list` shows all, a file is given as ./NAME.yaml"
    ]


@pytest.mark.parametrize("name", ["", "..", ".", "~", "base\0", "x" * 9000, "\x1b[31m", "\udc80"])
def test_an_odd_name_is_an_unknown_preset(name):
    (line,) = refused(name)
    assert line.startswith("unknown preset ")
    assert line.isprintable()


@pytest.mark.parametrize(
    "name",
    ["no.yaml", "./no", "\0.yaml", "x" * 9000 + ".yaml", "\x1b/a", "\udc80.yaml", "a\nb.yaml"],
)
def test_a_missing_file_is_refused_on_one_printable_line(name):
    (line,) = refused(name)
    assert ": cannot be read: " in line
    assert line.isprintable()


def test_shipped_presets_are_listed_with_a_line_each():
    summaries = preset.shipped()
    assert "base" in [summary.name for summary in summaries]
    for summary in summaries:
        assert summary.description
        assert "\n" not in summary.description
        assert load(summary.name).network == summary.network


def test_reading_presets_does_not_load_torch():
    code = (
        "import sys; from dreamflow import preset; preset.shipped(); preset.settings_markdown(); "
        "sys.exit(bool({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    root = Path(preset.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


# ── sound ──

LISTENING = """\
objectives:
  - {layer: a, weight: {0: 1, 1s: 2*audio.beat}}
dream: {step_size: audio.rms, smoothing: 1+sin(t)}
"""


def test_a_preset_tells_which_settings_listen_and_with_which_expression():
    found = load(write("p.yaml", LISTENING)).sound_expressions()
    assert found == {"objectives.0.weight": "2*audio.beat", "dream.step_size": "audio.rms"}
    assert load("base").sound_expressions() == {}


def test_settings_that_listen_get_the_sounds_numbers():
    listening = load(write("p.yaml", LISTENING))
    sound = {"audio.rms": np.linspace(0, 1, 61), "audio.beat": np.full(61, 0.25)}
    moving = listening.resolved(61, 30, sound)
    assert moving.at(45).dream.step_size == 0.75
    assert moving.at(45).objectives[0].weight == 0.5
    with pytest.raises(ValueError, match=r"audio\.\w+ is used"):
        listening.resolved(61, 30)


def test_a_preset_that_listens_is_written_out_and_read_back_without_a_sound():
    listening = load(write("p.yaml", LISTENING + "audio: a.wav\n"))
    assert "step_size: audio.rms\n" in dump(listening)
    assert load(write("q.yaml", dump(listening))) == listening


def test_a_sound_file_is_found_from_the_presets_folder():
    write("in/p.yaml", GROUND + "audio: songs/a.wav\n")
    write("q.yaml", "extends: in/p.yaml\n")
    assert Path(load("q.yaml").audio) == Path("in/songs/a.wav")
    assert load("q.yaml", overrides=["audio=/any/where.wav"]).audio == "/any/where.wav"
    assert load("q.yaml", overrides=["audio=''"]).audio == ""


@pytest.mark.parametrize("file", ["../a.wav", "/etc/passwd", "~/a.wav", "http://a/b.wav"])
def test_a_preset_names_no_sound_outside_its_folder(file):
    said = complaints(GROUND + f'audio: "{file}"\n')
    assert said[0].startswith("p.yaml:2:8: audio: must be a path inside the preset's own folder")


# ── curves ──

MOVING = """\
objectives:
  - {layer: a, weight: {0: 1, 50%: 0, ease: in-out}}
  - {layer: b, weight: "0:(0), 50%:(1)"}
dream: {step_size: "0:(1), 60:(3)", steps: 1+t/20, chroma: 0.5}
follow:
  effort: 0.2 + 0.1*sin(t/9)
"""


def test_curves_are_plain_numbers_at_every_frame():
    moving = load(write("p.yaml", MOVING)).resolved(101, 25)
    at = [moving.at(frame) for frame in range(101)]
    assert [at[i].dream.step_size for i in (0, 30, 60, 100)] == [1, 2, 3, 3]
    assert [at[i].dream.steps for i in (0, 9, 11, 100)] == [1, 1, 2, 6]
    assert all(type(each.dream.steps) is int for each in at)
    assert [[o.weight for o in at[i].objectives] for i in (0, 25, 50)] == [
        [1, 0],
        [0.5, 0.5],
        [0, 1],
    ]
    assert at[9].follow.effort == pytest.approx(0.2 + 0.1 * math.sin(1))
    assert at[9] == Preset.model_validate(at[9].model_dump())
    assert at[100] == moving.at(5000)


def test_a_preset_with_curves_has_to_know_the_render_first():
    with pytest.raises(ValueError, match="resolve the preset first"):
        load(write("p.yaml", MOVING)).at(0)


@pytest.mark.parametrize("value", ["'1.5'", "0:(1.5)", "{0: 1.5}", "3/2"])
def test_a_constant_curve_is_the_plain_number_at_every_frame(value):
    still = load(write("p.yaml", GROUND + "dream: {step_size: 1.5}"))
    moving = load(write("q.yaml", GROUND + f"dream:\n  step_size: {value}\n"))
    assert moving != still
    assert moving.resolved(9, 30).at(4) == still.at(4) == still


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0:(1), 60:(70)", "p.yaml:3:14: dream.step_size is 64.25 at frame 55; "
         "it must be a number from 0 to 64 (8-bit levels)"),
        ("10-t", "p.yaml:3:14: dream.step_size is -1 at frame 11; "
         "it must be a number from 0 to 64 (8-bit levels)"),
        ("1/(sec-1)", "p.yaml:3:14: dream.step_size: is infinite at frame 30\n"
         "  1/(sec-1)\n"
         "   ^"),
        ("{0: 1, 1s: 2/(sec-2)}", "p.yaml:3:25: dream.step_size: is infinite at frame 60\n"
         "  2/(sec-2)\n"
         "   ^"),
    ],
)  # fmt: skip
def test_a_curve_that_leaves_its_range_is_named_with_its_frame(value, message):
    moving = load(write("p.yaml", GROUND + f"dream:\n  step_size: {value}\n"))
    with pytest.raises(PresetError) as caught:
        moving.resolved(100, 30)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("step_size: 0:(1), 60:(foo+1)",
         ["p.yaml:3:14: dream.step_size: unknown name 'foo' (did you mean 'floor'?)",
          "  0:(1), 60:(foo+1)",
          "             ^"]),
        ("step_size: 60:(1), 30:(2)",
         ["p.yaml:3:14: dream.step_size: "
          "keys must come in order, each later than the one before",
          "  60:(1), 30:(2)",
          "          ^"]),
        ("step_size: t/0",
         ["p.yaml:3:14: dream.step_size: is not a number at frame 0",
          "  t/0",
          "   ^"]),
        ("step_size: 9**9**9**9",
         ["p.yaml:3:14: dream.step_size: is infinite at frame 0",
          "  9**9**9**9",
          "      ^"]),
        ("step_size: {0: 1, 5s: t/(}",
         ["p.yaml:3:25: dream.step_size: here should be a number, a name or '(', not the end",
          "  t/(",
          "     ^"]),
        ("step_size: {0: 1, 5x: 2}",
         ["p.yaml:3:25: dream.step_size: "
          "a key must be a frame (60), seconds (5s), 50% or ease, not '5x'"]),
        ("octaves: 2+t",
         ["p.yaml:3:12: dream.octaves: must be a whole number from 1 to 16, not '2+t'"]),
    ],
)  # fmt: skip
def test_a_wrong_curve_is_shown_with_a_caret(line, complaint):
    assert complaints(GROUND + f"dream:\n  {line}\n") == complaint


def test_a_curve_that_calls_the_system_is_refused_unread():
    line = "step_size: __import__('os').system('touch here')"
    said = complaints(GROUND + f"dream:\n  {line}\n")
    assert said[0].startswith("p.yaml:3:14: dream.step_size: unknown function '__import__'")
    assert not Path("here").exists()


def test_a_curve_too_long_to_be_read_is_refused_in_short_lines():
    said = complaints(GROUND + f"dream:\n  step_size: {'t+' * 5000}t\n")
    assert said[0] == ("p.yaml:3:14: dream.step_size: 10001 characters; at most 10000 are read")
    assert max(map(len, said)) < 100


@pytest.mark.parametrize(
    "value", ["0:(1), 60:(3)", "0: (1), 60: (3)", "{0: 1, 60: 3}", "'0:(1), 60:(3)'"]
)
def test_an_override_may_be_a_curve(value):
    moving = load("base", overrides=[f"dream.step_size={value}", f"objectives.0.weight={value}"])
    middle = moving.resolved(100, 30).at(30)
    assert (middle.dream.step_size, middle.objectives[0].weight) == (2, 2)


@pytest.mark.parametrize(
    "value", ['"0":(1), "60":(3)', "0: 1, 60: 3", "0:(1), (max_f-39):(3),", "'0:1, 60:3'"]
)
def test_an_override_takes_what_deforum_takes(value):
    moving = load("base", overrides=[f"dream.step_size={value}"])
    assert moving.resolved(100, 30).at(30).dream.step_size == 2


def test_keys_without_parentheses_are_a_curve_and_a_time_is_not():
    moving = load(write("p.yaml", GROUND + "camera: {zoom: '0:1.02, 60:2'}"))
    assert moving.resolved(99, 30).at(60).camera.zoom == 2
    assert complaints(GROUND + "camera: {zoom: 1:30}") == [
        "p.yaml:2:16: camera.zoom: must be a number from 0.5 to 2 (per frame at 30 fps), not '1:30'"
    ]


def test_a_wrong_curve_in_an_override_is_shown_with_a_caret():
    assert refused("base", ["dream.step_size=0: (1), 60: (foo)"]) == [
        "--set dream.step_size: unknown name 'foo' (did you mean 'floor'?)",
        "  0: (1), 60: (foo)",
        "               ^",
    ]


def test_a_curve_replaces_the_curve_it_is_laid_on():
    write("p.yaml", GROUND + "dream: {step_size: {0: 1, 10: 9}}\n")
    write("q.yaml", "extends: p.yaml\ndream: {step_size: {0: 2}}\n")
    assert load("q.yaml").resolved(20, 30).at(10).dream.step_size == 2
    assert load("q.yaml", overrides=["dream.step_size=3"]).at(10).dream.step_size == 3
    over = load("q.yaml", overrides=["dream.step_size={5: 4}"])
    assert over.resolved(20, 30).at(0).dream.step_size == 4


def test_a_dumped_curve_reads_back_equal_and_knows_where_it_came_from():
    moving, origins = load_with_origins(write("p.yaml", MOVING))
    assert load(write("q.yaml", dump(moving))) == moving
    assert dump(load("q.yaml")) == dump(moving)
    text = preset.annotated(moving, origins)
    assert load(write("q.yaml", text)) == moving
    lines = [line.split() for line in text.splitlines()]
    assert ["step_size:", "0:(1),", "60:(3)", "#", "p.yaml:4"] in lines
    assert origins["objectives.0.weight"] == "p.yaml:2"


# ── octaves and easing of an objective ──


def test_an_objective_is_dreamed_in_all_octaves_unless_it_names_some():
    read = load(write("p.yaml", "objectives: [{layer: a, octaves: [0, 1]}, {layer: b}]"))
    assert [o.octaves for o in read.objectives] == [(0, 1), "all"]
    assert load(write("q.yaml", dump(read))) == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objectives: [{layer: a, octaves: [0, 4]}]",
         "p.yaml:1:38: objectives.0.octaves.1: "
         "must be from 0 (full size) to 3, as dream.octaves is 4, not 4"),
        ("objectives: [{layer: a, octaves: [7]}]\nfollow: {octaves: 6}",
         "p.yaml:1:35: objectives.0.octaves.0: "
         "must be from 0 (full size) to 5, as follow.octaves is 6, not 7"),
        ("objectives: [{layer: a, octaves: [0, -1]}]",
         "p.yaml:1:38: objectives.0.octaves.1: must be a whole number from 0 to 15, not -1"),
        ("objectives: [{layer: a, octaves: []}]",
         "p.yaml:1:34: objectives.0.octaves: must be a list of 1 or more, "
         "each a whole number from 0 to 15 or 'all', not an empty list"),
        ("objectives: [{layer: a, octaves: 1}]",
         "p.yaml:1:34: objectives.0.octaves: must be a list of 1 or more, "
         "each a whole number from 0 to 15 or 'all', not 1"),
    ],
)  # fmt: skip
def test_an_octave_that_is_never_dreamed_is_named_with_the_range(text, message):
    assert complaints(text) == [message]


def test_an_octave_that_an_override_takes_away_names_the_override():
    write("p.yaml", "objectives: [{layer: a, octaves: [3]}]")
    assert refused("p.yaml", ["dream.octaves=3"]) == [
        "p.yaml:1:35: objectives.0.octaves.0: "
        "must be from 0 (full size) to 2, as dream.octaves is 3 by --set, not 3"
    ]


def test_an_ease_beside_a_weight_bends_it_as_one_within_does():
    for weight in ('"0:(0), 40:(1)"', "{0: 0, 40: 1}"):
        read = load(write("p.yaml", f"objectives: [{{layer: a, weight: {weight}, ease: in}}]"))
        moving = read.resolved(41, 30)
        found = [moving.at(frame).objectives[0].weight for frame in (0, 10, 40)]
        assert found == [0, 0.0625, 1]
        again = load(write("q.yaml", dump(read)))
        assert again == read
        assert again.resolved(41, 30).at(10).objectives[0].weight == 0.0625
        eased = load("p.yaml", overrides=["objectives.0.ease=out"])
        assert eased.resolved(41, 30).at(10).objectives[0].weight == 0.4375


def test_a_wrong_ease_is_answered_with_those_there_are():
    assert complaints("objectives: [{layer: a, weight: 0:(1), ease: fast}]") == [
        "p.yaml:1:46: objectives.0.ease: "
        "must be one of linear, in, out, in-out, hold, spline, not 'fast'"
    ]


# ── the schema ──


def document(text):
    """A preset as an editor sees it."""

    def listed(value):
        if isinstance(value, dict):
            return {key: listed(each) for key, each in value.items()}
        return [listed(each) for each in value] if isinstance(value, tuple) else value

    return listed(plain(compose(text, "x.yaml", [])))


@pytest.fixture(scope="module")
def schema():
    """A validator by the file that lies beside the shipped presets."""
    found = json.loads((SHIPPED / "schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def test_the_schema_beside_the_presets_is_the_present_one(schema):
    """If not: `dreamflow presets schema > presets/schema.json`."""
    assert schema.schema == preset.json_schema()


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_preset_names_the_schema_and_keeps_to_it(path, schema):
    text = path.read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    schema.validate(document(text))
    schema.validate(document(dump(load(path.stem))))


@pytest.mark.parametrize(
    ("objective", "right"),
    [
        ("{layer: a, weight: '0:(0), 5s:(1)', ease: in-out}", True),
        ("{layer: a, weight: {0: 0, 50%: t/9, ease: spline}}", True),
        ("{layer: a, octaves: [0, 1]}", True),
        ("{layer: a, octaves: all}", True),
        ("{cycle: [a, b, c], every: 4s, fade: 1s}", True),
        ("{cycle: [a, b], every: 48, fade: 12f, weight: 2, octaves: [0]}", True),
        ("{cycle: [a, b], every: 2.5%, fade: 1%, weight: 2+t/100}", True),
        ("{layer: a, norm: l1, network: vgg16, mask: luma}", True),
        ("{layer: a, channel: 3, target: -2.5}", True),
        ("{layer: a, channels: [3, 4], weight: 0:(1)}", True),
        ("{layer: a, neuron: [3, 0.5, 0.25]}", True),
        ("{layer: a, direction: [1, -2.5], cosine: {0: 0, 9: 2}}", True),
        ("{layer: a, direction: d.npy}", True),
        ("{layer: a, guide: a.png, mask: m.png}", True),
        ("{layer: a, mask: {class: tabby, invert: true}}", True),
        ("{layer: a, mask: {class: 281}}", True),
        ("{layer: a, mask: {file: m.mp4, invert: true}}", True),
        ("{layer: a, mask: {file: m.png, follow: true}}", True),
        ("{layer: [a, b], style: a.png}", True),
        ("{layer: a, style: a.png}", True),
        ("{layer: a, content: a.png}", True),
        ("{layer: a, enhance: 1.5 + sin(t)}", True),
        ("{layer: a, diversity: true}", True),
        ("{class: tabby, target: 20}", True),
        ("{layer: a, norm: l3}", False),
        ("{layer: a, target: 3}", False),
        ("{layer: a, channels: []}", False),
        ("{layer: a, neuron: [3, 0.5]}", False),
        ("{layer: [], style: a.png}", False),
        ("{layer: [a, b], guide: a.png}", False),
        ("{layer: a, enhance: -1}", False),
        ("{layer: a, mask: {}}", False),
        ("{layer: a, mask: 3}", False),
        ("{layer: a, mask: {follow: true}}", False),
        ("{layer: a, mask: {file: m.png, class: tabby}}", False),
        ("{layer: a, mask: {class: tabby, follow: true}}", False),
        ("{layer: a, diversity: false}", False),
        ("{layer: a, ease: fast}", False),
        ("{layer: a, octaves: []}", False),
        ("{layer: a, octaves: [16]}", False),
        ("{layer: a, octaves: some}", False),
        ("{layer: a, cycle: [a, b]}", False),
        ("{cycle: [a], every: 4s, fade: 1s}", False),
        ("{cycle: [a, b], every: 4s, fade: 1s, weight: {0: 1}}", False),
        ("{cycle: [a, b], every: 4s}", False),
        ("{cycle: [a, b], every: 2.5, fade: 1}", False),
        ("{cycle: [a, b], every: 4m, fade: 1m}", False),
        ("{cycle: [a, b], every: 4s, fade: 1s, ease: in}", False),
        ("features.3", False),
    ],
)
def test_the_schema_and_the_reader_agree_on_objectives(schema, objective, right):
    text = f"objectives: [{objective}]"
    assert schema.is_valid(document(text)) == right
    write("p.yaml", text)
    if right:
        load("p.yaml")
    else:
        refused("p.yaml")


def test_the_schema_lets_a_moving_setting_be_a_number_a_text_or_a_mapping():
    properties = preset.json_schema()["properties"]
    number, text, mapping = properties["dream"]["properties"]["step_size"]["anyOf"]
    assert number == {"type": "number", "minimum": 0, "maximum": 64}
    assert (text["type"], mapping["type"]) == ("string", "object")
    assert properties["dream"]["properties"]["octaves"]["type"] == "integer"
    *kinds, _ = properties["objectives"]["items"]["anyOf"]
    assert all("anyOf" in kind["properties"]["weight"] for kind in kinds)


def test_the_table_marks_what_can_move():
    rows = {row.key: row.moves for row in preset.settings_table()}
    assert rows["dream.step_size"] == rows["objectives[].weight"] == rows["color.rate"] == "yes"
    assert rows["dream.octaves"] == rows["dream.size"] == rows["seed"] == ""


# ── classes ──


def written_preset(text):
    write("p.yaml", text)
    return preset.load("p.yaml")


def test_classes_are_objectives_by_label_and_by_number():
    read = written_preset("objectives: [{class: Egyptian CAT, weight: 2}, {class: 1}, {layer: a}]")
    assert [(o.layer, o.label, o.weight) for o in read.objectives] == [
        ("classes", "Egyptian cat", 2), ("classes", "goldfish", 1), ("a", "a", 1)
    ]  # fmt: skip


def test_a_class_fades_in_like_a_layer():
    read = written_preset("objectives: [{class: tabby, weight: '0:(0), 10:(1)'}]").resolved(11, 30)
    assert [read.at(frame).objectives[0].weight for frame in (0, 5, 10)] == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("item", "start"),
    [
        ("{class: Egiptian cat}", "22: objectives.0.class: unknown class 'Egiptian cat' (nearest:"
         " Egyptian cat,"),
        ("{class: crane}", "22: objectives.0.class: 'crane' is two classes: write 'crane (bird)'"),
        ("{class: 1000}", "22: objectives.0.class: must be a text or a whole number from 0 to 999"),
        ("{class: [1]}", "22: objectives.0.class: must be a text or a whole number from 0 to 999"),
        ("{class: 1, layer: a}", "25: key 'layer' does not go with 'class'"),
        ("{clas: 1}", "15: unknown key 'clas' (did you mean 'class'?)"),
    ],
)  # fmt: skip
def test_a_class_that_cannot_be_is_named_where_it_stands(item, start):
    assert any(line.startswith(f"p.yaml:1:{start}") for line in complaints(f"objectives: [{item}]"))


def test_a_preset_of_classes_reads_back_as_it_was_written():
    read = written_preset("objectives: [{class: tabby}, {class: 7}, {layer: a}]")
    assert written_preset(preset.dump(read)) == read


# ── describing ──

TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), st.sampled_from("\n\t")
    ),
    max_size=30,
).filter(lambda text: "\ufeff" not in text)
SPECIAL = st.sampled_from(
    ["1e3", "1e-3", "010", "0o7", "yes", "~", "", "null", ".nan", "1:30", "<<", "=", "- a", "a: b",
     "#x", " a ", "a\n\n b\n", "'", '"', "{", "\\", "%", "@", "---", "...", "x " * 90]
)  # fmt: skip
PRESETS = st.builds(
    Preset,
    description=TEXT | SPECIAL,
    network=TEXT.map(lambda text: text.replace(":", "").replace("/", "").lstrip("~\\")),
    seed=st.integers(0, 2**32 - 1),
    objectives=st.lists(
        st.builds(Objective, layer=TEXT | SPECIAL, weight=st.floats(-100, 100)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    dream=st.builds(
        Dream, size=st.integers(16, 9999) | st.just("full"), step_size=st.floats(0, 64)
    ),
)


@settings(max_examples=150, deadline=None)
@given(PRESETS)
def test_a_dumped_preset_reads_back_equal(original):
    assert load(write("p.yaml", dump(original))) == original


@pytest.mark.parametrize("name", [path.stem for path in sorted(SHIPPED.glob("*.yaml"))])
def test_a_shipped_preset_as_it_is_shown_is_equal(name):
    assert load(write("elsewhere/p.yaml", preset.shown(name))) == load(name)


# ── what is shown ──


def shown_beside(path, overrides=()):
    """What is shown of a preset, saved beside it and read from another folder."""
    text = preset.shown(path, overrides=overrides)
    return text, load(write(str(Path(path).parent / "shown.yaml"), text))


def test_a_mask_of_another_kind_replaces_the_one_that_is_inherited():
    write("in/p.yaml", "extends: base\nmask: {file: m.png, follow: true}\n")
    child = load(write("./q.yaml", "extends: in/p.yaml\nmask: {class: tabby}\n"))
    assert child.mask == ClassMask.model_validate({"class": "tabby"})
    turned = load("in/p.yaml", overrides=["mask.invert=true"])
    assert turned.mask == FileMask(file="in/m.png", follow=True, invert=True)


def test_a_preset_that_is_shown_names_its_files_as_seen_from_its_folder():
    write("in/low/q.yaml", GROUND + "audio: a b.wav\nnetwork: vgg16:mine.safetensors\n")
    write("in/p.yaml", "extends: low/q.yaml\n")
    for path, place in (("in/p.yaml", "low/"), ("in/low/q.yaml", "")):
        text, again = shown_beside(path)
        lines = text.splitlines()
        assert lines[0] == f"# Save it beside {path}: from there it names files."
        assert any(line.startswith(f"audio: {place}a b.wav ") for line in lines)
        assert any(line.startswith(f"network: vgg16:{place}mine.safetensors ") for line in lines)
        assert again == load(path)
        assert again.audio == "in/low/a b.wav"


def test_a_file_of_an_override_is_named_from_the_presets_folder_or_warned_of(caplog, tmp_path):
    write("in/p.yaml", GROUND)
    _, again = shown_beside("in/p.yaml", ["audio=in/a.wav"])
    assert again.audio == "in/a.wav"
    assert "audio: songs/a.wav " in preset.shown("base", overrides=["audio=songs/a.wav"])
    assert not caplog.records
    text = preset.shown("in/p.yaml", overrides=[f"audio={tmp_path}/b.wav"])
    assert f"audio: {tmp_path}/b.wav " in text
    assert caplog.messages == [
        f"audio: {tmp_path}/b.wav is outside the preset's folder, where no preset may name it: "
        "give it with --set again"
    ]


def test_a_preset_without_files_is_shown_without_a_word_on_them():
    assert preset.shown("base").startswith("description: ")


# ── a check ──


def found_by_check(text):
    with pytest.raises(PresetError) as caught:
        preset.check(load(write("p.yaml", text)))
    return str(caught.value).split("\n")


def test_a_check_misses_no_file():
    text = GROUND + "audio: a.wav\nnetwork: vgg16:b.safetensors\n"
    assert found_by_check(text) == [
        "p.yaml:2:8: audio: there is no file 'a.wav'",
        "p.yaml:3:10: network: there is no file 'b.safetensors'",
    ]
    write("a.wav", "")
    assert len(found_by_check(text)) == 1
    write("b.safetensors", "")
    preset.check(load("p.yaml"))


STEP_SIZE = "it must be a number from 0 to 64 (8-bit levels)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0:(1), 9:(70)", [f"p.yaml:2:20: dream.step_size is 70 at a key; {STEP_SIZE}",
                           "  0:(1), 9:(70)", "            ^"]),
        ("99%:70, 9999999:1", [f"p.yaml:2:20: dream.step_size is 70 at a key; {STEP_SIZE}",
                               "  99%:70, 9999999:1", "      ^"]),
        ("{0: 1, 900000s: -1}", [f"p.yaml:2:36: dream.step_size is -1 at a key; {STEP_SIZE}"]),
        ("9+70*sin(t)", [f"p.yaml:2:20: dream.step_size is 67.903 at frame 1; {STEP_SIZE}"]),
        ("900:(t/10)", [f"p.yaml:2:20: dream.step_size is 90 at frame 0; {STEP_SIZE}"]),
        ("99*audio.rms", [f"p.yaml:2:20: dream.step_size is 99 at frame 0; {STEP_SIZE} "
                          "(where audio.* is 1)"]),
        ("3/audio.rms", ["p.yaml:2:20: dream.step_size: is infinite at frame 0 "
                         "(where audio.* is 0)", "  3/audio.rms", "   ^"]),
    ],
)  # fmt: skip
def test_a_check_finds_curves_that_leave_their_range(value, message):
    quoted = value if value.startswith("{") else f"'{value}'"
    assert found_by_check(GROUND + f"dream: {{step_size: {quoted}}}\n") == message


def test_a_curve_meant_for_a_short_film_passes_a_check_with_a_warning(caplog):
    preset.check(load(write("p.yaml", GROUND + "dream: {step_size: '2-t/48'}\n")))
    assert "dream.step_size is -0.0208333 at frame 97" in caplog.text
    assert "only a render that ends before can use it" in caplog.text


@pytest.mark.parametrize("name", [path.stem for path in sorted(SHIPPED.glob("*.yaml"))])
def test_a_check_finds_nothing_in_a_shipped_preset(name):
    preset.check(load(name))


def test_a_dump_spells_out_every_setting():
    read, origins = load_with_origins(write("p.yaml", dump(load("base"))))
    assert "default" not in origins.values()
    assert read == load("base")


def test_the_schema_refuses_unknown_keys_at_every_depth():
    schema = preset.json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert schema["properties"]["dream"]["additionalProperties"] is False
    kinds = schema["properties"]["objectives"]["items"]["anyOf"]
    assert not any(kind["additionalProperties"] for kind in kinds)
    assert schema["anyOf"] == [{"required": ["extends"]}, {"required": ["objectives"]}]
    assert "extends" in schema["properties"]
    assert schema["properties"]["dream"]["properties"]["octaves"]["maximum"] == 16


def test_the_table_of_settings_says_what_the_classes_say():
    rows = {row.key: row for row in preset.settings_table()}
    size = rows["dream.size"]
    assert (size.allowed, size.unit, size.default) == (
        "a whole number from 16 to 16384 or 'full'",
        "px",
        str(Dream().size),
    )
    assert size.help == Dream.model_fields["size"].description
    defaults = preset._leaves(Preset(objectives=(Objective(layer="x"),)))
    cycle = {f"objectives.0.{name}" for name in Cycle.model_fields}
    kinds = [get_args(arm)[0] for arm in get_args(get_args(AnyObjective)[0])]
    fields = {name.rstrip("_") for kind in kinds for name in kind.model_fields}
    of_kinds = {f"objectives.0.{name}" for name in fields} | {"objectives.0.cycle.0.class"}
    wheres = {"mask", "objectives.0.mask"}
    of_masks = {
        f"{where}.{key}" for where in wheres for key in ("class", "file", "follow", "invert")
    }
    assert {key.replace("[]", ".0") for key in rows} == {
        "objectives", *defaults, *cycle, *of_kinds, *of_masks
    }  # fmt: skip
    assert len(rows) == len(preset.settings_table())


def test_the_markdown_has_a_row_for_each_setting():
    lines = preset.settings_markdown().splitlines()
    assert len(lines) == 2 + len(preset.settings_table())
    assert len({line.count("|") for line in lines}) == 1


# ── hostile files ──

CURVE = "t+" * 240 + "t"
HOSTILE = {
    "one curve": f"dream: {{step_size: '{'t+' * 490_000}t'}}",
    "a row of keys": f"dream: {{step_size: '{', '.join(f'{i}:({i})' for i in range(60_000))}'}}",
    "60,000 keys": f"dream: {{step_size: {{{', '.join(f'{i}: t' for i in range(60_000))}}}}}",
    "4,900 keys": f"dream: {{step_size: {{{', '.join(f'{i}: t' for i in range(4_900))}}}}}",
    "wrong keys": f"dream: {{step_size: {{{', '.join(f'x{i}: t' for i in range(4_900))}}}}}",
    "lists in lists": "dream: " + "[" * 900_000,
    "mappings in mappings": "dream: " + "{a: " * 225_000,
    "parentheses": f"dream: {{step_size: '{'(' * 9_000}'}}",
    "unknown keys": "\n".join(f"zz{i}: {'x' * 180}" for i in range(4_900)),
    "one key again and again": "seed: 1\n" * 4_900,
    "anchors": "\n".join(f"a{i}: &a{i} [x]" for i in range(3_000)),
    "laughs": "\n".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 99)),
    "merges": "\n".join("<<: {<<: {a: 1}}" for _ in range(900)),
    "octaves": f"objectives: [{{layer: a, octaves: [{','.join('0' * 9_000)}x]}}]",
    "digits": "seed: " + "9" * 900_000,
    "quotes": "description: '" + "'" * 900_000,
    "a long line": "description: " + "x " * 450_000 + "\nseed: x",
    "the system": "seed: !!python/object/apply:os.system ['touch here']",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_at_once(text):
    load("base")  # what is loaded on demand is loaded
    write("p.yaml", text if text.startswith("objectives") else GROUND + text)
    with harmless():
        lines = refused("p.yaml")
    assert len(lines) <= 11
    assert max(map(len, lines)) < 400
    assert not Path("here").exists()


@pytest.mark.parametrize("item", [
    f"{{layer: a, weight: '{CURVE}'}}",
    f"{{layer: a, weight: '{','.join(f'{i}:(t)' for i in range(900))}'}}",
    f"{{cycle: [{', '.join(['a, b'] * 50)}], every: 4s, fade: 1s, weight: '{CURVE}'}}",
])  # fmt: skip
def test_many_long_curves_take_a_short_time_each(item):
    count = 1 if "cycle" in item else 30
    write("p.yaml", "objectives:\n" + f"  - {item}\n" * count)
    began = time.process_time()
    moving = load("p.yaml")
    assert len(moving.objectives) == (100 if count == 1 else 30)
    with suppress(PresetError):
        moving.resolved(100, 30)
    assert time.process_time() - began < 30 * LOOSER * TARGET_SECONDS


def test_too_many_objectives_are_refused():
    (line,) = complaints("objectives:\n" + "  - {layer: a}\n" * 101)
    assert line == f"p.yaml:2:3: objectives: must be {OBJECTIVES}, not a list of 101"


# ── anything at all ──

WORDS = ["objectives", "dream", "follow", "octaves", "steps", "extends", "seed", "layer", "weight",
         "cycle", "every", "fade", "ease"]  # fmt: skip
LINES = st.lists(
    st.tuples(
        st.sampled_from(["", "  ", "- ", "  - ", "\t"]),
        st.sampled_from(WORDS) | st.text(max_size=5),
        st.sampled_from([": ", ":", ": {", ": [", " "]),
        st.sampled_from([*WORDS, "3", ".nan", "1e-3", "yes", "base", "p.yaml", "../p", "}", "]"])
        | st.text(max_size=8),
    ).map("".join),
    max_size=8,
).map("\n".join)


@settings(max_examples=300, deadline=None)
@given(
    LINES,
    st.lists(
        st.text(max_size=20)
        | LINES.map(lambda text: f"dream.steps={text}")
        | st.text("0t5s:(,)+%*{}é\n\x1b", max_size=12).map(lambda text: f"dream.limit={text}")
    ),
)
def test_any_file_and_override_is_read_or_refused_in_printable_lines(text, overrides):
    write("p.yaml", GROUND + text)
    with harmless():
        try:
            load("p.yaml", overrides=overrides).resolved(9, 30)
        except (PresetError, UsageError) as error:
            said = str(error)
        else:
            said = ""
    for line in said.split("\n"):
        assert line.isprintable()
