"""A heat map of a still, from a checked request to finished files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamflow import heatmap, machine, networks
from dreamflow.errors import StorageError, UsageError
from dreamflow.frames import Array, to_array, to_image
from dreamflow.heatmap import Map, Region, Target
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.stills import place, read_still, temporary_beside, write_still
from dreamflow.video.writer import check_input_survives, check_place, check_still_target


@dataclass(frozen=True, kw_only=True)
class HeatmapRequest:
    """What to look for in which picture, and what to write of it."""

    source: Path
    target: Path
    """The map laid over the picture."""
    looked_for: Target
    network: str = networks.DEFAULT
    array: Path | None = None
    """The map as .npy: float32 [H, W]."""
    mask: Path | None = None
    """The map as a grey picture for a dream's mask: white is dreamed."""
    invert: bool = False
    """Whether the mask is everywhere but there."""
    device: str = "auto"
    threads: int = 2
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Found:
    """What the map says in numbers."""

    label: str
    region: Region
    strongest: float
    """The map's maximum, in the unit of the score or activation."""
    usual: float
    """Its median."""


def render_heatmap(request: HeatmapRequest) -> Found:
    """Write the files that are asked for; raises the DreamflowError that fits before any work."""
    _check_targets(request)
    array = read_still(request.source, max_pixels=request.max_pixels)
    machine.tune(request.threads)
    device = machine.pick_device(request.device)
    extractor = networks.build(request.network, [request.looked_for.layer], device=device)
    found = heatmap.heat(to_image(array, device), extractor, request.looked_for)
    region = heatmap.strongest_region(found)
    picture = to_array(to_image(array))  # 8 bits whatever the source has
    write_still(request.target, heatmap.overlay(picture, found, region))
    if request.array:
        _write_npy(request.array, found)
    if request.mask:
        write_still(request.mask, _grey(heatmap.mask(found, invert=request.invert)))
    label = request.looked_for.label
    return Found(label, region, float(found.max()), float(np.median(found)))


def _check_targets(request: HeatmapRequest) -> None:
    for picture in filter(None, (request.target, request.mask)):
        check_still_target(picture, overwrite=request.overwrite)
    if request.array:
        check_place(request.array, overwrite=request.overwrite)
    files = [file for file in (request.target, request.mask, request.array) if file]
    for number, file in enumerate(files):
        check_input_survives(file, [request.source])
        if file.resolve() in [other.resolve() for other in files[:number]]:
            raise UsageError(f"{file} is asked for twice: give picture, mask and array a file each")


def _grey(mask: Map) -> Array:
    return (mask * 255).round().astype(np.uint8)[..., None].repeat(3, axis=2)


def _write_npy(path: Path, found: Map) -> None:
    """Write an array, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, found, allow_pickle=False)
    temporary = temporary_beside(path)
    try:
        temporary.write_bytes(buffer.getvalue())
        place(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
