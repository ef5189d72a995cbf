"""What a settings class finds wrong with a file's tree, in words and at the place it is about.

Presets and manifests are both read by `strict_yaml` and checked by pydantic. Here pydantic's errors
become lines such as `night.yaml:9:17: seed: must be a whole number from 0 to 9, not 'one'`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from dreamflow import settings
from dreamflow.strict_yaml import Mapping, Mark, Node, Problem, Scalar, quoted, written
from dreamflow.strict_yaml import Sequence as List

Path = list[int | str]
"""Where a value is in the tree: keys of mappings, places in lists."""
Steps = tuple[int | str, ...]
"""The same."""


Alike = Callable[[Path, list[str]], list[str]]
"""What may have been meant by an unknown key at the end of a path, given those known there."""


def causes(
    error: ValidationError, tree: Mapping, outer: Steps = (), tags: Collection[str] = ()
) -> list[Any]:
    """What pydantic found in what stands at `outer`, less what it says of lists as a whole.

    That one is too short, or is no word such as `all`, follows from items that are not valid.
    `tags` are its names for the arms of choices, which are no steps of the tree.
    """
    found: list[Any] = error.errors(include_url=False)
    paths: list[Steps] = []
    for each in found:
        inner = (step for step in each["loc"] if step not in tags)
        each["loc"] = (*outer, *inner)
        paths.append(tuple(locate(tree, each["loc"])[0]))
    holders = {path[:at] for path in paths for at in range(len(path))}

    def follows(each: Any, path: Steps) -> bool:
        is_list = isinstance(locate(tree, path)[1], List)
        return is_list and path in holders and each["type"] != "too_long"

    return [each for each, path in zip(found, paths, strict=True) if not follows(each, path)]


def explained(error: Any, tree: Mapping, schema: dict[str, Any], alike: Alike) -> Problem:
    """A pydantic error as a person would put it, at the place it is about.

    `schema` is the JSON Schema, without references, of what the tree should be.
    """
    path, node, mark = locate(tree, error["loc"])
    name = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        return Problem(mark, _unknown_key(path, tree, schema, alike))
    if error["type"] == "missing":
        missing = [*path, error["loc"][len(path)]]
        text = f"{'.'.join(map(str, missing))} is missing; give {allowed(schema, missing)}"
        return Problem(node.mark, text)
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
    else:
        what = written(node)
        if error["type"] in ("too_short", "too_long") and isinstance(node, List) and node.items:
            what = f"a list of {len(node.items)}"
        if error["type"] == "int_type" and isinstance(node, Scalar) and _is_whole(node.value):
            what = f"{what}: write it without a point"
        text = f"must be {allowed(schema, path)}, not {what}"
    said = not name or node.mark == set_mark(name)
    return Problem(node.mark, text if said else f"{name}: {text}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def set_mark(key: str) -> Mark:
    """The place of a value that was given as `--set KEY=VALUE`."""
    return Mark(f"--set {printable(key)}")


def printable(text: str) -> str:
    """The text, escaped where a message could not show it."""
    return text if text.isprintable() else repr(text)[1:-1]


def locate(tree: Mapping, loc: Sequence[int | str]) -> tuple[Path, Node, Mark]:
    """How far `loc` leads into the tree: the path, the node there, where its key stands."""
    path: Path = []
    node: Node = tree
    mark = tree.mark
    for step in loc:
        if isinstance(node, Mapping) and step in node.entries:
            node, mark = node.entries[str(step)], node.keys[str(step)]
        elif isinstance(node, List) and isinstance(step, int):
            node = node.items[step]
            mark = node.mark
        elif isinstance(node, List):
            continue  # pydantic's name for what a setting may be, here a list
        else:
            break  # a key that is missing, or such a name for what is no list
        path.append(step)
    return path, node, mark


def _unknown_key(path: Path, tree: Mapping, schema: dict[str, Any], alike: Alike) -> str:
    *outer, last = path
    key = str(last)
    there = arms(schema_at(schema, outer))
    _, holder, _ = locate(tree, outer)
    beside = holder.entries.keys() if isinstance(holder, Mapping) else set()
    known = _meant([arm for arm in there if key not in arm], beside)
    all_known = f" (allowed: {', '.join(known)})"
    others = {name for arm in there if key in arm for name in arm}
    if others and (rivals := (set(known) - others) & beside):
        rival = next(name for name in known if name in rivals)
        return f"key {quoted(key)} does not go with {quoted(rival)}{all_known}"
    near = alike(path, known) or nearest(key, [name for arm in there for name in arm], most=1)
    return f"unknown key {quoted(key)}{did_you_mean(near) or all_known}"


def _meant(among: list[dict[str, Any]], keys: Iterable[str]) -> list[str]:
    """The keys of what a mapping shares most with, of all it may be; of all if it shares none."""
    shared = [len(arm.keys() & keys) for arm in among]
    best = [among[shared.index(max(shared))]] if any(shared) else among
    return list(dict.fromkeys(key for arm in best for key in arm))


def nearest(word: str, known: Collection[str], most: int = 3) -> list[str]:
    """Those of the known words that look most like this one."""
    return difflib.get_close_matches(word[:100], known, n=most)


def did_you_mean(names: Sequence[str]) -> str:
    """The end of a message that offers these names; empty if there are none."""
    return f" (did you mean {' or '.join(map(repr, names))}?)" if names else ""


def allowed(schema: dict[str, Any], path: Path) -> str:
    """What may stand at a path, in words."""
    part = schema_at(schema, path)
    return settings.allowed(part, part.get("unit", ""))


# ── JSON Schemas ─────────────────────────────────────────────────────────────────────────────────


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of pydantic's with its references put in, and one word for all choices."""
    schema = dict(schema)
    definitions = schema.pop("$defs", {})

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(item) for item in part]
        if not isinstance(part, dict):
            return part
        name = part.get("$ref", "").rpartition("/")[2]
        own = {_choice(key): whole(value) for key, value in part.items() if key != "$ref"}
        return {**whole(definitions[name]), **own} if name else own

    return whole(schema)


def _choice(key: str) -> str:
    """pydantic says `oneOf` where it knows which; one word for all choices does."""
    return "anyOf" if key == "oneOf" else key


def schema_at(schema: dict[str, Any], path: Path) -> dict[str, Any]:
    """The part of a JSON Schema about the value at a path."""
    for step in path:
        if isinstance(step, int):
            schema = next(arm for arm in schema.get("anyOf", [schema]) if "items" in arm)["items"]
        else:
            schema = next(arm for arm in arms(schema) if step in arm)[step]
    return schema


def arms(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The properties of each mapping that a value may be."""
    return [arm["properties"] for arm in schema.get("anyOf", [schema]) if "properties" in arm]
