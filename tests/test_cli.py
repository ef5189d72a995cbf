"""The command line within one process: what it prints, refuses and imports.

Convention: `call` runs a command as the console script would and returns its exit code, the lines
on stdout and those on stderr.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from dreamflow import cli, machine, networks, options, preset
from dreamflow.errors import DreamflowError
from dreamflow.interrupts import Interrupted, Interrupts
from dreamflow.job import Finished
from dreamflow.progress import Pace, clock, current_objective, printable, view
from dreamflow.schedule import FUNCTION_NAMES
from dreamflow.video.reader import open_clip
from dreamflow.video.stills import read_still, read_still_with_alpha, still_metadata, write_still

NO_DREAM = [
    "-s",
    "dream.octaves=1",
    "-s",
    "dream.steps=0",
    "-s",
    "follow.steps=0",
    "--threads",
    "2",
]
HEAVY = ("torch", "torchvision", "cv2", "numpy", "pydantic", "yaml", "rich", "PIL")


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = cli.run(list(map(str, words)))
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


@pytest.fixture(scope="module")
def one_frame(media):
    """A clip of one frame of 32x24, without sound."""
    return media.counter("one.mp4", frames=1)


def modules_loaded_by(*words):
    program = "import sys; from dreamflow import cli; cli.run(sys.argv[1:]); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    return set(ran.stdout.splitlines()[-1].split())


def ffmpegs():
    found = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "comm="], capture_output=True, text=True
    )
    return [line for line in found.stdout.splitlines() if line.startswith("ffmpeg")]


# ── beside other programs ──


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, "30000 None"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None ACTIVE"),
    ],
)
def test_threads_without_work_let_go_of_their_core_unless_the_user_says_so(asked, wanted):
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    program = (
        "import atexit, os, sys; from dreamflow import cli; assert 'torch' not in sys.modules; "
        f"atexit.register(lambda: print(*map(os.environ.get, {names}))); cli.main()"
    )
    environment = {key: value for key, value in os.environ.items() if key not in names} | asked
    command = [sys.executable, "-c", program, "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert ran.stdout.splitlines()[-1] == wanted


# ── quick to answer ──


def commands(group=cli.cli, words=()):
    yield [*words]
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, [*words, name])


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_explains_itself(call, words):
    code, out, err = call(*words, "--help")
    assert (code, err) == (0, [])
    assert out[0].startswith(" ".join(["Usage: dreamflow", *words]))


def test_help_loads_nothing_heavy():
    assert not modules_loaded_by("video", "--help") & set(HEAVY)


def test_listing_presets_and_showing_one_leaves_torch_out():
    assert not modules_loaded_by("presets", "list") & {"torch", "cv2", "numpy"}
    assert not modules_loaded_by("presets", "show", "base") & {"torch", "cv2", "numpy"}


def test_every_option_has_help_that_ends_with_a_full_stop_or_its_default():
    for words in commands():
        command = cli.cli
        for word in words:
            command = command.commands[word]
        for option in command.params:
            if option.param_type_name == "option":
                assert option.help.rstrip().endswith((".", "]")), (words, option.name)


def test_the_devices_offered_are_those_of_the_machine(call):
    _, out, _ = call("video", "--help")
    assert "|".join(machine.DEVICES) in "\n".join(out)


# ── presets, layers, doctor ──


def test_a_shown_preset_reads_back_and_says_where_each_value_comes_from(call, tmp_path):
    own = tmp_path / "own.yaml"
    text = "word " * 60 + "# no comment"
    own.write_text(f"extends: base\nseed: 7\ndescription: {json.dumps(text)}\n")
    code, out, _ = call("presets", "show", own, "--set", "dream.steps=3")
    again = tmp_path / "again.yaml"
    again.write_text("\n".join(out))
    assert code == 0
    assert preset.load(str(again)) == preset.load(str(own), overrides=["dream.steps=3"])
    origins = {line.split(":")[0].strip(): line.split("  # ")[-1] for line in out}
    assert origins["seed"] == f"{own}:2"
    assert origins["softness"] == "default"
    assert origins["decay"].startswith("base.yaml:")
    (changed,) = (line for line in out if line.endswith("# --set"))
    assert changed.split() == ["steps:", "3", "#", "--set"]
    columns = [line.index("#") for line in out if line.startswith(("seed", "network", "  decay"))]
    assert len(set(columns)) == 1


def test_checking_presets_lists_what_is_wrong_in_all_of_them(call, tmp_path):
    (tmp_path / "typo.yaml").write_text("extends: base\ndream: {octave_scael: 2}\n")
    (tmp_path / "layer.yaml").write_text("extends: base\nobjectives:\n- layer: features.99\n")
    (tmp_path / "fine.yaml").write_text("extends: base\n")
    code, out, err = call("presets", "check", "typo.yaml", "layer.yaml", "fine.yaml")
    assert code == 78
    assert out == ["fine.yaml: fine"]
    assert err[0].startswith("dreamflow: error: typo.yaml:2:9: unknown key 'octave_scael'")
    assert err[1].startswith("dreamflow: error: layer.yaml:3:10: objectives.0.layer: unknown")
    assert len(err) == 2


def test_the_help_lists_what_expressions_may_use(call):
    _, out, _ = call("presets", "--help")
    words = set(re.findall(r"\w+(?:\.\w+)*", " ".join(out)))
    assert {*FUNCTION_NAMES, "t", "s", "max_f", "sec", "fps", "pi", "e", "audio.rms"} <= words


def test_every_shipped_preset_is_listed_and_passes_the_check(call):
    _, out, _ = call("presets", "list")
    names = [line.split()[0] for line in out if line.startswith("  ")]
    assert options.DEFAULT_PRESET in names
    assert call("presets", "check", *names)[0] == 0


def test_presets_are_listed_in_families_with_their_networks(call):
    _, out, _ = call("presets", "list")
    families = [line for line in out if not line.startswith(" ")]
    assert families[:2] == ["creatures", "textures"]
    assert "wild" in families
    (vgg,) = [line.split() for line in out if "vgg-painterly" in line]
    assert vgg[1] == "vgg16"
    assert out.index("music") < out.index(next(line for line in out if "heartbeat" in line))


def test_the_schema_is_json(call):
    _, out, _ = call("presets", "schema")
    assert "objectives" in json.loads("\n".join(out))["properties"]


def test_layers_are_listed_with_alias_channels_and_stride(call):
    _, out, _ = call("layers", "squeezenet1_1")
    assert out[0].split() == ["layer", "alias", "channels", "stride"]
    assert ["features.11", "fire8", "512", "16"] in [line.split() for line in out]


def test_networks_are_listed_with_the_whereabouts_of_their_weights(call, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth").touch()
    _, out, _ = call("layers")
    places = dict(line.split(maxsplit=1) for line in out[1:])
    assert places["squeezenet1_1"] == "embedded"
    assert places["vgg16"] == "cached"
    assert places["vgg19"] == "downloaded on first use"
    assert list(places) == networks.list_networks()


def test_the_doctor_finds_everything_here(call):
    code, out, err = call("doctor")
    assert (code, err) == (0, [])
    states = {line.split()[0]: line.split()[1] for line in out}
    for part in ("ffmpeg", "h264", "opencv", "torch", "cpu", "weights", "presets", "disk"):
        assert states[part] == "fine"


def test_the_doctor_goes_on_where_something_is_broken(call, monkeypatch):
    monkeypatch.setenv("DREAMFLOW_FFMPEG", "/nowhere/ffmpeg")
    code, out, err = call("doctor")
    assert code == 69
    assert err == ["dreamflow: error: missing or broken: ffmpeg, encoders (see the list above)"]
    assert any(line.startswith("ffmpeg") and "/nowhere/ffmpeg" in line for line in out)
    assert any(line.split()[:2] == ["weights", "fine"] for line in out)


# ── faults ──

OLD = b"old and dear"


@pytest.fixture
def wreckage(tmp_path, one_frame):
    """The working folder, with a clip, outputs that are there already, and wrong presets."""
    files = {
        "clip.mp4": one_frame.read_bytes(),
        "curve.yaml": b"extends: base\ndream: {step_size: 65-max_f}\n",
        "cycle.yaml": b"extends: base\n"
        b"objectives: [{cycle: [fire3, fire99], every: 4s, fade: 1s}]\n",
        "weights.yaml": b"extends: base\nnetwork: squeezenet1_1:weights.safetensors\n",
        "weights.safetensors": b"\xff" * 1000,
        "there.mp4": OLD,
        "in.png": OLD,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)


TO_NEW = ("-o", "new.mp4")
FAULTS = {
    "itself": (("video", "clip.mp4", "-o", "./clip.mp4", "-y"), 2, "read by this very render"),
    "picture itself": (("image", "in.png", "-o", "in.png", "-y"), 2, "read by this very render"),
    "ending": (("video", "clip.mp4", "-o", "new.xyz"), 2, ".mp4, "),
    "a picture of a clip": (("video", "clip.mp4", "-o", "new.png"), 2, "--at"),
    "no name": (("video", "", *TO_NEW), 2, "the name is empty"),
    "codec": (("video", "clip.mp4", *TO_NEW, "-s", "output.codec=vp9"), 2, "h264"),
    "picture ending": (("image", "clip.mp4", "-o", "new.xyz"), 2, ".png, "),
    "curve": (("video", "clip.mp4", *TO_NEW, "-p", "curve.yaml"), 78, "curve.yaml:2:20: dream.st"),
    "set curve": (("video", "clip.mp4", *TO_NEW, "-s", "dream.steps=-t-9"), 78, "at frame 0; it"),
    "cycle": (("video", "clip.mp4", *TO_NEW, "-p", "cycle.yaml"), 78, "cycle.yaml:2:30: obj"),
    "weights": (("video", "clip.mp4", *TO_NEW, "-p", "weights.yaml"), 69, "weights.safetensors"),
    "option": (("video", "clip.mp4", *TO_NEW, "--sped", "2"), 2, "dreamflow video --help"),
    "threads": (("video", "clip.mp4", *TO_NEW, "--threads", "0"), 2, "--threads"),
    "time": (("video", "clip.mp4", *TO_NEW, "--start", "soon"), 2, "1:02.5"),
    "rate": (("video", "clip.mp4", *TO_NEW, "--fps", "0"), 2, "24000/1001"),
    "size": (("video", "clip.mp4", *TO_NEW, "--size", "0x9"), 2, "640x360"),
    "seed": (("video", "clip.mp4", *TO_NEW, "--seed", "-1"), 2, "--seed"),
    "behind at": (("video", "clip.mp4", "-o", "new.png", "--at", "9:00"), 2, "--at is behind"),
    "behind": (("video", "clip.mp4", *TO_NEW, "--start", "9:00"), 2, "behind the clip's end"),
    "at": (("video", "clip.mp4", *TO_NEW, "--at", "0", "--end", "1"), 2, "--start and --end"),
    "no settings": (("show", "clip.mp4"), 65, "carries no dreamflow settings"),
    "nothing to show": (("show", "no.mp4"), 66, "no such file: no.mp4"),
    "no such network": (("layers", "vgg"), 78, "vgg16"),
}


@pytest.mark.parametrize(("words", "code", "said"), FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.usefixtures("wreckage")
def test_a_fault_is_one_line_and_a_code_and_leaves_all_files_as_they_were(
    call, tmp_path, words, code, said
):
    before = {path for path in tmp_path.rglob("*")}
    found, out, err = call(*words)
    (line,) = err
    assert line.startswith("dreamflow: error: ")
    assert said in line
    assert (found, out) == (code, [])
    assert {path for path in tmp_path.rglob("*")} == before
    assert (tmp_path / "there.mp4").read_bytes() == OLD
    assert ffmpegs() == []


def test_a_bug_is_one_line_and_with_debug_a_traceback(call, one_frame, monkeypatch):
    def fail(*_arguments, **_options):
        raise KeyError("lost")

    monkeypatch.setattr(preset, "load", fail)
    code, _, err = call("video", one_frame, "-o", "new.mp4")
    assert code == 70
    assert err == ["dreamflow: error: internal error (KeyError: 'lost'), run again with --debug"]
    code, _, err = call("video", one_frame, "-o", "new.mp4", "--debug")
    assert code == 70
    assert err[0].startswith("Traceback")
    assert len([line for line in err if "error: internal error" in line]) == 1


def test_dreamflow_alone_shows_its_help_as_a_wrong_call(call):
    code, out, err = call()
    assert (code, out) == (2, [])
    assert err[0].startswith("Usage: dreamflow")


# ── outputs ──


def test_a_trailing_slash_makes_a_folder_of_pictures_that_can_be_shown(call, tmp_path, media):
    clip = media.counter("three.mp4", frames=3)
    assert call("video", clip, "-o", "frames/", *NO_DREAM)[0] == 0
    assert len(list((tmp_path / "frames").iterdir())) == 3
    _, out, _ = call("show", "frames")
    assert "  steps: 0" in out


def test_the_options_of_a_clip_reach_the_render(call, tmp_path, media):
    clip = media.counter("counter.mp4", frames=24)
    words = ["--start", "4f", "--end", "12f", "--size", "16", "--fps", "12.5", "-o", "part.mkv"]
    assert call("video", clip, *words, *NO_DREAM, "--seed", "5")[0] == 0
    with open_clip(tmp_path / "part.mkv") as part:
        counts = [media.count_of(frame) for frame in part.frames()]
        assert (part.info.width, part.info.height, part.info.rate) == (16, 12, 12.5)
    assert counts == list(range(8, 24, 2))
    assert "seed: 5" in call("show", "part.mkv")[1]


def test_a_look_is_the_frame_at_that_time_with_the_recipe_in_it(call, tmp_path, media):
    clip = media.counter("counter.mp4", frames=24)
    code, _, err = call("video", clip, "--at", "0.48", "-o", "look.png", *NO_DREAM)
    assert (code, err) == (0, [])
    assert media.count_of(read_still(tmp_path / "look.png")) == 12
    assert "steps: 0" in json.loads(still_metadata(tmp_path / "look.png"))["preset"]


def test_a_picture_keeps_its_alpha_and_depth_and_carries_the_recipe(call, tmp_path):
    pixels = np.arange(24 * 32 * 3, dtype=np.uint16).reshape(24, 32, 3) * 20
    alpha = np.full((24, 32), 40_000, np.uint16)
    write_still(tmp_path / "in.png", pixels, alpha=alpha)
    assert call("image", "in.png", "-o", "out.png", *NO_DREAM)[0] == 0
    still = read_still_with_alpha(tmp_path / "out.png")
    assert still.pixels.dtype == np.uint16
    assert np.array_equal(still.alpha, alpha)
    assert call("show", "out.png", "--preset")[1][0].startswith("description:")
    call("image", "in.png", "-o", "small.png", "--size", "16", *NO_DREAM)
    assert read_still_with_alpha(tmp_path / "small.png").alpha.shape == (12, 16)


def test_warnings_are_lines_that_q_silences(call, tmp_path):
    write_still(
        tmp_path / "in.png", np.zeros((24, 32, 3), np.uint8), alpha=np.zeros((24, 32), np.uint8)
    )
    _, _, err = call("image", "in.png", "-o", "a.jpg", *NO_DREAM)
    assert len(err) == 1
    assert err[0].startswith("dreamflow: warning: this format holds no transparency")
    assert call("image", "in.png", "-o", "b.jpg", "-q", *NO_DREAM)[1:] == ([], [])


@pytest.mark.parametrize("text", ["[]", "{}", "{", "7", '{"preset": ' + "[" * 100_000])
def test_damaged_settings_are_bad_media(call, tmp_path, text):
    write_still(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8), metadata=text)
    code, _, err = call("show", "a.png")
    assert code == 65
    assert "damaged" in err[0]


def test_settings_from_strangers_send_the_terminal_no_codes(call, tmp_path):
    text = json.dumps({"torch": "\x1b[2J", "preset": "seed: 1 # \x1b]0;title\x07\r\n"})
    write_still(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8), metadata=text)
    _, out, _ = call("show", "a.png")
    assert all(line.isprintable() for line in out)


# ── progress ──


def test_a_clock_reads_like_one():
    assert [clock(seconds) for seconds in (0, 59.6, 61, 3723)] == [
        "0:00",
        "1:00",
        "1:01",
        "1:02:03",
    ]


def test_pace_counts_down_and_one_slow_frame_does_not_distort_it(monkeypatch):
    times = iter([0, 0, 100, 101, 102, 103])  # the first frame is dreamed from scratch
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    pace = Pace()
    pace.start(10)
    for _ in range(4):
        pace.advance()
    assert pace.seconds_per_frame == 1
    assert pace.seconds_left == 6


def test_the_current_objective_leaves_out_what_has_no_weight():
    chosen = preset.load(
        "base",
        overrides=["objectives=[{layer: a, weight: 0.5}, {layer: b, weight: 0}, {layer: c}]"],
    )
    assert current_objective(chosen.objectives) == "a ×0.5 + c ×1"


def test_a_bar_that_is_no_terminal_is_a_line_per_frame(call, media):
    clip = media.counter("three.mp4", frames=3)
    _, out, err = call("video", clip, "-o", "a.mkv", "--progress", "bar", *NO_DREAM)
    assert out == []
    assert [line.split()[:2] for line in err[:3]] == [["frame", f"{n}/3"] for n in (1, 2, 3)]
    assert err[0].endswith("features.11 ×1")
    assert err[3].startswith("a.mkv: 3 frames in ")


def test_a_target_from_a_stranger_sends_the_terminal_no_codes(capsys):
    with view("bar") as show:
        show(Finished("\x1b[2Ja.mp4", 1, 2.0))
    assert capsys.readouterr().err == "\\x1b[2Ja.mp4: 1 frame in 0:02\n"
    assert printable("a\nb🦎\udcff") == "a\\nb🦎\\udcff"


# ── signals ──


def test_a_first_signal_waits_for_a_check_and_the_second_does_not(capfd):
    with Interrupts() as interrupts, interrupts.patiently():
        interrupts.check("nothing came")
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted, match="between two frames") as stopped:
            interrupts.check("stopped between two frames")
        assert stopped.value.exit_code == 143
        with pytest.raises(Interrupted) as at_once:
            signal.raise_signal(signal.SIGINT)
        assert at_once.value.exit_code == 130
    assert "once more" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_of_frames_a_signal_stops_at_once():
    with Interrupts(), pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGINT)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_is_no_exception_that_a_handler_of_faults_would_take():
    assert not issubclass(Interrupted, Exception)
    assert not issubclass(Interrupted, DreamflowError)


# ── sound ──

LISTENING = ["-s", "dream.step_size=1+audio.bass", *NO_DREAM]


def test_a_clip_without_sound_is_refused_with_the_expression_that_needs_it(call, one_frame):
    code, _, err = call("video", one_frame, "-o", "out.mp4", *LISTENING)
    assert code == 65
    assert err == [
        f"dreamflow: error: {one_frame} has no sound, which dream.step_size needs: '1+audio.bass' "
        "(name a sound file: `audio: FILE` in the preset, or --audio FILE for a clip)"
    ]


def test_a_missing_sound_file_is_said_so_and_a_useless_one_is_warned_of(call, one_frame):
    code, _, err = call("video", one_frame, "-o", "out.mp4", "--audio", "gone.wav", *LISTENING)
    assert (code, err) == (66, ["dreamflow: error: no such file: gone.wav"])
    code, _, err = call("video", one_frame, "-o", "out.mp4", "--audio", "gone.wav", *NO_DREAM)
    warning = "--audio changes nothing: no setting listens to the sound (audio.*)"
    assert (code, err) == (0, [f"dreamflow: warning: {warning}"])


def test_presets_that_listen_are_checked_for_their_file_and_shown_without_hearing_it(
    call, tmp_path
):
    (tmp_path / "p.yaml").write_text("extends: base\naudio: song.wav\ndream: {chroma: audio.rms}\n")
    missing = "dreamflow: error: p.yaml:2:8: audio: there is no file 'song.wav'"
    assert call("presets", "check", "p.yaml") == (78, [], [missing])
    (tmp_path / "song.wav").touch()
    assert call("presets", "check", "p.yaml") == (0, ["p.yaml: fine"], [])
    code, out, _ = call("presets", "show", "./p.yaml")
    assert code == 0
    assert any(line.split()[:2] == ["chroma:", "audio.rms"] for line in out)


# ── shots, measure, compare ──────────────────────────────────────────────────────────────────────


def test_shots_are_listed_as_a_table_and_as_json(clip_path, capsys):
    assert cli.run(["shots", str(clip_path)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["shot", "frame", "time", "length"]
    assert rows[0].split() == ["1", "0f", "0:00.000", "1.001", "s"]
    assert cli.run(["shots", str(clip_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rate"] == "24000/1001"
    assert found["shots"][0]["frames"] == 24


def test_a_measurement_is_printed_and_written(clip_path, tmp_path, capsys):
    files = {kind: tmp_path / f"report.{kind}" for kind in ("png", "json", "csv")}
    options = ["--plot", str(files["png"]), "--json", str(files["json"])]
    options += ["--csv", str(files["csv"]), "--threads", "1", "-q"]
    assert cli.run(["measure", str(clip_path), str(clip_path), *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["all", "24"]
    assert all(file.stat().st_size > 200 for file in files.values())
    assert cli.run(["measure", str(clip_path), str(clip_path), *options]) == 73
    assert "give -y" in capsys.readouterr().err


def test_a_report_does_not_overwrite_what_it_measures(clip_path, capsys):
    clip = str(clip_path)
    assert cli.run(["measure", clip, clip, "--json", clip, "-y"]) == 2
    assert "another name" in capsys.readouterr().err


def test_clips_are_compared(clip_path, tmp_path):
    target = tmp_path / "grid.mp4"
    assert cli.run(["compare", str(clip_path), str(clip_path), "-o", str(target)]) == 0
    assert target.exists()
    assert cli.run(["compare", str(clip_path), str(clip_path), "-o", str(target)]) == 73
