"""Frames in, dreamed frames out: a generator that touches no file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dreamflow import classes, color, feedback, objectives, warp
from dreamflow.color import ColorStatistics
from dreamflow.dream import dream, octave_sizes
from dreamflow.errors import PresetError
from dreamflow.feedback import Canvas, Carry
from dreamflow.flow import FlowMethod, correspond
from dreamflow.frames import Array, Box, to_image
from dreamflow.objectives import Term
from dreamflow.strict_yaml import together

if TYPE_CHECKING:
    from dreamflow.networks import Extractor
    from dreamflow.preset import Preset
    from dreamflow.schedule import SoundCurves
    from dreamflow.settings import AnyObjective, Dream

logger = logging.getLogger("dreamflow")


@dataclass(frozen=True)
class RenderedFrame:
    """One finished frame, yielded as soon as it is; the same event feeds writer, bar and log."""

    index: int
    """Source frame index."""
    image: Tensor
    """The output, image `[1, 3, H, W]` at the source's full size."""
    carry: Carry | Canvas
    """The state after this frame: enough to go on from here."""
    from_scratch: bool
    """Whether it was dreamed without a past: first of a shot, or nothing could be followed."""
    seconds: float
    """Time it took, decoding and encoding left out."""
    objectives: tuple[AnyObjective, ...]
    """What it was dreamed for, with the weights in force at this frame."""


@dataclass(frozen=True)
class Engine:
    """What is built once per job and used for every frame."""

    preset: Preset
    extractor: Extractor
    terms: list[Term]
    flow: FlowMethod
    rate: Fraction
    """Frames per second of the render; settings that are rates are re-scaled to it."""
    first_index: int = 0
    """Source index of the first output frame, from which curves count."""

    @classmethod
    def build(
        cls,
        preset: Preset,
        rate: Fraction,
        device: torch.device | str = "cpu",
        *,
        frame_count: int = 1,
        first_index: int = 0,
        sound: SoundCurves | None = None,
        extractor: Extractor | None = None,
    ) -> Engine:
        """Load the network, cut it after the deepest layer in use, and make the flow method.

        `frame_count` output frames from `first_index` on are what curves stretch over, and what
        `sound` tells of, which only a preset with `sound_expressions` needs. An `extractor` that
        has the preset's layers already saves the loading. Raises PresetError for a curve that
        leaves its setting's range.
        """
        from dreamflow import networks

        preset = preset.resolved(frame_count, rate, sound)
        if extractor is None:
            check_names(preset)
            layers = [objective.layer for objective in preset.objectives]
            extractor = networks.build(preset.network, layers, device=device)
        terms = objectives.build(preset.objectives)
        flow = FlowMethod(preset.follow.flow)
        return cls(preset, extractor, terms, flow, rate, first_index)

    def at(self, index: int) -> Engine:
        """The engine with the plain numbers in force at source frame `index`."""
        preset = self.preset.at(index - self.first_index)
        if preset is self.preset:
            return self
        return replace(self, preset=preset, terms=objectives.build(preset.objectives))

    @property
    def device(self) -> torch.device:
        return self.extractor.device


def render(
    sources: Iterable[Array], engine: Engine, *, first_index: int = 0, carry: Carry | None = None
) -> Iterator[RenderedFrame]:
    """Dream every frame of `sources` (arrays `[H, W, 3]` of one size) in order.

    `first_index` is the source index of the first one, `carry` the state after the frame before
    it; without one the first frame is dreamed from scratch.
    """
    for index, array in enumerate(sources, first_index):
        began = time.perf_counter()
        now = engine.at(index)
        full = to_image(array, engine.device)
        source = shrink(full, now.preset.dream.size)
        start = start_image(now, carry, source)
        if start is None:
            dreamed = dream_from_scratch(now, source, index)
        else:
            dreamed = dream_on(now, start, source, index)
        carry = Carry(index, source, dreamed - source)
        image = compose(full, carry.residual)
        seconds = time.perf_counter() - began
        yield RenderedFrame(index, image, carry, start is None, seconds, now.preset.objectives)


def check_names(preset: Preset) -> None:
    """Refuse an unknown network and all unknown layers, where they were written."""
    from dreamflow import networks

    try:
        networks.find_network(preset.network)
    except PresetError as error:
        raise preset.complaint("network", f": {error}") from None
    unknown: list[str] = []
    for index, objective in enumerate(preset.objectives):
        if objective.layer == classes.LAYER:
            continue
        try:
            networks.find_layers(preset.network, [objective.layer])
        except PresetError as error:
            unknown.append(str(preset.complaint(f"objectives.{index}.layer", f": {error}")))
    if unknown:
        raise together(unknown)


def warn_of_dropped_octaves(engine: Engine, size: tuple[int, ...]) -> None:
    """Say that frames of (height, width) are too small for all octaves; once per job is enough."""
    preset = engine.at(engine.first_index).preset
    octaves = max(preset.dream.octaves, preset.follow.octaves)
    settings = preset.dream.model_copy(update={"octaves": octaves})
    height, width = dream_size(size, settings.size)
    minimum_side = engine.extractor.minimum_side
    kept = len(list(octave_sizes((height, width), settings, minimum_side)))
    if kept < octaves:
        logger.warning(
            "%dx%d is too small for %d octaves: %d kept (%s needs %d px a side)",
            width, height, octaves, kept, ", ".join(engine.extractor.layers), minimum_side,
        )  # fmt: skip


def start_image(engine: Engine, carry: Carry | None, source: Tensor) -> Tensor | None:
    """The source with the carried dream on it; None where there is nothing to carry.

    The motion could be found in a thread while the frame before is dreamed; on two cores that made
    the whole render slower by a seventh, as the threads of both wait for each other.
    """
    if carry is None:
        return None
    settings = engine.preset.follow
    correspondence = correspond(engine.flow, source, carry.source)
    if correspondence.reliable.mean() < settings.restart:
        return None
    fps, reference = float(engine.rate), engine.preset.reference_fps
    return feedback.follow(carry, source, correspondence, settings, fps, reference)


def dream_from_scratch(engine: Engine, source: Tensor, index: int) -> Tensor:
    """The full dream of a frame without a past."""
    preset = engine.preset
    seed = (preset.seed, index)
    dreamed = dream(source, engine.extractor, engine.terms, preset.dream, seed)
    return settle_color(engine, dreamed, source, preset.color.strength)


def dream_on(engine: Engine, start: Tensor, source: Tensor, index: int) -> Tensor:
    """The few steps of a frame that starts from a carried dream."""
    preset = engine.preset
    settings = gentler(preset)
    dreamed = dream(start, engine.extractor, engine.terms, settings, (preset.seed, index))
    per_frame = 1 - (1 - preset.color.rate) ** (preset.reference_fps / float(engine.rate))
    return settle_color(engine, dreamed, source, per_frame)


def gentler(preset: Preset) -> Dream:
    """The ascent of a frame that starts from a carried dream: fewer octaves and steps, smaller."""
    follow = preset.follow
    changes = {
        "octaves": follow.octaves,
        "steps": follow.steps,
        "step_size": preset.dream.step_size * follow.effort,
    }
    return preset.dream.model_copy(update=changes)


def settle_color(engine: Engine, dreamed: Tensor, source: Tensor, strength: float) -> Tensor:
    """Pull the dream's colours back to where the preset anchors them."""
    if engine.preset.color.anchor == "none" or strength == 0:
        return dreamed
    settings = engine.preset.color
    anchor = ColorStatistics.of(source).lifted(settings).limited(settings)
    return color.pull(dreamed, anchor, strength)


def compose(full: Tensor, residual: Tensor) -> Tensor:
    """The full-size source with the residual on it, enlarged to it."""
    size = (full.shape[-2], full.shape[-1])
    return (full + warp.resize(residual, size)).clamp(0, 1)


def shrink(full: Tensor, limit: int | str) -> Tensor:
    """The full-size source at the size that flow and dream run at (see `dream_size`)."""
    return warp.resize(full, dream_size(full.shape[-2:], limit)).clamp(0, 1)


def dream_size(size: tuple[int, ...], limit: int | str) -> tuple[int, int]:
    """(height, width) at which flow and dream run: the long side at most `limit`, or `full`."""
    height, width = size
    if limit == "full" or max(height, width) <= int(limit):
        return height, width
    fitted = Box(int(limit), int(limit)).fit(width, height)
    return fitted[1], fitted[0]
