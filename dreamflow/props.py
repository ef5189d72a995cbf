"""The files that objectives name: pictures, masks and directions, read before a render starts."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy

from dreamflow import masks
from dreamflow.errors import BadMediaError, DreamflowError
from dreamflow.frames import Array, to_image
from dreamflow.masks import Mask
from dreamflow.preset import Preset
from dreamflow.render import Props
from dreamflow.settings import MOVING_MASKS
from dreamflow.video.ffmpeg import open_regular
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.stills import read_still, read_still_with_alpha

_MOST_BYTES = 1 << 20
"""Of a direction's file: 65,536 channels as float64, and room for a header."""


def read(
    preset: Preset, max_pixels: int = MAX_PIXELS, fit: Callable[[Array], Array] = np.asarray
) -> Props:
    """All that the objectives of a preset name, each file once.

    `fit` makes the weights `[H, W]` of a mask those of a frame's shape, where that is not simply
    stretching. Raises the DreamflowError that fits, with the place where the file is named.
    """
    props = Props({}, {}, {})
    for index, objective in enumerate(preset.objectives):
        for key in ("guide", "style", "content", "direction", "mask"):
            name = getattr(objective, key, "")
            if not isinstance(name, str) or name in ("", *MOVING_MASKS):
                continue
            try:
                _read_one(props, key, name, max_pixels, fit)
            except DreamflowError as error:
                raise type(error)(
                    str(preset.complaint(f"objectives.{index}.{key}", f": {error}"))
                ) from error
    return props


def _read_one(
    props: Props, key: str, name: str, max_pixels: int, fit: Callable[[Array], Array]
) -> None:
    if key == "mask" and name not in props.masks:
        still = read_still_with_alpha(Path(name), max_pixels=max_pixels)
        props.masks[name] = Mask.of(fit(masks.weights_of(still.pixels, still.alpha)))
    elif key == "direction" and name not in props.directions:
        props.directions[name] = read_direction(Path(name))
    elif key not in ("mask", "direction") and name not in props.pictures:
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
