"""The flows on a real Prefect server, and remotes on a real S3 server, all on loopback."""

import base64
import contextlib
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml
from PIL import Image
from refit_workspace import (
    ENVIRONMENT,
    ROOT,
    UNIT,
    arrive,
    bad_image,
    banks,
    commit,
    copy,
    python,
    run,
    set_refit,
)

from flows.dvc import unit_ends
from tmuad.arrivals import history

INCOMING = f"data/incoming/{UNIT}"


def free_port() -> int:
    """Below those that the kernel hands out by itself: nobody else takes it before the server does."""
    for port in random.SystemRandom().sample(range(20000, 30000), 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@contextlib.contextmanager
def process(log: Path, *command: str, folder: Path | None = None, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`command` in the background until the block ends, its output in `log`."""
    with log.open("wb") as sink:
        started = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT | more, stdout=sink, stderr=sink, start_new_session=True
        )
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGTERM)
            try:
                started.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()


def wait_for(what: Any, seconds: float, every: float = 0.25) -> Any:
    """The first true answer of `what()`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if answer := what():
                return answer
        time.sleep(every)
    raise AssertionError(f"nothing within {seconds} s")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    address = f"http://127.0.0.1:{port}/api"
    command = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with process(home / "server.log", *command, PREFECT_HOME=str(home)):
        wait_for(lambda: urllib.request.urlopen(f"{address}/health", timeout=2).status == 200, 120)
        yield address


def ask(api: str, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{api}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def flow_runs(api: str, trigger: str) -> list[dict[str, Any]]:
    """Flow runs started by `trigger`, the latest first."""
    found = ask(api, "flow_runs/filter", sort="START_TIME_DESC", limit=200)  # the scheduled ones to come are many
    return [r for r in found if r["parameters"].get("trigger") == trigger]


def finished(api: str, trigger: str) -> dict[str, Any] | None:
    """The latest of them that did something."""
    for r in flow_runs(api, trigger):
        if r["state_type"] in ("COMPLETED", "FAILED", "CRASHED") and "nothing has arrived" not in r["state"]["message"]:
            return r
    return None


@contextlib.contextmanager
def deployed(api: str, folder: Path, tmp_path: Path, name: str) -> Iterator[None]:
    """`python -m flows.deploy` in `folder`, until the block ends."""
    settings = {
        "PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }  # fmt: skip
    log = tmp_path / "deploy.log"
    with process(log, sys.executable, "-m", "flows.deploy", "--name", name, folder=folder, **settings):
        wait_for(lambda: "being served" in log.read_text(), 120)
        time.sleep(2)  # the watcher begins to look
        yield


def test_deployed_it_runs_on_arrival(api: str, fitted_workspace: Path, tmp_path: Path) -> None:
    folder = copy(fitted_workspace, tmp_path / "ws")
    set_refit(folder, cron="0 3 1 1 *")
    set_refit(folder, guard=0.99)  # four held-out images: only what a person vouches for gets past it
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["decide"]["false_alarm_rate"] = 0.6  # the re-fit lowers the threshold: some verdicts change
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    commit(folder, "a lower threshold")
    with deployed(api, folder, tmp_path, "arrivals"):
        bad_image(folder / INCOMING / "bad.png", 0)
        arrive(folder, "a.png", "b.png")
        started = wait_for(lambda: flow_runs(api, "arrival"), 30)  # within 30 s of the last file
        done = wait_for(lambda: finished(api, "arrival"), 150)
    assert started and done["state_type"] == "COMPLETED" and "promoted v1" in done["state"]["message"]
    artifacts = {artifact["key"]: artifact for artifact in ask(api, "artifacts/filter", limit=50)}
    told = artifacts[f"refit-{UNIT}"]
    assert told["type"] == "markdown" and f"# {UNIT}: promoted v1" in told["data"]
    assert "| bad.png | quarantine |" in told["data"] and "| AUROC, labelled |" in told["data"]
    shown = artifacts[f"refit-{UNIT}-quarantine"]
    assert shown["type"] == "image"
    url = re.search(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", json.dumps(shown["data"]))
    assert url and Image.open(io.BytesIO(base64.b64decode(url[1]))).size == (160, 160)
    flips = artifacts[f"refit-{UNIT}-flips"]
    (journal,) = (json.loads(path.read_text()) for path in (folder / f".refit/{UNIT}/runs").glob("*.json"))
    columns = ("path", "truth", "before", "after", "score_before", "score_after")
    changed = [{name: flip[name] for name in columns} for flip in journal["gate"]["flips"]]
    assert flips["type"] == "table" and json.loads(flips["data"]) == changed and changed
    assert all(row["before"] != row["after"] and row["path"] for row in changed)
    record = json.loads((folder / history.path_of(UNIT)).read_text().splitlines()[-1])
    assert record["version"] == "v1" and record["by"].endswith("by arrival")


@pytest.mark.skipif(
    sqlalchemy.__version__ >= "2.1", reason="SQLAlchemy 2.1 ends Prefect 3.8's scheduler: it inserts no run; pin <2.1"
)
def test_deployed_it_runs_on_schedule(api: str, fitted_workspace: Path, tmp_path: Path) -> None:
    folder = copy(fitted_workspace, tmp_path / "ws")
    set_refit(folder, cron="* * * * *", debounce=3600.0)  # no event will come
    arrive(folder, "one.png")
    with deployed(api, folder, tmp_path, "schedule"):
        done = wait_for(lambda: finished(api, "schedule"), 180)
    assert done["state_type"] == "COMPLETED" and "promoted v1" in done["state"]["message"]
    assert json.loads((folder / history.path_of(UNIT)).read_text().splitlines()[-1])["by"].endswith("by schedule")


def last_run(api: str, state: str) -> dict[str, Any]:
    """The latest run that ended in `state`; the deployments of other tests leave a hundred scheduled ones."""
    ended = {"state": {"type": {"any_": [state]}}}
    runs: list[dict[str, Any]] = ask(api, "flow_runs/filter", flow_runs=ended, sort="START_TIME_DESC", limit=1)
    return runs[0]


def test_reproduce_is_dvc_repro_with_a_task_per_stage(api: str, fitted_workspace: Path, tmp_path: Path) -> None:
    folder = copy(fitted_workspace, tmp_path / "ws")
    settings = {"PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "home")}
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("false_alarm_rate: 0.05", "false_alarm_rate: 0.2"))
    plain = copy(folder, tmp_path / "plain")
    done = python(folder, "-m", "flows.reproduce", "--units", UNIT, "--until", "fuse", **settings)
    assert "2 ran, 8 unchanged" in done.stdout
    python(plain, "-m", "dvc", "repro", "-q", f"fuse@{UNIT}")
    assert (folder / "dvc.lock").read_bytes() == (plain / "dvc.lock").read_bytes()
    rows = ask(api, "artifacts/filter", artifacts={"key": {"any_": ["reproduce"]}}, limit=1)[0]["data"]
    stages = [row["stage"] for row in json.loads(rows)]
    assert stages[0] == f"{ROOT}.dvc" and stages.index(f"segment@{UNIT}") < stages.index(f"finetune@{UNIT}")
    run_id = last_run(api, "COMPLETED")["id"]
    tasks = ask(api, "task_runs/filter", flow_runs={"id": {"any_": [run_id]}})
    assert {task["name"] for task in tasks} == set(stages)
    wrong = python(folder, "-m", "flows.reproduce", "--until", "fit", check=False, **settings)
    assert wrong.returncode == 1 and "no such stage" in wrong.stdout


def test_after_a_failure_what_does_not_need_it_runs_if_asked(api: str, fitted_workspace: Path, tmp_path: Path) -> None:
    """The stage feature_banks fails: text_bank comes after it and needs it not, score needs it."""
    folder = copy(fitted_workspace, tmp_path / "ws")
    settings = {"PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "home")}
    tries = folder / "tries"
    broken = (
        "from tmuad.errors import DataError\n"
        f"def run(params, unit):\n    open({str(tries)!r}, 'a').write('once ')\n    raise DataError('a broken camera')\n"
    )
    (folder / "tmuad/stages/feature_banks.py").write_text(broken)
    with (folder / "tmuad/banks/text.py").open("a") as source:
        source.write("# so that the stage text_bank is out of date\n")

    def states(*more: str) -> dict[str, str]:
        done = python(folder, "-m", "flows.reproduce", "--units", UNIT, *more, check=False, **settings)
        assert done.returncode == 1 and "a broken camera" in done.stdout
        found = ask(api, "artifacts/filter", artifacts={"key": {"any_": ["reproduce"]}}, sort="CREATED_DESC", limit=1)
        return {
            row["stage"].partition("@")[0]: f"{row['state']} {row['detail']}" for row in json.loads(found[0]["data"])
        }

    stopped = states()
    assert tries.read_text() == "once "  # what computes is not tried again
    assert stopped["feature_banks"].startswith("failed ") and "a broken camera" in stopped["feature_banks"]
    assert stopped["text_bank"] == "skipped an earlier stage failed"
    going = states("--keep-going")
    assert going["text_bank"] == "ran " and going["prepare"] == "unchanged "
    assert going["score"] == f"skipped needs feature_banks@{UNIT}" and going["evaluate"].startswith("skipped needs ")


def test_errors_are_in_the_state_of_the_flow(api: str, fitted_workspace: Path, tmp_path: Path) -> None:
    folder = copy(fitted_workspace, tmp_path / "ws")
    settings = {"PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "home")}
    arrive(folder, "one.png")
    (folder / "params.yaml").write_text((folder / "params.yaml").read_text() + "# changed\n")
    done = python(folder, "-m", "flows.refit", "--units", UNIT, "kti", check=False, **settings)
    assert done.returncode == 1
    state = last_run(api, "FAILED")["state"]
    assert "uncommitted changes in params.yaml" in state["message"] and "unknown unit 'kti'" in state["message"]
    assert (folder / INCOMING / "one.png").exists()
    (tmp_path / "remote").write_text("a file where the remote's folder should be")
    python(folder, "-m", "dvc", "remote", "add", "-d", "-q", "store", str(tmp_path / "remote"))
    commit(folder, "a remote that cannot be reached")
    done = python(folder, "-m", "flows.refit", "--units", UNIT, check=False, **settings)
    assert done.returncode == 1
    state = last_run(api, "FAILED")["state"]
    assert "not on the remote 'store'" in state["message"] and "kit: promoted v1" in state["message"]


def test_without_a_server(fitted_workspace: Path, tmp_path: Path) -> None:
    """`--once` is for plain cron; the flow itself also runs, on a server of its own in the process."""
    folder = copy(fitted_workspace, tmp_path / "ws")
    set_refit(folder, gate={"shift": 1e-9})
    arrive(folder, "one.png")
    alone = {"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_URL": ""}
    flow = python(folder, "-m", "flows.refit", "--units", UNIT, **alone)
    assert "RolledBack: kit: rolled back" in flow.stdout
    again = python(folder, "-m", "flows.deploy", "--once", **alone)
    assert again.stdout.strip().endswith("kit: nothing has arrived")
    refused = python(folder, "-m", "flows.deploy", check=False, **alone)
    assert refused.returncode == 1 and "prefect server start" in refused.stderr


def test_a_version_travels_over_s3(fitted_workspace: Path, tmp_path: Path) -> None:
    folder, port = copy(fitted_workspace, tmp_path / "ws"), free_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    server = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with process(tmp_path / "s3.log", *server):
        address = f"http://127.0.0.1:{port}"
        put = urllib.request.Request(f"{address}/versions", method="PUT")
        wait_for(lambda: urllib.request.urlopen(put, timeout=2).status == 200, 60)
        python(folder, "-m", "dvc", "remote", "add", "-d", "-q", "store", "s3://versions/tmuad")
        python(folder, "-m", "dvc", "remote", "modify", "-q", "store", "endpointurl", address)
        commit(folder, "remote")
        arrive(folder, "one.png")
        done = python(folder, "-m", "flows.command", "refit", "--unit", UNIT, **keys)
        assert "pushed" in done.stdout
        clone = tmp_path / "clone"
        run(tmp_path, "git", "clone", "-q", str(folder), str(clone))
        python(clone, "-m", "dvc", "pull", "-q", *unit_ends(UNIT), "--with-deps", **keys)
    repeated = python(clone, "-m", "dvc", "repro", *unit_ends(UNIT)).stdout
    assert "Running stage" not in repeated and "up to date" in repeated
    assert banks(clone) == banks(folder)
