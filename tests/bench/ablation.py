"""What each part of the carrying is worth: every one left out in turn.

`python tests/bench/ablation.py CLIP [FRAMES] [LONG SIDE]` prints a table: flicker at both lags,
strength against dreams from scratch of every fourth frame with its coefficient of variation, and
the passes of a carried frame (forward and backward, in pixels) as a share of one from scratch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from dreamflow import feedback, preset, render, shots
from dreamflow.feedback import Arrived, Carry
from dreamflow.frames import Array, Box, to_array, to_image
from dreamflow.job import prepare
from dreamflow.measure import LAGS, Meter, flicker_of
from dreamflow.render import Engine
from dreamflow.shots import Marked
from dreamflow.video.reader import open_clip, resized

EVERY = 4
"""Frames from one that is compared with a dream from scratch to the next."""
ALTERED: dict[str, tuple[str, ...]] = {
    "all parts": (),
    "no settling": ("follow.settle=false",),
    "no memory": ("follow.memory=0",),
    "no catching up": ("follow.catch_up=0",),
    "no new ground": ("follow.ground=0",),
    "no decay": ("follow.decay=1",),
    "no colour anchor": ("color.rate=0",),
    "no mask": (),
    "whole frame": (),
}
"""What is left out, and the settings that do so; the last two have none."""


class Counting:
    """An extractor that counts what it is shown, in pixels."""

    def __init__(self, extractor: Callable[..., dict[str, Tensor]]) -> None:
        self._extractor = extractor
        self.pixels = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._extractor, name)

    def __call__(self, image: Tensor, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        self._count(image)
        if image.requires_grad:
            image.register_hook(self._count)
        return self._extractor(image, layers)

    def _count(self, image: Tensor) -> None:
        self.pixels += image.shape[-2] * image.shape[-1]


@dataclass
class Film:
    """What came out."""

    frames: list[Array]
    scratch: list[int]
    carried: list[int]
    """Pixels passed in each frame of the kind."""


@contextmanager
def left_out(part: str) -> Iterator[None]:
    """The two parts that no setting turns off."""
    if part == "no mask":
        with mock.patch.object(feedback, "soften", lambda mask, _: torch.ones_like(mask)):
            yield
    elif part == "whole frame":
        with mock.patch.object(feedback, "laid_on", _whole):
            yield
    else:
        yield


def _whole(source: Tensor, arrived: Arrived, _settings: object, _frames: float) -> Tensor:
    """The carried picture itself, in place of the source with the carried residual on it."""
    return torch.lerp(source, arrived.residual, arrived.trust).clamp(0, 1)


def rendered(marked: Sequence[Marked], engine: Engine, *, whole: bool) -> Film:
    counting = Counting(engine.extractor)
    engine = replace(engine, extractor=counting)
    film, carry = Film([], [], []), None
    for frame in marked:
        before, carry = counting.pixels, None if frame.begins_shot else carry
        (done,) = render.render([frame.array], engine, first_index=frame.index, carry=carry)
        assert isinstance(done.carry, Carry)
        carry = done.carry
        if whole:
            carry = replace(carry, residual=carry.source + carry.residual)
        film.frames.append(to_array(done.image))
        (film.scratch if done.from_scratch else film.carried).append(counting.pixels - before)
    return film


def energy(engine: Engine, image: Tensor) -> float:
    with torch.no_grad():
        features = engine.extractor(image)
    return sum(float(term.score(features)) for term in engine.terms)


def row(
    part: str, film: Film, marked: Sequence[Marked], engine: Engine, wanted: list[float]
) -> str:
    meter = Meter(engine.rate)
    for frame, output in zip(marked, film.frames, strict=True):
        meter.add(frame, output)
    flicker = [flicker_of(frame.pairs[at] for frame in meter.frames) for at in range(len(LAGS))]
    found = [energy(engine, to_image(array)) for array in film.frames[::EVERY]]
    ratios = np.array(found) / wanted
    numbers = [*flicker, np.mean(found) / np.mean(wanted), ratios.std() / ratios.mean(),
               np.mean(film.carried) / np.mean(film.scratch)]  # fmt: skip
    return f"{part:18}" + "".join(f"{number:10.3f}" for number in numbers)


def main(clip: str, count: int = 24, side: int = 320) -> None:
    with open_clip(Path(clip)) as opened:
        fitted = Box(side, side).fit(opened.info.width, opened.info.height)
        arrays = [resized(a, fitted) for _, a in zip(range(count), opened.frames(), strict=False)]
    marked = list(shots.mark(iter(arrays), "auto", Fraction(25)))
    engine = prepare(preset.load("base"), Fraction(25), "cpu", 1)
    wanted = [
        energy(engine, render.dream_from_scratch(engine, to_image(frame.array), frame.index))
        for frame in marked[::EVERY]
    ]
    print(f"{'':18}{'lag 1':>10}{'lag 5':>10}{'strength':>10}{'its cv':>10}{'passes':>10}")
    for part, overrides in ALTERED.items():
        look = prepare(preset.load("base", overrides=list(overrides)), Fraction(25), "cpu", 1)
        with left_out(part):
            film = rendered(marked, look, whole=part == "whole frame")
        print(row(part, film, marked, look, wanted), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
