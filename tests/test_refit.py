"""Runs on a real workspace: git, DVC, the stages; no Prefect (see test_flows.py)."""

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
import zc.lockfile
from fits import small_disk
from PIL import Image
from refit_workspace import (
    DEMO,
    ENVIRONMENT,
    ROOT,
    UNIT,
    all_images,
    arrive,
    bad_image,
    banks,
    commit,
    copy,
    good_image,
    python,
    run,
    set_refit,
    state,
)  # fmt: skip

from flows import runs
from flows.dvc import unit_ends
from flows.preflight import preflight
from flows.summary import line as told_of
from flows.workspace_lock import BusyError, workspace_lock
from tmuad.arrivals import history
from tmuad.arrivals.journal import Run
from tmuad.data.arrivals import log_path, read_log
from tmuad.errors import ArtifactError, DataError, ParameterError, TmuadError

INCOMING = f"data/incoming/{UNIT}"


@pytest.fixture(scope="module")
def promoted(fitted_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace after an undisturbed run with two good images."""
    folder = copy(fitted_workspace, tmp_path_factory.mktemp("promoted") / "ws")
    arrive(folder, "part 0.png", "part 1.png")
    python(folder, "-m", "tmuad.cli", "refit", "--unit", UNIT)
    return folder


@pytest.fixture
def workspace(fitted_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = copy(fitted_workspace, tmp_path / "ws")
    monkeypatch.chdir(folder)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return folder


def refuse(unit: str = UNIT, lines: list[str] | None = None) -> str:
    """The message with which a run does not even begin."""
    log = [] if lines is None else lines
    with pytest.raises(TmuadError) as caught, runs.open_workspace("test", log.append, 0, stage_server=False) as opened:
        runs.refit(unit, opened)
    return str(caught.value)


def test_new_images_become_a_version(fitted_workspace: Path, promoted: Path) -> None:
    tree = run(promoted, "git", "status", "--porcelain", "--untracked-files=no").stdout
    assert tree == ""
    assert run(promoted, "git", "tag", "--list").stdout.split() == [f"refit/{UNIT}/v0", f"refit/{UNIT}/v1"]
    admitted = sorted(path.name for path in (promoted / ROOT / "train/good").glob("part*"))
    assert [name.rsplit("-", 1)[0] for name in admitted] == ["part-0", "part-1"]
    assert python(promoted, "-m", "dvc", "status", *unit_ends(UNIT)).stdout.strip().endswith("up to date.")
    assert not (promoted / ".refit" / UNIT / "before").exists()
    assert banks(promoted)["patch_bank.safetensors"] != banks(fitted_workspace)["patch_bank.safetensors"]
    shown = python(promoted, "-m", "tmuad.cli", "history", "--unit", UNIT).stdout
    assert "v1" in shown and "Line <line@example.com>, by hand" in shown
    record = json.loads((promoted / history.path_of(UNIT)).read_text().splitlines()[-1])
    assert len(record["added"]) == 2 and record["metrics"]["auroc"] is not None


def test_the_banks_of_a_version_are_those_of_a_plain_dvc_repro(promoted: Path, tmp_path: Path) -> None:
    """Of a fresh clone, without cache, run cache or stage server: what any other machine would get."""
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(promoted), str(clone))
    (clone / ".dvc/config.local").write_text(f"[cache]\n    dir = {promoted}/.dvc/cache\n")
    python(clone, "-m", "dvc", "checkout", "-q", f"{ROOT}.dvc")
    (clone / ".dvc/config.local").unlink()
    for stage in ("prepare", "segment", "finetune", "describe", "text_bank", "feature_banks", "score", "fuse"):
        python(clone, "-m", "tmuad.stages", stage, UNIT)
    assert banks(clone) == banks(promoted)


def test_a_forgotten_image_leaves_no_trace_in_the_banks(fitted_workspace: Path, workspace: Path) -> None:
    arrive(workspace, "one.png")
    python(workspace, "-m", "tmuad.cli", "refit", "--unit", UNIT)
    assert banks(workspace) != banks(fitted_workspace)
    image = history.read(UNIT)[-1].added[0]
    run(workspace, "rm", "-r", ".dvc/cache/runs")  # or DVC would just remember
    python(workspace, "-m", "tmuad.cli", "forget", image[:12], "--unit", UNIT)
    assert banks(workspace) == banks(fitted_workspace)
    assert history.read(UNIT)[-1].removed == (image,)
    assert "FORGOTTEN" in python(workspace, "-m", "tmuad.cli", "quarantine", "list", "--unit", UNIT).stdout
    python(workspace, "-m", "tmuad.cli", "rollback", "v1", "--unit", UNIT)
    assert [r.version for r in history.read(UNIT)] == ["v0", "v1", "v2", "v3"]
    assert history.read(UNIT)[-1].added == (image,)
    assert "no version 'v9'" in python(workspace, "-m", "tmuad.cli", "rollback", "v9", "-u", UNIT, check=False).stderr


def test_the_gate_rolls_back_and_keeps_the_images(workspace: Path) -> None:
    set_refit(workspace, gate={"shift": 1e-9})
    before = state(workspace)
    arrive(workspace, "one.png")
    bad_image(workspace / INCOMING / "bad.png", 0)
    done = python(workspace, "-m", "tmuad.cli", "refit", "--unit", UNIT, check=False)
    assert done.returncode == 2 and "shift of scores" in done.stdout
    assert state(workspace) == before
    assert python(workspace, "-m", "dvc", "status", *unit_ends(UNIT)).stdout.strip().endswith("up to date.")
    assert run(workspace, "git", "status", "--porcelain", "--untracked-files=no").stdout == ""
    last = history.read(UNIT)[-1]
    assert last.outcome == "rolled back" and last.version == "v0" and "shift" in last.reason
    assert "rolled back" in python(workspace, "-m", "tmuad.cli", "quarantine", "list", "--unit", UNIT).stdout
    assert len(list((workspace / f"data/quarantine/{UNIT}").glob("*/*.png"))) >= 1


NEWCOMERS = """-- title: every normal image is of the first camera
-- unit: kit
-- expect: no rows
-- level: stop
SELECT unit, path FROM images WHERE path LIKE '%second-camera%'
"""


def question(folder: Path, name: str, text: str) -> None:
    (folder / f"data/queries/{name}.sql").write_text(text)
    commit(folder, "a question")


def test_a_failing_question_stops_the_refit_and_names_the_images(workspace: Path) -> None:
    question(workspace, "newcomers", NEWCOMERS)
    question(workspace, "elsewhere", "-- expect: no rows\n-- unit: other\n-- level: stop\nSELECT 1")
    before = state(workspace)
    arrive(workspace, "part 7.png", "second camera.png")
    done = python(workspace, "-m", "flows.command", "refit", "--unit", UNIT, check=False)
    assert done.returncode == 2 and state(workspace) == before
    last = history.read(UNIT)[-1]
    assert (
        "every normal image is of the first camera" in last.reason and "1 row where none were expected" in last.reason
    )
    assert f"{UNIT}: train/good/second-camera-" in last.reason and "part-7" not in last.reason
    assert not Path(f"data/arrivals/{UNIT}.csv").exists() and not list(Path(f".refit/{UNIT}").glob("*.duckdb"))
    # reported, it is told and stops nothing
    question(workspace, "newcomers", NEWCOMERS.replace("stop", "report"))
    for case in ("part 7.png", "second camera.png"):
        python(workspace, "-m", "tmuad.cli", "quarantine", "release", case, "--unit", UNIT)
    done = python(workspace, "-m", "flows.command", "refit", "--unit", UNIT)
    assert "it is reported, and stops nothing" in done.stdout and history.read(UNIT)[-1].version == "v1"
    # and the week of both is known
    logged = read_log(log_path(UNIT))
    assert sorted(Path(name).name.rpartition("-")[0] for name in logged) == ["part-7", "second-camera"]
    assert {when.isoformat(" ") for when in logged.values()} == {history.read(UNIT)[-1].time}
    assert run(workspace, "git", "status", "--porcelain", "--untracked-files=no", "data").stdout == ""
    assert run(workspace, "git", "ls-files", "data/arrivals").stdout.split()[-1] == f"data/arrivals/{UNIT}.csv"


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted."""

    heard: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.heard.append((self.path, json.loads(body)))
        self.send_response(204 if self.path == "/hook" else 500)
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.heard.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_promotion_brings_the_reports_up_to_date_and_tells_the_webhook(workspace: Path, hook: str) -> None:
    set_refit(workspace, report=True, webhook=f"{hook}/hook")
    arrive(workspace, "one.png")
    done = python(workspace, "-m", "flows.command", "refit", "--unit", UNIT)
    assert "webhook: 204" in done.stdout
    [(_, told)] = Hook.heard
    assert (told["unit"], told["outcome"], told["version"], told["counts"]["admit"]) == (UNIT, "promoted", "v1", 1)
    assert told["gate"]["passed"] and [a["name"] for a in told["arrivals"]] == ["one.png"]
    stages = ("report", "warehouse", "checks", "gallery")
    assert python(workspace, "-m", "dvc", "status", *stages).stdout.strip().endswith("up to date.")
    kept = run(workspace, "git", "ls-files", "reports").stdout.split()
    assert {"reports/index.html", "reports/results.md", "reports/checks.json"} < set(kept)
    weeks = python(
        workspace, "-m", "tmuad.cli", "sql", "FROM arrivals_by_week WHERE week IS NOT NULL", "--format", "json"
    )
    [week] = json.loads(weeks.stdout)
    assert (week["unit"], week["split"], week["images"]) == (UNIT, "train", 1)


def test_a_webhook_that_does_not_answer_is_a_warning(workspace: Path, hook: str) -> None:
    """The version stands; the exit status, and in Prefect the state, say that somebody was not told."""
    set_refit(workspace, webhook=f"{hook}/gone")
    bad_image(workspace / INCOMING / "bad.png", 0)
    set_refit(workspace, guard=0.99)
    done = python(workspace, "-m", "flows.command", "refit", "--unit", UNIT, check=False)
    assert done.returncode == 1 and "refit.webhook" in done.stdout and "HTTP Error 500" in done.stdout
    assert Hook.heard[0][1]["outcome"] == "nothing admitted"
    hook_free = f"http://127.0.0.1:{_unused_port()}/hook"
    set_refit(workspace, webhook=hook_free)
    bad_image(workspace / INCOMING / "worse.png", 1)
    done = python(workspace, "-m", "flows.command", "refit", "--unit", UNIT, check=False)
    assert done.returncode == 1 and "cannot be reached" in done.stdout


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


KILLED_STEPS = ("inspect", "guard", "admit", "refit", "gate", "promote", "publish")


def test_killed_at_every_step_in_turn_it_still_ends_as_if_undisturbed(workspace: Path, promoted: Path) -> None:
    """benchmarks/kill.py does the same ten times a step, at random moments."""
    arrive(workspace, "part 0.png", "part 1.png")
    images = all_images(workspace)
    journal = workspace / f".refit/{UNIT}/run.json"
    killed = []
    for step in KILLED_STEPS:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.command", "refit", "--unit", UNIT, "--wait", "60"],
            cwd=workspace, env=ENVIRONMENT | {"PYTHONPATH": str(workspace)}, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None:
            if step_in(journal) == step:
                time.sleep(0.6 if step == "refit" else 0.02)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed.append(step)
                break
            time.sleep(0.002)
    if journal.exists() or any((workspace / INCOMING).iterdir()):
        python(workspace, "-m", "flows.command", "refit", "--unit", UNIT, "--wait", "60")
    assert len(killed) >= 5, killed  # the shortest may be over before they are seen
    assert all_images(workspace) == images
    assert banks(workspace) == banks(promoted)
    assert run(workspace, "git", "status", "--porcelain", "--untracked-files=no").stdout == ""
    assert [(r.version, len(r.added)) for r in history.read(UNIT)][-1] == ("v1", 2)
    assert python(workspace, "-m", "dvc", "status", *unit_ends(UNIT)).stdout.strip().endswith("up to date.")


def step_in(journal: Path) -> str:
    try:
        return str(json.loads(journal.read_text())["step"])
    except (OSError, ValueError):
        return ""


def test_files_that_dvc_was_killed_while_writing_are_mended(workspace: Path) -> None:
    """DVC writes its lock file, .dvc files and rwlock in place: a kill may leave half of them."""
    arrive(workspace, "one.png")
    with runs.open_workspace("test", print, 0) as opened:

        def dies(name: str, context: runs.Context) -> None:
            if name == "refit":
                raise KeyboardInterrupt  # not an error that is answered: as if the process had ended here
            runs.plain_step(name, context)

        with pytest.raises(KeyboardInterrupt):
            runs.refit(UNIT, opened, run_step=dies)
    for path in (Path("dvc.lock"), Path(f"{ROOT}.dvc")):
        path.write_bytes(path.read_bytes()[:40] + b"\n  : [")
    Path(".dvc/tmp/rwlock").write_text('{"wri')
    Path(".git/index.lock").touch()
    journal = json.loads(Path(f".refit/{UNIT}/run.json").read_text())
    Path(f".refit/{UNIT}/run.json").write_text(json.dumps(journal | {"step": "admit"}))
    python(workspace, "-m", "flows.command", "refit", "--unit", UNIT)
    assert history.read(UNIT)[-1].version == "v1"
    assert python(workspace, "-m", "dvc", "status", *unit_ends(UNIT)).stdout.strip().endswith("up to date.")


def test_an_unreachable_remote_is_told_and_tried_again(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "remote").write_text("a file where the remote's folder should be")
    python(workspace, "-m", "dvc", "remote", "add", "-d", "-q", "store", str(tmp_path / "remote"))
    commit(workspace, "remote")
    arrive(workspace, "one.png")
    done = python(workspace, "-m", "flows.command", "refit", "--unit", UNIT, check=False)
    assert done.returncode == 1 and "not on the remote 'store'" in done.stdout
    assert history.read(UNIT)[-1].version == "v1"
    (tmp_path / "remote").unlink()
    done = python(workspace, "-m", "flows.command", "refit", "--unit", UNIT)
    assert "pushed" in done.stdout
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(workspace), str(clone))
    python(clone, "-m", "dvc", "pull", "-q", *unit_ends(UNIT), "--with-deps")
    assert "up to date" in python(clone, "-m", "dvc", "repro", *unit_ends(UNIT)).stdout
    assert banks(clone) == banks(workspace)


def test_a_failing_stage_is_rolled_back_and_the_images_tried_again(workspace: Path) -> None:
    arrive(workspace, "one.png")
    before = state(workspace)
    cache = yaml.safe_load((workspace / "params.yaml").read_text())["data"].get("cache", ".tmuad-cache")
    stage, tries = workspace / "tmuad/stages/score.py", workspace / ".tries"
    code = stage.read_text()
    with pytest.raises(runs.RunFailedError, match="disk is full"), runs.open_workspace("test", print, 0) as opened:

        def breaks(name: str, context: runs.Context) -> None:
            if name == "refit":
                stage.write_text(
                    "from tmuad.errors import DataError\n"
                    f"def run(params, unit):\n    open({str(tries)!r}, 'a').write('once ')\n"
                    "    raise DataError('disk is full')\n"
                )
            runs.plain_step(name, context)
            stage.write_text(code)

        try:
            opened.dvc.call("status", targets=[f"{ROOT}.dvc"])
            opened.dvc._server = None  # the stages in processes of their own, which read the broken code
            runs.refit(UNIT, opened, run_step=breaks)
        finally:
            stage.write_text(code)
    assert tries.read_text() == "once "  # what computes is not tried again
    assert (workspace / cache).exists() and state(workspace) == before
    assert (workspace / INCOMING / "one.png").exists()
    assert history.read(UNIT)[-1].outcome == "rolled back" and "disk is full" in history.read(UNIT)[-1].reason


def disturbed(step: str, disturb: Callable[[], object]) -> tuple[Run | str, list[str]]:
    """A run in which `disturb` happens just before `step`: the run, or its error in words; and its log."""
    log: list[str] = []

    def run_step(name: str, context: runs.Context) -> None:
        if name == step:
            disturb()
        runs.plain_step(name, context)

    with runs.open_workspace("test", log.append, 0) as opened:
        try:
            done = runs.refit(UNIT, opened, run_step=run_step)
            assert done is not None
            return done, log
        except runs.RunFailedError as error:
            return str(error), log


@pytest.mark.parametrize("step", ["guard", "admit"])
def test_images_that_disappear_from_the_incoming_folder_are_named(workspace: Path, step: str) -> None:
    before = state(workspace)
    arrive(workspace, "one.png", "two.png")
    done, log = disturbed(step, lambda: shutil.rmtree(INCOMING))
    assert isinstance(done, Run) and (done.outcome, done.version) == ("nothing admitted", "")
    assert [(a.name, a.decision) for a in done.arrivals] == [("one.png", "leave"), ("two.png", "leave")]
    assert {"one.png: changed or removed since it was looked at"} < set(log)
    assert told_of(done) == f"{UNIT}: nothing admitted (2 leave)" and state(workspace) == before
    (returned,) = arrive(workspace, "one.png")
    assert returned.exists() and not Path(f".refit/{UNIT}/run.json").exists()


@pytest.mark.parametrize("step", ["admit", "refit"])
def test_a_data_set_that_goes_away_in_the_middle_becomes_no_version(workspace: Path, step: str) -> None:
    """As a network drive does. Admitted into the void, two images would be all of the next version."""
    before = state(workspace)
    arrive(workspace, "one.png", "two.png")
    away = Path("data/away")
    said, log = disturbed(step, lambda: ROOT.rename(away))
    assert isinstance(said, str)
    assert f"{step}: {ROOT}: no such folder; bring the data set back with: dvc checkout {ROOT}" in said
    assert any(text.startswith(f"rolled back: {step}: ") for text in log)
    if step == "admit":
        assert sorted(path.name for path in Path(INCOMING).iterdir()) == ["one.png", "two.png"] and not ROOT.exists()
    else:  # they went away with the folder, and that is said
        assert sum("neither in" in text for text in log) == 2
        for index, admitted in enumerate(sorted((away / "train/good").glob("*-????????????.png"))):
            admitted.rename(Path(INCOMING) / f"{index}.png")
    away.rename(ROOT)
    assert state(workspace) == before and history.read(UNIT)[-1].outcome == "rolled back"
    assert run(workspace, "git", "tag", "--list").stdout == ""
    done, _ = disturbed("none", lambda: None)
    assert isinstance(done, Run) and done.version == "v1" and len(done.with_decision("admit")) == 2


def test_half_a_data_set_becomes_no_version(workspace: Path) -> None:
    before = state(workspace)
    lost = sorted((ROOT / "train/good").iterdir())[:2]
    arrive(workspace, "one.png")
    said, _ = disturbed("admit", lambda: [path.unlink() for path in lost])
    assert isinstance(said, str) and f"{ROOT}: 2 of 24 images have gone since the last fit, for instance train" in said
    python(workspace, "-m", "dvc", "checkout", "-q", str(ROOT))
    assert state(workspace) == before


def test_a_unit_that_does_not_exist(workspace: Path) -> None:
    assert "unknown unit 'kti'" in refuse("kti") and "Did you mean 'kit'" in refuse("kti")
    assert python(workspace, "-m", "tmuad.cli", "history", "-u", "kti", check=False).returncode == 1


def test_nothing_arrived_is_no_error(workspace: Path) -> None:
    with runs.open_workspace("test", print, 0, stage_server=False) as opened:
        assert runs.refit(UNIT, opened) is None
    assert (workspace / INCOMING).is_dir()


def test_what_must_hold_before_a_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault in words, nothing moved."""
    (arrived,) = arrive(workspace, "one.png")
    params = workspace / "params.yaml"
    sound = params.read_text()

    params.write_text(sound + "# a remark\n")
    assert "uncommitted changes in params.yaml" in refuse()
    params.write_text(sound)

    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    assert "git does not know who you are" in refuse()
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, ENVIRONMENT[name])

    set_refit(workspace, min_free=10**18)
    assert "MB free" in refuse() and "min_free" in refuse()
    set_refit(workspace, min_free=0, labelled={UNIT: "data/truth"})
    assert "data/truth: no such folder" in refuse()
    good_image(workspace / "data/truth/good/a.png", 7)
    assert "no anomalous image" in refuse()
    (workspace / "data/truth/bad").mkdir()
    (workspace / "data/truth/bad/b.png").write_bytes(b"no image")
    assert "1 of 2 images cannot be used" in refuse()
    set_refit(workspace, labelled={})
    (workspace / "data/queries/new.sql").write_text("SELECT 1")
    assert "new.sql: says not what it expects" in refuse()
    (workspace / "data/queries/new.sql").unlink()
    (workspace / f"data/arrivals/{UNIT}.csv").write_text("when\n")
    assert f"{UNIT}.csv: no list of arrivals" in refuse()
    (workspace / f"data/arrivals/{UNIT}.csv").unlink()

    extra = good_image(workspace / ROOT / "train/good/by hand.png", 8)
    assert f"not as {ROOT}.dvc says" in refuse()
    extra.unlink()
    calibration = workspace / f"artifacts/{UNIT}/calibration.json"
    calibration.unlink()
    assert "not fitted yet" in refuse()
    assert arrived.exists() and not (workspace / f".refit/{UNIT}/run.json").exists()


def test_a_cron_job_is_told_by_the_exit_status(workspace: Path) -> None:
    """`--once`: every unit's error in words, and the other units are done all the same."""
    (arrived,) = arrive(workspace, "one.png")
    params = workspace / "params.yaml"
    params.write_text(params.read_text() + "# a remark\n")
    done = python(workspace, "-m", "flows.deploy", "--once", "--units", "kti", UNIT, check=False)
    assert done.returncode == 1 and arrived.exists()
    unknown, dirty = done.stderr.splitlines()
    assert unknown.startswith("error: kti: unknown unit 'kti'")
    assert dirty.startswith(f"error: {UNIT}: uncommitted changes in params.yaml")
    commit(workspace, "a remark")
    done = python(workspace, "-m", "flows.deploy", "--once", PREFECT_API_URL="http://127.0.0.1:1")
    assert f"{UNIT}: promoted v1 (1 admit)" in done.stdout and not arrived.exists()
    assert history.read(UNIT)[-1].version == "v1"


def test_a_data_set_that_dvc_does_not_track(workspace: Path) -> None:
    arrive(workspace, "one.png")
    (workspace / f"{ROOT}.dvc").unlink()
    commit(workspace, "untracked")
    assert f"{ROOT}: not tracked by DVC; run `dvc add {ROOT}`" in refuse()


def test_what_a_stage_draws_is_refitted_as_a_copy(workspace: Path) -> None:
    """The demo's units: the message holds the commands, and they do it."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["units"] = {"demo.kit": {"root": "data/demo/hardware_kit", "layout": "mvtec_loco"}}
    params["demo"] = DEMO.model_dump(mode="json")
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    python(workspace, "-m", "dvc", "repro", "-q", "demo")
    commit(workspace, "demo")
    good_image(Path("data/incoming/demo.kit/one.png"), 0)
    said = refuse("demo.kit")
    assert "data/demo/hardware_kit: made by the stage 'demo'" in said
    commands = [line.strip() for line in said.splitlines() if line.startswith("  ")]
    assert len(commands) == 3 and all("data/own-hardware_kit" in line for line in commands[:2])
    for line in commands:
        run(workspace, "bash", "-c", line)
    unit = "own-hardware_kit"
    assert f"tmuad refit --unit {unit}" in said
    with runs.open_workspace("test", print, 0, stage_server=False) as opened:
        assert preflight(unit, opened.params, opened.dvc)["file"] == f"data/{unit}.dvc"


def test_one_run_at_a_time(workspace: Path) -> None:
    with workspace_lock("a long run", 0, print):
        with pytest.raises(BusyError, match="a long run"), runs.open_workspace("second", print, 0):
            pass
        done = python(workspace, "-m", "flows.command", "refit", "--unit", UNIT, "--wait", "0.5", check=False)
        assert done.returncode == 1 and "waiting up to" in done.stdout and "another run is at work" in done.stderr


def test_a_lock_of_dvcs_is_waited_for(workspace: Path) -> None:
    lines: list[str] = []
    with runs.open_workspace("test", lines.append, 0, stage_server=False) as opened:
        opened.dvc.call("remotes")
        held = zc.lockfile.LockFile(".dvc/tmp/lock")
        opened.dvc.lock_wait = 0.5
        with pytest.raises(TmuadError, match="another DVC process has kept its lock"):
            opened.dvc.call("status", targets=[f"{ROOT}.dvc"])
        opened.dvc.lock_wait = 30.0
        subprocess.Popen(["sleep", "0"]).wait()
        threading.Timer(4.0, held.close).start()
        assert opened.dvc.call("status", targets=[f"{ROOT}.dvc"]) == {}
    assert any("waiting for another DVC process" in line for line in lines)


def test_a_disk_that_fills_up_during_admission(workspace: Path, tmp_path: Path) -> None:
    """A file system of 64 kB where the images are to go: real ENOSPC."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        from tmuad.arrivals.files import move
        from tmuad.data.verify import file_id

        source = tmp_path / "image.png"
        Image.effect_noise((400, 400), 90).save(source)
        image_id = file_id(source)
        with pytest.raises(DataError, match="No space left on device"):
            move(source, small / "image.png", image_id)
        assert file_id(source) == image_id and list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_that_fills_up_during_a_run(fitted_workspace: Path, tmp_path: Path) -> None:
    """The whole workspace on a disk with room for the start of a run only: told, nothing lost, and done once there is room."""
    with small_disk(tmp_path / "small", "200m"):
        folder, ballast = copy(fitted_workspace, tmp_path / "small/ws"), tmp_path / "small/ballast"
        arrive(folder, "one.png", "two.png")
        images, before = all_images(folder), state(folder)
        ballast.write_bytes(bytes(shutil.disk_usage(folder).free - 300 * 1024))
        refit = ("-m", "flows.command", "refit", "--unit", UNIT)
        done = python(folder, *refit, check=False, PYTHONDONTWRITEBYTECODE="1")
        assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
        assert "No space left on device" in done.stderr and "free some space" in done.stderr
        assert all_images(folder) == images and state(folder) == before
        ballast.unlink()
        python(folder, *refit, check=False)  # what could not be rolled back is now, or the run goes on
        python(folder, *refit)
        last = json.loads((folder / history.path_of(UNIT)).read_text().splitlines()[-1])
        assert (last["version"], len(last["added"])) == ("v1", 2) and all_images(folder) == images
        assert run(folder, "git", "status", "--porcelain", "--untracked-files=no").stdout == ""


def test_unknown_parameters_and_damaged_journals(workspace: Path) -> None:
    Path(f".refit/{UNIT}").mkdir(parents=True)
    Path(f".refit/{UNIT}/run.json").write_text("{}")
    with pytest.raises(ArtifactError, match="no readable journal"), runs.open_workspace("t", print, 0, False) as opened:
        runs.refit(UNIT, opened)
    Path("params.yaml").write_text("units: {}\nrefit: {gate: {flipz: 1}}\n")
    with pytest.raises(ParameterError, match="flips"), runs.open_workspace("t", print, 0, False):
        pass


def test_the_flows_import_no_torch_and_the_library_neither_prefect_nor_dvc(workspace: Path) -> None:
    flows = "import sys, flows.refit, flows.reproduce, flows.deploy, flows.command; print('torch' in sys.modules)"
    assert python(workspace, "-c", flows).stdout.strip() == "False"
    library = (
        "import sys, tmuad.cli, tmuad.arrivals.__main__, tmuad.arrivals.guard, tmuad.arrivals.gate, tmuad.arrivals.inspect\n"
        "print([name for name in ('prefect', 'dvc', 'flows') if name in sys.modules])"
    )
    assert python(workspace, "-c", library).stdout.strip() == "[]"
