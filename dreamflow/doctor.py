"""What dreamflow stands on, looked at piece by piece: each is examined even if another is broken.

Everything is imported where it is examined, for a broken import is one of the findings.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dreamflow
from dreamflow.errors import UnavailableError

FINE, MISSING, ABSENT = "fine", "MISSING", "-"
"""States of a check; `ABSENT` is what dreamflow can do without."""

_ESSENTIAL_CODEC = "h264"
"""What an .mp4 becomes unless something else is asked for."""


@dataclass(frozen=True)
class Check:
    """One finding."""

    what: str
    state: str
    """One of `FINE`, `MISSING`, `ABSENT`."""
    detail: str


def examine() -> Iterator[Check]:
    """Look at everything, the most telling first."""
    yield Check("dreamflow", FINE, f"{dreamflow.__version__}, Python {platform.python_version()}")
    for what, look in _LOOKS.items():
        yield from _finding(what, look)


def require(checks: Sequence[Check]) -> None:
    """Raise UnavailableError if something essential is missing."""
    missing = [check.what for check in checks if check.state == MISSING]
    if missing:
        raise UnavailableError(f"missing or broken: {', '.join(missing)} (see the list above)")


def _finding(what: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except Exception as error:  # whatever is broken, the other checks are still wanted
        yield Check(what, MISSING, str(error) or type(error).__name__)


def _ffmpeg() -> Iterator[Check]:
    from dreamflow.video import ffmpeg

    yield Check("ffmpeg", FINE, f"{ffmpeg.version()} at {ffmpeg.find()}")


def _encoders() -> Iterator[Check]:
    from dreamflow.video import ffmpeg
    from dreamflow.video.writer import CODECS

    present = ffmpeg.encoders()
    for codec in CODECS.values():
        without = MISSING if codec.name == _ESSENTIAL_CODEC else ABSENT
        state = FINE if codec.encoder in present else without
        yield Check(f"  {codec.name}", state, codec.encoder)


def _torch() -> Iterator[Check]:
    import torch

    detail = f"{torch.__version__}, {torch.get_num_threads()} threads"
    yield Check("torch", FINE, detail)


def _devices() -> Iterator[Check]:
    from dreamflow import machine

    for name in machine.DEVICES[1:]:
        try:
            device = machine.pick_device(name)
            yield Check(f"  {name}", FINE, _device_name(device.type))
        except UnavailableError:
            yield Check(f"  {name}", ABSENT, "not on this machine")


def _device_name(kind: str) -> str:
    import torch

    return torch.cuda.get_device_name() if kind == "cuda" else platform.machine()


def _opencv() -> Iterator[Check]:
    from dreamflow.video.stills import cv2  # says what to install if it does not load

    yield Check("opencv", FINE, cv2.__version__)


def _weights() -> Iterator[Check]:
    from dreamflow import networks

    extractor = networks.build(networks.DEFAULT, [networks.list_layers(networks.DEFAULT)[0].name])
    digest = extractor.weights_sha256[:16]
    yield Check("weights", FINE, f"{networks.DEFAULT}, SHA-256 {digest}… as expected")
    for name in networks.list_networks():
        place = networks.where_weights_are(name)
        if place != "embedded":
            yield Check(f"  {name}", FINE if networks.is_at_hand(name) else ABSENT, place)


def _presets() -> Iterator[Check]:
    from dreamflow import preset

    yield Check("presets", FINE, ", ".join(each.name for each in preset.shipped()))


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(os.curdir).free
    yield Check("disk", FINE, f"{free / 1e9:.1f} GB free in {os.getcwd()}")


_LOOKS: dict[str, Callable[[], Iterator[Check]]] = {
    "ffmpeg": _ffmpeg,
    "encoders": _encoders,
    "opencv": _opencv,
    "torch": _torch,
    "devices": _devices,
    "weights": _weights,
    "presets": _presets,
    "disk": _disk,
}
