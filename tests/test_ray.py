"""The Ray executor on a real cluster of node processes: the same bytes as local, whatever is lost on the way."""

import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from fits import small_disk
from PIL import Image
from ray_cluster import HERE, add_node, import_path, ray_cluster, wait_for
from ray_tasks import BatchLook, Look, calls, noted
from refit_workspace import UNIT, build, python

from tmuad.cache import Cache, Record, open_cache
from tmuad.config import DataParams, Params, parse_params
from tmuad.engine import ImageRef, executing, executor, map_images
from tmuad.errors import ClusterError, ImageError, WorkerError
from tmuad.executors.work import Mapper

pytest.importorskip("ray")
COUNT = 40  # images: ten batches, two for each of five workers


@pytest.fixture(scope="module")
def cluster(bucket: str) -> Iterator[Any]:
    """Three nodes of one logical GPU each; four workers of one CPU have room."""
    with ray_cluster(
        {"num_cpus": 2, "num_gpus": 1}, {"num_cpus": 1, "num_gpus": 1}, {"num_cpus": 1, "num_gpus": 1}
    ) as it:
        yield it


@pytest.fixture
def refs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ImageRef]:
    """Images in the current folder, named relative to it as the stages name them."""
    monkeypatch.chdir(tmp_path)
    Path("log").mkdir()
    Path("images").mkdir()
    found = []
    for i in range(COUNT):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        pixels[0, 0] = 5 * i
        Image.fromarray(pixels).save(path := Path(f"images/{i:02}.png"))
        found.append(ImageRef(hashlib.sha256(path.read_bytes()).hexdigest(), path))
    return found


@pytest.fixture
def log(refs: list[ImageRef], tmp_path: Path) -> Path:
    return tmp_path / "log"


def data(cache: str = "cache") -> DataParams:
    return DataParams(size=64, workers=1, cache=cache)


def on(cluster: Any, **ray: Any) -> Params:
    return parse_params({"units": {}, "executor": "ray", "ray": {"address": cluster.address, **ray}})


def local(task: Any, refs: Sequence[ImageRef]) -> list[Record]:
    """What this process says, alone."""
    records = list(map_images(task, refs, data("local-cache")))
    calls(task.log)
    return records


def same(some: Sequence[Record], others: Sequence[Record]) -> bool:
    return len(some) == len(others) and all(
        a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)
        for a, b in zip(some, others, strict=True)
    )


def entries(cache: str) -> dict[str, bytes]:
    """The files of a cache."""
    return {p.relative_to(cache).as_posix(): p.read_bytes() for p in Path(cache).rglob("*") if p.is_file()}


def test_one_two_and_four_workers_leave_the_same_bytes_as_this_machine(
    cluster: Any, refs: list[ImageRef], log: Path
) -> None:
    task = Look(log, "second", Look(log, "first"))
    expected = local(task, refs)
    for workers, carry in ((1, "auto"), (2, "always"), (4, "auto")):
        crowded = Look(log, "second", Look(log, "first", crowd=workers))
        with executing(on(cluster, default={"workers": workers}, carry=carry)):
            assert same(list(map_images(crowded, refs, data(f"cache-{workers}"))), expected)
        done = calls(log)
        assert len(done) == 2 * COUNT and len({call["pid"] for call in done}) == workers
        assert os.getpid() not in {call["pid"] for call in done}
        assert entries(f"cache-{workers}") == entries("local-cache")
    assert len({call["node"] for call in done}) == 3  # four workers need all nodes


def test_a_second_run_needs_no_cluster_and_a_damaged_entry_is_mended_on_it(
    cluster: Any, refs: list[ImageRef], log: Path
) -> None:
    task = Look(log)
    expected = local(task, refs)
    shutil.copytree("local-cache", "cache")
    for number, path in enumerate(sorted(p for p in Path("cache").rglob("*") if p.is_file())[:2]):
        content = path.read_bytes()
        path.write_bytes(content[:-7] if number else content[:-7] + b"altered")
    with executing(on(cluster, default={"workers": 1})):
        assert same(list(map_images(task, refs, data())), expected)
    assert len(calls(log)) == 2 and entries("cache") == entries("local-cache")
    with executing(parse_params({"units": {}, "executor": "ray", "ray": {"address": "127.0.0.1:1"}})):
        assert same(list(map_images(task, refs, data())), expected)


def test_a_worker_killed_mid_run_costs_its_batch_alone(
    cluster: Any, refs: list[ImageRef], log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = local(Look(log), refs)
    with executing(on(cluster, default={"workers": 2})), caplog.at_level(logging.WARNING):
        assert same(list(map_images(Look(log, deadly=50, times=1, crowd=2), refs, data())), expected)
    assert "lost the worker on" in caplog.text
    done = calls(log)
    assert len(done) == COUNT + 1  # the image that was at work when it died
    assert entries("cache") == entries("local-cache")


def test_a_batch_that_kills_every_worker_is_named_and_the_rest_is_kept(
    cluster: Any, refs: list[ImageRef], log: Path
) -> None:
    with executing(on(cluster, default={"workers": 2}, attempts=2)):
        with pytest.raises(WorkerError, match=r"look: 2 workers in a row were lost over .*images/10\.png.*is kept"):
            list(map_images(Look(log, deadly=50), refs, data()))
        calls(log)
        assert len(entries("cache")) > 1  # besides what tells workers that this is our cache
        assert same(list(map_images(Look(log), refs, data())), local(Look(log), refs))
    assert len(entries("cache")) == COUNT


def test_a_node_killed_mid_run_is_done_without(cluster: Any, refs: list[ImageRef], log: Path) -> None:
    task = Look(log, seconds=0.1, crowd=5)
    expected = local(Look(log), refs)
    node = add_node(cluster, num_cpus=1, resources={"doomed": 1})
    killer = threading.Thread(target=_kill_when_it_works, args=(cluster, node, log))
    killer.start()
    try:
        with executing(on(cluster, default={"workers": 5})):
            assert same(list(map_images(task, refs, data())), expected)
    finally:
        killer.join()
    assert entries("cache") == entries("local-cache")


def _kill_when_it_works(cluster: Any, node: Any, log: Path) -> None:
    """SIGKILL of all its processes."""
    try:
        wait_for(lambda: any(node.node_id in text for text in noted(log)))
    finally:
        cluster.remove_node(node, allow_graceful=False)


@pytest.mark.parametrize("carry", ["auto", "always"])
def test_a_driver_killed_mid_run_leaves_the_rest_to_the_next(
    cluster: Any, refs: list[ImageRef], log: Path, carry: str
) -> None:
    Path("refs.json").write_text(json.dumps([(ref.image_id, str(ref.path)) for ref in refs]))
    expected = local(Look(log), refs)
    driver = start_driver(cluster, carry, "cache")
    try:
        wait_for(lambda: len(whole("cache")) > 4 or driver.poll() is not None)
    finally:
        driver.kill()
    assert driver.wait() == -signal.SIGKILL
    kept = -1
    while kept != (kept := len(whole("cache"))):  # its workers are killed with it, within a moment
        time.sleep(1)
    kept -= 1  # the entry that tells workers that this is our cache
    assert 4 <= kept < COUNT
    calls(log)
    with executing(on(cluster, default={"workers": 2}, carry=carry)):
        assert same(list(map_images(Look(log), refs, data())), expected)
    assert len(calls(log)) == COUNT - kept


def whole(cache: str) -> list[Path]:
    return [p for p in Path(cache).rglob("*") if p.is_file() and not p.name.startswith(".")]


def test_three_tasks_are_at_work_at_once_on_three_devices(cluster: Any, refs: list[ImageRef], log: Path) -> None:
    """The paper's row of three GPUs: segmentation, description and encoding, each on a device of its own."""
    refs, count = refs[:24], 24
    one = {"num_gpus": 1, "workers": 1}
    segment = BatchLook(log, "segment", seconds=0.1)
    features = BatchLook(log, "features", segment, seconds=0.1)
    expected = local(features, refs)
    with executing(on(cluster, segment=one, describe=one, features=one)):
        asked = executor().run(Describing(log, data()), [refs[i : i + 4] for i in range(0, count, 4)])
        next(asked)  # description is at work from here on
        assert same(list(map_images(features, refs, data())), expected)
        list(asked)
    done = calls(log)
    where = {
        name: {call["node"] for call in done if call["task"] == name} for name in ("segment", "describe", "features")
    }
    assert all(len(nodes) == 1 for nodes in where.values()) and len(set.union(*where.values())) == 3
    assert all(call["gpus"] == ["0"] for call in done)  # each node's only one
    first = min(call["time"] for call in done if call["task"] == "features")
    last = max(call["time"] for call in done if call["task"] == "segment")
    assert first < last  # encoding began before segmentation was through
    assert entries("cache") == entries("local-cache")


class Describing:
    """Work that is no record: see `tmuad.engine.Work`."""

    name, batch = "describe", 4

    def __init__(self, log: Path, data: DataParams) -> None:
        self.log, self.data = log, data

    def identity(self) -> str:
        return "1"

    def within(self, cache: Any) -> "Describing":
        return self

    def given(self, refs: Sequence[ImageRef]) -> list[Any]:
        return []

    def __call__(self, refs: Sequence[ImageRef]) -> list[str]:
        for _ in refs:
            Look(self.log, "describe", seconds=0.1)(np.zeros((1, 1, 3), np.uint8), {})
        return [ref.path.name for ref in refs]


@pytest.mark.parametrize("carry", ["auto", "always"])
def test_a_lost_image_is_the_same_error_as_here_and_the_others_are_kept(
    cluster: Any, refs: list[ImageRef], log: Path, carry: str
) -> None:
    refs[6].path.write_bytes(refs[6].path.read_bytes()[:300])
    refs[6] = ImageRef(hashlib.sha256(refs[6].path.read_bytes()).hexdigest(), refs[6].path)
    with pytest.raises(ImageError) as here:
        list(map_images(Look(log), refs, data("local-cache")))
    with executing(on(cluster, default={"workers": 1}, carry=carry)), pytest.raises(ImageError) as there:
        list(map_images(Look(log), refs, data()))
    assert str(there.value) == str(here.value) and str(here.value).startswith("images/06.png: ")
    assert len(entries("cache")) >= 6


def test_another_image_under_the_name_is_not_taken_for_it(cluster: Any, refs: list[ImageRef], log: Path) -> None:
    shutil.copy(refs[0].path, refs[5].path)  # as on a node with an older copy of the data
    with (
        executing(on(cluster, default={"workers": 1})),
        pytest.raises(ImageError, match=r"images/05\.png: another image on .* than in the manifest; bring"),
    ):
        list(map_images(Look(log), refs, data()))
    assert not Cache(Path("cache")).has(refs[5].image_id, Mapper(Look(log), data()).kind)


def test_two_runs_share_cluster_and_cache(cluster: Any, refs: list[ImageRef], log: Path) -> None:
    expected = local(Look(log), refs)
    results: list[bool] = []
    Path("refs.json").write_text(json.dumps([(ref.image_id, str(ref.path)) for ref in refs[::-1]]))
    other = start_driver(cluster, "auto", "cache")
    with executing(on(cluster, default={"workers": 2})):
        results.append(same(list(map_images(Look(log, seconds=0.1), refs, data())), expected))
    assert other.wait(120) == 0 and results == [True]
    assert entries("cache") == entries("local-cache")


def start_driver(cluster: Any, carry: str, cache: str) -> "subprocess.Popen[bytes]":
    """Another process that maps the images of refs.json, with two workers."""
    with import_path(HERE.parent, HERE):
        return subprocess.Popen(
            [sys.executable, "-c", "import test_ray; test_ray.drive()", cluster.address, carry, cache]
        )


def drive() -> None:
    address, carry, cache = sys.argv[1:]
    refs = [ImageRef(i, Path(p)) for i, p in json.loads(Path("refs.json").read_text())]
    with executing(on(SimpleNamespace(address=address), default={"workers": 2}, carry=carry)):
        assert len(list(map_images(Look(Path("log").resolve(), seconds=0.15), refs, data(cache)))) == COUNT


def test_a_cache_in_a_bucket_is_filled_by_the_workers(
    cluster: Any, bucket: str, refs: list[ImageRef], log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refs = refs[:8]
    expected = local(Look(log), refs)
    with executing(on(cluster, default={"workers": 2})), caplog.at_level(logging.INFO):
        assert same(list(map_images(Look(log), refs, data(f"{bucket}/cache"))), expected)
        assert "worker on" in caplog.text and "does not see" not in caplog.text
    assert len(calls(log)) == 8
    cache = open_cache(f"{bucket}/cache")
    kind = Mapper(Look(log), data()).kind
    assert all(cache.read(ref.image_id, kind) == Cache(Path("local-cache")).read(ref.image_id, kind) for ref in refs)
    assert same(list(map_images(Look(log), refs, data(f"{bucket}/cache"))), expected)  # and anybody finds it
    assert calls(log) == []


def test_a_flow_run_is_computed_on_the_cluster(cluster: Any, tmp_path: Path) -> None:
    """Prefect runs dvc, dvc runs the stage, the stage finds RAY_ADDRESS; the artifacts are those of a local run."""
    folder = tmp_path / "ws"
    build(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"executor": "ray"}))
    settings = {
        "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_URL": "", "RAY_ADDRESS": cluster.address,
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }  # fmt: skip
    flow = python(folder, "-m", "flows.reproduce", "--units", UNIT, "--until", "segment", **settings)
    said = flow.stdout + flow.stderr
    assert "4 ran" in said or "3 ran" in said, said
    assert any(
        f"default: worker on {socket.gethostname()} (node {node.node_id[:8]}" in said
        for node in cluster.list_all_nodes()
    ), said
    artifact = folder / f"artifacts/{UNIT}/segments.parquet"
    by_cluster = artifact.read_bytes()
    artifact.unlink()
    shutil.rmtree(folder / ".tmuad-cache")
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"executor": "local"}))
    assert "up to date" in python(folder, "-m", "dvc", "status", "settings", f"prepare@{UNIT}").stdout
    python(folder, "-m", "tmuad.stages", "segment", UNIT)
    assert artifact.read_bytes() == by_cluster


# ---- clusters that do not fit


def test_workers_of_another_version_are_refused(cluster: Any, refs: list[ImageRef], log: Path, tmp_path: Path) -> None:
    shutil.copytree(HERE.parent / "tmuad", tmp_path / "old/tmuad", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "old/tmuad/masks.py").open("a") as stream:
        stream.write("# another version\n")
    node = add_node(cluster, tmp_path / "old", num_cpus=1, resources={"old": 1})
    try:
        with (
            executing(on(cluster, default={"resources": {"old": 1}})),
            pytest.raises(
                WorkerError, match=r"default: the worker on .* has tmuad \w+, this machine has tmuad \w+.*install"
            ),
        ):
            list(map_images(Look(log), refs, data()))
    finally:
        cluster.remove_node(node)
    assert calls(log) == [] and entries("cache") == {}


def test_workers_that_would_compute_something_else_are_refused(cluster: Any, refs: list[ImageRef], log: Path) -> None:
    with (
        executing(on(cluster, default={"workers": 1})),
        pytest.raises(WorkerError, match=r"would compute something else than this machine.*same weights"),
    ):
        list(map_images(Here(log), refs, data()))
    assert calls(log) == []


class Here(Look):
    """Depends on where it runs, as a precision chosen by the device does."""

    @property
    def fingerprint(self) -> str:
        import ray

        return "a worker" if ray.is_initialized() and ray.get_runtime_context().get_actor_id() else "the driver"


def test_no_room_is_an_error_that_says_what_there_is(cluster: Any, refs: list[ImageRef], log: Path) -> None:
    with (
        executing(on(cluster, timeout=2, segment={"num_gpus": 9})),
        pytest.raises(
            ClusterError, match=r"ray\.segment: no worker .* within 2 s; one takes CPU 1, GPU 9, the cluster has"
        ),
    ):
        list(map_images(Look(log, "segment"), refs, data()))


def test_a_cache_that_fills_up_costs_the_rest_of_the_entries_alone(
    cluster: Any, refs: list[ImageRef], log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = local(Look(log), refs)
    for carry in ("auto", "always"):
        with small_disk(tmp_path / carry, "48k"), caplog.at_level(logging.WARNING):
            with executing(on(cluster, default={"workers": 2}, carry=carry)):
                assert same(list(map_images(Look(log), refs, data(str(tmp_path / carry)))), expected)
            assert 0 < len(whole(str(tmp_path / carry))) < COUNT
        assert "No space left on device), so nothing more is kept" in caplog.text
        assert os.getpid() not in {call["pid"] for call in calls(log)}
        caplog.clear()
