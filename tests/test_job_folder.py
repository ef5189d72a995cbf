"""The folder of an unfinished output: nothing that somebody else puts into it is trusted."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from dreamflow import job_folder
from dreamflow.errors import ChangedError, StorageError
from dreamflow.job_folder import JobFolder, folder_of, is_placed
from dreamflow.video.writer import discard

LOOKS = {"look": "one"}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.mp4"


def opened(target, **options):
    return JobFolder(target, LOOKS, preset="", **options)


def begin(target):
    """The folder of a job of which two chunks are finished."""
    with opened(target) as folder:
        for chunk in range(2):
            with folder.writing(chunk, "video", "state") as files:
                for kind, path in files.items():
                    path.write_text(f"{kind} {chunk}")
    return folder_of(target)


def device(path):
    path.symlink_to("/dev/zero")


def endless(path):
    path.touch()
    os.truncate(path, 1 << 40)


def folder(path):
    path.mkdir()


def put_in_place_of(path, odd):
    path.unlink()
    odd(path)


ODD = pytest.mark.parametrize("odd", [device, os.mkfifo, endless, folder])


@ODD
def test_a_fingerprint_that_is_none_is_neither_waited_for_nor_read_to_its_end(target, odd):
    path = begin(target) / "fingerprint.json"
    put_in_place_of(path, odd)
    with pytest.raises(ChangedError, match="damaged: give --restart"), opened(target):
        pass


@pytest.mark.parametrize("how", ["done", "restarted"])
def test_whenever_its_removal_is_cut_short_the_folder_is_taken_up_again(target, monkeypatch, how):
    """The process ends before its n-th removal: what is left is known for what it is."""
    ends, removals = False, 0
    while not ends:
        target.write_bytes(b"the film")
        begin(target)
        pid = os.fork()
        if pid == 0:
            try:
                with opened(target) as folder:
                    folder.announce(target)
                monkeypatch.setattr(job_folder, "discard", ends_after(removals, discard))
                with opened(target, restart=how == "restarted") as folder:
                    if how == "done":
                        folder.discard()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) in (0, CUT_SHORT)
        ends, removals = status == 0, removals + 1
        with opened(target) as folder:
            assert folder.is_placed or len(folder.finished) in (0, 2)
    assert removals > 5


CUT_SHORT = 9


def ends_after(removals, remove):
    """`remove`, but in place of one more than so many the process ends."""
    left = itertools.repeat(remove, removals)
    return lambda path: next(left, lambda _: os._exit(CUT_SHORT))(path)


@ODD
def test_what_tells_of_the_output_is_neither_waited_for_nor_read_to_its_end(target, odd):
    odd(begin(target) / "placed")
    assert not is_placed(target)


@pytest.mark.parametrize("odd", [device, os.mkfifo, folder])
def test_a_state_that_is_none_is_passed_over(target, odd, caplog):
    path = begin(target) / "000001.state"
    put_in_place_of(path, odd)
    with opened(target) as job:
        assert job.finished == {0, 1}
        assert job.state_before(2) == 0
    assert "000001.state is damaged" in caplog.text


@ODD
def test_a_chunk_that_is_none_is_made_again(target, odd):
    path = begin(target) / "000000.video"
    put_in_place_of(path, odd)
    with opened(target) as job:
        assert job.finished == {1}


@pytest.mark.parametrize("odd", [device, os.mkfifo, folder])
def test_a_journal_that_is_none_is_refused_until_restarted(target, odd):
    path = begin(target) / "journal"
    put_in_place_of(path, odd)
    with pytest.raises(StorageError, match="cannot write into"), opened(target):
        pass
    with opened(target, restart=True) as job:
        assert not job.finished
    assert Path("/dev/zero").is_char_device()


def test_a_journal_of_which_no_line_is_left_is_said_to_be_lost(target, caplog):
    path = begin(target) / "journal"
    path.write_bytes(path.read_bytes()[:60])
    with opened(target) as job:
        assert not job.finished
    assert "damaged: it begins anew" in caplog.text
