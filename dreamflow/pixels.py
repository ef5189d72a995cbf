"""Images as OpenCV takes them, and back.

Views are NumPy's, which makes them in a tenth of the time of torch: that counts between two passes
of a network, when all caches are cold.
"""

import cv2
import numpy as np
import torch
from torch import Tensor


def as_pixels(image: Tensor, every: int = 1) -> np.ndarray:
    """`[1, C, H, W]` on any device -> `[H, W, C]`, of every n-th row and column.

    Shares memory where it can.
    """
    if image.device.type != "cpu":
        image, every = image[..., ::every, ::every].cpu(), 1
    pixels = image.numpy()[0].transpose(1, 2, 0)
    return np.ascontiguousarray(pixels if every == 1 else pixels[::every, ::every])


def as_image(pixels: np.ndarray) -> Tensor:
    """`[H, W, C]`, or `[H, W]` as OpenCV leaves a single channel -> `[1, C, H, W]`, shared."""
    height, width = pixels.shape[:2]
    return torch.from_numpy(pixels.reshape(1, height, width, -1).transpose(0, 3, 1, 2))


def as_levels(image: Tensor) -> np.ndarray:
    """An image within 0..1 in 8-bit levels, rounded: uint8 `[H, W, C]`."""
    return cv2.convertScaleAbs(as_pixels(image), alpha=255)
