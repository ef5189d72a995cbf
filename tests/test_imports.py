"""The architecture, read from the source: who imports whom, who prints, what is never used."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dreamflow

ROOT = Path(dreamflow.__file__).parent

LAYERS = {
    "Python": {"api"},
    "command line": {"__main__", "cli", "options", "progress", "doctor", "interrupts"},
    "running": {"batch", "caption", "checkpoint", "compare", "film", "heatmap_job", "job",
                "job_folder", "journal", "measure", "network_sheets", "plan", "plots", "preview",
                "props", "ray_engine", "render", "report", "sheets", "stage", "watch", "work",
                "workers", "zoom", "zoom_job", "zoom_preview"},
    "description": {"complaints", "cycles", "manifest", "preset", "strict_yaml"},
    "media": {"audio", "flow_cache", "flow_files", "reel", "seeds", "shots", "video.colors",
              "video.ffmpeg", "video.limits", "video.probe",
              "video.reader", "video.scratch", "video.sequences", "video.stills", "video.stream",
              "video.writer"},
    "numeric core": {"camera", "color", "dream", "efficientnet_lite", "ensemble", "feedback",
                     "filters", "flow", "gauge", "ground", "heatmap", "lookahead", "machine",
                     "masks", "mattes", "networks",
                     "objectives", "optimizers", "pixels", "raft", "regularizers", "scene",
                     "shaping", "tiles", "timm_models", "vectors", "warp"},
    "vocabulary": {"ahead", "classes", "errors", "frames", "schedule", "settings"},
}  # fmt: skip
"""From top to bottom: a module may import from its own layer, without cycles, and from below."""

PRINTERS = {"cli", "progress", "doctor"}
WITHOUT_TORCH = [
    "ahead", "classes", "complaints", "errors", "frames", "schedule", "settings", "strict_yaml",
    "cycles", "manifest", "preset", "audio",
]  # fmt: skip


def name_of(path: Path) -> str:
    """`video.reader` for dreamflow/video/reader.py; a package's own file is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in ROOT.rglob("*.py")}
PACKAGES = {name_of(path) for path in ROOT.rglob("__init__.py")}
MODULES = sorted(TREES.keys() - PACKAGES)


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Every dotted name an import statement could mean, wherever it stands.

    Those inside functions and under TYPE_CHECKING count too: a type is knowledge of a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the direction"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(module: str) -> set[str]:
    """The modules of dreamflow that `module` imports."""
    own = (name.removeprefix("dreamflow.") for name in imported_names(TREES[module]))
    return set(own) & set(MODULES)


def layer_of(module: str) -> int:
    return next(i for i, modules in enumerate(LAYERS.values()) if module in modules)


def calls_in(tree: ast.AST) -> Iterator[str]:
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def names_in(tree: ast.AST) -> Iterator[str]:
    """Attributes with what they belong to, and keywords of calls: `sys.stdout`, `shell=`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.keyword):
            yield f"{node.arg}="


def test_every_module_has_its_place_in_the_layers():
    placed = [module for modules in LAYERS.values() for module in modules]
    assert sorted(placed) == MODULES, "add new modules to LAYERS, where they belong"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    upwards = {other for other in imports_of(module) if layer_of(other) < layer_of(module)}
    assert not upwards, f"{module} must not know of {upwards}"


def test_no_imports_go_round_in_circles():
    graph = {module: imports_of(module) for module in MODULES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


def test_the_imports_that_are_there_are_seen():
    assert {"render", "preset", "video.writer"} <= imports_of("job")  # at the top
    assert "preset" in imports_of("render")  # for types only
    assert "networks" in imports_of("render")  # inside a function


def test_the_renderer_and_the_numeric_core_touch_no_files():
    core = {"render"} | LAYERS["numeric core"] - {"machine", "networks", "timm_models"}
    for module in core:
        assert not imports_of(module) & LAYERS["media"], module
        assert not {"open", "Path"} & set(calls_in(TREES[module])), module
        assert not {"pathlib", "os", "io", "shutil"} & set(imported_names(TREES[module])), module


@pytest.mark.parametrize("module", sorted(set(MODULES) - PRINTERS))
def test_the_library_never_prints(module):
    tree = TREES[module]
    assert not {"print", "click.echo", "click.secho"} & set(calls_in(tree))
    assert not {"sys.stdout", "sys.stderr"} & set(names_in(tree))


@pytest.mark.parametrize("module", sorted(set(MODULES) - LAYERS["command line"]))
def test_the_library_knows_no_command_line(module):
    packages = {name.partition(".")[0] for name in imported_names(TREES[module])}
    assert not packages & {"rich", "click"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_runs_what_it_was_given(module):
    tree = TREES[module]
    assert not {"eval", "exec", "os.system", "pickle.load", "pickle.loads"} & set(calls_in(tree))
    assert "shell=" not in set(names_in(tree))
    assert "cv2.VideoCapture" not in set(names_in(tree))


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_the_description_needs_no_torch(module):
    heavy = "{'torch', 'torchvision', 'cv2'}"
    program = f"import sys, dreamflow.{module}; assert {heavy}.isdisjoint(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
