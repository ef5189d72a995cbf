"""Frames in, dreamed frames out: a generator that touches no file."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from dreamflow import (
    camera,
    classes,
    color,
    feedback,
    gauge,
    ground,
    machine,
    masks,
    mattes,
    tiles,
    warp,
)
from dreamflow.color import ColorStatistics
from dreamflow.dream import Effort, Seed, dream, octave_sizes, pad_to
from dreamflow.errors import PresetError
from dreamflow.feedback import STANDING, Arrived, Canvas, Carry, Move, Past, consulted
from dreamflow.flow import Correspondence, FlowSource, Frames, correspond, create, recognise
from dreamflow.frames import Array, Box, to_image
from dreamflow.gauge import Gauge
from dreamflow.ground import NewGround
from dreamflow.lookahead import Lookahead, Question
from dreamflow.masks import Mask, MaskFrames
from dreamflow.mattes import Matte, Tracker
from dreamflow.objectives import Builder, Term, at_octave
from dreamflow.scene import Gallery, Scene
from dreamflow.settings import (
    AnyObjective,
    ChannelObjective,
    ChannelsObjective,
    DirectionObjective,
    NeuronObjective,
    Regularize,
    mask_name,
)
from dreamflow.strict_yaml import together

if TYPE_CHECKING:
    from dreamflow.ensemble import AnyExtractor
    from dreamflow.preset import Preset
    from dreamflow.schedule import SoundCurves
    from dreamflow.settings import Dream

logger = logging.getLogger("dreamflow")

_STEP_POWER = 4 / 3
"""Of the strength, in the size of a step."""

Item = TypeVar("Item")

_HOLE = 0.01
"""Share of the picture that cannot be followed, from which older frames are asked for it."""


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
class Props:
    """What objectives need of files (see `props.read`), by the names that they give it."""

    pictures: dict[str, Tensor]
    """Images `[1, 3, H, W]`."""
    masks: dict[str, Mask]
    """The whole frame's among them."""
    directions: dict[str, tuple[float, ...]]
    reels: dict[str, MaskFrames] = field(default_factory=dict)
    """Masks that are clips."""


@dataclass(frozen=True)
class Engine:
    """What is built once per job and used for every frame."""

    preset: Preset
    extractor: AnyExtractor
    terms: list[Term]
    flow: FlowSource
    rate: Fraction
    """Frames per second of the render; settings that are rates are re-scaled to it."""
    first_index: int = 0
    """Source index of the first output frame, from which curves count."""
    mask: Mask | None = None
    """Where in the frame a dream may grow."""
    builder: Builder = field(default_factory=Builder)
    """Makes terms of objectives."""
    gallery: Gallery | None = None
    """The pictures that objectives name."""
    masks: Mapping[str, Mask] = field(default_factory=dict)
    """The masks that they name, by `settings.mask_name`."""
    reels: Mapping[str, MaskFrames] = field(default_factory=dict)
    """Those that are clips."""
    trackers: Mapping[str, Tracker] = field(default_factory=dict)
    """Those that follow what they are on."""
    aside: int = 0
    """Threads that find motion meanwhile, which a dream from scratch takes back."""
    ahead: Lookahead | None = None
    """Them at work; there is one while frames are rendered in a row."""

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
        extractor: AnyExtractor | None = None,
        flow: FlowSource | None = None,
        props: Props | None = None,
        aside: int = 0,
    ) -> Engine:
        """Load the network, cut it after the deepest layer in use, and make the flow method.

        `frame_count` output frames from `first_index` on are what curves stretch over, and what
        `sound` tells of, which only a preset with `sound_expressions` needs. An `extractor` that
        has the preset's layers already saves the loading; a `flow` takes the place of the preset's.
        `props` are needed for objectives that name files; `aside` are threads that the process has
        besides those set for torch. Raises PresetError for a curve that
        leaves its setting's range, and as `check_names`.
        """
        from dreamflow import ensemble

        props = props or Props({}, {}, {})
        preset = preset.resolved(frame_count, rate, sound)
        if extractor is None:
            check_names(preset)
            extractor = ensemble.build(preset.network, layers_of(preset), device)
        builder = Builder(preset.network, props.directions)
        check_vectors(preset, builder, extractor)
        pictures = {name: picture.to(extractor.device) for name, picture in props.pictures.items()}
        held = {name: mask.to(extractor.device) for name, mask in props.masks.items()}
        wanted = [preset.mask, *(each.mask for each in preset.objectives)]
        return cls(
            preset,
            extractor,
            builder.terms(preset.objectives),
            flow or create(preset.follow, device),
            rate,
            first_index,
            held.get(mask_name(preset.mask)),
            builder=builder,
            gallery=Gallery(extractor, pictures) if pictures else None,
            masks=held,
            reels=props.reels,
            trackers=mattes.trackers(wanted, held, extractor.device),
            aside=aside,
        )

    def at(self, index: int) -> Engine:
        """The engine with the plain numbers in force at source frame `index`."""
        preset = self.preset.at(index - self.first_index)
        if preset is self.preset:
            return self
        return replace(self, preset=preset, terms=self.builder.terms(preset.objectives))

    def wearing(self, shown: Mapping[str, Mask]) -> Engine:
        """The engine with the masks of one frame, of those that are others in each."""
        if not shown:
            return self
        masks = {**self.masks, **shown}
        return replace(self, masks=masks, mask=masks.get(mask_name(self.preset.mask), self.mask))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Ends the reading of masks that are clips, which begins when one is wanted."""
        try:
            yield
        finally:
            for reel in self.reels.values():
                reel.close()

    def with_reels(self, index: int) -> Engine:
        """With the masks that are clips as they are at source frame `index`."""
        return self.wearing(
            {name: reel.at(index).to(self.device) for name, reel in self.reels.items()}
        )

    def with_mattes(self, found: Iterable[Matte]) -> Engine:
        """With the masks that follow what they are on as they lie on one frame."""
        return self.wearing({name: mask for each in found for name, mask in each.masks.items()})

    def begun(self, source: Tensor, index: int) -> tuple[Matte, ...]:
        """Those masks on a frame without a past."""
        return tuple(each.begun(name, source, index) for name, each in self.trackers.items())

    def moved(
        self, carry: Carry, source: Tensor, index: int, found: Correspondence
    ) -> tuple[Matte, ...]:
        """Those masks, from the frame of `carry`, on that of `source`."""
        passed = (index - carry.index) * self.reference_frames
        return tuple(mattes.moved(each, source, found, passed) for each in carry.mattes)

    def followed(
        self, carry: Carry, source: Tensor, index: int, found: Correspondence
    ) -> tuple[Matte, ...]:
        """The same, found again where it is time."""
        here, rate = self.moved(carry, source, index, found), self.reference_frames
        return tuple(self.trackers[each.name].looked(each, source, index, rate) for each in here)

    def where(self, source: Tensor) -> Tensor | None:
        """Where in its frame the dream may grow, if that is elsewhere in each; as `Carry.where`."""
        mask = self.preset.mask
        moves = mask_name(mask) in self.reels or getattr(mask, "thing", "") in self.trackers
        return self.mask.at(source) if self.mask and moves else None

    def ask(
        self, question: Question, current: Tensor, other: Tensor, frames: Frames
    ) -> Correspondence:
        """`question` of the flow between two images; answered before if it was expected."""
        if self.ahead is None:
            return question(self.flow, current, other, frames)
        return self.ahead.ask(question, current, other, frames)

    def alone(self, source: Tensor, index: int) -> Engine:
        """With all masks as they are on a frame without a past."""
        return self.with_reels(index).with_mattes(self.begun(source, index))

    def scene(self, source: Tensor, flow: Tensor | None = None, passed: float = 1.0) -> Scene:
        """What a dream on `source` has before it.

        `flow` is that to a frame before, since which so many reference frames have `passed`;
        without one nothing moves.
        """
        named = dict(self.masks)
        wanted = {term.mask for term in self.terms}
        if "luma" in wanted:
            named["luma"] = Mask.of_luma(source)
        if "motion" in wanted:
            still = Mask(torch.zeros_like(source[:, :1]))
            named["motion"] = still if flow is None else Mask.of_motion(flow, passed)
        return Scene(self.gallery, named, self.preset.regularize)

    @property
    def reference_frames(self) -> float:
        """Frames at the preset's reference rate that pass in one frame of the render."""
        return self.preset.reference_fps / float(self.rate)

    @property
    def device(self) -> torch.device:
        return self.extractor.device


def render(
    sources: Iterable[Array], engine: Engine, *, first_index: int = 0, carry: Carry | None = None
) -> Iterator[RenderedFrame]:
    """Dream every frame of `sources` (arrays `[H, W, 3]` of one size) in order.

    `first_index` is the source index of the first one, `carry` the state after the frame before
    it; without one the first frame is dreamed from scratch. Where `cadence` leaves frames out, they
    wait until the next dreamed one is there; their state is that of the last one.
    """
    with engine.reading():
        yield from _rendered(sources, engine, first_index, carry)


def _rendered(
    sources: Iterable[Array], engine: Engine, first_index: int, carry: Carry | None
) -> Iterator[RenderedFrame]:
    numbered = enumerate(sources, first_index)
    with closing(Lookahead(engine.flow, engine.aside)) as ahead:
        engine = replace(engine, ahead=ahead)
        waiting = (_Waiting.of(engine, index, array) for index, array in numbered)
        cadence = engine.preset.cadence
        groups = _groups(waiting, cadence, alone=carry is None)
        # More than one frame at a time is not read ahead: at full size they take much memory.
        alone = engine.aside == 0 or cadence > 1
        for frames, coming in zip(groups, itertools.repeat(None)) if alone else _with_next(groups):
            began, before = time.perf_counter(), carry
            ahead.forget_before(frames[0].index)
            carry, from_scratch = _dream_last(frames, before, coming)
            for place in range(len(frames) - 1):
                assert before is not None  # the first frame of all is alone
                frame, residual = _between(frames, place, before, carry)
                yield frame.finished(residual, before, began)
                began = time.perf_counter()
            last = frames[-1].with_mattes(carry.mattes)
            yield last.finished(carry.residual, carry, began, from_scratch=from_scratch)


def _with_next(groups: Iterator[Item]) -> Iterator[tuple[Item, Item | None]]:
    """Each group with the one after it; an error in reading that one waits until it is due."""
    group, failure = next(groups, None), None
    while group is not None:
        following = None
        try:
            following = next(groups, None)
        except Exception as error:
            failure = error
        yield group, following
        if failure is not None:
            raise failure
        group = following


@dataclass(frozen=True)
class _Waiting:
    """A frame that was read, and what is needed to finish it."""

    index: int
    engine: Engine
    """With the plain numbers in force at it."""
    full: Tensor
    source: Tensor
    """The same at the size flow and dream run at."""

    @classmethod
    def of(cls, engine: Engine, index: int, array: Array) -> _Waiting:
        now = engine.at(index).with_reels(index)
        full = to_image(array, engine.device)
        return cls(index, now, full, shrink(full, now.preset.dream.size))

    def with_mattes(self, found: Iterable[Matte]) -> _Waiting:
        return replace(self, engine=self.engine.with_mattes(found))

    def finished(
        self, residual: Tensor, carry: Carry, began: float, *, from_scratch: bool = False
    ) -> RenderedFrame:
        image = compose(self.full, residual, self.engine.mask)
        seconds, terms = time.perf_counter() - began, self.engine.preset.objectives
        return RenderedFrame(self.index, image, carry, from_scratch, seconds, terms)


def _groups(items: Iterable[Item], size: int, *, alone: bool) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter; the first item `alone` if so wished."""
    group: list[Item] = []
    for item in items:
        group.append(item)
        if alone or len(group) == size:
            yield group
            group, alone = [], False
    if group:
        yield group


def _dream_last(
    frames: Sequence[_Waiting], carry: Carry | None, coming: Sequence[_Waiting] | None
) -> tuple[Carry, bool]:
    """The state after the last of the frames, the others skipped, and whether it has no past.

    Meanwhile the motion of those `coming` is found.
    """
    last, gap, move = frames[-1], len(frames), _camera_over(frames)
    start = start_image(last.engine, carry, last.source, move, gap)
    worn = start.mattes if start else last.engine.begun(last.source, last.index)
    last = last.with_mattes(worn)
    known = carry.gauge if carry else None
    pasts = ()
    if carry is not None and last.engine.preset.follow.memory > 0:
        pasts = carry.aged(move.by, last.index)
    _expect_between(frames, carry)
    if coming and last.engine.ahead:
        _expect(last.engine.ahead, coming[-1], last, _to_consult(coming[-1], last, start, pasts))
    if start is None:
        dreamed = dream_from_scratch(last.engine, last.source, last.index)
        ripeness = torch.ones_like(dreamed[:, :1])
        learnt = learn(last.engine, last.source, dreamed, last.index)
    else:
        learnt = kept_up(last.engine, known, last.source, last.index)
        dreamed = dream_on(last.engine, start, last.source, last.index, gap, learnt)
        ripeness = ripened(last.engine, start)
    residual, where = dreamed - last.source, last.engine.where(last.source)
    return (
        Carry(last.index, last.source, residual, ripeness, learnt, pasts, worn, where),
        start is None,
    )


def _expect(ahead: Lookahead, frame: _Waiting, last: _Waiting, pasts: Iterable[Past]) -> None:
    """Have the motion found that a frame will ask for, of which `last` is the one before."""
    ahead.expect(correspond, frame.source, last.source, (frame.index, last.index))
    for past in pasts:
        ahead.expect(recognise, frame.source, past.source, (frame.index, past.index))


def _to_consult(
    frame: _Waiting, last: _Waiting, start: Start | None, pasts: Sequence[Past]
) -> Iterator[Past]:
    """The pasts that a frame after `last`, begun as `start`, will most likely look at."""
    near, far = consulted(pasts, last.index, frame.index)
    if near:
        yield near
    if far and start and start.ripeness.mean() < 1 - _HOLE:  # as the last one had holes
        yield far


def _expect_between(frames: Sequence[_Waiting], before: Carry | None) -> None:
    """Have the motion found that the skipped ones of the frames will ask for."""
    *skipped, last = frames
    if before is None or last.engine.ahead is None:
        return
    for frame, near in itertools.product(skipped, (before, last)):
        frames_of = (frame.index, near.index)
        last.engine.ahead.expect(correspond, frame.source, near.source, frames_of)


def _between(
    frames: Sequence[_Waiting], place: int, before: Carry, after: Carry
) -> tuple[_Waiting, Tensor]:
    """A frame that was skipped, and what to lay on it so that the dream does not blink.

    A frame that neither of its dreamed neighbours can be followed to is dreamed itself.
    """
    frame, settings = frames[place], frames[place].engine.preset.follow
    found = [
        frame.engine.ask(correspond, frame.source, near.source, (frame.index, near.index))
        for near in (before, after)
    ]
    frame = frame.with_mattes(frame.engine.moved(before, frame.source, frame.index, found[0]))
    if found[0].reliable.maximum(found[1].reliable).mean() < settings.restart:
        dreamed = dream_from_scratch(frame.engine, frame.source, frame.index)
        return frame, dreamed - frame.source
    forth, back = _camera_over(frames[: place + 1]), _camera_over(frames[place + 1 :])
    moves = (forth, Move(np.linalg.inv(back.by), back.border))
    share = (place + 1) / len(frames)
    return frame, feedback.between(
        (before, after), (found[0], found[1]), moves, share, settings, frame.engine.mask
    )


def _camera_over(frames: Sequence[_Waiting]) -> Move:
    return camera_move([frame.engine for frame in frames], frames[0].source)


def camera_move(engines: Sequence[Engine], source: Tensor) -> Move:
    """What the camera does to a dream on `source` over frames with these engines."""
    size = (source.shape[-2], source.shape[-1])
    steps = [camera.matrix(now.preset.camera, size, now.reference_frames) for now in engines]
    return Move(camera.composed(steps), engines[0].preset.camera.border)


def render_shots(
    shots: Iterable[tuple[int, Iterable[Array]]], engine: Engine, *, carry: Carry | None = None
) -> Iterator[RenderedFrame]:
    """`render` shot after shot, each given as (source index of its first frame, its frames).

    `Carry` does not pass a cut, so a shot's frames are those that it would have on its own; `carry`
    is what the first one goes on from.
    """
    for first_index, sources in shots:
        yield from render(sources, engine, first_index=first_index, carry=carry)
        carry = None


def check_names(preset: Preset) -> None:
    """Refuse an unknown network and all unknown layers, where they were written."""
    from dreamflow import networks

    try:
        networks.find_network(preset.network)
    except PresetError as error:
        raise preset.complaint("network", f": {error}") from None
    wrong = [text for index in range(len(preset.objectives)) for text in _unknown(preset, index)]
    if wrong:
        raise together(wrong)


def _unknown(preset: Preset, index: int) -> Iterator[str]:
    """What an objective names that its network does not have."""
    from dreamflow import networks

    objective = preset.objectives[index]
    network = objective.network or preset.network
    layers = [layer for layer in objective.layers if layer != classes.LAYER]
    try:
        networks.find_network(network)
    except PresetError as error:
        yield str(preset.complaint(f"objectives.{index}.network", f": {error}"))
        return
    for place, layer in enumerate(layers):
        path = f"objectives.{index}.layer"
        try:
            found = networks.find_layers(network, [layer])
        except PresetError as error:
            many = isinstance(getattr(objective, "layer", ""), tuple)
            yield str(preset.complaint(f"{path}.{place}" if many else path, f": {error}"))
            return
        counts = {info.name: info.channels for info in networks.list_layers(network)}
        for key, channel in _channels(objective):
            if channel >= counts[found[layer]]:
                text = f": {layer} has channels 0 to {counts[found[layer]] - 1}, not {channel}"
                yield str(preset.complaint(f"objectives.{index}.{key}", text))


def _channels(objective: AnyObjective) -> list[tuple[str, int]]:
    """The channels that an objective names, and where it does."""
    match objective:
        case ChannelObjective():
            return [("channel", objective.channel)]
        case ChannelsObjective():
            return [(f"channels.{at}", channel) for at, channel in enumerate(objective.channels)]
        case NeuronObjective():
            return [("neuron.0", int(objective.neuron[0]))]
    return []


def layers_of(preset: Preset) -> list[tuple[str, str]]:
    """(network, layer) of all objectives, in order; an empty network is the preset's."""
    return [(each.network, layer) for each in preset.objectives for layer in each.layers]


def check_vectors(preset: Preset, builder: Builder, extractor: AnyExtractor) -> None:
    """Refuse directions that have not one number for each channel of their layer."""
    for index, objective in enumerate(preset.objectives):
        if isinstance(objective, DirectionObjective):
            count = extractor.channels[builder.key(objective, objective.layer)]
            given = len(builder.vector(objective))
            if given != count:
                text = f": {objective.layer} has {count} channels, but {given} numbers are given"
                raise preset.complaint(f"objectives.{index}.direction", text)


def warn_of_dropped_octaves(engine: Engine, size: tuple[int, ...]) -> None:
    """Say that frames of (height, width) are too small for all octaves; once per job is enough.

    Those so large that they are dreamed in tiles are told too; StoppedError if there is no memory
    for these either.
    """
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
    tiles.tiler_for(engine.extractor, settings.tile).prepare((height, width), engine.terms)


def warn_of_idle_objectives(engine: Engine) -> None:
    """Say which objectives are in coarser octaves than carried frames have; once per job is enough.

    Only the first frame, those after cuts, and new ground would be dreamed for them.
    """
    follow = engine.preset.follow
    finest = {
        each.label: min(each.octaves)
        for each in engine.preset.objectives
        if each.octaves != "all" and min(each.octaves) >= follow.octaves and each.weight != 0
    }
    if finest and follow.steps:
        logger.warning(
            "%s: only in octaves that frames with a past, which have %d, are dreamed in on new "
            "ground alone (set follow.octaves to %d or more)",
            ", ".join(finest), follow.octaves, max(finest.values()) + 1,
        )  # fmt: skip


@dataclass(frozen=True)
class Start:
    """What a frame with a past is dreamed on."""

    image: Tensor
    ripeness: Tensor
    """`[1, 1, h, w]`: see `Carry`; 0 where nothing was carried to."""
    flow: Tensor
    """To the frame of the carried dream, `[1, 2, h, w]`."""
    ground: NewGround | None = None
    """What is to be dreamed in coarser octaves than the rest."""
    mattes: tuple[Matte, ...] = ()
    """The masks that travel, as they lie on it."""


def start_image(
    engine: Engine, carry: Carry | None, source: Tensor, move: Move = STANDING, gap: int = 1
) -> Start | None:
    """The source, `gap` frames after `carry`, with the carried dream on it; None without one."""
    if carry is None:
        return None
    settings = engine.preset.follow
    frames = (carry.index + gap, carry.index)
    correspondence = engine.ask(correspond, source, carry.source, frames)
    if correspondence.reliable.mean() < settings.restart:
        return None
    worn = engine.followed(carry, source, frames[0], correspondence)
    engine = engine.with_mattes(worn)
    latest = Arrived.of(
        carry.residual, correspondence, settings.softness, move, engine.mask, carry.where
    )
    arrived = (
        remembered(engine, carry, latest, source, move, frames[0]) if settings.memory else latest
    )
    ripeness = arrived.trust
    if carry.ripeness is not None:
        own = feedback.pulled(carry.ripeness, correspondence, move)
        own = own * feedback.let_grow(carry, correspondence, move, engine.mask)
        ripeness = arrived.trust - (1 - own.clamp(0, 1)) * latest.trust
    image = feedback.laid_on(source, arrived, settings, gap * engine.reference_frames)
    new = new_ground(engine, ripeness, arrived.trust)
    return Start(image, ripeness, correspondence.flow_to_previous, new, worn)


def remembered(
    engine: Engine, carry: Carry, latest: Arrived, source: Tensor, move: Move, index: int
) -> Arrived:
    """The carried dream, steadied by an older one, its holes filled from still older ones."""

    def arrived(past: Past) -> Arrived:
        moves = Move(past.moved(move.by).matrix, move.border)
        frames = (index, past.index)
        found = engine.ask(recognise, source, past.source, frames)
        softness, where = engine.preset.follow.softness, past.where
        return Arrived.of(past.residual, found, softness, moves, engine.mask, where)

    near, far = consulted(carry.pasts, carry.index, index)
    ground = feedback.textured(source)
    if near:
        latest = latest.steadied(arrived(near), engine.preset.follow.memory, ground)
    if far and latest.trust.mean() < 1 - _HOLE:
        latest = latest.steadied(arrived(far), 0, ground)
    return latest


def new_ground(engine: Engine, ripeness: Tensor, trust: Tensor) -> NewGround | None:
    """Where a frame is to be dreamed in the octaves that carried frames leave out."""
    follow, full = engine.preset.follow, ascent(engine.preset)
    if not (follow.ground and follow.steps and full.steps and full.step_size and left_out(engine)):
        return None
    if engine.mask is not None:
        ripeness = 1 - (1 - ripeness) * engine.mask.at(ripeness)
    least = math.ceil(engine.extractor.minimum_side * full.octave_scale ** (full.octaves - 1))
    whole = any(term.aligned for term in engine.terms)  # they look at places in the frame
    return ground.find(ripeness, trust, max(ripeness.shape[-2:]) if whole else least)


def left_out(engine: Engine) -> list[int]:
    """The octaves that carried frames do not have, and that there is something to dream in."""
    octaves = range(engine.preset.follow.octaves, engine.preset.dream.octaves)
    return [octave for octave in octaves if at_octave(engine.terms, octave)]


def dream_from_scratch(engine: Engine, source: Tensor, index: int) -> Tensor:
    """The full dream of a frame without a past, with the random draws of a still.

    How strong a dream becomes is luck too: of one picture with other draws it varies by a tenth
    (standard deviation), with the same ones by half of that. So the first frame of a shot, from
    which the strength to hold is learnt, is as lucky as any other would be.
    """
    preset = engine.preset
    with machine.more_threads(engine.aside):
        dreamed = dream(
            source, engine.extractor, engine.terms, ascent(preset), (preset.seed, 0), engine.mask,
            scene=engine.scene(source), frame=index,
        )  # fmt: skip
    if preset.dream.start != "source":  # what is dreamed from nothing owes the source no colours
        return dreamed
    return settle_color(engine, dreamed, source, preset.color.strength)


def dream_on(
    engine: Engine,
    start: Start,
    source: Tensor,
    index: int,
    gap: int = 1,
    learnt: Gauge | None = None,
) -> Tensor:
    """The few steps of a frame that starts from the dream of `gap` frames ago."""
    preset, passed = engine.preset, gap * engine.reference_frames
    targets = learnt.targets if learnt else {}
    effort = Effort(1 - start.ripeness, preset.follow.catch_up, targets)
    seed, scene = (preset.seed, index), engine.scene(source, start.flow, passed)
    image = start.image
    if start.ground is not None:
        image = dream_on_new_ground(engine, start.ground, image, source, seed, scene)
    dreamed = dream(
        image, engine.extractor, engine.terms, gentler(preset), seed, engine.mask, effort,
        scene=scene, source=source,
    )  # fmt: skip
    kept = (1 - preset.color.rate) ** passed
    return settle_color(engine, dreamed, source, 1 - kept)


def dream_on_new_ground(
    engine: Engine, new: NewGround, image: Tensor, source: Tensor, seed: Seed, scene: Scene
) -> Tensor:
    """The image with a step in each octave that only frames from scratch have, where it is new.

    The steps are those of a frame from scratch, jitter and all, but for their size. The priors wait
    for the steps of the whole frame: they would change what is around new ground as well.
    """
    full, follow = ascent(engine.preset), engine.preset.follow
    changes = {"steps": 1, "step_size": full.step_size * follow.ground, "start": "source"}
    settings = full.model_copy(update={**changes, "optimizer": "ascent"})
    mask = Mask(new.of(engine.mask.at(image))) if engine.mask else None
    priors = engine.preset.regularize
    shaping_alone = Regularize(laplacian=priors.laplacian, decorrelate=priors.decorrelate)
    effort = Effort(new.of(new.share), ripe=0.0, finest=follow.octaves)
    dreamed = dream(
        new.of(image), engine.extractor, engine.terms, settings, seed, mask, effort,
        scene=replace(scene.cut(new.of, source), regularize=shaping_alone), source=new.of(source),
    )  # fmt: skip
    return new.put(image, dreamed)


def ascent(preset: Preset) -> Dream:
    """The ascent of a frame from scratch, at the preset's strength.

    Steps of many directions add up to less than their sum: the mean change in pixels grows as the
    power 0.75 of the step, on every layer. This makes up for it.
    """
    if preset.strength == 1:
        return preset.dream
    step_size = preset.dream.step_size * preset.strength**_STEP_POWER
    return preset.dream.model_copy(update={"step_size": step_size})


def ripened(engine: Engine, start: Start) -> Tensor:
    """The ripeness after the steps of `dream_on`: the whole steps so far, of those of a frame from
    scratch, in all octaves.

    A step on new ground counts as one, however large: it stands for those that the place will not
    have before the film shows it.
    """
    preset, ripeness, size = engine.preset, start.ripeness, start.image.shape[-2:]
    follow, least = preset.follow, engine.extractor.minimum_side
    full, own = (
        [octave for octave, _ in octave_sizes(size, settings, least)]
        for settings in (preset.dream, gentler(preset))
    )
    steps = len(own) * follow.steps * follow.effort * (1 + follow.catch_up * (1 - ripeness))
    if start.ground is not None:
        steps = steps + len({*full} & {*left_out(engine)}) * start.ground.share
    return (ripeness + steps / max(len(full) * preset.dream.steps, 1)).clamp(max=1)


def learn(engine: Engine, source: Tensor, dreamed: Tensor, index: int) -> Gauge | None:
    """How strong the dream from scratch of a frame is; None where it does not matter."""
    if not engine.preset.follow.settle:
        return None
    extractor, settings = engine.extractor, gentler(engine.preset)
    whole = pad_to(dreamed, extractor.minimum_side)
    sizes = octave_sizes(whole.shape[-2:], settings, extractor.minimum_side)
    learnt = gauge.learn(extractor, engine.terms, sizes, source, whole, index)
    return replace(learnt, strength=engine.preset.strength)


def kept_up(engine: Engine, known: Gauge | None, source: Tensor, index: int) -> Gauge | None:
    """The gauge that holds for a frame: learnt again, by a dream nobody sees, if it has to be."""
    preset = engine.preset
    if known is None or not preset.follow.settle:
        return None
    if known.strength != preset.strength:
        # While it moves there is none to hold; it is learnt where it has come to rest for a while.
        return replace(known, index=index, light=0.0, energies=(), strength=preset.strength)
    if known.holds_for(engine.terms, source, index):
        return known
    return learn(engine, source, dream_from_scratch(engine, source, index), index)


def gentler(preset: Preset) -> Dream:
    """The ascent of a frame that starts from a carried dream: fewer octaves and steps, smaller.

    Jitter that changes from frame to frame makes each of them grow something else, and what is
    finer than the flow can follow flickers; the carried dream has had both from its first frame.
    """
    follow = preset.follow
    changes = {
        "octaves": follow.octaves,
        "steps": follow.steps,
        "step_size": ascent(preset).step_size * follow.effort,
        "jitter": round(preset.dream.jitter * follow.jitter),
        "smoothing": preset.dream.smoothing * follow.smoothing,
        "start": "source",
    }
    return preset.dream.model_copy(update=changes)


def settle_color(engine: Engine, dreamed: Tensor, source: Tensor, strength: float) -> Tensor:
    """Pull the dream's colours back to where the preset anchors them.

    Those under a mask are held against what was filmed there: in a whole frame they would hardly
    count, and burn.
    """
    if engine.preset.color.anchor == "none" or strength == 0:
        return dreamed
    settings = engine.preset.color
    shares = engine.mask.at(source) if engine.mask else None
    anchor = ColorStatistics.of(source, shares).lifted(settings).limited(settings)
    return masks.within(engine.mask, dreamed, color.pull(dreamed, anchor, strength, shares))


def compose(full: Tensor, residual: Tensor, mask: Mask | None = None) -> Tensor:
    """The full-size source with the residual on it, enlarged to it."""
    size = (full.shape[-2], full.shape[-1])
    return masks.kept(mask, full, (full + warp.resize(residual, size)).clamp_(0, 1))


def shrink(full: Tensor, limit: int | str) -> Tensor:
    """The full-size source at the size that flow and dream run at (see `dream_size`)."""
    return warp.shrink(full, dream_size(full.shape[-2:], limit))


def dream_size(size: tuple[int, ...], limit: int | str) -> tuple[int, int]:
    """(height, width) at which flow and dream run: the long side at most `limit`, or `full`."""
    height, width = size
    if limit == "full" or max(height, width) <= int(limit):
        return height, width
    fitted = Box(int(limit), int(limit)).fit(width, height)
    return fitted[1], fitted[0]
