"""models/dvc.yaml: one DVC stage for each object classifier that several units share.

It is a file of its own, and written on demand, because the units a model is trained on stand in no pattern that dvc.yaml
could express, and because units with a model of their own must not wait for others.
"""

from pathlib import Path
from typing import Any

import yaml

from tmuad.cache import write_atomic
from tmuad.config import Params
from tmuad.config_models import ClipFinetuneParams
from tmuad.describe.training import groups, shared_model
from tmuad.errors import ParameterError
from tmuad.workspace import CURVES, SETTINGS, UnitPaths

_HEAD = "# Written by `tmuad classifiers` from the units in params.yaml: run it again after units were added.\n"


def write_pipeline(params: Params, path: Path) -> str:
    """Write the stages for the scope in force; returns a line for the terminal.

    Raises:
        ParameterError: no model is shared in this profile.
    """
    tuned = params.finetune
    if not isinstance(tuned, ClipFinetuneParams) or tuned.scope == "unit":
        raise ParameterError("finetune.scope: every unit has its own classifier in this profile; nothing is shared")
    found = groups(params, tuned)
    stages = {f"classifier-{group}": _stage(group, units) for group, units in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"stages": stages, "plots": [_plot(group) for group in found]}
    write_atomic(path, (_HEAD + yaml.safe_dump(content, sort_keys=False, width=120)).encode())
    listed = ", ".join(f"{group} ({len(units)} units)" for group, units in found.items())
    return f"{path}: {listed}; `dvc repro` trains what is out of date"


def _stage(group: str, units: list[str]) -> dict[str, Any]:
    files = [p.as_posix() for unit in units for p in (UnitPaths(unit).manifest, UnitPaths(unit).segments)]
    sources = ["clip_finetune.py", "clip_classifier.py", "training.py"]
    return {
        "desc": f"train the object classifier of {len(units)} units",
        "wdir": "..",
        "cmd": f"python -m tmuad.stages finetune_group {group}",
        "deps": [*files, *(f"tmuad/describe/{name}" for name in sources)],
        "params": [{SETTINGS.as_posix(): ["finetune", "weights.finetune", "objects", "compute"]}],
        "outs": [shared_model(group).as_posix(), {f"{CURVES.as_posix()}/{group}.csv": {"cache": False}}],
    }


def _plot(group: str) -> dict[str, Any]:
    """Relative to the file itself."""
    return {f"{CURVES.name}/{group}.csv": {"x": "epoch", "y": ["held_out_loss", "held_out_accuracy"]}}
