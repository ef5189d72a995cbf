"""Manifests: what is read, in which order it is expanded, and what is refused where."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from dreamflow import manifest
from dreamflow.errors import PresetError
from dreamflow.manifest import read

GROUND = "objectives: [{layer: features.11}]\n"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    """Manifests are named relative to the working folder, so that messages are exact."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b10.mp4", "b9.mp4", "moon.jpg"):
        Path(name).touch()


def write(text, name="night.yaml"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


def refused(text):
    """The lines of the refusal of a manifest of that text."""
    with pytest.raises(PresetError) as caught:
        read(write(text))
    assert caught.value.exit_code == 78
    return str(caught.value).split("\n")


def outputs(text):
    return [entry.output for entry in read(write(text))]


# ── reading ──


def test_one_job_is_one_render_named_from_the_manifests_folder(tmp_path):
    folder = write("jobs: [{input: ../a.mp4, output: new/x.mp4}]", "deep/night.yaml").parent
    (entry,) = read(folder / "night.yaml")
    assert (entry.input, entry.output) == (folder / "../a.mp4", "deep/new/x.mp4")
    assert (entry.job.kind, entry.preset_name, entry.preset.seed) == ("video", "base", 0)
    (elsewhere,) = read(folder / "night.yaml", tmp_path)
    assert elsewhere.output == f"{tmp_path}/new/x.mp4"


def test_a_matrix_is_expanded_by_inputs_then_presets_then_seeds():
    text = """
jobs:
  - input: "*.mp4"
    preset: [dogs, acid]
    seed: [7, 3]
    output: "{index}-{stem}-{preset}-{seed}.mp4"
"""
    expected = [
        f"{index:03}-{stem}-{preset}-{seed}.mp4"
        for index, (stem, preset, seed) in enumerate(
            [(s, p, n) for s in ("a", "b9", "b10") for p in ("dogs", "acid") for n in (7, 3)], 1
        )
    ]
    assert [Path(output).name for output in outputs(text)] == expected
    assert [entry.preset.seed for entry in read(Path("night.yaml"))][:4] == [7, 3, 7, 3]


def test_jobs_stand_on_the_defaults_that_they_have_a_use_for():
    text = """
defaults: {size: 320, fps: 25, frames: 9, output: "out/{stem}.mp4", set: {dream.steps: 3}}
jobs:
  - {input: a.mp4, set: {dream: {octaves: 2}}}
  - {kind: zoom, input: moon.jpg, fps: 23.976}
  - {kind: image, input: moon.jpg, output: "{stem}.png", size: 640x360}
  - {kind: zoom, noise: pink, output: "{stem}.mp4"}
"""
    video, zoom, image, noise = read(write(text))
    assert (video.preset.dream.steps, video.preset.dream.octaves) == (3, 2)
    assert zoom.preset_name == "dive"
    assert manifest.rate(zoom.job.fps) == manifest.rate("24000/1001")
    assert (image.job.box.width, image.job.box.height) == (640, 360)
    assert Path(noise.output).name == "pink-noise.mp4"


def test_settings_may_be_curves_and_whole_lists():
    text = """
jobs:
  - input: a.mp4
    output: x.mp4
    set:
      dream.steps: "0:(2), 10:(6)"
      objectives: [{layer: fire4}, {layer: fire6, weight: "sin(t)"}]
"""
    (entry,) = read(write(text))
    assert set(entry.preset.curves) == {"dream.steps", "objectives.1.weight"}


def test_a_preset_file_is_found_beside_the_manifest_and_is_named_by_its_stem():
    write(GROUND + "seed: 5\n", "deep/looks/mine.yaml")
    manifest_path = write(
        'jobs: [{input: ../a.mp4, preset: ./looks/mine.yaml, output: "{preset}-{seed}.mp4"}]',
        "deep/night.yaml",
    )
    (entry,) = read(manifest_path)
    assert entry.output == "deep/mine-5.mp4"


def test_a_sound_is_named_from_the_manifests_folder():
    path = write("jobs: [{input: a.mp4, audio: song.flac, output: x.mp4}]", "deep/night.yaml")
    assert read(path)[0].preset.audio == "deep/song.flac"


def test_a_glob_does_not_find_the_results_of_the_run_before():
    text = 'jobs: [{input: "*.mp4", output: "{stem}-dream.mp4"}]'
    first = outputs(text)
    for name in first:
        Path(name).touch()
    assert outputs(text) == first


def test_a_file_with_the_name_of_a_glob_is_that_file():
    Path("b[9].mp4").touch()
    (entry,) = read(write('jobs: [{input: "b[9].mp4", output: x.mkv}]'))
    assert entry.input == Path("b[9].mp4")


def test_a_presets_curves_survive_pickling():
    import pickle

    (entry,) = read(write('jobs: [{input: a.mp4, preset: orchestra, output: "x.mp4"}]'))
    again = pickle.loads(pickle.dumps(entry.preset))
    assert again == entry.preset
    assert {k: c.source for k, c in again.curves.items()} == {
        k: c.source for k, c in entry.preset.curves.items()
    }


# ── refusing ──


def test_all_errors_are_listed_with_their_places():
    write(GROUND + "dream: {stpes: 3}\n", "mine.yaml")
    text = """defaults:
  sizes: 640
jobs:
  - input: a.mp4
    output: x.mp4
    preset: acdi
  - input: nothing-*.mp4
    output: "{stme}.mp4"
    set: {dream: {octaves: three}}
  - {input: a.mp4, output: y.mp4, preset: ./mine.yaml}
  - {input: a.mp4, output: z.mp4, octaves: 3}
"""
    assert refused(text) == [
        "night.yaml:2:3: defaults: unknown key 'sizes' (did you mean 'size'?)",
        "night.yaml:6:13: preset: unknown preset 'acdi' (did you mean 'acid'?); "
        "`dreamflow presets list` shows all, a file is given as ./NAME.yaml",
        "night.yaml:7:12: input: no file matches 'nothing-*.mp4'",
        "night.yaml:8:13: output: unknown field '{stme}' (did you mean 'stem'?); there are "
        "{stem}, {preset}, {seed}, {index}",
        "night.yaml:11:35: unknown key 'octaves' (did you mean 'set: dream.octaves'?)",
        "night.yaml:9:28: dream.octaves: must be a whole number from 1 to 16, not 'three'",
        "mine.yaml:2:9: unknown key 'stpes' (did you mean 'steps'?)",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "night.yaml:1:1: empty; a manifest has `jobs`"),
        ("[1]", "night.yaml:1:1: a manifest is a mapping with `jobs`, not a list"),
        ("jbos: []", "night.yaml:1:1: unknown key 'jbos' (did you mean 'jobs'?)"),
        ("jobs: []", "night.yaml:1:7: jobs: must be a list of jobs, not an empty list"),
        ("jobs: [a.mp4]",
         "night.yaml:1:8: a job is a mapping with `input` and `output`, not 'a.mp4'"),
        ("jobs: [{input: a.mp4}]", "night.yaml:1:8: output is missing; give a text"),
        ("jobs: [{input: a.mp4, output: x.mp4, kind: movie}]",
         "night.yaml:1:44: kind: must be one of video, zoom, image, not 'movie'"),
        ("jobs: [{kind: zoom, input: moon.jpg, solid: teal, output: x.mp4}]",
         "night.yaml:1:8: a zoom grows from one thing: give `input`, `solid` or `noise`"),
        ("jobs: [{input: a.mp4, output: x.mp4, frames: 3}]",
         "night.yaml:1:38: unknown key 'frames' (allowed: output, preset, seed, size, overwrite, "
         "kind, input, start, end, fps, audio, allow_truncated, strict, set)"),
        ("jobs: [{input: a.mp4, output: x.mp4, seed: [1, -1]}]",
         "night.yaml:1:48: seed.1: must be a whole number from 0 to 4294967295, not -1"),
        ("jobs: [{input: a.mp4, output: x.mp4, start: soon}]",
         "night.yaml:1:45: start: must be a text such as 1:02.5, 48f or a number from 0 to "
         "1000000000, not 'soon'"),
        ("jobs: [{input: a.mp4, output: x.mp4, set: 3}]",
         "night.yaml:1:43: set: must be a mapping of a preset's settings, not 3"),
        ("jobs: [{input: a.mp4, output: x.mp4, set: {audio: /etc/passwd}}]",
         "night.yaml:1:51: audio: must be a path inside the preset's own folder, not "
         "'/etc/passwd'"),
    ],
)  # fmt: skip
def test_refusals_say_what_is_allowed(text, line):
    assert line in refused(text)


@pytest.mark.parametrize(
    "name",
    ["/etc/x.mp4", "~/x.mp4", "../x.mp4", "a/../../x.mp4", "./x.mp4", "a//x.mp4", "/", "",
     "a\\b.mp4", "C:/x.mp4", '"a\\nb.mp4"', "{stem", "{stem.real}.mp4", "{seed:9999999999}.mp4",
     "{0}.mp4", "{}.mp4", "{stem!r}.mp4"],
)  # fmt: skip
def test_a_result_leads_nowhere_but_into_its_folder(name):
    quoted_name = name if name.startswith('"') else f"'{name}'"
    lines = refused(f"jobs: [{{input: a.mp4, output: {quoted_name}}}]")
    assert lines[0].startswith("night.yaml:1:31: output: ")


@pytest.mark.parametrize(
    ("file", "stem"),
    [("...mp4", "_."), ("..", None), (".hidden.mp4", "_hidden"), ("a\nb.mp4", "a_b"),
     ("{seed}.mp4", "{seed}"), ("-y.mp4", "-y"), ("\x1b[2J.mp4", "_[2J"), ("é ☂.mp4", "é ☂")],
)  # fmt: skip
def test_names_from_strangers_are_tamed(file, stem):
    if stem is None:
        return
    entry = read(write('jobs: [{input: a.mp4, output: "{stem}/{stem}.mp4"}]'))[0]
    named = manifest._named(
        type(entry)(**{**vars(entry), "input": Path(file), "output": "{stem}/{stem}.mp4"}), Path()
    )
    assert stem in named or named.count("_") >= 2
    assert ".." not in Path(named).parts
    assert len(Path(named).parts) == 2
    assert named.isprintable()


def test_the_same_output_twice_is_refused_naming_both():
    text = """jobs:
  - {input: [a.mp4, b9.mp4], output: out/x.mp4}
  - {input: a.mp4, preset: acid, output: out/y.mp4}
  - {input: b9.mp4, output: a.mp4}
"""
    assert refused(text) == [
        "night.yaml:2:38: output: ./out/x.mp4 is that of two renders, a.mp4 as base, seed 0 (line "
        "2) and b9.mp4 as base, seed 0: tell them apart with {stem}, {preset}, {seed} or {index}",
        "night.yaml:4:29: output: ./a.mp4 is read by this very batch: give it another name",
    ]


def test_a_mask_of_another_job_is_not_written_over():
    text = """jobs:
  - {input: a.mp4, output: mask.mkv, overwrite: true}
  - {input: a.mp4, output: x.mp4, set: {mask: {file: mask.mkv}}}
"""
    Path("mask.mkv").write_bytes(b"x")
    assert refused(text) == [
        "night.yaml:2:28: output: ./mask.mkv is read by this very batch: give it another name"
    ]


def test_what_is_read_under_another_name_is_not_written_over(tmp_path):
    """By way of another folder, and through a link."""
    Path("deep").mkdir()
    Path("deep/link.mp4").symlink_to("../b9.mp4")
    text = f"""jobs:
  - {{input: ../{tmp_path.name}/a.mp4, output: a.mp4, overwrite: true}}
  - {{input: deep/link.mp4, output: b9.mp4, overwrite: true}}
"""
    assert refused(text) == [
        f"night.yaml:{line}: output: ./{name} is read by this very batch: give it another name"
        for line, name in [(f"2:{32 + len(tmp_path.name)}", "a.mp4"), ("3:36", "b9.mp4")]
    ]


def test_a_result_inside_another_one_is_refused():
    """A folder of pictures is renamed into its place as a whole."""
    text = """jobs:
  - {input: a.mp4, output: out/pictures/}
  - {input: b9.mp4, output: out/pictures/b.mp4}
"""
    assert refused(text) == [
        "night.yaml:3:29: output: ./out/pictures/b.mp4 lies in ./out/pictures/, a result itself: "
        "give it another folder"
    ]


def test_a_name_that_no_file_can_have_is_refused():
    assert refused(f"jobs: [{{input: a.mp4, output: {'n' * 252}.mp4}}]") == [
        "night.yaml:1:31: output: a name of 256 bytes, 'nnnnnnnnnnnnnnnnnnnn'...; a file's has at "
        "most 255"
    ]
    assert refused(f"jobs: [{{input: a.mp4, output: {'é' * 126}.mp4}}]")
    assert outputs(f"jobs: [{{input: a.mp4, output: {'n' * 251}.mp4}}]")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("input: a.mp4, preset: [acid, dogs, acid]", "1:44: preset: 'acid'"),
        ("input: a.mp4, seed: [7, 7]", "1:33: seed: '7'"),
        ("input: [a.mp4, a.mp4]", "1:24: input: 'a.mp4'"),
    ],
)
def test_what_is_listed_twice_is_a_slip(values, said):
    lines = refused(f"jobs: [{{{values}, output: 'o/{{index}}.mp4'}}]")
    assert lines == [f"night.yaml:{said} is listed twice"]


def test_what_two_globs_find_is_taken_once():
    text = "jobs: [{input: ['b*.mp4', '*.mp4'], output: 'o/{stem}.mp4'}]"
    assert outputs(text) == ["./o/b9.mp4", "./o/b10.mp4", "./o/a.mp4"]


def test_a_matrix_that_slipped_is_refused_before_it_is_built(monkeypatch):
    monkeypatch.setattr(manifest, "MAX_RENDERS", 3)
    lines = refused('jobs: [{input: a.mp4, seed: [1, 2, 3, 4], output: "{seed}.mp4"}]')
    assert lines == ["night.yaml:1:8: 4 renders; a manifest has at most 3"]


# ── the schema ──


def test_the_schema_agrees_with_what_is_read():
    schema = manifest.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    good = {
        "defaults": {"size": 640, "set": {"dream.octaves": 3}},
        "jobs": [
            {"input": "a.mp4", "output": "x.mp4", "seed": 2, "start": "1:02.5"},
            {"kind": "zoom", "solid": "teal", "frames": 9, "output": "y.mp4"},
        ],
    }
    jsonschema.validate(good, schema)
    read(write(yaml.safe_dump(good)))
    for bad in (
        {"jobs": []},
        {"jobs": [{"input": 3, "output": "x.mp4"}]},
        {"jobs": [{"input": "a.mp4", "output": "x.mp4", "loop": True}]},
        {"jobs": [{"input": "a.mp4", "output": "x.mp4", "set": {"dream": {"octaves": 99}}}]},
        {"defaults": {"siez": 1}, "jobs": good["jobs"]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
        refused(json.dumps(bad))


def test_every_key_has_a_line_of_help():
    for kind in manifest.KINDS.values():
        for name, field in kind.model_fields.items():
            assert re.search(r"\.$", field.description or ""), name
