"""Working ahead: an iterator that runs in a thread, a few items before whoever takes them."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Failed:
    """An exception on its way from the thread to the caller."""

    error: BaseException


class Ahead(Generic[Item]):
    """Runs the generator `make()` in a thread, at most `length` finished items ahead.

    An exception in it is raised where its item would have come. Closing stops the thread and joins
    it; `cancel` is called meanwhile to wake a generator that waits for something.
    """

    def __init__(
        self,
        make: Callable[[], Generator[Item, None, None]],
        length: int,
        name: str,
        cancel: Callable[[], None] = lambda: None,
    ) -> None:
        self._make = make
        self._cancel = cancel
        self._stopped = threading.Event()
        self._queue: queue.Queue[Item | _Failed | None] = queue.Queue(length)
        self._thread = threading.Thread(target=self._fill, name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, _Failed):
                raise item.error
            yield item

    def close(self) -> None:
        """Stop and join the thread; what it still held is dropped."""
        self._stopped.set()
        while self._thread.is_alive():
            self._cancel()
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
            self._thread.join(timeout=0.05)

    def _fill(self) -> None:
        try:
            with contextlib.closing(self._make()) as items:
                for item in items:
                    self._queue.put(item)
                    if self._stopped.is_set():
                        return
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(_Failed(error))
