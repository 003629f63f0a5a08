"""What one image costs in a fitted unit: seconds by stage, the process's peak memory, and how many numbers were learnt."""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tmuad.ablate.rescore import FittedUnit
from tmuad.config import Params
from tmuad.encode.features import object_features, patch_image
from tmuad.encode.slots import feature_task
from tmuad.engine import load_image, run_once
from tmuad.inspector import Inspector
from tmuad.models.slots import model_slots
from tmuad.score.judge import judge
from tmuad.score.score import score_image
from tmuad.score.text import find_differences
from tmuad.workspace import UnitPaths

IMAGES = 12  # that are timed, spread over the test images; one more before them warms up
STAGES = ("read", "segment", "encode", "describe", "text bank", "object bank", "patch bank", "fuse")
P = ParamSpec("P")
T = TypeVar("T")


class _Clock:
    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def __call__(self, stage: str, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        start = time.perf_counter()
        result = call(*args, **named)
        self.seconds[stage] += time.perf_counter() - start
        return result


def seconds_per_image(fitted: FittedUnit) -> dict[str, float]:
    """Stage of STAGES -> mean seconds per test image on this machine, one image at a time and nothing cached."""
    params, unit = fitted.params, fitted.unit
    images = fitted.images("test")
    chosen = images[:: max(1, len(images) // IMAGES)][:IMAGES]
    inspector = Inspector.load(unit, params)
    task = feature_task(params, unit)
    shape = (params.data.size, params.data.size)
    clock = _Clock()
    for ref in [*chosen[:1], *chosen]:
        if ref is chosen[0]:
            clock = _Clock()  # the first image was for warming up: models load, thread pools start
        image = clock("read", load_image, ref.path, params.data)
        scene = clock("segment", run_once, task.after, image)
        record = clock("encode", task, image, scene)
        start = time.perf_counter()
        _, description = inspector.judge_records(scene, record, image, ref.image_id)
        whole = time.perf_counter() - start
        before = sum(clock.seconds.values())
        clock("text bank", find_differences, description, inspector.text_bank, params.text_score)
        objects = inspector.object_bank
        asked = object_features(record, description, objects.by_class)
        clock("object bank", objects.distances, *asked)
        looked_at = patch_image(record, description, params.data.size)
        distance = clock("patch bank", inspector.patch_bank.distances, looked_at)
        regions = fitted.regions.get(ref.image_id, [])
        result = score_image(description, regions, record, inspector.text_bank, objects, distance, params)
        clock("fuse", judge, result, description, shape, inspector.calibration, params.fuse)
        # What is left of the whole is the classifier and the words.
        clock.seconds["describe"] += max(0.0, whole - (sum(clock.seconds.values()) - before))
    return {stage: total / max(1, len(chosen)) for stage, total in clock.seconds.items()}


def peak_megabytes() -> float:
    """The largest resident size that this process has had, in MiB."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (1 << 20) if sys.platform == "darwin" else peak / 1024)


def numbers_learnt(params: Params, paths: UnitPaths) -> int:
    """Parameters of the models in use, each once; without any, the numbers in the unit's classifier and image banks."""
    slots = model_slots(params)
    if not slots:
        from tmuad.banks.centroids import load_tensors

        files = (paths.classifier, paths.object_bank, paths.patch_bank)
        return sum(int(tensor.size) for path in files for tensor in load_tensors(path).values())
    from tmuad.models.meta import parameters

    models = {(slot.kind, slot.model, slot.weights): slot.build for slot in slots}
    return sum(parameters(build) for build in models.values())
