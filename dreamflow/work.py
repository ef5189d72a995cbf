"""What a worker does: a task, and word of it as it goes.

The same generator runs in a process beside the batch and in an actor on a cluster. What it yields
is small and plain, for it travels.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from dreamflow import job, zoom_job
from dreamflow.errors import DreamflowError
from dreamflow.film import Event, Finished, Started
from dreamflow.job import VideoRequest
from dreamflow.render import RenderedFrame
from dreamflow.zoom_job import ZoomRequest

logger = logging.getLogger("dreamflow")


@dataclass(frozen=True)
class Task:
    """Something for one worker."""

    number: int
    """What messages of it are known by."""
    request: VideoRequest | ZoomRequest
    is_picture: bool = False


@dataclass(frozen=True)
class Began:
    """The work is under way."""

    frames: int
    """That are dreamed for it in all."""
    done: int = 0
    """Those of them that were done before."""


@dataclass(frozen=True)
class Advanced:
    """One more frame is dreamed."""

    index: int
    """Its place in the source."""
    seconds: float


@dataclass(frozen=True)
class Said:
    """A line for the log."""

    level: int
    text: str


@dataclass(frozen=True)
class Done:
    """All of the task is finished."""


@dataclass(frozen=True)
class Failed:
    """The task cannot be done, whoever tries."""

    exit_code: int
    text: str
    frame: int | None = None
    """The frame of its file that it failed at, if that is known."""


@dataclass(frozen=True)
class Lost:
    """The worker is gone; somebody else may have better luck."""

    text: str


Message = Began | Advanced | Said | Done | Failed | Lost


def perform(task: Task) -> Generator[Message, None, None]:
    """Do a task; the last message says how it went. Closing the generator early stops the work."""
    said: deque[Said] = deque()
    with _overheard(said):
        try:
            with contextlib.closing(_messages(task)) as messages:
                for message in messages:
                    yield from _emptied(said)
                    yield message
        except DreamflowError as error:
            yield from _emptied(said)
            yield Failed(error.exit_code, str(error), error.frame)
        except Exception as error:
            yield from _emptied(said)
            logger.debug("task %d failed", task.number, exc_info=True)
            yield Failed(70, f"internal error ({type(error).__name__}: {error})")


def _messages(task: Task) -> Generator[Message, None, None]:
    with contextlib.closing(_events(task)) as events:
        for event in events:
            if isinstance(event, Started):
                coming, done = event.frames_to_come, event.frames_done
                coming = event.info.frame_count if coming is None else coming
                yield Began(coming + done, done)
            elif isinstance(event, RenderedFrame):
                yield Advanced(event.index, event.seconds)
    yield Done()


def _events(task: Task) -> Generator[Event | Finished, None, None]:
    if isinstance(task.request, ZoomRequest):
        return zoom_job.render_film(task.request)
    if task.is_picture:
        return job.render_picture(task.request)
    return job.render_video(task.request)


@contextlib.contextmanager
def _overheard(said: deque[Said]) -> Iterator[None]:
    """What the library logs meanwhile goes into `said`, and nowhere else."""
    handler = _Ear(said)
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


class _Ear(logging.Handler):
    def __init__(self, said: deque[Said]) -> None:
        super().__init__(logging.INFO)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(Said(record.levelno, record.getMessage()))


def _emptied(said: deque[Said]) -> Iterator[Said]:
    while said:
        yield said.popleft()
