"""Sheets that show what a network sees: layers, channels, classes, filters, feature maps.

Each cell carries the line of a preset that dreams it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from dreamflow import classes, machine, networks
from dreamflow.dream import pad_to
from dreamflow.errors import UsageError
from dreamflow.frames import Array, to_array, to_image
from dreamflow.heatmap import Target
from dreamflow.networks import Extractor
from dreamflow.preset import Preset
from dreamflow.render import Engine, dream_from_scratch, shrink
from dreamflow.sheets import Cell, SheetProgress, compose_sheet
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.stills import read_still, write_still
from dreamflow.video.writer import check_input_survives, check_still_target

_COLUMNS = 6
_TOP = 24
"""Channels shown unless more are asked for."""
_FILTER_SIDE = 160
"""Pixels a side of a filter on its sheet, about: each weight is a square."""
CLASS_SIDE = 224
CLASS_LOOK: dict[str, Any] = {
    "dream": {
        "start": "grey", "octaves": 3, "steps": 20, "step_size": 4, "smoothing": 2.0, "chroma": 1,
        "spread": 0.0, "robust": 1.0,
    },
    "regularize": {"laplacian": 0.5, "decorrelate": 0.8},
}  # fmt: skip
"""Settings with which a class drawn from nothing is known to networks that never saw it.

Turned and scaled before each step, with all scales of the gradient and colours as in photographs
(Olah et al. 2017), shapes come out that do not hang on the weights of one network.
"""


@dataclass(frozen=True, kw_only=True)
class SheetRequest:
    """What to show of which network."""

    target: Path
    network: str = networks.DEFAULT
    image: Path | None = None
    """The still that is dreamed or looked at; classes and filters need none."""
    layer: str = ""
    channels: str = ""
    """Of the layer: `top 24` (those that the still excites most, as is the default), `all`, or
    numbers such as `3,7,9`."""
    classes: tuple[str, ...] = ()
    filters: bool = False
    activations: bool = False
    cell: int = 224
    """Long side of each picture, in pixels."""
    device: str = "auto"
    threads: int = 2
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS


Cells = Iterator[tuple[int, Cell]]
"""(how many there will be, one of them)"""


def network_sheet(request: SheetRequest) -> Generator[SheetProgress, None, None]:
    """Write the sheet that a request asks for.

    Raises OutputError before any work if the target is taken, PresetError for an unknown layer,
    channel or class, UsageError for what does not go together.
    """
    check_still_target(request.target, overwrite=request.overwrite)
    make = _maker(request)
    if request.image is not None:
        check_input_survives(request.target, [request.image])
    machine.tune(request.threads)
    cells: list[Cell] = []
    for total, cell in make(request):
        cells.append(cell)
        yield SheetProgress(len(cells), total, cell.label)
    write_still(request.target, compose_sheet(cells, _COLUMNS))


def _maker(request: SheetRequest) -> Any:
    """What makes the cells; everything that can be refused is."""
    kinds = [bool(request.classes), request.filters, request.activations]
    if sum(kinds) > 1 or (request.layer and (request.classes or request.filters)):
        raise UsageError("one sheet shows one thing: layers, channels, classes, filters or maps")
    if request.channels and not request.layer:
        raise UsageError("channels of which layer? name it with --layer LAYER")
    if request.layer:
        networks.find_layers(request.network, [request.layer])
    if request.classes:
        for name in request.classes:
            Target.of_class(name)
        return _classes
    if request.filters:
        return _filters
    if request.image is None:
        raise UsageError("which picture shall be looked at? name one with --image IN")
    if request.activations:
        return _activations
    return _channels if request.layer else _layers


# ── dreams ──


def _layers(request: SheetRequest) -> Cells:
    """Every layer dreamed on the still."""
    infos = networks.list_layers(request.network)
    source = _source(request)
    extractor = _extractor(request, [info.name for info in infos])
    for info in infos:
        line = {"layer": info.name}
        picture = _dreamed(request, source, extractor, line)
        yield len(infos), Cell(info.alias or info.name, _pasted(request, line), picture)


def _channels(request: SheetRequest) -> Cells:
    """Channels of one layer dreamed on the still."""
    source = _source(request)
    extractor = _extractor(request, [request.layer])
    wanted = _wanted_channels(request, extractor, source)
    for channel in wanted:
        line = {"layer": request.layer, "channel": channel}
        picture = _dreamed(request, source, extractor, line)
        yield len(wanted), Cell(f"channel {channel}", _pasted(request, line), picture)


def _classes(request: SheetRequest) -> Cells:
    """Classes drawn on grey."""
    extractor = _extractor(request, [classes.LAYER])
    side = max(request.cell, CLASS_SIDE)
    for name in request.classes:
        label = Target.of_class(name).label
        grey = torch.full((1, 3, side, side), 0.5, device=extractor.device)
        line = {"class": label}
        picture = _dreamed(request, grey, extractor, line, **CLASS_LOOK)
        yield len(request.classes), Cell(label, _pasted(request, line), picture)


def _dreamed(
    request: SheetRequest,
    source: Tensor,
    extractor: Extractor,
    line: dict[str, Any],
    **stages: Any,
) -> Array:
    preset = Preset.model_validate({"network": request.network, "objectives": (line,), **stages})
    engine = Engine.build(preset, Fraction(preset.reference_fps), extractor=extractor)
    return to_array(dream_from_scratch(engine, source, 0))


def _pasted(request: SheetRequest, line: dict[str, Any]) -> str:
    """The line of a preset, and its network where that is not the usual one."""
    items = ", ".join(f"{key}: {value}" for key, value in line.items())
    named = "" if request.network == networks.DEFAULT else f"network: {request.network} "
    return f"{named}objectives: [{{{items}}}]"


def _wanted_channels(request: SheetRequest, extractor: Extractor, source: Tensor) -> Sequence[int]:
    """The channels that a request names, in its order; PresetError for one that is not there."""
    text, count = request.channels.strip() or f"top {_TOP}", extractor.channels[request.layer]
    if text == "all":
        return range(count)
    if match := re.fullmatch(r"top ([1-9]\d{0,4})", text):
        strength = _maps(extractor, source, request.layer).mean((1, 2))
        return strength.argsort(descending=True)[: int(match[1])].tolist()
    if not re.fullmatch(r"\d{1,5}(\s*,\s*\d{1,5})*", text):
        raise UsageError(f"not channels: {text!r} (write top {_TOP}, all, or numbers as in 3,7,9)")
    numbers = [int(number) for number in text.split(",")]
    for number in numbers:
        networks.check_channel(request.network, request.layer, number)
    return numbers


# ── what is there ──


def _filters(request: SheetRequest) -> Cells:
    """The weights of the first layer as pictures: grey is zero, the colours are those it likes."""
    weights = networks.first_filters(request.network)
    for number, weight in enumerate(weights):
        levels = 0.5 + 0.5 * weight / max(float(weight.abs().max()), 1e-12)
        array = to_array(levels[None].clamp(0, 1))
        times = max(1, round(_FILTER_SIDE / max(array.shape[:2])))
        enlarged = array.repeat(times, axis=0).repeat(times, axis=1)
        yield len(weights), Cell(f"filter {number}", "", enlarged)


def _activations(request: SheetRequest) -> Cells:
    """Where channels of a layer fire on the still, or, without a layer, where every layer does."""
    source = _source(request)
    if request.layer:
        extractor = _extractor(request, [request.layer])
        maps = _maps(extractor, source, request.layer)
        wanted = _wanted_channels(request, extractor, source)
        for channel in wanted:
            peak = float(maps[channel].max())
            picture = _colored(maps[channel], source)
            yield len(wanted), Cell(f"channel {channel}", f"at most {peak:.3g}", picture)
        return
    infos = networks.list_layers(request.network)
    extractor = _extractor(request, [info.name for info in infos])
    for info in infos:
        strength = _maps(extractor, source, info.name).square().mean(0).sqrt()
        caption = f"{info.channels} channels, stride {info.stride}"
        yield len(infos), Cell(info.alias or info.name, caption, _colored(strength, source))


@torch.no_grad()
def _maps(extractor: Extractor, source: Tensor, layer: str) -> Tensor:
    """A layer's channels over the still, `[C, h, w]`."""
    return extractor(pad_to(source, extractor.minimum_side), [layer])[layer][0]


def _colored(found: Tensor, source: Tensor) -> Array:
    """A map in colour, from its least to its largest value, at the size of the still."""
    low, high = found.min(), found.max()
    levels = ((found - low) / (high - low).clamp(min=1e-12) * 255).round()
    height, width = source.shape[-2:]
    coarse = levels.cpu().numpy().astype(np.uint8)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(cv2.applyColorMap(fine, cv2.COLORMAP_INFERNO)[..., ::-1])


def _source(request: SheetRequest) -> Tensor:
    """The still at the size of a cell."""
    assert request.image is not None
    array = read_still(request.image, max_pixels=request.max_pixels)
    return shrink(to_image(array, machine.pick_device(request.device)), request.cell)


def _extractor(request: SheetRequest, layers: Sequence[str]) -> Extractor:
    return networks.build(request.network, layers, device=machine.pick_device(request.device))
