"""What a worker does: a task, and word of it as it goes.

The same generator runs in a process beside the batch and in an actor on a cluster. What it yields
is small and plain, for it travels.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch

from dreamflow import ensemble, job, machine, zoom_job
from dreamflow.ensemble import AnyExtractor
from dreamflow.errors import DreamflowError
from dreamflow.film import Event, Finished, Leg, Parts, Started
from dreamflow.job import VideoRequest
from dreamflow.preset import Preset
from dreamflow.render import RenderedFrame, layers_of
from dreamflow.zoom_job import ZoomRequest

logger = logging.getLogger("dreamflow")


@dataclass(frozen=True)
class Whole:
    """Make the output; of a film, what is missing of it."""

    is_picture: bool = False


@dataclass(frozen=True)
class Divide:
    """Say in which parts the film can be made at once."""

    least_frames: int
    """Of a part."""


@dataclass(frozen=True)
class Task:
    """Something for one worker."""

    number: int
    """What messages of it are known by."""
    request: VideoRequest | ZoomRequest
    what: Whole | Divide | Leg


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
class Divided:
    """The parts that were asked for."""

    parts: Parts


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
    begun: bool = True
    """Whether it had taken up the task."""


Message = Began | Advanced | Divided | Said | Done | Failed | Lost


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
    if isinstance(task.what, Divide):
        assert isinstance(task.request, VideoRequest)
        yield Divided(job.divide_video(task.request, task.what.least_frames))
    else:
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
    request = task.request
    if isinstance(request, ZoomRequest):
        return zoom_job.render_film(request)
    if isinstance(task.what, Leg):
        return job.render_leg(request, task.what, _extractor(request.preset, request.device))
    assert isinstance(task.what, Whole)
    return job.render_picture(request) if task.what.is_picture else job.render_video(request)


def _extractor(preset: Preset, device: str) -> AnyExtractor:
    """The network of a preset, loaded once for all legs that a worker makes of one film."""
    return _built(preset.network, tuple(layers_of(preset)), machine.pick_device(device))


@functools.lru_cache(maxsize=1)
def _built(network: str, layers: tuple[tuple[str, str], ...], device: torch.device) -> AnyExtractor:
    return ensemble.build(network, layers, device)


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
