"""Several networks that look at one picture, as if they were one."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from dreamflow import networks
from dreamflow.networks import Extractor
from dreamflow.objectives import layer_key


class Ensemble(nn.Module):
    """Features of an image from several networks, each of which runs once in a pass.

    It answers as an `Extractor` does; layers are keyed as `objectives.layer_key` calls them.
    """

    def __init__(
        self, parts: Mapping[str, Extractor], layers: Mapping[str, tuple[str, str]]
    ) -> None:
        super().__init__()
        self._parts = nn.ModuleList(parts.values())
        self._place = {network: place for place, network in enumerate(parts)}
        self._layers = dict(layers)
        """(network, layer) by key."""
        self.name = " + ".join(parts)
        self.layers = tuple(layers)
        self.minimum_side = max(part.minimum_side for part in parts.values())
        found = self._layers.items()
        self.stride = {
            key: parts[network].stride[layer]
            for key, (network, layer) in found
            if layer in parts[network].stride
        }
        self.channels = {
            key: parts[network].channels[layer]
            for key, (network, layer) in found
            if layer in parts[network].channels
        }
        hashes = "".join(part.weights_sha256 for part in parts.values())
        self.weights_sha256 = hashlib.sha256(hashes.encode()).hexdigest()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, image: Tensor, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        """The features of `layers`, all unless given; a network that has none of them is left."""
        wanted: dict[str, dict[str, str]] = {}
        for key in self.layers if layers is None else layers:
            network, layer = self._layers[key]
            wanted.setdefault(network, {})[layer] = key
        features: dict[str, Tensor] = {}
        for network, keys in wanted.items():
            found = self._parts[self._place[network]](image, set(keys))
            features |= {key: found[layer] for layer, key in keys.items()}
        return features


AnyExtractor = Extractor | Ensemble


def build(
    own: str, wanted: Sequence[tuple[str, str]], device: torch.device | str = "cpu"
) -> AnyExtractor:
    """What has the features of all `wanted` (network, layer) of a preset whose network is `own`.

    An empty network is `own`. Errors as `networks.build`.
    """
    by_network: dict[str, list[str]] = {}
    for network, layer in wanted:
        by_network.setdefault(network or own, []).append(layer)
    parts = {
        network: networks.build(network, layers, device=device)
        for network, layers in by_network.items()
    }
    if list(parts) == [own]:
        return parts[own]
    keys = {
        layer_key(layer, network, own): (network, layer)
        for network, layers in by_network.items()
        for layer in layers
    }
    return Ensemble(parts, keys)
