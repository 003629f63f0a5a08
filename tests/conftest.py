"""Settings and fixtures that all tests share."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from fits import Bench, folder
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image
from plugging import fit_unit
from refit_workspace import build, fit

from tmuad.stages.__main__ import PER_UNIT, main

# The same examples in every run: a test that fails on one machine fails on the next.
settings.register_profile("tmuad", deadline=None, derandomize=True)
settings.load_profile("tmuad")


@pytest.fixture
def save_image(tmp_path: Path) -> Callable[[str, NDArray[np.uint8]], Path]:
    """Writes an image (H, W, 3) under the test's own folder and returns its path."""

    def save(name: str, image: NDArray[np.uint8]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        return path

    return save


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """An empty folder to run stages in."""
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, capsys)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fitted unit `kit`, for tests that score; none may change it."""
    place = tmp_path_factory.mktemp("fitted")
    folder(place / "photos", 24)
    Bench(place, None).params({"kit": {"root": "photos", "layout": "folder"}})
    with chdir(place), redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
        for stage in PER_UNIT:
            assert main([stage, "kit"]) == 0, said.getvalue()
    return place


@pytest.fixture(scope="session")
def fitted_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted unit with git and DVC, for tests of runs; each works on a copy."""
    place = tmp_path_factory.mktemp("workspace") / "ws"
    build(place)
    fit(place)
    return place


@pytest.fixture
def scoring(fitted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """The fitted unit's folder as the current one."""
    monkeypatch.chdir(fitted)
    return Bench(fitted, capsys)


@pytest.fixture(scope="session")
def tested_unit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scored unit `kit` that has test images and ground truth; no test may change its artifacts."""
    return fit_unit(tmp_path_factory.mktemp("tested"))


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of a bucket on an S3 server; its nodes find it by AWS's own variables."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        boto3.client("s3").create_bucket(Bucket="parts")
        yield "s3://parts"
    server.stop()


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module's own fixture `workspace` as the current folder; the test may not change it."""
    monkeypatch.chdir(workspace)
    return workspace


@pytest.fixture
def own(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the module's `workspace` that the test may change, as the current folder."""
    shutil.copytree(workspace, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    return tmp_path / "own"
