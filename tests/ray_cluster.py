"""A real Ray cluster of several node processes on this machine, for as long as a module's tests last."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
STORE = 80 * 2**20  # bytes; Ray takes no less
# Lost nodes are noticed within two seconds rather than fifteen.
HEALTH = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


@contextmanager
def ray_cluster(*nodes: dict[str, Any]) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of `nodes` beside a head that takes no work."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = {process.pid for process in psutil.process_iter()}
    with import_path(HERE.parent, HERE):
        from ray.cluster_utils import Cluster

        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE, "_system_config": HEALTH,
            },
        )  # fmt: skip
        try:
            for node in nodes:
                add_node(cluster, wait=False, **node)
            cluster.wait_for_nodes(timeout=120)
            yield cluster
        finally:
            cluster.shutdown()
    wait_for(lambda: not [p for p in psutil.process_iter(["name", "cmdline"]) if p.pid not in before and _of_ray(p)])


def add_node(cluster: Any, wait: bool = True, **options: Any) -> Any:
    return cluster.add_node(wait=wait, object_store_memory=STORE, **options)


@contextmanager
def import_path(*folders: Path) -> Iterator[None]:
    """Where the processes that are started now look for modules first."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, folders), *filter(None, [before])])
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true answer of `what`; the machine may be busy, so the limit is only for what never comes."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"nothing within {seconds} s"
        time.sleep(0.05)
    return answer


def _of_ray(process: psutil.Process) -> bool:
    try:
        words = " ".join(process.info["cmdline"] or [])
        return process.status() != psutil.STATUS_ZOMBIE and ("ray::" in words or "/ray/core/" in words)
    except psutil.NoSuchProcess:
        return False
