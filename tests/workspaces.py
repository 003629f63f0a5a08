"""Workspaces as a user has them: a copy of the project with parameters of its own, run by the real commands."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parent.parent
TINY: dict[str, Any] = {  # the whole pipeline in seconds
    "data": {"size": 128, "workers": 2},
    "finetune": {"crops_per_class": 20, "epochs": 2, "batch_size": 8},
    "object_bank": {"clusters": 20, "dimensions": 8},
    "patch_bank": {"clusters": 10, "dimensions": 8, "max_patches": 2000},
}


def copy_project(target: Path) -> Path:
    """What git would check out of the project, without its tests."""
    target.mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml", "variants.yaml", ".dvcignore", ".gitignore", "Makefile"):
        shutil.copy(PROJECT / name, target / name)
    for name in ("reports/reference", "reports/plug", "ablations/results"):
        shutil.copytree(PROJECT / name, target / name, ignore=only_tracked)
    shutil.copy(PROJECT / "ablations/dvc.yaml", target / "ablations/dvc.yaml")
    (target / ".dvc").mkdir()
    shutil.copy(PROJECT / ".dvc/config", target / ".dvc/config")
    for name in ("names", "catalog", "corrections", "arrivals", "queries"):
        shutil.copytree(PROJECT / "data" / name, target / "data" / name)
    for name in ("models", "profiles"):
        shutil.copytree(PROJECT / name, target / name)
    shutil.copytree(PROJECT / "tmuad", target / "tmuad", ignore=shutil.ignore_patterns("__pycache__"))
    return target


def only_tracked(folder: str, names: list[str]) -> list[str]:
    """For copytree: what runs left in these folders, beside the files of the project."""
    return [] if folder.endswith("reference") else [name for name in names if name != "README.md"]


def set_params(workspace: Path, *changes: Mapping[str, Any]) -> None:
    """params.yaml as the project has it, with `changes` key by key; other units than those given are dropped."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text()) | {"units": {}}
    for change in changes:
        params = merged(params, change)
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: merged(old[key], new[key]) for key in old if isinstance(old[key], dict) and key in new}
    return {**old, **new, **both}


def environment(workspace: Path) -> dict[str, str]:
    """The environment in which `python`, `dvc` and `tmuad` are those of the tests, and the code is the workspace's."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {
        "PATH": path,
        "PYTHONPATH": str(workspace),
        "DVC_NO_ANALYTICS": "1",
        "GIT_CEILING_DIRECTORIES": str(workspace.parent),
        "COLUMNS": "200",
    }


def run(workspace: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command in the workspace; `check` fails the test with all that it said."""
    done = subprocess.run(
        command, cwd=workspace, env=environment(workspace), text=True, capture_output=True, timeout=300, check=False
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done


def dvc(workspace: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(workspace, sys.executable, "-m", "dvc", *arguments, check=check)


def tmuad(workspace: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(workspace, sys.executable, "-c", "from tmuad.cli import main; main()", *arguments, check=check)
