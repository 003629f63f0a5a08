"""What a Ray cluster costs and brings, and a cost model held against what was measured.

    python benchmarks/ray_engine.py [--images 48] [--size 448] [--workers 2] [--rounds 3] [--folder PHOTOS]

A cluster of node processes is started on this machine, each with room for one worker, so the cores are shared and no speed
can be gained: shown is what the engine takes. In every round, one after another on the same images:
this machine's processes, workers that share the folders, and workers to which everything travels. Printed are

1. images per second of the embedded profile's tasks, and wall clock and CPU time of the engine itself per image: a task that
   does nothing, on tiny images;
2. per image and task: CPU seconds, bytes in the cache, bytes that travel, memory of a worker; and what in fact crossed the
   loopback interface meanwhile, over which the node processes talk (less what crosses it when nobody works);
3. in a line or two: throughput of Ray against local, and what Ray adds to an image;
4. what the model makes of one process's figures for the runs of 1, next to what they took, and for a million images.

CPU times hold on a busy machine; wall clock needs one that does nothing else.
"""

import argparse
import hashlib
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from threadpoolctl import threadpool_limits

from tmuad.cache import Record, unseal
from tmuad.config import DataParams, DemoParams, Params, SegmentParams, parse_params
from tmuad.encode.features import DefectTask, FeatureTask
from tmuad.encode.filters import FilterEncoder
from tmuad.engine import ImageRef, Task, executing, map_images
from tmuad.executors.ray_worker import Outcome, Parcel
from tmuad.executors.work import Mapper
from tmuad.segment.scene import SceneTask

MILLION = 10**6
WAYS = {"local": {}, "ray, shared folders": {"carry": "auto"}, "ray, carried": {"carry": "always"}}


@dataclass(frozen=True)
class Nothing:
    """A task that takes no time: what is left is the engine's. `seconds` makes it wait, for a start."""

    seconds: float = 0.0
    name: str = "nothing"
    after: None = None

    @property
    def fingerprint(self) -> str:
        return str(self.seconds)

    def __call__(self, image: Any, prior: Record) -> Record:
        time.sleep(self.seconds)
        return {"mean": image.mean(axis=(0, 1))}


@dataclass
class Run:
    wall: float  # s
    driver: float  # s of CPU in this process
    workers: float  # s of CPU in the others
    crossed: float  # bytes over the loopback interface


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # as nice as this machine's processes
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), before]))
    small = {"include_dashboard": False, "object_store_memory": 256 * 2**20}
    it = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        for _ in range(nodes):
            it.add_node(num_cpus=1, wait=False, **small)
        it.wait_for_nodes()
        yield it.address
    finally:
        it.shutdown()


def pictures(folder: Path, count: int, side: int, draw: Callable[[int], np.ndarray] | None = None) -> list[ImageRef]:
    folder.mkdir()
    refs = []
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 256, (side, side, 3)).astype(np.uint8)
        Image.fromarray(draw(i) if draw else noise).save(path := folder / f"{i:04}.png")
        refs.append(ref(path))
    return refs


def ref(path: Path) -> ImageRef:
    return ImageRef(hashlib.sha256(path.read_bytes()).hexdigest(), path)


def demo_pictures(folder: Path, count: int) -> list[ImageRef]:
    from tmuad.data.demo.generate import SUPERSAMPLE, draw_good, make_atlas

    demo = DemoParams(categories=("hardware_kit",))
    atlas = make_atlas(demo.size * SUPERSAMPLE, demo.seed)
    return pictures(folder, count, demo.size, lambda i: draw_good("hardware_kit", "train", i, demo, atlas)[1])


def measured(task: Task, refs: Sequence[ImageRef], data: DataParams) -> Run:
    """One pass over images that the cache has never seen; the records are read and dropped."""
    wall, driver, others, bytes_ = time.perf_counter(), time.process_time(), cpu_of_workers(), loopback()
    for _ in map_images(task, refs, data):
        pass
    seconds = time.perf_counter() - wall
    return Run(seconds, time.process_time() - driver, cpu_of_workers() - others, loopback() - bytes_)


def loopback() -> int:
    """Bytes that this machine has sent to itself since it started."""
    nics = psutil.net_io_counters(pernic=True, nowrap=True)
    return next(count.bytes_sent for name, count in nics.items() if name in ("lo", "lo0"))


def idle_loopback(seconds: float = 5.0) -> float:
    """Bytes per second while nobody works: heartbeats of the nodes, and whatever else runs here."""
    before = loopback()
    time.sleep(seconds)
    return (loopback() - before) / seconds


def verdict(runs: dict[tuple[str, str], list[Run]], counts: dict[str, int]) -> None:
    """Ray against local of the same round, and what it adds to an image."""
    for way in list(WAYS)[1:]:
        said = []
        for task in ("segment", "features"):
            rounds = list(zip(runs["local", task], runs[way, task], strict=True))
            ratio = [ours.wall / theirs.wall for ours, theirs in rounds]
            added = [1e3 * (theirs.wall - ours.wall) / counts[task] for ours, theirs in rounds]
            said.append(f"{task} {spread(ratio)} times local's images/s, {spread(added, 1)} ms more per image")
        cpu = [
            1e3 * (theirs.driver + theirs.workers - ours.driver - ours.workers) / counts["nothing"]
            for ours, theirs in zip(runs["local", "nothing"], runs[way, "nothing"], strict=True)
        ]
        print(f"VERDICT, {way}: {'; '.join(said)}; the engine alone {spread(cpu)} ms of CPU more per image")
    print(flush=True)


def cpu_of_workers() -> float:
    """CPU seconds of the forked processes that have ended, and of the actors."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(sum(a.cpu_times()[:2]) for a in actors())


def actors() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0].startswith("ray::Worker")]


def parameters(address: str, workers: int, way: str) -> Params:
    executor = "local" if way == "local" else "ray"
    return parse_params(
        {"units": {}, "executor": executor, "ray": {"address": address, "default": {"workers": workers}, **WAYS[way]}}
    )


def spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


def alone(task: Task, refs: Sequence[ImageRef], data: DataParams) -> dict[str, float]:
    """One process's figures of one image whose prior record is in the cache: CPU seconds to the entry and back from it, bytes
    of the entry, bytes that would travel there and back."""
    import ray.cloudpickle as travel

    mapper = Mapper(task, data)
    seconds, entry, there, back = [], [], [], []
    for one in refs:
        if task.after:
            mapper.record(one, task.after)
        start = time.process_time()
        mapper.record(one)
        sealed = mapper.cache.read(one.image_id, mapper.kind) or b""
        assert unseal(sealed) is not None
        seconds.append(time.process_time() - start)
        parcel = Parcel(mapper, "", [one], {str(one.path): one.path.read_bytes()}, mapper.given([one]))
        entry.append(len(sealed))
        there.append(len(travel.dumps(parcel)))
        back.append(len(travel.dumps(Outcome([], [(one.image_id, mapper.kind, sealed)]))))
    names = ("seconds", "entry", "there", "back")
    return {name: statistics.mean(values) for name, values in zip(names, (seconds, entry, there, back), strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="photographs (PNG) to take instead of drawn ones")
    options = parser.parse_args()
    scene, encoder = SceneTask(SegmentParams(), 32), FilterEncoder()
    features = FeatureTask(scene, encoder)
    tasks: dict[str, Task] = {"segment": scene, "features": features, "simulate defects": DefectTask()}
    with tempfile.TemporaryDirectory() as name, cluster(options.workers) as address, threadpool_limits(1):
        base = Path(name)
        if options.folder:
            refs = [ref(path.resolve()) for path in sorted(options.folder.rglob("*.png"))[: options.images]]
        else:
            refs = demo_pictures(base / "drawn", options.images)
        tiny = pictures(base / "tiny", 512, 64)
        os.chdir(base)
        print(
            f"{len(refs)} images, {options.size} px, {options.workers} workers, {options.rounds} rounds; "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; median (range)\n"
        )
        numbers = iter(range(10**6))
        idle = idle_loopback()

        def data(size: int) -> DataParams:
            return DataParams(size=size, workers=options.workers, cache=f"cache-{next(numbers)}")

        runs: dict[tuple[str, str], list[Run]] = {}
        starts: list[float] = []
        memory: list[int] = []
        for _ in range(options.rounds):
            for way in WAYS:
                for passes in (("nothing",), ("segment", "features")):
                    # One cache for as long as workers live, as in a stage: of another they would have to be sent all.
                    small = data(64)
                    full = small.model_copy(update={"size": options.size})
                    with executing(parameters(address, options.workers, way)):
                        if way != "local":  # connect, start the workers, import
                            begun = time.perf_counter()
                            list(map_images(Nothing(0.001), tiny[:1], small))
                            starts.append(time.perf_counter() - begun)
                            list(map_images(Nothing(0.4), tiny[: 8 * options.workers], small))
                        for task in passes:
                            work = {"nothing": Nothing(), **tasks}[task]
                            seen, settings = (tiny, small) if task == "nothing" else (refs, full)
                            runs.setdefault((way, task), []).append(measured(work, seen, settings))
                        memory += [actor.memory_info().rss for actor in actors()]

        rows = []
        for task in ("segment", "features"):
            for way in WAYS:
                rates = [len(refs) / run.wall for run in runs[way, task]]
                cpu = [(run.driver + run.workers) / len(refs) for run in runs[way, task]]
                share = [b.wall / a.wall for a, b in zip(runs[way, task], runs["local", task], strict=True)]
                rows.append([task, way, spread(rates, 1), spread(share), spread(cpu, 3)])
        table(["task", "way", "images/s", "against local, same round", "CPU s per image, all processes"], rows)
        rows = []
        for way in WAYS:
            each = runs[way, "nothing"]
            wall, driver, work = (
                [getattr(run, f) / len(tiny) * 1e3 for run in each] for f in ("wall", "driver", "workers")
            )
            rows.append([way, spread(wall), spread(driver), spread(work)])
        table(["engine alone (tiny images)", "wall ms per image", "CPU ms, this process", "CPU ms, workers"], rows)
        print(f"connect, start a worker and get its first image back: {spread(starts, 1)} s\n")

        verdict(runs, {"nothing": len(tiny), "segment": len(refs), "features": len(refs)})
        figures = {name: alone(task, refs[:16], data(options.size)) for name, task in tasks.items()}
        rss = statistics.median(memory) / 2**20
        table(
            ["per image", "CPU s", "cache kB", "carried there kB", "carried back kB", "worker MB"],
            [
                [n, f"{f['seconds']:.3f}", *(f"{f[k] / 1e3:.0f}" for k in ("entry", "there", "back")), f"{rss:.0f}"]
                for n, f in figures.items()
            ],
        )
        rows = []
        for task in ("segment", "features"):
            for way in WAYS:
                crossed = [max(0.0, run.crossed - idle * run.wall) / len(refs) / 1e3 for run in runs[way, task]]
                counted = figures[task]["there"] + figures[task]["back"] if way == "ray, carried" else 0
                rows.append([task, way, spread(crossed, 0), f"{counted / 1e3:.0f}" if counted else "paths and names"])
        table(["per image", "way", "loopback kB, measured", "counted kB"], rows)
        print(f"with nobody at work {idle / 1e3:.1f} kB/s crossed the loopback interface; taken off above\n")
        engine = {way: statistics.median(run.driver for run in runs[way, "nothing"]) / len(tiny) for way in WAYS}
        rows = []
        for task in ("segment", "features"):
            for way in WAYS:
                said = figures[task]["seconds"] + engine[way]
                took = statistics.median((run.driver + run.workers) / len(refs) for run in runs[way, task])
                rows.append([task, way, f"{said:.3f}", f"{took:.3f}", f"{took / said:.2f}"])
        table(["task", "way", "model: CPU s per image", "measured", "measured / model"], rows)
        total = {k: sum(f[k] for f in figures.values()) for k in ("seconds", "entry", "there", "back")}
        print(
            f"a million images, all three tasks: {total['seconds'] * MILLION / 3600:.0f} core hours; cache "
            f"{total['entry'] * MILLION / 1e12:.2f} TB; carried {(total['there'] + total['back']) * MILLION / 1e12:.2f} TB; "
            f"this process {3 * engine['ray, shared folders'] * MILLION / 3600:.1f} h of CPU with shared folders, "
            f"{3 * engine['ray, carried'] * MILLION / 3600:.1f} h carried"
        )


if __name__ == "__main__":
    sys.exit(main())
