"""Flow files, and the random weights that stand in for RAFT's own, which tests do not fetch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from dreamflow import raft


def flo_bytes(vectors: np.ndarray) -> bytes:
    """Vectors `[H, W, 2]` as Middlebury writes them."""
    height, width, _ = vectors.shape
    magic = np.array([202021.25], "<f4").tobytes()
    return magic + np.array([width, height], "<i4").tobytes() + vectors.astype("<f4").tobytes()


def write_flo(path: Path, vectors: np.ndarray) -> Path:
    path.write_bytes(flo_bytes(vectors))
    return path


def constant(height: int, width: int, right: float, down: float) -> np.ndarray:
    return np.full((height, width, 2), (right, down), np.float32)


def write_pan(
    folder: Path, steps: Iterable[int], size: tuple[int, int], by: tuple[float, float]
) -> Path:
    """Files for a scene of (height, width) that moves `by` (right, down) after each of `steps`."""
    for at in steps:
        write_flo(folder / f"forward_{at}_{at + 1}.flo", constant(*size, *by))
        write_flo(folder / f"backward_{at + 1}_{at}.flo", constant(*size, -by[0], -by[1]))
    return folder


def install_raft(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights of the true architecture, where those that were fetched would be."""
    checkpoints = folder / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    state = torchvision.models.get_model(name, weights=None).state_dict()
    draft = checkpoints / "draft"
    torch.save(state, draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    path = draft.rename(checkpoints / f"{name}-{digest[:8]}.pth")
    monkeypatch.setenv("TORCH_HOME", str(folder))
    monkeypatch.setitem(raft.URLS, name, f"https://weights.invalid/{path.name}")
    return path
