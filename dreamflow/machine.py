"""The machine a render runs on: its device, and the process settings that numeric code pays for."""

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import torch

from dreamflow.errors import UnavailableError

DEVICES = ("auto", "cpu", "cuda", "mps")

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEEP_UP_TO = 1 << 30
_RETURN_FROM = 1 << 26


def pick_device(name: str = "auto") -> torch.device:
    """The torch device called `name`, one of `DEVICES`; `auto` takes the fastest that is there."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if present[device])
    if not present.get(name):
        there = ", ".join(device for device, is_there in present.items() if is_there)
        raise UnavailableError(f"no device {name!r} on this machine (there is: {there})")
    return torch.device(name)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def tune(threads: int) -> None:
    """Set this process up for rendering: fixed threads, no denormals, freed memory kept.

    Reductions split by thread, so equal pictures need equal `threads`. Denormal floats, which dying
    gradients are full of, cost a hundred times a normal one. The allocator's habit of returning
    every large tensor to the system and faulting it in again costs a quarter of an ascent step.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()


@contextmanager
def more_threads(count: int) -> Iterator[None]:
    """Lend torch so many more threads than it was given."""
    given = torch.get_num_threads()
    torch.set_num_threads(given + count)
    try:
        yield
    finally:
        torch.set_num_threads(given)


def keep_freed_memory() -> None:
    """Tell glibc's allocator to re-use large blocks instead of unmapping them; no-op elsewhere."""
    _set_allocator(_KEEP_UP_TO)


def _set_allocator(keep_up_to: int) -> None:
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, keep_up_to)
        mallopt(_M_TRIM_THRESHOLD, keep_up_to)
        mallopt(_M_TOP_PAD, 64 << 20)


def return_large_memory() -> None:
    """Tell glibc's allocator to hand blocks as large as huge pictures back at once.

    Kept, they would lie about in pieces: a third more memory for an 8K picture.
    """
    _set_allocator(_RETURN_FROM)


def return_free_memory() -> None:
    """Hand back what glibc's allocator holds free between blocks in use; no-op elsewhere."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def free_bytes(device: torch.device) -> float:
    """Memory that can still be taken on a device, by what the machine, its container and a limit on
    the process's address space leave; infinite where nothing tells.
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min(_limits(), default=float("inf"))


def _limits() -> Iterator[float]:
    available = _read_field("/proc/meminfo", "MemAvailable:")
    if available is not None:
        yield available * 1024
    most, used = (_read_field(f"/sys/fs/cgroup/memory.{what}") for what in ("max", "current"))
    if most is not None and used is not None:
        yield most - used
    space, taken = resource.getrlimit(resource.RLIMIT_AS)[0], _read_field("/proc/self/statm")
    if space != resource.RLIM_INFINITY and taken is not None:
        yield space - taken * resource.getpagesize()


def _read_field(path: str, name: str = "") -> float | None:
    """The number behind `name` in a file of the system, or its first; None if there is none."""
    try:
        words = Path(path).read_text().split()
        return float(words[words.index(name) + 1 if name else 0])
    except (OSError, ValueError):
        return None
