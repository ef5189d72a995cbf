"""From the colours of a file to full-range RGB: which matrix, which range, which filters.

Convention. The result is display RGB as BT.709 and sRGB screens show it. Nothing is left to
guesses of swscale, which takes BT.601 for whatever is untagged.
"""

from __future__ import annotations

from pathlib import Path

from dreamflow.errors import BadMediaError
from dreamflow.video import ffmpeg
from dreamflow.video.probe import Probe

SCALER = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"

SWSCALE_MATRICES = {
    "bt709": "bt709",
    "smpte170m": "smpte170m",
    "bt470bg": "smpte170m",
    "fcc": "fcc",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
    "gbr": "bt709",  # no matrix: such pixels are RGB already
}
"""What swscale calls the matrices it knows, by the names that `showinfo` prints."""

HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
"""PQ and HLG."""

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""ffmpeg's own decoders of these leave the alpha channel unread."""


def decoder(facts: Probe) -> list[str]:
    """Options that choose a decoder where the usual one would lose something."""
    name = _ALPHA_DECODERS.get(facts.codec) if facts.alpha else None
    return ["-c:v", name] if name else []


def to_rgb(path: Path, facts: Probe, size: tuple[int, int], bits: int) -> list[str]:
    """The filters that scale to `size` (width, height) and convert to RGB of `bits` 8 or 16."""
    matrix, in_range = matrix_of(facts), range_of(facts)
    if matrix not in SWSCALE_MATRICES:
        allowed = ", ".join(SWSCALE_MATRICES)
        raise BadMediaError(f"{path}: colour matrix {matrix!r} is not supported (only {allowed})")
    scale = (
        f"scale={size[0]}:{size[1]}:{SCALER}:in_color_matrix={SWSCALE_MATRICES[matrix]}"
        f":in_range={in_range}:out_range=pc:in_chroma_loc={chroma_location_of(facts)}"
    )
    planar = "gbrap" if bits == 8 else "gbrap16le"
    alpha = [f"format={planar}", "premultiply=inplace=1"] if facts.alpha else []
    packed = "format=rgb24" if bits == 8 else "format=rgb48le"
    return [scale, *alpha, *_to_screen(path, facts), packed]


def matrix_of(facts: Probe) -> str:
    """The file's matrix; untagged, BT.709 for what is larger than standard definition."""
    if facts.color.matrix not in ("unknown", "reserved", "unspecified"):
        return facts.color.matrix
    return "bt709" if facts.coded_width >= 1280 or facts.coded_height > 576 else "smpte170m"


def range_of(facts: Probe) -> str:
    if facts.color.range in ("tv", "pc"):
        return facts.color.range
    return "pc" if facts.pixel_format.startswith("yuvj") else "tv"


def chroma_location_of(facts: Probe) -> str:
    """Where the file has its chroma; untagged at the left, as players take it and swscale does not.

    Without subsampling chroma lies on the luma, and the name means nothing.
    """
    return "left" if facts.chroma_location == "unknown" else facts.chroma_location


def _to_screen(path: Path, facts: Probe) -> list[str]:
    """Filters on RGB that bring high dynamic range and wide gamut to what a screen shows."""
    hdr = facts.color.transfer in HDR_TRANSFERS
    if not hdr and facts.color.primaries != "bt2020":
        return []
    if not {"zscale", "tonemap"} <= ffmpeg.filters():
        raise BadMediaError(
            f"{path}: colours of {facts.color.primaries}/{facts.color.transfer} need an ffmpeg "
            "with the zscale filter (the one that imageio-ffmpeg brings has it)"
        )
    transfer = facts.color.transfer if hdr else "bt709"
    linear = f"zscale=matrixin=gbr:primariesin=bt2020:transferin={transfer}:rangein=full"
    linear += ":matrix=gbr:transfer=linear:npl=203:range=full"
    mapped = ["tonemap=mobius:desat=0"] if hdr else []
    narrow = "zscale=primaries=bt709:transfer=linear:matrix=gbr:range=full"
    display = "zscale=transfer=bt709:matrix=gbr:range=full"
    return ["format=gbrp16le", linear, "format=gbrpf32le", narrow, *mapped, display]
