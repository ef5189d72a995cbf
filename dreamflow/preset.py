"""A preset: everything about the look of a film, as YAML and as one frozen value.

A preset file is laid on the one it `extends`, that one on its own, and all on the defaults of the
settings classes; `--set` comes on top. Mappings are merged, lists are replaced. Every value keeps
the place it was written at, so that every complaint points there and `presets show` can tell where
a value came from. A setting that moves over the render (see `schedule`) is kept beside the plain
ones as a curve, and is a plain number in what `Preset.at` returns. Free of torch.
"""

import functools
import logging
import os
import re
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, SupportsFloat, TypeVar

import yaml
from pydantic import Field, PrivateAttr, ValidationError

from dreamflow import complaints, cycles, settings
from dreamflow.complaints import (
    arms,
    did_you_mean,
    locate,
    nearest,
    printable,
    schema_at,
    set_mark,
)
from dreamflow.errors import DreamflowError, PresetError, UsageError
from dreamflow.settings import (
    MOVING_MASKS,
    TAGS,
    AnyMask,
    AnyObjective,
    Camera,
    Color,
    Cuts,
    Cycle,
    Dream,
    Feedback,
    Follow,
    Output,
    Regularize,
    Stage,
    setting,
)
from dreamflow.strict_yaml import (
    MAX_DEPTH,
    Mapping,
    Mark,
    Node,
    Problem,
    Scalar,
    Sequence,
    compose,
    plain,
    quoted,
    read_text,
    refusal,
    resolve,
    together,
    written,
)
from dreamflow.video import sequences

if TYPE_CHECKING:
    from dreamflow.schedule import Curve, SoundCurves

T = TypeVar("T")

logger = logging.getLogger("dreamflow")

MAX_LEVELS = 16
"""How many presets may extend one another in a row."""

MAX_REHEARSED = 20_000
"""Frames of a render that a check of a preset tries."""

MAX_OBJECTIVES = 100
"""How many objectives a preset may have, those of its cycles included."""


class _Places(dict[str, Mark]):
    """Where each value was written. All are equal: two presets do not differ by that alone."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Places)

    __hash__ = None


class Preset(Stage):
    """All settings of a render, checked."""

    description: str = setting("", "What it looks like, in one line.")
    family: str = setting("", "Kind of look; `dreamflow presets list` groups by it.")
    network: str = setting(
        "squeezenet1_1", "Network to dream with: a name (see `dreamflow layers`) or a weights file."
    )
    seed: int = setting(0, "Start of all randomness; another seed gives another take.",
                        ge=0, le=2**32 - 1)  # fmt: skip
    reference_fps: float = setting(
        30.0, "Frame rate that settings `per frame` are meant for.", unit="fps", ge=1, le=1000
    )
    cadence: int = setting(
        1,
        "Only every so many frames is dreamed; those between are moved there from both neighbours "
        "and cross-faded.",
        unit="frames",
        ge=1,
        le=60,
    )
    audio: str = setting(
        "",
        "Sound file that `audio.*` in expressions listens to, beside the preset; empty for the "
        "clip's own sound.",
    )
    mask: AnyMask = setting(
        "",
        "Picture, or clip frame by frame, beside the preset, of where to dream: white dreams, "
        "black stays; its alpha if that varies, else its luma. It is stretched over the frame and "
        "stands still on it. Or a mapping as below.",
    )
    shots: Cuts = setting(
        "auto",
        "Where the dream starts afresh: at the cuts that are found (`adaptive` and `content`: "
        "by PySceneDetect), nowhere, or at the frames and times of a list.",
    )
    objectives: tuple[AnyObjective, ...] = setting(
        ...,
        "What the dream is after: layers, classes, pictures and more, with weights.",
        min_length=1,
        max_length=MAX_OBJECTIVES,
    )
    strength: float = setting(
        1.0, "How strong every dream is: 1 as the preset means it.", moves=True, ge=0, le=2
    )
    dream: Dream = Field(Dream(), description="How a frame without a past is dreamed.")
    regularize: Regularize = Field(Regularize(), description="What keeps the dream plausible.")
    follow: Follow = Field(Follow(), description="How the dream is carried from frame to frame.")
    camera: Camera = Field(Camera(), description="How the picture moves from frame to frame.")
    color: Color = Field(Color(), description="What keeps the colours from burning out.")
    feedback: Feedback = Field(
        Feedback(), description="What keeps a picture alive that feeds on itself: zooms."
    )
    output: Output = Field(Output(), description="How the result is encoded.")

    _curves: "dict[str, Curve]" = PrivateAttr(default_factory=dict)
    """What moves, by dotted path; the field itself then holds its default."""
    _tracks: dict[str, tuple[float, ...]] = PrivateAttr(default_factory=dict)
    """The curves' numbers for each output frame of one render."""
    _places: _Places = PrivateAttr(default_factory=_Places)
    """Where the values of a file stand, by dotted path; the key of a curve's mapping follows it."""

    @property
    def curves(self) -> "dict[str, Curve]":
        """What moves, by dotted path (`dream.steps`, `objectives.0.weight`)."""
        return dict(self._curves)

    @property
    def tracks(self) -> dict[str, tuple[float, ...]]:
        """The curves' numbers for each output frame, by dotted path; empty until `resolved`."""
        return dict(self._tracks)

    def sound_expressions(self) -> dict[str, str]:
        """The settings that listen to the sound, each with the expression that does.

        It is empty for a preset that can be `resolved` without the sound's curves.
        """
        found = {path: curve.sound_expression for path, curve in self._curves.items()}
        return {path: expression for path, expression in found.items() if expression is not None}

    def listening_to(self, file: Path) -> Self:
        """The preset with another sound file; a warning if it does not listen to any."""
        if not self.sound_expressions():
            logger.warning("--audio changes nothing: no setting listens to the sound (audio.*)")
        return self.model_copy(update={"audio": str(file)})

    def resolved(
        self, frame_count: int, fps: SupportsFloat, sound: "SoundCurves | None" = None
    ) -> Self:
        """The preset with all curves evaluated for a render of so many frames at that rate.

        `sound` holds what `audio.*` stands for in those frames; a preset with
        `sound_expressions` raises ValueError without it. Raises PresetError for the curves that
        leave the range of their setting, or the numbers.
        """
        if not self._curves:
            return self
        preset = self.model_copy()
        preset._tracks = self._of_each_curve(
            lambda path, curve: self._track(path, curve, frame_count, float(fps), sound)
        )
        return preset

    def _of_each_curve(self, take: "Callable[[str, Curve], T]") -> "dict[str, T]":
        """What `take` makes of each curve, by path.

        One PresetError tells of all that it refuses, once for each place: the objectives of a tour
        share the weight of that.
        """
        found: dict[str, T] = {}
        wrong: dict[Mark | str, str] = {}
        for path, curve in self._curves.items():
            try:
                found[path] = take(path, curve)
            except PresetError as error:
                wrong.setdefault(self._places.get(path, path), str(error))
        if wrong:
            raise together(wrong.values())
        return found

    def _track(
        self,
        path: str,
        curve: "Curve",
        frame_count: int,
        fps: float,
        sound: "SoundCurves | None",
    ) -> tuple[float, ...]:
        """The curve's number for each frame, whole where the setting is."""
        schema = schema_at(_schema(), _steps(path))
        whole = schema["type"] == "integer"
        try:
            values = curve.over(frame_count, fps, self.seed, sound)
        except PresetError as error:
            raise self.complaint(path, f": {error}", getattr(error, "entry", None)) from None
        if whole:
            values = values.round()
        outside = (values < schema["minimum"]) | (values > schema["maximum"])
        if outside.any():
            frame = int(outside.argmax())
            words = settings.allowed(schema, schema.get("unit", ""))
            text = f" is {values[frame]:g} at frame {frame}; it must be {words}"
            raise self.complaint(path, text)
        return tuple(values.astype(int).tolist() if whole else values.tolist())

    def telling_length(self, fps: SupportsFloat) -> int:
        """Frames that show every key in frames or seconds and what comes of it; 10 s at least."""
        last = max((curve.last_key(float(fps)) for curve in self._curves.values()), default=0)
        return max(int(10 * float(fps)), last * 5 // 4 + 1)

    def rehearse(self) -> None:
        """Raise PresetError for the curves that leave their range in a render like any other.

        It goes to the curve's last key and lasts a second at least, up to `MAX_REHEARSED` frames
        at `reference_fps`, and is tried in silence and at full sound; numbers at keys must be in
        range wherever they stand. What only leaves its range later, within `telling_length`, may
        be meant for a shorter film: that is a warning.
        """
        self._of_each_curve(self._rehearse)

    def _rehearse(self, path: str, curve: "Curve") -> None:
        self._refuse_keys_out_of_range(path, curve)
        rate = self.reference_fps
        shortest = min(max(int(rate), curve.last_key(rate) + 1), MAX_REHEARSED)
        self._try_for(path, curve, shortest)
        try:
            self._try_for(path, curve, min(self.telling_length(rate), MAX_REHEARSED))
        except PresetError as error:
            first, *_caret = str(error).split("\n")
            logger.warning("%s (only a render that ends before can use it)", first)

    def _try_for(self, path: str, curve: "Curve", frame_count: int) -> None:
        from dreamflow.audio import steady

        for level in (0.0, 1.0) if curve.sound_expression else (0.0,):
            try:
                self._track(path, curve, frame_count, self.reference_fps, steady(level))
            except PresetError as error:
                if not curve.sound_expression:
                    raise
                first, *caret = str(error).split("\n")
                heard = f"{first} (where audio.* is {level:g})"
                raise PresetError("\n".join([heard, *caret])) from None

    def _refuse_keys_out_of_range(self, path: str, curve: "Curve") -> None:
        schema = schema_at(_schema(), _steps(path))
        for key in curve.keys:
            number = key.expression.number
            if number is None or schema["minimum"] <= number <= schema["maximum"]:
                continue
            words = settings.allowed(schema, schema.get("unit", ""))
            where = key.entry is None and key.expression.pointed_at
            text = f" is {number:g} at a key; it must be {words}"
            raise self.complaint(path, f"{text}\n{where}" if where else text, key.entry)

    def complaint(self, path: str, text: str, entry: str | None = None) -> PresetError:
        """The error for what is wrong with the value at a dotted path, where that was written.

        `text` goes on behind the path's name; `entry` is the key at fault in a curve's mapping.
        """
        mark = self._places.get(f"{path}.{entry}", self._places.get(path))
        if mark is None or mark == set_mark(path):
            return PresetError(f"{mark or path}{text}")
        return PresetError(f"{mark}: {path}{text}")

    def at(self, frame: int) -> Self:
        """The plain numbers in force at output frame `frame`, counted from 0.

        A preset with curves must be `resolved` first; after its end the last values hold.
        """
        if not self._curves:
            return self
        preset = self.model_copy()
        for path, curve in self._curves.items():
            track = self._tracks.get(path)
            if track is None:
                raise ValueError(f"{path} is the curve {curve.source!r}: resolve the preset first")
            number = track[min(frame, len(track) - 1)]
            preset = _with_value(preset, path.split("."), number)
        preset._curves = {}
        preset._tracks = {}
        return preset

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as YAML, for curves hold functions; another process reads them again."""
        return revived, (dump(self),)


def _with_value(value: Any, path: list[str], given: float | str) -> Any:
    """A preset, stage or list with what is given at `path`, which is known to be allowed there."""
    if not path:
        return given
    head, *rest = path
    if isinstance(value, tuple):
        at = int(head)
        return (*value[:at], _with_value(value[at], rest, given), *value[at + 1 :])
    return value.model_copy(update={head: _with_value(getattr(value, head), rest, given)})


def _steps(path: str) -> list[int | str]:
    return [int(step) if step.isdecimal() else step for step in path.split(".")]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def load(name_or_path: str, *, overrides: Many[str] = ()) -> Preset:
    """The shipped preset of that name, or the one in that file, with `KEY=VALUE` overrides on top.

    Raises PresetError with one line for each thing wrong, UsageError for an override without `=`.
    """
    return load_with_origins(name_or_path, overrides=overrides)[0]


def load_with_origins(
    name_or_path: str, *, overrides: Many[str] = ()
) -> tuple[Preset, dict[str, str]]:
    """A preset, and where each value came from: `{"dream.steps": "acid.yaml:9", ...}`.

    An origin is `file:line`, `--set` or `default`.
    """
    problems: list[Problem] = []
    tree = _read_levels(_find(name_or_path), problems)
    for override in overrides:
        tree = _overridden(tree, override, problems)
    tree = _cycles_spelled_out(tree, problems)
    preset = _validated(tree, problems)
    return preset, {path: _origin(tree, path) for path in _leaves(preset)}


def load_under(name_or_path: str, changes: Many[Mapping], file: Path) -> Preset:
    """A preset with the settings in mappings of another `file` laid on it, one after the other.

    Their keys are those of a preset or dotted, as in `dream.octaves: 3`; the files they name are
    beside `file`. What is wrong with them is complained of where it stands. Raises PresetError with
    one line for each thing wrong.
    """
    problems: list[Problem] = []
    tree = _read_levels(_find(name_or_path), problems)
    source = _Source(file, str(file))
    for change in changes:
        change = _with_weights_found(change, source, problems)
        for key in _FILES:
            change = _with_file_found(change, key, source, problems)
        change = _with_objectives_found(change, source, problems)
        tree = _all_changed(tree, change, problems)
    return _validated(_cycles_spelled_out(tree, problems), problems)


def of_values(settings: dict[str, Any], name_or_path: str | None = None) -> Preset:
    """The preset that plain Python values make, laid on the one of that name or in that file.

    Keys are those of a preset or dotted, as in `{"dream.octaves": 3}`; NumPy's numbers and arrays
    and paths may stand for lists and texts. Files that the values name are taken as they are.
    Raises PresetError with one line for each thing wrong.
    """
    problems: list[Problem] = []
    mark = Mark("settings")
    tree = _read_levels(_find(name_or_path), problems) if name_or_path else Mapping(mark, {}, {})
    try:
        text = yaml.dump(_as_plain(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        kind = type(error.args[-1]).__name__
        raise PresetError(
            f"settings: a value of type {kind} is no setting: "
            "give numbers, texts, and lists or mappings of them"
        ) from None
    change = compose(text, mark.source, problems, positions=False)
    assert isinstance(change, Mapping)
    tree = _all_changed(tree, change, problems)
    return _validated(_cycles_spelled_out(tree, problems), problems)


def _as_plain(value: Any) -> Any:
    """What YAML has a form for; each part a new one, since what is shared becomes an alias."""
    if isinstance(value, dict):
        return {_as_plain(key): _as_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(part) for part in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value


def revived(text: str) -> Preset:
    """The preset that `dump` gave as `text`, the files it names taken as they are.

    For what this program wrote itself: a preset from elsewhere is to be `load`ed.
    """
    problems: list[Problem] = []
    tree = compose(text, "preset", problems)
    assert isinstance(tree, Mapping)
    return _validated(_curves_whole(tree), problems)


@dataclass(frozen=True)
class _Source:
    """A preset file and what messages call it."""

    path: Path
    shown: str

    @property
    def identity(self) -> str:
        return os.path.realpath(self.path)


def _find(name_or_path: str) -> _Source:
    """A path if it looks like one (a separator or .yaml), else the name of a shipped preset."""
    if _is_file_name(name_or_path):
        return _Source(Path(name_or_path), printable(name_or_path))
    return _find_shipped(name_or_path)


def _is_file_name(text: str) -> bool:
    return "/" in text or os.sep in text or text.endswith((".yaml", ".yml"))


def _find_shipped(name: str) -> _Source:
    paths = {path.stem: path for path in _shipped_paths()}
    if name in paths:
        return _Source(paths[name], paths[name].name)
    raise PresetError(
        f"unknown preset {quoted(name)}{did_you_mean(nearest(name, list(paths)))}; "
        "`dreamflow presets list` shows all, a file is given as ./NAME.yaml"
    )


def _read_levels(source: _Source, problems: list[Problem]) -> Mapping:
    """A preset file laid on all it extends; the key `extends` stays only if it led nowhere."""
    chain = [source]
    level = _read_file(source, problems)
    levels = [level]
    while "extends" in level.entries:
        parent = _parent(level.entries["extends"], chain, problems)
        if parent is None:
            break
        levels[-1] = level.without("extends")
        chain.append(parent)
        level = _read_file(parent, problems)
        levels.append(level)
    tree = levels.pop()
    while levels:
        tree = levels.pop().laid_on(tree)
    return tree


def _read_file(source: _Source, problems: list[Problem]) -> Mapping:
    tree = compose(read_text(source.path, source.shown), source.shown, problems)
    start = Mark(source.shown, 1, 1)
    if tree is None:
        raise refusal([*problems, Problem(start, "empty; a preset names at least its objectives")])
    if not isinstance(tree, Mapping):
        text = f"a preset is a mapping of settings, not {written(tree)}"
        raise refusal([*problems, Problem(tree.mark, text)])
    tree = _with_weights_found(_curves_whole(tree), source, problems)
    for key in _FILES:
        tree = _with_file_found(tree, key, source, problems)
    return _with_objectives_found(tree, source, problems)


def _parent(node: Node, chain: list[_Source], problems: list[Problem]) -> _Source | None:
    """The preset that `extends: node` of the last in the chain means, or None and a problem."""
    try:
        parent = _named_parent(node, chain[-1])
        _refuse_circle(parent, chain)
    except PresetError as error:
        problems.append(Problem(node.mark, f"extends: {error}"))
        return None
    return parent


def _named_parent(node: Node, child: _Source) -> _Source:
    if not (isinstance(node, Scalar) and isinstance(node.value, str)):
        raise PresetError(f"must be a preset's name or file, not {written(node)}")
    text = node.value
    if not (_is_file_name(text) or text.startswith("~")):
        return _find_shipped(text)
    _refuse_outside(text, child)
    path = child.path.parent / text
    if not os.path.isfile(path):  # Path.is_file() raises on names too long to exist
        raise PresetError(f"there is no file {quoted(text)} beside {child.shown}")
    shown = str(Path(child.shown).parent / printable(text))
    return _Source(path, shown)


def _refuse_circle(parent: _Source, chain: list[_Source]) -> None:
    if parent.identity in [source.identity for source in chain]:
        names = " -> ".join(source.shown for source in [*chain, parent])
        raise PresetError(f"goes in a circle: {names}")
    if len(chain) == MAX_LEVELS:
        raise PresetError(f"more than {MAX_LEVELS} presets in a row")


def _refuse_outside(text: str, source: _Source) -> None:
    """A preset may come from a stranger: it opens nothing outside its own folder."""
    folder = os.path.realpath(source.path.parent)
    outright = text.startswith(("~", "/", "\\")) or "://" in text or "\0" in text
    target = Path(os.path.realpath(folder if outright else os.path.join(folder, text)))
    if outright or not target.is_relative_to(folder):
        raise PresetError(f"must be a path inside the preset's own folder, not {quoted(text)}")


def _with_weights_found(
    tree: Mapping, source: _Source, problems: list[Problem], prefix: str = ""
) -> Mapping:
    """In `network: NAME:FILE` the file is named from the preset's folder; here from ours."""
    node = tree.entries.get("network")
    if not (isinstance(node, Scalar) and isinstance(node.value, str)):
        return tree
    name, colon, file = node.value.partition(":")
    try:
        _refuse_outside(file if colon else name, source)
    except PresetError as error:
        problems.append(Problem(node.mark, f"{prefix}network: {error}"))
        return tree
    if not file:
        return tree
    value = f"{name}:{source.path.parent / file}"
    return tree.replaced("network", Scalar(node.mark, value, node.text), node.mark)


_FILES = ("audio", "mask", "mask.file")
"""Settings that name a file."""
_OBJECTIVE_FILES = ("guide", "style", "content", "direction", "mask")
"""Those of an objective."""


def _with_file_found(
    tree: Mapping, key: str, source: _Source, problems: list[Problem], prefix: str = ""
) -> Mapping:
    """`audio: FILE`, or `mask: {file: FILE}`, is named from the preset's folder; here from ours."""
    node = tree.entries.get(key)
    if key == "mask" and isinstance(node, Mapping):
        node = _with_file_found(node, "file", source, problems, f"{prefix}mask.")
        return tree.replaced(key, node, node.mark)
    if not (isinstance(node, Scalar) and isinstance(node.value, str) and node.value):
        return tree
    try:
        _refuse_outside(node.value, source)
    except PresetError as error:
        problems.append(Problem(node.mark, f"{prefix}{key}: {error}"))
        return tree
    value = str(source.path.parent / node.value)
    return tree.replaced(key, Scalar(node.mark, value, node.text), node.mark)


def _with_objectives_found(tree: Mapping, source: _Source, problems: list[Problem]) -> Mapping:
    """The same for the files of the objectives."""
    listed = tree.entries.get("objectives")
    if not isinstance(listed, Sequence):
        return tree
    items: list[Node] = []
    for index, item in enumerate(listed.items):
        if isinstance(item, Mapping):
            prefix = f"objectives.{index}."
            item = _with_weights_found(item, source, problems, prefix)
            for key in _OBJECTIVE_FILES:
                node = item.entries.get(key)
                if not (isinstance(node, Scalar) and node.value in MOVING_MASKS):
                    item = _with_file_found(item, key, source, problems, prefix)
        items.append(item)
    return tree.replaced("objectives", replace(listed, items=tuple(items)), listed.mark)


# ── overrides ────────────────────────────────────────────────────────────────────────────────────


def _overridden(tree: Mapping, override: str, problems: list[Problem]) -> Mapping:
    """The tree with one `KEY=VALUE` set, as in `dream.octaves=3` or `objectives.0.weight=2`."""
    key, equals, text = override.partition("=")
    if not (key and equals):
        raise UsageError(
            f"--set {printable(override)}: write KEY=VALUE, as in --set dream.octaves=3"
        )
    mark = set_mark(key)
    value = _override_value(key.split("."), text, mark, problems)
    return _changed(tree, key, value, mark, problems)


def _changed(
    tree: Mapping, key: str, value: Node | None, mark: Mark, problems: list[Problem]
) -> Mapping:
    """The tree with `value` laid on what is at the dotted `key`, or a problem."""
    path = key.split(".")
    try:
        if value is None:
            raise PresetError("the value is missing")
        if path[0] == "extends":
            raise PresetError("cannot be set; choose the preset with --preset")
        if len(path) > MAX_DEPTH:
            raise PresetError(f"more than {MAX_DEPTH} levels deep")
        return _placed(tree, path, value, mark)
    except PresetError as error:
        problems.append(Problem(mark, str(error)))
        return tree


def _all_changed(tree: Mapping, change: Mapping, problems: list[Problem]) -> Mapping:
    """The tree with every entry of `change`, whose keys may be dotted, laid on it."""
    for key, value in change.entries.items():
        value = _curves_whole(value, tuple(_any_index(key.split("."))))
        tree = _changed(tree, key, value, change.keys[key], problems)
    return tree


def _override_value(path: list[str], text: str, mark: Mark, problems: list[Problem]) -> Node | None:
    """A curve's text is taken whole: to YAML, `0: (1), 60: (3)` would be something else."""
    steps = _any_index(path)
    if _moves(steps) and text.isprintable() and _KEYFRAMES.match(text):
        return Scalar(mark, text, text)
    value = compose(text, mark.source, problems, positions=False)
    return None if value is None else _curves_whole(value, tuple(steps))


def _any_index(path: list[str]) -> list[int | str]:
    """The path with 0 for all indices, which will do to tell what moves; they may be too long."""
    return [0 if step.isdecimal() else step for step in path[:MAX_DEPTH]]


def _placed(node: Node, path: list[str], value: Node, mark: Mark) -> Any:
    """`node` with `value` laid on what is at `path`; mappings missing on the way are made."""
    if not path:
        if isinstance(node, Mapping) and isinstance(value, Mapping):
            return value.laid_on(node)
        return value
    head, *rest = path
    if isinstance(node, Sequence):
        at = _index(head, node)
        items = list(node.items)
        items[at] = _placed(items[at], rest, value, mark)
        return Sequence(node.mark, tuple(items))
    outer = node if isinstance(node, Mapping) else Mapping(mark, {}, {})
    inner = outer.entries.get(head, Mapping(mark, {}, {}))
    return outer.replaced(head, _placed(inner, rest, value, mark), mark)


def _index(text: str, sequence: Sequence) -> int:
    last = len(sequence.items) - 1
    number = resolve(text)
    if type(number) is int and 0 <= number <= last:
        return number
    raise PresetError(f"no item {quoted(text)}; the list has items 0 to {last}")


# ── checking ─────────────────────────────────────────────────────────────────────────────────────


def _validated(tree: Mapping, problems: list[Problem]) -> Preset:
    """The tree as a Preset, or one PresetError for `problems` and all that is wrong in the tree."""
    inherits_unknown = "extends" in tree.entries
    tree = tree.without("extends")
    curves: dict[str, Curve] = {}
    still = _without_curves(tree, (), curves, problems := [*problems])
    try:
        preset = Preset.model_validate(plain(still))
    except ValidationError as error:
        found = _causes(error, tree)
        if inherits_unknown:
            found = [e for e in found if e["type"] != "missing"]
        problems = problems + [_explained(e, tree) for e in found]
    else:
        problems += _octaves_missed(preset, tree)
        if not problems:
            preset._curves = curves
            preset._places = _places(preset, tree)
            return preset
    raise refusal(sorted(problems, key=lambda problem: problem.mark))


def _octaves_missed(preset: Preset, tree: Mapping) -> Iterator[Problem]:
    """An objective for an octave that there is not would never be dreamed."""
    counts = {stage: getattr(preset, stage).octaves for stage in ("dream", "follow")}
    stage, count = max(counts.items(), key=lambda item: item[1])
    most = f"{stage}.octaves"
    by = " by --set" if _origin(tree, most) == _BY_OVERRIDE else ""
    for index, objective in enumerate(preset.objectives):
        chosen = () if objective.octaves == "all" else objective.octaves
        for at, octave in enumerate(chosen):
            if octave >= count:
                path, node, _ = locate(tree, ("objectives", index, "octaves", at))
                name = ".".join(map(str, path))
                wanted = f"from 0 (full size) to {count - 1}, as {most} is {count}{by}"
                yield Problem(node.mark, f"{name}: must be {wanted}, not {octave}")


def _places(preset: Preset, tree: Mapping) -> _Places:
    """Where each value that was written stands, and so each entry of a curve's mapping."""
    places = _Places()
    for path in _leaves(preset):
        steps = _steps(path)
        found, node, _ = locate(tree, tuple(steps))
        if len(found) < len(steps):
            continue
        places[path] = node.mark
        if isinstance(node, Mapping):
            places |= {f"{path}.{key}": value.mark for key, value in node.entries.items()}
    return places


def _causes(error: ValidationError, tree: Mapping, outer: "Steps" = ()) -> list[Any]:
    return complaints.causes(error, tree, outer, TAGS)


def _explained(error: Any, tree: Mapping) -> Problem:
    return complaints.explained(error, tree, _schema(), _alike)


def _alike(path: list[int | str], known: list[str]) -> list[str]:
    """A setting of that name elsewhere in a preset, else what is spelled like it here."""
    key = str(path[-1])
    elsewhere = [row.key for row in settings_table() if row.key.endswith(f".{key}")]
    return [row for row in elsewhere if row != _key(path)] or nearest(key, known, most=1)


# ── cycles ───────────────────────────────────────────────────────────────────────────────────────


def _cycles_spelled_out(tree: Mapping, problems: list[Problem]) -> Mapping:
    """The tree with an objective for each layer of a cycle, in its place."""
    listed = tree.entries.get("objectives")
    if not isinstance(listed, Sequence):
        return tree
    items: list[Node] = []
    for index, item in enumerate(listed.items):
        if isinstance(item, Mapping) and _is_tour(item):
            items += _spelled_out(item, index, tree, problems)
        else:
            items.append(item)
    return tree.replaced("objectives", replace(listed, items=tuple(items)), listed.mark)


def _is_tour(item: Mapping) -> bool:
    """One whose `cycle` is misspelled is meant as one all the same."""
    return "cycle" in item.entries or {"every", "fade"} <= item.entries.keys()


def _spelled_out(item: Mapping, index: int, tree: Mapping, problems: list[Problem]) -> list[Node]:
    """The objectives of one cycle. One that is wrong is a problem, and leaves a stand-in."""
    weight = item.entries.get("weight")
    moving = weight is not None and _is_curve(weight)
    checked = item.without("weight") if moving else item
    before = len(problems)
    if weight is not None and moving:
        problems += _not_one_expression(weight, f"objectives.{index}.weight")
    try:
        cycle = Cycle.model_validate(plain(checked))
    except ValidationError as error:
        problems += [_explained(each, tree) for each in _causes(error, tree, ("objectives", index))]
    else:
        if len(problems) == before:
            text = f"({plain(weight)})" if weight is not None and moving else f"{cycle.weight:.17g}"
            return cycles.spelled_out(item, cycle, text)
    return [Mapping(item.mark, {"layer": Scalar(item.mark, "", "")}, {"layer": item.mark})]


def _not_one_expression(weight: Node, path: str) -> list[Problem]:
    """What is wrong with the weight of a cycle that is no number."""
    problems: list[Problem] = []
    if isinstance(weight, Scalar) and ":" not in weight.text:
        _read_curve(weight, path, {}, problems)
    else:
        text = f"{path}: must be a number or an expression for a cycle, without keys"
        problems.append(Problem(weight.mark, text))
    return problems


# ── curves ───────────────────────────────────────────────────────────────────────────────────────

_KEYFRAMES = re.compile(r"""\s*(?!["'].*["']\s*$)[^\s{\[][^{\[]*?:""")
"""What tells keyframes on the command line from YAML: a mapping, or a text wholly in quotes."""
_CURVE = re.compile(r"[()+*/<>=&|~%]|:[^:,]*,|\b(?:t|s|sec|fps|max_f|pi|e|audio)\b")
"""What tells a curve, right or wrong, from a text that has no business there, such as `yes`."""

Steps = tuple[int | str, ...]
"""Where a value is in the tree."""


@functools.cache
def _moving() -> frozenset[str]:
    """Keys of the settings that may be curves, as `settings_table` spells them."""
    return frozenset(row.key for row in settings_table() if row.moves)


def _moves(path: Many[int | str]) -> bool:
    return _key(path) in _moving()


def _key(path: Many[int | str]) -> str:
    """`objectives[].weight` for every item of the list."""
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in path)[1:]


def _curves_whole(node: Node, path: Steps = ()) -> Any:
    """The tree with each curve's mapping as one value, that replaces what it is laid on."""
    if isinstance(node, Sequence):
        items = tuple(_curves_whole(item, (*path, i)) for i, item in enumerate(node.items))
        return replace(node, items=items)
    if not isinstance(node, Mapping):
        return node
    if _moves(path):
        return replace(node, whole=True)
    if path[-1:] == ("mask",):  # of a class it has no use for the file of another
        node = replace(node, whole=True)
    entries = {key: _curves_whole(value, (*path, key)) for key, value in node.entries.items()}
    return replace(node, entries=entries)


def _without_curves(
    node: Node, path: Steps, curves: "dict[str, Curve]", problems: list[Problem]
) -> Any:
    """The tree less its curves, which are read into `curves`."""
    if isinstance(node, Sequence):
        items = enumerate(node.items)
        found = tuple(_without_curves(item, (*path, i), curves, problems) for i, item in items)
        return replace(node, items=found)
    if not isinstance(node, Mapping):
        return node
    entries = {}
    ease = _ease_in(node)
    for key, value in node.entries.items():
        here = (*path, key)
        if _moves(here) and _is_curve(value):
            _read_curve(value, ".".join(map(str, here)), curves, problems, ease)
        else:
            entries[key] = _without_curves(value, here, curves, problems)
    return replace(node, entries=entries)


def _is_curve(node: Node) -> bool:
    if isinstance(node, Mapping):
        return True
    if not (isinstance(node, Scalar) and isinstance(node.value, str)):
        return False
    return bool(_CURVE.search(node.value)) or isinstance(resolve(node.value), int | float)


def _ease_in(node: Mapping) -> str:
    """The `ease` that stands beside a curve; a wrong one is left to the check of the settings."""
    ease = node.entries.get("ease")
    if isinstance(ease, Scalar) and ease.value in settings.EASES:
        return str(ease.value)
    return "linear"


def _read_curve(
    node: Node,
    path: str,
    curves: "dict[str, Curve]",
    problems: list[Problem],
    ease: str = "linear",
) -> None:
    """Parse one curve; what is wrong with it becomes a problem at its place."""
    from dreamflow import schedule  # NumPy takes longer to load than all presets

    try:
        curves[path] = schedule.parse(plain(node), ease)
    except schedule.CurveError as error:
        at = node
        if isinstance(node, Mapping) and error.entry in node.entries:
            at = node.entries[error.entry]
        text = str(error) if node.mark == set_mark(path) else f"{path}: {error}"
        problems.append(Problem(at.mark, text))


# ── describing ───────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _schema() -> dict[str, Any]:
    """The JSON Schema that pydantic derives from the settings classes, without references."""
    schema = complaints.inlined(Preset.model_json_schema())
    cycle = complaints.inlined(Cycle.model_json_schema())
    schema["properties"]["objectives"]["items"]["anyOf"].append(cycle)
    return schema


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a preset file, for editors."""
    schema = _with_curves_allowed(_schema())
    *_, cycle = schema["properties"]["objectives"]["items"]["anyOf"]
    del cycle["properties"]["weight"]["anyOf"][-1]  # it takes no keys
    properties = {
        "extends": {"type": "string", "description": "The preset this one is laid on."},
        **schema["properties"],
    }
    del schema["required"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "dreamflow preset",
        "properties": properties,
        "anyOf": [{"required": ["extends"]}, {"required": ["objectives"]}],
    }


_CURVE_SCHEMAS = [
    {"type": "string", "description": "Keyframes or an expression, as in 0:(1), 5s:(2+sin(t/9))."},
    {
        "type": "object",
        "description": "Keys in frames, seconds (5s) or per cent (50%), and how to ease.",
        "properties": {"ease": {"enum": list(settings.EASES)}},
        "patternProperties": {
            r"^[0-9]+(\.[0-9]+)?[fs%]?$": {"anyOf": [{"type": "number"}, {"type": "string"}]}
        },
        "additionalProperties": False,
    },
]


def _with_curves_allowed(schema: Any) -> Any:
    """The schema with a curve as another choice wherever a setting can move."""
    if isinstance(schema, list):
        return [_with_curves_allowed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("moves") is not True:
        return {key: _with_curves_allowed(value) for key, value in schema.items()}
    bounds = {key: schema[key] for key in ("type", "minimum", "maximum")}
    rest = {key: value for key, value in schema.items() if key not in bounds and key != "moves"}
    return {**rest, "anyOf": [bounds, *_CURVE_SCHEMAS]}


@dataclass(frozen=True)
class SettingRow:
    """One setting as the documentation lists it, every cell a text."""

    key: str
    allowed: str
    unit: str
    default: str
    help: str
    moves: str
    """`yes` for what may be a curve."""


@functools.cache
def settings_table() -> tuple[SettingRow, ...]:
    """Every setting of a preset, in order; `objectives[]` stands for each of the list."""
    rows: dict[str, SettingRow] = {}
    for row in _rows(_schema()["properties"], ""):
        rows.setdefault(row.key, row)  # what two kinds of item share stands with the first
    return tuple(rows.values())


def _rows(properties: dict[str, Any], prefix: str) -> Iterator[SettingRow]:
    for name, part in properties.items():
        key = prefix + name
        if "properties" in part:
            yield from _rows(part["properties"], f"{key}.")
            continue
        unit, default = part.get("unit", ""), str(part.get("default", ""))
        moves = "yes" if part.get("moves") else ""
        yield SettingRow(key, settings.allowed(part), unit, default, part["description"], moves)
        for arm in arms(part):
            yield from _rows(arm, f"{key}.")
        for arm in arms(part.get("items", {})):
            yield from _rows(arm, f"{key}[].")


def settings_markdown() -> str:
    """`settings_table()` as a Markdown table."""
    lines = ["| key | takes | unit | default | moves | what it does |", "|---|---|---|---|---|---|"]
    for row in settings_table():
        default = f"`{row.default}`" if row.default else ""
        cells = (f"`{row.key}`", row.allowed, row.unit, default, row.moves, row.help)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def dump(preset: Preset) -> str:
    """The preset as YAML with every value spelled out; it reads back to an equal preset."""
    tree = preset.model_dump(mode="json", by_alias=True, exclude_none=True)
    for path, curve in preset._curves.items():
        *outer, last = _steps(path)
        holder: Any = tree
        for step in outer:
            holder = holder[step]
        holder[last] = _Keys(curve.source) if isinstance(curve.source, dict) else curve.source
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def annotated(preset: Preset, origins: dict[str, str]) -> str:
    """`dump(preset)` with the origin of each value as a comment; it reads back all the same."""
    lines = dump(preset).splitlines()
    values = _value_lines(yaml.compose("\n".join(lines)), origins)
    ends = {line: origins[path] for path, line in values}
    width = max(len(lines[line]) for line in ends if len(lines[line]) <= _COMMENT_COLUMN)
    for line, origin in ends.items():
        lines[line] = f"{lines[line]:{width}}  # {origin}"
    return "\n".join(lines) + "\n"


def shown(name_or_path: str, *, overrides: Many[str] = ()) -> str:
    """`annotated`, with the files that a preset names as a preset in its folder names them.

    Saved beside the preset it reads back equal, and so it does anywhere if it names no file. Files
    that only an override can name, since they are elsewhere, are warned of.
    """
    preset, origins = load_with_origins(name_or_path, overrides=overrides)
    is_file = _is_file_name(name_or_path)
    home = _find(name_or_path) if is_file else _Source(Path("preset.yaml"), "")
    named = {key: file for key, file in files(preset).items() if file}
    if not named:
        return annotated(preset, origins)
    for key, file in named.items():
        preset = with_file(preset, key, _named_from(home, key, file))
    where = f"beside {home.shown}" if is_file else "in the folder you are in"
    return f"# Save it {where}: from there it names files.\n{annotated(preset, origins)}"


def files(preset: Preset) -> dict[str, str]:
    """The files that a preset names, by setting, as seen from here; empty where it names none."""
    found = {
        "audio": preset.audio,
        **_file_of("mask", preset.mask),
        "network": preset.network.partition(":")[2],
    }
    for index, objective in enumerate(preset.objectives):
        found[f"objectives.{index}.network"] = objective.network.partition(":")[2]
        for key in _OBJECTIVE_FILES:
            name = getattr(objective, key, "")
            if name not in MOVING_MASKS:
                found |= _file_of(f"objectives.{index}.{key}", name)
    return found


def _file_of(path: str, value: Any) -> dict[str, str]:
    """The file that a setting may name, in a text or a mask's mapping; numbers are none."""
    if isinstance(value, settings.FileMask):
        return {f"{path}.file": value.file}
    return {path: value} if isinstance(value, str) else {}


def with_file(preset: Preset, key: str, file: str) -> Preset:
    """The preset with another name for the file of a setting, as `files` spells it."""
    path = key.split(".")
    if path[-1] == "network":
        at = preset if len(path) == 1 else preset.objectives[int(path[1])]
        file = f"{at.network.partition(':')[0]}:{file}"
    return _with_value(preset, path, file)


def _named_from(home: _Source, key: str, file: str) -> str:
    """What a preset at `home` calls a file."""
    name = os.path.relpath(file, home.path.parent)
    try:
        _refuse_outside(name, home)
    except PresetError:
        logger.warning(
            "%s: %s is outside the preset's folder, where no preset may name it: "
            "give it with --set again",
            *(key, printable(file)),
        )
        return file
    return name


def check(preset: Preset) -> None:
    """Refuse what reading lets pass and a render would not: files that are not there, and curves.

    Raises PresetError; for what is tried of curves see `Preset.rehearse`.
    """
    wrong = [
        str(preset.complaint(key, f": there is no file {quoted(file)}"))
        for key, file in files(preset).items()
        if file and not _is_there(key, file)
    ]
    try:
        preset.rehearse()
    except PresetError as error:
        wrong.append(str(error))
    if wrong:
        raise together(wrong)


def _is_there(key: str, file: str) -> bool:
    if not re.search(r"(^|\.)mask(\.file)?$", key):
        return os.path.isfile(file)
    try:
        return all(map(os.path.isfile, sequences.files_of(Path(file))))
    except DreamflowError:
        return False


_COMMENT_COLUMN = 40
"""Comments are aligned for values that end before it; after longer ones they follow at once."""


def _value_lines(
    node: yaml.Node, known: dict[str, str], path: str = ""
) -> Iterator[tuple[str, int]]:
    """The dotted path of every value below `node` that is `known`, and the line it ends on."""
    if path in known:
        yield path, node.end_mark.line
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _value_lines(value, known, f"{path}.{key.value}".lstrip("."))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _value_lines(item, known, f"{path}.{index}")


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.2 would read as something other than a text, such as `1e3`."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if resolve(text) == text else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


class _Keys(dict[str, Any]):
    """A curve's mapping, written on one line."""


def _represent_keys(dumper: yaml.SafeDumper, keys: _Keys) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", keys, flow_style=True)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(_Keys, _represent_keys)


def _leaves(value: Any, path: str = "") -> Iterator[str]:
    """The dotted paths of all single values in a preset."""
    if isinstance(value, Stage):
        for name, field in type(value).model_fields.items():
            key = field.alias or name
            yield from _leaves(getattr(value, name), f"{path}.{key}".lstrip("."))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}.{index}")
    else:
        yield path


def _origin(tree: Mapping, path: str) -> str:
    steps = _steps(path)
    found, node, _ = locate(tree, tuple(steps))
    if len(found) < len(steps):
        return "default"
    return f"{node.mark.source}:{node.mark.line}" if node.mark.line else _BY_OVERRIDE


_BY_OVERRIDE = "--set"


# ── the shipped ones ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class PresetSummary:
    """One line of `presets list`."""

    name: str
    description: str
    network: str
    family: str
    """One of `FAMILIES`."""


FAMILIES = (
    *(
        "creatures",
        "textures",
        "strokes",
        "subtle",
        "wild",
        "music",
        "tours",
        "zooms",
        "other networks",
    ),
)
"""The kinds of look that come with dreamflow, in the order they are listed."""


def shipped() -> list[PresetSummary]:
    """The presets that come with dreamflow, by family and name."""
    summaries = [_summary(path.stem) for path in _shipped_paths()]
    return sorted(summaries, key=lambda each: FAMILIES.index(each.family))


def _summary(name: str) -> PresetSummary:
    """What a shipped preset says of itself; its curves are not read, which would take NumPy."""
    entries = _read_levels(_find_shipped(name), []).entries
    told = {key: plain(node) for key, node in entries.items() if key in _SUMMARY}
    defaults = {key: Preset.model_fields[key].default for key in _SUMMARY}
    return PresetSummary(name, **(defaults | told))


_SUMMARY = ("description", "network", "family")


def _shipped_paths() -> list[Path]:
    package = Path(__file__).parent
    installed = package / "presets"
    folder = installed if installed.is_dir() else package.parent / "presets"
    return sorted(folder.glob("*.yaml"))
