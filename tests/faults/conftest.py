"""The fault suite: what goes wrong, as the user of the command meets it.

One test or more for every fault that the command must survive, `test_row_NN_...` by the fault's
number, in a file for each group of them; `commands.Faulty` runs the command. After every fault: the
stated exit code, exactly one error line, no traceback, no ffmpeg left running, the output absent or
as it was, and finished frames kept for the same command to go on from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Faulty, assert_nothing_runs_in

from dreamflow.frames import Array


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    (tmp_path / "work").mkdir()
    command = Faulty(tmp_path / "work")
    yield command
    command.end_all()
    assert_nothing_runs_in(command.folder)


@pytest.fixture(scope="session")
def film(media) -> Path:
    """A clip of 120 frames of 64x48 with sound: two chunks and a half."""
    return media.draw(
        "film.mp4",
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=4.8", "-f", "lavfi", "-i", "sine=d=4.8"),
        *("-frames:v", "120", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"),
    )


@pytest.fixture(scope="session")
def uninterrupted(film, tmp_path_factory) -> Array:
    """Every frame of the film's dream, rendered without a fault."""
    command = Faulty(tmp_path_factory.mktemp("uninterrupted"))
    told = command.video(film, "-o", "out.mp4")
    assert told.code == 0, told.err
    return command.frames("out.mp4")
