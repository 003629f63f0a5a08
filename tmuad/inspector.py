"""A fitted unit, ready to inspect new images: what `tmuad score` uses, and what a line controller would import.

inspector = Inspector.load("demo.hardware_kit", params)
verdict, description = inspector.inspect(image)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmuad.banks.objects import ObjectBank
from tmuad.banks.patches import PatchBank
from tmuad.banks.text import TextBank
from tmuad.cache import Record
from tmuad.config import Params
from tmuad.describe.classifier import ClipClassifier
from tmuad.describe.description import ImageDescription, describe
from tmuad.describe.table import read_descriptions, scene_object
from tmuad.encode.features import FeatureTask
from tmuad.engine import run_once
from tmuad.errors import ArtifactError
from tmuad.parquet import read_parquet
from tmuad.score.fuse import Calibration, load_calibration
from tmuad.score.judge import Verdict, judge
from tmuad.score.score import score_image
from tmuad.score.sentences import load_names
from tmuad.segment.classes import ObjectClasses, load_classes
from tmuad.segment.scene import unpack_scene
from tmuad.segment.table import resolve_objects
from tmuad.workspace import NAMES, UnitPaths


@dataclass(frozen=True)
class Inspector:
    """Everything fitted of one unit. Scoring an image changes nothing in it."""

    unit: str
    params: Params
    classes: ObjectClasses
    classifier: ClipClassifier
    text_bank: TextBank
    object_bank: ObjectBank
    patch_bank: PatchBank
    calibration: Calibration
    names: dict[str, tuple[str, str]]

    @classmethod
    def load(cls, unit: str, params: Params) -> "Inspector":
        """Raises ParameterError for an unknown unit, ArtifactError for one that is not fitted."""
        params.unit(unit)
        paths, shape = UnitPaths(unit), (params.data.size, params.data.size)
        if not paths.calibration.exists():
            raise ArtifactError(f"{unit}: not fitted yet ({paths.calibration} is missing); run: dvc repro fuse@{unit}")
        return cls(
            unit=unit,
            params=params,
            classes=load_classes(paths.classes),
            classifier=ClipClassifier.load(paths.classifier),
            text_bank=TextBank(read_descriptions(read_parquet(paths.text_entries)), shape),
            object_bank=ObjectBank.load(paths.object_bank),
            patch_bank=PatchBank.load(paths.patch_bank),
            calibration=load_calibration(paths.calibration),
            names=load_names(NAMES / f"{unit}.yaml"),
        )

    def inspect(self, image: NDArray[np.uint8], image_id: str = "") -> tuple[Verdict, ImageDescription]:
        """Verdict on one image (S, S, 3) uint8 RGB as `tmuad.engine.load_image` returns it, and what it shows."""
        task = FeatureTask.of(self.params)
        record = run_once(task.after, image)
        return self.judge_records(record, task(image, record), (image.shape[0], image.shape[1]), image_id)

    def judge_records(
        self, record: Record, features: Record, shape: tuple[int, int], image_id: str
    ) -> tuple[Verdict, ImageDescription]:
        """As `inspect`, from the records of `SceneTask` and `FeatureTask`, which may come from the cache."""
        scene = unpack_scene(record)
        objects = [o for _, _, o in resolve_objects(scene, self.classes)]
        labels, _ = self.classifier.classify(scene.crops[[o.index for o in objects]])
        found = [scene_object(label, o.runs, shape, o.index) for label, o in zip(labels, objects, strict=True)]
        description = describe(image_id, found)
        result = score_image(
            description, scene.regions, features, self.text_bank, self.object_bank, self.patch_bank, self.params
        )
        return judge(result, description, shape, self.calibration, self.params.fuse), description
