"""Fine-tune the object classifier on crops of the training split's named segments."""

import numpy as np

from tmuad.config import Params
from tmuad.describe.finetune import finetune, save
from tmuad.engine import map_images
from tmuad.parquet import read_parquet, write_artifact
from tmuad.segment.scene import SceneTask
from tmuad.stages.common import unit_images
from tmuad.workspace import UnitPaths


def run(params: Params, unit: str) -> None:
    paths = UnitPaths(unit)
    segments = read_parquet(paths.segments, ["image_id", "source", "candidate", "label"]).to_pandas()
    grounded = segments[segments["source"] == "grounded"].groupby("image_id", sort=False)
    task = SceneTask(params.segment, params.finetune.crop_size)
    images = unit_images(unit, params, ["train"])
    size = params.finetune.crop_size
    crops, labels, keys = [np.zeros((0, size, size, 3), dtype=np.uint8)], [], []
    for ref, record in zip(images, map_images(task, images, params.data), strict=True):
        if ref.image_id in grounded.groups:
            mine = grounded.get_group(ref.image_id)
            crops.append(record["crops"][mine["candidate"].to_numpy()])
            labels += mine["label"].tolist()
            keys += [f"{ref.image_id}:{candidate}" for candidate in mine["candidate"]]
    trained = finetune(np.concatenate(crops), labels, keys, params.finetune)
    save(trained, paths.classifier)
    write_artifact(paths.training_curve, trained.curve.to_csv(index=False, lineterminator="\n").encode())
