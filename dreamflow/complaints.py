"""What a settings class finds wrong with a file's tree, in words and at the place it is about.

Presets and manifests are both read by `strict_yaml` and checked by pydantic. Here pydantic's errors
become lines such as `night.yaml:9:17: seed: must be a whole number from 0 to 9, not 'one'`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from pydantic import ValidationError

from dreamflow import settings
from dreamflow.strict_yaml import Mapping, Mark, Node, Problem, quoted, written
from dreamflow.strict_yaml import Sequence as List

Path = list[int | str]
"""Where a value is in the tree: keys of mappings, places in lists."""


def causes(error: ValidationError, tags: Collection[str] = ()) -> list[Any]:
    """What pydantic found, less the lists it calls too short only because items are not valid.

    `tags` are its names for the arms of choices, which are no steps of the tree.
    """
    found: list[Any] = error.errors(include_url=False)
    for each in found:
        each["loc"] = tuple(step for step in each["loc"] if step not in tags)
    outer = {each["loc"][:at] for each in found for at in range(len(each["loc"]))}
    return [each for each in found if each["type"] != "too_short" or each["loc"] not in outer]


def explained(
    error: Any,
    tree: Mapping,
    schema: dict[str, Any],
    alike: Callable[[str, list[str]], list[str]],
) -> Problem:
    """A pydantic error as a person would put it, at the place it is about.

    `schema` is the JSON Schema, without references, of what the tree should be; `alike` names what
    may have been meant by an unknown key, given those that are known there.
    """
    path, node, mark = locate(tree, error["loc"])
    name = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        return Problem(mark, _unknown_key(path, schema, alike))
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
        text = f"must be {allowed(schema, path)}, not {what}"
    said = not name or node.mark == set_mark(name)
    return Problem(node.mark, text if said else f"{name}: {text}")


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
        else:
            break  # a key that is missing, or pydantic's name for one arm of a union
        path.append(step)
    return path, node, mark


def _unknown_key(
    path: Path, schema: dict[str, Any], alike: Callable[[str, list[str]], list[str]]
) -> str:
    *outer, key = path
    known = list(dict.fromkeys(key for arm in arms(schema_at(schema, outer)) for key in arm))
    hint = did_you_mean(alike(str(key), known)) or f" (allowed: {', '.join(known)})"
    return f"unknown key {quoted(str(key))}{hint}"


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
