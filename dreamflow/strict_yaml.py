"""YAML that means one thing: every value with its place, every surprise refused.

A subset of YAML 1.2's core schema is read: mappings with plain keys, lists, texts, numbers, `true`,
`false` and `null`. Anchors, aliases, merge keys, tags, directives, duplicate keys and second
documents are refused, and so are files that are too large, too deep or too many-valued, before they
cost anything. Unlike YAML 1.1 (and PyYAML's own resolver), `1e-3` is a number, and `yes`, `on` and
`1:30` are texts. Only parser events are used; nothing is ever constructed from a tag.

Knows nothing of presets: whoever reads the tree says what the keys mean.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

from dreamflow.errors import PresetError

MAX_BYTES = 1_000_000
MAX_DEPTH = 16
MAX_NODES = 10_000
MAX_PROBLEMS = 10

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, order=True)
class Mark:
    """A place to point at: line and column count from 1; line 0 means the source as a whole."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Problem:
    """Something wrong at a place, in words for the person who wrote the file."""

    mark: Mark
    text: str

    def __str__(self) -> str:
        return f"{self.mark}: {self.text}"


def refusal(problems: Iterable[Problem]) -> PresetError:
    """One error for all problems, a line each; one per place, and ten at most."""
    first_at: dict[Mark, Problem] = {}
    for problem in problems:
        first_at.setdefault(problem.mark, problem)
    return together(str(problem) for problem in first_at.values())


def together(messages: Iterable[str]) -> PresetError:
    """One error for all messages, without repetitions; ten at most."""
    lines = list(dict.fromkeys(messages))
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f"and {len(lines) - MAX_PROBLEMS} more"]
    return PresetError("\n".join(lines))


@dataclass(frozen=True)
class Scalar:
    """A single value; `text` is how it was written, for messages."""

    mark: Mark
    value: str | int | float | bool | None
    text: str


@dataclass(frozen=True)
class Sequence:
    """A list of nodes."""

    mark: Mark
    items: "tuple[Node, ...]"


@dataclass(frozen=True)
class Mapping:
    """Keys and values in file order; `keys` holds where each key stands."""

    mark: Mark
    entries: "dict[str, Node]"
    keys: dict[str, Mark]
    whole: bool = False
    """Whether it is one value: laid on another it replaces that, and is not merged with it."""

    def replaced(self, key: str, value: "Node", key_mark: Mark) -> "Mapping":
        """The same mapping with one entry set; a key that was there keeps its place."""
        return replace(
            self, entries={**self.entries, key: value}, keys={key: key_mark, **self.keys}
        )

    def without(self, key: str) -> "Mapping":
        """The same mapping less one entry, which may be absent."""
        return replace(self, entries={k: v for k, v in self.entries.items() if k != key})

    def laid_on(self, base: "Mapping") -> "Mapping":
        """Both together: mappings are merged key by key, of everything else this one's counts."""
        if self.whole:
            return self
        entries = dict(base.entries)
        for key, over in self.entries.items():
            below = entries.get(key)
            if isinstance(over, Mapping) and isinstance(below, Mapping):
                entries[key] = over.laid_on(below)
            else:
                entries[key] = over
        return Mapping(self.mark, entries, base.keys | self.keys)


Node = Scalar | Sequence | Mapping


def plain(node: Node) -> Any:
    """The tree as Python values: dict, tuple, str, int, float, bool and None."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return tuple(plain(item) for item in node.items)
    return node.value


def written(node: Node) -> str:
    """A node as a message quotes it: `3`, `'three'`, `a list`."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list" if node.items else "an empty list"
    if node.value is None:
        return "nothing" if node.text == "" else node.text
    return quoted(node.value) if isinstance(node.value, str) else _cut(node.text)


def quoted(text: str) -> str:
    """A text in quotes on one line, cut where a message would get too long."""
    return _cut(repr(text[:100]))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_text(path: Path, source: str) -> str:
    """A file's text without its byte order mark; `source` is what messages call the file.

    Raises PresetError for what is missing, not a regular file, over `MAX_BYTES` or not UTF-8.
    """
    data = _read_bytes(path, source)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise refusal([Problem(Mark(source, line, column), "not UTF-8 text")]) from None


def _read_bytes(path: Path, source: str) -> bytes:
    try:
        # Looked at before it is opened: opening a FIFO would wait for its writer.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise PresetError(f"{source}: not a file")
        if status.st_size > MAX_BYTES:
            raise PresetError(f"{source}: {status.st_size} bytes; at most {MAX_BYTES} are read")
        with open(path, "rb") as file:
            return file.read(MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PresetError(f"{source}: cannot be read: {reason}") from None


def compose(
    text: str, source: str, problems: list[Problem], *, positions: bool = True
) -> Node | None:
    """The one document in `text` as a tree, or None if there is nothing in it.

    What can be read past (a duplicate key, an alias, a tag) is added to `problems`; what cannot
    (broken syntax, a limit) raises PresetError with everything found until then. Without
    `positions` every mark is `source` alone, for texts that have no lines, such as an option's.
    """
    composer = _Composer(source, problems, positions)
    try:
        if found := _UNPRINTABLE.search(text):
            composer.stop(_place(text, found.start()), f"character {found[0]!r} is not allowed")
        return composer.document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        composer.stop((line, column), _syntax_message(error, text, line))


# What YAML calls printable, less the byte order mark.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def _place(text: str, index: int) -> tuple[int, int]:
    """Line and column, both from 0, of a character of `text`."""
    return text.count("\n", 0, index), index - (text.rfind("\n", 0, index) + 1)


def _syntax_message(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    lines = text.splitlines()
    here = lines[line] if line < len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return "indented with a tab; use spaces"
    if error.problem and error.problem.startswith("mapping values are not allowed"):
        return "a ': ' inside a value; put the value in quotes"
    return f"not YAML: {error.problem or error.context}"


class _Composer:
    """Builds the tree from parser events and keeps count of what it costs."""

    def __init__(self, source: str, problems: list[Problem], positions: bool) -> None:
        self.source = source
        self.problems = problems
        self.positions = positions
        self.nodes = 0

    def mark(self, line: int, column: int) -> Mark:
        return Mark(self.source, line + 1, column + 1) if self.positions else Mark(self.source)

    def at(self, event: yaml.Event) -> Mark:
        return self.mark(event.start_mark.line, event.start_mark.column)

    def note(self, mark: Mark, text: str) -> None:
        self.problems.append(Problem(mark, text))

    def stop(self, place: tuple[int, int], text: str) -> NoReturn:
        """Nothing can be read past this."""
        raise refusal([*self.problems, Problem(self.mark(*place), text)])

    def document(self, events: Iterator[yaml.Event]) -> Node | None:
        root = None
        started = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if started:
                    self.note(self.at(event), "a second document; write one document per file")
                    break
                started = True
                if event.version or event.tags:
                    self.note(self.at(event), "directives ('%...') are not allowed")
            elif isinstance(event, yaml.NodeEvent):
                root = self.node(event, events, MAX_DEPTH)
        empty = isinstance(root, Scalar) and root.value is None and root.text == ""
        return None if empty else root

    def node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        """The node that `event` starts, its children taken from `events`."""
        mark = self.at(event)
        place = (event.start_mark.line, event.start_mark.column)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.stop(place, f"more than {MAX_NODES} values")
        if isinstance(event, yaml.AliasEvent):
            self.note(
                mark, f"alias {quoted('*' + event.anchor)} is not allowed; write the value out"
            )
            return Scalar(mark, None, f"*{event.anchor}")
        self._refuse_decoration(event, mark)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(mark, event)
        if depth == 0:
            self.stop(place, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(mark, events, depth - 1)
        return self.mapping(mark, events, depth - 1)

    def scalar(self, mark: Mark, event: yaml.ScalarEvent) -> Scalar:
        text = event.value
        if found := _UNPRINTABLE.search(text):  # written as an escape in double quotes
            self.note(mark, f"character {found[0]!r} is not allowed")
        is_plain = event.implicit[0]
        return Scalar(mark, resolve(text) if is_plain else text, text)

    def sequence(self, mark: Mark, events: Iterator[yaml.Event], depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self.node(event, events, depth))
        return Sequence(mark, tuple(items))

    def mapping(self, mark: Mark, events: Iterator[yaml.Event], depth: int) -> Mapping:
        entries: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self.node(event, events, depth)
            value = self.node(next(events), events, depth)
            name = self._key_name(key, event, keys)
            if name is not None:
                entries[name], keys[name] = value, key.mark
        return Mapping(mark, entries, keys)

    def _key_name(self, key: Node, event: yaml.Event, keys: dict[str, Mark]) -> str | None:
        if not isinstance(key, Scalar):
            self.note(key.mark, f"a key must be a single word, not {written(key)}")
        elif isinstance(event, yaml.AliasEvent):
            pass  # noted already
        elif key.text == "<<" and getattr(event, "implicit", (False,))[0]:
            self.note(key.mark, "merge key '<<' is not allowed; write the keys out")
        elif key.text in keys:
            first = keys[key.text]
            where = f" (first on line {first.line})" if first.line else ""
            self.note(key.mark, f"duplicate key {quoted(key.text)}{where}")
        else:
            return key.text
        return None

    def _refuse_decoration(self, event: yaml.Event, mark: Mark) -> None:
        if anchor := getattr(event, "anchor", None):
            self.note(mark, f"anchor {quoted('&' + anchor)} is not allowed; write the value out")
        if tag := getattr(event, "tag", None):
            shown = quoted(tag.replace("tag:yaml.org,2002:", "!!"))
            self.note(mark, f"tag {shown} is not allowed; write the plain value")


_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], float("nan")),
    **dict.fromkeys(
        [f"{sign}{word}" for sign in ("", "+") for word in (".inf", ".Inf", ".INF")], float("inf")
    ),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], float("-inf")),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_MAX_DIGITS = 400


def resolve(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means in YAML 1.2's core schema; a text if nothing else."""
    if text in _WORDS:
        return _WORDS[text]
    # Past 400 digits every number is beyond a float's range, and int() would be slow or refuse.
    if len(text) <= _MAX_DIGITS:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _BASED_INTEGER.fullmatch(text):
            return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text
