"""What the sound does, moment by moment: the six curves that expressions know as `audio.*`.

Convention. The sound is heard in mono at 24 kHz, in steps of 10 ms whatever the frame rate; step n
is about the moment n x 10 ms. Levels are amplitudes (root mean square, full scale 1) until they are
brought to 0..1. The moment 0 is that at which the clip's first frame appears, or a sound file
begins. Listening takes about 20 kB of memory for each second of sound.

`rms`, `bass`, `mid` and `treble` are the amplitude of the whole and of three bands. `onset` is what
the spectrum has gained of late (spectral flux: Dixon 2006), so it tells how suddenly things begin.
`beat` is 1 in each frame in which a clear onset falls, and dies away after it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dreamflow.errors import BadMediaError
from dreamflow.schedule import SOUND_NAMES, SoundCurves, Values
from dreamflow.video.ffmpeg import FFmpegError, Input, Process, explain

SAMPLE_RATE = 24_000
STEPS_PER_SECOND = 100
TICKS_PER_SECOND = 500
"""The finer clock by which the moment of an onset is told."""
MAX_HOURS = 6
"""What comes later is not listened to; a file can claim to last for years."""

_STEP = SAMPLE_RATE // STEPS_PER_SECOND
_TICK = SAMPLE_RATE // TICKS_PER_SECOND
_TICKS_PER_STEP = _STEP // _TICK
_WINDOW = 1024
"""Samples looked at in each step, 43 ms around its moment; a bin is 23 Hz wide."""
_BLOCK = 500 * _STEP
_LONGEST_GAP_SECONDS = 1800
"""A stream that is silent for longer by its own clock is damaged; the rest is not listened to."""
_LOUDEST = 4.0
"""Floating-point sound may hold anything; what is over this is cut to it."""


@dataclass(frozen=True)
class SoundFeatures:
    """What was heard in one sound, for renders of any rate to look up."""

    levels: Mapping[str, Values]
    """All of `SOUND_NAMES` but the beat, 0..1, smoothed, one value per step; 0 after the end."""
    beats: NDArray[np.int64]
    """When clear onsets are, in ticks from the moment 0, ascending."""

    def curves(self, rate: Fraction, frame_count: int, first_index: int = 0) -> SoundCurves:
        """The curves over so many frames at `rate`, of which the first is number `first_index`.

        A frame takes the highest level in the time it is on screen, so that no short sound falls
        between two; one shorter than a step takes the step that begins in it or next.
        """
        bounds = _bounds(rate, np.arange(first_index, first_index + frame_count + 1))
        found = {name: _highest(values, bounds) for name, values in self.levels.items()}
        return {**found, "audio.beat": self._beat(rate, frame_count, first_index)}

    def _beat(self, rate: Fraction, frame_count: int, first_index: int) -> Values:
        """1 in the frames in which onsets fall, dying away after each until the next."""
        per_tick = rate / TICKS_PER_SECOND
        struck = self.beats * per_tick.numerator // per_tick.denominator
        frames = np.arange(first_index, first_index + frame_count)
        last = np.searchsorted(struck, frames, side="right") - 1
        since = (frames - np.append(struck, 0)[last]) / float(rate)
        return np.where(last >= 0, np.exp(-since / _BEAT_SECONDS), 0.0)


def steady(level: float, frame_count: int = 1) -> SoundCurves:
    """Curves of one level throughout, for pictures that shall show a look without any sound."""
    return {name: np.full(frame_count, level) for name in SOUND_NAMES}


def analyse(path: Path, *, origin: Fraction | None = None) -> SoundFeatures | None:
    """Listen to the first sound stream of a file; None if there is no sound in it.

    `origin` is the container's time, in seconds, of the moment 0; None for a file that counts from
    its own beginning. Raises InputMissingError if the file cannot be opened, BadMediaError if its
    sound cannot be decoded.
    """
    heard = _hear(_decode(path, origin))
    return None if heard is None else _features(heard)


def length(path: Path) -> Fraction | None:
    """Seconds that the first sound stream of a file lasts; None if there is no sound in it.

    It is decoded for it, at most `MAX_HOURS`: what containers say of their length is a guess.
    Errors as `analyse`.
    """
    samples = sum(block.size for block in _decode(path, None))
    return Fraction(samples, SAMPLE_RATE) if samples else None


def is_in(path: Path) -> bool:
    """Whether there is any sound in a file; only its beginning is decoded. Errors as `analyse`."""
    with closing(_decode(path, None)) as blocks:
        return any(block.size for block in blocks)


def _bounds(rate: Fraction, frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each frame the first step that is not before its beginning, exactly."""
    per_frame = STEPS_PER_SECOND / rate
    return -(-frames * per_frame.numerator // per_frame.denominator)


def _highest(values: Values, bounds: NDArray[np.int64]) -> Values:
    """The highest value from each bound up to the next; 0 behind the last value."""
    silence = np.zeros(max(0, int(bounds[-1]) + 1 - values.size))
    return np.maximum.reduceat(np.append(values, silence), bounds)[:-1]


# ── decoding ─────────────────────────────────────────────────────────────────────────────────────


def _decode(path: Path, origin: Fraction | None) -> Generator[Values, None, None]:
    """The sound's samples from the moment 0 on, in blocks; nothing if there is no sound."""
    what = f"{path}: its sound cannot be decoded"
    try:
        with Process(_decoder_arguments(path, origin), what=what) as process:
            left = MAX_HOURS * 3600 * SAMPLE_RATE
            while left > 0 and (data := process.read(4 * _BLOCK)):
                left -= _BLOCK
                samples = np.frombuffer(data[: len(data) // 4 * 4], np.float32)
                yield np.nan_to_num(samples.astype(np.float64)).clip(-_LOUDEST, _LOUDEST)
            if left > 0:
                process.finish()
    except FFmpegError as error:
        if any("matches no streams" in line for line in error.lines):
            return
        if error.code is None or error.code < 0:
            raise
        raise BadMediaError(f"{what}: {explain(error.lines)}") from None


def _decoder_arguments(path: Path, origin: Fraction | None) -> list[str | Input]:
    times = ["-copyts"] if origin is not None else []
    # What begins late or has gaps is filled with silence, so that sample n is n/24000 s; ffmpeg
    # holds all of a gap in memory. All channels are heard, the one for low frequencies too.
    gap = "if(isnan(prev_selected_t),t,t-prev_selected_t)"
    graph = (
        f"asetpts=PTS-({float(origin or 0):.9f})/TB,"
        f"atrim=start=0:end={MAX_HOURS * 3600},aselect='lt({gap},{_LONGEST_GAP_SECONDS})',"
        f"aresample={SAMPLE_RATE}:async=1:first_pts=0:ochl=mono:lfe_mix_level=0.7"
    )
    return [
        *(*times, "-max_error_rate", "1", Input(path)),
        *("-map", "0:a:0", "-af", graph, "-f", "f32le", "-"),
    ]


# ── listening ────────────────────────────────────────────────────────────────────────────────────

_BANDS = {"audio.bass": 20.0, "audio.mid": 250.0, "audio.treble": 4000.0}
"""From which frequency on each band is, in Hz, up to the next or the highest there is."""
_FINE_BANDS = 24
"""Into about so many bands, of equal width to the ear, the spectrum is cut to see it grow."""
_LAG = 3
"""Steps over which growth is measured; within so many the window has moved past an onset."""
_LEVELS = ("audio.rms", *_BANDS, "audio.onset")


@dataclass(frozen=True)
class _Heard:
    """The bare measurements."""

    levels: NDArray[np.float32]
    """Amplitudes `[step, level]`, in the order of `_LEVELS`."""
    ticks: NDArray[np.float32]
    """Amplitude in each tick."""


def _hear(blocks: Iterable[Values]) -> _Heard | None:
    """Measure the sound block by block; None if there is none."""
    levels: list[NDArray[np.float32]] = []
    ticks: list[NDArray[np.float32]] = []
    ear = _Ear()
    for block in blocks:
        whole = np.append(block, np.zeros(-block.size % _STEP))
        ticks.append(np.sqrt(np.square(whole.reshape(-1, _TICK)).mean(1)).astype(np.float32))
        levels.append(ear.hear(whole))
    if not ticks:
        return None
    # A second of silence lets everything die away.
    levels.append(ear.hear(np.zeros(SAMPLE_RATE + _WINDOW)))
    return _Heard(np.concatenate(levels), np.concatenate(ticks))


class _Ear:
    """Turns samples into levels per step; keeps what the next block needs of the last."""

    def __init__(self) -> None:
        self._samples = np.zeros(_WINDOW // 2)
        self._amplitudes: Values | None = None
        frequencies = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)
        # The first bin is the mean, which nobody hears.
        self._bands = np.maximum(1, np.searchsorted(frequencies, list(_BANDS.values())))
        fine = np.geomspace(1, frequencies.size - 1, _FINE_BANDS)
        self._fine = np.unique(fine.round().astype(int))
        self._window = np.hanning(_WINDOW + 1)[:-1]
        self._scale = 2 / (_WINDOW * np.square(self._window).sum())

    def hear(self, samples: Values) -> NDArray[np.float32]:
        """The levels `[step, level]` of all steps for which there are samples enough."""
        samples = np.append(self._samples, samples)
        if samples.size < _WINDOW:
            self._samples = samples
            return np.empty((0, len(_LEVELS)), np.float32)
        windows = sliding_window_view(samples, _WINDOW)[::_STEP]
        self._samples = samples[len(windows) * _STEP :]
        power = np.square(np.abs(np.fft.rfft(windows * self._window))) * self._scale
        bands = np.add.reduceat(power, self._bands, axis=1)
        gain = self._gain(np.sqrt(np.add.reduceat(power, self._fine, axis=1)))
        whole = power[:, 1:].sum(1, keepdims=True)
        return np.hstack([np.sqrt(whole), np.sqrt(bands), gain]).astype(np.float32)

    def _gain(self, amplitudes: Values) -> Values:
        """By how much the fine bands have grown since `_LAG` steps ago: an amplitude `[step, 1]`.

        A root of squares, so that what is loud counts for more than what is broad.
        """
        if self._amplitudes is None:
            self._amplitudes = np.zeros((_LAG, amplitudes.shape[1]))
        amplitudes = np.vstack([self._amplitudes, amplitudes])
        self._amplitudes = amplitudes[len(amplitudes) - _LAG :]
        growth = np.maximum(0, amplitudes[_LAG:] - amplitudes[:-_LAG])
        return np.sqrt(np.square(growth).sum(1, keepdims=True))


# ── levels ───────────────────────────────────────────────────────────────────────────────────────

_LEVEL_SECONDS = (0.01, 0.2)
_ONSET_SECONDS = (0.0, 0.08)
"""Attack and release: the times in which all but 1/e of a rise or a fall is followed."""
_BEAT_SECONDS = 0.15
"""In which the beat falls to 1/e."""

_FAINT = 1e-3
"""Amplitude (-60 dB) under which nothing is taken for the loudest there is."""


def _features(heard: _Heard) -> SoundFeatures:
    """Levels brought to 0..1 by the sound's own loudest passages, and its beats."""
    levels: dict[str, Values] = {}
    for index, name in enumerate(_LEVELS):
        speeds = _ONSET_SECONDS if name == "audio.onset" else _LEVEL_SECONDS
        levels[name] = _followed(heard.levels[:, index], *speeds)
    # A band 40 dB below the whole is the codec's noise and not music.
    floor = max(_FAINT, _loudest(levels["audio.rms"]) / 100)
    levels = {name: _to_unit(values, floor) for name, values in levels.items()}
    return SoundFeatures(levels, _beats(heard))


def _followed(values: NDArray[np.float32], attack: float, release: float) -> Values:
    """The values as a needle follows them that rises and falls at its own speeds."""
    up, down = (_share_per_step(seconds) for seconds in (attack, release))
    needle, followed = 0.0, []
    for value in values.tolist():
        needle += (value - needle) * (up if value > needle else down)
        followed.append(needle)
    return np.array(followed)


def _share_per_step(seconds: float) -> float:
    return 1 - np.exp(-1 / (STEPS_PER_SECOND * seconds)) if seconds else 1.0


def _loudest(values: Values) -> float:
    """What loud passages reach; a single bang does not make all else faint."""
    sounding = values[values > values.max() / 100]
    return float(np.percentile(sounding, 99)) if sounding.size else 0.0


def _to_unit(values: Values, floor: float) -> Values:
    return np.minimum(1, values / max(floor, _loudest(values)))


# ── beats ────────────────────────────────────────────────────────────────────────────────────────

_NEAR = 8
"""Steps to either side within which only the strongest onset counts."""
_AROUND = 75
"""Steps to either side over which the mean is taken that an onset must surpass."""
_PASSAGE = 4
"""Half seconds to either side whose strongest onset others are measured by."""
_CLEAR = 2.5
"""How many times that mean an onset reaches. Even noise does not, a deep rumble does at times; of
clicks ten a second still do."""
_SHARE_OF_STRONGEST = 0.3
_SHARE_OF_LEVEL = 0.15
_EDGE_TICKS = 2.0
"""In which the weight of what is before and after an edge falls to 1/e."""
_SOUGHT = (-22, 8)
"""The ticks around a step's moment among which its onset must be: `_LAG` and half a window back."""


def _beats(heard: _Heard) -> NDArray[np.int64]:
    """The ticks of the clear onsets: local peaks of the gain that stand out of what is around.

    Measured against the passage, so that quiet music beats too, against the mean, so that noise
    does not, and against the level, so that a swelling tone does not.
    """
    steps = heard.ticks.size // _TICKS_PER_STEP
    level, gain = heard.levels[:steps, [0, -1]].astype(np.float64).T
    stands_out = (gain >= _CLEAR * _mean_around(gain)) & (
        gain >= _SHARE_OF_STRONGEST * _strongest_around(gain)
    )
    # A sound that breaks off spreads over the spectrum too, but the whole gets fainter.
    louder = level > np.pad(level, (_LAG, 0))[:-_LAG]
    begins = (gain >= _FAINT) & (gain >= _SHARE_OF_LEVEL * level) & louder
    peaks = np.flatnonzero(stands_out & begins & _is_peak(gain))
    return np.unique(_moments(peaks, heard.ticks))


def _is_peak(values: Values) -> NDArray[np.bool_]:
    """Whether each value is the highest of those near it, the first of equals."""
    padded = np.pad(values, _NEAR, constant_values=-1)
    highest = sliding_window_view(padded, 2 * _NEAR + 1).max(1)
    before = sliding_window_view(padded, _NEAR)[: values.size].max(1)
    return (values == highest) & (values > before)


def _mean_around(values: Values) -> Values:
    width = 2 * _AROUND + 1
    padded = np.pad(values, _AROUND, "symmetric")
    return np.convolve(padded, np.full(width, 1 / width), "valid")


def _strongest_around(gain: Values) -> Values:
    """For each step the strongest gain in the passage around it."""
    half_second = STEPS_PER_SECOND // 2
    padded = np.append(gain, np.zeros(-gain.size % half_second))
    peaks = np.pad(padded.reshape(-1, half_second).max(1), _PASSAGE)
    strongest = sliding_window_view(peaks, 2 * _PASSAGE + 1).max(1)
    return np.repeat(strongest, half_second)[: gain.size]


def _moments(steps: NDArray[np.int64], amplitudes: NDArray[np.float32]) -> NDArray[np.int64]:
    """The tick of the sharpest rise around each of the steps.

    The window of a step is too wide to say. What comes after a tick is weighed against what was
    before it by exponentials, the filter that finds edges best in noise (Shen & Castan 1992).
    """
    reach = round(5 * _EDGE_TICKS)
    after = np.exp(-np.arange(reach) / _EDGE_TICKS)
    edge = np.concatenate([after[::-1], -after])  # np.convolve turns it round
    sharpness = np.convolve(np.pad(amplitudes.astype(np.float64), reach), edge, "valid")
    found = []
    for step in steps.tolist():
        first, stop = (max(0, step * _TICKS_PER_STEP + ticks) for ticks in _SOUGHT)
        found.append(first + int(sharpness[first:stop].argmax()))
    return np.array(found, np.int64)
