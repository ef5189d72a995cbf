"""What Ray costs a batch, from small runs: `python tests/bench/ray_scale.py` (ten minutes).

Legs are replaced by tasks that sleep for a known time and speak as often as a leg does, so the
nodes can be simulated on one machine (`ray.cluster_utils.Cluster`). The model of
`dreamflow.ray_engine` has three numbers, and each comes from runs on one and two nodes:

    h  seconds that a task costs its worker besides its sleep
    d  CPU seconds that a task costs the driver, however long it is
    b  CPU seconds that a bundle of what workers say costs the driver

With them it foretells how long four nodes take, which then do it; `MOST_OFF` is what it may be off.
At last it is reckoned up to 10,000 legs on 1,000 workers.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from dreamflow import ray_engine
from dreamflow.film import Leg
from dreamflow.job import VideoRequest
from dreamflow.preset import load
from dreamflow.ray_engine import RayPool, bundle_seconds
from dreamflow.work import Advanced, Done, Message, Task

WORKERS_A_NODE = 2
FRAMES_A_SECOND = 10
LEG_FRAMES = 8 * 48
SHORT, LONG = 1.0, 6.0
"""Seconds that tasks sleep; the driver hears more of the long ones."""
SECONDS_A_WORKER = 12.0
MOST_OFF = 0.1
MEMORY = 80 << 20


@dataclass(frozen=True)
class Sleep:
    """In place of a leg: take so long, and say as much."""

    seconds: float

    def __call__(self, task: Task) -> Generator[Message, None, None]:
        for index in range(round(self.seconds * FRAMES_A_SECOND)):
            time.sleep(1 / FRAMES_A_SECOND)
            yield Advanced(index, 1 / FRAMES_A_SECOND)
        yield Done()


@dataclass(frozen=True)
class Run:
    """What was measured."""

    workers: int
    tasks: int
    sleep: float
    start_seconds: float
    """Until all workers were there."""
    seconds: float
    """From the first task's beginning to the last one's end."""
    driver_seconds: float
    """CPU time of the driver's process meanwhile."""

    @property
    def overhead(self) -> float:
        """Seconds of a worker for each task, besides its sleep."""
        return self.seconds * self.workers / self.tasks - self.sleep

    @property
    def driver_overhead(self) -> float:
        """CPU seconds of the driver for each task."""
        return self.driver_seconds / self.tasks


@dataclass(frozen=True)
class Model:
    """How long so many legs take on so many workers, as `dreamflow.ray_engine` says."""

    h: float
    d: float
    b: float

    @classmethod
    def of(cls, runs: list[Run]) -> Model:
        """From runs with tasks of two lengths."""
        short = [run for run in runs if run.sleep == SHORT]
        long = [run for run in runs if run.sleep == LONG]
        cost = [statistics.mean(run.driver_overhead for run in each) for each in (short, long)]
        more = (LONG - SHORT) / bundle_seconds(1)
        b = max(0.0, (cost[1] - cost[0]) / more)
        d = max(0.0, cost[0] - b * SHORT / bundle_seconds(1))
        return cls(statistics.mean(run.overhead for run in runs), d, b)

    def driver(self, workers: int, seconds: float) -> float:
        """CPU seconds of the driver for a leg."""
        return self.d + self.b * seconds / bundle_seconds(workers)

    def __call__(self, tasks: int, workers: int, seconds: float) -> float:
        busy = ceil(tasks / workers) * (seconds + self.h)
        return max(busy, tasks * self.driver(workers, seconds))


def measured(nodes: int, sleep: float) -> Run:
    ray_engine.load()
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": MEMORY}
    )
    for _ in range(nodes):
        cluster.add_node(num_cpus=WORKERS_A_NODE, object_store_memory=MEMORY)
    workers = nodes * WORKERS_A_NODE
    tasks = workers * ceil(SECONDS_A_WORKER / sleep)
    began = time.perf_counter()
    with RayPool(cluster.address, threads=1, do=Sleep(sleep)) as pool:
        while pool.idle < workers:
            time.sleep(0.1)
        start = time.perf_counter() - began
        spend(pool, workers)  # the first task of an actor costs it some imports
        before, used = time.perf_counter(), cpu_seconds()
        spend(pool, tasks)
        seconds, used = time.perf_counter() - before, cpu_seconds() - used
    cluster.shutdown()
    return Run(workers, tasks, sleep, start, seconds, used)


def spend(pool: RayPool, left: int) -> None:
    """Give the pool so many tasks, and wait for them."""
    running = 0
    while left or running:
        while left and pool.idle > 0:
            pool.start(replace(TASK, number=left))
            left, running = left - 1, running + 1
        running -= sum(isinstance(message, Done) for _, message in pool.messages(0.2))


TASK = Task(
    0,
    VideoRequest(Path("/footage/clip.mp4"), "/footage/dream.mp4", load("base")),
    Leg(0, 0, 8, None),
)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def bytes_a_frame(workers: int) -> float:
    """What travels over Ray for a frame of a leg: its share of the request and of the bundles."""
    from ray import cloudpickle

    count = round(bundle_seconds(workers) * FRAMES_A_SECOND)
    bundle = tuple(Advanced(index, 0.1) for index in range(count))
    spoken = LEG_FRAMES / count * len(cloudpickle.dumps(bundle))
    return (len(cloudpickle.dumps(TASK)) + spoken) / LEG_FRAMES


def told(run: Run) -> str:
    return (
        f"{run.workers} workers, {run.tasks} tasks of {run.sleep:.0f} s: {run.seconds:.2f} s; a "
        f"task cost its worker {run.overhead * 1000:.0f} ms and the driver "
        f"{run.driver_overhead * 1000:.1f} ms; workers there after {run.start_seconds:.1f} s"
    )


def main() -> int:
    runs: list[Run] = []
    for nodes, sleep in ((1, SHORT), (2, SHORT), (1, LONG), (2, LONG)):
        runs.append(measured(nodes, sleep))
        print(told(runs[-1]), flush=True)
    model = Model.of(runs)
    print(
        f"so h = {model.h * 1000:.0f} ms, d = {model.d * 1000:.1f} ms, b = {model.b * 1000:.2f} ms;"
        f" {bytes_a_frame(1):.0f} bytes over Ray a frame"
    )
    worst = 0.0
    for sleep in (SHORT, LONG):
        run = measured(4, sleep)
        foretold = model(run.tasks, run.workers, sleep)
        off = foretold / run.seconds - 1
        worst = max(worst, abs(off))
        print(f"{told(run)}; foretold {foretold:.2f} s, {off:+.1%}", flush=True)
    for seconds in (10.0, 40.0, 400.0):
        whole, driver = model(10_000, 1000, seconds), model.driver(1000, seconds)
        print(
            f"10,000 legs of {seconds:.0f} s on 1,000 workers: {whole:.0f} s, "
            f"{10_000 * seconds / 1000 / whole:.1%} of them at work; the driver is busy "
            f"{1000 * driver / seconds:.0%} of the time"
        )
    return worst > MOST_OFF


if __name__ == "__main__":
    sys.exit(main())
