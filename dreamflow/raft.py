"""Optical flow by a network: RAFT (Teed & Deng 2020, arXiv:2003.12039), torchvision's two sizes.

Slower than DIS by two orders of magnitude on a CPU and better at thin things and at large moves.
Its weights (4 and 21 MB) are fetched on first use; they were trained on FlyingChairs, FlyingThings
and more, so mind their terms.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from dreamflow import networks

URLS = {
    "raft_small": "https://download.pytorch.org/models/raft_small_C_T_V2-01064c6d.pth",
    "raft_large": "https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth",
}
"""Where the weights are; the names end in the beginning of their SHA-256."""
_MULTIPLE = 8
"""Its features are an eighth as large as the picture."""
_SMALLEST_SIDE = 128
"""Below this the coarsest of its four levels of correlations is empty."""


class Raft:
    """A search of `flow.METHODS`: RGB uint8 `[H, W, 3]` twice -> vectors `[H, W, 2]`."""

    def __init__(self, network: nn.Module, weights_sha256: str, device: torch.device) -> None:
        self._network, self._device = network, device
        self.weights_sha256 = weights_sha256

    @torch.no_grad()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width, _ = first.shape
        found = self._network(self._prepared(first), self._prepared(second))[-1]
        return found[0, :, :height, :width].permute(1, 2, 0).cpu().numpy()

    def _prepared(self, picture: np.ndarray) -> Tensor:
        """As the network was trained: -1..1; continued by its edge below and to the right."""
        image = torch.from_numpy(picture).to(self._device).permute(2, 0, 1)[None].float()
        height, width, _ = picture.shape
        padding = (0, _padded(width) - width, 0, _padded(height) - height)
        return F.pad(image / 127.5 - 1, padding, mode="replicate")


def _padded(side: int) -> int:
    return max(_SMALLEST_SIDE, -(-side // _MULTIPLE) * _MULTIPLE)


def build(name: str, device: torch.device) -> Raft:
    """The network called `name`, one of `URLS`, ready to search.

    Raises UnavailableError where its weights cannot be had or trusted.
    """
    network = torchvision.models.get_model(name, weights=None)
    sha256 = networks.load_published(name, URLS[name], network)
    return Raft(network.eval().requires_grad_(False).to(device), sha256, device)
