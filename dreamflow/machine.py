"""The machine a render runs on: its device, and the process settings that numeric code pays for."""

import ctypes
import sys

import cv2
import torch

from dreamflow.errors import UnavailableError

DEVICES = ("auto", "cpu", "cuda", "mps")

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEEP_UP_TO = 1 << 30


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


def keep_freed_memory() -> None:
    """Tell glibc's allocator to re-use large blocks instead of unmapping them; no-op elsewhere."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, _KEEP_UP_TO)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_UP_TO)
        mallopt(_M_TOP_PAD, 64 << 20)
