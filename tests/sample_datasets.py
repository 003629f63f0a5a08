"""Small data sets on disk for the tests of the readers, the manifest and the registration."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, seed: int, *, side: int = 32) -> Path:
    """A photograph of its own for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, *, side: int = 32, value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((side, side), np.uint8)
    pixels[4:9, 4:9] = value
    Image.fromarray(pixels).save(path)
    return path


def mvtec_ad(root: Path, *, train: int = 6, first_seed: int = 0) -> Path:
    for index in range(train):
        picture(root / f"train/good/{index:03}.png", first_seed + index)
    picture(root / "test/good/000.png", first_seed + 1000)
    for defect, seed in (("scratch", 1001), ("dent", 1002)):
        picture(root / f"test/{defect}/000.png", first_seed + seed)
        mask(root / f"ground_truth/{defect}/000_mask.png")
    return root


def mvtec_loco(root: Path, *, train: int = 6) -> Path:
    for index in range(train):
        picture(root / f"train/good/{index:03}.png", index)
    picture(root / "validation/good/000.png", 500)
    picture(root / "test/good/000.png", 1000)
    for kind, seed in (("logical_anomalies", 1001), ("structural_anomalies", 1002)):
        picture(root / f"test/{kind}/000.png", seed)
        mask(root / f"ground_truth/{kind}/000/000.png")
    mask(root / "ground_truth/logical_anomalies/000/001.png", value=254)
    (root / "defects_config.json").write_text(
        '[{"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 400, "relative_saturation": false},'
        ' {"defect_name": "extra", "pixel_value": 254, "saturation_threshold": 1.0, "relative_saturation": true}]'
    )
    return root
