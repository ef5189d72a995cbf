"""Rows 21 to 28: presets from strangers, wrong settings, and weights that cannot be trusted."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from watched import harmless

from dreamflow import cli, networks
from dreamflow.video.probe import probe

GROUND = "extends: base\n"
EMBEDDED = Path(networks.__file__).parent / "weights" / "squeezenet1_1_imagenet.safetensors"
PINNED = networks.NETWORKS["squeezenet1_1"].sha256


@pytest.fixture(scope="module")
def clip(media):
    return media.counter("two.mp4", frames=2)


@pytest.fixture(scope="module")
def _imported():
    """What a check imports is imported, so that what is watched is the check alone."""
    assert cli.run(["presets", "check", "base"]) == 0


@pytest.fixture
def refuse(command, clip, _imported):
    """The lines with which a render by a preset of this text is refused, after nothing was done."""

    def refuse(text: str | bytes, *, name: str = "p.yaml") -> list[str]:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with harmless():
            checked = command("presets", "check", name).errors
        refused = command.refusals(78, "video", clip, "-o", "out.mkv", "-p", name)
        assert [line.removeprefix("dreamflow: error: ") for line in checked] == refused
        return refused

    return refuse


# ── 21: leaving the numbers ──


def overflowing(path: Path, factor: float) -> Path:
    """The embedded weights, scaled until nothing is a number any more."""
    state = safetensors.torch.load_file(EMBEDDED)
    safetensors.torch.save_file({key: value * factor for key, value in state.items()}, path)
    return path


@pytest.mark.parametrize("factor", [1e30, float("nan")])
def test_row_21_leaving_the_numbers_stops_naming_frame_layer_and_setting(
    command, clip, tmp_path, factor
):
    weights = overflowing(tmp_path / "wild.safetensors", factor)
    words = ["-s", f"network=squeezenet1_1:{weights}", "-s", "objectives=[{layer: features.4}]"]
    words += ["-s", "dream.octaves=1", "-s", "dream.steps=1", "--threads", "1"]
    answer = command("video", clip, "-o", "out.mkv", *words)
    assert answer.code == 65
    (line,) = answer.errors
    assert "frame 0: " in line
    assert "features.4" in line
    assert "dream.step_size" in line
    assert not Path("out.mkv").exists()


# ── 22: keys and values ──

MISTAKES = {
    "top": ("sed: 1", "p.yaml:2:1: unknown key 'sed' (did you mean 'seed'?)"),
    "stage": (
        "dream: {octave_scael: 2}",
        "p.yaml:2:9: unknown key 'octave_scael' (did you mean 'octave_scale'?)",
    ),
    "list": (
        "objectives: [{layer: features.4}, {layer: features.5, wieght: 2}]",
        "p.yaml:2:55: unknown key 'wieght' (did you mean 'weight'?)",
    ),
    "type": ("dream: {octaves: many}", "p.yaml:2:18: dream.octaves: must be a whole number"),
    "range": ("dream:\n  octaves: 17", "p.yaml:3:12: dream.octaves: must be a whole number"),
    "choice": ("follow: {flow: optical}", "p.yaml:2:16: follow.flow: must be one of dis"),
    "stage that is none": ("color: 0.5", "p.yaml:2:8: color: must be a mapping with"),
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_row_22_a_mistake_is_named_where_it_stands(refuse, text, said):
    (line,) = refuse(GROUND + text)
    assert line.startswith(said)


def test_row_22_all_mistakes_are_told_at_once_up_to_ten(refuse):
    lines = refuse(GROUND + "sed: 1\nnetwork: 3\ndream: {octaves: 0, octave_scael: 1}\n")
    assert [line.split(": ")[0] for line in lines] == [
        f"p.yaml:{place}" for place in ("2:1", "3:10", "4:18", "4:21")
    ]
    lines = refuse(GROUND + "".join(f"zzz{n}: 1\n" for n in range(30)))
    assert len(lines) == 11
    assert lines[-1] == "and 20 more"


# ── 23: what YAML makes of values ──

SURPRISES = {
    "nan": ("dream: {smoothing: .nan}", "p.yaml:2:20: dream.smoothing: must be a number"),
    "inf": ("dream: {smoothing: .inf}", "p.yaml:2:20: dream.smoothing: must be a number"),
    "power": ("dream: {smoothing: 10^400}", "p.yaml:2:20: dream.smoothing: "),
    "large": ("dream: {smoothing: 1e999}", "p.yaml:2:20: dream.smoothing: must be a number"),
    "digits": (f"dream: {{smoothing: {'9' * 5000}}}", "p.yaml:2:20: dream.smoothing: must be"),
    "clock": ("dream: {smoothing: 1:30}", "p.yaml:2:20: dream.smoothing: "),
    "yes": ("dream: {smoothing: yes}", "p.yaml:2:20: dream.smoothing: "),
    "true": ("seed: true", "p.yaml:2:7: seed: must be a whole number"),
    "twice": ("seed: 1\nseed: 2", "p.yaml:3:1: duplicate key 'seed' (first on line 2)"),
    "tab": ("dream:\n\tsteps: 1", "p.yaml:3:1: indented with a tab; use spaces"),
    "documents": ("---\nseed: 1", "p.yaml:2:1: a second document; write one document per file"),
    "control": ("description: \x1b[31m", "p.yaml:2:14: character '\\x1b' is not allowed"),
}


@pytest.mark.parametrize(("text", "said"), SURPRISES.values(), ids=SURPRISES.keys())
def test_row_23_a_surprise_is_refused_in_exact_words(refuse, text, said):
    (line,) = refuse(GROUND + text)
    assert line.startswith(said)
    assert len(line) < 200
    assert line.isprintable()


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "\ufeff"])
def test_row_23_an_empty_preset_is_refused(refuse, text):
    assert refuse(text) == ["p.yaml:1:1: empty; a preset names at least its objectives"]


def test_row_23_other_encodings_are_refused(refuse):
    assert refuse("seed: 1".encode("utf-16")) == ["p.yaml:1:1: not UTF-8 text"]


def test_row_23_a_windows_file_and_a_small_number_are_read(command):
    text = "\ufeff" + GROUND + "seed: 7\ndream: {smoothing: 1e-3}\n"
    Path("p.yaml").write_bytes(text.replace("\n", "\r\n").encode())
    answer = command("presets", "show", "./p.yaml")
    assert answer.code == 0
    assert any(line.split()[:2] == ["smoothing:", "0.001"] for line in answer.out)


# ── 24: bombs ──

LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
BOMBS = {
    "laughs": (LAUGHS, "anchor '&a0' is not allowed"),
    "merge": ("b: &b {x: 1}\na: {<<: [" + "*b," * 5000 + "]}", "anchor '&b' is not allowed"),
    "deep": ("a: " + "[" * 100_000, "nested more than 16 levels deep"),
    "deep blocks": ("a:\n  " + "- " * 100_000, "nested more than 16 levels deep"),
    "many": ("a: [" + "1," * 200_000 + "]", "more than 10000 values"),
    "python": ("a: !!python/object/apply:os.mkdir [ran]", "tag '!!python/object/apply:os.mkdir'"),
    "python name": ("a: !!python/name:os.system", "tag '!!python/name:os.system'"),
}


@pytest.mark.parametrize(("text", "said"), BOMBS.values(), ids=BOMBS.keys())
def test_row_24_a_bomb_is_refused_and_runs_nothing(refuse, text, said):
    assert any(said in line for line in refuse(GROUND + text))
    assert not Path("ran").exists()


def test_row_24_a_huge_file_is_refused_by_its_size(command, clip):
    with open("p.yaml", "wb") as file:
        file.truncate(100_000_000)
    with harmless():
        line = command.refusal(78, "presets", "check", "p.yaml")
    assert line == "p.yaml: 100000000 bytes; at most 1000000 are read"


# ── 25: where presets lead ──

OUTSIDE = [
    *("../../etc/passwd", "../out.yaml", "/etc/passwd", "~/out.yaml", "~root", "link.yaml"),
    *("link/out.yaml", "a/../../out.yaml", "https://example.org/a.yaml", "file:///etc/passwd"),
]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("key", ["extends", "network", "audio", "mask"])
def test_row_25_a_preset_names_nothing_outside_its_folder(refuse, key, path):
    Path("out.yaml").write_text(GROUND)
    Path("in").mkdir()
    os.symlink(Path.cwd() / "out.yaml", "in/link.yaml")
    os.symlink(Path.cwd(), "in/link")
    ground = "" if key == "extends" else GROUND
    value = f"vgg16:{path}" if key == "network" else path
    (line,) = refuse(f"{ground}{key}: {value}\n", name="in/p.yaml")
    column = len(key) + 3
    assert line == (
        f"in/p.yaml:{1 + bool(ground)}:{column}: {key}: must be a path inside the preset's own "
        f"folder, not {path!r}"
    )


# ── 26: keyframes ──

CURVES = {
    "syntax": "0:(1), 10:(2",
    "unordered": "0:(1), 20:(2), 10:(3)",
    "import": "__import__('os')",
    "attribute": "t.__class__",
    "power": "9**9**9**9",
    "division": "t/0",
    "long": "t" + "+t" * 5000,
    "nested": "(" * 3000 + "t" + ")" * 3000,
    "lambda": "(lambda: 1)()",
    "unknown": "sine(t)",
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
def test_row_26_a_bad_curve_is_refused_with_its_place_and_runs_nothing(refuse, curve):
    (line, *more) = refuse(f'{GROUND}dream: {{step_size: "{curve}"}}\n')
    assert line.startswith("p.yaml:2:20: dream.step_size: ")
    assert all(len(each) < 400 for each in (line, *more))


# ── 27: names ──

NAMES = {
    "network": ("network: squeezenet", 10, ("squeezenet1_1", "`dreamflow layers` lists")),
    "layer": (
        "objectives: [{layer: features.99}]",
        22,
        ("nearest: features.9, ", "`dreamflow layers squeezenet1_1` lists all"),
    ),
    "class": ("objectives: [{class: tabyy}]", 22, ("tabby",)),
}


@pytest.mark.parametrize(("text", "column", "said"), NAMES.values(), ids=NAMES.keys())
def test_row_27_an_unknown_name_gets_the_nearest_and_the_command_that_lists(
    refuse, text, column, said
):
    (line,) = refuse(GROUND + text)
    assert line.startswith(f"p.yaml:2:{column}: ")
    assert all(word in line for word in said)


def test_row_27_an_unknown_preset_and_override_are_answered_alike(command, clip):
    line = command.refusal(78, "video", clip, "-o", "out.mkv", "-p", "bsae")
    assert "did you mean 'base'" in line
    assert "`dreamflow presets list`" in line
    line = command.refusal(78, "video", clip, "-o", "out.mkv", "-s", "dream.octavs=3")
    assert "did you mean 'octaves'?" in line


# ── 28: weights ──


class Bomb:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def flipped() -> bytes:
    data = bytearray(EMBEDDED.read_bytes())
    data[3_000_000] ^= 1
    return bytes(data)


@pytest.fixture
def weigh(command, clip):
    """The line with which weights of one's own are refused."""

    def weigh(name: str) -> str:
        network = f"network=squeezenet1_1:{name}"
        return command.refusal(69, "video", clip, "-o", "out.mkv", "-s", network)

    return weigh


def write_bomb(path: Path, form: str) -> None:
    if form == "zip":
        torch.save({"features.0.weight": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps({"features.0.weight": Bomb()}))


@pytest.mark.parametrize("form", ["zip", "bare"])
def test_row_28_a_pickle_bomb_is_never_lit(weigh, form):
    write_bomb(Path("bomb.pth"), form)
    assert "bomb.pth are not plain tensors" in weigh("bomb.pth")
    assert not Path("ran").exists()


def test_row_28_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(weigh):
    with zipfile.ZipFile("packed.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/version", "3\n")
        with archive.open("a/data/0", "w", force_zip64=True) as entry:
            for _ in range(200):
                entry.write(bytes(1 << 20))
    assert "it unpacks to more than" in weigh("packed.pth")


def test_row_28_a_header_of_a_gigabyte_is_not_read(weigh):
    with open("w.safetensors", "wb") as file:
        file.write(struct.pack("<Q", 1 << 30) + b"{")
        file.truncate(8 + (1 << 30))  # sparse: takes no room on the disk
    assert "too large for squeezenet1_1" in weigh("w.safetensors")
    with open("w.safetensors", "r+b") as file:
        file.truncate(1000)
    assert "w.safetensors" in weigh("w.safetensors")


def test_row_28_weights_of_another_network_and_none_at_all_are_named(weigh):
    assert "no weights file at gone.pth" in weigh("gone.pth")
    state = {
        key: value for key, value in safetensors.torch.load_file(EMBEDDED).items() if "3" in key
    }
    safetensors.torch.save_file(state, "half.safetensors")
    assert "are not those of squeezenet1_1" in weigh("half.safetensors")


@pytest.mark.parametrize("data", [flipped, lambda: EMBEDDED.read_bytes()[:-1000]])
def test_row_28_damaged_embedded_weights_are_refused_with_both_hashes(
    command, clip, monkeypatch, tmp_path, data
):
    monkeypatch.setattr(networks, "_OWN_WEIGHTS", tmp_path)
    (tmp_path / EMBEDDED.name).write_bytes(data())
    line = command.refusal(69, "video", clip, "-o", "out.mkv")
    assert PINNED in line
    assert hashlib.sha256(data()).hexdigest() in line


def test_row_28_weights_that_cannot_be_fetched_are_named_with_their_place(
    command, clip, monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("no_proxy", "")
    words = ["-s", "network=resnet50", "-s", "objectives=[{layer: layer2.0}]", "-q"]
    line = command.refusal(69, "video", clip, "-o", "out.mkv", *words)
    file = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    assert f"put that file at {file}" in line
    assert networks.PUBLISHED_SHA256[file.name] in line
    shutil.copy(EMBEDDED, file)
    line = command.refusal(69, "video", clip, "-o", "out.mkv", *words)
    assert networks.PUBLISHED_SHA256[file.name] in line
    assert PINNED in line  # what it is instead


def test_row_28_there_is_no_fallback_to_other_weights(command, clip):
    shutil.copy(EMBEDDED, "mine.safetensors")
    words = ["-s", "network=squeezenet1_1:mine.safetensors"]
    command.video(clip, "out.mkv", *words)
    assert probe(Path("out.mkv")).frame_count == 2
    assert f"# weights_sha256: {PINNED}" in command("show", "out.mkv").out
