"""What Ray costs a batch, from small runs: `python tests/bench/ray_scale.py`.

Legs are replaced by tasks that sleep for a known time and speak as often as a leg does, so the
nodes can be simulated on one machine (`ray.cluster_utils.Cluster`). From runs on 1, 2 and 4 nodes
come the seconds a task costs its worker (h) and the driver (d); with them the model in
`dreamflow.ray_engine` is held against the runs themselves and reckoned up to 1,000 workers.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from dreamflow import ray_engine
from dreamflow.film import Leg
from dreamflow.job import VideoRequest
from dreamflow.preset import load
from dreamflow.ray_engine import BUNDLE_SECONDS, RayPool
from dreamflow.work import Advanced, Done, Message, Task

NODES = (1, 2, 4)
WORKERS_A_NODE = 2
SLEEP_SECONDS = 1.0
FRAMES_A_SECOND = 10
TASKS_A_WORKER = 8
MEMORY = 80 << 20


def sleeping(task: Task) -> Generator[Message, None, None]:
    """Take as long as a short leg, and say as much."""
    for index in range(int(SLEEP_SECONDS * FRAMES_A_SECOND)):
        time.sleep(1 / FRAMES_A_SECOND)
        yield Advanced(index, 1 / FRAMES_A_SECOND)
    yield Done()


@dataclass(frozen=True)
class Run:
    """What was measured on so many workers."""

    workers: int
    tasks: int
    start_seconds: float
    seconds: float
    """From the first task's beginning to the last one's end, with all workers there."""
    driver_seconds: float
    """CPU time of the driver's process meanwhile."""

    @property
    def overhead(self) -> float:
        """Seconds of a worker for each task, besides its sleep."""
        return self.seconds * self.workers / self.tasks - SLEEP_SECONDS

    @property
    def driver_overhead(self) -> float:
        return self.driver_seconds / self.tasks


def request() -> VideoRequest:
    return VideoRequest(Path("/footage/clip.mp4"), "/footage/dream.mp4", load("base"))


def measured(nodes: int) -> Run:
    ray_engine.load()
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": MEMORY}
    )
    for _ in range(nodes):
        cluster.add_node(num_cpus=WORKERS_A_NODE, object_store_memory=MEMORY)
    workers = nodes * WORKERS_A_NODE
    began = time.perf_counter()
    with RayPool(cluster.address, threads=1, do=sleeping) as pool:
        spend(pool, workers, 1)  # until all actors are there
        start = time.perf_counter() - began
        before, used = time.perf_counter(), cpu_seconds()
        spend(pool, workers, TASKS_A_WORKER)
        seconds, used = time.perf_counter() - before, cpu_seconds() - used
    cluster.shutdown()
    return Run(workers, workers * TASKS_A_WORKER, start, seconds, used)


def spend(pool: RayPool, workers: int, tasks_a_worker: int) -> None:
    """Give the pool so many tasks, and wait for them."""
    left, running = workers * tasks_a_worker, 0
    task = Task(0, request(), Leg(0, 0, 8, None))
    while left or running:
        while left and pool.idle > 0:
            pool.start(replace(task, number=left))
            left, running = left - 1, running + 1
        running -= sum(isinstance(message, Done) for _, message in pool.messages(0.2))


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def model(tasks: int, workers: int, seconds: float, overhead: float, driver: float) -> float:
    """Seconds that so many tasks take on so many workers, as `dreamflow.ray_engine` says."""
    rounds = -(-tasks // workers)
    return max(rounds * (seconds + overhead), tasks * driver)


def bytes_a_frame() -> float:
    """What travels over Ray for a frame of a leg: its share of the request and of the bundles."""
    from ray import cloudpickle

    frames = 8 * 48
    task = Task(1, request(), Leg(0, 0, 8, None))
    bundle = tuple(Advanced(index, 0.1) for index in range(int(BUNDLE_SECONDS * FRAMES_A_SECOND)))
    spoken = frames / len(bundle) * len(cloudpickle.dumps(bundle))
    return (len(cloudpickle.dumps(task)) + spoken) / frames


def main() -> None:
    nodes = [int(word) for word in sys.argv[1:]] or list(NODES)
    runs = [measured(count) for count in nodes]
    overhead = sum(run.overhead for run in runs) / len(runs)
    driver = sum(run.driver_overhead for run in runs) / len(runs)
    for run in runs:
        foreseen = model(run.tasks, run.workers, SLEEP_SECONDS, overhead, driver)
        print(
            f"{run.workers} workers: {run.tasks} tasks of {SLEEP_SECONDS} s in {run.seconds:.2f} s "
            f"(model {foreseen:.2f} s), {run.overhead * 1000:.0f} ms of a worker and "
            f"{run.driver_overhead * 1000:.1f} ms of the driver a task, "
            f"start {run.start_seconds:.1f} s"
        )
    print(f"bytes over Ray a frame: {bytes_a_frame():.0f}")
    for leg in (40.0, 400.0):
        whole = model(10_000, 1000, leg, overhead, driver)
        print(
            f"10,000 legs of {leg:.0f} s on 1,000 workers: {whole:.0f} s, "
            f"{10_000 * leg / 1000 / whole:.1%} of them at work; the driver could feed "
            f"{(leg + overhead) / driver:.0f}"
        )


if __name__ == "__main__":
    main()
