"""Moving pictures along vectors, and changing their size."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic resampling of `[B, C, H, W]` to (height, width), low-passed when it shrinks.

    Overshoots 0..1 at hard edges by a few hundredths, as every sharp filter does.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True)


def backward(image: Tensor, flow: Tensor, mode: str = "bicubic") -> Tensor:
    """Pull `image` along `flow`: output(p) = image(p + flow(p)).

    Convention: image [B, C, H, W]; flow [B, 2, H, W] on the output grid, (x right, y down), in
    pixels; pixel centres at integers; outside the image the border colour continues. `mode` is
    "bilinear" or "bicubic", which keeps fine detail over many generations.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    # grid_sample's own frame: -1 and 1 are the centres of the first and last pixel.
    grid_x = (flow[:, 0] + x) * (2 / max(image.shape[-1] - 1, 1)) - 1
    grid_y = (flow[:, 1] + y) * (2 / max(image.shape[-2] - 1, 1)) - 1
    grid = torch.stack((grid_x, grid_y), dim=-1)
    return F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=True)
