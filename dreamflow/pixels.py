"""Images as OpenCV takes them, and back."""

import cv2
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


def as_levels(image: Tensor) -> np.ndarray:
    """An image within 0..1 in 8-bit levels, rounded: uint8 `[H, W, C]`."""
    return cv2.convertScaleAbs(as_pixels(image), alpha=255)
