"""Batches as a user runs them: stopped in all ways there are, and fed while they run."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from nights import QUICK, children_of, pictures, wait_for, write

WATCHING = ("batch", "night.yaml", "--watch", "drop", "--workers", "1")


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_batch_leaves_no_process_and_is_finished_by_the_next(
    night, dreamflow, long_clip, number
):
    shutil.copy(long_clip, "long.mp4")
    text = f"jobs: [{{input: [a.mp4, long.mp4], output: 'out/{{stem}}.mp4', {QUICK}}}]"
    write(text)
    words = ["batch", "night.yaml", "--workers", "2", "--threads", "1", "--progress", "json"]
    process = dreamflow.start(*words, cwd=night)
    for line in process.stdout:
        if json.loads(line).get("frames_done", 0) >= 3:
            break
    children = children_of(process.pid)
    assert children
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert wait_for(lambda: all(map(is_gone, children)), 60)
    if number != signal.SIGKILL:
        assert err.count("error:") == 1
        assert "run the same command to go on" in err
        states = {job["state"] for job in json.loads(Path("report.json").read_text())["jobs"]}
        assert states <= {"stopped", "waiting", "finished"}
    again = dreamflow(*words, cwd=night)
    assert again.returncode == 0, again.stderr
    assert len(pictures("out/long.mp4")) == 400


@pytest.mark.slow
def test_what_is_dropped_into_a_watched_folder_is_rendered_when_it_is_whole(night, dreamflow):
    write(f"""
defaults: {{{QUICK}}}
jobs:
  - {{input: anything, end: 3f, output: "out/{{stem}}.mp4"}}
  - {{kind: image, input: anything, size: 64, output: "out/{{stem}}.png"}}
""")
    drop = night / "drop"
    drop.mkdir()
    process = dreamflow.start(*WATCHING, "--progress", "none", cwd=night)
    try:
        data = Path("a.mp4").read_bytes()
        with open(drop / "slow.mp4", "wb") as file:
            for at in range(0, len(data), len(data) // 4 + 1):
                file.write(data[at : at + len(data) // 4 + 1])
                file.flush()
                time.sleep(0.7)
        shutil.copy("cup.jpg", drop)
        (drop / "noise.mp4").write_bytes(bytes(1000))
        (drop / "notes.txt").write_text("not a clip")
        wanted = [night / "out" / "slow.mp4", night / "out" / "cup.png"]
        wait_for(lambda: all(path.exists() for path in wanted), 200)
        time.sleep(1)
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert len(pictures("out/slow.mp4")) == 3
    assert sorted(path.name for path in (night / "out").iterdir()) == ["cup.png", "slow.mp4"]
    assert "noise.mp4" in err


@pytest.mark.slow
def test_a_watched_folder_is_no_place_to_lose_a_result_or_to_dream_it_again(night, dreamflow):
    """Two clips of one name do not make one film; results of an earlier run are no clips."""
    write(f"""
defaults: {{{QUICK}}}
jobs:
  - {{input: anything, end: 2f, output: "{{stem}}-dream.mp4"}}
""")
    drop = night / "drop"
    drop.mkdir()
    shutil.copy("a.mp4", drop / "a.mkv")

    def watched(name):
        """What is said until a clip of that name is dreamed."""
        shutil.copy("a.mp4", drop / f"{name}.mp4")
        process = dreamflow.start(*WATCHING, "-o", "drop", cwd=night)
        wait_for((drop / f"{name}-dream.mp4").exists, 100)
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=100)[1]

    (drop / "a.mp4").symlink_to(night / "a.mp4")
    assert "a.mp4: output: drop/a-dream.mp4 is that of" in watched("b")
    assert watched("c").count("error:") == 2  # that again, and that it was stopped
    names = sorted(path.name for path in drop.glob("*dream.mp4"))
    assert names == ["a-dream.mp4", "b-dream.mp4", "c-dream.mp4"]
