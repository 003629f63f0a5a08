"""What training a classifier gave before, and what a classifier said of images before, in the per-image cache.

A classifier is learnt from the crops of some of the training images. When an image comes that is not among them, the
classifier is the same, and so is all it ever said. Nothing here imports torch: a stage that finds everything remembered
need not wait for it.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tmuad import lot
from tmuad.cache import Record, fingerprint, open_cache, packed_text, unpacked_text
from tmuad.config import DataParams, FinetuneParams
from tmuad.describe import classifier as classifying
from tmuad.describe import small_clip
from tmuad.describe.classifier import ObjectClassifier
from tmuad.engine import ImageRef
from tmuad.executors.work import Mapper, Task

CLASSIFIER = "object classifier"  # stands for the image in the cache's keys
TRAINED_BY = ("tmuad.describe.finetune", "tmuad.describe.classifier")  # read, not imported: the first imports torch

Answer = tuple[list[str], NDArray[np.float32]]  # class names and probabilities (n,), as `ObjectClassifier.classify`


@dataclass(frozen=True)
class TrainedFiles:
    """The files of a trained classifier, as its stage writes them."""

    classifier: bytes
    curve: pd.DataFrame


def drawn(
    labels: Sequence[str],
    image_ids: Sequence[str],
    keys: Sequence[str],
    settled: Collection[str],
    params: FinetuneParams,
) -> list[int]:
    """The crops that teach the classifier, as ascending positions in the lists, which name each crop's class and image.

    Per class those of the `settled` images whose digest lies in the lowest `share`; but at least `least_crops` and at most
    `crops_per_class`, those of the smallest digests. Where the settled images have too few of a class, all are drawn from.
    """
    members: dict[str, list[int]] = {}
    for i in sorted(range(len(keys)), key=lambda i: (image_ids[i], keys[i])):
        members.setdefault(labels[i], []).append(i)
    chosen: list[int] = []
    for everyone in members.values():
        early = [i for i in everyone if image_ids[i] in settled]
        mine = early if len(early) >= params.least_crops else everyone
        chosen += mine[
            : lot.drawn([image_ids[i] for i in mine], params.share, params.least_crops, params.crops_per_class)
        ]
    return sorted(chosen)


def trained_once(
    crops: Sequence[tuple[str, str]], scenes: Task, data: DataParams, params: FinetuneParams,
    train: Callable[[], TrainedFiles],
) -> TrainedFiles:  # fmt: skip
    """What `train` gives for the `crops` (key, label) that the task `scenes` cut out; called only if nobody knows it yet."""
    cache = open_cache(data.cache)
    code = [Path(str(spec.origin)).read_text() for name in TRAINED_BY if (spec := importlib.util.find_spec(name))]
    versions = [importlib.metadata.version(name) for name in ("torch", "open_clip_torch")]
    kind = f"{CLASSIFIER}:{Mapper(scenes, data).kind}:{fingerprint(params, sorted(crops), *code, *versions)}"
    if (known := cache.get(CLASSIFIER, kind)) is not None:
        columns = {name.removeprefix("curve."): a for name, a in sorted(known.items()) if name.startswith("curve.")}
        order = unpacked_text(known["columns"]).split()
        return TrainedFiles(known["file"].tobytes(), pd.DataFrame({name: columns[name] for name in order}))
    trained = train()
    record: Record = {f"curve.{name}": trained.curve[name].to_numpy() for name in trained.curve.columns}
    record["columns"] = packed_text(" ".join(trained.curve.columns))
    record["file"] = np.frombuffer(trained.classifier, dtype=np.uint8)
    cache.put(CLASSIFIER, kind, record)
    return trained


class Answers:
    """What `classifier` says of the crops that the task `scenes` cut out of images."""

    def __init__(self, classifier: ObjectClassifier, scenes: Task, data: DataParams) -> None:
        self._classifier = classifier
        self._scenes = Mapper(scenes, data)
        code = fingerprint(classifying, small_clip)
        self._kind = f"object classes:{self._scenes.kind}:{classifier.fingerprint()}:{code}"

    def lacking(self, asked: Iterable[tuple[ImageRef, NDArray[np.int32]]]) -> list[ImageRef]:
        """The images of whose candidates nothing is known yet."""
        return [ref for ref, candidates in asked if not self._scenes.cache.has(ref.image_id, self._of(candidates))]

    def __call__(self, ref: ImageRef, candidates: NDArray[np.int32]) -> Answer:
        """Of the `candidates` (n,), rows of the image's crops. It must have gone through the engine."""
        kind = self._of(candidates)
        if (known := self._scenes.cache.get(ref.image_id, kind)) is not None:
            return unpacked_text(known["said"]).split("\n") if len(candidates) else [], known["sure"]
        said, sure = self._classifier.classify(self._scenes.record(ref)["crops"][candidates])
        self._scenes.cache.put(ref.image_id, kind, {"said": packed_text("\n".join(said)), "sure": sure})
        return said, sure

    def _of(self, candidates: NDArray[np.int32]) -> str:
        return f"{self._kind}:{fingerprint(candidates.tolist())}"
