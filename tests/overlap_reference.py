"""AUPRO and sPRO word by word: slow, one threshold and one region at a time, for comparison.

PRO: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5; connected components of the ground
truth, each counting the same whatever its size. sPRO: Bergmann et al., "Beyond Dents and Scratches", IJCV 2022,
section 4: a region counts as found once its saturation area is, 1/m times the sum of min(|A & P| / s, 1).
"""

import itertools

import numpy as np


def components(mask):
    """Regions of touching pixels (corners touch), by flood fill."""
    left = {tuple(p) for p in np.argwhere(mask)}
    regions = []
    while left:
        queue, region = [left.pop()], []
        while queue:
            y, x = queue.pop()
            region.append((y, x))
            for near in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                if near in left:
                    left.remove(near)
                    queue.append(near)
        regions.append(region)
    return regions


def curve(maps, masks, regions_of, saturation_of):
    """(FPR, mean overlap) at every threshold, from that which nothing reaches down."""
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for scores in maps for v in scores.ravel()}, reverse=True):
        false, normal, overlaps = 0, 0, []
        for i, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
            called = scores >= threshold
            false += int((called & ~mask).sum())
            normal += int((~mask).sum())
            for j, region in enumerate(regions_of(i)):
                found = sum(bool(called[y, x]) for y, x in region)
                overlaps.append(min(found / saturation_of(i, j, region), 1.0))
        points.append((false / normal, sum(overlaps) / len(overlaps)))
    return points


def area(points, limit):
    """Under the line through `points`, from FPR 0 to `limit`, by the share of the largest possible."""
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        total += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return total / limit


def aupro(maps, masks, limit=0.3):
    regions = [components(mask) for mask in masks]
    return area(curve(maps, masks, lambda i: regions[i], lambda i, j, region: len(region)), limit)


def auc_spro(maps, masks, defects, limit):
    """`defects`: per image a list of (mask, saturation area in pixels)."""
    regions = [[[tuple(p) for p in np.argwhere(mask)] for mask, _ in of_image] for of_image in defects]
    return area(curve(maps, masks, lambda i: regions[i], lambda i, j, region: defects[i][j][1]), limit)
