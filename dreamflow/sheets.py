"""Contact sheets: labelled pictures side by side, to choose a look by eye."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dreamflow import audio, ensemble, machine, networks, props
from dreamflow import preset as presets
from dreamflow.errors import UnavailableError
from dreamflow.flow import FlowMethod
from dreamflow.frames import Array, Box, to_array, to_image
from dreamflow.job import dream_still
from dreamflow.preset import Preset
from dreamflow.render import Engine, check_names, layers_of
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.reader import resized
from dreamflow.video.stills import Still, read_still, write_still
from dreamflow.video.writer import check_input_survives, check_still_target

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("dreamflow")

# ── the grid ─────────────────────────────────────────────────────────────────────────────────────

GROUND, PLACEHOLDER, LABEL_INK, CAPTION_INK = 26, 42, 235, 165
"""Levels of grey: the ground, a place without a picture, and the two kinds of text."""

_LEAST_WIDTH = 160
"""Columns narrower than that have no room for words."""
_GAP = 16
_CAPTION_LINES = 3


@dataclass(frozen=True)
class Cell:
    """One place of a sheet."""

    label: str
    """Its name, in one line."""
    caption: str = ""
    """A few lines in smaller letters."""
    picture: Array | None = None
    """uint8; None leaves the place empty."""


@dataclass(frozen=True)
class Grid:
    """Where things are on a sheet, in pixels, (x right, y down) from its top left corner."""

    columns: int
    rows: int
    width: int
    """Of a cell."""
    picture_height: int
    text_height: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the whole sheet."""
        across, down = self._pitch
        return _GAP + self.columns * across, _GAP + self.rows * down

    def corner(self, index: int) -> tuple[int, int]:
        """The top left corner (x, y) of a cell, which is that of its picture too."""
        row, column = divmod(index, self.columns)
        across, down = self._pitch
        return _GAP + column * across, _GAP + row * down

    @property
    def _pitch(self) -> tuple[int, int]:
        return self.width + _GAP, self.picture_height + self.text_height + _GAP


@dataclass(frozen=True)
class _Lettering:
    """The fonts of a sheet, in proportion to the width of its cells."""

    label: ImageFont.FreeTypeFont | ImageFont.ImageFont
    caption: ImageFont.FreeTypeFont | ImageFont.ImageFont
    space: int
    """Above the label."""
    label_height: int
    caption_height: int

    @classmethod
    def of(cls, width: int) -> _Lettering:
        label, caption = max(11, width // 18), max(10, width // 24)
        load = ImageFont.load_default  # part of Pillow: no font file has to be on the machine
        heights = (label // 3, round(label * 1.4), round(caption * 1.4))
        return cls(load(label), load(caption), *heights)


def compose_sheet(cells: Sequence[Cell], columns: int) -> Array:
    """The cells row by row on dark grey; at least one, in at most `columns` columns.

    Pictures keep their size, each above its label and caption. The widest and the highest one make
    the size of all cells.
    """
    grid, lettering = layout(cells, columns), _Lettering.of(cell_width(cells))
    width, height = grid.size
    sheet = np.full((height, width, 3), GROUND, np.uint8)
    for index, cell in enumerate(cells):
        x, y = grid.corner(index)
        _lay(sheet[y : y + grid.picture_height, x : x + grid.width], cell.picture)
        below = y + grid.picture_height
        text = _lettered(cell, grid, lettering)
        sheet[below : below + grid.text_height, x : x + grid.width] = text
    return sheet


def layout(cells: Sequence[Cell], columns: int) -> Grid:
    """The grid that `compose_sheet` lays the cells on."""
    width = cell_width(cells)
    lettering = _Lettering.of(width)
    columns = min(columns, len(cells))
    lines = max(len(_caption_lines(cell, lettering, width)) for cell in cells)
    heights = [cell.picture.shape[0] for cell in cells if cell.picture is not None]
    return Grid(
        columns=columns,
        rows=-(-len(cells) // columns),
        width=width,
        picture_height=max(heights, default=width * 3 // 4),
        text_height=lettering.space + lettering.label_height + lines * lettering.caption_height,
    )


def cell_width(cells: Sequence[Cell]) -> int:
    """Pixels across of each cell."""
    widths = [cell.picture.shape[1] for cell in cells if cell.picture is not None]
    return max(_LEAST_WIDTH, *widths, 0)


def _lay(place: Array, picture: Array | None) -> None:
    if picture is None:
        place[:] = PLACEHOLDER
    else:
        height, width, _ = picture.shape
        place[:height, :width] = picture


def _lettered(cell: Cell, grid: Grid, lettering: _Lettering) -> Array:
    """Label and caption, drawn apart from the sheet so that no letter reaches out of its cell."""
    canvas = Image.new("RGB", (grid.width, grid.text_height), (GROUND,) * 3)
    draw = ImageDraw.Draw(canvas)
    y = lettering.space
    for line in wrap(cell.label, lettering.label.getlength, grid.width, 1):
        draw.text((0, y), line, (LABEL_INK,) * 3, lettering.label)
    y += lettering.label_height
    for line in _caption_lines(cell, lettering, grid.width):
        draw.text((0, y), line, (CAPTION_INK,) * 3, lettering.caption)
        y += lettering.caption_height
    return np.array(canvas)


def _caption_lines(cell: Cell, lettering: _Lettering, width: int) -> list[str]:
    return wrap(cell.caption, lettering.caption.getlength, width, _CAPTION_LINES)


def wrap(text: str, length: Callable[[str], float], width: float, limit: int) -> list[str]:
    """The text in at most `limit` lines no longer than `width`; an ellipsis ends what is cut off.

    Lines break between words, and within a word that alone is too long.
    """
    lines = list(_lines(text.split(), length, width))
    if len(lines) <= limit:
        return lines
    last = lines[limit - 1]
    while last and length(last + "…") > width:
        last = last[:-1]
    return [*lines[: limit - 1], last.rstrip() + "…"]


def _lines(words: Sequence[str], length: Callable[[str], float], width: float) -> Iterator[str]:
    line = ""
    for word in words:
        if line and length(f"{line} {word}") <= width:
            line = f"{line} {word}"
            continue
        if line:
            yield line
        *full, line = _pieces(word, length, width)
        yield from full
    if line:
        yield line


def _pieces(word: str, length: Callable[[str], float], width: float) -> Iterator[str]:
    """The word in pieces that fit, of one letter at least."""
    piece = ""
    for letter in word:
        if piece and length(piece + letter) > width:
            yield piece
            piece = ""
        piece += letter
    yield piece


# ── presets ──────────────────────────────────────────────────────────────────────────────────────

DREAM_SIZE = 512
"""Long side at which looks are dreamed: near that of a render, so that their scale is judged."""

_SHEET_SOUND = 0.5
"""All that a preset can hear on a sheet: a level in the middle."""

_COLUMNS = 4


@dataclass(frozen=True)
class SheetProgress:
    """One more cell is done."""

    done: int
    total: int
    name: str


def preset_sheet(
    image: Path,
    output: Path,
    names: Sequence[str] | None = None,
    *,
    cell: int = 320,
    device: str = "auto",
    threads: int = 2,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Generator[SheetProgress, None, None]:
    """Dream a picture with every preset named, or the shipped ones; write all on one sheet.

    Shipped ones whose weights would have to be fetched are left out unless they are named. `cell`
    is the long side of each picture, in pixels. The first cell is the picture itself. A preset
    whose network cannot be had leaves its cell empty, with a warning. Raises OutputError before any
    work if `output` is taken, PresetError for a wrong preset.
    """
    check_still_target(output, overwrite=overwrite)
    check_input_survives(output, [image])
    chosen = _chosen(names)
    source = to_array(to_image(read_still(image, max_pixels=max_pixels)))
    source = _at_most(source, max(cell, DREAM_SIZE))
    machine.tune(threads)
    engines = _Engines(machine.pick_device(device))
    cells = [Cell("untouched", "The picture as it is.", _at_most(source, cell))]
    for name, preset in chosen.items():
        cells.append(_preset_cell(name, preset, source, cell, engines))
        yield SheetProgress(len(cells) - 1, len(chosen), name)
    write_still(output, compose_sheet(cells, _COLUMNS))


def _chosen(names: Sequence[str] | None) -> dict[str, Preset]:
    listed = _at_hand() if names is None else names
    return {name: presets.load(name) for name in listed}


def _at_hand() -> list[str]:
    """The shipped presets whose network needs no download, in the order they are listed."""
    return [each.name for each in presets.shipped() if networks.is_at_hand(each.network)]


def _at_most(array: Array, long_side: int) -> Array:
    """The array scaled down, by areas, to a long side of so many pixels at most."""
    height, width, _ = array.shape
    if max(height, width) <= long_side:
        return array
    return resized(array, Box(long_side, long_side).fit(width, height))


class _Engines:
    """Makes engines that share an extractor where they look at the same layers."""

    def __init__(self, device: torch.device) -> None:
        build = functools.partial(ensemble.build, device=device)
        self._extractor = functools.cache(build)

    def make(self, preset: Preset) -> Engine:
        check_names(preset)
        layers = tuple(sorted(set(layers_of(preset))))
        extractor = self._extractor(preset.network, layers)
        return Engine.build(
            preset,
            Fraction(preset.reference_fps),
            sound=audio.steady(_SHEET_SOUND),
            extractor=extractor,
            flow=FlowMethod("none"),
            props=props.read(preset),
        )


def _preset_cell(name: str, preset: Preset, source: Array, size: int, engines: _Engines) -> Cell:
    limit = DREAM_SIZE if preset.dream.size == "full" else min(preset.dream.size, DREAM_SIZE)
    dream = preset.dream.model_copy(update={"size": limit})
    try:
        engine = engines.make(preset.model_copy(update={"dream": dream}))
    except UnavailableError as error:
        logger.warning("preset %s is left empty: %s", name, error)
        return Cell(name, f"Not available: {error}")
    dreamed = dream_still(Still(source), engine)
    return Cell(name, preset.description, _at_most(dreamed.pixels, size))
