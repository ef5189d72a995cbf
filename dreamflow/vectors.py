"""Flow vectors as OpenCV gives them: following them, and checking them against the way back.

Convention. Vectors are float32 `[H, W, 2]`, (x right, y down), in pixels, on the grid of the frame
they start from. Free of torch.
"""

import cv2
import numpy as np

SMALLEST_SIDE = 48
"""Below this the coarsest levels of DIS and Farnebäck are empty, and OpenCV crashes on some."""


def padded(grey: np.ndarray) -> np.ndarray:
    """A picture continued by its edge, below and to the right, up to what a search can take."""
    below, right = (max(0, SMALLEST_SIDE - side) for side in grey.shape)
    return cv2.copyMakeBorder(grey, 0, below, 0, right, cv2.BORDER_REPLICATE)


def ends(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where they point to: x and y, each `[H, W]`."""
    y, x = np.indices(vectors.shape[:2], np.float32)
    return x + vectors[..., 0], y + vectors[..., 1]


def pulled(image: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """output(p) = image(p + vector(p)), bilinear; beyond the border its colour goes on."""
    x, y = ends(vectors)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def inside(vectors: np.ndarray) -> np.ndarray:
    """Where they end in the picture, `[H, W]`."""
    height, width = vectors.shape[:2]
    x, y = ends(vectors)
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def agree(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Where |w + w'|² < 0.01 (|w|² + |w'|²) + 0.5, `[H, W]` (Sundaram, Brox & Keutzer 2010).

    `back` is the opposite flow at the ends of `there`, as `pulled` gives it.
    """
    lengths = square_length(there) + square_length(back)
    return square_length(there + back) < 0.01 * lengths + 0.5


def square_length(vectors: np.ndarray) -> np.ndarray:
    """|w|², `[H, W]`."""
    return vectors[..., 0] ** 2 + vectors[..., 1] ** 2


def resized(vectors: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The same motion on a grid of (height, width): the vectors grow or shrink with it."""
    height, width = vectors.shape[:2]
    if (height, width) == size:
        return vectors
    shrinks = size[0] * size[1] < height * width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scale = np.array((size[1] / width, size[0] / height), np.float32)
    return cv2.resize(vectors, size[::-1], interpolation=how) * scale
