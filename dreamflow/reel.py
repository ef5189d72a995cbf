"""Masks that are clips: the mask of a frame is the frame of the same number."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from dreamflow import masks
from dreamflow.frames import Array
from dreamflow.masks import Mask
from dreamflow.video import sequences
from dreamflow.video.limits import MAX_PIXELS
from dreamflow.video.reader import Clip, open_clip
from dreamflow.video.stills import is_still

logger = logging.getLogger("dreamflow")


def is_reel(path: Path) -> bool:
    """Whether a mask is a clip or a sequence and not one still."""
    if sequences.is_picture(path):
        return False
    return sequences.is_stills(path) or not is_still(path)


class Reel:
    """A clip of masks, read in step with the frames that it is for; it may have another size.

    Convention. Frames are numbered from 0 at the beginning of the clip that is masked, whatever
    `--start` says, and so are those of the masks. Where these end the last one holds.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction | None = None,
        *,
        inverted: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """`rate` is what the masked clip was resampled to, if it was; so the masks are too.

        Raises as `open_clip`.
        """
        self.path, self._inverted = path, inverted
        self._clip = open_clip(path, rate=rate, allow_truncated=True, max_pixels=max_pixels)
        self._part: Clip | None = None
        self._coming: Iterator[Array] = iter(())
        self._next = 0
        self._shown: tuple[int, Mask] | None = None
        self._ran_out = False

    def at(self, index: int) -> Mask:
        """The mask of frame `index`. In order each is decoded once; else it is sought."""
        place = min(index, self._clip.info.frame_count - 1)
        if place < index and not self._ran_out:
            self._ran_out = True
            logger.warning(
                "%s: the mask has %d frames, fewer than the clip; its last one holds",
                *(self.path, place + 1),
            )
        if self._shown is None or self._shown[0] != place:
            self._shown = place, self._read(place)
        return self._shown[1]

    def close(self) -> None:
        """Stop decoding; the next `at` begins again."""
        if self._part is not None:
            self._part.close()
        self._part = None

    def _read(self, place: int) -> Mask:
        if self._part is None or place != self._next:
            self.close()
            self._part = self._clip.part(place, self._clip.info.frame_count)
            self._coming = self._part.frames()
        self._next = place + 1
        weights = masks.weights_of(next(self._coming), None)
        return Mask.of(1 - weights if self._inverted else weights)
