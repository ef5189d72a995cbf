"""Finding the motion of the next frame while the one before it is dreamed.

Motion hangs on the source frames alone, so that it need not wait for a dream. The threads that find
it are taken from those of the dream, and not added: where both want a core, the dream's threads
spin while they wait for each other. It is about a third of the work of a carried frame, so that two
threads had better do first the one and then the other: one and one take 1.1 to 1.2 of that time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from dreamflow.flow import Correspondence, FlowSource, Frames

MOST_THREADS = 2
"""A frame asks for two searches that do not wait for each other: to the last one, and farther."""

Question = Callable[[FlowSource, Tensor, Tensor, Frames], Correspondence]
"""`flow.correspond` or `flow.recognise`."""


def threads_of(threads: int) -> int:
    """How many of `threads` to take for it: a third of them, at most `MOST_THREADS`."""
    return min(threads // 3, MOST_THREADS)


class Lookahead:
    """Answers questions about motion; those that were expected, at once.

    One serves one run of frames, as the questions are known by the frames' numbers. Without
    `threads` nothing is found before it is asked for. The answers are the same.
    """

    def __init__(self, flow: FlowSource, threads: int) -> None:
        self._flow = flow
        self._coming: dict[tuple[Question, Frames], Future[Correspondence]] = {}
        # They compute with NumPy and OpenCV alone: torch would give each a team of its own.
        self._pool = ThreadPoolExecutor(threads) if threads else None

    def close(self) -> None:
        """End its threads; what is still expected is dropped."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def expect(self, question: Question, current: Tensor, other: Tensor, frames: Frames) -> None:
        """Begin to find what will be asked."""
        if self._pool:
            answer = self._pool.submit(question, self._flow, current, other, frames)
            self._coming[question, frames] = answer

    def forget_before(self, index: int) -> None:
        """Drop what was expected of frames before source frame `index`, and never asked."""
        for key in [key for key in self._coming if key[1][0] < index]:
            self._coming.pop(key).cancel()

    def ask(
        self, question: Question, current: Tensor, other: Tensor, frames: Frames
    ) -> Correspondence:
        """What `question` says of images `[1, 3, H, W]`; `frames` are their source indices."""
        expected = self._coming.pop((question, frames), None)
        if expected is None:
            return question(self._flow, current, other, frames)
        return expected.result()
