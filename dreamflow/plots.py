"""Pictures of what a preset does over a render: its curves, its layers, the sound it listens to.

Drawn with matplotlib's Agg canvas and no global state, so that two threads may draw at once. All
words in a picture come from presets, hence from strangers: none is read as mathematics.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dreamflow import preset as presets
from dreamflow.errors import UsageError
from dreamflow.frames import Array, Moment, VideoInfo
from dreamflow.preset import Preset
from dreamflow.schedule import SOUND_NAMES, Curve, SoundCurves, Values
from dreamflow.settings import AnyObjective, Stage
from dreamflow.strict_yaml import quoted
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.reader import open_clip
from dreamflow.video.stills import write_still
from dreamflow.video.writer import check_input_survives, check_still_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What it says when it makes itself a font cache is of no use to whoever wants a picture.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# ── what moves ───────────────────────────────────────────────────────────────────────────────────

MAX_FRAMES = 1_000_000


@dataclass(frozen=True)
class Track:
    """One setting over a render."""

    key: str
    """Dotted path in the preset."""
    values: Values
    """Its number at each output frame."""
    unit: str = ""
    curve: Curve | None = None
    """How it was written; None for what only is drawn along, such as a constant weight."""

    @property
    def moves(self) -> bool:
        return self.curve is not None

    @property
    def written(self) -> str:
        """The curve as in the preset, in one line."""
        source = self.curve.source if self.curve else ""
        if isinstance(source, str):
            return " ".join(source.split())
        return "{" + ", ".join(f"{key}: {value}" for key, value in source.items()) + "}"


@dataclass(frozen=True)
class Timeline:
    """All that a preset does over one render, in plain numbers."""

    frame_count: int
    rate: Fraction
    """Frames per second."""
    weights: tuple[Track, ...]
    """One for each objective, moving or not; the key is its layer."""
    moving: tuple[Track, ...]
    """The other settings that are curves."""
    sound: SoundCurves
    """What the expressions listen to."""
    constants: tuple[tuple[str, str], ...]
    """(key, value with its unit) of the settings that stay as they are."""
    seed: int

    @classmethod
    def of(
        cls,
        preset: Preset,
        frame_count: int,
        rate: Fraction,
        sound: SoundCurves | None = None,
    ) -> Timeline:
        """What the preset does over that many frames at that rate.

        A preset with `sound_expressions` needs the sound's curves. Raises PresetError for a curve
        that leaves its setting's range.
        """
        preset = preset.resolved(frame_count, rate, sound)
        units = {row.key: row.unit for row in presets.settings_table()}
        curves, tracks = preset.curves, preset.tracks
        moving = (
            Track(key, _floats(tracks[key]), units[key], curve)
            for key, curve in curves.items()
            if not key.startswith("objectives.")
        )
        heard = {name: values for name, values in (sound or {}).items() if name in _heard(preset)}
        weights = _weights(preset, frame_count)
        constants = _constants(preset, curves, units)
        return cls(frame_count, rate, weights, tuple(moving), heard, constants, preset.seed)

    @property
    def nothing_moves(self) -> bool:
        return not self.moving and not any(track.moves for track in self.weights)


def _heard(preset: Preset) -> set[str]:
    """The curves of the sound that the preset's expressions use."""
    keys = (key for curve in preset.curves.values() for key in curve.keys)
    return {name for key in keys for name in key.expression.names} & set(SOUND_NAMES)


def _floats(values: Any) -> Values:
    return np.asarray(values, np.float64)


def _weights(preset: Preset, frame_count: int) -> tuple[Track, ...]:
    """One track for each objective, called `LAYER @OCTAVES`; what comes twice is numbered."""
    layers = [objective.label for objective in preset.objectives]
    tracks, curves = preset.tracks, preset.curves

    def track(index: int, objective: AnyObjective) -> Track:
        octaves = "" if objective.octaves == "all" else f" @{','.join(map(str, objective.octaves))}"
        twice = f" ({index + 1})" if layers.count(objective.label) > 1 else ""
        label = f"{objective.label}{octaves}{twice}"
        path = f"objectives.{index}.weight"
        values = tracks.get(path, [objective.weight] * frame_count)
        return Track(label, _floats(values), curve=curves.get(path))

    return tuple(track(index, each) for index, each in enumerate(preset.objectives))


def _constants(
    preset: Preset, curves: Mapping[str, Curve], units: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    def leaves(stage: Stage, prefix: str = "") -> Iterator[tuple[str, Any]]:
        for name in type(stage).model_fields:
            value = getattr(stage, name)
            if isinstance(value, Stage):
                yield from leaves(value, f"{prefix}{name}.")
            elif not isinstance(value, tuple):
                yield prefix + name, value

    left_out = {"description", *curves}
    return tuple(
        (key, _with_unit(value, units.get(key, "")))
        for key, value in leaves(preset)
        if key not in left_out and not key.startswith("output.") and value != ""
    )


def _with_unit(value: Any, unit: str) -> str:
    counts = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{_short(value)} {unit}" if unit and counts else _short(value)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# ── the look of all plots ────────────────────────────────────────────────────────────────────────

GROUND, PANEL, GRID, INK, FAINT_INK = "#16181c", "#1e2127", "#343a44", "#eceff4", "#9aa4b2"
COLORS = (
    *("#5cc8ff", "#ffb454", "#5fd7a0", "#ff7eb6", "#b69cff", "#f4e04d", "#ff8a65", "#4dd0c8"),
    *("#c0d860", "#d0a080"),
)
"""Told apart on the dark ground, neighbours by lightness as well as by hue."""

_POINTS_PER_INCH = 72


def picture(figure: Figure) -> Array:
    """The figure as an array of exactly its size times its dots per inch."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _dress(axes: Axes, timeline: Timeline) -> None:
    axes.set_facecolor(PANEL)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(colors=FAINT_INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    # A frame is on screen until the next one: the last one needs its room too.
    axes.set_xlim(0, timeline.frame_count)


def _said(text: str, characters: int) -> str:
    """The text in one line of at most so many characters."""
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


_COLUMNS = 1500
"""More points than that across are more than a picture can show."""


def _visible(rows: Sequence[Values]) -> NDArray[np.intp]:
    """The frames worth drawing: all of them, or of each column the extremes of every row."""
    count = len(rows[0])
    if count <= 2 * _COLUMNS:
        return np.arange(count)
    starts = np.linspace(0, count, _COLUMNS, endpoint=False).astype(int)
    kept = [starts, [count - 1]]
    for row in rows:
        parts = np.split(row, starts[1:])
        kept.append([start + part.argmin() for start, part in zip(starts, parts, strict=True)])
        kept.append([start + part.argmax() for start, part in zip(starts, parts, strict=True)])
    return np.unique(np.concatenate(kept)).astype(np.intp)


def _to_the_end(frames: NDArray[np.intp], *rows: Values) -> tuple[Any, ...]:
    """Frames and the rows there, with the last value held until the last frame's end."""
    return (
        np.append(frames, frames[-1] + 1),
        *(np.append(row[frames], row[frames[-1]]) for row in rows),
    )


def _draw_track(axes: Axes, track: Track, timeline: Timeline, color: str, width: float) -> None:
    """A line over a faint fill, with a dot at every keyframe."""
    x, y = _to_the_end(_visible([track.values]), track.values)
    low, high = float(y.min()), float(y.max())
    margin = (high - low) * 0.12 or abs(high) * 0.1 or 0.1
    axes.set_ylim(low - margin, high + margin)
    axes.fill_between(x, low - margin, y, color=color, alpha=0.13, linewidth=0)
    axes.plot(x, y, color=color, linewidth=width, solid_joinstyle="round")
    frames = _key_frames(track, timeline)
    axes.plot(
        frames, track.values[frames], linestyle="", marker="o", markersize=width * 2.6,
        color=color, markeredgecolor=PANEL, clip_on=False, zorder=5,
    )  # fmt: skip


def _key_frames(track: Track, timeline: Timeline) -> list[int]:
    """Where the curve's keys are; none for a single expression."""
    if track.curve is None or len(track.curve.keys) == 1:
        return []
    starts = track.curve.starts(timeline.frame_count, float(timeline.rate), timeline.seed)
    return [frame for frame in starts if 0 <= frame < timeline.frame_count]


def _draw_weights(axes: Axes, tracks: Sequence[Track]) -> None:
    """Layers stacked where all push the same way, as lines where one suppresses."""
    rows = [track.values for track in tracks]
    frames = _visible(rows)
    if min(float(row.min()) for row in rows) < 0:
        for color, row in zip(_colors(len(rows)), rows, strict=True):
            axes.plot(*_to_the_end(frames, row), color=color, linewidth=1.8)
        axes.axhline(0, color=FAINT_INK, linewidth=0.8)
        axes.margins(y=0.08)
        return
    x, *heights = _to_the_end(frames, *rows)
    axes.stackplot(x, *heights, colors=_colors(len(rows)), alpha=0.85, linewidth=0)
    axes.set_ylim(0, max(1e-3, float(np.sum(heights, axis=0).max())) * 1.04)


def _colors(count: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(count)]


def _draw_sound(axes: Axes, sound: SoundCurves) -> None:
    """Each in a lane of its own, the first on top."""
    for place, (name, values) in enumerate(reversed(list(sound.items()))):
        x, y = _to_the_end(_visible([values]), values)
        color = COLORS[(len(sound) - 1 - place) % len(COLORS)]
        axes.fill_between(x, place, place + 0.86 * y, color=color, alpha=0.8, linewidth=0)
        axes.text(
            0.006, place + 0.8, _said(name, 30), color=INK, fontsize=8, va="top",
            transform=axes.get_yaxis_transform(), parse_math=False,
        )  # fmt: skip
    axes.set_ylim(0, max(1, len(sound)))
    axes.set_yticks([])


# ── the whole preset ─────────────────────────────────────────────────────────────────────────────

_WIDTH, _DOTS = 12.8, 125
"""Inches, and dots per inch: 1600 pixels across."""
_LEFT, _RIGHT = 0.95, 0.35
_TITLE, _TIME = 1.2, 0.95
_SECONDS_BELOW = 0.24
_GAP = 0.42
_LEGEND_LINE, _LEGEND_COLUMNS = 0.24, 5
_SOUND_LANE, _WEIGHTS, _CURVE = 0.4, 1.7, 1.05
_CONSTANT_COLUMNS, _CONSTANT_LINE, _KEY_WIDTH = 3, 0.21, 1.68


def plot(timeline: Timeline, name: str, description: str = "") -> Array:
    """The preset's layers, curves and sound over the render, and what stays as it is."""
    heights = [_WEIGHTS, *[_CURVE] * len(timeline.moving)]
    if timeline.sound:
        heights.append(_SOUND_LANE * len(timeline.sound))
    head = _TITLE + _LEGEND_LINE * _legend_rows(timeline)
    tops = head + np.cumsum([0, *(height + _GAP for height in heights)])
    foot = tops[-1] - _GAP + _TIME
    total = foot + (_constant_lines(timeline) + 2) * _CONSTANT_LINE
    figure = Figure(figsize=(_WIDTH, total), dpi=_DOTS, facecolor=GROUND)
    panels = [_panel(figure, *place) for place in zip(tops[:-1], heights, strict=True)]
    _head(figure, timeline, name, description)
    _fill_panels(panels, timeline)
    _tell_time(figure, panels, timeline, tops[-1] - _GAP)
    _list_constants(figure, timeline, foot)
    return picture(figure)


def _panel(figure: Figure, top: float, height: float) -> Axes:
    """Axes whose top edge is so many inches below the figure's."""
    across, down = figure.get_size_inches()
    box = (_LEFT / across, 1 - (top + height) / down, (across - _LEFT - _RIGHT) / across)
    return figure.add_axes((*box, height / down))


def _head(figure: Figure, timeline: Timeline, name: str, description: str) -> None:
    _write(figure, _LEFT, 0.42, _said(name, 60), size=19, weight="bold")
    _write(figure, _LEFT, 0.7, _said(description, 110), size=10.5, color=FAINT_INK)
    count, seconds = timeline.frame_count, timeline.frame_count / timeline.rate
    length = f"{count} frame{'s' * (count != 1)} · {float(seconds):.2f} s · "
    rate = float(timeline.rate)
    _write(
        figure, _WIDTH - _RIGHT, 0.42, f"{length}{rate:.6g} fps", color=FAINT_INK, ha="right"
    )  # fmt: skip


def _write(
    figure: Figure, x: float, y: float, text: str, *, size: float = 10.5, **look: Any
) -> None:
    """Text on the figure, `x` and the base line `y` in inches from its top left corner."""
    width, height = figure.get_size_inches()
    look = {"color": INK, **look}
    figure.text(x / width, 1 - y / height, text, fontsize=size, parse_math=False, **look)


def _fill_panels(panels: Sequence[Axes], timeline: Timeline) -> None:
    for axes in panels:
        _dress(axes, timeline)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelsize=9, labelbottom=False)
    first, *rest = panels
    _draw_weights(first, timeline.weights)
    _legend(first, timeline)
    raised = _LEGEND_LINE * _legend_rows(timeline)
    _entitle(first, "Layer weights", _STILLNESS if timeline.nothing_moves else "", raised)
    for index, track in enumerate(timeline.moving):
        _draw_track(rest[index], track, timeline, COLORS[index % len(COLORS)], width=1.8)
        unit = f"  ({track.unit})" if track.unit else ""
        _entitle(rest[index], track.key + unit, track.written)
    if timeline.sound:
        _draw_sound(rest[-1], timeline.sound)
        _entitle(rest[-1], "Sound", "each from 0 to 1")


_STILLNESS = "Nothing moves: every setting stays as it is over the whole render."


def _entitle(axes: Axes, title: str, aside: str, raised: float = 0) -> None:
    """What a panel shows at its left, how it was written at its right; `raised` in inches."""
    look = {"parse_math": False, "pad": 6 + raised * _POINTS_PER_INCH}
    axes.set_title(title, loc="left", color=INK, fontsize=11, **look)
    axes.set_title(_said(aside, 100), loc="right", color=FAINT_INK, fontsize=9, **look)


def _legend_rows(timeline: Timeline) -> int:
    return -(-len(timeline.weights) // _LEGEND_COLUMNS)


def _legend(axes: Axes, timeline: Timeline) -> None:
    """Above the panel, where it hides nothing."""
    tracks = timeline.weights
    legend = axes.legend(
        handles=[Patch(color=color) for color in _colors(len(tracks))],
        labels=[f"{_said(track.key, 24)}  {_span(track)}" for track in tracks],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=_LEGEND_COLUMNS,
        borderpad=0.2,
        borderaxespad=0.2,
        columnspacing=1.6,
        labelspacing=0.35,
        handlelength=1,
        fontsize=9,
        labelcolor=INK,
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _span(track: Track) -> str:
    low, high = float(track.values.min()), float(track.values.max())
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _tell_time(figure: Figure, panels: Sequence[Axes], timeline: Timeline, foot: float) -> None:
    """Frames, and below them seconds, under the last panel, which ends at `foot` inches."""
    last = panels[-1]
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    last.tick_params(labelbottom=True)
    height = last.get_position().height * figure.get_size_inches()[1]
    seconds = last.secondary_xaxis(-_SECONDS_BELOW / height, functions=_scales(timeline))
    seconds.xaxis.set_major_locator(MaxNLocator(10))
    seconds.tick_params(colors=FAINT_INK, labelsize=9, length=0)
    seconds.spines[:].set_visible(False)
    look = {"size": 9, "color": FAINT_INK, "ha": "right"}
    _write(figure, _LEFT - 0.25, foot + 0.155, "frame", **look)
    _write(figure, _LEFT - 0.25, foot + 0.155 + _SECONDS_BELOW, "second", **look)


def _scales(timeline: Timeline) -> Any:
    """From frames to seconds, and back."""
    rate = float(timeline.rate)
    return (lambda frames: frames / rate, lambda seconds: seconds * rate)


def _list_constants(figure: Figure, timeline: Timeline, top: float) -> None:
    """What stays as it is, in columns read downwards."""
    _write(figure, _LEFT, top, "Constant", size=11)
    lines = _constant_lines(timeline)
    across = (_WIDTH - _LEFT - _RIGHT) / _CONSTANT_COLUMNS
    for index, (key, value) in enumerate(timeline.constants):
        column, line = divmod(index, lines)
        x, y = _LEFT + column * across, top + (line + 1.3) * _CONSTANT_LINE
        _write(figure, x, y, key, size=9, color=FAINT_INK)
        _write(figure, x + _KEY_WIDTH, y, _said(value, 30), size=9)


def _constant_lines(timeline: Timeline) -> int:
    return -(-len(timeline.constants) // _CONSTANT_COLUMNS)


# ── a strip below a film ─────────────────────────────────────────────────────────────────────────

MAX_LANES = 6
"""Of settings; a preset that moves more is better plotted alone."""

_STRIP_DOTS = 100
_LABELS, _READINGS = 150, 100
"""Pixels at the left and at the right of the lanes."""
_LANE, _LAYERS_LANE, _LANE_GAP, _SCALE = 34, 58, 8, 24


@dataclass(frozen=True)
class Lane:
    """A part of a strip, in pixels from its top."""

    top: int
    height: int
    label: str
    tracks: tuple[Track, ...] = ()
    """What is drawn in it: all layers, one setting, or nothing for what is yet to be measured."""
    colors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Strip:
    """Curves over a render, to draw a playhead on."""

    picture: Array
    left: int
    """Column at which the first frame begins; those after `right` are free for readings."""
    right: int
    """Column at which the last frame ends."""
    lanes: tuple[Lane, ...]

    def column(self, frame: float, frame_count: int) -> int:
        """Where on the strip a frame begins."""
        return self.left + round((self.right - self.left) * frame / frame_count)


def strip(timeline: Timeline, width: int, measured: str) -> Strip:
    """The timeline in lanes one above the other, `width` pixels across.

    The layers come first, then up to `MAX_LANES` settings that move, last a lane called `measured`
    that is left empty for the caller.
    """
    lanes = tuple(_lanes(timeline, measured))
    height = lanes[-1].top + lanes[-1].height + _SCALE
    size = (width / _STRIP_DOTS, height / _STRIP_DOTS)
    figure = Figure(figsize=size, dpi=_STRIP_DOTS, facecolor=GROUND)
    left, right = _LABELS, width - _READINGS
    for lane in lanes:
        box = (left / width, 1 - (lane.top + lane.height) / height, (right - left) / width)
        axes = figure.add_axes((*box, lane.height / height))
        _fill_lane(axes, lane, timeline)
        look = {"color": FAINT_INK, "fontsize": 7.5, "va": "center", "parse_math": False}
        figure.text(16 / width, 1 - (lane.top + lane.height / 2) / height, lane.label, **look)
        if lane is lanes[-1]:
            _count_seconds(axes, timeline)
    return Strip(picture(figure), left, right, lanes)


def _lanes(timeline: Timeline, measured: str) -> Iterator[Lane]:
    top = _LANE_GAP
    colors = tuple(_colors(len(timeline.weights)))
    yield Lane(top, _LAYERS_LANE, "layer weights", timeline.weights, colors)
    top += _LAYERS_LANE + _LANE_GAP
    for track, color in zip(timeline.moving[:MAX_LANES], COLORS, strict=False):
        yield Lane(top, _LANE, _said(track.key, 22), (track,), (color,))
        top += _LANE + _LANE_GAP
    yield Lane(top, _LANE, measured)


def _fill_lane(axes: Axes, lane: Lane, timeline: Timeline) -> None:
    _dress(axes, timeline)
    axes.grid(visible=False)
    axes.tick_params(labelbottom=False, labelleft=False)
    if lane.tracks is timeline.weights:
        _draw_weights(axes, lane.tracks)
    elif lane.tracks:
        _draw_track(axes, lane.tracks[0], timeline, lane.colors[0], width=1.3)


def _count_seconds(axes: Axes, timeline: Timeline) -> None:
    seconds = axes.secondary_xaxis("bottom", functions=_scales(timeline))
    seconds.xaxis.set_major_locator(MaxNLocator(8))
    seconds.xaxis.set_major_formatter("{x:g} s")
    seconds.tick_params(colors=FAINT_INK, labelsize=7, length=0)
    seconds.spines[:].set_visible(False)


# ── the command ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Span:
    """The render that a plot is of, as the command line asks for it; at most one length."""

    frames: int | None = None
    duration: Moment | None = None
    clip: Path | None = None
    """Its length, and its rate unless another is asked for."""
    rate: Fraction | None = None

    def measure(self, preset: Preset, *, max_pixels: int) -> VideoInfo:
        """The clip, or one as long as asked for: else until shortly after the last key."""
        if sum(given is not None for given in (self.frames, self.duration, self.clip)) > 1:
            raise UsageError("give one of --frames, --duration and --input: each says how long")
        if self.clip is not None:
            with open_clip(self.clip, rate=self.rate, max_pixels=max_pixels) as clip:
                return _checked(clip.info)
        rate = self.rate or Fraction(preset.reference_fps)
        if self.duration is not None:
            return _checked(VideoInfo(1, 1, rate, self.duration.frame(rate)))
        frame_count = self.frames or min(preset.telling_length(rate), MAX_FRAMES)
        return _checked(VideoInfo(1, 1, rate, frame_count))


def _checked(info: VideoInfo) -> VideoInfo:
    if not 1 <= info.frame_count <= MAX_FRAMES:
        raise UsageError(f"cannot plot {info.frame_count} frames: from 1 to {MAX_FRAMES} can be")
    return info


def plot_preset(
    name: str,
    output: Path,
    span: Span,
    *,
    overrides: Sequence[str] = (),
    sound: Path | None = None,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Write the plot of a preset, with `KEY=VALUE` overrides on top, as a picture.

    A preset that listens hears the file `sound`, else its own, else that of the span's clip. Raises
    OutputError before any work if `output` is taken, PresetError for a wrong preset.
    """
    check_still_target(output, overwrite=overwrite)
    preset = presets.load(name, overrides=overrides)
    if sound is not None:
        preset = preset.listening_to(sound)
    heard = Path(preset.audio) if preset.audio else None
    check_input_survives(output, [file for file in (span.clip, heard) if file])
    info = span.measure(preset, max_pixels=max_pixels)
    timeline = Timeline.of(preset, info.frame_count, info.rate, _listen(preset, span.clip, info))
    write_still(output, plot(timeline, Path(name).stem, preset.description))


def _listen(preset: Preset, clip: Path | None, info: VideoInfo) -> SoundCurves | None:
    """The sound that the preset listens to; torch is loaded for a preset that does."""
    wanted = preset.sound_expressions()
    if not wanted:
        return None
    if clip is None and not preset.audio:
        path, expression = next(iter(wanted.items()))
        raise UsageError(
            f"{path} listens to a sound ({quoted(expression)}): "
            "name a clip with --input or a file with --audio"
        )
    from dreamflow import job

    return job.listen(preset, clip or Path(preset.audio), info)
