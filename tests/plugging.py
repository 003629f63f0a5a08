"""A fitted unit with test images, and detectors to be joined with its text bank: for the tests of tmuad.plug."""

from collections.abc import Iterator, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from fits import Bench, data_set
from numpy.typing import NDArray
from PIL import Image

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


class Pbas:
    """Writes what PBAS's `_evaluate` writes: its loader's crops, its normalisation, its colours, its numbering."""

    SIDE = 288
    MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def __init__(self, resize: int = SIDE) -> None:
        from torchvision import transforms

        crop = [transforms.Resize(resize), transforms.CenterCrop(self.SIDE), transforms.ToTensor()]
        self.cropped = transforms.Compose(crop)
        self.seen = transforms.Compose([*crop, transforms.Normalize(self.MEAN, self.STD)])

    def evaluate(self, folder: Path, root: Path, fields: dict[str, NDArray[np.float32]]) -> Path:
        """`fields`: what a perfect PBAS would say of each whole image (H, W)."""
        cv2 = pytest.importorskip("cv2")
        folder.mkdir(parents=True)
        paths = [p for defect in sorted((root / "test").iterdir()) for p in sorted(defect.iterdir())]
        maps = [self.cropped(Image.fromarray(fields[p.relative_to(root).as_posix()]))[0].numpy() for p in paths]
        low, high = np.min(maps), np.max(maps)
        for number, (path, values) in enumerate(zip(paths, maps, strict=True), start=1):
            photo = self.seen(Image.open(path).convert("RGB")).numpy().transpose(1, 2, 0) * self.STD + self.MEAN
            grey = cv2.cvtColor((values - low) / (high - low + 1e-10), cv2.COLOR_GRAY2BGR)
            colours = cv2.applyColorMap((grey * 255).astype("uint8"), cv2.COLORMAP_JET)
            truth = np.zeros((self.SIDE, self.SIDE, 3), np.uint8)
            row = np.hstack([(photo[:, :, ::-1] * 255).astype("uint8"), truth, colours])
            cv2.imwrite(str(folder / f"{str(number).zfill(3)}.png"), cv2.resize(row, (256 * 3, 256)))
        return folder


def files_below(folder: Path) -> Iterator[str]:
    return (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file())
