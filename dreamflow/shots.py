"""Cuts: where one shot ends and the next begins, found in one pass over frames given one by one.

A detector names the frames at which the picture jumps. A jump is a cut if it lasts: a flash is over
after a few frames, and what comes then is what there was before. Fades and pans never jump. Only
frames near a jump are held back, and never more than `look_ahead` of them.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import cv2
import numpy as np

from dreamflow import vectors
from dreamflow.errors import UnavailableError
from dreamflow.frames import Array, Moment, Shot
from dreamflow.settings import Cuts
from dreamflow.video.reader import Clip, resized

# ── how much two frames differ ───────────────────────────────────────────────────────────────────

_LOOK_SIDE = 96
"""Long side at which frames are compared: enough for shapes, too little for grain."""
_FLAT = 4.0
"""A picture whose grey deviates less from its mean, in 8-bit levels, has no shapes to compare."""
_BINS = 6
"""Bins of the histogram along each of R, G and B."""
_FULL_JUMP = 64.0
"""Mean change of colour, in levels, at which flat pictures have nothing in common."""


@dataclass(frozen=True)
class Look:
    """What of a frame is compared with others: small enough to keep some."""

    grey: np.ndarray
    """`[h, w]` uint8."""
    colour: np.ndarray
    """`[h, w, 3]` RGB uint8."""
    histogram: np.ndarray
    """Share of the pixels in each of `_BINS`³ bins of colour."""

    @classmethod
    def at(cls, array: Array) -> Look:
        colour = _small(array)
        bins = (colour.astype(np.int32) * _BINS) >> 8
        cells = (bins * (_BINS * _BINS, _BINS, 1)).sum(axis=2).ravel()
        histogram = np.bincount(cells, minlength=_BINS**3) / cells.size
        return cls(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), colour, histogram)

    @property
    def is_flat(self) -> bool:
        return float(self.grey.std()) < _FLAT


def _small(array: Array) -> Array:
    """The array with 8 bits and a long side of `_LOOK_SIDE`."""
    height, width, _ = array.shape
    scale = _LOOK_SIDE / max(height, width)
    size = (
        max(vectors.SMALLEST_SIDE, round(width * scale)),
        max(vectors.SMALLEST_SIDE, round(height * scale)),
    )
    small = resized(array, size)
    return small if small.dtype == np.uint8 else (small >> 8).astype(np.uint8)


def difference(one: Look, other: Look) -> float:
    """How little two frames have in common: about 0 within a shot, 0.6 to 1.4 across a cut.

    It is 1 - r + h/4, with r the correlation of the greys after `other` was pulled onto `one` along
    the optical flow, so that neither motion nor light counts, and h the share of the pixels that
    changed their bin of colour. A flat picture has no shapes: there the mean change of colour
    decides, full at `_FULL_JUMP` levels.
    """
    if one.is_flat or other.is_flat:
        return min(1.0, _distance(one, other) / _FULL_JUMP)
    recoloured = 1 - float(np.minimum(one.histogram, other.histogram).sum())
    alike = _correlation(one.grey, _pulled(other.grey, one.grey, None))
    if 1 - alike + recoloured / 4 >= _JUMP:
        shift = _shift(one.grey, other.grey)
        alike = max(alike, _correlation(one.grey, _pulled(other.grey, one.grey, shift)))
    return 1 - alike + recoloured / 4


def _pulled(other: np.ndarray, one: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    """`other` moved so as to look like `one`, along the flow searched for from `start` on."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = search.calc(one, other, start)  # type: ignore[call-overload]
    return vectors.pulled(other, flow)


def _shift(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The flow of a camera that swings too fast for a search from rest: the same everywhere.

    By phase correlation (Kuglin & Hines 1975).
    """
    height, width = one.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    shift, _ = cv2.phaseCorrelate(one.astype(np.float32), other.astype(np.float32), window)
    # Where the window leaves nothing there is no phase, hence no number.
    return np.full((height, width, 2), np.nan_to_num(shift), np.float32)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's r of two greys, -1 to 1; the share of what has no shapes is held small."""
    a, b = (grey - grey.mean() for grey in (one.astype(np.float32), other.astype(np.float32)))
    return float((a * b).mean() / (max(a.std(), _FLAT) * max(b.std(), _FLAT)))


# ── detectors ────────────────────────────────────────────────────────────────────────────────────


class Detector(Protocol):
    """Names the frames at which the picture jumps, counted from the first one it saw."""

    delay: int
    """Frames that must follow before it can tell."""

    def take(self, look: Look) -> list[int]:
        """See the next frame; the jumps that have become known."""
        ...

    def finish(self) -> list[int]:
        """No more frames come; the jumps that are left."""
        ...


_JUMP = 0.5
"""Least difference of a jump, and of what is before a cut to what is after it. At the cuts of a
street film it is 0.8 and more, elsewhere 0.3 at most."""
_PEAK = 2.0
"""A jump is that many times the other differences around it; in a whip pan all are large."""
_REACH = 1
"""Frames on each side that are around. Shots of one frame are not told apart: each is as unlike the
next as the frames of a camera that is thrown round."""
_FADE_STEP = 0.8
"""A frame that is nearer than this share of its neighbour's distance to black (or to any one
colour) is on its way there."""


class Jumps:
    """The built-in detector: a large difference that stands out from those around it."""

    delay = _REACH

    def __init__(self) -> None:
        self._before: Look | None = None
        self._recent: deque[float] = deque([0.0] * (2 * _REACH + 1), maxlen=2 * _REACH + 1)
        self._seen = 0

    def take(self, look: Look) -> list[int]:
        change = 0.0 if self._before is None else difference(look, self._before)
        self._before = look
        return self._next(change)

    def finish(self) -> list[int]:
        """As if the last frame stayed."""
        return [frame for _ in range(_REACH) for frame in self._next(0.0)]

    def _next(self, change: float) -> list[int]:
        self._recent.append(change)
        self._seen += 1
        around = list(self._recent)
        jump = around.pop(_REACH)
        return [self._seen - 1 - _REACH] if jump >= max(_JUMP, _PEAK * max(around)) else []


class PySceneDetect:
    """A detector of PySceneDetect (extra `scenes`), fed with our frames.

    Its own minimum length of a shot is off: whether a change lasts is looked at afterwards.
    """

    def __init__(self, name: str) -> None:
        try:
            import scenedetect  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UnavailableError(
                f"the cut detector {name!r} needs PySceneDetect: pip install 'dreamflow[scenes]' "
                "(or take the built-in one: shots: auto)"
            ) from None
        self._detector = getattr(scenedetect, _PYSCENEDETECT[name])(min_scene_len=0)
        self._time = scenedetect.FrameTimecode
        self._seen = 0
        self.delay: int = self._detector.event_buffer_length

    def take(self, look: Look) -> list[int]:
        # The rate only turns frames into times and back.
        time = self._time(self._seen, fps=25.0)
        self._seen += 1
        found = self._detector.process_frame(time, np.ascontiguousarray(look.colour[..., ::-1]))
        return [each.frame_num for each in found]

    def finish(self) -> list[int]:
        return []


_PYSCENEDETECT = {"adaptive": "AdaptiveDetector", "content": "ContentDetector"}

DETECTORS: dict[str, Callable[[], Detector]] = {
    "auto": Jumps,
    **{name: functools.partial(PySceneDetect, name) for name in _PYSCENEDETECT},
}

# ── cuts in a stream of frames ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Marked:
    """A frame, and whether a shot begins with it."""

    index: int
    """Source frame index."""
    array: Array
    begins_shot: bool


def mark(
    frames: Iterable[Array], cuts: Cuts, rate: Fraction, *, first_index: int = 0
) -> Iterator[Marked]:
    """Pass frames on in order, with the word which ones begin a shot; the first one does.

    `cuts` is the setting `shots`, `first_index` the source index of the first frame. With a
    detector a frame is held back until it is known, for `look_ahead(rate)` frames at most. Raises
    UnavailableError for a detector that is not installed.
    """
    if isinstance(cuts, str) and cuts != "off":
        return _watched(frames, DETECTORS[cuts](), look_ahead(rate), first_index)
    places = set() if isinstance(cuts, str) else {frame_of(cut, rate) for cut in cuts}
    return _placed(frames, {first_index, *places}, first_index)


def look_ahead(rate: Fraction) -> int:
    """Frames that a change must last to be a cut: a fifth of a second, from 4 to 8."""
    return min(8, max(4, round(rate / 5)))


def frame_of(cut: int | str, rate: Fraction) -> int:
    """The source frame that an entry of the setting `shots` names, as `48`, `48f`, `2s`, `1:02.5`.

    A time is rounded to the nearest frame, so that one copied with three digits finds its own.
    """
    if isinstance(cut, int):
        return cut
    moment = Moment.parse(cut.removesuffix("s"))
    return round(moment.seconds(rate) * rate)


MEMORY = 16
"""Frames before a place that a detector must see to judge all from there on as in the whole clip:
the look back over `look_ahead` frames, and what the detectors themselves compare."""


def _placed(frames: Iterable[Array], places: set[int], first_index: int) -> Iterator[Marked]:
    for index, array in enumerate(frames, first_index):
        yield Marked(index, array, index in places)


def _watched(
    frames: Iterable[Array], detector: Detector, length: int, first_index: int
) -> Iterator[Marked]:
    """Frames with the cuts that `detector` proposes, if they last for `length` frames."""
    held: deque[tuple[Array, Look]] = deque()
    before: deque[Look] = deque(maxlen=length)
    jumps: set[int] = set()
    done = 0

    def pass_on() -> Marked:
        nonlocal done
        after = [look for _, look in itertools.islice(held, length)]
        begins = done == 0 or (done in jumps and _is_cut(before, after))
        array, look = held.popleft()
        before.append(look)
        jumps.discard(done)
        done += 1
        return Marked(first_index + done - 1, array, begins)

    for array in frames:
        look = Look.at(array)
        held.append((array, look))
        jumps.update(detector.take(look))
        while len(held) > detector.delay and (done not in jumps or len(held) >= length):
            yield pass_on()
    jumps.update(detector.finish())
    while held:
        yield pass_on()


def _is_cut(before: Sequence[Look], after: Sequence[Look]) -> bool:
    """Whether a jump between these frames lasts, and is not the last step of a fade."""
    return _lasts(before, after) and not _fades([*before], after)


def _lasts(before: Iterable[Look], after: Sequence[Look]) -> bool:
    """Whether nothing that was there shortly before comes back shortly after."""
    return all(difference(b, a) >= _JUMP for a in before for b in after)


def _fades(before: Sequence[Look], after: Sequence[Look]) -> bool:
    """Whether the picture came from one colour, or went to it, by at least one step between.

    A quick fade of few steps ends in one as large as a cut's, but the frame on the picture's side
    of it is well on the way: half of it or more, where the steps are equal.
    """
    if before[-1].is_flat == after[0].is_flat:
        return False
    side, colour = (after, before[-1]) if before[-1].is_flat else (before[::-1], after[0])
    if len(side) < 2:
        return False
    near, far = (_distance(look, colour) for look in side[:2])
    return near < _FADE_STEP * far


def _distance(one: Look, other: Look) -> float:
    """Mean change of colour, in 8-bit levels."""
    return float(cv2.absdiff(one.colour, other.colour).mean())


def by_shot(marked: Iterable[Marked]) -> Iterator[tuple[int, Iterator[Array]]]:
    """The frames shot by shot, each with the source index of its first; to be read in order."""
    number = itertools.count(1)  # the first frame may be in the middle of its shot
    current = 0

    def shot_of(frame: Marked) -> int:
        nonlocal current
        if frame.begins_shot:
            current = next(number)
        return current

    return (_opened(frames) for _, frames in itertools.groupby(marked, shot_of))


def _opened(frames: Iterator[Marked]) -> tuple[int, Iterator[Array]]:
    first = next(frames)
    return first.index, itertools.chain([first.array], (frame.array for frame in frames))


def find(clip: Clip, cuts: Cuts) -> Iterator[Shot]:
    """The shots of a clip, one after the other, as soon as they are over."""
    rate, begun = clip.info.rate, clip.info.first_index
    for frame in mark(clip.frames(), cuts, rate, first_index=clip.info.first_index):
        if frame.begins_shot and frame.index > begun:
            yield Shot(begun, frame.index, rate)
            begun = frame.index
    yield Shot(begun, clip.info.first_index + clip.info.frame_count, rate)
