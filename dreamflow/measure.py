"""How steady, how strong and how true in colour a finished dream is, measured on decoded files.

One pass over source and output side by side, in memory that does not grow with the pictures.

Terms. The *residual* is output less source, 0..1; r is the residual less its own Gaussian blur of
`BLUR` pixels, so that what is measured is the dream's detail and not a tint. warp(x) is x of an
earlier frame pulled along the flow of the *source*, for that is how a dream should move.

- **flicker** at a lag: RMS(r(t) - warp(r(t - lag))) / RMS(r(t)) over the pixels whose flow is
  consistent forwards and backwards (Sundaram, Brox & Keutzer 2010). 0 is a dream that sticks
  perfectly, sqrt(2) is noise. It is the warping error of Lai et al. 2018 ("Learning blind video
  temporal consistency"), taken of the residual, so that the scene itself neither adds to it nor
  hides it, and relative to it, so that a faint dream does not pass for a steady one. Pairs of
  frames with a cut between them are left out. Over many frames squares are summed, then divided.
- **strength**: mean square activation of the dreamed layer on the output over that on the source,
  at the size it was dreamed at; 1 is no dream. Of several layers it is the mean by their weights
  in force. Its coefficient of variation is the standard deviation over the mean.
- **change**: RMS of the residual, in 8-bit levels.
- **shift**: mean of the output less mean of the source: brightness in 8-bit levels over R, G and B,
  colour in CIELAB (L*, a*, b*), and the same of the standard deviation of L* (spread).
- **drift** of a shift: how far its straight line of least squares rises from the first frame of a
  shot to the last. Over many shots the mean by their lengths, without signs.
- **clipped**: share of the pixels of which a channel is at its end.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import math
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dreamflow import job, shots, vectors
from dreamflow import preset as presets
from dreamflow.color import ColorStatistics
from dreamflow.errors import DreamflowError, UsageError
from dreamflow.frames import Array, Box, Moment, to_image
from dreamflow.preset import Preset
from dreamflow.render import Engine, shrink
from dreamflow.settings import Cuts
from dreamflow.shots import Marked
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.reader import Clip, open_clip, resized
from dreamflow.video.writer import embedded_settings

logger = logging.getLogger("dreamflow")

LAGS = (1, 5)
"""Frames between the two that are compared."""
BLUR = 8.0
"""Standard deviation in pixels of the blur that a residual is taken less of."""

# ── flicker ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Pair:
    """Two frames compared, over the pixels that can be followed from one to the other."""

    change: float
    """Sum of (r(t) - warp(r(t - lag)))²."""
    energy: float
    """Sum of r(t)²."""
    followed: float
    """Share of the pixels."""


def flicker_of(pairs: Iterable[Pair | None]) -> float | None:
    """sqrt(sum of changes / sum of energies); None where there is nothing to compare."""
    known = [pair for pair in pairs if pair is not None]
    energy = sum(pair.energy for pair in known)
    return math.sqrt(sum(pair.change for pair in known) / energy) if energy > 0 else None


@dataclass(frozen=True)
class _Seen:
    """What of a frame is compared with later ones."""

    shot: int
    grey: np.ndarray
    detail: np.ndarray
    """r, float32 `[H, W, 3]`."""


def compare(now: _Seen, before: _Seen) -> Pair:
    """The pair's part in the flicker."""
    flow = _flow(now.grey, before.grey)
    back = vectors.pulled(_flow(before.grey, now.grey), flow)
    followed = vectors.inside(flow) & vectors.agree(flow, back)
    moved = vectors.pulled(before.detail, flow)
    change = ((now.detail - moved)[followed].astype(np.float64) ** 2).sum()
    energy = (now.detail[followed].astype(np.float64) ** 2).sum()
    return Pair(float(change), float(energy), float(followed.mean()))


def _detail(residual: np.ndarray) -> np.ndarray:
    return residual - cv2.GaussianBlur(residual, (0, 0), BLUR)


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dense inverse search (Kroeger et al. 2016) from grey `first` to `second`: `[H, W, 2]`."""
    height, width = first.shape
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = vectors.padded(first), vectors.padded(second)
    return search.calc(*greys, None)[:height, :width]  # type: ignore[call-overload]


# ── strength ─────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def strength(engine: Engine, index: int, source: Array, output: Array) -> float:
    """Activation of the dreamed layers on `output` over that on `source`, as a ratio.

    `index` is the source index of the frame, which says what weights are in force. Objectives that
    measure a distance, such as to another picture, have no such ratio and are left out.
    """
    now = engine.at(index)
    images = (to_image(array, engine.device) for array in (output, source))
    size = now.preset.dream.size
    dreamed, plain = (engine.extractor(shrink(image, size)) for image in images)
    tiny = torch.finfo(torch.float32).tiny
    terms = [term for term in now.terms if not (term.bounded or term.references)]
    ratios = [float(t.score(dreamed) / t.score(plain).clamp(min=tiny)) for t in terms]
    weights = [abs(term.weight) for term in terms]
    return float(np.average(ratios, weights=weights)) if ratios else 1.0


# ── frame by frame ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Shift:
    """Means of the output less those of the source."""

    brightness: float
    """8-bit levels, over R, G and B."""
    lightness: float
    """L*, 0..100."""
    a: float
    b: float
    spread: float
    """Standard deviation of L*."""

    @classmethod
    def between(cls, source: Array, output: Array, residual: np.ndarray) -> Shift:
        was, now = (ColorStatistics.of(to_image(array)) for array in (source, output))
        lightness, a, b = (new - old for new, old in zip(now.mean, was.mean, strict=True))
        spread = now.spread[0] - was.spread[0]
        return cls(float(residual.mean()) * 255, lightness, a, b, spread)


@dataclass(frozen=True)
class FrameMeasure:
    """All that is known of one frame."""

    index: int
    """In the source."""
    time: float
    """Seconds from the first frame that was measured."""
    shot: int
    """From 1."""
    pairs: tuple[Pair | None, ...]
    """For each of `LAGS`; None at a shot's beginning."""
    strength: float | None
    change: float
    """RMS of the residual, 8-bit levels."""
    shift: Shift
    clipped: float
    """Share of the output's pixels."""

    def flicker(self, lag: int) -> float | None:
        return flicker_of([self.pairs[LAGS.index(lag)]])

    def row(self) -> dict[str, float | None]:
        """Flat, as a line of a table."""
        flickers = {f"flicker_{lag}": self.flicker(lag) for lag in LAGS}
        near = self.pairs[0]
        return {
            **{"frame": self.index, "time": self.time, "shot": self.shot},
            **flickers,
            "followed": near.followed if near else None,
            "strength": self.strength,
            "change": self.change,
            **{f"shift_{name}": value for name, value in asdict(self.shift).items()},
            "clipped": self.clipped,
        }


@dataclass(frozen=True)
class Bad:
    """One of the frames that flicker most."""

    frame: FrameMeasure
    source: Array
    """A thumbnail, uint8."""
    output: Array


THUMBNAIL = 240
"""Long side in pixels."""
_WORST = 6


class Meter:
    """Takes frames one by one; holds the last few, and a few hundred bytes for each before."""

    def __init__(self, rate: Fraction, engine: Engine | None = None) -> None:
        self.frames: list[FrameMeasure] = []
        self.worst: list[Bad] = []
        """Those that flicker most at lag 1, worst first, at least half a second apart."""
        self._rate, self._engine = rate, engine
        self._seen: deque[_Seen] = deque(maxlen=max(LAGS))
        self._shot = 0

    def add(self, source: Marked, output: Array) -> FrameMeasure:
        """Measure the next frame; `output` is of the same shape as the source's."""
        self._shot += source.begins_shot
        residual = _floats(output) - _floats(source.array)
        seen = _Seen(self._shot, _grey(source.array), _detail(residual))
        measured = FrameMeasure(
            index=source.index,
            time=float(len(self.frames) / self._rate),
            shot=self._shot,
            pairs=tuple(self._compared(seen, lag) for lag in LAGS),
            strength=self._strength(source, output),
            change=math.sqrt(float(np.square(residual, dtype=np.float64).mean())) * 255,
            shift=Shift.between(source.array, output, residual),
            clipped=_clipped(output),
        )
        self._seen.append(seen)
        self.frames.append(measured)
        self._remember(measured, source.array, output)
        return measured

    def _compared(self, seen: _Seen, lag: int) -> Pair | None:
        if len(self._seen) < lag or self._seen[-lag].shot != seen.shot:
            return None
        return compare(seen, self._seen[-lag])

    def _strength(self, source: Marked, output: Array) -> float | None:
        if self._engine is None:
            return None
        return strength(self._engine, source.index, source.array, output)

    def _remember(self, frame: FrameMeasure, source: Array, output: Array) -> None:
        """Keep the frame if it is among the worst; of neighbours only the worst one stays."""
        if _badness(frame) == 0:
            return
        apart = self._rate / 2
        near = [bad for bad in self.worst if frame.index - bad.frame.index < apart]
        if any(_badness(bad.frame) >= _badness(frame) for bad in near):
            return
        kept = [bad for bad in self.worst if bad not in near]
        kept.append(Bad(frame, _thumbnail(source), _thumbnail(output)))
        self.worst = sorted(kept, key=lambda bad: -_badness(bad.frame))[:_WORST]


def _badness(frame: FrameMeasure) -> float:
    return frame.flicker(LAGS[0]) or 0.0


def _floats(array: Array) -> np.ndarray:
    return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)


def _grey(array: Array) -> np.ndarray:
    return cv2.cvtColor((_floats(array) * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY)


def _clipped(array: Array) -> float:
    top = np.iinfo(array.dtype).max
    return float(((array == 0) | (array == top)).any(axis=2).mean())


def _thumbnail(array: Array) -> Array:
    height, width, _ = array.shape
    small = resized(array, Box(THUMBNAIL, THUMBNAIL).fit(width, height))
    return (_floats(small) * 255).round().astype(np.uint8)


# ── all together ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Summary:
    """The numbers of a shot, or of a whole film."""

    frames: int
    flicker: tuple[float | None, ...]
    """For each of `LAGS`."""
    strength: float | None
    """Mean over the frames."""
    strength_variation: float | None
    """Standard deviation of the strength over its mean."""
    change: float
    """8-bit levels."""
    shift: Shift
    """Mean over the frames."""
    drift: Shift
    """From first frame to last."""
    clipped: float

    @classmethod
    def of_shot(cls, frames: Sequence[FrameMeasure]) -> Summary:
        return cls._of(frames, _drift(frames))

    @classmethod
    def of_film(cls, frames: Sequence[FrameMeasure]) -> Summary:
        rises = [(len(shot), _drift(shot)) for shot in by_shot(frames)]
        return cls._of(frames, _mean_size(rises))

    @classmethod
    def _of(cls, frames: Sequence[FrameMeasure], drift: Shift) -> Summary:
        strengths = [frame.strength for frame in frames if frame.strength is not None]
        mean = float(np.mean(strengths)) if strengths else None
        return cls(
            frames=len(frames),
            flicker=tuple(flicker_of(pairs) for pairs in zip(*(f.pairs for f in frames))),  # noqa: B905
            strength=mean,
            strength_variation=float(np.std(strengths)) / mean if mean else None,
            change=math.sqrt(float(np.mean([frame.change**2 for frame in frames]))),
            shift=Shift(*np.mean(_shifts(frames), axis=0).tolist()),
            drift=drift,
            clipped=float(np.mean([frame.clipped for frame in frames])),
        )

    def row(self) -> dict[str, Any]:
        """Plain numbers, as JSON takes them."""
        numbers = asdict(self)
        del numbers["flicker"]
        flickers = {f"flicker_{lag}": each for lag, each in zip(LAGS, self.flicker, strict=True)}
        return {"frames": numbers.pop("frames"), **flickers, **numbers}


def _shifts(frames: Sequence[FrameMeasure]) -> np.ndarray:
    """`[frames, 5]`, in the order of `Shift`'s fields."""
    return np.array([list(asdict(frame.shift).values()) for frame in frames])


def _drift(frames: Sequence[FrameMeasure]) -> Shift:
    """Rise of the line of least squares through each shift, over the shot."""
    if len(frames) < 2:
        return Shift(0, 0, 0, 0, 0)
    slopes = np.polyfit(np.arange(len(frames)), _shifts(frames), deg=1)[0]
    return Shift(*(slopes * (len(frames) - 1)).tolist())


def _mean_size(rises: Sequence[tuple[int, Shift]]) -> Shift:
    lengths = [length for length, _ in rises]
    sizes = np.abs([list(asdict(rise).values()) for _, rise in rises])
    return Shift(*np.average(sizes, axis=0, weights=lengths).tolist())


def by_shot(frames: Iterable[FrameMeasure]) -> list[list[FrameMeasure]]:
    return [list(shot) for _, shot in itertools.groupby(frames, lambda frame: frame.shot)]


@dataclass(frozen=True)
class Measurement:
    """What came out, of the whole and in all detail."""

    source: str
    output: str
    rate: Fraction
    film: Summary
    shots: tuple[Summary, ...]
    frames: tuple[FrameMeasure, ...]
    worst: tuple[Bad, ...]

    def as_json(self) -> str:
        """Names, rate, and the numbers of the film and of each shot."""
        firsts = [shot[0].index for shot in by_shot(self.frames)]
        parts = [{"first": first, **s.row()} for first, s in zip(firsts, self.shots, strict=True)]
        names = {"source": self.source, "output": self.output, "rate": str(self.rate)}
        return json.dumps({**names, "film": self.film.row(), "shots": parts}, indent=2)

    def as_csv(self) -> str:
        """One line for each frame, under a line of names."""
        rows = [frame.row() for frame in self.frames]
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        return text.getvalue()


def flicker(
    source: Iterable[Array], output: Iterable[Array], lag: int, cuts: Cuts = "auto"
) -> float:
    """That of frames in memory, at one of `LAGS`; raises ValueError where there is no dream."""
    meter = Meter(Fraction(25))
    for marked, dreamed in zip(shots.mark(source, cuts, Fraction(25)), output, strict=True):
        meter.add(marked, dreamed)
    found = flicker_of(frame.pairs[LAGS.index(lag)] for frame in meter.frames)
    if found is None:
        raise ValueError("nothing to compare: the output is the source, or too short")
    return found


# ── files ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class MeasureRequest:
    """What to measure, as the command line asks for it."""

    source: Path
    output: Path
    preset: Preset | None = None
    """Says which layers' strength to take; None for the preset that OUTPUT carries."""
    start: Moment | None = None
    """Of the part of the source that was rendered, as are `end` and `rate`."""
    end: Moment | None = None
    rate: Fraction | None = None
    device: str = "auto"
    threads: int = 2
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Opened:
    """Both files fit together; `frame_count` frames follow."""

    frame_count: int


def measure(
    request: MeasureRequest,
) -> Generator[Opened | FrameMeasure | Measurement, None, None]:
    """Measure an output against its source; the last thing yielded is the `Measurement`.

    An output of another size is compared with the source scaled to it. Raises UsageError where
    frame counts, rates or shapes differ.
    """
    with _open_source(request) as source, _open_output(request) as output:
        _check_fit(request, source, output)
        preset = request.preset or carried_preset(request.output)
        engine = _engine(request, preset, source)
        meter = Meter(output.info.rate, engine)
        yield Opened(output.info.frame_count)
        # `off` keeps a dream going over cuts, where it can be followed as little as ever.
        cuts = "auto" if preset is None or isinstance(preset.shots, str) else preset.shots
        width, height = _common_size(source, output)
        scaled = (resized(array, (width, height)) for array in source.frames())
        first = source.info.first_index
        marked = shots.mark(scaled, cuts, source.info.rate, first_index=first)
        for frame, dreamed in zip(marked, output.frames(), strict=True):
            # What an encoder added to make the sides even lies at the right and below.
            yield meter.add(frame, np.ascontiguousarray(dreamed[:height, :width]))
    yield _measurement(request, output.info.rate, meter)


def _measurement(request: MeasureRequest, rate: Fraction, meter: Meter) -> Measurement:
    frames = meter.frames
    return Measurement(
        source=str(request.source),
        output=str(request.output),
        rate=rate,
        film=Summary.of_film(frames),
        shots=tuple(Summary.of_shot(shot) for shot in by_shot(frames)),
        frames=tuple(frames),
        worst=tuple(meter.worst),
    )


def _open_source(request: MeasureRequest) -> Clip:
    return open_clip(
        request.source,
        start=request.start,
        end=request.end,
        rate=request.rate,
        max_pixels=request.max_pixels,
    )


def _open_output(request: MeasureRequest) -> Clip:
    # A folder of pictures does not know its rate; a video's own must come out as it is.
    stills = request.output.is_dir()
    return open_clip(
        request.output, rate=request.rate if stills else None, max_pixels=request.max_pixels
    )


def _common_size(source: Clip, output: Clip) -> tuple[int, int]:
    """(width, height) at which both are compared: the output's, less what pads it to even sides."""
    own, other = source.info, output.info
    padded = 0 <= other.width - own.width <= 1 and 0 <= other.height - own.height <= 1
    return (own.width, own.height) if padded else (other.width, other.height)


def _check_fit(request: MeasureRequest, source: Clip, output: Clip) -> None:
    own, other = source.info, output.info
    if (own.frame_count, own.rate) != (other.frame_count, other.rate):
        raise UsageError(
            f"{request.source} has {own.frame_count} frames at {own.rate} fps, {request.output} "
            f"{other.frame_count} at {other.rate}: only equal ones can be compared "
            "(--start, --end and --fps say what was rendered)"
        )
    width, height = _common_size(source, output)
    # Rounding to whole pixels changes the shape of small pictures most.
    if abs(own.width * height - own.height * width) > 2 * max(own.width, own.height):
        raise UsageError(
            f"{request.source} is {own.width}x{own.height}, {request.output} "
            f"{other.width}x{other.height}: pictures of different shapes cannot be compared"
        )


def carried_preset(output: Path) -> Preset | None:
    """The preset that an output was made with; None, and a warning, if it cannot be had."""
    try:
        text = embedded_settings(output)
        if text is None:
            logger.warning("%s carries no settings: give --preset to measure strength", output)
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "recipe.yaml")
            path.write_text(str(json.loads(text)["preset"]), "utf-8")
            return presets.load(str(path))
    except (DreamflowError, ValueError, RecursionError, LookupError, TypeError):
        logger.warning("the settings in %s cannot be used: strength is left out", output)
        return None


def _engine(request: MeasureRequest, preset: Preset | None, source: Clip) -> Engine | None:
    """What strength is measured with. A preset that was asked for must work, one found need not."""
    if preset is None:
        return None
    info = source.info
    frames: Any = {"frame_count": info.frame_count, "first_index": info.first_index}
    try:
        sound = job.listen(preset, request.source, info)
        return job.prepare(
            preset.model_copy(update={"mask": ""}),  # it changes no score, and may be gone by now
            info.rate,
            request.device,
            request.threads,
            sound=sound,
            make_flow=job.without_motion,
            **frames,
        )
    except DreamflowError as error:
        if request.preset is not None:
            raise
        logger.warning("strength is left out: %s", error)
        return None
