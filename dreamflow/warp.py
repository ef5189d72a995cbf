"""Moving pictures along vectors, and changing their size.

On the CPU OpenCV enlarges, in a tenth of the time of torch, and moves, in two thirds of it, with
the same kernels (before OpenCV 5, and where they are linear, along vectors in steps of 1/32 pixel).
"""

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamflow import vectors
from dreamflow.pixels import as_image, as_levels, as_pixels


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic resampling of `[1, C, H, W]` to (height, width), low-passed when it shrinks.

    Overshoots a hard edge by about a tenth of it (Keys' kernel with a = -0.75; -0.5 where it
    shrinks). What shrinks stays with torch, whose low pass is the sharper one: with areas or a
    Gaussian in its place, of a third of the cost, a street scene flickers by a twentieth more.
    """
    height, width = image.shape[-2:]
    if (height, width) == size:
        return image
    shrinks = size[0] < height or size[1] < width
    if image.device.type == "cpu" and not shrinks:
        return as_image(cv2.resize(as_pixels(image), size[::-1], interpolation=cv2.INTER_CUBIC))
    planes = image.contiguous()  # a sixth quicker than pixel by pixel
    return F.interpolate(planes, size, mode="bicubic", align_corners=False, antialias=shrinks)


def shrink(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """`resize` of an image `[1, C, H, W]` within 0..1 to a smaller (height, width), and within it;
    the image itself where it has that size.

    On the CPU it counts in 8-bit levels, which takes a third of the time and errs by a third of
    one on average, by one where all is lines of a pixel's width: good enough for what is looked at,
    and nothing that adds up from frame to frame.
    """
    if tuple(picture.shape[-2:]) == size:
        return picture
    if picture.device.type != "cpu":
        return resize(picture, size).clamp_(0, 1)
    levels = as_image(as_levels(picture))
    small = F.interpolate(levels, size, mode="bicubic", align_corners=False, antialias=True)
    return small.div(255)


def backward(image: Tensor, flow: Tensor, mode: str = "bicubic") -> Tensor:
    """Pull `image` along `flow`: output(p) = image(p + flow(p)).

    Convention: image [1, C, H, W] with C at most 4; flow [1, 2, H, W] on the output grid, (x right,
    y down), in pixels; pixel centres at integers; outside the image the border colour continues.
    `mode` is "bilinear" or "bicubic", which keeps fine detail over many generations.
    """
    height, width = flow.shape[-2:]
    if image.device.type == "cpu":
        x, y = vectors.ends(as_pixels(flow))
        how = cv2.INTER_CUBIC if mode == "bicubic" else cv2.INTER_LINEAR
        return as_image(cv2.remap(as_pixels(image), x, y, how, borderMode=cv2.BORDER_REPLICATE))
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    # grid_sample's own frame: -1 and 1 are the centres of the first and last pixel.
    grid_x = (flow[:, 0] + x) * (2 / max(image.shape[-1] - 1, 1)) - 1
    grid_y = (flow[:, 1] + y) * (2 / max(image.shape[-2] - 1, 1)) - 1
    grid = torch.stack((grid_x, grid_y), dim=-1)
    return F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=True)
