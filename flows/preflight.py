"""What must hold before a run touches anything. Each check says what is wrong and what to do."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from flows import git
from flows.dvc import Dvc, unit_ends, unit_stages
from tmuad.arrivals.labelled import read_labelled
from tmuad.checks import load_checks
from tmuad.config import Params
from tmuad.data.arrivals import log_path, read_log
from tmuad.errors import ArtifactError, DataError
from tmuad.parquet import read_parquet
from tmuad.stages.__main__ import PER_UNIT
from tmuad.workspace import UnitPaths


def preflight(unit: str, params: Params, dvc: Dvc, arriving: int = 0) -> dict[str, str]:
    """Check the workspace for a run of `unit` that brings in `arriving` bytes.

    Returns:
        {"file": the data set's .dvc file, "path": the folder it tracks}.

    Raises:
        GitError: no repository, no identity, uncommitted changes.
        DataError: the data set is missing, not tracked, changed, drawn by a stage; the labelled set, a saved question or the
            log of arrivals is broken; disk full.
        ArtifactError: the unit is not fitted, or not as its lock file says.
    """
    root = Path(params.unit(unit).root)
    git.check_repository()
    git.check_tag_name(tag_name(unit, "v0"))
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; bring the data set back with: dvc checkout {root}")
    tracked = _tracked(unit, root, dvc)
    read_labelled(unit, params)
    load_checks()
    read_log(log_path(unit))
    paths = UnitPaths(unit)
    if not paths.calibration.exists() or not paths.metrics.exists():
        raise ArtifactError(f"{unit}: not fitted yet; run: dvc repro {' '.join(unit_ends(unit))}, and commit dvc.lock")
    read_parquet(paths.manifest, ["image_id"])
    changed: dict[str, Any] = dvc.call("status", targets=[tracked["file"], *unit_stages(unit, PER_UNIT)])
    if tracked["file"] in changed:
        raise DataError(
            f"{tracked['path']}: not as {tracked['file']} says; keep the changes with `dvc add {tracked['path']}`, "
            f"`dvc repro {' '.join(unit_ends(unit))}` and a commit, or drop them with `dvc checkout {tracked['file']}`"
        )
    if changed:
        raise ArtifactError(
            f"{unit}: out of date ({', '.join(sorted(changed))}); a version must differ from the last by its images "
            f"alone: run `dvc repro {' '.join(unit_ends(unit))}` and commit dvc.lock first"
        )
    check_disk(params, arriving)
    return tracked


def check_disk(params: Params, arriving: int) -> None:
    """Raises DataError where the disk is nearly full: the data set and DVC's cache each take a copy."""
    free = shutil.disk_usage(Path.cwd()).free
    needed = params.refit.min_free + 3 * arriving
    if free < needed:
        raise DataError(
            f"{Path.cwd()}: {free / 1e6:,.1f} MB free, {needed / 1e6:,.1f} MB wanted for this run; free some space "
            "(`dvc gc --workspace --all-tags` drops from DVC's cache what no version needs), or lower refit.min_free"
        )


def check_whole(root: Path, manifest: Path, removed: Collection[str] = ()) -> None:
    """Raises DataError where images that `manifest` lists are gone from `root`, but for the paths `removed`.

    A folder that goes away in the middle of a run, as a network drive does, must not become a version without it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; bring the data set back with: dvc checkout {root}")
    listed = set(read_parquet(manifest, ["path"]).to_pydict()["path"]).difference(removed)
    if gone := sorted(path for path in listed if not (root / path).is_file()):
        raise DataError(
            f"{root}: {len(gone)} of {len(listed)} images have gone since the last fit, for instance {gone[0]}; bring them "
            f"back with: dvc checkout {root}"
        )


def tag_name(unit: str, version: str) -> str:
    return f"refit/{unit}/{version}"


def _own_copy(root: Path) -> str:
    """How to re-fit what a stage makes: the commands, as they can be pasted."""
    own = Path("data") / root.name
    if own.exists():
        own = Path("data") / f"own-{root.name}"
    unit = own.name
    return (
        "re-fit a copy that is yours:\n"
        f"  cp -r {root} {own} && dvc add {own}\n"
        f"  tmuad init {own} --name {unit}\n"
        f"  dvc repro {' '.join(unit_ends(unit))} && git add -A && git commit -m 'New unit {unit}'\n"
        f"then put photographs of good parts into data/incoming/{unit}/ and run: tmuad refit --unit {unit}"
    )


def _tracked(unit: str, root: Path, dvc: Dvc) -> dict[str, str]:
    if not root.resolve().is_relative_to(Path.cwd()):
        raise DataError(
            f"{root}: outside this repository, so DVC cannot version it; copy it in (say, to data/{unit}), set "
            f"units.{unit}.root in params.yaml, then: dvc add data/{unit}"
        )
    found: dict[str, str] = dvc.call("tracked", path=str(root))
    if "stage" in found:
        raise DataError(f"{root}: made by the stage '{found['stage']}', which would make it anew; {_own_copy(root)}")
    if not found:
        raise DataError(f"{root}: not tracked by DVC; run `dvc add {root}`, then commit {root}.dvc")
    if not os.access(root, os.W_OK):
        raise DataError(f"{root}: not writable; images are admitted into it")
    return found
