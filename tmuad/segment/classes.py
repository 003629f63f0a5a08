"""Grounded segmenter of the embedded profile, second half: object classes learnt from the normal images alone.

Nothing says how many classes there are. The principle is minimum description length: classes are worth having as far as
they make the normal images shorter to describe. Three bars and one disc in every image are two classes, because the counts
are always the same and cost nothing. The darker and the lighter bars are one: how many are dark would have to be said for
each image, and that costs more than the sharper description of their looks saves.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage

from tmuad.errors import ArtifactError
from tmuad.parquet import write_artifact
from tmuad.segment.components import DESCRIPTOR, Component

# Differences of this size mean nothing, per entry of DESCRIPTOR.
SCALE = np.array([0.12, 6.0, 4.0, 4.0, 4.0, 4.0, 0.12, 0.06, 0.5])
MAX_OBJECTS = 4000  # classes are learnt from at most about this many, at an even stride over the images
PARAMETERS = 2.0  # parameters a class costs, per entry of DESCRIPTOR
STRAY = 0.03  # a look seen in a smaller share of the normal images is a slip of the segmenter
RARE = 0.1  # a class is seen in at least this share of the normal images
CLUMP = 0.5  # a class with more of its members made of other classes' parts is no class
CLEARER = 0.6  # touching parts are told apart when the worst of them fits its class this much better than the whole
UNLIKE, BETTER = 1.3, 0.75  # a whole this far from every class need not fit so much worse than its parts
FAR = 4.0  # robust distance from which an object does not look like its class


@dataclass(frozen=True)
class ObjectClasses:
    """The classes of one unit, largest objects first, named class-1, class-2, ..."""

    centre: NDArray[np.float64]  # (C, D) median descriptor
    scale: NDArray[np.float64]  # (C, D) robust standard deviation, at least SCALE
    given: tuple[str, ...] = ()  # names by which a detector finds its objects; then there is no look to compare with

    @property
    def names(self) -> list[str]:
        return list(self.given) or [f"class-{i + 1}" for i in range(len(self.centre))]

    def distances(self, descriptors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Power mean (exponent 4) of the standardised differences of (n, D) to each class: (n, C).

        One entry that is far off, say the length of two bars end to end, must not drown among eight that fit.
        """
        return np.asarray((((descriptors[:, None] - self.centre) / self.scale) ** 4).mean(axis=2) ** 0.25)

    def resolve(self, components: Sequence[Component]) -> list[list[tuple[int, float, Component]]]:
        """Each of `components` as one object, or as the touching parts that explain it better.

        Per component (class index, distance to the class, object). There must be a class.
        """
        flat = [c for whole in components for c in (whole, *(piece for split in whole.splits for piece in split))]
        if not flat:
            return []
        distances = self.distances(np.stack([c.descriptor for c in flat]))
        best = zip(distances.argmin(axis=1).tolist(), distances.min(axis=1).tolist(), flat, strict=True)
        resolved = []
        for whole in components:
            found = [next(best)]
            clearer = BETTER if found[0][1] > UNLIKE else CLEARER
            for split in whole.splits:
                parts = [next(best) for _ in split]
                cost = max(distance for _, distance, _ in found)
                if max(distance for _, distance, _ in parts) < min(clearer * cost, FAR):
                    found = parts
            resolved.append(found)
        return resolved

    def save(self, path: Path) -> None:
        content = {
            "version": 1,
            "descriptor": list(DESCRIPTOR),
            "classes": {
                name: {"centre": np.round(c, 6).tolist(), "scale": np.round(s, 6).tolist()}
                for name, c, s in zip(self.names[: len(self.centre)], self.centre, self.scale, strict=True)
            },
            **({"given": list(self.given)} if self.given else {}),
        }
        write_artifact(path, (json.dumps(content, indent=1) + "\n").encode())


def load_classes(path: Path) -> ObjectClasses:
    """Raises ArtifactError if the file is missing, broken or from another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != 1 or content["descriptor"] != list(DESCRIPTOR):
            raise ValueError("written by another version")
        rows = list(content["classes"].values())
        shape = (len(rows), len(DESCRIPTOR))
        return ObjectClasses(
            np.array([row["centre"] for row in rows], dtype=np.float64).reshape(shape),
            np.array([row["scale"] for row in rows], dtype=np.float64).reshape(shape),
            tuple(str(name) for name in content.get("given", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path}: no usable object classes ({error}); run the stage 'segment' of this unit again"
        ) from None


def learn_classes(components: Sequence[Sequence[Component]], max_classes: int) -> ObjectClasses:
    """Object classes from the components of the normal images, one inner sequence per image.

    Without any component there is no class, and the text bank stays empty.
    """
    total = sum(map(len, components))
    if total > MAX_OBJECTS:  # the tree takes memory by the square of the objects
        components = components[:: -(-total // MAX_OBJECTS)]
    image = np.array([i for i, found in enumerate(components) for _ in found], dtype=np.int64)
    looks = [c.descriptor for found in components for c in found]
    if not looks:
        empty = np.zeros((0, len(DESCRIPTOR)))
        return ObjectClasses(empty, empty)
    x = np.stack(looks).astype(np.float64)
    groups = _divide(x, image, len(components))
    groups = [g for g in groups if len(set(image[g])) >= STRAY * len(components)]
    groups.sort(key=lambda g: -float(np.median(x[g, 0])))  # largest objects first: a name survives most re-fits
    flat = [c for found in components for c in found]
    kept = _without_clumps(groups, [_robust(x[g]) for g in groups], flat, image, len(components))[:max_classes]
    shape = (len(kept), len(DESCRIPTOR))  # none is left where every look is rare
    return ObjectClasses(np.array([s[0] for s in kept]).reshape(shape), np.array([s[1] for s in kept]).reshape(shape))


Stat = tuple[NDArray[np.float64], NDArray[np.float64]]


def _without_clumps(
    groups: list[NDArray[np.int64]], stats: list[Stat], flat: list[Component], image: NDArray[np.int64], n_images: int
) -> list[Stat]:
    """`stats` of `groups` without the classes that are touching parts of smaller ones.

    A class is such a clump when counting its parts instead makes the counts per image shorter to tell: two bars touch now
    and then, but there are always three of them. A plate that could be cut into parts is always one plate, and stays.
    """
    counts = np.array([np.bincount(image[g], minlength=n_images) for g in groups]).reshape(len(groups), n_images)
    kept = list(range(len(groups)))
    changed = True
    while changed:
        changed = False
        for i in reversed(kept):  # the smallest first: a pair must be dissolved before a triple can be three parts
            rest = [j for j in kept if j != i]
            dissolved = _dissolve(i, rest, stats, [flat[k] for k in groups[i]], image[groups[i]], counts)
            before, after = (sum(_count_bits(row) for row in table[kept]) for table in (counts, dissolved))
            if dissolved[i].sum() < (1 - CLUMP) * counts[i].sum() and after < before:
                kept, counts, changed = rest, dissolved, True
                break
    seen = (counts > 0).mean(axis=1)
    return [stats[i] for i in kept if seen[i] >= RARE]


def _dissolve(
    i: int,
    rest: list[int],
    stats: list[Stat],
    members: list[Component],
    image: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> NDArray[np.int64]:
    """`counts` (classes, images) when the members of class `i` count as their parts wherever classes `rest` explain them."""
    dissolved = counts.copy()
    if rest:
        others = ObjectClasses(np.array([stats[j][0] for j in rest]), np.array([stats[j][1] for j in rest]))
        for parts, k in zip(others.resolve(members), image, strict=True):
            if len(parts) > 1:
                dissolved[i, k] -= 1
                for index, _, _ in parts:
                    dissolved[rest[index], k] += 1
    return dissolved


def _count_bits(counts: NDArray[np.int64]) -> float:
    """Bits to say how many objects of a class each image shows, (n,) counts, with what the distribution itself costs."""
    seen = np.unique_counts(counts).counts
    shares = seen / len(counts)
    entropy = -float((shares * np.log2(shares)).sum())
    return len(counts) * entropy + 0.5 * (len(seen) - 1) * float(np.log2(len(counts) + 1))


def _robust(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and spread per entry. Half the range of the middle 90 % counts too: looks have heavy tails."""
    centre = np.median(x, axis=0)
    low, high = np.quantile(x, [0.05, 0.95], axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(x - centre), axis=0), (high - low) / 3.29)
    return centre, np.maximum(spread, SCALE)


def _divide(x: NDArray[np.float64], image: NDArray[np.int64], n_images: int) -> list[NDArray[np.int64]]:
    """Indices of each class: the cut through a Ward tree of the looks with the shortest description; see `_bits`."""
    if len(x) == 1:
        return [np.array([0])]
    scaled = x / SCALE
    children = linkage(scaled, method="ward")[:, :2].astype(np.int64)
    members: list[NDArray[np.int64]] = [np.array([i]) for i in range(len(x))]
    cuts: list[list[int]] = [[i] for i in range(len(x))]  # nodes of the best cut below each node
    bits = [_bits(scaled[m], image[m], n_images) for m in members]
    for left, right in children:
        node = np.concatenate((members[left], members[right]))
        whole = _bits(scaled[node], image[node], n_images)
        parts = bits[left] + bits[right]
        cuts.append([len(members)] if whole <= parts else cuts[left] + cuts[right])
        bits.append(min(whole, parts))
        members.append(node)
    return [members[node] for node in cuts[-1]]


def _bits(scaled: NDArray[np.float64], image: NDArray[np.int64], n_images: int) -> float:
    """Description length of a class: how many of it each image shows, how each looks, and what the class itself costs.

    Looks are coded with one Gaussian, in units of SCALE, below which nothing is told apart. Cutting a class at random
    gains nothing: what the looks save, the counts cost.
    """
    n, d = scaled.shape
    count_bits = _count_bits(np.bincount(image, minlength=n_images))
    covariance = np.cov(scaled.T, bias=True) if n > 1 else np.zeros((d, d))
    model = covariance + np.eye(d)
    fit = np.trace(np.linalg.solve(model, covariance)) / np.log(2)
    look_bits = 0.5 * n * (float(np.linalg.slogdet(model)[1]) / np.log(2) + float(fit))
    return float(count_bits + look_bits + PARAMETERS * d * 0.5 * np.log2(n + 1))
