"""A seeded network of two convolutions and pictures from recipes, for tests of the numeric code."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from dreamflow import objectives
from dreamflow.filters import gaussian_blur
from dreamflow.flow import create
from dreamflow.frames import Array, to_array
from dreamflow.preset import Preset
from dreamflow.render import Engine


class TinyExtractor(nn.Module):
    """Random features at strides 1 and 2; answers what the numeric code asks of an `Extractor`."""

    weights_sha256 = "0" * 64

    def __init__(self, *, seed: int = 0, minimum_side: int = 8, gain: float = 1.0) -> None:
        super().__init__()
        self.layers = ("first", "second")
        self.channels = {"first": 6, "second": 8}
        self.stride = {"first": 1, "second": 2}
        self.minimum_side = minimum_side
        self.sides: list[tuple[int, int]] = []
        """(height, width) of every picture looked at."""
        self.asked: list[set[str]] = []
        """The layers asked for each time."""
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.data = draw * (0.2 * gain)
            parameter.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.first.weight.device

    def forward(self, image: Tensor, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        self.sides.append((image.shape[-2], image.shape[-1]))
        self.asked.append(set(layers or self.layers))
        first = torch.relu(self.first(image - 0.5))
        features = {"first": first, "second": torch.relu(self.second(first))}
        return {layer: features[layer] for layer in layers or self.layers}


def make_preset(layer: str = "second", **stages: object) -> Preset:
    """A preset over one layer; stages are given as mappings, `dream={"steps": 0}`."""
    return Preset.model_validate({"objectives": ({"layer": layer},), **stages})


def make_engine(
    preset: Preset, *, rate: Fraction = Fraction(30), extractor: nn.Module | None = None
) -> Engine:
    """An engine as `Engine.build` makes it, over the tiny network unless told otherwise."""
    extractor = extractor if extractor is not None else TinyExtractor()
    terms = objectives.build(preset.objectives)
    return Engine(preset, extractor, terms, create(preset.follow), rate)


def texture(height: int, width: int, *, seed: int = 0, sigma: float = 1.5) -> Tensor:
    """An image of soft random blobs with a mean near 0.5 and values inside 0.1..0.9."""
    generator = torch.Generator().manual_seed(seed)
    noise = gaussian_blur(torch.randn(1, 3, height, width, generator=generator), sigma)
    return (0.5 + 0.15 * noise / noise.std()).clamp(0.1, 0.9)


def panning_clip(count: int, height: int = 48, width: int = 64, speed: int = 2) -> list[Array]:
    """Frames of a textured scene that moves `speed` pixels to the right each."""
    scene = texture(height, width + speed * count, sigma=2)
    starts = (speed * (count - index) for index in range(count))
    return [to_array(scene[..., start : start + width]) for start in starts]


def passing_block(start: int = -36, count: int = 15, speed: int = 9) -> list[Array]:
    """A block of 36 px that slides `speed` px a frame to the right over a textured ground.

    Unless told otherwise columns 64 to 71 are seen until frame 6, and again from frame 12 on.
    """
    ground, block = texture(72, 160, seed=1, sigma=2), texture(36, 36, seed=9, sigma=2)
    frames = []
    for index in range(count):
        frame, left = ground.clone(), speed * index + start
        seen = block[..., max(0, -left) :]
        frame[..., 18:54, max(0, left) : left + 36] = seen
        frames.append(to_array(frame))
    return frames


def still_clip(count: int, height: int = 48, width: int = 64) -> list[Array]:
    """The same frame `count` times."""
    return [to_array(texture(height, width, sigma=2))] * count


def mean_level(images: Sequence[Tensor]) -> float:
    """Mean brightness over images, in 8-bit levels."""
    return float(torch.stack([image.mean() for image in images]).mean()) * 255
