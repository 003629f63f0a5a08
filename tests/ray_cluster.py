"""A real Ray cluster of several node processes on this machine, for as long as a module's tests last."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
STORE = 80 * 2**20  # bytes; Ray takes no less
STARTS = 3  # a node that a busy machine does not bring up within Ray's half a minute is tried again


@contextmanager
def ray_cluster(*nodes: dict[str, Any]) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of `nodes`, the first of which is the head. Nothing of it is left afterwards."""
    # Ray's workers are as nice as can be: beside other tests on the same cores they would come last, and late.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    before = {process.pid for process in psutil.process_iter()}
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short: a socket's path has 100 characters
    Path("/tmp/ray").mkdir(exist_ok=True)  # where a head node of any folder leaves its address, and fails if it cannot
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for node in nodes:
            add_node(cluster, wait=False, **node, **({} if cluster.head_node else {"temp_dir": folder}))
        cluster.wait_for_nodes(timeout=120)
        yield cluster
    finally:
        cluster.shutdown()
        wait_for(lambda: not [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and _of(p, folder)])
        shutil.rmtree(folder, ignore_errors=True)


def add_node(cluster: Any, *code: Path, wait: bool = True, **options: Any) -> Any:
    """Another node, whose workers find modules in `code` before those of the project and its tests."""
    for attempt in range(STARTS):
        try:
            with import_path(*code, HERE.parent, HERE):
                return cluster.add_node(wait=wait, include_dashboard=False, object_store_memory=STORE, **options)
        except Exception:
            if attempt == STARTS - 1:
                raise
    raise AssertionError


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


def _of(process: psutil.Process, folder: str) -> bool:
    """Whether it is one of the cluster whose files are in `folder`."""
    try:
        return folder in " ".join(process.info["cmdline"] or []) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
