import json
import math
import os

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from watched import harmless

from dreamflow import strict_yaml
from dreamflow.errors import PresetError
from dreamflow.strict_yaml import Mapping, Mark, Problem, compose, plain, read_text, resolve


def read(text):
    """The value of a text without problems."""
    problems = []
    node = compose(text, "x.yaml", problems)
    assert problems == []
    return None if node is None else plain(node)


def complaints(text):
    """Everything that is said about a text, a line each."""
    problems = []
    try:
        compose(text, "x.yaml", problems)
    except PresetError as error:
        return str(error).split("\n")
    return [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0", 0),
        ("+7", 7),
        ("010", 10),
        ("0o10", 8),
        ("0xfF", 255),
        ("-.inf", -math.inf),
        ("1e999", math.inf),
        ("9" * 401, math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
    ],
)
def test_a_plain_word_means_what_yaml_1_2_says(text, value):
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    ["1:30", "yes", "on", "No", "10^400", "1_000", "0b11", "2024-01-01", "=", "1e", "٣", "e3"],
)
def test_what_only_yaml_1_1_converts_stays_a_text(text):
    assert resolve(text) == text


def test_not_a_number_is_a_float_so_that_the_settings_can_refuse_it():
    assert math.isnan(resolve(".nan"))


def test_quotes_make_a_text():
    assert read("['3', \"true\", '']") == ("3", "true", "")


def test_keys_are_texts_even_if_they_look_like_numbers():
    assert read("{0: a, 5s: b, 1e3: c}") == {"0": "a", "5s": "b", "1e3": "c"}


def test_every_node_knows_its_line_and_column():
    root = compose("a: 1\nb:\n  - c: x\n    d: 'y'\n", "x.yaml", [])
    assert isinstance(root, Mapping)
    (item,) = root.entries["b"].items
    assert root.keys["b"] == Mark("x.yaml", 2, 1)
    assert item.mark == Mark("x.yaml", 3, 5)
    assert item.keys["d"] == Mark("x.yaml", 4, 5)
    assert item.entries["d"].mark == Mark("x.yaml", 4, 8)


def test_columns_count_characters_not_bytes():
    assert complaints("{é🐶: 1, é🐶: 2}") == ["x.yaml:1:9: duplicate key 'é🐶' (first on line 1)"]


@pytest.mark.parametrize("text", ["", " \n\n", "# only a comment\n", "---\n", "---\n...\n"])
def test_a_text_without_content_is_nothing(text):
    assert read(text) is None


def test_windows_line_ends_count_as_one():
    assert complaints("a: 1\r\nb: 2\r\na: 3\r\n") == [
        "x.yaml:3:1: duplicate key 'a' (first on line 1)"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1", "x.yaml:1:4: anchor '&x' is not allowed; write the value out"),
        ("a: *x", "x.yaml:1:4: alias '*x' is not allowed; write the value out"),
        ("*x : 1", "x.yaml:1:1: alias '*x' is not allowed; write the value out"),
        ("<<: {a: 1}", "x.yaml:1:1: merge key '<<' is not allowed; write the keys out"),
        ("a: !!str 1", "x.yaml:1:4: tag '!!str' is not allowed; write the plain value"),
        ("a: ! 1", "x.yaml:1:4: tag '!' is not allowed; write the plain value"),
        ("? [a]\n: 1", "x.yaml:1:3: a key must be a single word, not a list"),
        ("a: 1\n---\nb: 2\n---\n", "x.yaml:2:1: a second document; write one document per file"),
        ("%YAML 1.1\n---\na: 1", "x.yaml:1:1: directives ('%...') are not allowed"),
        ("a:\n\tb: 1", "x.yaml:2:1: indented with a tab; use spaces"),
        ("a: 0: 1", "x.yaml:1:5: a ': ' inside a value; put the value in quotes"),
        ("a: [1", "x.yaml:2:1: not YAML: did not find expected ',' or ']'"),
        ("a: \x1b[31m", "x.yaml:1:4: character '\\x1b' is not allowed"),
        ('a: "\\e[31m"', "x.yaml:1:4: character '\\x1b' is not allowed"),
        ("[" * 17, "x.yaml:1:17: nested more than 16 levels deep"),
        ("a: " + "[" * 100_000, "x.yaml:1:19: nested more than 16 levels deep"),
        ("- " * 100_000, "x.yaml:1:33: nested more than 16 levels deep"),
        ("[" + "a," * 50_000 + "]", "x.yaml:1:20000: more than 10000 values"),
    ],
)
def test_a_surprise_is_refused_where_it_stands(text, message):
    assert complaints(text)[0] == message


def test_a_quoted_merge_sign_is_a_key_like_any_other():
    assert read("'<<': 1") == {"<<": 1}


def test_all_that_can_be_read_past_is_reported_at_once():
    assert complaints("a: &x 1\nb: *x\na: !t 2\n") == [
        "x.yaml:1:4: anchor '&x' is not allowed; write the value out",
        "x.yaml:2:4: alias '*x' is not allowed; write the value out",
        "x.yaml:3:4: tag '!t' is not allowed; write the plain value",
        "x.yaml:3:1: duplicate key 'a' (first on line 1)",
    ]


def test_broken_syntax_does_not_hide_what_was_found_before_it():
    assert complaints("a: &x 1\nb: [1\n") == [
        "x.yaml:1:4: anchor '&x' is not allowed; write the value out",
        "x.yaml:3:1: not YAML: did not find expected ',' or ']'",
    ]


def test_without_positions_the_source_alone_is_named():
    problems = []
    compose("{a: 1, a: 2}", "--set x", problems, positions=False)
    assert [str(problem) for problem in problems] == ["--set x: duplicate key 'a'"]


def test_one_place_is_reported_once_and_ten_places_at_most():
    places = [Problem(Mark("x.yaml", line, 1), "wrong") for line in range(1, 14)]
    lines = str(strict_yaml.refusal([*places, Problem(places[0].mark, "again")])).split("\n")
    assert lines == [f"x.yaml:{line}:1: wrong" for line in range(1, 11)] + ["and 3 more"]


def test_a_mapping_laid_on_another_merges_and_its_lists_replace():
    below = compose("{a: {b: 1, c: 2}, d: [1, 2], e: {f: 1}}", "low.yaml", [])
    above = compose("{a: {c: 3}, d: [4], e: 5, g: 6}", "high.yaml", [])
    both = above.laid_on(below)
    assert plain(both) == {"a": {"b": 1, "c": 3}, "d": (4,), "e": 5, "g": 6}
    assert both.entries["a"].entries["b"].mark.source == "low.yaml"
    assert both.entries["a"].keys["c"].source == "high.yaml"


# ── files ──


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    assert read_text(path, "x.yaml") == "a: 1\r\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a: 1\nb: é".encode("latin-1"), "x.yaml:2:4: not UTF-8 text"),
        ("a: 1".encode("utf-16"), "x.yaml:1:1: not UTF-8 text"),
    ],
)
def test_other_encodings_are_refused_where_they_show(tmp_path, data, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(PresetError) as caught:
        read_text(path, "x.yaml")
    assert str(caught.value) == message


def test_what_is_not_a_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(PresetError, match=r"^x: not a file$"):
            read_text(path, "x")


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(PresetError) as caught:
        read_text(tmp_path / "no.yaml", "no.yaml")
    assert str(caught.value) == "no.yaml: cannot be read: No such file or directory"


# ── any text ──

PIECES = st.sampled_from(
    ["a", "b: ", "- ", "? ", ": ", "\n", "\n  ", "{", "}", "[", "]", ",", "&x ", "*x ", "!t ", "!!",
     "'", '"', "|", ">", "<<: ", "#", "%", "---\n", "...\n", "1e-3", "\t", "\r", "\\", "@",
     "\ufeff", "\u2028", "\x85", "~", ".nan"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=60)))
def test_any_text_is_read_or_refused_in_words_and_runs_nothing(text):
    with harmless():
        lines = complaints(text)
    for line in lines:
        assert line.startswith("x.yaml:")
        assert line.isprintable()


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), max_size=9),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3),
    ),
    max_leaves=9,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_json_reads_back_as_it_was_written(value):
    assert read(json.dumps(value, ensure_ascii=False)) == value


def test_the_parser_without_libyaml_reads_the_same(monkeypatch):
    text = "a: {b: [1, 2], c: 'x'}\nd: &x !t 3\na: *x\n"
    fast = complaints(text)
    monkeypatch.setattr(strict_yaml, "_LOADER", yaml.SafeLoader)
    assert complaints(text) == fast
