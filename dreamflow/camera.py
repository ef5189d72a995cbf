"""The camera: how the picture moves from one frame to the next, as one matrix and one resampling.

Convention. A matrix `[3, 3]` maps a pixel of the last picture to where it goes in the next one,
(x right, y down, 1), pixel centres at integers. Signs are those of Deforum's 2D mode, whose names
stand beside ours:

    zoom     zoom               over 1 dives into the picture
    rotate   angle              positive turns it counter-clockwise
    pan_x    translation_x      positive moves it to the right; here a share of the width
    pan_y    translation_y      positive moves it down; here a share of the width, too
    tilt     rotation_3d_x      positive leans its top away from the viewer
    turn     rotation_3d_y      positive leans its right side away from the viewer
"""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dreamflow.filters import gaussian_blur
from dreamflow.pixels import as_image, as_pixels
from dreamflow.settings import Camera

Matrix = NDArray[np.floating]
Border = Literal["reflect", "wrap", "replicate", "outpaint"]

_MARGIN = 2
"""Pixels that a bicubic kernel reaches beyond the last one it is centred on."""
_OPENCV_IS_EXACT = int(cv2.__version__.partition(".")[0]) >= 5
"""Versions before take pixels from places in steps of 1/32."""
_LEAST_DEPTH = 1e-3
"""Of a place before the viewer, whose picture plane has 1; what lies behind is seen from afar."""
_BORDERS = {
    "reflect": cv2.BORDER_REFLECT_101,
    "wrap": cv2.BORDER_WRAP,
    "replicate": cv2.BORDER_REPLICATE,
    "outpaint": cv2.BORDER_REPLICATE,
}


def matrix(settings: Camera, size: tuple[int, int], share: float = 1.0) -> Matrix:
    """The move of one frame for a picture of (height, width).

    `share` is the part of the settings' move that is made: reference_fps / fps turns moves per
    reference frame into moves per frame of the render. Each scales in its own way, zoom as a power,
    the rest in proportion.
    """
    height, width = size
    x, y = settings.center_x * width - 0.5, settings.center_y * height - 0.5
    pan = (settings.pan_x * width * share, settings.pan_y * width * share)
    zoom = settings.zoom**share
    steps = (
        _translation(pan[0] + x, pan[1] + y),
        _leaning(math.radians(settings.tilt * share), math.radians(settings.turn * share), size),
        _rotation(math.radians(settings.rotate * share)),
        np.array([[1, settings.shear * share, 0], [0, 1, 0], [0, 0, 1]]),
        np.diag([zoom, zoom, 1]),
        _translation(-x, -y),
    )
    return functools.reduce(np.matmul, steps)


def _translation(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _rotation(angle: float) -> Matrix:
    """Counter-clockwise on a screen whose y points down."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def _leaning(tilt: float, turn: float, size: tuple[int, int]) -> Matrix:
    """The picture's plane turned about its own axes and seen from one long side away."""
    if tilt == turn == 0:
        return np.eye(3)
    distance = max(size)
    across = np.array([[1, 0, 0], [0, math.cos(tilt), 0], [0, -math.sin(tilt), 1]])
    upright = np.array([[math.cos(turn), 0, 0], [0, 1, 0], [math.sin(turn), 0, 1]])
    scale = np.diag([1 / distance, 1 / distance, 1])
    return np.linalg.inv(scale) @ across @ upright @ scale


def move(image: Tensor, by: Matrix, border: Border, fill: Tensor | None = None) -> Tensor:
    """The picture after the move, in one bicubic resampling; low-passed where it shrinks.

    Convention: image [1, C, H, W]; `by` a matrix as above. Beyond the border the picture goes on
    mirrored (`reflect`), from its other side (`wrap`) or as its edge (`replicate`); `outpaint`
    shows `fill` there, of the image's form, for the dream to grow on.
    """
    if np.array_equal(by, np.eye(3)):
        return image
    height, width = image.shape[-2:]
    inverse = np.linalg.inv(by)
    low_passed = _low_passed(image, by)
    if image.device.type == "cpu" and _OPENCV_IS_EXACT and _is_near(inverse, height, width, border):
        moved = _move_with_opencv(low_passed, inverse, border)
    else:
        moved = _sample(low_passed, *_sources(inverse, height, width, image), border)
    if border != "outpaint" or fill is None:
        return moved
    return fill + (moved - fill) * _inside(*_sources(inverse, height, width, image), image)


def _is_near(inverse: Matrix, height: int, width: int, border: Border) -> bool:
    """Whether OpenCV finds all that comes in: none of it lies behind a horizon, nor further beyond
    a border that goes on than the picture is long.

    From there OpenCV 5.0 takes wrong pixels, and a side of one pixel, reflected, holds it for ever.
    """
    corners = np.array([[x, y, 1] for x in (0, width - 1) for y in (0, height - 1)])
    *places, depth = inverse @ corners.T
    if (depth <= _LEAST_DEPTH).any():
        return False
    if _BORDERS[border] == cv2.BORDER_REPLICATE:
        return True
    x, y = places / depth
    return all(
        _MARGIN - side < place.min() and place.max() < 2 * side - 1 - _MARGIN
        for place, side in ((x, width), (y, height))
    )


def _move_with_opencv(image: Tensor, inverse: Matrix, border: Border) -> Tensor:
    """`_sample` by a matrix that `_is_near`, in a quarter of the time and within 0.0002 of it."""
    pixels = as_pixels(image)
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    outside = _BORDERS[border]
    moved = cv2.warpPerspective(pixels, inverse, pixels.shape[1::-1], flags=how, borderMode=outside)
    return as_image(moved)


def _inside(x: Tensor, y: Tensor, image: Tensor) -> Tensor:
    """1 where a place is in the picture, else 0."""
    height, width = image.shape[-2:]
    within = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return within.to(image.dtype)


def move_along(image: Tensor, flow: Tensor, by: Matrix, border: Border) -> Tensor:
    """The picture pulled along `flow`, as `warp.backward` does, after the move; one resampling.

    Convention: image [1, C, H, W], flow [1, 2, H, W] on the output grid. Beyond the border it goes
    on as `move` says; for `outpaint` there is nothing: 0.
    """
    height, width = image.shape[-2:]
    across = torch.arange(width, device=flow.device, dtype=flow.dtype)
    down = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    x, y = _through(np.linalg.inv(by), flow[0, 0] + across, flow[0, 1] + down)
    moved = _sample(_low_passed(image, by), x, y, border)
    return moved * _inside(x, y, image) if border == "outpaint" else moved


def coverage(by: Matrix, like: Tensor) -> Tensor:
    """Where the moved picture is itself and not its border continued, `[1, 1, H, W]`.

    It rises from 0 at the border to 1 within a sixteenth of the short side.
    """
    height, width = like.shape[-2:]
    x, y = _sources(np.linalg.inv(by), height, width, like)
    depth = torch.minimum(torch.minimum(x, width - 1 - x), torch.minimum(y, height - 1 - y))
    return (depth / (min(height, width) / 16)).clamp(0, 1)[:, None]


def composed(moves: Sequence[Matrix]) -> Matrix:
    """All the moves, one after the other, as one."""
    return functools.reduce(lambda whole, step: step @ whole, moves, np.eye(3))


def between(
    before: Tensor, after: Tensor, moves: Sequence[Matrix], place: int, border: Border
) -> Tensor:
    """The frame after the first `place` of the `moves` that lead from one picture to another.

    Both are moved to where the camera is then and cross-faded; near their borders the one that
    reaches further counts for more.
    """
    from_before = composed(moves[:place])
    from_after = np.linalg.inv(composed(moves[place:]))
    share = place / len(moves)
    early = (1 - share) * (coverage(from_before, before) + 1e-3)
    late = share * (coverage(from_after, after) + 1e-3)
    moved = move(before, from_before, border)
    return moved.lerp(move(after, from_after, border), late / (early + late))


def _sources(inverse: Matrix, height: int, width: int, image: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from, x and y `[1, H, W]`."""
    x = torch.arange(width, device=image.device, dtype=torch.float32)
    y = torch.arange(height, device=image.device, dtype=torch.float32)[:, None]
    return _through(inverse, x, y)


def _through(inverse: Matrix, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix applied to places, `[1, H, W]` each; from afar what lies behind the viewer."""
    rows = torch.from_numpy(inverse).to(x.device, torch.float32)
    from_x, from_y, depth = (row[0] * x + row[1] * y + row[2] for row in rows)
    depth = depth.clamp(min=_LEAST_DEPTH)
    return (from_x / depth)[None], (from_y / depth)[None]


def _sample(image: Tensor, x: Tensor, y: Tensor, border: Border) -> Tensor:
    height, width = image.shape[-2:]
    padding = "reflection" if border == "reflect" else "border"
    if border == "wrap":
        x, y = x.remainder(width) + _MARGIN, y.remainder(height) + _MARGIN
        rows, columns = (
            torch.arange(-_MARGIN, side + _MARGIN, device=image.device) % side
            for side in (height, width)
        )  # F.pad goes round no more than once
        image = image[..., rows, :][..., columns]
        height, width = image.shape[-2:]
    # grid_sample's own frame: -1 and 1 are the centres of the first and last pixel.
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), dim=-1)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode=padding, align_corners=True)


def _low_passed(image: Tensor, by: Matrix) -> Tensor:
    """Blurred as much as the move shrinks it, so that what no longer fits does not alias."""
    shrink = math.sqrt(abs(float(np.linalg.det(by[:2, :2]))))
    return image if shrink >= 1 else gaussian_blur(image, 0.5 * math.sqrt(shrink**-2 - 1))
