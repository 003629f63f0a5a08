"""What can be wrong before there is a cluster, and what of the parameters does not count. No cluster is started here."""

import importlib.abc
import importlib.machinery
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fits import Bench, folder
from PIL import Image
from ray_tasks import Look

from tmuad.config import DataParams, Params, parse_params
from tmuad.engine import ImageRef, executing, map_images
from tmuad.errors import ClusterError, ParameterError
from tmuad.executors.ray_worker import environment


@pytest.fixture
def refs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ImageRef]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    Path("log").mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save("image.png")
    return [ImageRef("image", Path("image.png"))]


def params(**ray: object) -> Params:
    return parse_params({"units": {}, "executor": "ray", "ray": {"timeout": 2, **ray}})


def run(refs: list[ImageRef], settings: Params) -> None:
    with executing(settings):
        list(map_images(Look(Path("log")), refs, DataParams(size=64, workers=1, cache="cache")))


class NoRay(importlib.abc.MetaPathFinder):
    """As on a machine where Ray was never installed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoRay(), *sys.meta_path])
    yield


def test_without_ray_the_error_says_what_to_install(no_ray: None, refs: list[ImageRef]) -> None:
    with pytest.raises(ClusterError, match=r"No module named 'ray'.*pip install 'tmuad\[ray\]'.*executor: local"):
        run(refs, params())


def test_without_ray_a_stage_ends_with_that_error_and_local_runs(no_ray: None, bench: Bench) -> None:
    folder(bench.place / "photos", 4)
    unit = {"kit": {"root": "photos", "layout": "folder"}}
    bench.params(unit, {"executor": "ray"})
    bench.fit(stages=("prepare",))
    status, _, error = bench.stage("segment", "kit")
    assert status == 1 and error.startswith("error: executor: ray needs Ray") and "Traceback" not in error
    bench.params(unit, {"executor": "local"})
    bench.fit(stages=("segment",))


def test_local_never_imports_ray(refs: list[ImageRef]) -> None:
    code = (
        "import sys, tmuad.stages.__main__, tmuad.stages.segment, tmuad.stages.describe; "
        "from pathlib import Path; from tmuad.config import DataParams; from tmuad.engine import ImageRef; "
        "from tmuad.arrivals.similar import thumbnails; "
        "thumbnails([ImageRef('image', Path('image.png'))], DataParams()); "
        "assert 'ray' not in sys.modules and 'tmuad.executors.ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


# ---- addresses


def test_nobody_listens(refs: list[ImageRef], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    for settings, source in ((params(address=address), "ray.address"), (params(), "RAY_ADDRESS")):
        with pytest.raises(ClusterError, match=rf"{source}: {address}: no Ray cluster can be reached \(.*refused"):
            run(refs, settings)
        monkeypatch.setenv("RAY_ADDRESS", address)


def test_a_port_that_is_silent_is_given_up_in_time(refs: list[ImageRef]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(ClusterError, match=rf"{address}: no Ray cluster can be reached \(timed out"):
            run(refs, params(address=address))
        assert time.monotonic() - start < 30  # Ray by itself takes two minutes, and then ends the process


def test_something_else_listens(refs: list[ImageRef]) -> None:
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "
        "c, _ = s.accept(); c.recv(99); c.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n'); c.recv(1)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        address = f"127.0.0.1:{int(other.stdout.readline())}"
        with pytest.raises(ClusterError, match=f"{address}: something else than a Ray cluster listens there"):
            run(refs, params(address=address))


@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:port", ":6379"])
def test_what_is_no_address(refs: list[ImageRef], address: str) -> None:
    with pytest.raises(ClusterError, match=r"ray\.address: '.*' is no HOST:PORT"):
        run(refs, params(address=address))


# ---- parameters


def test_unknown_keys_are_named() -> None:
    with pytest.raises(ParameterError, match=r"unknown parameter 'ray\.segmet'; did you mean 'segment'"):
        params(segmet={"num_gpus": 1})
    with pytest.raises(ParameterError, match=r"unknown parameter 'ray\.segment\.gpus'"):
        params(segment={"gpus": 1})
    with pytest.raises(ParameterError, match=r"executor: Input should be 'local' or 'ray', found 'dask'"):
        parse_params({"units": {}, "executor": "dask"})


def test_who_computes_is_no_setting(bench: Bench) -> None:
    bench.params({})
    assert bench.stage("settings")[0] == 0
    before = Path("artifacts/params.yaml").read_bytes()
    bench.params({}, {"executor": "ray", "ray": {"segment": {"num_gpus": 1}}})
    assert bench.stage("settings")[0] == 0
    assert Path("artifacts/params.yaml").read_bytes() == before


def test_the_source_text_and_the_numerical_libraries_make_a_version() -> None:
    versions = environment()
    assert versions == environment() and len(versions["tmuad"]) == 12
    assert versions["numpy"] == np.__version__
