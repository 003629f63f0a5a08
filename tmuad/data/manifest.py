"""One table for every data set: which images there are, what they are, and where their masks lie."""

import csv
import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa

from tmuad.cache import Cache
from tmuad.config import DataParams, Layout
from tmuad.data.layouts import Problem, read
from tmuad.data.layouts.mvtec_loco import saturations
from tmuad.data.layouts.splits import UNMASKED
from tmuad.data.mask_values import odd_masks
from tmuad.data.verify import Verified, verify
from tmuad.errors import DataError, ImageError
from tmuad.parquet import write_artifact

FEW = 20  # held-out images; a false-alarm rate of 5 % is one image in twenty
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # sha256 of the file, in hex
        pa.field("path", pa.string(), nullable=False),  # posix, relative to the unit's root
        pa.field("split", pa.string(), nullable=False),  # train, validation, test
        pa.field("kind", pa.string(), nullable=False),  # good, logical, structural
        pa.field("defect", pa.string(), nullable=False),  # folder of the defect; "" for good
        pa.field("masks", pa.list_(pa.string()), nullable=False),  # paths; empty for good and for unknown regions
    ]
)
Problems = list[Problem]


@dataclass(frozen=True)
class Survey:
    manifest: pa.Table  # SCHEMA, sorted by split and path
    problems: Problems  # sorted
    sizes: dict[tuple[int, int], int]  # (width, height) -> images, the most frequent first


def build_manifest(
    root: Path,
    layout: Layout,
    *,
    on_bad_image: Literal["stop", "skip"],
    max_pixels: int,
    holdout: float,
    bits: int = 16,
    shots: int | None = None,
    shots_seed: int = 0,
    cache: Cache | None = None,
    workers: int = 0,
) -> tuple[pa.Table, Problems]:
    """The images of the unit in `root`, one row each (SCHEMA, sorted by split and path), and what was wrong with them.

    A data set without validation images gives up a share `holdout` of its training images, see `held_out`. An anomalous
    row without masks has unknown regions, not empty ones.

    Args:
        on_bad_image: what to do when an image or a mask cannot be used: stop, or leave the image out and report it.
        shots: use this many normal images alone, chosen by `shots_seed`; see `few_shots`.
        cache: what is known of files that were verified before; it changes the time, never the result.

    Raises:
        ImageError: images or masks cannot be used and `on_bad_image` is stop; the message names all of them.
        DataError: the layout is not as promised, no training image is left, or one image is found in two splits or
            under two labels.
    """
    data = DataParams(
        on_bad_image=on_bad_image, max_pixels=max_pixels, holdout=holdout, bits=bits, workers=workers, shots=shots,
        shots_seed=shots_seed,
    )  # fmt: skip
    found = survey(root, layout, data, cache)
    return found.manifest, found.problems


def survey(root: Path, layout: Layout, data: DataParams, cache: Cache | None = None) -> Survey:
    """As `build_manifest`, with the sizes of the images."""
    listing = read(root, layout)
    results = verify(root, listing.entries, max_pixels=data.max_pixels, cache=cache, workers=data.workers)
    bad = {
        entry.path: str(result)
        for entry, result in zip(listing.entries, results, strict=True)
        if isinstance(result, ImageError)
    }
    if bad and data.on_bad_image == "stop":
        lines = "\n".join(f"  {message}" for message in bad.values())
        raise ImageError(
            f"{root}: {len(bad)} of {len(results)} images cannot be used:\n{lines}\n"
            "Repair or remove them, or set data.on_bad_image: skip to go on without them."
        )
    problems = list(listing.problems)
    config = saturations(root) if layout == "mvtec_loco" else None
    prefix = str(root / "_").removesuffix("_")
    for path, message in bad.items():
        # Neither an absolute path nor an object's address, which decoders like to quote, in an artifact.
        reason = re.sub(r" at 0x[0-9a-fA-F]+", "", message.replace(prefix, "")).removeprefix(f"{path}: ")
        problems.append(Problem(path, reason, "skipped"))
    images = [result for result in results if not isinstance(result, ImageError)]
    images, doubles = _without_duplicates(root, images)
    problems += odd_masks(images, layout, config)
    images, empty_masks = _without_unmarked(images)
    images, fewer = _with_shots(root, images, data)
    problems += fewer
    images = _with_validation(images, data.holdout)
    if not any(image.entry.split == "train" for image in images):
        skipped = "".join(f"\n  {message}" for message in bad.values())
        raise DataError(f"{root}: no training image is left; repair some of those that were skipped:{skipped}")
    problems += doubles + empty_masks + _remarks(images, data.bits)
    return Survey(_table(images), sorted(set(problems)), _sizes(images))


def held_out(image_ids: Sequence[str], share: float) -> set[str]:
    """Which of the normal training images `image_ids` (sha256) are kept for calibration: about `share` of them.

    Each image decides for itself, by its hash, so that a new image moves no other one. Two exceptions keep both sides
    filled in a very small set: of two images or more at least one is held out (the first by hash), and one stays in
    train (the last by hash). A single image stays in train.
    """
    chosen = {image_id for image_id in image_ids if int(image_id[:8], 16) / 2**32 < share}
    if len(image_ids) > 1 and not chosen:
        return {min(image_ids)}
    if len(chosen) == len(image_ids):
        return chosen - {max(image_ids, default="")}
    return chosen


def few_shots(image_ids: Sequence[str], shots: int, seed: int) -> set[str]:
    """Which `shots` of the normal training images `image_ids` (sha256) are used: those of the smallest hash with `seed`.

    The choice depends on nothing but the images' content and the seed, and k + 1 shots are k shots and one more.
    """
    ordered = sorted(image_ids, key=lambda image_id: hashlib.sha256(f"{seed}\0{image_id}".encode()).digest())
    return set(ordered[:shots])


def write_problems(problems: Problems, path: Path) -> None:
    """`problems` as CSV with the columns path, problem, decision. Raises ArtifactError where it cannot be written."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "problem", "decision"))
    writer.writerows((problem.path, problem.problem, problem.decision) for problem in sorted(set(problems)))
    write_artifact(path, text.getvalue().encode())


def _without_duplicates(root: Path, images: list[Verified]) -> tuple[list[Verified], Problems]:
    """One of each image. The same image in two splits, or under two labels, is a contradiction that a user resolves."""
    groups: dict[str, list[Verified]] = defaultdict(list)
    for image in images:
        groups[image.image_id].append(image)
    problems, clashes = [], []
    for first, *others in groups.values():
        for other in others:
            if (first.entry.split, first.entry.kind) != (other.entry.split, other.entry.kind):
                clashes.append(f"  {root / first.entry.path} = {root / other.entry.path}")
            else:
                reason = f"the same image as {first.entry.path}"
                problems.append(Problem(other.entry.path, reason, "left out; the other one is used"))
    if clashes:
        more = f"\n  and {len(clashes) - 10} more pairs" if len(clashes) > 10 else ""
        raise DataError(
            "the same image stands in two splits or under two labels; remove one of each pair:\n"
            + "\n".join(clashes[:10])
            + more
        )
    return [group[0] for group in groups.values()], problems


def _without_unmarked(images: list[Verified]) -> tuple[list[Verified], Problems]:
    """Masks that mark nothing say nothing of where the defect is."""
    kept, problems = [], []
    for image in images:
        masks = tuple(mask for mask in image.entry.masks if mask not in image.unmarked)
        decision = "ignored" if masks else f"ignored; its image is {UNMASKED}"
        problems += [Problem(mask, "a mask that marks nothing", decision) for mask in image.unmarked]
        values = tuple(found for found in image.values if found)
        kept.append(replace(image, entry=replace(image.entry, masks=masks), values=values))
    return kept, problems


def _with_shots(root: Path, images: list[Verified], data: DataParams) -> tuple[list[Verified], Problems]:
    """Few-shot: all other normal images count as unknown, those of a validation split as well."""
    if data.shots is None:
        return images, []
    train = [image.image_id for image in images if image.entry.split == "train"]
    if len(train) < data.shots:
        raise DataError(f"{root}: data.shots is {data.shots}, but there are {len(train)} training images; lower it")
    chosen = few_shots(train, data.shots, data.shots_seed)
    kept = [image for image in images if image.entry.split == "test" or image.image_id in chosen]
    left = len(images) - len(kept)
    return kept, [
        Problem(".", f"data.shots: {data.shots}", f"{left} of {left + data.shots} normal images are not used")
    ]


def _with_validation(images: list[Verified], holdout: float) -> list[Verified]:
    if any(image.entry.split == "validation" for image in images):
        return images
    chosen = held_out([image.image_id for image in images if image.entry.split == "train"], holdout)
    return [
        replace(image, entry=replace(image.entry, split="validation"))
        if image.entry.split == "train" and image.image_id in chosen
        else image
        for image in images
    ]


def _remarks(images: list[Verified], bits: int) -> Problems:
    """What is readable and all the same not as one would wish."""
    problems = [
        Problem(image.entry.path, "an image of a single colour", "used; remove it if the camera failed")
        for image in images
        if image.facts.blank
    ]
    train = sum(image.entry.split == "train" for image in images)
    validation = sum(image.entry.split == "validation" for image in images)
    if train == 1:
        problems.append(Problem(".", "one training image", "used; whatever differs from it will look anomalous"))
    if validation < FEW:
        decision = "used; the threshold is rough until there are more photographs of good parts"
        count = f"only {validation}" if validation else "no"
        problems.append(Problem(".", f"{count} normal images to calibrate on", decision))
    deep = [image.facts.peak for image in images if image.facts.deep]
    if deep:
        used = 8 + max(deep).bit_length()
        if used > bits:
            decision = f"what is above data.bits: {bits} becomes white"
            problems.append(Problem(".", f"{len(deep)} images of 16 bits, in use are {used}", decision))
        elif used < bits and used <= 14:  # no camera counts 15 bits; a dark exposure may
            decision = f"read with data.bits: {bits}; if that is all the camera has, set data.bits: {used}"
            problems.append(Problem(".", f"{len(deep)} images of 16 bits, in use are {used}", decision))
    return problems


def _table(images: list[Verified]) -> pa.Table:
    ordered = sorted(images, key=lambda image: (image.entry.split, image.entry.path))
    columns = {"image_id": [image.image_id for image in ordered]}
    columns |= {name: [getattr(image.entry, name) for image in ordered] for name in SCHEMA.names[1:]}
    return pa.table(columns, schema=SCHEMA)


def _sizes(images: list[Verified]) -> dict[tuple[int, int], int]:
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for image in images:
        counts[image.facts.width, image.facts.height] += 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
