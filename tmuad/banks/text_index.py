"""The most similar of very many texts, without comparing with each: the same answer as one comparison per text.

Ratcliff and Obershelp's measure [55] counts the characters M in matching blocks, 2 M / (la + lb). The blocks lie in the same
order in both texts. So M is at most the number of characters that the texts share in any order, and, wherever the first
text is cut in two, at most what its two parts share with the two parts of the second text at the best place to cut that.
Texts are passed over by the first bound, then by the second at several cuts; what is left is compared exactly.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from cydifflib import SequenceMatcher
from numpy.typing import NDArray

Rows = NDArray[np.int64]  # (n,) numbers of texts
Bits = NDArray[np.uint64]  # (..., W) counts of characters in unary: what two have in common is a count of common bits

PARTS = 8  # a text is cut at PARTS - 1 even places
BLOCK = 4096  # texts that are counted at once; bounds the memory of building
PLACES = 8  # of the query's cut that are looked at, or a few more
NEAR, MANY = 0.02, 256  # of the texts that similar to the best bound, so many are looked at to begin with
FIRST, MOST = 64, 2048  # texts bounded by cuts at once: few at first, because the first ones may end the search


class TextIndex:
    """Distinct texts in the order in which equals are preferred."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(dict.fromkeys(texts))
        self._row = {text: row for row, text in enumerate(self.texts)}
        self._lengths = np.array([len(text) for text in self.texts], dtype=np.int64)
        self._alphabet = _Alphabet.of(self.texts)
        self._whole, self._parted = self._alphabet.index(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def nearest(self, query: str, rows: Rows | None = None) -> tuple[int, float]:
        """Row of the text most similar to `query`, and the similarity in 0..1; (-1, -1.0) where there is no text.

        As `difflib.SequenceMatcher(None, text, query, autojunk=False).ratio()` of every text says; the first of equals.
        With `rows` (n,), ascending, of these texts alone.
        """
        if rows is None:
            rows = np.arange(len(self.texts))
        if not len(rows):
            return -1, -1.0
        same: int = self._row.get(query, -1)
        if same >= 0 and rows[min(int(np.searchsorted(rows, same)), len(rows) - 1)] == same:
            return same, 1.0
        search = _Search(self, query)
        bounds = search.by_characters(rows)
        search.begin(rows, bounds)
        order = np.flatnonzero(bounds >= search.ratio)
        order = order[np.argsort(-bounds[order], kind="stable")]
        start, size = 0, FIRST
        while start < len(order) and bounds[order[start]] >= search.ratio:
            batch = order[start : start + size]
            search.settle(rows[batch], bounds[batch])
            start, size = start + size, min(4 * size, MOST)
        return search.row, search.ratio


class _Search:
    """One query on its way to its nearest text: what is known of both."""

    def __init__(self, index: TextIndex, query: str) -> None:
        self._index, self._query = index, query
        self._matcher = SequenceMatcher(None, "", query, autojunk=False)  # caches what it knows of the second text
        self._parted = index._alphabet.prefixes(query)  # (2 W, len + 1)
        self.row, self.ratio = -1, -1.0

    def by_characters(self, rows: Rows) -> NDArray[np.float64]:
        """Upper bounds (n,) of the similarity: characters in common, in whatever order."""
        every = len(rows) == len(self._index)
        shared: NDArray[Any] = np.zeros(len(rows), dtype=np.int64 if len(self._index._whole) > 1023 else np.uint16)
        for whole, mine in zip(self._index._whole, self._parted[: len(self._index._whole), -1], strict=True):
            shared += np.bitwise_count((whole if every else whole[rows]) & mine)
        return np.asarray(2.0 * shared / (self._index._lengths[rows] + len(self._query)))

    def begin(self, rows: Rows, bounds: NDArray[np.float64]) -> None:
        """Compare with one text that is likely near: the nearer it is, the more of the others need no look."""
        likely = np.flatnonzero(bounds >= bounds.max() - NEAR)[:MANY]
        rows, bounds = rows[likely], bounds[likely]
        for cut in (PARTS // 4, PARTS // 2, 3 * PARTS // 4):
            bounds = np.minimum(bounds, self._by_cut(rows, cut, float(bounds.max()) - NEAR))
        self.compare(int(rows[bounds.argmax()]))

    def settle(self, rows: Rows, bounds: NDArray[np.float64]) -> None:
        """Compare with those of `rows` that may be nearer than the nearest so far."""
        for cut in sorted(range(1, PARTS), key=lambda cut: abs(cut - PARTS / 2)):  # the middle tells most
            keep = self._may_win(rows, bounds)
            rows, bounds = rows[keep], bounds[keep]
            if len(rows) <= 1:
                break
            bounds = np.minimum(bounds, self._by_cut(rows, cut, self.ratio))
        for i in np.lexsort((rows, -bounds)):
            if self._may_win(rows[i : i + 1], bounds[i : i + 1])[0]:
                self.compare(int(rows[i]))

    def compare(self, row: int) -> None:
        self._matcher.set_seq1(self._index.texts[row])
        ratio = self._matcher.ratio()
        if ratio > self.ratio or (ratio == self.ratio and row < self.row):
            self.row, self.ratio = row, ratio

    def _may_win(self, rows: Rows, bounds: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray((bounds > self.ratio) | ((bounds == self.ratio) & (rows < self.row)))

    def _by_cut(self, rows: Rows, cut: int, ratio: float) -> NDArray[np.float64]:
        """Upper bounds (n,) from the texts cut at one place; of one less similar than `ratio`, a number below that."""
        length, lengths = len(self._query), self._index._lengths[rows]
        total = lengths + length
        # As similar as `ratio` is who leaves at most `spare` characters of both without a match. So the cut lies opposite a
        # place of the query at which the lengths of the parts alone leave no more of them.
        spare = np.floor(total * (1 - ratio) + 1e-6).astype(np.int64)
        first = _cuts(lengths, cut) - (lengths - length + spare) // 2
        count = int(spare.max()) + 2
        # One place further, at most one more character is shared: of many places, every few tell enough.
        step = 1 + count // PLACES
        places = np.clip(first[:, None] + np.arange(0, count, step), 0, length)  # (n, places of the query's cut)
        common = self._parted[:, places] & self._index._parted[cut - 1][:, rows, None]  # (2 W, n, places)
        shared = np.bitwise_count(common).sum(axis=0, dtype=np.int32).max(axis=1) + (step - 1)
        return np.asarray(2.0 * shared / total)


class _Alphabet:
    """The characters of the texts, and how often each may count: the layout of the bits."""

    def __init__(self, codes: NDArray[np.int64], most: NDArray[np.int64]) -> None:
        self._size = len(codes)
        self._number = np.full(
            int(codes.max(initial=0)) + 2, self._size, dtype=np.int32
        )  # of a character that none has
        self._number[codes] = np.arange(self._size)
        first = np.cumsum(most) - most  # (characters,) the first bit of each
        self.words = max(1, -(-int(most.sum()) // 64))
        self._tables: list[tuple[int, int, Bits]] = []  # character, word, its bits there by count
        for number, (start, count) in enumerate(zip(first.tolist(), most.tolist(), strict=True)):
            for word in range(start // 64, -(-(start + count) // 64)):
                low, high = max(start, 64 * word), min(start + count, 64 * word + 64)
                reached = [min(max(start + n, low), high) for n in range(count + 1)]
                bits = [((1 << (end - low)) - 1) << (low - 64 * word) for end in reached]
                self._tables.append((number, word, np.array(bits, dtype=np.uint64)))

    @classmethod
    def of(cls, texts: Sequence[str]) -> "_Alphabet":
        used = np.zeros(1, dtype=np.bool_)
        for block in _blocks(texts):
            found = np.bincount(_codes("".join(block)), minlength=len(used)) > 0
            found[: len(used)] |= used
            used = found
        codes = np.flatnonzero(used)
        layout = cls(codes, np.zeros(len(codes), dtype=np.int64))
        most = [layout._count(block, parts=1).max(axis=(0, 1), initial=0) for block in _blocks(texts)]
        return cls(codes, np.max(most, axis=0, initial=0) if most else np.zeros(len(codes), dtype=np.int64))

    def index(self, texts: Sequence[str]) -> tuple[Bits, Bits]:
        """Bits of the texts, (W, N), and at each cut those of the head and of the tail, (PARTS - 1, 2 W, N)."""
        whole = np.zeros((self.words, len(texts)), dtype=np.uint64)
        parted = np.zeros((PARTS - 1, 2 * self.words, len(texts)), dtype=np.uint64)
        for number, block in enumerate(_blocks(texts)):
            rows = slice(number * BLOCK, number * BLOCK + len(block))
            counts = self._count(block, PARTS).cumsum(axis=1)  # (n, PARTS, characters)
            whole[:, rows] = self._bits(counts[:, -1])
            for cut in range(1, PARTS):
                parted[cut - 1, : self.words, rows] = self._bits(counts[:, cut - 1])
                parted[cut - 1, self.words :, rows] = self._bits(counts[:, -1] - counts[:, cut - 1])
        return whole, parted

    def prefixes(self, text: str) -> Bits:
        """Bits (2 W, len + 1) of the first 0, 1, ... characters of `text`, and of those that follow them."""
        seen = np.zeros((len(text) + 1, self._size + 1), dtype=np.int32)
        seen[np.arange(1, len(text) + 1), self._numbers(text)] = 1
        before = seen.cumsum(axis=0, dtype=np.int32)[:, : self._size]
        return np.concatenate([self._bits(before), self._bits(before[-1] - before)])

    def _numbers(self, text: str) -> NDArray[np.int32]:
        return self._number[np.minimum(_codes(text), len(self._number) - 1)]

    def _count(self, texts: Sequence[str], parts: int) -> NDArray[np.int64]:
        """(n, parts, characters): how often each stands in each part."""
        lengths = np.array([len(text) for text in texts])
        row = np.repeat(np.arange(len(texts)), lengths)
        place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        part = (parts * (place + 1) - 1) // lengths[row]  # so many of the cuts, see `_cuts`, lie at or before the place
        key = (row * parts + part) * self._size + self._numbers("".join(texts))
        shape = (len(texts), parts, self._size)
        return np.bincount(key, minlength=int(np.prod(shape))).reshape(shape)

    def _bits(self, counts: NDArray[np.integer]) -> Bits:
        """Counts (n, characters) in unary, (W, n); a count beyond what a text of the index has is as that."""
        bits = np.zeros((self.words, len(counts)), dtype=np.uint64)
        for number, word, table in self._tables:
            bits[word] |= table[np.minimum(counts[:, number], len(table) - 1)]
        return bits


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))


def _cuts(lengths: NDArray[np.int64], cut: int) -> NDArray[np.int64]:
    """Where texts of these lengths are cut for the `cut`-th time, of PARTS - 1."""
    return lengths * cut // PARTS


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
