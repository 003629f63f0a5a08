"""anomalib: what `Engine.predict` returns, as maps and scores, or as files for `tmuad plug`.

Nothing of anomalib is imported here: a prediction is anything with image_path, anomaly_map and pred_score. The callback
that fuses while anomalib predicts is in `anomalib_callback`.
"""

import csv
from collections.abc import Iterable, Iterator
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmuad.errors import DataError
from tmuad.parquet import write_artifact

Maps = dict[str, NDArray[np.float32]]  # image path -> (h, w)
SATURATED = 0.1  # share of the images from which a highest score of exactly 1 is a score that was cut off


def from_predictions(predictions: Iterable[Any]) -> tuple[Maps, dict[str, float]]:
    """Image path -> map, and image path -> score, of `Engine.predict(...)`: batches or single items.

    Raises:
        DataError: a prediction without map, score or path, two of one image, or scores that were cut off at 1: anomalib
            normalises by validation images and clamps, which makes all clear anomalies equal.
    """
    maps: Maps = {}
    scores: dict[str, float] = {}
    for path, array, score in _items(predictions):
        if path in maps:
            raise DataError(f"{path}: predicted twice; predict each image once")
        maps[path], scores[path] = array, score
    if not maps:
        raise DataError("no predictions; call Engine.predict with return_predictions left at its default")
    if sum(score == 1.0 for score in scores.values()) > max(1, SATURATED * len(scores)):
        raise DataError(
            "many scores are exactly 1: anomalib normalised and clamped them; predict with "
            "model.post_processor.enable_normalization = False, or build the model with post_processor=False"
        )
    return maps, scores


def save_predictions(predictions: Iterable[Any], root: Path, folder: Path) -> int:
    """Write the maps as .npy below `folder`, as the images lie below `root`, and scores.csv; how many there are.

    The folder then suits `tmuad plug --maps FOLDER --scores FOLDER/scores.csv`.

    Raises:
        DataError: see `from_predictions`; an image is not below `root`. ArtifactError: the folder cannot be written.
    """
    maps, scores = from_predictions(predictions)
    home = root.resolve()
    names: dict[str, str] = {}
    for path in maps:
        full = Path(path).resolve()
        if not full.is_relative_to(home):
            raise DataError(f"{path}: not below {root}; give the folder that all predicted images lie in")
        names[path] = full.relative_to(home).as_posix()
    table = StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "score"])
    for path, name in sorted(names.items(), key=lambda item: item[1]):
        content = BytesIO()
        np.save(content, maps[path], allow_pickle=False)
        write_artifact(folder / f"{name}.npy", content.getvalue())
        writer.writerow([name, repr(scores[path])])
    write_artifact(folder / "scores.csv", table.getvalue().encode())
    return len(maps)


def _items(predictions: Iterable[Any]) -> Iterator[tuple[str, NDArray[np.float32], float]]:
    for prediction in predictions:
        paths, maps, scores = (getattr(prediction, name, None) for name in ("image_path", "anomaly_map", "pred_score"))
        if paths is None or maps is None or scores is None:
            raise DataError(
                "a prediction without image_path, anomaly_map or pred_score; give what Engine.predict returns"
            )
        if isinstance(paths, str):
            paths, maps, scores = [paths], [maps], [scores]
        for path, array, score in zip(paths, maps, scores, strict=True):
            values = np.asarray(array.detach().cpu().numpy(), dtype=np.float32)
            yield str(path), values.reshape(values.shape[-2:]), float(score)
