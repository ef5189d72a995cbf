"""What README says is true: its settings, its presets, its commands."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dreamflow import preset
from dreamflow.cli import cli
from dreamflow.errors import UsageError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(text: str) -> Iterator[str]:
    """What stands between fences, less the word after the first; escaped line ends are joined."""
    for found in re.finditer(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield found[1].replace("\\\n", " ")


def commands(text: str) -> list[list[str]]:
    """The words of every call of dreamflow in the code blocks, without its own name."""
    lines = (line for block in code_blocks(text) for line in block.splitlines())
    found = []
    for line in lines:
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="&|;>")
        lexer.whitespace_split = True
        words: list[str] = []
        try:
            words = list(lexer)
        except ValueError:  # a drawing or YAML, not a line for the shell
            continue
        parts = _split(words)
        found += [part[1:] for part in parts if part[:1] == ["dreamflow"]]
    return found


def _split(words: list[str]) -> list[list[str]]:
    """Words between `&&`, `|`, `;` and `>`."""
    parts: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("&|;>"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def parse(words: list[str]) -> None:
    """Let click take a command line apart without running it; raises UsageError if it cannot."""
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"no command {name!r} in `dreamflow {shlex.join(words)}`"
        command = command.commands[name]
    try:
        command.make_context("dreamflow", rest)
    except click.exceptions.Exit:  # --help and --version
        return


@pytest.fixture(autouse=True)
def _volume():
    """-q and -v take effect as they are read."""
    logger = logging.getLogger("dreamflow")
    level = logger.level
    yield
    logger.setLevel(level)


def test_the_settings_are_those_of_the_classes(readme):
    found = re.search(r"^<!-- settings -->\n(.*?)^<!-- /settings -->", readme, re.M | re.S)
    assert found, "README has no table between <!-- settings --> and <!-- /settings -->"
    assert found[1].strip() == preset.settings_markdown().strip()


def test_every_shipped_preset_is_in_the_table_of_presets(readme):
    found = re.search(r"^<!-- presets -->\n(.*?)^<!-- /presets -->", readme, re.M | re.S)
    assert found, "README has no table between <!-- presets --> and <!-- /presets -->"
    named = set(re.findall(r"`([\w-]+)`|\*\*([\w-]+)\*\*|<b>([\w-]+)</b>", found[1]))
    names = {name for alternatives in named for name in alternatives if name}
    assert {each.name for each in preset.shipped()} <= names


def test_every_command_in_the_code_blocks_is_understood(readme):
    found = commands(readme)
    assert ["video", "samples/clip.mp4", "-o", "dream.mp4"] in found
    for words in found:
        try:
            parse(words)
        except (click.UsageError, UsageError) as error:
            pytest.fail(f"dreamflow {shlex.join(words)}: {error}")


def test_pictures_and_files_that_are_linked_are_there(readme):
    linked = re.findall(r"\]\(([^)#\s]+)|(?:src|href)=\"([^\"#]+)\"", readme)
    paths = [path for pair in linked for path in pair if path and "://" not in path]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


# ── the reading itself ──


def test_commands_are_found_wherever_they_stand():
    text = (
        "dreamflow nowhere\n```sh\npip install . && dreamflow video a.mp4 -o b.mp4  # why\n"
        "$ dreamflow image 'a b.png' \\\n    -o c.png\nlet's not\ndreamflow show x | less\n```\n"
    )
    assert commands(text) == [
        ["video", "a.mp4", "-o", "b.mp4"],
        ["image", "a b.png", "-o", "c.png"],
        ["show", "x"],
    ]


@pytest.mark.parametrize(
    "line", ["video a.mp4", "video a.mp4 -o b.mp4 --sped 2", "video a.mp4 -o b.mp4 --at soon"]
)
def test_a_wrong_command_is_noticed(line):
    with pytest.raises((click.UsageError, UsageError)):
        parse(line.split())


def test_a_command_that_is_not_there_is_noticed():
    with pytest.raises(AssertionError, match="no command 'vidoe'"):
        parse(["vidoe", "a.mp4"])
    parse(["presets", "list"])
    parse(["--version"])
