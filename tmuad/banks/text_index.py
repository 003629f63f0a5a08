"""The most similar of very many texts, without comparing with each: the same answer as one comparison per text.

Ratcliff and Obershelp's measure [55] counts the characters M in matching blocks, 2 M / (la + lb). The blocks lie in the same
order in both texts. So M is at most the length of their longest common subsequence, and that at most the number of
characters that the texts share in any order. Texts are passed over by the second bound, which is quick, then by the first,
which is close; what is left, in most cases the answer and its equals, is compared exactly. The first bound of few texts is
worked out one text after the other by rapidfuzz, of many that are all near the query together (tmuad/banks/text_order.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from cydifflib import SequenceMatcher
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

from tmuad.banks.text_order import BREAK, WIDEST, Alphabet, Band, Halves, Rows, codes

Bits = NDArray[np.uint64]  # (..., W) counts of characters in unary: what two have in common is a count of common bits

BLOCK = 4096  # texts that are counted at once; bounds the memory of building
BEGIN = 4  # likely texts that are compared to begin with: the nearer one is, the more of the others need no look
MANY, FIRST = 6000, 256  # where so many texts are left, a few likely ones are looked at first
TOGETHER = 1000  # texts from which on it takes less time to work out their common subsequences together
MOST = 65536  # texts whose common subsequences are worked out at once
NONE = np.zeros(0, dtype=np.int32)


class TextIndex:
    """Distinct texts in the order in which equals are preferred."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(dict.fromkeys(texts))
        self._row = {text: row for row, text in enumerate(self.texts)}
        self._lengths = np.array([len(text) for text in self.texts], dtype=np.int64)
        self._characters = _Characters(self.texts)
        self._parts = _Parts(self.texts)
        self._halves = Halves(self.texts, self._characters.alphabet)

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
        shared, parts = self._characters.shared(query), self._parts.shared(query)
        total = self._lengths + float(len(query))
        bounds = 2.0 * shared / total
        hopes = bounds + parts / total
        if len(rows) < len(self):
            bounds, hopes = bounds[rows], hopes[rows]
        for _ in range(min(BEGIN, len(rows))):
            best = int(hopes.argmax())
            search.compare(int(rows[best]))
            hopes[best] = -1
        left = np.flatnonzero(bounds >= search.ratio)
        if len(left) > max(MANY, FIRST):
            likely = left[np.argpartition(-hopes[left], FIRST)[:FIRST]]
            search.settle(rows[likely], bounds[likely])
            left = left[bounds[left] >= search.ratio]
        for start in range(0, len(left), MOST):
            batch = left[start : start + MOST]
            search.settle(rows[batch], bounds[batch])
        return search.row, search.ratio


class _Search:
    """One query on its way to its nearest text: what is known of both."""

    def __init__(self, index: TextIndex, query: str) -> None:
        self._index, self._query = index, query
        self._matcher = SequenceMatcher(None, "", query, autojunk=False)  # caches what it knows of the second text
        self.row, self.ratio = -1, -1.0

    def settle(self, rows: Rows, bounds: NDArray[np.float64]) -> None:
        """Compare with those of `rows` that may be nearer than the nearest so far."""
        rows = rows[self._may_win(rows, bounds)]
        bounds = self._by_order(rows)
        keep = self._may_win(rows, bounds)
        rows, bounds = rows[keep], bounds[keep]
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

    def _by_order(self, rows: Rows) -> NDArray[np.float64]:
        """Upper bounds (n,) of the similarity: characters in common in the same order. Of one less similar, less."""
        if not len(rows):
            return np.zeros(0)
        lengths, length = self._index._lengths[rows], len(self._query)
        total = lengths + length
        # So many characters of a text or of the query are left over at most by texts as similar as `ratio`.
        least = np.ceil(self.ratio * total / 2 - 1e-6).astype(np.int64)
        band = Band(max(0, int((lengths - least).max())), max(0, int((length - least).max())))
        if len(rows) > TOGETHER and band.width <= WIDEST:
            return np.asarray(2.0 * (lengths - self._index._halves.left_over(self._query, rows, band)) / total)
        if len(rows) > TOGETHER and int((total - 2 * least).max()) < WIDEST:  # enough for texts of about one length
            shorter = lengths <= (int(lengths.min()) + int(lengths.max())) // 2
            bounds = np.empty(len(rows))
            for part in (shorter, ~shorter):
                bounds[part] = self._by_order(rows[part])
            return bounds
        texts = [self._index.texts[row] for row in rows.tolist()]
        cutoff = max(0, int(least.min()))
        common = cdist([self._query], texts, scorer=LCSseq.similarity, score_cutoff=cutoff, dtype=np.int32)[0]
        return np.asarray(2.0 * common / total)


class _Parts:
    """The texts that have a part, for each part of a description."""

    def __init__(self, texts: Sequence[str]) -> None:
        rows: dict[str, list[int]] = {}
        for row, text in enumerate(texts):
            for part in set(text.split(BREAK)):
                rows.setdefault(part, []).append(row)
        self._rows = {part: np.array(those, dtype=np.int32) for part, those in rows.items()}
        self._count = len(texts)

    def shared(self, query: str) -> NDArray[np.float64]:
        """Characters (N,), in the mean, of the query's parts that a text has as they are: what is likely near, no bound."""
        parts = query.split(BREAK)
        rows = [self._rows[part] for part in parts if part in self._rows]
        found = np.bincount(np.concatenate([NONE, *rows]), minlength=self._count)
        return np.asarray(found * (len(query) / len(parts)), dtype=np.float64)


class _Characters:
    """How often each character stands in each text, in unary."""

    def __init__(self, texts: Sequence[str]) -> None:
        used = np.zeros(1, dtype=np.bool_)
        for block in _blocks(texts):
            found = np.bincount(codes("".join(block)), minlength=len(used)) > 0
            found[: len(used)] |= used
            used = found
        self.alphabet = Alphabet(np.flatnonzero(used))
        counts = [self._count(block) for block in _blocks(texts)]
        least, most = (np.array([of(block, axis=0) for block in counts]) for of in (np.min, np.max))
        self._least = least.min(axis=0) if counts else np.zeros(0, dtype=np.int64)  # what all texts have needs no bits
        spread = (most.max(axis=0) if counts else self._least) - self._least
        first = np.cumsum(spread) - spread  # (characters,) the first bit of each
        self._tables: list[tuple[int, int, Bits]] = []  # character, word, its bits there by count
        for number, (start, count) in enumerate(zip(first.tolist(), spread.tolist(), strict=True)):
            for word in range(start // 64, -(-(start + count) // 64)):
                low, high = max(start, 64 * word), min(start + count, 64 * word + 64)
                reached = [min(max(start + n, low), high) for n in range(count + 1)]
                bits = [((1 << (end - low)) - 1) << (low - 64 * word) for end in reached]
                self._tables.append((number, word, np.array(bits, dtype=np.uint64)))
        self._words = -(-int(spread.sum()) // 64)
        self._dtype = np.uint16 if (self._words + 1) * 64 + self._least.sum() < 65536 else np.int64
        self._bits = np.concatenate([np.zeros((self._words, 0), dtype=np.uint64), *map(self._unary, counts)], axis=1)

    def shared(self, query: str) -> NDArray[Any]:
        """Characters (N,) that each text has in common with `query`, in whatever order."""
        mine = self._count([query])[0]
        common: NDArray[Any] = np.full(self._bits.shape[1], np.minimum(mine, self._least).sum(), dtype=self._dtype)
        beyond, words = np.maximum(mine - self._least, 0).tolist(), [0] * len(self._bits)
        for number, word, table in self._tables:
            words[word] |= int(table[min(beyond[number], len(table) - 1)])
        bits, count = np.empty(len(common), dtype=np.uint64), np.empty(len(common), dtype=np.uint8)
        for texts, word in zip(self._bits, words, strict=True):
            np.bitwise_count(np.bitwise_and(texts, np.uint64(word), out=bits), out=count)
            common += count
        return common

    def _count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(n, characters)"""
        row = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        key = row * self.alphabet.size + self.alphabet.numbers("".join(texts))
        shape = (len(texts), self.alphabet.size)
        return np.bincount(key, minlength=shape[0] * shape[1]).reshape(shape)[:, :-1]

    def _unary(self, counts: NDArray[np.integer]) -> Bits:
        """Counts (n, characters) of the index's texts as bits, (W, n), from what all texts have on."""
        bits = np.zeros((self._words, len(counts)), dtype=np.uint64)
        for number, word, table in self._tables:
            bits[word] |= table[counts[:, number] - self._least[number]]
        return bits


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))
