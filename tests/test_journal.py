"""The journal: what was written is read, what was torn or mangled is not."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamflow.journal import Entry, Journal, Seal, parse

seals = st.builds(Seal, st.integers(0, 1 << 50), st.text("0123456789abcdef", max_size=64))
entries = st.builds(
    Entry, st.integers(0, 10**7), st.dictionaries(st.text(max_size=8), seals, max_size=4)
)


@given(entries)
def test_a_line_is_read_as_it_was_written(entry):
    assert parse(entry.line()) == entry


@given(entries, st.data())
def test_a_line_with_any_byte_changed_is_not_read(entry, data):
    line = bytearray(entry.line())
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    assert parse(bytes(line)) is None


@given(entries, st.data())
def test_a_torn_line_is_not_read(entry, data):
    line = entry.line()
    assert parse(line[: data.draw(st.integers(0, len(line) - 1))]) is None


@given(st.binary())
def test_any_bytes_can_be_read(data):
    parse(data)


def entry(chunk):
    return Entry(chunk, {"video": Seal(chunk, "ab")})


def test_entries_are_there_again_and_the_later_of_two_counts(tmp_path):
    journal = Journal(tmp_path / "journal")
    for number in (0, 1, 2):
        journal.append(entry(number))
    newer = Entry(1, {"video": Seal(9, "cd")})
    journal.append(newer)
    again = Journal(tmp_path / "journal")
    assert again.entries == {0: entry(0), 1: newer, 2: entry(2)}
    assert again.damaged_lines == 0


def test_a_torn_last_line_does_not_swallow_the_next_one(tmp_path):
    path = tmp_path / "journal"
    for number in (0, 1):
        Journal(path).append(entry(number))
    os.truncate(path, path.stat().st_size - 5)
    torn = Journal(path)
    assert (set(torn.entries), torn.damaged_lines) == ({0}, 1)
    torn.append(entry(2))
    again = Journal(path)
    assert (set(again.entries), again.damaged_lines) == ({0, 2}, 0)


def test_a_line_without_end_is_not_read_into_memory(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"x" * 100_000 + b"\n" + entry(3).line())
    assert set(Journal(path).entries) == {3}


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "journal").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        Journal(tmp_path / "journal")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folders_seal_is_of_names_and_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    before = Seal.of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert Seal.of(tmp_path) != before
    (tmp_path / "b").rename(tmp_path / "a")
    assert Seal.of(tmp_path) == before
