"""What every kind of worker promises a batch: processes on this machine, and a Ray cluster."""

from __future__ import annotations

import json
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from nights import QUICK, break_in_the_middle, children_of, pictures, wait_for
from nights import items as items_here

from dreamflow import ray_engine
from dreamflow.batch import MAX_TRIES, Batch, Item, Report
from dreamflow.job import render_video
from dreamflow.plan import Render
from dreamflow.ray_engine import RayPool
from dreamflow.work import Advanced, Began, Done, Failed, Message, Task, Whole
from dreamflow.workers import LocalPool, Pool
from dreamflow.zoom_job import ZoomRequest, render_film

pytestmark = pytest.mark.slow

WORKERS = 2
MakePool = Callable[[int], Pool]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster with a head that only directs, and two nodes of one CPU each."""
    ray_engine.load()
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 << 20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
    for _ in range(WORKERS):
        made.add_node(num_cpus=1, **memory)
    yield made.address
    made.shutdown()


@pytest.fixture(scope="module", params=["processes", "ray"])
def make_pool(request: pytest.FixtureRequest) -> MakePool:
    """A way to have so many workers of one thread each."""
    if request.param == "processes":
        return LocalPool
    address = request.getfixturevalue("cluster")
    return lambda count: RayPool(address, threads=1, most=count)


class Workers:
    """Two workers that are there when they are asked for, or have left."""

    def __init__(self, make: MakePool) -> None:
        self._make, self._stack = make, ExitStack()
        self._pool: Pool | None = None

    def __call__(self) -> Pool:
        if self._pool is None:
            self._pool = self._stack.enter_context(self._make(WORKERS))
        return self._pool

    def leave(self) -> None:
        self._stack.close()
        self._pool = None


@pytest.fixture(scope="module")
def workers(make_pool: MakePool) -> Iterator[Workers]:
    """They stay from one test to the next, as they do from one job of a long night to the next."""
    made = Workers(make_pool)
    yield made
    made.leave()


@pytest.fixture
def pool(workers: Workers) -> Pool:
    return workers()


def items(text: str) -> list[Item]:
    """The items of a manifest by full paths: the workers began in another folder."""
    return items_here(text, Path.cwd())


def spent(
    pool: Pool,
    todo: list[Item],
    report: Report | None = None,
    *,
    watch: Callable[[Item], None] = lambda item: None,
) -> Batch:
    batch = Batch(pool, report, least_part=40)
    batch.add(todo)
    for item in batch.run():
        watch(item)
    batch.stop()
    return batch


def rendering() -> dict[int, bytes]:
    """Our processes that render or may come to, and their command lines."""
    found: dict[int, bytes] = {}
    for pid in children_of(os.getpid()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in words or words.startswith(b"ray::_Actor"):
            found[pid] = words
    return found


def kill_workers() -> None:
    """As a machine does that is out of memory."""
    for pid in rendering():
        os.kill(pid, signal.SIGKILL)


def by_hand(renders: list[Render]) -> list[list[bytes]]:
    """The pictures of films made here and now, each in one go, without any worker."""
    made: list[list[bytes]] = []
    for each in renders:
        request = each.request
        go = render_film(request) if isinstance(request, ZoomRequest) else render_video(request)
        for _ in go:
            pass
        made.append(pictures(request.target))
    return made


# ── tasks ──


def done(pool: Pool, tasks: list[Task]) -> dict[int, list[Message]]:
    """What is said of each task, from its beginning to its end."""
    waiting, said = list(tasks), defaultdict[int, list[Message]](list)
    ended = 0
    while ended < len(tasks):
        while waiting and pool.idle > 0:
            pool.start(waiting.pop(0))
        for number, message in pool.messages(0.2):
            said[number].append(message)
            ended += isinstance(message, Done | Failed)
    assert not list(pool.messages(0.0))
    return said


def test_each_task_is_told_of_in_order_and_ends_once(night, pool):
    text = f"jobs: [{{input: a.mp4, end: 4f, seed: [1, 2, 3], output: '{{seed}}.mp4', {QUICK}}}]"
    said = done(pool, [Task(item.number, item.render.request, Whole()) for item in items(text)])
    assert pool.idle == pool.size == WORKERS
    assert sorted(said) == [1, 2, 3]
    for began, *frames, last in said.values():
        assert (began, last) == (Began(4), Done())
        assert [frame.index for frame in frames if isinstance(frame, Advanced)] == [0, 1, 2, 3]


def test_a_task_that_fails_says_at_which_frame_and_its_worker_goes_on(night, pool, media):
    break_in_the_middle("broken.mp4", media)
    text = f"""
defaults: {{{QUICK}, end: 20f, strict: true}}
jobs: [{{input: [broken.mp4, a.mp4], seed: [1, 2], output: "{{stem}}-{{seed}}.mp4"}}]
"""
    said = done(pool, [Task(item.number, item.render.request, Whole()) for item in items(text)])
    for number in (1, 2):
        failed = said[number][-1]
        assert isinstance(failed, Failed)
        assert failed.exit_code == 65
        assert f"broken.mp4: frame {failed.frame} at " in failed.text
    assert [said[number][-1] for number in (3, 4)] == [Done(), Done()]


# ── nights ──


def test_the_pictures_are_those_of_a_render_by_hand(long_night, pool):
    text = f"""
defaults: {{{QUICK}, output: "NAME/{{stem}}.mp4"}}
jobs:
  - {{input: long.mp4, end: 96f, set: {{shots: [47]}}}}
  - {{kind: zoom, noise: pink, frames: 6, size: 64x48}}
  - {{input: a.mp4, end: 6f}}
"""
    Path("hand").mkdir()
    wanted = by_hand([item.render for item in items(text.replace("NAME", "hand"))])
    batch = spent(pool, items(text.replace("NAME", "out")))
    assert [item.state for item in batch.items] == ["finished"] * 3
    assert [pictures(item.render.entry.output) for item in batch.items] == wanted
    assert sorted(os.listdir("out")) == ["a.mp4", "long.mp4", "pink-noise.mp4"]


def test_one_worker_makes_the_same_pictures_as_two(long_night, workers, make_pool):
    text = f"""
defaults: {{{QUICK}, output: "NAME/{{stem}}.mp4"}}
jobs:
  - {{input: long.mp4, end: 96f, set: {{shots: [47]}}}}
  - {{input: a.mp4, end: 4f}}
"""

    def made_by(pool: Pool, name: str) -> list[list[bytes]]:
        batch = spent(pool, items(text.replace("NAME", name)))
        assert pool.size == int(name)
        return [pictures(item.render.entry.output) for item in batch.items]

    by_two = made_by(workers(), "2")
    workers.leave()
    with make_pool(1) as alone:
        assert made_by(alone, "1") == by_two


def test_the_report_is_the_same_whoever_did_the_work(night, pool, media):
    break_in_the_middle("broken.mp4", media)
    text = f"""
defaults: {{{QUICK}, output: "out/{{stem}}.mp4"}}
jobs:
  - {{input: a.mp4, end: 4f}}
  - {{input: broken.mp4, strict: true, end: 20f}}
  - {{kind: image, input: cup.jpg, size: 64, output: out/cup.png}}
"""
    spent(pool, items(text), Report(Path("report.json")))
    told = json.loads(Path("report.json").read_text())
    jobs = told["jobs"]
    assert all(job.pop("seconds") > 0 for job in jobs)
    error = jobs[1].pop("error")
    assert f"broken.mp4: frame {error['frame']} at " in error["cause"]
    assert jobs[1].pop("frames_done") <= error["frame"]  # what was read ahead is not dreamed
    common = {"preset": "base", "seed": 0, "tries": 1, "kind": "video"}
    assert jobs == [
        common | {"number": 1, "input": f"{night}/a.mp4", "output": f"{night}/out/a.mp4",
                  "state": "finished",
                  "frames": 4, "size": [64, 48], "rate": "24000/1001", "frames_done": 4},
        common | {"number": 2, "input": f"{night}/broken.mp4", "output": f"{night}/out/broken.mp4",
                  "state": "failed", "frames": 20, "size": [32, 24], "rate": "25"},
        common | {"number": 3, "kind": "image", "input": f"{night}/cup.jpg",
                  "output": f"{night}/out/cup.png",
                  "state": "finished", "frames": 1, "size": [64, 43], "rate": "30",
                  "frames_done": 1},
    ]  # fmt: skip
    assert (told["finished"], told["failed"], told["stopped"]) == (2, 1, 0)


def test_a_night_that_is_over_is_not_begun_again(night, pool):
    text = f"jobs: [{{input: a.mp4, end: 2f, seed: [1, 2], output: '{{seed}}.mp4', {QUICK}}}]"
    spent(pool, items(text))
    made = {name: os.stat(name).st_mtime_ns for name in ("1.mp4", "2.mp4")}
    again = spent(pool, items(text))
    assert [(item.state, item.tries) for item in again.items] == [("there already", 0)] * 2
    assert {name: os.stat(name).st_mtime_ns for name in made} == made


ONE_FILM = """
jobs:
  - input: long.mp4
    end: 150f
    output: NAME.mp4
    set: {dream: {octaves: 1, steps: 1}, follow: {octaves: 1, steps: 4}}
"""


def test_what_was_stopped_is_gone_on_with_behind_its_last_chunk(long_night, workers):
    (wanted,) = by_hand([item.render for item in items(ONE_FILM.replace("NAME", "hand"))])
    stopped = Batch(workers())
    stopped.add(items(ONE_FILM.replace("NAME", "film")))
    for item in stopped.run():
        if item.frames_done > 60:
            break
    workers.leave()
    stopped.stop()
    assert stopped.items[0].state == "stopped"
    assert wait_for(lambda: not rendering(), 60)
    finished = len(list(Path(".film.mp4.dreamflow").glob("*.video")))
    assert finished
    done: list[int] = []
    spent(
        workers(),
        items(ONE_FILM.replace("NAME", "film")),
        watch=lambda item: done.append(item.frames_done) if item.frames_to_come else None,
    )
    assert done[0] >= 48 * finished
    assert pictures("film.mp4") == wanted
    assert not Path(".film.mp4.dreamflow").exists()


def test_a_killed_worker_is_replaced_and_the_pictures_are_the_same(long_night, pool):
    (wanted,) = by_hand([item.render for item in items(ONE_FILM.replace("NAME", "hand"))])
    killed: list[int] = []

    def kill_once(item: Item) -> None:
        if item.frames_done > 60 and not killed:
            killed.append(item.frames_done)
            kill_workers()

    (item,) = spent(pool, items(ONE_FILM.replace("NAME", "film")), watch=kill_once).items
    assert killed
    assert (item.state, item.tries) == ("finished", 2)
    assert [text for text in item.warnings if "begun again" in text]
    assert pictures("film.mp4") == wanted
    assert [name for name in os.listdir() if name.startswith(".")] == []


def test_a_render_that_costs_three_workers_is_given_up_and_others_are_done(night, pool):
    killed: set[int] = set()
    before = 0

    def kill_each(item: Item) -> None:
        nonlocal before
        if item.frames_done > before and item.tries not in killed:
            killed.add(item.tries)
            kill_workers()
        before = item.frames_done

    slow = "set: {dream: {octaves: 1, steps: 4}, follow: {octaves: 1, steps: 40}}"
    text = "jobs: [{input: a.mp4, output: x.mp4, SET}]"
    (item,) = spent(pool, items(text.replace("SET", slow)), watch=kill_each).items
    assert (item.state, item.tries, item.exit_code) == ("failed", MAX_TRIES, 75)
    assert killed == {1, 2, 3}
    assert item.cause.endswith(", 3 times")
    (item,) = spent(pool, items(text.replace("SET", QUICK))).items
    assert (item.state, item.tries) == ("finished", 1)
