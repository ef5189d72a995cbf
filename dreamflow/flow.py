"""Dense optical flow between two frames, and which of its vectors to believe.

Convention. A flow is float32 `[1, 2, H, W]`, (x right, y down), in pixels, and lives on the grid of
its first frame: `between(a, b)` at p points to where a's pixel p lies in b, so that
`warp.backward(b, between(a, b))` looks like a.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor

from dreamflow import vectors
from dreamflow.errors import UsageError
from dreamflow.frames import Box
from dreamflow.pixels import as_image, as_levels, as_pixels
from dreamflow.settings import Follow

Frames = tuple[int, int]
"""Source indices of the frame that a flow starts from and the one it leads to."""

# ── where flow comes from ────────────────────────────────────────────────────────────────────────


class FlowSource(ABC):
    """Gives the flow between two frames of any size: searched for, kept from before, or read."""

    fingerprint: str
    """Tells apart what can give other vectors for the same two pictures."""

    @abstractmethod
    def between(self, first: Tensor, second: Tensor, frames: Frames | None = None) -> Tensor:
        """Flow from image `first` to image `second`, both `[1, 3, H, W]`: `[1, 2, H, W]`.

        `frames` says which ones they are, which only flow from files needs to know.
        """

    def both_ways(
        self, first: Tensor, second: Tensor, frames: Frames | None = None
    ) -> tuple[Tensor, Tensor]:
        """Flow from `first` to `second` and back, each on its own grid."""
        there = self.between(first, second, frames)
        return there, self.between(second, first, frames and (frames[1], frames[0]))


Search = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Vectors `[H, W, 2]` from one picture to another, both RGB uint8 `[H, W, 3]`."""


def _of_greys(search: Search) -> Search:
    """A search that looks at brightness; small pictures are continued by their edge."""

    def find(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width, _ = first.shape
        greys = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (first, second))
        return search(*map(vectors.padded, greys))[:height, :width]

    return find


def _dis(quality: str, _device: torch.device) -> Search:
    """Dense inverse search (Kroeger et al. 2016, arXiv:1603.03590).

    `fine` goes on where OpenCV's presets end: down to whole pixels, as the paper's fourth operating
    point does.
    """
    presets = {
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    }

    def find(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        # Anew for each pair, which costs nothing: a small picture changes a search for good.
        search = cv2.DISOpticalFlow.create(presets.get(quality, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM))
        if quality == "fine":
            search.setFinestScale(0)
        return search.calc(first, second, None)  # type: ignore[call-overload]

    return _of_greys(find)


def _farneback(_quality: str, _device: torch.device) -> Search:
    """Polynomial expansion (Farnebäck 2003)."""
    options = {"pyr_scale": 0.5, "levels": 5, "winsize": 15, "iterations": 3, "poly_n": 7,
               "poly_sigma": 1.5, "flags": 0}  # fmt: skip
    return _of_greys(
        lambda first, second: cv2.calcOpticalFlowFarneback(first, second, None, **options)  # type: ignore[call-overload]
    )


def _raft(name: str, _quality: str, device: torch.device) -> Search:
    """Recurrent all-pairs field transforms (Teed & Deng 2020); see `raft`."""
    from dreamflow import raft  # half a second to import, and its network to load

    return raft.build(name, device)


def _none(_quality: str, _device: torch.device) -> Search:
    """No motion: the dream stays where it is on the screen."""
    return lambda first, _: np.zeros((*first.shape[:2], 2), np.float32)


METHODS: dict[str, Callable[[str, torch.device], Search]] = {
    "dis": _dis,
    "farneback": _farneback,
    "raft_small": partial(_raft, "raft_small"),
    "raft_large": partial(_raft, "raft_large"),
    "none": _none,
}
"""What can be searched with: each takes a quality and a device."""
BESIDE_A_DREAM = {"dis", "farneback"}
"""Those worth threads of their own while torch dreams; others need its own, or none."""
STEPS_PER_PIXEL = 64
"""Vectors are rounded to these: half a step is a tenth of what the best method errs by, a scene
that stands still stays still to the bit, and a cache takes a fifth of the room."""


class FlowMethod(FlowSource):
    """A search of `METHODS`, ready for frames of any size.

    `size` is the long side at which it looks at most; `full` is that of the frames. Raises
    UnavailableError where its weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        *,
        quality: str = "medium",
        size: int | str = "full",
        device: torch.device | str = "cpu",
    ) -> None:
        self.name, self._size = name, size
        device = torch.device(device)
        self._search = METHODS[name](quality, device)
        # The searches split their work by threads, so that other vectors come of other numbers.
        threads = f"{cv2.getNumThreads()} {torch.get_num_threads()}"
        versions = f"{cv2.__version__} {torch.__version__}"
        weights = getattr(self._search, "weights_sha256", "")
        facts = (name, quality, size, device.type, threads, versions, weights, STEPS_PER_PIXEL)
        self.fingerprint = " ".join(map(str, facts))

    def between(self, first: Tensor, second: Tensor, frames: Frames | None = None) -> Tensor:
        return self._found(self._seen(first), self._seen(second), first)

    def both_ways(
        self, first: Tensor, second: Tensor, frames: Frames | None = None
    ) -> tuple[Tensor, Tensor]:
        one, other = self._seen(first), self._seen(second)
        return self._found(one, other, first), self._found(other, one, second)

    def _seen(self, image: Tensor) -> np.ndarray:
        """An image as the search is shown it."""
        return _small(as_levels(image), self._size)

    def _found(self, one: np.ndarray, other: np.ndarray, first: Tensor) -> Tensor:
        """The flow between two pictures, of which the one shows the image `first`."""
        found = vectors.resized(self._search(one, other), (first.shape[-2], first.shape[-1]))
        steps = np.rint(found * np.float32(STEPS_PER_PIXEL))
        # A sum, as -0.0 and 0.0 are not the same bits.
        return as_flow(steps / np.float32(STEPS_PER_PIXEL) + np.float32(0), first.device)


def create(settings: Follow, device: torch.device | str = "cpu") -> FlowMethod:
    """The search that a preset asks for. Raises UsageError for flow that only files can give."""
    if settings.flow == "files":
        raise UsageError("follow.flow: files needs to know where they are: --flow-files FOLDER")
    return FlowMethod(
        settings.flow, quality=settings.flow_quality, size=settings.flow_size, device=device
    )


def as_flow(found: np.ndarray, device: torch.device) -> Tensor:
    """`[H, W, 2]` -> flow `[1, 2, H, W]`."""
    return as_image(np.ascontiguousarray(found)).to(device)


def _small(picture: np.ndarray, limit: int | str) -> np.ndarray:
    """The picture with a long side of at most `limit`."""
    height, width, _ = picture.shape
    if limit == "full" or max(height, width) <= int(limit):
        return picture
    size = Box(int(limit), int(limit)).fit(width, height)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


# ── what of it to believe ────────────────────────────────────────────────────────────────────────

_MOVING = 0.02
"""|∇w|² over which a place lies on the edge of what moves by more than about a pixel a frame."""
_TRAIL_REACH = 3
"""Pixels around such an edge in which a search may carry motion over it."""
_OTHER_LEVELS = 14.0
"""8-bit levels by which a colour is another one, over a neighbourhood of a pixel or two."""


@dataclass(frozen=True)
class Correspondence:
    """What is known of where the current frame's pixels were in the previous one."""

    flow_to_previous: Tensor
    """`[1, 2, H, W]` on the current frame's grid."""
    reliable: Tensor
    """`[1, 1, H, W]`: 1 where the vector can be believed, 0 where it cannot."""


def correspond(
    method: FlowSource,
    current: Tensor,
    previous: Tensor,
    frames: Frames | None = None,
) -> Correspondence:
    """Flow both ways and the mask of Sundaram, Brox & Keutzer 2010 (section 3.1).

    `frames` are the source indices of the two, in their order.

    With w the flow to the previous frame and w' the opposite flow sampled at its end, a pixel is
    occluded where |w + w'|² >= 0.01 (|w|² + |w'|²) + 0.5, and unknown where w leaves the picture.

    Departure: at a motion edge, which is |∇w|² > 0.01 |w|² + 0.002 there, a pixel is not given up,
    but the pictures are asked (see `_trails`). In grass, cloth and a face that turns both flows
    agree on such edges, and dropping the dream on them, frame after frame, was the largest single
    cause of flicker: 0.27 -> 0.19 on a street scene at equal settings, and 0.144 -> 0.136 for the
    last of them, those beside an occlusion. With the pictures asked, of a dream on what moves 3
    pixels a frame a hundredth stays behind; without, up to three quarters did.
    """
    there, opposite = method.both_ways(current, previous, frames)
    flows = as_pixels(there), as_pixels(opposite)
    agreed = vectors.agree(flows[0], vectors.pulled(flows[1], flows[0]))
    refuted = _trails(as_levels(current), as_levels(previous), flows[0])
    return _believed(there, agreed & vectors.inside(flows[0]) & ~refuted)


def recognise(
    method: FlowSource, current: Tensor, older: Tensor, frames: Frames | None = None
) -> Correspondence:
    """Flow to a frame some while ago, believed where it brings the colours that are there.

    Over a longer time wrong vectors agree with their way back by chance all over the picture, so
    that way is not searched for, which saves half of the time: with 0.14 of the older dream in
    place of 0.18 a street scene flickers as with both, 0.14 and 0.34. A change of the light
    fails the check, and what is older is then left alone.
    """
    there = method.between(current, older, frames)
    found = as_pixels(there)
    strange = _other_colours(as_levels(current), as_levels(older), found)
    return _believed(there, vectors.inside(found) & ~strange)


def _believed(flow: Tensor, reliable: np.ndarray) -> Correspondence:
    """A flow and where it is to be believed, bool `[H, W]`."""
    known = torch.from_numpy(reliable.astype(np.float32))
    return Correspondence(flow, known[None, None].to(flow.device))


def _trails(current: np.ndarray, previous: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Where a vector near a motion edge brings what is not there, `[H, W]`; pictures in levels.

    Behind what moves a few pixels a frame both flows agree on moving the uncovered strip along with
    it, as a search's patches and its smoothness carry the motion over the edge. The pictures tell:
    what the vector brings has other colours. Elsewhere they are not asked, as light may change.
    """
    moving = _gradient_square(there) > _MOVING
    near_edge = cv2.dilate(moving.astype(np.uint8), np.ones((2 * _TRAIL_REACH + 1,) * 2, np.uint8))
    return _other_colours(current, previous, there) & (near_edge > 0)


def _other_colours(current: np.ndarray, previous: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Where what a vector brings does not look like what is there, `[H, W]`."""
    off = cv2.absdiff(current, vectors.pulled(previous, there)).astype(np.float32)
    mean = cv2.transform(off, np.full((1, 3), 1 / 3, np.float32))
    return cv2.GaussianBlur(mean, (0, 0), 1) > _OTHER_LEVELS


def _gradient_square(flow: np.ndarray) -> np.ndarray:
    """|∇u|² + |∇v|² by central differences, `[H, W]`."""
    padded = cv2.copyMakeBorder(flow, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    along_x = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    along_y = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    return vectors.square_length(along_x) + vectors.square_length(along_y)
