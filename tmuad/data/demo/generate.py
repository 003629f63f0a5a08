"""Writes the demo data set in the MVTec LOCO layout, byte for byte the same for the same parameters.

    <category>/train/good/000.png ...            normal images
    <category>/validation/good/000.png ...
    <category>/test/{good,logical_anomalies,structural_anomalies}/000.png ...
    <category>/ground_truth/<kind>_anomalies/000/000.png ...   one file per region, with its fault's pixel value
    <category>/defects_config.json               pixel value and saturation threshold of each fault
    <category>/test_faults.csv                   the fault of each anomalous test image

Every image has its own random stream, from (seed, category, split, index): other counts leave it as it is.
"""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from tmuad.config import DemoParams
from tmuad.data.demo.camera import Photo, Shot, photograph
from tmuad.data.demo.faults import LOGICAL, STRUCTURAL, FaultKind
from tmuad.data.demo.scenes import KITS, Scene, good_scene, render
from tmuad.data.demo.shading import SUPERSAMPLE, Radiance
from tmuad.data.demo.textures import Atlas, make_atlas
from tmuad.data.demo.truth import change_map, fault_masks
from tmuad.errors import DataError, ParameterError
from tmuad.masks import Mask

PIXEL_VALUES = {name: 255 - index for index, name in enumerate((*LOGICAL, *STRUCTURAL))}
_SATURATION = {  # (share of the region, True), or the area of the smallest part where False
    "missing": (0.0, False),
    "extra": (0.0, False),
    "wrong_combination": (0.0, False),
    "misplaced": (0.5, True),
    "wrong_size": (0.5, True),
}
_COMPRESSION = 1  # of zlib: fixed, for the same bytes; higher levels gain little on sensor noise
_MARK = "test_faults.csv"  # a folder that holds it was written here, and may be replaced
_ATTEMPTS = 60
_DAMAGE_AREA = (0.0005, 0.010)  # damage is local: share of the image
_VISIBLE = 20.0  # mean change in grey levels below which an inspector could not be blamed


@dataclass(frozen=True)
class FaultyImage:
    """A faulty image, and its twin: the same scene, light, exposure and noise without the fault."""

    faulty: Radiance
    good: Radiance
    shot: Shot
    masks: list[Mask]

    def photo(self) -> Photo:
        return photograph(self.faulty, self.shot)

    def twin(self) -> Photo:
        return photograph(self.good, self.shot)


def image_rng(seed: int, category: str, split: str, index: int) -> np.random.Generator:
    """The random stream of one image."""
    return np.random.default_rng(np.random.SeedSequence([seed, crc32(category.encode()), crc32(split.encode()), index]))


def draw_good(category: str, split: str, index: int, params: DemoParams, atlas: Atlas) -> tuple[Scene, Photo]:
    """One normal image and the scene it shows."""
    rng = image_rng(params.seed, category, split, index)
    scene, shot = good_scene(category, rng), Shot.draw(rng)
    return scene, photograph(render(scene, params.size, atlas), shot)


def draw_faulty(category: str, kind: FaultKind, name: str, index: int, params: DemoParams, atlas: Atlas) -> FaultyImage:
    """One image with the fault `name`, drawn anew until the fault has room and can be seen."""
    rng = image_rng(params.seed, category, f"test/{kind}/{name}", index)
    draw = (LOGICAL if kind == "logical" else STRUCTURAL)[name]
    best: FaultyImage | None = None
    best_rank = (False, 0.0)
    for _ in range(_ATTEMPTS):
        scene, shot = good_scene(category, rng), Shot.draw(rng)
        fault = draw(scene, rng)
        if fault is None:
            continue
        good, faulty = render(scene, params.size, atlas), render(fault.scene, params.size, atlas)
        difference = change_map(good, faulty, shot)
        masks = fault_masks(fault, difference)
        union = np.logical_or.reduce(masks)
        area, change = float(union.mean()), float(difference[union].mean()) if union.any() else 0.0
        fits = area > 0 if kind == "logical" else _DAMAGE_AREA[0] <= area <= _DAMAGE_AREA[1]
        if (fits, change) > best_rank:
            best, best_rank = FaultyImage(faulty, good, shot, masks), (fits, change)
        if fits and change >= _VISIBLE:
            break
    assert best is not None, f"no room for the fault '{name}' in {category}"
    return best


def generate(out: Path, params: DemoParams) -> None:
    """Write the demo data set into the folder `out`; a category written before is replaced.

    Raises:
        ParameterError: `params.categories` names one twice.
        DataError: a category's folder holds something else, or cannot be written.
    """
    twice = sorted({name for name in params.categories if params.categories.count(name) > 1})
    if twice:
        raise ParameterError(f"demo.categories: '{twice[0]}' stands twice; name each category once")
    for category in params.categories:
        target = out / category
        if target.exists() and not (target / _MARK).is_file():
            raise DataError(f"{target}: exists and was not written by the demo; move it away or choose another folder")
    atlas = make_atlas(params.size * SUPERSAMPLE, params.seed)
    for category in params.categories:
        try:
            _write_category(out / category, category, params, atlas)
        except OSError as error:
            place = error.filename or out / category
            raise DataError(
                f"{place}: cannot be written ({error.strerror}); choose another folder or free it"
            ) from error


def _write_category(target: Path, category: str, params: DemoParams, atlas: Atlas) -> None:
    """All of one category, in a folder that gets its name only when it is complete."""
    draft = target.with_name(f".{category}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    counts = {"train": params.train, "validation": params.validation, "test": params.test_good}
    for split, count in counts.items():
        folder = draft / split / "good"
        folder.mkdir(parents=True)
        for index in range(count):
            _, photo = draw_good(category, split, index, params, atlas)
            _save(folder / f"{index:03d}.png", photo)
    rows = [
        *_write_faults(draft, category, "logical", params, atlas),
        *_write_faults(draft, category, "structural", params, atlas),
    ]
    config = json.dumps(_defects(category, params.size), indent=2) + "\n"
    (draft / "defects_config.json").write_text(config, encoding="utf-8", newline="\n")
    with (draft / _MARK).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image", "kind", "fault"))
        writer.writerows(rows)
    if target.exists():
        shutil.rmtree(target)
    draft.rename(target)


def _write_faults(
    root: Path, category: str, kind: FaultKind, params: DemoParams, atlas: Atlas
) -> list[tuple[str, str, str]]:
    """The anomalous test images of one kind and their masks; (image, kind, fault) for each.

    The faults take turns, so that a larger `per_fault` adds images at the end and renumbers none.
    """
    names = list(LOGICAL if kind == "logical" else STRUCTURAL)
    images, truth = root / "test" / f"{kind}_anomalies", root / "ground_truth" / f"{kind}_anomalies"
    images.mkdir(parents=True)
    rows: list[tuple[str, str, str]] = []
    for number in range(params.per_fault * len(names)):
        name = names[number % len(names)]
        drawn = draw_faulty(category, kind, name, number // len(names), params, atlas)
        _save(images / f"{number:03d}.png", drawn.photo())
        regions = truth / f"{number:03d}"
        regions.mkdir(parents=True)
        for index, mask in enumerate(drawn.masks):
            _save(regions / f"{index:03d}.png", np.where(mask, np.uint8(PIXEL_VALUES[name]), np.uint8(0)))
        rows.append((f"test/{kind}_anomalies/{number:03d}.png", kind, name))
    return rows


def _defects(category: str, size: int) -> list[dict[str, Any]]:
    """The entries of defects_config.json: how much of a region must be found for it to count as found.

    Where the extent of a fault is vague (a part that is not there, one too many), as much as the smallest part covers
    is enough; a misplaced part counts when either it or the place it left is found; damage must be found whole.
    """
    smallest = round(KITS[category].smallest_part * size * size)
    entries: list[dict[str, Any]] = []
    for name in (*LOGICAL, *STRUCTURAL):
        threshold, relative = _SATURATION.get(name, (1.0, True))
        entries.append(
            {
                "defect_name": name,
                "pixel_value": PIXEL_VALUES[name],
                "saturation_threshold": threshold if relative else smallest,
                "relative_saturation": relative,
            }
        )
    return entries


def _save(path: Path, pixels: Photo) -> None:
    Image.fromarray(pixels).save(path, format="PNG", compress_level=_COMPRESSION)
