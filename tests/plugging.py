"""A fitted unit with test images, and detectors to be joined with its text bank: for the tests of tmuad.plug."""

from collections.abc import Iterator, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from fits import Bench, data_set
from numpy.typing import NDArray

from tmuad.stages.__main__ import main

STAGES = ("prepare", "segment", "finetune", "describe", "text_bank", "feature_banks", "score")
GRID = 24  # px a side of the detectors' maps

Maps = dict[str, NDArray[np.float32]]


def fit_unit(place: Path) -> Path:
    """`kit` in the MVTec LOCO layout with 8 training, 6 validation and 4 test images: two of these good, one with a disc
    too few, one with a scratch."""
    data_set(place / "photos", validation=6)
    Bench(place, None).params({"kit": {"root": "photos", "layout": "mvtec_loco"}}, {"evaluate": {"resamples": 50}})
    with chdir(place), redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
        for stage in STAGES:
            assert main([stage, "kit"]) == 0, said.getvalue()
    return place


def image_paths(place: Path, *splits: str) -> list[str]:
    root = place / "photos"
    return sorted(p.relative_to(root).as_posix() for split in splits for p in (root / split).rglob("*.png"))


def detector_maps(place: Path, *splits: str) -> Maps:
    """A detector of scratches: noise, and a ridge where the structural anomaly is. It is blind to missing parts."""
    maps = {}
    for path in image_paths(place, *splits):
        noise = np.random.default_rng(int.from_bytes(path.encode()[-12:])).random((GRID, GRID), dtype=np.float32)
        if "structural" in path:
            noise[GRID // 2 : GRID // 2 + 2, 3 : GRID // 2] += 3
        maps[path] = noise
    return maps


def save_maps(folder: Path, maps: Mapping[str, NDArray[np.float32]]) -> Path:
    for path, values in maps.items():
        file = (folder / path).with_suffix(".npy")
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, values)
    return folder


def files_below(folder: Path) -> Iterator[str]:
    return (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file())
