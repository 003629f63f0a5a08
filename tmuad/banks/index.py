"""Memory banks in fewer bytes, searched in less time: product quantisation and inverted lists [faiss], the paper's outlook.

`pq` stores each centroid as one byte per part of it; distances are those to what the bytes stand for. `ivfpq` sorts the
centroids into lists besides, and a query looks at the nearest lists alone. Both are estimates; `flat` banks are exact.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tmuad.errors import ArtifactError

Kind = Literal["flat", "pq", "ivfpq"]
Matrix = NDArray[np.float32]

WIDTH = 2  # dimensions that one code stands for
BITS = 8  # of a code, at most
PER_CODE = 4  # centroids at least, to learn one entry of a code book from
FEWEST = 32  # centroids; faiss knows no code of fewer than 3 bits
BLOCK = 4096  # rows compared with all centroids at once
VISITED = 0.25  # share of the lists that a query looks at


@dataclass(frozen=True)
class Index:
    """Centroids (K, d) compressed, as faiss writes an index."""

    blob: NDArray[np.uint8]

    @classmethod
    def fit(cls, centroids: Matrix, kind: Kind) -> "Index":
        """From at least FEWEST centroids; the same ones give the same bytes, whatever the number of threads."""
        import faiss

        rows = _padded(centroids)
        k, d = rows.shape
        parts = d // WIDTH
        bits = min(BITS, int(np.log2(k // PER_CODE)))
        index: Any
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            if kind == "pq":
                index = faiss.IndexPQ(d, parts, bits)
                index.pq.cp.min_points_per_centroid = 1
            else:
                lists = max(1, round(np.sqrt(k)))
                index = faiss.IndexIVFPQ(faiss.IndexFlatL2(d), d, lists, parts, bits)
                index.pq.cp.min_points_per_centroid = index.cp.min_points_per_centroid = 1
                index.nprobe = max(1, round(VISITED * lists))
            index.train(rows)
            index.add(rows)
            return cls(np.asarray(faiss.serialize_index(index)).copy())
        finally:
            faiss.omp_set_num_threads(threads)

    def squared(self, rows: Matrix) -> tuple[Matrix, NDArray[np.int64]]:
        """Squared Euclidean distance (n,) of each row to the centroid found nearest, and which one (n,)."""
        if not hasattr(self._index, "nprobe"):
            return self._squared_to_all(_padded(rows))
        distance, number = self._index.search(_padded(rows), 1)
        return np.maximum(distance[:, 0], np.float32(0)), number[:, 0]

    def _squared_to_all(self, rows: Matrix) -> tuple[Matrix, NDArray[np.int64]]:
        """To every centroid by a product of matrices: what faiss finds from its tables, ten times as fast."""
        norms = (self._decoded**2).sum(axis=1)
        distance, number = np.empty(len(rows), dtype=np.float32), np.empty(len(rows), dtype=np.int64)
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            squared = norms - 2 * block @ self._decoded.T
            best = squared.argmin(axis=1)
            number[start : start + BLOCK] = best
            distance[start : start + BLOCK] = squared[np.arange(len(block)), best] + (block**2).sum(axis=1)
        return np.maximum(distance, 0), number

    @cached_property
    def _decoded(self) -> Matrix:
        """What the codes of a `pq` bank stand for, (K, d)."""
        return np.asarray(self._index.reconstruct_n(0, len(self)), dtype=np.float32)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @cached_property
    def _index(self) -> Any:
        import faiss

        try:
            return faiss.deserialize_index(self.blob)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise ArtifactError(f"a memory bank's index cannot be read ({reason}); fit again") from None

    def __getstate__(self) -> dict[str, Any]:
        return {"blob": self.blob}  # what faiss made of it stays behind: another process makes it anew

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "blob", state["blob"])


def _padded(rows: Matrix) -> Matrix:
    """(n, d) with zeros up to a multiple of WIDTH, which change no distance."""
    return np.pad(np.asarray(rows, dtype=np.float32), ((0, 0), (0, -rows.shape[1] % WIDTH)))


Centroids = Matrix | Index  # of a bank: as they are, or compressed


def compressed(centroids: Matrix, kind: Kind) -> Centroids:
    """The centroids under the parameter `index` of a bank; few of them stay as they are, for code books take more."""
    return centroids if kind == "flat" or len(centroids) < FEWEST else Index.fit(centroids, kind)


def tensor_name(centroids: Centroids) -> str:
    """What the array of these centroids is called in a bank's file."""
    return "index" if isinstance(centroids, Index) else "centroids"


def array_of(centroids: Centroids) -> NDArray[Any]:
    """The array that a bank's file keeps; the inverse of `Index(array)`, or of nothing at all."""
    return centroids.blob if isinstance(centroids, Index) else centroids
