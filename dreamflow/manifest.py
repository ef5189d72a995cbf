"""A manifest: many renders in one YAML file, each checked before any begins.

    defaults: {size: 640, output: "night/{stem}-{preset}.mp4"}
    jobs:
      - {input: clips/*.mp4, preset: [acid, dogs], seed: [0, 1]}
      - {kind: zoom, input: moon.jpg, frames: 300, set: {camera.zoom: 1.03}}

Convention. Jobs are expanded in file order; within one, by inputs (those of a glob sorted
naturally), then presets, then seeds, the last changing fastest. All paths count from the manifest's
folder. Reading is that of presets: every complaint points at its line and column. Free of torch.
"""

from __future__ import annotations

import glob
import itertools
import os
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from dreamflow import complaints
from dreamflow import preset as presets
from dreamflow.complaints import did_you_mean, nearest
from dreamflow.errors import DreamflowError, PresetError
from dreamflow.frames import Box, Moment, parse_rate
from dreamflow.preset import Preset
from dreamflow.settings import Stage, setting
from dreamflow.strict_yaml import (
    Mapping,
    Mark,
    Node,
    Problem,
    Scalar,
    compose,
    plain,
    quoted,
    read_text,
    refusal,
    together,
    written,
)
from dreamflow.strict_yaml import Sequence as List
from dreamflow.video.sequences import PICTURE_SUFFIXES, natural_key

MAX_RENDERS = 100_000
"""How many renders a manifest may ask for; more is a slip of a matrix."""

# ── what a job may say ───────────────────────────────────────────────────────────────────────────

_Name = Annotated[str, Field(min_length=1)]
_Names = _Name | Annotated[tuple[_Name, ...], Field(min_length=1)]
_SeedNumber = Annotated[int, Field(ge=0, le=2**32 - 1)]
_Time = (
    Annotated[
        str,
        Field(
            pattern=r"^([0-9]{1,9}f|([0-9]{1,3}:)?[0-9]{1,9}:[0-9]{1,2}(\.[0-9]{1,9})?)$",
            examples=["1:02.5", "48f"],
        ),
    ]
    | Annotated[float, Field(ge=0, le=1e9)]
)
_Size = (
    Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}$", examples=["640x360"])]
    | Annotated[int, Field(ge=1, le=999_999)]
)
_Rate = (
    Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}/[1-9][0-9]{0,8}$", examples=["24000/1001"])]
    | Annotated[float, Field(gt=0, le=1000)]
)


class _Job(Stage):
    """What jobs of all kinds have in common."""

    output: str = setting(
        ..., "Name of the result, with {stem}, {preset}, {seed} and {index} (001, 002 ...) in it."
    )
    preset: _Names = setting("base", "The look, or several: names or files beside the manifest.")
    seed: _SeedNumber | Annotated[tuple[_SeedNumber, ...], Field(min_length=1)] | None = setting(
        None, "Another take, or several; without it the preset's own."
    )
    size: _Size | None = setting(None, "Size of the result: 640 for the long side, or 640x360.")
    overwrite: bool = setting(False, "Replace what is at `output`, unless it is this very render.")

    @property
    def preset_names(self) -> tuple[str, ...]:
        return _several(self.preset)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Files and globs; none for a zoom that grows from a colour or noise."""
        return _several(getattr(self, "input", None) or ())

    @property
    def seeds(self) -> tuple[int | None, ...]:
        return self.seed if isinstance(self.seed, tuple) else (self.seed,)

    @property
    def box(self) -> Box | None:
        return None if self.size is None else Box.parse(str(self.size))


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


_INPUT = setting(..., "File, folder of stills or glob (clips/*.mp4), or a list of them.")
_AUDIO = setting(None, "Sound file that `audio.*` in expressions listens to.", min_length=1)
_FPS = setting(None, "Frame rate of the result: 25, 23.976 or 24000/1001.")


class VideoJob(_Job):
    """Clips dreamed with their sound."""

    kind: Literal["video"] = setting("video", "What to make.")
    input: _Names = _INPUT
    start: _Time | None = setting(None, "Begin there: 12.5 (seconds), 1:02.5 or 48f (frames).")
    end: _Time | None = setting(None, "Stop before that.")
    fps: _Rate | None = _FPS
    audio: str | None = _AUDIO
    allow_truncated: bool = setting(False, "Render what there is of a cut-off file.")
    strict: bool = setting(False, "Stop at a frame that cannot be read.")


class ImageJob(_Job):
    """Pictures."""

    kind: Literal["image"] = setting("image", "What to make.")
    input: _Names = _INPUT


class ZoomJob(_Job):
    """Endless zooms."""

    kind: Literal["zoom"] = setting("zoom", "What to make.")
    preset: _Names = setting("dive", "The look, or several: names or files beside the manifest.")
    input: _Names | None = setting(None, "Picture to dive into, or a glob, or a list of them.")
    solid: str | None = setting(None, "Grow from one colour: #20304a or teal.", min_length=1)
    noise: Literal["pink", "white"] | None = setting(None, "Grow from random grain.")
    frames: Annotated[int, Field(ge=1, le=10_000_000)] | None = setting(
        None, "Length of the film in frames."
    )
    duration: _Time | None = setting(None, "The same as time: 12.5 (seconds), 1:02.5 or 300f.")
    fps: _Rate | None = _FPS
    audio: str | None = _AUDIO
    loop: bool = setting(False, "The end runs on into the beginning, without a seam.")
    ping_pong: bool = setting(False, "There and back again, in the same length.")

    @model_validator(mode="after")
    def _grows_from_one_thing(self) -> Self:
        if sum(each is not None for each in (self.input, self.solid, self.noise)) != 1:
            raise ValueError("a zoom grows from one thing: give `input`, `solid` or `noise`")
        return self


AnyJob = VideoJob | ImageJob | ZoomJob
KINDS: dict[str, type[AnyJob]] = {"video": VideoJob, "zoom": ZoomJob, "image": ImageJob}


def moment(value: str | float | None) -> Moment | None:
    """A time of a manifest."""
    return None if value is None else Moment.parse(_digits(value))


def rate(value: str | float | None) -> Fraction | None:
    """A frame rate of a manifest, exactly: 23.976 is 24000/1001."""
    return None if value is None else parse_rate(_digits(value))


def _digits(value: str | float) -> str:
    """A number as it was written, without an exponent or `.0`."""
    if isinstance(value, str):
        return value
    return f"{value:.9f}".rstrip("0").rstrip(".")


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Entry:
    """One render that a manifest asks for."""

    job: AnyJob
    mark: Mark
    """Where the job stands."""
    input: Path | None
    preset_name: str
    preset: Preset
    """With `set` and the seed in it."""
    index: int
    """Place among all renders, from 1."""
    output: str
    """Path of the result; a trailing `/` means a folder of pictures."""
    output_mark: Mark
    globbed: bool = field(default=False, compare=False)
    """Whether a glob found the input."""


def read(
    path: Path,
    output_folder: Path | None = None,
    *,
    dropped: Path | None = None,
    first_index: int = 1,
) -> list[Entry]:
    """All renders of a manifest, in order, their results named from `output_folder`.

    Without it from the manifest's own folder. With `dropped` they are those of that file, in the
    place of all inputs, by the jobs that are for such files. Raises PresetError with one line for
    each thing wrong, those in presets included.
    """
    source = complaints.printable(str(path))
    problems: list[Problem] = []
    tree = compose(read_text(path, source), source, problems)
    defaults, jobs = _parts(tree, source, problems)
    if dropped is not None:
        jobs = [_on(dropped, job) for job in jobs if _is_for(dropped, job, defaults)]
    checked = [_checked(job, defaults, problems) for job in jobs]
    lines: list[str] = []
    entries: list[Entry] = []
    reader = _Reader(path, output_folder or path.parent, problems, lines)
    for job in checked:
        if job is not None:
            entries += reader.expanded(job)
    entries = _numbered(_without_results(entries), first_index)
    problems += _too_long(entries)
    problems += _collisions(entries)
    if problems or lines:
        first_at: dict[Mark, Problem] = {}
        for problem in sorted(problems, key=lambda each: each.mark):
            first_at.setdefault(problem.mark, problem)
        raise together([*map(str, first_at.values()), *lines])
    return entries


@dataclass(frozen=True)
class _Checked:
    """A job whose own keys are right, with the places of its values."""

    job: AnyJob
    tree: Mapping
    changes: tuple[Mapping, ...]
    """What `set` of the defaults and of the job lay on each preset."""

    def mark(self, key: str, at: int = 0) -> Mark:
        """Where a value, or an item of a list, was written; else where the job stands."""
        path, node, _ = complaints.locate(self.tree, (key, at))
        return node.mark if path else self.tree.mark


def _parts(
    tree: Node | None, source: str, problems: list[Problem]
) -> tuple[Mapping, list[Mapping]]:
    """The defaults and the jobs of a manifest."""
    if tree is None:
        raise refusal([*problems, Problem(Mark(source, 1, 1), "empty; a manifest has `jobs`")])
    if not isinstance(tree, Mapping):
        text = f"a manifest is a mapping with `jobs`, not {written(tree)}"
        raise refusal([*problems, Problem(tree.mark, text)])
    for key in tree.entries.keys() - {"defaults", "jobs"}:
        hint = did_you_mean(nearest(key, ["defaults", "jobs"])) or " (allowed: defaults, jobs)"
        problems.append(Problem(tree.keys[key], f"unknown key {quoted(key)}{hint}"))
    defaults = tree.entries.get("defaults", Mapping(tree.mark, {}, {}))
    if not isinstance(defaults, Mapping):
        text = f"defaults: must be a mapping of a job's keys, not {written(defaults)}"
        problems.append(Problem(defaults.mark, text))
        defaults = Mapping(tree.mark, {}, {})
    problems += _unknown_defaults(defaults)
    return defaults, list(_jobs(tree, problems))


def _jobs(tree: Mapping, problems: list[Problem]) -> Iterator[Mapping]:
    listed = tree.entries.get("jobs")
    if listed is None:
        problems.append(Problem(tree.mark, "jobs is missing; give a list of jobs"))
    elif not isinstance(listed, List) or not listed.items:
        text = f"jobs: must be a list of jobs, not {written(listed)}"
        problems.append(Problem(listed.mark, text))
    else:
        for job in listed.items:
            if isinstance(job, Mapping):
                yield job
            else:
                text = f"a job is a mapping with `input` and `output`, not {written(job)}"
                problems.append(Problem(job.mark, text))


def _is_for(file: Path, job: Mapping, defaults: Mapping) -> bool:
    """Whether a job makes something of a file of that name: clips are for videos, pictures not."""
    kind = job.entries.get("kind", defaults.entries.get("kind"))
    is_picture = file.suffix.lower() in PICTURE_SUFFIXES
    return is_picture == (isinstance(kind, Scalar) and kind.value in ("image", "zoom"))


def _on(file: Path, job: Mapping) -> Mapping:
    text = str(file.absolute())
    job = job.without("solid").without("noise")
    return job.replaced("input", Scalar(job.mark, text, text), job.mark)


def _unknown_defaults(defaults: Mapping) -> Iterator[Problem]:
    known = list(dict.fromkeys(key for kind in KINDS for key in _schema(kind)["properties"]))
    for key in defaults.entries:
        if key not in known:
            hint = did_you_mean(_alike([key], known)) or f" (allowed: {', '.join(known)})"
            yield Problem(defaults.keys[key], f"defaults: unknown key {quoted(key)}{hint}")


def _checked(job: Mapping, defaults: Mapping, problems: list[Problem]) -> _Checked | None:
    """A job laid on the defaults that its kind has a use for; what is wrong becomes a problem."""
    kind = job.entries.get("kind", defaults.entries.get("kind"))
    name = "video" if kind is None else kind.value if isinstance(kind, Scalar) else None
    if kind is not None and name not in KINDS:
        text = f"kind: must be one of {', '.join(KINDS)}, not {written(kind)}"
        problems.append(Problem(kind.mark, text))
        return None
    schema = _schema(str(name))
    changes = tuple(_changes([defaults, job], problems))
    unfit = [key for key in defaults.entries if key not in schema["properties"]]
    base = defaults.without("set")
    for key in unfit:
        base = base.without(key)
    for key in ("input", "solid", "noise"):  # a job's own beginning replaces any other
        if {"input", "solid", "noise"} & job.entries.keys():
            base = base.without(key)
    tree = replace(job.without("set").laid_on(base), mark=job.mark)
    try:
        return _Checked(KINDS[str(name)].model_validate(plain(tree)), tree, changes)
    except ValidationError as error:
        problems += (
            complaints.explained(each, tree, schema, _alike)
            for each in complaints.causes(error, tree)
        )
        return None


def _changes(levels: Iterable[Mapping], problems: list[Problem]) -> Iterator[Mapping]:
    for level in levels:
        change = level.entries.get("set")
        if isinstance(change, Mapping):
            yield change
        elif change is not None:
            text = f"set: must be a mapping of a preset's settings, not {written(change)}"
            problems.append(Problem(change.mark, text))


def _alike(path: complaints.Path, known: list[str]) -> list[str]:
    """A key of a job spelled like it, or the setting of a preset of that name."""
    key = str(path[-1])
    settings = [row.key for row in presets.settings_table() if "[]" not in row.key]
    inside = [f"set: {name}" for name in settings if name == key or name.endswith(f".{key}")]
    return nearest(key, known, most=1) or inside[:1]


# ── expanding ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Reader:
    """Makes renders of jobs; what is wrong goes into `problems`, or `lines` if it has its place."""

    path: Path
    output_folder: Path
    problems: list[Problem]
    lines: list[str]

    def expanded(self, checked: _Checked) -> Iterator[Entry]:
        """The renders of one job, not yet numbered."""
        twice = list(_listed_twice(checked))
        self.problems.extend(twice)
        if twice:
            return
        inputs = list(self._inputs(checked))
        takes = list(self._takes(checked))
        template = self._template(checked)
        if template is None:
            return
        if len(inputs) * len(takes) > MAX_RENDERS:
            text = f"{len(inputs) * len(takes)} renders; a manifest has at most {MAX_RENDERS}"
            self.problems.append(Problem(checked.tree.mark, text))
            return
        for (file, globbed), (name, preset) in itertools.product(inputs, takes):
            mark, output_mark = checked.tree.mark, checked.mark("output")
            entry = Entry(checked.job, mark, file, name, preset, 0, template, output_mark, globbed)
            yield replace(entry, output=_named(entry, self.output_folder))

    def _inputs(self, checked: _Checked) -> Iterator[tuple[Path | None, bool]]:
        """The files that a job begins from, each once, and whether a glob found them."""
        if not checked.job.inputs:
            yield None, False
        listed: set[Path] = set()
        for path, globbed in self._listed(checked):
            if path not in listed:
                listed.add(path)
                yield path, globbed

    def _listed(self, checked: _Checked) -> Iterator[tuple[Path, bool]]:
        for at, text in enumerate(checked.job.inputs):
            path = self.path.parent / text
            if path.exists() or not glob.has_magic(text):
                yield path, False
                continue
            found = sorted(glob.glob(str(path), recursive=True), key=_natural)
            if not found:
                mark = checked.mark("input", at)
                self.problems.append(Problem(mark, f"input: no file matches {quoted(text)}"))
            yield from ((Path(each), True) for each in found)

    def _takes(self, checked: _Checked) -> Iterator[tuple[str, Preset]]:
        """The presets of a job, each with each seed."""
        for at, name in enumerate(checked.job.preset_names):
            try:
                preset = self._preset(name, checked)
            except DreamflowError as error:
                self._blame(error, checked.mark("preset", at))
                continue
            for seed in checked.job.seeds:
                taken = preset if seed is None else preset.model_copy(update={"seed": seed})
                yield name, taken

    def _preset(self, name: str, checked: _Checked) -> Preset:
        is_file = "/" in name or name.endswith((".yaml", ".yml"))
        place = str(self.path.parent / name) if is_file else name
        preset = presets.load_under(place, checked.changes, self.path)
        audio = getattr(checked.job, "audio", None)
        if audio is None:
            return preset
        return preset.model_copy(update={"audio": str(self.path.parent / audio)})

    def _blame(self, error: DreamflowError, mark: Mark) -> None:
        """Say what is wrong with a preset: where it stands, if it says so, else at `mark`."""
        for line in str(error).splitlines():
            if _has_place(line) or line.startswith("and "):
                self.lines.append(line)
            else:
                self.problems.append(Problem(mark, f"preset: {line}"))

    def _template(self, checked: _Checked) -> str | None:
        """The output's name with its fields; None and a problem for one that may not be."""
        try:
            _check_template(checked.job.output)
        except PresetError as error:
            self.problems.append(Problem(checked.mark("output"), f"output: {error}"))
            return None
        return checked.job.output


def _listed_twice(checked: _Checked) -> Iterator[Problem]:
    """Values that a list has more than once: a slip, and the same render again."""
    for key in ("input", "preset", "seed"):
        values, before = getattr(checked.job, key, None), set[Any]()
        for at, value in enumerate(values if isinstance(values, tuple) else ()):
            if value in before:
                text = f"{key}: {quoted(str(value))} is listed twice"
                yield Problem(checked.mark(key, at), text)
            before.add(value)


def _has_place(line: str) -> bool:
    """Whether a complaint begins with `file:line:column:`."""
    head = line.split(": ")[0].rsplit(":", 2)
    return len(head) == 3 and all(part.isdecimal() for part in head[1:])


def _natural(name: str) -> list[Any]:
    return [natural_key(Path(part)) for part in Path(name).parts]


def _without_results(entries: list[Entry]) -> list[Entry]:
    """Without what a glob found of the results of an earlier run."""
    results = {_identity(entry.output) for entry in _numbered(entries)}
    return [
        entry
        for entry in entries
        if not (entry.globbed and entry.input and _identity(str(entry.input)) in results)
    ]


def _numbered(entries: list[Entry], first: int = 1) -> list[Entry]:
    return [
        replace(entry, index=index, output=entry.output.replace(_INDEX, f"{index:03}"))
        for index, entry in enumerate(entries, first)
    ]


def _identity(path: str) -> str:
    """A path in one way of writing, where it is not known to exist; a link is not followed."""
    folder, name = os.path.split(path.rstrip("/"))
    return os.path.join(os.path.realpath(folder), name)


def _too_long(entries: list[Entry]) -> Iterator[Problem]:
    for entry in entries:
        for name in Path(entry.output).parts:
            size = len(os.fsencode(name))
            if size > _MAX_NAME_BYTES:
                text = f"output: a name of {size} bytes, {quoted(name[:20])}...; a file's has at "
                yield Problem(entry.output_mark, f"{text}most {_MAX_NAME_BYTES}")


def _collisions(entries: list[Entry]) -> Iterator[Problem]:
    """Two renders with one name, one inside another's, and one over what another one reads."""
    named: dict[str, Entry] = {}
    for entry in entries:
        other = named.setdefault(_identity(entry.output), entry)
        if other is not entry:
            text = (
                f"output: {entry.output} is that of two renders, {_what(other)} (line "
                f"{other.mark.line}) and {_what(entry)}: tell them apart with {{stem}}, "
                "{preset}, {seed} or {index}"
            )
            yield Problem(entry.output_mark, text)
    read = {name for each in entries for file in _read_by(each) for name in _identities(file)}
    for identity, entry in named.items():
        if identity in read:
            text = f"output: {entry.output} is read by this very batch: give it another name"
            yield Problem(entry.output_mark, text)
        around = next((str(each) for each in Path(identity).parents if str(each) in named), None)
        if around:
            text = f"output: {entry.output} lies in {named[around].output}, a result itself"
            yield Problem(entry.output_mark, f"{text}: give it another folder")


def _read_by(entry: Entry) -> Iterator[Path]:
    """Its input, and what its preset names: masks, pictures, sound."""
    if entry.input:
        yield entry.input
    yield from (Path(file) for file in presets.files(entry.preset).values() if file)


def _identities(path: Path) -> set[str]:
    """What a file goes by: its own name, and that of what it is a link to."""
    return {_identity(str(path)), os.path.realpath(path)}


def _what(entry: Entry) -> str:
    name = entry.input.name if entry.input else entry.job.kind
    return f"{complaints.printable(name)} as {entry.preset_name}, seed {entry.preset.seed}"


# ── names of results ─────────────────────────────────────────────────────────────────────────────

FIELDS = ("stem", "preset", "seed", "index")
_MAX_NAME_BYTES = 255
_INDEX = "\0"
"""Stands for the number of a render until that is known; no name can hold it."""


def _check_template(template: str) -> None:
    """Refuse fields that there are not, and names that lead out of the output's folder."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise PresetError(f"{error} (a brace itself is written twice)") from None
    for _, name, spec, conversion in parsed:
        if name is not None and (name not in FIELDS or spec or conversion):
            hint = did_you_mean(nearest(name, FIELDS, most=1))
            known = ", ".join(f"{{{each}}}" for each in FIELDS)
            raise PresetError(f"unknown field {quoted(f'{{{name}}}')}{hint}; there are {known}")
    if not template.isprintable() or "\\" in template:
        raise PresetError(f"has signs that no name should: {quoted(template)}")
    if template.startswith(("/", "~")) or template[1:3] == ":/":
        raise PresetError(
            f"must count from the folder of results, not be {quoted(template)}: "
            "choose that folder with --output"
        )
    if not template.strip("/") or {"..", ".", ""} & set(template.rstrip("/").split("/")):
        raise PresetError(f"must be the plain path of a result, not {quoted(template)}")


def _named(entry: Entry, folder: Path) -> str:
    """The path of a render's result, its number left open."""
    stem = entry.input.stem if entry.input else _growing_from(entry.job)
    values = {
        "stem": _safe(stem),
        "preset": _safe(Path(entry.preset_name).stem),
        "seed": str(entry.preset.seed),
        "index": _INDEX,
    }
    return str(folder) + "/" + entry.output.format_map(values)


def _growing_from(job: AnyJob) -> str:
    """What a zoom without a picture is called."""
    assert isinstance(job, ZoomJob)
    return job.solid.lstrip("#") if job.solid else f"{job.noise}-noise"


def _safe(text: str) -> str:
    """A value as a part of a name: it leads nowhere, hides nothing and fits on one line."""
    plain_text = "".join(sign if sign.isprintable() and sign not in "/\\" else "_" for sign in text)
    bare = plain_text.lstrip(".")
    return "_" * (len(plain_text) - len(bare)) + bare


# ── describing ───────────────────────────────────────────────────────────────────────────────────


def _schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a job of that kind, without references."""
    schema = _without_null(complaints.inlined(KINDS[kind].model_json_schema()))
    schema["properties"]["set"] = {
        "type": "object",
        "description": "Settings laid on each preset, as dream: {octaves: 3} or dream.octaves: 3.",
        "properties": presets.json_schema()["properties"],
    }
    return schema


def _without_null(schema: Any) -> Any:
    """To leave a key out says the same as null; nobody needs to be told of both."""
    if isinstance(schema, list):
        return [_without_null(part) for part in schema if part != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    whole = {key: _without_null(part) for key, part in schema.items() if part is not None}
    if len(choices := whole.get("anyOf", ())) == 1:
        return {**whole.pop("anyOf")[0], **whole}
    return {**whole, "anyOf": list(choices)} if choices else whole


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a manifest, for editors."""
    # Whatever else a job needs may stand in the defaults.
    kinds = [_schema(kind) | {"required": ["kind"] * (kind != "video")} for kind in KINDS]
    defaults: dict[str, Any] = {}
    for kind in KINDS:
        defaults = {**_schema(kind)["properties"], **defaults}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dreamflow manifest",
        "type": "object",
        "additionalProperties": False,
        "required": ["jobs"],
        "properties": {
            "defaults": {
                "type": "object",
                "description": "What jobs have in common.",
                "properties": {**defaults, "kind": {"enum": list(KINDS)}},
                "additionalProperties": False,
            },
            "jobs": {"type": "array", "minItems": 1, "items": {"anyOf": kinds}},
        },
    }
