"""DeepDream: gradient ascent on the picture, from coarse to fine.

The method is that of "Inceptionism: Going Deeper into Neural Networks" (Mordvintsev, Olah & Tyka,
Google Research blog, 2015) and its notebook: octaves that hand on only the detail they added, a
random shift (jitter) before every step, and a gradient normalised before it is added. Departures:
the gradient is blurred, its colour reduced and its outliers capped first, which keeps natural
colours. The notebook divides by the mean absolute value too, but has a step scale of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamflow import gauge, masks, objectives, optimizers, regularizers, shaping, tiles, warp
from dreamflow.errors import BadMediaError, is_out_of_memory
from dreamflow.filters import for_channels
from dreamflow.gauge import Energies
from dreamflow.masks import Mask
from dreamflow.objectives import Features, Term
from dreamflow.optimizers import Adam
from dreamflow.pixels import as_image, as_pixels
from dreamflow.scene import Scene, View
from dreamflow.settings import Dream
from dreamflow.tiles import Tiler, Window

if TYPE_CHECKING:
    from dreamflow.ensemble import AnyExtractor

_WORTH_A_STEP = 0.005
"""Of the picture: what is uncovered by less waits for the next step of the whole."""
_TINY = float(np.finfo(np.float32).tiny)
_GRAIN = 0.05
"""Standard deviation of the noise that dreams grow from."""
_MOST_DEGREES, _MOST_SCALE = 10.0, 0.1
"""How far `dream.robust` 1 turns and scales a picture."""

Seed = tuple[int, int]
"""(seed of the render, index of the source frame): what all randomness of a frame hangs on. One
from scratch has that of a still, which has the index 0."""


_TURN, _FIRST, _GRID = 1, 2, 3
"""What a random draw besides the jitter is for; part of its key."""


@dataclass(frozen=True)
class Effort:
    """How hard to dream, where, and until when."""

    unripe: Tensor | None = None
    """`[1, 1, H, W]` in 0..1, how much each place is behind the rest; None for nothing anywhere."""
    catch_up: float = 0.0
    """How much harder what is unripe is dreamed."""
    targets: Energies = field(default_factory=dict)
    """What is strong enough; nothing is where a layer is not in it."""
    octave: int = 0
    """That of the steps in question."""
    ripe: float = 1.0
    """What to multiply steps with where nothing is behind, if there are no targets."""
    finest: int = 0
    """The last octave that takes steps."""

    def at(self, octave: int, like: Tensor) -> Effort:
        """The same for the steps of an octave, in which the picture is as large as `like`."""
        unripe = self.unripe
        if unripe is None and not self.targets:
            return self
        if unripe is not None:
            size = (like.shape[-2], like.shape[-1])
            unripe = F.interpolate(unripe, size, mode="bilinear", align_corners=False)
        return replace(self, unripe=unripe, octave=octave)

    def size(self, terms: Sequence[Term], features: objectives.Features) -> float:
        """What to multiply the step with where the dream is ripe."""
        if not self.targets:
            return self.ripe
        return gauge.size_of_step(gauge.shortfall(self.targets, self.octave, terms, features))

    @property
    def is_behind(self) -> bool:
        """Whether so much is unripe that it is worth a step of its own."""
        return self.unripe is not None and float(self.unripe.mean()) > _WORTH_A_STEP

    def pace(self, size: float) -> float | Tensor:
        """What to multiply the step with at each place, where it is `size` for what is ripe.

        That the picture as a whole is strong enough does not hold up what is behind.
        """
        if self.unripe is None:
            return size
        return size + (1 + self.catch_up - size) * self.unripe


FULL = Effort()


def dream(
    image: Tensor,
    extractor: AnyExtractor,
    terms: Sequence[Term],
    settings: Dream,
    seed: Seed = (0, 0),
    mask: Mask | None = None,
    effort: Effort = FULL,
    *,
    scene: Scene | None = None,
    source: Tensor | None = None,
    frame: int | None = None,
) -> Tensor:
    """Dream on `image` and return it with what was dreamed, as much as the `mask` lets grow.

    Convention: image [1, 3, H, W], RGB, 0..1, any size (one smaller than the network's minimum is
    continued by its edge meanwhile). The result has the same form and stays within 0..1. `source`
    is the frame without any dream, of the same form and within 0..1, if that is not the image;
    `scene` what else the terms need; `frame` what errors call it, if not by the `seed`.

    Where an octave has no terms there is nothing to ascend to, and it takes no steps.
    Raises BadMediaError when the gradient leaves the numbers (NaN or infinite).
    """
    height, width = image.shape[-2:]
    scene = scene or Scene()
    whole = _within(pad_to(image, extractor.minimum_side))
    whole = first_picture(whole, settings.start, seed)
    source = whole if source is None else pad_to(source, extractor.minimum_side)
    dreamed, detail = whole, None
    octaves = list(octave_sizes(whole.shape[-2:], settings, extractor.minimum_side))
    steps = range(settings.steps)
    shifts = {  # now, as between passes, which leave all caches cold, they take ten times as long
        octave: [draw_shift((*seed, octave, step), settings.jitter) for step in steps]
        for octave, _ in octaves
    }
    for octave, size in octaves:
        base = warp.shrink(whole, size)
        dreamed = base if detail is None else warp.resize(detail, size).add_(base).clamp_(0, 1)
        here = objectives.at_octave(terms, octave)
        harder = effort.at(octave, dreamed)
        if here and settings.steps and octave >= effort.finest:
            other = source is not whole and scene.asks_for_source(here)  # spares a resampling
            under = warp.shrink(source, size) if other else base
            natural = settings.start == "frequency"
            view = scene.at(under, here, extractor, natural=natural)
            key = (*seed, octave)
            named = seed[1] if frame is None else frame
            dreamed = _dream_octave(
                dreamed, extractor, here, settings, key, shifts[octave], named, view, mask, harder
            )
        detail = dreamed - base if octave else None  # nobody needs that of the full size
    # The last octave is the full size.
    return masks.kept(mask, image, dreamed[..., :height, :width])


def _dream_octave(
    image: Tensor,
    extractor: AnyExtractor,
    terms: Sequence[Term],
    settings: Dream,
    key: tuple[int, int, int],
    shifts: Sequence[tuple[int, int]],
    frame: int,
    view: View,
    mask: Mask | None,
    effort: Effort,
) -> Tensor:
    """All steps of one octave of a `frame`, one for each shift; `key` is (*seed, octave)."""
    if settings.optimizer == "lbfgs":
        found = _descend(image, extractor, terms, settings, view, frame)
        return masks.within(mask, image, found)
    adam = Adam() if settings.optimizer == "adam" else None
    grid = _grid(terms, extractor)
    turns = settings.robust > 0 and not any(term.aligned for term in terms)
    for step, shift in enumerate(shifts):
        shift = (round(shift[0] / grid) * grid, round(shift[1] / grid) * grid)
        turn = draw_turn((*key, step, _TURN), settings.robust) if turns else None
        image = ascend(
            image, extractor, terms, settings, shift, frame, mask, effort,
            view=view, turn=turn, adam=adam, key=(*key, step, _GRID),
        )  # fmt: skip
    return image


def _grid(terms: Sequence[Term], extractor: AnyExtractor) -> int:
    """What shifts are multiples of, in pixels, so that they can be undone in the features."""
    strides = [extractor.stride[layer] for term in terms if term.aligned for layer in term.layers]
    return math.lcm(*strides)


def first_picture(image: Tensor, start: str, seed: Seed) -> Tensor:
    """What a dream grows from: the image, or nothing of it but its size.

    Grey is the zero image with the mean added of Simonyan, Vedaldi & Zisserman 2013; `frequency`
    has amplitudes that fall as 1/frequency, and colours, as photographs have them (Olah et al.
    2017).
    """
    if start == "source":
        return image
    grey = torch.full_like(image, 0.5)
    if start == "grey":
        return grey
    number = int(np.random.SeedSequence((*seed, _FIRST)).generate_state(1, np.uint64)[0] >> 1)
    generator = torch.Generator().manual_seed(number)
    grain = torch.randn(image.shape, generator=generator).to(image)
    if start == "frequency":
        grain = regularizers.natural(grain)
        grain = grain / grain.std()
    return (grey + _GRAIN * grain).clamp(0, 1)


def octave_sizes(
    size: Sequence[int], settings: Dream, minimum_side: int
) -> Iterator[tuple[int, tuple[int, int]]]:
    """(octave, (height, width)) from small to full; octave 0 is the full size.

    Octaves with a side under `minimum_side`, which the network cannot take, are left out.
    """
    for octave in reversed(range(settings.octaves)):
        scale = settings.octave_scale**octave
        height, width = (round(side / scale) for side in size)
        if octave == 0 or min(height, width) >= minimum_side:
            yield octave, (height, width)


def draw_shift(key: Sequence[int], jitter: int) -> tuple[int, int]:
    """A random shift of -jitter..jitter pixels (down, right), the same for the same `key`.

    Drawn from the key alone, so that serial, resumed and distributed renders shift alike.
    """
    if jitter == 0:
        return 0, 0
    down, right = np.random.SeedSequence(key).generate_state(2) % (2 * jitter + 1)
    return int(down) - jitter, int(right) - jitter


def draw_turn(key: Sequence[int], robust: float) -> Tensor:
    """A random turn and scaling about the centre, `[1, 2, 3]`, as `affine_grid` takes it."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    turned, scaled = robust * generator.uniform(-1, 1, size=2)
    angle, scale = math.radians(_MOST_DEGREES * turned), 1 + _MOST_SCALE * scaled
    cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
    return torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]])


def turned(image: Tensor, turn: Tensor) -> Tensor:
    """The image turned and scaled about its centre; what comes in from outside is its mirror."""
    height, width = image.shape[-2:]
    matrix = turn.clone()  # affine_grid's frame is -1..1 along both sides
    matrix[:, 0, 1] *= height / width
    matrix[:, 1, 0] *= width / height
    grid = F.affine_grid(matrix.to(image), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)


def ascend(
    image: Tensor,
    extractor: AnyExtractor,
    terms: Sequence[Term],
    settings: Dream,
    shift: tuple[int, int],
    frame: int = 0,
    mask: Mask | None = None,
    effort: Effort = FULL,
    *,
    view: View | None = None,
    turn: Tensor | None = None,
    adam: Adam | None = None,
    key: Sequence[int] = (0,),
) -> Tensor:
    """One step: shift, forward, backward, shape the gradient, shift back, add it, clamp to 0..1.

    Nothing changes, and there is no backward pass, where the dream is strong enough as it is.
    Pictures that are too large for that go another way, tile by tile; `key` is what the place of
    their tiles hangs on.
    """
    step = _Step(extractor, terms, settings, frame, mask, effort, view or View(image), turn, adam)
    tiler = tiles.tiler_for(extractor, settings.tile)
    size = (image.shape[-2], image.shape[-1])
    while True:
        try:
            if tiler.side(size, terms) is None:
                return step.whole(image, shift)
            return step.in_tiles(image, tiler, key)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        tiler.shrink(size, terms)  # here the tensors of the step that failed are gone


@dataclass(frozen=True)
class _Step:
    """One step of the ascent, but for the picture and where it is shifted to."""

    extractor: AnyExtractor
    terms: Sequence[Term]
    settings: Dream
    frame: int
    mask: Mask | None
    effort: Effort
    view: View
    turn: Tensor | None
    adam: Adam | None

    def whole(self, image: Tensor, shift: tuple[int, int]) -> Tensor:
        """The picture after a step for which the network sees it at once."""
        leaf, features = look(
            roll(image, shift), self.extractor, self.terms, self.view, shift, self.turn
        )
        size = self.effort.size(self.terms, features)
        if size == 0 and not self.effort.is_behind:
            return image
        score, slope = climb(leaf, features, self.terms, self.view, shift)
        return self._go(image, score, slope, self._shaped(slope), size, shift)

    def in_tiles(self, image: Tensor, tiler: Tiler, key: Sequence[int]) -> Tensor:
        """The same tile by tile; what is rolled is the grid.

        The gradient is blurred within the tiles, and shaped in its place where that can be.
        """
        settings, regularize = self.settings, self.view.regularize
        spare = not (self.view.natural or regularize.laplacian or regularize.decorrelate)
        spare = spare and not self._is_bounded()
        sizes: list[float] = []

        def one(
            picture: Tensor, window: Window, units: Sequence[Tensor] | None
        ) -> tuple[Tensor, Tensor]:
            masks = {name: window.of(shares) for name, shares in self.view.masks.items()}
            view = replace(self.view, masks=masks)
            seen = window.of(picture)
            leaf, features = look(seen, self.extractor, self.terms, view, (0, 0), self.turn)
            sizes.append(self.effort.size(self.terms, features))
            score, slope = climb(leaf, features, self.terms, view, (0, 0), units)
            blurs = spare and settings.smoothing > 0
            return score, shaping.cascaded_blur(slope, settings.smoothing) if blurs else slope

        score, slope = tiler.uphill(image, self.terms, self.view.references, key, one)
        size = sum(sizes) / len(sizes)
        if size == 0 and not self.effort.is_behind:
            return image
        if not spare:
            return self._go(image, score, slope, self._shaped(slope), size)
        cells = shaping.evening(slope, settings.spread) if settings.spread > 0 else None
        gradient = shaping.mix_and_cap(slope, cells, settings.chroma, settings.limit)
        return self._go(image, score, slope, gradient, size)

    def _is_bounded(self) -> bool:
        return all(term.bounded and term.weight > 0 for term in self.terms)

    def _shaped(self, slope: Tensor) -> Tensor:
        slope = regularizers.shaped(slope, self.view.regularize)
        gradient = shaping.shape_gradient(slope, self.settings)
        return regularizers.natural(gradient) if self.view.natural else gradient

    def _go(
        self,
        image: Tensor,
        score: Tensor,
        slope: Tensor,
        gradient: Tensor,
        size: float,
        shift: tuple[int, int] | None = None,
    ) -> Tensor:
        """The image moved along a gradient, which is that of an image shifted by `shift`.

        `size` is the part of a whole step to go where the dream is ripe.
        """
        settings, mask, view = self.settings, self.mask, self.view
        cover = _cover(self.terms, view)
        if cover is not None:  # what was blurred over the mask's border
            gradient = gradient * (cover if shift is None else roll(cover, shift))
        step = gradient if shift is None else roll(gradient, (-shift[0], -shift[1]))
        if self.adam is not None:
            step = self.adam.direction(step)
        pace = self.effort.pace(size)
        if isinstance(pace, Tensor):
            step, cover = step * for_channels(pace), pace if cover is None else pace * cover
            pace = 1.0
        # Of what the pace lets move: if that is a flat wall, the rest would make it creep.
        scale = shaping.mean_size(step)
        if cover is not None:
            scale /= max(float(cover.mean()), _TINY)
        _check_finite(score, scale, self.terms, settings, self.frame)
        level = settings.step_size / 255
        scaled = level * objectives.share(self.terms) * pace
        if self.adam is None:
            scaled /= max(scale, _TINY)
        if self.adam is None and self._is_bounded():
            scaled = min(scaled, _room(score, slope, gradient))
        if mask is not None:
            step = step * mask.at(step)
        moved = torch.add(image, step, alpha=scaled, out=step)  # which nobody needs again
        if regularizers.in_force(view.regularize):
            settled = regularizers.settled(moved, view.source, view.regularize, level)
            moved = masks.within(mask, moved, settled)
        return moved.clamp_(0, 1)


def uphill(
    image: Tensor,
    extractor: AnyExtractor,
    terms: Sequence[Term],
    view: View,
    shift: tuple[int, int] = (0, 0),
    turn: Tensor | None = None,
    units: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The terms' score of an image that was shifted, and its gradient, masked as the terms say."""
    leaf, features = look(image, extractor, terms, view, shift, turn)
    return climb(leaf, features, terms, view, shift, units)


def look(
    image: Tensor,
    extractor: AnyExtractor,
    terms: Sequence[Term],
    view: View,
    shift: tuple[int, int],
    turn: Tensor | None,
) -> tuple[Tensor, Features]:
    """The image as what a gradient is taken of, and all features that the terms ask for.

    One forward pass serves all terms.
    """
    leaf = image.detach().requires_grad_(True)
    seen = leaf if turn is None else turned(leaf, turn)
    layers = _layers(terms)
    features: Features = extractor(seen, layers)
    if any(term.aligned for term in terms):
        features = {layer: _unshifted(features[layer], extractor, layer, shift) for layer in layers}
    return leaf, {**features, **view.references} if view.references else features


def climb(
    leaf: Tensor,
    features: Features,
    terms: Sequence[Term],
    view: View,
    shift: tuple[int, int],
    units: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The terms' score and its gradient.

    Each mask has a backward pass of its own, so that it holds to the pixel whatever the objective.
    """
    names = list(dict.fromkeys(term.mask for term in terms))
    scores, gradient = [], None
    for mask in names:
        chosen = [place for place, term in enumerate(terms) if term.mask == mask]
        held = None if units is None else [units[place] for place in chosen]
        score = objectives.total([terms[place] for place in chosen], features, held)
        (part,) = torch.autograd.grad(score, leaf, retain_graph=mask != names[-1])
        if mask:
            part = part * roll(view.masks[mask], shift)
        gradient = part if gradient is None else gradient + part
        scores.append(score.detach())
    assert gradient is not None
    return torch.stack(scores).sum(), gradient


def _layers(terms: Sequence[Term]) -> list[str]:
    """What all of them look at, each once."""
    return list(dict.fromkeys(layer for term in terms for layer in term.layers))


def _unshifted(
    values: Tensor, extractor: AnyExtractor, layer: str, shift: tuple[int, int]
) -> Tensor:
    """Features of a shifted image where they were before; class scores have no place."""
    stride = extractor.stride.get(layer)
    if stride is None:
        return values
    down, right = shift
    return torch.roll(values, (-(down // stride), -(right // stride)), dims=(2, 3))


def _cover(terms: Sequence[Term], view: View) -> Tensor | None:
    """How much of a dream each pixel is open to, `[1, 1, H, W]`; None if to all of it."""
    if any(not term.mask for term in terms):
        return None
    return torch.stack([view.masks[mask] for mask in {term.mask for term in terms}]).amax(0)


def _check_finite(
    score: Tensor, scale: float, terms: Sequence[Term], settings: Dream, frame: int
) -> None:
    # A score that overflows has a gradient of zero: without its check the dream silently stops.
    if not (math.isfinite(score) and math.isfinite(scale)):
        layers = ", ".join(_layers(terms))
        raise BadMediaError(
            f"frame {frame}: the energy of {layers} or its gradient is not finite (lower "
            f"dream.step_size, now {settings.step_size:g}, or choose another layer)"
        )


def _room(score: Tensor, slope: Tensor, direction: Tensor) -> float:
    """How far to go along `direction` until the score would be 0, its best, if it rose evenly.

    (The step size of Polyak 1969 for a known optimum.)
    """
    rise = float((slope * direction).sum())
    return -float(score) / rise if rise > 0 else math.inf


def _descend(
    image: Tensor,
    extractor: AnyExtractor,
    terms: Sequence[Term],
    settings: Dream,
    view: View,
    frame: int,
) -> Tensor:
    """An octave by L-BFGS: `steps` passes over one smooth loss, without jitter and shaping.

    The units of the terms are held at what they are in the beginning, and the whole is scaled so
    that the gradient begins with a mean absolute value of 1, as priors expect.
    """
    with torch.no_grad():  # the first of the passes
        features = {**extractor(image, _layers(terms)), **view.references}
        units = [term.unit(features) for term in terms]
    gain: list[Tensor] = []

    def loss(picture: Tensor) -> tuple[float, Tensor]:
        score, slope = uphill(picture, extractor, terms, view, units=units)
        size = slope.abs().mean()
        _check_finite(score, float(size), terms, settings, frame)
        if not gain:
            gain.append(objectives.share(terms) / size.clamp(min=torch.finfo(size.dtype).tiny))
        prior, against = regularizers.value_and_gradient(picture, view.source, view.regularize)
        return prior - float(gain[0] * score), against - gain[0] * slope

    found = optimizers.lbfgs(loss, image, settings.steps - 1, settings.step_size / 255)
    return found.clamp(0, 1)


def roll(image: Tensor, shift: tuple[int, int]) -> Tensor:
    """Shift `image` by (down, right) pixels around its borders, in channels_last memory order."""
    if not any(shift):
        return image.detach().contiguous(memory_format=torch.channels_last)
    if image.device.type == "cpu":
        return as_image(_rolled(as_pixels(image.detach()), *shift))
    rolled = torch.roll(image.permute(0, 2, 3, 1), shift, dims=(1, 2))
    return rolled.permute(0, 3, 1, 2).detach()


def _rolled(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Its four pieces copied once each: torch copies all of it for each direction, and NumPy's own
    takes a fifth to a half longer between two passes.
    """
    height, width = pixels.shape[:2]
    down, right = down % height, right % width
    rolled = np.empty_like(pixels)
    for rows, from_rows in _swapped(height, down):
        for columns, from_columns in _swapped(width, right):
            rolled[rows, columns] = pixels[from_rows, from_columns]
    return rolled


def _swapped(length: int, by: int) -> Iterator[tuple[slice, slice]]:
    """The two pieces of a line that is shifted round: where each goes, and where it was."""
    yield slice(by, length), slice(length - by)
    yield slice(by), slice(length - by, length)


def _within(image: Tensor) -> Tensor:
    """The image clamped to 0..1; itself, and not a copy, where that changes nothing."""
    if image.device.type == "cpu":  # in a third of the time of torch
        pixels = as_pixels(image)
        low, high = pixels.min(), pixels.max()
    else:
        low, high = torch.aminmax(image)
    return image if low >= 0 and high <= 1 else image.clamp(0, 1)


def pad_to(image: Tensor, side: int) -> Tensor:
    """The image continued by its edge, below and to the right, to sides of at least `side`."""
    height, width = image.shape[-2:]
    below, right = max(0, side - height), max(0, side - width)
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image
