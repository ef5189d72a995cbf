"""dreamflow renders DeepDream video: clips, endless zooms and preset-driven batches.

From Python its names are those of `__all__`, described in `dreamflow.api`. They are loaded when
they are first asked for, for torch takes its time.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamflow.api import (
        dream_array,
        dreamed_frames,
        list_layers,
        list_networks,
        list_presets,
        load_preset,
        make_preset,
        measure_clip,
        render_clip,
        render_picture,
        render_zoom,
    )
    from dreamflow.errors import DreamflowError
    from dreamflow.preset import Preset
    from dreamflow.seeds import Noise, Solid

__all__ = [
    "DreamflowError",
    "Noise",
    "Preset",
    "Solid",
    "dream_array",
    "dreamed_frames",
    "list_layers",
    "list_networks",
    "list_presets",
    "load_preset",
    "make_preset",
    "measure_clip",
    "render_clip",
    "render_picture",
    "render_zoom",
]

try:
    __version__ = version("dreamflow")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"

_HOMES = {"DreamflowError": "errors", "Preset": "preset", "Noise": "seeds", "Solid": "seeds"}
"""Where names come from that are not of `api`."""

if not TYPE_CHECKING:  # or editors would take every name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
