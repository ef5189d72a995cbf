"""A measurement as people read it: a table in the terminal, and one picture of curves and frames.

Drawn with matplotlib's Agg canvas and no global state. File names come from strangers: none is read
as mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from dreamflow.errors import StorageError
from dreamflow.frames import Array
from dreamflow.measure import LAGS, Bad, FrameMeasure, Measurement, Summary, by_shot
from dreamflow.plots import COLORS, FAINT_INK, GRID, GROUND, INK, PANEL, picture
from dreamflow.video.stills import place, temporary_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# ── words ────────────────────────────────────────────────────────────────────────────────────────

_HEAD = (
    *("shot", "first", "frames", *(f"flicker {lag}" for lag in LAGS)),
    *("strength", "varies", "change", "brightness", "colour", "drift", "clipped"),
)


def table(measurement: Measurement) -> list[Sequence[str]]:
    """Rows of cells: names, one line for each shot, and one for all.

    `brightness` and `change` are in 8-bit levels, `colour` is the mean shift in the plane of a* and
    b*, `drift` that of the brightness.
    """
    firsts = [shot[0].index for shot in by_shot(measurement.frames)]
    rows: list[Sequence[str]] = [_HEAD]
    for number, (first, shot) in enumerate(zip(firsts, measurement.shots, strict=True), 1):
        rows.append((str(number), f"{first}f", *_numbers(shot)))
    return [*rows, ("all", "", *_numbers(measurement.film))]


def _numbers(summary: Summary) -> list[str]:
    shift = summary.shift
    return [
        str(summary.frames),
        *(_said(flicker, "{:.3f}") for flicker in summary.flicker),
        _said(summary.strength, "{:.2f}"),
        _said(summary.strength_variation, "{:.1%}"),
        f"{summary.change:.1f}",
        f"{shift.brightness:+.1f}",
        f"{float(np.hypot(shift.a, shift.b)):.1f}",
        f"{summary.drift.brightness:+.1f}",
        f"{summary.clipped:.1%}",
    ]


def _said(number: float | None, form: str) -> str:
    return "-" if number is None else form.format(number)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; raises StorageError."""
    temporary = temporary_beside(path)
    try:
        temporary.write_text(text, "utf-8")
        place(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


# ── the picture ──────────────────────────────────────────────────────────────────────────────────

_WIDTH, _DOTS = 12.8, 110
"""Inches, and dots per inch."""

Value = Callable[[FrameMeasure], float | None]


def draw(measurement: Measurement) -> Array:
    """Curves over time above the frames that flicker most, source over output; uint8."""
    has_strength = measurement.film.strength is not None
    rows = 3 + has_strength
    figure = Figure(figsize=(_WIDTH, 1.75 * rows + 4.0), dpi=_DOTS, facecolor=GROUND)
    grid = figure.add_gridspec(
        rows + 1, 1, height_ratios=[1.0] * rows + [1.9],
        left=0.06, right=0.98, top=0.9, bottom=0.02, hspace=0.38,
    )  # fmt: skip
    panels = [figure.add_subplot(grid[row]) for row in range(rows)]
    _title(figure, measurement)
    _curves(panels[0], measurement, "flicker (0 steady, 1.41 noise)", _flickers(), low=0)
    if has_strength:
        strength: dict[str, Value] = {"strength": lambda f: f.strength}
        _curves(panels[1], measurement, "strength (1 is no dream)", strength, low=0)
    light: dict[str, Value] = {
        "change": lambda f: f.change,
        "brightness": lambda f: f.shift.brightness,
        "clipped, %": lambda f: f.clipped * 100,
    }
    _curves(panels[-2], measurement, "8-bit levels, and % of pixels", light)
    colour: dict[str, Value] = {
        "L*": lambda f: f.shift.lightness,
        "a*": lambda f: f.shift.a,
        "b*": lambda f: f.shift.b,
        "spread of L*": lambda f: f.shift.spread,
    }
    _curves(panels[-1], measurement, "CIELAB, output less source", colour)
    panels[-1].set_xlabel("seconds", color=FAINT_INK, fontsize=9)
    _thumbnails(figure, figure.add_subplot(grid[-1]), measurement.worst)
    return picture(figure)


def _flickers() -> dict[str, Value]:
    def at(lag: int) -> Value:
        return lambda frame: frame.flicker(lag)

    return {f"{lag} frame{'s' * (lag > 1)} apart": at(lag) for lag in LAGS}


def _title(figure: Figure, measurement: Measurement) -> None:
    film = measurement.film
    names = f"{Path(measurement.output).name}  of  {Path(measurement.source).name}"
    flickers = ", ".join(
        f"{_said(each, '{:.3f}')} at {lag}" for lag, each in zip(LAGS, film.flicker, strict=True)
    )
    shots = len(measurement.shots)
    facts = [f"{film.frames} frames", f"{shots} shot{'s' * (shots > 1)}", f"flicker {flickers}"]
    if film.strength is not None:
        variation = _said(film.strength_variation, "{:.0%}")
        facts.append(f"strength {film.strength:.2f} ± {variation}")
    facts.append(f"change {film.change:.1f} levels")
    printable = "".join(sign if sign.isprintable() else " " for sign in names)
    figure.text(0.06, 0.955, printable[:110], color=INK, fontsize=15, parse_math=False)
    figure.text(0.06, 0.928, "  ·  ".join(facts), color=FAINT_INK, fontsize=10)


def _curves(
    axes: Axes,
    measurement: Measurement,
    name: str,
    values: dict[str, Value],
    low: float | None = None,
) -> None:
    """Lines over time, broken and marked at every cut."""
    axes.set_facecolor(PANEL)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(colors=FAINT_INK, length=0, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(name, color=INK, fontsize=10, loc="left")
    shots = by_shot(measurement.frames)
    for color, (label, value) in zip(COLORS, values.items(), strict=False):
        for number, shot in enumerate(shots):
            numbers = [np.nan if (v := value(frame)) is None else v for frame in shot]
            axes.plot(
                [frame.time for frame in shot], numbers, color=color, linewidth=1.4,
                label=label if number == 0 else None, marker="." if len(shot) < 3 else None,
            )  # fmt: skip
    for shot in shots[1:]:
        axes.axvline(shot[0].time, color=FAINT_INK, linewidth=0.9, linestyle=":")
    axes.set_xlim(0, float(len(measurement.frames) / measurement.rate))
    if low is not None:
        axes.set_ylim(low, max(axes.get_ylim()[1], low + 0.1))
    legend = axes.legend(
        loc="lower right", bbox_to_anchor=(1, 0.98), fontsize=8, ncols=len(values), frameon=False
    )
    for text in legend.get_texts():
        text.set_color(INK)


def _thumbnails(figure: Figure, strip: Axes, worst: Sequence[Bad]) -> None:
    """The worst frames beside one another, source above output."""
    strip.set_axis_off()
    words = "frames that flicker most, source above output" if worst else "no frame flickers"
    strip.text(0, 0.98, words, color=INK, fontsize=10)
    box = strip.get_position()
    width = box.width / 6
    for column, bad in enumerate(worst):
        frame = bad.frame
        axes = figure.add_axes((box.x0 + column * width, box.y0, width * 0.97, box.height * 0.88))
        axes.imshow(np.concatenate((bad.source, bad.output)))
        axes.set_axis_off()
        axes.set_anchor("N")
        words = f"{frame.index}f · {frame.time:.2f} s · {frame.flicker(LAGS[0]):.2f}"
        axes.set_title(words, color=FAINT_INK, fontsize=8)
