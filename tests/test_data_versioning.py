"""What data/README.md walks through, done for real: dvc add, import-url and update, a directory and an S3 remote."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sample_datasets as datasets

from tmuad.data.layouts import read

Dvc = Callable[..., None]


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dvc:
    """Runs a dvc command in a fresh repository, which is the working folder."""
    from dvc.cli import main

    repository = tmp_path / "repository"
    repository.mkdir()
    monkeypatch.chdir(repository)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "config"))
    subprocess.run(["git", "init", "-q"], check=True)

    def run(*arguments: object) -> None:
        assert main([str(argument) for argument in arguments]) == 0, arguments

    run("init", "-q")
    return run


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 server with the bucket "parts"."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="parts")
    yield address
    server.stop()


def lose_everything(name: str) -> None:
    """The data and the cache of a machine: what is left is in git."""
    shutil.rmtree(f"data/{name}")
    shutil.rmtree(".dvc/cache")


def test_add_and_a_directory_remote(dvc: Dvc, tmp_path: Path) -> None:
    datasets.mvtec_ad(Path("data/kit"))
    before = read(Path("data/kit"), "mvtec_ad")
    dvc("add", "-q", "data/kit")
    dvc("remote", "add", "-q", "-d", "store", tmp_path / "store")
    dvc("push", "-q")
    lose_everything("kit")
    dvc("pull", "-q")
    assert read(Path("data/kit"), "mvtec_ad") == before


def test_import_and_update_bring_new_photographs(dvc: Dvc, tmp_path: Path) -> None:
    source = datasets.mvtec_ad(tmp_path / "line/kit")
    Path("data").mkdir()
    dvc("import-url", "-q", source, "data/kit")
    first = Path("data/kit.dvc").read_text()
    datasets.picture(source / "train/good/new.png", 99)
    assert not Path("data/kit/train/good/new.png").exists()
    dvc("update", "-q", "data/kit.dvc")
    assert len(read(Path("data/kit"), "mvtec_ad").entries) == 10
    second = Path("data/kit.dvc").read_text()
    assert first != second
    Path("data/kit.dvc").write_text(first)  # an older commit
    dvc("checkout", "-q", "data/kit.dvc")
    assert len(read(Path("data/kit"), "mvtec_ad").entries) == 9


def test_an_s3_remote_and_an_import_from_s3(dvc: Dvc, s3: str) -> None:
    datasets.mvtec_ad(Path("data/kit"))
    dvc("remote", "add", "-q", "-d", "store", "s3://parts/dvc")
    dvc("remote", "modify", "-q", "store", "endpointurl", s3)
    dvc("add", "-q", "data/kit")
    dvc("push", "-q")
    lose_everything("kit")
    dvc("pull", "-q")
    assert len(read(Path("data/kit"), "mvtec_ad").entries) == 9

    import boto3

    client = boto3.client("s3", endpoint_url=s3)
    for file in Path("data/kit").rglob("*.png"):
        client.upload_file(str(file), "parts", f"photographs/{file.relative_to('data/kit').as_posix()}")
    dvc("remote", "add", "-q", "line", "s3://parts/photographs")
    dvc("remote", "modify", "-q", "line", "endpointurl", s3)
    dvc("import-url", "-q", "remote://line/", "data/line")
    assert len(read(Path("data/line"), "mvtec_ad").entries) == 9


def test_an_air_gapped_machine_gets_the_data_from_a_disk(dvc: Dvc, tmp_path: Path) -> None:
    datasets.mvtec_ad(Path("data/kit"))
    dvc("add", "-q", "data/kit")
    dvc("remote", "add", "-q", "disk", tmp_path / "disk")
    dvc("push", "-q", "-r", "disk")
    lose_everything("kit")  # the other machine: git brought data/kit.dvc, the disk brings the rest
    dvc("remote", "modify", "-q", "--local", "disk", "url", tmp_path / "disk")
    dvc("pull", "-q", "-r", "disk")
    assert len(read(Path("data/kit"), "mvtec_ad").entries) == 9
