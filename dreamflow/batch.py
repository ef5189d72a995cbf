"""A night's work: the renders of a manifest, done by as many workers as there are.

One that fails does not keep the others from being done; one whose worker is gone is begun again,
three times at most. What the results are is told in a report, which is written anew whenever a
render ends. A second run does what is left: results that are there are recognised by what they say
of themselves.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import dreamflow
from dreamflow.errors import DreamflowError, OutputError, StorageError, UsageError
from dreamflow.film import Leg
from dreamflow.job_folder import Hold
from dreamflow.plan import Render, Request, amount, answers, asked_for
from dreamflow.strict_yaml import Problem, together
from dreamflow.video.ffmpeg import open_regular
from dreamflow.video.stills import place, temporary_beside
from dreamflow.work import (
    Advanced,
    Began,
    Divide,
    Divided,
    Done,
    Failed,
    Lost,
    Message,
    Said,
    Task,
    Whole,
)
from dreamflow.workers import Pool

logger = logging.getLogger("dreamflow")

MAX_TRIES = 3
"""How often a task is begun before it is given up."""
MAX_IN_VAIN = 30
WAIT_SECONDS = 0.2
LEAST_PART = 384
"""Frames that a part of a clip has at least, as a rule: of those up to 47 are rendered twice."""
REPORT_SECONDS = 2.0
"""How long a report may be behind; that of a very long list, which takes long, longer."""
_REPORT_SHARE = 0.02
"""Of the time at most goes into reports."""


@dataclass(frozen=True)
class Share:
    """How a machine is divided among workers."""

    workers: int
    threads: int
    """CPU threads of each; part of what makes two renders bit-identical."""

    @classmethod
    def of(cls, processors: int, workers: int | None = None, threads: int | None = None) -> Share:
        """What was asked for, else one thread for each worker, two where there are 16 CPUs, etc.

        Workers do not wait for each other as threads do, so many of them are faster; but each takes
        memory of its own. The threads do not hang on the number of workers, for pictures hang on
        them.
        """
        threads = threads or max(1, processors // 8)
        return cls(workers or max(1, processors // threads), threads)


def least_part(renders: int, workers: int) -> int:
    """Frames of a part of a clip: fewer, if otherwise workers would have nothing to do.

    The frames between a cut and the next chunk are rendered twice, by the parts on both sides.
    """
    return LEAST_PART if renders >= workers else LEAST_PART // 4


State = Literal["waiting", "running", "finished", "there already", "failed", "stopped"]


@dataclass
class Item:
    """A render, and how far it is."""

    number: int
    """From 1, as the manifest has it."""
    render: Render
    state: State = "waiting"
    frames_to_come: int = 0
    frames_done: int = 0
    frames_kept: int = 0
    """Those of them that an earlier run did."""
    tries: int = 0
    """How often it was begun, or that of its parts that was begun most often."""
    began: float = 0.0
    seconds: float = 0.0
    """Wall clock time from its beginning to its end."""
    exit_code: int = 0
    cause: str = ""
    failed_frame: int | None = None
    """Of the source: the one that could not be read, else the one behind the last that was done;
    None where the render did not come as far as its first."""
    warnings: list[str] = field(default_factory=list)
    _last: int | None = None

    def hear(self, message: Message) -> None:
        """Take in what its worker says."""
        match message:
            case Began(frames, done):
                self.frames_kept = self.frames_kept if self.frames_to_come else done
                self.frames_to_come, self.frames_done, self._last = frames, done, None
            case Advanced(index, _):
                self.frames_done = min(self.frames_done + 1, self.frames_to_come)
                self._last = index
            case Said(level, text) if level >= logging.WARNING and text not in self.warnings:
                self.warnings.append(text)
            case Done():
                self.frames_to_come = self.frames_to_come or self.render.info.frame_count
                self.frames_done = self.frames_to_come  # a picture has nothing else to say
                self._end("finished")
            case Failed(code, text, frame):
                self.exit_code, self.cause = code, text
                info = self.render.info
                after = info.first_index if self._last is None else self._last + 1
                if frame is None and self.frames_to_come:
                    frame = after
                self.failed_frame = frame
                self._end("failed")

    def begin(self, tries: int) -> None:
        """Somebody is at work on it, or on a part of it, for so many times."""
        self.began = self.began or time.monotonic()
        self.state, self.tries = "running", max(tries, self.tries)

    def stop(self) -> None:
        """It was not done to its end; a next run does that."""
        self._end("stopped" if self.state == "running" else self.state)

    def _end(self, state: State) -> None:
        self.state = state
        self.seconds = time.monotonic() - self.began if self.began else 0.0

    @property
    def is_open(self) -> bool:
        return self.state in ("waiting", "running")

    def facts(self) -> dict[str, Any]:
        """As the report tells it."""
        entry, info = self.render.entry, self.render.info
        told: dict[str, Any] = {
            "number": self.number,
            "kind": self.render.kind,
            "input": str(entry.input) if entry.input else self.render.input_name,
            "preset": entry.preset_name,
            "seed": entry.preset.seed,
            "output": entry.output,
            "state": self.state,
            "frames": info.frame_count,
            "size": [info.width, info.height],
            "rate": str(info.rate),
        }
        if self.tries:
            told |= {"frames_done": self.frames_done, "tries": self.tries}
            told["seconds"] = round(self.seconds, 3)
        if self.state == "failed":
            told["error"] = {"exit_code": self.exit_code, "cause": self.cause}
            told["error"]["frame"] = self.failed_frame
        return told | ({"warnings": self.warnings} if self.warnings else {})


@dataclass
class _Step:
    """A task of an item, and how often it was begun."""

    item: Item
    what: Whole | Divide | Leg
    tries: int = 0
    in_vain: int = 0
    """How often it was given to a worker that was gone already."""


class Batch:
    """The items of one run, and the pool that does them.

    A long clip is divided at its cuts. Its parts are made by several workers at once, each in legs
    of a few chunks, one after the other; then one worker looks at all and joins them. A part has
    `least_part` frames at least; without it as many as are worth while (see `least_part`).
    """

    def __init__(
        self, pool: Pool, report: Report | None = None, *, least_part: int | None = None
    ) -> None:
        self.items: list[Item] = []
        self._pool, self._report, self._least_part = pool, report, least_part
        self._ready: deque[_Step] = deque()
        self._running: dict[int, _Step] = {}
        self._later: dict[int, list[deque[Leg]]] = {}
        """By the number of an item, what is left of its parts."""
        self._holds: dict[int, Hold] = {}
        self._numbers = itertools.count(1)
        self._report_due, self._began = 0.0, time.monotonic()

    def add(self, items: Iterable[Item]) -> None:
        """More to do; what is there already is only counted.

        Raises OutputError where the folder of a result cannot be made.
        """
        items = list(items)
        for item in items:
            _make_room(item)
        self.items += items
        todo = [item for item in items if item.is_open]
        least = self._least_part or least_part(len(todo), self._pool.size)
        self._ready += (_Step(item, _first_task(item, least)) for item in todo)
        self._write_report()

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._ready or self._running)

    def run(self) -> Generator[Item, None, None]:
        """Do all there is; yields an item whenever something about it is new."""
        while self.busy:
            yield from self.step()

    def step(self) -> Generator[Item, None, None]:
        """Give out what can be begun, and hear what there is to hear."""
        while self._ready and self._pool.idle > 0:
            yield self._begin(self._ready.popleft())
        for number, message in self._pool.messages(WAIT_SECONDS):
            step = self._running[number]
            if isinstance(message, Done | Failed | Lost):
                del self._running[number]
            if step.item.is_open:  # else another of its tasks has failed
                self._hear(step, message)
            if not step.item.is_open:
                self._release(step.item)
            yield step.item
        if not self.busy or time.monotonic() > self._report_due:
            self._write_report()

    # ── one task ──

    def _begin(self, step: _Step) -> Item:
        item, number = step.item, next(self._numbers)
        step.tries += 1
        item.begin(step.tries)
        self._running[number] = step
        try:
            request = self._request(step)
        except DreamflowError as error:
            del self._running[number]
            self._fail(item, Failed(error.exit_code, str(error)))
        else:
            self._pool.start(Task(number, request, step.what))
        return item

    def _request(self, step: _Step) -> Request:
        """What the worker is asked for. The folder of a film in parts is held here for all.

        What was begun anew once is not by the tasks that follow.
        """
        item = step.item
        if isinstance(step.what, Divide) and item.number not in self._holds:
            self._holds[item.number] = Hold(Path(item.render.request.target))
        held = item.number in self._holds
        opens = isinstance(step.what, Divide) or not held
        restart = item.render.request.restart and opens and step.tries == 1
        return replace(item.render.request, held=held, restart=restart)

    def _hear(self, step: _Step, message: Message) -> None:
        item = step.item
        match message:
            case Said(level, text):
                name = item.render.input_name
                known = text.startswith(f"{name}: ")
                logger.log(level, text if known else f"{name}: {text}")
                item.hear(message)
            case Lost():
                self._again(step, message)
            case Failed():
                self._fail(item, message)
            case Divided(parts):
                item.hear(Began(parts.frames + parts.frames_done, parts.frames_done))
                self._later[item.number] = [deque(legs) for legs in parts.legs]
            case Done() if not isinstance(step.what, Whole):
                self._go_on(step)
            case _:
                item.hear(message)

    def _go_on(self, step: _Step) -> None:
        """After a division all parts begin, after a leg the next; after all, one looks at all."""
        item, parts = step.item, self._later[step.item.number]
        if isinstance(step.what, Leg):
            parts = [legs for legs in parts if legs and legs[0].part == step.what.part]
        self._ready.extendleft(_Step(item, legs.popleft()) for legs in reversed(parts))
        if not any(each.item is item for each in (*self._ready, *self._running.values())):
            self._ready.appendleft(_Step(item, Whole()))

    def _fail(self, item: Item, failed: Failed) -> None:
        item.hear(failed)
        self._ready = deque(step for step in self._ready if step.item is not item)
        self._release(item)

    def _again(self, step: _Step, lost: Lost) -> None:
        """Begin it once more, unless that was tried often enough."""
        if not lost.begun and step.in_vain < MAX_IN_VAIN:
            step.tries, step.in_vain = step.tries - 1, step.in_vain + 1
            self._ready.appendleft(step)
        elif step.tries < MAX_TRIES:
            step.item.warnings.append(f"{lost.text}: begun again")
            self._ready.appendleft(step)
        else:
            self._fail(step.item, Failed(75, f"{lost.text}, {MAX_TRIES} times"))

    def _release(self, item: Item) -> None:
        """Let go of the folder, as soon as no worker is in it any more."""
        if not any(step.item is item for step in self._running.values()):
            hold = self._holds.pop(item.number, None)
            if hold:
                hold.release()

    def frames(self) -> tuple[int, int]:
        """How many frames are done, and of how many, in all that is not there already."""
        done = total = 0
        for item in self.items:
            if item.state != "there already":
                count = item.frames_to_come or item.render.info.frame_count
                total += count
                done += item.frames_done if item.state != "finished" else count
        return done, total

    def standing(self, *, brief: bool = False) -> str:
        """How far all is, in a few words, or in fewer."""
        counts = Counter(item.state for item in self.items)
        done, total = self.frames()
        ended = counts["finished"] + counts["there already"]
        failed = f", {counts['failed']} failed" if counts["failed"] else ""
        if brief:
            return f"{ended}/{len(self.items)}  {done}/{total}"
        passed = time.monotonic() - self._began
        new = done - sum(item.frames_kept for item in self.items)
        left = f", {duration(passed / new * (total - done))} left" if new > 0 else ""
        return f"{ended}/{len(self.items)} renders{failed}  frame {done}/{total}{left}"

    def failed(self) -> list[Item]:
        """The renders that failed."""
        return [item for item in self.items if item.state == "failed"]

    def stop(self) -> None:
        """What is not done is left to a next run."""
        for item in self.items:
            if item.is_open:
                item.stop()
        while self._holds:
            self._holds.popitem()[1].release()
        self._write_report()

    def _write_report(self) -> None:
        began = time.monotonic()
        if self._report is not None:
            self._report.write(self.items)
        ended = time.monotonic()
        self._report_due = ended + max(REPORT_SECONDS, (ended - began) / _REPORT_SHARE)


def _first_task(item: Item, least_part: int) -> Whole | Divide:
    if item.render.kind == "video" and item.render.info.frame_count >= 2 * least_part:
        return Divide(least_part)
    return Whole(item.render.kind == "image")


def survey(renders: Iterable[Render], first_number: int = 1) -> list[Item]:
    """The items of these renders; what is there already is marked so.

    Raises PresetError for a place that is taken by something else.
    """
    problems: list[Problem] = []
    items: list[Item] = []
    for number, each in enumerate(renders, first_number):
        entry, asked = each.entry, asked_for(each.request)
        item = Item(number, replace(each, request=replace(each.request, asked=asked)))
        path = Path(entry.output)
        if os.path.lexists(path) and not _is_empty_folder(path):
            if answers(entry.output, asked):
                item.state = "there already"
            elif path.is_dir() or not entry.job.overwrite:
                problems.append(Problem(entry.output_mark, _taken(path)))
        items.append(item)
    if problems:
        raise together(map(str, problems))
    return items


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _taken(path: Path) -> str:
    if path.is_dir():
        return f"output: {path} is a folder with other things in it: give another name"
    return (
        f"output: {path} is there and not what this job makes: give another name, or "
        "`overwrite: true`"
    )


def _make_room(item: Item) -> None:
    folder = Path(item.render.entry.output).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from None


# ── the report ───────────────────────────────────────────────────────────────────────────────────


class Report:
    """A JSON file about a batch, and the same as a table beside it for people (`.txt`).

    Raises UsageError for a name that is not one of a JSON file, OutputError where something else is
    in one of the two places.
    """

    def __init__(self, path: Path, **facts: Any) -> None:
        if path.suffix.lower() != ".json":
            raise UsageError(f"--report must name a .json file, not {path}")
        self.path, self._text_path = path, path.with_suffix(".txt")
        for each, start in ((self.path, _JSON_START), (self._text_path, _TEXT_START)):
            if os.path.lexists(each) and not _begins_with(each, start):
                raise OutputError(f"{each} is there and no report: name one with --report")
        self._facts = {
            "dreamflow": dreamflow.__version__,
            "host": socket.gethostname(),
            "began": _now(),
            **facts,
        }

    def write(self, items: Sequence[Item]) -> None:
        """Put down how things stand, whole or not at all."""
        shown = ("finished", "there already", "failed", "stopped")
        counts = dict.fromkeys(shown, 0) | Counter(item.state for item in items)
        facts = {**self._facts, "written": _now(), "renders": len(items), **counts}
        told = {**facts, "jobs": [item.facts() for item in items]}
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        _put(self.path, text)
        _put(self._text_path, _as_text(facts, items))


_JSON_START, _TEXT_START = b'{\n  "dreamflow": "', b"dreamflow: "


def _begins_with(path: Path, start: bytes) -> bool:
    try:
        with open(open_regular(path), "rb") as file:
            return file.read(len(start)) == start
    except (DreamflowError, OSError):
        return False


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")


def _put(path: Path, text: str) -> None:
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        place(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _as_text(facts: dict[str, Any], items: Sequence[Item]) -> str:
    head = [f"{key}: {value}" for key, value in facts.items()]
    lines = ["  ".join(row).rstrip() for row in _padded(table(items))]
    return "\n".join([*head, "", *lines, *_remarks(items)]) + "\n"


def _padded(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]


def table(items: Sequence[Item]) -> list[tuple[str, ...]]:
    """A row for each render, after a head."""
    rows = [("#", "input", "preset", "seed", "frames", "time", "state", "output")]
    for item in items:
        entry = item.render.entry
        frames = f"{item.frames_done}/{item.frames_to_come or item.render.info.frame_count}"
        if item.state in ("finished", "there already", "waiting"):
            frames = str(item.render.info.frame_count)
        seconds = f"{item.seconds:.1f} s" if item.seconds else ""
        what = (item.render.input_name, Path(entry.preset_name).stem, str(entry.preset.seed))
        rows.append((str(item.number), *what, frames, seconds, item.state, entry.output))
    return rows


def _remarks(items: Sequence[Item]) -> list[str]:
    """What went wrong, and what was said, in full."""
    lines: list[str] = []
    for item in items:
        if item.state == "failed":
            place = "" if item.failed_frame is None else f" at frame {item.failed_frame}"
            lines.append(f"{item.number}: failed{place}: {item.cause}")
        lines += (f"{item.number}: {text}" for text in item.warnings)
    return ["", *lines] if lines else []


def plan_table(items: Sequence[Item], seconds: Sequence[float]) -> list[tuple[str, ...]]:
    """What is going to be done: a row for each render, after a head, and the sums."""
    head = ("#", "input", "preset", "seed", "frames", "size", "disk", "time", "state", "output")
    rows: list[tuple[str, ...]] = [head]
    for item, takes in zip(items, seconds, strict=True):
        each, info = item.render, item.render.info
        what = (each.input_name, Path(each.entry.preset_name).stem, str(each.entry.preset.seed))
        size = f"{info.width}x{info.height}"
        cost = (amount(each.disk_bytes), duration(takes)) if item.is_open else ("", "")
        rest = (str(info.frame_count), size, *cost, item.state, each.entry.output)
        rows.append((str(item.number), *what, *rest))
    todo = [item.render for item in items if item.is_open]
    frames = str(sum(each.info.frame_count for each in todo))
    costs = (amount(sum(each.disk_bytes for each in todo)), duration(sum(seconds)))
    rows.append(("", "to do", "", "", frames, "", *costs, "", ""))
    return rows


def duration(seconds: float) -> str:
    """A time for people: `12 s`, `3:05 min`, `2:10 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60}:{minutes % 60:02} h"
