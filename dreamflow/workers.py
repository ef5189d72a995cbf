"""Worker processes on this machine: started afresh, fed one task at a time, gone with their owner.

Each leads a process group of its own, so that Ctrl-C reaches the batch alone, which then stops them
in good order. A worker that loses its owner, whatever became of that, stops as well.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Protocol, Self

from dreamflow.work import Done, Failed, Lost, Message, Task, perform

STOPPING_SECONDS = 20.0
"""How long a worker may take to end its frame before it is killed."""


class Pool(Protocol):
    """Whoever does tasks, as a context manager; leaving it stops what is running."""

    @property
    def size(self) -> int:
        """How many tasks can be done at a time."""
        ...

    @property
    def idle(self) -> int:
        """How many more tasks can be begun now."""
        ...

    def start(self, task: Task) -> None:
        """Begin a task."""
        ...

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        """What is said of running tasks, by their numbers; waits for it, but not for long."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass
class _Worker:
    process: SpawnProcess
    line: Connection
    task: int | None = None


class LocalPool:
    """`count` processes on this machine, which live as long as the pool."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.line.close()  # a worker that nobody listens to stops
        until = time.monotonic() + STOPPING_SECONDS
        try:
            for worker in self._workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.process.join()
            self._workers.clear()

    @property
    def size(self) -> int:
        return self._count

    @property
    def idle(self) -> int:
        busy = sum(worker.task is not None for worker in self._workers)
        return self._count - busy

    @property
    def pids(self) -> list[int]:
        """Of the processes there are."""
        return [worker.process.pid or 0 for worker in self._workers]

    def start(self, task: Task) -> None:
        free = next((worker for worker in self._workers if worker.task is None), None)
        if free is None:
            free = _hired()
            self._workers.append(free)
        free.task = task.number
        with contextlib.suppress(OSError):  # a dead one is noticed where messages are read
            free.line.send(task)

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        lines = {worker.line: worker for worker in self._workers}
        if not lines:
            time.sleep(timeout)
        for ready in wait(list(lines), timeout):
            worker = lines[ready]  # pyright: ignore[reportArgumentType]
            task, message = worker.task, self._heard(worker)
            if isinstance(message, Done | Failed | Lost):
                worker.task = None
            if task is not None and message is not None:
                yield task, message

    def _heard(self, worker: _Worker) -> Message | None:
        """The next word of a worker; the last one, if it is gone."""
        try:
            return worker.line.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.line.close()
            worker.process.join(STOPPING_SECONDS)
            return Lost(f"its worker ended ({_ending(worker.process.exitcode)})")


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _hired() -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), name="dreamflow-worker", daemon=True)
    resource_tracker.ensure_running()  # which lets signals in again when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()  # with Ctrl-C held off until it has a process group of its own
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Worker(process, ours)


# ── the worker's side ────────────────────────────────────────────────────────────────────────────


def _serve(line: Connection) -> None:
    """Do the tasks that come in on `line`, one after the other, until nobody is there any more."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner says when to stop
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    alone = threading.Event()
    threading.Thread(target=_listen, args=(line, tasks, alone), daemon=True).start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while (task := tasks.get()) is not None:
            with contextlib.closing(perform(task)) as messages:
                for message in messages:
                    if alone.is_set():
                        return
                    line.send(message)


def _listen(
    line: Connection, tasks: queue.SimpleQueue[Task | None], alone: threading.Event
) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            tasks.put(line.recv())
    alone.set()
    tasks.put(None)
    time.sleep(STOPPING_SECONDS)  # a frame can take long; but not for ever, with nobody there
    os._exit(1)
