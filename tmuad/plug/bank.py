"""The text memory bank of a fitted unit, as what other detectors are joined with: what it finds in which image."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmuad.banks.text import TextBank as TextMemory
from tmuad.config import Params, load_params
from tmuad.data.images import image_shape
from tmuad.describe.description import ImageDescription
from tmuad.describe.table import read_descriptions
from tmuad.engine import load_image, run_once
from tmuad.errors import ArtifactError, DataError
from tmuad.parquet import read_parquet
from tmuad.plug.adapters import Images
from tmuad.plug.maps import Map, to_map
from tmuad.plug.scores import find_image
from tmuad.score.sentences import Names, load_names
from tmuad.score.table import read_findings
from tmuad.score.text import Finding, find_differences
from tmuad.workspace import NAMES, UnitPaths

if TYPE_CHECKING:
    from tmuad.plug.fusion import Fusion


@dataclass(frozen=True)
class SeenImage:
    """One image as the text bank sees it."""

    name: str  # path below the unit's root, or as it was given
    path: Path
    image_id: str
    split: str  # train, validation or test; "new" for one that the unit does not list
    kind: str  # good, logical or structural; "unknown" for a new one
    findings: tuple[Finding, ...]  # not yet weighed by their reliability
    description: ImageDescription


@dataclass(frozen=True)
class _Row:
    image_id: str
    split: str
    kind: str


class TextBank:
    """M_T of one unit with what it found in the unit's images; other images are looked at when they are asked for."""

    def __init__(self, unit: str, params: Params, rows: Mapping[str, _Row], names: Names) -> None:
        self.unit, self.params, self.names = unit, params, names
        self.root = Path(params.unit(unit).root)
        self.shape = (params.data.size, params.data.size)
        self._rows = dict(rows)
        self._by_id = {row.image_id: path for path, row in rows.items()}
        self._paths = UnitPaths(unit)

    @classmethod
    def load(cls, unit: str, params: Params | None = None) -> "TextBank":
        """The bank of `unit`, fitted in the folder that holds params.yaml, which is the current one.

        Raises:
            ParameterError: there is no such unit. ArtifactError: it has no text bank, or its images are not scored.
        """
        params = params or load_params(Path("params.yaml"))
        params.unit(unit)
        paths = UnitPaths(unit)
        for file in (paths.manifest, paths.text_entries, paths.bank_findings, paths.bank_scores, paths.descriptions):
            if not file.is_file():
                raise ArtifactError(f"{unit}: no text bank yet ({file} is missing); run: dvc repro score@{unit}")
        manifest = read_parquet(paths.manifest, ["path", "image_id", "split", "kind"]).to_pylist()
        rows = {row["path"]: _Row(row["image_id"], row["split"], row["kind"]) for row in manifest}
        bank = cls(unit, params, rows, load_names(NAMES / f"{unit}.yaml"))
        sizes = {int(o.runs.sum()) for entry in bank.memory.entries for o in entry.objects[:1]}
        if sizes - {bank.shape[0] * bank.shape[1]}:
            raise ArtifactError(
                f"{unit}: fitted with another data.size than params.yaml has now; run: dvc repro score@{unit}"
            )
        return bank

    @property
    def images(self) -> Images:
        """The images of the unit, for whoever looks for their maps."""
        splits = {path: row.split for path, row in self._rows.items()}
        return Images(self.unit, self.root, splits, self.params.data.max_pixels)

    @cached_property
    def memory(self) -> TextMemory:
        return TextMemory(read_descriptions(read_parquet(self._paths.text_entries)), self.shape)

    def calibrate(
        self,
        normal_maps: Mapping[str, Any],
        normal_scores: Mapping[str, float] | None = None,
        weight: float | None = None,
        unlabelled: bool = False,
    ) -> "Fusion":
        """How to join a detector with this bank, from what the detector says of good images.

        Args:
            normal_maps: image -> map, an array of height and width (numpy or torch). An image is named by its path below
                the unit's root, with or without suffix, or by any path to a file. Best are images that neither the
                detector nor the bank was fitted on: the unit's validation split.
            normal_scores: image -> score, where the detector has a score of its own for whole images.
            weight: of the text bank; the detector's is 1, both in standard deviations of good images. By default
                fuse.calibrated.text of params.yaml.
            unlabelled: the images are test images that nobody has sorted. The lower half of their scores stands for good
                ones, and no threshold is promised.

        Raises:
            DataError: no image or an unknown one, an image that is known to be anomalous, a map that is none, or maps
                that all peak alike, which leaves no scale.
        """
        from tmuad.plug.calibrate import calibrate

        return calibrate(self, normal_maps, normal_scores, weight, unlabelled)

    def image(self, name: str) -> SeenImage:
        """What the bank finds in an image, from the unit's artifacts, or by looking at a new file.

        Raises:
            DataError: neither an image of the unit nor a file. ArtifactError: the stage score has not seen it.
            ImageError: a new file is no image.
        """
        path = find_image(name, self._rows, self.root)
        file = Path(name)
        if path is None and file.is_file():
            image_id = hashlib.sha256(file.read_bytes()).hexdigest()
            path = self._by_id.get(image_id)
            if path is None:
                return self._look(file, name, image_id)
        if path is None:
            raise DataError(f"{name}: neither an image of {self.unit} nor a file; give paths relative to {self.root}")
        row = self._rows[path]
        described = self._descriptions.get(row.image_id)
        if described is None or (row.split != "train" and row.image_id not in self._scored):
            raise ArtifactError(f"{path}: the stage score has not seen this image; run: dvc repro score@{self.unit}")
        found = tuple(self._findings.get(row.image_id, ()))  # nothing differs from itself: training images have none
        return SeenImage(path, self.root / path, row.image_id, row.split, row.kind, found, described)

    def held_out(self) -> list[SeenImage]:
        """The good images that the bank was not fitted on."""
        return [
            self.image(path) for path, row in self._rows.items() if row.split == "validation" and row.kind == "good"
        ]

    def map_of(self, seen: SeenImage, array: Any) -> Map:
        """Another detector's map of an image, (S, S) float32. Raises DataError; see `to_map`."""
        shape = image_shape(seen.path, max_pixels=self.params.data.max_pixels)
        return to_map(array, f"the map of {seen.name}", shape, self.shape[0])

    def _look(self, file: Path, name: str, image_id: str) -> SeenImage:
        """A file that the unit does not list, through the segmenter and the classifier."""
        from tmuad.describe.slots import load_classifier
        from tmuad.inspector import describe_scene
        from tmuad.segment.classes import load_classes
        from tmuad.segment.scene import unpack_scene
        from tmuad.segment.slots import scene_task

        if self._looker is None:
            classifier = load_classifier(self._paths.classifier, self.params.compute)
            self._looker = (scene_task(self.params, self.unit), load_classes(self._paths.classes), classifier)
        task, classes, classifier = self._looker
        image = load_image(file, self.params.data)
        described = describe_scene(
            unpack_scene(run_once(task, image)), image, image_id, classes, classifier, self.params
        )
        findings, _ = find_differences(described, self.memory, self.params.text_score)
        return SeenImage(name, file, image_id, "new", "unknown", tuple(findings), described)

    _looker: tuple[Any, Any, Any] | None = None  # loaded when the first new image comes

    @cached_property
    def _findings(self) -> dict[str, list[Finding]]:
        return read_findings(read_parquet(self._paths.bank_findings))

    @cached_property
    def _scored(self) -> frozenset[str]:
        return frozenset(read_parquet(self._paths.bank_scores, ["image_id"])["image_id"].to_pylist())

    @cached_property
    def _descriptions(self) -> dict[str, ImageDescription]:
        return {d.image_id: d for d in read_descriptions(read_parquet(self._paths.descriptions))}
