"""What descriptions tell of a set of normal images: odd ones, classes of a single image, ranges that one image makes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tmuad import masks
from tmuad.audit.remark import Remark
from tmuad.banks.text import TextBank
from tmuad.config import TextScoreParams
from tmuad.describe.description import ImageDescription, SceneObject, class_order
from tmuad.masks import Runs
from tmuad.score.fuse import reliability_of
from tmuad.score.sentences import Names, noun, sentence
from tmuad.score.text import Finding, find_differences, weigh

EXACT = 120  # images up to which each is left out on its own; more are left out in FOLDS groups, which costs as much
FOLDS = 30
STRONG = 0.5  # strength of a finding, weighed by how rare its kind is among normal images, that makes an image odd
WIDENS = 0.35  # share of a size range that a single image adds
FEWEST = 5  # images with a class; with fewer, every one of them makes the range


@dataclass(frozen=True)
class LeftOut:
    """One normal image as the others see it."""

    image_id: str
    findings: tuple[Finding, ...]  # weighed, strongest first

    @property
    def score(self) -> float:
        return max((f.strength for f in self.findings), default=0.0)


def leave_one_out(
    entries: Sequence[ImageDescription], shape: tuple[int, int], params: TextScoreParams
) -> list[LeftOut]:
    """Each of `entries` against a text bank of the others, in their order."""
    n = len(entries)
    if n < 2:
        return [LeftOut(entry.image_id, ()) for entry in entries]
    fold = np.arange(n) if n <= EXACT else np.arange(n) % FOLDS
    raw: list[list[Finding]] = [[] for _ in range(n)]
    for number in np.unique(fold):
        bank = TextBank([entry for i, entry in enumerate(entries) if fold[i] != number], shape)
        for i in np.flatnonzero(fold == number).tolist():
            raw[i], _ = find_differences(entries[i], bank, params)
    reliability = reliability_of(raw)
    return [LeftOut(e.image_id, tuple(weigh(found, reliability))) for e, found in zip(entries, raw, strict=True)]


def odd_descriptions(left_out: Sequence[LeftOut], names: Names, shape: tuple[int, int]) -> list[Remark]:
    """Images whose description the others do not bear out."""
    remarks = []
    for image in left_out:
        if image.score >= STRONG:
            strong = [f for f in image.findings if f.strength >= STRONG][:3]
            what = "Compared with all others: " + " ".join(sentence(f, names) for f in strong)
            weight = image.score + 0.1 * len(strong)
            remarks.append(Remark("odd one out", (image.image_id,), what, weight, _box(strong[0].region, shape)))
    return sorted(remarks, key=lambda remark: (-remark.weight, remark.images))


def lone_classes(entries: Sequence[ImageDescription], names: Names, shape: tuple[int, int]) -> list[Remark]:
    """Classes that a single image shows."""
    remarks = []
    for name in _classes(entries):
        showing = [entry for entry in entries if name in entry.by_name]
        if len(showing) == 1 and len(entries) > 1:
            first = showing[0].by_name[name].objects[0]
            what = f"It is the only one of {len(entries)} images that shows a {noun(name, 1, names)}."
            remarks.append(Remark("class in one image", (showing[0].image_id,), what, 1.0, _box(first.runs, shape)))
    return remarks


def driven_ranges(entries: Sequence[ImageDescription], names: Names, shape: tuple[int, int]) -> list[Remark]:
    """Images that alone make up a large part of the range of a class's object sizes."""
    remarks = []
    for name in _classes(entries):
        sizes = [
            (o.area, entry.image_id, o)
            for entry in entries
            if name in entry.by_name
            for o in entry.by_name[name].objects
        ]
        images = {image_id for _, image_id, _ in sizes}
        if len(images) < FEWEST:
            continue
        sizes.sort(key=lambda item: item[:2])
        for end, side in ((sizes[0], "smallest"), (sizes[-1], "largest")):
            remark = _driven(end, side, sizes, name, names, shape)
            if remark is not None:
                remarks.append(remark)
    return sorted(remarks, key=lambda remark: (-remark.weight, remark.images))


def _driven(
    end: tuple[float, str, SceneObject],
    side: str,
    sizes: Sequence[tuple[float, str, SceneObject]],
    name: str,
    names: Names,
    shape: tuple[int, int],
) -> Remark | None:
    area, image_id, o = end
    others = [size for size, owner, _ in sizes if owner != image_id]
    width = sizes[-1][0] - sizes[0][0]
    next_one = min(others) if side == "smallest" else max(others)
    share = abs(area - next_one) / width if width > 0 else 0.0
    # A range that is narrow all the same is made by nobody.
    if share < WIDENS or abs(area - next_one) < 0.1 * float(np.median(others)):
        return None
    what = (
        f"Its {side} {noun(name, 1, names)} covers {100 * area:.3g} % of the image, in all others "
        f"{100 * min(others):.3g} to {100 * max(others):.3g} %: {share:.0%} of the range is this image's alone."
    )
    return Remark("range of one image", (image_id,), what, share, _box(o.runs, shape))


def _classes(entries: Sequence[ImageDescription]) -> list[str]:
    return sorted({name for entry in entries for name in entry.by_name}, key=class_order)


def _box(runs: Runs, shape: tuple[int, int]) -> tuple[float, float, float, float] | None:
    x0, y0, x1, y1 = masks.box(runs, shape)
    return (x0 / shape[1], y0 / shape[0], x1 / shape[1], y1 / shape[0]) if x1 > x0 else None
