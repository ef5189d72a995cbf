"""Batches: what is done, what is passed over, what is tried again, and what is said of it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
from collections import deque
from pathlib import Path

import jsonschema
import pytest
import yaml
from nights import QUICK, break_in_the_middle, items, pictures, write
from rich.console import Console

from dreamflow import cli, manifest, plan, progress
from dreamflow.batch import Batch, Item, Report, Share
from dreamflow.film import Conditions, Leg, Parts, part_starts
from dreamflow.job_folder import Hold
from dreamflow.work import Advanced, Began, Divide, Divided, Done, Failed, Lost, Said, Whole
from dreamflow.workers import LocalPool

ROOT = Path(__file__).parents[1]


def run(*words):
    return cli.run(["batch", *map(str, words), "--device", "cpu"])


# ── what is checked first ──


def test_row_32_one_bad_value_among_five_jobs_and_nothing_is_begun(night, capsys):
    write(f"""
defaults: {{{QUICK}}}
jobs:
  - {{input: a.mp4, output: out/1.mp4}}
  - {{input: a.mp4, output: out/2.mp4, seed: 2}}
  - {{input: a.mp4, output: out/3.mp4, set: {{dream.octaves: 99}}}}
  - {{kind: image, input: cup.jpg, output: out/4.png}}
  - {{kind: zoom, input: cup.jpg, frames: 3, output: out/5.mp4}}
""")
    assert run("night.yaml") == 78
    assert capsys.readouterr().err.splitlines() == [
        "dreamflow: error: night.yaml:6:60: dream.octaves: must be a whole number from 1 to 16, "
        "not 99"
    ]
    assert sorted(os.listdir()) == ["a.mp4", "cup.jpg", "night.yaml"]


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ("[{input: a.mp4, seed: [1, 2], output: x.mp4}]", "that of two renders"),
        ("[{input: nothing*.mp4, output: x.mp4}]", "no file matches 'nothing*.mp4'"),
        ("[{input: a.mp4, output: there.mp4}]", "is there and not what this job makes"),
    ],
)
def test_row_32_collisions_and_globs_without_a_match_are_refused(night, capsys, jobs, said):
    Path("there.mp4").write_text("something else")
    write(f"jobs: {jobs}")
    assert run("night.yaml") == 78
    assert said in capsys.readouterr().err
    assert Path("there.mp4").read_text() == "something else"
    assert not Path("report.json").exists()


def test_a_dry_run_shows_the_plan_and_leaves_no_trace(night, capsys):
    write(f"""
defaults: {{{QUICK}, output: "out/{{stem}}-{{seed}}.mp4"}}
jobs: [{{input: a.mp4, seed: [4, 5], end: 3f}}]
""")
    assert run("night.yaml", "--dry-run", "--threads", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == (
        ["#", "input", "preset", "seed", "frames", "size", "disk", "time", "state", "output"]
    )
    assert lines[1].split()[:6] == ["1", "a.mp4", "base", "4", "3", "64x48"]
    assert lines[3].split()[:3] == ["to", "do", "6"]
    assert "from a few frames of each look" in lines[4]
    assert sorted(os.listdir()) == ["a.mp4", "cup.jpg", "night.yaml"]


def test_a_dry_run_says_when_there_is_no_room(night, capsys):
    write("""
jobs:
  - {kind: zoom, solid: teal, size: 2000x2000, frames: 1000000, output: huge.mkv}
defaults: {set: {output.codec: ffv1, dream: {octaves: 1, steps: 1}}}
""")
    assert run("night.yaml", "--dry-run", "--threads", 1) == 74
    said = capsys.readouterr()
    assert " 1000000  2000x2000  7 TB " in said.out.splitlines()[1]
    assert "free, these renders take about 17.5 TB: make room" in said.err
    assert said.err.count("error:") == 1


def test_a_dry_run_of_a_watched_folder_has_nothing_to_show(night, capsys):
    write(TWO)
    Path("drop").mkdir()
    assert run("night.yaml", "--watch", "drop", "--dry-run") == 2
    assert "leave out --watch" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["report.json", "report.txt"])
def test_a_report_is_not_written_over_something_else(night, capsys, name):
    Path(name).write_text('{"mine": 1}')
    write(f"defaults: {{{QUICK}}}\n{TWO}")
    assert run("night.yaml") == 73
    assert f"{name} is there and no report: name one with --report" in capsys.readouterr().err
    assert Path(name).read_text() == '{"mine": 1}'
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["night.yaml", "a.mp4", "report.txt", "report"])
def test_a_report_is_a_json_file(night, capsys, name):
    write(TWO)
    before = Path("night.yaml").read_text()
    assert run("night.yaml", "--report", name) == 2
    assert f"--report must name a .json file, not {name}" in capsys.readouterr().err
    assert Path("night.yaml").read_text() == before


# ── what is done ──


class Scripted:
    """A pool whose workers say what the test wrote down: a list of messages for each beginning."""

    def __init__(self, *scripts, size=1):
        self._scripts = deque(scripts)
        self._saying: dict[int, deque] = {}
        self._size = size
        self.begun: list[int] = []

    @property
    def size(self):
        return self._size

    @property
    def idle(self):
        return self._size - len(self._saying)

    def start(self, task):
        self.begun.append(task.number)
        self._saying[task.number] = deque(self._scripts.popleft())

    def messages(self, timeout):
        for number, words in list(self._saying.items()):
            message = words.popleft()
            if not words:
                del self._saying[number]
            yield number, message


def spent(pool, todo, report=None):
    night = Batch(pool, report)
    night.add(todo)
    for _ in night.run():
        pass
    return night


ONE = "jobs: [{input: a.mp4, output: 'out/1.mp4'}]"
TWO = "jobs: [{input: a.mp4, seed: [1, 2], output: 'out/{seed}.mp4'}]"


def test_a_warning_names_the_input_once(night, caplog):
    said = [Said(30, "grainy"), Said(30, "a.mp4: frame 3 is damaged")]
    spent(Scripted([Began(24), *said, Done()]), items(ONE))
    assert caplog.messages == ["a.mp4: grainy", "a.mp4: frame 3 is damaged"]


def test_a_failed_render_keeps_no_other_from_being_done(night):
    failed = [Began(24), Advanced(0, 0.1), Advanced(1, 0.1), Failed(65, "frame 2 cannot be read")]
    report = Report(Path("report.json"), workers=1)
    done = spent(Scripted(failed, [Began(24), Said(30, "grainy"), Done()]), items(TWO), report)
    assert [item.state for item in done.items] == ["failed", "finished"]
    told = json.loads(Path("report.json").read_text())
    assert (told["renders"], told["finished"], told["failed"]) == (2, 1, 1)
    first, second = told["jobs"]
    assert first["error"] == {"exit_code": 65, "cause": "frame 2 cannot be read", "frame": 2}
    assert (first["frames_done"], first["tries"], first["seed"]) == (2, 1, 1)
    assert second["frames_done"] == 24
    assert second["warnings"] == ["grainy"]
    text = Path("report.txt").read_text()
    assert "1: failed at frame 2: frame 2 cannot be read" in text
    assert "out/2.mp4" in text


def test_a_render_that_never_began_failed_at_no_frame(night):
    report = Report(Path("report.json"), workers=1)
    spent(Scripted([Failed(66, "no such file: a.mp4")], [Began(24), Done()]), items(TWO), report)
    first, _ = json.loads(Path("report.json").read_text())["jobs"]
    assert first["error"]["frame"] is None
    assert "1: failed: no such file: a.mp4" in Path("report.txt").read_text()


def test_a_render_whose_worker_is_gone_is_begun_three_times_at_most(night):
    gone = [Began(24), Lost("its worker ended (killed by SIGKILL)")]
    pool = Scripted(gone, gone, [Began(24), Done()], gone, gone, gone)
    done = spent(pool, items(TWO))
    assert [(item.state, item.tries) for item in done.items] == [("finished", 3), ("failed", 3)]
    assert len(pool.begun) == 6
    assert done.items[1].cause == "its worker ended (killed by SIGKILL), 3 times"
    assert done.items[1].exit_code == 75


def test_a_worker_that_was_gone_already_costs_no_try(night):
    never, gone = [Lost("gone", begun=False)], [Began(24), Lost("gone")]
    pool = Scripted(never, gone, never, never, gone, [Began(24), Done()])
    done = spent(pool, items("jobs: [{input: a.mp4, output: x.mp4}]"))
    assert [(item.state, item.tries) for item in done.items] == [("finished", 3)]


def test_as_many_are_begun_as_there_are_workers_and_in_order(night):
    text = "jobs: [{input: a.mp4, seed: [1, 2, 3], output: 'out/{seed}.mp4'}]"
    night_ = Batch(Scripted([Began(1), Done()], [Began(1)] * 9, [Done()], size=2))
    night_.add(items(text))
    list(night_.step())
    assert [item.state for item in night_.items] == ["running", "running", "waiting"]
    list(night_.step())
    assert [item.state for item in night_.items] == ["finished", "running", "waiting"]
    night_.stop()
    assert [item.state for item in night_.items] == ["finished", "stopped", "waiting"]


def test_threads_do_not_hang_on_the_number_of_workers():
    assert Share.of(2) == Share(2, 1)
    assert Share.of(16) == Share(8, 2)
    assert Share.of(64) == Share(8, 8)
    assert Share.of(2, workers=1).threads == 1
    assert Share.of(2, threads=2) == Share(1, 2)


def test_reports_are_whole_or_not_there(night, monkeypatch):
    report = Report(Path("report.json"))
    report.write([])
    before = Path("report.json").read_text()
    (item,) = items("jobs: [{input: a.mp4, output: x.mp4}]")
    monkeypatch.setattr(Item, "facts", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write([item])
    assert Path("report.json").read_text() == before
    assert [name for name in os.listdir() if name.startswith(".")] == []


def test_a_report_takes_the_place_of_the_last_one_and_makes_its_folder(night):
    path = Path("new/folder/report.json")
    Report(path, workers=1).write([])
    Report(path, workers=2).write([])
    assert json.loads(path.read_text())["workers"] == 2
    assert "workers: 2" in path.with_suffix(".txt").read_text()


def test_what_an_earlier_run_did_does_not_shorten_the_time_that_is_left(night):
    pool = Scripted([Began(24, 20), Advanced(20, 0.1), Done()])
    night_ = Batch(pool)
    night_.add(items("jobs: [{input: a.mp4, output: x.mp4}]"))
    list(night_.step())
    assert night_.standing() == "0/1 renders  frame 20/24"
    list(night_.step())
    assert re.fullmatch(r"0/1 renders  frame 21/24, \d+ s left", night_.standing())


def test_a_thousand_renders_are_not_added_up_for_every_frame(night):
    """That took a driver of a thousand workers longer than the workers took."""
    added_up = []

    class Watched(Batch):
        def frames(self):
            added_up.append(1)
            return super().frames()

    (item,) = items("jobs: [{input: a.mp4, output: x.mp4}]")
    night_ = Watched(Scripted([Began(24), *[Advanced(0, 0.1)] * 500, Done()]))
    night_.add([item])
    console = Console(file=io.StringIO(), force_terminal=True, width=40, height=9)
    with progress._moving_bars(console) as show:
        for each in night_.run():
            show(each, night_)
    assert len(added_up) < 250
    assert "0/1  0/24" in console.file.getvalue()


# ── real workers ──


@pytest.mark.slow
def test_ctrl_c_does_not_reach_a_worker_that_is_just_starting(night):
    """A terminal sends it to all processes in front, and a new one takes seconds to leave them."""
    hit = []
    with LocalPool(1) as pool:
        night_ = Batch(pool)
        night_.add(items(f"jobs: [{{input: a.mp4, end: 2f, output: x.mp4, {QUICK}}}]"))
        for _ in night_.run():
            if not hit:
                hit += pool.pids
                os.kill(pool.pids[0], signal.SIGINT)
    assert hit
    assert [(item.state, item.tries) for item in night_.items] == [("finished", 1)]


@pytest.mark.slow
def test_row_32_four_of_five_finish_and_a_second_run_redoes_only_the_fifth(night, capsys, media):
    break_in_the_middle("broken.mp4", media)
    write(f"""
defaults: {{{QUICK}, output: "out/{{stem}}-{{seed}}.mp4"}}
jobs:
  - {{input: a.mp4, end: 6f}}
  - {{input: broken.mp4, strict: true}}
  - {{input: a.mp4, end: 6f, seed: 2}}
  - {{kind: zoom, noise: pink, frames: 4, size: 64x48}}
  - {{kind: image, input: cup.jpg, size: 64, output: out/cup.png}}
""")
    assert run("night.yaml", "--workers", 2, "--threads", 1) == 1
    said = capsys.readouterr()
    assert "1 of 5 renders failed (./out/broken-0.mp4: broken.mp4: frame " in said.err
    told = json.loads(Path("report.json").read_text())
    assert [job["state"] for job in told["jobs"]] == ["finished", "failed", *["finished"] * 3]
    error = told["jobs"][1]["error"]
    assert error["exit_code"] == 65
    assert f"frame {error['frame']} at " in error["cause"]
    assert 3 < error["frame"] < 21
    made = {path: path.stat().st_mtime_ns for path in Path("out").iterdir() if path.is_file()}
    assert len(made) == 4

    assert run("night.yaml", "--workers", 2, "--threads", 1) == 1
    told = json.loads(Path("report.json").read_text())
    states = ["there already", "failed", *["there already"] * 3]
    assert [job["state"] for job in told["jobs"]] == states
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in made.items())

    shutil.copy("a.mp4", "broken.mp4")
    assert run("night.yaml", "--workers", 1, "--threads", 1) == 0
    assert json.loads(Path("report.json").read_text())["finished"] == 1


# ── parts ──


CUTS = [47, 90, 140]
PARTS = f"""
jobs:
  - input: long.mp4
    end: 200f
    output: NAME.mp4
    set: {{shots: {CUTS}, dream: {{octaves: 1, steps: 1}}, follow: {{octaves: 1, steps: 1}}}}
"""


@pytest.mark.slow
def test_a_clip_made_in_parts_has_the_pictures_of_one_made_in_one_go(long_night):
    with LocalPool(1) as pool:
        spent(pool, items(PARTS.replace("NAME", "whole")))
    with LocalPool(2) as pool:
        night_ = Batch(pool, least_part=40)
        night_.add(items(PARTS.replace("NAME", "parts")))
        told = [(item.frames_done, item.frames_to_come) for item in night_.run()]
    night_.stop()
    assert night_.items[0].state == "finished"
    assert (200, 200) in told
    assert pictures("parts.mp4") == pictures("whole.mp4")
    assert sorted(os.listdir()) == [
        "a.mp4", "cup.jpg", "long.mp4", "night.yaml", "parts.mp4", "whole.mp4",
    ]  # fmt: skip


@pytest.mark.slow
def test_parts_that_were_stopped_are_gone_on_with_and_none_is_made_twice(long_night):
    with LocalPool(1) as pool:
        spent(pool, items(PARTS.replace("NAME", "whole")))
    text = PARTS.replace("NAME", "parts")
    pool = LocalPool(2)
    stopped = Batch(pool, least_part=40)
    with pool:
        stopped.add(items(text))
        for item in stopped.run():
            if item.frames_done > 120:
                break
    stopped.stop()
    assert stopped.items[0].state == "stopped"
    before = {path.name for path in Path(".parts.mp4.dreamflow").glob("*.video")}
    assert before
    pool = LocalPool(2)
    again = Batch(pool, least_part=40)
    with pool:
        again.add(items(text))
        done = [item.frames_done for item in again.run() if item.frames_to_come]
    again.stop()
    assert done[0] >= 48 * len(before) - 47
    assert again.items[0].state == "finished"
    assert pictures("parts.mp4") == pictures("whole.mp4")
    assert not Path(".parts.mp4.dreamflow").exists()


def test_a_failed_leg_fails_the_film_once_and_lets_go_of_its_folder(long_night):
    legs = tuple((Leg(part, part, part + 1, None),) for part in (0, 1, 2))
    pool = Scripted(
        [Divided(Parts(legs, 220, 0)), Done()],
        [Failed(65, "frame 7 cannot be read", 7)],
        [Advanced(50, 0.1), Done()],
        [Done()],
        size=2,
    )
    night_ = Batch(pool, least_part=40)
    night_.add(items(PARTS.replace("NAME", "parts")))
    for _ in night_.run():
        pass
    (item,) = night_.items
    assert (item.state, item.failed_frame) == ("failed", 7)
    assert pool.begun == [1, 2, 3]
    assert not Path(".parts.mp4.dreamflow").exists()


def test_legs_of_a_part_go_one_after_the_other_and_the_joining_last(long_night):
    legs = ((Leg(0, 0, 8, None), Leg(0, 8, 9, None)), (Leg(9, 9, 12, 430),))
    pool = Scripted([Divided(Parts(legs, 220, 0)), Done()], *[[Done()]] * 4, size=2)
    seen = []
    begin = pool.start
    pool.start = lambda task: (seen.append(task.what), begin(task))
    done = Batch(pool, least_part=40)
    done.add(items(PARTS.replace("NAME", "parts")))
    for _ in done.run():
        pass
    assert seen == [Divide(40), legs[0][0], legs[1][0], legs[0][1], Whole()]
    assert done.items[0].state == "finished"


def test_a_film_that_another_process_makes_is_left_to_it(long_night):
    hold = Hold(Path("parts.mp4"))
    done = spent(Scripted(), [])
    done = Batch(Scripted(), least_part=40)
    done.add(items(PARTS.replace("NAME", "parts")))
    for _ in done.run():
        pass
    hold.release()
    assert done.items[0].exit_code == 75
    assert "is being rendered by process" in done.items[0].cause


@pytest.mark.parametrize(
    ("count", "cuts", "least", "starts"),
    [
        (480, [], 96, [(0, None)]),
        (480, [96, 240], 96, [(0, None), (2, 96), (5, 240)]),
        (480, [90, 240], 96, [(0, None), (2, 90), (5, 240)]),
        (480, [50, 90], 96, [(0, None), (2, 90)]),  # both before chunk 2; the nearer one
        (480, [97], 96, [(0, None), (3, 97)]),
        (480, [430], 48, [(0, None), (9, 430)]),
        (480, [434], 96, [(0, None)]),  # too near to the end
        (480, [40, 80, 96], 200, [(0, None)]),
    ],
)
def test_parts_begin_behind_cuts_and_are_long_enough(count, cuts, least, starts):
    assert part_starts(range(count), 48, cuts, least) == starts
    shifted = [(chunk, cut if cut is None else cut + 1000) for chunk, cut in starts]
    moved = part_starts(range(1000, 1000 + count), 48, [cut + 1000 for cut in cuts], least)
    assert moved == shifted


# ── the sample ──


def test_the_sample_is_a_manifest_that_is_understood(tmp_path):
    path = ROOT / "samples" / "batch.yaml"
    jsonschema.validate(yaml.safe_load(path.read_text()), manifest.json_schema())
    entries = manifest.read(path, tmp_path)
    kinds = {entry.job.kind for entry in entries}
    assert kinds == {"video", "zoom", "image"}
    assert len(plan.plan(entries, Conditions(threads=1, device="cpu"))) == len(entries)
