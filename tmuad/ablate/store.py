"""Where a group's results lie, what they were made from, and whether that still is what the unit has.

ablations/runs/<unit>/<group>.json says of each variant what it was run with and what was measured;
<group>.parquet has its figures in every bootstrap resample.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tmuad.config import Params
from tmuad.config_models import RayParams
from tmuad.errors import ArtifactError
from tmuad.evaluate.cells import Cell, Cells
from tmuad.evaluate.replicates import read_replicates, write_replicates
from tmuad.parquet import write_artifact
from tmuad.workspace import SETTINGS, UnitPaths

RUNS = Path("ablations/runs")
RESULTS = Path("ablations/results")
# Sections of artifacts/params.yaml that the variants of a group depend on, as ablations/dvc.yaml says too. What decides
# about the artifacts below is in these already.
READS: dict[str, tuple[str, ...]] = {
    "banks": ("fuse", "evaluate", "data"),
    "text": ("text_score", "segment", "texts", "vlm", "encode", "weights", "evaluate", "data"),
    "objects": ("object_bank", "encode", "weights", "evaluate", "data"),
    "patches": ("patch_bank", "encode", "weights", "evaluate", "data"),
    "clusters": ("patch_bank", "encode", "weights", "fuse", "evaluate", "data"),
}
NO_SETTING = ("decide", "refit", "demo", "profile", "texts")  # what no variant of another group depends on
DIGITS = 12  # of a digest that people read


@dataclass(frozen=True)
class Outcome:
    """One variant on one unit."""

    cells: Cells  # figures by key, as in metrics.json
    parameters: str  # digest of what it was run with
    weights: dict[str, str] = field(default_factory=dict)  # name -> digest, of the models it used
    measured: dict[str, float] = field(default_factory=dict)  # seconds, megabytes, numbers


@dataclass(frozen=True)
class Results:
    """All variants of one group on one unit."""

    unit: str
    group: str
    profile: str
    inputs: dict[str, str]
    outcomes: dict[str, Outcome]


def parameters_digest(params: Params) -> str:
    """Digest of everything that decides about results: the parameters without speed, schedules and the other units."""
    content = params.model_dump(mode="json", exclude={"units", "profile", "decide", "refit", "demo"})
    content["data"] = {k: v for k, v in content["data"].items() if k not in ("cache", "workers")}
    content |= {"executor": Params.model_fields["executor"].default, "ray": RayParams().model_dump(mode="json")}
    content["compute"] = {"precision": content["compute"]["precision"]}
    content["finetune"]["backend"] = params.finetune.backend
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGITS]


def inputs_of(unit: str, group: str) -> dict[str, str]:
    """Digests of what the variants of a group are made from: artifacts of `unit`, and the settings in force.

    Raises:
        ArtifactError: the unit is not fitted.
    """
    paths = UnitPaths(unit)
    files = (paths.manifest, paths.descriptions, paths.bank_scores, paths.bank_findings)
    digests = {path.name: hashlib.sha256(_bytes(path)).hexdigest()[:DIGITS] for path in files}
    settings = yaml.safe_load(_bytes(SETTINGS))
    reads = READS.get(group) or sorted(set(settings) - set(NO_SETTING))
    kept = {key: settings.get(key) for key in reads}
    return digests | {"settings": hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:DIGITS]}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ArtifactError(f"{path}: no such file; run: dvc repro") from None


def write_results(results: Results, folder: Path = RUNS) -> None:
    """Both files, each whole or not at all; the JSON, which readers look for, comes last."""
    base = folder / results.unit
    flat: Cells = {(name, *key): cell for name, o in results.outcomes.items() for key, cell in o.cells.items()}
    write_replicates(flat, base / f"{results.group}.parquet")
    content: dict[str, Any] = {"group": results.group, "inputs": results.inputs, "profile": results.profile}
    content["unit"] = results.unit
    content["variants"] = {
        name: {k: v for k, v in asdict(outcome).items() if k != "cells"} for name, outcome in results.outcomes.items()
    }
    write_artifact(base / f"{results.group}.json", (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def read_results(unit: str, group: str, folder: Path = RESULTS) -> Results | None:
    """What `write_results` wrote; None where the group was not run on the unit.

    Raises:
        ArtifactError: a file is damaged.
    """
    path = folder / unit / f"{group}.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        flat = read_replicates(path.with_suffix(".parquet"))
        cells: dict[str, dict[tuple[str, ...], Cell]] = {}
        for (name, *key), cell in flat.items():
            cells.setdefault(name, {})[tuple(key)] = cell
        outcomes = {name: Outcome(cells.get(name, {}), **entry) for name, entry in content["variants"].items()}
        return Results(content["unit"], content["group"], content["profile"], content["inputs"], outcomes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: not readable ({error}); run `make tables` again") from None


def is_current(results: Results, inputs: Mapping[str, str]) -> bool:
    """Whether the results are of the fit that the unit has now."""
    return results.inputs == dict(inputs)
