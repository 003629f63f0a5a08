"""A fitted unit, ready to inspect new images: what `tmuad score` uses, and what a line controller would import.

inspector = Inspector.load("demo.hardware_kit", params)
verdict, description = inspector.inspect(image)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmuad.banks.patch_model import DETAIL
from tmuad.banks.patches import PatchBank
from tmuad.banks.slots import AnyObjectBank, AnyPatchBank, load_object_bank, load_patch_bank
from tmuad.banks.text import TextBank
from tmuad.cache import Record
from tmuad.config import Params
from tmuad.describe.classifier import ObjectClassifier, settled
from tmuad.describe.description import ImageDescription, describe
from tmuad.describe.slots import load_classifier, said_of_image
from tmuad.describe.table import read_descriptions, scene_object
from tmuad.encode.features import patch_image
from tmuad.encode.filters import STRIDE
from tmuad.encode.slots import feature_task
from tmuad.engine import run_once
from tmuad.errors import ArtifactError
from tmuad.parquet import read_parquet
from tmuad.score.fuse import Calibration, load_calibration
from tmuad.score.judge import Verdict, judge
from tmuad.score.score import score_image
from tmuad.score.sentences import load_names
from tmuad.segment.classes import ObjectClasses, load_classes
from tmuad.segment.scene import Scene, unpack_scene
from tmuad.segment.table import resolve_objects
from tmuad.workspace import NAMES, UnitPaths


@dataclass(frozen=True)
class Inspector:
    """Everything fitted of one unit. Scoring an image changes nothing in it."""

    unit: str
    params: Params
    classes: ObjectClasses
    classifier: ObjectClassifier
    text_bank: TextBank
    object_bank: AnyObjectBank
    patch_bank: AnyPatchBank
    calibration: Calibration
    names: dict[str, tuple[str, str]]

    @classmethod
    def load(cls, unit: str, params: Params) -> "Inspector":
        """Raises ParameterError for an unknown unit, ArtifactError for one that is not fitted, or otherwise than asked."""
        params.unit(unit)
        paths, shape = UnitPaths(unit), (params.data.size, params.data.size)
        if not paths.calibration.exists():
            raise ArtifactError(f"{unit}: not fitted yet ({paths.calibration} is missing); run: dvc repro fuse@{unit}")
        inspector = cls(
            unit=unit,
            params=params,
            classes=load_classes(paths.classes),
            classifier=load_classifier(paths.classifier, params.compute),
            text_bank=TextBank(read_descriptions(read_parquet(paths.text_entries)), shape),
            object_bank=load_object_bank(paths.object_bank),
            patch_bank=load_patch_bank(paths.patch_bank),
            calibration=load_calibration(paths.calibration),
            names=load_names(NAMES / f"{unit}.yaml"),
        )
        if changed := inspector._changed():
            raise ArtifactError(
                f"{unit}: fitted with another {changed} than params.yaml has now; run: dvc repro fuse@{unit}"
            )
        return inspector

    def _changed(self) -> str:
        """The parameter that was changed since the fit, as far as the shapes of what was learnt tell; or nothing."""
        size = self.params.data.size
        runs = next((o.runs for entry in self.text_bank.entries for o in entry.objects), None)
        pixels = size**2 if runs is None else int(runs.sum())
        layer = self.patch_bank.places.get(DETAIL) if isinstance(self.patch_bank, PatchBank) else None
        if pixels != size**2 or (layer is not None and len(layer.level) != max(4, size // STRIDE)):
            return "data.size"
        crop = self.params.finetune.crop_size
        return "finetune.crop_size" if self.classifier.crop_size != crop else ""

    def inspect(self, image: NDArray[np.uint8], image_id: str = "") -> tuple[Verdict, ImageDescription]:
        """Verdict on one image (S, S, 3) uint8 RGB as `tmuad.engine.load_image` returns it, and what it shows."""
        task = feature_task(self.params, self.unit)
        record = run_once(task.after, image)
        return self.judge_records(record, task(image, record), image, image_id)

    def judge_records(
        self, record: Record, features: Record, image: NDArray[np.uint8], image_id: str
    ) -> tuple[Verdict, ImageDescription]:
        """As `inspect`, from the records of the scene and the feature task, which may come from the cache."""
        shape = (image.shape[0], image.shape[1])
        scene = unpack_scene(record)
        description = describe_scene(scene, image, image_id, self.classes, self.classifier, self.params)
        patches = self.patch_bank.distances(patch_image(features, description, self.params.data.size))
        result = score_image(
            description, scene.regions, features, self.text_bank, self.object_bank, patches, self.params
        )
        return judge(result, description, shape, self.calibration, self.params.fuse), description


def describe_scene(
    scene: Scene,
    image: NDArray[np.uint8],
    image_id: str,
    classes: ObjectClasses,
    classifier: ObjectClassifier,
    params: Params,
) -> ImageDescription:
    """What one image (S, S, 3) shows, from its segments: classes, counts, places and sizes."""
    shape = (image.shape[0], image.shape[1])
    resolved = resolve_objects(scene, classes)
    objects = [o for _, _, o in resolved]
    said, sure = classifier.classify(scene.crops[[o.index for o in objects]])
    labels = settled(said, sure, [label for label, _, _ in resolved], params.describe.confident)
    found = [scene_object(label, o.runs, shape, o.index) for label, o in zip(labels, objects, strict=True)]
    return said_of_image(params, image, describe(image_id, found))
