"""Row 34: the process and its surroundings; a render needs neither terminal nor home nor words."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from commands import NO_DREAM, processes_in

from dreamflow.video.probe import probe

SCRIPT = (sys.executable, "-m", "dreamflow")
TIMEOUT = 300


@pytest.fixture(scope="module")
def clip(media):
    return media.counter("three.mp4", frames=3)


def environment(**changes: str | None) -> dict[str, str]:
    """That of the tests with some variables changed, or gone where None."""
    merged = {**os.environ, "OMP_NUM_THREADS": "1", **changes}
    return {name: value for name, value in merged.items() if value is not None}


def render(clip: Path, folder: Path, *words: str, **options: object) -> subprocess.CompletedProcess:
    """Render in a process of its own, which must succeed, leave one film and nothing running."""
    line = [*SCRIPT, "video", str(clip), "-o", "new.mkv", *NO_DREAM, *words]
    ran = subprocess.run(line, cwd=folder, timeout=TIMEOUT, **options)
    assert ran.returncode == 0
    assert os.listdir(folder) == ["new.mkv"]
    assert probe(folder / "new.mkv").frame_count == 3
    assert processes_in(folder) == []
    return ran


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


BARE = {
    **{"HOME": None, "USER": None, "LC_ALL": "C", "LANG": "C"},
    # Python would make UTF-8 of the language C; other systems and older ones stay with ASCII.
    **{"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None},
}


def test_row_34_a_bare_environment_and_no_terminal_are_enough(folder, media):
    """No HOME, LANG=C, a name that C cannot spell: lines without escape codes."""
    clip = folder.parent / "träum 🦎.mp4"
    clip.write_bytes(media.counter("three.mp4", frames=3).read_bytes())
    env = environment(**BARE, TERM="xterm-256color")
    ran = render(clip, folder, "--progress", "bar", env=env, capture_output=True)
    assert ran.stdout == b""
    assert b"\x1b" not in ran.stderr
    assert ran.stderr.count(b"\n") == 4  # three frames and the end


def test_row_34_a_narrow_terminal_gets_a_bar_that_fits(folder, clip):
    leader, follower = pty.openpty()
    env = environment(**BARE, TERM="xterm", COLUMNS="20")
    line = [*SCRIPT, "video", str(clip), "-o", "new.mkv", *NO_DREAM]
    process = subprocess.Popen(line, cwd=folder, env=env, stderr=follower)
    os.close(follower)
    said = b""
    try:
        while block := os.read(leader, 4096):
            said += block
    except OSError:
        pass  # how Linux says that the other end is closed
    os.close(leader)
    assert process.wait(timeout=TIMEOUT) == 0
    assert b"3/3" in said
    assert b"Traceback" not in said
    assert os.listdir(folder) == ["new.mkv"]


@pytest.mark.parametrize(
    "closed",
    [
        pytest.param(">&-", marks=pytest.mark.slow),
        pytest.param("2>&-", marks=pytest.mark.slow),
        pytest.param("<&-", marks=pytest.mark.slow),
        "<&- >&- 2>&-",
    ],
)
def test_row_34_closed_streams_are_no_fault_and_nothing_gets_into_the_film(folder, clip, closed):
    words = [*SCRIPT, "video", clip, "-o", "new.mkv", *NO_DREAM, "--progress", "json", "-v"]
    line = " ".join(f"'{word}'" for word in words)
    ran = subprocess.run(["sh", "-c", f"{line} {closed}"], cwd=folder, timeout=TIMEOUT)
    assert ran.returncode == 0
    assert os.listdir(folder) == ["new.mkv"]
    assert probe(folder / "new.mkv").frame_count == 3
    assert processes_in(folder) == []


@pytest.mark.parametrize(
    "temporary",
    ["/proc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("/dev/full", "/nowhere"))],
)
def test_row_34_a_temporary_folder_that_takes_nothing_is_not_needed(folder, clip, temporary):
    env = environment(TMPDIR=temporary, TEMP=temporary, TMP=temporary)
    ran = render(clip, folder, env=env, capture_output=True)
    assert (ran.stdout, ran.stderr) == (b"", b"")


@pytest.mark.slow
def test_row_34_a_home_that_takes_nothing_is_not_needed(folder, clip):
    env = environment(HOME="/proc", XDG_CACHE_HOME="/proc", TORCH_HOME="/proc", MPLCONFIGDIR=None)
    ran = render(clip, folder, env=env, capture_output=True)
    assert (ran.stdout, ran.stderr) == (b"", b"")


def test_row_34_a_reader_that_goes_away_is_no_fault(clip):
    words = [*SCRIPT, "presets", "schema"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=TIMEOUT) == 0


def test_row_34_a_full_disk_behind_stdout_is_no_bug():
    with open("/dev/full", "w") as full:
        words = [*SCRIPT, "presets", "schema"]
        ran = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 74
    assert ran.stderr.startswith("dreamflow: error: cannot write the output: No space left")


@pytest.mark.parametrize(
    "words",
    [
        ("presets", "list"),
        *(pytest.param(w, marks=pytest.mark.slow) for w in [("doctor",), ("layers",)]),
    ],
    ids=" ".join,
)
def test_row_34_lists_are_plain_words_anywhere(words):
    env = environment(**BARE, COLUMNS="20", TERM="dumb")
    ran = subprocess.run([*SCRIPT, *words], env=env, capture_output=True, timeout=TIMEOUT)
    assert ran.returncode == 0
    assert ran.stdout.isascii()
    assert b"\x1b" not in ran.stdout + ran.stderr


def test_row_34_an_error_is_one_line_in_any_language(folder):
    env = environment(**BARE)
    words = [*SCRIPT, "video", "träum 🦎\n.mp4", "-o", "new.mkv"]
    ran = subprocess.run(words, cwd=folder, env=env, capture_output=True, timeout=TIMEOUT)
    assert ran.returncode == 66
    (line,) = ran.stderr.splitlines()
    assert line.startswith(b"dreamflow: error: no such file: ")
    assert line.isascii()
