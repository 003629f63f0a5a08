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


def visa(root: Path, categories: tuple[str, ...] = ("candle",), *, train: int = 6) -> Path:
    """VisA as published: all images of a category in Data, the splits in a CSV above the categories."""
    rows = ["object,split,label,image,mask"]
    for number, name in enumerate(categories):
        data, seed = f"{name}/Data", 10_000 * number
        for index in range(train + 1):
            image = f"{data}/Images/Normal/{index:04}.JPG"
            picture(root / image, seed + index)
            rows.append(f"{name},{'train' if index < train else 'test'},normal,{image},")
        notes = ["image,label,mask"]
        for index, label in enumerate(("chunk of wax missing", "foreign particals,other")):
            image, truth = f"{data}/Images/Anomaly/{index:03}.JPG", f"{data}/Masks/Anomaly/{index:03}.png"
            picture(root / image, seed + 1000 + index)
            mask(root / truth, value=1 + index)  # VisA numbers its types of defects
            rows.append(f"{name},test,anomaly,{image},{truth}")
            notes.append(f'{image},"{label}",{truth}')
        (root / name / "image_anno.csv").write_text("\n".join(notes) + "\n")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    (root / "LICENSE-DATASET").write_text("licence")
    return root


def visa_one_class(root: Path, *, train: int = 6) -> Path:
    """VisA after its authors' script: train/good, test/{good,bad}, masks with the suffix .png."""
    for index in range(train):
        picture(root / f"train/good/{index:04}.JPG", index)
    picture(root / "test/good/0100.JPG", 1000)
    for index in range(2):
        picture(root / f"test/bad/{index:03}.JPG", 1001 + index)
        mask(root / f"ground_truth/bad/{index:03}.png")
    return root


def mpdd(root: Path, *, train: int = 6) -> Path:
    for index in range(train):
        picture(root / f"train/good/{index:03}.png", index)
    picture(root / "test/good/000.png", 1000)
    for defect, seed in (("hole", 1001), ("scratches", 1002)):
        picture(root / f"test/{defect}/000.png", seed)
        mask(root / f"ground_truth/{defect}/000_mask.png")
    return root


def bmad(root: Path, *, train: int = 6, masks: str = "label", inner: str = "img") -> Path:
    """BMAD; `masks` and `inner` are the names of folders that differ between its packagings."""
    for index in range(train):
        picture(root / "train/good" / inner / f"{index:05}_60.png", index)
    picture(root / "valid/good" / inner / "00025_99.png", 500)
    picture(root / "test/good" / inner / "00000_96.png", 1000)
    mask(root / f"test/good/{masks}/00000_96.png", value=0)
    for split, seed in (("valid", 600), ("test", 1001)):
        for index in range(2):
            picture(root / f"{split}/Ungood/img/0000{index}_60.png", seed + index)
            mask(root / f"{split}/Ungood/{masks}/0000{index}_60.png")
    return root
