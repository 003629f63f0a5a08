"""A unit fitted anew under other parameters, by the real stages, in a workspace of its own that is thrown away.

Everything per image comes from the shared cache: a fit with four images segments and encodes nothing that was seen before.
"""

import contextlib
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tmuad.ablate.rescore import FittedUnit
from tmuad.cache import anchored
from tmuad.config import Params

STAGES = ("prepare", "segment", "finetune", "describe", "text_bank", "feature_banks", "score")
SHARED = ("data", "models", "weights", "weights.yaml", "profiles")  # what the stages read besides artifacts


@contextlib.contextmanager
def refitted(unit: str, params: Params) -> Iterator[FittedUnit]:
    """`unit` fitted under `params`; within, the working folder is the workspace, and ends with it.

    Raises:
        TmuadError: whatever a stage finds wrong.
    """
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="tmuad-ablation-") as folder:
        for name in SHARED:
            if (here / name).exists():
                (Path(folder) / name).symlink_to(here / name)
        moved = _anchored(params, unit, here)
        with contextlib.chdir(folder):
            for stage in STAGES:
                importlib.import_module(f"tmuad.stages.{stage}").run(moved, unit)
            yield FittedUnit(unit, moved)


def _anchored(params: Params, unit: str, here: Path) -> Params:
    """`params` with this unit alone, and paths that hold in any working folder."""
    settings = params.unit(unit)
    root = settings.model_copy(update={"root": str(here / settings.root)})
    data = params.data.model_copy(update={"cache": anchored(params.data.cache, here)})
    weights = params.compute.model_copy(update={"weights": str(here / params.compute.weights)})
    return params.model_copy(update={"units": {unit: root}, "data": data, "compute": weights})
