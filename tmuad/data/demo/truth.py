"""Ground truth: the masks of a fault, from the scene with it and without it."""

import numpy as np
from scipy import ndimage

from tmuad.data.demo.camera import Shot, develop
from tmuad.data.demo.faults import Fault
from tmuad.data.demo.parts import silhouette
from tmuad.data.demo.shading import Radiance
from tmuad.data.demo.shapes import Field
from tmuad.masks import Mask

CHANGED = 7.0  # grey levels of 255, in any channel: about twice the sensor's noise
_SPECK = 4.0e-5  # smaller islands of change, as a share of the image, are the far ends of soft shadows


def change_map(good: Radiance, faulty: Radiance, shot: Shot) -> Field:
    """How far the noiseless photographs differ, (S, S), grey levels of the channel that differs most."""
    change: Field = np.abs(develop(faulty, shot) - develop(good, shot)).max(axis=-1)
    return change


def fault_masks(fault: Fault, difference: Field) -> list[Mask]:
    """One mask (S, S) per region of `fault`: silhouettes and the changed pixels nearest to them, shadows included.

    Damage has one region: the changed pixels. A mask may be empty where nothing visible changed.
    """
    changed = _clean(difference > CHANGED)
    size = changed.shape[0]
    if not fault.regions:
        return [ndimage.binary_closing(np.pad(changed, 2), iterations=2)[2:-2, 2:-2] | changed]
    shapes = []
    for parts in fault.regions:
        shape = np.zeros((size, size), dtype=np.bool_)
        for part in parts:
            shape |= silhouette(part, size)
        shapes.append(shape)
    away = np.stack([ndimage.distance_transform_edt(~shape) for shape in shapes])
    owner = away.argmin(axis=0)
    return [shape | (changed & (owner == k)) for k, shape in enumerate(shapes)]


def _clean(changed: Mask) -> Mask:
    """Without islands below _SPECK."""
    labels, count = ndimage.label(changed, structure=np.ones((3, 3), dtype=np.int8))
    if not count:
        return changed
    areas = np.bincount(labels.ravel())
    keep = areas >= _SPECK * changed.size
    keep[0] = False
    return np.asarray(keep[labels])
