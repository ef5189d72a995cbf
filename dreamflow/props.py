"""The files that a look needs: pictures, masks and directions, read before a render starts."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import safetensors.numpy

from dreamflow import masks
from dreamflow.errors import BadMediaError, DreamflowError, UsageError
from dreamflow.frames import Array, to_image
from dreamflow.masks import Mask
from dreamflow.preset import Preset
from dreamflow.reel import Reel, is_reel
from dreamflow.render import Props
from dreamflow.settings import MOVING_MASKS, AnyMask, FileMask, mask_name
from dreamflow.video.ffmpeg import open_regular
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.stills import read_still, read_still_with_alpha

logger = logging.getLogger("dreamflow")

_MOST_BYTES = 1 << 20
"""Of a direction's file: 65,536 channels as float64, and room for a header."""


def read(
    preset: Preset,
    max_pixels: int = MAX_PIXELS,
    fit: Callable[[Array], Array] = np.asarray,
    rate: Fraction | None = None,
) -> Props:
    """All that a preset's mask and objectives name, each file once.

    `fit` makes the weights `[H, W]` of a mask those of a frame's shape, where that is not simply
    stretching; `rate` is what the clip is resampled to, and so masks that are clips. Raises the
    DreamflowError that fits, with the place where the file is named.
    """
    props = Props({}, {}, {})
    _read_mask(props, preset.mask, max_pixels, fit, rate)
    whole = props.masks.get(mask_name(preset.mask))
    if whole is not None and not whole.shares.any():
        logger.warning(
            "%s is black everywhere: as a mask it lets nothing be dreamed", _file_of(preset.mask)
        )
    for index, objective in enumerate(preset.objectives):
        for key in ("guide", "style", "content", "direction", "mask"):
            value = getattr(objective, key, "")
            try:
                if key == "mask" and value not in MOVING_MASKS:
                    _read_mask(props, value, max_pixels, fit, rate)
                elif key != "mask" and isinstance(value, str) and value:
                    _read_one(props, key, value, max_pixels)
            except DreamflowError as error:
                raise type(error)(
                    str(preset.complaint(f"objectives.{index}.{key}", f": {error}"))
                ) from error
    return props


def _read_mask(
    props: Props,
    mask: AnyMask,
    max_pixels: int,
    fit: Callable[[Array], Array],
    rate: Fraction | None,
) -> None:
    name, path = mask_name(mask), Path(_file_of(mask))
    if not _file_of(mask) or name in props.masks or name in props.reels:
        return
    follows = isinstance(mask, FileMask) and mask.follow
    inverted = isinstance(mask, FileMask) and mask.invert
    if is_reel(path):
        if follows:
            raise UsageError(f"{path} is a clip, which moves by itself: leave out `follow`")
        props.reels[name] = Reel(path, rate, inverted=inverted, max_pixels=max_pixels)
        return
    still = read_still_with_alpha(path, max_pixels=max_pixels)
    weights = fit(masks.weights_of(still.pixels, still.alpha))
    # One that follows is turned around where it lies.
    props.masks[name] = Mask.of(1 - weights if inverted and not follows else weights)


def _file_of(mask: AnyMask) -> str:
    """Empty for a mask without one."""
    return mask if isinstance(mask, str) else getattr(mask, "file", "")


def _read_one(props: Props, key: str, name: str, max_pixels: int) -> None:
    if key == "direction" and name not in props.directions:
        props.directions[name] = read_direction(Path(name))
    elif key != "direction" and name not in props.pictures:
        props.pictures[name] = to_image(read_still(Path(name), max_pixels=max_pixels))


def read_direction(path: Path) -> tuple[float, ...]:
    """The numbers in a .npy or .safetensors file with one array; nothing in it is ever run.

    Raises InputMissingError for what is no readable file, BadMediaError for what holds something
    else.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise BadMediaError(f"{path} is over {_MOST_BYTES >> 20} MB, too large for a direction")
    values = _parsed(path, data)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        shape = "x".join(map(str, values.shape)) or "single"
        raise BadMediaError(
            f"{path} holds {shape} values; a direction is one row of finite numbers"
        )
    return tuple(values.tolist())


def _parsed(path: Path, data: bytes) -> np.ndarray:
    try:
        if path.suffix == ".safetensors":
            (values,) = safetensors.numpy.load(data).values()
        else:
            values = np.load(io.BytesIO(data), allow_pickle=False)
        return np.asarray(values, np.float64)
    except (ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BadMediaError(f"{path} is no .npy or .safetensors file of numbers") from error
    except safetensors.SafetensorError as error:
        raise BadMediaError(f"{path} is no .safetensors file: {error}") from error
