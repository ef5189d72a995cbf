"""What tests of batches begin with and look at in the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dreamflow import batch, manifest, plan
from dreamflow.batch import Item
from dreamflow.film import Conditions
from dreamflow.video.reader import open_clip

if TYPE_CHECKING:
    from conftest import Media

QUICK = "set: {dream: {octaves: 1, steps: 1}, follow: {octaves: 1, steps: 1}}"
"""For a manifest: renders that dream, but not for long."""


def write(text: str, name: str = "night.yaml") -> str:
    """Write a manifest into the working folder; gives its name."""
    Path(name).write_text(text, encoding="utf-8")
    return name


def items(text: str, folder: Path = Path()) -> list[Item]:
    """The items of a manifest of that text in a folder, for workers of one thread."""
    entries = manifest.read(folder / write(text))
    return batch.survey(plan.plan(entries, Conditions(threads=1, device="cpu")))


def pictures(path: str | Path) -> list[bytes]:
    """Of all frames of a film, to compare bit for bit."""
    with open_clip(path) as clip:
        return [frame.tobytes() for frame in clip.frames()]


def break_in_the_middle(target: str | Path, media: Media) -> None:
    """Write a clip of 24 frames of which one in the middle cannot be read."""
    data = bytearray(media.counter("whole.mp4", "-g", "1", frames=24).read_bytes())
    begin = data.find(b"mdat") + 4
    length = int.from_bytes(data[begin - 8 : begin - 4], "big") - 8
    at = begin + length // 2
    data[at : at + length // 6] = bytes(length // 6)
    Path(target).write_bytes(data)


def wait_for(happens: Callable[[], bool], seconds: float) -> bool:
    """Whether it happens within so many seconds."""
    until = time.monotonic() + seconds
    while not happens() and time.monotonic() < until:
        time.sleep(0.05)
    return happens()


def children_of(pid: int) -> set[int]:
    """The processes that descend from one."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == pid:
                found |= {int(entry.name)} | children_of(int(entry.name))
    return found
