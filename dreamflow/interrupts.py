"""Being asked to stop: the first signal waits for a good moment, the second does not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Ctrl-C, a polite kill, and the terminal's end."""


class Interrupted(BaseException):
    """A signal asked to stop. Not an Exception, so that nothing on the way takes it for a fault."""

    def __init__(self, number: int, message: str = "stopped") -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Interrupts:
    """Turns `SIGNALS` into `Interrupted` within its `with` block.

    A signal raises at once, except the first one inside `patiently`, which waits for `check`.
    Signals that are ignored (`nohup`) stay so.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._patient = False

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """A stretch of work in which the first signal only leaves a note."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def check(self, message: str) -> None:
        """Raise `Interrupted(message)` if a signal came meanwhile."""
        if self._received is not None:
            raise Interrupted(self._received, message)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        waits = self._patient and self._received is None
        self._received = number
        if not waits:
            raise Interrupted(number)
        # Python's own stderr may be in the middle of a write, which it refuses to enter twice.
        os.write(2, b"\ndreamflow: stopping after this frame (once more: at once)\n")
