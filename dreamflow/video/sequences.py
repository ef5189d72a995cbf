"""Still sequences as clips: which files of a folder or a numbered pattern belong, in which order.

Convention. Names sort naturally: `frame_9` comes before `frame_10`. Only one family of names is
taken, so a file that somebody left in the folder never reaches the video.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from dreamflow.errors import BadMediaError, InputMissingError

logger = logging.getLogger("dreamflow")

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".avif"})
"""What a still in a sequence may be called; a GIF is a clip of its own."""

_NUMBER_FIELD = re.compile(r"%(?:0(\d{1,2}))?d")


def is_stills(path: Path) -> bool:
    """Whether `path` is a folder, a single still, or a pattern that no file bears as its name."""
    if os.path.exists(path):
        return os.path.isdir(path) or path.suffix.lower() in PICTURE_SUFFIXES
    return _NUMBER_FIELD.search(path.name) is not None


def is_picture(path: Path) -> bool:
    """Whether `path` is meant as a single still: neither a folder nor a numbered pattern."""
    pattern = not os.path.exists(path) and is_stills(path)
    return path.suffix.lower() in PICTURE_SUFFIXES and not (pattern or os.path.isdir(path))


def find_stills(path: Path) -> list[Path]:
    """The files of the sequence in order; raises InputMissingError if there are none."""
    if path.is_dir():
        return _family(path)
    return [path] if os.path.exists(path) else _numbered(path)


def files_of(path: Path) -> list[Path]:
    """The file at `path`, or those of the sequence that it stands for, as `find_stills`."""
    return find_stills(path) if is_stills(path) else [path]


def check_sizes(paths: Sequence[Path], max_pixels: int) -> tuple[int, int]:
    """The upright (width, height) of all stills, from their headers; mixed sizes are refused.

    A later still whose header cannot be read is let pass, as a frame to be replaced.
    """
    from dreamflow.video.stills import check_size, still_size

    width, height = still_size(paths[0])
    check_size(paths[0], width, height, max_pixels)
    for path in paths[1:]:
        try:
            found = still_size(path)
        except BadMediaError:
            continue
        if found != (width, height):
            raise BadMediaError(
                f"{path} is {found[0]}x{found[1]} but {paths[0].name} is {width}x{height}: "
                "all stills of a sequence must have one size"
            )
    return width, height


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sorts runs of digits by their value and the rest by letters, case aside."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    key = [
        (0, int(part), part) if part[0] in "0123456789" else (1, 0, part.lower()) for part in parts
    ]
    return (*key, (2, 0, path.name))


def _family(folder: Path) -> list[Path]:
    """The stills of a folder whose names differ in nothing but numbers."""
    families: dict[str, list[Path]] = defaultdict(list)
    for path in _pictures(folder):
        families[re.sub(r"[0-9]+", "#", path.name)].append(path)
    if not families:
        raise InputMissingError(
            f"no pictures in {folder} (looked for {', '.join(sorted(PICTURE_SUFFIXES))})"
        )
    series = {name: paths for name, paths in families.items() if len(paths) > 1}
    if len(series) > 1 or (not series and len(families) > 1):
        names = ", ".join(sorted(series or families)[:4])
        raise InputMissingError(
            f"{folder} holds more than one series of pictures ({names}): "
            "name one as a pattern, such as frame_%04d.png"
        )
    (chosen,) = (series or families).values()
    _warn_of_others(folder, sum(map(len, families.values())) - len(chosen), chosen)
    return sorted(chosen, key=natural_key)


def _pictures(folder: Path) -> Iterable[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InputMissingError(f"cannot read {folder}: {error.strerror}") from None
    paths = (folder / entry.name for entry in entries if not entry.name.startswith("."))
    return (path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())


def _warn_of_others(folder: Path, others: int, chosen: Sequence[Path]) -> None:
    if others:
        logger.warning(
            "%s: %d pictures named otherwise than %s are left out", folder, others, chosen[0].name
        )


def _numbered(pattern: Path) -> list[Path]:
    """The files that a pattern such as `frame_%04d.png` stands for, by number."""
    field = _NUMBER_FIELD.search(pattern.name)
    assert field is not None
    before, after = pattern.name[: field.start()], pattern.name[field.end() :]
    width = int(field[1] or 1)
    digits = rf"([0-9]{{{width}}}|[1-9][0-9]{{{width},}})"
    name = re.compile(re.escape(before) + digits + re.escape(after))
    folder = pattern.parent
    if not folder.is_dir():
        raise InputMissingError(f"no such folder: {folder}")
    found = {int(hit[1]): path for path in _pictures(folder) if (hit := name.fullmatch(path.name))}
    if not found:
        raise InputMissingError(f"no file and no pictures by the name {pattern}")
    _warn_of_gaps(pattern, sorted(found))
    return [found[number] for number in sorted(found)]


def _warn_of_gaps(pattern: Path, numbers: Sequence[int]) -> None:
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if missing:
        logger.warning(
            "%s: %d numbers between %d and %d have no file; the sequence closes up over them",
            *(pattern, missing, numbers[0], numbers[-1]),
        )
