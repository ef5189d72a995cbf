"""How a running render shows itself: a bar for people, JSON lines for programs, or not at all.

A view is a context manager that yields a function to call with every event of a render.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from rich.console import Console

    from dreamflow.batch import Batch, Item
    from dreamflow.film import Finished, Saved, Started
    from dreamflow.render import RenderedFrame
    from dreamflow.settings import AnyObjective

    Event = Started | RenderedFrame | Saved | Finished

Show = Callable[["Event"], None]

_WIDE = 70
"""Columns of a terminal that has room for all there is to tell."""

_RECENT_FRAMES = 20

_SUM_SECONDS = 0.25
_ROWS_KEPT = 4
"""Rows of a terminal that the bars of a batch leave alone."""


def view(kind: str) -> AbstractContextManager[Show]:
    """The view called `kind`, one of `VIEWS`."""
    return VIEWS[kind]()


class Pace:
    """How far a render is, how fast it goes, how long it has still to go."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self._recent: deque[float] = deque(maxlen=_RECENT_FRAMES)
        self._since = time.monotonic()

    def start(self, total: int, done: int = 0) -> None:
        self.total, self.done, self._since = total, done, time.monotonic()

    def advance(self) -> None:
        """Count one more frame."""
        now = time.monotonic()
        self.done += 1
        self._recent.append(now - self._since)
        self._since = now

    @property
    def seconds_per_frame(self) -> float:
        """Of late; the few frames that are dreamed from scratch do not distort a median."""
        return statistics.median(self._recent) if self._recent else 0.0

    @property
    def seconds_left(self) -> float:
        return max(0, self.total - self.done) * self.seconds_per_frame

    def __str__(self) -> str:
        pace, left = f"{self.seconds_per_frame:.2f} s/frame", clock(self.seconds_left)
        if not self.total:  # a stream without end
            return f"frame {self.done}  {pace}"
        return f"frame {self.done}/{self.total}  {pace}  {left} left"


def clock(seconds: float) -> str:
    """`1:02:03`, `2:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def current_objective(terms: Sequence[AnyObjective]) -> str:
    """What the dream is after, as `features.9 ×1 + features.11 ×0.5`."""
    return " + ".join(f"{term.label} ×{term.weight:g}" for term in terms if term.weight)


# ── views ────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _silent() -> Iterator[Show]:
    yield lambda _event: None


def _automatic() -> AbstractContextManager[Show]:
    """A bar where somebody may be looking."""
    return _bar() if sys.stderr.isatty() else _silent()


def _bar() -> AbstractContextManager[Show]:
    from rich.console import Console

    console = Console(stderr=True)
    return _moving_bar(console) if _can_move(console) else _plain_lines()


def _can_move(console: Console) -> bool:
    """A notebook is none: rich takes it for a terminal, and asks for a package to draw in it."""
    return console.is_terminal and not console.is_dumb_terminal and not console.is_jupyter


@contextmanager
def _plain_lines() -> Iterator[Show]:
    """One line per frame, for logs and for terminals that cannot move the cursor."""
    pace = Pace()

    def show(event: Event) -> None:
        if _count(event, pace):
            objective = current_objective(event.objectives)
            print(f"{pace}  {objective}", file=sys.stderr, flush=True)
        _summarise(event)

    yield show


@contextmanager
def _moving_bar(console: Console) -> Iterator[Show]:
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    text = TextColumn(
        "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
    )
    columns = [BarColumn(bar_width=20), text] if console.width >= _WIDE else [text]
    pace = Pace()
    with Progress(*columns, console=console, refresh_per_second=4, redirect_stdout=False) as bar:
        task = bar.add_task("opening", total=None)

        def show(event: Event) -> None:
            if _count(event, pace):
                objective = current_objective(event.objectives)
                text = f"{pace}  {objective}" if console.width >= _WIDE else _short(pace)
                bar.update(task, completed=pace.done, description=text)
            elif _starts(event):
                total = pace.total or None
                text = f"frame {pace.done}/{total or 'without end'}"
                bar.update(task, total=total, completed=pace.done, description=text)
            elif _finishes(event):
                bar.stop()
            _summarise(event)

        yield show


def _short(pace: Pace) -> str:
    if not pace.total:
        return f"{pace.done}"
    return f"{pace.done}/{pace.total} {clock(pace.seconds_left)}"


def _count(event: Event, pace: Pace) -> TypeGuard[RenderedFrame]:
    """Keep the pace; whether the event was a frame."""
    from dreamflow.render import RenderedFrame

    if _starts(event):
        to_come = event.frames_to_come
        if to_come is None:
            to_come = event.info.frame_count
        pace.start(event.frames_done + to_come, event.frames_done)
    elif isinstance(event, RenderedFrame):
        pace.advance()
        return True
    return False


def _starts(event: Event) -> TypeGuard[Started]:
    from dreamflow.film import Started

    return isinstance(event, Started)


def _finishes(event: Event) -> TypeGuard[Finished]:
    from dreamflow.film import Finished

    return isinstance(event, Finished)


def _summarise(event: Event) -> None:
    if _finishes(event):
        frames = f"{event.frame_count} frame{'s' * (event.frame_count != 1)}"
        target = printable(event.target)
        print(f"{target}: {frames} in {clock(event.seconds)}", file=sys.stderr, flush=True)


@contextmanager
def _json_lines() -> Iterator[Show]:
    """One JSON object per event and line on stdout; where nobody listens any more, none."""
    pace = Pace()

    def show(event: Event) -> None:
        _count(event, pace)
        write_out(json.dumps(facts(event, pace)))

    yield show


def facts(event: Event, pace: Pace) -> dict[str, Any]:
    """An event as the JSON lines tell it."""
    from dreamflow.film import Saved
    from dreamflow.render import RenderedFrame

    if _starts(event):
        info = event.info
        size = {"width": info.width, "height": info.height, "rate": str(info.rate)}
        begun = {"resumes_at": event.resumes_at} if event.resumes_at is not None else {}
        return {
            "event": "started", "frames": info.frame_count, **size, "codec": event.codec, **begun
        }  # fmt: skip
    if isinstance(event, Saved):
        return {"event": "saved", "frames": event.frame_count}
    if _finishes(event):
        done = {"output": event.target, "frames": event.frame_count}
        return {"event": "finished", **done, "seconds": round(event.seconds, 3)}
    assert isinstance(event, RenderedFrame)
    return {
        "event": "frame",
        "index": event.index,
        "done": pace.done,
        "frames": pace.total,
        "from_scratch": event.from_scratch,
        "seconds": round(event.seconds, 3),
        "seconds_left": round(pace.seconds_left, 1),
    }


VIEWS: dict[str, Callable[[], AbstractContextManager[Show]]] = {
    "auto": _automatic,
    "bar": _bar,
    "json": _json_lines,
    "none": _silent,
}


# ── batches ──────────────────────────────────────────────────────────────────────────────────────

ShowItem = Callable[["Item", "Batch"], None]


def batch_view(kind: str) -> AbstractContextManager[ShowItem]:
    """The view called `kind` for the renders of a batch, all in one display."""
    return _BATCH_VIEWS[kind]()


@contextmanager
def _silent_batch() -> Iterator[ShowItem]:
    yield lambda _item, _batch: None


def _automatic_batch() -> AbstractContextManager[ShowItem]:
    return _batch_bars() if sys.stderr.isatty() else _silent_batch()


def _batch_bars() -> AbstractContextManager[ShowItem]:
    from rich.console import Console

    console = Console(stderr=True)
    return _moving_bars(console) if _can_move(console) else _batch_lines()


@contextmanager
def _batch_lines() -> Iterator[ShowItem]:
    """A line whenever a render begins or ends."""
    told: dict[int, str] = {}

    def show(item: Item, batch: Batch) -> None:
        if told.get(item.number) != item.state:
            told[item.number] = item.state
            print(f"{batch.standing()}  {_told(item)}", file=sys.stderr, flush=True)

    yield show


def _told(item: Item) -> str:
    cause = f": {item.cause}" if item.cause else ""
    return printable(f"{item.render.entry.output}: {item.state}{cause}")


@contextmanager
def _moving_bars(console: Console) -> Iterator[ShowItem]:
    """A bar for the whole batch, and one for each render that is being made."""
    from rich.progress import BarColumn, Progress, TaskID, TextColumn
    from rich.table import Column

    text = TextColumn(
        "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
    )
    columns = [BarColumn(bar_width=20), text] if console.width >= _WIDE else [text]
    bars: dict[int, TaskID] = {}
    due = 0.0
    with Progress(*columns, console=console, refresh_per_second=4, redirect_stdout=False) as shown:
        whole = shown.add_task("", total=None)

        def show(item: Item, batch: Batch) -> None:
            nonlocal due
            if time.monotonic() >= due or not batch.busy:  # to add up a long list takes its time
                done, total = batch.frames()
                words = batch.standing(brief=console.width < _WIDE)
                shown.update(whole, completed=done, total=total, description=words)
                due = time.monotonic() + _SUM_SECONDS
            if item.state == "running":
                if item.number not in bars and len(bars) > console.height - _ROWS_KEPT:
                    return
                bar = bars.get(item.number) or shown.add_task("")
                bars[item.number] = bar
                frames = item.frames_to_come or None
                name = printable(Path(item.render.entry.output).name)
                words = f"{item.frames_done}/{frames or '?'}  {name}"
                shown.update(bar, completed=item.frames_done, total=frames, description=words)
            elif item.number in bars:
                shown.remove_task(bars.pop(item.number))
                shown.print(_told(item), markup=False, highlight=False)

        yield show


@contextmanager
def _json_batch() -> Iterator[ShowItem]:
    """The report's facts about a render on a line of stdout, whenever they have changed."""

    def show(item: Item, batch: Batch) -> None:
        write_out(json.dumps({"event": item.state, **item.facts()}))

    yield show


_BATCH_VIEWS: dict[str, Callable[[], AbstractContextManager[ShowItem]]] = {
    "auto": _automatic_batch,
    "bar": _batch_bars,
    "json": _json_batch,
    "none": _silent_batch,
}


# ── words to the outside ─────────────────────────────────────────────────────────────────────────


def write_out(text: str) -> None:
    """A line, or several, on stdout. A reader that has gone away is no fault."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is still buffered would be complained about when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """The text in one line that leaves the terminal alone: names come from strangers."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
