"""The same tasks on a Ray cluster: an actor for each worker, found room for by Ray.

Inputs, presets' files and results lie on a folder that all nodes see under one path, and all nodes
have the same dreamflow. What travels is a request and a few bytes for each frame; chunks and states
stay in the job's folder. So a node that dies costs the leg that it was at, from the last chunk on;
and if the driver dies, the same command goes on from the journals.

Imported when `--ray` is given, and never else: Ray is the extra `ray`.

**What limits a thousand GPUs.** N legs of s seconds take W workers about

    T = max(ceil(N / W) * (s + h), N * (d + b * s / B)),    B = max(0.5, W / 100)

with h what a leg costs its worker besides its frames, d what it costs the driver, b what the driver
pays for a bundle of what a worker says, and B the seconds between two bundles. Sleeping tasks on 1
and 2 simulated nodes (`tests/bench/ray_scale.py`, two cores, Ray 2.60) give them, and are held
against runs on 4 there (off by 1.1% at most on a quiet machine): h = 30 ms, d = 9 ms, b = 1.8 ms,
and 41 bytes over Ray a frame. A leg with a film in it also opens the clip and lays out its curves,
a second or so. Were B always half a second, legs of 40 s would leave a driver time for 250 workers;
as it is, it is busy two fifths of its time with 1,000. Sooner comes the shared folder: each worker
reads the whole of a source once for its SHA-256, and each leg its stretch of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dreamflow.errors import UnavailableError
from dreamflow.job import VideoRequest
from dreamflow.preset import Preset, files, with_file
from dreamflow.work import Done, Failed, Lost, Message, Task, perform

logger = logging.getLogger("dreamflow")

BUNDLE_SECONDS = 0.5
"""How long an actor collects what it has to say, at least."""
BUNDLES_A_SECOND = 100
"""That a driver hears of all its actors together: a thousand of them would talk it down."""

_PARTING_SECONDS = 5.0
_MOST_STILLBORN = 6

# Nothing is to be told to anybody, and nothing done that was not asked for.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that is late must not start another cluster
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}

Perform = Callable[[Any], Generator[Message, None, None]]


def load() -> Any:
    """The module `ray`, set up to be quiet; raises UnavailableError if it is not installed."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    try:
        import ray
    except ImportError:
        raise UnavailableError("--ray needs Ray: pip install 'dreamflow[ray]'") from None
    return ray


class RayPool:
    """Actors on the cluster at `address`, with `threads` CPUs and `gpus` GPUs each.

    `local` is a cluster of this machine alone, that lasts as long as the pool; `auto` the one that
    this machine is a node of. There are as many actors as the cluster has room for, `most` at most;
    what it has room for is looked at time and again.

    Raises UnavailableError where there is no such cluster.
    """

    def __init__(
        self,
        address: str,
        *,
        threads: int,
        gpus: float = 0.0,
        most: int | None = None,
        do: Perform = perform,
    ) -> None:
        self._ray = load()
        self._address, self._threads, self._gpus, self._most = address, threads, gpus, most
        self._do = do
        self._free: list[Any] = []
        self._busy: dict[int, Any] = {}
        self._coming: list[Any] = []
        """Actors that Ray has no room for yet, or is starting; no task waits for one of them."""
        self._arrived: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._stillborn, self._why = 0, ""
        """Actors that could not begin since the last one that could, and what Ray said of it."""
        self._has_warned = False
        self._heard: queue.SimpleQueue[tuple[int, tuple[Message, ...]]] = queue.SimpleQueue()
        self._size, self._sized = 0, float("-inf")
        self._threads_running: list[threading.Thread] = []

    def __enter__(self) -> Self:
        before = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(**self._how_to_connect())
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnavailableError(
                f"no Ray cluster at {self._address!r}: {reason} (start one with "
                "`ray start --head`, or use --ray local)"
            ) from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray takes it for itself
        self._actor = self._ray.remote(
            num_cpus=self._threads, num_gpus=self._gpus, max_restarts=0, max_task_retries=0
        )(_Actor)
        return self

    def _how_to_connect(self) -> dict[str, Any]:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        if self._address != "local":
            return {"address": self._address, **quiet}
        room = {"num_cpus": self._threads * (self._most or 1)}
        memory = {"object_store_memory": 100 << 20}  # nothing large is ever put there
        alone = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        return {"address": "local", **alone, **room, **memory, **quiet}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for actor in self._all():
            with contextlib.suppress(Exception):  # one that is gone already
                self._ray.kill(actor)
        until = time.monotonic() + _PARTING_SECONDS
        for thread in self._threads_running:  # none should ask Ray for anything afterwards
            thread.join(max(0.0, until - time.monotonic()))
        self._ray.shutdown()

    @property
    def size(self) -> int:
        """Actors that the cluster has room for; nodes come and go."""
        if time.monotonic() - self._sized > 1:
            nodes = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
            self._size, self._sized = sum(map(self._room_on, nodes)), time.monotonic()
        return self._size if self._most is None else min(self._size, self._most)

    def _room_on(self, resources: Mapping[str, float]) -> int:
        """Actors that fit on a node; none can lie across two."""
        room = int(resources.get("CPU", 0) / self._threads)
        return min(room, int(resources.get("GPU", 0) / self._gpus)) if self._gpus else room

    @property
    def idle(self) -> int:
        with contextlib.suppress(queue.Empty):
            while True:
                self._receive(*self._arrived.get_nowait())
        if not self._all():
            self._check_hope()
        while not self._is_barren and len(self._all()) < self.size:
            actor = self._actor.remote(self._do, bundle_seconds(self.size))
            self._coming.append(actor)
            self._beside(self._await, actor)
        return len(self._free)

    def _all(self) -> list[Any]:
        return [*self._free, *self._busy.values(), *self._coming]

    @property
    def _is_barren(self) -> bool:
        """Whether no actor that is asked for ever begins."""
        return self._stillborn >= max(_MOST_STILLBORN, 2 * self._size)

    def _await(self, actor: Any) -> None:
        try:
            self._ray.get(actor.greet.remote())
            self._arrived.put((actor, None))
        except Exception as error:
            self._arrived.put((actor, error))

    def _receive(self, actor: Any, error: Exception | None) -> None:
        """Count on an actor; in the place of one whose node has gone another one is asked for."""
        self._coming.remove(actor)
        if error is None:
            self._free.append(actor)
            self._stillborn = 0
        else:
            self._stillborn, self._why = self._stillborn + 1, _last_line(error)

    def _check_hope(self) -> None:
        """Nobody should wait for ever for a worker that cannot come."""
        if self._is_barren:
            raise UnavailableError(
                f"no worker begins on the nodes of the cluster ({self._why}): is the same "
                "dreamflow installed on all of them?"
            )
        needs = f"{self._threads} CPUs" + (f" and {self._gpus:g} GPUs" if self._gpus else "")
        if self.size == 0 and self._address == "local":
            raise UnavailableError(f"this machine has no room for a worker of {needs}")
        if self.size == 0 and not self._has_warned:
            self._has_warned = True
            logger.warning("no node has room for a worker of %s: waiting for one", needs)

    def start(self, task: Task) -> None:
        actor = self._free.pop()
        self._busy[task.number] = actor
        said = actor.perform.options(num_returns="streaming").remote(_anywhere(task))
        self._beside(self._listen, task.number, said)

    def _beside(self, work: Callable[..., None], *words: Any) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)
        thread.start()
        self._threads_running = [each for each in self._threads_running if each.is_alive()]
        self._threads_running.append(thread)

    def _listen(self, number: int, said: Any) -> None:
        """Pass on what an actor says, to its end."""
        begun = False
        try:
            for reference in said:
                self._heard.put((number, self._ray.get(reference)))
                begun = True
        except Exception as error:
            text = f"its worker or node is gone ({type(error).__name__}: {_last_line(error)})"
            self._heard.put((number, (Lost(text, begun=begun),)))

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        with contextlib.suppress(queue.Empty):
            number, messages = self._heard.get(timeout=timeout)
            while True:
                for message in messages:
                    if isinstance(message, Done | Failed | Lost):
                        self._over(number, message)
                    yield number, message
                number, messages = self._heard.get_nowait()

    def _over(self, number: int, message: Message) -> None:
        actor = self._busy.pop(number)
        if not isinstance(message, Lost):
            self._free.append(actor)


class _Actor:
    """A worker on a node. Its network stays loaded from one leg of a film to the next."""

    def __init__(self, do: Perform, bundle_seconds: float) -> None:
        self._do, self._bundle_seconds = do, bundle_seconds

    def greet(self) -> None:
        """Be there."""

    def perform(self, task: Any) -> Iterator[tuple[Message, ...]]:
        yield from bundled(self._do(task), self._bundle_seconds)  # Ray wants to see a `yield`


def _last_line(error: Exception) -> str:
    """What Ray says of an error, without the traceback before it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]


def bundle_seconds(workers: int) -> float:
    """How long each of so many actors collects what it has to say."""
    return max(BUNDLE_SECONDS, workers / BUNDLES_A_SECOND)


def bundled(
    messages: Iterator[Message], seconds: float = BUNDLE_SECONDS
) -> Iterator[tuple[Message, ...]]:
    """The messages, those of some seconds together, after an empty bundle: the work begins."""
    yield ()
    bundle: list[Message] = []
    since = time.monotonic()
    for message in messages:
        bundle.append(message)
        over = isinstance(message, Done | Failed | Lost)
        if over or time.monotonic() - since >= seconds:
            yield tuple(bundle)
            bundle, since = [], time.monotonic()
    if bundle:
        yield tuple(bundle)


def _anywhere(task: Task) -> Task:
    """The task with full paths: who does it has another working folder."""
    request = replace(
        task.request,
        target=_full(task.request.target),
        preset=_with_full_paths(task.request.preset),
    )
    if isinstance(request, VideoRequest):
        return replace(task, request=replace(request, source=request.source.absolute()))
    if isinstance(request.seed, Path):
        request = replace(request, seed=request.seed.absolute())
    return replace(task, request=request)


def _full(target: str) -> str:
    """A trailing slash tells a folder of pictures."""
    return os.path.abspath(target) + "/" * target.endswith("/")


def _with_full_paths(preset: Preset) -> Preset:
    for key, file in files(preset).items():
        preset = with_file(preset, key, os.path.abspath(file)) if file else preset
    return preset
