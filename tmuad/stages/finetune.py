"""Fine-tune the object classifier on crops of the training split's named segments."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tmuad.config import FinetuneParams, Params
from tmuad.config_models import ClipFinetuneParams
from tmuad.describe.remembered import TrainedFiles, drawn, trained_once
from tmuad.engine import ImageRef, map_images
from tmuad.lot import settled
from tmuad.parquet import read_parquet, write_artifact
from tmuad.segment.slots import scene_task
from tmuad.stages.common import unit_images
from tmuad.workspace import CURVES, UnitPaths


def run(params: Params, unit: str) -> None:
    paths, training = UnitPaths(unit), params.finetune
    if not isinstance(training, FinetuneParams):
        _finetune_clip(params, training, unit)
        return
    task = scene_task(params, unit)
    refs = unit_images(unit, params, ["train"])
    rows = _training_rows(unit, refs)
    owners, candidates, labels = (rows[name].tolist() for name in ("image_id", "candidate", "label"))
    keys = [f"{image_id}:{candidate}" for image_id, candidate in zip(owners, candidates, strict=True)]
    early = {refs[i].image_id for i in settled([ref.path.as_posix() for ref in refs])}
    chosen = drawn(labels, owners, keys, early, training)

    def train() -> TrainedFiles:
        from tmuad.describe.finetune import finetune, packed

        size = training.crop_size
        crops = [np.zeros((0, size, size, 3), dtype=np.uint8)]
        mine = rows.iloc[chosen].groupby("image_id", sort=False)["candidate"]
        images = [ref for ref in refs if ref.image_id in mine.groups]
        for ref, record in zip(images, map_images(task, images, params.data), strict=True):
            crops.append(record["crops"][mine.get_group(ref.image_id).to_numpy()])
        trained = finetune(np.concatenate(crops), [labels[i] for i in chosen], [keys[i] for i in chosen], training)
        return TrainedFiles(packed(trained), trained.curve)

    trained = trained_once([(keys[i], labels[i]) for i in chosen], task, params.data, training, train)
    write_artifact(paths.classifier, trained.classifier)
    _write_curves(trained.curve, paths)


def _training_rows(unit: str, refs: Sequence[ImageRef]) -> pd.DataFrame:
    """image_id, candidate and label of the named objects of the training images `refs`, in their order."""
    columns = ["image_id", "source", "candidate", "label"]
    segments = read_parquet(UnitPaths(unit).segments, columns).to_pandas()
    order = {ref.image_id: i for i, ref in enumerate(refs)}
    rows: pd.DataFrame = segments[(segments["source"] == "grounded") & segments["image_id"].isin(order)]
    rows = rows.sort_values("image_id", key=lambda ids: ids.map(order), kind="stable")
    return rows.reset_index(drop=True)


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
