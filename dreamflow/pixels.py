"""Images as OpenCV takes them, and back."""

import numpy as np
import torch
from torch import Tensor


def as_pixels(image: Tensor) -> np.ndarray:
    """`[1, C, H, W]` on any device -> `[H, W, C]`; shares memory where it can."""
    return np.ascontiguousarray(image[0].permute(1, 2, 0).cpu().numpy())


def as_image(pixels: np.ndarray) -> Tensor:
    """`[H, W, C]`, or `[H, W]` as OpenCV leaves a single channel -> `[1, C, H, W]`, shared."""
    height, width = pixels.shape[:2]
    return torch.from_numpy(pixels.reshape(height, width, -1)).permute(2, 0, 1)[None]
