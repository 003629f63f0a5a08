"""The whole pipeline through real `dvc repro`, on a tiny demo data set: results, determinism, and SIGKILL of every stage."""

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from workspaces import TINY, copy_project, dvc, environment, run, set_params, tmuad

UNIT = "demo.hardware_kit"
PARAMS = {
    "units": {UNIT: {"root": "data/demo/hardware_kit", "layout": "mvtec_loco"}},
    "demo": {"categories": ["hardware_kit"], "size": 128, "train": 8, "validation": 4, "test_good": 3, "per_fault": 1},
}
STAGES = (
    "settings", "demo", "prepare", "segment", "finetune", "describe", "text_bank", "feature_banks", "score", "fuse",
    "evaluate", "context", "tables", "report", "warehouse", "checks", "gallery",
)  # fmt: skip


def new_workspace(folder: Path, **data: object) -> Path:
    workspace = copy_project(folder)
    set_params(workspace, PARAMS, TINY, {"data": data})
    run(workspace, "git", "init", "-q")
    return workspace


class Repro:
    """`dvc repro` in a process group of its own, watched by the stages it starts: each in a process of its own."""

    def __init__(self, workspace: Path, *arguments: str, stages: str = "off") -> None:
        command = [sys.executable, "-m", "dvc", "repro", *arguments]
        self.log = (workspace / ".repro.log").open("w+")
        self.process = subprocess.Popen(
            command, cwd=workspace, env=environment(workspace) | {"TMUAD_STAGES": stages}, stdout=self.log,
            stderr=self.log, start_new_session=True,
        )  # fmt: skip
        STARTED.append(self)

    def stages(self) -> Iterator[tuple[str, psutil.Process]]:
        """(name, process) of each stage as it starts, until dvc ends."""
        seen: set[int] = set()
        dvc_process = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            try:
                children = dvc_process.children(recursive=True)
            except psutil.NoSuchProcess:
                continue
            for child in children:
                if child.pid not in seen and (name := stage_of(child)):
                    seen.add(child.pid)
                    yield name, child
            time.sleep(0.02)

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def kill(self) -> None:
        """As a power cut: dvc, the stage and its workers at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


STARTED: list[Repro] = []


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """Also after a test that failed half-way."""
    yield
    while STARTED:
        if (repro := STARTED.pop()).process.poll() is None:
            repro.kill()


def stage_of(process: psutil.Process) -> str:
    """The stage that `python -m tmuad.stages STAGE` runs in this process; its workers and the shell do not count."""
    try:
        words, parent = process.cmdline(), process.parent()
        inside = parent is not None and "tmuad.stages" in parent.cmdline()
    except psutil.Error:
        return ""
    return words[words.index("tmuad.stages") + 1] if "tmuad.stages" in words and not inside else ""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after one undisturbed run, and in stages.json how much work each stage was."""
    workspace = new_workspace(tmp_path_factory.mktemp("clean") / "one")
    repro = Repro(workspace)
    work: dict[str, float] = {}
    for name, process in repro.stages():
        while (seconds := cpu_seconds(process)) is not None:
            work[name] = seconds
            time.sleep(0.02)
    assert repro.process.wait() == 0, repro.output()
    assert sorted(work) == sorted(STAGES)
    (workspace / "stages.json").write_text(json.dumps(work))
    return workspace


def cpu_seconds(process: psutil.Process) -> float | None:
    """What the process has worked so far, which depends little on how busy the machine is; None once it has ended."""
    try:
        times = process.cpu_times()
        return None if process.status() == psutil.STATUS_ZOMBIE else times.user + times.system
    except psutil.NoSuchProcess:
        return None


def table(workspace: Path, name: str) -> pd.DataFrame:
    return pq.read_table(workspace / "artifacts" / UNIT / f"{name}.parquet").to_pandas()


def test_every_image_gets_a_verdict_and_every_anomaly_a_reason(clean: Path) -> None:
    manifest, scores, verdicts = (table(clean, name) for name in ("manifest", "scores", "verdicts"))
    assert manifest.groupby("split").size().to_dict() == {"test": 3 + 11, "train": 8, "validation": 4}
    scored = set(manifest.loc[manifest["split"] != "train", "image_id"])
    assert set(scores["image_id"]) == set(verdicts["image_id"]) == scored
    assert (scores["score"] >= 0).all() and scores["p_value"].between(0, 1).all()
    merged = verdicts.merge(scores, on="image_id", suffixes=("", "_again"))
    assert (merged["score"] == merged["score_again"]).all()
    assert ((merged["score"] > merged["threshold"]) == (merged["verdict"] == "anomalous")).all()
    findings = table(clean, "findings")
    anomalous = verdicts.loc[verdicts["verdict"] == "anomalous", "image_id"]
    assert len(anomalous) > 0 and set(anomalous) <= set(findings["image_id"])
    assert findings["strength"].between(0, 1).all() and findings["sentence"].str.endswith(".").all()
    first = findings.groupby("image_id")["rank"].agg(["min", "max", "size"])
    assert (first["min"] == 1).all() and (first["max"] == first["size"]).all()


def test_normal_images_are_described_by_what_they_show(clean: Path) -> None:
    manifest, descriptions, bank = (table(clean, name) for name in ("manifest", "descriptions", "text_bank"))
    assert set(descriptions["image_id"]) == set(manifest["image_id"])
    assert set(bank["object_class"]) and set(bank["object_class"]) <= set(descriptions["object_class"])
    assert (descriptions["count"] == descriptions["object_runs"].map(len)).all()
    assert (bank["size_low"] <= bank["size_high"]).all()


def test_metrics_have_the_promised_keys(clean: Path) -> None:
    metrics = json.loads((clean / "artifacts" / UNIT / "metrics.json").read_text())
    for image_level in (
        metrics["image"],
        *(metrics["banks"][bank]["image"] for bank in ("text", "objects", "patches")),
    ):
        assert {"auroc", "auroc_logical", "auroc_structural", "average"} <= set(image_level)
        assert all(0 <= value <= 1 for value in image_level.values())
    assert 0.5 < metrics["pixel"]["auroc"] <= 1 and metrics["image"]["auroc_logical"] > 0.6
    assert metrics["counts"] == {"good": 3, "logical": 6, "structural": 5}
    assert metrics["decision"]["normals"] == 4


def test_report_and_warehouse_show_the_same_figures(clean: Path) -> None:
    metrics = json.loads((clean / "artifacts" / UNIT / "metrics.json").read_text())
    with (clean / "reports/results.csv").open() as stream:
        [row] = list(csv.DictReader(stream))
    assert float(row["image_auroc"]) == pytest.approx(metrics["image"]["auroc"], abs=1e-6)
    page = (clean / "reports/index.html").read_text()
    assert UNIT in page and f"{100 * metrics['image']['auroc']:.1f}" in page
    assert f"{100 * metrics['image']['auroc']:.1f}" in (clean / "reports/results.md").read_text()
    panels = json.loads((clean / "reports/panels" / UNIT / "panels.json").read_text())
    assert all((clean / "reports/panels" / UNIT / panel["file"]).is_file() for panel in panels)
    rows = json.loads((clean / "reports/warehouse.json").read_text())
    assert rows["units"] == 1 and rows["verdicts"] == len(table(clean, "verdicts"))
    asked = tmuad(clean, "sql", "SELECT count(*) AS n FROM images WHERE split = 'test'", "--format", "csv")
    assert asked.stdout.split() == ["n", "14"]
    assert UNIT in tmuad(clean, "results").stdout


def test_dvc_shows_metrics_and_plots(clean: Path) -> None:
    shown = json.loads(dvc(clean, "metrics", "show", "--json").stdout)
    metrics = json.loads((clean / "artifacts" / UNIT / "metrics.json").read_text())
    assert shown[""]["data"][f"artifacts/{UNIT}/metrics.json"]["data"]["image"] == metrics["image"]
    assert "auroc_logical" in dvc(clean, "metrics", "show").stdout
    dvc(clean, "plots", "show", "-o", "plots")
    page = (clean / "plots/index.html").read_text()
    drawn = ("roc.csv", "tpr", "finetune.csv", "held_out_loss", "finetune_accuracy.csv", "held_out_accuracy")
    assert [word for word in drawn if word not in page] == []


def test_a_second_run_has_nothing_to_do(clean: Path) -> None:
    before = (clean / "dvc.lock").read_bytes()
    done = dvc(clean, "repro")
    assert "Running stage" not in done.stdout and "up to date" in done.stdout
    assert (clean / "dvc.lock").read_bytes() == before


def test_another_fusion_weight_runs_fusion_and_what_follows(clean: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "changed"
    shutil.copytree(clean, workspace, symlinks=True)
    set_params(workspace, PARAMS, TINY, {"fuse": {"calibrated": {"patches": 0.5}}})
    said = dvc(workspace, "repro").stdout
    ran = {line.split("'")[1].partition("@")[0] for line in said.splitlines() if line.startswith("Running stage")}
    assert ran == {"settings", "fuse", "evaluate", "tables", "report", "warehouse", "checks", "gallery"}


def test_two_clean_runs_leave_the_same_lock(clean: Path, tmp_path: Path) -> None:
    """In another folder, without a cache, with one process where the first had two, and with a stage server."""
    other = new_workspace(tmp_path / "another folder", workers=1)
    dvc(other, "repro")
    assert (other / "dvc.lock").read_text() == (clean / "dvc.lock").read_text()
    for name in ("index.html", "results.md", "results.csv"):
        assert (other / "reports" / name).read_bytes() == (clean / "reports" / name).read_bytes()


def test_any_stage_may_be_killed_and_the_next_run_ends_with_the_same_bytes(clean: Path, tmp_path: Path) -> None:
    """The power goes in the middle of each stage in turn, and once more the moment it starts."""
    work = json.loads((clean / "stages.json").read_text())
    workspace = new_workspace(tmp_path / "cut")
    for victim in STAGES:
        for share in (0.0, 0.6) if victim in ("segment", "report") else (0.6,):
            repro = Repro(workspace)
            process = next(process for name, process in repro.stages() if name == victim)
            while (seconds := cpu_seconds(process)) is not None and seconds < share * work[victim]:
                time.sleep(0.01)
            assert seconds is not None, f"{victim} was over before it could be killed\n{repro.output()}"
            repro.kill()
    repro = Repro(workspace)
    names = [name for name, _ in repro.stages()]
    assert repro.process.returncode == 0, repro.output()
    assert names == [STAGES[-1]]
    assert (workspace / "dvc.lock").read_text() == (clean / "dvc.lock").read_text()
    left = [p.name for p in workspace.rglob(".*") if p.is_file() and "artifacts" in p.parts and p.name != ".gitignore"]
    assert left == []


def test_no_worker_outlives_a_killed_stage(clean: Path, tmp_path: Path) -> None:
    """Out of memory, the kernel kills one process: its workers must not stay, and dvc must say that the stage failed."""
    workspace = tmp_path / "oom"
    shutil.copytree(clean, workspace, ignore=shutil.ignore_patterns(".tmuad-cache", ".repro.log"))
    repro = Repro(workspace, "--force", "--single-item", f"segment@{UNIT}")
    [(name, process)] = itertools.islice(repro.stages(), 1)
    workers: list[psutil.Process] = []
    while len(workers) < 2 and cpu_seconds(process) is not None:
        workers = process.children()
        time.sleep(0.01)
    process.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert name == "segment" and len(workers) == 2 and not alive
    assert repro.process.wait(timeout=60) != 0
    assert f"failed to reproduce 'segment@{UNIT}'" in repro.output()


def test_the_stage_server_of_a_killed_dvc_goes_with_it_and_the_next_run_ends_with_the_same_bytes(
    clean: Path, tmp_path: Path
) -> None:
    workspace = new_workspace(tmp_path / "served")
    repro = Repro(workspace, stages="")
    family: list[psutil.Process] = []
    while len(family) < 3 and repro.process.poll() is None:  # the server, a stage's keeper, its worker
        family = [one for server in servers_of(repro.process.pid) for one in (server, *server.children(recursive=True))]
        time.sleep(0.01)
    assert len(family) >= 3, repro.output()
    repro.process.kill()
    repro.process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    dvc(workspace, "repro")
    assert (workspace / "dvc.lock").read_text() == (clean / "dvc.lock").read_text()


def servers_of(owner: int) -> list[psutil.Process]:
    """The stage servers that serve the process `owner`; their own forks look alike but have another parent."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "tmuad.stages.server" in words and words[-1] == str(owner):
            found.append(process)
    return [process for process in found if not any(process in other.children(recursive=True) for other in found)]


def test_a_lock_that_dvc_believes_to_be_held_is_removed_as_the_readme_says(clean: Path) -> None:
    """After a power cut another process may have the number that stands in the lock file: here, this one."""
    held = {"pid": os.getpid(), "cmd": "dvc repro"}
    rwlock = clean / ".dvc/tmp/rwlock"
    rwlock.write_text(json.dumps({"write": {str(clean / "artifacts" / UNIT / "segments.parquet"): held}, "read": {}}))
    refused = dvc(clean, "repro", check=False)
    assert refused.returncode != 0 and "rwlock" in refused.stderr
    rwlock.unlink()
    dvc(clean, "repro")
