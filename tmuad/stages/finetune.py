"""Fine-tune the object classifier on crops of the training split's named segments."""

import numpy as np
import pandas as pd

from tmuad.config import FinetuneParams, Params
from tmuad.config_models import ClipFinetuneParams
from tmuad.describe.finetune import finetune, save
from tmuad.engine import map_images
from tmuad.parquet import read_parquet, write_artifact
from tmuad.segment.slots import scene_task
from tmuad.stages.common import unit_images
from tmuad.workspace import CURVES, UnitPaths


def run(params: Params, unit: str) -> None:
    paths, training = UnitPaths(unit), params.finetune
    if not isinstance(training, FinetuneParams):
        _finetune_clip(params, training, unit)
        return
    segments = read_parquet(paths.segments, ["image_id", "source", "candidate", "label"]).to_pandas()
    grounded = segments[segments["source"] == "grounded"].groupby("image_id", sort=False)
    task = scene_task(params, unit)
    images = unit_images(unit, params, ["train"])
    size = params.finetune.crop_size
    crops, labels, keys = [np.zeros((0, size, size, 3), dtype=np.uint8)], [], []
    for ref, record in zip(images, map_images(task, images, params.data), strict=True):
        if ref.image_id in grounded.groups:
            mine = grounded.get_group(ref.image_id)
            crops.append(record["crops"][mine["candidate"].to_numpy()])
            labels += mine["label"].tolist()
            keys += [f"{ref.image_id}:{candidate}" for candidate in mine["candidate"]]
    trained = finetune(np.concatenate(crops), labels, keys, training)
    save(trained, paths.classifier)
    _write_curves(trained.curve, paths)


def _finetune_clip(params: Params, tuned: ClipFinetuneParams, unit: str) -> None:
    """A model of the unit's own, or a reference to the one that it shares."""
    from tmuad.describe import clip_classifier
    from tmuad.describe.training import classes_of, group_of, shared_model, tune

    paths = UnitPaths(unit)
    if tuned.scope == "unit":
        trained = tune(params, [unit])
        clip_classifier.save(trained.spec, trained.weights, paths.classifier)
        _write_curves(trained.curve, paths)
        return
    group = group_of(unit, tuned)
    clip_classifier.save_reference(classes_of(params, unit), shared_model(group), paths.classifier)
    _write_curves(pd.read_csv(CURVES / f"{group}.csv", float_precision="round_trip"), paths)


def _write_curves(curve: pd.DataFrame, paths: UnitPaths) -> None:
    """How training went, and its accuracy once more by itself: `dvc plots show` draws one column of a stage's file."""
    write_artifact(paths.training_curve, curve.to_csv(index=False, lineterminator="\n").encode())
    accuracy = curve[["epoch", "held_out_accuracy"]]
    write_artifact(paths.accuracy_curve, accuracy.to_csv(index=False, lineterminator="\n").encode())
