"""What a render costs against what it could: `pytest tests/bench --benchmark-only -n 0 -m ''`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch

from dreamflow import dream, machine, networks, objectives, preset, render, zoom
from dreamflow.frames import Moment, to_image
from dreamflow.job import VideoRequest, prepare, render_video, without_motion
from dreamflow.settings import Dream
from dreamflow.video.reader import open_clip

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "samples" / "clip.mp4"
FRAMES = 48
THREADS = 2


@pytest.fixture
def engine():
    """Built for each test, as that sets the threads of the process."""
    look = preset.load("base", overrides=["follow.settle=false"])  # all steps, in every frame
    return prepare(look, Fraction(25), "cpu", THREADS)


@pytest.fixture(scope="module")
def sources():
    with open_clip(CLIP) as clip:
        return [frame.copy() for _, frame in zip(range(FRAMES), clip.frames(), strict=False)]


def bare_passes(engine, size, settings) -> None:
    """The forward and backward passes of one frame and nothing else."""
    for _, (height, width) in dream.octave_sizes(size, settings, engine.extractor.minimum_side):
        image = torch.rand(1, 3, height, width).contiguous(memory_format=torch.channels_last)
        for _ in range(settings.steps):
            leaf = image.detach().requires_grad_(True)
            torch.autograd.grad(objectives.total(engine.terms, engine.extractor(leaf)), leaf)


def test_a_whole_render_against_its_bare_passes(compare, engine, sources, tmp_path):
    """The passes on all threads."""
    size = sources[0].shape[:2]

    def whole() -> None:
        request = VideoRequest(
            CLIP, str(tmp_path / "out.mp4"), engine.preset, overwrite=True, threads=THREADS,
            end=Moment(Fraction(FRAMES), in_frames=True),
        )  # fmt: skip
        for _ in render_video(request):
            pass

    def bare() -> None:
        with machine.more_threads(engine.aside):
            bare_passes(engine, size, engine.preset.dream)
            for _ in range(FRAMES - 1):
                bare_passes(engine, size, render.gentler(engine.preset))

    assert compare("whole render / bare passes (at most 1.3)", whole, bare, rounds=5) <= 1.3


def test_a_zoom_frame_against_its_bare_passes(compare):
    """Moving, refreshing and colouring the picture, and shaping the gradient, are the rest."""
    look = preset.load("dive")
    engine = prepare(look, Fraction(30), "cpu", THREADS, make_flow=without_motion)
    seed = to_image(torch.randint(0, 256, (180, 320, 3), dtype=torch.uint8).numpy())
    first = next(zoom.render_zoom(seed, engine))

    def frame() -> None:
        next(zoom.render_zoom(seed, engine, canvas=first.carry))

    def bare() -> None:
        bare_passes(engine, (180, 320), render.gentler(engine.preset))

    assert compare("zoom frame / bare passes (at most 1.2)", frame, bare, rounds=41) <= 1.2


def test_two_renders_at_once_against_one(compare, tmp_path):
    """Each on all threads: shared fairly, they take two to four times as long as one."""

    def renders(count: int) -> None:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "dreamflow", "video", CLIP, "-o", tmp_path / f"{place}.mp4",
                 "--end", "12f", "--threads", str(THREADS), "--overwrite", "--quiet"]
            )
            for place in range(count)
        ]  # fmt: skip
        assert [each.wait() for each in running] == [0] * count

    label = "two renders at once / one (at most 4)"
    assert compare(label, partial(renders, 2), partial(renders, 1), rounds=3) <= 4


def test_a_carried_frame_against_one_from_scratch(compare, engine, sources):
    """Frames in a row, as motion is found while the one before is dreamed."""
    first = next(render.render(sources[:1], engine))
    rest = list(enumerate(sources))[1:9]

    def carried() -> None:
        arrays = (array for _, array in rest)
        for _ in render.render(arrays, engine, first_index=1, carry=first.carry):
            pass

    def scratch() -> None:
        for index, array in rest:
            next(render.render([array], engine, first_index=index))

    label = "carried frame / from scratch (at most 0.25)"
    assert compare(label, carried, scratch, rounds=3) <= 0.25


def test_a_deeper_objective_without_weight_costs_nothing(compare, sources, tmp_path):
    """Two frames, so that one from scratch and one carried are in it."""
    text = "extends: base\nobjectives:\n- {layer: fire4}\n"
    engines = []
    for name, more in (("with", "- {layer: fire9, weight: 0*t}\n"), ("without", "")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text + more)
        engines.append(prepare(preset.load(str(path)), Fraction(25), "cpu", THREADS))

    def rendered(engine) -> None:
        for _ in render.render(sources[:2], engine):
            pass

    weightless, alone = (partial(rendered, engine) for engine in engines)
    label = "with a weightless objective / without (at most 1.03)"
    assert compare(label, weightless, alone, rounds=11) <= 1.03


def test_many_objectives_against_one(compare):
    """Of one network, up to the same layer: they share its passes."""
    deepest = objectives.LayerEnergy("features.11")
    mixed = [
        deepest,
        objectives.LayerMagnitude("features.9", weight=-0.3),
        objectives.Channels("features.11", (12, 40)),
        objectives.Direction("features.9", tuple(float(i % 5 == 2) for i in range(384))),
    ]
    extractor = networks.build(networks.DEFAULT, ["features.9", "features.11"])
    image, settings = torch.rand(1, 3, 270, 480), Dream(octaves=2, steps=3)
    many, one = (
        partial(dream.dream, image, extractor, terms, settings) for terms in (mixed, [deepest])
    )
    assert compare("four objectives / one (at most 1.1)", many, one, rounds=15) <= 1.1


@pytest.mark.parametrize(
    ("name", "layer", "wanted"),
    [("squeezenet1_1", "features.11", 2.0), ("googlenet", "inception4c", 1.5)],
)
def test_a_frame_from_scratch_against_the_naive_loop(compare, tmp_path, name, layer, wanted):
    settings = preset.load("base").dream
    image = to_image(torch.randint(0, 256, (270, 480, 3), dtype=torch.uint8).numpy())
    extractor = build_with_random_weights(name, layer, tmp_path)
    terms = [objectives.LayerEnergy(layer)]

    def ours() -> None:
        dream.dream(image, extractor, terms, settings)

    arguments = [name, layer, 270, 480, settings.octaves, settings.steps, THREADS]
    with naive_loop([str(argument) for argument in arguments]) as naive:
        ratio = compare(f"{name}: ours / naive loop (at most {1 / wanted:.2f})", ours, naive)
    assert ratio <= 1 / wanted


def build_with_random_weights(name: str, layer: str, folder: Path) -> networks.Extractor:
    if name == "squeezenet1_1":
        return networks.build(name, [layer])
    import torchvision
    from safetensors.torch import save_file

    module = getattr(torchvision.models, name)(aux_logits=True, init_weights=False)
    weights = folder / f"{name}.safetensors"
    save_file(module.state_dict(), weights)
    return networks.build(f"{name}:{weights}", [layer])


@contextmanager
def naive_loop(arguments: list[str]) -> Iterator:
    """A process that dreams one frame a call; the call returns its seconds."""
    command = [sys.executable, str(Path(__file__).with_name("naive.py")), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def frame() -> float:
            child.stdin.write("\n")
            child.stdin.flush()
            return float(child.stdout.readline())

        frame()
        yield frame
        child.stdin.close()
