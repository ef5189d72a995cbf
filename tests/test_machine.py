"""Devices and what is set for the whole process."""

from __future__ import annotations

import subprocess
import sys

import cv2
import pytest
import torch

from dreamflow import machine
from dreamflow.errors import UnavailableError


def test_auto_takes_a_device_that_works():
    device = machine.pick_device("auto")
    assert device.type in machine.DEVICES
    assert float(torch.ones(2, device=device).sum()) == 2


def test_the_cpu_is_always_there():
    assert machine.pick_device("cpu") == torch.device("cpu")


PRESENT = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
ABSENT = [name for name, is_there in PRESENT.items() if not is_there]


@pytest.mark.parametrize("name", [*ABSENT, "tpu", "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(UnavailableError, match=r"there is: cpu") as caught:
        machine.pick_device(name)
    assert repr(name) in str(caught.value)
    assert caught.value.exit_code == 69


@pytest.mark.parametrize("threads", [1, 2])
def test_tune_sets_the_threads_of_torch_and_opencv(threads):
    machine.tune(threads)
    assert torch.get_num_threads() == threads
    assert cv2.getNumThreads() == threads


def test_tune_flushes_denormals():
    machine.tune(1)
    assert float(torch.tensor(1e-39) * 0.5) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_for_the_next_tensor():
    """Large tensors, once the heap has grown, need no new pages; by default 16,384 each."""
    program = """
import resource, torch
from dreamflow import machine
machine.tune(1)
def faults():
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = [faults() for _ in range(12)][-1]
print([faults() for _ in range(4)][-1] - before)
"""
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert int(run.stdout) < 1000
