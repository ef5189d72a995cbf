"""What tests of batches begin with and look at in the end."""

from __future__ import annotations

from pathlib import Path

from dreamflow.video.reader import open_clip

QUICK = "set: {dream: {octaves: 1, steps: 1}, follow: {octaves: 1, steps: 1}}"
"""For a manifest: renders that dream, but not for long."""


def write(text: str, name: str = "night.yaml") -> str:
    """Write a manifest into the working folder; gives its name."""
    Path(name).write_text(text, encoding="utf-8")
    return name


def pictures(path: str | Path) -> list[bytes]:
    """Of all frames of a film, to compare bit for bit."""
    with open_clip(path) as clip:
        return [frame.tobytes() for frame in clip.frames()]
