"""Pictures in files: one array in, one array out, with alpha and our settings where they fit.

Convention. Arrays are `[H, W, 3]` RGB, uint8 or uint16, upright, sRGB; alpha is `[H, W]` of the
same type, straight (not multiplied into the colours). Where alpha cannot be kept, the picture is
laid over black, the colour that video shows where there is nothing.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps

from dreamflow.errors import (
    BadMediaError,
    OutputError,
    StorageError,
    UnavailableError,
    UsageError,
)
from dreamflow.frames import Array
from dreamflow.video.ffmpeg import open_regular
from dreamflow.video.limits import MAX_PIXELS

try:
    import cv2
except ImportError as error:
    raise UnavailableError(
        f"OpenCV does not load ({error}); on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0"
    ) from error

logger = logging.getLogger("dreamflow")

# Our own limit, which can be set, replaces Pillow's; OpenCV shall not print about what we report.
Image.MAX_IMAGE_PIXELS = None
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
"""Pillow's names of the formats that are read; never EPS and the like, which run programs."""

COMMENT_MARK = "dreamflow: "
"""Heads our text where a format has only one unnamed place for comments."""

_JPEG_COMMENT_BYTES = 65_533
_PNG_HEADER_BYTES = 33  # signature and IHDR
_EXIF_DESCRIPTION, _EXIF_ORIENTATION = 0x010E, 0x0112

_UPRIGHT: dict[int, Callable[[Array], Array]] = {
    2: np.fliplr,
    3: lambda array: np.rot90(array, 2),
    4: np.flipud,
    5: lambda array: array.swapaxes(0, 1),
    6: lambda array: np.rot90(array, -1),
    7: lambda array: np.rot90(array, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""What turns a picture with this EXIF orientation upright; 1 is upright already."""
_SIDEWAYS = frozenset({5, 6, 7, 8})
"""Those that swap width and height."""


@dataclass(frozen=True)
class Still:
    """A picture and, unless it is opaque everywhere, its alpha."""

    pixels: Array
    alpha: Array | None = None

    def flat(self) -> Array:
        """The picture laid over black."""
        if self.alpha is None:
            return self.pixels
        top = np.iinfo(self.pixels.dtype).max
        weighted = self.pixels.astype(np.uint32) * self.alpha[..., None]
        return ((weighted + top // 2) // top).astype(self.pixels.dtype)


def read_still(path: Path, *, max_pixels: int = MAX_PIXELS) -> Array:
    """The picture in `path`, alpha laid over black with a warning; errors as the next function."""
    still = read_still_with_alpha(path, max_pixels=max_pixels)
    if still.alpha is not None:
        logger.warning("%s: its transparency is laid over black", path)
    return still.flat()


def read_still_with_alpha(path: Path, *, max_pixels: int = MAX_PIXELS) -> Still:
    """The picture in `path`: 16 bits stay 16, the rest becomes 8; of an animation the first frame.

    Raises InputMissingError for what is no readable file, BadMediaError for what is no picture, is
    damaged or has more than `max_pixels`, the latter from the header alone.
    """
    with os.fdopen(open_regular(Path(path)), "rb") as file:
        picture = _open_picture(file, path)
        check_size(path, *picture.size, max_pixels)
        if getattr(picture, "is_animated", False):
            logger.warning("%s: an animation; its first frame is taken", path)
        try:
            return _decode_16_bit(picture, file) if _is_16_bit(picture) else _decode(picture)
        except Exception as error:  # Pillow's decoders raise whatever their parsing trips over
            raise BadMediaError(f"damaged picture: {path}: {error}") from error


def still_size(path: Path) -> tuple[int, int]:
    """The upright (width, height) of a picture, from its header alone; errors as `read_still`."""
    with os.fdopen(open_regular(Path(path)), "rb") as file:
        picture = _open_picture(file, path)
        try:
            # Asked for EXIF that is not in its header, Pillow decodes the whole of a PNG.
            told = picture.format != "PNG" or "exif" in picture.info
            orientation = picture.getexif().get(_EXIF_ORIENTATION, 1) if told else 1
        except Exception as error:
            raise BadMediaError(f"damaged picture: {path}: {error}") from error
    width, height = picture.size
    turned = orientation in _SIDEWAYS and picture.format != "TIFF"  # whose size is upright already
    return (height, width) if turned else (width, height)


def is_still(path: Path) -> bool:
    """Whether a file holds one picture, by its content; InputMissingError if it cannot be read."""
    with os.fdopen(open_regular(Path(path)), "rb") as file:
        try:
            return not getattr(_open_picture(file, path), "is_animated", False)
        except BadMediaError:
            return False


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Raise BadMediaError if a picture has more than `max_pixels`."""
    if width * height > max_pixels:
        raise BadMediaError(
            f"too large: {path} has {width}x{height} pixels, the limit is "
            f"{max_pixels / 1e6:g} megapixels (raise it with --max-pixels)"
        )


def still_metadata(path: Path) -> str | None:
    """The text that `write_still` put into the file; None if there is none."""
    with os.fdopen(open_regular(Path(path)), "rb") as file:
        picture = _open_picture(file, path)
        try:
            return _find_text(picture)
        except Exception as error:
            raise BadMediaError(f"damaged picture: {path}: {error}") from error


def _open_picture(file: BinaryIO, path: Path) -> ImageFile.ImageFile:
    Image.init()
    try:
        return Image.open(file, formats=[name for name in READABLE if name in Image.OPEN])
    except Exception as error:
        raise BadMediaError(
            f"not a picture: {path} (dreamflow reads {', '.join(READABLE)})"
        ) from error


def _is_16_bit(picture: ImageFile.ImageFile) -> bool:
    """Whether the file holds 16 bits that Pillow would cut to 8; it names them `RGB;16B`.

    CMYK is left to Pillow: 8 bits with the right colours beat 16 with the wrong ones.
    """
    layout = str(picture.tile[0].args) if picture.tile else ""
    return ";16" in layout and "CMYK" not in layout


def _decode_16_bit(picture: Image.Image, file: BinaryIO) -> Still:
    orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    file.seek(0)
    encoded = np.frombuffer(file.read(), np.uint8)
    array = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ValueError("its 16-bit data do not decode")
    array = _UPRIGHT.get(orientation, np.asarray)(array)
    if array.ndim == 2:
        array = array[..., None].repeat(3, axis=2)
    return _split_alpha(array[..., [2, 1, 0, *range(3, array.shape[2])]])


def _decode(picture: Image.Image) -> Still:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise ValueError(f"pixels of kind {picture.mode} (write 8 or 16 bits per channel)")
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        return _split_alpha(np.array(picture.convert("RGBA")))
    return Still(np.array(_to_srgb(picture)))


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Follow an embedded profile where it matters: CMYK inks, and RGB wider than sRGB."""
    profile = picture.info.get("icc_profile")
    if profile and picture.mode in ("CMYK", "RGB"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" not in ImageCms.getProfileDescription(source):
                target = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
                return converted or picture
        except (ImageCms.PyCMSError, OSError):
            logger.warning("a picture's colour profile is damaged and left out")
    return picture.convert("RGB")


def _split_alpha(array: Array) -> Still:
    pixels = np.ascontiguousarray(array[..., :3])
    if array.shape[2] == 3 or (array[..., 3] == np.iinfo(array.dtype).max).all():
        return Still(pixels)
    return Still(pixels, np.ascontiguousarray(array[..., 3]))


def _find_text(picture: Image.Image) -> str | None:
    if picture.format == "PNG":
        return picture.info.get("dreamflow")
    if picture.format == "WEBP":
        # EXIF text is ASCII to Pillow, which reads other bytes as Latin-1.
        comment = picture.getexif().get(_EXIF_DESCRIPTION, "").encode("latin-1")
    else:
        comment = picture.info.get("comment", b"")
    text = comment.decode("utf-8", "replace")
    return text.removeprefix(COMMENT_MARK) if text.startswith(COMMENT_MARK) else None


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class StillFormat:
    """A format stills are written in."""

    encode: Callable[[Still, str | None], bytes]
    bits: int
    """Per channel, at most."""
    alpha: bool


def still_format(path: Path) -> StillFormat:
    """The format a name asks for; raises UsageError listing those there are."""
    suffix = Path(path).suffix.lower()
    if suffix not in STILL_FORMATS:
        allowed = ", ".join(STILL_FORMATS)
        raise UsageError(f"cannot write a picture named {path}: allowed endings are {allowed}")
    return STILL_FORMATS[suffix]


def encode_still(
    array: Array, form: StillFormat, *, metadata: str | None = None, alpha: Array | None = None
) -> bytes:
    """The bytes of a picture file; 16 bits and alpha are reduced where `form` cannot hold them."""
    still = Still(array, alpha)
    if alpha is not None and not form.alpha:
        logger.warning("this format holds no transparency: it is laid over black")
        still = Still(still.flat())
    if form.bits == 8 and array.dtype == np.uint16:
        still = Still(
            _to_8_bit(still.pixels), None if still.alpha is None else _to_8_bit(still.alpha)
        )
    return form.encode(still, metadata)


def write_still(
    path: Path, array: Array, *, metadata: str | None = None, alpha: Array | None = None
) -> None:
    """Write a picture in the format its name asks for, whole or not at all; `metadata` goes along.

    Raises UsageError for an unknown ending, OutputError for a folder that takes no files,
    StorageError when writing fails midway.
    """
    path = Path(path)
    encoded = encode_still(array, still_format(path), metadata=metadata, alpha=alpha)
    temporary = temporary_beside(path)
    try:
        with _create(temporary) as file:
            file.write(encoded)
        place(temporary, path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path} ({len(encoded)} bytes): {error.strerror}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _create(path: Path) -> BinaryIO:
    try:
        return open(path, "xb")
    except OSError as error:
        raise OutputError(f"cannot write into {path.parent}: {error.strerror}") from error


def temporary_beside(target: Path) -> Path:
    """A new name in the target's folder, hidden and harmless whatever the target is called."""
    return target.parent / f".dreamflow-{secrets.token_hex(6)}"


def place(temporary: Path, target: Path) -> None:
    """Move a finished file or folder over `target` so that a crash leaves the old or the new one.

    Both must be in the same file system.
    """
    _sync(temporary)
    os.replace(temporary, target)
    _flush(target.parent)


def _sync(path: Path) -> None:
    if path.is_dir():
        for inside in path.iterdir():
            _flush(inside)
    _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _to_8_bit(array: Array) -> Array:
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _encode_png(still: Still, metadata: str | None) -> bytes:
    planes = (
        [still.pixels[..., ::-1]]
        if still.alpha is None
        else [still.pixels[..., ::-1], still.alpha[..., None]]
    )
    _, encoded = cv2.imencode(".png", np.concatenate(planes, axis=2))
    return label_png(encoded.tobytes(), metadata)


def label_png(data: bytes, metadata: str | None) -> bytes:
    """A PNG file's bytes, said to be sRGB, with `metadata` as its text named `dreamflow`."""
    extra = b"" if b"sRGB" in data[:200] else _png_chunk(b"sRGB", b"\0")
    if metadata is not None:
        # iTXt: keyword, not compressed, no language, no translated keyword, UTF-8 text
        extra += _png_chunk(b"iTXt", b"dreamflow\0\0\0\0\0" + metadata.encode())
    return data[:_PNG_HEADER_BYTES] + extra + data[_PNG_HEADER_BYTES:]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _encode_jpeg(still: Still, metadata: str | None) -> bytes:
    comment = b"" if metadata is None else (COMMENT_MARK + metadata).encode()
    if len(comment) > _JPEG_COMMENT_BYTES:
        raise OutputError(
            f"a JPEG holds {_JPEG_COMMENT_BYTES} bytes of comment, not {len(comment)}: write .png"
        )
    options = {"comment": comment} if comment else {}
    return _encode_with_pillow(still, "JPEG", quality=95, subsampling="4:4:4", **options)


def _encode_webp(still: Still, metadata: str | None) -> bytes:
    exif = Image.Exif()
    if metadata is not None:
        exif[_EXIF_DESCRIPTION] = (COMMENT_MARK + metadata).encode()
    return _encode_with_pillow(still, "WEBP", quality=95, exif=exif)


def _encode_with_pillow(still: Still, name: str, **options: object) -> bytes:
    planes = still.pixels if still.alpha is None else np.dstack([still.pixels, still.alpha])
    buffer = io.BytesIO()
    Image.fromarray(planes).save(buffer, name, **options)
    return buffer.getvalue()


STILL_FORMATS: dict[str, StillFormat] = {
    ".png": StillFormat(_encode_png, bits=16, alpha=True),
    ".jpg": StillFormat(_encode_jpeg, bits=8, alpha=False),
    ".jpeg": StillFormat(_encode_jpeg, bits=8, alpha=False),
    ".webp": StillFormat(_encode_webp, bits=8, alpha=True),
}
"""What stills are written as, by the ending of the name."""
