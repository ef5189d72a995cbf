from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dreamflow.errors import InputMissingError, StorageError, UnavailableError
from dreamflow.video import ffmpeg
from dreamflow.video.ffmpeg import FFmpegError, Input, Process

HOSTILE_NAMES = [
    "-y.mp4",
    "a b'\";$(id).mp4",
    "%d.mp4",
    "concat:a|b",
    "http:x",
    "new\nline.mp4",
    "🐶.mp4",
]
RAW = ["-f", "rawvideo", "-s", "8x8", "-pix_fmt", "rgb24", "-i", "-"]


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    """Installs a script in the place of ffmpeg."""

    def install(script: str, mode: int = 0o755) -> Path:
        path = tmp_path / "ffmpeg"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)
        monkeypatch.setenv("DREAMFLOW_FFMPEG", str(path))
        return path

    return install


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_bundled_binary_is_found_and_named():
    assert os.access(ffmpeg.find(), os.X_OK)
    assert ffmpeg.version()
    assert {"libx264", "ffv1", "gif"} <= ffmpeg.encoders()
    assert {"scale", "showinfo"} <= ffmpeg.filters()
    assert ffmpeg.pixel_formats()["yuv422p10le"] == (3, 10)
    assert ffmpeg.pixel_formats()["yuva420p"] == (4, 8)


def test_a_missing_binary_is_reported_with_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMFLOW_FFMPEG", str(tmp_path / "nothing"))
    with pytest.raises(UnavailableError, match="nothing: No such file"):
        ffmpeg.find()
    assert UnavailableError.exit_code == 69


def test_nothing_on_path_says_what_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="imageio-ffmpeg's binary and for `ffmpeg` on PATH"):
        ffmpeg._on_path()


def test_a_binary_that_may_not_be_run_is_reported(fake_ffmpeg):
    fake_ffmpeg("exit 0", mode=0o644)
    with pytest.raises(UnavailableError, match="Permission denied"):
        ffmpeg.find()


def test_an_old_ffmpeg_is_refused_by_its_libavutil(fake_ffmpeg):
    fake_ffmpeg("echo ffmpeg version 4.4.2; echo 'libavutil      56. 70.100 / 56. 70.100'")
    with pytest.raises(UnavailableError, match=r"too old: ffmpeg version 4\.4\.2.*6\.0 or newer"):
        ffmpeg.find()


def test_a_development_build_without_release_number_is_taken(fake_ffmpeg):
    fake = fake_ffmpeg("echo ffmpeg version N-12-gabc; echo 'libavutil      58. 2.100 / 58. 2.100'")
    assert ffmpeg.find() == fake
    assert ffmpeg.version() == "N-12-gabc"


def test_another_program_is_not_taken_for_ffmpeg(fake_ffmpeg):
    fake_ffmpeg("echo hello")
    with pytest.raises(UnavailableError, match="is not ffmpeg"):
        ffmpeg.find()


def test_a_failing_run_raises_with_code_and_reason(tmp_path):
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(FFmpegError, match="Invalid data found") as caught:
        ffmpeg.run([Input(noise), "-f", "null", "-"], what="reading failed")
    assert caught.value.code not in (0, None)
    assert caught.value.lines
    assert str(caught.value).startswith("reading failed: ")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, StorageError)


def test_two_inputs_are_two_descriptors(media, clip_path):
    other = media.counter("other.mkv", frames=3)
    streams = ["-map", "0:v", "-map", "1:v", "-c", "copy", "-f", "framecrc", "-"]
    listed = ffmpeg.run([Input(clip_path), Input(other), *streams]).stdout.decode()
    rows = [line[0] for line in listed.splitlines() if not line.startswith("#")]
    assert (rows.count("0"), rows.count("1")) == (24, 3)
    assert "#dimensions 1: 32x24" in listed


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_plain_files_in_and_out(name, tmp_path, clip_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(clip_path.read_bytes())
    target = Path("out") / name
    target.parent.mkdir()
    streams = ["-map", "0", "-c", "copy", "-f", "mp4", ffmpeg.output_name(target)]
    ffmpeg.run([Input(Path(name)), *streams])
    assert os.listdir("out") == [name]
    assert set(os.listdir(tmp_path)) == {name, "out"}
    assert ffmpeg.run([Input(target), "-c", "copy", "-f", "framecrc", "-"]).stdout


def test_only_containers_of_the_list_are_read(tmp_path):
    """ffmpeg refuses playlists on grounds of its own too; these it would read if we let it."""
    graph = ["-f", "lavfi", "-i", "color=s=2x2", "-frames:v", "1"]
    for name, form in (("a.png", "image2"), ("a.y4m", "yuv4mpegpipe")):
        ffmpeg.run([*graph, "-f", form, ffmpeg.output_name(tmp_path / name)])
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nwords\n")
    for name in ("a.png", "a.srt"):
        with pytest.raises(FFmpegError, match="not on whitelist"):
            ffmpeg.run([Input(tmp_path / name), "-f", "null", "-"])
    ffmpeg.run([Input(tmp_path / "a.y4m"), "-f", "null", "-"])


def test_an_input_may_open_its_descriptor_and_nothing_else(tmp_path, clip_path):
    """A playlist of a permitted format still reaches no file; with the protocol it would."""
    segment = tmp_path / "segment.ts"
    ffmpeg.run([Input(clip_path), "-c", "copy", "-f", "mpegts", ffmpeg.output_name(segment)])
    script = tmp_path / "script"
    script.write_text(f"ffconcat version 1.0\nfile 'file:{segment}'\n")
    words = ffmpeg._input_words(0)
    words[words.index("-format_whitelist") + 1] += ",concat"
    unsafe = ["-safe", "0", "-f", "concat"]

    def opens(words: list[str]) -> bool:
        command = [ffmpeg.find(), "-loglevel", "error", *unsafe, *words, "-f", "null", "-"]
        with script.open("rb") as file:
            return subprocess.run(command, stdin=file, capture_output=True).returncode == 0

    assert not opens(words)
    words[words.index("-protocol_whitelist") + 1] += ",file"
    assert opens(words)


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputMissingError, match="pipe, socket or device"):
        ffmpeg.open_regular(tmp_path / "pipe")


def test_a_dead_encoder_becomes_an_error_with_its_own_words():
    def feed(process: Process) -> None:
        for _ in range(10_000):
            process.write(bytes(192))
        process.finish()

    wrong = [*RAW, "-c:v", "libx264", "-preset", "none", "-f", "null", "-"]
    with (
        Process(wrong, feeds=True) as process,
        pytest.raises(FFmpegError, match="preset") as caught,
    ):
        feed(process)
    assert caught.value.code not in (0, None)


def test_a_killed_process_raises_with_its_signal():
    with Process([*RAW, "-f", "null", "-"], feeds=True) as process:
        process._popen.kill()
        with pytest.raises(FFmpegError) as caught:
            process.finish()
    assert caught.value.code == -9


def test_leaving_the_block_ends_the_process_and_its_thread():
    endless = ["-f", "lavfi", "-i", "testsrc2", "-f", "rawvideo", "-"]
    with Process(endless) as process:
        assert len(process.read(100)) == 100
        assert alive(process._popen.pid)
    assert not alive(process._popen.pid)
    assert not process._drain.is_alive()


def test_only_the_end_of_a_long_stderr_is_kept():
    seen: list[str] = []
    noisy = ["-loglevel", "info", "-f", "lavfi", "-i", "color=s=16x16:r=100:d=3", "-vf", "showinfo"]
    with Process([*noisy, "-f", "null", "-"], on_line=seen.append) as process:
        process.finish()
        assert len(process.lines) == ffmpeg.STDERR_LINES
    assert len(seen) > 300


def test_control_c_in_the_terminal_does_not_reach_ffmpeg():
    with Process([*RAW, "-f", "null", "-"], feeds=True) as process:
        assert os.getpgid(process._popen.pid) != os.getpgid(0)


def test_descriptors_are_not_left_open(clip_path):
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        ffmpeg.run([Input(clip_path), "-c", "copy", "-f", "null", "-"])
    assert len(os.listdir("/dev/fd")) == before
