"""A night's work: the renders of a manifest, done by as many workers as there are.

One that fails does not keep the others from being done; one whose worker is gone is begun again,
three times at most. What the results are is told in a report, which is written anew whenever a
render ends. A second run does what is left: results that are there are recognised by what they say
of themselves.
"""

from __future__ import annotations

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
from dreamflow.errors import OutputError, StorageError
from dreamflow.plan import Render, amount, answers, asked_for
from dreamflow.strict_yaml import Problem, together
from dreamflow.video.stills import place, temporary_beside
from dreamflow.work import Advanced, Began, Done, Failed, Lost, Message, Said, Task
from dreamflow.workers import Pool

logger = logging.getLogger("dreamflow")

MAX_TRIES = 3
"""How often a task is begun before it is given up."""
WAIT_SECONDS = 0.2
REPORT_SECONDS = 2.0
"""How long a report may be behind."""


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
    tries: int = 0
    began: float = 0.0
    seconds: float = 0.0
    """Wall clock time from its beginning to its end."""
    exit_code: int = 0
    cause: str = ""
    failed_frame: int | None = None
    """Of the source: the one that could not be read, else the one behind the last that was done."""
    warnings: list[str] = field(default_factory=list)
    _last: int | None = None

    def hear(self, message: Message) -> None:
        """Take in what its worker says."""
        match message:
            case Began(frames, done):
                self.frames_to_come, self.frames_done = frames, done
            case Advanced(index, _):
                self.frames_done, self._last = self.frames_done + 1, index
            case Said(level, text) if level >= logging.WARNING and text not in self.warnings:
                self.warnings.append(text)
            case Done():
                self._end("finished")
            case Failed(code, text, frame):
                self.exit_code, self.cause = code, text
                info = self.render.info
                after = info.first_index if self._last is None else self._last + 1
                self.failed_frame = after if frame is None else frame
                self._end("failed")

    def begin(self) -> None:
        """Somebody is at work on it, for the first time or again."""
        self.began = self.began or time.monotonic()
        self.state, self.tries, self._last = "running", self.tries + 1, None

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


class Batch:
    """The items of one run, and the pool that does them."""

    def __init__(self, pool: Pool, report: Report | None = None) -> None:
        self.items: list[Item] = []
        self._pool, self._report = pool, report
        self._ready: deque[Item] = deque()
        self._running: dict[int, Item] = {}
        self._reported, self._began = 0.0, time.monotonic()

    def add(self, items: Iterable[Item]) -> None:
        """More to do; what is there already is only counted.

        Raises OutputError where the folder of a result cannot be made.
        """
        for item in items:
            _make_room(item)
            self.items.append(item)
            if item.is_open:
                self._ready.append(item)
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
            item = self._ready.popleft()
            item.begin()
            self._running[item.number] = item
            self._pool.start(_task(item))
            yield item
        for number, message in self._pool.messages(WAIT_SECONDS):
            item = self._running[number]
            item.hear(message)
            if isinstance(message, Said):
                logger.log(message.level, "%s: %s", item.render.input_name, message.text)
            if isinstance(message, Lost):
                self._again(item, message)
            if not item.is_open or isinstance(message, Lost):
                del self._running[number]
            yield item
        if not self.busy or time.monotonic() > self._reported + REPORT_SECONDS:
            self._write_report()

    def _again(self, item: Item, lost: Lost) -> None:
        """Begin it once more, unless that was tried often enough."""
        if item.tries < MAX_TRIES:
            item.warnings.append(f"{lost.text}: begun again")
            item.state = "waiting"
            self._ready.appendleft(item)
        else:
            item.hear(Failed(75, f"{lost.text}, {MAX_TRIES} times"))

    def frames(self) -> tuple[int, int]:
        """How many frames are done, and of how many, in all that is not there already."""
        done = total = 0
        for item in self.items:
            if item.state != "there already":
                count = item.frames_to_come or item.render.info.frame_count
                total += count
                done += item.frames_done if item.state != "finished" else count
        return done, total

    def standing(self) -> str:
        """How far all is, in a few words."""
        counts = Counter(item.state for item in self.items)
        done, total = self.frames()
        ended = counts["finished"] + counts["there already"]
        failed = f", {counts['failed']} failed" if counts["failed"] else ""
        passed = time.monotonic() - self._began
        left = f", {duration(passed / done * (total - done))} left" if done else ""
        return f"{ended}/{len(self.items)} renders{failed}  frame {done}/{total}{left}"

    def failed(self) -> list[Item]:
        """The renders that failed."""
        return [item for item in self.items if item.state == "failed"]

    def stop(self) -> None:
        """What is not done is left to a next run."""
        for item in self.items:
            if item.is_open:
                item.stop()
        self._write_report()

    def _write_report(self) -> None:
        if self._report is not None:
            self._report.write(self.items)
        self._reported = time.monotonic()


def _task(item: Item) -> Task:
    return Task(item.number, item.render.request, item.render.kind == "image")


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
    """A JSON file about a batch, and the same as a table beside it for people (`.txt`)."""

    def __init__(self, path: Path, **facts: Any) -> None:
        self.path = path
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
        _put(self.path.with_suffix(".txt"), _as_text(facts, items))


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")


def _put(path: Path, text: str) -> None:
    temporary = temporary_beside(path)
    try:
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
            lines.append(f"{item.number}: failed at frame {item.failed_frame}: {item.cause}")
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
