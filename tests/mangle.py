"""Media files with something wrong in them, and a reader of such files that stays within bounds.

Run as a program with file names it reads each of them, in a process with little memory, and prints
one JSON line for each: how it ended, and what was said.
"""

from __future__ import annotations

import json
import random
import resource
import struct
import sys
from pathlib import Path

_ADDRESS_SPACE = 6 << 30
_PROCESSOR_SECONDS = 600


def mangle(data: bytes, seed: int) -> bytes:
    """The file with a few bytes flipped, a part cut out or doubled, its end or its head gone wrong.

    The head is where most is decided, so half of all damage is done there.
    """
    draw = random.Random(seed)
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5, 30])):
        _WAYS[draw.randrange(len(_WAYS))](changed, draw)
    return bytes(changed)


def _place(data: bytearray, draw: random.Random) -> int:
    end = min(len(data), 400) if draw.random() < 0.5 else len(data)
    return draw.randrange(max(1, end))


def _flip(data: bytearray, draw: random.Random) -> None:
    if data:
        data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _overwrite(data: bytearray, draw: random.Random) -> None:
    """Put a number there that headers are afraid of."""
    number = draw.choice([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
    length = draw.choice(["B", "H", "I", "Q"])
    packed = struct.pack(draw.choice("<>") + length, number % (1 << 8 * struct.calcsize(length)))
    at = _place(data, draw)
    data[at : at + len(packed)] = packed


def _cut_off(data: bytearray, draw: random.Random) -> None:
    del data[max(8, _place(data, draw)) :]


def _cut_out(data: bytearray, draw: random.Random) -> None:
    at = _place(data, draw)
    del data[at : at + draw.choice([1, 4, 100, 1000])]


def _double(data: bytearray, draw: random.Random) -> None:
    at = _place(data, draw)
    data[at:at] = data[at : at + draw.choice([1, 8, 200])]


def _scramble(data: bytearray, draw: random.Random) -> None:
    at = _place(data, draw)
    noise = draw.randbytes(draw.choice([4, 16, 300]))
    data[at : at + len(noise)] = noise


_WAYS = (_flip, _flip, _flip, _overwrite, _overwrite, _cut_off, _cut_out, _double, _scramble)

# ── reading ──


def read(path: Path) -> str:
    """Read a file as renders do: as what its name says, and all of it."""
    from dreamflow import audio
    from dreamflow.frames import Box
    from dreamflow.video.reader import open_clip
    from dreamflow.video.stills import read_still, still_metadata
    from dreamflow.video.writer import embedded_settings

    if path.suffix == ".wav":
        heard = audio.analyse(path)
        return "silent" if heard is None else f"{len(heard.beats)} beats"
    if path.suffix in (".png", ".jpg"):
        still_metadata(path)
        return str(read_still(path, max_pixels=4_000_000).shape)
    embedded_settings(path)
    with open_clip(path, size=Box(64, 64), allow_truncated=True, max_pixels=4_000_000) as clip:
        count = sum(1 for _ in clip.frames())
        assert count == clip.info.frame_count
    audio.analyse(path)
    return f"{count} frames"


def own_peak() -> int:
    """kB that this process had at most; its ru_maxrss would be that of the one that began it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main(paths: list[str]) -> None:
    from dreamflow.errors import DreamflowError

    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS))
    before = 0.0
    for path in paths:
        print(json.dumps({"reading": path}), flush=True)
        try:
            said = read(Path(path))
        except DreamflowError as error:
            said = f"{type(error).__name__} {error.exit_code}: {error}"
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        seconds = sum(each.ru_utime + each.ru_stime for each in used)
        peak = max(own_peak(), used[1].ru_maxrss) / 1000
        answer = {"read": path, "said": said, "megabytes": peak, "seconds": seconds - before}
        print(json.dumps(answer), flush=True)
        before = seconds


if __name__ == "__main__":
    main(sys.argv[1:])
