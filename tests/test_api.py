"""What `import dreamflow` gives: the examples of its docstrings run, and it is lazy."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dreamflow
from dreamflow import api, job
from dreamflow.errors import PresetError, UsageError
from dreamflow.frames import Array, Box
from dreamflow.preset import load
from dreamflow.video import ffmpeg
from dreamflow.video.reader import open_clip
from dreamflow.video.stills import read_still, write_still

README = Path(__file__).parents[1] / "README.md"
FUNCTIONS = [name for name in dreamflow.__all__ if name[0].islower()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `clip.mp4` (3 frames of 64x48) and `still.png`."""
    monkeypatch.chdir(tmp_path)
    # all CPUs of a busy machine take longer over pictures this small than one
    monkeypatch.setattr(api, "processors", lambda: 1)
    drawn = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", "3"]
    subprocess.run(
        [ffmpeg.find(), "-v", "error", *drawn, "-pix_fmt", "yuv420p", "clip.mp4"],
        check=True,
        timeout=60,
    )
    write_still(Path("still.png"), picture())
    return tmp_path


def picture() -> Array:
    down, right = np.mgrid[0:48, 0:64].astype(np.float32)
    waves = np.stack([np.sin(down / 5), np.cos(right / 7), np.sin(down * right / 300)], axis=2)
    return (127 + 90 * waves).astype(np.uint8)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_in_each_docstring_works(name, folder):
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    tests = finder.find(getattr(dreamflow, name), name, globs={"dreamflow": dreamflow, "np": np})
    examples = [example for test in tests for example in test.examples]
    assert examples, f"{name} has no example"
    results = [runner.run(test) for test in tests]
    assert sum(result.failed for result in results) == 0


def test_the_lines_in_the_readme_work(folder, capsys):
    readme = README.read_text("utf-8")
    (lines,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    exec(lines.replace("samples/clip.mp4", "clip.mp4"), {})
    assert capsys.readouterr().out.count("(240, 320, 3) uint8") == 3
    assert Path("dream.mp4").is_file()


def test_the_readme_tells_of_every_function():
    readme = README.read_text("utf-8")
    assert [name for name in FUNCTIONS if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_and_result_has_a_type(name):
    signature = inspect.signature(getattr(dreamflow, name))
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter


def test_names_are_there_for_completion_and_star_imports():
    assert set(dreamflow.__all__) <= set(dir(dreamflow))
    for name in dreamflow.__all__:
        assert getattr(dreamflow, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'render_clap'"):
        dreamflow.render_clap  # noqa: B018


@pytest.mark.parametrize(
    "program",
    [
        "import dreamflow; dir(dreamflow)",
        "import dreamflow; dreamflow.Preset, dreamflow.DreamflowError",
        "from dreamflow.cli import run; run(['--help'])",
        "from dreamflow.cli import run; run(['presets', 'list'])",
    ],
)
def test_torch_is_loaded_by_what_dreams_only(program):
    check = "import sys; assert {'torch', 'torchvision', 'cv2'}.isdisjoint(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{program}; {check}"], check=True, capture_output=True)


def test_frames_in_memory_are_those_of_the_file(folder):
    look = dreamflow.load_preset("whisper", {"output.codec": "ffv1"})
    dreamflow.render_clip("clip.mp4", "dream.mkv", look, start="1f", fps=25, progress="none")
    frames = list(dreamflow.dreamed_frames("clip.mp4", look, start=0.04))
    with open_clip(Path("dream.mkv")) as clip:
        written = [frame.astype(int) for frame in clip.frames()]
    assert len(frames) == len(written) == 2
    for frame, read in zip(frames, written, strict=True):
        scale = 257 if read.max() > 255 else 1
        assert np.abs(frame.astype(int) - read / scale).mean() < 1.5


def test_an_array_is_dreamed_as_its_file_is(folder):
    dreamflow.render_picture("still.png", "dreamed.png", "dogs", threads=1)
    dreamed = dreamflow.dream_array(picture(), "dogs", threads=1)
    assert np.array_equal(dreamed, read_still(Path("dreamed.png")))
    assert dreamed.dtype == np.uint8
    again = dreamflow.dream_array(picture(), dreamflow.load_preset("dogs", {"seed": 1}))
    assert not np.array_equal(dreamed, again)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"\[H, W, 3\] in RGB, not \[8, 8\]"),
        (np.zeros((8, 8, 3)), "not float64"),
        ([[1]], "NumPy array .* not a list"),
    ],
)
def test_what_is_no_picture_is_refused(array, message):
    with pytest.raises(UsageError, match=message):
        dreamflow.dream_array(array)


def test_a_view_that_is_not_there_is_refused(folder):
    with pytest.raises(UsageError, match="progress is one of auto, bar, json, none"):
        dreamflow.render_clip("clip.mp4", "dream.mp4", progress="tqdm")  # type: ignore[arg-type]
    assert not Path("dream.mp4").exists()


def test_progress_is_plain_lines_where_there_is_no_terminal(folder, capsys):
    dreamflow.render_clip("clip.mp4", "dream.mp4", "whisper", progress="bar")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == [f"frame {n}/3" for n in (1, 2, 3)]


def test_a_callback_that_raises_stops_the_render(folder):
    def stop(event: api.Event) -> None:
        if isinstance(event, api.RenderedFrame):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dreamflow.render_clip("clip.mp4", "dream.mp4", "whisper", progress=stop)
    assert not Path("dream.mp4").exists()


def test_requests_say_what_the_arguments_say():
    made = api._of_clip("a.mp4", "b.mp4", "dogs", "1:02.5", 70, 23.976, "64x48", "cpu", 3)
    assert isinstance(made, job.VideoRequest)
    assert (made.source, made.target, made.threads) == (Path("a.mp4"), "b.mp4", 3)
    assert made.start is not None
    assert float(made.start.value) == 62.5
    assert made.rate is not None
    assert made.rate.limit_denominator(1001) * 1001 == 24000
    assert made.size == Box(64, 48)


# ── presets of values ──


def test_values_say_what_a_file_says():
    by_text = load("dogs", overrides=["dream.octaves=3", "dream.step_size=0:(1), 5s:(2)"])
    curve = {"octaves": 3, "step_size": "0:(1), 5s:(2)"}
    assert dreamflow.load_preset("dogs", {"dream": curve}) == by_text
    assert dreamflow.load_preset("dogs") == load("dogs")


def test_numbers_and_arrays_of_numpy_and_paths_are_values():
    direction = np.linspace(-1, 1, 4, dtype=np.float32)
    shared = [0, 1]
    look = dreamflow.make_preset(
        {"layer": "fire8", "direction": direction, "octaves": shared},
        {"layer": "fire5", "weight": np.float64(0.25), "octaves": shared},
        mask=Path("/tmp/mask.png"),
    )
    assert look.objectives[1].weight == 0.25
    assert look.mask == "/tmp/mask.png"
    assert look.objectives[0].octaves == look.objectives[1].octaves == (0, 1)


def test_cycles_and_curves_are_values():
    look = dreamflow.make_preset(
        {"cycle": ["fire5", "fire7"], "every": "4s", "fade": "1s"}, strength={0: 0, 30: 1}
    )
    assert len(look.objectives) == 2
    assert "strength" in look.curves


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"layer": object()}, "a value of type object is no setting"),
        ({"layer": "fire8", "wieght": 2}, "weight"),
        ({"layer": "fire8", "weight": "much"}, "objectives.0.weight"),
    ],
)
def test_wrong_values_are_refused_by_name(objective, message):
    with pytest.raises(PresetError, match=message):
        dreamflow.make_preset(objective)
