"""What is in force: params.yaml under its profile, the digests of the weights, the object names.

The other stages depend on parts of this file, so that whatever way a setting is changed, what follows from it runs again.
How fast and where things run (device, batch, processes, cluster) is no part of it.
"""

from typing import Any

import yaml

from tmuad.config import Params
from tmuad.models.slots import TEXTS, model_slots, text_weight_digests, weight_digests
from tmuad.parquet import write_artifact
from tmuad.segment.slots import names_of
from tmuad.workspace import SETTINGS


def run(params: Params) -> None:
    speed: Any = {
        "units": True, "executor": True, "ray": True,
        "data": {"cache", "workers"}, "compute": {"device", "batch", "threads", "weights"},
    }  # fmt: skip
    content = params.model_dump(mode="json", exclude=speed)
    content["finetune"]["backend"] = params.finetune.backend
    if model_slots(params):
        from tmuad.models.runtime import precision_of

        content["compute"]["precision"] = precision_of(params.compute)
    content["weights"] = weight_digests(params)
    if model_slots(params):
        content["weights"][TEXTS] = text_weight_digests(params)
    content["objects"] = {unit: list(names) for unit in params.units if (names := names_of(params, unit))}
    write_artifact(SETTINGS, yaml.safe_dump(content, sort_keys=True, allow_unicode=True).encode())
