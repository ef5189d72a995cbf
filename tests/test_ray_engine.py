"""Batches on Ray: the same pictures as on one machine, whatever becomes of a node."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from nights import items, pictures, wait_for

from dreamflow import ray_engine
from dreamflow.batch import Batch
from dreamflow.errors import UnavailableError
from dreamflow.ray_engine import BUNDLE_SECONDS, RayPool, bundle_seconds, bundled
from dreamflow.work import Advanced, Began, Done, Failed
from dreamflow.workers import LocalPool

MANIFEST = """
jobs:
  - input: long.mp4
    end: 200f
    output: NAME/film.mp4
    set: {shots: [47, 90, 140], dream: {octaves: 1, steps: 1}, follow: {octaves: 1, steps: 1}}
  - {kind: zoom, noise: pink, frames: 60, size: 64x48, output: NAME/zoom.mp4}
"""


@pytest.fixture
def night(long_night):
    """The items of a manifest over a clip of three cuts, whose results go into a folder."""
    return lambda folder: items(MANIFEST.replace("NAME", folder))


@pytest.fixture
def cluster():
    """A head that only directs, and two nodes with one CPU each."""
    ray_engine.load()
    from ray.cluster_utils import Cluster

    memory = 80 << 20
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory}
    )
    made.workers = [made.add_node(num_cpus=1, object_store_memory=memory) for _ in range(2)]
    yield made
    made.shutdown()


def spent(pool, todo):
    night = Batch(pool, least_part=40)
    with pool:
        night.add(todo)
        for _ in night.run():
            pass
    night.stop()
    return night


def by_hand(night, name="local"):
    """The pictures of a run on this machine alone."""
    spent(LocalPool(2), night(name))
    return [pictures(f"{name}/film.mp4"), pictures(f"{name}/zoom.mp4")]


@pytest.mark.slow
def test_row_33_a_node_that_goes_in_the_middle_of_a_shot_changes_nothing(night, cluster):
    wanted = by_hand(night)
    gone: list[threading.Thread] = []

    def remove_one(item):
        if not gone and sum(each.frames_done > 5 for each in done_so_far.items) == 2:
            node = cluster.workers.pop()
            gone.append(threading.Thread(target=cluster.remove_node, args=(node, False)))
            gone[0].start()

    pool = RayPool(cluster.address, threads=1)
    done_so_far = Batch(pool, least_part=40)
    with pool:
        done_so_far.add(night("ray"))
        for item in done_so_far.run():
            remove_one(item)
    done_so_far.stop()
    gone[0].join()
    assert [item.state for item in done_so_far.items] == ["finished", "finished"]
    assert 2 <= max(item.tries for item in done_so_far.items) <= 3
    lost = [text for item in done_so_far.items for text in item.warnings if "begun again" in text]
    assert lost
    assert [pictures("ray/film.mp4"), pictures("ray/zoom.mp4")] == wanted


@pytest.mark.slow
def test_a_driver_that_was_killed_is_gone_on_from_by_the_same_command(night, tmp_path):
    wanted = by_hand(night)
    night("ray")  # writes the manifest
    words = [sys.executable, "-m", "dreamflow", "batch", "night.yaml", "--ray", "local"]
    words += ["--workers", "2", "--threads", "1", "--device", "cpu"]
    driver = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    folder = tmp_path / "ray" / ".film.mp4.dreamflow"
    assert wait_for(lambda: any(folder.glob("*.video")), 300)
    driver.kill()
    driver.communicate(timeout=60)
    before = {path.name: path.stat().st_ino for path in folder.glob("*.video")}
    assert before
    again = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert [pictures("ray/film.mp4"), pictures("ray/zoom.mp4")] == wanted


class NotThere:
    """What only the driver can make something of, as if the nodes lacked dreamflow."""

    def __reduce__(self):
        return __import__, ("dreamflow_of_another_version",)


@pytest.mark.slow
def test_nodes_without_dreamflow_are_told_of_and_not_waited_for(night, cluster):
    with pytest.raises(UnavailableError, match=r"No module named 'dreamflow_of.* is the same"):
        spent(RayPool(cluster.address, threads=1, do=NotThere()), night("ray"))


# ── what there is without a cluster ──


def test_without_ray_the_error_names_the_extra(tmp_path):
    Path(tmp_path / "night.yaml").write_text("jobs: [{input: a.mp4, output: b.mp4}]")
    program = (
        "import sys; sys.modules['ray'] = None; from dreamflow.cli import run; "
        "sys.exit(run(['batch', 'night.yaml', '--ray', 'auto']))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 69
    assert ran.stderr == "dreamflow: error: --ray needs Ray: pip install 'dreamflow[ray]'\n"


def test_a_run_on_this_machine_does_not_know_of_ray():
    program = (
        "import sys, dreamflow.cli, dreamflow.batch, dreamflow.workers, dreamflow.watch; "
        "assert not {'ray', 'dreamflow.ray_engine'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_thousand_actors_speak_no_more_often_together_than_a_hundred():
    assert [bundle_seconds(count) for count in (1, 50, 100, 1000)] == [0.5, 0.5, 1.0, 10.0]


def test_what_is_said_is_bundled_and_the_last_word_comes_at_once():
    words = [Began(3), Advanced(0, 0.1), Advanced(1, 0.1), Done()]
    assert list(bundled(iter(words))) == [(), tuple(words)]

    def slowly():
        yield Began(1)
        time.sleep(BUNDLE_SECONDS)
        yield Advanced(0, 0.5)
        yield Failed(65, "broken")

    first, *rest = bundled(slowly())
    assert first == ()
    assert rest == [(Began(1), Advanced(0, 0.5)), (Failed(65, "broken"),)]
