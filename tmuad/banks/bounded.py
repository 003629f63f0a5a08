"""Features of however many images in bounded memory: all of them, or a fair sample once they are too many."""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tmuad.encode import ObjectFeatures

SPACE = 2**32  # of the lots


class Bounded:
    """Rows by class. When they exceed `megabytes`, every other row of the class with the most goes, as often as it takes.

    Which rows stay is decided by lots drawn from the rows' own bytes: the same rows stay in whatever order images came,
    and a row more changes little. Rows keep the order they came in.
    """

    def __init__(self, megabytes: int) -> None:
        self._limit = megabytes * 2**20
        self._rows: dict[str, list[NDArray[np.float32]]] = {}
        self._lots: dict[str, list[int]] = {}
        self._below: dict[str, int] = {}  # lots from this on are out
        self._bytes = 0

    def fill(self, images: Iterable[tuple[Sequence[str], ObjectFeatures]]) -> dict[str, ObjectFeatures]:
        """The rows (n, D) of each class of all `images`, or of the sample that is left of them."""
        for labels, features in images:
            for label, row in zip(labels, features, strict=True):
                self._add(label, row)
        return {name: np.stack(self._rows.pop(name)) for name in list(self._rows)}  # rows go as their stack comes

    def _add(self, label: str, row: NDArray[np.float32]) -> None:
        lot = zlib.crc32(row.tobytes())
        if lot >= self._below.setdefault(label, SPACE):
            return
        self._rows.setdefault(label, []).append(row.copy())  # a view would keep the whole image's features
        self._lots.setdefault(label, []).append(lot)
        self._bytes += row.nbytes
        while self._bytes > self._limit and (most := max(map(len, self._rows.values()))) > 1:
            self._thin(next(name for name in sorted(self._rows) if len(self._rows[name]) == most))

    def _thin(self, label: str) -> None:
        self._below[label] //= 2
        if self._below[label] == 0:  # rows of equal bytes have equal lots, and no lot parts them
            self._rows[label], self._lots[label] = self._rows[label][:1], self._lots[label][:1]
        kept = [i for i, lot in enumerate(self._lots[label]) if lot < self._below[label]] or [0]
        self._bytes -= sum(row.nbytes for row in self._rows[label]) - sum(self._rows[label][i].nbytes for i in kept)
        self._rows[label] = [self._rows[label][i] for i in kept]
        self._lots[label] = [self._lots[label][i] for i in kept]
