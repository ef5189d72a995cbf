"""Watches what happens while a text from a stranger is read."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

FORBIDDEN = (
    *("compile", "exec", "import", "subprocess.", "socket.", "ctypes.", "pickle."),
    *("os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.putenv"),
    *("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
)
"""Beginnings of the interpreter's audit events that no reading may cause (folders are listed)."""
TARGET_SECONDS, LOOSER = 0.1, 20
"""Of processor time for one text; how much longer a test allows, on a busy machine."""

_seen: list[str] = []
_watching = False


def _listen(event: str, _: object) -> None:
    if _watching and event.startswith(FORBIDDEN):
        _seen.append(event)


sys.addaudithook(_listen)


@contextmanager
def harmless() -> Iterator[None]:
    """Nothing is executed in here, and it takes no long time."""
    global _watching
    _seen.clear()
    began = time.process_time()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert _seen == []
    assert time.process_time() - began < LOOSER * TARGET_SECONDS
