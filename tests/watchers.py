"""Watches what else is touched while a file from a stranger is read: the network, other files."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OPENED = 0x20  # inotify's IN_OPEN
_EVENT = struct.Struct("iIII")


class Listener:
    """A port of this machine at which whoever connects is counted, and sent away."""

    def __init__(self) -> None:
        self.visits = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()


@contextmanager
def opened(*paths: Path) -> Iterator[list[str]]:
    """Names of these files, as often as any process opens one; complete when the block is left."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    names = {libc.inotify_add_watch(queue, os.fsencode(p), _OPENED): p.name for p in paths}
    assert queue >= 0
    assert -1 not in names
    found: list[str] = []
    try:
        yield found
        found += [names[watch] for watch in _watches(queue)]
    finally:
        os.close(queue)


def _watches(queue: int) -> Iterator[int]:
    while True:
        try:
            data = os.read(queue, 1 << 16)
        except BlockingIOError:
            return
        while data:
            watch, _, _, length = _EVENT.unpack_from(data)
            yield watch
            data = data[_EVENT.size + length :]
